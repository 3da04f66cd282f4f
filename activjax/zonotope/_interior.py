"""An interior-point method for programs over activation patterns, to be mapped over many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from activjax.zonotope import _program
from activjax.zonotope._program import Program

TOLERANCE = 1e-8
"""The duality gap that iterations aim at, with the loss of the zero function near 1."""

ENOUGH = 1e-6
"""The gap at which they also stop if it no longer falls."""

REACH = 4.0
"""The dual bound holds for weights this much longer than the longest."""

_MOST_STEPS = 80
_TO_BOUNDARY = 0.99  # of the longest step that stays inside
_AHEAD = 1e-2  # complementarity aimed at, over the gap
_DAMPING = 1e-9  # of the Newton matrix, at most: a proximal term, which moves no fixed point
_PROXIMAL = 1e-4  # how much of the gap it may be worth for weights as long as those reached
_ROUNDING = 1e-14  # by which constraints may be missed where a cone has no interior
_STUCK = 1e-3  # damping, against the largest entry, at which a singular matrix is given up


class Solution(NamedTuple):
    """Where the iteration ended.

    Attributes:
        weights: `[m, r]`.
        slack: `[m, c]`, the constraints' values at the weights.
        multipliers: `[m, c]`, at least 0, of the best lower bound.
        dual: `[n]`, the outputs' dual variables of the best lower bound.
        objective: at the weights.
        bound: the best lower bound, for weights up to four times as long as the longest.
        feasible: whether the weights meet the constraints, up to rounding.
        steps: how many Newton steps it took.
    """

    weights: Float[Any, "m r"]
    slack: Float[Any, "m c"]
    multipliers: Float[Any, "m c"]
    dual: Float[Any, "n"]
    objective: Float[Any, ""]
    bound: Float[Any, ""]
    feasible: Bool[Any, ""]
    steps: Int[Any, ""]


class _State(NamedTuple):
    w: Array
    s: Array  # slack variables, above 0; 1 where there is no constraint
    u: Array  # multipliers, above 0; 0 where there is no constraint
    objective: Array
    bound: Array
    best_u: Array
    best_dual: Array
    feasible: Array
    steps: Array
    damping: Array  # relative to the largest entry of the matrix
    stale: Array  # steps since the gap was last halved


def interior_point(p: Program, cutoff: Float[Array, ""] | float = jnp.inf) -> Solution:
    """Solves one program by Mehrotra's predictor and corrector.

    Nocedal and Wright, "Numerical Optimization", algorithm 16.4, with one step length (the dual
    residual couples both), from an infeasible start, on normal equations with one refinement. The
    slack variables become the constraints' values as soon as these are positive, after which the
    iterates are strictly feasible. The complementarity aimed at stays above a fraction of the gap,
    so that the last iterate is inside the cones and the matrix not needlessly singular. Each step
    offers two dual points: the one of its linear model, which meets the dual equations although the
    loss is not quadratic, and the slopes of the loss at its end.

    Args:
        p: the program, one; float64 (64-bit mode on).
        cutoff: ends the iteration once the lower bound is at least this.

    Returns:
        Solution. Iterations end with a gap of at most `TOLERANCE`, or of `ENOUGH` if it falls no
        further, or after 80: look at `objective - bound` and `feasible`.
    """
    free = p.sides == 0
    count = jnp.maximum(jnp.sum(~free, dtype=p.sides.dtype), 1.0)
    step = _stepper(p, free, count)
    m, r = p.sides.shape[0], p.features.shape[1]
    w = jnp.zeros((m, r))
    zero = jnp.zeros_like(p.targets)
    u = jnp.where(free, 0.0, jnp.ones_like(p.sides))
    start = _State(
        w,
        jnp.ones_like(p.sides),
        u,
        _program.data_loss(p, zero),
        jnp.zeros(()),
        jnp.zeros_like(u),
        zero,
        jnp.bool_(False),
        jnp.int32(0),
        jnp.full((), 1e-16),
        jnp.int32(0),
    )

    def unfinished(t: _State) -> Array:
        gap = t.objective - t.bound
        closed = (gap <= TOLERANCE) | ((gap <= 0.5 * ENOUGH) & (t.stale >= 2))
        over = (t.feasible & closed) | (t.bound >= cutoff)
        return ~over & (t.steps < _MOST_STEPS) & (t.damping < _STUCK)

    end = jax.lax.while_loop(unfinished, step, start)
    return Solution(
        end.w,
        _program.slack(p, end.w),
        end.best_u,
        end.best_dual,
        end.objective,
        end.bound,
        end.feasible,
        end.steps,
    )


def _stepper(p: Program, free: Array, count: Array) -> Callable[[_State], _State]:
    """The map from one state to the next."""
    m, n = p.gates.shape
    c, r = p.facets.shape
    size, units = m * r, jnp.arange(m)
    jacobian = (p.gates.T[:, :, None] * p.features[:, None, :]).reshape(n, size)
    # One product of matrices gives the blocks of all units: squares of normals, weighted.
    squares = (p.facets[:, :, None] * p.facets[:, None, :]).reshape(c, r * r)
    diagonal = jnp.arange(size)

    def hessian(h: Array) -> Array:
        return jnp.matmul(jacobian.T * h, jacobian)

    constant = hessian(_program.curvature(p, p.targets)) if p.loss == "squared" else None

    def step(t: _State) -> _State:
        f = _program.outputs(p, t.w)
        slope, h = _program.slope(p, f), _program.curvature(p, f)
        gap = t.objective - t.bound
        r_dual = _program.pull_outputs(p, slope) - _program.pull_slack(p, t.u)
        r_dual = r_dual + jnp.matmul(t.w, p.penalty)
        r_primal = jnp.where(free, 0.0, _program.slack(p, t.w) - t.s)
        mu = jnp.sum(t.s * t.u) / count
        stiffness = t.u / t.s * jnp.square(p.sides)

        matrix = hessian(h) if constant is None else constant
        blocks = jnp.matmul(stiffness, squares).reshape(m, r, r) + p.penalty
        matrix = matrix.reshape(m, r, m, r).at[units, :, units, :].add(blocks).reshape(size, size)
        absolute = jnp.minimum(_PROXIMAL * gap / (1 + jnp.sum(jnp.square(t.w))), _DAMPING)
        added = absolute + t.damping * jnp.max(jnp.diagonal(matrix))
        factor = jnp.linalg.cholesky(matrix.at[diagonal, diagonal].add(added))

        def apply(x: Array) -> Array:
            along = h * _program.outputs(p, x)
            out = _program.pull_outputs(p, along) + jnp.matmul(x, p.penalty)
            stiff = jnp.matmul(stiffness * jnp.matmul(x, p.facets.T), p.facets)
            return out + stiff + absolute * x

        def solve(b: Array) -> Array:
            flat = jax.scipy.linalg.cho_solve((factor, True), b.reshape(size))
            return flat.reshape(m, r)

        def right_side(target: Array) -> Array:
            return _program.pull_slack(p, (target - t.u * r_primal) / t.s) - r_dual

        def others(dw: Array, target: Array) -> tuple[Array, Array]:
            ds = jnp.where(free, 0.0, _program.slack(p, dw) + r_primal)
            return ds, jnp.where(free, 0.0, (target - t.u * ds) / t.s)

        def longest(ds: Array, du: Array) -> Array:
            rate = jnp.maximum(-ds / t.s, jnp.where(free, 0.0, -du / jnp.where(free, 1.0, t.u)))
            return 1 / jnp.maximum(jnp.max(rate), 1e-30)

        target = jnp.where(free, 0.0, -t.s * t.u)
        ds, du = others(solve(right_side(target)), target)
        length = jnp.minimum(longest(ds, du), 1.0)
        affine = jnp.sum((t.s + length * ds) * (t.u + length * du)) / count
        ahead = jnp.minimum(gap, count * mu + jnp.abs(jnp.sum(r_dual * t.w)))
        least = jnp.maximum(
            jnp.minimum(_AHEAD * ahead / count / mu, 0.3),
            jnp.minimum(0.05 * TOLERANCE / count / mu, 1.0),
        )
        sigma = jnp.clip((affine / mu) ** 3, least, 1.0)
        target = jnp.where(free, 0.0, sigma * mu - t.s * t.u - ds * du)
        rhs = right_side(target)
        dw = solve(rhs)
        dw = dw + solve(rhs - apply(dw))
        ds, du = others(dw, target)
        error = jnp.linalg.norm(apply(dw) - rhs) / jnp.linalg.norm(rhs)
        length = jnp.minimum(longest(ds, du) * jnp.maximum(_TO_BOUNDARY, 1 - mu), 1.0)

        w, u = t.w + length * dw, t.u + length * du
        s = t.s + length * ds
        value = _program.slack(p, w)
        inside = jnp.all(free | (value > 0.5 * s))
        s = jnp.where(inside & ~free, value, s)
        longest_w = jnp.max(jnp.sqrt(jnp.sum(jnp.square(w), axis=1)))
        f_new = _program.outputs(p, w)
        # The dual point of the linear model. What it leaves of the dual equations is rounding, but
        # long weights would magnify it.
        near, dual, multipliers = t.w + dw, slope + h * _program.outputs(p, dw), t.u + du
        missing = _program.pull_outputs(p, dual) - _program.pull_slack(p, multipliers)
        z = -solve(missing + jnp.matmul(near, p.penalty))
        near, dual = near + z, dual + h * _program.outputs(p, z)
        multipliers = jnp.maximum(multipliers - stiffness * _program.slack(p, z), 0.0)
        offers = [(dual, multipliers, near), (_program.slope(p, f_new), u, w)]
        bound, best_u, best_dual = _best(p, t, offers, REACH * longest_w)

        objective = _program.objective(p, w, f_new)
        feasible = jnp.all(value >= -_ROUNDING * (1 + longest_w))
        halved = (objective - bound < 0.5 * gap) | ~feasible
        failed = ~jnp.isfinite(objective + jnp.sum(u) + jnp.sum(s))
        noisy = failed | (error > 1e-2)
        damping = jnp.where(noisy, 100 * t.damping, jnp.maximum(0.1 * t.damping, 1e-16))
        stale = jnp.where(halved, jnp.zeros_like(t.stale), t.stale + 1)
        new = _State(
            w, s, u, objective, bound, best_u, best_dual, feasible, t.steps, damping, stale
        )
        # A step that failed is repeated with more damping.
        new = jax.tree.map(lambda old, new: jnp.where(failed, old, new), t, new)
        return new._replace(steps=t.steps + 1, damping=damping)

    return step


def _best(
    p: Program, t: _State, offers: list[tuple[Array, Array, Array]], radius: Array
) -> tuple[Array, Array, Array]:
    """The best bound so far and its dual point: the state's or one of those offered."""
    bound, best_u, best_dual = t.bound, t.best_u, t.best_dual
    for dual, u, near in offers:
        new, dual = _program.dual_bound(p, dual, u, near, radius)
        better = new > bound  # False for NaN
        bound = jnp.where(better, new, bound)
        best_u = jnp.where(better, u, best_u)
        best_dual = jnp.where(better, dual, best_dual)
    return bound, best_u, best_dual
