"""What reading and editing activations costs, at the shape of GPT-2 small.

    pip install -e ".[bench]" && python benchmarks/capture.py

Every variant is timed against the bare jitted program in interleaved rounds: in each round all run
once, in random order. Printed are the median of the per-round ratios and their quartiles. Linen is
the same network tagged by its own `capture_intermediates`; PyTorch is the same shape with forward
hooks, each against its own bare program.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from _timing import Function, measure, show

import activjax as aj

LAYERS, D, HEADS, VOCABULARY = 12, 768, 12, 50257
BATCH, SEQ = 4, 128


def _normalised(x: jax.Array) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)


def _plain(x: jax.Array, name: str) -> jax.Array:
    del name
    return x


def _tagged(x: jax.Array, name: str) -> jax.Array:
    return aj.tag(x, name, axes="batch seq d" if x.ndim == 3 else "batch head seq d")


def block(p: dict[str, jax.Array], x: jax.Array, tag: Callable[..., jax.Array]) -> jax.Array:
    """A decoder block with its sites."""
    b, s, d = x.shape
    x = tag(x, "resid_pre")
    heads = (_normalised(x) @ p["qkv"]).reshape(b, s, 3, HEADS, d // HEADS)
    q, k, v = (tag(heads[:, :, i].swapaxes(1, 2), n) for i, n in enumerate(("q", "k", "v")))
    scores = tag(q @ k.mT / np.float32(np.sqrt(d // HEADS)), "scores")
    causal = jnp.tril(jnp.ones((s, s), bool))
    pattern = tag(jax.nn.softmax(jnp.where(causal, scores, -1e9), -1), "pattern")
    mixed = (pattern @ v).swapaxes(1, 2).reshape(b, s, d)
    x = tag(x + tag(mixed @ p["out"], "attn_out"), "resid_mid")
    hidden = tag(_normalised(x) @ p["up"], "mlp_pre")
    return tag(x + tag(tag(jax.nn.gelu(hidden), "mlp_post") @ p["down"], "mlp_out"), "resid_post")


def network(tag: Callable[..., jax.Array], scanned: bool) -> Callable[..., jax.Array]:
    """Logits of tokens, with the blocks in a Python loop or in a scan."""

    def f(params: Any, tokens: jax.Array) -> jax.Array:
        x = params["embed"][tokens] + params["position"]
        if scanned:
            step = lambda x, p: (block(p, x, tag), None)  # noqa: E731
            x, _ = aj.scan(step, x, params["blocks"], name="blocks")
        else:
            for i in range(LAYERS):
                with aj.scope(f"{i}"):
                    x = block(jax.tree.map(lambda w, i=i: w[i], params["blocks"]), x, tag)
        return _normalised(x) @ params["embed"].T

    return f


def parameters() -> Any:
    """Random weights of the shape."""
    keys = iter(jax.random.split(jax.random.key(0), 6))
    shapes = {"qkv": (D, 3 * D), "out": (D, D), "up": (D, 4 * D), "down": (4 * D, D)}
    return {
        "embed": jax.random.normal(next(keys), (VOCABULARY, D)) * 0.02,
        "position": jax.random.normal(next(keys), (SEQ, D)) * 0.02,
        "blocks": {
            n: jax.random.normal(next(keys), (LAYERS, *s)) * 0.02 for n, s in shapes.items()
        },
    }


class LinenBlock(nn.Module):
    """The same block in Flax Linen."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply it."""
        b, s, d = x.shape
        dense = lambda n, name: nn.Dense(n, use_bias=False, name=name)  # noqa: E731
        h = nn.LayerNorm(use_bias=False, use_scale=False)(x)
        heads = dense(3 * d, "qkv")(h).reshape(b, s, 3, HEADS, d // HEADS)
        q, k, v = (heads[:, :, i].swapaxes(1, 2) for i in range(3))
        scores = q @ k.mT / np.float32(np.sqrt(d // HEADS))
        pattern = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((s, s), bool)), scores, -1e9), -1)
        x = x + dense(d, "out")((pattern @ v).swapaxes(1, 2).reshape(b, s, d))
        h = nn.LayerNorm(use_bias=False, use_scale=False)(x)
        return x + dense(d, "down")(nn.gelu(dense(4 * d, "up")(h)))


class LinenNetwork(nn.Module):
    """The same network in Flax Linen."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits."""
        embed = nn.Embed(VOCABULARY, D, name="embed")
        x = embed(tokens) + self.param("position", nn.initializers.normal(0.02), (SEQ, D))
        for i in range(LAYERS):
            x = LinenBlock(name=f"block_{i}")(x)
        return embed.attend(nn.LayerNorm(use_bias=False, use_scale=False)(x))


def variants(scanned: bool, params: Any, tokens: jax.Array) -> dict[str, Any]:
    """Jitted variants of one form of the network; "bare" is what the others are compared with."""
    bare, tagged = network(_plain, scanned), network(_tagged, scanned)
    resid = "resid_post" if scanned else "*/resid_post"
    one = aj.select(resid, layers=6) if scanned else "6/resid_post"
    vector = jnp.full((D,), 1e-3)
    fns = {
        "bare": bare,
        "tagged, nothing read": tagged,
        "one residual": aj.capture(tagged, one),
        "all residuals": aj.capture(tagged, resid),
        "all sites": aj.capture(tagged),
        "edit of every residual": lambda p, t: aj.intervene(tagged, {resid: aj.edits.add(vector)})(
            p, t
        ),
    }
    return {name: (jax.jit(fn), (params, tokens)) for name, fn in fns.items()}


def linen_variants(tokens: jax.Array) -> dict[str, Any]:
    """Flax Linen without and with `capture_intermediates`."""
    net = LinenNetwork()
    variables = jax.jit(net.init)(jax.random.key(0), tokens)
    read = lambda v, t: net.apply(v, t, capture_intermediates=True, mutable=["intermediates"])  # noqa: E731
    tagged = aj.tag_modules(net)
    return {
        "bare": (jax.jit(net.apply), (variables, tokens)),
        "tag_modules, all blocks": (jax.jit(aj.capture(tagged, "block_*")), (variables, tokens)),
        "tag_modules, all modules": (jax.jit(aj.capture(tagged)), (variables, tokens)),
        "capture_intermediates": (jax.jit(read), (variables, tokens)),
    }


def torch_variants(threads: int) -> dict[str, Function] | None:
    """PyTorch without and with forward hooks, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            linear = lambda i, o: torch.nn.Linear(i, o, bias=False)  # noqa: E731
            self.qkv, self.out = linear(D, 3 * D), linear(D, D)
            self.up, self.down = linear(D, 4 * D), linear(4 * D, D)
            self.norm = torch.nn.LayerNorm(D, elementwise_affine=False)

        def forward(self, x: Any) -> Any:
            b, s, d = x.shape
            heads = self.qkv(self.norm(x)).reshape(b, s, 3, HEADS, d // HEADS)
            q, k, v = (heads[:, :, i].transpose(1, 2) for i in range(3))
            mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(b, s, d))
            return x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(VOCABULARY, D)
            self.position = torch.nn.Parameter(torch.zeros(SEQ, D))
            self.blocks = torch.nn.ModuleList(Block() for _ in range(LAYERS))

        def forward(self, tokens: Any) -> Any:
            x = self.embed(tokens) + self.position
            for one in self.blocks:
                x = one(x)
            return torch.nn.functional.linear(self.blocks[0].norm(x), self.embed.weight)

    net, tokens = Network().eval(), torch.zeros((BATCH, SEQ), dtype=torch.long)

    def run(modules: list[Any], edit: bool = False) -> Function:
        def call() -> Any:
            kept: list[Any] = []

            def hook(module: Any, inputs: Any, out: Any) -> Any:
                del module, inputs
                if edit:
                    return out + 1e-3
                kept.append(out.clone())
                return None

            handles = [m.register_forward_hook(hook) for m in modules]
            with torch.no_grad():
                out = net(tokens)
            for handle in handles:
                handle.remove()
            return out, kept

        return call

    residuals = list(net.blocks)
    everything = [m for m in net.modules() if m is not net]
    return {
        "bare": run([]),
        "hook on one block": run(residuals[6:7]),
        "hooks on all blocks": run(residuals),
        "hooks on all modules": run(everything),
        "edit of every block": run(residuals, edit=True),
    }


def trace_times(programs: dict[str, Any], rounds: int) -> dict[str, np.ndarray]:
    """Seconds to trace anew, in interleaved rounds; the first round fills JAX's own caches."""
    for fn, args in programs.values():
        jax.jit(lambda *a, fn=fn: fn.__wrapped__(*a)).trace(*args)
    out = {name: np.zeros(rounds) for name in programs}
    for i in range(rounds):
        for name, (fn, args) in programs.items():
            fresh = jax.jit(lambda *a, fn=fn: fn.__wrapped__(*a))
            start = time.perf_counter()
            fresh.trace(*args)
            out[name][i] = time.perf_counter() - start
    return out


def jax_table(title: str, programs: dict[str, Any], rounds: int) -> None:
    """Time, compile time and memory of jitted programs."""
    more, calls = {}, {}
    traced = trace_times(programs, max(3, rounds // 3))
    for name, (fn, args) in programs.items():
        lowered = fn.lower(*args)
        start = time.perf_counter()
        compiled = lowered.compile()
        seconds, memory = time.perf_counter() - start, compiled.memory_analysis()
        ratio = np.median(traced[name] / traced["bare"])
        out, temp = memory.output_size_in_bytes / 2**20, memory.temp_size_in_bytes / 2**20
        more[name] = (
            f"trace {np.median(traced[name]) * 1e3:4.0f} ms ({ratio:4.2f})  "
            f"compile {seconds:4.1f} s  out {out:6.1f} MiB  temp {temp:6.1f} MiB"
        )
        calls[name] = lambda compiled=compiled, args=args: compiled(*args)
    show(title, measure(calls, rounds), more)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2, help="for PyTorch")
    parser.add_argument(
        "--only", choices=("unrolled", "scanned", "linen", "torch"), action="append"
    )
    args = parser.parse_args()
    chosen = args.only or ["unrolled", "scanned", "linen", "torch"]
    tokens = jax.random.randint(jax.random.key(1), (BATCH, SEQ), 0, VOCABULARY)
    device = jax.devices()[0]
    print(f"jax {jax.__version__} on {device.device_kind}; {args.rounds} rounds; ratios to bare")
    print(f"{LAYERS} layers, d {D}, seq {SEQ}, batch {BATCH}, vocabulary {VOCABULARY}")
    params = parameters()
    for form in ("unrolled", "scanned"):
        if form in chosen:
            jax_table(form, variants(form == "scanned", params, tokens), args.rounds)
    del params
    if "linen" in chosen:
        jax_table("Flax Linen, unrolled", linen_variants(tokens), args.rounds)
    if "torch" in chosen:
        calls = torch_variants(args.threads)
        if calls is None:
            print("\nPyTorch: not installed (pip install torch)")
        else:
            import torch

            show(f"PyTorch {torch.__version__}", measure(calls, args.rounds), {})


if __name__ == "__main__":
    main()
