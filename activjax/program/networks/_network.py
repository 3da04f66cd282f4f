"""`Network`: a continuous piecewise linear function as affine maps between layers of hinges."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse
from jaxtyping import Float64, Int

Matrix: TypeAlias = Float64[np.ndarray, "source m"] | scipy.sparse.csr_array


def dense(matrix: Any) -> np.ndarray:
    """A matrix as a dense one."""
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()


@dataclass(frozen=True, eq=False)
class Affine:
    """`z = sum_s values[s] @ matrices[s] + bias`, for rows of values.

    Attributes:
      matrices: by source, `[size of the source, m]`, dense or CSR. Source 0 is the input, source
        `i + 1` the output of layer i.
      bias: `[m]`.
    """

    matrices: dict[int, Matrix]
    bias: Float64[np.ndarray, " m"]

    @property
    def size(self) -> int:
        """The number of values it gives."""
        return len(self.bias)

    @property
    def sources(self) -> dict[int, int]:
        """The size of each source that it reads."""
        return {s: int(m.shape[0]) for s, m in self.matrices.items()}  # pyright: ignore

    def linear(self, values: dict[int, np.ndarray]) -> np.ndarray:
        """Without the bias, `[n, m]` from rows `[n, size]` of each source."""
        z = np.zeros((len(next(iter(values.values()))), self.size))
        for source, matrix in self.matrices.items():
            z += values[source] @ matrix
        return z

    def __call__(self, values: dict[int, np.ndarray]) -> np.ndarray:
        """`[n, m]` from rows `[n, size]` of each source."""
        return self.linear(values) + self.bias

    def map(self, g: Any) -> Affine:
        """With `g` applied to each matrix and the bias, elementwise: `abs`, `np.square`."""
        return Affine({s: g(m) for s, m in self.matrices.items()}, g(self.bias))


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of hinges: rectifiers, or maxima over groups of its affine values.

    Attributes:
      affine: the values before the hinge.
      groups: None for rectifiers, one unit a value: its state is 1 where the value is above 0 (zero
        is inactive), its output `max(value, 0)`. Else `[units, n]`, numbers of values: the output
        is the largest of the group, the state the place in the group of the first that is it.
      name: the operation in the user's program.
    """

    affine: Affine
    groups: Int[np.ndarray, "units n"] | None = None
    name: str = ""

    @property
    def size(self) -> int:
        """The number of units, each with one output and one state."""
        return self.affine.size if self.groups is None else len(self.groups)

    @property
    def states(self) -> int:
        """How many states a unit has."""
        return 2 if self.groups is None else self.groups.shape[1]

    def state(self, z: np.ndarray) -> np.ndarray:
        """`[n, units]` states at values `[n, m]`."""
        return (z > 0) if self.groups is None else z[:, self.groups].argmax(-1)

    def output(self, z: np.ndarray) -> np.ndarray:
        """`[n, units]` outputs at values `[n, m]`."""
        return np.maximum(z, 0) if self.groups is None else z[:, self.groups].max(-1)

    def chosen(self, z: np.ndarray, states: np.ndarray) -> np.ndarray:
        """`[n, ..., units]` outputs of values `[n, ..., m]` where the states are `[n, units]`."""
        between = tuple(range(1, z.ndim - 1))
        if self.groups is None:
            return np.where(np.expand_dims(states, between) > 0, z, 0.0)
        picked = self.groups[np.arange(self.size), states]
        return np.take_along_axis(z, np.expand_dims(picked, between), -1)


@dataclass(frozen=True, eq=False)
class Network:
    """A continuous piecewise linear function of a vector.

    The matrices are the function's own constants in float64; the function is taken to be what its
    program says in real arithmetic.

    Attributes:
      size: length of the input.
      layers: in the order of evaluation.
      out: the outputs, flattened.
    """

    size: int
    layers: tuple[Layer, ...]
    out: Affine

    @property
    def units(self) -> int:
        """The number of units of all layers: the length of a pattern."""
        return sum(layer.size for layer in self.layers)

    @property
    def slices(self) -> list[slice]:
        """The units of each layer within a pattern."""
        ends = np.cumsum([0, *(layer.size for layer in self.layers)])
        return [slice(a, b) for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]

    @property
    def last_use(self) -> dict[int, int]:
        """By source, the last layer that reads it; `len(layers)` stands for the output."""
        maps = [*(layer.affine for layer in self.layers), self.out]
        return {source: i for i, affine in enumerate(maps) for source in affine.matrices}

    @property
    def state_dtype(self) -> Any:
        """The smallest unsigned integers that hold every state."""
        return np.min_scalar_type(max((layer.states for layer in self.layers), default=2) - 1)

    def __call__(self, x: Float64[np.ndarray, "n size"]) -> Float64[np.ndarray, "n out"]:
        """The function at rows."""
        return self._forward(x)[0]

    def pattern(self, x: Float64[np.ndarray, "n size"]) -> Int[np.ndarray, "n units"]:
        """The states of all units at rows."""
        return self._forward(x)[1]

    def _forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = {0: np.asarray(x, np.float64)}
        states = np.empty((len(x), self.units), self.state_dtype)
        for i, (layer, where) in enumerate(zip(self.layers, self.slices, strict=True)):
            z = layer.affine(values)
            states[:, where] = layer.state(z)
            values[i + 1] = layer.output(z)
        return self.out(values), states

    def forms(
        self, states: Int[np.ndarray, "n units"], layer: int | None = None
    ) -> Float64[np.ndarray, "n 1+size m"]:
        """The affine functions of the input that hold where the pattern is `states`.

        Args:
          states: patterns.
          layer: the values before this layer's hinges; None for the output.

        Returns:
          For each pattern the constants, then the coefficients of each input: at `x`,
          `forms[:, 0] + x @ forms[:, 1:]`.
        """
        n, k = len(states), self.size
        start = np.concatenate([np.zeros((1, k)), np.eye(k)])
        values = {0: np.broadcast_to(start, (n, k + 1, k)).reshape(-1, k)}
        slices = self.slices
        stop = len(self.layers) if layer is None else layer
        for i, part in enumerate(self.layers[:stop]):
            z = _linear(part.affine, values, n, k)
            chosen = part.chosen(z, states[:, slices[i]])
            values[i + 1] = chosen.reshape(n * (k + 1), part.size)
        return _linear(self.out if layer is None else self.layers[stop].affine, values, n, k)

    def restrict(
        self, origin: Float64[np.ndarray, " size"], directions: Float64[np.ndarray, "k size"]
    ) -> Network:
        """The function of coordinates `s`: this one at `origin + s @ directions`."""

        def on(affine: Affine) -> Affine:
            if 0 not in affine.matrices:
                return affine
            matrix = affine.matrices[0]
            moved = {**affine.matrices, 0: np.asarray(directions @ matrix)}
            return Affine(moved, affine.bias + origin @ matrix)

        layers = tuple(dataclasses.replace(x, affine=on(x.affine)) for x in self.layers)
        return Network(len(directions), layers, on(self.out))


def _linear(affine: Affine, values: dict[int, np.ndarray], n: int, k: int) -> np.ndarray:
    """An affine map of affine functions: the bias goes to the constants alone."""
    z = affine.linear(values).reshape(n, k + 1, affine.size)
    z[:, 0] += affine.bias
    return z
