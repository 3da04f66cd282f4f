"""The solver of `zonotope.solve` against first-order methods on the same programs.

    pip install -e . && python benchmarks/convex_program.py

Gaussian data, random patterns, half the output signs -1; squared loss; float64; the same
orthonormal coordinates for all. The interior point runs to its proved gap of 1e-6 or less. The
others are told the optimum and stop within 1e-6 of it: ADMM with the best of four penalty
parameters, and the accelerated projected gradient on the dual, with restarts. Median and quartiles
of the ratio of times over problems.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from activjax import zonotope

SIZES = [(50, 10, 4), (200, 20, 10)]
PENALTIES = (0.01, 0.1, 1.0, 10.0)


def reached(z: Any, H: Any, q: Any, G: Any, optimum: Any, size: Any) -> Any:
    """Whether `z` is within 1e-6 of the optimum and of the constraints."""
    side = G @ z
    near = jnp.abs(0.5 * z @ (H @ z) - q @ z - optimum) <= 1e-6 * size
    return near & (jnp.max(-side) <= 1e-6 * jnp.max(jnp.abs(side)))


@partial(jax.jit, static_argnames="most")
def admm(H: Any, q: Any, G: Any, optimum: Any, size: Any, penalty: Any, most: int) -> Any:
    """Iterations of over-relaxed ADMM on `min z'Hz/2 - q'z, Gz >= 0`."""
    factor = jnp.linalg.cholesky(H + penalty * G.T @ G + 1e-9 * jnp.eye(len(H)))

    def step(t: Any) -> Any:
        z, s, u, k = t
        z = jax.scipy.linalg.cho_solve((factor, True), q + penalty * G.T @ (s - u))
        along = 1.6 * (G @ z) - 0.6 * s
        new = jnp.maximum(along + u, 0)
        return z, new, u + along - new, k + 1

    start = (jnp.zeros(len(H)), jnp.zeros(len(G)), jnp.zeros(len(G)), 0)
    args = (H, q, G, optimum, size)
    return jax.lax.while_loop(lambda t: ~reached(t[0], *args) & (t[3] < most), step, start)[3]


@partial(jax.jit, static_argnames="most")
def projected_dual(H: Any, q: Any, G: Any, optimum: Any, size: Any, most: int) -> Any:
    """Iterations of the accelerated projected gradient on the dual."""
    ridge = 1e-10 * jnp.trace(H) / len(H)
    factor = jnp.linalg.cholesky(H + ridge * jnp.eye(len(H)))

    def primal(multipliers: Any) -> Any:
        return jax.scipy.linalg.cho_solve((factor, True), q + G.T @ multipliers)

    M = G @ jax.scipy.linalg.cho_solve((factor, True), G.T)
    offset, rate = G @ primal(jnp.zeros(len(G))), 1 / jnp.linalg.norm(M, 2)

    def step(t: Any) -> Any:
        old, y, a, k = t
        new = jnp.maximum(y - rate * (M @ y + offset), 0)
        next_ = (1 + jnp.sqrt(1 + 4 * a * a)) / 2
        again = (y - new) @ (new - old) > 0
        y = jnp.where(again, new, new + (a - 1) / next_ * (new - old))
        return new, y, jnp.where(again, 1.0, next_), k + 1

    zero = jnp.zeros(len(G))
    args = (H, q, G, optimum, size)
    unfinished = lambda t: ~reached(primal(t[0]), *args) & (t[3] < most)  # noqa: E731
    return jax.lax.while_loop(unfinished, step, (zero, zero, 1.0, 0))[3]


def problem(n: int, d: int, m: int, seed: int) -> tuple[Any, ...]:
    """`X, y, patterns, signs` and the program `H, q, G` in orthonormal coordinates."""
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, d)), rng.normal(size=n)
    X[:, -1] = 1.0
    active = (X @ rng.normal(size=(d, m)) > 0).T
    signs = np.where(np.arange(m) % 2, -1.0, 1.0)
    Q = np.linalg.qr(X)[0]
    B = np.concatenate([v * gate[:, None] * Q for v, gate in zip(signs, active)], axis=1)
    unit = Q / np.linalg.norm(Q, axis=1, keepdims=True)
    G = np.zeros((m * n, m * d))
    for j, gate in enumerate(active):
        G[j * n : (j + 1) * n, j * d : (j + 1) * d] = np.where(gate, 1, -1)[:, None] * unit
    return (X, y, active, signs), (2 * B.T @ B, 2 * B.T @ y, G)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a second call, and its result."""
    jax.block_until_ready(call())
    start = time.perf_counter()
    out = jax.block_until_ready(call())
    return time.perf_counter() - start, out


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--most", type=int, default=4000, help="iterations of a first-order method")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    for n, d, m in SIZES:
        times: dict[str, list[float]] = {"ours": [], "ADMM": [], "projected dual": []}
        steps: dict[str, list[int]] = {name: [] for name in times}
        for seed in range(args.problems):
            given, program = problem(n, d, m, seed)
            seconds, fit = timed(lambda given=given: zonotope.solve(*given))
            size = float(given[1] @ given[1])
            told = (*program, float(fit.loss) - size, size)
            runs = [timed(lambda p=p, told=told: admm(*told, p, args.most)) for p in PENALTIES]
            best = min(runs, key=lambda run: int(run[1]))
            other = timed(lambda told=told: projected_dual(*told, args.most))
            for name, (took, count) in zip(times, ((seconds, fit.iterations), best, other)):
                times[name].append(took)
                steps[name].append(int(count))
        print(
            f"\n{n} examples, {d} features, {m} units: ours {np.median(times['ours']) * 1e3:.1f} ms"
        )
        for name, values in times.items():
            low, mid, high = np.percentile(np.array(values) / times["ours"], [25, 50, 75])
            counts = steps[name]
            capped = f"{sum(k >= args.most for k in counts)} of {len(counts)} not there"
            print(f"  {name:16s} {mid:7.2f}  [{low:.2f}, {high:.2f}]  {min(counts)} to "
                  f"{max(counts)} iterations, {capped}")  # fmt: skip
