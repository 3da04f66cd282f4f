"""Trace a function of pytrees into a program of equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from activjax.program import _compat


@dataclass(frozen=True)
class Arguments:
    """The leaves of a call, arrays apart from everything else."""

    treedef: Any
    arrays: tuple[Any, ...]
    static: tuple[tuple[int, Any], ...]

    def without_arrays(self) -> Arguments:
        """The same call with its arrays forgotten."""
        return Arguments(self.treedef, (), self.static)

    def merge(self, arrays: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The `(args, kwargs)` of the call, with other arrays in the arrays' places."""
        static = dict(self.static)
        rest = iter(arrays)
        n = self.treedef.num_leaves
        leaves = [static[i] if i in static else next(rest) for i in range(n)]
        return jax.tree_util.tree_unflatten(self.treedef, leaves)


def is_array(leaf: Any) -> bool:
    """Whether a leaf of a call is traced."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct))


def split_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Split a call's leaves: arrays are traced; numbers, strings, flags and objects stay static."""
    leaves, treedef = jax.tree_util.tree_flatten((args, kwargs))
    arrays = tuple(leaf for leaf in leaves if is_array(leaf))
    static = tuple((i, leaf) for i, leaf in enumerate(leaves) if not is_array(leaf))
    return Arguments(treedef, arrays, static)


@dataclass(frozen=True)
class Program:
    """A traced function: its equations, the arrays they take, and the shape of what it returns."""

    closed: _compat.ClosedJaxpr
    arguments: Arguments
    out_shape: Any

    def unflatten(self, flat: list[Any]) -> Any:
        """The function's own output structure around a flat list of outputs, as arrays."""
        shapes, treedef = jax.tree_util.tree_flatten(self.out_shape)
        # An output that is a literal of the program comes as a number with a dtype.
        arrays = [
            out if isinstance(out, jax.Array) else jax.numpy.asarray(out, shape.dtype)
            for out, shape in zip(flat, shapes, strict=True)
        ]
        return jax.tree_util.tree_unflatten(treedef, arrays)


def trace(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Program:
    """Trace `f` at its arguments, once.

    Args:
      f: any function that JAX can trace.
      *args: arrays, `jax.ShapeDtypeStruct`s and pytrees of them; other leaves (numbers, strings,
        `train=True`) are static.
      **kwargs: the same.

    Returns:
      The program. No floating-point operation is done.
    """
    arguments = split_arguments(args, kwargs)

    def flat(*arrays: Any) -> Any:
        a, k = arguments.merge(arrays)
        return f(*a, **k)

    closed, out_shape = jax.make_jaxpr(flat, return_shape=True)(*arguments.arrays)
    return Program(closed, arguments, out_shape)
