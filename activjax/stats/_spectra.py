"""Spectra of covariances, and what random data would give."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Quantiles of the Tracy-Widom law of real matrices (Bejan 2005, table 1).
_TRACY_WIDOM = {0.1: 0.4501, 0.05: 0.9793, 0.01: 2.0234}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues and eigenvectors of a covariance.

    Attributes:
      eigenvalues: `[*lead, d]`, decreasing; not below 0.
      eigenvectors: `[*lead, d, d]`, orthonormal columns.
    """

    eigenvalues: Float[Array, "*lead d"]
    eigenvectors: Float[Array, "*lead d d"]


def spectrum(covariance: Float[Array, "*lead d d"]) -> Spectrum:
    """The spectrum of a covariance matrix.

    Args:
      covariance: `[*lead, d, d]`, symmetric.

    Returns:
      Spectrum. Eigenvalues below the rounding of the largest (`d * eps` of it), which are those
      beyond the rank, are given as 0. NaN in, NaN out.

    Raises:
      ValueError: not square.
    """
    c = jnp.asarray(covariance)
    c = c if c.dtype == jnp.float64 else c.astype(jnp.float32)
    if c.ndim < 2 or c.shape[-1] != c.shape[-2] or c.shape[-1] == 0:
        raise ValueError(f"spectrum: covariance has shape {c.shape}, expected [..., d, d], d >= 1")
    values, vectors = jnp.linalg.eigh(c)
    values, vectors = values[..., ::-1], vectors[..., ::-1]
    rounding = c.shape[-1] * jnp.asarray(jnp.finfo(c.dtype).eps, c.dtype) * jnp.abs(values[..., :1])
    return Spectrum(jnp.where(values < rounding, 0, values), vectors)


def spectral_entropy(eigenvalues: Float[Array, "*lead d"]) -> Float[Array, "*lead"]:
    """Shannon entropy, in nats, of eigenvalues as shares of their sum.

    NaN where that is 0, or an eigenvalue is negative.
    """
    e = _relative("spectral_entropy", eigenvalues)
    p = e / jnp.sum(e, axis=-1, keepdims=True)
    return -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), p), axis=-1)


def effective_rank(
    eigenvalues: Float[Array, "*lead d"], *, kind: str = "entropy"
) -> Float[Array, "*lead"]:
    """How many directions carry the variance.

    Args:
      eigenvalues: `[*lead, d]`, not negative.
      kind: "entropy", the exponential of the spectral entropy (Roy and Vetterli, "The effective
        rank", 2007); "participation", `(sum e)^2 / sum e^2`; "stable", `sum e / max e`.

    Returns:
      `[*lead]`, between 1 and `d`; NaN where there is no variance, or a negative one.

    Raises:
      ValueError: another kind, or no eigenvalues.
    """
    e = _relative("effective_rank", eigenvalues)
    total = jnp.sum(e, axis=-1)
    if kind == "entropy":
        rank = jnp.exp(spectral_entropy(e))
    elif kind == "participation":
        rank = jnp.square(total) / jnp.sum(jnp.square(e), axis=-1)
    elif kind == "stable":
        rank = total
    else:
        raise ValueError(
            f'effective_rank: kind is {kind!r}, expected "entropy", "participation" or "stable"'
        )
    return jnp.clip(rank, 1, e.shape[-1])  # rounding could leave it outside


def _relative(what: str, eigenvalues: Any) -> Array:
    """Eigenvalues over the largest, so that sums and squares neither vanish nor overflow."""
    e = jnp.asarray(eigenvalues)
    if e.ndim < 1 or e.shape[-1] == 0 or not jnp.issubdtype(e.dtype, jnp.floating):
        raise ValueError(f"{what}: eigenvalues are {e.dtype}{e.shape}, expected floating [..., d]")
    e = e.astype(jnp.float32) if e.dtype.itemsize < 4 else e
    largest = jnp.max(e, axis=-1, keepdims=True)
    # In two steps: the inverse of a very large or very small number is none.
    _, exponent = jnp.frexp(jax.lax.stop_gradient(largest))
    half = exponent // 2
    scaled = jnp.ldexp(jnp.ldexp(e, -half), half - exponent)
    scaled = scaled / jnp.max(scaled, axis=-1, keepdims=True)
    return jnp.where(jnp.any(e < 0, axis=-1, keepdims=True), jnp.nan, scaled)


@dataclass(frozen=True)
class MarchenkoPastur:
    """The spectrum that the sample covariance of independent channels of equal variance has.

    Attributes:
      ratio: channels per degree of freedom, `d / n`.
      variance: of each channel.
      low, high: the edges of the bulk in the limit, `variance * (1 -+ sqrt(ratio))^2`; beside it
        a share `1 - 1 / ratio` of eigenvalues is 0 if `ratio > 1`.
      threshold: the largest eigenvalue of pure noise exceeds this with probability `level`.
      level: see `threshold`.
    """

    ratio: float
    variance: float
    low: float
    high: float
    threshold: float
    level: float

    def density(self, x: Any) -> np.ndarray:
        """The limiting density at `x`, without the point mass at 0."""
        x = np.asarray(x, np.float64)
        inside = (x > self.low) & (x < self.high)
        at = np.where(inside, x, 1.0)
        root = np.sqrt(np.maximum((self.high - at) * (at - self.low), 0))
        return np.where(inside, root / (2 * np.pi * self.variance * self.ratio * at), 0.0)

    def outliers(self, eigenvalues: Any) -> np.ndarray:
        """Which eigenvalues are too large for noise, `[*lead, d]`: those above `threshold`."""
        return np.asarray(eigenvalues, np.float64) > self.threshold


def marchenko_pastur(
    n: int, d: int, *, variance: float | None = None, eigenvalues: Any = None, level: float = 0.05
) -> MarchenkoPastur:
    """The bulk that noise would have, and the threshold above which an eigenvalue is signal.

    The threshold is that of the largest eigenvalue of white noise, by the Tracy-Widom law
    (Johnstone, "On the distribution of the largest eigenvalue in principal components analysis",
    2001) with Ma's centring and scaling ("Accuracy of the Tracy-Widom limits for the extreme
    eigenvalues in white Wishart matrices", 2012): at finite `n` it lies beyond the bulk's edge.

    Args:
      n: degrees of freedom of the covariance: rows less one if the mean was taken from them.
      d: channels.
      variance: of the noise in each channel; or
      eigenvalues: `[d]`, of which the variance is estimated: the median of those that are not 0 by
        construction, over the median of the law (Gavish and Donoho 2014, section III.E). It holds
        while fewer than half of the directions carry signal.
      level: 0.1, 0.05 or 0.01.

    Returns:
      MarchenkoPastur, in float64 on the host.

    Raises:
      ValueError: `n` or `d` below 2, both or neither of variance and eigenvalues, another level.
    """
    n, d, level = int(n), int(d), round(float(level), 6)
    if n < 2 or d < 2:
        raise ValueError(f"marchenko_pastur: n = {n}, d = {d}, expected at least 2 of each")
    if level not in _TRACY_WIDOM:
        raise ValueError(f"marchenko_pastur: level is {level}, expected {sorted(_TRACY_WIDOM)}")
    if (variance is None) == (eigenvalues is None):
        raise ValueError("marchenko_pastur: expected either variance= or eigenvalues=")
    ratio = d / n
    if variance is None:
        found = np.sort(np.asarray(eigenvalues, np.float64))[::-1]
        if found.shape != (d,) or not np.isfinite(found).all():
            raise ValueError(
                f"marchenko_pastur: eigenvalues have shape {found.shape}, expected {d} finite ones"
            )
        variance = float(np.median(found[: min(n, d)])) / _median(ratio)
    if not variance > 0:
        raise ValueError(f"marchenko_pastur: the variance is {variance}, expected more than 0")
    root_n, root_d = math.sqrt(n - 0.5), math.sqrt(d - 0.5)
    centre = (root_n + root_d) ** 2
    scale = (root_n + root_d) * (1 / root_n + 1 / root_d) ** (1 / 3)
    threshold = variance * (centre + _TRACY_WIDOM[level] * scale) / n
    low, high = (variance * (1 + sign * math.sqrt(ratio)) ** 2 for sign in (-1, 1))
    return MarchenkoPastur(ratio, variance, low, high, threshold, level)


def _median(ratio: float) -> float:
    """The median of the law at variance 1, of the eigenvalues that are not 0 by construction."""
    from scipy.integrate import quad
    from scipy.optimize import brentq

    law = MarchenkoPastur(
        ratio, 1.0, (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2, math.inf, 0.05
    )
    mass = min(1.0, 1 / ratio)

    def share(angle: float) -> float:
        # x = low + (high - low) sin^2 removes the roots at both edges.
        def integrand(t: float) -> float:
            x = law.low + (law.high - law.low) * math.sin(t) ** 2
            slope = (law.high - law.low) * math.sin(2 * t)
            if law.low == 0.0 and t == 0.0:
                return (law.high - law.low) / (math.pi * ratio) * math.cos(t) ** 2
            return float(law.density(x)) * slope

        return quad(integrand, 0, angle, epsabs=1e-12)[0] / mass

    angle: Any = brentq(lambda t: share(t) - 0.5, 1e-9, math.pi / 2, xtol=1e-12)
    return law.low + (law.high - law.low) * math.sin(angle) ** 2
