"""What every classifier with linear logits does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from activjax.fit import _check
from activjax.fit._check import dot


@dataclass(frozen=True)
class LinearClassifier:
    """Classes scored by `x @ coef.T + intercept`."""

    coef: Float[Array, "classes d"]
    intercept: Float[Array, "classes"]

    def logits(self, X: Any) -> Float[Array, "m classes"]:
        """Unnormalised log-probabilities of the classes for the rows of `X`, `[m, d]`."""
        what = f"{type(self).__name__}: X"
        X = _check.features(X, self.coef.shape[1], self.coef, what)
        return dot(X, self.coef.T) + self.intercept

    def probabilities(self, X: Any) -> Float[Array, "m classes"]:
        """Probabilities of the classes for the rows of `X`, `[m, d]`."""
        return jax.nn.softmax(self.logits(X), axis=-1)

    def predict(self, X: Any) -> Int32[Array, "m"]:
        """The most probable class of every row of `X`, `[m, d]`; of equals the lowest.

        A row with a NaN, or a fit that is NaN, predicts -1.
        """
        logits = self.logits(X)
        best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return jnp.where(jnp.any(jnp.isnan(logits), axis=-1), jnp.int32(-1), best)
