"""Drift by ghost gradients, by mapped parameters and one by one, against loops in PyTorch.

    pip install -e ".[bench]" torch && python benchmarks/drift.py

All compute the same features of the same decoder, which are compared first. The peers are what
people write: step the parameters in place and back again, or step a copy. All of a table runs once
in each round, in random order; printed are the median of the per-round ratios and quartiles.
`--compiled` counts instead, from XLA: operations in forward passes, and temporary memory.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _timing import measure, show

from activjax import membership, models

#: layers, width, tokens, vocabulary, examples
SHAPES = {
    "S": (4, 256, 64, 256, 32),
    "M": (6, 512, 128, 1024, 8),
}
COMPILED = {
    "4 / 256 / 16 / 256": (4, 256, 16, 256, 32),
    "4 / 256 / 64 / 256": (4, 256, 64, 256, 32),
    "12 / 768 / 128 / 8192": (12, 768, 128, 8192, 8),
    "4 / 256 / 256 / 256": (4, 256, 256, 256, 8),
}


def decoder(layers: int, width: int, seq: int, vocab: int, *, scan: bool) -> models.Decoder:
    heads = max(1, width // 64)
    return models.decoder(
        vocab=vocab, context=seq, layers=layers, width=width, heads=heads, scan=scan,
        precision="default",
    )  # fmt: skip


def text(n: int, seq: int, vocab: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(0).integers(0, vocab, (n, seq + 1)).astype(np.int32)
    return tokens[:, :-1], tokens[:, 1:]


def program(model: Any, scan: bool, method: str, norm: str = "unit", n: int | None = None) -> Any:
    """`(params, x, y) -> features`, jitted."""
    stream = "blocks/resid_post" if scan else "blocks/*/resid_post"
    spec = membership.DriftSpec(
        norm=norm, method=method, sites=("embed", stream), grad_norm=norm == "unit"
    )

    def run(params: Any, x: Any, y: Any) -> Any:
        found = membership.drift(model.apply, params, x, y, spec, chunk=n)
        return membership.features(found).values

    return jax.jit(run)


def timed(name: str, rounds: int) -> None:
    """Seconds of a batch, on all threads, as ratios to the best PyTorch loop's."""
    import _torch_decoder
    import _torch_drift
    import torch

    *shape, n = SHAPES[name]
    model = decoder(*shape, scan=True)
    params = jax.jit(model.init)(jax.random.key(0))
    net = _torch_decoder.of(model.config, params)
    x, y = text(n, *shape[2:])
    tx, ty = torch.from_numpy(x).long(), torch.from_numpy(y).long()
    calls: dict[str, Any] = {
        f"torch, {how}": lambda how=how: _torch_drift.drifts(net, tx, ty, 1.0, how=how)
        for how in ("in place", "deepcopy")
    }
    forward = jax.jit(decoder(*shape, scan=False).apply)
    calls["forward of the batch"] = lambda: forward(params, x)
    for scan in (True, False):
        own = decoder(*shape, scan=scan)
        for method in ("ghost", "vmap", "loop"):
            run = program(own, scan, method, n=n)
            calls[f"{method}, {'scanned' if scan else 'unrolled'}"] = lambda run=run: run(
                params, x, y
            )
    theirs = calls["torch, in place"]().numpy()
    for call in [k for k in calls if "torch" not in k and "forward" not in k]:
        gap = np.abs(np.asarray(calls[call]()) - theirs) / np.abs(theirs).max(axis=0)
        print(f"  {call}: largest difference of a feature {gap.max():.1e} of its largest value")
        assert gap.max() < 1e-5, call
    times = measure(calls, rounds)
    best = min(("torch, in place", "torch, deepcopy"), key=lambda k: np.median(times[k]))
    show(f"{name}: {shape}, {n} examples", times, base=best)


def compiled() -> None:
    """Operations and temporary memory of the compiled programs, unrolled: XLA counts loops once."""
    for name, (*shape, n) in COMPILED.items():
        model = decoder(*shape, scan=False)
        params = jax.eval_shape(model.init, jax.random.key(0))
        tokens = jax.ShapeDtypeStruct((n, shape[2]), jnp.int32)
        base = jax.jit(model.apply).lower(params, tokens).compile().cost_analysis()
        print(f"\n{name}, batch {n}: a forward pass is {base['flops'] / 1e9:.1f} GFLOP")
        for norm in ("raw", "unit"):
            for method in ("ghost", "vmap"):
                lowered = program(model, False, method, norm, n).lower(params, tokens, tokens)
                found = lowered.compile()
                flops = found.cost_analysis()["flops"] / base["flops"]
                memory = found.memory_analysis().temp_size_in_bytes / n / 1e6
                print(f"  {norm:5s} {method:6s} {flops:5.2f} F  {memory:8.1f} MB an example")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=sorted(SHAPES))
    parser.add_argument("--compiled", action="store_true")
    args = parser.parse_args()
    if args.compiled:
        compiled()
        return
    for name in [args.only] if args.only else SHAPES:
        timed(name, args.rounds)


if __name__ == "__main__":
    main()
