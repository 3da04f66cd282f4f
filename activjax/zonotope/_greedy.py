"""Greedy descent over adjacent vertices, all restarts in one program."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from activjax.zonotope._facets import bounding
from activjax.zonotope._interior import Solution, interior_point
from activjax.zonotope._program import Program

_FACETS = 512  # margins sought at a time

NO_BETTER, UNDECIDED, PERFECT, STEPS, UNSOLVED = range(5)


class Task(NamedTuple):
    """A data set and where its searches start.

    Attributes:
        features, facets, targets, penalty: as in `Program`; a facet for each of c lines.
        of: `[n]`, the line of each example; `sign`: `[n]`, 1 or -1 against it, 0 for zero rows.
        signs: `[k, m]`, output signs of each restart.
        sides: `[k, m, c]`, 1 or -1, the starts.
        gain: what an objective must fall by to count as lower.
    """

    features: Float[Any, "n r"]
    facets: Float[Any, "c r"]
    targets: Float[Any, "n"]
    penalty: Float[Any, "r r"]
    of: Int[Any, "n"]
    sign: Float[Any, "n"]
    signs: Float[Any, "k m"]
    sides: Float[Any, "k m c"]
    gain: Float[Any, ""]


class Descent(NamedTuple):
    """The state of all restarts; leading axes k.

    Attributes:
        sides: `[m, c]`, where each is.
        found: the solution there.
        facets: `[m, c]`, the lines across which there is another cone.
        stale: `[m]`, units whose facets are not known.
        running: whether it goes on.
        reason: why it does not.
        step: how many steps were tried; one number.
        objectives: `[capacity + 1]`, NaN after the last.
        flips: `[capacity, 2]`, the unit and the line of each step; -1 after the last.
        programs: convex programs solved or cut short.
        undecided: neighbours in the last step of which it stayed open whether they are lower.
    """

    sides: Any
    found: Solution
    facets: Bool[Any, "k m c"]
    stale: Bool[Any, "k m"]
    running: Bool[Any, "k"]
    reason: Int[Any, "k"]
    step: Int[Any, ""]
    objectives: Any
    flips: Any
    programs: Int[Any, "k"]
    undecided: Int[Any, "k"]


@partial(jax.jit, static_argnames=("loss", "capacity", "lanes"))
def descend(
    task: Task, max_steps: Array | int, full: Array | bool, *, loss: str, capacity: int, lanes: int
) -> Descent:
    """Runs all restarts until none goes on.

    Each step solves the programs of all neighbours that are vertices, those of all restarts
    together, `lanes` at a time; a program is cut short once its lower bound shows that it cannot be
    the step. The start is solved as the one neighbour of a restart in its first step.

    Args:
        task: see there.
        max_steps: most steps of a restart, at most `capacity`.
        full: whether neighbours are all adjacent patterns, or those across tight constraints.
        loss: of the program.
        capacity: steps that there is room for.
        lanes: programs at a time.
    """
    k, m, c = task.sides.shape
    n, r = task.features.shape
    start = Descent(
        task.sides,
        Solution(
            weights=jnp.zeros((k, m, r)),
            slack=jnp.zeros((k, m, c)),
            multipliers=jnp.zeros((k, m, c)),
            dual=jnp.zeros((k, n)),
            objective=jnp.full(k, jnp.inf),
            bound=jnp.zeros(k),
            feasible=jnp.zeros(k, bool),
            steps=jnp.zeros(k, jnp.int32),
        ),
        facets=jnp.zeros((k, m, c), bool),
        stale=jnp.ones((k, m), bool),
        running=jnp.ones(k, bool),
        reason=jnp.full(k, STEPS, jnp.int32),
        step=jnp.int32(0),
        objectives=jnp.full((k, capacity + 1), jnp.nan),
        flips=jnp.full((k, capacity, 2), -1, jnp.int32),
        programs=jnp.zeros(k, jnp.int32),
        undecided=jnp.zeros(k, jnp.int32),
    )
    step = partial(_step, task, full, loss, lanes)
    return jax.lax.while_loop(lambda t: jnp.any(t.running) & (t.step <= max_steps), step, start)


def _step(task: Task, full: Array | bool, loss: str, lanes: int, t: Descent) -> Descent:
    k, m, c = t.sides.shape
    first = t.step == 0
    # Not before the start is solved: it may have a loss of 0.
    facets = jax.lax.cond(first, lambda: t.facets, lambda: _refreshed(task, t))
    multipliers, slack = t.found.multipliers, t.found.slack
    wanted = facets & (full | (multipliers > slack))
    # In the first step one neighbour: the start itself.
    only = jnp.arange(m * c) == 0
    wanted = jnp.where(first, only, wanted.reshape(k, m * c)) & t.running[:, None]
    threshold = jnp.minimum(t.found.bound, t.found.objective - task.gain)
    threshold = jnp.where(first, jnp.inf, threshold)

    # The wanted ones first, so that only as many chunks run as there are.
    order = jnp.argsort(~wanted.reshape(-1), stable=True)
    order = jnp.pad(order, (0, -order.shape[0] % lanes))
    count = jnp.sum(wanted, dtype=jnp.int32)

    def chunk(carry: tuple) -> tuple:
        at, best, flip, open_ = carry
        lane = jax.lax.dynamic_slice(order, (at,), (lanes,))
        valid = at + jnp.arange(lanes, dtype=jnp.int32) < count
        restart, unit, line = lane // (m * c), lane % (m * c) // c, lane % c
        here = jnp.arange(m)[:, None] == unit[:, None, None]
        here = here & (jnp.arange(c) == line[:, None, None]) & ~first
        sides = jnp.where(here, -1.0, jnp.ones(())) * t.sides[restart]
        limit = threshold[restart]
        cutoff = jnp.where(valid, jnp.minimum(limit, best.objective[restart]), -jnp.inf)
        found = _solve(task, loss, sides, task.signs[restart], cutoff)

        lower = valid & found.feasible & (found.objective < limit)
        missed = valid & ~lower & (found.bound < limit - task.gain)
        mine = restart == jnp.arange(k)[:, None]  # [k, lanes]
        value = jnp.where(mine & lower, found.objective, jnp.inf)
        winner = jnp.argmin(value, axis=1)
        better = jnp.min(value, axis=1) < best.objective
        best = _where(better, jax.tree.map(lambda leaf: leaf[winner], found), best)
        flip = jnp.where(better, lane[winner] % (m * c), flip)
        return at + lanes, best, flip, open_ + jnp.sum(mine & missed, axis=1, dtype=jnp.int32)

    none = t.found._replace(objective=jnp.full(k, jnp.inf))
    carry = (jnp.int32(0), none, jnp.zeros(k, order.dtype), jnp.zeros(k, jnp.int32))
    _, best, flip, undecided = jax.lax.while_loop(lambda a: a[0] < count, chunk, carry)

    moved = t.running & jnp.isfinite(best.objective)
    found = _where(moved, best, t.found)
    unit, line = flip // c, flip % c
    here = (jnp.arange(m)[:, None] == unit[:, None, None]) & (jnp.arange(c) == line[:, None, None])
    here = here & (moved & ~first)[:, None, None]
    pair = jnp.stack([unit, line], axis=1).astype(jnp.int32)
    flips = t.flips.at[:, t.step - 1].set(
        jnp.where((moved & ~first)[:, None], pair, t.flips[:, t.step - 1])
    )
    written = jnp.where(moved, found.objective, jnp.nan)
    objectives = t.objectives.at[:, t.step].set(
        jnp.where(t.running, written, t.objectives[:, t.step])
    )
    perfect = found.objective <= task.gain
    stuck = jnp.where(undecided > 0, UNDECIDED, NO_BETTER)
    stuck = jnp.where(first, UNSOLVED, stuck)
    reason = jnp.where(moved, jnp.where(perfect, PERFECT, STEPS), stuck).astype(jnp.int32)
    return Descent(
        jnp.where(here, -t.sides, t.sides),
        found,
        facets,
        (t.stale & first) | jnp.any(here, axis=2),
        moved & ~perfect,
        jnp.where(t.running, reason, t.reason),
        t.step + 1,
        objectives,
        flips,
        t.programs + jnp.sum(wanted, axis=1, dtype=jnp.int32),
        jnp.where(t.running, undecided, t.undecided),
    )


def _refreshed(task: Task, t: Descent) -> Bool[Array, "k m c"]:
    """The facets, those of stale units found anew, some units at a time."""
    k, m, c = t.sides.shape
    units = max(1, min(k * m, _FACETS // c))
    stale = (t.stale & t.running[:, None]).reshape(-1)
    order = jnp.argsort(~stale, stable=True)
    order = jnp.pad(order, (0, -order.shape[0] % units), constant_values=k * m)
    sides = t.sides.reshape(-1, c)

    def chunk(carry: tuple) -> tuple:
        at, facets = carry
        unit = jax.lax.dynamic_slice(order, (at,), (units,))
        new = jax.vmap(bounding, in_axes=(None, 0))(
            task.facets, sides[jnp.minimum(unit, k * m - 1)]
        )
        return at + units, facets.at[unit].set(new, mode="drop")

    count = jnp.sum(stale, dtype=jnp.int32)
    start = (jnp.int32(0), t.facets.reshape(-1, c))
    return jax.lax.while_loop(lambda a: a[0] < count, chunk, start)[1].reshape(k, m, c)


def _solve(task: Task, loss: str, sides: Array, signs: Array, cutoff: Array) -> Solution:
    active = sides[:, :, task.of] * task.sign > 0
    gates = jnp.where(active, signs[..., None], 0.0)
    p = Program(
        task.features,
        task.facets,
        sides,
        gates,
        task.targets,
        task.penalty,
        loss,  # type: ignore[arg-type]
    )
    axes = Program(None, None, 0, 0, None, None, loss)  # type: ignore[arg-type]
    return jax.vmap(interior_point, in_axes=(axes, 0))(p, cutoff)


def _where(which: Array, new: Solution, old: Solution) -> Solution:
    def pick(a: Array, b: Array) -> Array:
        return jnp.where(which.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)
