"""Comparing codes: distances between examples, and what changed from one time to another."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from activjax.patterns._check import require_codes, require_examples, require_same_units
from activjax.patterns._codes import Codes, transpose

_WORDS_PER_STEP = 8  # one pass over the distances serves this many words


def hamming(a: Codes, b: Codes | None = None) -> Int32[Array, "*batch n m"]:
    """Hamming distances between the codes of every example of `a` and every example of `b`.

    Memory is that of the result: words are taken in turn and added up in place. For the nearest
    neighbours of test examples call `fit.knn(hamming(test, train), labels, k, ...)`; where the
    distances themselves are too many, give `test` in parts.

    Args:
        a: words `[*batch, n, words]`.
        b: words `[*batch, m, words]` of the same units; `a` itself if left out.

    Returns:
        `[*batch, n, m]`, the number of units that differ.

    Raises:
        ValueError: the codes are of different units or batches.
    """
    b = a if b is None else b
    require_codes(a, "hamming: a")
    require_codes(b, "hamming: b")
    require_same_units(a, b, "hamming")
    if a.words.shape[:-2] != b.words.shape[:-2]:
        raise ValueError(
            f"hamming: leading axes differ, {a.words.shape[:-2]} and {b.words.shape[:-2]}"
        )
    return _hamming(a.words, b.words)


@jax.jit
def _hamming(a: Array, b: Array) -> Array:
    if a.ndim > 2:
        return jax.vmap(_hamming)(a, b)

    def add_word(total: Array, words: tuple[Array, Array]) -> tuple[Array, None]:
        changed = jax.lax.population_count(words[0][:, None] ^ words[1][None, :])
        return total + changed.astype(jnp.int32), None

    start = jnp.zeros((a.shape[0], b.shape[0]), jnp.int32)
    return jax.lax.scan(add_word, start, (a.T, b.T), unroll=_WORDS_PER_STEP)[0]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Flips:
    """What changed between two codes of the same examples.

    Attributes:
        per_example: `[*batch, n]`, how many units changed on each example.
        per_unit: `[*batch, n_units]`, on how many examples each unit changed.
        rate: `[*batch]`, the share of all (example, unit) pairs that changed, in 0..1.
    """

    per_example: Int32[Array, "*batch n"]
    per_unit: Int32[Array, "*batch units"]
    rate: Float[Array, "*batch"]


def flips(codes_a: Codes, codes_b: Codes) -> Flips:
    """Counts the bits that differ between two codes of the same examples, say before and after.

    Args:
        codes_a: words `[*batch, n, words]`.
        codes_b: words of the same shape and units; row `i` is the same example in both.

    Returns:
        Flips per example and per unit, and the rate (float32).

    Raises:
        ValueError: different units or shapes, or no examples.
    """
    require_codes(codes_a, "flips: codes_a")
    require_codes(codes_b, "flips: codes_b")
    require_same_units(codes_a, codes_b, "flips")
    if codes_a.words.shape != codes_b.words.shape:
        raise ValueError(
            f"flips: the words have shapes {codes_a.words.shape} and {codes_b.words.shape}; "
            "expected codes of the same examples in the same order"
        )
    require_examples(codes_a, "flips")
    return _flips(codes_a, codes_b)


@jax.jit
def _flips(codes_a: Codes, codes_b: Codes) -> Flips:
    if codes_a.words.ndim > 2:
        return jax.vmap(_flips)(codes_a, codes_b)
    changed = replace(codes_a, words=codes_a.words ^ codes_b.words)
    per_example = _count_bits(changed)
    rate = jnp.mean(per_example.astype(jnp.float32)) / jnp.float32(codes_a.n_units)
    return Flips(per_example, _count_bits(transpose(changed)), rate)


def _count_bits(codes: Codes) -> Int32[Array, "n"]:
    bits = jax.lax.population_count(codes.words).astype(jnp.int32)
    return jnp.sum(bits, axis=-1, dtype=jnp.int32)
