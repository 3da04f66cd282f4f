"""Differences of mean activations between two sets of prompts, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from activjax.introspection._talk import Prompts
from activjax.training._dtypes import wide
from activjax.transforms import SiteError, capture, per_example, select


def contrast(
    apply: Callable[..., Any],
    params: Any,
    ones: Prompts,
    others: Prompts,
    site: str = "blocks/resid_post",
    *,
    back: int = 0,
) -> Float[Array, "layers d"]:
    """Mean activation after some prompts less that after others, at one token of each.

    The direction of refusal is such a difference, of harmful and harmless prompts at the token
    before the last ("Mechanisms of Introspective Awareness", arXiv 2603.21396: position -2, which
    is `back=1`). Not normalised; `ablate` takes it as it is.

    Args:
      apply: `apply(params, tokens, mask=...)`, such as a decoder's.
      params: its parameters.
      ones, others: the prompts.
      site: of values `[batch, seq, d]`, in the loop over layers.
      back: how many tokens before the prompt's last one.

    Returns:
      The differences, in float32 at least.

    Raises:
      ValueError: no prompts, `back` below 0, or a prompt that has no such token.
      SiteError: not one such site.
    """
    return _mean(apply, params, ones, site, back, "ones") - _mean(
        apply, params, others, site, back, "others"
    )


def _mean(
    apply: Callable[..., Any], params: Any, prompts: Prompts, site: str, back: int, what: str
) -> Array:
    place = np.asarray(prompts.last) - back
    if back < 0 or not len(place) or place.min() < 0:
        shortest = f", the shortest has {int(np.min(prompts.last)) + 1}" if len(place) else ""
        raise ValueError(
            f"contrast: {what}: {len(place)} prompts{shortest}; expected at least one, and "
            f"0 <= back < tokens of each, got back={back}"
        )
    return _read(apply, site, params, *map(jnp.asarray, (prompts.tokens, prompts.mask, place)))


@partial(jax.jit, static_argnums=(0, 1))
def _read(
    apply: Callable[..., Any], site: str, params: Any, tokens: Array, mask: Array, place: Array
) -> Array:
    chosen = select(site, at=per_example(place))  # nothing else is stacked over layers
    found = capture(lambda *a: apply(*a, mask=mask), chosen, out=False)(params, tokens)
    if len(found) != 1:
        raise SiteError(f"contrast: {site!r} is {len(found)} sites, expected one: {list(found)}")
    x = found.popitem()[1]
    return x.astype(wide(x.dtype)).mean(axis=-2)
