"""What the engines of a sweep cost, and how near the best a real sweep ends.

    python benchmarks/engines.py overhead [--rounds 3] [--engines inline,local,slurm,ray,hosts]
    python benchmarks/engines.py makespan [--rounds 1] [--work 110]
    python benchmarks/engines.py scaling [--rounds 5]
    python benchmarks/engines.py driver
    python benchmarks/engines.py metadata        (needs strace)
    python benchmarks/engines.py checkpoint

`overhead`: time of a cell that does next to nothing, from two sizes of a sweep, whole commands in
random order within a round; SLURM is submitit's stand-in, Ray a cluster of this machine, hosts two
processes; two places each. `makespan`: 200 cells that sleep for heavy-tailed times, on two local
workers, over the bound, in the plan's order and longest first by guesses off by a factor of three,
beside what the simulator says of the same lists. `scaling`: one training step under data
parallelism over 1, 2 and 4 processes, at the same batch of all. `driver`: how long
one look takes with thousands of tickets, and events a second. `metadata`: calls that the server of
a shared file system would see. `checkpoint`: bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import _driver_load
import _metadata
import _scaling
import _sweeps
import numpy as np
from _schedule import Place, bound, draw, play

#: engine -> width -> two sizes of a sweep; the slope between them is the cost of a cell
SIZES = {
    "inline": {1: (16, 80), 16: (64, 832)},
    "local": {1: (16, 80), 16: (64, 832)},
    "slurm": {1: (16, 80), 16: (64, 832)},
    "ray": {1: (8, 40), 16: (64, 320)},
    "hosts": {1: (4, 12), 16: (32, 160)},
}


def overhead(engines: list[str], rounds: int) -> None:
    slopes: dict[tuple[str, int], list[float]] = {}
    starts: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for i in range(rounds + 1):  # the first one fills the caches
            order = [(engine, width) for engine in engines for width in SIZES[engine]]
            random.Random(i).shuffle(order)
            for engine, width in order:
                home = Path(scratch) / engine
                home.mkdir(exist_ok=True)
                few, many = SIZES[engine][width]
                taken = []
                for cells in [few] if i == 0 else [few, many]:
                    name = f"x{i}-{width}-{cells}"
                    folder = _sweeps.run(home, engine, _sweeps.TRACED, cells, name, width=width)
                    taken.append(_sweeps.seconds(folder))
                if i:
                    slope = (taken[1] - taken[0]) / (many - few)
                    slopes.setdefault((engine, width), []).append(slope)
                    starts.setdefault((engine, width), []).append(taken[0] - slope * few)
    print("\nmilliseconds a cell, median [quartiles], and a batch; seconds before the first cell")
    for (engine, width), found in slopes.items():
        low, mid, high = np.percentile(np.asarray(found) * 1e3, [25, 50, 75])
        print(
            f"  {engine:7s} width {width:2d}  {mid:8.2f}  [{low:.2f}, {high:.2f}]   "
            f"a batch {mid * width:8.1f}   start {np.median(starts[engine, width]):5.1f} s"
        )


def makespan(rounds: int, work: float) -> None:
    """Both in seconds: the sum of all cells is `work`, so that the bound is about half of it."""
    predicted = []
    print(f"\n200 cells on 2 local workers, {work:.0f} s of work: real, and as simulated")
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        for i in range(rounds):
            for kind in ("lognormal:1", "lognormal:1.5", "pareto:1.5"):
                rng = np.random.default_rng(i)
                times = draw(kind, 200, 1.0, rng)
                times = [round(t * work / sum(times), 4) for t in times]
                guesses = (np.asarray(times) * np.exp(rng.normal(0.0, 1.0, 200))).round(4).tolist()
                least = bound(times, 2)
                for told, order in (("in order", None), ("longest first", guesses)):
                    text, played = _sweeps.SLEEPING.format(times=times), times
                    if order is not None:
                        text += _sweeps.GUESSING.format(guesses=order)
                        played = [times[k] for k in np.argsort(-np.asarray(order), kind="stable")]
                    name = f"m{i}-{kind.replace(':', '-').replace('.', '')}-{told.split()[0]}"
                    folder = _sweeps.run(home, "local", text, 200, name, width=1, counted=True)
                    real, begun = _sweeps.seconds(folder), _first_begin(folder)
                    place = Place(2, start=begun, batch=0.012)
                    bare = play(played, Place(2), np.random.default_rng(0)).makespan
                    like = play(played, place, np.random.default_rng(0)).makespan
                    predicted.append(real / like)
                    print(
                        f"  {kind:14s} {told:14s} bound {least:6.1f} s  real {real / least:.3f}  "
                        f"simulated without overhead {bare / least:.3f}, "
                        f"with {begun:.1f} s of start and 12 ms a batch {like / least:.3f}",
                        flush=True,
                    )
    print(f"  real over simulated: median {np.median(predicted):.3f}, "
          f"least {min(predicted):.3f}, most {max(predicted):.3f}")  # fmt: skip


def _first_begin(folder: Path) -> float:
    """Seconds until a worker took its first batch."""
    begin = (folder / "sweep.json").stat().st_mtime
    records = (folder / "cells").glob("*.json")
    took = [p.stat().st_mtime - json.loads(p.read_text())["run"]["seconds"] for p in records]
    return max(0.0, min(took) - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "what",
        choices=("overhead", "makespan", "scaling", "driver", "metadata", "checkpoint"),
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", default=",".join(SIZES))
    parser.add_argument("--work", type=float, default=110.0)
    given = parser.parse_args()
    begin = time.monotonic()
    if given.what == "overhead":
        overhead(given.engines.split(","), given.rounds)
    elif given.what == "makespan":
        makespan(given.rounds, given.work)
    elif given.what == "scaling":
        _scaling.scaling(given.rounds)
    elif given.what == "driver":
        _driver_load.looks()
        _driver_load.events()
        _driver_load.records()
    elif given.what == "checkpoint":
        _scaling.checkpoints()
    else:
        _metadata.table("local", (4, 12), 1)
        _metadata.table("local", (32, 96), 16)
        _metadata.table("slurm", (2, 6), 1)
        _metadata.table("slurm", (32, 96), 16)
    print(f"({time.monotonic() - begin:.0f} s)")


if __name__ == "__main__":
    main()
