"""Concept vectors: what the residual stream holds where a model is about to speak of a concept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from activjax.introspection._talk import Prompts
from activjax.models._layers import known
from activjax.transforms import capture, per_example, select

SITE = "blocks/resid_post"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ConceptBank:
    """Concept vectors of some layers; a pytree whose leaves are the two arrays.

    Attributes:
      vectors: differences of means, not normalised, in the units of the residual stream.
      resid_norm: by layer, the mean norm of the residual stream at the last tokens of all prompts
        that the bank was made from.
      names: of the concepts.
      site: where the vectors were read and are put back.
      layers: which iterations of the loop around the site; None for a site in no loop (the leading
        axis is then 1).
    """

    vectors: Float[Array, "layers concepts d"]
    resid_norm: Float[Array, " layers"]
    names: tuple[str, ...] = field(metadata={"static": True})
    site: str = field(metadata={"static": True})
    layers: tuple[int, ...] | None = field(metadata={"static": True})

    @property
    def norms(self) -> Float[Array, "layers concepts"]:
        """Lengths of the vectors."""
        return jnp.linalg.norm(self.vectors.astype(jnp.float32), axis=-1)

    @property
    def directions(self) -> Float[Array, "layers concepts d"]:
        """The vectors at length 1, in float32."""
        return self.vectors.astype(jnp.float32) / self.norms[..., None]

    def index(self, concept: str) -> int:
        """The number of a concept.

        Raises:
          KeyError: no such concept, with the nearest names.
        """
        if concept not in self.names:
            import difflib

            near = difflib.get_close_matches(concept, self.names, 3, 0.0)
            raise KeyError(f"concept {concept!r} is not in the bank; nearest: {', '.join(near)}")
        return self.names.index(concept)


def concept_vectors(
    apply: Callable[..., Any],
    params: Any,
    prompts: Prompts,
    baseline: Prompts,
    site: str = SITE,
    layer: int | Sequence[int] | None = None,
    *,
    names: Sequence[str] | None = None,
) -> ConceptBank:
    """The mean difference of each concept, `v_c = h(c) - mean_b h(b)`, at the last prompt token.

    Fonseca Rivera 2025 (arXiv 2511.21399), section 3: h is the residual stream at the last token of
    "Tell me about c", b runs over baseline words. One forward pass for the concepts, one for the
    baseline.

    Args:
      apply: `apply(params, tokens)`, causal, with a site of axes `batch seq d`.
      params: its parameters.
      prompts: one for each concept, in order.
      baseline: prompts of the words whose mean is subtracted.
      site: where to read. `resid_post` of layer i and `resid_pre` of layer i + 1 are the same.
      layer: iterations of the loop around the site, such as a decoder's layers; None for all.
      names: of the concepts; None for their numbers.

    Returns:
      The bank.

    Raises:
      ValueError: no concepts or no baseline, another number of names than of prompts or two equal
        ones, a concept whose vector is zero or not finite.
      SiteError: an unknown site, one without these axes, or a layer out of range.
    """
    n = len(prompts.tokens)
    if not n:
        raise ValueError("concept_vectors: an empty bank: give a prompt for at least one concept")
    if not len(baseline.tokens):
        raise ValueError("concept_vectors: give at least one baseline prompt")
    names = tuple(map(str, range(n) if names is None else names))
    if len(names) != n or len(set(names)) != n:
        twice = sorted({x for x in names if names.count(x) > 1})
        raise ValueError(
            f"names: expected {n} different ones (the prompts), got {len(names)}"
            + (f", {twice[0]!r} more than once" if twice else "")
        )
    layers: Any = None if layer is None else [layer] if np.ndim(layer) == 0 else list(layer)  # pyright: ignore
    if layers is not None and not layers:
        raise ValueError("layer: expected at least one, got none")

    def read(given: Prompts) -> Array:
        where = select(site, layers=layers, at={"seq": per_example(jnp.asarray(given.last))})
        # in one program: op by op a forward pass takes longer to compile than to run
        acts = jax.jit(capture(apply, where, out=False))(params, jnp.asarray(given.tokens))
        if len(acts) != 1:
            raise ValueError(f"site: expected one, {site!r} matches {', '.join(acts)}")
        return next(iter(acts.values())).astype(jnp.float32)

    found, ground = read(prompts), read(baseline)
    looped = found.ndim == 3
    if not looped:
        found, ground = found[None], ground[None]
    vectors = found - ground.mean(axis=1, keepdims=True)
    resid = jnp.linalg.norm(jnp.concatenate([found, ground], axis=1), axis=-1).mean(axis=1)
    _refuse_empty(vectors, names)
    if not looped:
        return ConceptBank(vectors, resid, names, site, None)
    kept = range(len(vectors)) if layers is None else [_counted(i) for i in layers]
    return ConceptBank(vectors, resid, names, site, tuple(kept))


def check_names(bank: ConceptBank, names: Sequence[str]) -> None:
    """Refuse a bank that is not of a conversation's concepts, in their order.

    Raises:
      ValueError: says where they differ. A bank without names has numbers, which fit any.
    """
    if len(bank.names) != len(names):
        raise ValueError(f"bank: it has {len(bank.names)} concepts, the conversation {len(names)}")
    if bank.names in (tuple(names), tuple(map(str, range(len(names))))):
        return
    i = next(i for i, pair in enumerate(zip(bank.names, names)) if pair[0] != pair[1])
    raise ValueError(
        f"bank: its concept {i} is {bank.names[i]!r}, the conversation's {names[i]!r}: make it "
        "with names=talk.names, of prompts in that order"
    )


def _counted(layer: Any) -> int:
    number = int(layer)
    if number < 0:
        raise ValueError(f"layer: count from the first (0, 1, ...) in a bank, got {number}")
    return number


def _refuse_empty(vectors: Array, names: tuple[str, ...]) -> None:
    values = known(vectors)
    if values is None:
        return
    size = np.linalg.norm(values.astype(np.float64), axis=-1)
    wrong = np.argwhere(~np.isfinite(size) | (size == 0))
    if len(wrong):
        row, concept = wrong[0]
        what = "zero" if size[row, concept] == 0 else "not finite"
        raise ValueError(
            f"concept {names[concept]!r}: its vector is {what} in entry {row} of the layers: its "
            "prompt is the whole baseline, or the parameters have NaN"
        )
