"""Exact counts of distinct codes, on the device, of codes that fit in its memory.

Rows are put into groups by one sort, whatever the width: of the words themselves where a code has
at most four, else of 128-bit fingerprints. Fingerprints alone would not be exact, so every row is
then compared, word for word, with its group's first; were one to differ (never observed; the
chance is below n^2 2^-129) the groups are refined by a stable sort for each word. A sort on all
words at once would be exact too, but its comparator, and with it the compile time, grows with the
width; a radix of one sort per word costs `words` sorts where one will do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import overload

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key, UInt32

from activjax.patterns._check import require_codes, require_examples
from activjax.patterns._codes import Codes, transpose
from activjax.patterns._fingerprint import LANES, fingerprint, hash_keys


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Partition:
    """A partition into groups of equals, numbered in the order of their first members.

    Attributes:
        groups: `[*batch, items]`, the group of each item, `0 <= group < n_groups`.
        n_groups: `[*batch]`, how many groups there are.
    """

    groups: Int32[Array, "*batch items"]
    n_groups: Int32[Array, "*batch"]


@overload
def count_distinct(codes: Codes) -> Int32[Array, "*batch"]: ...
@overload
def count_distinct(
    codes: Iterable[Codes], *, exact: bool = False, key: Key[Array, ""] | None = None
) -> int: ...
def count_distinct(
    codes: Codes | Iterable[Codes], *, exact: bool = False, key: Key[Array, ""] | None = None
) -> Int32[Array, "*batch"] | int:
    """How many different codes there are.

    Args:
        codes: words `[*batch, n, words]`, which are counted exactly, on the device, under `jit`
            and `vmap` too; or an iterable of `Codes` of the same units, counted on the host by a
            `DistinctCounter` in memory that grows with the number of distinct codes only.
        exact: of an iterable only: compare full words where fingerprints agree.
        key: of an iterable only: draws the hash; `jax.random.key(0)` if left out.

    Returns:
        `[*batch]` counts of distinct rows (0 where there are no examples); an `int` for an
        iterable.

    Raises:
        TypeError: neither Codes nor an iterable of them.
        ValueError: the codes of an iterable are of different units.
    """
    if not isinstance(codes, Codes):
        from activjax.patterns._stream import DistinctCounter  # it imports nothing from here

        counter = DistinctCounter.init(jax.random.key(0) if key is None else key, exact=exact)
        for part in codes:
            counter = counter.update(part)
        return counter.finish().distinct
    return partition(codes).n_groups


def partition(codes: Codes) -> Partition:
    """Groups the examples that share a code.

    Args:
        codes: words `[*batch, n, words]`.

    Returns:
        Partition of the `n` examples; `n_groups` is the number of distinct codes.
    """
    require_codes(codes, "partition")
    return _partition(codes.words)


def redundancy_ratio(codes: Codes) -> Float[Array, "*batch"]:
    """The share of examples whose code is not new: `(n - distinct) / n`.

    0 where every example has a code of its own, `(n - 1) / n` where all share one. (The measure
    of "Neural networks behave as hash encoders: an empirical study", He et al., 2021.)

    Args:
        codes: words `[*batch, n, words]`.

    Returns:
        `[*batch]`, float32, in `[0, 1)`.

    Raises:
        ValueError: there are no examples.
    """
    require_codes(codes, "redundancy_ratio")
    require_examples(codes, "redundancy_ratio")
    repeats = jnp.int32(codes.n) - partition(codes).n_groups
    return repeats.astype(jnp.float32) / jnp.float32(codes.n)


def neuron_partition(codes: Codes) -> Partition:
    """Groups the units that are active on exactly the same examples.

    Args:
        codes: words `[*batch, n, words]`.

    Returns:
        Partition of the `n_units` units. All dead units are one group, all always-active ones
        another.

    Raises:
        ValueError: there are no examples, so that no two units differ.
    """
    require_codes(codes, "neuron_partition")
    if codes.n == 0:
        raise ValueError("neuron_partition: there are no examples, so nothing tells units apart")
    return _neuron_partition(codes)


@jax.jit
def _neuron_partition(codes: Codes) -> Partition:
    if codes.words.ndim > 2:
        return jax.vmap(_neuron_partition)(codes)
    return _partition(transpose(codes).words)


@jax.jit
def _partition(words: UInt32[Array, "*batch n words"]) -> Partition:
    if words.ndim > 2:
        return jax.vmap(_partition)(words)
    n_words = words.shape[1]
    if n_words <= LANES:
        return number(sort_groups(None, words))
    # Any key will do: it decides how often the slow path is taken, never the result.
    return exact_partition(words, fingerprint(hash_keys(jax.random.key(0), n_words), words))


def exact_partition(
    words: UInt32[Array, "n words"], fingerprints: UInt32[Array, "n lanes"]
) -> Partition:
    """Groups equal rows; `fingerprints` must agree where rows do and may agree elsewhere."""
    first = sort_groups(None, fingerprints)
    collided = jnp.any(words != words[first])
    n_rounds = jnp.where(collided, words.shape[1], 0)

    def refine(round_: Array, first: Array) -> Array:
        return sort_groups(first, jax.lax.dynamic_slice_in_dim(words, round_, 1, axis=1))

    return number(jax.lax.fori_loop(0, n_rounds, refine, first))


def sort_groups(
    first: Int32[Array, "n"] | None, keys: UInt32[Array, "n keys"]
) -> Int32[Array, "n"]:
    """Splits groups by keys; None is one group of all. A group is named by its first member."""
    n = keys.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    columns = tuple(keys.T) if first is None else (first, *keys.T)
    *ordered, index = jax.lax.sort(
        (*columns, index), num_keys=len(columns), is_stable=True
    )  # stable, so the first of a run of equals has the smallest index
    is_new = jnp.zeros(n, bool).at[:1].set(True)
    for column in ordered:
        is_new = is_new.at[1:].set(is_new[1:] | (column[1:] != column[:-1]))
    run_start = jax.lax.cummax(jnp.where(is_new, jnp.arange(n, dtype=jnp.int32), 0))
    return jnp.zeros(n, jnp.int32).at[index].set(index[run_start], unique_indices=True)


def number(first: Int32[Array, "n"]) -> Partition:
    """Numbers groups, named by their first members, in the order of these."""
    is_first = first == jnp.arange(first.shape[0], dtype=jnp.int32)
    order = jnp.cumsum(is_first, dtype=jnp.int32)
    return Partition((order - 1)[first], jnp.sum(is_first, dtype=jnp.int32))
