"""Induction: what followed a token before, follows it again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32

from activjax.data.languages._language import Language, blank_impossible
from activjax.data.languages._random import below, distinct, whole, words

Tokens = Int[np.ndarray, "n length"]


@dataclass(frozen=True)
class _Recall(Language):
    symbols: int
    length: int

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Symbols by number, and `<bos>`."""
        return (*map(str, range(self.symbols)), "<bos>")

    @property
    def bos(self) -> int:
        """The id of `<bos>`, the last one."""
        return self.symbols

    def source(self, tokens: Tokens) -> Int32[np.ndarray, "n length"]:
        """Where an induction head should look from each position: the place after the latest
        earlier one with the same token, whose token comes next. -1 where induction does not
        determine the next token."""
        tokens = self._rows(tokens)
        order = np.argsort(tokens, axis=1, kind="stable")
        ranked = np.take_along_axis(tokens, order, axis=1)
        same = np.zeros(tokens.shape, bool)
        same[:, 1:] = ranked[:, 1:] == ranked[:, :-1]
        before = np.where(same, np.roll(order, 1, axis=1), -2) + 1
        out = np.empty(tokens.shape, np.int64)
        np.put_along_axis(out, order, before, axis=1)
        return np.where(self._asks(tokens), out, -1).astype(np.int32)

    def mask(self, tokens: Tokens) -> Bool[np.ndarray, "n length"]:
        """Positions whose next token is inside the text and determined by induction."""
        mask = self.source(tokens) >= 0
        mask[:, -1:] = False
        return mask

    def _asks(self, tokens: np.ndarray) -> np.ndarray:
        return tokens != self.bos

    def _rows(self, tokens: Any) -> np.ndarray:
        array = self._checked(tokens)
        if array.ndim != 2 or (array[:, 0] != self.bos).any() or (array[:, 1:] == self.bos).any():
            raise ValueError(
                f"tokens: expected [n, length] texts with <bos> ({self.bos}) at their beginning "
                f"and nowhere else, got shape {array.shape}"
            )
        return array


@dataclass(frozen=True)
class Repeated(_Recall):
    """A random sequence, again and again: `<bos> s_1 .. s_P s_1 .. s_P s_1 ..`, cut to `length`.

    The diagnostic of Olsson et al. 2022 (arXiv 2209.11895), made unambiguous: the P symbols differ
    within a text, so that from s_1's return on every next token is determined, and only one earlier
    place says it. P is uniform over `period`; were it fixed, a head could copy from a constant
    distance without reading.

    Attributes:
      symbols: number of symbols; `<bos>` comes after them.
      length: tokens of a text, `<bos>` included.
      period: least and largest P.

    Raises:
      ValueError: an attribute out of range; more different symbols asked than there are.
    """

    period: tuple[int, int]

    def __post_init__(self) -> None:
        whole("symbols", self.symbols, 1)
        whole("length", self.length, 3)
        low, high = self.period
        whole("period (least)", low, 1, high)
        whole("period (largest)", high, 1, min(self.symbols, self.length - 2))

    def sample(self, n: int, *, seed: int, start: int = 0) -> Int32[np.ndarray, "n length"]:
        """Texts `start .. start + n - 1` of a seed.

        Raises:
          ValueError: n below 1 or start below 0.
        """
        low, high = self.period
        u = words("repeated", "sample", seed, n, 1 + 2 * high, start)
        period = low + below(u[:, 0], high - low + 1)
        once = distinct(u[:, 1:], self.symbols)
        place = np.arange(self.length - 1) % period[:, None]
        text = np.take_along_axis(once, place, axis=1)
        return np.pad(text, ((0, 0), (1, 0)), constant_values=self.bos).astype(np.int32)

    def next_distribution(self, tokens: Tokens) -> Float32[np.ndarray, "n length vocab"]:
        """The exact distribution of the token after each position, given the text so far, for a
        reader who knows the language but not P. NaN where no text of the language goes on so."""
        tokens = self._rows(tokens)
        n, length = tokens.shape
        source = self.source(tokens)
        again = source >= 0
        out = np.zeros((n, length, self.vocab), np.float32)
        seen = np.zeros((n, self.vocab), bool)
        hazard = self._hazard
        rows = np.arange(n)
        for t in range(length):
            if t:
                seen[rows, tokens[:, t]] = True
            turn = hazard[min(t, len(hazard) - 1)]
            out[:, t, :-1] = ~seen[:, :-1] * ((1 - turn) / max(self.symbols - t, 1))
            if t:
                out[rows, t, tokens[:, 1]] += turn
        out[again] = 0
        row, t = np.nonzero(again)
        out[row, t, tokens[row, source[row, t]]] = 1
        blank_impossible(out, tokens)
        return out

    def entropy(self) -> Float64[np.ndarray, " length-1"]:
        """The least possible expected loss, in nats, of each predicted token; their mean is the
        best loss of a reader who does not know P."""
        low, high = self.period
        out = np.zeros(self.length - 1)
        for i in range(high + 1):
            reach = min(1.0, (high - i + 1) / (high - low + 1))  # P >= i
            turn = self._hazard[i]
            for p, choices in ((turn, 1), (1 - turn, self.symbols - i)):
                if p > 0:
                    out[i] += reach * p * (np.log(choices) - np.log(p))
        return out

    @cached_property
    def _hazard(self) -> np.ndarray:
        """P(the sequence ends after i symbols, given that it has as many), i = 0 .. largest + 1."""
        low, high = self.period
        i = np.arange(high + 2)
        left = np.maximum(high - i + 1, 1)
        return np.where(i < low, 0, np.where(i > high, np.nan, 1 / left))


@dataclass(frozen=True)
class Induction(_Recall):
    """Pairs that come again, `A B ... A` -> `B`: `<bos>` and then key value, key value, ...

    Each text draws `pairs` different keys from the first half of the symbols and gives each a value
    from the second half (values may repeat). Each pair of the text is one of them, all alike, with
    replacement: at the first place of a key its value is a guess, at every later one it is known.
    Recall as in Olsson et al. 2022 (arXiv 2209.11895) and Arora et al. 2023 (arXiv 2312.04927).

    Attributes:
      symbols: number of symbols, keys first; `<bos>` comes after them.
      length: tokens of a text, `<bos>` included: odd.
      pairs: different keys a text draws from.

    Raises:
      ValueError: an attribute out of range, an even length, more pairs than keys.
    """

    pairs: int

    def __post_init__(self) -> None:
        whole("symbols", self.symbols, 2)
        whole("length", self.length, 3)
        if self.length % 2 == 0:
            raise ValueError(f"length: expected an odd number (<bos> and pairs), got {self.length}")
        whole("pairs", self.pairs, 1, self.keys)

    @property
    def keys(self) -> int:
        """Number of keys, ids `0 .. keys - 1`."""
        return self.symbols // 2

    @property
    def values(self) -> int:
        """Number of values, ids `keys .. symbols - 1`."""
        return self.symbols - self.keys

    def sample(self, n: int, *, seed: int, start: int = 0) -> Int32[np.ndarray, "n length"]:
        """Texts `start .. start + n - 1` of a seed.

        Raises:
          ValueError: n below 1 or start below 0.
        """
        k, slots = self.pairs, self.length // 2
        u = words("induction", "sample", seed, n, 3 * k + slots, start)
        key = distinct(u[:, : 2 * k], self.keys)
        value = self.keys + below(u[:, 2 * k : 3 * k], self.values)
        turn = below(u[:, 3 * k :], k)
        text = np.stack([np.take_along_axis(x, turn, axis=1) for x in (key, value)], axis=2)
        text = text.reshape(n, -1)
        return np.pad(text, ((0, 0), (1, 0)), constant_values=self.bos).astype(np.int32)

    def next_distribution(self, tokens: Tokens) -> Float32[np.ndarray, "n length vocab"]:
        """The exact distribution of the token after each position, given the text so far. NaN
        where no text of the language goes on so."""
        tokens = self._rows(tokens)
        n, length = tokens.shape
        source = self.source(tokens)
        out = np.zeros((n, length, self.vocab), np.float32)
        seen = np.zeros((n, self.keys), bool)
        rows = np.arange(n)
        for t in range(length):
            token, at = tokens[:, t], source[:, t]
            if t % 2:  # a key: its value comes next
                out[:, t, self.keys : self.symbols] = np.where(at < 0, 1 / self.values, 0)[:, None]
                known = rows[at >= 0]
                out[known, t, tokens[known, at[known]]] = 1
                seen[rows, np.minimum(token, self.keys - 1)] = True
            else:
                old = seen.sum(axis=1)
                fresh = (1 - old / self.pairs) / np.maximum(self.keys - old, 1)
                out[:, t, : self.keys] = np.where(seen, 1 / self.pairs, fresh[:, None])
        blank_impossible(out, tokens)
        return out

    def entropy(self) -> Float64[np.ndarray, " length-1"]:
        """The least possible expected loss, in nats, of each predicted token; their mean is the
        best loss."""
        k = self.pairs
        old = np.arange(k + 1)
        fresh = 1 - old / k
        choices = np.where(fresh > 0, (self.keys - old) / np.where(fresh > 0, fresh, 1), 1)
        key = old / k * np.log(k) + fresh * np.log(choices)
        value = fresh * np.log(self.values)
        p = np.eye(k + 1)[0]  # how many different keys so far
        out = []
        for _ in range(self.length // 2):
            out += [p @ key, p @ value]
            p = p * old / k + np.concatenate([[0], (p * fresh)[:-1]])
        return np.array(out)

    def _asks(self, tokens: np.ndarray) -> np.ndarray:
        return tokens < self.keys


def repeated(
    vocab: int = 65, length: int = 65, *, period: int | tuple[int, int] | None = None
) -> Repeated:
    """A random sequence repeated (the copy task).

    Args:
      vocab: number of tokens, `<bos>` (the last id) included.
      length: tokens of a text, `<bos>` included.
      period: symbols before the sequence repeats: a number, or least and largest of a range; None:
        from a quarter to half of the text, as far as there are symbols.
    """
    whole("vocab", vocab, 2)
    whole("length", length, 3)
    if period is None:
        high = max(1, min((length - 1) // 2, vocab - 1))
        period = (max(1, min((length - 1) // 4, high)), high)
    elif not isinstance(period, (tuple, list)):
        period = (period, period)
    elif len(period) != 2:
        raise ValueError(f"period: expected a number or a pair (least, largest), got {period}")
    return Repeated(vocab - 1, length, (period[0], period[1]))


def induction(vocab: int = 65, length: int = 65, *, pairs: int = 8) -> Induction:
    """Pairs that come again (the induction task).

    Args:
      vocab: number of tokens, `<bos>` (the last id) included.
      length: tokens of a text, `<bos>` included: odd.
      pairs: different keys a text draws from.
    """
    return Induction(whole("vocab", vocab, 3) - 1, length, pairs)
