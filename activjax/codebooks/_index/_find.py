"""Finding the code that stands for something, without being fooled by how many there are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from activjax.codebooks._index._codebook import Codebook
from activjax.codebooks._index._found import Found, Half, Hit
from activjax.codebooks._index._halves import reported_half
from activjax.codebooks._index._labels import labels
from activjax.codebooks._index._open import Index
from activjax.codebooks._index._score import score
from activjax.codebooks._index._tally import tally


def find(
    index: Index,
    query: Any,
    *,
    control: Index | None = None,
    rank: int | None = None,
    top: int = 3,
    sites: Iterable[str] | None = None,
    draws: int = 5,
    seed: int = 0,
    level: float = 0.95,
) -> Found:
    """Find the codes that are chosen where something is so, and measure them honestly.

    The best of thousands of codes is good by luck, too. So codes are chosen by F1 on one half of
    the examples, and what is reported of them is measured on the other (`reported_half`). Two
    controls are searched in the same way: labels dealt to the tokens at random, and an index of
    codes that were not trained, such as sampled activations. Those can be precise, too: without
    such a control, precision is weak evidence.

    Args:
      index: where to search.
      query: which tokens are meant: a mask or a regular expression. The mask is bools, flat or a
        list with an array for each example. The expression is matched in the text of each example;
        tokens that overlap its capture group 1, if it has one, else the match, are meant.
      control: an index of the same tokens for codes that mean nothing.
      rank: a code counts at a token where it was chosen at this rank only, 0 for the nearest; None:
        at any rank.
      top: codes reported for each codebook.
      sites: search these only.
      draws: how often the labels are dealt.
      seed: of the dealing.
      level: of the intervals.

    Raises:
      ValueError: no token is labelled, or all are, in either half; a mask or expression that does
        not fit; a control of other tokens; an option out of range.
    """
    if top < 1 or draws < 1:
        raise ValueError(f"find: top={top}, draws={draws}, expected at least 1 of each")
    marks = labels(index, query)
    second = np.repeat(reported_half(index.examples), np.diff(index.starts))
    halves = tuple(_half(index, marks, second == side) for side in (False, True))
    _check(halves, marks)
    rng = np.random.default_rng(seed)
    dealt = [rng.permutation(marks) for _ in range(draws)]
    names = list(sites) if sites is not None else None

    search = _Search(index, second, rank, level)
    hits = search.hits(_books(index, names, rank), marks, top)
    shuffled = [search.best(_books(index, names, rank), drawn) for drawn in dealt]
    controls: tuple[Hit, ...] | None = None
    if control is not None:
        _same_tokens(index, control)
        names = [n for n in names if n in control.sites] if names is not None else None
        controls = tuple(
            _Search(control, second, rank, level).hits(_books(control, names, rank), marks, top)
        )
    return Found(
        query.pattern if isinstance(query, re.Pattern) else query if _is_text(query) else "mask",
        halves[0],
        halves[1],
        tuple(hits),
        tuple(hit for hit in shuffled if hit is not None),
        controls,
        draws,
        rank,
        level,
    )


class _Search:
    """The search for one set of labels in one index."""

    def __init__(self, index: Index, second: np.ndarray, rank: int | None, level: float):
        self.index, self.second, self.rank, self.level = index, second, rank, level
        self._with_code: dict[Any, np.ndarray] = {}

    def hits(self, books: Iterable[Codebook], marks: np.ndarray, top: int) -> list[Hit]:
        """The best codes of every codebook by F1 on the first half, the best codebook's first."""
        found = []
        for book in books:
            both, with_code, labelled, f1 = self._counts(book, marks)
            order = np.argsort(-f1, kind="stable")[:top]
            for code in order[f1[order] > 0].tolist():
                where = book.tokens_with(code)
                if self.rank is not None:
                    where = where[(book.ids[where, self.rank] == code)]
                scores = []
                for half in (0, 1):
                    own = where[(self.second[where] == bool(half)) & marks[where]]
                    examples = len(np.unique(np.searchsorted(self.index.starts, own, "right")))
                    scores.append(
                        score(both[half, code], with_code[half, code], labelled[half],
                              self._size(half), examples, self.level)
                    )  # fmt: skip
                found.append(Hit(book.code(code), *scores))
        return sorted(found, key=lambda hit: -hit.chosen.f1)

    def best(self, books: Iterable[Codebook], marks: np.ndarray) -> Hit | None:
        """The best of all codes, if any code goes with any label."""
        best: tuple[float, Codebook] | None = None
        for book in books:
            f1 = float(self._counts(book, marks)[3].max())
            if best is None or f1 > best[0]:
                best = f1, book
        hits = self.hits([best[1]], marks, 1) if best is not None else []
        return hits[0] if hits else None

    def _counts(self, book: Codebook, marks: np.ndarray) -> tuple[Any, ...]:
        """Tokens with both and with the code, `[2, codes]`, with the label, `[2]`; F1."""
        key = (book.site, book.loop, book.group)
        if key not in self._with_code:
            self._with_code[key] = tally(book, self.second, 2, rank=self.rank)
        with_code = self._with_code[key]
        rows = np.flatnonzero(marks)
        both = tally(book, self.second[rows], 2, rows=rows, rank=self.rank)
        on_second = int(self.second[rows].sum())
        labelled = np.array([len(rows) - on_second, on_second])
        f1 = 2 * both[0] / np.maximum(with_code[0] + labelled[0], 1)
        return both, with_code, labelled, f1

    def _size(self, half: int) -> int:
        second = int(self.second.sum())
        return second if half else len(self.second) - second


def _books(index: Index, sites: list[str] | None, rank: int | None) -> Iterable[Codebook]:
    for site in sites if sites is not None else index.sites:
        if site not in index.sites:
            raise ValueError(f"find: no site {site!r}; there are: {', '.join(index.sites)}")
        k = index.sites[site].k
        if rank is not None and not 0 <= rank < k:
            raise ValueError(f"find: rank is {rank}, expected 0 to {k - 1} for {site}")
        yield from index.codebooks(site)


def _half(index: Index, marks: np.ndarray, inside: np.ndarray) -> Half:
    examples = int(inside[index.starts[:-1]].sum())
    return Half(examples, int(inside.sum()), int((marks & inside).sum()))


def _check(halves: tuple[Half, ...], marks: np.ndarray) -> None:
    if not marks.any() or marks.all():
        amount = "all of the tokens are" if marks.any() else "no token is"
        raise ValueError(f"find: {amount} labelled, there is nothing to tell apart")
    for half, use in zip(halves, ("codes are chosen", "they are measured")):
        if half.labelled in (0, half.tokens):
            raise ValueError(
                f"find: in the half of the examples on which {use} ({half.examples} examples) "
                f"{half.labelled} of {half.tokens} tokens are labelled; give more examples"
            )


def _same_tokens(index: Index, control: Index) -> None:
    same = np.array_equal(index.starts, control.starts)
    if not same or not np.array_equal(index.tokens, control.tokens):
        raise ValueError(
            f"find: the control {control.path} is of other tokens than {index.path}; index the "
            "same batches with both sets of codes"
        )


def _is_text(query: Any) -> bool:
    return isinstance(query, (str, bytes))
