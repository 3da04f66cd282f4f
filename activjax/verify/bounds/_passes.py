"""Passes over a tape, for a batch of boxes: intervals forward, linear bounds backward."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from activjax.verify.bounds._relax import Lines
from activjax.verify.bounds._rounding import SLACK, gamma
from activjax.verify.bounds._tape import Node, Tape, below


class Backward(NamedTuple):
    """What a backward pass finds.

    Attributes:
      low: `[boxes, rows]`, at most the objective anywhere in the box, rounding included.
      slopes: `[boxes, rows, inputs]`, of the linear function of the input below the objective.
      reached: by rectifier, the coefficients of its outputs `[boxes, rows, units]`.
    """

    low: Any
    slopes: Any
    reached: dict[Node, Any]


def middle(low: Any, high: Any) -> tuple[Any, Any]:
    """The middle and the half width of intervals, rounded outward: `[mid - rad, mid + rad]`."""
    eps = jnp.finfo(low.dtype).eps
    mid = 0.5 * low + 0.5 * high
    rad = jnp.maximum(high - mid, mid - low)
    size = jnp.maximum(jnp.abs(low), jnp.abs(high))
    return mid, rad + eps * size + jnp.finfo(low.dtype).tiny


def magnitudes(tape: Tape, node: Node, known: dict[Node, Any]) -> Any:
    """`[boxes, size]`, at least `|L| |w| + |k|` of a node in terms of the rectifiers below it.

    A little is added, without which constants that are flushed to 0 would not count (`_rounding`).

    Args:
      tape: the tape.
      node: any node.
      known: of the input and of the rectifiers below; values of further nodes are added.
    """
    under = below([node])
    for at in tape.nodes[: tape.number[node] + 1]:
        if at.kind == "linear" and at not in known and at in under:
            parts = [known[x].reshape(-1, *x.shape) for x in at.operands]
            value: Any = jnp.zeros((1, *at.shape))
            if at.absolute is not None and parts:
                value = jax.vmap(at.absolute)(*parts)
            if at.constant is not None:
                value = value + jnp.abs(at.constant)
            value = value.reshape(len(value), -1)
            info = jnp.finfo(value.dtype)
            largest = sum(jnp.max(known[x], -1, keepdims=True, initial=0) for x in at.operands)
            known[at] = value + (at.terms + 2) * float(info.tiny / info.eps) * (1 + largest)
    return known[node]


def interval(node: Node, known: dict[Node, tuple[Any, Any]], dtype: Any) -> tuple[Any, Any]:
    """The interval `[boxes, size]` of a linear node from those of its operands."""
    parts = [middle(*known[x]) for x in node.operands]
    mids = [m.reshape(-1, *x.shape) for (m, _), x in zip(parts, node.operands, strict=True)]
    rads = [r.reshape(-1, *x.shape) for (_, r), x in zip(parts, node.operands, strict=True)]
    mid, rad = jax.vmap(node.linear)(*mids), jax.vmap(node.absolute)(*rads)  # pyright: ignore
    size = jax.vmap(node.absolute)(*map(jnp.abs, mids))  # pyright: ignore
    if node.constant is not None:
        mid, size = mid + node.constant, size + jnp.abs(node.constant)
    lost = SLACK * gamma(node.terms + 4, dtype) * (size + rad)
    # What is flushed to 0: a product, a constant, or at the end the bound itself.
    largest = [jnp.max(jnp.abs(m) + r, tuple(range(1, m.ndim)), keepdims=True, initial=0)
               for m, r in zip(mids, rads, strict=True)]  # fmt: skip
    flushed = 1 + sum(x.reshape(-1, *[1] * len(node.shape)) for x in largest)
    rad = rad + lost + (2 * node.terms + 4) * jnp.finfo(dtype).tiny * flushed
    eps = jnp.finfo(dtype).eps
    # `mid - rad` itself is rounded.
    out = eps * (jnp.abs(mid) + rad)
    return (mid - rad - out).reshape(len(mid), -1), (mid + rad + out).reshape(len(mid), -1)


def backward(
    tape: Tape,
    start: Node,
    rows: Any,
    box: tuple[Any, Any],
    lines: dict[Node, Lines],
    sizes: dict[Node, Any],
    pushed: dict[Node, Any] | None = None,
    pick: Any = None,
) -> Backward:
    """Lower bounds of `rows @ start` over boxes (CROWN).

    Args:
      tape: the tape.
      start: the node that the objective is made of.
      rows: `[rows, size]`, or `[boxes, rows, size]`.
      box: `(low, high)`, `[boxes, inputs]`.
      lines: of every rectifier below `start`, flattened.
      sizes: magnitudes `[boxes, size]` of `start` and of all that is below it.
      pushed: by rectifier, what is added to the coefficients of its operand: minus the multipliers
        of `z >= 0`, plus those of `z <= 0`, `[boxes, rows, units]`; each of these is at least 0.
      pick: `[boxes, k]`, the rows that each box asks for; by default all. What the rows have in
        common down to the next rectifiers is computed once for all boxes.
    """
    low, high = box
    dtype, boxes = low.dtype, low.shape[0]
    many = rows.shape[-2] if pick is None else pick.shape[1]

    def own(values: Any) -> Any:
        """From `[rows]`, `[1, rows]` or `[boxes, rows]` what each box asks for."""
        if pick is None or not jnp.ndim(values):
            return values
        whole = jnp.broadcast_to(values, (boxes, values.shape[-1]))
        return jnp.take_along_axis(whole, pick, 1)

    ct: dict[Node, Any] = {start: rows.reshape(*rows.shape[:-1], *start.shape)}
    # Of all rows, and of those that each box asks for.
    common: Any = jnp.zeros((), dtype)
    offset: Any = jnp.zeros((), dtype)
    lost = own(_gamma(tape, start, 4, dtype) * _dot(jnp.abs(rows), sizes[start]))
    reached = {}
    flushed = 0
    for node in reversed(tape.nodes[: tape.number[start] + 1]):
        if node is tape.input or node not in ct:
            continue
        a = ct.pop(node)
        lead = a.shape[: a.ndim - len(node.shape)]
        flat = a.reshape(*lead, node.size)
        if node.kind == "relu":
            z = node.operands[0]
            below_, above, intercept = lines[node]
            flat = flat if flat.ndim == 3 else flat[None] if pick is None else flat[pick]
            below_ = below_ if below_.ndim == 3 else below_[:, None]
            up = flat > 0
            reached[node] = flat
            through = flat * jnp.where(up, below_, above[:, None])
            fall = _dot(jnp.where(up, 0.0, flat), intercept)
            offset = offset + fall
            weight = jnp.abs(through)
            if pushed is not None and node in pushed:
                through, weight = through + pushed[node], weight + jnp.abs(pushed[node])
            terms = _gamma(tape, z, node.size + 6, dtype)
            # No summand of `fall` is above 0; a chord may be so flat that its slope is flushed.
            lost = lost + terms * (_dot(weight, sizes[z]) + jnp.abs(fall))
            _add(ct, z, through.reshape(boxes, many, *z.shape), pick)
            continue
        flushed += node.size * node.terms
        if node.constant is not None:
            added = jnp.matmul(flat, node.constant.reshape(-1), precision="highest")
            if flat.ndim == 2:
                common = common + added
            else:
                offset = offset + added
        if not node.operands:
            continue
        parts = node.transpose(a.reshape(-1, *node.shape))
        for operand, part in zip(node.operands, parts, strict=True):
            _add(ct, operand, part.reshape(*lead, *operand.shape), pick)
    if tape.input in ct:
        a = ct[tape.input]
        a = a.reshape(*a.shape[: a.ndim - len(tape.input.shape)], tape.input.size)
        mid, rad = middle(low, high)
        reach = _dot(a, mid) - _dot(jnp.abs(a), rad)
        extent = jnp.maximum(jnp.abs(low), jnp.abs(high)) + rad
        terms = gamma(2 * tape.input.size + len(tape.relus) + 8, dtype)
        gone = terms * _dot(jnp.abs(a), extent)
        if a.ndim == 2:
            reach, gone = own(reach), own(gone)
            a = a[None] if pick is None else a[pick]
        lost = lost + gone
        slopes = jnp.broadcast_to(a, (boxes, many, tape.input.size))
    else:
        reach = jnp.zeros((), dtype)
        slopes = jnp.zeros((boxes, many, tape.input.size), dtype)
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    most = 1 + sum(jnp.max(s, -1, keepdims=True, initial=0) for s in sizes.values())
    offset = offset + own(common)
    total = reach + offset
    lost = SLACK * lost + (len(tape.relus) + 4) * eps * (jnp.abs(reach) + jnp.abs(offset))
    # Three more than the products: the bound may be flushed as well, here and where it is used.
    lost = lost + tiny * (flushed + 3) * most
    bound = jnp.broadcast_to(total - lost, (boxes, many))
    bound = jnp.where(jnp.isnan(bound), -jnp.inf, bound)
    return Backward(bound, slopes, reached)


def _gamma(tape: Tape, node: Node, more: int, dtype: Any) -> float:
    return gamma(tape.segment_terms[node] + tape.additions + more, dtype)


def _dot(a: Any, x: Any) -> Any:
    """`[boxes, rows]` from `[rows, n]` or `[boxes, rows, n]` and `[boxes, n]`."""
    if a.ndim == 2:
        return jnp.matmul(x, a.T, precision="highest")
    return jnp.einsum("brn,bn->br", jnp.broadcast_to(a, (len(x), *a.shape[1:])), x,
                      precision="highest")  # fmt: skip


def _add(ct: dict[Node, Any], node: Node, part: Any, pick: Any) -> None:
    if node not in ct:
        ct[node] = part
        return
    have = ct[node]
    if have.ndim < part.ndim:
        have = have[None] if pick is None else have[pick]
    elif part.ndim < have.ndim:
        part = part[None] if pick is None else part[pick]
    ct[node] = have + part


def identity(n: int, dtype: Any) -> Any:
    """Rows that ask for a node's elements and for what is opposite to them, `[2 n, n]`."""
    eye = np.eye(n, dtype=dtype)
    return jnp.asarray(np.concatenate([eye, -eye]))
