"""Slopes and multipliers that make bounds larger, by projected Adam (alpha- and beta-CROWN)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def ascend(
    objective: Callable[[Any], Any],
    start: Any,
    project: Callable[[Any], Any],
    steps: int,
    rate: float,
) -> tuple[Any, Any]:
    """The best value of each row, and the variables that gave it.

    Args:
      objective: from variables to `[boxes, rows]`; rows do not share variables.
      start: a pytree of arrays `[boxes, rows, ...]`.
      project: the nearest variables that are allowed.
      steps: of Adam (Kingma and Ba 2015), with a rate that falls by 2 % a step.
      rate: of the first step.
    """
    decay, square, eps = 0.9, 0.999, 1e-8

    def total(variables: Any) -> tuple[Any, Any]:
        value = objective(variables)
        return jnp.sum(jnp.where(jnp.isfinite(value), value, 0)), value

    def step(i: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        variables, first, second, best, kept = state
        (_, value), grads = jax.value_and_grad(total, has_aux=True)(variables)
        better = value > best
        best = jnp.where(better, value, best)
        kept = jax.tree.map(lambda k, v: jnp.where(_like(better, v), v, k), kept, variables)
        first = jax.tree.map(lambda m, g: decay * m + (1 - decay) * g, first, grads)
        second = jax.tree.map(lambda m, g: square * m + (1 - square) * g * g, second, grads)
        count = (i + 1).astype(best.dtype)
        size = rate * 0.98 ** i.astype(best.dtype)
        a, b = 1 - decay**count, 1 - square**count
        moved = jax.tree.map(
            lambda v, m, s: v + size * (m / a) / (jnp.sqrt(s / b) + eps), variables, first, second
        )
        return project(moved), first, second, best, kept

    zeros = jax.tree.map(jnp.zeros_like, start)
    shape = jax.eval_shape(objective, start)
    best = jnp.full(shape.shape, -jnp.inf, shape.dtype)
    state = (start, zeros, zeros, best, start)
    variables, _, _, best, kept = jax.lax.fori_loop(0, steps, step, state)
    value = objective(variables)
    better = value > best
    kept = jax.tree.map(lambda k, v: jnp.where(_like(better, v), v, k), kept, variables)
    return jnp.maximum(best, value), kept


def _like(mask: Any, array: Any) -> Any:
    return mask.reshape(*mask.shape, *[1] * (array.ndim - mask.ndim))
