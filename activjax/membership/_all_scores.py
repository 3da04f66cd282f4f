"""All scores that need no trained references, in one call that refuses what it cannot trust."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from activjax.membership import _distribution_scores as distribution, _scores as of_losses
from activjax.membership._masked import floating, token_mask


def scores(
    logits: Float[Array, "n *seq classes"],
    y: Any,
    *,
    mask: Any = None,
    texts: Any = None,
    grad_norm: Any = None,
    reference: Any = None,
    conditional: Any = None,
    k: float = 0.2,
) -> dict[str, Float[Array, " n"]]:
    """Every score that the inputs allow. Higher means member, for all of them.

    A classifier: `loss`, `confidence`, `margin`, `entropy`. Text: `loss`, `min_k`,
    `min_k_plus_plus`, `margin`, `entropy`. With `texts` also `zlib`, with `grad_norm`
    `grad_norm`, with `reference` `reference`, with `conditional` (text) `recall`. Each is the
    function of that name (`loss_score`, `zlib_score`, ...), where its formula and source are.

    It may be traced; then values cannot be checked, and what is refused below gives NaN.

    Args:
      logits: `[n, classes]`, or `[n, seq, vocab]` of the tokens in `y` (already shifted).
      y: `[n]` labels or `[n, seq]` tokens.
      mask: `[n, seq]`, for text, the tokens that count; what lies elsewhere may be anything.
      texts: `[n]` str or bytes, or what `zlib_bytes` gave, for text.
      grad_norm: `[n]`, norms of the loss's gradient.
      reference: a second model's logits for `y`, or its losses in the shape of `y`.
      conditional: `[n, seq]`, losses after a prefix of non-members (`recall_losses`).
      k: of `min_k` and `min_k_plus_plus`.

    Returns:
      Name to `[n]` scores.

    Raises:
      ValueError: shapes that do not fit, no examples, labels or tokens out of range, a NaN where
        it counts, a negative norm, a text in which no token counts.
    """
    logits, y = distribution.fitting(logits, y, "scores")
    n, text = len(y), y.ndim == 2
    if n == 0:
        raise ValueError("scores: no examples")
    if y.ndim > 2:
        raise ValueError(f"scores: y has shape {list(y.shape)}, expected [n] or [n, seq]")
    for name, given in (("mask", mask), ("texts", texts), ("conditional", conditional)):
        if given is not None and not text:
            raise ValueError(f"scores: {name}: a classifier has no tokens; give [n, seq, vocab]")
    mask = token_mask(mask, y.shape, "scores")
    if texts is not None:
        texts = of_losses.text_sizes(texts)
        if len(texts) != n:
            raise ValueError(f"scores: texts: {len(texts)}, expected {n}, one an example")
    if grad_norm is not None:
        grad_norm = _shaped(grad_norm, (n,), "grad_norm")
    if conditional is not None:
        conditional = _shaped(conditional, y.shape, "conditional")
    if reference is not None:
        reference = floating(reference, "scores: reference")
        if y.shape not in (reference.shape, reference.shape[:-1]):
            raise ValueError(
                f"scores: reference has shape {list(reference.shape)}, expected losses "
                f"{list(y.shape)} or logits {list(logits.shape)}"
            )
    found, faults = _compute(logits, y, mask, texts, grad_norm, reference, conditional, k)
    for name, hint in _FAULTS.items():
        if name in faults and not isinstance(faults[name], Tracer):
            at = np.argwhere(np.asarray(faults[name]))
            if len(at):
                where, more = at[0].tolist(), f" ({len(at)} in all)" if len(at) > 1 else ""
                raise ValueError(f"scores: {name} at {where}{more}{hint}")
    return {name: found[name] for name in _ORDER if name in found}  # jit sorts them


_ORDER = ("loss", "zlib", "min_k", "min_k_plus_plus", "grad_norm", "reference", "recall")
_ORDER += ("confidence", "margin", "entropy")

#: What may be wrong with values, in the order in which it is looked for, and what to do.
_FAULTS = {
    "no token counts": ": leave the row out",
    "logits are NaN": "",
    "y is no class": "; tokens that do not count belong in the mask",
    "grad_norm is NaN": "",
    "grad_norm is negative": ": give norms, not scores",
    "reference is NaN": "",
    "conditional is NaN": "",
    "a score is NaN": ": are logits infinite?",
}


@partial(jax.jit, static_argnames="k")
def _compute(
    logits: Array,
    y: Array,
    mask: Array | None,
    sizes: Array | None,
    grad_norm: Array | None,
    reference: Array | None,
    conditional: Array | None,
    k: float,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The scores, and where something is wrong, by the names of `_FAULTS`."""
    text = y.ndim == 2
    counted = jnp.ones(y.shape, bool) if mask is None else mask
    tokens = distribution.token_statistics(logits, y)
    losses = -tokens.log_p
    found = {"loss": of_losses.loss_score(losses, mask)}
    faults = {
        "logits are NaN": counted & jnp.isnan(logits).any(-1),
        "y is no class": counted & ((y < 0) | (y >= logits.shape[-1])),
    }
    if text:
        faults["no token counts"] = ~counted.any(-1)
        if sizes is not None:
            found["zlib"] = of_losses.zlib_score(losses, sizes, mask)
        found["min_k"] = distribution.min_k(tokens.log_p, mask, k)
        found["min_k_plus_plus"] = distribution.min_k_plus_plus(
            tokens.log_p, tokens.mean, tokens.std, mask, k
        )
    if grad_norm is not None:
        faults["grad_norm is NaN"] = jnp.isnan(grad_norm)
        faults["grad_norm is negative"] = grad_norm < 0
        found["grad_norm"] = of_losses.grad_norm_score(grad_norm)
    if reference is not None:
        other = reference
        if reference.ndim > y.ndim:
            other = -distribution.token_statistics(reference, y).log_p
        faults["reference is NaN"] = counted & jnp.isnan(other)
        found["reference"] = of_losses.reference_score(losses, other, mask)
    if conditional is not None:
        faults["conditional is NaN"] = counted & jnp.isnan(conditional)
        found["recall"] = of_losses.recall_score(conditional, losses, mask)
    if not text:
        found["confidence"] = distribution.confidence(logits, y)
    found["margin"] = distribution.margin_score(logits, y, mask)
    found["entropy"] = distribution.entropy_score(logits, mask)
    nan = [jnp.isnan(score) for score in found.values()]
    faults["a score is NaN"] = jnp.stack(nan).any(0)
    return found, faults


def _shaped(x: Any, shape: tuple[int, ...], name: str) -> Array:
    x = floating(x, f"scores: {name}")
    if x.shape != shape:
        raise ValueError(f"scores: {name} has shape {list(x.shape)}, expected {list(shape)}")
    return x
