"""The network of a problem as the checker sees it: exact steps, in floats and in integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import jax
import numpy as np

from activjax.program.networks import Affine, ExactNetwork, Matrix, extract_exactly
from activjax.verify._problem import Problem


@dataclass(frozen=True, eq=False)
class Part:
    """A step of the network, or its output.

    Attributes:
      affine: its constants, float64 and exact.
      divisor: `[m]` or None.
      units: the numbers of its rectifiers; None of a linear step.
    """

    affine: Affine
    divisor: np.ndarray | None
    units: slice | None

    @cached_property
    def sizes(self) -> dict[int, Matrix]:
        """Absolute values of the matrices."""
        return {s: abs(m) for s, m in self.affine.matrices.items()}  # pyright: ignore

    @cached_property
    def integers(self) -> dict[int, Any]:
        """By source, the matrix in integers; -1 is the bias."""
        made: dict[int, Any] = {s: Integers.of(m) for s, m in self.affine.matrices.items()}
        made[-1] = Integers.of(self.affine.bias)
        return made

    @property
    def size(self) -> int:
        """The number of its values."""
        return self.affine.size


@dataclass(frozen=True, eq=False)
class Steps:
    """The parts of a network, the output last.

    Attributes:
      inputs, units: numbers of inputs and rectifiers.
      parts: part i gives source `i + 1`; the last one is the output.
      nonlinear: by part, whether it reads what depends on a rectifier.
      network: itself.
    """

    inputs: int
    units: int
    parts: tuple[Part, ...]
    nonlinear: tuple[bool, ...]
    network: ExactNetwork

    @classmethod
    def of(cls, problem: Problem) -> Steps:
        """The exact network of a problem.

        Raises:
          UnsupportedError, ValueError: the network is not one that can be proved about; the
            operation is named.
        """
        example = jax.ShapeDtypeStruct(problem.input_shape, problem.dtype)
        network: ExactNetwork = extract_exactly(
            "verify.check", lambda x: problem.apply(problem.params, x), example
        )
        parts, at = [], 0
        for step in network.steps:
            units = slice(at, at + step.size) if step.rectifies else None
            at = units.stop if units else at
            parts.append(Part(step.affine, step.divisor, units))
        parts.append(Part(network.out, None, None))
        bent = {0: False}  # whether a source depends on a rectifier
        for i, part in enumerate(parts):
            bent[i + 1] = part.units is not None or any(bent[s] for s in part.affine.matrices)
        behind = tuple(any(bent[s] for s in part.affine.matrices) for part in parts)
        return cls(network.size, network.units, tuple(parts), behind, network)

    def exactly(self, x: Sequence[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
        """The values of all rectifiers before they rectify, and the outputs; slow."""
        return self.network.values(x)

    @property
    def rectifiers(self) -> list[tuple[int, slice]]:
        """The number of each part that rectifies, and its units."""
        return [(i, p.units) for i, p in enumerate(self.parts) if p.units is not None]


@dataclass(frozen=True, eq=False)
class Integers:
    """A matrix or vector of floats as integers times `2**exponent`, exactly.

    Attributes:
      values: Python integers in an object array; of a sparse matrix, of its entries.
      exponent: of two.
      sparse: the rows and columns of the entries, in the order of rows; None where dense.
      shape: of the matrix.
    """

    values: np.ndarray
    exponent: int
    sparse: tuple[np.ndarray, np.ndarray] | None
    shape: tuple[int, ...]

    @classmethod
    def of(cls, matrix: Any) -> Integers:
        """Of a dense or a CSR matrix."""
        if isinstance(matrix, np.ndarray):
            return cls(*integers(matrix), None, matrix.shape)
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        return cls(*integers(matrix.data), (rows, matrix.indices), matrix.shape)

    def times(self, vector: np.ndarray) -> np.ndarray:
        """`matrix @ vector` for a vector of Python integers."""
        used = np.flatnonzero(vector)
        if self.sparse is None:
            if len(used) == len(vector):
                return self.values.dot(vector)
            if not len(used):
                return np.zeros(self.shape[0], object)
            return self.values[:, used].dot(vector[used])
        rows, columns = self.sparse
        out = np.zeros(self.shape[0], object)
        np.add.at(out, rows, self.values * vector[columns])
        return out


def integers(x: np.ndarray) -> tuple[np.ndarray, int]:
    """Finite floats as Python integers times one power of two: `(integers, exponent)`."""
    fraction, exponent = np.frexp(x)
    whole = (fraction * 2.0**53).astype(np.int64)
    used = whole != 0
    if not used.any():
        return np.zeros(x.shape, object), 0
    # Trailing zeros go: float32 numbers have 29 of them.
    zeros = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    whole = np.where(used, whole >> np.maximum(zeros, 0), 0)
    exponent = exponent - 53 + zeros
    lowest = int(exponent[used].min())
    shift = np.where(used, exponent - lowest, 0)
    if (shift < 9).all():
        return (whole << shift).astype(object), lowest
    return whole.astype(object) << shift.astype(object), lowest
