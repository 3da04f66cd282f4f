"""Llama (Touvron et al. 2023) and its relatives: Mistral, Qwen2 and Qwen3."""

from __future__ import annotations

from typing import Any

from activjax.models.decoder import DecoderConfig, decoder
from activjax.models.published._family import Family
from activjax.models.published._layout import linear, norm, plain
from activjax.models.published._options import Options
from activjax.models.published.families._common import (
    ACTIVATIONS,
    FULL,
    WINDOWED,
    activation_name,
    kinds_of,
    layer_types,
    need,
    rotary,
    rotary_written,
    sizes,
    sizes_written,
    window_of,
    windows,
)

BLOCK = "model.layers.{}"

#: The arrays of all four, and of Gemma but for its norms.
ATTENTION = (
    *linear(f"{BLOCK}.self_attn.q_proj", "blocks/attn/q"),
    *linear(f"{BLOCK}.self_attn.k_proj", "blocks/attn/k"),
    *linear(f"{BLOCK}.self_attn.v_proj", "blocks/attn/v"),
    *linear(f"{BLOCK}.self_attn.o_proj", "blocks/attn/out"),
    *norm(f"{BLOCK}.self_attn.q_norm", "blocks/attn/q_norm"),
    *norm(f"{BLOCK}.self_attn.k_norm", "blocks/attn/k_norm"),
)
MLP = (
    *linear(f"{BLOCK}.mlp.gate_proj", "blocks/mlp/pre"),
    *linear(f"{BLOCK}.mlp.up_proj", "blocks/mlp/up"),
    *linear(f"{BLOCK}.mlp.down_proj", "blocks/mlp/out"),
)
ENDS = (
    plain("model.embed_tokens.weight", "embed/table"),
    *norm("model.norm", "final"),
    *linear("lm_head", "head"),
)
ENTRIES = (
    *ENDS,
    *norm(f"{BLOCK}.input_layernorm", "blocks/attn_norm"),
    *ATTENTION,
    *norm(f"{BLOCK}.post_attention_layernorm", "blocks/mlp_norm"),
    *MLP,
)


def _common(options: Options, **more: Any) -> DecoderConfig:
    """The config, but for what is the family's own."""
    return DecoderConfig(
        **sizes(options),
        head_width=options.count("head_dim", None),
        norm="rms",
        norm_eps=options.number("rms_norm_eps", 1e-6),
        positions="rotary",
        activation=options.one_of("hidden_act", ACTIVATIONS, "silu"),
        gated=True,
        tied=options.flag("tie_word_embeddings", False),
        **rotary(options, base=10_000.0),
        **more,
    )


def _written(config: DecoderConfig) -> dict[str, Any]:
    """The inverse of `_common`."""
    return {
        **sizes_written(config),
        "head_dim": config.head_size,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": activation_name(config),
        "tie_word_embeddings": config.tied,
        "rope_parameters": rotary_written(config),
    }


def _llama(options: Options) -> DecoderConfig:
    attention = options.flag("attention_bias", False)
    mlp = options.flag("mlp_bias", False)
    if mlp and not attention:
        options.only("mlp_bias", False)
    return _common(options, bias=mlp or ("attn" if attention else False))


def _llama_written(config: DecoderConfig) -> dict[str, Any]:
    need(config.bias in (True, False, "attn"), f"bias {config.bias!r}")
    biases = {"attention_bias": bool(config.bias), "mlp_bias": config.bias is True}
    return {**_written(config), **biases}


def _mistral(options: Options) -> DecoderConfig:
    return _common(options, bias=False, window=window_of(options))


def _mistral_written(config: DecoderConfig) -> dict[str, Any]:
    need(config.windowed is None, "a window in some layers only")
    return {**_written(config), "sliding_window": config.window}


def _qwen_window(options: Options) -> dict[str, Any]:
    layers = options.layers("num_hidden_layers")
    first = options.number("max_window_layers", 28)
    window = window_of(options)
    on = options.flag("use_sliding_window", False) and window is not None
    usual = [WINDOWED if on and i >= first else FULL for i in range(layers)]
    kinds = layer_types(options, layers, usual)
    return windows(options, kinds, window if on else None)


def _qwen_written(config: DecoderConfig) -> dict[str, Any]:
    return {
        **_written(config),
        "use_sliding_window": config.window is not None,
        "sliding_window": config.window,
        "max_window_layers": kinds_of(config).count(FULL),
        "layer_types": kinds_of(config),
    }


def _qwen2(options: Options) -> DecoderConfig:
    return _common(options, bias="qkv", **_qwen_window(options))


def _qwen2_written(config: DecoderConfig) -> dict[str, Any]:
    need(config.head_size * config.heads == config.width, "head_width")
    return {k: v for k, v in _qwen_written(config).items() if k != "head_dim"}


def _qwen3(options: Options) -> DecoderConfig:
    bias = "attn" if options.flag("attention_bias", False) else False
    return _common(options, bias=bias, qk_norm=True, **_qwen_window(options))


def _qwen3_written(config: DecoderConfig) -> dict[str, Any]:
    return {**_qwen_written(config), "attention_bias": config.bias == "attn"}


def family(
    name: str, architectures: tuple[str, ...], read: Any, write: Any, entries: Any = ENTRIES
) -> Family:
    """A family whose arrays are called as Llama's."""
    return Family(
        name=name,
        architectures=architectures,
        build=decoder,
        read=read,
        write=write,
        entries=entries,
        prefix="model.",
        leftovers=("model.layers.*.self_attn.rotary_emb.inv_freq",),
        twins={"lm_head.weight": "model.embed_tokens.weight"},
    )


LLAMA = family("llama", ("LlamaForCausalLM", "LlamaModel"), _llama, _llama_written)
MISTRAL = family("mistral", ("MistralForCausalLM", "MistralModel"), _mistral, _mistral_written)
QWEN2 = family("qwen2", ("Qwen2ForCausalLM", "Qwen2Model"), _qwen2, _qwen2_written)
QWEN3 = family("qwen3", ("Qwen3ForCausalLM", "Qwen3Model"), _qwen3, _qwen3_written)
