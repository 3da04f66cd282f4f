"""What training may change: low-rank additions, everything, or a single vector."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from activjax.models import Decoder
from activjax.training import lora
from activjax.transforms import capture, edits, intervene, select


@dataclasses.dataclass(frozen=True)
class LoRA:
    """Low-rank additions to kernels (`training.lora`).

    Attributes:
      rank, alpha: of all kernels; the addition is `alpha / rank * a @ b`.
      select: globs over the paths of kernels. By default the four projections of attention, as in
        Fonseca Rivera 2025.
    """

    rank: int = 8
    alpha: float = 16.0
    select: str | Sequence[str] = "blocks/attn/*/kernel"

    def __post_init__(self) -> None:
        if not isinstance(self.select, str):
            object.__setattr__(self, "select", tuple(self.select))


@dataclasses.dataclass(frozen=True)
class Full:
    """All parameters."""


@dataclasses.dataclass(frozen=True)
class Bias:
    """One vector, added at every token to what one MLP gives (2603.21396, "trained bias").

    Attributes:
      layer: of the MLP.
      site: where it is added.
    """

    layer: int
    site: str = "blocks/mlp/out"


Adapter = LoRA | Full | Bias


def start(adapter: Adapter, model: Decoder, params: Any, tokens: Array, key: Array) -> Any:
    """What is trained, before the first step: it changes nothing yet."""
    if isinstance(adapter, LoRA):
        chosen = adapter.select if isinstance(adapter.select, str) else list(adapter.select)
        return lora.init(key, params, chosen, rank=adapter.rank)
    if isinstance(adapter, Full):
        return params
    where = select(adapter.site, layers=adapter.layer)
    like = jax.eval_shape(capture(model.apply, where, out=False), params, tokens)
    return {"bias": jnp.zeros(next(iter(like.values())).shape[-1], jnp.float32)}


def in_training(adapter: Adapter, model: Decoder) -> Callable[..., Any]:
    """`apply(params, trained, tokens)`, with gradients for what is trained alone."""
    if isinstance(adapter, LoRA):
        return lambda params, trained, tokens: model.apply(
            lora.attach(params, trained, alpha=adapter.alpha), tokens
        )
    if isinstance(adapter, Full):
        return lambda params, trained, tokens: model.apply(trained, tokens)
    biased = with_bias(model, adapter)
    return lambda params, trained, tokens: biased.apply({"params": params, **trained}, tokens)


def finished(adapter: Adapter, model: Decoder, params: Any, trained: Any) -> tuple[Decoder, Any]:
    """The model after training, and its parameters."""
    if isinstance(adapter, LoRA):
        return model, _merged(params, trained, jnp.float32(adapter.alpha))
    if isinstance(adapter, Full):
        return model, trained
    return with_bias(model, adapter), {"params": params, **trained}


@jax.jit  # once for all of equal shapes
def _merged(params: Any, trained: Any, alpha: Array) -> Any:
    return lora.merge(params, trained, alpha=alpha)


@functools.lru_cache(maxsize=32)  # one model for one bias: what is compiled is found again
def with_bias(model: Decoder, adapter: Bias) -> Decoder:
    """The decoder of parameters `{"params": ..., "bias": [d]}`."""

    def apply(params: Any, *args: Any, **kwargs: Any) -> Any:
        where = select(adapter.site, layers=adapter.layer)
        added = intervene(model.apply, [(where, edits.add(params["bias"]))])
        return added(params["params"], *args, **kwargs)

    def init(key: Array) -> Any:
        raise NotImplementedError("a model with a trained bias comes from introspection.train")

    def part(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            "blocks of a model with a trained bias cannot be run one by one: use `inject` or "
            "`respond` in place of `sweep`"
        )

    return dataclasses.replace(model, init=init, apply=apply, part=part)
