"""All activation patterns of one ReLU unit on a data set, each once, with a certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from activjax.patterns import Codes
from activjax.zonotope import _engines, _levels
from activjax.zonotope._coordinates import Coordinates
from activjax.zonotope._engines import Certificate, Method
from activjax.zonotope._exact import enumerate_exact
from activjax.zonotope._rows import Rows, rows_of
from activjax.zonotope._witness import planes_of, witnesses
from activjax.zonotope._words import RowBits, row_bits, unpack

SITE = "examples"
"""The name of the units of patterns: they are the examples."""
_AT_ONCE = 1 << 22  # numbers in an array of witnesses at work


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of the arrangement of the hyperplanes `x_i . w = 0` in weight space.

    A cell is a set of weight vectors `w` of one pattern `1[X w > 0]`, of full dimension: a vertex
    of the zonotope `sum_i [0, x_i]`. Cell `i + len(cells) / 2` is the negation of cell `i`. (Where
    all rows are zero there is one cell, all of weight space.)

    Attributes:
        codes: the patterns, words `[m, ceil(n / 32)]`; its units are the examples. A zero row is
            inactive in all of them.
        certificate: "generic-certified": the arrangement was shown to be simple, and every
            decision of the sweep was the exact one. "exact-integer": in integer arithmetic, as
            many cells as the characteristic polynomial says. "uncertified": neither.
    """

    codes: Codes
    certificate: Certificate
    _rows: Rows = field(repr=False)
    _witness: Callable[[np.ndarray], np.ndarray] = field(repr=False)

    def __len__(self) -> int:
        return self.codes.n

    def witness(self, index: Any) -> np.ndarray:
        """A weight vector inside each of some cells, checked in exact arithmetic.

        Args:
            index: `[k]` integers, `0 <= index < len(cells)`.

        Returns:
            `[k, d]` float64, with `1[X w > 0]` the cell's pattern and no `x . w` zero but those of
            zero rows. An object array if a cell is too thin for float64, whose witness is then
            Python integers.

        Raises:
            IndexError: there is no such cell.
        """
        index = np.atleast_1d(np.asarray(index))
        if index.shape == (0,):
            index = index.astype(np.int64)  # NumPy takes [] for floats
        if index.dtype.kind not in "iu" or index.ndim != 1:
            raise IndexError(
                f"witness: index has dtype {index.dtype} and shape {index.shape}, expected "
                "integers [k]"
            )
        if len(index) and not 0 <= index.min() <= index.max() < len(self):
            raise IndexError(
                f"witness: cells are numbered 0 .. {len(self) - 1}, got {index.min()} .. "
                f"{index.max()}"
            )
        index = index.astype(np.int64)
        half = max(len(self) // 2, 1)
        kept = self._witness(index % half)
        kept = np.where((index >= half)[:, None], -kept, kept)
        out = np.zeros((len(index), self._rows.given.shape[1]), kept.dtype)
        out[:, self._rows.columns] = kept
        return out

    @cached_property
    def witnesses(self) -> np.ndarray:
        """`[m, d]`: `witness` of every cell, found when first asked for."""
        return self.witness(np.arange(len(self)))


def cells(X: Any, *, method: Method = "auto", budget: int | None = None) -> Cells:
    """Every activation pattern that one ReLU unit without bias can have on a data set.

    Append a column of ones for a unit with bias. Zero rows, duplicate and parallel rows, rank
    deficiency and fewer rows than columns are handled; floats stand for the dyadic rationals that
    they are, so that nothing depends on a tolerance.

    Args:
        X: `[n, d]` real numbers, examples in rows.
        method: "generic": the line sweep, for arrangements in general position; "jax": the same on
            the default device; "exact": integer arithmetic; "auto": generic (on a GPU for large
            ones), and exact where that finds a coincidence.
        budget: bytes that the patterns may take (4 for 32 examples); 4 GiB if left out. `stream`
            needs no such memory.

    Returns:
        Cells, in an order that depends on `X` and the engine alone.

    Raises:
        ValueError: no matrix, NaN, a result beyond the budget, or "generic" and "jax" for an
            arrangement that is not in general position.
        TypeError: entries that are not real numbers.
    """
    limit = _engines.checked(method, budget, "cells")
    return cells_of(rows_of(X, "cells: X"), method, limit)


def cells_of(rows: Rows, method: Method, limit: int) -> Cells:
    """As `cells`, of an arrangement, the patterns of which may take `limit` bytes."""
    bits = row_bits(rows)
    if method != "exact" and len(rows.lines):
        _require_room(rows, bits, method, limit)
        found = _engines.first_half(rows, bits, method)
        if found is not None:
            where, half, certificate = found
            witness = _Swept(where, rows, bits, half)
            return Cells(codes_of(bits.both(half), bits), certificate, rows, witness)
        if method != "auto":
            raise _engines.not_general("cells", method)
    return _exact(rows, bits, limit)


def _exact(rows: Rows, bits: RowBits, limit: int) -> Cells:
    if not len(rows.lines):
        words = np.zeros((1, -(-bits.n // 32)), np.uint32)
        return Cells(codes_of(words, bits), "exact-integer", rows, _nowhere)
    try:
        positive, found = enumerate_exact(rows.lines, limit // _engines.bytes_of(1, bits))
    except ValueError as error:  # it counts before it enumerates
        raise ValueError(
            f"cells: {error}, which is what the budget of {limit:,} bytes holds of {bits.n} "
            "examples; raise it, or ask for the number only (zonotope.count)"
        ) from None
    words = bits.both(bits.of_signs(positive))
    return Cells(codes_of(words, bits), "exact-integer", rows, found.__getitem__)


def stream(
    X: Any, *, method: Method = "auto", budget: int | None = None
) -> Iterator[tuple[Codes, Certificate]]:
    """The cells of `cells` part by part, for more than memory holds.

    An arrangement in general position is swept twice: once to see that it is, so that nothing is
    given out that would have to be taken back, and once for the cells. Where hyperplanes coincide
    the exact engine is used, which holds all cells.

    Args:
        X: `[n, d]`, as for `cells`.
        method: as for `cells`.
        budget: bytes of working memory, of which at least one line's crossings (`n` patterns) are
            taken; 64 MiB if left out. For the exact engine as for `cells`, 4 GiB.

    Yields:
        Codes of some cells with their negations, and the certificate, the same for all.

    Raises:
        ValueError, TypeError: as `cells`, with the first part.
    """
    limit = _engines.checked(method, budget, "stream")
    rows = rows_of(X, "stream: X")
    bits = row_bits(rows)
    if method != "exact" and len(rows.lines):
        # About a dozen arrays of a chunk live at once.
        working = 64 << 20 if budget is None else limit
        found = _engines.parts(rows, bits, method, max(working // 16, 1))
        if found is not None:
            swept, certificate = found
            for part in swept:
                if len(part.words):
                    yield codes_of(bits.both(part.words), bits), certificate
            return
        if method != "auto":
            raise _engines.not_general("stream", method)
    all_ = _exact(rows, bits, limit)
    yield all_.codes, all_.certificate


def codes_of(words: np.ndarray, bits: RowBits) -> Codes:
    """Patterns `[m, ceil(n / 32)]` as codes whose units are the examples."""
    with jax.ensure_compile_time_eval():  # patterns are data, also while something is traced
        # jnp.asarray compiles a program for each number of cells.
        return Codes(jax.device_put(np.ascontiguousarray(words)), ((SITE, bits.n),))


def _require_room(rows: Rows, bits: RowBits, method: Method, limit: int) -> None:
    n_lines, rank = rows.lines.shape
    most = 2 * _levels.n_cells(n_lines - 1, rank)
    need = _engines.bytes_of(most, bits)
    if need > limit:
        exact = '; method="exact" counts first, should hyperplanes coincide'
        raise ValueError(
            f"cells: up to {most:,} cells of {bits.n} examples take {need:,} bytes, the budget is "
            f"{limit:,}; raise it, or take them in parts (zonotope.stream), at random "
            "(zonotope.sample) or by number only (zonotope.count)"
            + (exact if method == "auto" else "")
        )


def _nowhere(index: np.ndarray) -> np.ndarray:
    return np.zeros((len(index), 0))


@dataclass(frozen=True)
class _Swept:
    """Witnesses of the cells of a sweep, found from their numbers."""

    where: Coordinates
    rows: Rows
    bits: RowBits
    words: np.ndarray

    def __call__(self, index: np.ndarray) -> np.ndarray:
        n_lines, rank = self.rows.lines.shape
        positive = unpack(self.words[index], self.bits.n)[:, self.rows.first]
        out, begin = np.zeros((len(index), rank)), 0
        for level in _levels.levels(n_lines - 1, rank):
            end = begin + _levels.n_cells_of(n_lines - 1, level)
            of_level = np.flatnonzero((index >= begin) & (index < end))
            step = max(_AT_ONCE // max(n_lines, rank * rank), 1)
            for mine in (of_level[i : i + step] for i in range(0, len(of_level), step)):
                planes = planes_of(self.where, level, index[mine] - begin)
                found = witnesses(self.where, level, planes, positive[mine])
                out = out.astype(np.result_type(out, found), copy=False)
                out[mine] = found
            begin = end
        return out
