"""`on_plane`: the linear regions of a function on a plane of its input space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Float64

from activjax.program.networks import extract
from activjax.regions._box import check_box
from activjax.regions._count import Definition, check_definition
from activjax.regions._planes import subdivide
from activjax.regions._polygons import Polygons, polygons


def on_plane(
    f: Callable[[Any], Any],
    origin: Float[ArrayLike, "*shape"],
    basis: Float[ArrayLike, "2 *shape"],
    box: Float[ArrayLike, "2 2"],
    *,
    definition: Definition = "proper",
) -> Polygons:
    """The linear regions of a function on a rectangle of a plane, exactly.

    The breakpoints come from the program itself: `f` may be any function of one array that is
    continuous and piecewise linear, whatever library it was written in. Each hinge cuts the convex
    cells of the hinges before it (Hanin and Rolnick 2019; edge subdivision: Berzins 2023), in
    float64 on the host. The values of a unit at vertices decide; one within `2^5` standard
    deviations of its own rounding error is taken for 0, so pieces thinner than that are not seen.

    Args:
      f: one example to outputs (an array or a pytree of arrays of floats).
      origin: an input.
      basis: two directions, linearly independent; they need not be orthonormal.
      box: lower and upper bound of each of the two coordinates: `[[a0, a1], [b0, b1]]`.
      definition: what counts as a region; see `activjax.regions.DEFINITIONS`.

    Returns:
      The cells, their adjacency, patterns, areas and affine maps, and a certificate: see
      `Polygons.certificate`.

    Raises:
      TypeError, ValueError: `f` is not continuous and piecewise linear (the operation is named), or
        the arguments have wrong shapes, are not finite, or do not span a rectangle.
      UnsupportedError: an operation of `f` is piecewise linear but not supported.
      ArithmeticError: rounding made the signs of a unit contradict one another.

    Example:
      >>> found = regions.on_plane(lambda x: net(params, x), a, basis, box)  # doctest: +SKIP
      >>> len(found), found.euler, found.certificate  # doctest: +SKIP
    """
    definition = check_definition("on_plane", definition)
    made = extract("on_plane", f, origin)
    start, ways = _plane("on_plane", origin, basis, made.shape)
    rectangle = check_box("on_plane", box, 2)
    return on_network(made.network, start, ways, rectangle, definition)


def on_network(
    network: Any, origin: np.ndarray, basis: np.ndarray, box: np.ndarray, definition: Definition
) -> Polygons:
    """The same for a network in normal form and flat arrays."""
    found = subdivide(network.restrict(origin, basis), box)
    made = polygons(network, origin, basis, box, found)
    return made if definition == "proper" else made.by(definition)


class Plane(NamedTuple):
    """A rectangle of a plane, in the order of `on_plane`'s arguments.

    Attributes:
      origin: `[*shape]`.
      basis: `[2, *shape]`, orthonormal.
      box: `[2, 2]`.
    """

    origin: np.ndarray
    basis: np.ndarray
    box: np.ndarray


def plane_through(
    a: Float[ArrayLike, "*shape"],
    b: Float[ArrayLike, "*shape"],
    c: Float[ArrayLike, "*shape"],
    *,
    margin: float = 0.25,
) -> Plane:
    """The plane through three inputs, with a box around them.

    Args:
      a, b, c: inputs that are not on one line. `a` gets the coordinates (0, 0), `b` lies on the
        first axis; lengths on the plane are Euclidean lengths of the input space.
      margin: of the box, as a share of its sides.

    Raises:
      ValueError: different shapes, numbers that are not finite, points on a line, or a margin that
        leaves no box.
    """
    if not margin > -0.5:
        raise ValueError(f"plane_through: margin is {margin}, expected more than -0.5")
    points = [np.asarray(p, np.float64) for p in (a, b, c)]
    if len({p.shape for p in points}) > 1:
        raise ValueError(f"plane_through: shapes differ: {[p.shape for p in points]}")
    ways = np.stack([(p - points[0]).ravel() for p in points[1:]])
    start, _ = _plane("plane_through", points[0], ways, points[0].shape)
    q, r = np.linalg.qr(ways.T)
    q = q * np.sign(np.diag(r))
    at = np.concatenate([np.zeros((1, 2)), ways @ q])
    low, high = at.min(0), at.max(0)
    box = np.stack([low - margin * (high - low), high + margin * (high - low)], 1)
    shape = points[0].shape
    return Plane(start.reshape(shape), q.T.reshape(2, *shape), box)


def _plane(
    name: str, origin: Any, basis: Any, shape: tuple[int, ...]
) -> tuple[Float64[np.ndarray, " size"], Float64[np.ndarray, "2 size"]]:
    start, ways = np.asarray(origin, np.float64), np.asarray(basis, np.float64)
    size = int(np.prod(shape))
    if ways.shape not in ((2, *shape), (2, size)):
        raise ValueError(f"{name}: basis has shape {ways.shape}, expected {(2, *shape)}")
    start, ways = start.ravel(), ways.reshape(2, size)
    if not (np.isfinite(start).all() and np.isfinite(ways).all()):
        raise ValueError(f"{name}: the origin or the basis has NaN or infinite entries")
    gaps = np.linalg.svd(ways, compute_uv=False)
    if len(gaps) < 2 or gaps[1] <= 1e-12 * gaps[0]:
        raise ValueError(f"{name}: the directions are linearly dependent and span no plane")
    return start, ways
