"""Linear discriminant analysis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Float, Int

from activjax.fit import _check
from activjax.fit._check import dot
from activjax.fit._classifier import LinearClassifier


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LDA(LinearClassifier):
    """A fitted linear discriminant analysis.

    Attributes:
        coef: `[n_classes, d]`, `C^-1 (mean_k - mean)`, `C` the shrunk covariance.
        intercept: `[n_classes]`; `-inf` for a class without examples.
        means: `[n_classes, d]`; the overall mean for a class without examples.
        covariance: `[d, d]`, within classes, with divisor `n`, shrunk.
        priors: `[n_classes]`, the classes' shares of the examples.
    """

    means: Float[Array, "classes d"]
    covariance: Float[Array, "d d"]
    priors: Float[Array, "classes"]


def lda(X: Any, y: Int[Array, "n"], *, n_classes: int, shrinkage: Any = 0.0) -> LDA:
    """Linear discriminant analysis: normal classes that share one covariance.

    The covariance within classes, with divisor `n`, is shrunk to
    `(1 - shrinkage) S + shrinkage tr(S) / d I` (Friedman, "Regularized discriminant analysis",
    1989, equation 18 with one covariance). This is scikit-learn's
    `LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)`; its coefficients are not
    centred, so those of all classes differ from these by one common vector, which changes no
    probability (those of its solver "svd" do not differ).

    Args:
        X: `[n, d]`.
        y: labels `0 .. n_classes - 1`. A class without examples is never predicted. Labels traced
            under `jit` cannot be checked; one out of range counts as no class.
        n_classes: at least 2; static.
        shrinkage: in [0, 1]; may be traced, so `vmap` sweeps it. It is not invariant to the units
            of single features: `standardise` first if those are arbitrary.

    Returns:
        LDA, in the dtype of `X`. With `shrinkage` 0 a covariance that is singular (a feature that
        is constant within every class or determined by the others, `n` below `d`) has no
        inverse: the fit is **NaN** and predicts -1, never the rounding error's answer. Give some
        shrinkage, or drop features. Singular means that some feature has at most `4 eps (d +
        sqrt(n))` of its variance left after the others are regressed out, about what rounding
        leaves. The fit is NaN too if `X` has a NaN, or no variance within classes at all (as
        where every class has one example).

    Raises:
        ValueError: wrong shapes, no examples, or labels or `shrinkage` out of range (where they
            are known).
    """
    X = _check.matrix(X, "lda: X")
    if n_classes < 2:
        raise ValueError(f"lda: n_classes is {n_classes}, expected at least 2")
    y = _check.labels(y, X.shape[0], n_classes, "lda: y")
    known = None if isinstance(shrinkage, Tracer) else np.asarray(shrinkage)
    shrinkage = jnp.asarray(shrinkage, X.dtype)
    if shrinkage.ndim:
        raise ValueError(
            f"lda: shrinkage has shape {shrinkage.shape}, expected a scalar; use jax.vmap for many"
        )
    if known is not None and not 0 <= known <= 1:
        raise ValueError(f"lda: shrinkage is {known}, expected a number in [0, 1]")
    return _lda(X, y, shrinkage, n_classes)


@partial(jax.jit, static_argnums=3)
def _lda(X: Array, y: Array, shrinkage: Array, n_classes: int) -> LDA:
    n, d = X.shape
    member = jax.nn.one_hot(y, n_classes, dtype=X.dtype)
    sizes = jnp.sum(member, axis=0)
    counted = jnp.sum(sizes)
    inside = jnp.sum(member, axis=1)[:, None]  # 0 for a label out of range
    centre = jnp.sum(inside * X, axis=0) / counted
    X = inside * (X - centre)
    means = dot(member.T, X) / jnp.maximum(sizes, 1)[:, None]
    left = X - dot(member, means)
    scatter = dot(left.T, left) / counted
    target = jnp.trace(scatter) / d * jnp.eye(d, dtype=X.dtype)
    covariance = (1 - shrinkage) * scatter + shrinkage * target

    # A variance is rounding only if it is what centring leaves of a constant (see standardise).
    eps = float(jnp.finfo(X.dtype).eps)
    variance = jnp.diagonal(covariance)
    lost = jnp.square(n * eps * (jnp.abs(centre) + jnp.max(jnp.abs(means), axis=0)))
    # Scaled to correlations, so that units decide nothing; squared pivots are shares of variance.
    scale = jnp.sqrt(variance)
    factor = jnp.linalg.cholesky(covariance / (scale[:, None] * scale))
    pivots = jnp.square(jnp.diagonal(factor))
    regular = jnp.all(variance > lost) & jnp.all(pivots > 4 * eps * (d + n**0.5))

    coef = cho_solve((factor, True), (means / scale).T).T / scale
    coef = jnp.where(regular, coef, jnp.nan)
    priors = sizes / counted
    intercept = jnp.log(priors) - jnp.sum(coef * means, axis=1) / 2 - dot(coef, centre)
    return LDA(coef, intercept, means + centre, covariance, priors)
