"""How far from the best a sweep's schedule ends: a simulator of the driver's policy.

    python benchmarks/makespan.py [--seeds 20] [--quick]
    python benchmarks/makespan.py --cells 5000 --workers 64 --times pareto:1.5 --mean 100 \
        --width 4 --start 10 --each --lost 3600 --back 120 --every 60 --cost 1

The ratio is the makespan over the bound, max(all work / workers, longest cell), with the work of
the cells alone: start-up, compiling, checkpoints and work done twice all count against us. Median
[least, most] over seeds; `bound by` tells how often the longest cell is the bound.

Without `--cells`, the settings of the design note: what the policy does to heavy tails, what the
width of batches does, what losses do, and one program over 256 chips.
"""

from __future__ import annotations

import argparse
import dataclasses
import math

import numpy as np
from _schedule import Place, batches, bound, draw, play

TAILS = ("lognormal:1", "lognormal:1.5", "lognormal:2", "pareto:1.5", "pareto:1.1")
#: start-up as measured (`engines.py`), looks and gathering as the engines have them
LOCAL = Place(2, start=3.0, batch=0.01)
SLURM = Place(64, start=10.0, hear=0.5, batch=0.05)
RAY = Place(64, start=5.0, hear=0.45, batch=0.02)


@dataclasses.dataclass(frozen=True)
class Case:
    """Cells, their batches, and where they run."""

    name: str
    place: Place
    cells: int
    times: str
    mean: float
    width: int = 1
    guess: float | None = None  # longest first by guesses, off by a lognormal factor of this sigma


def ratios(case: Case, seeds: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Makespan over bound for each seed, how often the longest cell is the bound, and
    `[again, losses, blamed]` for each seed: work done again as a share of all.
    """
    found, tail, more = [], 0, []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        cells = draw(case.times, case.cells, case.mean, rng)
        if case.guess is not None:
            guesses = np.asarray(cells) * np.exp(rng.normal(0.0, case.guess, len(cells)))
            cells = np.asarray(cells)[np.argsort(-guesses)].tolist()
        least = bound(cells, case.place.workers)
        tail += max(cells) >= math.fsum(cells) / case.place.workers
        outcome = play(batches(cells, case.width), case.place, rng)
        found.append(outcome.makespan / least)
        more.append((outcome.again / math.fsum(cells), outcome.losses, outcome.blamed))
    return np.asarray(found), tail / seeds, np.asarray(more)


def show(title: str, cases: list[Case], seeds: int) -> None:
    """A table."""
    print(f"\n{title}: makespan / bound, median [least, most] of {seeds} seeds")
    for case in cases:
        ratio, tail, more = ratios(case, seeds)
        bounds = f"bound by the longest cell {tail:4.0%}" if tail else ""
        lost = more.mean(axis=0)
        told = f"  again {lost[0]:.1%}, losses {lost[1]:.0f}, blamed {lost[2]:.2f}"
        print(
            f"  {case.name:44s} {np.median(ratio):6.3f}  [{ratio.min():.3f}, {ratio.max():.3f}]  "
            f"{bounds}{told if lost[1] else ''}",
            flush=True,
        )


def pod(seeds: int, machines: int = 64) -> None:
    """One program over all machines of a pod: each loss is everybody's."""
    hour = 3600.0
    cases = [
        Case(f"a machine lost every {h / 24:.0f} d, {told}",
             Place(1, start=120.0, each=True, every=every, cost=cost, back=300.0,
                   lost=h * hour / machines, notice=notice), 10, "equal", 12 * hour)
        for h in (30 * 24, 7 * 24, 24)
        for told, every, cost, notice in (
            ("every 60 s, 1 s each", 60.0, 1.0, False), ("every 600 s, 1 s", 600.0, 1.0, False),
            ("every 600 s, 10 s", 600.0, 10.0, False), ("the same with notice", 600.0, 10.0, True))
    ]  # fmt: skip
    show(f"one program over {machines} machines, 10 batches of 12 h", cases, seeds)


def lockstep(seeds: int, chips: int = 256) -> None:
    """One program over all chips: every step waits for the slowest, every batch for its longest."""
    print(f"\none program over {chips} chips (5,120 cells): time / (work / chips), median [range]")
    for times in ("equal", "lognormal:0.02", "lognormal:0.1", "lognormal:0.5", "lognormal:1"):
        for width in (256, 1024, 5120):
            found = []
            for seed in range(seeds):
                cells = draw(times, 20 * chips, 100.0, np.random.default_rng(seed))
                parts = [cells[i : i + width] for i in range(0, len(cells), width)]
                # a chip has `width / chips` cells of a batch side by side: its step costs as many
                taken = sum(max(part) * math.ceil(len(part) / chips) for part in parts)
                found.append(taken / (math.fsum(cells) / chips))
            low, mid, high = np.percentile(found, [0, 50, 100])
            print(f"  {times:14s} width {width:5d}   {mid:6.3f}  [{low:.3f}, {high:.3f}]")


def study(seeds: int, quick: bool) -> None:
    """The tables of the design note."""
    mean = 100.0
    sizes = [(2, 200), (64, 5_000)] + ([] if quick else [(1_000, 100_000)])
    for workers, cells in sizes:
        bare = Place(workers)
        guesses = ((0.0, "exactly"), (1.0, "guessed within 3 times"))
        show(
            f"{workers} workers, {cells} cells of {mean:.0f} s, batches of one, no overhead",
            [Case(t, bare, cells, t, mean) for t in TAILS]
            + [
                Case(f"{t}, longest first, {told}", bare, cells, t, mean, 1, sigma)
                for t in (TAILS if cells < 50_000 else TAILS[::3])
                for sigma, told in (guesses if cells < 50_000 else guesses[1:])
            ],
            seeds,
        )
        show(
            "the same, in order, by width (lognormal:1)",
            [Case(f"width {w}", bare, cells, "lognormal:1", mean, w) for w in (1, 4, 16)],
            seeds,
        )
        show(
            "the same, longest first by a guess within 3 times, by width (lognormal:1)",
            [Case(f"width {w}", bare, cells, "lognormal:1", mean, w, 1.0) for w in (1, 4, 16)],
            seeds,
        )
    for name, place in (("SLURM", SLURM), ("Ray", RAY)):
        show(
            f"{name}, 64 workers, 5,000 cells, lognormal:1, longest first (guessed), by their mean",
            [
                Case(f"{m:g} s, width {w}", place, 5_000, "lognormal:1", m, w, 1.0)
                for m in (1.0, 10.0, 100.0, 1000.0) for w in (1, 4, 16)
            ],
            seeds,
        )  # fmt: skip
    hour = 3600.0
    base = dataclasses.replace(SLURM, every=60.0, cost=0.5, back=120.0)
    show(
        "losses (SLURM, 64 workers, 5,000 cells of 1,000 s, lognormal:1, longest first)",
        [
            Case(f"a loss every {h:g} h, {told}", dataclasses.replace(
                base, lost=h * hour, notice=notice, every=every),
                5_000, "lognormal:1", 1000.0, 1, 1.0)
            for h in (24, 4, 1, 0.25)
            for told, notice, every in (
                ("notice", True, 60.0), ("60 s", False, 60.0), ("600 s", False, 600.0),
                ("no checkpoints", False, math.inf))
            if h >= 4 or every < math.inf  # without any it would hardly end
        ],
        seeds,
    )  # fmt: skip
    pod(seeds)
    lockstep(seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="leave out 100,000 cells")
    parser.add_argument("--cells", type=int)
    parser.add_argument("--times", default="lognormal:1")
    parser.add_argument("--mean", type=float, default=100.0)
    parser.add_argument("--width", type=int, default=1)
    parser.add_argument("--each", action="store_true", help="every batch starts a process")
    parser.add_argument("--notice", action="store_true", help="a loss is announced")
    parser.add_argument("--guess", type=float, help="longest first, guesses off by this sigma")
    parser.add_argument("--workers", type=int, default=64)
    numbers = ("start", "queue", "hear", "batch", "every", "cost", "lost", "back")
    defaults = Place(1)
    for name in numbers:
        parser.add_argument(f"--{name}", type=float, default=getattr(defaults, name))
    given = parser.parse_args()
    if given.cells is None:
        return study(given.seeds, given.quick)
    place = Place(
        given.workers, each=given.each, notice=given.notice,
        **{name: getattr(given, name) for name in numbers},
    )  # fmt: skip
    case = Case("as given", place, given.cells, given.times, given.mean, given.width, given.guess)
    return show(f"{given.cells} cells on {given.workers} workers", [case], given.seeds)


if __name__ == "__main__":
    main()
