"""The bottleneck itself: an activation replaced by its nearest codes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from activjax.codebooks._combine import combine
from activjax.codebooks._nearest import moderate, nearest
from activjax.codebooks._normalise import denormalise, normalise
from activjax.codebooks._overrides import Override, at_tokens
from activjax.codebooks._rows import Form, Inputs, form
from activjax.codebooks._spec import Spec
from activjax.codebooks._trace import Trace


def bottleneck(
    codes: Mapping[str, Any] | Float[Array, "groups codes d"],
    x: Float[Array, "*value"],
    spec: Spec,
    *,
    mask: Bool[Array, "*tokens"] | None = None,
    override: Override | None = None,
    positions: Int[Array, "*tokens"] | None = None,
) -> tuple[Float[Array, "*value"], Trace]:
    """Replace an activation by the sum (or mean) of the codes nearest to it.

    With `a` the normalised activation, S the `k` codes of largest `a.c / |c|` (of equals the lowest
    id first; a zero code has 0) and `q` the sum or mean over S, the output is `s q`, to the bit;
    `s` is the scale of the data, 1 without normalisation. Its derivative is that of
    `s (q + a - stop_gradient(a))`: the input gets the output's gradient (straight through), and so
    does every chosen code (Tamkin et al. 2023, section 2). The squared error `|q - a|^2` of the
    trace has a gradient to codes only.

    A token with a NaN gives NaN, and ids 0 to k-1; a code with a NaN gives NaN for every token, so
    that a diverged codebook is seen. A zero activation is equally near to all codes: 0 to k-1.

    Args:
      codes: of one site, out of any loop: `{"codes": [groups, codes, d], "scale": [groups]}` as
        `init` makes them; or the codes alone, with a scale of 1.
      x: the activation, `[..., d]`, or `[..., heads, d_head]` with a group for each head.
      spec: how many codes, and what is done with them.
      mask: True for tokens, False for padding, which passes as it is and leaves no trace.
      override: what replaces the choice.
      positions: where each token stands in its sequence, for overrides by position; -1: padding.

    Returns:
      The output, in the shape and dtype of `x`, and what was chosen.

    Raises:
      ValueError: shapes that do not fit.
    """
    book = dict(codes) if isinstance(codes, Mapping) else {"codes": codes}
    return _bottleneck(book, jnp.asarray(x), spec, mask, override, positions)


@partial(jax.jit, inline=True)  # called outside jit, it is one program
def _bottleneck(
    book: Mapping[str, Any], x: Array, spec: Spec, mask: Any, override: Any, positions: Any
) -> tuple[Array, Trace]:
    table, scale = jnp.asarray(book["codes"]), book.get("scale")
    if table.ndim != 3 or table.shape[:2] != (spec.groups, spec.codes):
        raise ValueError(
            f"bottleneck: codes have shape {list(table.shape)}, expected [{spec.groups}, "
            f"{spec.codes}, d] (groups, codes, features)"
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"bottleneck: expected floating-point activations, got {x.dtype}")
    of = form(x.shape, spec, table.shape[-1], "bottleneck")
    on, banned, wanted = _where(of, spec, mask, override, positions)
    rows = of.rows(x)
    a = normalise(rows, scale, spec)
    table = table.astype(a.dtype)
    ids, dots = nearest(a, table, spec.k, banned, spec.strategy)
    if wanted is not None:
        ids, dots = _overridden(a, table, ids, dots, wanted)
    q, error = combine(a, table, ids, spec.reduce, on, spec.strategy)
    q = jnp.where(jnp.isnan(dots).any(-1, keepdims=True), jnp.asarray(jnp.nan, q.dtype), q)
    y = denormalise(q, scale, spec).astype(x.dtype)
    y = jnp.where(on[..., None], y, rows)
    return of.value(y), _trace(of, spec, rows, a, on, ids, dots, error)


def _where(
    of: Form,
    spec: Spec,
    mask: Any,
    override: Override | None,
    positions: Any,
) -> tuple[Array, Array | None, Array | None]:
    """By token and group: where the bottleneck is on; the banned codes; the wanted ones."""
    on = jnp.full((of.tokens, spec.groups), True)
    if mask is not None:
        on = on & of.mask(mask)[:, None]
    if override is None:
        return on, None, None
    for name, last in (("ids", spec.k), ("ban", None), ("off", spec.groups)):
        array = getattr(override, name)
        own = array is None or (
            array.ndim >= (1 if name == "off" else 2) and last in (None, array.shape[-1])
        )
        if array is not None and (not own or (name != "off" and array.shape[-2] != spec.groups)):
            raise ValueError(
                f"override: {name} has shape {list(array.shape)}, expected [..., {spec.groups}"
                f"{'' if name == 'off' else f', {last}' if last else ', n'}]"
            )
    if positions is not None and positions.shape != of.lead:
        positions = None
    ids = at_tokens(_codes(override.ids, spec, "ids"), of.lead, positions, 2, -1, "ids")
    ban = at_tokens(_codes(override.ban, spec, "ban"), of.lead, positions, 2, -1, "ban")
    if override.off is not None and override.off.dtype != bool:
        raise ValueError(f"override: off holds {override.off.dtype}, expected truth values")
    off = at_tokens(override.off, of.lead, positions, 1, False, "off")
    if off is not None:
        on = on & ~jnp.broadcast_to(off, (*of.lead, spec.groups)).reshape(-1, spec.groups)

    def flat(array: Array | None) -> Array | None:
        if array is None:
            return None
        if all(n == 1 for n in array.shape[: len(of.lead)]):
            return array.reshape(1, *array.shape[-2:])
        whole = jnp.broadcast_to(array, (*of.lead, *array.shape[-2:]))
        return whole.reshape(of.tokens, *array.shape[-2:])

    return on, flat(ban), flat(ids)


def _codes(ids: Any, spec: Spec, what: str) -> Array | None:
    """An override's codes as int32, whatever integers they are; C for all that are too large."""
    if ids is None:
        return None
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"override: {what} holds {ids.dtype}, expected whole numbers")
    if jnp.issubdtype(ids.dtype, jnp.unsignedinteger):
        ids = jnp.minimum(ids, jnp.asarray(min(spec.codes, jnp.iinfo(ids.dtype).max), ids.dtype))
        return ids.astype(jnp.int32)
    if jnp.iinfo(ids.dtype).bits > 32:
        ids = jnp.clip(ids, -1, spec.codes)
    return jnp.asarray(ids).astype(jnp.int32)


def _overridden(
    a: Array, table: Array, ids: Array, dots: Array, wanted: Array
) -> tuple[Array, Array]:
    """Wanted codes in place of the own ones, with the similarities that they have."""
    new = jnp.where(wanted >= 0, wanted, ids)
    known = new < table.shape[1]  # a traced code out of range: NaN

    def one(a: Array, table: Array, new: Array) -> Array:  # of one group
        row = moderate(a)

        def rank(_: None, ids: Array) -> tuple[None, Array]:
            code = moderate(table[ids])
            dot = jnp.sum(row.x * code.x, axis=-1, keepdims=True) * row.size
            dot = jnp.where(code.length > 0, dot / jnp.where(code.length > 0, code.length, 1), 0)
            whole = row.whole & code.whole
            return None, jnp.where(whole, dot, jnp.asarray(jnp.nan, dot.dtype))[..., 0]

        return jax.lax.scan(rank, None, new.T)[1].T

    safe = jnp.where(known, new, 0)
    found = jax.vmap(one, in_axes=(1, 0, 1), out_axes=1)(
        jax.lax.stop_gradient(a), jax.lax.stop_gradient(table), safe
    )
    found = jnp.where(known, found.astype(dots.dtype), jnp.asarray(jnp.nan, dots.dtype))
    return jnp.where(known, new, -1), jnp.where(new == ids, dots, found)


def _trace(
    of: Form, spec: Spec, rows: Array, a: Array, on: Array, ids: Array, dots: Array, error: Array
) -> Trace:
    ids = jnp.where(on[..., None], ids, -1)
    row = moderate(jax.lax.stop_gradient(a))
    size, length = row.size.astype(dots.dtype), row.length.astype(dots.dtype)
    # The length is that of what is left after dividing by the size; both at once may overflow.
    cosines = jnp.where(length > 0, dots / size / jnp.where(length > 0, length, 1), 0 * dots)
    cosines = jnp.where(on[..., None], cosines, jnp.zeros((), dots.dtype))
    group = jnp.arange(spec.groups, dtype=jnp.int32)[None, :, None]
    nowhere = jnp.where(ids < 0, spec.codes, ids)  # negative indices would count from the end
    counts = jnp.zeros((spec.groups, spec.codes), jnp.int32).at[group, nowhere].add(1, mode="drop")
    some = (ids >= 0).any(axis=(1, 2))  # a group may be off alone
    # All of them follow from the ids, so that under vmap all are mapped.
    return Trace(
        of.each_token(ids),
        of.each_token(cosines),
        of.each_token(jnp.where(on, error, jnp.zeros((), error.dtype))),
        counts,
        jnp.sum(some, dtype=jnp.int32),
        Inputs(jax.lax.stop_gradient(rows), some),
    )
