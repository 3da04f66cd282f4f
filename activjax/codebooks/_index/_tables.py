"""Tables of an index: codes with tokens, codes with codes, codes with whole sequences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from activjax.codebooks._index._codebook import Codebook
from activjax.codebooks._index._layout import Code
from activjax.codebooks._index._open import Index
from activjax.codebooks._index._score import ratio
from activjax.codebooks._index._tally import tally

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_CHUNK = 1 << 22


class TokenRow(NamedTuple):
    """A token at which a code is chosen.

    Attributes:
      token: its id.
      piece: what it stands for.
      count: how often the code was chosen at it.
      lift: the token's share of the code's tokens as a multiple of its share of all.
    """

    token: int
    piece: bytes
    count: int
    lift: float


class CoactiveRow(NamedTuple):
    """A code that is chosen together with another.

    Attributes:
      code: the code.
      both: tokens at which both were chosen.
      lift: `both` as a multiple of what it would be if the two were independent.
    """

    code: Code
    both: int
    lift: float


@dataclass(frozen=True)
class Coverage:
    """How much of whole examples each code of a codebook covers.

    A code that is active on most of a sequence stands for its topic rather than for a token: a
    candidate for steering (Tamkin et al. 2023, section 4.3).

    Attributes:
      most: `[codes]`, the largest share of an example's tokens that have the code.
      examples: `[codes]`, examples of whose tokens more than the share asked for have it.
      active: `[codes]`, examples with the code at any token.
    """

    most: Float64[np.ndarray, " codes"]
    examples: Int64[np.ndarray, " codes"]
    active: Int64[np.ndarray, " codes"]

    @property
    def candidates(self) -> Int64[np.ndarray, " n"]:
        """Codes that cover the share asked for of an example, those of most examples first."""
        order = np.argsort(-self.examples, kind="stable")
        return order[self.examples[order] > 0]


def token_table(index: Index, code: Code, *, top: int = 20) -> list[TokenRow]:
    """The tokens at which a code is chosen most often, ties by id.

    Raises:
      ValueError, IndexError: no such code.
    """
    where = index.codebook(code.site, code.loop, code.group).tokens_with(code.code)
    counts = np.bincount(index.tokens[where])
    order = np.argsort(-counts, kind="stable")[:top]
    rows = []
    for token in order[counts[order] > 0].tolist():
        everywhere = int(np.count_nonzero(index.tokens == token))
        lift = counts[token] * len(index.tokens) / (len(where) * everywhere)
        rows.append(TokenRow(token, index.piece(token), int(counts[token]), float(lift)))
    return rows


def cooccurrence(
    index: Index,
    code: Code,
    *,
    within: Iterable[Codebook] | None = None,
    top: int = 20,
    least: int = 5,
) -> list[CoactiveRow]:
    """The codes that are chosen at the same tokens as a code, by lift, ties by `both`.

    Args:
      index: the index.
      code: the code.
      within: codebooks whose codes are considered; None: all, the code's own among them.
      top: how many to give.
      least: tokens that both must share: the lift of rare codes is luck.

    Raises:
      ValueError, IndexError: no such code.
    """
    where = index.codebook(code.site, code.loop, code.group).tokens_with(code.code)
    rows: list[CoactiveRow] = []
    one = np.zeros(len(where), np.uint8)
    for book in index.codebooks() if within is None else within:
        both = tally(book, one, 1, rows=where)[0]
        if (book.site, book.loop, book.group) == code[:3]:
            both[code.code] = 0
        found = np.flatnonzero(both >= max(least, 1))
        lift = ratio(both[found] * len(index.tokens), len(where) * book.counts[found])
        best = np.lexsort((found, -both[found], -lift))[:top]
        rows += [
            CoactiveRow(book.code(int(found[i])), int(both[found[i]]), float(lift[i])) for i in best
        ]
    return sorted(rows, key=lambda row: (-row.lift, -row.both))[:top]


def token_counts(index: Index, book: Codebook) -> csr_array:
    """How often each code was chosen at each token, sparse `[vocabulary, codes]`, int64.

    Without a vocabulary there are as many rows as the largest id asks for.
    """
    from scipy.sparse import csr_array

    size = len(index.vocabulary) if index.vocabulary is not None else int(index.tokens.max()) + 1
    total = csr_array((size, book.codes), dtype=np.int64)
    step = max(1, _CHUNK // book.k)
    for start in range(0, book.tokens, step):
        at = _membership(book, start, start + step)
        tokens = index.tokens[start : start + step]
        ones, rows = np.ones(len(tokens), np.int64), np.arange(len(tokens))
        total = total + csr_array((ones, (tokens, rows)), (size, len(tokens))) @ at
    return total.tocsr()


def coactivation(book: Codebook, other: Codebook | None = None) -> csr_array:
    """At how many tokens each two codes were both chosen, sparse `[codes, codes]`, int64.

    Its diagonal, for one codebook, is `book.counts`. It takes time as k * k * tokens.

    Args:
      book: the codebook of the rows.
      other: of the columns; None: the same.

    Raises:
      ValueError: codebooks of different tokens.
    """
    from scipy.sparse import csr_array

    columns = book if other is None else other
    if columns.tokens != book.tokens:
        raise ValueError(f"coactivation: codebooks of {book.tokens} and {columns.tokens} tokens")
    total = csr_array((book.codes, columns.codes), dtype=np.int64)
    step = max(1, _CHUNK // (book.k * columns.k))
    for start in range(0, book.tokens, step):
        a = _membership(book, start, start + step)
        b = a if other is None else _membership(columns, start, start + step)
        total = total + a.T @ b
    return total.tocsr()


def topic_coverage(index: Index, book: Codebook, *, share: float = 0.5, least: int = 8) -> Coverage:
    """How much of whole examples each code covers.

    Args:
      index: the index of the codebook.
      book: the codebook.
      share: an example counts for a code that more than this share of its tokens have.
      least: shorter examples are left out.

    Raises:
      ValueError: a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"topic_coverage: share is {share}, expected one in [0, 1)")
    lengths = np.diff(index.starts)
    most = np.zeros(book.codes)
    over, active = np.zeros(book.codes, np.int64), np.zeros(book.codes, np.int64)
    low = 0
    while low < book.codes:  # as many codes as have a chunk of postings together, at least one
        high = int(np.searchsorted(book.offsets, book.offsets[low] + _CHUNK, "right")) - 1
        high = min(max(high, low + 1), book.codes)
        code, example, count = _runs(index, book, low, high)
        kept = lengths[example] >= least
        code, part = code[kept], count[kept] / lengths[example[kept]]
        np.maximum.at(most, code, part)
        over += np.bincount(code[part > share], minlength=book.codes)
        active += np.bincount(code, minlength=book.codes)
        low = high
    return Coverage(most, over, active)


def _runs(index: Index, book: Codebook, low: int, high: int) -> tuple[np.ndarray, ...]:
    """(code, example, tokens) for codes `low` to `high` in all examples that have them."""
    offsets = book.offsets[low : high + 1]
    token = book.order[offsets[0] : offsets[-1]].astype(np.int64) // book.k
    code = np.repeat(np.arange(low, high), np.diff(offsets))
    if book.repeats and len(token):
        first = np.r_[True, (np.diff(token) != 0) | (np.diff(code) != 0)]
        token, code = token[first], code[first]
    example = index.example_of[token]
    begins = np.flatnonzero(np.r_[True, (np.diff(example) != 0) | (np.diff(code) != 0)])
    begins = begins[: len(token)]
    return code[begins], example[begins], np.diff(np.r_[begins, len(token)])


def _membership(book: Codebook, start: int, stop: int) -> csr_array:
    """Which codes some tokens have, `[tokens, codes]` of 0 and 1."""
    from scipy.sparse import csr_array

    ids = np.asarray(book.ids[start:stop]).astype(np.int64)
    if book.repeats:
        ids.sort(axis=1)
        ids[:, 1:][ids[:, 1:] == ids[:, :-1]] = book.codes
    row, _ = np.nonzero(ids < book.codes)
    return csr_array(
        (np.ones(len(row), np.int64), (row, ids[ids < book.codes])), (len(ids), book.codes)
    )
