"""`tag_modules`: every module's output becomes a site, in Flax Linen, Flax NNX and Equinox.

No class is patched: Linen has an interceptor for this, and modules of the other two are copied with
subclasses of their own in their classes' places.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import jax

from activjax.transforms._tag import tag

_PATH = "_activjax_path"


def tag_modules(module: Any) -> Any:
    """Name the output of every module in a network by the module's path.

    Args:
      module: a Flax Linen module, a Flax NNX module or an Equinox module. It is not changed.

    Returns:
      For Linen a function like `module.apply`, `(variables, *args, **kwargs) -> out`. For NNX and
      Equinox a copy of the module with the same parameters. The sites are the paths of modules,
      such as "blocks/0/mlp" (Linen: "Dense_0"), and "output" for the module itself; an output of
      several arrays gets a site for each. A module that is called twice is numbered.

    Raises:
      TypeError: it is a module of none of the three.
    """
    for name, adapt in (("flax.linen", _linen), ("flax.nnx", _nnx), ("equinox", _equinox)):
        library = sys.modules.get(name)  # a module of a library is only there if that is imported
        if library is not None and isinstance(module, library.Module):
            return adapt(module)
    raise TypeError(
        f"tag_modules: {type(module).__name__} is no module of Flax Linen, Flax NNX or Equinox; "
        "name values of a plain function with aj.tag"
    )


def _tagged(call: Callable[..., Any], path: str, *args: Any, **kwargs: Any) -> Any:
    # Only arrays are tagged; None, flags and other objects pass.
    with jax.named_scope(f"aj.module{{{path}}}"):  # for `tag_primitives`
        out = call(*args, **kwargs)
    name = path or "output"
    leaves, treedef = jax.tree_util.tree_flatten_with_path(out)
    new = []
    for place, leaf in leaves:
        if isinstance(leaf, jax.Array):
            key = jax.tree_util.keystr(place, simple=True, separator="/")
            leaf = tag(leaf, f"{name}/{key}" if key else name)
        new.append(leaf)
    return jax.tree_util.tree_unflatten(treedef, new)


def _linen(module: Any) -> Callable[..., Any]:
    from flax import linen

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        return _tagged(call, "/".join(context.module.path), *args, **kwargs)

    def apply(*args: Any, **kwargs: Any) -> Any:
        with linen.intercept_methods(intercept):
            return module.apply(*args, **kwargs)

    return apply


@functools.cache
def _subclass(cls: Any) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _tagged(cls.__call__, getattr(self, _PATH), self, *args, **kwargs)

    return type(cls)(cls.__name__, (cls,), {"__call__": call, "__module__": cls.__module__})


def _nnx(module: Any) -> Any:
    from flax import nnx

    copy = nnx.clone(module)
    for path, node in nnx.iter_graph(copy):
        if isinstance(node, nnx.Module) and callable(node):
            setattr(node, _PATH, "/".join(map(str, path)))
            node.__class__ = _subclass(type(node))
    return copy


@functools.cache
def _equinox_subclass(cls: Any) -> type:
    import equinox

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _tagged(cls.__call__, getattr(self, _PATH), self, *args, **kwargs)

    body = {
        "__call__": call,
        "__module__": cls.__module__,
        "__annotations__": {_PATH: str},
        _PATH: equinox.field(static=True, default=""),
    }
    return type(cls)(cls.__name__, (cls,), body)


def _equinox(module: Any, path: tuple[str, ...] = ()) -> Any:
    import equinox

    def inside(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, equinox.Module):
            return _equinox(value, path)
        if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
            return type(value)(inside(v, (*path, str(i))) for i, v in enumerate(value))
        if type(value) is dict:
            return {k: inside(v, (*path, str(k))) for k, v in value.items()}
        return value

    runs = callable(module)
    copy = object.__new__(_equinox_subclass(type(module)) if runs else type(module))
    for field in dataclasses.fields(type(module)):
        if hasattr(module, field.name):
            value = getattr(module, field.name)
            object.__setattr__(copy, field.name, inside(value, (*path, field.name)))
    if runs:
        object.__setattr__(copy, _PATH, "/".join(path))
    return copy
