"""How an operation uses a matrix of parameters: as rows of inputs and rows of outputs.

A dense layer, a convolution (through its patches) and a table that is looked up are all
`out = rows @ W`, up to the layout of their arrays. Here are the layouts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from activjax import program
from activjax.membership._factors import Dense, OneHot, Side
from activjax.program import _compat


@dataclass(frozen=True)
class Axes:
    """Axes of a matrix's leaf: blocks, those of its rows and those of its columns."""

    blocks: tuple[int | None, ...]
    rows: tuple[int | None, ...]
    columns: tuple[int | None, ...]


class DenseUse:
    """A `dot_general` whose operand `operand` is the matrix."""

    def __init__(self, eqn: program.Equation, operand: int) -> None:
        contracting, batch = eqn.params["dimension_numbers"]
        self.operand, self.other = operand, 1 - operand
        self.precision = eqn.params["precision"]
        shape, other = _compat.shape(eqn.invars[operand]), _compat.shape(eqn.invars[self.other])
        self._sums, self._batch = tuple(contracting[self.other]), tuple(batch[self.other])
        self._free = _rest(len(other), self._sums, self._batch)
        mine = tuple(contracting[operand]), tuple(batch[operand])
        free = _rest(len(shape), *mine)
        self.axes = Axes(mine[1], mine[0], free)
        self.groups = math.prod(shape[i] for i in mine[1])
        self.rows = math.prod(other[i] for i in self._free)
        self.inputs = math.prod(shape[i] for i in mine[0])
        self.outputs = math.prod(shape[i] for i in free)
        # what `dot_general` puts out: batch, then the left operand's free axes, then the right's
        n, first, second = len(self._batch), len(self._free), len(free)
        if operand == 1:
            self._out = tuple(range(n + first + second))
        else:
            mine_at = tuple(range(n, n + second))
            self._out = (*range(n), *range(n + second, n + second + first), *mine_at)

    def reorder(self, rows: list[int], columns: list[int]) -> None:
        """Take the axes of rows and of columns in another order, for another use of the matrix."""
        self._sums = tuple(self._sums[i] for i in rows)
        n = len(self._batch) + len(self._free)
        self._out = (*self._out[:n], *(self._out[n + i] for i in columns))

    def side(self, other: Array) -> Side:
        """The rows of inputs, from the other operand."""
        moved = other.transpose((*self._batch, *self._free, *self._sums))
        return Dense(moved.reshape(self.groups, self.rows, self.inputs))

    def out_rows(self, out: Array) -> Array:
        """The rows of outputs."""
        return out.transpose(self._out).reshape(self.groups, self.rows, self.outputs)

    def out(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """An output of that shape, from its rows."""
        return _laid_out(rows, shape, self._out)


def _laid_out(rows: Array, shape: tuple[int, ...], order: tuple[int, ...]) -> Array:
    """An array of that shape, from its values in another order of axes."""
    back = tuple(np.argsort(order).tolist())
    return rows.reshape(tuple(shape[i] for i in order)).transpose(back)


def _rest(n: int, *taken: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(i for i in range(n) if not any(i in t for t in taken))


class ConvolutionUse:
    """A `conv_general_dilated` whose kernel is the matrix, by input patch and output channel."""

    operand, other = 1, 0

    def __init__(self, eqn: program.Equation) -> None:
        p = eqn.params
        self._numbers = numbers = p["dimension_numbers"]
        self.precision = p["precision"]
        kernel, out = _compat.shape(eqn.invars[1]), _compat.shape(eqn.outvars[0])
        channels_out, channels_in, *window = numbers.rhs_spec
        self._window = tuple(kernel[i] for i in window)
        self._options = {
            "window_strides": p["window_strides"],
            "padding": p["padding"],
            "lhs_dilation": p["lhs_dilation"],
            "rhs_dilation": p["rhs_dilation"],
        }
        self.axes = Axes((), (channels_in, *window), (channels_out,))
        self.groups = p["feature_group_count"]
        self.inputs = kernel[channels_in] * math.prod(self._window)
        self.outputs = kernel[channels_out] // self.groups
        batch, feature, *space = numbers.out_spec
        self._out = (batch, *space, feature)
        self.rows = out[batch] * math.prod(out[i] for i in space)

    def side(self, other: Array) -> Side:
        """The patches of the image under the kernel."""
        # Exact whatever the precision: every sum has one term.
        patches = jax.lax.conv_general_dilated_patches(
            other,
            self._window,
            dimension_numbers=self._numbers,
            precision=jax.lax.Precision.HIGHEST,
            **self._options,
        )
        rows = patches.transpose(self._out).reshape(self.rows, self.groups, self.inputs)
        return Dense(jnp.swapaxes(rows, 0, 1))

    def out_rows(self, out: Array) -> Array:
        """The rows of outputs."""
        rows = out.transpose(self._out).reshape(self.rows, self.groups, self.outputs)
        return jnp.swapaxes(rows, 0, 1)

    def out(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """An output of that shape, from its rows."""
        return _laid_out(jnp.swapaxes(rows, 0, 1), shape, self._out)


class LookupUse:
    """A `gather` of whole rows of the matrix, along one axis."""

    operand, other, groups = 0, 1, 1
    precision = "highest"

    def __init__(self, eqn: program.Equation) -> None:
        p = eqn.params
        numbers = p["dimension_numbers"]
        table, indices = _compat.shape(eqn.invars[0]), _compat.shape(eqn.invars[1])
        out = _compat.shape(eqn.outvars[0])
        (self._axis,) = numbers.start_index_map
        self._drops = p["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP
        self.inputs, self.outputs = table[self._axis], math.prod(table) // table[self._axis]
        self.rows = math.prod(indices[:-1])
        kept = tuple(numbers.offset_dims)
        self._out = (*(i for i in range(len(out)) if i not in kept), *kept)
        rest = tuple(i for i in range(len(table)) if i != self._axis)
        self.axes = Axes((), (self._axis,), rest)

    @staticmethod
    def covers(eqn: program.Equation) -> bool:
        """Whether it looks up whole rows along one axis."""
        p, table = eqn.params, _compat.shape(eqn.invars[0])
        axes = p["dimension_numbers"].start_index_map
        full = (n == m or i in axes for i, (n, m) in enumerate(zip(p["slice_sizes"], table)))
        return (
            len(axes) == 1
            and p["slice_sizes"][axes[0]] == 1
            and not p["dimension_numbers"].operand_batching_dims
            and all(full)
        )

    def side(self, other: Array) -> Side:
        """The numbers of the rows."""
        index = other.reshape(self.rows)
        if jnp.iinfo(index.dtype).max < self.inputs:  # the bound would not fit
            index = index.astype(jnp.int32)
        if self._drops:
            index = jnp.where((index < 0) | (index >= self.inputs), self.inputs, index)
        return OneHot(jnp.clip(index, 0, self.inputs - (not self._drops)), self.inputs)

    def out_rows(self, out: Array) -> Array:
        """The rows that were found."""
        return out.transpose(self._out).reshape(1, self.rows, self.outputs)

    def out(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """An output of that shape, from its rows."""
        return _laid_out(rows, shape, self._out)


MatrixUse = DenseUse | ConvolutionUse | LookupUse


def matrix_use(eqn: program.Equation, operand: int) -> MatrixUse | None:
    """How an equation uses its operand as a matrix; None if it does not, or not in a known way."""
    name = eqn.primitive.name
    if name == "dot_general":
        return DenseUse(eqn, operand)
    if name == "conv_general_dilated" and operand == 1 and eqn.params["batch_group_count"] == 1:
        return ConvolutionUse(eqn)
    if name == "gather" and operand == 0 and LookupUse.covers(eqn):
        return LookupUse(eqn)
    return None
