"""Affine functions of the input that hold on a cell: in float64 with error bounds, and exactly.

The bounds are those of standard rounding error analysis (Higham, "Accuracy and Stability of
Numerical Algorithms", 2nd ed., section 3.1): a sum of n products, in any order, is off by at most
`n u / (1 - n u)` times the sum of their sizes, besides underflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from activjax.program.networks import Affine, Layer, Network, dense

UNIT = np.finfo(np.float64).eps / 2
FLOOR = 1e-290  # above what underflow can do to a sum of 10^18 products
SLACK = 1 + 1e-6  # for the rounding of the bounds themselves

Integers = tuple[np.ndarray, int]


class Forms:
    """Affine functions: constants and then coefficients of each input, `[1 + d, m]`.

    Attributes:
      value: in float64.
      error: bounds on what rounding did to `value`; 0 only where the function is exactly 0.
    """

    def __init__(self, value: np.ndarray, error: np.ndarray, recipe: Any):
        self.value, self.error = value, error
        self._recipe: Any = recipe
        self._exact: Integers | None = None

    @property
    def exact(self) -> Integers:
        """Integers `[1 + d, m]` (Python's) and the power of 2 to divide them by."""
        if self._exact is None:
            # Ancestors first, in a loop: recursion would be as deep as the network.
            stack: list[Forms] = [self]
            while stack:
                compute, needs = stack[-1]._recipe
                missing = [f for f in needs if f._exact is None]
                if missing:
                    stack += missing
                else:
                    form = stack.pop()
                    form._exact = compute()
        assert self._exact is not None
        return self._exact

    def at(self, points: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values `[n, m]` at points `[n, d]` that are off by at most `errors`, and their bounds."""
        return at(self.value, self.error, points, errors)


def at(
    value: np.ndarray, error: np.ndarray, points: np.ndarray, errors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """See `Forms.at`."""
    z = value[0] + points @ value[1:]
    size = np.abs(value)
    own = error + (len(value) + 2) * UNIT * size
    bound = own[0] + np.abs(points) @ own[1:] + errors @ (size[1:] + error[1:])
    some = (own > 0).any(0) | (size > 0).any(0)
    return z, np.where(some, bound * SLACK + FLOOR, 0.0)


@dataclass(frozen=True, eq=False)
class _Part:
    matrix: Any
    size: Any
    there: Any


def _part(matrix: Any) -> _Part:
    return _Part(matrix, abs(matrix), (matrix != 0).astype(np.float64))


class Programs:
    """The forms of a network's layers, from states, layer by layer."""

    def __init__(self, network: Network):
        self.network = network
        self._affine = [*(layer.affine for layer in network.layers), network.out]
        self._parts = [{s: _part(m) for s, m in a.matrices.items()} for a in self._affine]
        self._last = network.last_use
        self._integers: dict[int, tuple[dict[int, Integers], Integers]] = {}

    def input(self) -> Forms:
        """The coordinates."""
        d = self.network.size
        value = np.concatenate([np.zeros((1, d)), np.eye(d)])
        return Forms(value, np.zeros_like(value), (lambda: (_object(value), 0), ()))

    def before(self, layer: int, sources: dict[int, Forms]) -> Forms:
        """The values before a layer's hinges, from the sources; layer `len(layers)` is the output.

        Raises:
          OverflowError: beyond float64.
        """
        parts, bias = self._parts[layer], self._affine[layer].bias
        value = np.zeros((1 + self.network.size, len(bias)))
        value[0] = bias
        size, error, there = np.abs(value), np.zeros_like(value), np.abs(np.sign(value))
        terms = 2
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            for s, part in parts.items():
                f = sources[s]
                value += f.value @ part.matrix
                size += np.abs(f.value) @ part.size
                error += f.error @ part.size
                there += ((f.value != 0) | (f.error > 0)) @ part.there
                terms += part.matrix.shape[0] + 1
        if not np.isfinite(size).all():
            raise OverflowError("enumerate: products of the weights are beyond float64: rescale")
        # A lone bias is exact: nothing was added to it.
        rounding = error + terms * UNIT / (1 - terms * UNIT) * size
        lone = (there[0] == (bias != 0)) & (bias != 0)
        error = np.where(there > 0, rounding * SLACK + FLOOR, 0.0)
        error[0, lone] = FLOOR
        needs = tuple(sources[s] for s in parts)
        return Forms(value, error, (lambda: self._exactly(layer, sources), needs))

    def after(self, layer: int, forms: Forms, states: np.ndarray) -> Forms:
        """The outputs of a layer from the values before its hinges, and its states `[units]`."""
        chosen = self.network.layers[layer]

        def pick(z: np.ndarray) -> np.ndarray:
            return _chosen(chosen, z, states)

        def exactly() -> Integers:
            integers, shift = forms.exact
            return pick(integers), shift

        return Forms(pick(forms.value), pick(forms.error), (exactly, (forms,)))

    def onward(
        self, layer: int, sources: dict[int, Forms], forms: Forms, states: np.ndarray
    ) -> dict[int, Forms]:
        """The sources that later layers read, once the states `[units]` of a layer are known."""
        made = {**sources, layer + 1: self.after(layer, forms, states)}
        return {s: f for s, f in made.items() if self._last.get(s, -1) > layer}

    def units(self, layer: int) -> np.ndarray:
        """The numbers of a layer's units; none behind the last layer."""
        layers = self.network.layers
        return np.arange(layers[layer].size if layer < len(layers) else 0)

    def _exactly(self, layer: int, sources: dict[int, Forms]) -> Integers:
        if layer not in self._integers:
            affine: Affine = self._affine[layer]
            matrices = {s: to_integers(dense(m)) for s, m in affine.matrices.items()}
            self._integers[layer] = matrices, to_integers(affine.bias)
        matrices, (bias, shift) = self._integers[layer]
        parts = []
        for s, (matrix, power) in matrices.items():
            # Rows that are 0 on this cell are left out: most are, and Python's integers are slow.
            integers, below = sources[s].exact
            used = (integers != 0).any(0)
            parts.append((integers[:, used] @ matrix[used], below + power))
        most = max([shift, *(p for _, p in parts)])
        total = np.zeros((1 + self.network.size, len(bias)), object)
        total[0] = bias * (1 << (most - shift))
        for z, power in parts:
            total = total + z * (1 << (most - power))
        return total, most


def to_integers(numbers: np.ndarray) -> Integers:
    """Python integers and the power of 2 that they are to be divided by: the floats exactly."""
    mantissa, exponent = np.frexp(numbers)
    integer = np.ldexp(mantissa, 53).astype(np.int64).astype(object)
    some = numbers != 0
    low = min(int(exponent[some].min()) - 53, 0) if some.any() else 0
    shift = np.where(some, exponent - 53 - low, 0).astype(object)
    powers = np.array([1 << int(e) for e in shift.ravel()], object).reshape(numbers.shape)
    return integer * powers, -low


def _object(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.int64).astype(object)


def _chosen(layer: Layer, z: np.ndarray, states: np.ndarray) -> np.ndarray:
    if layer.groups is None:
        out = z.copy()
        out[:, states == 0] = 0
        return out
    return z[:, layer.groups[np.arange(layer.size), states]]
