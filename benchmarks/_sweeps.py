"""Sweeps of tiny experiments as whole commands on every engine: what `engines.py` measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from processes import free_port

#: A program of many cells; nothing but scheduling costs anything.
TRACED = """
import dataclasses
from activjax import runs
@dataclasses.dataclass(frozen=True)
class Config:
    a: float = runs.traced(0.0)
    steps: int = 1
def setup(config): return config
def init(static, hp, key): return {"x": hp.a, "key": key}
def step(static, hp, state): return {**state, "x": state["x"] + 1}, {"x": state["x"]}
def finish(static, hp, states, out):
    return runs.Result("?", "!", (runs.Row.over("x", states["x"]),))
"""

#: A cell that takes a time known in advance.
SLEEPING = """
import dataclasses, time
from activjax import runs
TIMES = {times}
@dataclasses.dataclass(frozen=True)
class Config:
    a: int = 0
def main(config, out):
    time.sleep(TIMES[config.a])
    return runs.Result("?", "!", (runs.Row.over("x", [float(config.a)]),))
"""

#: Added to it: what it guesses of its cells.
GUESSING = """
GUESSES = {guesses}
def cost(config): return GUESSES[config.a]
"""

ENGINES: dict[str, tuple[str, ...]] = {
    "inline": ("--engine", "inline"),
    "local": ("--engine", "local", "--workers", "2"),
    "slurm": ("--engine", "slurm", "--address", "local", "--workers", "2"),
    "ray": ("--engine", "ray", "--workers", "2"),
    "hosts": ("--engine", "hosts"),
}


def run(
    home: Path,
    engine: str,
    text: str,
    cells: int,
    name: str,
    *,
    width: int,
    before: Sequence[str] = (),
    counted: bool = False,
) -> Path:
    """Run a sweep of `cells` cells of an experiment; returns its folder.

    Args:
        home: scratch; the caches of compiled programs in it are used again.
        engine: one of `ENGINES`; hosts means two processes.
        text: of the experiment.
        cells: how many; the field `a` is their number.
        name: of the sweep, new each time.
        width: of a batch.
        before: put before the command, as `strace`.
        counted: the values of `a` are integers.

    Raises:
        RuntimeError: the command failed; has what it said.
    """
    (home / "e.py").write_text(text)
    values = list(range(cells)) if counted else [float(i) for i in range(cells)]
    config = {"experiment": "e.py", "name": name, "sweep": {"grid": {"a": values}}}
    (home / f"{name}.yaml").write_text(json.dumps(config))  # JSON is YAML
    command = [
        *before, sys.executable, "-m", "activjax.cli", "sweep", f"{name}.yaml", "--out", "runs",
        *ENGINES[engine], "--width", str(width),
    ]  # fmt: skip
    many: list[list[str]] = [[]]
    if engine == "hosts":
        address = f"127.0.0.1:{free_port()}"
        many = [["--address", address, "--processes", "2", "--process", str(i)] for i in (0, 1)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "COLUMNS": "200"}
    processes = [
        subprocess.Popen(
            [*command, *more], cwd=home, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for more in many
    ]  # fmt: skip
    said = [process.communicate(timeout=600)[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("\n".join(said))
    (folder,) = (home / "runs" / name).iterdir()
    return folder


def seconds(folder: Path) -> float:
    """From the plan's last word to the last record, by the files' times."""
    stamps = [path.stat().st_mtime for path in (folder / "cells").glob("*.json")]
    return max(stamps) - (folder / "sweep.json").stat().st_mtime
