"""Linear probes, with a control task that tells what the probe itself can learn by heart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from activjax.fit import _check
from activjax.fit._logistic import logistic


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Probe:
    """How well a linear probe reads labels, and how well it reads random ones.

    Attributes:
        accuracy: on the test examples.
        control_accuracy: `[draws]`, on as many control tasks.
        majority: accuracy of always naming the most frequent training label.
        converged: whether all fits converged; accuracies of one that has not are NaN.
    """

    accuracy: Float[Array, ""]
    control_accuracy: Float[Array, "draws"]
    majority: Float[Array, ""]
    converged: Bool[Array, ""]

    @property
    def selectivity(self) -> Float[Array, "draws"]:
        """Accuracy less that on the control task: near 0 for a probe that learns by heart."""
        return self.accuracy - self.control_accuracy


def probe(
    key: Key[Array, ""],
    train: tuple[Any, Int[Array, "n"], Int[Array, "n"]],
    test: tuple[Any, Int[Array, "m"], Int[Array, "m"]],
    *,
    n_classes: int,
    n_types: int,
    l2: Any = 1.0,
    draws: int = 5,
) -> Probe:
    """A logistic probe and its control task.

    Hewitt and Liang, "Designing and interpreting probes with control tasks" (2019): in a control
    task every *type* (a word, say) has one label, drawn at random from the distribution of the
    training labels, for all its examples. Only a probe that remembers types can do well there.
    Test examples of types that were not trained on cannot be known; if every example is a type of
    its own, the control accuracy is chance and says nothing about remembering.

    Args:
        key: draws the control tasks.
        train, test: `(X, labels, types)`, `[n, d]`, `[n]` and `[n]`.
        n_classes, n_types: how many there are; static.
        l2: penalty of the probe, as in `logistic`; may be traced.
        draws: control tasks; static.

    Returns:
        Probe.

    Raises:
        ValueError: wrong shapes, labels or types out of range, fewer than one draw.
    """
    if draws < 1:
        raise ValueError(f"probe: draws is {draws}, expected at least 1")
    parts = []
    for name, (X, y, types) in (("train", train), ("test", test)):
        X = _check.matrix(X, f"probe: {name} X")
        y = _check.labels(y, X.shape[0], n_classes, f"probe: {name} labels")
        types = _check.labels(types, X.shape[0], n_types, f"probe: {name} types")
        parts.append((X, y, types))
    (X, y, types), (X_test, y_test, types_test) = parts
    if X.shape[1] != X_test.shape[1]:
        raise ValueError(f"probe: train X has {X.shape[1]} channels and test X {X_test.shape[1]}")
    l2 = _check.penalty(l2, X, "probe: l2")
    return _probe(key, X, y, types, X_test, y_test, types_test, l2, n_classes, n_types, draws)


@partial(jax.jit, static_argnums=(8, 9, 10))
def _probe(
    key: Array,
    X: Array,
    y: Array,
    types: Array,
    X_test: Array,
    y_test: Array,
    types_test: Array,
    l2: Array,
    n_classes: int,
    n_types: int,
    draws: int,
) -> Probe:
    def fitted(labels: Array, wanted: Array) -> tuple[Array, Array]:
        found = logistic(X, labels, l2=l2, n_classes=n_classes)
        right = jnp.mean((found.predict(X_test) == wanted).astype(X.dtype))
        return jnp.where(found.converged, right, jnp.nan), found.converged

    def control(key: Array) -> tuple[Array, Array]:
        # A label of a random training example: the empirical distribution.
        of_type = y[jax.random.randint(key, (n_types,), 0, y.shape[0])]
        return fitted(of_type[types], of_type[types_test])

    accuracy, converged = fitted(y, y_test)
    controls, all_converged = jax.vmap(control)(jax.random.split(key, draws))
    most = jnp.argmax(jnp.sum(jax.nn.one_hot(y, n_classes, dtype=X.dtype), axis=0))
    majority = jnp.mean((y_test == most.astype(y_test.dtype)).astype(X.dtype))
    return Probe(accuracy, controls, majority, converged & jnp.all(all_converged))
