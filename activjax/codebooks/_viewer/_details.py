"""The details of a code that its page shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from activjax.codebooks._index import Codebook, Index, Postings

_BYTES = 56  # of text before a token, where it is shown; half as much after it
_TOKENS, _CODES, _CONTEXTS = 12, 10, 8
_SAMPLE = 4096  # tokens of a code at which others are counted
_ACROSS = 32  # more codebooks than these are not all searched for what goes with a code


class Details:
    """Makes the details of codes, holding what all of them need.

    Args:
      index: the index.
      books: its codebooks, in the order of the page.
      effects: by site `(ids, values)`, `[codebooks, codes, m]`.
    """

    def __init__(
        self,
        index: Index,
        books: list[Codebook],
        effects: dict[str, tuple[np.ndarray, np.ndarray]],
    ):
        self._last: tuple[Codebook, Any] | None = None
        self._index, self._books, self._effects = index, books, effects
        self._lengths = np.diff(index.starts)
        self._frequency = np.bincount(index.tokens)
        size = 4.0 if index.vocabulary is None else _mean(index.vocabulary.lengths[index.tokens])
        self._before = int(np.clip(_BYTES / max(size, 1), 8, 56))
        self._numbers = {(b.site, b.loop, b.group): i for i, b in enumerate(books)}

    def of(self, book: Codebook, code: int) -> dict[str, Any]:
        """The details of one code, as JSON."""
        found = book[code]
        where = np.unique(found.token) if book.repeats else found.token
        details: dict[str, Any] = {
            "code": code,
            "ranks": np.bincount(found.rank, minlength=book.k).tolist(),
            "similarity": round(_mean(found.similarity), 4),
            **self._coverage(where),
            "tokens": self._tokens(where),
            "contexts": [self._context(found, where, i) for i in _spread(found)],
            "codes": self._coactive(book, code, where),
        }
        if book.site in self._effects:
            layout = self._index.sites[book.site]
            number = layout.number(book.site, book.loop, book.group)
            ids, values = (a[number, code] for a in self._effects[book.site])
            details["effects"] = [
                [int(i), round(float(v), 4)] for i, v in zip(ids, values) if np.isfinite(v)
            ]
        return details

    def _coverage(self, where: np.ndarray) -> dict[str, float]:
        """Examples with the code, the largest share of one that has it, how many have over half."""
        examples, counts = np.unique(self._index.example_of[where], return_counts=True)
        shares = counts / self._lengths[examples]
        most = round(float(shares.max(initial=0)), 4)
        return {"examples": len(examples), "most": most, "half": int((shares > 0.5).sum())}

    def _tokens(self, where: np.ndarray) -> list[list[float]]:
        """[token, how often, lift] of the tokens at which a code is chosen most often."""
        ids, counts = np.unique(self._index.tokens[where], return_counts=True)
        order = np.argsort(-counts, kind="stable")[:_TOKENS]
        rate = max(len(where), 1) / len(self._index.tokens)
        lifts = counts / (self._frequency[ids] * rate)
        return [[int(ids[i]), int(counts[i]), round(float(lifts[i]), 2)] for i in order]

    def _context(self, found: Postings, where: np.ndarray, i: int) -> list[Any]:
        """[example, position, rank, similarity, tokens before, ids, places with the code]."""
        token, example = int(found.token[i]), int(found.example[i])
        first, last = self._index.starts[example : example + 2].tolist()
        start = max(first, token - self._before)
        stop = min(last, token + 1 + self._before // 2)
        low, high = np.searchsorted(where, (start, stop))
        cosine = float(found.similarity[i])
        return [
            example,
            int(found.position[i]),
            int(found.rank[i]),
            round(cosine, 3) if np.isfinite(cosine) else None,
            token - start,
            self._index.tokens[start:stop].tolist(),
            (where[low:high] - start).tolist(),
        ]

    def _coactive(self, book: Codebook, code: int, where: np.ndarray) -> list[list[float]]:
        """[codebook, code, tokens with both, lift], the largest lifts of all near codebooks."""
        near, starts, counts = self._space(book)
        sample = where if len(where) <= _SAMPLE else where[:: len(where) // _SAMPLE + 1]
        ids = [o.ids[sample].astype(np.int64) + start for o, start in zip(near, starts)]
        both = np.bincount(np.concatenate(ids, axis=1).reshape(-1), minlength=starts[-1])
        both[starts[1:] - 1] = 0  # stands for no code
        both[starts[near.index(book)] + code] = 0
        found = np.flatnonzero(both >= (2 if len(where) < 20 else 5))
        which = np.searchsorted(starts, found, side="right") - 1
        lift = both[found] * len(self._index.tokens)
        lift = lift / (len(sample) * np.maximum(counts[found], 1))
        rows = []
        for i in np.lexsort((found, -both[found], -lift))[:_CODES]:
            other, at = near[which[i]], int(found[i] - starts[which[i]])
            number = self._numbers[other.site, other.loop, other.group]
            scaled = round(int(both[found[i]]) * len(where) / len(sample))
            rows.append([number, at, scaled, round(float(lift[i]), 2)])
        return rows

    def _space(self, book: Codebook) -> tuple[list[Codebook], np.ndarray, np.ndarray]:
        """The codebooks near one, where each begins if all their codes are numbered, their uses."""
        if self._last is None or self._last[0] is not book:
            near = self._near(book)
            starts = np.cumsum([0, *(other.codes + 1 for other in near)])
            counts = np.concatenate([np.append(other.counts, 0) for other in near])
            self._last = book, (near, starts, counts)
        return self._last[1]

    def _near(self, book: Codebook) -> list[Codebook]:
        """The codebooks of which co-active codes are shown: all, or where there are many a few."""
        if len(self._books) <= _ACROSS:
            return self._books
        number = self._numbers[book.site, book.loop, book.group]
        same = [b for b in self._books if b.loop == book.loop and b.group == book.group]
        return [self._books[number], *(b for b in same[:7] if b is not self._books[number])]


def _spread(found: Postings) -> list[int]:
    """The most similar half of the contexts, and the rest from all over the examples."""
    n = len(found.token)
    nearest = np.argsort(-np.nan_to_num(found.similarity, nan=-2), kind="stable")
    even = np.linspace(0, n - 1, _CONTEXTS, dtype=np.int64) if n else nearest
    chosen: dict[int, int] = {}  # by token: an override may put a code there twice
    for i in (*nearest[: _CONTEXTS // 2].tolist(), *even.tolist(), *nearest.tolist()[:64]):
        if len(chosen) < _CONTEXTS:
            chosen.setdefault(int(found.token[i]), int(i))
    return list(chosen.values())


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)].astype(np.float64)
    return float(values.mean()) if len(values) else 0.0
