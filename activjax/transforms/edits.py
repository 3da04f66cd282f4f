"""Edits: what to do to an activation. Each is a pytree whose leaves are its values.

Values may be traced, so sweeping vectors or strengths does not compile again, and `jax.grad` with
respect to them works. An edit sees one example (mapped axes are mapped over it), keeps the value's
shape and dtype, and works in its dtype. Any callable `fn(x)` or `fn(x, ctx)` is an edit too; bind
values to it with `jax.tree_util.Partial(fn, ...)` and they can be swept as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array

from activjax.transforms._context import Context as Context
from activjax.transforms._edit import (
    Each as Each,
    Edit as Edit,
    as_edit,
    as_value,
    checked,
    edit,
    like,
    static,
)
from activjax.transforms._names import SiteError
from activjax.transforms._projection import project

__all__ = [
    "Context",
    "Each",
    "Edit",
    "Value",
    "add",
    "chain",
    "clamp",
    "each",
    "patch_subspace",
    "project_out",
    "renorm",
    "replace",
    "scale",
    "top_k",
]

#: A number or an array, traced or not; or `each(...)` of one. None where a bound is left out.
Value: TypeAlias = Any


@edit
class Add(Edit):
    """See `add`."""

    like_site = ("value",)
    value: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """`x + value`."""
        return x + like(self.value, x, ctx)


@edit
class Replace(Edit):
    """See `replace`."""

    like_site = ("value",)
    value: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """`value`, broadcast."""
        return jnp.broadcast_to(like(self.value, x, ctx), x.shape)


@edit
class Scale(Edit):
    """See `scale`."""

    like_site = ("factor",)
    factor: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """`factor * x`."""
        return x * like(self.factor, x, ctx)


def _project(x: Array, rows: Any, ctx: Context) -> Array:
    x = _vectors(x, ctx, "a projection")
    rows = jnp.atleast_2d(jnp.asarray(rows))
    if rows.ndim != 2 or rows.shape[-1] != x.shape[-1]:
        raise SiteError(
            f"site {ctx.site!r} has {x.shape[-1]} features; directions have shape {rows.shape}, "
            "expected [d] or [r, d]"
        )
    if jnp.issubdtype(rows.dtype, jnp.complexfloating) and jnp.isrealobj(x):
        raise SiteError(f"site {ctx.site!r} holds {x.dtype}; the directions are {rows.dtype}")
    work = _at_least_32(x.dtype)
    return project(x.astype(work), rows.astype(work)).astype(x.dtype)


def _vectors(x: Array, ctx: Context, what: str) -> Array:
    if x.ndim == 0:
        raise SiteError(f"site {ctx.site!r} is a scalar; {what} needs a last axis")
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise SiteError(f"site {ctx.site!r} holds {x.dtype}; {what} needs floating-point values")
    return x


def _at_least_32(dtype: Any) -> Any:
    # No linear algebra in 16 bits, and their squares overflow.
    return dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)


@edit
class ProjectOut(Edit):
    """See `project_out`."""

    directions: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """`x` less its part in the span."""
        return x - _project(x, self.directions, ctx)


@edit
class PatchSubspace(Edit):
    """See `patch_subspace`."""

    like_site = ("source",)
    source: Any
    basis: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """`x` with its part in the span taken from the source."""
        return x + _project(like(self.source, x, ctx) - x, self.basis, ctx)


@edit
class Clamp(Edit):
    """See `clamp`."""

    low: Any
    high: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """`x` between the bounds."""
        if self.low is not None:
            x = jnp.maximum(x, like(self.low, x, ctx, saturate=True))
        if self.high is not None:
            x = jnp.minimum(x, like(self.high, x, ctx, saturate=True))
        return x


@edit
class TopK(Edit):
    """See `top_k`."""

    k: Any
    by: str = static(default="value")

    def apply(self, x: Array, ctx: Context) -> Array:
        """`x` where it is among the k largest of its last axis, 0 elsewhere."""
        if x.ndim == 0:
            raise SiteError(f"site {ctx.site!r} is a scalar; top_k needs a last axis")
        k = jnp.asarray(self.k)
        if not jnp.issubdtype(k.dtype, jnp.integer) or k.ndim:
            raise SiteError(f"site {ctx.site!r}: top_k needs one whole number, got {k.aval}")
        score = _magnitude(x) if self.by == "magnitude" else x
        order = jnp.argsort(score, axis=-1, descending=True, stable=True)
        rank = jnp.argsort(order, axis=-1)
        return jnp.where(rank < k.astype(rank.dtype), x, jnp.zeros_like(x))


def _magnitude(x: Array) -> Array:
    if jnp.issubdtype(x.dtype, jnp.signedinteger):
        # The magnitude of the least integer only fits an unsigned one.
        return jnp.abs(x).astype(jnp.dtype(f"uint{jnp.iinfo(x.dtype).bits}"))
    return jnp.abs(x)


@edit
class Renorm(Edit):
    """See `renorm`."""

    edit: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """The edited value at the norm of the original."""
        before, scale = _norm(_vectors(x, ctx, "renorm"))
        y = checked(self.edit.apply(x, ctx), x, ctx.site)
        after, new_scale = _norm(y)
        ratio = jnp.where(after > 0, before / jnp.where(after > 0, after, 1), 1)
        return (y.astype(ratio.dtype) / new_scale * ratio * scale).astype(y.dtype)


def _norm(x: Array) -> tuple[Array, Array]:
    """Norm of the last axis, kept, as a number near 1 and a constant scale.

    Its derivative at 0 is 0, not NaN.
    """
    x = x.astype(_at_least_32(x.dtype))
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True, initial=0))
    size = jnp.where(size > 0, size, 1)  # so that squares neither overflow nor vanish
    square = jnp.sum(jnp.abs(x / size) ** 2, axis=-1, keepdims=True)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0), size


@edit
class Chain(Edit):
    """See `chain`."""

    edits: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """Each edit in turn."""
        for one in self.edits:
            x = checked(one.apply(x, ctx), x, ctx.site)
        return x


def add(value: Value) -> Edit:
    """Add a vector. `value` broadcasts to one example's shape."""
    return Add(as_value(value, "add"))


def replace(value: Value) -> Edit:
    """Put a value in place. `value` broadcasts to one example's shape."""
    return Replace(as_value(value, "replace"))


def scale(factor: Value) -> Edit:
    """Multiply by a factor, which broadcasts to one example's shape."""
    return Scale(as_value(factor, "scale"))


def project_out(directions: Value) -> Edit:
    """Remove the part along directions, `[d]` or `[r, d]`, of any length; zero removes nothing."""
    return ProjectOut(as_value(directions, "project_out"))


def patch_subspace(source: Value, basis: Value) -> Edit:
    """Take the part in the span of `basis` (`[r, d]`, any rows) from `source`, keep the rest."""
    return PatchSubspace(as_value(source, "patch_subspace"), as_value(basis, "patch_subspace"))


def clamp(low: Value = None, high: Value = None) -> Edit:
    """Limit values from below, from above, or both."""
    bounds = (None if b is None else as_value(b, "clamp") for b in (low, high))
    return Clamp(*bounds)


def top_k(k: Value, *, by: str = "value") -> Edit:
    """Keep the `k` largest entries of the last axis and set the others to 0.

    Args:
      k: how many; may be traced. More than there are keeps all, 0 or fewer keeps none.
      by: "value" or "magnitude". Of equal entries the first are kept.
    """
    if by not in ("value", "magnitude"):
        raise ValueError(f"top_k: by={by!r}; expected 'value' or 'magnitude'")
    return TopK(as_value(k, "top_k"), by)


def renorm(edit: Edit | Callable[..., Any]) -> Edit:
    """Apply an edit, then scale the last axis back to the norm that it had."""
    return Renorm(as_edit(edit))


def chain(*edits: Edit | Callable[..., Any]) -> Edit:
    """Apply several edits in order."""
    return Chain(tuple(as_edit(e) for e in edits))


def each(value: Value) -> Each:
    """A value of its own for each loop iteration: one leading axis for each surrounding loop.

    With `select(layers=[...])` the axis has one entry for each chosen iteration instead.
    """
    return Each(as_value(value, "each"))
