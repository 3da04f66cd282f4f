"""`tag`: a name for a value; `scope` and `scan`: names for what surrounds it.

A tag is an identity primitive. It lowers to nothing, differentiates and batches as the identity,
and has no effect, so dead tags vanish: a program in which nobody asks for its tags compiles to the
program without them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.extend.core as jec
from jax.interpreters import ad, batching, mlir

from activjax import program

T = TypeVar("T")

tag_p = jec.Primitive("activ_tag")
program.register_identity(tag_p.name)
tag_p.def_impl(lambda x, **_: x)
tag_p.def_abstract_eval(lambda x, **_: x)
mlir.register_lowering(tag_p, lambda ctx, x, **_: [x])
ad.primitive_jvps[tag_p] = lambda p, t, **params: (tag_p.bind(*p, **params), t[0])
ad.primitive_transposes[tag_p] = lambda ct, x, **_: [ct]


def _batch(
    axis: Any, args: Any, dims: Any, *, batch_dims: Any, batch_names: Any, **rest: Any
) -> Any:
    # Remember where the mapped axes are and what they are called, outermost first; move nothing.
    (x,), (d,) = args, dims
    if d is None:
        return tag_p.bind(x, batch_dims=batch_dims, batch_names=batch_names, **rest), None
    moved = (d, *(b + (b >= d) for b in batch_dims))
    name = None if type(axis.name) is object else axis.name  # an object stands for "no name"
    return tag_p.bind(x, batch_dims=moved, batch_names=(name, *batch_names), **rest), d


batching.fancy_primitive_batchers[tag_p] = _batch

_ALLOWED = re.compile(r"[^\s*?#\[\]{}()/]+(/[^\s*?#\[\]{}()/]+)*")


def check_name(name: str, what: str) -> str:
    """Return `name` if it can be part of a site's name, else raise ValueError."""
    if not isinstance(name, str) or not _ALLOWED.fullmatch(name):
        raise ValueError(
            f"{what} {name!r} is not a name: expected segments joined by '/', without blanks and "
            "without any of * ? # [ ] { } ( ), such as 'mlp/post'"
        )
    return name


def tag(x: T, name: str, *, axes: str | Sequence[str] | None = None) -> T:
    """Name a value, so that transforms can read and edit it. Use the result, not `x`.

    Args:
      x: an array, or a pytree of arrays (leaf `x["a"][0]` of a tag "q" is the site "q/a/0").
      name: a '/'-path, such as "mlp/post". Surrounding `scope`s are put before it.
      axes: names of the axes of one example, such as "batch seq d"; mapped axes are not named.

    Returns:
      `x`, unchanged; it costs nothing until a transform asks for it.

    Raises:
      ValueError: the name is not a path, or the axes are not as many as the value's or two have
        one name.
      TypeError: a leaf is no array.
    """
    check_name(name, "tag")
    if isinstance(axes, str):
        axes = axes.split()
    leaves, treedef = jax.tree_util.tree_flatten_with_path(x)
    out = []
    for path, leaf in leaves:
        key = jax.tree_util.keystr(path, simple=True, separator="/")
        full = f"{name}/{key}" if key else name
        try:
            value = jax.numpy.asarray(leaf)
        except (TypeError, ValueError) as e:
            raise TypeError(
                f"tag {full!r}: expected an array or a pytree of arrays, got {leaf!r}"
            ) from e
        if axes is not None and len(axes) != value.ndim:
            raise ValueError(
                f"tag {full!r}: {len(axes)} axes named ({' '.join(axes)}) but the value has shape "
                f"{value.shape}; name every axis of one example"
            )
        names = None if axes is None else tuple(axes)
        if names and len(set(names)) < len(names):
            raise ValueError(f"tag {full!r}: two axes have one name in {' '.join(names)!r}")
        out.append(tag_p.bind(value, name=full, axes=names, batch_dims=(), batch_names=()))
    return jax.tree_util.tree_unflatten(treedef, out)


def tag_absolute(x: jax.Array, name: str) -> jax.Array:
    """Name one array by its whole path, whatever the scopes around."""
    return tag_p.bind(x, name="/" + name, axes=None, batch_dims=(), batch_names=())


@contextlib.contextmanager
def scope(name: str) -> Iterator[None]:
    """Put `name/` before the names of the tags made inside.

    The scope is kept in the traced program itself (a marked `jax.named_scope`), so a jitted
    function called in two scopes has two sets of names. `jax.named_scope` alone names nothing.
    """
    check_name(name, "scope")
    with jax.named_scope(f"aj.scope{{{name}}}"):
        yield


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    *,
    name: str,
    **kwargs: Any,
) -> tuple[Any, Any]:
    """`jax.lax.scan` whose loop has a name, for `select(loops={name: index})`.

    Args:
      f: the body, `(carry, x) -> (carry, y)`.
      init: the initial carry.
      xs: what is scanned over.
      length: number of iterations where `xs` is None.
      name: the loop's name, such as "layers" or "steps".
      **kwargs: passed on to `jax.lax.scan`.

    Returns:
      `(carry, ys)`.
    """
    if check_name(name, "loop") == program.SHARDS:
        raise ValueError(f"loop {name!r}: this name is kept for the shards of a shard_map")
    with jax.named_scope(f"aj.loop{{{name}}}"):
        return jax.lax.scan(f, init, xs, length, **kwargs)
