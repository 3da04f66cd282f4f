"""Multinomial logistic regression, by L-BFGS with an exact line search.

Along a line the logits are affine in the step, so a step is tried at the cost of a softmax and no
matrix product, and the objective is convex, so its derivative along the line has one root. The
search therefore finds that root, by Newton's method kept inside a bracket, instead of comparing
objective values: in float32 these agree in every digit long before the gradient is small. That is
why the loop is written here and not taken from a general optimiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int32

from activjax.fit import _check
from activjax.fit._check import dot
from activjax.fit._classifier import LinearClassifier

_MEMORY = 10  # pairs kept by L-BFGS; scikit-learn's default, SciPy's too
_LINE_STEPS = 20
_LINE_DECREASE = 0.1  # the derivative along the line must shrink this much


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Logistic(LinearClassifier):
    """A fitted multinomial logistic regression.

    Attributes:
        coef: `[n_classes, d]`.
        intercept: `[n_classes]`, with sum 0.
        converged: whether the gradient met the tolerance.
        n_iter: L-BFGS iterations.
        loss: the objective at the solution (a sum over examples).
        grad_norm: Euclidean norm of the objective's gradient there, taken for centred features.
            The objective is strongly convex, so if the intercept's part of it is negligible
            `coef` is within `grad_norm / l2` of the optimum.
    """

    converged: Bool[Array, ""]
    n_iter: Int32[Array, ""]
    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]


def logistic(
    X: Any,
    y: Int[Array, "n"],
    *,
    l2: Any,
    n_classes: int,
    max_iter: int = 1000,
    tol: float = 1e-6,
) -> Logistic:
    """Multinomial logistic regression with a quadratic penalty.

    Minimises `sum_i -log p(y_i | x_i) + l2 / 2 |W|^2`; intercepts are not penalised. This is
    scikit-learn's `LogisticRegression(C=1 / l2)`. With two classes scikit-learn has one vector
    `w` and penalises `l2 / 2 |w|^2`; so does this, and `coef[1] - coef[0]` equals it.

    Args:
        X: `[n, d]`. Nothing is scaled; features of one scale converge sooner.
        y: labels `0 .. n_classes - 1`. A class without examples is allowed: its intercept falls
            until the gradient meets the tolerance. Labels traced under `jit` cannot be checked;
            one out of range counts as no class.
        l2: positive scalar, `1 / C`; may be traced, so `vmap` sweeps it.
        n_classes: at least 2; static.
        max_iter: most iterations; static. Mapped fits run until the slowest is done.
        tol: stops when the gradient's norm, divided by `n`, is at most `tol` times the root mean
            square norm of the rows `(x - mean, 1)`. This does not depend on the scale of `X`.
            In float32, rounding decides below about 1e-7.

    Returns:
        Logistic, in the dtype of `X`. `converged` is false where iterations ran out or rounding
        stopped the descent above the tolerance (the fit is then the last point reached), and
        where `X` has a NaN or an infinity (the fit is then NaN).

    Raises:
        ValueError: wrong shapes, no examples, labels out of range, `l2 <= 0`.
    """
    X = _check.matrix(X, "logistic: X")
    if n_classes < 2:
        raise ValueError(f"logistic: n_classes is {n_classes}, expected at least 2")
    y = _check.labels(y, X.shape[0], n_classes, "logistic: y")
    l2 = _check.penalty(l2, X, "logistic: l2")
    if max_iter < 1:
        raise ValueError(f"logistic: max_iter is {max_iter}, expected at least 1")
    return _logistic(X, y, l2, jnp.asarray(tol, X.dtype), n_classes, max_iter)


class _State(NamedTuple):
    weights: Array  # [d + 1, classes], the intercept last
    gradient: Array
    steps: Array  # [memory, (d + 1) * classes], the newest last
    changes: Array
    inverses: Array  # [memory], 1 / (step . change), 0 where there is none
    n_iter: Array
    stalled: Array


@partial(jax.jit, static_argnums=(4, 5))
def _logistic(X: Array, y: Array, l2: Array, tol: Array, n_classes: int, max_iter: int) -> Logistic:
    n, d = X.shape
    # Centring only renames the intercept, which is free; the problem is better conditioned.
    mean = jnp.mean(X, axis=0)
    X = jnp.concatenate([X - mean, jnp.ones((n, 1), X.dtype)], axis=1)
    target = jax.nn.one_hot(y, n_classes, dtype=X.dtype)
    # With two classes the optimum has W = (-w/2, w/2), so |W|^2 = |w|^2 / 2.
    strength = 2 * l2 if n_classes == 2 else l2
    ridge = jnp.concatenate([jnp.broadcast_to(strength, (d, 1)), jnp.zeros((1, 1), X.dtype)])
    limit = tol * n * jnp.sqrt(jnp.sum(jnp.square(X)) / n)

    def gradient(weights: Array) -> Array:
        residual = jax.nn.softmax(dot(X, weights), axis=-1) - target
        return dot(X.T, residual) + ridge * weights

    # The gradient at zero weights, where all classes are equally likely. Written out: a product
    # with a constant factor under a softmax miscompiles on CPU (docs/design/0002-xla-cpu.md).
    first_gradient = dot(X.T, 1 / n_classes - target)

    def unfinished(state: _State) -> Array:
        norm = jnp.linalg.norm(state.gradient)  # NaN ends it
        return (norm > limit) & (state.n_iter < max_iter) & ~state.stalled

    def iterate(state: _State) -> _State:
        direction = -_two_loops(state).reshape(state.weights.shape)
        logits, slope = dot(X, state.weights), dot(X, direction)

        def along(t: Array) -> tuple[Array, Array]:
            p = jax.nn.softmax(logits + t * slope, axis=-1)
            first = jnp.sum((p - target) * slope)
            first += jnp.sum(ridge * (state.weights + t * direction) * direction)
            centred = slope - jnp.sum(p * slope, axis=-1, keepdims=True)
            second = jnp.sum(p * jnp.square(centred)) + jnp.sum(ridge * jnp.square(direction))
            return first, second

        t, found = _root(along, jnp.zeros((), X.dtype))
        step = jnp.where(found, t * direction, jnp.zeros_like(direction))
        weights = state.weights + step
        new = gradient(weights)
        step, change = step.ravel(), (new - state.gradient).ravel()
        curvature = jnp.vdot(step, change)
        inverse = jnp.where(curvature > 0, 1 / curvature, jnp.zeros_like(curvature))
        return _State(
            weights,
            new,
            _push(state.steps, step),
            _push(state.changes, change),
            _push(state.inverses, inverse),
            state.n_iter + 1,
            ~found,
        )

    weights = jnp.zeros((d + 1, n_classes), X.dtype)
    memory = jnp.zeros((_MEMORY, weights.size), X.dtype)
    start = _State(
        weights, first_gradient, memory, memory, memory[:, 0], jnp.int32(0), jnp.bool_(False)
    )
    end = jax.lax.while_loop(unfinished, iterate, start)

    norm = jnp.linalg.norm(end.gradient)
    weights = jnp.where(jnp.isfinite(norm), end.weights, jnp.nan)
    log_p = jax.nn.log_softmax(dot(X, weights), axis=-1)
    loss = -jnp.sum(target * log_p) + 0.5 * jnp.sum(ridge * jnp.square(weights))
    coef, intercept = weights[:d].T, weights[d] - jnp.mean(weights[d])
    intercept = intercept - dot(coef - jnp.mean(coef, axis=0), mean)
    return Logistic(coef, intercept, norm <= limit, end.n_iter, loss, norm)


def _push(history: Array, new: Array) -> Array:
    return jnp.concatenate([history[1:], new[None]])


def _two_loops(state: _State) -> Array:
    """The inverse Hessian's estimate times the gradient (Nocedal and Wright, algorithm 7.4)."""

    def back(q: Array, pair: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        step, change, inverse = pair
        alpha = inverse * jnp.vdot(step, q)
        return q - alpha * change, alpha

    def forth(q: Array, pair: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        step, change, inverse, alpha = pair
        return q + (alpha - inverse * jnp.vdot(change, q)) * step, None

    pairs = (state.steps, state.changes, state.inverses)
    q, alphas = jax.lax.scan(back, state.gradient.ravel(), pairs, reverse=True)
    newest = state.changes[-1]
    scale = state.inverses[-1] * jnp.vdot(newest, newest)
    q = q / jnp.where(scale > 0, scale, jnp.ones_like(scale))
    return jax.lax.scan(forth, q, (*pairs, alphas))[0]


def _root(along: Any, zero: Array) -> tuple[Array, Array]:
    """A `t > 0` where an increasing derivative, negative at 0, is near 0; and if it was found.

    `along(t)` gives the derivative and its slope. Newton's method in the bracket (low, high);
    where it leaves that, the bracket is halved, or `t` doubled while there is no upper end.
    """
    at_zero, slope = along(zero)
    enough = _LINE_DECREASE * -at_zero

    def unfinished(state: tuple) -> Array:
        _, _, _, _, derivative, count = state
        return (jnp.abs(derivative) > enough) & (count < _LINE_STEPS)

    def narrow(state: tuple) -> tuple:
        low, high, t, _, _, count = state
        derivative, slope = along(t)
        low = jnp.where(derivative < 0, t, low)
        high = jnp.where(derivative < 0, high, t)
        newton = t - derivative / slope
        inside = (newton > low) & (newton < high)
        fallback = jnp.where(jnp.isfinite(high), 0.5 * (low + high), 2 * t)
        return low, high, jnp.where(inside, newton, fallback), t, derivative, count + 1

    start = (zero, zero + jnp.inf, -at_zero / slope, zero, at_zero, jnp.int32(0))
    _, _, _, t, derivative, _ = jax.lax.while_loop(unfinished, narrow, start)
    return t, (at_zero < 0) & (jnp.abs(derivative) < -at_zero)
