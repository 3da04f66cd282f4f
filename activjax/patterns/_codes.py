"""Codes: which units are active on which examples, one bit each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, UInt32

WORD = 32
"""Units to a word."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Codes:
    """The sign codes of `n` examples: bit `i` of word `w` belongs to unit `32*w + i`.

    A pytree whose one leaf is `words`, so `jax.tree.map(lambda w: w[rows], codes)` picks examples
    and `jax.vmap` maps leading axes. Bits past the last unit are zero.

    Attributes:
        words: `[*batch, n, ceil(n_units / 32)]`, uint32.
        units: the unit table, `(site, number of units)` in the order of the bits; static.
    """

    words: UInt32[Array, "*batch n words"]
    units: tuple[tuple[str, int], ...] = field(metadata={"static": True})

    @property
    def n(self) -> int:
        """The number of examples."""
        return self.words.shape[-2]

    @property
    def n_units(self) -> int:
        """The number of units, which is the number of bits of a code."""
        return sum(size for _, size in self.units)

    def locate(self, unit: int) -> tuple[str, int]:
        """Where a unit is: `(site, offset)`, the offset being into the flattened site.

        Args:
            unit: `0 <= unit < n_units`.

        Raises:
            IndexError: there is no such unit.
        """
        offset = unit
        if offset >= 0:
            for name, size in self.units:
                if offset < size:
                    return name, offset
                offset -= size
        raise IndexError(f"unit {unit} does not exist: units run from 0 to {self.n_units - 1}")

    def site(self, name: str) -> Codes:
        """The codes of one site alone.

        Raises:
            KeyError: there is no such site; the message lists those there are.
        """
        start = 0
        for site, size in self.units:
            if site == name:
                return Codes(_slice_bits(self.words, start, size), ((site, size),))
            start += size
        raise KeyError(f"no site {name!r}; these codes have {[site for site, _ in self.units]}")


def _natural(name: str) -> list[tuple[bool, int, str]]:
    # Digits compare by value and stand before letters.
    parts = re.split(r"(\d+)", name)
    return [(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts]


def codes(acts: Array | np.ndarray | Mapping[str, Array | np.ndarray]) -> Codes:
    """Packs the signs of pre-activations: a bit is 1 where the pre-activation is above zero.

    Zero, negative zero, negative numbers and **NaN are inactive** (a NaN compares false; check
    for them beforehand if they may occur). A subnormal positive number is active: the test is
    made on the number's bits, because some backends compare subnormals equal to zero. Booleans
    and integers are accepted (true and positive are active). NumPy input is compared at its own
    precision, before anything is rounded to the device's.

    Args:
        acts: pre-activations `[n, ...]`, examples first, as one array (its site is called `""`)
            or as the dict that `aj.capture` returns. Trailing axes are flattened in C order and
            sites are laid end to end by name, numbers by value (`layers/2` before `layers/10`),
            whatever the order of the dict, which `jax.jit` changes. Values stacked over a scanned
            loop have the loop axis first; move the examples to the front, or map over the loop:
            `jax.vmap(codes)`.

    Returns:
        Codes with words `[n, ceil(n_units / 32)]`.

    Raises:
        ValueError: no sites, an array without an example axis, sites that disagree on the number
            of examples, or no units at all.
        TypeError: a dtype without signs (complex).
    """
    by_name = dict(acts) if isinstance(acts, Mapping) else {"": acts}
    sites = {name: by_name[name] for name in sorted(by_name, key=_natural)}
    if not sites:
        raise ValueError("codes: no activations; expected an array [n, ...] or a non-empty dict")
    active = {}
    for name, x in sites.items():
        if np.ndim(x) == 0:
            raise ValueError(f"codes: site {name!r} is a scalar; expected [n, ...], examples first")
        active[name] = _is_positive(x, name)
    sizes = {name: x.shape[0] for name, x in active.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"codes: sites disagree on the number of examples (their first axes are {sizes}); "
            "bring the example axis to the front of each site, loop axes after it"
        )
    units = tuple((name, int(np.prod(x.shape[1:], dtype=int))) for name, x in active.items())
    if sum(size for _, size in units) == 0:
        raise ValueError(f"codes: there are no units; the sites' sizes are {dict(units)}")
    return Codes(_flatten_and_pack(tuple(active.values())), units)


@jax.jit
def unpack(codes: Codes) -> Bool[Array, "*batch n units"]:
    """The bits of codes, one boolean per unit: the inverse of `codes`.

    Args:
        codes: words `[*batch, n, words]`.

    Returns:
        `[*batch, n, n_units]`, true where the unit is active.
    """
    bits = codes.words[..., None] >> jnp.arange(WORD, dtype=jnp.uint32) & jnp.uint32(1)
    bits = bits.reshape(*codes.words.shape[:-1], WORD * codes.words.shape[-1])
    return bits[..., : codes.n_units].astype(bool)


def transpose(codes: Codes) -> Codes:
    """The codes of units across examples: bit `e` of row `u` is bit `u` of example `e`.

    Args:
        codes: words `[n, words]`.

    Returns:
        Codes with words `[n_units, ceil(n / 32)]`, whose "units" are the examples.
    """
    words, n = codes.words, codes.n
    blocks = jnp.pad(words, ((0, -n % WORD), (0, 0))).reshape(-1, WORD, words.shape[1])
    lane = jnp.arange(WORD, dtype=jnp.uint32)
    bits = (blocks[..., None] >> lane) & jnp.uint32(1)  # [block, example, word, unit]; fused
    packed = jnp.sum(bits << lane[:, None, None], axis=1, dtype=jnp.uint32)
    packed = packed.reshape(packed.shape[0], -1).T[: codes.n_units]
    return replace(codes, words=packed, units=(("examples", n),))


def pack(bits: Bool[Array, "*rows units"]) -> UInt32[Array, "*rows words"]:
    """Packs the last axis into words, with a zero tail."""
    *rows, units = bits.shape
    bits = jnp.pad(bits, [(0, 0)] * len(rows) + [(0, -units % WORD)])
    # Bytes first, then words: three times faster on a CPU than 32 bits at once.
    bits = bits.reshape(*rows, (units + WORD - 1) // WORD, 4, 8).astype(jnp.uint32)
    octets = jnp.sum(bits << jnp.arange(8, dtype=jnp.uint32), axis=-1, dtype=jnp.uint32)
    return jnp.sum(octets << jnp.arange(0, 32, 8, dtype=jnp.uint32), axis=-1, dtype=jnp.uint32)


@jax.jit
def _flatten_and_pack(active: tuple[Array, ...]) -> UInt32[Array, "n words"]:
    n = active[0].shape[0]
    return pack(jnp.concatenate([x.reshape(n, int(np.prod(x.shape[1:]))) for x in active], axis=1))


def _is_positive(x: Array | np.ndarray, name: str) -> Array:
    if not isinstance(x, jax.Array):
        x = np.asarray(x)
    if x.dtype == bool:
        return jnp.asarray(x)
    if not (jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)):
        raise TypeError(f"codes: site {name!r} has dtype {x.dtype}; expected real numbers or bool")
    if isinstance(x, np.ndarray):
        return jnp.asarray(np.greater(x, np.zeros((), x.dtype)))
    return _is_positive_on_device(x)


@jax.jit
def _is_positive_on_device(x: Array) -> Bool[Array, "*shape"]:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x > jnp.zeros((), x.dtype)
    integer = jnp.dtype(f"int{x.dtype.itemsize * 8}")
    as_integer = jax.lax.bitcast_convert_type(x, integer)
    return (as_integer > jnp.zeros((), integer)) & ~jnp.isnan(x)


@partial(jax.jit, static_argnums=(1, 2))
def _slice_bits(words: UInt32[Array, "*rows words"], start: int, size: int) -> Array:
    """Bits `start .. start + size` of every row, moved to bit 0, with a zero tail."""
    first, shift = divmod(start, WORD)
    n_words = -(-size // WORD)
    low = words[..., first : first + n_words]
    if shift:
        high = words[..., first + 1 : first + 1 + n_words]
        missing = n_words - high.shape[-1]
        high = jnp.pad(high, [(0, 0)] * (high.ndim - 1) + [(0, missing)])
        low = (low >> jnp.uint32(shift)) | (high << jnp.uint32(WORD - shift))
    tail = np.full(n_words, 0xFFFFFFFF, np.uint32)
    if size % WORD:
        tail[-1] = (1 << size % WORD) - 1
    return low & jnp.asarray(tail)
