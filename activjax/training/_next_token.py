"""Next-token prediction: the loss of a language model on packed rows, and its evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from activjax.models import Model
from activjax.training._cross_entropy import cross_entropy, is_top
from activjax.training.step import Loss

Tokens = Int[Array, "batch seq"]
Predictions = Float[Array, "batch seq-1"]


class _Scored(NamedTuple):
    losses: Predictions
    weights: Predictions
    right: Bool[Array, "batch seq-1"]
    model_state: Any


def next_token(model: Model) -> Loss:
    """The mean cross-entropy of predicted tokens in nats, for `train_step`.

    A token is predicted from those before it in its own document: the first of each document, the
    first of each row and padding are not. The last token of a row is only predicted, never given
    to the model: nothing would be predicted from it. So the model runs on `seq - 1` positions;
    rows of `context + 1` tokens use a decoder's whole context.

    Args:
      model: maps tokens `[batch, seq]` to logits `[batch, seq, vocab]`, causally; it is called
        with `segments=` if the batch has them.

    Returns:
      A loss on batches `(tokens, segments)`, both integers `[batch, seq]`: `segments` numbers the
      documents of a row, 0 is padding, whose token ids are ignored; None for rows that are each
      one document. It also reports `predicted`, the number of predicted tokens (what the mean is
      over, so that micro-batches are weighted by it), and `accuracy` on them. With nothing to
      predict, all three are 0.

      Where `tokens` is traced, a predicted id outside the vocabulary gives NaN.

    Raises:
      ValueError: from the loss: tokens that are not integers `[batch, seq >= 2]`, segments that
        are not integers of the same shape.
    """

    def loss(params: Any, model_state: Any, batch: Any, key: Array) -> Any:
        tokens, segments = batch
        scored = _score(model, params, model_state, tokens, segments, key=key, train=True)
        count = scored.weights.sum()
        share = scored.weights / jnp.maximum(count, 1)
        accuracy = jnp.sum(jnp.where(scored.right, share, 0))
        metrics = {"predicted": count, "accuracy": accuracy}
        return jnp.sum(share * scored.losses), (scored.model_state, metrics)

    return loss


def token_losses(
    model: Model,
) -> Callable[..., tuple[Predictions, Predictions]]:
    """What a language model spends on each token, as `next_token` counts it.

    Args:
      model: as for `next_token`; one without a state.

    Returns:
      `evaluate(params, tokens, segments=None) -> (losses, weights)`, both `[batch, seq - 1]`, of
      `tokens[:, 1:]`: nats, and 1 where the token is predicted, 0 where not (the loss is 0 there).
      `data.bits_per_byte(losses, tokens[:, 1:], tokenizer, weights)` is the model's bits a byte;
      sums over batches can be taken first.

    Raises:
      ValueError: as the loss of `next_token`.
    """

    def evaluate(
        params: Any, tokens: Tokens, segments: Tokens | None = None
    ) -> tuple[Predictions, Predictions]:
        scored = _score(model, params, {}, tokens, segments)
        return scored.losses, scored.weights

    return evaluate


def _score(
    model: Model, params: Any, model_state: Any, tokens: Any, segments: Any, **options: Any
) -> _Scored:
    tokens, segments = _checked(tokens, segments)
    if model_state:
        options["state"] = model_state
    if segments is None:
        weights = jnp.ones((tokens.shape[0], tokens.shape[1] - 1), jnp.float32)
    else:
        tokens = jnp.where(segments > 0, tokens, 0)  # padding may be any id, -100 too
        same = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
        weights = same.astype(jnp.float32)
        options["segments"] = segments[:, :-1]
    out = model.apply(params, tokens[:, :-1], **options)
    logits, model_state = out if model_state else (out, model_state)
    logits, targets = logits.astype(jnp.float32), tokens[:, 1:]
    counts = weights > 0
    losses = jnp.where(counts, cross_entropy(logits, targets), 0)
    right = is_top(logits, targets) & counts
    return _Scored(losses, weights, right, model_state)


def _checked(tokens: Any, segments: Any) -> tuple[Array, Array | None]:
    tokens = jnp.asarray(tokens)
    shape = list(tokens.shape)
    if len(shape) != 2 or shape[1] < 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(
            "tokens: expected integers [batch, seq] with at least 2 in a row, one to predict from "
            f"the other, got {tokens.dtype} {shape}"
        )
    if segments is None:
        return tokens, None
    segments = jnp.asarray(segments)
    if list(segments.shape) != shape or not jnp.issubdtype(segments.dtype, jnp.integer):
        raise ValueError(
            f"segments: expected integers of the tokens' shape {shape}, 0 for padding, got "
            f"{segments.dtype} {list(segments.shape)}"
        )
    return tokens, segments
