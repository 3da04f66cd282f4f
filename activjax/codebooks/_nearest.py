"""The codes of largest similarity with an activation."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32

from activjax.codebooks import _chunks, _select
from activjax.codebooks._power import powers
from activjax.codebooks._strategy import Strategy
from activjax.codebooks._top_k import top_k
from activjax.training._dtypes import wide


class _Codes(NamedTuple):
    """Codes made ready, of all groups or some.

    Attributes:
      unit: codes of length 1, not finite ones 0; in blocks, unless there is `low`.
      low: the same in bfloat16, in blocks.
      lost: the largest length of what rounding to bfloat16 took from a code.
      bad: which are not finite.
      first_bad: the ids of the first of these; C where there are no more.
    """

    unit: Float[Array, "groups columns d"]
    low: Float[Array, "groups columns d"] | None
    lost: Float[Array, " groups"] | None
    bad: Bool[Array, "groups codes"]
    first_bad: Int32[Array, "groups candidates"]


def nearest(
    a: Float[Array, "tokens groups d"],
    codes: Float[Array, "groups codes d"],
    k: int,
    banned: Int32[Array, "#tokens groups n"] | None = None,
    strategy: Strategy | None = None,
) -> tuple[Int32[Array, "tokens groups k"], Float[Array, "tokens groups k"]]:
    """The k codes `c` of largest `a.c / |c|`, and these values, descending.

    Ranking by `a.c / |c|` is ranking by cosine (Tamkin et al. 2023, section 2). Of equal codes the
    lowest id comes first; a zero code has similarity 0. There is no gradient.

    What is not finite shows: an activation with a NaN or an infinity has similarities NaN, and the
    lowest ids; a code with one has similarity NaN for every activation, and comes first.

    Ids are the same for all strategies but "approx", chunks, devices, jitted or not, as long as the
    platform's matrix product rounds rows alike; XLA's on CPUs does. Where it does not, codes may
    change places whose similarities differ by no more than rounding, `d * 2**-23 * |a|`.

    Args:
      a: activations; computed in float32, or in float64 where they or the codes have it.
      codes: a codebook for each group.
      k: how many, 1 to C.
      banned: ids that may not be chosen, of each token or of all; -1: none. Where too few others
        are left, banned ones follow in the order of ids, with similarity -inf.
      strategy: how.

    Returns:
      Ids, and similarities in float32 (float64).

    Raises:
      ValueError: shapes that do not fit, or k out of range.
    """
    strategy = strategy or Strategy()
    check(a, codes, "nearest")
    tokens, groups, d = a.shape
    count = codes.shape[1]
    if not 1 <= k <= count:
        raise ValueError(f"nearest: k is {k}, expected 1 to {count}, the number of codes")
    if banned is not None and (
        banned.ndim != 3 or banned.shape[0] not in (1, tokens) or banned.shape[1] != groups
    ):
        raise ValueError(
            f"nearest: banned has shape {list(banned.shape)}, expected [{tokens} or 1, {groups}, n]"
        )
    strategy = strategy.resolved(tokens, groups, count, d, k)
    return _nearest(lax.stop_gradient(a), lax.stop_gradient(codes), banned, k, strategy)


def check(a: Array, codes: Array, what: str) -> None:
    """Refuses activations and codes that do not fit."""
    if a.ndim != 3:
        raise ValueError(f"{what}: a has shape {list(a.shape)}, expected [tokens, groups, d]")
    if codes.ndim != 3 or (codes.shape[0], codes.shape[2]) != a.shape[1:]:
        raise ValueError(
            f"{what}: codes have shape {list(codes.shape)}, expected [{a.shape[1]}, codes, "
            f"{a.shape[2]}], as the activations have shape {list(a.shape)}"
        )
    for name, array in (("a", a), ("codes", codes)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(
                f"{what}: {name}: dtype {array.dtype}, expected floating-point numbers"
            )


def computed_in(a: Array, codes: Array) -> Any:
    """float32, or float64 where either has it."""
    return max(wide(a.dtype), wide(codes.dtype), key=lambda dtype: dtype.itemsize)


@partial(jax.jit, static_argnums=(3, 4))
def _nearest(
    a: Array, codes: Array, banned: Array | None, k: int, strategy: Strategy
) -> tuple[Array, Array]:
    tokens, groups, _ = a.shape
    dtype = computed_in(a, codes)
    if tokens == 0:
        return jnp.zeros((0, groups, k), jnp.int32), jnp.zeros((0, groups, k), dtype)
    a, codes = a.astype(dtype), codes.astype(dtype)
    rows, size, whole, _ = moderate(a)
    bans = 0 if banned is None else banned.shape[2]
    wanted = min(k + bans, codes.shape[1])
    ready = _prepare(codes, wanted, strategy)
    some_bad = ready.bad.any()
    each = banned if banned is not None and banned.shape[0] == tokens else None
    one = banned if banned is not None and each is None else None

    def of_groups(tree: tuple[Any, ...]) -> tuple[Array, Array]:
        rows, each, one, ready = tree

        def of_chunk(tree: tuple[Array, Array | None]) -> tuple[Array, Array]:
            x, each = tree
            values, ids = _candidates(jnp.swapaxes(x, 0, 1), ready, wanted, strategy)
            ban = None
            if each is not None:
                ban = jnp.swapaxes(each, 0, 1)
            elif one is not None:
                ban = jnp.swapaxes(one, 0, 1)
            values, ids = _settle(values, ids, ready, some_bad, ban, k)
            return jnp.swapaxes(ids, 0, 1), jnp.swapaxes(values, 0, 1)

        return _chunks.over(of_chunk, (rows, each), tokens, strategy.chunk or tokens)

    if strategy.groups == "map" and groups > 1:

        def by_group(tree: Any, axis: int) -> Any:
            return jax.tree.map(lambda x: jnp.expand_dims(jnp.moveaxis(x, axis, 0), axis + 1), tree)

        parts = (*(by_group(x, 1) for x in (rows, each, one)), by_group(ready, 0))
        ids, values = (jnp.moveaxis(x[:, :, 0], 0, 1) for x in lax.map(of_groups, parts))
    else:
        ids, values = of_groups((rows, each, one, ready))
    values = values * size
    nowhere = ~whole & (values != -jnp.inf)
    return ids, jnp.where(nowhere, jnp.asarray(jnp.nan, dtype), values)


class Moderate(NamedTuple):
    """Vectors divided by a power of two near their largest entry.

    The division is exact, and no square or sum overflows or vanishes after it.

    Attributes:
      x: the vectors; 0 in place of what is not finite.
      size: what they were divided by.
      whole: whether all entries are finite.
      length: the length of `x`; not finite where `x` was not.
    """

    x: Float[Array, "*lead d"]
    size: Float[Array, "*lead 1"]
    whole: Bool[Array, "*lead 1"]
    length: Float[Array, "*lead 1"]


def moderate(x: Float[Array, "*lead d"]) -> Moderate:
    """Vectors with the power of two taken out of each."""
    size, inverse = powers(jnp.abs(x).max(axis=-1, keepdims=True))
    vector = x * inverse
    length = _length(vector)[..., None]
    whole = jnp.isfinite(length)  # a maximum on a CPU may overlook NaN, a sum does not
    return Moderate(jnp.where(whole, vector, jnp.zeros((), x.dtype)), size, whole, length)


def _prepare(codes: Array, wanted: int, strategy: Strategy) -> _Codes:
    count, dtype = codes.shape[1], codes.dtype
    vectors, _, whole, norm = moderate(codes)
    unit = vectors * (1 / jnp.where(whole & (norm > 0), norm, jnp.ones((), dtype)))
    bad = ~whole[..., 0]
    index = jnp.where(bad, jnp.arange(count, dtype=jnp.int32), jnp.int32(count))
    first_bad = jnp.sort(index, axis=-1)[:, :wanted]
    width = _width(wanted, count, strategy)
    block = _select.block(strategy, count, width)
    if width == wanted:  # in float32 only
        return _Codes(_select.in_blocks(unit, block), None, None, bad, first_bad)
    low = unit.astype(jnp.bfloat16)
    lost = _length(unit - low.astype(dtype)).max(axis=-1)
    return _Codes(unit, _select.in_blocks(low, block), lost, bad, first_bad)


def _width(wanted: int, count: int, strategy: Strategy) -> int:
    """How many candidates are taken; more than are wanted where they are ranked again."""
    more = strategy.margin if strategy.similarity == "bfloat16" else 0
    return min(wanted + more, count) if wanted < count else wanted


def _length(x: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=-1))


def _dot(x: Array, unit: Array, dtype: Any) -> Array:
    return jnp.einsum("grd,gcd->grc", x, unit, precision="highest", preferred_element_type=dtype)


def _candidates(x: Array, ready: _Codes, wanted: int, strategy: Strategy) -> _select.Picks:
    """The `wanted` codes of largest similarity; not finite ones count as zero codes."""
    count = ready.bad.shape[1]
    width = _width(wanted, count, strategy)
    block = _select.block(strategy, count, width)
    if ready.low is None or ready.lost is None:
        return _select.largest(_dot(x, ready.unit, x.dtype), count, wanted, block, strategy)
    low = x.astype(jnp.bfloat16)
    rough = _dot(low, ready.low, jnp.float32)
    found, ids = _select.largest(rough, count, width, block, strategy)
    values = _similarities(x, ready.unit, ids)
    keys, ids = lax.sort((-values, ids), num_keys=2)
    values, ids = -keys[..., :wanted], ids[..., :wanted]
    if strategy.select == "approx":
        return values, ids
    # Cauchy-Schwarz on what rounding took away, and the rounding of two sums in float32.
    length = _length(x)
    error = _length(x - low.astype(x.dtype)) + (1 + 2.0**-7) * length * ready.lost[:, None]
    error = error + length * (2 * x.shape[-1] * 2.0**-23)
    sure = values[..., -1] > found[..., -1].astype(x.dtype) + error

    def again(_: None) -> _select.Picks:
        return top_k(_dot(x, ready.unit, x.dtype), wanted)

    return lax.cond(jnp.all(sure | (length == 0)), lambda _: (values, ids), again, None)


def _similarities(x: Array, unit: Array, ids: Array) -> Array:
    """`[groups, rows, n]` dot products with codes `ids`, one rank at a time."""
    flat, offsets = unit.reshape(-1, unit.shape[-1]), jnp.arange(unit.shape[0], dtype=jnp.int32)
    places = ids + (offsets * unit.shape[1])[:, None, None]

    def rank(_: None, places: Array) -> tuple[None, Array]:
        return None, jnp.sum(x * flat[places], axis=-1)

    return jnp.moveaxis(lax.scan(rank, None, jnp.moveaxis(places, -1, 0))[1], 0, -1)


def _settle(
    values: Array, ids: Array, ready: _Codes, some_bad: Array, ban: Array | None, k: int
) -> _select.Picks:
    """The first k, after codes that are not finite were put first, and banned ones last."""
    groups, rows, _ = values.shape
    count = ready.bad.shape[1]
    infinity = jnp.asarray(jnp.inf, values.dtype)

    def sort(_: None) -> _select.Picks:
        extra = jnp.broadcast_to(ready.first_bad[:, None], (groups, rows, ready.first_bad.shape[1]))
        group = jnp.arange(groups, dtype=jnp.int32)[:, None, None]
        twice = ready.bad[group, ids]  # in `extra`, too
        every = jnp.concatenate([jnp.where(twice, jnp.int32(count), ids), extra], axis=-1)
        first = jnp.full(extra.shape, -infinity)
        keys = jnp.concatenate([-values, first], axis=-1)
        if ban is not None:
            hit = (every[..., None] == ban[..., None, :]).any(axis=-1)
            keys = jnp.where(hit, infinity, keys)
        keys = jnp.where(every == count, infinity, keys)
        keys, every = lax.sort((keys, every), num_keys=2)
        keys, every = keys[..., :k], every[..., :k]
        nan = jnp.asarray(jnp.nan, values.dtype)
        return jnp.where(keys == -infinity, nan, -keys), every

    if ban is not None:
        return sort(None)
    return lax.cond(some_bad, sort, lambda _: (values[..., :k], ids[..., :k]), None)
