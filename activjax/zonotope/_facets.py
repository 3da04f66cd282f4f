"""Which hyperplanes bound a cone, for many cones at once, in floating point."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

THIN = 1e-7
"""Cones whose unit vectors all come this close to a hyperplane count as empty."""

_MOST_STEPS = 50


class _State(NamedTuple):
    w: Array
    t: Array
    s: Array
    u: Array
    steps: Array


def bounding(normals: Float[Array, "c r"], sides: Float[Array, "c"]) -> Bool[Array, "c"]:
    """Which hyperplanes are facets of a cone: those across which there is another cone.

    Args:
        normals: of length 1.
        sides: 1 or -1; the cone is `sides normals . w > 0` and not empty.
    """
    across = 1 - 2 * jnp.eye(sides.shape[0], dtype=sides.dtype)
    return jax.vmap(has_interior, in_axes=(None, 0))(normals, across * sides)


def has_interior(normals: Float[Array, "c r"], sides: Float[Array, "c"]) -> Bool[Array, ""]:
    """Whether some `w` of length 1 has `sides normals . w > 1e-7`.

    By the interior-point method for the widest margin: minimise `|w|^2 / 2 - t` subject to
    `sides normals . w >= t`, whose dual is the shortest vector in the hull of `sides normals`; both
    have interior points whatever the cone. It ends at the first `w` inside, or with a vector of the
    hull so short that there is none.

    Args:
        normals: of length 1.
        sides: 1 or -1.
    """
    c, r = normals.shape
    squares = (normals[:, :, None] * normals[:, None, :]).reshape(c, r * r)

    def margin(w: Array) -> Array:
        return jnp.min(sides * jnp.matmul(normals, w))

    def hull(u: Array) -> Array:
        return jnp.matmul(sides * u, normals) / jnp.sum(u)

    def length(w: Array) -> Array:
        return jnp.sqrt(jnp.sum(jnp.square(w)))

    def unfinished(a: _State) -> Array:
        inside = margin(a.w) > THIN * length(a.w)
        return ~inside & (length(hull(a.u)) > THIN) & (a.steps < _MOST_STEPS)

    def step(a: _State) -> _State:
        stiffness = a.u / a.s
        corner = jnp.matmul(stiffness, squares).reshape(r, r) + jnp.eye(r, dtype=sides.dtype)
        edge = -jnp.matmul(sides * stiffness, normals)
        end = jnp.sum(stiffness)
        # t is eliminated last, by its Schur complement.
        factor = jnp.linalg.cholesky(corner)
        column = jax.scipy.linalg.cho_solve((factor, True), edge)
        pivot = end - jnp.sum(edge * column)
        rest = a.w - jnp.matmul(sides * a.u, normals)
        rest_t = jnp.sum(a.u) - 1
        value = sides * jnp.matmul(normals, a.w) - a.t
        missed = value - a.s

        def direction(target: Array) -> tuple[Array, Array, Array, Array]:
            pull = (target - a.u * missed) / a.s
            rhs = jnp.matmul(sides * pull, normals) - rest
            rhs_t = -jnp.sum(pull) - rest_t
            solved = jax.scipy.linalg.cho_solve((factor, True), rhs)
            dt = (rhs_t - jnp.sum(edge * solved)) / pivot
            dw = solved - column * dt
            ds = sides * jnp.matmul(normals, dw) - dt + missed
            return dw, dt, ds, (target - a.u * ds) / a.s

        def longest(ds: Array, du: Array) -> Array:
            return 1 / jnp.maximum(jnp.max(jnp.maximum(-ds / a.s, -du / a.u)), 1e-30)

        mu = jnp.mean(a.s * a.u)
        _, _, ds, du = direction(-a.s * a.u)
        size = jnp.minimum(longest(ds, du), 1.0)
        sigma = (jnp.mean((a.s + size * ds) * (a.u + size * du)) / mu) ** 3
        dw, dt, ds, du = direction(sigma * mu - a.s * a.u - ds * du)
        size = jnp.minimum(0.99 * longest(ds, du), 1.0)
        new = _State(a.w + size * dw, a.t + size * dt, a.s + size * ds, a.u + size * du, a.steps)
        sound = jnp.isfinite(jnp.sum(new.w) + jnp.sum(new.u) + jnp.sum(new.s))
        new = jax.tree.map(lambda old, new: jnp.where(sound, new, old), a, new)
        return new._replace(steps=jnp.where(sound, a.steps + 1, _MOST_STEPS))

    start = _State(jnp.zeros(r), -jnp.ones(()), jnp.ones(c), jnp.full(c, 1 / c), jnp.int32(0))
    end = jax.lax.while_loop(unfinished, step, start)
    return margin(end.w) > THIN * length(end.w)
