"""Injections against PyTorch forward hooks: a sweep of 1,536, and fine-tuning to report them.

    pip install -e ".[bench]" torch && python benchmarks/introspection.py

Both libraries have one thread: the process is bound to one CPU before either is loaded. The peer is
plain PyTorch with fused attention and the same weights; logits and losses are compared before
anything is timed. All variants of a table run once in each round, in random order; printed are the
median and the quartiles of the per-round ratios, of CPU time and of wall-clock time (on a machine
with other work, the first tells more).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any


def bound(cpu: int) -> None:
    """One CPU for the whole process, before thread pools are made."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpu})


class Timed:
    """A call that keeps its CPU and wall-clock seconds; the first one is to warm up."""

    def __init__(self, call: Callable[[], Any]):
        self.call, self.cpu, self.wall = call, [], []

    def __call__(self) -> Any:
        import jax

        wall, cpu = time.perf_counter(), time.process_time()
        out = jax.block_until_ready(self.call())
        self.keep(time.process_time() - cpu, time.perf_counter() - wall)
        return out

    def keep(self, cpu: float, wall: float) -> None:
        self.cpu.append(cpu)
        self.wall.append(wall)


def table(title: str, calls: dict[str, Timed], rounds: int, base: str, each: int = 0) -> None:
    """Run all calls in rounds, and print both clocks; with `each`, also how many a second."""
    import numpy as np
    from _timing import measure, show

    for call in calls.values():
        call.cpu.clear()
        call.wall.clear()
    measure({**calls}, rounds)
    for clock in ("cpu", "wall"):
        times = {name: np.array(getattr(call, clock)[1:]) for name, call in calls.items()}
        more = {n: f"{each / np.median(t):,.0f} a second" for n, t in times.items()} if each else {}
        show(f"{title}, {clock} time", times, more, base=base)


def agree(name: str, ours: Any, theirs: Any, atol: float) -> None:
    import numpy as np

    worst = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())
    print(f"  {name}: largest difference {worst:.1e}")
    assert worst <= atol, name


def sweep(rounds: int) -> None:
    """6 layers x 32 concepts x 8 strengths at the last of 32 tokens."""
    import _torch_decoder
    import jax
    import numpy as np
    import torch
    from _torch_introspection import by_hand, hooked

    from activjax import introspection, models

    model = models.decoder(vocab=512, context=32, layers=6, width=128, heads=4)
    params = jax.jit(model.init)(jax.random.key(0))
    net = _torch_decoder.of(model.config, params).eval()
    rng = np.random.default_rng(0)

    def prompts(n: int) -> Any:
        tokens = rng.integers(0, 512, (n, 32)).astype(np.int32)
        return introspection.Prompts(tokens, np.full(n, 31, np.int32))

    made = introspection.concept_vectors(model.apply, params, prompts(32), prompts(32))
    asked, strengths = prompts(1), np.linspace(0.25, 4, 8).astype(np.float32)
    ids = torch.from_numpy(asked.tokens).long()
    every = np.asarray(made.directions)[:, :, None] * strengths[:, None]
    every = every * np.asarray(made.resid_norm)[:, None, None, None]
    added = torch.from_numpy(every.reshape(6, 256, 128))

    def ours() -> Any:
        return introspection.sweep(model, params, made, asked, strengths=strengths)

    def chunked() -> Any:
        return introspection.sweep(model, params, made, asked, strengths=strengths, chunk=64)

    found = np.asarray(ours()).reshape(6, 256, 512)
    for name, other in {
        "hooks, one by one": hooked(net, ids, added, 1).numpy(),
        "hooks, 32 a batch": hooked(net, ids, added, 32).numpy(),
        "hooks, 256 a batch": hooked(net, ids, added, 256).numpy(),
        "a cache by hand": by_hand(net, ids, added).numpy(),
        "ours, 64 at a time": np.asarray(chunked()).reshape(6, 256, 512),
    }.items():
        agree(f"logits against {name}", found, other, 1e-5)
    calls = {
        "torch hooks, one by one": lambda: hooked(net, ids, added, 1),
        "torch hooks, batches of 32": lambda: hooked(net, ids, added, 32),
        "torch hooks, batches of 256": lambda: hooked(net, ids, added, 256),
        "torch, a cache by hand": lambda: by_hand(net, ids, added),
        "introspection.sweep": ours,
        "introspection.sweep, 64 at a time": chunked,
    }
    timed = {name: Timed(call) for name, call in calls.items()}
    table("1,536 injections", timed, rounds, "introspection.sweep")


#: Steps that are timed, after as many that are not.
STEPS, BATCH, RATE, RANK, ALPHA = 50, 32, 5e-3, 8, 16.0
SIZES = (
    {"layers": 4, "width": 64, "heads": 4},
    {"layers": 6, "width": 128, "heads": 4},
)


def train(rounds: int) -> None:
    """LoRA on q, k, v and out: forward, backward, AdamW, an injection in every example."""
    for size in SIZES:
        _train(rounds, size)


def _train(rounds: int, size: dict[str, int]) -> None:
    import _torch_decoder
    import jax
    import numpy as np
    from _torch_introspection import trainer, with_lora

    from activjax import data, introspection, models, training

    world = data.languages.concepts()
    model = models.decoder(vocab=world.vocab, context=world.length, **size)
    params = jax.jit(model.init)(jax.random.key(0))
    talk, split = introspection.laboratory(world), world.split()
    bank = introspection.concept_vectors(
        model.apply, params, talk.elicit(np.arange(world.concepts)), talk.elicit(split.baseline),
        names=talk.names,
    )  # fmt: skip
    trials = introspection.Trials(talk, split.train, split.held_out)
    # as many examples as a batch has: every step is on all of them, in whatever order
    examples = trials.training(BATCH)
    adapter = introspection.LoRA(rank=RANK, alpha=ALPHA)
    options = {"adapter": adapter, "batch": BATCH, "examples": examples, "rate": RATE}
    steps = 2 * STEPS
    marks: list[tuple[float, float]] = []

    def ours() -> Any:
        marks.clear()
        mark = lambda chunk: marks.append((time.process_time(), time.perf_counter()))  # noqa: E731
        return introspection.train(
            model, params, bank, trials, steps=steps, on_chunk=mark, **options
        ).curves["loss"]

    class Second(Timed):
        """The second half of the steps: what comes before is compiled, copied and begun."""

        def __call__(self) -> Any:
            out = self.call()
            self.keep(*np.subtract(marks[-1], marks[-2]))
            return out

    rows = examples.rows
    vectors = introspection.put(
        bank, rows.concept, rows.noise, rows.strength, rows.layer,
        seed=np.uint32(trials.seed), units="resid_norm",
    )  # fmt: skip
    batch = {
        "tokens": examples.tokens, "learned": examples.learned, "last": rows.prompts.last,
        "added": np.array(vectors),
    }  # fmt: skip
    of_start = jax.random.split(jax.random.key(0))[0]
    start = training.lora.init(of_start, params, adapter.select, rank=RANK)
    schedule = training.warmup_cosine(RATE, steps=steps, warmup=int(0.05 * steps))
    rates = [float(schedule(i)) for i in range(steps)]

    def theirs() -> Callable[[], float]:
        net = with_lora(_torch_decoder.of(model.config, params), start, ALPHA)
        return trainer(net, trials.layers[0], batch, rates, (0.9, 0.98), clip=1.0)

    step = theirs()
    agree("losses of the first 3 steps", ours()[:3], [step() for _ in range(3)], 1e-5)

    def torch_steps() -> None:
        for _ in range(STEPS):
            step()

    calls = {"torch": Timed(torch_steps), "introspection.train": Second(ours)}
    seq = examples.tokens.shape[1]
    title = f"LoRA of {size['layers']} layers, d = {size['width']}, {BATCH} x {seq} tokens"
    table(title, calls, rounds, "introspection.train", STEPS * BATCH)


PARTS = {"sweep": sweep, "train": train}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cpu", type=int, default=0, help="the one to run on")
    parser.add_argument("--only", choices=PARTS, action="append")
    args = parser.parse_args()
    bound(args.cpu)
    import jax
    import torch

    torch.set_num_threads(1)
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, torch {torch.__version__}; "
          f"one thread each; {args.rounds} rounds")  # fmt: skip
    for name in args.only or PARTS:
        print(f"\n{name}:")
        PARTS[name](args.rounds)


if __name__ == "__main__":
    main()
