"""Parts of the input in which the network is linear: a linear program decides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from activjax.fit import linear_program
from activjax.verify.bounds._passes import magnitudes
from activjax.verify.bounds._tape import Node, Tape
from activjax.verify.search._spec import Boxes, Rows, Spec

#: Errors of forms are enlarged by this: they are themselves computed with rounding.
SLACK = 2.0


@dataclass(frozen=True)
class Decided:
    """What a linear program says of a part.

    Attributes:
      refuted: whether no input of it is unsafe, rounding included.
      point: else the input that is nearest to being unsafe.
    """

    refuted: bool
    point: np.ndarray | None


def decide(spec: Spec, params: Any, rows: Rows, clauses: Any, boxes: Boxes, i: int) -> Decided:
    """Decides box `i`, in float64.

    Args:
      spec: sizes.
      params: of the network.
      rows: what is to be refuted, as the search has it.
      clauses: of the case, for exact weights.
      boxes: where no unit is undecided.
      i: which of them.
    """
    low, high = boxes.low[i].astype(np.float64), boxes.high[i].astype(np.float64)
    signs = boxes.signs[i]
    pattern = np.where(signs != 0, signs, np.where(boxes.units_low[i] >= 0, 1, -1))
    with jax.enable_x64(True):
        wide = jax.tree.map(_float64, params)
        outputs, units, lost = (np.asarray(a) for a in _forms(
            spec, wide, jnp.asarray(pattern, jnp.int8), jnp.asarray(low), jnp.asarray(high)
        ))  # fmt: skip
    forms, mine = (outputs, units), np.flatnonzero(signs)
    points = []
    for clause in clauses:
        refuted, point = _refuted(forms, lost, clause, signs, mine, low, high)
        if not refuted:
            points.append(point)
    return Decided(not points, next((p for p in points if p is not None), None))


def _refuted(
    forms: tuple[np.ndarray, np.ndarray],
    lost: np.ndarray,
    clause: Any,
    signs: np.ndarray,
    mine: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> tuple[bool, np.ndarray | None]:
    """The least `t` with `weights @ y - bounds <= t` where the signs hold; refuted if above 0."""
    outputs, units = forms
    d, n_out = len(low), outputs.shape[0]
    weights = np.array([[float(w) for w in row] for row in clause.weights]).reshape(-1, n_out)
    sides = np.array([float(b) for b in clause.bounds])
    objective = weights @ outputs  # [rows, 1 + d]
    objective[:, 0] -= sides
    error_out = np.abs(weights) @ lost[:n_out] + 1e-15 * (np.abs(sides) + 1)
    constraint = -signs[mine, None] * units[mine]
    error_sign = lost[n_out:][mine]
    size = np.concatenate([[1.0], np.maximum(abs(low), abs(high))])
    # Often the box alone will do.
    mid, rad = 0.5 * (low + high), 0.5 * (high - low)
    least = objective[:, 0] + objective[:, 1:] @ mid - np.abs(objective[:, 1:]) @ rad
    here = 64 * np.finfo(np.float64).eps * (np.abs(objective) @ size)
    if (least > SLACK * error_out + here).any():
        return True, None
    scale = 1 + np.abs(constraint).sum(1, keepdims=True)
    constraint, error_sign = constraint / scale, error_sign / scale[:, 0]
    free = not len(weights)
    # With `t` the constraints can always be met where the signs can.
    rows = np.vstack(
        [
            np.hstack([constraint[:, 1:], np.zeros((len(mine), 1))]),
            np.hstack([objective[:, 1:], -np.ones((len(weights), 1))]),
        ]
    )
    right = -np.concatenate([constraint[:, 0], objective[:, 0]])
    most = 1 + (np.abs(objective) @ size).sum()
    found = linear_program(
        np.concatenate([np.zeros(d), [0.0 if free else 1.0]]), rows, right,
        lower=np.concatenate([low, [0.0 if free else -most]]),
        upper=np.concatenate([high, [0.0 if free else most]]),
    )  # fmt: skip
    errors = SLACK * np.concatenate([error_sign, error_out])
    span = np.concatenate([np.maximum(abs(low), abs(high)), [most]])

    def lost_by(multipliers: np.ndarray) -> float:
        """What rounding in the forms, and in the bound that multipliers prove, can change."""
        size = np.abs(rows).T @ multipliers @ span + np.abs(right) @ multipliers
        return float(multipliers @ errors + 64 * np.finfo(np.float64).eps * size)

    if found.status == "infeasible" and found.certificate is not None:
        return found.certificate.violation > lost_by(found.certificate.ub), None
    if found.status != "optimal" or found.x is None or free:
        return False, None if found.x is None else found.x[:d]
    assert found.dual_ub is not None
    return found.dual_value > lost_by(found.dual_ub), found.x[:d]


@partial(jax.jit, static_argnums=0)
def _forms(spec: Spec, params: Any, pattern: Any, low: Any, high: Any) -> tuple[Any, Any, Any]:
    """Constants and slopes of outputs and operands under a pattern, and their errors over a box."""
    dtype = low.dtype
    tape = spec.tape(params, dtype)
    out = tape.output(dtype)

    def forward(x: Any) -> tuple[Any, Any]:
        values: dict[Node, Any] = {tape.input: x.reshape(tape.input.shape)}
        operands = [jnp.zeros(0, dtype)]
        for node in tape.nodes:
            if node.kind == "relu":
                z = values[node.operands[0]]
                on = (pattern[tape.slices[node]] > 0).reshape(z.shape)
                operands.append(z.reshape(-1))
                values[node] = jnp.where(on, z, 0)
            elif node.kind == "linear":
                value = node.linear(*(values[p] for p in node.operands))  # pyright: ignore
                values[node] = value if node.constant is None else value + node.constant
        return values[out], jnp.concatenate(operands)

    constants = forward(jnp.zeros_like(low))
    slopes = jax.jacfwd(forward)(jnp.zeros_like(low))
    outputs, units = (jnp.concatenate([c[:, None], s], 1) for c, s in
                      zip(constants, slopes, strict=True))  # fmt: skip
    return outputs, units, _lost(tape, out, low, high)


def _lost(tape: Tape, out: Node, low: Any, high: Any) -> Any:
    """How far the forms may be off anywhere in the box: outputs, then operands.

    A form is a sum over paths of products of at most `n` factors and as many additions, so it is
    off by `gamma(terms of all operations)` of the sum of absolute values: the magnitudes, where
    rectifiers hand on all that reaches them.
    """
    eps = float(jnp.finfo(low.dtype).eps)
    known: dict[Node, Any] = {tape.input: jnp.maximum(jnp.abs(low), jnp.abs(high))[None]}
    sizes, terms = [], 0
    for node in tape.nodes:
        terms += node.terms + 2
        if node.kind == "relu":
            known[node] = magnitudes(tape, node.operands[0], known)
            sizes.append(known[node])
    sizes.insert(0, magnitudes(tape, out, known))
    return eps * terms * jnp.concatenate(sizes, 1)[0]


def _float64(a: Any) -> Any:
    a = jnp.asarray(a)
    return a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a
