r"""128-bit fingerprints of codes, computed on the device in 32-bit arithmetic.

A fingerprint is four independent lanes; a lane is the multilinear hash of Lemire and Kaser
("Strongly universal string hashing is fast", The Computer Journal 57, 2014). With independent
uniform keys m, k_w in Z/2^64 and the words x_w of a code, 0 <= x_w < 2^32,

    S(x) = sum_w k_w x_w,    h(x) = floor((m + S(x) mod 2^64) / 2^32).

**Bound.** Two fixed different codes x, y have h(x) = h(y) with probability exactly 2^-32:

- Put Y = m + S(y) and D = S(x) - S(y), both mod 2^64. As m is uniform and independent of the
  k_w, Y is uniform and independent of D. Write l for the low 32 bits of Y. Then h(x) = h(y) iff
  D mod 2^64 lies in the window [-l, 2^32 - l) of 2^32 consecutive residues.
- Some word differs: d = x_w - y_w = 2^t (odd), t <= 31. With the other keys fixed, D = k_w d + c
  is uniform over the coset c + 2^t Z of Z/2^64, which has 2^(64-t) members.
- As t <= 31 < 32, the window holds exactly 2^(32-t) of them, wherever it starts. The probability
  is 2^(32-t) / 2^(64-t) = 2^-32 for every l, hence without the condition on l.

Four lanes with independent keys give 2^-128 for a pair, and by the union bound at most
N (N-1) / 2 * 2^-128 that any two of N different codes collide. The probability is over the draw
of the keys, for codes chosen without looking at them, and takes the generator's bits for uniform,
as every seeded hash must.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, UInt32

LANES = 4
PAIR_COLLISION = 2.0 ** (-32 * LANES)
"""Probability that two fixed different codes get one fingerprint."""

_WORDS_PER_STEP = 4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HashKeys:
    """Uniform 64-bit keys as (high, low) halves: row 0 the offset m, row `1 + w` the key k_w.

    Attributes:
        high: `[words + 1, 4]`, uint32.
        low: `[words + 1, 4]`, uint32.
    """

    high: UInt32[Array, "words+1 4"]
    low: UInt32[Array, "words+1 4"]


def hash_keys(key: Key[Array, ""], n_words: int) -> HashKeys:
    """Draws the keys for codes of `n_words` words."""
    bits = jax.random.bits(key, (2, n_words + 1, LANES), jnp.uint32)
    return HashKeys(bits[0], bits[1])


@jax.jit
def fingerprint(keys: HashKeys, words: UInt32[Array, "n words"]) -> UInt32[Array, "n 4"]:
    """The 128-bit fingerprint of every row, see the module's docstring for its bound."""
    n = words.shape[0]

    def add_word(sums: tuple[Array, Array], step: tuple[Array, Array, Array]):
        high, low = sums
        x, k_high, k_low = step
        p_high, p_low = _multiply_wide(x[None, :], k_low[:, None])
        p_high = p_high + x[None, :] * k_high[:, None]  # k_high * x * 2^32, modulo 2^64
        low = low + p_low
        carry = (low < p_low).astype(jnp.uint32)
        return (high + p_high + carry, low), None

    offset_high, offset_low = keys.high[0][:, None], keys.low[0][:, None]
    start = (jnp.broadcast_to(offset_high, (LANES, n)), jnp.broadcast_to(offset_low, (LANES, n)))
    steps = (words.T, keys.high[1:], keys.low[1:])
    (high, _), _ = jax.lax.scan(add_word, start, steps, unroll=_WORDS_PER_STEP)
    return high.T


def _multiply_wide(a: Array, b: Array) -> tuple[Array, Array]:
    """The 64-bit product of two uint32 as (high, low), by 16-bit halves; nothing overflows."""
    half = jnp.uint32(0xFFFF)
    shift = jnp.uint32(16)
    a0, a1, b0, b1 = a & half, a >> shift, b & half, b >> shift
    p00, p01, p10, p11 = a0 * b0, a0 * b1, a1 * b0, a1 * b1
    middle = (p00 >> shift) + (p01 & half) + (p10 & half)  # < 3 * 2^16
    return p11 + (p01 >> shift) + (p10 >> shift) + (middle >> shift), a * b
