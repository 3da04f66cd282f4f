"""Writes `checkpoints/`: a tiny random model of each family, and what its own library makes of it.

Needs the extra `reference` (PyTorch, transformers, PEFT) and is run by hand:

    python tests/models/published/make_checkpoints.py

Each folder holds the model as `save_pretrained` writes it, and `reference.safetensors`: token ids,
logits, the residual stream before and after every block, logits of padded prompts, 64 tokens of
greedy decoding. `adapters/` holds LoRA adapters of PEFT. Every weight is random, norms and biases
too: what is swapped or left out shows.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
from safetensors.numpy import save_file

HERE = Path(__file__).parent / "checkpoints"
VOCAB, PROMPT, STEPS = 61, 8, 64
MARGIN = 1e-2  # between the two largest logits of a greedy step: a hundred tolerances
DISTINCT = 12  # tokens in what greedy decoding writes; one token again and again tests little
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 96,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GEMMA = {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 11}
GEMMA3 = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 4.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A model to write; `adapt` names the modules that get a LoRA, for the fused layouts."""

    config: Callable[[], Any]
    model: str
    adapt: tuple[str, ...] = ()


T = transformers
KINDS = {
    "gpt2": Kind(
        lambda: T.GPT2Config(vocab_size=VOCAB, n_positions=96, n_embd=24, n_layer=3, n_head=4),
        "GPT2LMHeadModel",
        ("c_attn", "mlp.c_proj"),
    ),
    "gpt_neox": Kind(
        lambda: T.GPTNeoXConfig(**SIZES, rotary_pct=0.7),
        "GPTNeoXForCausalLM",
        ("query_key_value", "dense_4h_to_h"),
    ),
    "llama": Kind(
        lambda: T.LlamaConfig(**SIZES, num_key_value_heads=2, rope_parameters=dict(LLAMA3)),
        "LlamaForCausalLM",
        ("q_proj", "v_proj", "down_proj"),
    ),
    "mistral": Kind(
        lambda: T.MistralConfig(**SIZES, num_key_value_heads=1, head_dim=8, sliding_window=5),
        "MistralForCausalLM",
    ),
    "qwen2": Kind(
        lambda: T.Qwen2Config(
            **SIZES,
            num_key_value_heads=2,
            use_sliding_window=True,
            sliding_window=7,
            max_window_layers=1,
            tie_word_embeddings=True,
        ),
        "Qwen2ForCausalLM",
    ),
    "qwen3": Kind(
        lambda: T.Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=10, attention_bias=True),
        "Qwen3ForCausalLM",
    ),
    "gemma2": Kind(lambda: T.Gemma2Config(**SIZES, **GEMMA), "Gemma2ForCausalLM"),
    "gemma3": Kind(
        lambda: T.Gemma3TextConfig(
            **SIZES, **GEMMA, sliding_window_pattern=2, rope_parameters=dict(GEMMA3)
        ),
        "Gemma3ForCausalLM",
    ),
    "bert": Kind(lambda: T.BertConfig(**SIZES, pad_token_id=0), "BertForPreTraining"),
}


def randomise(model: Any, seed: int) -> None:
    """Every parameter from a normal distribution, sized so that activations keep their size."""
    draw = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        values = torch.randn(p.shape, generator=draw)
        if p.ndim > 1 and "embed" not in name and "wte" not in name and "wpe" not in name:
            # GPT-2 keeps its matrices the other way round; its widths make no difference here
            p.data = values * (1.5 / p.shape[-1] ** 0.5)
        elif p.ndim > 1:
            p.data = 0.3 * values
        elif "norm" in name.lower() or ".ln_" in name:
            p.data = 0.3 * values + (1.0 if name.endswith("weight") else 0.0)
        else:
            p.data = 0.3 * values


def residuals(model: Any, ids: torch.Tensor, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
    """What enters and leaves each block `[layers + 1, batch, seq, width]`, and the logits."""
    last = {}
    names = [n for n, m in model.named_modules() if isinstance(m, torch.nn.ModuleList)]
    blocks = model.get_submodule(next(n for n in names if n.split(".")[-1] in ("h", "layers")))

    def keep(module: Any, given: Any, out: Any) -> None:
        last["out"] = out[0] if isinstance(out, tuple) else out

    handle = blocks[-1].register_forward_hook(keep)
    with torch.no_grad():
        out = model(ids, output_hidden_states=True, **kwargs)
    handle.remove()
    hidden = [h.numpy() for h in out.hidden_states[:-1]] + [last["out"].numpy()]
    return np.stack(hidden), out.logits.numpy()


def greedy(model: Any, prompt: torch.Tensor) -> tuple[np.ndarray, float]:
    """`STEPS` tokens, each from a whole forward, and the smallest margin by which one won."""
    ids, margin = prompt, float("inf")
    for _ in range(STEPS):
        with torch.no_grad():
            top = model(ids, use_cache=False).logits[:, -1].topk(2)
        margin = min(margin, float((top.values[:, 0] - top.values[:, 1]).min()))
        ids = torch.cat([ids, top.indices[:, :1]], dim=1)
    return ids[:, prompt.shape[1] :].numpy(), margin


def decoder(name: str, kind: Kind, seed: int) -> bool:
    """Write one; False where greedy decoding is too close a call for this seed."""
    model = getattr(T, kind.model)._from_config(kind.config(), attn_implementation="eager")
    model.eval()
    randomise(model, seed)
    rng = np.random.default_rng(seed)
    ids = torch.tensor(rng.integers(0, VOCAB, (2, 20)))
    continued, margin = greedy(model, ids[:1, :PROMPT])
    if margin < MARGIN or len(np.unique(continued)) < DISTINCT:
        return False
    hidden, logits = residuals(model, ids)
    mask = torch.ones_like(ids)
    mask[0, :6] = 0  # on the left
    places = (mask.cumsum(1) - 1).clamp(min=0)
    _, padded = residuals(model, ids, attention_mask=mask, position_ids=places)
    folder = HERE / name
    write(folder, model, {
        "ids": ids.numpy().astype(np.int32), "hidden": hidden, "logits": logits,
        "mask": mask.numpy().astype(bool), "padded": padded * mask.numpy()[..., None],
        "greedy": continued.astype(np.int32),
    })  # fmt: skip
    if kind.adapt:
        settings = peft.LoraConfig(
            r=3, lora_alpha=5, target_modules=list(kind.adapt), init_lora_weights=False,
            rank_pattern={kind.adapt[-1]: 2}, alpha_pattern={kind.adapt[0]: 2},
            fan_in_fan_out=name == "gpt2",
        )  # fmt: skip
        torch.manual_seed(seed)
        tuned = peft.get_peft_model(model, settings)
        tuned.save_pretrained(folder / "adapters")
        (folder / "adapters" / "README.md").unlink(missing_ok=True)
        _, logits = residuals(tuned, ids)
        save_file({"logits": logits}, folder / "adapters" / "reference.safetensors")
    print(f"{name}: seed {seed}, margin {margin:.3g}, logits up to {abs(logits).max():.3g}")
    return True


def encoder(name: str, kind: Kind, seed: int) -> None:
    """Write BERT with all its heads, and the network alone."""
    model = getattr(T, kind.model)._from_config(kind.config(), attn_implementation="eager")
    model.eval()
    randomise(model, seed)
    rng = np.random.default_rng(seed)
    ids = torch.tensor(rng.integers(0, VOCAB, (2, 20)))
    mask = torch.ones_like(ids)
    mask[0, 13:] = 0
    types = torch.tensor(rng.integers(0, 2, (2, 20)))
    with torch.no_grad():
        out = model(ids, mask, types, output_hidden_states=True)
        pooled = model.bert(ids, mask, types).pooler_output
    real = mask.numpy()[..., None]
    write(HERE / name, model, {
        "ids": ids.numpy().astype(np.int32), "mask": mask.numpy().astype(bool),
        "types": types.numpy().astype(np.int32),
        "hidden": np.stack([h.numpy() for h in out.hidden_states]) * real,
        "logits": out.prediction_logits.numpy() * real, "pooled": pooled.numpy(),
        "next_sentence": out.seq_relationship_logits.numpy(),
    })  # fmt: skip
    print(f"{name}: logits up to {abs(out.prediction_logits).max():.3g}")


def write(folder: Path, model: Any, reference: dict[str, np.ndarray]) -> None:
    """A folder with a model and what it computes."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    arrays = {
        k: np.ascontiguousarray(v, np.float32 if v.dtype.kind == "f" else v.dtype)
        for k, v in reference.items()
    }
    save_file(arrays, folder / "reference.safetensors")


def main() -> None:
    """Write them all."""
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    for name, kind in KINDS.items():
        if name == "bert":
            encoder(name, kind, 0)
        else:
            next(seed for seed in range(200) if decoder(name, kind, seed))
    for path in sorted(HERE.iterdir()):
        size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        print(f"{path.name}: {size / 1000:.0f} kB")
        assert size < 300_000, path


if __name__ == "__main__":
    main()
