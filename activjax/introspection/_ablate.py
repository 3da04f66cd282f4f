"""Removing directions from the residual stream at every layer, each layer with a weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from activjax.training._dtypes import wide
from activjax.transforms import SiteError, edits, intervene, select
from activjax.transforms._projection import project


def ablate(
    apply: Callable[..., Any],
    directions: Float[Array, "layers d"] | Float[Array, "layers r d"],
    weights: Float[Array, " layers"] | float,
    *,
    site: str = "blocks/resid_post",
    at: Any = None,
) -> Callable[..., Any]:
    """A function whose activations lose a share of their part along directions, at every layer.

    `x <- x - w P x`, with `P` the projection on the layer's directions: for one unit vector r,
    `x - w r r^T x` ("Mechanisms of Introspective Awareness", arXiv 2603.21396, refusal ablation
    with a weight for each region of layers; `contrast` gives such directions). Weight 0 changes
    nothing at all, 1 removes the part, and a zero direction removes nothing. Directions and weights
    may be traced: a search over weights is one program.

    Injections inside `apply` come before it at the same site, and those around it after:
    `ablate(inject(...), ...)` removes from what was injected, too.

    Args:
      apply: any function with the site in its loop over layers.
      directions: one for each layer, or r; of any length, r of them in any position.
      weights: of each layer, or of all.
      site: where.
      at: positions, as in `aj.select`; every one if left out.

    Returns:
      A function with the arguments of `apply`.

    Raises:
      ValueError: directions of another rank or weights that do not fit them.
      SiteError: from the function: no such site, or one that is in no loop of as many layers.
    """
    rows, shares = jnp.asarray(directions), jnp.asarray(weights)
    if rows.ndim not in (2, 3) or not rows.shape[0]:
        raise ValueError(
            f"ablate: directions: expected [layers, d] or [layers, r, d], got {list(rows.shape)}"
        )
    if shares.shape not in ((), rows.shape[:1]):
        raise ValueError(
            f"ablate: weights: expected a number or one for each of {rows.shape[0]} layers, got "
            f"shape {list(shares.shape)}"
        )
    shares = jnp.broadcast_to(shares, rows.shape[:1]).astype(rows.dtype)
    edit = jax.tree_util.Partial(_without, edits.each(rows), edits.each(shares))
    return intervene(apply, [(select(site, at=at), edit)])


def _without(rows: Array, weight: Array, x: Array, ctx: edits.Context) -> Array:
    rows = jnp.atleast_2d(rows)
    if x.shape[-1:] != rows.shape[-1:]:
        raise SiteError(
            f"ablate: site {ctx.site!r} has {x.shape[-1:]} features, the directions "
            f"{rows.shape[-1]}"
        )
    # no linear algebra in 16 bits
    work = wide(x.dtype)
    return _less(x, project(x.astype(work), rows.astype(work)), weight.astype(work))


def _difference(x: Array, part: Array, weight: Array) -> Array:
    return (x.astype(part.dtype) - weight * part).astype(x.dtype)


@jax.custom_jvp
def _less(x: Array, part: Array, weight: Array) -> Array:
    """`x - weight * part`; at weight 0 the same bits."""
    return jnp.where(weight == 0, x, _difference(x, part, weight))


@_less.defjvp
def _(primals: Any, tangents: Any) -> Any:
    # at weight 0 too: a choice between two values has no derivative by what it is made by
    return _less(*primals), jax.jvp(_difference, primals, tangents)[1]
