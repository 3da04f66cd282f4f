"""What each token id stands for, as bytes: a character may be split over several tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int, Int64, UInt8


class Vocabulary(Sequence[bytes]):
    """The bytes of every token id.

    Attributes:
      data: the bytes of all tokens, one after another.
      offsets: where each begins, and the end.
      lengths: bytes of each.
    """

    def __init__(self, data: UInt8[np.ndarray, " n"], offsets: Int64[np.ndarray, " v_plus_1"]):
        self.data, self.offsets = data, offsets
        self.lengths = np.diff(offsets)
        raw = data.tobytes()
        self._pieces = [raw[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist())]

    @classmethod
    def of(cls, pieces: Iterable[bytes | str]) -> Vocabulary:
        """The vocabulary of the given pieces: bytes, or str as UTF-8.

        Raises:
          ValueError: no pieces, or one that is neither.
        """
        coded = []
        for i, piece in enumerate(pieces):
            if not isinstance(piece, (bytes, str)):
                raise ValueError(
                    f"vocabulary: token {i} is {type(piece).__name__}, expected bytes or str"
                )
            # half of a UTF-16 pair has no UTF-8, but is what some tokenizer's table says
            coded.append(piece if isinstance(piece, bytes) else piece.encode(errors="replace"))
        if not coded:
            raise ValueError("vocabulary: no tokens; give None where there is no vocabulary")
        offsets = np.zeros(len(coded) + 1, np.int64)
        np.cumsum([len(piece) for piece in coded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(coded), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, i):  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._pieces[i]

    def join(self, ids: Int[np.ndarray, " n"]) -> bytes:
        """The bytes that some tokens stand for."""
        return b"".join([self._pieces[i] for i in ids.tolist()])
