"""What looking at a large sweep costs: a folder of 10,000 cells.

    python benchmarks/sweep_folder.py [--cells 10000]

Printed are the median and the quartiles of several rounds: reading all cells without an index, with
one, with one that lacks a hundredth; what a resumed sweep asks first (`recorded`); and
the commands of the terminal, each a whole process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "runs" / "sweep"))
import sweep_folder

from activjax.runs.sweep import index, page, table
from activjax.runs.sweep.folder import SweepFolder

#: as `activjax ls`, `activjax ls SWEEP` and `activjax show SWEEP`
COMMANDS = {
    "ls": "show.print_sweeps(all_sweeps(root), Console(width=160))",
    "ls SWEEP": "show.print_cells(all_sweeps(root)[0], Console(width=160))",
    "ls SWEEP --failed": "show.print_cells(all_sweeps(root)[0], Console(width=160), failed=True)",
    "show SWEEP": "show.print_sweep(all_sweeps(root)[0], Console(width=160))",
}
PROGRAM = """
import sys
from pathlib import Path
from rich.console import Console
from activjax.runs.sweep import show
from activjax.runs.sweep.folder import all_sweeps
root = Path(sys.argv[1])
{command}
print("jax" if "jax" in sys.modules else "no jax", file=sys.stderr)
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--cells", type=int, default=10_000)
    arguments.add_argument("--rounds", type=int, default=7)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        path = root / "large" / "0123456789ab"
        begin = time.perf_counter()
        make(path, given.cells)
        cells = len(SweepFolder(path).cells)
        print(f"{cells} cells, written in {time.perf_counter() - begin:.1f} s")
        inside(path, given.rounds)
        for name, command in COMMANDS.items():
            whole_process(name, command, root, given.rounds)


def make(path: Path, cells: int) -> None:
    """A grid of about so many cells, five seeds each, one in a hundred failed."""
    points = -(-cells // 5)
    rates = max(1, round(points**0.5))
    grid = {
        "model.width": list(range(1, -(-points // rates) + 1)),
        "learning_rate": [float(f"{10 ** (-4 * i / rates):.4g}") for i in range(rates)],
    }
    sweep_folder.make(path, grid=grid, seeds=range(5), failed=range(0, cells, 100))


def inside(path: Path, rounds: int) -> None:
    """What is measured within this process."""
    cache = path / "index.sqlite"
    records = sorted((path / "cells").iterdir())

    def hundredth() -> None:
        for record in records[::100]:
            record.touch()

    def nothing() -> None:
        pass

    def read() -> None:
        for line in index.rows(SweepFolder(path)):
            _ = line.summary

    cases: list[tuple[str, Callable[[], None], Callable[[], object]]] = [
        ("rows, no index", lambda: cache.unlink(missing_ok=True),
         lambda: index.rows(SweepFolder(path))),
        ("rows, index", nothing, lambda: index.rows(SweepFolder(path))),
        ("rows, a hundredth changed", hundredth, lambda: index.rows(SweepFolder(path))),
        ("rows and every number", nothing, read),
        ("recorded", nothing, lambda: SweepFolder(path).recorded()),
        ("aggregate", nothing, lambda: table.aggregate(index.rows(SweepFolder(path)))),
        ("export CSV", nothing, lambda: table.export(SweepFolder(path), path / "table.csv")),
        ("report", nothing, lambda: page.write(SweepFolder(path))),
    ]  # fmt: skip
    for name, before, call in cases:
        show(name, [timed(before, call) for _ in range(rounds)])
    for file in (cache, path / "table.csv", path / "report.html"):
        print(f"  {file.name:36s} {file.stat().st_size / 1e6:8.2f} MB")


def whole_process(name: str, command: str, root: Path, rounds: int) -> None:
    """A command of the terminal, from the start of Python to its end."""
    program = [sys.executable, "-c", PROGRAM.format(command=command), str(root)]

    def call() -> None:
        nonlocal said
        done = subprocess.run(program, capture_output=True, text=True, check=True)
        said = done.stderr.strip()

    said = ""
    show(f"activjax {name}", [timed(lambda: None, call) for _ in range(rounds)], said)


def timed(before: Callable[[], None], call: Callable[[], object]) -> float:
    before()
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def show(name: str, seconds: list[float], more: str = "") -> None:
    low, mid, high = np.percentile(seconds, [25, 50, 75]) * 1e3
    print(f"  {name:36s} {mid:8.0f} ms  [{low:.0f}, {high:.0f}]  {more}")


if __name__ == "__main__":
    main()
