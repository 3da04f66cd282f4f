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
        accuracy_seen: on those whose type was trained on; NaN if there are none.
        control_accuracy: `[draws]`, on as many control tasks, for the same examples.
        seen: the share of test examples whose type was trained on.
        majority: accuracy of always naming the most frequent training label.
        converged: whether all fits converged; accuracies of one that has not are NaN.
    """

    accuracy: Float[Array, ""]
    accuracy_seen: Float[Array, ""]
    control_accuracy: Float[Array, "draws"]
    seen: Float[Array, ""]
    majority: Float[Array, ""]
    converged: Bool[Array, ""]

    @property
    def selectivity(self) -> Float[Array, "draws"]:
        """Accuracy less that on the control task, on seen types: 0 for one that remembers all."""
        return self.accuracy_seen - self.control_accuracy


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
    Test examples of types that were not trained on cannot be known and are left out of it; if
    every example is a type of its own, there is no control.

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
    counts = jnp.zeros(n_types, jnp.int32).at[types].add(1)
    seen = (counts[types_test] > 0).astype(X.dtype)

    def fitted(labels: Array, wanted: Array) -> tuple[Array, Array, Array]:
        found = logistic(X, labels, l2=l2, n_classes=n_classes)
        right = (found.predict(X_test) == wanted).astype(X.dtype)
        right = jnp.where(found.converged, right, jnp.nan)
        n = jnp.sum(seen)
        of_seen = jnp.sum(jnp.where(seen > 0, right, 0)) / jnp.where(n > 0, n, jnp.nan)
        return jnp.mean(right), of_seen, found.converged

    def control(key: Array) -> tuple[Array, Array, Array]:
        # A label of a random training example: the empirical distribution.
        of_type = y[jax.random.randint(key, (n_types,), 0, y.shape[0])]
        return fitted(of_type[types], of_type[types_test])

    accuracy, accuracy_seen, converged = fitted(y, y_test)
    _, controls, all_converged = jax.vmap(control)(jax.random.split(key, draws))
    most = jnp.argmax(jnp.sum(jax.nn.one_hot(y, n_classes, dtype=X.dtype), axis=0))
    majority = jnp.mean((y_test == most.astype(y_test.dtype)).astype(X.dtype))
    converged = converged & jnp.all(all_converged)
    return Probe(accuracy, accuracy_seen, controls, jnp.mean(seen), majority, converged)
