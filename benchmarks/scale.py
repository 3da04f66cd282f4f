"""Models of 7 and 70 billion parameters over a simulated mesh of 64 devices: what each one holds.

    python benchmarks/scale.py

Nothing is allocated: options alone are loaded (`abstract=True`), parameters, AdamW's state and
tokens are shapes with their shardings, and one training step is compiled for 64 CPU devices.
Printed are the bytes on each device. Temporary memory is what XLA's CPU backend plans for the step
with every block recomputed; that backend computes in float32 what is bfloat16 on an accelerator, so
there it is an upper bound. All figures are exact and need no second run.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=64"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import argparse
import functools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from activjax import models, training
from activjax.runs import memory

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5}
SIZES: dict[str, dict[str, Any]] = {
    "Llama 2 7B": {
        **LLAMA,
        "vocab_size": 32_000,
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 4096,
    },
    "Llama 3.1 70B": {
        **LLAMA,
        "vocab_size": 128_256,
        "hidden_size": 8192,
        "intermediate_size": 28_672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "rope_theta": 500_000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    },
}
SEQ = 2048


def count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def measure(name: str, options: dict[str, Any], data: int, table: bool) -> list[str]:
    """Load, place and compile; one row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(options))
        mesh = models.mesh(data=data, model=64 // data)
        fields = {"param_dtype": "float32", "dtype": "bfloat16", "remat": True}
        model, params, _ = models.load(folder, mesh=mesh, rules="fsdp", abstract=True, **fields)
    place = models.sharding(model, mesh, rules="fsdp")
    if table:
        Console(width=120).print(place.table())
    optimiser = training.adamw(1e-4, steps=1000)
    start = functools.partial(training.init_state, model, optimiser, None)
    state = place.put(jax.eval_shape(start, jax.random.key(0)))
    step = jax.jit(
        functools.partial(training.train_step, training.next_token(model), optimiser),
        out_shardings=(place.like(state), None),
        donate_argnums=0,
    )
    rows = jax.ShapeDtypeStruct((data, SEQ + 1), jnp.int32, sharding=place.batch)
    begun = time.perf_counter()
    compiled = step.lower(state, (rows, rows)).compile()
    seconds = time.perf_counter() - begun
    plan = compiled.memory_analysis()
    peak = memory.peak() / 2**30
    sizes = [place.nbytes(), place.nbytes(state), plan.temp_size_in_bytes]
    shown = [f"{n / 2**30:.2f}" for n in sizes]
    return [
        name, f"{data} x {64 // data}", f"{count(params):,}",
        *shown, f"{seconds:.0f}", f"{peak:.2f}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=int, default=8, help="devices that the batch is split over")
    parser.add_argument("--table", action="store_true", help="every parameter, and how it is split")
    args = parser.parse_args()
    out = Table(title=f"GiB on each of 64 devices, rows of {SEQ} tokens, one for each data device")
    for heading in ("model", "data x model", "parameters", "parameters", "with AdamW", "temporary",
                    "compile s", "this process GiB"):  # fmt: skip
        out.add_column(heading, justify="right")
    for name, options in SIZES.items():
        out.add_row(*measure(name, options, args.data, args.table))
    Console(width=120).print(out)


if __name__ == "__main__":
    main()
