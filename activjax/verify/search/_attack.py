"""Search for a counterexample by projected gradients (PGD), before anything is proved."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from activjax.verify.search._spec import Rows, Spec
from activjax.verify.search._visit import against, evaluate, worst

#: The first step, as a share of the box; it falls to a hundredth.
STEP = 0.25


@partial(jax.jit, static_argnums=(0, 1, 2))
def attack(
    spec: Spec, restarts: int, steps: int, params: Any, rows: Rows, assumed: Any,
    box: tuple[Any, Any], key: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """The best points found, `[restarts, inputs]`, and their values; at most 0 where unsafe.

    Args:
      spec: sizes.
      restarts: random starts; the first one is the middle.
      steps: of signed gradients (Madry et al. 2018).
      params: of the network.
      rows: what is unsafe.
      assumed: `[units]` signs that inputs must have to count.
      box: `[inputs]` each.
      key: of the starts.
    """
    tape = spec.tape(params)
    low, high = box
    width = high - low

    def value(x: Any) -> Any:
        outputs, operands = evaluate(tape, x)
        return jnp.maximum(worst(rows, outputs), against(assumed, operands))

    start = low + width * jax.random.uniform(key, (restarts, spec.inputs), low.dtype)
    start = start.at[0].set(0.5 * low + 0.5 * high)

    def step(i: Any, state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        x, best, kept = state
        found, slope = _value_and_slope(value, x)
        better = found < best
        best = jnp.where(better, found, best)
        kept = jnp.where(better[:, None], x, kept)
        share = STEP * 0.01 ** (i.astype(low.dtype) / steps)
        moved = x - share * width * jnp.sign(slope)
        return jnp.clip(moved, low, high), best, kept

    infinite = jnp.full(restarts, jnp.inf, low.dtype)
    x, best, kept = jax.lax.fori_loop(0, steps, step, (start, infinite, start))
    last = value(x)
    better = last < best
    return jnp.where(better[:, None], x, kept), jnp.where(better, last, best)


def _value_and_slope(value: Any, x: Any) -> tuple[Any, Any]:
    found, pull = jax.vjp(value, x)
    return found, pull(jnp.ones_like(found))[0]
