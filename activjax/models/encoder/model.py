"""`encoder`: BERT as pure functions."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Array, Bool, Int

from activjax.models._model import Model, Params
from activjax.models._nnx import from_nnx
from activjax.models.decoder._tokens import of_text
from activjax.models.decoder.config import known_fields
from activjax.models.encoder._inputs import tokens_of
from activjax.models.encoder._module import EncoderModule
from activjax.models.encoder.config import EncoderConfig

#: What can be read, and the part that makes it.
_READS = {
    "final": None,
    "pooled": "pooler",
    "logits": "mlm",
    "next_sentence": "next_sentence",
}


@dataclass(frozen=True)
class Encoder(Model):
    """An encoder as pure functions: a `Model` with a config.

    Attributes:
      config: what it is made of.
    """

    config: EncoderConfig = field(kw_only=True)


def encoder(config: EncoderConfig | None = None, **fields: Any) -> Encoder:
    """A bidirectional transformer with norms after each addition: BERT, MiniLM, and their like.

    Devlin et al. 2019, arXiv 1810.04805.

    Sites, with `B` sequences of `T` tokens: `positions` `[B, T]` (which token of its sequence each
    one is, padding -1: `at={"seq": 5}` finds tokens by it), `last_prompt` `[B]`, `embed`
    `[B, T, d]` (normalised); in the loop "layers" `blocks/resid_pre`, `blocks/attn/q`, `k`, `v`,
    `heads` (`[B, T, head, d_head]`), `blocks/attn/scores` (`[B, head, T, T]`, scaled, padding
    included), `blocks/attn/pattern`, `blocks/attn/out`, `blocks/resid_mid` (normalised),
    `blocks/mlp/pre`, `blocks/mlp/post` (`[B, T, unit]`), `blocks/mlp/out`, `blocks/resid_post`
    (normalised); then `final`, and where they are read `pooled` `[B, d]`, `mlm/pre`, `mlm/post`,
    `mlm/out` (normalised), `logits`, `next_sentence` `[B, 2]`.

    `apply(params, tokens, *, mask=None, types=None, read="final", key=None, train=False,
    state=None)`:

    - `tokens`: integers `[B, T]`.
    - `mask`: booleans `[B, T]`, True for tokens and False for padding, anywhere: its ids are
      ignored, and it takes no position.
    - `types`: integers `[B, T]`, which text each token is of; None: all of the first, 0.
    - `read`: "final": the residual stream `[B, T, d]`; "pooled": `[B, d]`, from each sequence's
      first token; "logits": `[B, T, vocab]` of masked tokens; "next_sentence": `[B, 2]`. The latter
      two are float32. Only what is read is computed, and has sites.
    - `key`: for dropout, with `train=True`.
    - `state`: is given back unchanged, for an encoder keeps none.

    Known ids and types are checked; traced ones outside their tables give NaN.

    Args:
      config: an `EncoderConfig`; or its fields as keyword arguments:
      **fields: such as `vocab=30522, context=512, layers=6, width=384, heads=12`.

    Returns:
      The model. Kernels are normal with variance 1 / d_in, those that add to the residual stream
      over 2 * layers; embeddings have 0.02.

    Raises:
      TypeError: an unknown or missing field, or both a config and fields.
      ValueError: as `EncoderConfig`; from `apply`: tokens of another shape or type or outside the
        vocabulary, more of them than the context, a mask or types of another shape, something to
        read that the encoder has no part for.
    """
    if config is not None and fields:
        raise TypeError("encoder: give a config or keyword arguments, not both")
    if config is None:
        config = EncoderConfig(**known_fields("encoder", EncoderConfig, fields))
    made = config
    inner = from_nnx(lambda rngs: EncoderModule(made, rngs=rngs))

    def apply(
        params: Params,
        tokens: Int[Array, "batch seq"],
        *,
        mask: Bool[Array, "batch seq"] | None = None,
        types: Int[Array, "batch seq"] | None = None,
        read: str = "final",
        key: Array | None = None,
        train: bool = False,
        state: Params | None = None,
    ) -> Any:
        _check_read(read, made)
        ids, real, kinds = tokens_of(tokens, mask, types, made)
        noise = None
        if train and made.dropout:
            if key is None:
                raise ValueError("this encoder drops units in training: pass key=")
            noise = key
        ready = of_text(ids, real)
        return inner.apply(params, ready, types=kinds, read=read, noise=noise, state=state)

    return Encoder(inner.init, apply, config=config)


def _check_read(read: str, config: EncoderConfig) -> None:
    if read not in _READS:
        near = difflib.get_close_matches(str(read), _READS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"read: expected one of {', '.join(_READS)}, got {read!r}{hint}")
    part = _READS[read]
    if part is not None and not getattr(config, part):
        has = [name for name, p in _READS.items() if p is None or getattr(config, p)]
        raise ValueError(
            f"read: {read!r} needs a part that this encoder lacks: build it with {part}=True, or "
            f"read {' or '.join(has)}"
        )
