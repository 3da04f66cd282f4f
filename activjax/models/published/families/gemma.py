"""Gemma 2 and the text part of Gemma 3 (Gemma Team 2024, 2025)."""

from __future__ import annotations

import math
from typing import Any

from activjax.models.decoder import DecoderConfig
from activjax.models.published._layout import norm
from activjax.models.published._options import Options
from activjax.models.published._safetensors import WeightsError
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
from activjax.models.published.families.llama import ATTENTION, BLOCK, ENDS, MLP, family

ENTRIES = (
    *ENDS,
    *norm(f"{BLOCK}.input_layernorm", "blocks/attn_norm"),
    *ATTENTION,
    *norm(f"{BLOCK}.post_attention_layernorm", "blocks/attn/out_norm"),
    *norm(f"{BLOCK}.pre_feedforward_layernorm", "blocks/mlp_norm"),
    *MLP,
    *norm(f"{BLOCK}.post_feedforward_layernorm", "blocks/mlp/out_norm"),
)


def _common(
    options: Options, every: int, local: float | None, caps: bool, **more: Any
) -> DecoderConfig:
    """The config.

    Args:
      options: of the model.
      every: so many layers one has no window.
      local: rotary base of the layers that have it.
      caps: whether there are soft caps where the options leave them out.
      **more: fields of the config.
    """
    options.only("use_bidirectional_attention", False, None)
    own = sizes(options)
    usual = [FULL if (i + 1) % every == 0 else WINDOWED for i in range(own["layers"])]
    kinds = layer_types(options, own["layers"], usual)
    width = options.count("head_dim")
    scalar = options.number("query_pre_attn_scalar", 256)
    if scalar <= 0:
        raise WeightsError(
            f"{options.label}: query_pre_attn_scalar: expected a positive number, got {scalar}"
        )
    window = windows(options, kinds, window_of(options))
    if window and local is not None:
        window["window_rotary_base"] = local
    return DecoderConfig(
        **own,
        head_width=width,
        norm="rms_1p",
        norm_eps=options.number("rms_norm_eps", 1e-6),
        positions="rotary",
        bias="attn" if options.flag("attention_bias", False) else False,
        activation=_activation(options),
        gated=True,
        out_norm=True,
        tied=options.flag("tie_word_embeddings", True),
        embed_scale=math.sqrt(own["width"]),
        score_scale=scalar**-0.5,
        score_cap=_cap(options, "attn_logit_softcapping", 50.0 if caps else None),
        logit_cap=_cap(options, "final_logit_softcapping", 30.0 if caps else None),
        **window,
        **more,
    )


def _activation(options: Options) -> str:
    # the first files of Gemma say "gelu" in an option that is not read; the other one holds
    options.unused("hidden_act")
    return options.one_of("hidden_activation", ACTIVATIONS, "gelu_pytorch_tanh")


def _cap(options: Options, name: str, default: float | None) -> float | None:
    """A soft cap: null is none."""
    return options.number(name, None) if name in options.given else default


def _written(config: DecoderConfig) -> dict[str, Any]:
    need(config.score_scale is not None, "score_scale=None")
    scalar = (config.score_scale or 1) ** -2
    whole = round(scalar)
    return {
        **sizes_written(config),
        "head_dim": config.head_size,
        "rms_norm_eps": config.norm_eps,
        "attention_bias": config.bias == "attn",
        "hidden_activation": activation_name(config),
        "tie_word_embeddings": config.tied,
        # a float where it is one; the rounding of the power is undone for whole numbers
        "query_pre_attn_scalar": whole if math.isclose(scalar, whole, rel_tol=1e-12) else scalar,
        "attn_logit_softcapping": config.score_cap,
        "final_logit_softcapping": config.logit_cap,
        # its library wants a number, also where no layer has a window
        "sliding_window": config.window or config.context,
        "layer_types": kinds_of(config),
    }


def _gemma2(options: Options) -> DecoderConfig:
    return _common(options, 2, None, True, **rotary(options, base=10_000.0))


def _gemma2_written(config: DecoderConfig) -> dict[str, Any]:
    return {**_written(config), "rope_parameters": rotary_written(config)}


def _gemma3(options: Options) -> DecoderConfig:
    every = options.count("sliding_window_pattern", options.count("_sliding_window_pattern", 6))
    local = options.number("rope_local_base_freq", 10_000.0)
    both = options.part("rope_parameters", None)
    if both is None:
        found = rotary(options, base=1_000_000.0)
    else:
        parts = [Options({"rope_parameters": both.get(k)}, both.label) for k in (FULL, WINDOWED)]
        found, low = rotary(parts[0], base=1_000_000.0), rotary(parts[1], base=local)
        if low["rotary_scaling"] is not None or low["rotary_fraction"] != 1:
            raise WeightsError(f"{both.label}: {WINDOWED}: only plain rotary is implemented")
        local = low["rotary_base"]
        both.finish()
    # its library has the option, and does not use it
    options.only("attn_logit_softcapping", None)
    return _common(options, every, local, False, qk_norm=True, **found)


def _gemma3_written(config: DecoderConfig) -> dict[str, Any]:
    ropes = {
        FULL: rotary_written(config),
        WINDOWED: rotary_written(config, config.window_rotary_base or config.rotary_base),
    }
    return {**_written(config), "rope_parameters": ropes}


_WORDS = ("Gemma2ForCausalLM", "Gemma2Model"), ("Gemma3ForCausalLM", "Gemma3TextModel")
GEMMA2 = family("gemma2", _WORDS[0], _gemma2, _gemma2_written, ENTRIES)
GEMMA3 = family("gemma3_text", _WORDS[1], _gemma3, _gemma3_written, ENTRIES)
