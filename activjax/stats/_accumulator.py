"""`Accumulator`: a statistic of a stream of rows, in four pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, UInt32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rows:
    """What is known of the rows of a batch beside their values.

    Attributes:
      mask: `[examples]` or `[examples, *positions]`; rows where it is false do not count, whatever
        they hold. None: all count.
      labels: integers of either shape; one outside `0 .. labels - 1` belongs to no label.
      ids: `[examples]` integers `0 .. 2^32 - 1`, another for every example of the stream; results
        that name or draw examples then do not depend on how the stream is cut.
    """

    mask: Any = None
    labels: Any = None
    ids: Any = None


EVERY = Rows()


@dataclass(frozen=True)
class Accumulator:
    """A statistic of a stream: `init`, `update`, `merge` and `finish` on pytrees of arrays.

    All are pure, and can be jitted and mapped. Merging is associative and commutative: exactly for
    counts, choices and samples, within rounding for sums.

    Attributes:
      init: `init(like) -> state`; `like` has the shape and dtype of a batch's values, `[*rows, d]`
        (an array, a `jax.ShapeDtypeStruct`, or a tuple of them for a statistic of two sites).
      update: `update(state, x, rows=Rows()) -> state` takes a batch in: `x` is `[examples,
        *positions, d]`.
      merge: `merge(a, b) -> state` of both streams together.
      finish: `finish(state) -> result`; the state can go on.
    """

    init: Callable[[Any], Any]
    update: Callable[..., Any]
    merge: Callable[[Any, Any], Any]
    finish: Callable[[Any], Any]

    def of(self, fn: Callable[[Any], Any]) -> Accumulator:
        """The same statistic of `fn(x)`, such as `histogram().of(jnp.abs)`."""

        def init(like: Any) -> Any:
            return self.init(jax.eval_shape(fn, like))

        def update(state: Any, x: Any, rows: Rows = EVERY) -> Any:
            return self.update(state, fn(x), rows)

        return Accumulator(init, update, self.merge, self.finish)


def together(**parts: Accumulator) -> Accumulator:
    """Several statistics of the same values, in one pass.

    Args:
      **parts: accumulators; states and results are dicts with their names.
    """
    if not parts:
        raise ValueError("together: expected at least one accumulator by name")
    for name, part in parts.items():
        if not isinstance(part, Accumulator):
            raise TypeError(f"together: {name} is {part!r}, expected an Accumulator")

    def update(state: Any, x: Any, rows: Rows = EVERY) -> Any:
        return {name: part.update(state[name], x, rows) for name, part in parts.items()}

    return Accumulator(
        init=lambda like: {name: part.init(like) for name, part in parts.items()},
        update=update,
        merge=lambda a, b: {name: part.merge(a[name], b[name]) for name, part in parts.items()},
        finish=lambda state: {name: part.finish(state[name]) for name, part in parts.items()},
    )


@dataclass(frozen=True)
class Table:
    """A batch laid out as rows.

    Attributes:
      x: `[n, d]`, in the dtype it came in.
      mask: `[n]`.
      labels: `[n]`, or None.
      ids, positions: `[n]`, the example and the place in it (0 where there is one); or None.
    """

    x: Array
    mask: Bool[Array, " n"]
    labels: Int32[Array, " n"] | None
    ids: UInt32[Array, " n"] | None
    positions: UInt32[Array, " n"] | None


def table(what: str, x: Any, rows: Rows) -> Table:
    """Lay out a batch as rows.

    Args:
      what: the accumulator, for messages.
      x: `[examples, *positions, d]`.
      rows: as given to `update`.

    Raises:
      ValueError: shapes that do not fit.
    """
    x = jnp.asarray(x)
    if x.ndim < 2:
        hint = "; for one number a row use x[:, None]" if x.ndim == 1 else ""
        raise ValueError(f"{what}: values have shape {x.shape}, expected [rows, channels]{hint}")
    if not any(jnp.issubdtype(x.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise ValueError(f"{what}: values have dtype {x.dtype}, expected real numbers")
    lead = x.shape[:-1]
    n = x.size // x.shape[-1] if x.shape[-1] else 0

    def spread(name: str, value: Any, dtypes: Any, dtype: Any) -> Array:
        value = jnp.asarray(value)
        if value.ndim == 0 or value.shape != lead[: value.ndim]:
            raise ValueError(
                f"{what}: {name} has shape {value.shape}, expected {lead} or its first axes"
            )
        if not any(jnp.issubdtype(value.dtype, d) for d in dtypes):
            raise ValueError(f"{what}: {name} has dtype {value.dtype}")
        value = value.astype(dtype).reshape(value.shape + (1,) * (len(lead) - value.ndim))
        return jnp.broadcast_to(value, lead).reshape(n)

    whole = (jnp.integer,)
    mask = jnp.ones(n, bool)
    if rows.mask is not None:
        mask = spread("rows.mask", rows.mask, (jnp.bool_, jnp.integer), bool)
    labels = ids = positions = None
    if rows.labels is not None:
        # No label is as large as the largest int32: it may stand for all beyond.
        large = jnp.asarray(rows.labels)
        if jnp.issubdtype(large.dtype, jnp.integer) and large.dtype.itemsize >= 4:
            large = jnp.minimum(large, jnp.asarray(2**31 - 1, large.dtype))
        labels = spread("rows.labels", large, whole, jnp.int32)
    if rows.ids is not None:
        if jnp.ndim(rows.ids) != 1:
            raise ValueError(
                f"{what}: rows.ids has shape {jnp.shape(rows.ids)}, expected [examples]"
            )
        ids = spread("rows.ids", rows.ids, whole, jnp.uint32)
        places = n // max(1, lead[0])
        positions = jnp.arange(n, dtype=jnp.uint32) % jnp.uint32(max(1, places))
    return Table(x.reshape(n, x.shape[-1]), mask, labels, ids, positions)


def channels(what: str, like: Any) -> tuple[int, Any]:
    """The number of channels of a batch's values, and the dtype in which sums of them are kept."""
    shape, dtype = jnp.shape(like), jnp.result_type(like)
    if len(shape) < 1 or shape[-1] < 1:
        raise ValueError(
            f"{what}: values have shape {shape}, expected [rows, channels] with channels"
        )
    return shape[-1], sums_dtype(dtype)


def sums_dtype(*dtypes: Any) -> Any:
    """float64 if one of these is or, in 64-bit mode, a wide integer; else float32."""
    wide = [d for d in dtypes if jnp.issubdtype(d, jnp.integer) and jnp.dtype(d).itemsize >= 4]
    if jnp.float64 in dtypes or (wide and jnp.result_type(float) == jnp.float64):
        return jnp.float64
    return jnp.float32


def need_ids(what: str, rows: Table) -> tuple[Array, Array]:
    """The examples and positions of the rows.

    Raises:
      ValueError: the examples have no numbers.
    """
    if rows.ids is None or rows.positions is None:
        raise ValueError(
            f"{what}: expected a number for every example, rows=Rows(ids=jnp.arange(...)); "
            "aj.harvest numbers them itself"
        )
    return rows.ids, rows.positions
