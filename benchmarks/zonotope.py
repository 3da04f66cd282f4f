"""Cells per second against linear programs and random gates, and counting.

    pip install -e ".[bench]" highspy pycddlib-standalone && python benchmarks/zonotope.py

Gaussian matrices of six sizes. In each round every method runs once, in random order: ours to the
end, from the matrix to packed patterns with their certificate, the peers for `--seconds` each (a
full enumeration would take them hours). Printed are cells per second of ours (median) and the
median and quartiles of the per-round ratios of the rates. The peers:

    HiGHS tree     signs row by row, depth first; one warm-started feasibility program for the side
                   that the node's own point is not on (Rada and Cerny 2018)
    HiGHS graph    from cell to cell: one program for each row that might be flipped
    cddlib graph   from cell to cell: facets by cddlib's redundancy removal
    Gaussian gates NumPy, float32: the share of all cells that is found in our time, and in 10 and
                   100 times as long
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from activjax import zonotope

SIZES = [(60, 4), (300, 3), (64, 5), (40, 6), (22, 8), (20, 10)]


def highs_tree(X: np.ndarray) -> Iterator[None]:
    """Depth first over rows; yields at each cell."""
    model = _highs(X)
    n = len(X)

    def visit(k: int, signs: np.ndarray, point: np.ndarray) -> Iterator[None]:
        if k == n:
            yield
            return
        here = 1 if X[k] @ point > 0 else -1
        for sign in (here, -here):
            _fix(model, k, sign)
            signs[k] = sign
            if sign == here:
                yield from visit(k + 1, signs, point)
            else:
                found = _feasible(model)
                if found is not None:
                    yield from visit(k + 1, signs, found)
        _fix(model, k, 0)

    yield from visit(0, np.zeros(n), np.random.default_rng(0).normal(size=X.shape[1]))


def highs_graph(X: np.ndarray) -> Iterator[None]:
    """From cell to cell; yields at each new one."""
    model = _highs(X)
    start = np.where(X @ np.random.default_rng(0).normal(size=X.shape[1]) > 0, 1, -1)
    seen, queue = {start.tobytes()}, [start]
    while queue:
        signs = queue.pop()
        yield
        for k, sign in enumerate(signs.tolist()):
            _fix(model, k, sign)
        for k in range(len(X)):
            other = signs.copy()
            other[k] = -other[k]
            if other.tobytes() in seen:
                continue
            _fix(model, k, int(other[k]))
            if _feasible(model) is not None:
                seen.add(other.tobytes())
                queue.append(other)
            _fix(model, k, int(signs[k]))


def cdd_graph(X: np.ndarray) -> Iterator[None]:
    """From cell to cell over facets that cddlib does not find redundant."""
    import cdd

    start = np.where(X @ np.random.default_rng(0).normal(size=X.shape[1]) > 0, 1, -1)
    seen, queue = {start.tobytes()}, [start]
    while queue:
        signs = queue.pop()
        yield
        rows = np.column_stack([np.zeros(len(X)), X * signs[:, None]])
        matrix = cdd.matrix_from_array(rows.tolist(), rep_type=cdd.RepType.INEQUALITY)
        for k in set(range(len(X))) - set(cdd.redundant_rows(matrix)):
            other = signs.copy()
            other[k] = -other[k]
            if other.tobytes() not in seen:
                seen.add(other.tobytes())
                queue.append(other)


def _highs(X: np.ndarray) -> Any:
    import highspy

    model = highspy.Highs()
    model.setOptionValue("output_flag", False)
    model.setOptionValue("threads", 1)
    free = highspy.kHighsInf
    for _ in range(X.shape[1]):
        model.addVar(-free, free)
    columns = np.arange(X.shape[1], dtype=np.int32)
    for row in X:
        model.addRow(-free, free, len(columns), columns, row)
    return model


def _fix(model: Any, k: int, sign: int) -> None:
    import highspy

    free = highspy.kHighsInf
    low, high = {1: (1.0, free), -1: (-free, -1.0), 0: (-free, free)}[sign]
    model.changeRowBounds(k, low, high)


def _feasible(model: Any) -> np.ndarray | None:
    import highspy

    model.run()
    if model.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return np.array(model.getSolution().col_value)


def rate(visit: Callable[[np.ndarray], Iterator[None]], X: np.ndarray, seconds: float) -> float:
    """Cells per second of a peer that is stopped after some time."""
    start, cells = time.perf_counter(), 0
    for _ in visit(X):
        cells += 1
        if time.perf_counter() - start > seconds:
            break
    return cells / (time.perf_counter() - start)


def gates(X: np.ndarray, seconds: float) -> int:
    """Distinct patterns that Gaussian gates find in some time."""
    rng, X = np.random.default_rng(0), X.astype(np.float32).T
    found = np.zeros(0, np.void)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        weights = rng.standard_normal((1 << 16, len(X)), np.float32)
        octets = np.packbits(weights @ X > 0, axis=1)
        rows = octets.view(np.dtype((np.void, octets.shape[1]))).ravel()
        found = np.unique(np.concatenate([found.astype(rows.dtype), rows]))
    return len(found)


def ours(X: np.ndarray, method: str) -> float:
    """Cells per second, from the matrix to packed patterns."""
    start = time.perf_counter()
    found = zonotope.cells(X, method=method)
    jax.block_until_ready(found.codes.words)
    return len(found) / (time.perf_counter() - start)


def enumeration(rounds: int, seconds: float, lps: bool) -> None:
    """The table of cells per second."""
    peers = {"HiGHS tree": highs_tree, "HiGHS graph": highs_graph, "cddlib graph": cdd_graph}
    for n, d in SIZES:
        X = np.random.default_rng(n).normal(size=(n, d))
        start = time.perf_counter()
        ours(X, "jax")
        first = time.perf_counter() - start
        calls: dict[str, Callable[[], float]] = {
            "ours": lambda X=X: ours(X, "generic"),
            "ours, jax": lambda X=X: ours(X, "jax"),
        }
        if lps:
            calls |= {
                name: lambda X=X, visit=visit: rate(visit, X, seconds)
                for name, visit in peers.items()
            }
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for i in range(rounds):
            order = list(calls)
            random.Random(i).shuffle(order)
            for name in order:
                rates[name].append(calls[name]())
        total = zonotope.count(X)
        mine = np.array(rates["ours"])
        compile_ = first - total / np.median(rates["ours, jax"])
        print(f"\n({n}, {d}): {total:,} cells; ours {np.median(mine) / 1e6:.2f} million cells/s; "
              f"jax path compiles in {compile_:.1f} s")  # fmt: skip
        for name, values in rates.items():
            low, mid, high = np.percentile(mine / np.array(values), [25, 50, 75])
            print(f"  ours over {name:14s} {mid:9.2f}  [{low:.2f}, {high:.2f}]"
                  f"   ({np.median(values):,.0f} cells/s)")  # fmt: skip
        took = total / np.median(mine)
        shares = [gates(X, times * took) / total for times in (1, 10, 100)]
        print("  Gaussian gates find " + ", ".join(f"{s:.1%}" for s in shares)
              + " of the cells in 1, 10 and 100 times our time")  # fmt: skip


def counting(largest: int) -> None:
    """Seconds to count resonance arrangements."""
    for n in range(5, largest + 1):
        X = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1
        start = time.perf_counter()
        total = zonotope.count(X)
        print(f"resonance-{n}: {total:,} cells counted in {time.perf_counter() - start:.2f} s")
    X = (np.arange(1, 32)[:, None] >> np.arange(5)) & 1
    start = time.perf_counter()
    found = zonotope.cells(X)
    seconds = time.perf_counter() - start
    print(f"resonance-5 enumerated: {len(found):,} cells, {found.certificate}, "
          f"{len(found) / seconds:,.0f} cells/s")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each peer in each round")
    parser.add_argument("--no-lp", action="store_true", help="leave the linear programs out")
    parser.add_argument("--resonance", type=int, default=6, help="the largest one to count")
    args = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    enumeration(args.rounds, args.seconds, not args.no_lp)
    counting(args.resonance)
