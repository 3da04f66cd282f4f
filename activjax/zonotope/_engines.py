"""Which engine enumerates an arrangement, and what it may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from numbers import Integral
from typing import Any, Literal, TypeVar

import jax
import numpy as np

from activjax.zonotope import _device, _generic, _levels
from activjax.zonotope._coordinates import Coordinates, coordinates
from activjax.zonotope._exact_line import Degenerate, Redraw
from activjax.zonotope._generic import Part
from activjax.zonotope._rows import Rows
from activjax.zonotope._words import RowBits, row_bits

Certificate = Literal["generic-certified", "exact-integer", "uncertified"]
Method = Literal["auto", "generic", "jax", "exact"]
Sweep = Callable[..., Iterator[Part]]
T = TypeVar("T")

BUDGET = 4 << 30
"""Bytes that a result may take where no budget is given."""
_METHODS = ("auto", "generic", "jax", "exact")
_DRAWS = 4
_WORTH_A_DEVICE = 1_000_000  # cells
_IEEE = ("cpu", "gpu", "cuda", "rocm")  # float64 is what the error bound assumes


def checked(method: str, budget: int | None, what: str) -> int:
    """The budget in bytes.

    Raises:
        ValueError: an unknown method, or a budget that is no positive integer.
    """
    if method not in _METHODS:
        raise ValueError(f"{what}: method is {method!r}, expected one of {', '.join(_METHODS)}")
    if budget is None:
        return BUDGET
    if not _is_whole(budget) or budget < 1:
        raise ValueError(f"{what}: budget is {budget!r}, expected a positive number of bytes")
    return int(budget)


def _is_whole(value: Any) -> bool:
    """Whether it is an integer, or a float that is one (as 1e9 is)."""
    if isinstance(value, bool):
        return False
    return isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())


def bytes_of(n_cells: int, bits: RowBits) -> int:
    """What the patterns of that many cells take."""
    return n_cells * 4 * -(-bits.n // 32)


def first_half(
    rows: Rows, bits: RowBits, method: Method
) -> tuple[Coordinates, np.ndarray, Certificate] | None:
    """Patterns of the cells with the last line positive, by the sweep; None where not simple.

    Returns:
        The coordinates, `[m, words]` uint64 in the order of the sweep, and the certificate.
    """

    def visit(where: Coordinates, sweep: Sweep) -> tuple[Coordinates, np.ndarray, Certificate]:
        words = np.concatenate([part.words for part in sweep(where, bits)])
        return where, words, _certificate(sweep)

    return _in_general_directions(rows, method, visit)


def parts(
    rows: Rows, bits: RowBits, method: Method, chunk: int
) -> tuple[Iterator[Part], Certificate] | None:
    """The same part by part: swept once to see that it is simple, then for the cells."""

    def visit(where: Coordinates, sweep: Sweep) -> tuple[Iterator[Part], Certificate]:
        for _ in sweep(where, bits, chunk):
            pass
        return sweep(where, bits, chunk), _certificate(sweep)

    return _in_general_directions(rows, method, visit)


def is_simple(rows: Rows) -> bool:
    """Whether a sweep shows that no more hyperplanes meet than in general position.

    The vertices of the first level are enough: general position of the arrangement is that of the
    affine one in which the last line's value is 1.
    """
    n_lines, rank = rows.lines.shape
    # Lines for rows: words of rows are not wanted, and duplicates can be many.
    alone = replace(rows, of=np.arange(n_lines), sign=np.ones(n_lines, np.int8))
    bits = row_bits(alone)

    def visit(where: Coordinates, sweep: Sweep) -> bool:
        return any(part.level.size < rank - 1 for part in sweep(where, bits))

    return _in_general_directions(rows, "generic", visit) is not None


def _in_general_directions(
    rows: Rows, method: Method, visit: Callable[[Coordinates, Sweep], T]
) -> T | None:
    """What `visit` returns for the first directions that are general; None where not simple."""
    n_lines, rank = rows.lines.shape
    many = 2 * _levels.n_cells(n_lines - 1, rank) > _WORTH_A_DEVICE
    device = method == "jax" or (method == "auto" and many and jax.default_backend() == "gpu")
    for seed in range(_DRAWS):
        try:
            return visit(coordinates(rows.lines, seed), _device.sweep if device else _generic.sweep)
        except Redraw:
            continue
        except Degenerate:
            return None
    return None


def _certificate(sweep: Sweep) -> Certificate:
    trusted = sweep is _generic.sweep or jax.default_backend() in _IEEE
    return "generic-certified" if trusted else "uncertified"


def not_general(what: str, method: str) -> ValueError:
    """The error for an arrangement that the sweep cannot enumerate."""
    return ValueError(
        f"{what}: method {method!r} needs rows in general position, and some of these meet in more "
        'than that allows; use method="auto" or "exact"'
    )
