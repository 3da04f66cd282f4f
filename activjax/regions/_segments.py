"""`segments`: exact linear regions of a network along segments."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from activjax.program.networks import Network
from activjax.regions._count import Definition, check_definition
from activjax.regions._segments_host import sweep
from activjax.regions._segments_jax import sweep as sweep_on_device
from activjax.regions._segments_result import Segments, made

_DTYPES = {"jax": np.float64, "jax32": np.float32}


Engine = Literal["host", "jax", "jax32"]


def segments(
    network: Network,
    x0: Any,
    x1: Any,
    *,
    definition: Definition = "proper",
    engine: Engine = "host",
) -> Segments:
    """The linear pieces of a network along the segments from `x0[i]` to `x1[i]`.

    Args:
      network: the function.
      x0, x1: `[S, size]`, real numbers, taken as float64.
      definition: what `counts` and `region` of the result go by.
      engine: "host": NumPy, float64. "jax": float64 on the default device, with the same result;
        compiled once for all networks of the same shapes. "jax32": there in float32. Then pieces
        are missing that are short, or on which a value stays within rounding of 0, and breakpoints
        are off (see `_segments_jax`). The certificate is that of exact arithmetic for all three,
        so that what is missing is seen in `doubt`.

    Returns:
      Segments, with a certificate.

    Raises:
      ValueError: shapes that do not fit, ends that are not finite or that coincide, an unknown
        definition or engine, or sparse matrices that are too large for a device as dense ones.
      TypeError: ends that are no real numbers.
    """
    x0, x1 = ends(network, x0, x1, "segments")
    definition = check_definition("segments", definition)
    if engine == "host":
        return made(network, x0, x1, sweep(network, x0, x1), definition)
    if engine not in _DTYPES:
        raise ValueError(f"segments: engine {engine!r} is not one of host, {', '.join(_DTYPES)}")
    found = sweep_on_device(network, x0, x1, dtype=_DTYPES[engine])
    return made(network, x0, x1, found, definition)


def ends(network: Network, x0: Any, x1: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The ends in float64, checked."""
    checked = []
    for which, given in (("x0", x0), ("x1", x1)):
        x = np.asarray(given)
        if x.dtype.kind not in "fiub":
            try:
                x = x.astype(np.float64, casting="safe")  # bfloat16 and the like
            except TypeError:
                raise TypeError(
                    f"{name}: {which} has dtype {x.dtype}, expected real numbers"
                ) from None
        if x.ndim != 2 or x.shape[1] != network.size:
            raise ValueError(
                f"{name}: {which} has shape {x.shape}, expected [segments, {network.size}], an end "
                "of each segment in the function's input"
            )
        x = x.astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(x).all(1))
        if len(bad):
            raise ValueError(
                f"{name}: {which} of segment {bad[0]} has NaN or infinite numbers "
                f"({len(bad)} of {len(x)} segments have); expected finite ends"
            )
        checked.append(x)
    x0, x1 = checked
    if x0.shape != x1.shape:
        raise ValueError(
            f"{name}: x0 has shape {x0.shape} and x1 {x1.shape}, expected as many of one as of the "
            "other"
        )
    same = np.flatnonzero((x0 == x1).all(1))
    if len(same):
        raise ValueError(
            f"{name}: both ends of segment {same[0]} are the same point ({len(same)} of {len(x0)} "
            "segments are such); a point has no linear pieces, leave it out"
        )
    return x0, x1
