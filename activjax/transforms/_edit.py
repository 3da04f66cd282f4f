"""What an edit is: a pytree with a function of one example's value."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from activjax.transforms._context import Context
from activjax.transforms._names import SiteError


class Edit:
    """Base of the edits. A subclass is a frozen dataclass with `apply`, registered by `edit`."""

    #: Fields whose value has the site's own shape, and may have its mapped axes in front.
    like_site: ClassVar[tuple[str, ...]] = ()

    def apply(self, x: Array, ctx: Context) -> Array:
        """The edited value of one example."""
        raise NotImplementedError


def edit(cls: type) -> type:
    """Make a class a frozen dataclass and a pytree of its fields, but for the `static` ones."""
    cls = dataclass(frozen=True, eq=False)(cls)
    meta = [f.name for f in dataclasses.fields(cls) if f.metadata.get("static")]
    data = [f.name for f in dataclasses.fields(cls) if f.name not in meta]
    return jax.tree_util.register_dataclass(cls, data, meta)


def static(**kwargs: Any) -> Any:
    """A field that is part of an edit's structure, not of its values."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@edit
class Each:
    """A value with one leading axis for each surrounding loop; see `edits.each`."""

    value: Any


def as_value(value: Any, what: str) -> Any:
    """An edit's value as an array, so that sweeping it does not compile again.

    Raises:
      TypeError: it is no number, no array and no (nested) list of numbers.
      OverflowError: an integer that the default integer type cannot hold.
    """
    if isinstance(value, (Each, jax.Array)):
        return value
    if hasattr(value, "__jax_array__") or _holds_tracer(value):
        return jnp.asarray(value)
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        array = np.asarray(None)
    if array.dtype.kind not in "biufcV":
        raise TypeError(f"{what}: expected a number or an array, got {value!r}")
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size:
        # The narrowest of the usual types, x64 or not: the site decides whether it can hold it.
        lowest, highest = int(array.min()), int(array.max())
        for dtype in (np.int32, np.uint32):
            if np.iinfo(dtype).min <= lowest and highest <= np.iinfo(dtype).max:
                return array.astype(dtype)
        if jax.dtypes.canonicalize_dtype(np.int64) != np.int64:
            raise OverflowError(f"{what}: {value!r} needs 64 bits; set jax_enable_x64")
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype))


def _holds_tracer(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(
        isinstance(v, Tracer) or _holds_tracer(v) for v in value
    )


def _kind(dtype: Any) -> int:
    """Rank among truth values, integers, real and complex numbers: each can hold those before."""
    groups = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    return next(rank for rank, group in enumerate(groups) if jnp.issubdtype(dtype, group))


def like(value: Any, x: Array, ctx: Context, *, saturate: bool = False) -> Array:
    """`value` in the dtype of `x`, checked to broadcast to its shape.

    Args:
      value: a number or an array.
      x: one example's value at the site.
      ctx: the place, for messages.
      saturate: take integers beyond the range of `x`'s dtype as its bounds.

    Raises:
      SiteError: the dtype of `x` cannot hold `value`, or the shapes do not fit.
    """
    value = jnp.asarray(value)
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) or jnp.issubdtype(
        value.dtype, jax.dtypes.prng_key
    ):
        if value.dtype != x.dtype:
            raise SiteError(f"site {ctx.site!r} holds {x.dtype}; the edit's value is {value.dtype}")
    elif _kind(value.dtype) > _kind(x.dtype):
        raise SiteError(
            f"site {ctx.site!r} holds {x.dtype}, which cannot hold the edit's value of type "
            f"{value.dtype}: convert the value (or the site) yourself"
        )
    try:
        fits = jnp.broadcast_shapes(value.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise SiteError(
            f"site {ctx.site!r} has shape {x.shape} (one example); the edit's value has shape "
            f"{value.shape}, which does not broadcast to it"
        )
    if jnp.issubdtype(x.dtype, jnp.integer) and jnp.issubdtype(value.dtype, jnp.integer):
        value = _in_range(value, x, ctx, saturate)
    return value if value.dtype == x.dtype else value.astype(x.dtype)


def _in_range(value: Array, x: Array, ctx: Context, saturate: bool) -> Array:
    own, new = jnp.iinfo(x.dtype), jnp.iinfo(value.dtype)
    low, high = max(int(own.min), int(new.min)), min(int(own.max), int(new.max))
    if low == new.min and high == new.max:
        return value
    if saturate:
        return jnp.clip(value, low, high)
    raise SiteError(
        f"site {ctx.site!r} holds {x.dtype}; whether it can hold the edit's value, a traced "
        f"{value.dtype}, is not known: give it as {x.dtype}"
    )


def fitted(whole: Edit, dtype: Any, site: str) -> Edit:
    """An edit whose known integers are of a site's type.

    Raises:
      SiteError: the type cannot hold one of them.
    """

    def fit(value: Any) -> Any:
        if isinstance(value, Each):
            return Each(fit(value.value))
        known = not isinstance(value, Tracer) and isinstance(value, (jax.Array, np.ndarray))
        if not known or not jnp.issubdtype(value.dtype, jnp.integer):
            return value
        array, own = np.asarray(value), jnp.iinfo(dtype)
        if array.size and (int(array.min()) < own.min or int(array.max()) > own.max):
            raise SiteError(
                f"site {site!r} holds {dtype}, from {own.min} to {own.max}; the edit's value is "
                f"{array}"
            )
        return array.astype(dtype)

    if not jnp.issubdtype(dtype, jnp.integer):
        return whole
    data: Any = whole
    changed: dict[str, Any] = {}
    for name in (f.name for f in dataclasses.fields(data)):
        value = getattr(whole, name)
        if name in whole.like_site:
            changed[name] = fit(value)
        elif isinstance(value, Edit):
            changed[name] = fitted(value, dtype, site)
        elif isinstance(value, tuple):
            changed[name] = tuple(
                fitted(v, dtype, site) if isinstance(v, Edit) else v for v in value
            )
    return dataclasses.replace(data, **changed)


@edit
class Call(Edit):
    """A callable as an edit."""

    fn: Callable[..., Any] = static()

    def apply(self, x: Array, ctx: Context) -> Array:
        """`fn(x)`, or `fn(x, ctx)` where it takes a context."""
        how = _takes_context(self.fn)
        if how == "by name":
            return self.fn(x, ctx=ctx)
        return self.fn(x, ctx) if how else self.fn(x)


@edit
class CallPartial(Call):
    """A `jax.tree_util.Partial` as an edit: its bound arguments are values."""

    fn: Callable[..., Any]


def _takes_context(fn: Callable[..., Any]) -> str | None:
    """How a callable takes a context: by a parameter called `ctx`, or as a second argument."""
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return None
    if "ctx" in parameters and parameters["ctx"].kind is not inspect.Parameter.POSITIONAL_ONLY:
        return "by name"
    positional = [
        p
        for p in parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    return "second" if len(positional) >= 2 else None


def _callables(whole: Edit) -> list[Any]:
    nodes = jax.tree_util.tree_leaves(whole, is_leaf=lambda n: isinstance(n, Call))
    return [n.fn for n in nodes if isinstance(n, Call)]


def calls(whole: Edit) -> bool:
    """Whether an edit, or one inside it, is a callable."""
    return bool(_callables(whole))


def asks(whole: Edit) -> bool:
    """Whether an edit, or one inside it, takes a context."""
    return any(_takes_context(fn) for fn in _callables(whole))


def as_edit(what: Any) -> Edit:
    """An edit, or a callable as one.

    Raises:
      TypeError: it is neither.
    """
    if isinstance(what, Edit):
        return what
    if isinstance(what, jax.tree_util.Partial):
        return CallPartial(what)
    if callable(what):
        return Call(what)
    raise TypeError(
        f"expected an edit (aj.edits.add, replace, ...) or a function of the activation, got "
        f"{type(what).__name__}; to put a value in place use aj.edits.replace(value)"
    )


def checked(new: Any, old: Array, site: str) -> Array:
    """What an edit returned, if it has the shape and dtype of what it was given.

    Raises:
      SiteError: it has not, or is no array.
    """
    if new is None:
        raise SiteError(f"the edit of site {site!r} returned None: return the edited value")
    try:
        new = jnp.asarray(new)
    except (TypeError, ValueError) as e:
        raise SiteError(
            f"the edit of site {site!r} returned a {type(new).__name__}, expected an array"
        ) from e
    if new.shape != old.shape or new.dtype != old.dtype:
        raise SiteError(
            f"the edit of site {site!r} returned {new.dtype}{list(new.shape)}, expected "
            f"{old.dtype}{list(old.shape)}: an edit keeps shape and dtype"
        )
    return new
