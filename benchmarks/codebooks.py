"""Codebook bottlenecks against PyTorch: the published layer, vector-quantize-pytorch, the best one.

    pip install -e ".[bench]" torch vector-quantize-pytorch && python benchmarks/codebooks.py

All compute the mean of the k nearest of 10,000 codes, and with "+ backward" the gradients of
activations and codes (vector-quantize-pytorch: of activations, and moving averages of codes). Ids,
outputs and gradients are compared first. All of a table runs once in each round, in random order;
printed are the median of the per-round ratios and quartiles. With one thread the time is the
process's, which other processes on the machine disturb little; with more it is the clock's.
`--memory` prints instead what each needs at its peak: from XLA, and as growth of a fresh process.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

#: groups, features of each, k
SHAPES = {
    "768 k=1": (1, 768, 1),
    "768 k=8": (1, 768, 8),
    "768 k=100": (1, 768, 100),
    "12x64 k=1": (12, 64, 1),
    "12x64 k=8": (12, 64, 8),
}
CODES = 10_000
BEST = {
    "torch, loop": {"how": "loop"},
    "torch, loop, 256 tokens": {"how": "loop", "chunk": 256},
    "torch, batched, 256 tokens": {"how": "batched", "chunk": 256},
}
OURS, PUBLISHED, VQT = "activjax", "published layer", "vector-quantize-pytorch"


def inputs(tokens: int, groups: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((tokens, groups, d), np.float32)
    codes = rng.standard_normal((groups, CODES, d), np.float32)
    return a, codes, rng.standard_normal(a.shape, np.float32)


def programs(k: int) -> tuple[Any, Any]:
    """Ours, jitted: `(a, codes)` to ids and output; `(a, codes, slope)` to these and gradients."""
    import jax

    from activjax.codebooks._combine import combine
    from activjax.codebooks._nearest import nearest

    def forward(a: Any, codes: Any) -> Any:
        ids, _ = nearest(a, codes, k)
        q, error = combine(a, codes, ids, "mean")
        return ids, q, error

    def loss(a: Any, codes: Any, slope: Any) -> Any:
        ids, q, error = forward(a, codes)
        return (q * slope).sum() + error.mean(axis=0).sum(), (ids, q)

    def backward(a: Any, codes: Any, slope: Any) -> Any:
        grads, (ids, q) = jax.grad(loss, argnums=(0, 1), has_aux=True)(a, codes, slope)
        return ids, q, *grads

    return jax.jit(forward), jax.jit(backward)


def calls(tokens: int, name: str, backward: bool, only: str | None = None) -> dict[str, Any]:
    """What is compared, by name: functions without arguments."""
    groups, d, k = SHAPES[name]
    a, codes, slope = inputs(tokens, groups, d)
    out: dict[str, Callable[[], Any]] = {}
    if only in (None, OURS):
        import jax

        forward, both = programs(k)
        args = jax.device_put((a, codes, slope))
        out[OURS] = lambda: jax.block_until_ready(both(*args) if backward else forward(*args[:2]))
    if only == OURS:
        return out
    import _torch_codebooks as peers
    import torch

    ta, tc, ts = (torch.from_numpy(x) for x in (a, codes, slope))
    last = ts if backward else None
    out[PUBLISHED] = lambda: peers.published(ta, tc, k, last)
    for label, how in BEST.items():
        if groups > 1 or how["how"] == "loop":
            out[label] = lambda how=how: peers.best(ta, tc, k, last, **how)
    if k == 1 and only in (None, VQT):
        run = peers.vector_quantize(ta, tc)
        out[VQT] = lambda: run(last)
    return out


def agree(tokens: int, name: str) -> None:
    """Same ids but for near ties, same outputs, same gradients."""
    a, codes, _ = inputs(tokens, *SHAPES[name][:2])
    found = calls(tokens, name, True)
    ours = [np.asarray(x) for x in found.pop(OURS)()]
    unit = codes.astype(np.float64) / np.linalg.norm(codes, axis=-1, keepdims=True)

    def similarities(ids: np.ndarray) -> np.ndarray:
        picked = [(a[:, g, None] * unit[g][ids[:, g]]).sum(-1) for g in range(a.shape[1])]
        return np.stack(picked, 1)

    values = similarities(ours[0])
    size = np.linalg.norm(a, axis=-1)[..., None]
    for label, call in found.items():
        theirs = [x.detach().numpy() for x in call()]
        other = ours[0] != theirs[0]
        gap = np.abs(values - similarities(theirs[0])) / size
        # Two float32 sums of d products each, of vectors of which one has length 1.
        assert gap.max() < 4 * a.shape[-1] * 2.0**-23, (label, gap.max())
        print(f"  {label}: {other.mean():.1e} of the ids differ, by {gap.max():.0e} |a| at most")
        if label != VQT:
            same = ~other.any(-1)
            assert np.abs(ours[1] - theirs[1])[same].max() < 1e-5, label
            assert np.abs(ours[2] - theirs[2]).max() < 1e-6, label
            if not other.any():
                off = np.abs(ours[3] - theirs[3]).max() / np.abs(ours[3]).max()
                assert off < 1e-5, (label, off)


def measure(found: dict[str, Any], rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Seconds of each call in each round, all calls in random order within a round."""
    out = {name: np.zeros(rounds) for name in found}
    for call in found.values():
        call()
    for i in range(rounds):
        for name in random.Random(i).sample(list(found), len(found)):
            start = clock()
            found[name]()
            out[name][i] = clock() - start
    return out


def timed(tokens: int, name: str, rounds: int, clock: Callable[[], float]) -> None:
    import _timing

    for backward in (False, True):
        times = measure(calls(tokens, name, backward), rounds, clock)
        best = min((x for x in times if x in BEST), key=lambda x: float(np.median(times[x])))
        title = f"{name}, {tokens} tokens, forward{' + backward' if backward else ''}"
        _timing.show(title, times, base=best)
        for peer in (PUBLISHED, VQT):
            if peer in times:
                low, mid, high = np.percentile(times[OURS] / times[peer], [25, 50, 75])
                print(f"    {OURS} / {peer}: {mid:.3f}  [{low:.3f}, {high:.3f}]")
        sys.stdout.flush()


def memory(tokens: int, name: str, threads: int) -> None:
    """Megabytes of temporary memory at the peak, forward and with backward."""
    import jax

    groups, d, k = SHAPES[name]
    print(f"\n{name}, {tokens} tokens: MB, forward / + backward")
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs(tokens, groups, d)]
    sizes = []
    for program, args in zip(programs(k), (shapes[:2], shapes)):
        sizes.append(program.lower(*args).compile().memory_analysis())
    temporary = " / ".join(f"{s.temp_size_in_bytes / 1e6:.0f}" for s in sizes)
    whole = [(s.temp_size_in_bytes + s.output_size_in_bytes) / 1e6 for s in sizes]
    print(f"  {OURS:36s} {whole[0]:.0f} / {whole[1]:.0f}, of this temporary {temporary}")
    peers = [PUBLISHED, *(b for b in BEST if groups > 1 or "loop" in b)] + [VQT] * (k == 1)
    for peer in peers:
        grown = [_growth(tokens, name, peer, backward, threads) for backward in (False, True)]
        print(f"  {peer:36s} {grown[0]:.0f} / {grown[1]:.0f}", flush=True)


def _growth(tokens: int, name: str, peer: str, backward: bool, threads: int) -> float:
    """Megabytes by which a fresh process grows at most, results included."""
    flags = ["--threads", str(threads), "--grow", peer, "--only", name, "--tokens", str(tokens)]
    command = [sys.executable, __file__, *flags, *(["--backward"] if backward else [])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def grow(tokens: int, name: str, peer: str, backward: bool) -> None:
    calls(16, name, backward, peer)[peer]()  # libraries and threads are there, and not counted
    call = calls(tokens, name, backward, peer)[peer]
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak so far
    before = _status("VmRSS")
    kept = call()
    print((_status("VmHWM") - before) / 1e3)
    del kept


def _status(field: str) -> float:
    with open("/proc/self/status") as file:
        return next(float(line.split()[1]) * 1.024 for line in file if line.startswith(field))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, choices=(1, 2))
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--only", choices=sorted(SHAPES), nargs="+")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--grow", help=argparse.SUPPRESS)
    parser.add_argument("--backward", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    # XLA counts the cores of its process; PyTorch is told.
    cores = sorted(os.sched_getaffinity(0))[-args.threads :]
    os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    if len(cores) < args.threads:
        parser.error(f"--threads {args.threads}: this process may use {len(cores)} cores")
    names = args.only or list(SHAPES)
    if args.grow:
        grow(args.tokens[0], names[0], args.grow, args.backward)
        return
    clock = time.process_time if args.threads == 1 else time.perf_counter
    for name in [] if args.memory else names:
        print(f"{name}: agreement")
        agree(256, name)
    for tokens in args.tokens:
        for name in names:
            if args.memory:
                memory(tokens, name, args.threads)
            else:
                timed(tokens, name, args.rounds, clock)


if __name__ == "__main__":
    main()
