"""What a box costs: the first table of `verification.py`."""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from activjax import verify
from activjax.program.networks import dense, extract
from activjax.verify.bounds._layers import layers
from activjax.verify.bounds._passes import backward, identity, magnitudes
from activjax.verify.search._spec import Boxes, Rows, Spec, root_of, rows_of, spec_of
from activjax.verify.search._visit import visit

SIZES = (5, 50, 50, 50, 50, 50, 50, 5)
BATCHES = (128, 512)
#: Each side of a box is this share of the side of the property's.
SHARE = 0.1


def shaped(seed: int = 0) -> verify.Problem:
    """Random weights in the shape of ACAS Xu, on the unit box."""
    rng = np.random.default_rng(seed)
    params = [
        ((rng.normal(size=(a, b)) * np.sqrt(2 / a)).astype("f4"),
         (0.1 * rng.normal(size=b)).astype("f4"))
        for a, b in itertools.pairwise(SIZES)
    ]  # fmt: skip

    def apply(params: Any, x: Any) -> Any:
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        return x @ params[-1][0] + params[-1][1]

    box = -0.5 * np.ones(5, "f4"), 0.5 * np.ones(5, "f4")
    return verify.Problem.from_model(apply, params, box, verify.smallest(0), name="random")


def weights(problem: verify.Problem) -> list[tuple[np.ndarray, np.ndarray]]:
    """Matrices `[out, in]` and biases."""
    like = jax.ShapeDtypeStruct(problem.input_shape, jnp.float32)
    net = extract("verification", lambda x: problem.apply(problem.params, x), like).network
    affine = [*(layer.affine for layer in net.layers), net.out]
    return [(dense(a.matrices[i]).T.astype("f4"), a.bias.astype("f4"))
            for i, a in enumerate(affine)]  # fmt: skip


def crown(spec: Spec, params: Any, low: Any, high: Any) -> Any:
    """What a search does at a box, without looking for unsafe points and without inheritance."""
    tape = spec.tape(params)
    out = tape.output(jnp.float32)
    found = layers(tape, low, high)
    # XLA on CPU works out what several operations read once for each of them otherwise.
    ends = jax.lax.optimization_barrier((found.low, found.high))
    found = found._replace(low=ends[0], high=ends[1])
    through = {n: i[1] for n, i in found.intervals.items() if n.kind == "relu"}
    through[tape.input] = found.sizes[tape.input]
    sizes = {**found.sizes, out: magnitudes(tape, out, through)}
    eye = identity(out.size, jnp.float32)[: out.size]
    return backward(tape, out, eye, (low, high), found.lines(tape), sizes).low


def visited(spec: Spec, params: Any, low: Any, high: Any, rows: Rows, root: Boxes) -> Any:
    """The whole step of a search."""
    n, tape = len(low), spec.tape(params)
    signs, *ends = (jnp.broadcast_to(side, (n, spec.units)) for side in root[2:5])
    boxes = Boxes(low, high, signs, ends[0], ends[1], jnp.zeros(n, jnp.int32))
    seen = visit(spec, tape, tape.output(jnp.float32), rows, jnp.zeros(spec.units, jnp.int8), boxes)
    return seen.low, seen.split, seen.values


def flop(sizes: tuple[int, ...]) -> int:
    """Of one box: the products of all layers' rows, those that all boxes share left out."""
    total = 0
    for k in range(2, len(sizes)):
        rows = 2 * sizes[k] if k < len(sizes) - 1 else sizes[k]
        total += sum(2 * rows * a * b for a, b in itertools.pairwise(sizes[:k]))
    return total


class Peer:
    """auto_LiRPA in a process of its own."""

    def __init__(self, python: str, script: Path, file: Path) -> None:
        self.process = subprocess.Popen(
            [python, str(script), "lirpa", str(file)], stdin=subprocess.PIPE, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.name = self.line()
        self.low = np.array(json.loads(self.line()))

    def line(self) -> str:
        assert self.process.stdout
        assert self.process.stderr
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.stderr.read()[-2000:])
        return line.strip()

    def seconds(self, batch: int, repeats: int) -> float:
        """CPU-seconds of a box."""
        assert self.process.stdin
        self.process.stdin.write(f"{batch} {repeats}\n")
        self.process.stdin.flush()
        return float(self.line())

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def cpu(call: Callable[[], Any], repeats: int) -> float:
    """CPU-seconds of a call."""
    start = time.process_time()
    for _ in range(repeats):
        jax.block_until_ready(call())
    return (time.process_time() - start) / repeats


def table(problem: verify.Problem, python: str | None, script: Path, rounds: int) -> None:
    """Prints the cost of a box."""
    pairs, spec = weights(problem), spec_of(problem, "auto", None)
    case, none = problem.cases[0], np.zeros(spec.units, np.int8)
    rows, root = rows_of(case, problem.outputs), root_of(spec, problem.params, case, none)
    rng = np.random.default_rng(1)
    side = root.high - root.low
    low = root.low + (1 - SHARE) * side * rng.uniform(size=(BATCHES[-1], spec.inputs))
    low = low.astype("f4")
    high = (low + SHARE * side).astype("f4")
    peer = None
    with tempfile.TemporaryDirectory() as folder:
        if python is not None:
            file = Path(folder) / "boxes.npz"
            named = {f"{k}{i}": v for i, pair in enumerate(pairs)
                     for k, v in zip("wb", pair, strict=True)}  # fmt: skip
            np.savez(file, low=low, high=high, layers=len(pairs), **named)  # pyright: ignore
            try:
                peer = Peer(python, script, file)
            except RuntimeError as error:
                print(f"auto_LiRPA cannot be run: {str(error).splitlines()[-1:]}")

    def single(params: Any, low: Any, high: Any) -> Any:
        box = low.reshape(problem.input_shape), high.reshape(problem.input_shape)
        found = verify.bound(lambda x: problem.apply(params, x), box, select=None)
        return found.lower, found.upper

    ours = {
        "bounds of a batch": jax.jit(functools.partial(crown, spec)),
        "step of the search": jax.jit(functools.partial(visited, spec)),
        "vmap of verify.bound": jax.jit(jax.vmap(single, (None, 0, 0))),
    }
    more = {"step of the search": (rows, root)}  # as arguments: constants would be folded
    work = flop((spec.inputs, *(len(b) for _, b in pairs)))
    print(f"\ncost of a box, {problem.name}: {work / 1e6:.2f} MFLOP; {rounds} rounds; "
          f"{peer.name if peer else 'no auto_LiRPA'}")  # fmt: skip
    if peer is not None:
        mine = np.asarray(ours["bounds of a batch"](problem.params, low, high))
        away = np.abs(mine - peer.low).max() / np.abs(peer.low).max()
        print(f"largest difference of lower bounds {away:.1e} of the largest, in float32")
    print(f"{'':24s}{'batch':>6s}{'ms/box':>9s}{'boxes/s':>9s}{'GFLOP/s':>9s}{'of matmul':>11s}"
          "  theirs / ours [quartiles]")  # fmt: skip
    for batch in BATCHES:
        part = jax.device_put((low[:batch], high[:batch]))
        a, b = (
            jax.device_put(rng.normal(size=s).astype("f4")) for s in ((100 * batch, 50), (50, 50))
        )
        product = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
        calls = {
            name: functools.partial(f, problem.params, *part, *more.get(name, ()))
            for name, f in ours.items()
        } | {"matmul": functools.partial(product, a, b)}
        times: dict[str, list[float]] = {name: [] for name in (*calls, "theirs")}
        for i in range(rounds + 1):
            repeats = max(1, 1024 // batch)
            now = {name: cpu(call, repeats) / batch for name, call in calls.items()}
            if peer is not None:
                now["theirs"] = peer.seconds(batch, max(1, 512 // batch))
            if i:  # the first compiles
                for name, value in now.items():
                    times[name].append(value)
        rate = 2 * 100 * 50 * 50 / np.median(times["matmul"])
        for name in (*ours, "theirs"):
            if not times[name]:
                continue
            mid = float(np.median(times[name]))
            line = f"{'auto_LiRPA' if name == 'theirs' else name:24s}{batch:6d}{mid * 1e3:9.3f}"
            line += f"{1 / mid:9.0f}{work / mid / 1e9:9.1f}{work / mid / rate:11.0%}"
            if times["theirs"] and name != "theirs":
                ratio = np.divide(times["theirs"], times[name])
                low_, mid, high_ = np.percentile(ratio, [25, 50, 75])
                line += f"  {mid:5.1f} [{low_:.1f}, {high_:.1f}]"
            print(line, flush=True)
        print(f"{'product [100 n, 50, 50]':24s}{batch:6d}{'':18s}{rate / 1e9:9.1f}")
    if peer is not None:
        peer.close()
