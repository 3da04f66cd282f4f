"""What statistics of activations cost, gathered in the forward pass or from stored activations.

    pip install -e ".[bench]" && python benchmarks/harvest.py

Four residual ReLU MLP blocks, d 512, hidden 2048, batches of 4,096 tokens. "bare" is the jitted
forward pass alone. Every variant runs once in each round, in random order; printed are the median
and the quartiles of the per-round ratios. PyTorch is compared with its own bare forward. Last,
the peak memory of the process for streams of 10^4 and 10^6 tokens.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _timing import Function, measure, show

import activjax as aj
from activjax import stats
from activjax.runs import memory

LAYERS, D, HIDDEN, TOKENS = 4, 512, 2048, 4096
THRESHOLDS = (0.0, 0.5, 1.0, 2.0)


def network(params: Any, x: jax.Array) -> jax.Array:
    """Residual MLP blocks with two sites each."""
    for i in range(LAYERS):
        with aj.scope(f"{i}"):
            hidden = jax.nn.relu(x @ params["up"][i])
            x = x + aj.tag(hidden, "hidden", axes="token unit") @ params["down"][i]
            x = aj.tag(x, "resid", axes="token d")
    return x


def parameters() -> Any:
    """Random weights and a batch."""
    rng = np.random.default_rng(0)
    shapes = {"up": (LAYERS, D, HIDDEN), "down": (LAYERS, HIDDEN, D)}
    params = {
        n: jnp.asarray(rng.normal(size=s).astype(np.float32) / np.sqrt(s[1]))
        for n, s in shapes.items()
    }
    return params, jnp.asarray(rng.normal(size=(TOKENS, D)).astype(np.float32))


RESIDUAL = {
    "covariance": stats.moments("full"),
    "top-8": stats.top_k(8, by="magnitude"),
    "histogram": stats.histogram(),
}
PASSES = {
    "top-8 of the residual": {"*/resid": RESIDUAL["top-8"]},
    "histogram of the residual": {"*/resid": RESIDUAL["histogram"]},
    "histogram of the hidden units": {"*/hidden": RESIDUAL["histogram"]},
    "covariance of the residual": {"*/resid": RESIDUAL["covariance"]},
    "four counts a hidden unit": {"*/hidden": stats.exceedances(THRESHOLDS)},
    "all four together": {
        "*/resid": stats.together(**{k.replace("-", ""): v for k, v in RESIDUAL.items()}),
        "*/hidden": stats.exceedances(THRESHOLDS),
    },
    "covariance of the hidden units": {"*/hidden": RESIDUAL["covariance"]},
}


def gathering(reduce: Any, params: Any, x: jax.Array) -> Function:
    """One update after another of a compiled pass."""
    job = aj.harvest(network, reduce=reduce)
    held = [job.init(params, x)]

    def call() -> Any:
        held[0] = job.update(params, held[0], x)
        return held[0]

    return call


def stored(params: Any, x: jax.Array) -> Function:
    """The forward pass that returns its activations, and the four statistics in NumPy."""
    read = jax.jit(aj.capture(network, out=False))

    def call() -> Any:
        out = []
        for name, value in read(params, x).items():
            h = np.asarray(value)
            if name.endswith("hidden"):
                out.append([(h > t).sum(0) for t in THRESHOLDS])
                continue
            wide = h.astype(np.float64)
            wide -= wide.mean(0)
            out.append(wide.T @ wide)
            flat = np.abs(h).ravel()
            out.append(np.argpartition(flat, -8)[-8:])
            out.append(np.bincount(h.view(np.uint32).ravel() >> 16, minlength=2**16))
        return out

    return call


def torch_variants(params: Any, x: jax.Array, threads: int) -> dict[str, Function] | None:
    """PyTorch: the forward pass alone, and with the four statistics of stored activations."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    up, down, start = (torch.from_numpy(np.array(a)) for a in (params["up"], params["down"], x))

    def forward(keep: bool) -> Any:
        h, kept = start, []
        with torch.no_grad():
            for i in range(LAYERS):
                hidden = torch.relu(h @ up[i])
                h = h + hidden @ down[i]
                if keep:
                    kept.append((hidden, h))
        return h, kept

    def gather() -> Any:
        out = []
        for hidden, h in forward(True)[1]:
            out.append([(hidden > t).sum(0) for t in THRESHOLDS])
            wide = h.double()
            wide = wide - wide.mean(0)
            out.append(wide.T @ wide)
            out.append(torch.topk(h.abs().ravel(), 8))
            bits = h.bfloat16().view(torch.int16).ravel().to(torch.int64) & 0xFFFF
            out.append(torch.bincount(bits, minlength=2**16))
        return out

    return {"bare": lambda: forward(False), "the four, stored": gather}


def peak(params: Any) -> None:
    """Peak memory of the process while the stream grows a hundredfold."""
    job = aj.harvest(network, reduce=PASSES["all four together"])
    rng = np.random.default_rng(1)
    print("\nmemory of the combined pass, batches of 1,000 tokens")
    for tokens in (10_000, 1_000_000):
        seen: list[int] = []

        def batches(n: int = tokens // 1000, seen: list[int] = seen) -> Any:
            block = rng.normal(size=(1000, D)).astype(np.float32)
            for i in range(n):
                seen.append(sum(a.nbytes for a in jax.live_arrays()))
                yield np.roll(block, i, axis=0)

        job(params, batches(), progress=False)
        process = memory.peak() / 2**20
        print(
            f"  {tokens:9,d} tokens: peak of JAX's arrays {max(seen) / 2**20:6.1f} MiB, "
            f"of the process {process:6.0f} MiB"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2, help="for PyTorch")
    parser.add_argument("--no-peak", action="store_true")
    args = parser.parse_args()
    params, x = parameters()
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}; {args.rounds} rounds")
    bare = jax.jit(network)
    calls: dict[str, Function] = {"bare": lambda: bare(params, x)}
    calls |= {name: gathering(reduce, params, x) for name, reduce in PASSES.items()}
    calls["the four, stored, in NumPy"] = stored(params, x)
    show(f"{LAYERS} blocks, d {D}, {TOKENS} tokens", measure(calls, args.rounds))
    if (found := torch_variants(params, x, args.threads)) is None:
        print("\nPyTorch: not installed (pip install torch)")
    else:
        show("PyTorch", measure(found, args.rounds))
    if not args.no_peak:
        peak(params)


if __name__ == "__main__":
    main()
