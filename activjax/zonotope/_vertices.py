"""Vertices of the zonotope of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from activjax.patterns import Codes
from activjax.zonotope import _engines
from activjax.zonotope._cells import cells_of
from activjax.zonotope._engines import Certificate, Method
from activjax.zonotope._rows import rows_of
from activjax.zonotope._words import unpack

_ROWS = 1 << 16  # patterns unpacked at a time


@dataclass(frozen=True, eq=False)
class Vertices:
    """The vertices of `Z = sum_i [0, x_i]`: one for each activation pattern `a`, `v(a) = X^T a`.

    Attributes:
        points: `[m, d]` float64, `v(a)`; Python numbers in an object array where `X` is one.
        codes: the patterns, words `[m, ceil(n / 32)]`, the units of which are the examples.
        certificate: as for `cells`.
    """

    points: np.ndarray
    codes: Codes
    certificate: Certificate

    def __len__(self) -> int:
        return self.codes.n


def vertices(X: Any, *, method: Method = "auto", budget: int | None = None) -> Vertices:
    """The vertices of the zonotope that the rows of a matrix generate.

    Two patterns never share a vertex: the vertex of a cell is the only maximum over `Z` of the
    linear functions in the cell (Matena and Raffel, "A Combinatorial Perspective on the
    Optimization of Shallow ReLU Networks", 2022, section 3).

    Args:
        X: `[n, d]` real numbers, examples (generators) in rows.
        method, budget: as for `cells`.

    Returns:
        Vertices. Points are sums of up to `n` numbers in float64: exact for integers below
        `2^53 / n`, else within `n u sum_i |x_i|`, u the unit roundoff.

    Raises:
        ValueError, TypeError: as `cells`.
    """
    limit = _engines.checked(method, budget, "vertices")
    rows = rows_of(X, "vertices: X")
    found = cells_of(rows, method, limit)
    words, given = np.asarray(found.codes.words), rows.given
    points = [
        unpack(words[i : i + _ROWS], len(given)).astype(given.dtype) @ given
        for i in range(0, len(words), _ROWS)
    ]
    return Vertices(np.concatenate(points), found.codes, found.certificate)
