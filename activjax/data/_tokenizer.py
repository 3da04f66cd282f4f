"""What a tokenizer is, and the one that needs nothing: a token is a byte."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int, Int32


def utf8(text: str) -> bytes:
    """A text's UTF-8.

    Raises:
      ValueError: the text has a lone surrogate (half of a UTF-16 pair), which UTF-8 cannot write.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text: character {error.start} is a lone surrogate (U+{ord(text[error.start]):04X}), "
            "which UTF-8 cannot write; replace it with "
            "`text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')`"
        ) from None


@dataclass(frozen=True, eq=False)
class Tokenizer(abc.ABC):
    """Text to token ids and back. Two are equal if they give the same ids.

    Attributes:
      vocab: how many ids there are, the boundary id included: ids are 0 to vocab - 1.
      end: the id that ends a document. `encode` never gives it, whatever the text says.
      byte_lengths: how many bytes of UTF-8 each id stands for, 0 for the special ones. Over
        `encode(text)` they sum to `len(text.encode())` wherever the tokenizer loses nothing.
      fingerprint: hash of what determines the ids.
    """

    vocab: int
    end: int
    byte_lengths: Int32[np.ndarray, " vocab"] = field(repr=False)
    fingerprint: str

    def __post_init__(self) -> None:
        self.byte_lengths.flags.writeable = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @abc.abstractmethod
    def encode(self, text: str | bytes) -> Int32[np.ndarray, " n"]:
        """The ids of a text, int32 `[n]`; none is added at its beginning or end.

        Raises:
          ValueError: a lone surrogate in a str; bytes that are not UTF-8, where that matters.
        """

    @abc.abstractmethod
    def decode(self, ids: Int[np.ndarray, " n"] | Sequence[int]) -> str:
        """The text of some ids. Special ids are dropped, invalid UTF-8 is replaced by U+FFFD.

        Raises:
          ValueError: not a row of integers from 0 to vocab - 1.
        """

    @abc.abstractmethod
    def offsets(self, text: str) -> Int32[np.ndarray, "n 2"]:
        """The characters each id of `encode(text)` covers: first, and one past the last.

        Ids that share a character (its bytes) have that character's span each.
        """

    def _checked(self, ids: Int[np.ndarray, " n"] | Sequence[int]) -> Int[np.ndarray, " n"]:
        row = np.asarray(ids)
        if row.size == 0:
            row = row.astype(np.int32)
        if row.ndim != 1 or not np.issubdtype(row.dtype, np.integer):
            raise ValueError(f"ids: expected integers [n], got {row.dtype} {list(row.shape)}")
        wrong = np.flatnonzero((row < 0) | (row >= self.vocab))
        if len(wrong):
            raise ValueError(
                f"ids: expected 0 to {self.vocab - 1}, got {row[wrong[0]]} at position {wrong[0]}"
            )
        return row


@dataclass(frozen=True, eq=False)
class _ByteTokenizer(Tokenizer):
    def encode(self, text: str | bytes) -> Int32[np.ndarray, " n"]:
        raw = utf8(text) if isinstance(text, str) else text
        return np.frombuffer(raw, np.uint8).astype(np.int32)

    def decode(self, ids: Int[np.ndarray, " n"] | Sequence[int]) -> str:
        row = self._checked(ids)
        return row[row != self.end].astype(np.uint8).tobytes().decode(errors="replace")

    def offsets(self, text: str) -> Int32[np.ndarray, "n 2"]:
        first = (self.encode(text) & 0xC0) != 0x80  # every other byte continues a character
        character = np.cumsum(first, dtype=np.int32) - 1
        return np.stack([character, character + 1], axis=1).astype(np.int32)


def byte_tokenizer() -> Tokenizer:
    """The tokenizer whose ids are the bytes of UTF-8: 0 to 255, and 256 for `end`.

    It needs no library and no training, and takes any bytes, also such that are not UTF-8.
    """
    lengths = np.ones(257, np.int32)
    lengths[256] = 0
    return _ByteTokenizer(257, 256, lengths, "bytes-257")
