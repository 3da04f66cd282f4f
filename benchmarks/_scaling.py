"""One training step over 1, 2 and 4 processes, and how large checkpoints are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
from _sweeps import free_port  # of the tests

#: one process: `address count index batch width steps`; a line of JSON with seconds a step
STEP = """
    import json, sys, time
    address, count, index, batch, width, steps = sys.argv[1], *map(int, sys.argv[2:7])
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import NamedSharding, PartitionSpec as P
    from activjax import hosts
    if count > 1:
        hosts.start(address, count, index)
    mesh = hosts.mesh()
    rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    def init():
        keys = jax.random.split(jax.random.key(0), 4)
        return [jax.random.normal(k, (width, width)) / width**0.5 for k in keys]
    def loss(w, x):
        h = x
        for one in w:
            h = jnp.tanh(h @ one)
        return jnp.mean((h - x) ** 2)
    def step(w, x):
        value, grads = jax.value_and_grad(loss)(w, x)
        return [a - 0.01 * g for a, g in zip(w, grads)], value
    w = jax.jit(init, out_shardings=whole)()
    mine = np.random.default_rng(index).normal(size=(batch // count, width)).astype(np.float32)
    x = hosts.together(mine, mesh)
    run = jax.jit(step, out_shardings=(whole, whole), donate_argnums=0)
    for _ in range(3):
        w, value = run(w, x)
    jax.block_until_ready(w)
    taken = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(steps):
            w, value = run(w, x)
        jax.block_until_ready(w)
        taken.append((time.perf_counter() - begin) / steps)
    begin = time.perf_counter()
    for _ in range(20):
        hosts.exchange()
    said = (time.perf_counter() - begin) / 20
    print("found", json.dumps([taken, said]))
"""


def step(count: int, batch: int, width: int, steps: int) -> tuple[float, float]:
    """Median seconds of a step over `count` processes, and of one exchange."""
    address = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu",
                   "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}  # fmt: skip
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(textwrap.dedent(STEP))
        file.flush()
        processes = [
            subprocess.Popen(
                [sys.executable, file.name, address, *map(str, (count, i, batch, width, steps))],
                env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for i in range(count)
        ]  # fmt: skip
        said = [process.communicate(timeout=300) for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("\n".join(error for _, error in said))
    line = next(x for x in said[0][0].splitlines() if x.startswith("found "))
    taken, exchange = json.loads(line.removeprefix("found "))
    return float(np.median(taken)), exchange


def scaling(rounds: int) -> None:
    """The same batch of all over 1, 2, 4 processes; and each one's share alone, as a floor."""
    for width, batch, steps in ((256, 2048, 20), (1024, 1024, 5)):
        found: dict[str, list[float]] = {}
        for _ in range(rounds):
            for count in (1, 2, 4):
                seconds, said = step(count, batch, width, steps)
                found.setdefault(f"over {count}", []).append(seconds)
                found.setdefault(f"exchange {count}", []).append(said)
                if count > 1:
                    alone, _ = step(1, batch // count, width, steps)
                    found.setdefault(f"share of {count}", []).append(alone)
        one = np.asarray(found["over 1"])
        print(f"\na step of an MLP (4 layers of {width}, {4 * 4 * width**2 / 2**20:.0f} MiB of "
              f"gradients), batch {batch}: {np.median(one) * 1e3:.1f} ms on one process; ratios to "
              "it, median [quartiles]")  # fmt: skip
        for name, seconds in found.items():
            if name.startswith("exchange"):
                if name != "exchange 1":
                    print(f"  {name:12s} {np.median(seconds) * 1e3:6.2f} ms (4 kB from each)")
                continue
            low, mid, high = np.percentile(np.asarray(seconds) / one, [25, 50, 75])
            print(f"  {name:12s} {mid:6.3f}  [{low:.3f}, {high:.3f}]")


def checkpoints() -> None:
    """Bytes and seconds of a checkpoint: the example's batch of 16 cells, and what a decoder of 1B
    parameters with Adam would have, by the shapes alone.
    """
    import jax.numpy as jnp

    from activjax.runs import contract
    from activjax.runs.cells import Cells
    from activjax.runs.programs import Programs
    from activjax.training import checkpoint

    path = Path(__file__).parents[1] / "experiments" / "hash_phase.py"
    experiment = contract.load(str(path), None)
    config = experiment.Config()
    for width in (1, 16):
        programs = Programs(experiment, None, config, width, sharded=False)
        states = programs.init(Cells.of([(config, seed) for seed in range(width)]))
        with tempfile.TemporaryDirectory() as scratch:
            taken = []
            for i in range(5):
                begin = time.perf_counter()
                where = checkpoint.save(scratch, i + 1, states)
                taken.append(time.perf_counter() - begin)
            files = [p for p in where.rglob("*") if p.is_file()]
            size = sum(p.stat().st_size for p in files)
        print(f"  hash_phase, {width} cells: {size / 2**20:.3f} MiB in {len(files)} files, "
              f"{np.median(taken) * 1e3:.0f} ms")  # fmt: skip
    for megabytes in (64, 512):
        values = np.random.default_rng(0).random((megabytes, 2**18), np.float32)  # do not compress
        states = {"w": jnp.asarray(values)}
        taken, hashed = [], []
        with tempfile.TemporaryDirectory() as scratch:
            for i in range(3):
                begin = time.perf_counter()
                where = checkpoint.save(scratch, i + 1, states, keep=1)
                taken.append(time.perf_counter() - begin)
                begin = time.perf_counter()
                checkpoint._digest(where)
                hashed.append(time.perf_counter() - begin)
        print(
            f"  {megabytes} MiB of random float32, one process: {np.median(taken):.2f} s, "
            f"{np.median(hashed):.2f} s of it for the digest"
        )
    n = 1.0e9
    for name, each in (("bf16 parameters, f32 Adam", 2 + 8), ("f32 all", 12), ("bf16 all", 6)):
        print(f"  1B parameters, {name}: {n * each / 1e9:.0f} GB")
