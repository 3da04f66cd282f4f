"""The difference of two classes' means, as a direction and as a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Int32

from activjax.fit import _check
from activjax.fit._check import dot


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MeanDifference:
    """Two classes by their means.

    Attributes:
        direction: `[d]`, the mean of class 1 minus that of class 0; not normalised.
        midpoint: `[d]`, half way between the two means.
    """

    direction: Float[Array, "d"]
    midpoint: Float[Array, "d"]

    def score(self, X: Any) -> Float[Array, "m"]:
        """Where the rows of `X`, `[m, d]`, lie along the direction.

        -1/2 at the mean of class 0, 1/2 at that of class 1, 0 half way; all 0 if those are equal.
        """
        X = _check.features(X, self.direction.shape[0], self.direction, "MeanDifference: X")
        size = jnp.sum(jnp.square(self.direction))
        return dot(X - self.midpoint, self.direction) / jnp.where(size == 0, 1, size)

    def predict(self, X: Any) -> Int32[Array, "m"]:
        """The class of the nearer mean for every row of `X`; 0 half way, -1 where that is NaN."""
        score = self.score(X)
        return jnp.where(jnp.isnan(score), jnp.int32(-1), (score > 0).astype(jnp.int32))


def mean_difference(X: Any, y: Int[Array, "n"]) -> MeanDifference:
    """The direction from the mean of class 0 to the mean of class 1.

    With its midpoint, the nearest-mean classifier; as a probe, "mass-mean" (Marks and Tegmark,
    "The geometry of truth", 2024). Unlike `lda` and `logistic` it ignores how features vary
    together, so it is defined for any `n` and `d` and has nothing to tune.

    Args:
        X: `[n, d]`.
        y: labels 0 and 1, integers or booleans. Those traced under `jit` cannot be checked; one
            out of range counts as no class.

    Returns:
        MeanDifference, in the dtype of `X`. NaN where `X` has a NaN in that feature, and
        everywhere if a class has no examples; a direction with a NaN predicts -1.

    Raises:
        ValueError: wrong shapes, no examples, or labels out of range (where they are known).
    """
    X = _check.matrix(X, "mean_difference: X")
    labels: Any = y if isinstance(y, Tracer) else np.asarray(y)
    labels = labels.astype(np.int32) if labels.dtype == bool else labels
    return _mean_difference(X, _check.labels(labels, X.shape[0], 2, "mean_difference: y"))


@jax.jit
def _mean_difference(X: Array, y: Array) -> MeanDifference:
    member = jax.nn.one_hot(y, 2, dtype=X.dtype)
    centre = jnp.mean(X, axis=0)  # what the classes share cancels here and not in the difference
    sizes = jnp.sum(member, axis=0)[:, None]
    # Not left to 0 / 0: XLA folds a one-hot 0 divided by anything to 0.
    means = jnp.where(sizes > 0, dot(member.T, X - centre) / sizes, jnp.nan)
    return MeanDifference(means[1] - means[0], centre + (means[0] + means[1]) / 2)
