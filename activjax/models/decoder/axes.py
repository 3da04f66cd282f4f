"""What the axes of a decoder's parameters and cache are, by name: what sharding rules speak of."""

from __future__ import annotations

from activjax.models.decoder.config import DecoderConfig

#: Path of a parameter (a glob) -> its axes. Blocks are stacked on "layers".
PARAMETERS = {
    "embed/table": "vocab embed",
    "place/table": "position embed",
    "blocks/attn_norm/*": "layers norm",
    "blocks/attn/q/kernel": "layers embed heads",
    "blocks/attn/q/bias": "layers heads",
    "blocks/attn/k/kernel": "layers embed kv_heads",
    "blocks/attn/v/kernel": "layers embed kv_heads",
    "blocks/attn/k/bias": "layers kv_heads",
    "blocks/attn/v/bias": "layers kv_heads",
    "blocks/*/*_norm/*": "layers norm",
    "blocks/attn/out/kernel": "layers heads embed",
    "blocks/attn/out/bias": "layers embed",
    "blocks/mlp_norm/*": "layers norm",
    "blocks/mlp/pre/kernel": "layers embed mlp",
    "blocks/mlp/pre/bias": "layers mlp",
    "blocks/mlp/up/kernel": "layers embed mlp",
    "blocks/mlp/up/bias": "layers mlp",
    "blocks/mlp/out/kernel": "layers mlp embed",
    "blocks/mlp/out/bias": "layers embed",
    "final/*": "norm",
    "head/kernel": "embed vocab",
}

#: Fields of a `Cache`; `_` is an axis without a name.
CACHE = {
    "k": "layers batch kv_heads _ _",
    "v": "layers batch kv_heads _ _",
    "places": "batch _",
    "used": "",
    "lengths": "batch",
    "prompt": "batch",
}

#: Sites of the residual stream, in a scanned decoder and in an unrolled one.
RESIDUAL = ("embed", "blocks/**/resid_post")


def pieces(config: DecoderConfig) -> dict[str, int]:
    """How many pieces an axis has that must stay whole: heads, each of several columns."""
    return {"heads": config.heads, "kv_heads": config.groups_of}
