"""Pieces per second along segments, against walking from piece to piece.

    python benchmarks/region_segments.py

Dense ReLU networks of 64 inputs and 10 outputs, He-normal, with small biases; segments between
Gaussian points. In each round every method runs once, in random order: ours on all segments, the
walker on some of them. Printed are pieces per second (median), the seconds that compiling took, and
the median and quartiles of the per-round ratios of the rates. That all find the same numbers of
pieces is checked. The walker is what published code does, in NumPy float64 with its weights read
once: at the current point it computes pattern, values and derivatives along the segment of all
units, takes the nearest place where one of them changes sign, and goes on behind it.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from _timing import measure

from activjax.program.networks import Affine, Layer, Network
from activjax.regions._segments import segments
from activjax.regions._segments_result import Segments

INPUTS, OUTPUTS = 64, 10
SIZES = {"3 x 32": [32] * 3, "3 x 128": [128] * 3, "6 x 64": [64] * 6}


def network(hidden: list[int]) -> Network:
    rng = np.random.default_rng(sum(hidden))
    sizes = [INPUTS, *hidden, OUTPUTS]
    maps = [
        Affine({i: rng.normal(size=(a, b)) * np.sqrt(2 / a)}, 0.01 * rng.normal(size=b))
        for i, (a, b) in enumerate(itertools.pairwise(sizes))
    ]
    return Network(INPUTS, tuple(Layer(affine) for affine in maps[:-1]), maps[-1])


def walk(weights: list[tuple[np.ndarray, np.ndarray]], x0: np.ndarray, x1: np.ndarray) -> int:
    """The number of pieces of one segment."""
    pieces, t, direction = 1, 0.0, x1 - x0
    while True:
        # A row of values and one of derivatives, through all layers.
        rows = np.stack([x0 + t * direction, direction])
        nearest = 1.0 - t
        for matrix, bias in weights:
            rows = rows @ matrix
            rows[0] += bias
            value, slope = rows
            active = (value > 0) | ((value == 0) & (slope > 0))
            with np.errstate(divide="ignore"):
                ahead = -value / slope
            ahead = ahead[(slope != 0) & (ahead > 1e-13)]
            if len(ahead):
                nearest = min(nearest, ahead.min())
            rows = rows * active
        t += nearest
        if t >= 1.0:
            return pieces
        t += 1e-13  # over the hinge
        pieces += 1


def walker(net: Network, x0: np.ndarray, x1: np.ndarray) -> np.ndarray:
    weights = [(layer.affine.matrices[i], layer.affine.bias) for i, layer in enumerate(net.layers)]
    return np.array([walk(weights, a, b) for a, b in zip(x0, x1, strict=True)])


def quartiles(ratios: np.ndarray) -> str:
    low, mid, high = np.percentile(ratios, [25, 50, 75])
    return f"{mid:7.1f}  [{low:.1f}, {high:.1f}]"


def compare(name: str, net: Network, n: int, walked: int, rounds: int) -> None:
    """One network: the table of rates."""
    x0, x1 = np.random.default_rng(0).normal(size=(2, n, INPUTS))
    counts = segments(net, x0, x1).counts
    share = counts[:walked].sum() / counts.sum()  # the walker's work, in pieces

    calls: dict[str, Callable[[], Any]] = {
        "walker": lambda: walker(net, x0[:walked], x1[:walked]),
        "host": lambda: segments(net, x0, x1).counts,
        "host, certified": lambda: _certified(net, x0, x1),
        "jax": lambda: segments(net, x0, x1, engine="jax").counts,
        "jax32": lambda: segments(net, x0, x1, engine="jax32").counts,
    }
    for call, found in calls.items():
        start = time.perf_counter()
        seen = found()
        if call != "jax32":
            assert (seen == counts[: walked if call == "walker" else n]).all(), call
        if call.startswith("jax"):
            print(f"{name}: {call} first call {time.perf_counter() - start:.1f} s")
    float32(net, x0, x1)
    times = measure(calls, rounds)
    print(f"\n{name}: {counts.mean():.1f} pieces a segment, {n:,} segments")
    for call, seconds in times.items():
        pieces = counts.sum() * (share if call == "walker" else 1)
        ratio = quartiles(times["walker"] / (1 if call == "walker" else share) / seconds)
        print(f"  {call:16s} {pieces / np.median(seconds):11,.0f} pieces/s"
              f"   over the walker {ratio}")  # fmt: skip


def float32(net: Network, x0: np.ndarray, x1: np.ndarray) -> None:
    """The errors of float32, for ends that it holds."""
    x0, x1 = (x.astype(np.float32) for x in (x0, x1))
    exact, found = (segments(net, x0, x1, engine=e) for e in ("host", "jax32"))
    missed, more = [], 0
    for a, b in zip(_patterns(exact), _patterns(found), strict=True):
        missed += [length for pattern, length in a.items() if pattern not in b]
        more += len(b.keys() - a.keys())
    same = exact.counts == found.counts
    error = np.abs(exact.start[same[exact.segment]] - found.start[same[found.segment]])
    far = ", ".join(f"{x:.1e}" for x in np.quantile(error, [0.5, 0.999, 1]))
    print(f"  float32 misses {len(missed)} of {len(exact.start):,} pieces, the longest "
          f"{max(missed, default=0):.1e} of its segment, and has {more} that are not there; "
          f"breakpoints elsewhere are off by (median, 0.999, most) {far}; "
          f"{found.doubtful} pieces in doubt")  # fmt: skip


def _patterns(found: Segments) -> list[dict[bytes, float]]:
    out: list[dict[bytes, float]] = [{} for _ in range(len(found))]
    for i, states, length in zip(
        found.segment, found.states, found.stop - found.start, strict=True
    ):
        out[i][states.tobytes()] = length
    return out


def _certified(net: Network, x0: np.ndarray, x1: np.ndarray) -> np.ndarray:
    found = segments(net, x0, x1)
    assert found.certificate == "generic-certified", found.doubtful
    return found.counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--segments", type=int, default=1000)
    parser.add_argument("--walked", type=int, default=30, help="segments for the walker")
    args = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, NumPy {np.__version__}")
    for name, hidden in SIZES.items():
        compare(name, network(hidden), args.segments, args.walked, args.rounds)
