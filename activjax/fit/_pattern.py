"""Activation patterns: what a linear read-out says about the data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from activjax.fit import _check
from activjax.fit._check import dot


def activation_pattern(
    weights: Float[Array, "d *outputs"], covariance: Float[Array, "d d"]
) -> Float[Array, "d *outputs"]:
    """The pattern of a linear read-out: how each channel changes with what is read out.

    A large weight need not mean a channel that holds the signal: it may only cancel the noise of
    another (a suppressor). The pattern `A = C W (W^T C W)^-1`, with `C` the covariance of the
    channels, is the forward model that belongs to the read-out `W`: 0 for a suppressor (Haufe et
    al., "On the interpretation of weight vectors of linear models in multivariate neuroimaging",
    2014, equation 6).

    Args:
      weights: `[d]` or `[d, outputs]`, the read-out.
      covariance: `[d, d]`, of the channels, as `stats.moments("full")` gives it.

    Returns:
      In the shape of the weights, in units of a channel for a unit of the output. NaN where an
      output does not vary or outputs determine one another.

    Raises:
      ValueError: shapes that do not fit.
    """
    c = _check.matrix(covariance, "activation_pattern: covariance")
    w = jnp.asarray(weights)
    if w.ndim not in (1, 2) or c.shape != (w.shape[0],) * 2:
        raise ValueError(
            f"activation_pattern: weights have shape {w.shape} and the covariance {c.shape}, "
            "expected [d] or [d, outputs] and [d, d]"
        )
    return _pattern(w.astype(c.dtype), c)


@jax.jit
def _pattern(w: Array, c: Array) -> Array:
    columns = w.reshape(w.shape[0], -1)
    spread = dot(c, columns)
    between = dot(columns.T, spread)
    # Scaled to unit variances: whether outputs determine one another is not a matter of units.
    scale = jnp.sqrt(jnp.diagonal(between))
    factor, lower = jax.scipy.linalg.cho_factor(between / (scale[:, None] * scale), lower=True)
    eps = jnp.asarray(jnp.finfo(w.dtype).eps, w.dtype)
    good = jnp.min(jnp.square(jnp.diagonal(factor))) > columns.shape[1] * eps
    solved = jax.scipy.linalg.cho_solve((factor, lower), (spread / scale).T).T / scale
    return jnp.where(good, solved, jnp.nan).reshape(w.shape)
