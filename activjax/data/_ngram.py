"""An n-gram model of bytes: the trivial baseline of a language model on the same text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, UInt64

from activjax.data._bits import Texts, joined


class _Order(NamedTuple):
    """The counts of one order, sorted by their keys (a gram's bytes, the last one lowest).

    Attributes:
      grams: the grams of k bytes that occur.
      kept: their counts less the discount.
      contexts: the first k - 1 bytes of these.
      total: all counts of a context.
      taken: all discounts of a context.
    """

    grams: UInt64[np.ndarray, " n"]
    kept: Float64[np.ndarray, " n"]
    contexts: UInt64[np.ndarray, " m"]
    total: Float64[np.ndarray, " m"]
    taken: Float64[np.ndarray, " m"]


@dataclass(frozen=True, eq=False)
class Ngram:
    """A model of the next byte given the `order - 1` bytes before it; `ngram` makes one."""

    order: int
    _orders: tuple[_Order, ...]

    def probabilities(self, context: bytes) -> Float64[np.ndarray, " 256"]:
        """The probability of each next byte; they sum to 1 and none is 0."""
        context = context[-(self.order - 1) :] if self.order > 1 else b""
        before = int.from_bytes(context) << 8
        windows = np.uint64(before) + np.arange(256, dtype=np.uint64)
        return self._of(windows, np.full(256, len(context)))

    def bits(self, text: Texts) -> Float64[np.ndarray, " n"]:
        """The surprisal of each byte, in bits. The first bytes have what context there is."""
        raw = joined(text)
        windows = _windows(b"\0" * (self.order - 1) + raw, self.order)
        return -np.log2(self._of(windows, np.arange(len(raw))))

    def _of(self, windows: np.ndarray, known: np.ndarray) -> Float64[np.ndarray, " n"]:
        """The probability of each window's last byte; `known` of the bytes before it are text."""
        p = np.full(len(windows), 1 / 256)
        for k, order in enumerate(self._orders, 1):
            gram = windows & np.uint64(256**k - 1)
            context = gram >> np.uint64(8)
            kept = _look_up(order.grams, order.kept, gram)
            total = _look_up(order.contexts, order.total, context)
            taken = _look_up(order.contexts, order.taken, context)
            seen = (total > 0) & (known >= k - 1)
            p = np.where(seen, (kept + taken * p) / np.where(seen, total, 1), p)
        return p


def ngram(train: Texts, order: int) -> Ngram:
    """Count the grams of up to `order` bytes, smoothed by interpolated modified Kneser-Ney.

    The highest order has plain counts, a lower one the number of different bytes that precede a
    gram; counts of 1, 2 and more lose one of three discounts, which goes to the next lower order,
    and from order 1 to the uniform distribution over 256 bytes. Chen and Goodman 1999, equations
    26 and 27; where the text is too small to estimate the discounts they are 0.5, 1 and 1.5
    (KenLM's fallback, Heafield et al. 2013).

    Args:
      train: the text, or texts, which are joined. At least `order` bytes.
      order: 1 (the frequency of each byte) to 8.

    Raises:
      ValueError: an order outside of 1 to 8, or a text that is shorter.
    """
    if not 1 <= order <= 8:
        raise ValueError(f"order: expected 1 to 8 bytes, got {order}")
    raw = joined(train)
    if len(raw) < order:
        raise ValueError(f"train: {len(raw)} bytes hold no gram of {order}")
    grams, counts = np.unique(_windows(raw, order), return_counts=True)
    orders = [_discounted(grams, counts)]
    for k in range(order - 1, 0, -1):
        grams, counts = np.unique(grams & np.uint64(256**k - 1), return_counts=True)
        orders.append(_discounted(grams, counts))
    return Ngram(order, tuple(reversed(orders)))


def ngram_bits_per_byte(train: Texts, held: Texts, order: int) -> float:
    """Bits a byte of held-out text under `ngram(train, order)`: 1 is the unigram baseline.

    Args:
      train: text or texts to count.
      held: held-out text or texts, joined.
      order: 1 to 8. A model of bytes is usually compared with 1 and 5.

    Raises:
      ValueError: as `ngram`; or no held-out bytes.
    """
    raw = joined(held)
    if not raw:
        raise ValueError("held: there are no held-out bytes")
    return float(ngram(train, order).bits(raw).mean())


def _windows(raw: bytes, k: int) -> UInt64[np.ndarray, " n"]:
    """The bytes up to each position from k - 1 on, as numbers of k bytes."""
    values = np.frombuffer(raw, np.uint8)
    n = len(values) - k + 1
    out = np.zeros(n, np.uint64)
    for j in range(k):
        out = (out << np.uint64(8)) | values[j : j + n]
    return out


def _discounted(grams: np.ndarray, counts: np.ndarray) -> _Order:
    discount = np.array([0.0, *_discounts(counts)])[np.minimum(counts, 3)]
    context = grams >> np.uint64(8)
    starts = np.flatnonzero(np.r_[True, context[1:] != context[:-1]])
    total = np.add.reduceat(counts, starts).astype(np.float64)
    taken = np.add.reduceat(discount, starts)
    return _Order(grams, counts - discount, context[starts], total, taken)


def _discounts(counts: np.ndarray) -> Iterable[float]:
    """The discounts of counts 1, 2, and 3 or more."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == c)) for c in (1, 2, 3, 4))
    if n1 and n2 and n3 and n4:
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if all(0 < d < c for c, d in enumerate(found, 1)):
            return found
    return 0.5, 1.0, 1.5


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key, 0 where it is none of the sorted keys."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0.0)
