"""`on_segment`, `on_segments`: the linear regions of a function along segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float

from activjax.program.networks import extract
from activjax.regions._count import Definition
from activjax.regions._segments import Engine, segments
from activjax.regions._segments_result import Segments


def on_segment(
    f: Callable[[Any], Any],
    x0: Float[ArrayLike, "*shape"],
    x1: Float[ArrayLike, "*shape"],
    *,
    definition: Definition = "proper",
) -> Segments:
    """The linear regions of a function along the segment from `x0` to `x1`, exactly.

    Breakpoints are found layer by layer, by linear interpolation of the values before each hinge
    (Hanin and Rolnick 2019), in float64.

    Args:
      f: one example to outputs (an array or a pytree of arrays of floats); continuous and piecewise
        linear, by any operations of which the program is made.
      x0, x1: inputs.
      definition: what counts as a region; see `activjax.regions.DEFINITIONS`.

    Returns:
      `Segments` with one segment.

    Raises:
      TypeError, ValueError: `f` is not continuous and piecewise linear (the operation is named), or
        the ends have different shapes, are not finite, or are the same point.
      UnsupportedError: an operation of `f` is piecewise linear but not supported.

    Example:
      >>> found = regions.on_segment(lambda x: net(params, x), a, b)  # doctest: +SKIP
      >>> found.breakpoints(0), found.slope, found.certificate  # doctest: +SKIP
    """
    if np.shape(x0) != np.shape(x1):
        raise ValueError(
            f"on_segment: x0 has shape {np.shape(x0)} and x1 {np.shape(x1)}, expected two inputs "
            "of the same shape"
        )
    made = extract("on_segment", f, x0)
    ends = (np.reshape(x, (1, made.network.size)) for x in (x0, x1))
    return segments(made.network, *ends, definition=definition)


def on_segments(
    f: Callable[[Any], Any],
    x0: Float[ArrayLike, "S *shape"],
    x1: Float[ArrayLike, "S *shape"],
    *,
    definition: Definition = "proper",
    engine: Engine = "host",
) -> Segments:
    """The same along many segments at once, from `x0[i]` to `x1[i]`.

    Args:
      f: a function of one example, as for `on_segment`.
      x0, x1: inputs, segments first.
      definition: as for `on_segment`.
      engine: "host": NumPy, float64, ragged. "jax": the same on the default device, vmapped with
        padded room for breakpoints; a segment that needs more is run again with twice as much.
        "jax32": in float32, which misses pieces that are shorter than its rounding (0.2 % of those
        of a network of 6 x 64 units), none longer than 1e-2 of a segment there, and puts
        breakpoints within 1e-4 of their places. The certificate says what was missed.

    Raises:
      TypeError, ValueError, UnsupportedError: as `on_segment`; there is no axis of segments.
    """
    if np.shape(x0) != np.shape(x1) or not np.ndim(x0):
        raise ValueError(
            f"on_segments: x0 has shape {np.shape(x0)} and x1 {np.shape(x1)}, expected "
            "[segments, ...] twice"
        )
    start = np.asarray(x0)
    like = np.zeros(start.shape[1:], start.dtype)
    made = extract("on_segments", f, like)
    ends = (np.reshape(x, (len(start), made.network.size)) for x in (x0, x1))
    return segments(made.network, *ends, definition=definition, engine=engine)
