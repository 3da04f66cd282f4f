"""GPT-NeoX (Black et al. 2022), the family of Pythia."""

from __future__ import annotations

from typing import Any

from activjax.models.decoder import DecoderConfig, decoder
from activjax.models.published._family import Family
from activjax.models.published._layout import by_head, linear, norm, plain
from activjax.models.published._options import Options
from activjax.models.published._safetensors import WeightsError
from activjax.models.published.families._common import (
    ACTIVATIONS,
    activation_name,
    need,
    rotary,
    rotary_written,
)

BLOCK = "gpt_neox.layers.{}"


def read(options: Options) -> DecoderConfig:
    """The config of GPT-NeoX's options."""
    options.only("attention_bias", True)
    # older files give these beside the new option, some of them by two names
    fraction = options.number("rotary_pct", 0.25)
    base = options.number("rotary_emb_base", 10_000.0)
    for name, value in (("partial_rotary_factor", fraction), ("rope_theta", base)):
        if options.number(name, value) != value:
            raise WeightsError(
                f"{options.label}: {name} = {options.get(name)}, but {value} by its other name"
            )
    config = DecoderConfig(
        vocab=options.count("vocab_size"),
        context=options.count("max_position_embeddings"),
        layers=options.layers("num_hidden_layers"),
        width=options.count("hidden_size"),
        heads=options.count("num_attention_heads"),
        mlp_width=options.count("intermediate_size"),
        norm_eps=options.number("layer_norm_eps", 1e-5),
        activation=options.one_of("hidden_act", ACTIVATIONS, "gelu"),
        positions="rotary",
        parallel=options.flag("use_parallel_residual", True),
        tied=options.flag("tie_word_embeddings", False),
        **rotary(options, base=base, fraction=fraction),
    )
    if (turned := int(config.head_size * config.rotary_fraction)) % 2:
        # the family's library turns one more, at other rates
        raise WeightsError(
            f"{options.label}: {turned} of {config.head_size} dimensions of a head rotate: only "
            "even numbers are implemented"
        )
    return config


def write(config: DecoderConfig) -> dict[str, Any]:
    """The options of a config."""
    need(config.groups_of == config.heads, "fewer kv_heads than heads")
    # newer libraries read rope_parameters, older ones the other two
    return {
        "vocab_size": config.vocab,
        "max_position_embeddings": config.context,
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": activation_name(config),
        "use_parallel_residual": config.parallel,
        "tie_word_embeddings": config.tied,
        "rotary_pct": config.rotary_fraction,
        "rotary_emb_base": config.rotary_base,
        "rope_parameters": rotary_written(config),
    }


FAMILY = Family(
    name="gpt_neox",
    architectures=("GPTNeoXForCausalLM", "GPTNeoXModel"),
    build=decoder,
    read=read,
    write=write,
    entries=(
        plain("gpt_neox.embed_in.weight", "embed/table"),
        *norm(f"{BLOCK}.input_layernorm", "blocks/attn_norm"),
        *by_head(
            f"{BLOCK}.attention.query_key_value", "blocks/attn/q", "blocks/attn/k", "blocks/attn/v"
        ),
        *linear(f"{BLOCK}.attention.dense", "blocks/attn/out"),
        *norm(f"{BLOCK}.post_attention_layernorm", "blocks/mlp_norm"),
        *linear(f"{BLOCK}.mlp.dense_h_to_4h", "blocks/mlp/pre"),
        *linear(f"{BLOCK}.mlp.dense_4h_to_h", "blocks/mlp/out"),
        *norm("gpt_neox.final_layer_norm", "final"),
        *linear("embed_out", "head"),
    ),
    prefix="gpt_neox.",
    leftovers=(
        "gpt_neox.layers.*.attention.bias",
        "gpt_neox.layers.*.attention.masked_bias",
        "gpt_neox.layers.*.attention.rotary_emb.inv_freq",
    ),
    twins={"embed_out.weight": "gpt_neox.embed_in.weight"},
)
