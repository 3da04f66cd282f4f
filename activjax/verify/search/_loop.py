"""The search on the device: one `while_loop` over batches of boxes."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from activjax.verify.search._spec import Boxes, Rows, Spec
from activjax.verify.search._visit import Visit, visit

#: Batches that a log holds; the host reads it before it is full.
BATCHES = 256
#: What became of a box: its inputs are safe, or a linear program decides. Else it was split.
REFUTED, LINEAR = -1, -2


class Log(NamedTuple):
    """What became of the boxes visited.

    Attributes:
      number: of the part in the tree.
      split: `REFUTED`, `LINEAR`, the input that was cut, or `inputs +` the unit decided.
      at: where it was cut.
      child: the number of its first child, where `x <= at`, or `z < 0`; the other is the next.
    """

    number: Any
    split: Any
    at: Any
    child: Any


class Queue(NamedTuple):
    """Boxes in which the network is linear.

    Attributes:
      boxes: `[batch]` of them at most.
      count: how many.
    """

    boxes: Boxes
    count: Any


class State(NamedTuple):
    """The state of a search.

    Attributes:
      boxes: the frontier, `[capacity]`, a stack.
      top: how many of them are in use.
      numbers: how many parts have a number.
      log: of the batches since the host looked.
      logged: how many rows of it are in use.
      batches: since the host looked.
      queue: boxes for the host.
      best: the value of the best point tried, at most 0 where it is unsafe, and the point.
    """

    boxes: Boxes
    top: Any
    numbers: Any
    log: Log
    logged: Any
    batches: Any
    queue: Queue
    best: tuple[Any, Any]


def begin(spec: Spec) -> State:
    """An empty search."""
    rows = (BATCHES + 1) * spec.batch

    def boxes(n: int) -> Boxes:
        return Boxes(
            np.zeros((n, spec.inputs), np.float32),
            np.zeros((n, spec.inputs), np.float32),
            np.zeros((n, spec.units), np.int8),
            np.zeros((n, spec.units), np.float32),
            np.zeros((n, spec.units), np.float32),
            np.zeros(n, np.int32),
        )

    log = Log(*(np.zeros(rows, t) for t in (np.int32, np.int32, np.float32, np.int32)))
    zero = np.int32(0)
    best = np.float32(np.inf), np.zeros(spec.inputs, np.float32)
    queue = Queue(boxes(2 * spec.batch), zero)
    return jax.device_put(
        State(boxes(spec.capacity), zero, np.int32(1), log, zero, zero, queue, best)
    )


@partial(jax.jit, static_argnums=0, donate_argnums=5)
def advance(
    spec: Spec, params: Any, rows: Rows, assumed: Any, limits: tuple[Any, Any], state: State
) -> State:
    """Goes on for some batches.

    Args:
      spec: sizes; one compilation for each, and for each number of rows.
      params: of the network.
      rows: what is to be refuted.
      assumed: `[units]` signs of every input that counts.
      limits: how many batches at most, and the value at or below which a point ends the search.
      state: where it stands; its buffers are used again.
    """
    batches, found = limits

    def going(state: State) -> Any:
        fits = (state.top + spec.batch <= spec.capacity) & (
            state.queue.count + spec.batch <= 2 * spec.batch
        )
        busy = (state.top > 0) & (state.batches < batches) & (state.best[0] > found)
        return busy & fits

    def step(state: State) -> State:
        tape = spec.tape(params)
        out = tape.output(jnp.float32)
        start = jnp.maximum(state.top - spec.batch, 0)
        taken = jax.tree.map(
            lambda a: jax.lax.dynamic_slice_in_dim(a, start, spec.batch), state.boxes
        )
        real = start + jnp.arange(spec.batch, dtype=jnp.int32) < state.top
        seen = visit(spec, tape, out, rows, assumed, taken)
        return _after(spec, state, start, taken, real, seen)

    return jax.lax.while_loop(going, step, state)


def _after(spec: Spec, state: State, start: Any, taken: Boxes, real: Any, seen: Visit) -> State:
    n = spec.batch
    divided = real & ~seen.refuted & ~seen.linear
    waiting = real & seen.linear
    rank = jnp.cumsum(divided, dtype=jnp.int32) - 1
    child = jnp.where(divided, state.numbers + 2 * rank, 0).astype(jnp.int32)
    # Those that were split come first, so that their children lie side by side.
    order = jnp.argsort(~divided, stable=True)
    split = jnp.where(seen.refuted, REFUTED, jnp.where(seen.linear, LINEAR, seen.split))
    entry = Log(taken.number, split.astype(jnp.int32), seen.at, child)
    # Places past `top` are not real; a stable order puts the real ones first.
    first = jnp.argsort(~real, stable=True)
    log = jax.tree.map(
        lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b[first], state.logged, 0),
        state.log, entry,
    )  # fmt: skip
    made = _children(spec, taken, seen, child)
    both = jax.tree.map(lambda a: a[:, order].reshape(2 * n, *a.shape[2:]), made)
    count = jnp.sum(divided, dtype=jnp.int32)
    # The first children, then the second ones: written one after the other.
    boxes = state.boxes
    for i in (0, 1):
        boxes = jax.tree.map(
            lambda a, b, i=i: jax.lax.dynamic_update_slice_in_dim(
                a, b[i * n : (i + 1) * n], start + i * count, 0
            ),
            boxes, both,
        )  # fmt: skip
    line = jnp.argsort(~waiting, stable=True)
    kept = taken._replace(units_low=seen.units_low, units_high=seen.units_high)
    queue = Queue(
        jax.tree.map(
            lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b[line], state.queue.count, 0),
            state.queue.boxes, kept,
        ),
        state.queue.count + jnp.sum(waiting, dtype=jnp.int32),
    )  # fmt: skip
    values = jnp.where(real[:, None] & ~jnp.isnan(seen.values), seen.values, jnp.inf)
    at = jnp.argmin(values)
    value, point = values.reshape(-1)[at], seen.points.reshape(-1, spec.inputs)[at]
    better = value < state.best[0]
    best = jnp.where(better, value, state.best[0]), jnp.where(better, point, state.best[1])
    return State(
        boxes,
        (start + 2 * count).astype(jnp.int32),
        state.numbers + 2 * count,
        log,
        state.logged + jnp.sum(real, dtype=jnp.int32),
        state.batches + 1,
        queue,
        best,
    )


def _children(spec: Spec, taken: Boxes, seen: Visit, child: Any) -> Boxes:
    """`[2, n, ...]`: where `x <= at` or `z < 0`, and the rest."""
    n = spec.batch
    input_ = jax.nn.one_hot(seen.split, spec.inputs, dtype=bool)
    unit = jax.nn.one_hot(seen.split - spec.inputs, spec.units, dtype=bool)
    at = jnp.broadcast_to(seen.at[:, None], (n, spec.inputs))
    high = jnp.where(input_, at, taken.high)
    low = jnp.where(input_, at, taken.low)
    down = jnp.where(unit, jnp.int8(-1), taken.signs)
    up = jnp.where(unit, jnp.int8(1), taken.signs)

    def twice(a: Any) -> Any:
        return jnp.broadcast_to(a, (2, *a.shape))

    return Boxes(
        jnp.stack([taken.low, low]),
        jnp.stack([high, taken.high]),
        jnp.stack([down, up]),
        twice(seen.units_low),
        twice(seen.units_high),
        jnp.stack([child, child + 1]),
    )
