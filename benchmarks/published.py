"""Published weights against the `transformers` library: loading, memory, forward, decoding.

    pip install -e ".[reference]" psutil && python benchmarks/published.py

A GPT-2 of 124 million parameters with random weights is written here. Each load is a process of its
own, with the file in the page cache, after all imports; memory is what the process's peak grows by.
"touched" also sums every parameter: a map of a file is not yet a model in memory. Forward and
decoding run in one process on the same number of threads; logits and tokens are compared before
anything is timed. Printed are medians of per-round ratios, ours to theirs, with quartiles.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

GPT2 = {"vocab": 50257, "context": 1024, "layers": 12, "width": 768, "heads": 12}
LLAMA = {
    **{"vocab": 32000, "context": 1024, "layers": 12, "width": 768, "heads": 12, "kv_heads": 4},
    **{"mlp_width": 2048, "norm": "rms", "positions": "rotary", "gated": True, "bias": False},
    **{"activation": "silu", "tied": False, "norm_eps": 1e-6},
}

OURS = """
import jax, jax.numpy as jnp, numpy as np
from activjax import models
jax.block_until_ready(jnp.zeros(3) + 1)
def load(folder): return jax.block_until_ready(models.load(folder).params)
def touch(params): return float(sum(np.asarray(x).sum() for x in jax.tree.leaves(params)))
"""
THEIRS = """
import torch, transformers
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
def load(folder): return transformers.AutoModelForCausalLM.from_pretrained(folder)
def touch(model): return float(sum(p.detach().sum() for p in model.parameters()))
# the classes are imported at their first use
transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(TINY))
"""
TIMED = """
import sys, time, threading, psutil
own = psutil.Process()
before = own.memory_info().rss
peak, done = [before], []
def watch():
    while not done:
        peak.append(own.memory_info().rss)
        time.sleep(0.002)
thread = threading.Thread(target=watch); thread.start()
start = time.perf_counter()
held = load(FOLDER)
loaded = time.perf_counter() - start
touch(held)
touched = time.perf_counter() - start
done.append(1); thread.join()
print(loaded, touched, max(peak) - before)
"""


def write(folder: Path, fields: dict[str, Any]) -> int:
    """A model with random weights; returns its bytes."""
    import jax

    from activjax import models

    model = models.decoder(**fields)
    params = jax.jit(model.init)(jax.random.key(0))
    models.save(folder, model, params)
    return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def loading(root: Path, name: str, fields: dict[str, Any], rounds: int) -> None:
    """Seconds and peak memory of loading, each in a process of its own."""
    size = write(root / name, fields)
    write(root / f"{name}-tiny", {**fields, "vocab": 64, "width": 48, "layers": 1, "mlp_width": 64})
    found: dict[str, list[list[float]]] = {"ours": [], "theirs": []}
    for i in range(rounds + 1):
        order = list(found)
        random.Random(i).shuffle(order)
        for who in order:
            code = (OURS if who == "ours" else THEIRS) + TIMED
            code = code.replace("FOLDER", repr(str(root / name)))
            code = code.replace("TINY", repr(str(root / f"{name}-tiny")))
            out = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ
            )
            if out.returncode:
                raise SystemExit(out.stderr)
            if i:  # the first round warms the page cache
                found[who].append(json.loads("[" + ",".join(out.stdout.split()) + "]"))
    ours, theirs = (np.array(found[who]) for who in ("ours", "theirs"))
    print(f"\nloading {name}, {size / 1e6:.0f} MB")
    for column, what in enumerate(("load", "load and touch")):
        a, b = ours[:, column], theirs[:, column]
        spread(what, a / b, f"ours {np.median(a):.2f} s, theirs {np.median(b):.2f} s")
    a, b = ours[:, 2], theirs[:, 2]
    spread("peak memory", a / b, f"of the model: ours {np.median(a) / size:.2f} x, theirs "
           f"{np.median(b) / size:.2f} x")  # fmt: skip


def spread(what: str, ratios: np.ndarray, more: str) -> None:
    low, mid, high = np.percentile(ratios, [25, 50, 75])
    print(f"  {what:18s} {mid:5.2f}  [{low:5.2f}, {high:5.2f}]  {more}")


def running(root: Path, name: str, rounds: int, threads: int) -> None:
    """Forward and greedy decoding of what `loading` wrote."""
    import jax
    import torch
    import transformers
    from _timing import measure

    from activjax import models

    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    model, params, _ = models.load(root / name)
    net = transformers.AutoModelForCausalLM.from_pretrained(root / name).eval()
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 30_000, (4, 128)).astype(np.int32)
    prompt = ids[:1, :32]
    forward = jax.jit(model.apply)
    decode = jax.jit(functools.partial(models.generate, model, steps=64))
    many = torch.from_numpy(ids).long()
    one = torch.from_numpy(prompt).long()

    def theirs() -> Any:
        with torch.inference_mode():
            return net(many).logits

    def continued() -> Any:
        with torch.inference_mode():
            return net.generate(one, max_new_tokens=64, min_new_tokens=64, do_sample=False)

    worst = float(np.abs(np.asarray(forward(params, ids)) - theirs().numpy()).max())
    same = np.mean(np.asarray(decode(params, prompt).tokens) == continued().numpy()[:, 32:])
    print(f"\nrunning {name}: largest difference of logits {worst:.1e}, {same:.0%} of 64 tokens")
    calls = {
        "forward": lambda: forward(params, ids), "forward, theirs": theirs,
        "decode": lambda: decode(params, prompt), "decode, theirs": continued,
    }  # fmt: skip
    times = measure(calls, rounds)
    for what, tokens in (("forward", ids.size), ("decode", 64)):
        a, b = times[what], times[f"{what}, theirs"]
        rates = f"ours {tokens / np.median(a):.0f} tokens/s, theirs {tokens / np.median(b):.0f}"
        spread(what, a / b, rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, fields in (("gpt2", GPT2), ("llama", LLAMA)):
            loading(Path(folder), name, fields, args.rounds)
            running(Path(folder), name, args.rounds, args.threads)


if __name__ == "__main__":
    main()
