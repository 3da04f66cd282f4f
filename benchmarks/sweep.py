"""Many small trainings at once, and what scheduling a cell costs.

    python benchmarks/sweep.py [--rounds 5] [--steps 300] [--cells 64]

First: 64 digits MLPs (64-64-64-10, Adam, batches of 64), as the runner's own programs: one by one,
all in one vmapped program, in chunks of 8, sharded over 8 host devices; and a loop in PyTorch.
Interleaved; ratios to one by one. Compilation is told apart.

Second: sweeps of cells that do next to nothing, in two sizes; the slope is the cost of a cell.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import textwrap
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax
import numpy as np
from _timing import measure, show

from activjax.runs import contract
from activjax.runs.cells import Cells
from activjax.runs.programs import Programs
from activjax.runs.sweep import launch
from activjax.runs.sweep.engines import Options

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "hash_phase.py"


def trainings(cells: int, steps: int, rounds: int) -> None:
    experiment = contract.load(str(EXPERIMENT), None)
    config = experiment.Config(width=64, measure_steps=(0, steps))
    batch = Cells.of([(config, seed) for seed in range(cells)])

    def part(start, stop):
        one = jax.tree.map(lambda leaf: leaf[start:stop], (batch.hp, batch.keys))
        return Cells(batch.seeds[start:stop], *one)

    def runner(width, sharded=False):
        programs = Programs(experiment, None, config, width, sharded=sharded)
        chunk = programs.loop.program.chunk
        parts = [part(i, i + width) for i in range(0, cells, width)]
        hps = [programs.placed(p.hp) for p in parts]

        def call():
            ends = []
            for p, hp in zip(parts, hps):
                states = jax.tree.map(lambda leaf: leaf.copy(), programs.init(p))
                for _ in range(steps // chunk):
                    states, _ = programs.loop.program(states, chunk, hp)
                ends.append(states.params)
            return ends

        return call, programs

    made = {
        "one by one": runner(1),
        f"one program of {cells}": runner(cells),
        "chunks of 8": runner(8),
        f"{cells} over 8 devices": runner(cells, sharded=True),
    }
    calls = {name: call for name, (call, _) in made.items()}
    more = {
        name: f"compiled in {p.compile_seconds:.1f} s, "
        f"{(p.loop.program.memory() or 0) / 2**20:.1f} MB a device"
        for name, (_, p) in made.items()
    }
    try:
        calls["PyTorch, one by one"] = pytorch(cells, steps)
    except ImportError:
        print("PyTorch is not installed: left out")
    times = measure(calls, rounds)
    show(f"{cells} trainings of {steps} steps", times, more, base="one by one")


def pytorch(cells: int, steps: int):
    import torch

    from activjax import data

    split = data.digits()
    x, y = torch.from_numpy(split.train_x), torch.from_numpy(split.train_y).long()

    def train(seed):
        torch.manual_seed(seed)
        linear, relu = torch.nn.Linear, torch.nn.ReLU
        net = torch.nn.Sequential(linear(64, 64), relu(), linear(64, 64), relu(), linear(64, 10))
        optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
        for _ in range(steps):
            rows = torch.randint(0, len(y), (64,))
            loss = torch.nn.functional.cross_entropy(net(x[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return float(loss.detach())

    return lambda: [train(seed) for seed in range(cells)]


TRACED = """
    import dataclasses, jax.numpy as jnp
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
MAIN = """
    import dataclasses
    from activjax import runs
    @dataclasses.dataclass(frozen=True)
    class Config:
        a: float = 0.0
    def main(config, out):
        return runs.Result("?", "!", (runs.Row.over("x", [config.a]),))
"""


def overhead(text: str, sizes: tuple[int, int], options: Options, rounds: int) -> np.ndarray:
    """Milliseconds a cell, from the slope between two sizes, once a round."""
    found = []
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "e.py"
        path.write_text(textwrap.dedent(text))
        for i in range(rounds + 1):  # the first one fills the caches
            seconds = []
            for size in sizes:
                config = {
                    "experiment": str(path),
                    "name": "x",
                    "sweep": {"grid": {"a": {"from": 0.0, "to": 1.0 + i, "linear": size}}},
                }
                folder = launch.sweep(config, out=home, options=options, progress=False)
                # the report and the conclusion are written once a sweep, and timed elsewhere
                seconds.append(drive_seconds(folder))
            found.append((seconds[1] - seconds[0]) / (sizes[1] - sizes[0]) * 1e3)
    return np.asarray(found[1:])


def drive_seconds(folder) -> float:
    """From the first record's start to the last record, by the files' times."""
    stamps = [p.stat().st_mtime for p in (folder.path / "cells").glob("*.json")]
    begin = (folder.path / "sweep.json").stat().st_mtime
    return max(stamps) - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--cells", type=int, default=64)
    args = parser.parse_args()
    trainings(args.cells, args.steps, args.rounds)

    print("\noverhead of a cell in ms, median [least, most]")
    for name, text, sizes, options in (
        ("in-program, width 64, this process", TRACED, (128, 2048), Options("inline", width=64)),
        ("in-program, width 64, 1 worker", TRACED, (128, 2048), Options(workers=1, width=64)),
        ("a task a cell, 1 worker", MAIN, (50, 350), Options(workers=1)),
    ):
        begin = time.monotonic()
        ms = overhead(text, sizes, options, args.rounds)
        took = time.monotonic() - begin
        print(
            f"  {name:38s} {np.median(ms):6.2f}  [{ms.min():.2f}, {ms.max():.2f}]  ({took:.0f} s)"
        )


if __name__ == "__main__":
    main()
