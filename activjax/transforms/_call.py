"""Calling a transformed function: plain functions directly, jitted ones compiled once.

A plain function is traced again on every eager call, so it never goes stale. A function that its
user jitted is held to jit's own contract: the transformed one is compiled once for each signature.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import jax

from activjax import program
from activjax.transforms._ordered import thaw

_LIMIT = 128  # compiled variants kept for one function
_compiled: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def through(
    f: Callable[..., Any], kind: Any, spec: Any, body: Callable[..., Any]
) -> Callable[..., Any]:
    """The function `(*args, **kwargs) -> body(f, spec, args, kwargs)`.

    Args:
      f: the function being transformed.
      kind: a hashable that tells this transform and its static options from others.
      spec: selectors and edits, a pytree: its arrays are traced, the rest is static.
      body: the transform itself; dicts that it freezes keep their order.
    """
    if not isinstance(f, jax.stages.Wrapped):

        def direct(*args: Any, **kwargs: Any) -> Any:
            return thaw(body(f, spec, args, kwargs))

        return direct

    def compiled(*args: Any, **kwargs: Any) -> Any:
        split = program.split_arguments((spec, args, kwargs), {})
        # 1, 1.0 and True are equal, and so are 0.0 and -0.0: type and text tell them apart.
        exact = tuple((type(leaf), repr(leaf)) for _, leaf in split.static)
        key = (kind, split.treedef, split.static, exact)
        try:
            variants = _compiled.setdefault(f, {})
            run = variants.get(key)
        except TypeError:  # a static argument cannot be hashed: nothing to look up
            return thaw(body(f, spec, args, kwargs))
        if run is None:
            run = jax.jit(_runner(weakref.ref(f), split, body))
            variants[key] = run
            if len(variants) > _LIMIT:
                del variants[next(iter(variants))]
        return thaw(run(split.arrays))

    return compiled


def _runner(
    ref: weakref.ref[Any], split: program.Arguments, body: Callable[..., Any]
) -> Callable[[Any], Any]:
    # Holds neither the function (the cache would keep it alive) nor the first call's arrays.
    skeleton = split.without_arrays()

    def run(arrays: Any) -> Any:
        (spec, args, kwargs), _ = skeleton.merge(arrays)
        return body(ref(), spec, args, kwargs)

    return run
