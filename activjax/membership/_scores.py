"""Membership scores from the losses of one model, and of a second one to compare with.

Higher means member, always. All are pure functions of arrays but `zlib_bytes`; with `[n, seq]`
losses they map over leading axes of models with `jax.vmap`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from activjax.membership._masked import (
    floating,
    masked_mean,
    masked_sum,
    per_example,
    same_shape,
    token_mask,
)
from activjax.training._cross_entropy import cross_entropy

Losses = Float[Array, "n *seq"]
Mask = Bool[Array, "n seq"] | None


def loss_score(losses: Losses, mask: Mask = None) -> Float[Array, " n"]:
    """Minus the loss: `-sum_t m_t l_t / sum_t m_t`.

    Yeom et al., "Privacy risk in machine learning: analyzing the connection to overfitting"
    (2018): what was trained on has a lower loss.

    Args:
      losses: `[n]`, or `[n, seq]` of tokens, in nats.
      mask: `[n, seq]`, the tokens that count; all if left out. Losses elsewhere may be anything.

    Returns:
      Scores, higher is member; NaN for a row in which no token counts.

    Raises:
      ValueError: wrong shapes.
    """
    return -per_example(losses, mask, "loss_score: losses")


def zlib_bytes(texts: Sequence[str | bytes], *, level: int = 6) -> Int[np.ndarray, " n"]:
    """How many bytes zlib needs for each text, on the host.

    The length of the whole stream, `len(zlib.compress(text, level))`, so with its 6 bytes of
    header and checksum, as Carlini et al. count; str is encoded as UTF-8. Another build of zlib
    (zlib-ng) may differ by some bytes.

    Args:
      texts: str or bytes, one an example.
      level: of compression; 6 is zlib's default.

    Raises:
      ValueError: one text instead of a sequence.
    """
    if isinstance(texts, (str, bytes)):
        raise ValueError("zlib_bytes: texts is one text, expected a sequence of them")
    encoded = (t.encode() if isinstance(t, str) else bytes(t) for t in texts)
    return np.array([len(zlib.compress(t, level)) for t in encoded], np.int64)


def zlib_score(
    losses: Losses, texts: Any, mask: Mask = None, *, per_token: bool = False
) -> Float[Array, " n"]:
    """Minus the text's loss by its length under zlib: `-(sum_t m_t l_t) / zlib_bytes`.

    Carlini et al., "Extracting training data from large language models" (2021), section 5.2: it
    discounts text that anything can predict. The sum is the text's total in nats, so that the score
    is a rate, nats a compressed byte, whatever the text's length. Carlini's code and mimir put the
    mean over tokens there (`per_token=True`), which favours long texts; for texts of one length the
    order is the same.

    Args:
      losses: `[n, seq]` of tokens, in nats; or `[n]`, which then are totals (means with
        `per_token`).
      texts: the texts, as for `zlib_bytes`; or `[n]` what that gave.
      mask: as in `loss_score`.
      per_token: the mean over tokens instead of the total.

    Returns:
      Scores, higher is member.

    Raises:
      ValueError: wrong shapes, or not as many texts as examples.
    """
    what = "zlib_score: losses"
    x = floating(losses, what)
    mask = token_mask(mask, x.shape, what)
    sizes = jnp.asarray(text_sizes(texts))
    if x.ndim not in (1, 2) or sizes.shape != x.shape[:1]:
        raise ValueError(
            f"zlib_score: losses have shape {list(x.shape)} and texts {list(sizes.shape)}, "
            "expected [n] or [n, seq], and n texts"
        )
    if x.ndim == 2:
        x = masked_mean(x, mask) if per_token else masked_sum(x, mask)
    return -x / sizes.astype(x.dtype)


def text_sizes(texts: Any) -> Any:
    """Sizes as `zlib_bytes` gave them, or of texts."""
    if hasattr(texts, "dtype") and jnp.issubdtype(texts.dtype, jnp.integer):
        return texts
    return zlib_bytes(texts)


def grad_norm_score(grad_norm: Float[Array, " n"]) -> Float[Array, " n"]:
    """Minus the norm of the loss's gradient by the parameters: `-|g|`.

    Nasr et al., "Comprehensive privacy analysis of deep learning" (2019), for the norm: training
    ends where the gradients of what was trained on are small. Some published code has the opposite
    orientation.

    Args:
      grad_norm: `[n]`, at least 0.
    """
    return -floating(grad_norm, "grad_norm_score: grad_norm")


def reference_score(
    losses: Losses, reference_losses: Losses, mask: Mask = None
) -> Float[Array, " n"]:
    """A second model's loss less that of the target: `mean_t (l_ref_t - l_t)` over counted tokens.

    Carlini et al. (2021), section 5.2, and Mireshghallah et al., "Quantifying privacy risks of
    masked language models" (2022): the log-likelihood ratio of the two models, by token.

    Args:
      losses, reference_losses: `[n]` or `[n, seq]`, of the same tokens, in nats.
      mask: as in `loss_score`.

    Returns:
      Scores, higher is member.

    Raises:
      ValueError: wrong or different shapes.
    """
    what = "reference_score: losses"
    x, reference = floating(losses, what), floating(reference_losses, "reference_score: reference")
    same_shape(x, reference, what)
    return per_example(reference - x, mask, what)


def recall_score(conditional_losses: Losses, losses: Losses, mask: Mask = None) -> Array:
    """ReCaLL: `LL(x | P) / LL(x)`, the likelihood after a prefix P of non-members over that alone.

    Xie et al., "ReCaLL: membership inference via relative conditional log-likelihoods" (2024).
    Both log-likelihoods are minus a loss, so the ratio is
    `(sum_t m_t c_t) / (sum_t m_t l_t)`, with c the losses after the prefix. The prefix lowers the
    likelihood of members more (they lose what was memorised), `c` grows more against `l`, the
    ratio of the two negative numbers is larger: higher is member, as in the paper.

    Args:
      conditional_losses: `[n]` or `[n, seq]`, in nats; `recall_losses` gives them.
      losses: of the same tokens, without the prefix.
      mask: as in `loss_score`.

    Returns:
      Scores. A text of loss 0 gives infinity, or 1 if its loss is 0 after the prefix too (which
      then changed nothing).

    Raises:
      ValueError: wrong or different shapes.
    """
    what = "recall_score: losses"
    same_shape(jnp.asarray(conditional_losses), jnp.asarray(losses), what)
    conditional = per_example(conditional_losses, mask, "recall_score: conditional_losses")
    alone = per_example(losses, mask, what)
    ratio = conditional / jnp.where(alone == 0, 1, alone)
    at_zero = jnp.where(conditional == 0, 1, jnp.inf).astype(ratio.dtype)
    nan = jnp.isnan(conditional)
    return jnp.where((alone == 0) & ~nan, at_zero, ratio)


def recall_losses(
    apply: Callable[..., Any],
    params: Any,
    prefix: Int[Array, " length"],
    tokens: Int[Array, "n seq"],
    mask: Mask = None,
) -> Float[Array, "n seq-1"]:
    """Losses of texts after a prefix that is not scored, for `recall_score`.

    Args:
      apply: `apply(params, tokens)` gives logits `[n, length, vocab]`, causally.
      params: its parameters.
      prefix: the tokens put before every text: of texts that are no members.
      tokens: the texts, padded on the right.
      mask: `[n, seq]`, which tokens are text: the ids elsewhere are not used and their losses are
        0. All if left out.

    Returns:
      Losses of `tokens[:, 1:]`, in nats: the same tokens that the model predicts without a prefix
      (an empty one gives just those).

    Raises:
      ValueError: wrong shapes.
    """
    prefix, tokens = jnp.asarray(prefix), jnp.asarray(tokens)
    if prefix.ndim != 1 or tokens.ndim != 2 or tokens.shape[1] < 2:
        raise ValueError(
            f"recall_losses: prefix has shape {list(prefix.shape)} and tokens "
            f"{list(tokens.shape)}, expected [length] and [n, seq], seq >= 2"
        )
    mask = token_mask(mask, tokens.shape, "recall_losses")
    if mask is not None:
        tokens = jnp.where(mask, tokens, 0)
    before = jnp.broadcast_to(prefix.astype(tokens.dtype), (len(tokens), len(prefix)))
    rows = jnp.concatenate([before, tokens[:, :-1]], axis=1)
    logits = floating(apply(params, rows), "recall_losses: logits")[:, len(prefix) :]
    losses = cross_entropy(logits, tokens[:, 1:])
    return losses if mask is None else jnp.where(mask[:, 1:], losses, 0)
