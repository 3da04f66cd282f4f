"""From signs of lines to packed patterns of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from activjax.zonotope._rows import Rows

WORD = 64


@dataclass(frozen=True)
class RowBits:
    """How the patterns of rows follow from the signs of lines, in words of 64 rows.

    A pattern is XOR-linear in the lines' bits: flipping a line flips the rows on it.

    Attributes:
        of, sign: `[n]`, as in `Rows`.
        flips: `[n_lines, words]` uint64, the rows on each line.
        all: `[words]`, the rows on any line: XOR with it negates a weight vector.
    """

    of: np.ndarray
    sign: np.ndarray
    flips: np.ndarray
    all: np.ndarray

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.of)

    def of_signs(self, positive: np.ndarray) -> np.ndarray:
        """`[m, words]` from `[m, n_lines]`, true where a line's value is positive."""
        if self.flips.shape[0] == 0:
            return np.zeros((len(positive), len(self.all)), np.uint64)
        return pack((positive[:, self.of] != (self.sign < 0)) & (self.sign != 0))

    def both(self, half: np.ndarray) -> np.ndarray:
        """The words of a half and then of its negation, as `[2 m, ceil(n / 32)]` uint32."""
        return narrow(np.concatenate([half, half ^ self.all]), self.n)


def row_bits(rows: Rows) -> RowBits:
    """The map from lines to rows of an arrangement."""
    flips = np.zeros((len(rows.lines), -(-len(rows.of) // WORD)), np.uint64)
    for row, line in enumerate(rows.of.tolist()):
        if line >= 0:
            flips[line, row // WORD] |= np.uint64(1 << row % WORD)
    return RowBits(rows.of, rows.sign, flips, np.bitwise_or.reduce(flips, axis=0))


def pack(bits: np.ndarray) -> np.ndarray:
    """Bits `[m, n]` to words `[m, ceil(n / 64)]`, uint64, bit i of word w is column `64 w + i`."""
    octets = np.packbits(bits, axis=1, bitorder="little")
    short = -octets.shape[1] % 8
    if short:
        octets = np.pad(octets, ((0, 0), (0, short)))
    return np.ascontiguousarray(octets).view("<u8").astype(np.uint64, copy=False)


def narrow(words: np.ndarray, n: int) -> np.ndarray:
    """`[*m, ceil(n / 32)]` uint32 from words of 64 bits `[*m, ceil(n / 64)]`."""
    return words.astype("<u8", copy=False).view("<u4")[..., : -(-n // 32)]


def unpack(words: np.ndarray, n: int) -> np.ndarray:
    """`[*m, n]` booleans from words of 32 or 64 bits `[*m, words]`."""
    little = words.astype(words.dtype.newbyteorder("<"), copy=False)
    octets = np.ascontiguousarray(little).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=n, bitorder="little").astype(bool)
