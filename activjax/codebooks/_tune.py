"""Which strategy is the fastest on the device at hand."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from activjax.codebooks._combine import combine
from activjax.codebooks._nearest import nearest
from activjax.codebooks._strategy import Strategy


@dataclass(frozen=True)
class Timing:
    """How long a strategy took, beside the fastest.

    Attributes:
      strategy: with nothing left open.
      ratio: the median over rounds of its time divided by that of the fastest.
      low, high: the quartiles of these.
      milliseconds: the median time of a forward and backward pass.
    """

    strategy: Strategy
    ratio: float
    low: float
    high: float
    milliseconds: float


def tune(
    tokens: int,
    groups: int,
    codes: int,
    d: int,
    k: int,
    *,
    candidates: Sequence[Strategy] | None = None,
    repeats: int = 5,
) -> tuple[Strategy, list[Timing]]:
    """Times a forward and backward pass of random activations and codes, with each strategy.

    All strategies run once in each round, in random order, so that what else the machine does
    disturbs all alike.

    Args:
      tokens, groups, codes, d, k: the sizes: T activations of G groups of d features, k of C.
      candidates: what is tried; None: both exact selections, the usual chunk, its half and its
        double, groups one by one and side by side; on accelerators also bfloat16 and one-hot
        products.
      repeats: rounds.

    Returns:
      The fastest, and the timings of all, the fastest first.

    Raises:
      ValueError: nothing to try, or no rounds.
    """
    if repeats < 1:
        raise ValueError(f"tune: repeats is {repeats}, expected at least 1")
    sizes = (tokens, groups, codes, d, k)
    given = _usual(*sizes) if candidates is None else candidates
    tried = list(dict.fromkeys(s.resolved(*sizes) for s in given))
    if not tried:
        raise ValueError("tune: candidates is empty, expected at least one Strategy")
    key_a, key_codes = jax.random.split(jax.random.key(0))
    args = (
        jax.random.normal(key_a, (tokens, groups, d), jnp.float32),
        jax.random.normal(key_codes, (groups, codes, d), jnp.float32),
    )
    steps = [_step(strategy, k) for strategy in tried]
    for step in steps:
        jax.block_until_ready(step(*args))
    seconds = np.zeros((len(tried), repeats))
    for i in range(repeats):
        for j in random.Random(i).sample(range(len(tried)), len(tried)):
            start = time.perf_counter()
            jax.block_until_ready(steps[j](*args))
            seconds[j, i] = time.perf_counter() - start
    ratios = seconds / seconds[np.median(seconds, axis=1).argmin()]
    table = []
    for strategy, ratio, own in zip(tried, ratios, seconds):
        low, middle, high = (float(x) for x in np.percentile(ratio, [25, 50, 75]))
        table.append(Timing(strategy, middle, low, high, float(np.median(own)) * 1e3))
    table.sort(key=lambda row: row.milliseconds)
    return table[0].strategy, table


def _usual(tokens: int, groups: int, codes: int, d: int, k: int) -> list[Strategy]:
    accelerated = jax.default_backend() != "cpu"
    out = []
    for order in ("map", "vmap") if groups > 1 else ("vmap",):
        for select in ("top_k", "blocks"):
            base = Strategy(select=select, groups=order).resolved(tokens, groups, codes, d, k)
            chunk = base.chunk or tokens
            out += [dataclasses.replace(base, chunk=c) for c in (chunk // 2, chunk, 2 * chunk)]
            if accelerated:
                out.append(dataclasses.replace(base, similarity="bfloat16"))
                other = "gather" if base.combine == "one_hot" else "one_hot"
                out.append(dataclasses.replace(base, combine=other))
    return out


def _step(strategy: Strategy, k: int) -> Any:
    def loss(a: Any, codes: Any) -> Any:
        ids, _ = nearest(a, codes, k, None, strategy)
        q, error = combine(a, codes, ids, "sum", None, strategy)
        return jnp.sum(jnp.square(q)) + jnp.mean(error)

    return jax.jit(jax.grad(loss, argnums=(0, 1)))
