"""A decoder against the same decoder in PyTorch: training, decoding, compiling, cheap sweeps.

    pip install -e ".[bench]" torch && python benchmarks/decoder.py

The peer is plain PyTorch with fused attention and a preallocated cache, on as many threads and with
the same weights; outputs are compared before anything is timed. All variants of a table run once in
each round, in random order; printed are the median of the per-round ratios and their quartiles.
"""

from __future__ import annotations

import argparse
import functools
import time
from typing import Any

import _torch_decoder
import _torch_introspection
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from _timing import measure, show

import activjax as aj
from activjax import data, models, training

GPT2 = {"vocab": 50257, "context": 1024, "layers": 12, "width": 768, "heads": 12}
SMALL = {"vocab": 512, "context": 64, "layers": 6, "width": 128, "heads": 4}


def tokens_of(batch: int, seq: int, vocab: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, vocab, (batch, seq)).astype(np.int32)


def agree(name: str, ours: Any, theirs: Any, atol: float) -> None:
    worst = float(np.abs(np.asarray(ours) - theirs.detach().numpy()).max())
    print(f"  {name}: largest difference {worst:.1e}")
    assert worst <= atol, name


def train(rounds: int) -> None:
    """One step of AdamW on the next-token loss."""
    batch, seq = 4, 129
    tokens = tokens_of(batch, seq, GPT2["vocab"])
    model = models.decoder(**GPT2)
    params = jax.jit(model.init)(jax.random.key(0))
    net = _torch_decoder.of(model.config, params)
    ids = torch.from_numpy(tokens).long()
    optimiser = optax.adamw(1e-4, b2=0.95, weight_decay=0.1)
    theirs = torch.optim.AdamW(net.parameters(), 1e-4, betas=(0.9, 0.95), weight_decay=0.1)

    def torch_step() -> Any:
        logits = net(ids[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        return loss.detach()

    calls: dict[str, Any] = {"torch": torch_step}
    for name, config in (
        ("ours, scanned", {}),
        ("ours, scanned, remat", {"remat": True}),
        ("ours, unrolled", {"scan": False}),
    ):
        own = models.decoder(**GPT2, **config)
        loss = training.next_token(own)
        state = training.init_state(own, optimiser, data.Batches(1, 1), jax.random.key(0))
        step = functools.partial(training.train_step, loss, optimiser)
        run = jax.jit(lambda s, step=step: step(s, (jnp.asarray(tokens), None)), donate_argnums=0)
        calls[name] = _Stepping(run, state._replace(params=jax.tree.map(jnp.copy, params)))
    first = calls["ours, scanned"]()
    agree("loss of the first step", first, torch_step(), 1e-3)
    show("Training step, GPT-2 small, 4 x 128", measure(calls, rounds), base="torch")


class _Stepping:
    """A donated state and its step, as a call."""

    def __init__(self, run: Any, state: Any):
        self.run, self.state = run, state

    def __call__(self) -> Any:
        self.state, metrics = self.run(self.state)
        return jax.block_until_ready(metrics["loss"])


def decode(rounds: int) -> None:
    """Greedy decoding of 64 tokens after 64."""
    model = models.decoder(**GPT2)
    params = jax.jit(model.init)(jax.random.key(0))
    net = _torch_decoder.of(model.config, params).eval()
    for batch in (1, 8):
        tokens = tokens_of(batch, 64, GPT2["vocab"])
        ids = torch.from_numpy(tokens).long()
        with torch.no_grad():
            agree("logits", jax.jit(model.apply)(params, tokens), net(ids), 1e-3)
        calls: dict[str, Any] = {"torch": lambda ids=ids: net.generate(ids, 64)}
        for name, own in (
            ("ours, scanned", model),
            ("ours, unrolled", models.decoder(**GPT2, scan=False)),
        ):
            run = jax.jit(functools.partial(models.generate, own, steps=64))
            calls[name] = lambda run=run, tokens=tokens: run(params, tokens).tokens
        same = (np.asarray(calls["ours, scanned"]()) == calls["torch"]().numpy()).mean()
        print(f"  equal tokens: {same:.0%}")
        show(f"64 greedy tokens after 64, batch {batch}", measure(calls, rounds), base="torch")


def compiling(rounds: int) -> None:
    """Tracing, lowering and compiling a training step anew."""
    tokens = tokens_of(4, 129, GPT2["vocab"])
    times: dict[str, np.ndarray] = {n: np.zeros((rounds, 2)) for n in ("unrolled", "scanned")}
    for i in range(rounds):
        for name in times:
            model = models.decoder(**GPT2, scan=name == "scanned")
            params = jax.eval_shape(model.init, jax.random.key(0))
            loss = training.next_token(model)
            grad = jax.jit(jax.grad(lambda p, f=loss: f(p, {}, (tokens, None), None)[0]))
            start = time.perf_counter()
            lowered = grad.lower(params)
            times[name][i, 0] = time.perf_counter() - start
            start = time.perf_counter()
            lowered.compile()
            times[name][i, 1] = time.perf_counter() - start
    for j, what in enumerate(("Trace and lower", "Compile")):
        show(f"{what} the gradient", {n: t[:, j] for n, t in times.items()}, base="unrolled")


def sweep(rounds: int) -> None:
    """6 layers x 32 vectors x 8 strengths at the last of 32 tokens."""
    model = models.decoder(**SMALL)
    params = jax.jit(model.init)(jax.random.key(0))
    net = _torch_decoder.of(model.config, params).eval()
    tokens = tokens_of(1, 32, SMALL["vocab"])
    ids = torch.from_numpy(tokens).long()
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((32, SMALL["width"])).astype(np.float32)
    strengths = np.linspace(0.5, 4, 8).astype(np.float32)
    layers = np.arange(SMALL["layers"], dtype=np.int32)
    every = (strengths[None, :, None] * vectors[:, None]).reshape(256, -1)
    added = torch.from_numpy(every).expand(SMALL["layers"], -1, -1)

    def hooked(size: int) -> Any:
        return _torch_introspection.hooked(net, ids, added, size).reshape(6, 32, 8, -1)

    def by_hand() -> Any:
        return _torch_introspection.by_hand(net, ids, added).reshape(6, 32, 8, -1)

    def edits(layer: Any, v: Any, a: Any) -> Any:
        return [(aj.select("blocks/resid_post", layers=layer, at=-1), aj.edits.add(a * v))]

    @jax.jit
    def cheap(params: Any) -> Any:
        sweep = functools.partial(models.sweep_last_token, model, params, tokens)
        add = lambda layer, v, a: {"blocks/resid_post": aj.edits.add(a * v)}  # noqa: E731
        return sweep(add, vectors, strengths, layers=layers)[..., 0, :]

    @jax.jit
    def general(params: Any) -> Any:
        sweep = functools.partial(models.sweep_last_token, model, params, tokens)
        return sweep(edits, layers, vectors, strengths)[..., 0, :]

    @jax.jit
    def whole(params: Any) -> Any:
        def one(layer: Any, v: Any, a: Any) -> Any:
            return aj.intervene(model.apply, edits(layer, v, a))(params, tokens)[0, -1]

        over = jax.vmap(one, (None, None, 0))
        over = jax.vmap(jax.vmap(over, (None, 0, None)), (0, None, None))
        return over(jnp.asarray(layers), jnp.asarray(vectors), jnp.asarray(strengths))

    agree("sweep against hooks", cheap(params), hooked(256), 1e-4)
    ours = torch.from_numpy(np.array(cheap(params)))
    agree("in general against by layer", general(params), ours, 1e-5)
    agree("full vmap against by layer", whole(params), ours, 1e-5)
    agree("by hand against hooks", by_hand().numpy(), hooked(256), 1e-4)
    calls = {
        "torch hooks, one by one": lambda: hooked(1),
        "torch hooks, batches of 32": lambda: hooked(32),
        "torch hooks, batches of 256": lambda: hooked(256),
        "torch, the same by hand": by_hand,
        "ours, full vmap": lambda: whole(params),
        "ours, sweep_last_token": lambda: general(params),
        "ours, the same by layer": lambda: cheap(params),
    }
    times = measure(calls, rounds)
    show("1,536 edits at the last token", times, base="ours, the same by layer")


PARTS = {"train": train, "decode": decode, "compile": compiling, "sweep": sweep}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2, help="for PyTorch")
    parser.add_argument("--only", choices=PARTS, action="append")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__} on {device}, torch {torch.__version__}; {args.rounds} rounds")
    for name in args.only or PARTS:
        PARTS[name](args.rounds)


if __name__ == "__main__":
    main()
