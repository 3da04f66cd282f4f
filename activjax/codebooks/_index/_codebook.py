"""One codebook of an index: for each code where it was chosen, for each token what was."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Int64

from activjax.codebooks._index._layout import Code

if TYPE_CHECKING:
    from activjax.codebooks._index._open import Index


_CHUNK = 1 << 22


class Postings(NamedTuple):
    """Where a code was chosen, in the order of the tokens.

    Attributes:
      token: number of the token in the index.
      example: its example.
      position: its position in the example, padding not counted.
      rank: 0 if the code was the nearest.
      similarity: cosine of activation and code.
    """

    token: Int64[np.ndarray, " n"]
    example: Int64[np.ndarray, " n"]
    position: Int64[np.ndarray, " n"]
    rank: Int64[np.ndarray, " n"]
    similarity: Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Codebook:
    """One codebook; `codebook[code]` is where a code was chosen.

    Attributes:
      site, loop, group: which one it is.
      codes: how many codes it has.
      ids: `[tokens, k]`, chosen codes, nearest first, as they are stored: `codes` stands for none.
      similarities: `[tokens, k]`, their cosines.
      offsets: `[codes + 1]`, where each code begins in `order`.
      order: `token * k + rank` of every choice, sorted by code.
    """

    _index: Index = field(repr=False)
    site: str
    loop: tuple[int, ...]
    group: int
    codes: int
    repeats: bool = field(repr=False)
    ids: np.ndarray = field(repr=False)
    similarities: np.ndarray = field(repr=False)
    offsets: np.ndarray = field(repr=False)
    order: np.ndarray = field(repr=False)

    @property
    def k(self) -> int:
        """Codes chosen for a token."""
        return self.ids.shape[1]

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        return self.ids.shape[0]

    def code(self, code: int) -> Code:
        """The full address of one of its codes. Raises IndexError."""
        if not 0 <= code < self.codes:
            raise IndexError(f"{self.site}: code {code}, expected 0 to {self.codes - 1}")
        return Code(self.site, self.loop, self.group, int(code))

    def __len__(self) -> int:
        return self.codes

    def __getitem__(self, code: int) -> Postings:
        token, rank = np.divmod(self._places(code), self.k)
        example = np.searchsorted(self._index.starts, token, side="right") - 1
        position = token - self._index.starts[example]
        return Postings(token, example, position, rank, self.similarities[token, rank])

    def tokens_with(self, code: int) -> Int64[np.ndarray, " n"]:
        """The tokens for which a code was chosen, each once, ascending."""
        token = self._places(code) // self.k
        return np.unique(token) if self.repeats else token

    def chosen(self, tokens: Any) -> Int32[np.ndarray, "n k"]:
        """The codes chosen for some tokens, nearest first; -1 for none."""
        ids = self.ids[tokens].astype(np.int32)
        return np.where(ids == self.codes, -1, ids)

    @cached_property
    def counts(self) -> Int64[np.ndarray, " codes"]:
        """For how many tokens each code was chosen, at any rank."""
        counts = np.diff(self.offsets)
        for start in range(1, int(self.offsets[-1]), _CHUNK) if self.repeats else ():
            token = self.order[start - 1 : start - 1 + _CHUNK + 1] // self.k
            again = start + np.flatnonzero(token[1:] == token[:-1])
            again = again[again < self.offsets[-1]]
            code = np.searchsorted(self.offsets, again, side="right") - 1
            same = again > self.offsets[code]  # not the first of the next code
            counts -= np.bincount(code[same], minlength=self.codes)
        return counts

    @property
    def density(self) -> Float64[np.ndarray, " codes"]:
        """The share of tokens for which each code was chosen."""
        return self.counts / self.tokens

    @property
    def dead(self) -> Bool[np.ndarray, " codes"]:
        """Codes that were never chosen."""
        return np.diff(self.offsets) == 0

    def ranks(self, code: int) -> Int64[np.ndarray, " k"]:
        """How often a code was chosen at each rank."""
        return np.bincount(self._places(code) % self.k, minlength=self.k)

    def _places(self, code: int) -> Int64[np.ndarray, " n"]:
        self.code(code)
        return self.order[self.offsets[code] : self.offsets[code + 1]].astype(np.int64)
