"""What an encoder is made of."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from activjax.models._layers import check_sizes
from activjax.models.decoder.config import DecoderConfig

_PARTS = ("pooler", "mlm", "next_sentence", "tied", "scan")
_SHARED = (
    *("vocab", "context", "layers", "width", "heads", "mlp_width", "norm_eps", "tied"),
    *("activation", "dropout", "dtype", "param_dtype", "scan", "precision"),
)


@dataclass(frozen=True)
class EncoderConfig:
    """A bidirectional transformer with norms after each addition. The defaults are BERT's.

    Attributes:
      vocab: number of token ids.
      context: the most positions a sequence may have.
      layers: number of blocks.
      width: size of the residual stream, a multiple of `heads`.
      heads: attention heads.
      mlp_width: hidden units of an MLP; None for `4 * width`.
      types: number of token types (first and second text); 0 for a model without them.
      activation: of the MLP and of the `mlm` part: "gelu_exact", "gelu", "relu", ...
      norm_eps: added to the variance.
      pooler: the part that reads a whole sequence from its first token.
      mlm: the part that predicts masked tokens.
      next_sentence: the part that tells from the pooler whether one text follows another.
      tied: the `mlm` part's last matrix is the embedding.
      dropout: probability, on the embedding and on what each block adds to the residual stream.
      dtype: of activations and of products; norms, softmax and logits are float32.
      param_dtype: of parameters.
      scan: blocks as one scanned loop; False: one after the other (slower to compile), with sites
        `blocks/<i>/...`. The parameters are the same.
      precision: of float32 products on accelerators (see `mlp`).

    Raises:
      ValueError: a value outside these, or sizes that do not fit; the message names the field.
    """

    vocab: int
    context: int
    layers: int
    width: int
    heads: int
    mlp_width: int | None = None
    types: int = 2
    activation: str = "gelu_exact"
    norm_eps: float = 1e-12
    pooler: bool = False
    mlm: bool = False
    next_sentence: bool = False
    tied: bool = True
    dropout: float = 0.0
    dtype: str = "float32"
    param_dtype: str = "float32"
    scan: bool = True
    precision: str = "highest"

    def __post_init__(self) -> None:
        for name in ("vocab", "context", "layers", "width", "heads"):
            check_sizes(f"encoder {name}", (getattr(self, name),), 1)
        if self.types != 0:
            check_sizes("encoder types", (self.types,), 1)
        for name in _PARTS:
            if type(getattr(self, name)) is not bool:
                raise ValueError(
                    f"encoder {name}: expected True or False, got {getattr(self, name)!r}"
                )
        if self.width % self.heads:
            raise ValueError(
                f"encoder width {self.width} is not a multiple of heads={self.heads}: change one"
            )
        if self.next_sentence and not self.pooler:
            raise ValueError("encoder next_sentence: it reads the pooler: give pooler=True, too")
        try:
            self.shared  # noqa: B018
        except ValueError as error:
            raise ValueError(str(error).replace("decoder", "encoder")) from None

    @functools.cached_property
    def shared(self) -> DecoderConfig:
        """What its layers have in common with a decoder's, as their modules take it."""
        return DecoderConfig(**{name: getattr(self, name) for name in _SHARED})
