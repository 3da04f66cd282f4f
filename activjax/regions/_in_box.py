"""`enumerate`, `count`, `is_piecewise_linear`: a function in a box of its whole input space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from activjax import program
from activjax.program.networks import Network, extract
from activjax.regions import _boxes
from activjax.regions._boxes import Regions
from activjax.regions._count import DEFINITIONS, Count, Definition, check_definition
from activjax.regions._on_plane import on_network

#: Cells that `count` looks for at most.
BUDGET = 100_000


def enumerate(
    f: Callable[[Any], Any], box: Float[ArrayLike, "*shape 2"], *, budget: int
) -> Regions:
    """All linear regions of a function in a box of its input space, of any dimension.

    Up to 8 dimensions cells are kept by their vertices, and every sign that float64 leaves open is
    decided in integers; in more, by linear programs. See `Regions` for what is certified.

    Args:
      f: one example to outputs (an array or a pytree of arrays of floats); continuous and piecewise
        linear.
      box: lower and upper bound of each element of the input: `[d, 2]` for a vector.
      budget: the most cells to find.

    Returns:
      The cells; where there are more than `budget`, `complete` is False.

    Raises:
      TypeError, ValueError: `f` is not continuous and piecewise linear (the operation is named), or
        the box has another shape, is not finite or has no inside; the budget is below 1.
      UnsupportedError: an operation of `f` is piecewise linear but not supported.
      OverflowError: products of weights are beyond float64.
    """
    network, bounds = _boxed("enumerate", f, box)
    return _boxes.enumerate(network, bounds, budget=budget)


def count(
    f: Callable[[Any], Any],
    box: Float[ArrayLike, "*shape 2"],
    *,
    definition: Definition | None = None,
    budget: int = BUDGET,
) -> Count | dict[Definition, Count]:
    """The number of linear regions of a function in a box, by one or all of the six definitions.

    For inputs of two elements the box is subdivided as by `on_plane`, which knows more of "convex"
    and "connected"; else the cells are those of `enumerate`. Along segments and on planes of larger
    inputs ask the results of `on_segment` and `on_plane`: they have `count` too.

    Args:
      f: as for `enumerate`.
      box: as for `enumerate`.
      definition: one of `DEFINITIONS`; None for all.
      budget: the most cells to find; with more, counts are lower bounds. Not asked for inputs of
        two elements.

    Returns:
      A `Count`, or one for each definition. A number that is not known exactly is an interval.

    Raises:
      as `enumerate`; ValueError for an unknown definition.
    """
    wanted = DEFINITIONS if definition is None else (check_definition("count", definition),)
    network, bounds = _boxed("count", f, box)
    if network.size == 2:
        found: Any = on_network(network, np.zeros(2), np.eye(2), bounds, "proper")
    else:
        found = _boxes.enumerate(network, bounds, budget=budget)
    counts: dict[Definition, Count] = {d: found.count(d) for d in wanted}
    return counts if definition is None else counts[definition]


def is_piecewise_linear(f: Callable[..., Any], x: Any) -> program.PiecewiseLinear:
    """Whether a function is piecewise linear, and the first operation that is not.

    Args:
      f: any function of one argument that JAX can trace.
      x: an input (a pytree of arrays or of `jax.ShapeDtypeStruct`s). Nothing is computed.

    Returns:
      The verdict of `program.piecewise_linear`: `.piecewise_linear`, `.continuous`,
      `.first_nonlinear` (None, or an operation with its name, line and reason) and `.breakpoints`.
    """
    return program.piecewise_linear(f)(x)


def _boxed(name: str, f: Callable[[Any], Any], box: Any) -> tuple[Network, np.ndarray]:
    given = np.asarray(box)
    bounds = given.astype(np.float64)
    if bounds.ndim < 1 or bounds.shape[-1] != 2:
        raise ValueError(f"{name}: box has shape {bounds.shape}, expected [*shape of the input, 2]")
    dtype = given.dtype if jnp.issubdtype(given.dtype, jnp.floating) else np.float64
    made = extract(name, f, np.zeros(bounds.shape[:-1], dtype))
    return made.network, bounds.reshape(made.network.size, 2)
