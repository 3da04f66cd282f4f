"""The convex program over activation patterns, in coordinates where its numbers are near one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Loss = Literal["squared", "logistic"]

LOSSES = ("squared", "logistic")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Program:
    """Minimise `mean_i loss(f_i, y_i) + sum_j w_j P w_j / 2` over weights `w` `[m, r]`.

    `f_i = sum_j gates[j, i] features[i] . w_j` is the output of a ReLU network on example i, so
    long as `w` is in the cones `sides[j, c] facets[c] . w_j >= 0`. float64; any leaf may have
    mapped axes.

    Attributes:
        features: `[n, r]`, examples in rows, columns orthogonal with mean square at most 1.
        facets: `[c, r]`, the normals of the hyperplanes, of length 1.
        sides: `[m, c]`, 1 or -1: on which side a unit stays; 0 where there is no constraint.
        gates: `[m, n]`, `v_j D_j[i]`: a unit's output weight where it is active, else 0.
        targets: `[n]`; labels are -1 and 1.
        penalty: `[r, r]`, P, positive semidefinite.
        loss: "squared", `(f - y)^2`, or "logistic", `log(1 + exp(-y f))`; static.
    """

    features: Float[Any, "*b n r"]
    facets: Float[Any, "*b c r"]
    sides: Float[Any, "*b m c"]
    gates: Float[Any, "*b m n"]
    targets: Float[Any, "*b n"]
    penalty: Float[Any, "*b r r"]
    loss: Loss = field(metadata={"static": True})


def outputs(p: Program, w: Float[Array, "m r"]) -> Float[Array, "n"]:
    """The network's outputs, with the gates as given."""
    return jnp.sum(jnp.matmul(p.features, w.T) * p.gates.T, axis=1)


def pull_outputs(p: Program, a: Float[Array, "n"]) -> Float[Array, "m r"]:
    """The transpose of `outputs`."""
    return jnp.matmul(p.gates * a, p.features)


def slack(p: Program, w: Float[Array, "m r"]) -> Float[Array, "m c"]:
    """The constraints' values; 0 where there is none."""
    return p.sides * jnp.matmul(w, p.facets.T)


def pull_slack(p: Program, multipliers: Float[Array, "m c"]) -> Float[Array, "m r"]:
    """The transpose of `slack`."""
    return jnp.matmul(p.sides * multipliers, p.facets)


def objective(p: Program, w: Float[Array, "m r"], f: Float[Array, "n"]) -> Float[Array, ""]:
    """What is minimised, at weights whose outputs are `f`."""
    return data_loss(p, f) + 0.5 * jnp.sum(jnp.matmul(w, p.penalty) * w)


def data_loss(p: Program, f: Float[Array, "n"]) -> Float[Array, ""]:
    """The mean loss of outputs."""
    if p.loss == "squared":
        return jnp.mean(jnp.square(f - p.targets))
    return jnp.mean(jax.nn.softplus(-p.targets * f))


def slope(p: Program, f: Float[Array, "n"]) -> Float[Array, "n"]:
    """The derivative of the mean loss by each output."""
    n = f.shape[0]
    if p.loss == "squared":
        return 2 * (f - p.targets) / n
    return -p.targets * jax.nn.sigmoid(-p.targets * f) / n


def curvature(p: Program, f: Float[Array, "n"]) -> Float[Array, "n"]:
    """The second derivative of the mean loss by each output."""
    n = f.shape[0]
    if p.loss == "squared":
        return jnp.full_like(f, 2 / n)
    return jax.nn.sigmoid(f) * jax.nn.sigmoid(-f) / n


def dual_bound(
    p: Program,
    dual: Float[Array, "n"],
    multipliers: Float[Array, "m c"],
    near: Float[Array, "m r"],
    radius: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, "n"]]:
    """A lower bound on the objective of feasible weights no longer than `radius`.

    For outputs' dual variables `a` and multipliers `l >= 0`, with `L*` the conjugate of the mean
    loss and `w0` any weights (the linearisation of the penalty is below the penalty),

        objective(w) >= -L*(a) - w0 P w0 / 2 - radius sum_j |residual_j|,
        residual = pull_outputs(a) - pull_slack(l) + P w0.

    Where the residual is 0 the bound holds for all weights. 0 is always a bound.

    Args:
        p: the program.
        dual: `[n]`; for the logistic loss moved into its range.
        multipliers: `[m, c]`, at least 0.
        near: `[m, r]`, `w0`.
        radius: of the ball.

    Returns:
        The bound, and `dual` as used.
    """
    n = dual.shape[0]
    if p.loss == "squared":
        conjugate = jnp.sum(n * jnp.square(dual) / 4 + dual * p.targets)
    else:
        share = jnp.clip(-p.targets * dual * n, 0.0, 1.0)
        dual = -p.targets * share / n
        conjugate = -jnp.mean(jax.scipy.special.entr(share) + jax.scipy.special.entr(1 - share))
    pulled = jnp.matmul(near, p.penalty)
    residual = pull_outputs(p, dual) - pull_slack(p, multipliers) + pulled
    missing = radius * jnp.sum(jnp.sqrt(jnp.sum(jnp.square(residual), axis=1)))
    bound = -conjugate - 0.5 * jnp.sum(pulled * near) - missing
    return jnp.maximum(bound, 0.0), dual
