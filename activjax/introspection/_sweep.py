"""Next-token logits over layers, concepts and strengths: one program, the prompts run once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from activjax.introspection._bank import ConceptBank
from activjax.introspection._inject import Units, vectors_of
from activjax.introspection._talk import Prompts
from activjax.models import Decoder, sweep_last_token
from activjax.models._layers import known
from activjax.transforms import edits


def all_logits(logits: Array) -> Array:
    """What `sweep` reads by default."""
    return logits


def sweep(
    model: Decoder,
    params: Any,
    bank: ConceptBank,
    prompts: Prompts,
    *,
    strengths: Float[Array, " strengths"] | Sequence[float],
    concepts: Int[Array, " concepts"] | Sequence[int | str] | None = None,
    layers: Int[Array, " layers"] | Sequence[int] | None = None,
    source: int | Int[Array, ""] | None = None,
    read: Callable[[Array], Any] = all_logits,
    units: Units = "resid_norm",
    chunk: int | None = None,
) -> Any:
    """Logits after prompts whose last token has a concept vector added, for every combination.

    What `inject(model.apply, bank, concept, strength, layer=layer)` gives at the last prompt token
    (Fonseca Rivera 2025, section 3: a transient injection), at the cost, for each combination, of
    one token in the blocks above the injection: everything before it is computed once. Strengths,
    concepts, layers and the source may be traced, and sweeps of equal sizes share one compiled
    program (a new `read` function, or a new model such as `lora.adapt` makes, compiles anew).

    Args:
      model: the decoder.
      params: its parameters.
      bank: concept vectors of a site within the blocks, such as `blocks/resid_post`.
      prompts: the prompts; what follows a prompt's last token is padding.
      strengths: how much of each vector is added, in `units`; 0 is the clean run.
      concepts: names or numbers of the bank's concepts, -1 for none; all of them if left out.
      layers: where to inject; all of the bank's if left out.
      source: the layer whose vectors are added at every layer; by default the layer's own.
      read: what to keep of logits `[prompts, vocab]`.
      units: as `inject`.
      chunk: how many combinations of a layer run at a time; None for all.

    Returns:
      What `read` gives with axes in front: `[layers, concepts, strengths, prompts, vocab]`.

    Raises:
      ValueError: an axis without entries, a concept, layer or source that the bank does not have
        (of traced ones the result is NaN), other units, a bank of a site outside the blocks; as
        `models.sweep_last_token`.
      KeyError: a name that is not in the bank.
    """
    if bank.layers is None or not bank.site.startswith("blocks/"):
        raise ValueError(
            f"sweep: the bank's vectors are of site {bank.site!r}, expected one in the loop over "
            "blocks, such as 'blocks/resid_post' or 'blocks/resid_pre'; for others use inject"
        )
    numbers = concept_numbers(bank, concepts)
    doses = axis(strengths, jnp.float32, "strengths")
    places = axis(bank.layers if layers is None else layers, jnp.int32, "layers")
    for name, some in (("layers", places), ("source", source)):
        if some is not None and (odd := set(known_ones(some)) - set(bank.layers)):
            raise ValueError(
                f"{name}: the bank has vectors of layers {list(bank.layers)}, not of {sorted(odd)}"
            )
    tokens, mask = jnp.asarray(prompts.tokens), jnp.asarray(prompts.mask)
    arrays = (params, bank, tokens, mask, places, numbers, doses, source)
    return _sweep(model, read, units, chunk, *arrays)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _sweep(
    model: Decoder,
    read: Callable[[Array], Any],
    units: Units,
    chunk: int | None,
    params: Any,
    bank: ConceptBank,
    tokens: Array,
    mask: Array,
    layers: Array,
    concepts: Array,
    strengths: Array,
    source: Any,
) -> Any:
    def added(layer: Array, concept: Array, strength: Array) -> Any:
        vector = vectors_of(bank, concept, strength, layer=layer, source=source, units=units)
        return {bank.site: edits.add(vector)}

    run = partial(sweep_last_token, mask=mask, layers=layers, read=read, chunk=chunk)
    return run(model, params, tokens, added, concepts, strengths)


def concept_numbers(bank: ConceptBank, concepts: Any) -> Int[Array, " concepts"]:
    """Names or numbers of concepts as an array of numbers, known ones checked.

    Raises:
      ValueError: none, or a number out of range.
      KeyError: a name that is not in the bank.
    """
    if concepts is None:
        return jnp.arange(len(bank.names), dtype=jnp.int32)
    if not isinstance(concepts, (jax.Array, np.ndarray)):
        given = [concepts] if isinstance(concepts, (str, int)) else concepts
        concepts = [bank.index(c) if isinstance(c, str) else c for c in given]
    numbers = axis(concepts, jnp.int32, "concepts")
    for number in known_ones(numbers):
        if not -1 <= number < len(bank.names):
            raise ValueError(
                f"concepts: expected 0 to {len(bank.names) - 1} (the bank's), or -1 for none, got "
                f"{number}"
            )
    return numbers


def axis(values: Any, dtype: Any, what: str) -> Array:
    """Numbers to go over, at least one of them.

    Raises:
      ValueError: not of one axis, none, or fractions where whole numbers are needed.
    """
    array = jnp.asarray(values)
    whole = jnp.issubdtype(dtype, jnp.integer)
    if array.ndim != 1 or not array.shape[0]:
        raise ValueError(f"{what}: expected at least one, [n], got shape {list(array.shape)}")
    if whole and not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"{what}: expected whole numbers, got {array.dtype}")
    return array.astype(dtype)


def known_ones(numbers: Any) -> list[Any]:
    """The numbers of an array, or the one that it is; none while it is traced."""
    values = known(numbers)
    return [] if values is None else values.ravel().tolist()
