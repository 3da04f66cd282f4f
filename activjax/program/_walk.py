"""Walk the equations of a program, into every operation that holds others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import jax
import jax.extend.core as jec

from activjax.program import _compat

# Markers that `aj.scope` and `aj.scan` leave in the name stack. Inner jaxprs carry stacks relative
# to the equation that holds them, so a scope survives JAX's caches of traced functions.
SCOPE = re.compile(r"aj\.scope\{([^{}]*)\}")
LOOP = re.compile(r"aj\.loop\{([^{}]*)\}")

#: Name of the loop that a shard_map is, over its shards.
SHARDS = "shards"

#: Kinds of control flow with one body, which `interpret` opens and rebuilds.
OPENED = frozenset({"jit", "call", "scan", "remat", "custom_jvp", "custom_vjp", "shard_map"})


@dataclass(frozen=True)
class LoopInfo:
    """A loop around an equation: its name and the number of its iterations (None: not known)."""

    name: str | None
    length: int | None


@dataclass(frozen=True)
class Place:
    """Where an equation stands: how to reach it, and what surrounds it.

    Attributes:
      path: indices of equations from the outermost jaxpr inwards; after that of a cond the number
        of the branch, after that of a while 0 for its condition and 1 for its body.
      scopes: names of the surrounding `aj.scope`s, outermost first.
      loops: surrounding loops, outermost first.
      conditional: whether it stands in a branch that may not run.
      in_rule: whether it stands in a function with a derivative rule of its own.
      blocked: why the equation cannot be reached by `interpret`, or None.
      stack: the name stacks of the equations around and of this one, joined by '/'.
      copy: whether it is evaluated a second time here, for a backward pass (`jax.checkpoint`).
    """

    path: tuple[int, ...] = ()
    scopes: tuple[str, ...] = ()
    loops: tuple[LoopInfo, ...] = ()
    conditional: bool = False
    in_rule: bool = False
    blocked: str | None = None
    copy: bool = False
    stack: str = ""


Interesting = Callable[[_compat.Equation], bool]


def walk(
    closed: _compat.ClosedJaxpr, interesting: Interesting
) -> Iterator[tuple[_compat.Equation, Place]]:
    """Yield every interesting equation with its place, in execution order.

    Those of the second evaluation of a rematerialised forward pass are marked as copies. Equations
    inside an operation that `interpret` cannot open are yielded with the reason.
    """
    yield from _walk(closed.jaxpr, interesting, Place(), {})


def _walk(
    jaxpr: _compat.Jaxpr, interesting: Interesting, place: Place, memo: dict[int, bool]
) -> Iterator[tuple[_compat.Equation, Place]]:
    for i, eqn in enumerate(jaxpr.eqns):
        found = interesting(eqn)
        inner = () if found else tuple(_compat.subprograms(eqn))
        if not found and not any(_holds(sub.jaxpr, interesting, memo) for sub in inner):
            continue
        here = place_of(place, i, eqn)
        if found:
            yield eqn, here
            continue
        for sub, within in bodies(eqn, here):
            yield from _walk(sub.jaxpr, interesting, within, memo)


def place_of(around: Place, i: int, eqn: _compat.Equation) -> Place:
    """The place of the i-th equation of the jaxpr that stands at `around`."""
    stack = _compat.name_stack(eqn)
    return replace(
        around,
        path=(*around.path, i),
        scopes=(*around.scopes, *SCOPE.findall(stack)),
        stack=f"{around.stack}/{stack}",
        copy=around.copy or _compat.is_recomputation(eqn),
    )


def loop_info(eqn: _compat.Equation) -> LoopInfo:
    """The loop that a scan or while equation is; a shard_map is one over its shards."""
    if _compat.kind(eqn) == "shard_map":
        return LoopInfo(SHARDS, _compat.shard_parts(eqn).shards)
    names = LOOP.findall(_compat.name_stack(eqn))
    length = _compat.scan_parts(eqn).length if _compat.kind(eqn) == "scan" else None
    return LoopInfo(names[-1] if names else None, length)


def bodies(eqn: _compat.Equation, here: Place) -> Iterator[tuple[_compat.ClosedJaxpr, Place]]:
    """Each program inside an equation, with its place."""
    kind = _compat.kind(eqn)
    if kind in OPENED:
        if kind in ("scan", "shard_map"):
            here = replace(here, loops=(*here.loops, loop_info(eqn)))
        if kind in ("custom_jvp", "custom_vjp"):
            here = replace(here, in_rule=True)
        yield _compat.body(eqn), here
    elif kind == "cond":
        for k, branch in enumerate(_compat.branches(eqn)):
            yield branch, replace(here, path=(*here.path, k), conditional=True)
    elif kind == "while":
        parts, loops = _compat.while_parts(eqn), (*here.loops, loop_info(eqn))
        reason = here.blocked or "the condition of a `while`, which decides when the loop ends"
        yield parts.cond, replace(here, path=(*here.path, 0), loops=loops, blocked=reason)
        yield parts.body, replace(here, path=(*here.path, 1), loops=loops)
    else:
        reason = f"inside `{eqn.primitive.name}`, which activjax does not open yet"
        for sub in _compat.subprograms(eqn):
            yield sub, replace(here, blocked=here.blocked or reason)


def carried(parts: _compat.WhileParts, interesting: Interesting) -> dict[tuple[int, ...], bool]:
    """Of each interesting equation in a while's body, by its path: does it depend on the carry?

    Asked of `jax.vmap` itself: with one more axis on the carry, values that depend on it grow.
    """
    body, consts = parts.body, parts.body_consts
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in body.in_avals]
    grown = [jax.ShapeDtypeStruct((1, *s.shape), s.dtype) for s in shapes[consts:]]
    axes = (*(None for _ in shapes[:consts]), *(0 for _ in grown))
    mapped = jax.vmap(jec.jaxpr_as_fun(body), in_axes=axes)
    after = walk(jax.make_jaxpr(mapped)(*shapes[:consts], *grown), interesting)
    out = {}
    for (eqn, place), (new, _) in zip(walk(body, interesting), after, strict=True):
        out[place.path] = _compat.shape(eqn.outvars[0]) != _compat.shape(new.outvars[0])
    return out


def _holds(jaxpr: _compat.Jaxpr, interesting: Interesting, memo: dict[int, bool]) -> bool:
    """Whether a jaxpr holds an interesting equation; remembered, since helpers are shared."""
    key = id(jaxpr)
    if key not in memo:
        memo[key] = any(
            interesting(eqn)
            or any(_holds(sub.jaxpr, interesting, memo) for sub in _compat.subprograms(eqn))
            for eqn in jaxpr.eqns
        )
    return memo[key]
