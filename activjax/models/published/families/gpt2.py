"""GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

from typing import Any

from activjax.models.decoder import DecoderConfig, decoder
from activjax.models.published._family import Family
from activjax.models.published._layout import conv1d, linear, norm, plain
from activjax.models.published._options import Options
from activjax.models.published.families._common import ACTIVATIONS, activation_name, need

BLOCK = "transformer.h.{}"


def read(options: Options) -> DecoderConfig:
    """The config of GPT-2's options."""
    options.only("scale_attn_weights", True)
    options.only("scale_attn_by_inverse_layer_idx", False)
    options.only("add_cross_attention", False, None)
    # a matter of precision in float16; scores are float32 here
    options.unused("reorder_and_upcast_attn", "n_ctx")
    return DecoderConfig(
        vocab=options.count("vocab_size"),
        context=options.count("n_positions"),
        layers=options.layers("n_layer"),
        width=options.count("n_embd"),
        heads=options.count("n_head"),
        mlp_width=options.count("n_inner", None),
        norm_eps=options.number("layer_norm_epsilon", 1e-5),
        activation=options.one_of("activation_function", ACTIVATIONS, "gelu_new"),
        tied=options.flag("tie_word_embeddings", True),
    )


def write(config: DecoderConfig) -> dict[str, Any]:
    """The options of a config."""
    need(config.groups_of == config.heads, "fewer kv_heads than heads")
    return {
        "vocab_size": config.vocab,
        "n_positions": config.context,
        "n_layer": config.layers,
        "n_embd": config.width,
        "n_head": config.heads,
        "n_inner": config.mlp_width,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": "gelu_new"
        if config.activation == "gelu"
        else activation_name(config),
        "tie_word_embeddings": config.tied,
    }


FAMILY = Family(
    name="gpt2",
    architectures=("GPT2LMHeadModel", "GPT2Model"),
    build=decoder,
    read=read,
    write=write,
    entries=(
        plain("transformer.wte.weight", "embed/table"),
        plain("transformer.wpe.weight", "place/table"),
        *norm(f"{BLOCK}.ln_1", "blocks/attn_norm"),
        *conv1d(f"{BLOCK}.attn.c_attn", "blocks/attn/q", "blocks/attn/k", "blocks/attn/v"),
        *conv1d(f"{BLOCK}.attn.c_proj", "blocks/attn/out"),
        *norm(f"{BLOCK}.ln_2", "blocks/mlp_norm"),
        *conv1d(f"{BLOCK}.mlp.c_fc", "blocks/mlp/pre"),
        *conv1d(f"{BLOCK}.mlp.c_proj", "blocks/mlp/out"),
        *norm("transformer.ln_f", "final"),
        *linear("lm_head", "head"),
    ),
    prefix="transformer.",
    leftovers=("transformer.h.*.attn.bias", "transformer.h.*.attn.masked_bias"),
    twins={"lm_head.weight": "transformer.wte.weight"},
)
