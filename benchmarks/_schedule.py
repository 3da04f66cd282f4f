"""A sweep's schedule without its work: the policy of the driver, played with drawn times.

The driver keeps `2 * workers` batches with the engine, in order, and puts a batch whose process was
lost first among those that it still has. A worker takes the next batch that it finds. Everything
else (start-up, queues, checkpoints, losses) is a number of `Place`.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

_DEATHS = 3  # at one place, as the driver counts them


class Draws(Protocol):
    """What is random: numpy's generator, or a script of a test."""

    def exponential(self, scale: float) -> float:
        """A waiting time with a mean."""
        ...


@dataclasses.dataclass(frozen=True)
class Place:
    """Where batches run.

    Attributes:
        workers: batches at a time.
        start: seconds until a worker can work: its process and its imports.
        each: every batch pays `start`, as a SLURM job does; else every worker once.
        queue: mean seconds that a job waits for a free machine (exponential).
        hear: seconds until the driver's answer to an end can be taken: its look, and the time in
            which it gathers tickets.
        batch: seconds of overhead for a batch.
        every, cost: seconds of work between two checkpoints, and of one checkpoint.
        lost: mean seconds between two losses of a worker while it works (exponential).
        notice: the loss is announced in time to save a checkpoint.
        back: seconds until a lost worker can start again.
    """

    workers: int
    start: float = 0.0
    each: bool = False
    queue: float = 0.0
    hear: float = 0.0
    batch: float = 0.0
    every: float = math.inf
    cost: float = 0.0
    lost: float = math.inf
    notice: bool = False
    back: float = 0.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a sweep went.

    Attributes:
        makespan: seconds from its start to its last end.
        again: seconds of work done more than once.
        losses: of workers that had a batch.
        blamed: batches whose process was lost three times at one place; the driver would split
            them, and in the end fail a cell that is not at fault.
    """

    makespan: float
    again: float
    losses: int
    blamed: int


@dataclasses.dataclass
class _Batch:
    left: float
    deaths: int = 0
    furthest: float = -1.0  # work done at the furthest place that was told
    done: float = 0.0


def bound(work: Sequence[float], workers: int) -> float:
    """No schedule is shorter: all work shared out evenly, or the longest batch."""
    return max(math.fsum(work) / workers, max(work))


def batches(cells: Sequence[float], width: int, *, lockstep: bool = False) -> list[float]:
    """Work of batches of neighbouring cells.

    Args:
        cells: seconds of each.
        width: of a batch.
        lockstep: the cells of a batch run side by side, and the longest decides; else one after
            the other, as on a CPU.
    """
    parts = [cells[i : i + width] for i in range(0, len(cells), width)]
    return [max(part) if lockstep else math.fsum(part) for part in parts]


def play(work: Sequence[float], place: Place, draws: Draws) -> Outcome:
    """Run batches of so many seconds of work, in their order.

    Args:
        work: seconds of each batch.
        place: where.
        draws: gives losses and queue times; not asked where there are none.
    """
    ready = collections.deque(_Batch(seconds) for seconds in work)
    reserve: collections.deque[_Batch] = collections.deque()  # with the engine, not begun
    idle = place.workers
    new = place.workers  # workers that have not started yet
    running = again = 0.0
    losses = blamed = count = 0
    events: list[tuple[float, int, str, _Batch | None]] = []

    def at(time: float, kind: str, batch: _Batch | None = None) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (time, count, kind, batch))

    def assign(now: float) -> None:
        nonlocal idle, new, again, losses
        while idle and reserve:
            idle -= 1
            batch = reserve.popleft()
            lead = place.batch
            if place.each or new:
                lead += place.start
                new -= not place.each
            if place.queue:
                now_from = now + draws.exponential(place.queue)
            else:
                now_from = now
            saves = _saves(batch.left, place)
            whole = lead + batch.left + saves * place.cost
            dies = draws.exponential(place.lost) if place.lost < math.inf else math.inf
            if dies >= whole:
                at(now_from + whole, "done", batch)
                continue
            losses += 1
            kept, reached = _progress(max(0.0, dies - lead), batch, place)
            if place.notice:
                kept = reached
            place_reached = batch.done + reached
            batch.deaths = 0 if place_reached > batch.furthest else batch.deaths
            batch.furthest = max(batch.furthest, place_reached)
            batch.deaths += not place.notice
            again += reached - kept
            batch.done += kept
            batch.left -= kept
            at(now_from + dies, "lost", batch)
            at(now_from + dies + place.back, "back")

    for _ in range(min(len(ready), 2 * place.workers)):
        reserve.append(ready.popleft())
        running += 1
    assign(0.0)
    last = 0.0
    while events:
        now, _, kind, batch = heapq.heappop(events)
        if kind == "done":
            last = now
            idle += 1
            assign(now)
            at(now + place.hear, "heard")
        elif kind == "lost":
            assert batch is not None
            if batch.deaths >= _DEATHS:
                blamed += 1
                batch.deaths = 0
            at(now + place.hear, "heard", batch)
        elif kind == "back":
            idle += 1
            new += not place.each
            assign(now)
        else:  # the driver has heard of an end
            running -= 1
            if batch is not None:
                ready.appendleft(batch)
            while ready and running < 2 * place.workers:
                reserve.append(ready.popleft())
                running += 1
            assign(now)
    return Outcome(last, again, losses, blamed)


def _saves(left: float, place: Place) -> int:
    """Checkpoints on the way: none at the end, as there the records follow."""
    if place.every == math.inf:
        return 0
    return max(0, math.ceil(left / place.every) - 1)


def _progress(seconds: float, batch: _Batch, place: Place) -> tuple[float, float]:
    """Work that is saved, and work that was reached, so many seconds after a batch's begin."""
    if place.every == math.inf:
        return 0.0, min(seconds, batch.left)
    whole, rest = divmod(seconds, place.every + place.cost)
    kept = min(whole * place.every, batch.left)
    return kept, min(kept + min(rest, place.every), batch.left)


def draw(kind: str, cells: int, mean: float, rng: np.random.Generator) -> list[float]:
    """Seconds of cells with heavy tails and a mean.

    Args:
        kind: `equal`, `lognormal:SIGMA` or `pareto:ALPHA` (classical, `ALPHA` more than 1).
        cells: how many.
        mean: of the law.
        rng: draws them.
    """
    name, _, value = kind.partition(":")
    if name == "equal":
        return [mean] * cells
    if name == "lognormal":
        sigma = float(value)
        return (mean * np.exp(rng.normal(-(sigma**2) / 2, sigma, cells))).tolist()
    if name == "pareto":
        alpha = float(value)
        return (mean * (alpha - 1) / alpha * (1 + rng.pareto(alpha, cells))).tolist()
    raise ValueError(f"draw: expected equal, lognormal:SIGMA or pareto:ALPHA, got '{kind}'")
