"""Lines below and above a rectifier."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp


class Lines(NamedTuple):
    """`below * z <= max(z, 0) <= above * z + intercept` for z between its bounds.

    All of shape `[boxes, units]`; `below` may be `[boxes, rows, units]`.
    """

    below: Any
    above: Any
    intercept: Any


def lines(low: Any, high: Any, below: Any = None) -> Lines:
    """The lines of CROWN (Zhang et al. 2018): the chord above, slope 0 or 1 below.

    Args:
      low, high: `[boxes, units]` bounds of z; where they cross the lines are finite and mean
        nothing.
      below: slopes for units that may have either sign, in [0, 1]; by default the one that leaves
        the smaller area, 1 where `high > -low`.
    """
    on, off = low >= 0, high <= 0
    open_ = ~(on | off)
    slope = (high > -low).astype(low.dtype) if below is None else jnp.clip(below, 0.0, 1.0)
    if slope.ndim > low.ndim:
        on_, open__ = on[:, None], open_[:, None]
    else:
        on_, open__ = on, open_
    below = jnp.where(on_, 1.0, jnp.where(open__, slope, 0.0)).astype(low.dtype)
    width = jnp.where(open_, high - low, 1.0)
    above = jnp.where(on, 1.0, jnp.where(open_, high / width, 0.0)).astype(low.dtype)
    # Any slope serves if the line is above 0 at `low` and above `high` at `high`.
    reach = jnp.maximum(-above * low, high - above * high)
    grown = reach * (1 + 8 * jnp.finfo(low.dtype).eps) + jnp.finfo(low.dtype).tiny
    # `high - above * high` cancels: it is off by at most 2 eps * high.
    grown = jnp.maximum(grown, reach + 4 * jnp.finfo(low.dtype).eps * high)
    return Lines(below, above, jnp.where(open_, grown, 0.0).astype(low.dtype))
