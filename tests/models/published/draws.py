"""Random configurations of every family, as `random_configurations.py` compares them.

Needs the extra `reference`. A draw is made by its seed, its family and its number alone.
"""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

import numpy as np
import transformers as T

#: What draws are of, one after the other: a sequence of thousands, `config.json` as older files
#: have it, 16 bits, no head in the file, options left out that have their default value.
STYLES = ("long", "old", "half", "bare", "short")
STEPS = 64
_RANDOM = (0.0, 0.3, 0.3, 0.2, 0.4)  # how often the others are there beside it


@dataclasses.dataclass(frozen=True)
class Draw:
    """A model to make.

    Attributes:
      family: its name here.
      config: of the reference library.
      word: the class of the reference library that has the head.
      bare: the class that the file is of, where that is another one.
      dtype: of the file.
      shard: the most bytes of a file.
      seq: tokens in a sequence.
      old, short: see `STYLES`.
      rng: for what else is random.
    """

    family: str
    config: Any
    word: str
    bare: str | None
    dtype: str
    shard: int | None
    seq: int
    old: bool
    short: bool
    rng: np.random.Generator

    def __str__(self) -> str:
        c = self.config
        kv = getattr(c, "num_key_value_heads", c.num_attention_heads)
        parts = [
            f"{c.num_hidden_layers}x{c.hidden_size}",
            f"heads {c.num_attention_heads}/{kv}x{_head(c)}",
            f"vocab {c.vocab_size}",
            f"seq {self.seq} of {c.max_position_embeddings}",
            self.dtype,
            *_rope(c),
        ]
        if getattr(c, "sliding_window", None):
            parts.append(f"window {c.sliding_window}")
        flags = {
            "old": self.old,
            "short": self.short,
            self.bare: self.bare,
            "tied": c.tie_word_embeddings,
        }
        return ", ".join([*parts, *(str(name) for name, on in flags.items() if on)])


def _head(c: Any) -> int:
    return getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads


def _rope(c: Any) -> list[str]:
    found = getattr(c, "rope_parameters", None)
    if not found:
        return []
    found = found.get("full_attention", found)
    share = found.get("partial_rotary_factor", 1.0)
    return [f"rope {found['rope_type']}" + (f" of {share:.2f}" if share != 1 else "")]


def draw(family: str, seed: int, number: int) -> Draw:
    """Draw number `number` of a family."""
    rng = np.random.default_rng([seed, zlib.crc32(family.encode()), number])
    there = {s: bool(rng.random() < p) for s, p in zip(STYLES, _RANDOM)}
    there[STYLES[number % len(STYLES)]] = True
    # longer than the window that some families have where none is given
    context = int(rng.integers(4110, 4300)) if there["long"] else int(rng.integers(72, 200))
    seq = context - int(rng.integers(0, 9)) if there["long"] else int(rng.integers(12, 40))
    make, word, *others = FAMILIES[family]
    bare = str(rng.choice(others))
    config = make(_Dice(rng, context, there))
    # a file without a head says nothing of an untied one
    one = bare if there["bare"] and (config.tie_word_embeddings or family == "bert") else None
    return Draw(
        family=family,
        config=config,
        word=word if family != "bert" or one is None else one,
        bare=one,
        dtype=str(rng.choice(["bfloat16", "float16"])) if there["half"] else "float32",
        shard=int(rng.integers(4_000, 20_000)) if rng.random() < 0.5 else None,
        seq=seq,
        old=there["old"],
        short=there["short"],
        rng=rng,
    )


class _Dice:
    """What families draw in common."""

    def __init__(self, rng: np.random.Generator, context: int, there: dict[str, bool]):
        self.rng, self.context, self.there = rng, context, there
        long = there["long"]
        self.heads = self.of(1, 2) if long else self.of(1, 2, 3, 4, 6, 8)
        self.layers = self.of(1, 2) if long else self.of(1, 2, 3, 4)
        self.size = 2 * int(rng.integers(1, 9))  # of a head
        self.eps = self.of(1e-6, 1e-5, 1e-3)
        self.tied = self.coin() or there["bare"]
        self.activation = self.of("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "tanh",
                                  "quick_gelu", "swish", "gelu_fast")  # fmt: skip

    def of(self, *values: Any) -> Any:
        return values[self.rng.integers(len(values))]

    def coin(self) -> bool:
        return bool(self.rng.random() < 0.5)

    def basic(self) -> dict[str, Any]:
        """Sizes as all but GPT-2 call them."""
        return {
            "vocab_size": int(self.rng.integers(17, 120)),
            "hidden_size": self.heads * self.of(self.size, *range(2, 13)),
            "intermediate_size": int(self.rng.integers(3, 70)),
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": self.tied,
            **IDS,
        }

    def llama(self) -> dict[str, Any]:
        """What Llama and those after it have in common."""
        return {
            **self.basic(),
            "num_key_value_heads": self.of(*(d for d in range(1, 9) if self.heads % d == 0)),
            "rms_norm_eps": self.eps,
            "rope_parameters": self.rope(),
        }

    def window(self) -> int:
        own = self.context
        return 4096 if own > 4096 else self.of(1, 2, 3, 7, 16, own - 1, own, 2 * own)

    def kinds(self) -> list[str]:
        return [self.of("sliding_attention", "full_attention") for _ in range(self.layers)]

    def rope(self, *kinds: str) -> dict[str, Any]:
        kind = self.of(*(kinds or ("default", "linear", "llama3")))
        out = {"rope_type": kind, "rope_theta": self.of(500.0, 1e4, 12345.5, 1e6)}
        if kind != "default":
            out["factor"] = self.of(1.5, 4.0, 8.0)
        if kind == "llama3":
            out |= {
                "low_freq_factor": self.of(1.0, 0.7),
                "high_freq_factor": self.of(4.0, 2.5),
                "original_max_position_embeddings": self.of(self.context // 4, 50),
            }
        return out


IDS: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def _gpt2(d: _Dice) -> Any:
    own = d.basic()
    return T.GPT2Config(
        vocab_size=own["vocab_size"], n_positions=d.context, n_embd=own["hidden_size"],
        n_layer=d.layers, n_head=d.heads, n_inner=d.of(None, own["intermediate_size"]),
        activation_function=d.of(d.activation, "gelu_new"), layer_norm_epsilon=d.eps,
        tie_word_embeddings=d.tied, **IDS,
    )  # fmt: skip


def _gpt_neox(d: _Dice) -> Any:
    own, size = d.basic(), d.of(4, 6, 10, 16)
    own["hidden_size"] = d.heads * size
    share = d.of(1.0, *((2 * i + 0.01) / size for i in range(1, size // 2)), 0.5)
    if int(size * share) % 2:
        share = 1.0
    return T.GPTNeoXConfig(
        **own, hidden_act=d.activation, layer_norm_eps=d.eps, use_parallel_residual=d.coin(),
        rope_parameters={**d.rope("default", "linear"), "partial_rotary_factor": share},
    )  # fmt: skip


def _llama(d: _Dice) -> Any:
    attention = d.coin()
    return T.LlamaConfig(
        **d.llama(), head_dim=d.size, hidden_act=d.activation, attention_bias=attention,
        mlp_bias=attention and d.coin(),
    )  # fmt: skip


def _mistral(d: _Dice) -> Any:
    return T.MistralConfig(
        **d.llama(), head_dim=d.size, hidden_act=d.activation,
        sliding_window=d.of(None, d.window()),
    )  # fmt: skip


def _qwen(d: _Dice) -> dict[str, Any]:
    own = {"use_sliding_window": d.coin(), "sliding_window": d.window()}
    own["max_window_layers"] = d.of(*range(d.layers + 1))
    own["hidden_act"] = d.activation
    if own["use_sliding_window"] and not d.there["old"] and d.coin():
        own["layer_types"] = d.kinds()
    return {**d.llama(), **own}


def _qwen2(d: _Dice) -> Any:
    own = _qwen(d)
    own["hidden_size"] = d.heads * d.size
    return T.Qwen2Config(**own)


def _qwen3(d: _Dice) -> Any:
    return T.Qwen3Config(**_qwen(d), head_dim=d.size, attention_bias=d.coin())


def _gemma(d: _Dice) -> dict[str, Any]:
    own = {
        **d.llama(),
        "head_dim": d.size,
        "hidden_activation": d.activation,
        "attention_bias": d.coin(),
        "query_pre_attn_scalar": d.of(d.size, 7, 24),
        "sliding_window": d.window(),
        "attn_logit_softcapping": d.of(None, 2.0, 50.0),
        "final_logit_softcapping": d.of(None, 3.0, 30.0),
    }
    return own if d.there["old"] or d.coin() else {**own, "layer_types": d.kinds()}


def _gemma2(d: _Dice) -> Any:
    return T.Gemma2Config(**_gemma(d))


def _gemma3(d: _Dice) -> Any:
    both = {"full_attention": d.rope(), "sliding_attention": d.rope("default")}
    pattern = d.of(1, 2, 3, 6)
    # the library has this option, and does not use it: set, it is refused here
    own = {**_gemma(d), "rope_parameters": both, "attn_logit_softcapping": None}
    return T.Gemma3TextConfig(**own, sliding_window_pattern=pattern)


def _bert(d: _Dice) -> Any:
    return T.BertConfig(
        **{**d.basic(), "pad_token_id": 0}, hidden_act=d.activation, layer_norm_eps=d.eps,
        type_vocab_size=d.of(1, 2, 5),
    )  # fmt: skip


#: Name -> how a config is made, the class with all heads, classes of files without them.
FAMILIES: dict[str, tuple[Any, ...]] = {
    "gpt2": (_gpt2, "GPT2LMHeadModel", "GPT2Model"),
    "gpt_neox": (_gpt_neox, "GPTNeoXForCausalLM", "GPTNeoXModel"),
    "llama": (_llama, "LlamaForCausalLM", "LlamaModel"),
    "mistral": (_mistral, "MistralForCausalLM", "MistralModel"),
    "qwen2": (_qwen2, "Qwen2ForCausalLM", "Qwen2Model"),
    "qwen3": (_qwen3, "Qwen3ForCausalLM", "Qwen3Model"),
    "gemma2": (_gemma2, "Gemma2ForCausalLM", "Gemma2Model"),
    "gemma3": (_gemma3, "Gemma3ForCausalLM", "Gemma3TextModel"),
    "bert": (_bert, "BertForPreTraining", "BertModel", "BertForMaskedLM"),
}

#: Modules that adapters are drawn for; those of Llama where a family is not there.
_LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ADAPTED = {
    "gpt2": ("c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
    "gpt_neox": ("query_key_value", "attention.dense", "dense_h_to_4h", "dense_4h_to_h"),
    "bert": ("query", "key", "value", "attention.output.dense", "intermediate.dense"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"), _LLAMA),
}


def shorter(options: dict[str, Any], d: Draw) -> dict[str, Any]:
    """The options of a `config.json`, some left out that have their default value."""
    usual = type(d.config)().to_dict()
    usual = {k: v for k, v in usual.items() if k not in ("model_type", "architectures")}
    # numbers of layers and heads have to be there: without them a file is refused
    usual = {k: v for k, v in usual.items() if not k.startswith("num_")}
    same = [k for k, v in options.items() if k in usual and usual[k] == v]
    out = {k for k in same if d.rng.random() < 0.6}
    return {k: v for k, v in options.items() if k not in out}


def older(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a `config.json` as files had them before version 5 of the library."""
    out = dict(options)
    out["torch_dtype"] = out.pop("dtype")
    rope = out.pop("rope_parameters", None)
    kind = out["model_type"]
    if kind == "gemma3_text":
        out["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        out["sliding_window_pattern"] = out.pop("_sliding_window_pattern")
        rope = rope["full_attention"]
    if rope is not None:
        theta, share = rope.pop("rope_theta"), rope.pop("partial_rotary_factor", None)
        out["rope_theta"] = theta
        if kind == "gpt_neox":
            # some of version 4 had both spellings
            out |= {"rotary_emb_base": theta, "rotary_pct": share, "partial_rotary_factor": share}
        # Gemma 3 is younger than this name, and its library passes over it
        if rope["rope_type"] == "linear" and kind != "gemma3_text":
            rope["type"] = rope.pop("rope_type")
        out["rope_scaling"] = None if rope.get("rope_type") == "default" else rope
    out.pop("layer_types", None)
    return out
