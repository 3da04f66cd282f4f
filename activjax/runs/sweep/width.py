"""How many cells one program holds: from the memory that the compiler says it needs."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

import jax

from activjax.runs.cells import Cells
from activjax.runs.memory import available, resident
from activjax.runs.programs import Programs

CPU_WIDTH = 16  # beyond it a program on CPU gains nothing, and a kill or a stop costs more
_SHARE = 0.8  # of what is free; the rest is for what the compiler does not count


@dataclasses.dataclass(frozen=True)
class Probe:
    """What was found out about a group.

    Attributes:
        width: cells of a program.
        devices: that share them.
        bytes: that the program of this width needs on each device; None if nobody knows.
        budget: bytes that were free for it; None if nobody knows.
        compile_seconds: of all its programs.
        cell_seconds: of one cell's steps and measurements, from some of them; None if not timed.
    """

    width: int
    devices: int
    bytes: int | None
    budget: int | None
    compile_seconds: float
    cell_seconds: float | None = None


#: Of a group whose cells are not trained together: there is no program to measure.
SINGLE = Probe(1, 1, None, None, 0.0)


def probe(
    make: Callable[[int], list[Programs]],
    count: int,
    most: int,
    budget: int | None,
    devices: int,
    unit: int = 1,
) -> tuple[Probe, list[Programs]]:
    """The widest program that fits, in a few compilations at most.

    Args:
        make: gives the programs of every case for a width, compiled when asked for their loop.
        count: cells of the group.
        most: the most cells that a program may have.
        budget: bytes for it on each device; None without a limit.
        devices: that may share it.
        unit: the width is a multiple of it.

    Returns:
        What was found, and the programs of that width.
    """
    width = even(count, most, devices, unit)
    while True:
        programs = make(width)
        needed = [p.memory() for p in programs]
        size = None if None in needed else max(n for n in needed if n is not None)
        seconds = sum(p.compile_seconds for p in programs)
        if size is None or budget is None or size <= budget or width <= unit:
            return Probe(width, programs[0].devices, size, budget, seconds), programs
        fitting = int(width * budget / size)
        width = even(count, max(1, min(fitting, width - unit)), devices, unit)


def even(count: int, most: int, devices: int = 1, unit: int = 1) -> int:
    """The width that spreads `count` cells over as few batches as possible, all nearly full.

    Where it is more than `devices` it is a multiple of them, else one of `unit`; then the last
    places of a batch repeat a cell.
    """
    width = math.ceil(count / math.ceil(count / max(1, most)))
    unit = devices if width > devices else unit
    return math.ceil(width / unit) * unit


def timed(found: Probe, programs: list[Programs], cells: Cells, most: float) -> Probe:
    """The same with the time of one cell: some of its steps, and one of its measurements.

    Args:
        found: of the group.
        programs: of its cases.
        cells: as many as they take.
        most: seconds for the steps of a case; one is run in any case.
    """
    total = 0.0
    for p in programs:
        step, hp, states = p.loop.program, p.placed(cells.hp), p.init(cells)
        n, seconds = min(1, p.steps), 0.0
        while n:
            begin = time.perf_counter()
            states, _ = step(states, n, hp)
            jax.block_until_ready(states)
            seconds = (time.perf_counter() - begin) / n
            longer = min(step.chunk, int(most / max(seconds, 1e-6)))
            if longer < 2 * n:
                break
            n = longer
        total += seconds * p.steps
        if p.measure_at:
            p.loop.measure(states, hp)  # compiles
            begin = time.perf_counter()
            p.loop.measure(states, hp)
            total += (time.perf_counter() - begin) * len(p.measure_at)
    compiled = sum(p.compile_seconds for p in programs)
    return dataclasses.replace(found, cell_seconds=total / cells.width, compile_seconds=compiled)


def budget(memory_mb: float | None, workers: int) -> int | None:
    """Bytes that a program may take in this process.

    Args:
        memory_mb: the process's limit; None means its share of what is free.
        workers: processes that share this machine.
    """
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(_SHARE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    if memory_mb is not None:
        return max(0, int(memory_mb * 2**20 - resident()))
    free = available()
    return None if free is None else int(_SHARE * free / max(1, workers))
