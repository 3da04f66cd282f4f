"""What a training has changed besides: the model's other predictions, before and after."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64

from activjax.introspection._talk import Replay
from activjax.models import Decoder
from activjax.training._cross_entropy import cross_entropy


class SideEffects(NamedTuple):
    """By document, means over the tokens that are predicted, in nats.

    Attributes:
      kl: of the distributions before from those after, `KL(before || after)`.
      before, after: cross-entropy.
    """

    kl: Float64[np.ndarray, " n"]
    before: Float64[np.ndarray, " n"]
    after: Float64[np.ndarray, " n"]


def side_effects(
    model: Decoder,
    params: Any,
    before: Any,
    documents: Replay,
    *,
    model_before: Decoder | None = None,
    chunk: int = 64,
) -> SideEffects:
    """Compare the predictions of a model on text with nothing put in.

    Args:
      model, params: after training.
      before: the parameters before.
      documents: text, such as `talk.replay(...)` of another seed than training.
      model_before: the model of `before`; None for the same.
      chunk: documents at a time.

    Returns:
      Three numbers for each document.

    Raises:
      ValueError: no documents, or one with nothing to predict.
    """
    n = len(documents.tokens)
    counts = np.asarray(documents.learned)[:, 1:].sum(axis=1)
    if not n or not counts.all():
        raise ValueError("documents: expected at least one, each with a token to predict")
    out = np.zeros((3, n))
    for begin in range(0, n, chunk):
        rows = np.minimum(np.arange(begin, begin + chunk), n - 1)  # one size, one program
        found = _compared(
            model, model_before or model, params, before, documents.tokens[rows],
            documents.learned[rows],
        )  # fmt: skip
        take = min(chunk, n - begin)
        out[:, begin : begin + take] = np.asarray(found)[:, :take]
    return SideEffects(*out)


@partial(jax.jit, static_argnums=(0, 1))
def _compared(
    model: Decoder, model_before: Decoder, params: Any, before: Any, tokens: Any, learned: Any
) -> Any:
    new, old = (
        m.apply(p, tokens[:, :-1]).astype(jnp.float32)
        for m, p in ((model, params), (model_before, before))
    )
    weights = learned[:, 1:].astype(jnp.float32)
    weights = weights / weights.sum(axis=1, keepdims=True)
    new_log, old_log = jax.nn.log_softmax(new), jax.nn.log_softmax(old)
    kl = (jnp.exp(old_log) * (old_log - new_log)).sum(-1)
    each = [kl, cross_entropy(old, tokens[:, 1:]), cross_entropy(new, tokens[:, 1:])]
    return jnp.stack([jnp.where(weights > 0, weights * x, 0).sum(axis=1) for x in each])
