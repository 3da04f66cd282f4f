"""Interleaved timing: what every benchmark here compares with."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Function = Callable[[], Any]


def measure(calls: dict[str, Function], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each call in each round, all calls in random order within a round."""
    out = {name: np.zeros(rounds) for name in calls}
    order = list(calls)
    for call in calls.values():
        jax.block_until_ready(call())
    for i in range(rounds):
        random.Random(i).shuffle(order)
        for name in order:
            start = time.perf_counter()
            jax.block_until_ready(calls[name]())
            out[name][i] = time.perf_counter() - start
    return out


def show(
    title: str, times: dict[str, np.ndarray], more: dict[str, str] | None = None, base: str = "bare"
) -> None:
    """A table of ratios to one of the calls: median and quartiles of the per-round ratios."""
    print(f"\n{title}: {base} {np.median(times[base]) * 1e3:.0f} ms (median)")
    for name, seconds in times.items():
        low, mid, high = np.percentile(seconds / times[base], [25, 50, 75])
        print(f"  {name:36s} {mid:5.3f}  [{low:5.3f}, {high:5.3f}]  {(more or {}).get(name, '')}")
