"""One batch of the search: bound, refute, look for a counterexample, choose where to split."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from activjax.verify.bounds._ascent import ascend
from activjax.verify.bounds._layers import Layers, layers
from activjax.verify.bounds._passes import Backward, backward, magnitudes
from activjax.verify.bounds._relax import lines
from activjax.verify.bounds._tape import Node, Tape
from activjax.verify.search._spec import Boxes, Rows, Spec

#: A side of the box counts with at least this share of the steepest.
FLOOR = 0.1


class Visit(NamedTuple):
    """What became of a batch of boxes.

    Attributes:
      refuted: `[n]`, none of its inputs is unsafe.
      linear: `[n]`, not refuted, and no unit is undecided: a linear program decides.
      split: `[n]`, the input to cut, or `inputs +` the unit to decide.
      at: `[n]`, where to cut.
      units_low, units_high: `[n, units]`.
      points: `[n, k, inputs]`, inputs that were tried.
      values: `[n, k]`, at most 0 where a point is unsafe.
    """

    refuted: Any
    linear: Any
    split: Any
    at: Any
    units_low: Any
    units_high: Any
    points: Any
    values: Any


def evaluate(tape: Tape, x: Any) -> tuple[Any, Any]:
    """Outputs `[n, outputs]` and operands of rectifiers `[n, units]` at inputs `[n, inputs]`."""
    values: dict[Node, Any] = {tape.input: x.reshape(-1, *tape.input.shape)}
    operands = [jnp.zeros((len(x), 0), x.dtype)]
    for node in tape.nodes:
        if node.kind == "relu":
            z = values[node.operands[0]]
            operands.append(z.reshape(len(x), -1))
            values[node] = jnp.maximum(z, 0)
        elif node.kind == "linear":
            parts = [values[p] for p in node.operands]
            value = jax.vmap(node.linear)(*parts) if parts else jnp.zeros((len(x), *node.shape))  # pyright: ignore
            values[node] = value if node.constant is None else value + node.constant
    outs = [
        values[o] if isinstance(o, Node) else jnp.broadcast_to(o, (len(x), *jnp.shape(o)))
        for o in tape.outputs
    ]
    flat = [o.reshape(len(x), -1).astype(x.dtype) for o in outs]
    return jnp.concatenate(flat, 1), jnp.concatenate(operands, 1)


def worst(rows: Rows, outputs: Any) -> Any:
    """`[n]`: at most 0 where outputs `[n, outputs]` are unsafe, the distance to it elsewhere."""
    over = jnp.matmul(outputs, rows.weights.T, precision="highest") - rows.bounds
    clause = jnp.max(jnp.where(rows.member, over[:, None], -jnp.inf), -1)
    clause = jnp.where(jnp.any(rows.member, -1), clause, -1.0)  # without rows: always
    return jnp.min(clause, -1)


def against(signs: Any, operands: Any) -> Any:
    """`[n]`: at most 0 where operands `[n, units]` have the signs asked for, strictly if 1."""
    # The smallest positive number is not 0: a unit that must be active may not be at 0.
    tiny = jnp.finfo(operands.dtype).tiny
    short = jnp.where(signs > 0, tiny - operands, jnp.where(signs < 0, operands, -jnp.inf))
    return jnp.max(short, -1, initial=-jnp.inf)


def visit(spec: Spec, tape: Tape, out: Node, rows: Rows, assumed: Any, boxes: Boxes) -> Visit:
    """Bounds boxes and says how to go on.

    Args:
      spec: sizes.
      tape: the network.
      out: its outputs, one node.
      rows: what is to be refuted.
      assumed: `[units]` signs that inputs must have to count.
      boxes: `[n, ...]`.
    """
    low, high, signs = boxes.low, boxes.high, boxes.signs
    known = boxes.units_low, boxes.units_high
    found = layers(tape, low, high, signs=signs, known=known, focus=spec.focus)
    through = found.through
    size = magnitudes(tape, out, through)
    sizes = {**through, **found.sizes, out: size}
    weights = jnp.asarray(rows.weights)
    result = backward(tape, out, weights, (low, high), found.lines(tape), sizes)
    over = result.low - rows.bounds
    if spec.steps:
        over = jnp.maximum(over, _raised(spec, tape, out, boxes, rows, found, sizes))
    over = jnp.where(jnp.isnan(over), -jnp.inf, over)
    clause = jnp.max(jnp.where(rows.member, over[:, None], -jnp.inf), -1)
    refuted = jnp.all(clause > 0, -1) | found.empty
    points, values = _tried(tape, rows, assumed, result, low, high)
    open_ = (found.low < 0) & (found.high > 0)
    undecided = jnp.sum(open_, 1)
    # Of each clause that is not refuted yet, the row that is nearest to being so.
    easiest = jnp.where(rows.member, over[:, None], -jnp.inf) >= clause[..., None]
    matters = jnp.any(easiest & rows.member & (clause <= 0)[..., None], 1)
    cut, at, can = _cut(result, rows, clause, low, high)
    unit = _unit(tape, found, result, matters, open_)
    decide = (~can) | (undecided <= spec.few) if spec.cuts else undecided > 0
    split = jnp.where(decide, spec.inputs + unit, cut)
    # Neither can be cut nor decided: the program is linear here.
    linear = ~refuted & (undecided == 0)
    return Visit(refuted, linear, split, at, found.low, found.high, points, values)


def _cut(result: Backward, rows: Rows, clause: Any, low: Any, high: Any) -> tuple[Any, Any, Any]:
    """The input to cut, where, and whether it can be."""
    matters = jnp.any(rows.member & (clause <= 0)[..., None], 1)
    steep = jnp.max(jnp.where(matters[..., None], jnp.abs(result.slopes), 0), 1)
    middle = 0.5 * low + 0.5 * high
    can = (low < middle) & (middle < high)
    width = jnp.where(can, high - low, 0)
    steepest = jnp.max(jnp.where(can, steep, 0), 1, keepdims=True)
    score = jnp.where(can, (steep + FLOOR * steepest + jnp.finfo(low.dtype).tiny) * width, -1.0)
    cut = jnp.argmax(score, 1).astype(jnp.int32)
    at = jnp.take_along_axis(middle, cut[:, None], 1)[:, 0]
    return cut, at, jnp.any(can, 1)


def _unit(tape: Tape, found: Layers, result: Backward, matters: Any, open_: Any) -> Any:
    """The undecided unit whose chord costs the bounds most."""
    scores = [jnp.zeros((len(open_), 0), found.low.dtype)]
    for node, where in tape.slices.items():
        made = lines(found.low[:, where], found.high[:, where])
        if node in result.reached:
            cost = jnp.maximum(-result.reached[node], 0) * made.intercept[:, None]
            # slope 0 or 1 below costs up to the same triangle
            gap = jnp.minimum(-found.low[:, where], found.high[:, where])
            cost = cost + 0.5 * jnp.maximum(result.reached[node], 0) * gap[:, None]
            cost = jnp.sum(jnp.where(matters[..., None], cost, 0), 1)
        else:
            cost = jnp.zeros_like(made.intercept)
        scores.append(cost)
    # An undecided unit that costs nothing still comes before those that are decided.
    score = jnp.concatenate(scores, 1)
    if not score.shape[1]:
        return jnp.zeros(len(open_), jnp.int32)
    return jnp.argmax(jnp.where(open_, score + 1e-30, -1.0), 1).astype(jnp.int32)


def _tried(
    tape: Tape, rows: Rows, assumed: Any, result: Backward, low: Any, high: Any
) -> tuple[Any, Any]:
    """The middle of each box and the corners where the linear bounds are least, evaluated."""
    corners = jnp.where(result.slopes > 0, low[:, None], high[:, None])
    middle = (0.5 * low + 0.5 * high)[:, None]
    points = jnp.concatenate([middle, corners], 1)
    flat = points.reshape(-1, points.shape[-1])
    outputs, operands = evaluate(tape, flat)
    value = jnp.maximum(worst(rows, outputs), against(assumed, operands))
    return points, value.reshape(points.shape[:2])


def _raised(
    spec: Spec, tape: Tape, out: Node, boxes: Boxes, rows: Rows, found: Layers, sizes: Any
) -> Any:
    """Bounds of the rows with optimised slopes, and multipliers of the signs decided."""
    many, dtype = rows.weights.shape[0], boxes.low.dtype
    weights = jnp.asarray(rows.weights)
    signs = boxes.signs.astype(dtype)

    def value(variables: Any) -> Any:
        slopes, multipliers = variables
        made = {
            n: lines(found.low[:, s], found.high[:, s], slopes[..., s])
            for n, s in tape.slices.items()
        }
        pushed = {n: -(signs[:, None, s] * multipliers[..., s]) for n, s in tape.slices.items()}
        box = boxes.low, boxes.high
        return backward(tape, out, weights, box, made, sizes, pushed).low - rows.bounds

    shape = (len(signs), many, spec.units)
    slopes = jnp.broadcast_to((found.high > -found.low).astype(dtype)[:, None], shape)

    def project(variables: Any) -> Any:
        slopes, multipliers = variables
        return jnp.clip(slopes, 0, 1), jnp.maximum(multipliers, 0)

    best, _ = ascend(value, (slopes, jnp.zeros(shape, dtype)), project, spec.steps, 0.25)
    return best
