"""Putting a thought into a model: a vector added to its residual stream at chosen tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from activjax.introspection._bank import ConceptBank
from activjax.models._layers import known
from activjax.transforms import (
    SiteError,
    SiteTable,
    intervene,
    per_example,
    select,
    sites,
)
from activjax.transforms.edits import Context

Units = Literal["resid_norm", "abs", "raw"]
LAST, PERSISTENT, ALL = "last_prompt", "persistent", "all"


@jax.custom_jvp
def _plus(x: Array, rows: Array) -> Array:
    """`x + rows`, and for a row of zeros the same bits: -0 + 0 would be another zero."""
    return jnp.where(jnp.any(rows != 0, axis=-1, keepdims=True), x + rows, x)


@_plus.defjvp
def _(primals: Any, tangents: Any) -> Any:
    # that of the sum at zero too: there a choice between two values has none
    return _plus(*primals), tangents[0] + tangents[1]


def _added(rows: Array, layer: Any, start: Any, x: Array, ctx: Context, *, tokens: str) -> Array:
    """`x + rows` in the layer and at the tokens meant; elsewhere the same bits."""
    rows = jnp.broadcast_to(rows.astype(x.dtype), (x.shape[0], rows.shape[-1]))
    on = jnp.ones(x.shape[0], bool) if layer is None else layer == list(ctx.loops.values())[-1]
    if tokens == "chosen":
        return jnp.where(on[:, None], _plus(x, rows), x)
    on = on[:, None]
    if tokens == PERSISTENT:
        start = ctx.read(LAST) if start is None else start
        on = on & (ctx.read("positions") >= start[:, None])
    return jnp.where(on[..., None], _plus(x, rows[:, None]), x)


def _adding(tokens: str) -> Callable[..., Array]:
    def add(rows: Array, layer: Any, start: Any, x: Array, ctx: Context) -> Array:
        return _added(rows, layer, start, x, ctx, tokens=tokens)

    return add


# made once: what is compiled is found again by the function's identity
_ADDED = {tokens: _adding(tokens) for tokens in ("chosen", PERSISTENT, ALL)}


def inject(
    apply: Callable[..., Any],
    bank: ConceptBank,
    concept: Any,
    strength: Any,
    *,
    layer: Any = None,
    source: Any = None,
    at: Any = LAST,
    units: Units = "resid_norm",
) -> Callable[..., Any]:
    """A function whose residual stream holds a concept: `intervene` with the bank's vectors.

    Concepts, strengths, layers and positions may be traced: a sweep of them is one program. A
    strength of 0, and a concept of -1, leave every bit as it is.

    Args:
      apply: `apply(params, tokens, ...)`, such as a decoder's.
      bank: the vectors.
      concept: a name, or a number of the bank; `[batch]` for one of each example's own. -1: none.
      strength: a number, or `[batch]`; negative ones subtract.
      layer: where to put it, as the bank numbers its layers; `[batch]` for one of each example's
        own. May be left out for a bank of one layer.
      source: the layer whose vector is put there; None for the same.
      at: "last_prompt" (that token only: a transient thought), "persistent" (from that token on,
        through all that is generated), "all" (every token), a position, or `[batch]` positions:
        from 0, padding not counted. At one that no token has, nothing is put.
      units: of `strength`: "resid_norm" multiplies the unit vector by the bank's mean residual
        norm at `layer`; "abs" the unit vector alone; "raw" the vector as it is.

    Returns:
      `apply`, edited; results and arguments are the same.

    Raises:
      KeyError: a name that is not in the bank.
      ValueError: a known concept or layer out of range (a traced one gives NaN); units or `at`
        that do not exist; a known position that is negative, or beyond tokens that follow no cache.
      SiteError: from the call, a site that the function has not.
    """
    rows = vectors_of(bank, concept, strength, layer=layer, source=source, units=units)
    layer = None if bank.layers is None else _layer(bank, layer, "layer")
    return inject_vectors(apply, bank.site, rows, layer=layer, at=at)


def vectors_of(
    bank: ConceptBank,
    concept: Any,
    strength: Any,
    *,
    layer: Any = None,
    source: Any = None,
    units: Units = "resid_norm",
) -> Float[Array, "*batch d"]:
    """What `inject` adds, `[d]`, or `[batch, d]` where an argument has that axis.

    Arguments and errors as `inject`.
    """
    if units not in get_args(Units):
        raise ValueError(f"units: expected one of {get_args(Units)}, got {units!r}")
    number = bank.index(concept) if isinstance(concept, str) else concept
    number = _whole(number, "concept")
    _refuse(number, -1, len(bank.names) - 1, "concept")
    to = row_of(bank, layer, "layer")
    of = to if source is None else row_of(bank, source, "source")
    inside = (number >= -1) & (number < len(bank.names)) & (to >= 0) & (of >= 0)
    vector = bank.vectors[jnp.maximum(of, 0), jnp.maximum(number, 0)].astype(jnp.float32)
    size = jnp.asarray(strength, jnp.float32)
    if units != "raw":
        vector = vector / jnp.linalg.norm(vector, axis=-1, keepdims=True)
    if units == "resid_norm":
        size = size * bank.resid_norm[jnp.maximum(to, 0)].astype(jnp.float32)
    size, number, inside = (x[..., None] for x in jnp.broadcast_arrays(size, number, inside))
    return jnp.where(inside, jnp.where(number < 0, 0, size * vector), jnp.nan)


def inject_vectors(
    apply: Callable[..., Any],
    site: str,
    vectors: Float[Array, "*batch d"],
    *,
    layer: Any = None,
    at: Any = LAST,
    start: Any = None,
) -> Callable[..., Any]:
    """`inject` with vectors of one's own, such as random ones of the same length.

    Args:
      apply, at: as `inject`.
      site: of axes `batch seq d`.
      vectors: to be added; `[d]` for every example the same.
      layer: iteration of the loop around the site; `[batch]` for one of each example's own; None
        for a site in no loop.
      start: with `at="persistent"`, the first position of each example, `[batch]`; None for the
        last prompt token.

    Raises:
      ValueError: a known layer or position out of range, or `at` is none of the words.
      SiteError: as `inject`.
    """
    vectors = jnp.asarray(vectors)
    one_layer = layer is None or jnp.ndim(layer) == 0
    farthest = -1
    if isinstance(at, str):
        if at not in (LAST, PERSISTENT, ALL):
            raise ValueError(
                f"at: expected {LAST!r}, {PERSISTENT!r}, {ALL!r} or positions, got {at!r}"
            )
        where, tokens = (LAST if at == LAST else None), ("chosen" if at == LAST else at)
    else:
        farthest = _farthest(at)
        where, tokens = (at if jnp.ndim(at) == 0 else per_example(jnp.asarray(at))), "chosen"
    place = select(site, layers=layer if one_layer else None, at=where)

    def injected(*args: Any, **kwargs: Any) -> Any:
        rows, own = vectors, None
        if len(args) > 1 and kwargs.get("state") is None and farthest >= jnp.shape(args[1])[1]:
            raise ValueError(
                f"at: position {farthest}, but there are {jnp.shape(args[1])[1]} tokens: nothing "
                "would be put in"
            )
        if not one_layer:
            own, depth = _whole(layer, "layer"), _depth(sites(apply)(*args, **kwargs), site)
            _refuse(own, 0, depth - 1, "layer")
            outside = (own < 0) | (own >= depth)
            rows = jnp.where(outside[:, None], jnp.nan, vectors)
            own = jnp.where(outside, 0, own)
        act = jax.tree_util.Partial(_ADDED[tokens], rows, own, start)
        return intervene(apply, [(place, act)])(*args, **kwargs)

    return injected


def _farthest(at: Any) -> int:
    """The largest position; -1 where it is not known."""
    places = known(at)
    if places is None or not places.size:
        return -1
    if places.min() < 0:
        raise ValueError(
            f"at: expected positions from 0 on, got {places.min()} (padding may stand at the end): "
            f"{LAST!r} is the last token of each prompt"
        )
    return int(places.max())


def _depth(table: SiteTable, site: str) -> int:
    """The length of the innermost loop around a site."""
    found = table.match(site)[0]
    if not found.loops or found.loops[-1][1] is None:
        raise SiteError(f"site {found.name!r} is in no loop of known length, so `layer` cannot be")
    return found.loops[-1][1]


def _layer(bank: ConceptBank, layer: Any, what: str) -> Any:
    """The layer that is meant, known to be of the bank wherever it is known."""
    layers = bank.layers or ()
    if layer is None:
        if len(layers) != 1:
            raise ValueError(f"{what}: the bank has layers {list(layers)}, say which")
        return layers[0]
    values = known(layer)
    if values is not None:
        values = np.asarray(values)
        wrong = values[~np.isin(values, layers)]
        if values.dtype.kind not in "iu" or wrong.size:
            found = wrong.ravel()[0] if wrong.size else values
            raise ValueError(f"{what}: expected one of the bank's {list(layers)}, got {found}")
    return layer


def row_of(bank: ConceptBank, layer: Any, what: str) -> Array:
    """Which row of the bank's arrays a layer is; -1 for a traced one that it has not."""
    if bank.layers is None:
        if layer is not None:
            raise ValueError(f"{what}: the bank's site {bank.site!r} is in no loop, leave it out")
        return jnp.int32(0)
    layer = _whole(_layer(bank, layer, what), what)
    match = layer[..., None] == jnp.asarray(bank.layers, jnp.int32)
    return jnp.where(match.any(-1), jnp.argmax(match, axis=-1).astype(jnp.int32), -1)


def _whole(x: Any, what: str) -> Array:
    array = jnp.asarray(x)
    if not jnp.issubdtype(array.dtype, jnp.integer) or array.ndim > 1:
        raise ValueError(f"{what}: expected a whole number or [batch] of them, got {x!r}")
    return array.astype(jnp.int32)


def _refuse(x: Any, low: int, high: int, what: str) -> None:
    values = known(x)
    if values is None:
        return
    wrong = np.asarray(values)[(np.asarray(values) < low) | (np.asarray(values) > high)]
    if wrong.size:
        raise ValueError(f"{what}: expected {low} to {high}, got {wrong.ravel()[0]}")
