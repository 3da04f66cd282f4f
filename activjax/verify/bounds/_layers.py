"""Bounds of every rectifier's operand, layer by layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from activjax.verify.bounds._passes import (
    backward,
    identity,
    interval,
    magnitudes,
)
from activjax.verify.bounds._relax import Lines, lines
from activjax.verify.bounds._tape import Node, Tape


class Layers(NamedTuple):
    """What is known of a batch of boxes.

    Attributes:
      low, high: `[boxes, units]` bounds of the operands of all rectifiers.
      empty: `[boxes]`, true where no input of the box has the signs asked for.
      sizes: magnitudes of all up to the operand of the last rectifier, for the margins.
      intervals: of the input and of the outputs of rectifiers.
    """

    low: Any
    high: Any
    empty: Any
    sizes: dict[Node, Any]
    intervals: dict[Node, tuple[Any, Any]]

    @property
    def through(self) -> dict[Node, Any]:
        """Magnitudes of the input and of what rectifiers hand on, `[boxes, size]`."""
        return {
            n: self.sizes[n] if n.kind == "input" else high
            for n, (_, high) in self.intervals.items()
            if n.kind != "linear"
        }

    def lines(self, tape: Tape) -> dict[Node, Lines]:
        """The lines of all rectifiers."""
        return {n: lines(self.low[:, s], self.high[:, s]) for n, s in tape.slices.items()}


def layers(
    tape: Tape,
    low: Any,
    high: Any,
    *,
    method: str = "crown",
    signs: Any = None,
    known: tuple[Any, Any] | None = None,
    focus: int | None = None,
) -> Layers:
    """Bounds of the operands of all rectifiers over boxes.

    Args:
      tape: the tape.
      low, high: `[boxes, inputs]`.
      method: "ibp", interval arithmetic; "crown", linear bounds back to the input.
      signs: `[boxes, units]`, 1 where the operand is at least 0, -1 where it is at most 0, 0 where
        nothing is asked.
      known: bounds that hold already, `[boxes, units]`; the result is within them.
      focus: of "crown" with `known`, how many undecided operands of each rectifier are bounded
        anew, those with the widest triangles; by default all.
    """
    dtype = low.dtype
    # Sides below the smallest normal number may be taken for 0.
    tiny = float(jnp.finfo(dtype).tiny)
    source = {tape.input: jnp.maximum(jnp.abs(low), jnp.abs(high)) + tiny}
    sizes, through = dict(source), dict(source)
    made: dict[Node, Lines] = {}
    intervals: dict[Node, tuple[Any, Any]] = {tape.input: (low - tiny, high + tiny)}
    empty = jnp.zeros(len(low), bool)
    lows, highs = [], []
    for node, where in tape.slices.items():
        (z,) = node.operands
        size = magnitudes(tape, z, through)
        sizes = {**through, **sizes, z: size}
        if method == "crown":
            old = None if known is None else (known[0][:, where], known[1][:, where])
            if old is not None and focus is not None and focus < z.size:
                sign = None if signs is None else signs[:, where]
                a, b = _focused(tape, z, low, high, made, sizes, old, sign, focus)
            else:
                a, b = _both_ways(tape, z, low, high, made, sizes)
        else:
            a, b = reach(tape, z, intervals, dtype)
        if known is not None:
            a, b = jnp.maximum(a, known[0][:, where]), jnp.minimum(b, known[1][:, where])
        if signs is not None:
            sign = signs[:, where]
            a = jnp.where(sign > 0, jnp.maximum(a, 0), a)
            b = jnp.where(sign < 0, jnp.minimum(b, 0), b)
        empty = empty | jnp.any(a > b, 1)
        # Crossed bounds mean nothing further on, but must stay finite.
        a, b = jnp.minimum(a, b), jnp.maximum(a, b)
        sizes[z] = jnp.maximum(sizes[z], jnp.maximum(jnp.abs(a), jnp.abs(b)))
        made[node] = lines(a, b)
        intervals[node] = jnp.maximum(a, 0), jnp.maximum(b, 0)
        through[node] = intervals[node][1]
        lows.append(a)
        highs.append(b)
    none = jnp.zeros((len(low), 0), dtype)
    return Layers(
        jnp.concatenate([none, *lows], 1), jnp.concatenate([none, *highs], 1), empty, sizes,
        intervals,
    )  # fmt: skip


def _both_ways(
    tape: Tape, z: Node, low: Any, high: Any, made: dict[Node, Lines], sizes: dict[Node, Any]
) -> tuple[Any, Any]:
    found = backward(tape, z, identity(z.size, low.dtype), (low, high), made, sizes).low
    return found[:, : z.size], -found[:, z.size :]


def _focused(
    tape: Tape, z: Node, low: Any, high: Any, made: dict[Node, Lines], sizes: dict[Node, Any],
    old: tuple[Any, Any], sign: Any, focus: int,
) -> tuple[Any, Any]:  # fmt: skip
    a, b = old
    if sign is not None:
        a, b = jnp.where(sign > 0, jnp.maximum(a, 0), a), jnp.where(sign < 0, jnp.minimum(b, 0), b)
    area = jnp.where((a < 0) & (b > 0), jnp.minimum(-a, b), -1.0)
    _, which = jax.lax.top_k(area, focus)
    pick = jnp.concatenate([which, which + z.size], 1)
    eye = identity(z.size, low.dtype)
    found = backward(tape, z, eye, (low, high), made, sizes, None, pick).low
    rows = jnp.arange(len(low))[:, None]
    a = old[0].at[rows, which].max(found[:, :focus])
    b = old[1].at[rows, which].min(-found[:, focus:])
    return a, b


def reach(
    tape: Tape, node: Node, intervals: dict[Node, tuple[Any, Any]], dtype: Any
) -> tuple[Any, Any]:
    """The interval of a node; intervals of the linear ones on the way are added."""
    if node not in intervals:
        for operand in node.operands:
            reach(tape, operand, intervals, dtype)
        intervals[node] = interval(node, intervals, dtype)
    return intervals[node]
