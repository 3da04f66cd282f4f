"""`intervene`: a function with edits made to its activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from activjax import program
from activjax.transforms._call import through
from activjax.transforms._plan import normalise_edits, plan_writes, run
from activjax.transforms._selectors import Selector
from activjax.transforms._sites import discover


def intervene(
    f: Callable[..., Any],
    edits: Mapping[str, Any] | Sequence[tuple[str | Selector, Any]],
    *,
    key: jax.Array | None = None,
) -> Callable[..., Any]:
    """Edit activations of a function.

    Everything downstream of an edited value sees the edit, and derivatives are those of the edited
    function. The values of edits are traced: sweeping them does not compile again.

    Args:
      f: any function that JAX can trace, with tagged values.
      edits: `{glob: edit}`, or `[(glob or selector, edit), ...]` applied in order. An edit is one
        of `aj.edits`, or a callable `fn(x)` or `fn(x, ctx)` of one example's value. Where `f` is
        jitted, a callable too is traced once and then taken from jit's cache: bind what changes
        with `jax.tree_util.Partial(fn, value)`, and define it once rather than at each call.
      key: a typed random key, for edits that use `ctx.key`.

    Returns:
      A function like `f`. `{}` leaves the program as it was.

    Raises:
      SiteError: a pattern names no site or one that cannot be reached; two entries of a mapping
        hit one site; an edit changes shape or dtype.
      TypeError: `edits` is not of the form above, or `key` is no typed key.
    """
    pairs, mapping = normalise_edits(edits)
    if key is not None:
        _check_key(key)
    if not pairs:
        return f
    return through(f, ("intervene", mapping), (pairs, key), _BODY[mapping])


def _check_key(key: Any) -> None:
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed or key.shape:
        got = key.aval if isinstance(key, jax.Array) else type(key).__name__
        raise TypeError(
            f"key: expected one typed random key, jax.random.key(0), got {got}; for a key of each "
            "example use jax.vmap over a function of the key"
        )


def _intervene(f: Any, spec: Any, args: Any, kwargs: Any, mapping: bool) -> Any:
    pairs, key = spec
    traced = program.trace(f, *args, **kwargs)
    table = discover(traced)
    out, _ = run(traced, table, {}, plan_writes(table, pairs, mapping), key)
    return out


def _from_mapping(f: Any, spec: Any, args: Any, kwargs: Any) -> Any:
    return _intervene(f, spec, args, kwargs, True)


def _from_list(f: Any, spec: Any, args: Any, kwargs: Any) -> Any:
    return _intervene(f, spec, args, kwargs, False)


_BODY = {True: _from_mapping, False: _from_list}
