"""What the axes of an encoder's parameters are, by name: what sharding rules speak of."""

from __future__ import annotations

from activjax.models.decoder.axes import PARAMETERS as _OF_DECODER, RESIDUAL as RESIDUAL
from activjax.models.encoder.config import EncoderConfig

#: Path of a parameter (a glob) -> its axes. Blocks are those of a decoder.
PARAMETERS = {
    **{path: axes for path, axes in _OF_DECODER.items() if path.startswith("blocks/")},
    "embed/table": "vocab embed",
    "place/table": "position embed",
    "type/table": "_ embed",
    "embed_norm/*": "norm",
    "pooler/kernel": "embed _",
    "pooler/bias": "_",
    "mlm/dense/kernel": "embed _",
    "mlm/dense/bias": "_",
    "mlm/norm/*": "norm",
    "mlm/head/kernel": "embed vocab",
    "mlm/bias": "vocab",
    "next_sentence/kernel": "embed _",
    "next_sentence/bias": "_",
}


def pieces(config: EncoderConfig) -> dict[str, int]:
    """How many pieces an axis has that must stay whole: heads, each of several columns."""
    return {"heads": config.heads, "kv_heads": config.heads}
