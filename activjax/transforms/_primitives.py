"""`tag_primitives`: the results of chosen operations become sites, in code that has no tags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from activjax import program
from activjax.program import _compat
from activjax.transforms._names import SiteError, glob, nearest
from activjax.transforms._tag import tag_absolute


class _Tagging(program.Frame):
    """Names the results of the planned equations."""

    def edits(self, plan: program.Plan) -> bool:
        """Values stay: a derivative rule around them still holds."""
        return False

    def leaf(self, eqn: _compat.Equation, invals: list[Any], data: str) -> list[Any]:
        """Run the operation and tag what it returns."""
        outs = _compat.rebind(eqn, invals)
        many = len(outs) > 1
        return [tag_absolute(x, f"{data}/{i}" if many else data) for i, x in enumerate(outs)]


def tag_primitives(
    f: Callable[..., Any], primitive: str, *, scope: str = "**"
) -> Callable[..., Any]:
    """Name the results of every operation of one kind, such as every `dot_general` of an attention.

    Args:
      f: any function that JAX can trace; with `tag_modules` its operations lie in modules' paths.
      primitive: the operation's name in a jaxpr, such as "dot_general", "exp" or "reduce_max".
      scope: a glob over the paths where operations lie: of modules (`tag_modules`), of `aj.scope`s
        and, unlike names of tags, of every `jax.named_scope` outside modules.

    Returns:
      A function like `f` with the sites `<path>/<primitive>`, numbered where there are several.
      Axes added by `jax.vmap` inside `f` are the value's own. Name operations before
      differentiating.

    Raises:
      SiteError: there is no such operation in these scopes, or it cannot be reached.
    """
    if not isinstance(primitive, str) or not isinstance(scope, str):
        raise TypeError(f"tag_primitives: expected names, got {primitive!r}, scope={scope!r}")

    def tagged(*args: Any, **kwargs: Any) -> Any:
        traced = program.trace(f, *args, **kwargs)
        plan = _plan(traced, primitive, scope)
        flat = program.interpret(traced.closed, traced.arguments.arrays, plan, _Tagging())
        return traced.unflatten(flat)

    return tagged


def _plan(traced: program.Program, primitive: str, scope: str) -> program.Plan:
    plan, wanted = program.Plan(), glob(scope)
    elsewhere: Counter[str] = Counter()
    for _, place in program.walk(traced.closed, lambda eqn: eqn.primitive.name == primitive):
        path = program.scope_path(place.stack)
        if not wanted.fullmatch(path):
            elsewhere[path or "(no scope)"] += 1
            continue
        name = f"{path}/{primitive}" if path else primitive
        if place.blocked:
            raise SiteError(f"{name!r} cannot be reached: it is {place.blocked}")
        if place.copy:
            raise SiteError(
                f"{name!r} is computed a second time by jax.checkpoint for a gradient inside this "
                "function: name operations first and differentiate the result"
            )
        plan.add(place, name)
    if not plan:
        where = f"; it is in: {', '.join(elsewhere)}" if elsewhere else _others(traced, primitive)
        raise SiteError(f"no operation {primitive!r} in the scopes {scope!r}{where}")
    return plan


def _others(traced: program.Program, primitive: str) -> str:
    names: set[str] = set()

    def seen(eqn: _compat.Equation) -> bool:
        names.add(eqn.primitive.name)
        return False

    for _ in program.walk(traced.closed, seen):
        pass
    near = nearest(primitive, sorted(names))
    return f"; nearest: {', '.join(near)}" if near else f"; there are: {', '.join(sorted(names))}"
