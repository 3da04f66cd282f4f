"""LoRA (Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models"): small matrices
added to frozen ones, as pure functions of parameters.

    adapters = lora.init(key, params, {"blocks/attn/*/kernel": 8})
    tuned = lora.attach(params, adapters, alpha=16)   # in training: no gradient of a kernel
    merged = lora.merge(params, adapters, alpha=16)   # afterwards: parameters like any others
    model.apply(tuned, x), model.apply(merged, x)     # the same

`lora.adapt` makes a model of it whose parameters are the adapters: what trains a model trains them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from activjax.models import Decoder, Model
from activjax.models._low_rank import LowRank
from activjax.models._nnx import nested
from activjax.training import _paths
from activjax.training._dtypes import wide

Params = Mapping[str, Any]
Select = str | Iterable[str] | Mapping[str, int]

#: Names of leaves that are vectors, though with a leading axis of stacked layers they look like
#: matrices.
_VECTORS = ("bias", "scale", "mean", "var")


def init(
    key: Array, params: Params, select: Select, *, rank: int | None = None, dtype: Any = jnp.float32
) -> dict[str, Any]:
    """Adapters that change nothing yet.

    `a` is normal with variance 1 / d_in, `b` is zero (section 4.1 of the paper; PEFT draws `a`
    uniformly with a third of that variance). Leading axes of a kernel are kept: each of stacked
    layers, each place of a convolution's window has factors of its own.

    Args:
      key: random key for all `a`.
      params: the parameters to adapt, nested dicts; or their shapes.
      select: globs over the paths of kernels, such as `"blocks/attn/*/kernel"`, with `rank=`; or
        `{glob: rank}`.
      rank: of all.
      dtype: of the adapters, whatever the kernels' is.

    Returns:
      Nested dicts with `{"a": [..., d_in, rank], "b": [..., rank, d_out]}` in the kernels' places.

    Raises:
      ValueError: a glob that matches nothing (with the nearest paths), or something that is no
        matrix; a rank below 1 or above that of the matrix; two ranks for one matrix; no rank, or
        both `rank=` and ranks by glob.
    """
    leaves = _paths.leaves(params)
    ranks = _ranks(select, rank, leaves)
    keys = jax.random.split(key, len(ranks))
    out: dict[tuple[str, ...], Any] = {}
    for path, of_a in zip(ranks, keys):
        *stack, d_in, d_out = leaves[path].shape
        r = ranks[path]
        a = jax.random.normal(of_a, (*stack, d_in, r), jnp.float32) / math.sqrt(d_in)
        b = jnp.zeros((*stack, r, d_out), dtype)
        out[tuple(path.split("/"))] = {"a": a.astype(dtype), "b": b}
    return nested(out)


def merge(params: Params, adapters: Params, *, alpha: float | Float[Array, ""]) -> dict[str, Any]:
    """Parameters with the adapters multiplied out: `W + alpha / rank * a @ b`.

    For any model. Computed in float32 at least and rounded to the kernel's dtype: in bfloat16 that
    loses what is small beside the kernel, which `attach` keeps.

    Args:
      params: the parameters.
      adapters: as `init` made them.
      alpha: the scale of the addition is `alpha / rank`, for each by its own rank; may be traced.

    Raises:
      ValueError: an adapter where the parameters have no kernel of its shape.
    """

    def merged(kernel: LowRank) -> Array:
        w = jnp.asarray(kernel.kernel)
        dtype = wide(max(w.dtype, kernel.a.dtype, key=lambda d: d.itemsize))
        a, b, scale = (x.astype(dtype) for x in (kernel.a, kernel.b, kernel.scale))
        low = jnp.matmul(a, b, precision="highest")
        return (w.astype(dtype) + scale[..., None, None] * low).astype(w.dtype)

    return _joined(params, adapters, alpha, merged)


def attach(params: Params, adapters: Params, *, alpha: float | Float[Array, ""]) -> dict[str, Any]:
    """Parameters whose adapted kernels are used as `x @ W + alpha / rank * (x @ a) @ b`.

    The decoder's projections can (their kernels become `LowRank` leaves); other modules refuse:
    `merge` for these. Differentiated by the adapters, no gradient of a kernel is formed. Arguments
    and errors as `merge`.
    """
    return _joined(params, adapters, alpha, lambda kernel: kernel)


def adapt(
    model: Model,
    params: Params,
    select: Select,
    *,
    alpha: float | Float[Array, ""],
    rank: int | None = None,
    merged: bool = False,
) -> Model:
    """A model whose parameters are the adapters alone, on top of frozen `params`.

    `init_state`, `train_step`, optimisers and checkpoints then hold adapters and nothing else. To
    generate, give it to `models.generate` as any decoder.

    Args:
      model: the model.
      params: its parameters; they are closed over and stay as they are.
      select, rank: as `init`.
      alpha: as `merge`.
      merged: multiply the adapters out in every call (`merge` instead of `attach`): for modules
        that cannot use low-rank kernels. Gradients of whole kernels are formed on the way.

    Raises:
      ValueError: as `init`.
    """
    join = merge if merged else attach
    _ranks(select, rank, _paths.leaves(params))

    def adapted(f: Callable[..., Any]) -> Callable[..., Any]:
        def of_adapters(adapters: Params, *args: Any, **kwargs: Any) -> Any:
            return f(join(params, adapters, alpha=alpha), *args, **kwargs)

        return of_adapters

    changed: dict[str, Any] = {"apply": adapted(model.apply)}
    if isinstance(model, Decoder):
        changed["part"] = adapted(model.part)
    start = lambda key: init(key, params, select, rank=rank)  # noqa: E731
    return dataclasses.replace(model, init=start, **changed)


def count(adapters: Params) -> int:
    """Number of parameters of the adapters (arrays, or their shapes)."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(adapters))


def _ranks(select: Select, rank: int | None, leaves: Mapping[str, Any]) -> dict[str, int]:
    """The rank of each chosen kernel, in the parameters' order."""
    if isinstance(select, Mapping):
        if rank is not None:
            raise ValueError("lora: give ranks by glob or rank=, not both")
        pairs = list(select.items())
    else:
        if rank is None:
            raise ValueError("lora: give rank=, or {glob: rank}")
        pairs = [(g, rank) for g in ([select] if isinstance(select, str) else select)]
    if not pairs:
        raise ValueError("lora: nothing to adapt: give at least one glob")
    found: dict[str, int] = {}
    for pattern, r in pairs:
        for path in _paths.matching(pattern, leaves, "lora"):
            _check(path, pattern, r, leaves)
            if found.setdefault(path, r) != r:
                raise ValueError(f"lora: two ranks for {path!r}, {found[path]} and {r}")
    return {path: int(found[path]) for path in leaves if path in found}


def _check(path: str, pattern: str, rank: Any, leaves: Mapping[str, Any]) -> None:
    shape = jnp.shape(leaves[path])
    if len(shape) < 2 or path.rsplit("/", 1)[-1] in _VECTORS:
        kernels = [n for n in leaves if n.rsplit("/", 1)[-1] == "kernel"]
        hint = f"; kernels are {', '.join(kernels[:4])}, ..." if kernels else ""
        raise ValueError(
            f"lora: {pattern!r} matches {path!r}, which is no matrix but "
            f"{'one number or vector' if len(shape) < 2 else 'a vector a layer'} "
            f"(shape {list(shape)}){hint}"
        )
    if not isinstance(rank, (int, np.integer)) or isinstance(rank, bool) or rank < 1:
        raise ValueError(f"lora: rank of {pattern!r}: expected a whole number >= 1, got {rank!r}")
    if rank > min(shape[-2:]):
        raise ValueError(
            f"lora: rank {rank} is above that of {path!r}, a matrix {list(shape[-2:])}: at most "
            f"{min(shape[-2:])}"
        )


def _joined(
    params: Params, adapters: Params, alpha: Any, join: Callable[[LowRank], Any]
) -> dict[str, Any]:
    """Copies of the dicts on the way to adapted kernels; everything else is shared."""

    def walk(node: Any, adapter: Any, path: str) -> Any:
        if not isinstance(node, Mapping):
            return join(_low_rank(node, adapter, alpha, path))
        if not isinstance(adapter, Mapping) or set(adapter) - set(node):
            odd = sorted(set(adapter) - set(node)) if isinstance(adapter, Mapping) else ["an array"]
            raise ValueError(
                f"lora: adapters have {odd[0]!r} at {path or 'the top'!r}, where the parameters "
                f"have {', '.join(map(repr, node))}: are they of another model?"
            )
        below = {k: walk(node[k], v, f"{path}/{k}".lstrip("/")) for k, v in adapter.items()}
        return {**node, **below}

    return walk(params, adapters, "")


def _low_rank(kernel: Any, adapter: Any, alpha: Any, path: str) -> LowRank:
    if isinstance(kernel, LowRank):
        raise ValueError(f"lora: {path!r} has an adapter attached already: merge that first")
    if not isinstance(adapter, Mapping) or set(adapter) != {"a", "b"}:
        raise ValueError(f"lora: expected {{'a': ..., 'b': ...}} for the kernel {path!r}")
    a, b = jnp.asarray(adapter["a"]), jnp.asarray(adapter["b"])
    scale = jnp.asarray(alpha, jnp.float32) / a.shape[-1]
    stack = jnp.shape(kernel)[:-2]
    low_rank = LowRank(kernel, a, b, jnp.broadcast_to(scale, stack))
    try:
        _ = low_rank.shape
    except ValueError as error:
        raise ValueError(f"lora: {path!r}: {error}") from None
    return low_rank
