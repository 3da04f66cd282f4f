"""Edits: what to do to an activation. Each is a pytree whose leaves are its values.

Values may be traced, so sweeping vectors or strengths does not compile again, and `jax.grad` with
respect to them works. An edit sees one example (mapped axes are mapped over it), keeps the value's
shape and dtype, and works in its dtype. Any callable `fn(x)` or `fn(x, ctx)` is an edit too.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array

from activjax.transforms._names import SiteError

#: A number or an array, traced or not; or `each(...)` of one. None where a bound is left out.
Value: TypeAlias = Any


@dataclass(frozen=True)
class Context:
    """What a callable edit may ask about the place it edits.

    Attributes:
      site: the site's name.
      loops: the traced index of each surrounding loop, by name.
      axes: names of the value's axes, or None.
      base_key: the key given to `intervene`, folded by site and loop, or None.
      seen: values of the sites met before, for `read`.
    """

    site: str
    loops: dict[str, Array]
    axes: tuple[str, ...] | None
    base_key: Array | None
    seen: dict[str, Array]

    def read(self, name: str) -> Array:
        """The value, in this example and iteration, of a site met before here or in a body around.

        Raises:
          SiteError: no such site stands before this one, or it is mapped over other axes.
        """
        if name not in self.seen:
            raise SiteError(
                f"site {self.site!r}: ctx.read({name!r}) finds no such site before it in the same "
                f"body; there are: {', '.join(sorted(self.seen)) or 'none'}"
            )
        return self.seen[name]

    @property
    def key(self) -> Array:
        """A random key of this site and iteration.

        Raises:
          SiteError: `intervene` was given no key.
        """
        if self.base_key is None:
            raise SiteError(
                f"site {self.site!r}: the edit asks for ctx.key; give one: intervene(..., key=key)"
            )
        return self.base_key


class Edit:
    """Base of the edits. A subclass is a frozen dataclass with `apply`, registered by `_edit`."""

    #: Fields whose value has the site's own shape, and may have its mapped axes in front.
    like_site: ClassVar[tuple[str, ...]] = ()

    def apply(self, x: Array, ctx: Context) -> Array:
        """The edited value of one example."""
        raise NotImplementedError


def _edit(cls: type) -> type:
    cls = dataclass(frozen=True, eq=False)(cls)
    meta = [f.name for f in dataclasses.fields(cls) if f.metadata.get("static")]
    data = [f.name for f in dataclasses.fields(cls) if f.name not in meta]
    return jax.tree_util.register_dataclass(cls, data, meta)


def _static(default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"static": True})


def _like(value: Any, x: Array, ctx: Context) -> Array:
    """`value` in the dtype of `x`, checked to broadcast to its shape."""
    value = jnp.asarray(value)
    if jnp.issubdtype(value.dtype, jnp.inexact) and not jnp.issubdtype(x.dtype, jnp.inexact):
        raise SiteError(
            f"site {ctx.site!r} holds {x.dtype}; the edit's value is {value.dtype}: give integers"
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
    return value.astype(x.dtype)


@_edit
class Each:
    """A value with one leading axis for each surrounding loop; see `each`."""

    value: Any


@_edit
class Add(Edit):
    """See `add`."""

    like_site = ("value",)
    value: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """`x + value`."""
        return x + _like(self.value, x, ctx)


@_edit
class Replace(Edit):
    """See `replace`."""

    like_site = ("value",)
    value: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """`value`, broadcast."""
        return jnp.broadcast_to(_like(self.value, x, ctx), x.shape)


@_edit
class Scale(Edit):
    """See `scale`."""

    like_site = ("factor",)
    factor: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """`factor * x`."""
        return x * _like(self.factor, x, ctx)


def _orthonormal(directions: Any, x: Array, ctx: Context) -> Array:
    # [r, d] rows spanning the same space, orthonormal; rank-deficient rows are dropped to zero.
    u = jnp.atleast_2d(jnp.asarray(directions))
    if u.ndim != 2 or u.shape[-1] != x.shape[-1]:
        raise SiteError(
            f"site {ctx.site!r} has {x.shape[-1]} features; directions have shape {u.shape}, "
            "expected [d] or [r, d]"
        )
    work = x.dtype if x.dtype.itemsize >= 4 else jnp.float32  # no linear algebra in 16 bits
    u = u.astype(work)
    if u.shape[0] == 1:
        norm = jnp.linalg.norm(u)
        return jnp.where(norm > 0, u / jnp.where(norm > 0, norm, 1), 0)
    _, s, vh = jnp.linalg.svd(u, full_matrices=False)
    floor = jnp.finfo(work).eps * max(u.shape) * s[:1]
    return jnp.where((s > floor)[:, None], vh, 0)


def _project(x: Array, basis: Array) -> Array:
    work = x.astype(basis.dtype)
    inner = jnp.matmul(work, basis.T, precision="highest")
    return jnp.matmul(inner, basis, precision="highest")


@_edit
class ProjectOut(Edit):
    """See `project_out`."""

    directions: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """`x` less its part in the span."""
        basis = _orthonormal(self.directions, x, ctx)
        return x - _project(x, basis).astype(x.dtype)


@_edit
class PatchSubspace(Edit):
    """See `patch_subspace`."""

    like_site = ("source",)
    source: Any
    basis: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """`x` with its part in the span taken from the source."""
        basis = _orthonormal(self.basis, x, ctx)
        return x + _project(_like(self.source, x, ctx) - x, basis).astype(x.dtype)


@_edit
class Clamp(Edit):
    """See `clamp`."""

    low: Any
    high: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """`x` between the bounds."""
        if self.low is not None:
            x = jnp.maximum(x, _like(self.low, x, ctx))
        if self.high is not None:
            x = jnp.minimum(x, _like(self.high, x, ctx))
        return x


@_edit
class TopK(Edit):
    """See `top_k`."""

    k: Any
    by: str = _static("value")

    def apply(self, x: Array, ctx: Context) -> Array:
        """`x` where it is among the k largest of its last axis, 0 elsewhere."""
        if x.ndim == 0:
            raise SiteError(f"site {ctx.site!r} is a scalar; top_k needs a last axis")
        score = jnp.abs(x) if self.by == "magnitude" else x
        order = jnp.argsort(score, axis=-1, descending=True, stable=True)
        rank = jnp.argsort(order, axis=-1)
        return jnp.where(rank < jnp.asarray(self.k), x, jnp.zeros_like(x))


@_edit
class Renorm(Edit):
    """See `renorm`."""

    edit: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """The edited value at the norm of the original."""
        y = apply(self.edit, x, ctx)
        before = jnp.linalg.norm(x, axis=-1, keepdims=True)
        after = jnp.linalg.norm(y, axis=-1, keepdims=True)
        ratio = jnp.where(after > 0, before / jnp.where(after > 0, after, 1), 1)
        return y * ratio.astype(y.dtype)


@_edit
class Chain(Edit):
    """See `chain`."""

    edits: Any

    def apply(self, x: Array, ctx: Context) -> Array:
        """Each edit in turn."""
        for edit in self.edits:
            x = apply(edit, x, ctx)
        return x


@_edit
class Call(Edit):
    """A callable as an edit."""

    fn: Callable[..., Any] = dataclasses.field(metadata={"static": True})

    def apply(self, x: Array, ctx: Context) -> Array:
        """`fn(x)`, or `fn(x, ctx)` where it takes two arguments."""
        return self.fn(x, ctx) if _takes_context(self.fn) else self.fn(x)


def _takes_context(fn: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [
        p
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    return len(positional) >= 2


def asks(edit: Edit) -> bool:
    """Whether an edit, or one inside it, takes a context."""
    nodes = jax.tree_util.tree_leaves(edit, is_leaf=lambda n: isinstance(n, Call))
    return any(isinstance(n, Call) and _takes_context(n.fn) for n in nodes)


def as_edit(edit: Any) -> Edit:
    """An edit, or a callable as one.

    Raises:
      TypeError: it is neither.
    """
    if isinstance(edit, Edit):
        return edit
    if callable(edit):
        return Call(edit)
    raise TypeError(
        f"expected an edit (aj.edits.add, replace, ...) or a function of the activation, got "
        f"{type(edit).__name__}; to put a value in place use aj.edits.replace(value)"
    )


def apply(edit: Any, x: Array, ctx: Context) -> Array:
    """Apply an edit or a callable to one example's value."""
    return as_edit(edit).apply(x, ctx)


def add(value: Value) -> Edit:
    """Add a vector. `value` broadcasts to one example's shape."""
    return Add(value)


def replace(value: Value) -> Edit:
    """Put a value in place. `value` broadcasts to one example's shape."""
    return Replace(value)


def scale(factor: Value) -> Edit:
    """Multiply by a factor, which broadcasts to one example's shape."""
    return Scale(factor)


def project_out(directions: Value) -> Edit:
    """Remove the part along directions, `[d]` or `[r, d]`, of any length; zero removes nothing."""
    return ProjectOut(directions)


def patch_subspace(source: Value, basis: Value) -> Edit:
    """Take the part in the span of `basis` (`[r, d]`, any rows) from `source`, keep the rest."""
    return PatchSubspace(source, basis)


def clamp(low: Value = None, high: Value = None) -> Edit:
    """Limit values from below, from above, or both."""
    return Clamp(low, high)


def top_k(k: Value, *, by: str = "value") -> Edit:
    """Keep the `k` largest entries of the last axis and set the others to 0.

    Args:
      k: how many; may be traced. More than there are keeps all, 0 or fewer keeps none.
      by: "value" or "magnitude". Of equal entries the first are kept.
    """
    if by not in ("value", "magnitude"):
        raise ValueError(f"top_k: by={by!r}; expected 'value' or 'magnitude'")
    return TopK(k, by)


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
    return Each(value)
