"""Run a program again, with rules at chosen equations and everything else as it was.

`interpret` follows a `Plan`: equations that it does not mention are bound again untouched;
equations that lead to a chosen one are opened and rebuilt (`_control`). A rule set is a `Frame`:
it says what a chosen equation does, and what travels beside the program's own values: into a
loop's iterations, and out of every region that only hands out what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import jax

from activjax.program import _compat
from activjax.program._walk import Interesting, LoopInfo, Place


@dataclass
class Plan:
    """Which equations of a jaxpr to treat: `leaves` get a rule, `inner` are opened.

    Attributes:
      leaves: data for the rule, by the index of the equation.
      inner: plans for the bodies of equations that lead to a leaf.
    """

    leaves: dict[int, Any] = field(default_factory=dict)
    inner: dict[int, Plan] = field(default_factory=dict)

    def add(self, place: Place, data: Any) -> None:
        """Put `data` for the rule at a place."""
        node = self
        for i in place.path[:-1]:
            node = node.inner.setdefault(i, Plan())
        node.leaves[place.path[-1]] = data

    def items(self) -> Iterable[tuple[tuple[int, ...], Any]]:
        """The path from here and the data of every leaf, in execution order."""
        for i in sorted({*self.leaves, *self.inner}):
            if i in self.leaves:
                yield (i,), self.leaves[i]
            else:
                yield from (((i, *path), data) for path, data in self.inner[i].items())

    def data(self) -> Iterable[Any]:
        """The data of every leaf here and below, in execution order."""
        return (data for _, data in self.items())

    def __bool__(self) -> bool:
        return bool(self.leaves or self.inner)


Carried = Callable[[Interesting], dict[tuple[int, ...], bool]]


class Loop:
    """What a frame sends through a rebuilt loop; this one sends nothing.

    Attributes:
      xs: arrays with a leading axis of the loop's length, one slice an iteration.
      carry: values carried from one iteration to the next.
    """

    xs: Any = None
    carry: Any = None

    def __init__(self, parent: Frame):
        self.parent = parent

    def enter(self, index: jax.Array, x: Any) -> Frame:
        """The frame of one iteration, from its traced index and its slice of `xs`."""
        del index, x
        return self.parent.child()

    def leave(self, index: jax.Array, carry: Any, frame: Frame) -> tuple[Any, Any]:
        """The carry after an iteration, and what it adds to the stacked outputs."""
        del index
        return carry, frame.side()

    def select(self, running: jax.Array, new: Any, old: Any, carried: Carried) -> Any:
        """The carry of a mapped `while`, where only the lanes in `running` go on.

        `carried(interesting)` tells of each interesting equation of the body, by its path there,
        whether it depends on the loop's carry, and so is mapped over every lane.
        """
        del running, old, carried
        return new

    def reach(self, length: int, reverse: bool) -> int:
        """How many iterations are needed where nobody uses the loop's own results."""
        del reverse
        return length

    def finish(self, carry: Any, ys: Any) -> None:
        """Hand the loop's results to the frame around it; `ys` is None after a `while`."""
        del carry
        self.parent.absorb(ys)


class Frame:
    """A rule set at one nesting level of the program. The base class changes nothing.

    Attributes:
      effects: whether effects (prints, callbacks) happen; not in a copy run beside the original.
    """

    effects: bool = True

    def leaf(self, eqn: _compat.Equation, invals: list[Any], data: Any) -> list[Any]:
        """What a chosen equation does. Returns one value for each of its outputs."""
        del data
        return _compat.rebind(eqn, invals)

    def edits(self, plan: Plan) -> bool:
        """Whether the rules at these leaves change values (so that a custom rule must give way)."""
        del plan
        return True

    def child(self, *, reading: bool = False) -> Frame:
        """The frame of an opened region; `reading` where only its side outputs will be used."""
        del reading
        return self

    def side(self) -> Any:
        """The values that must leave the region beside its outputs."""
        return None

    def absorb(self, side: Any) -> None:
        """Take in the side values of a region that was opened."""

    def branch(self, plans: dict[int, Plan], taken: int) -> tuple[Frame, Callable[[Frame], Any]]:
        """The frame of one branch, and what it hands out: the same structure in every branch.

        Args:
          plans: the plan of each branch that has one.
          taken: the number of this branch.
        """
        del plans, taken
        return self.child(), lambda frame: frame.side()

    def loop(self, plan: Plan, info: LoopInfo) -> Loop:
        """What to send through a loop whose body follows `plan`."""
        del plan, info
        return Loop(self)


def interpret(
    closed: _compat.ClosedJaxpr,
    args: Iterable[Any],
    plan: Plan,
    frame: Frame,
    *,
    outputs: bool = True,
) -> list[Any]:
    """Run a closed jaxpr under a plan.

    Args:
      closed: the program.
      args: one value for each input variable.
      plan: which equations to treat.
      frame: what to do there.
      outputs: whether the program's own outputs are wanted. Without them only what leads to the
        plan's leaves is run, and a loop no further than they need.

    Returns:
      One value for each output variable; None for each where they are not wanted.

    Raises:
      UnsupportedError: the plan leads into an operation that cannot be opened.
    """
    from activjax.program._control import rebuild  # the two call one another

    jaxpr = closed.jaxpr
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    last = _last_uses(jaxpr)
    none: frozenset[int] = frozenset()
    idle, dead = (none, none) if outputs else _unneeded(jaxpr, plan, frame.effects)

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, _compat.Literal) else env[atom]

    scope = _Scope()
    try:
        for i, eqn in enumerate(jaxpr.eqns):
            if i in idle:
                continue
            scope.set(eqn)
            invals = [read(v) for v in eqn.invars]
            with eqn.ctx.manager:  # x64 and the like, where the program sets them locally
                if i in plan.leaves:
                    outs = frame.leaf(eqn, invals, plan.leaves[i])
                elif i in plan.inner:
                    outs = rebuild(eqn, invals, plan.inner[i], frame, outputs=i not in dead)
                else:
                    outs = _compat.rebind(eqn, invals)
            env.update(zip(eqn.outvars, outs, strict=True))
            for v in last.get(i, ()):
                env.pop(v, None)
    finally:
        scope.close()
    return [read(v) if outputs else None for v in jaxpr.outvars]


def _unneeded(
    jaxpr: _compat.Jaxpr, plan: Plan, effects: bool
) -> tuple[frozenset[int], frozenset[int]]:
    """Equations that lead to no leaf of the plan, and opened ones whose outputs lead to none."""
    needed: set[Any] = set()
    idle, dead = set(), set()
    for i in range(len(jaxpr.eqns) - 1, -1, -1):
        eqn = jaxpr.eqns[i]
        used = any(v in needed for v in eqn.outvars)
        chosen = i in plan.leaves or i in plan.inner
        silent = not eqn.effects or (not effects and _compat.speaks(eqn))
        if not used and not chosen and silent:
            idle.add(i)
            continue
        if not used and silent:
            dead.add(i)
        needed.update(v for v in eqn.invars if not isinstance(v, _compat.Literal))
    return frozenset(idle), frozenset(dead)


class _Scope:
    """Keeps the name stack of the running equation, entered anew only when it changes."""

    def __init__(self) -> None:
        self._stack: Any = None
        self._context: Any = None

    def set(self, eqn: _compat.Equation) -> None:
        stack = eqn.source_info.name_stack
        if self._stack is not None and (stack is self._stack or stack == self._stack):
            return
        self.close()
        self._stack = stack
        if name := str(stack):
            self._context = jax.named_scope(name)
            self._context.__enter__()

    def close(self) -> None:
        if self._context is not None:
            self._context.__exit__(None, None, None)
        self._stack = self._context = None


def _last_uses(jaxpr: _compat.Jaxpr) -> dict[int, list[Any]]:
    """Variables that can be forgotten after each equation, so that eager runs free memory."""
    seen = {v for v in jaxpr.outvars if not isinstance(v, _compat.Literal)}
    out: dict[int, list[Any]] = {}
    for i in range(len(jaxpr.eqns) - 1, -1, -1):
        eqn = jaxpr.eqns[i]
        fresh = {
            v for v in (*eqn.invars, *eqn.outvars) if not isinstance(v, _compat.Literal)
        } - seen
        if fresh:
            out[i] = list(fresh)
            seen |= fresh
    return out
