"""Membership scores from the whole predictive distribution of one model.

Higher means member, always; pure functions of arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from activjax.membership._masked import floating, masked_mean, same_shape, token_mask

Mask = Bool[Array, "n seq"] | None


class TokenStatistics(NamedTuple):
    """The log-probability of a target, and what the model expects log-probabilities to be.

    Attributes:
      log_p: `log p(y)`.
      mean: `sum_z p(z) log p(z)`, minus the entropy.
      std: the standard deviation of `log p(z)`, z drawn from p.
    """

    log_p: Float[Array, "n *seq"]
    mean: Float[Array, "n *seq"]
    std: Float[Array, "n *seq"]


@jax.jit
def token_statistics(
    logits: Float[Array, "n *seq vocab"], targets: Int[Array, "n *seq"]
) -> TokenStatistics:
    """The statistics behind `min_k` and `min_k_plus_plus`, in one pass over the logits.

    In float32 at least. The deviation is taken from centred values, so that it survives where p is
    almost certain; `p log p` is 0 where p is 0.

    Args:
      logits: of the tokens that `targets` holds (already shifted); -inf for impossible ones.
      targets: ids. One outside the vocabulary, such as -100 in padding, has `log_p` NaN.

    Raises:
      ValueError: shapes that do not fit.
    """
    logits, targets = fitting(logits, targets, "token_statistics")
    log_p = jax.nn.log_softmax(logits, axis=-1)
    p = jnp.exp(log_p)
    total = p.sum(-1)  # 1, less what exp made of rounded logarithms, alike for all
    mean = jnp.where(p == 0, 0, p * log_p).sum(-1) / total
    centred = jnp.where(p == 0, 0, log_p - mean[..., None])
    std = jnp.sqrt((p * jnp.square(centred)).sum(-1) / total)
    return TokenStatistics(_of_target(log_p, targets), mean, std)


def min_k(log_p: Float[Array, "n seq"], mask: Mask = None, k: float = 0.2) -> Float[Array, " n"]:
    """Min-K%: the mean of the lowest share `k` of a text's log-probabilities.

    Shi et al., "Detecting pretraining data from large language models" (2024): a text
    that was trained on has few tokens that surprise. Of c counted tokens the largest number j with
    `j / c <= k` is used, and at least one: published code takes `int(c * k)`, which is none for
    short texts and gives NaN.

    Args:
      log_p: of the tokens.
      mask: which of them count; all if left out.
      k: in (0, 1]; static.

    Returns:
      Scores, higher is member; NaN for a row in which no token counts or a counted one is NaN.

    Raises:
      ValueError: wrong shapes, `k` out of range.
    """
    if not 0 < k <= 1:
        raise ValueError(f"min_k: k is {k}, expected a share in (0, 1]")
    x = floating(log_p, "min_k: log_p")
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"min_k: log_p has shape {list(x.shape)}, expected [n, seq], seq >= 1")
    mask = token_mask(mask, x.shape, "min_k")
    mask = jnp.ones(x.shape, bool) if mask is None else mask
    used = jnp.asarray(_how_many(x.shape[1], k))[mask.sum(-1)]
    # A NaN is sorted to the end, where it would be left out.
    broken = (mask & jnp.isnan(x)).any(-1) | ~mask.any(-1)
    lowest = jnp.sort(jnp.where(mask, x, jnp.inf), axis=-1)
    chosen = jnp.arange(x.shape[1]) < used[:, None]
    mean = jnp.where(chosen, lowest, 0).sum(-1) / used.astype(x.dtype)
    return jnp.where(broken, jnp.nan, mean)


def min_k_plus_plus(
    log_p: Float[Array, "n seq"],
    mean: Float[Array, "n seq"],
    std: Float[Array, "n seq"],
    mask: Mask = None,
    k: float = 0.2,
) -> Float[Array, " n"]:
    """Min-K%++: `min_k` of `(log p(y) - mean) / std`, what the model itself expected at each token.

    Zhang et al., "Min-K%++: improved baseline for detecting pre-training data from large language
    models" (2024).

    Args:
      log_p, mean, std: `*token_statistics(logits, targets)`. Where all possible tokens are
        equally likely `std` is 0, or rounding of the mean (8 units in its last place are the
        least that is divided by): one of them scores 0 to within a quarter, an impossible one
        -inf.
      mask, k: as in `min_k`.

    Returns:
      Scores, higher is member.

    Raises:
      ValueError: as `min_k`, or different shapes.
    """
    log_p, mean, std = (floating(v, "min_k_plus_plus") for v in (log_p, mean, std))
    same_shape(log_p, mean, "min_k_plus_plus: log_p and mean")
    same_shape(log_p, std, "min_k_plus_plus: log_p and std")
    limits = jnp.finfo(std.dtype)
    least = jnp.maximum(8 * limits.eps * jnp.abs(mean), limits.tiny)
    return min_k((log_p - mean) / jnp.maximum(std, least), mask, k)


@jax.jit
def confidence(logits: Float[Array, "n classes"], y: Int[Array, " n"]) -> Float[Array, " n"]:
    """The log-odds of the label, `log(p_y / (1 - p_y))`: LiRA's statistic.

    Carlini et al., "Membership inference attacks from first principles" (2022): it
    is close to normal over models. From the logits, `z_y - logsumexp(z of the others)`, so that it
    does not saturate where p is 0 or 1.

    Args:
      logits: any leading axes, 2 classes at least.
      y: labels; one that is no class gives NaN.

    Returns:
      Log-odds in the shape of `y`, higher is member.

    Raises:
      ValueError: shapes that do not fit.
    """
    logits, y = fitting(logits, y, "confidence")
    return _of_target(logits, y) - jax.nn.logsumexp(_others(logits, y), axis=-1)


def margin_score(
    logits: Float[Array, "n *seq classes"], y: Int[Array, "n *seq"], mask: Mask = None
) -> Float[Array, " n"]:
    """The target's logit less the largest other one; for text the mean over counted tokens.

    The difference of log-probabilities. Song and Mittal, "Systematic evaluation of privacy risks
    of machine learning models" (2021), for confidences; Carlini et al. (2022) for logits.

    Args:
      logits: `[n, classes]` or `[n, seq, vocab]`.
      y: labels, or the tokens predicted.
      mask: `[n, seq]`, for text.

    Returns:
      Scores, higher is member.

    Raises:
      ValueError: shapes that do not fit.
    """
    logits, y = fitting(logits, y, "margin_score")
    margin = _of_target(logits, y) - _others(logits, y).max(-1)
    return _mean(margin, mask, "margin_score")


def entropy_score(logits: Float[Array, "n *seq classes"], mask: Mask = None) -> Float[Array, " n"]:
    """Minus the entropy of the prediction, `sum_z p(z) log p(z)`; for text the mean over tokens.

    Salem et al., "ML-Leaks" (2019): predictions on members are more certain. It needs no label.

    Args:
      logits: `[n, classes]` or `[n, seq, vocab]`.
      mask: `[n, seq]`, for text.

    Returns:
      Scores in nats, higher is member.

    Raises:
      ValueError: wrong shapes.
    """
    targets = jnp.zeros(jnp.shape(logits)[:-1], jnp.int32)
    return _mean(token_statistics(logits, targets).mean, mask, "entropy_score")


def _how_many(seq: int, k: float) -> np.ndarray:
    """For 0..seq counted tokens, how many of them are the lowest share k."""
    count = np.arange(seq + 1)
    whole = np.floor(k * count)
    # quotients decide: 29 / 100 is 0.29, though 0.29 * 100 is below 29
    more = (whole + 1) / np.maximum(count, 1) <= k
    less = whole / np.maximum(count, 1) > k
    return np.maximum(whole + more - less, 1).astype(np.int32)


def fitting(logits: Any, y: Any, what: str) -> tuple[Array, Array]:
    """Logits in float32 at least, and integers of their shape without the last axis."""
    logits, y = floating(logits, f"{what}: logits"), jnp.asarray(y)
    if logits.ndim < 2 or logits.shape[-1] < 2:
        raise ValueError(
            f"{what}: logits have shape {list(logits.shape)}, expected [n, classes] or "
            "[n, seq, vocab] with at least 2 classes"
        )
    if y.shape != logits.shape[:-1]:
        raise ValueError(
            f"{what}: y has shape {list(y.shape)}, expected {list(logits.shape[:-1])}, one for "
            "each row of logits"
        )
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"{what}: y has dtype {y.dtype}, expected integers")
    return logits, y


def _of_target(values: Array, y: Array) -> Array:
    own = jnp.take_along_axis(values, y[..., None], axis=-1, mode="clip")[..., 0]
    return jnp.where((y >= 0) & (y < values.shape[-1]), own, jnp.nan)


def _others(logits: Array, y: Array) -> Array:
    index = jax.lax.broadcasted_iota(y.dtype, logits.shape, logits.ndim - 1)
    return jnp.where(index == y[..., None], -jnp.inf, logits)


def _mean(x: Array, mask: Any, what: str) -> Array:
    mask = token_mask(mask, x.shape, what)
    return x if x.ndim == 1 else masked_mean(x, mask)
