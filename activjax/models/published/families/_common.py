"""What several families share: names of activations, rotary options, layers with a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from activjax.models.decoder import DecoderConfig, RotaryScaling
from activjax.models.published._family import CannotExpress
from activjax.models.published._options import Options
from activjax.models.published._safetensors import WeightsError

#: Names of activations in config files -> ours.
ACTIVATIONS = {
    "gelu": "gelu_exact",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_fast": "gelu",
    "quick_gelu": "gelu_quick",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
_WRITTEN = {"gelu_exact": "gelu", "gelu": "gelu_pytorch_tanh", "gelu_quick": "quick_gelu"}

WINDOWED, FULL = "sliding_attention", "full_attention"


def activation_name(config: Any) -> str:
    """An activation as config files call it."""
    name = _WRITTEN.get(config.activation, str(config.activation))
    need(name in ACTIVATIONS, f"activation {config.activation!r}")
    return name


def need(condition: bool, what: str) -> None:
    """Refuse a config that a family has no option for.

    Raises:
      CannotExpress: the condition does not hold.
    """
    if not condition:
        raise CannotExpress(what)


def rotary(options: Options, *, base: float, fraction: float | None = None) -> dict[str, Any]:
    """Rotary positions, from the old options and the new one, `rope_parameters`.

    Args:
      options: of the model.
      base, fraction: where they are not given; no fraction for families whose heads rotate whole.
    """
    given = options.part("rope_parameters", None)
    old = options.part("rope_scaling", None)
    theta = options.number("rope_theta", base)
    if given is None:
        return {"rotary_base": theta, "rotary_fraction": fraction or 1.0, **_scaling(old)}
    if old is not None:
        raise WeightsError(f"{options.label}: both rope_parameters and rope_scaling are given")
    return _new(given, theta, fraction)


def _new(given: Options, base: float, fraction: float | None) -> dict[str, Any]:
    if fraction is None:  # their library reads it in some kinds of scaling only
        given.only("partial_rotary_factor", 1.0, 1, None)
    out = {
        "rotary_base": given.number("rope_theta", base),
        "rotary_fraction": given.number("partial_rotary_factor", fraction or 1.0),
    }
    return {**out, **_scaling(given)}


def _scaling(given: Options | None) -> dict[str, Any]:
    """The kinds of scaled rotary positions that the decoder has."""
    if given is None:
        return {"rotary_scaling": None}
    name = "rope_type" if "rope_type" in given.given else "type"
    kinds = {"default": None, "linear": "linear", "llama3": "llama3"}
    kind = given.one_of(name, kinds, "default")
    given.unused("type", "rope_type")
    found = None
    if kind == "linear":
        found = RotaryScaling("linear", given.number("factor"))
    if kind == "llama3":
        found = RotaryScaling(
            "llama3",
            given.number("factor"),
            low=given.number("low_freq_factor"),
            high=given.number("high_freq_factor"),
            original=given.count("original_max_position_embeddings"),
        )
    given.finish()
    return {"rotary_scaling": found}


def rotary_written(config: DecoderConfig, base: float | None = None) -> dict[str, Any]:
    """`rope_parameters` of a config; with `base`, of layers that have another one unscaled."""
    out: dict[str, Any] = {"rope_type": "default", "rope_theta": base or config.rotary_base}
    if config.rotary_fraction != 1:
        out["partial_rotary_factor"] = config.rotary_fraction
    scaling = config.rotary_scaling
    if scaling is None or base is not None:
        return out
    out |= {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        out |= {
            "low_freq_factor": scaling.low,
            "high_freq_factor": scaling.high,
            "original_max_position_embeddings": scaling.original,
        }
    return out


def layer_types(options: Options, layers: int, default: Sequence[str]) -> list[str]:
    """Which layers have a window: as `layer_types` says, else as the family has it."""
    found = options.get("layer_types", None)
    if found is None:
        return list(default)
    if not isinstance(found, list) or len(found) != layers:
        raise WeightsError(f"{options.label}: layer_types: expected {layers} names, got {found!r}")
    for kind in found:
        if kind not in (WINDOWED, FULL):
            raise WeightsError(
                f"{options.label}: layer_types: {kind!r} is not implemented, only {WINDOWED!r} and "
                f"{FULL!r}"
            )
    return found


def window_of(options: Options) -> int | None:
    """The window: null is none, but where the option is left out it is this."""
    return options.count("sliding_window", None) if "sliding_window" in options.given else 4096


def windows(options: Options, kinds: Sequence[str], window: int | None) -> dict[str, Any]:
    """`window` and `windowed` of the decoder."""
    where = tuple(i for i, kind in enumerate(kinds) if kind == WINDOWED)
    if not where:
        return {}
    if window is None:
        raise WeightsError(f"{options.label}: layer_types has {WINDOWED}, but no sliding_window")
    return {"window": window, "windowed": None if len(where) == len(kinds) else where}


def kinds_of(config: DecoderConfig) -> list[str]:
    """`layer_types` of a config."""
    if config.window is None:
        return [FULL] * config.layers
    where = range(config.layers) if config.windowed is None else config.windowed
    return [WINDOWED if i in where else FULL for i in range(config.layers)]


def sizes(options: Options) -> dict[str, Any]:
    """What Llama and those after it call their sizes."""
    heads = options.count("num_attention_heads")
    return {
        "vocab": options.count("vocab_size"),
        "context": options.count("max_position_embeddings"),
        "layers": options.layers("num_hidden_layers"),
        "width": options.count("hidden_size"),
        "heads": heads,
        "kv_heads": options.count("num_key_value_heads", heads),
        "mlp_width": options.count("intermediate_size"),
    }


def sizes_written(config: DecoderConfig) -> dict[str, Any]:
    """The inverse of `sizes`."""
    return {
        "vocab_size": config.vocab,
        "max_position_embeddings": config.context,
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.groups_of,
        "intermediate_size": config.hidden,
    }
