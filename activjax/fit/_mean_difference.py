"""The difference of two classes' means, as a direction and as a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
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
        """`(x - midpoint) . direction` of the rows of `X`, `[m, d]`: positive nearer to class 1.

        In squared units of `X`: half of `|x - mean_0|^2 - |x - mean_1|^2`.
        """
        X = _check.features(X, self.direction.shape[0], self.direction, "MeanDifference: X")
        return dot(X - self.midpoint, self.direction)

    def predict(self, X: Any) -> Int32[Array, "m"]:
        """The class of the nearer mean for every row of `X`; 0 half way, -1 where that is NaN."""
        score = self.score(X)
        return jnp.where(jnp.isnan(score), jnp.int32(-1), (score > 0).astype(jnp.int32))


def mean_difference(X: Any, y: Int[Array, "n"]) -> MeanDifference:
    """The direction from the mean of class 0 to the mean of class 1.

    The direction that moves the mean of one class onto the other, and the one from which no
    linear change of the concept can hide (Belrose, "Diff-in-means concept editing is worst-case
    optimal", 2023; Marks and Tegmark, "The geometry of truth", 2024). Unlike `lda` and `logistic`
    it ignores how features vary together.

    Args:
        X: `[n, d]`.
        y: labels 0 and 1, integers or booleans. Those traced under `jit` cannot be checked; one
            out of range counts as no class.

    Returns:
        MeanDifference, in the dtype of `X`. NaN where `X` has a NaN in that feature, and
        everywhere if a class has no examples (under `jit`).

    Raises:
        ValueError: wrong shapes, no examples, labels out of range, or a class without examples
            (where labels are known).
    """
    X = _check.matrix(X, "mean_difference: X")
    if jnp.asarray(y).dtype == bool:
        y = jnp.asarray(y).astype(jnp.int32)
    known = not isinstance(y, Tracer)
    labels = _check.labels(y, X.shape[0], 2, "mean_difference: y")
    if known and not isinstance(labels, Tracer):
        ones = int(jnp.sum(labels))
        if ones in (0, X.shape[0]):
            raise ValueError(
                f"mean_difference: all {X.shape[0]} labels are {min(ones, 1)}, expected examples "
                "of both classes"
            )
    return _mean_difference(X, labels)


@jax.jit
def _mean_difference(X: Array, y: Array) -> MeanDifference:
    member = jax.nn.one_hot(y, 2, dtype=X.dtype)
    centre = jnp.mean(X, axis=0)  # what the classes share cancels here and not in the difference
    means = dot((member / jnp.sum(member, axis=0)).T, X - centre)
    return MeanDifference(means[1] - means[0], centre + (means[0] + means[1]) / 2)
