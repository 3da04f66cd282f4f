"""Refuting the leaves of one case, many at a time: first what is cheap, then what is not."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from activjax.verify._problem import Case
from activjax.verify._property import Clause
from activjax.verify._tree import Leaf, Literal, Multipliers
from activjax.verify.checking import _dual, _exactly, _weights
from activjax.verify.checking._bounds import bounds
from activjax.verify.checking._numbers import around, dyadic, multipliers, rounded
from activjax.verify.checking._relaxation import Relaxation
from activjax.verify.checking._statement import wrong
from activjax.verify.checking._steps import Steps
from activjax.verify.checking._weights import Weights

#: Float values below this share of what was added up are taken for rounding.
ROUNDING = 1e-12
ASCENT = 60
#: Parts into which one leaf may be split.
PARTS = 4096
#: Numbers of one array in a batch of leaves.
BATCH = 1 << 19
WEIGHT_BITS = 40


@dataclass(eq=False)
class Node:
    """A leaf of a proof, or a part of one that was split further.

    Attributes:
      leaf: its number.
      path: which side at each further split.
      literals: all that holds.
      stored: multipliers by clause, to be used as they are; None: to be found.
      found: those that refute it, by clause; None of an empty leaf.
      how: what refuted it: the hardest of its clauses.
      exact_box: its box in integers, when it was needed.
    """

    leaf: int
    path: tuple[bool, ...]
    literals: tuple[Literal, ...]
    stored: tuple[Multipliers, ...] | None
    found: tuple[Multipliers, ...] | None = None
    how: str = ""
    exact_box: _exactly.Box | None = None


@dataclass(eq=False)
class Refuted:
    """What came of the leaves of a case.

    Attributes:
      reason: why a leaf is not refuted; empty if all are.
      nodes: the leaves, in order, split ones in parts.
      margin: the smallest proved value, of weights whose rows sum to 1.
    """

    reason: str = ""
    nodes: list[Node] = field(default_factory=list)
    margin: float = math.inf


class OutOfTime(Exception):
    """The time given is over."""


HARDER = ("empty", "stored", "default", "ascent", "lp", "split")


class Refuter:
    """Refutes leaves of one case of a problem.

    Args:
      steps: the network.
      case: box and clauses.
      assumed: what holds in all leaves.
      exact: whether float values are only hints.
      deadline: of `time.monotonic`.
    """

    def __init__(
        self,
        steps: Steps,
        case: Case,
        assumed: tuple[Literal, ...],
        *,
        exact: bool,
        deadline: float,
    ) -> None:
        self.steps, self.case, self.assumed = steps, case, assumed
        self.exact, self.deadline = exact, deadline
        ends = zip(case.lower, case.upper, strict=True)
        self.floats = np.array([around(low, high) for low, high in ends]).T
        widest = max(part.size for part in steps.parts) * max(
            steps.inputs, *(part.size for part in steps.parts)
        )
        self.batch = max(1, min(256, BATCH // max(1, widest)))

    def run(self, leaves: Sequence[Leaf], clauses: Sequence[int], count: int) -> Refuted:
        """Refutes leaves.

        Args:
          leaves: of the proof's case.
          clauses: for each clause of the problem's case, the number of the proof's.
          count: the number of clauses of the proof's case.
        """
        out, waiting, parts = Refuted(), [], {}
        for k, leaf in enumerate(leaves):
            stored = leaf.multipliers
            if stored is not None:
                if len(stored) != count:
                    out.reason = (
                        f"leaf {k + 1}: multipliers for {len(stored)} clauses, expected {count}"
                    )
                    return out
                stored = tuple(stored[c] for c in clauses)
                for clause, held in zip(self.case.clauses, stored, strict=True):
                    rows, units = len(clause.bounds), self.steps.units
                    if bad := wrong(leaf, self.assumed, held, rows, units):
                        out.reason = f"leaf {k + 1}: {bad}"
                        return out
            waiting.append(Node(k, (), leaf.literals, stored))
        waiting.reverse()
        while waiting:
            if time.monotonic() > self.deadline:
                raise OutOfTime
            now = [waiting.pop() for _ in range(min(self.batch, len(waiting)))]
            for node, split in self._batch(now, out):
                if out.reason:
                    return out
                if split is None:
                    out.nodes.append(node)
                    continue
                parts[node.leaf] = parts.get(node.leaf, 1) + 1
                if parts[node.leaf] > PARTS:
                    out.reason = f"leaf {node.leaf + 1}: not refuted within {PARTS} parts"
                    return out
                for positive in (True, False):
                    more = Literal("relu", split, positive)
                    path, literals = (*node.path, positive), (*node.literals, more)
                    waiting.append(Node(node.leaf, path, literals, None))
        out.nodes.sort(key=lambda node: (node.leaf, node.path))
        return out

    def _batch(self, nodes: list[Node], out: Refuted) -> Iterator[tuple[Node, int | None]]:
        """Each node with the unit to split it by, or None where it is refuted."""
        signs, boxes, torn = self._conditions(nodes)
        known = bounds(self.steps, boxes[0], boxes[1], signs)
        known.empty |= torn
        if not all(np.isfinite(z).all() for z in known.z.values()):
            out.reason = "the network's numbers are too large for bounds in float64"
            yield nodes[0], None
            return
        for node, empty in zip(nodes, known.empty.tolist(), strict=True):
            if empty:
                node.how = "split" if node.path else "empty"
        rest = np.flatnonzero(~known.empty)
        splits: dict[int, int | None] = {}
        for c, clause in enumerate(self.case.clauses):
            pending = np.array([k for k in rest.tolist() if k not in splits], int)
            if not len(pending):
                break
            chosen = [nodes[k] for k in pending.tolist()]
            for k, split in self._clause(chosen, pending, known.take(pending), c, clause, out):
                splits[k] = split
            if out.reason:
                break
        for k, node in enumerate(nodes):
            yield node, splits.get(k)

    def _conditions(self, nodes: list[Node]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        signs = np.zeros((len(nodes), self.steps.units), np.int8)
        boxes = np.repeat(self.floats[:, None], len(nodes), 1)
        torn = np.zeros(len(nodes), bool)
        for k, node in enumerate(nodes):
            for x in (*self.assumed, *node.literals):
                if x.kind == "relu":
                    sign = 1 if x.positive else -1
                    torn[k] |= signs[k, x.index] == -sign
                    signs[k, x.index] = sign
            low, high, changed = self.box(node)
            torn[k] |= any(low[i] > high[i] for i in changed)
            for i in changed:
                boxes[:, k, i] = around(low[i], high[i])
        boxes[1] = np.maximum(boxes[0], boxes[1])
        return signs, boxes, torn

    def box(self, node: Node) -> tuple[list[Fraction], list[Fraction], set[int]]:
        """The box of a node, and the inputs that are cut in it."""
        low, high = list(self.case.lower), list(self.case.upper)
        cuts = [x for x in node.literals if x.kind == "input"]
        for x in cuts:
            if x.positive:
                low[x.index] = max(low[x.index], x.at)
            else:
                high[x.index] = min(high[x.index], x.at)
        return low, high, {x.index for x in cuts}

    # --- one clause -----------------------------------------------------------------------------

    def _clause(
        self,
        nodes: list[Node],
        numbers: np.ndarray,
        known: Relaxation,
        c: int,
        clause: Clause,
        out: Refuted,
    ) -> Iterator[tuple[int, int]]:
        """Yields the nodes that it cannot refute, with the unit to split by; notes the others."""
        left = []
        for k, node in enumerate(nodes):
            if node.stored is None:
                left.append(k)
                continue
            value = self._exact_value(
                node, known, k, clause, dyadic(self.steps, node.stored[c], known, k)
            )
            if value <= 0:
                out.reason = (
                    f"leaf {node.leaf + 1}: its multipliers do not refute clause {c + 1}: they "
                    f"prove no more than {float(value):.3g}, expected more than 0"
                )
                return
            self._note(node, node.stored[c], "stored", value, out)
        pending, held = np.array(left, int), None
        for how in ("default", "ascent"):
            part = known.take(pending)
            if how == "default" or held is None:
                held, tops = self._default(part, clause)
            else:
                held, tops = _weights.ascend(self.steps, part, clause, held, ASCENT)
            done = np.zeros(len(pending), bool)
            for j in np.flatnonzero(tops.value > ROUNDING * tops.size).tolist():
                k = int(pending[j])
                one = held.take(np.array([j]))
                done[j] = self._try(nodes[k], known, k, clause, one, how, out, tops, j)
            pending, held = pending[~done], held.take(~done)
            if not len(pending):
                return
        for k in pending.tolist():
            if time.monotonic() > self.deadline:
                raise OutOfTime
            split = self._program(nodes[k], known, k, c, clause, out)
            if out.reason:
                return
            if split is not None:
                yield int(numbers[k]), split

    def _program(
        self, node: Node, known: Relaxation, k: int, c: int, clause: Clause, out: Refuted
    ) -> int | None:
        """Refutes by a linear program; else the unit to split by, or a reason."""
        one = known.take(np.array([k]))
        solution = _dual.solve(self.steps, one, clause)
        weights, x = solution.weights, solution.x
        bound = _weights.promise(self.steps, one, clause, weights)
        if bound.value[0] > -ROUNDING * bound.size[0] and self._try(
            node, known, k, clause, weights, "lp", out, bound, 0
        ):
            return None
        if x is not None and self._violates(x, clause):
            shown = " ".join(f"{v:.9g}" for v in x[:8])
            out.reason = (
                f"leaf {node.leaf + 1}: clause {c + 1} holds at the input "
                f"[{shown}{' ...' if len(x) > 8 else ''}]: the property is violated"
            )
            return None
        units = [np.flatnonzero(one.lines[i].state[0] == 0) + at.start
                 for i, at in self.steps.rectifiers]  # fmt: skip
        open_ = np.concatenate([*units, np.zeros(0, int)]).astype(int)
        if not len(open_):
            out.reason = (
                f"leaf {node.leaf + 1}: clause {c + 1} is not refuted, the best bound is "
                f"{float(bound.value[0]):.3g}; every rectifier is decided"
            )
            return None
        # The unit whose upper line costs most where the weights bind.
        offset = np.concatenate([one.lines[i].offset[0] for i, _ in self.steps.rectifiers])
        cost = bound.gap[0] * np.maximum(solution.excess, 1e-9 * offset)
        return int(open_[np.argmin(cost[open_] / np.maximum(offset[open_], 1e-280))])

    def _violates(self, x: np.ndarray, clause: Clause) -> bool:
        """Whether a clause holds at an input, exactly; quickly False where it plainly does not."""
        sides = zip(x.tolist(), self.case.lower, self.case.upper, strict=True)
        at = [min(max(Fraction(v), low), high) for v, low, high in sides]
        z = _weights.values(self.steps, np.array([[float(v) for v in at]]))
        m, q = _weights.matrix(clause, self.steps.parts[-1].size)
        if (z[-1][0] @ m.T - q > 1e-9 * (1 + np.abs(q))).any():
            return False
        flat, y = self.steps.exactly(at)
        kept = all((flat[x.index] >= 0) == x.positive for x in self.assumed)
        return kept and clause.holds(y)

    def _default(self, known: Relaxation, clause: Clause) -> tuple[Weights, _weights.Bound]:
        """The best of the usual slopes, all 0 and all 1, with each row and all rows."""
        best = top = None
        for row in _weights.unit_rows(clause, len(known.lower)):
            for slope in (None, 0.0, 1.0):
                weights = _weights.default(known, row, slope)
                bound = _weights.promise(self.steps, known, clause, weights)
                if best is None or top is None:
                    best, top = weights, bound
                    continue
                better = bound.value > top.value
                best.put(better, weights.take(better))
                for name in ("value", "size", "gap"):
                    getattr(top, name)[better] = getattr(bound, name)[better]
            if top is not None and (top.value > ROUNDING * top.size).all():
                break
        assert best is not None
        assert top is not None
        return best, top

    def _try(self, node: Node, known: Relaxation, k: int, clause: Clause, weights: Weights,
             how: str, out: Refuted, bound: _weights.Bound, j: int) -> bool:  # fmt: skip
        """Whether weights refute the clause; if so they are noted."""
        if not self.exact:
            value = float(bound.value[j])
            if value <= ROUNDING * bound.size[j]:
                return False
            found = multipliers(self.steps, rounded(weights, WEIGHT_BITS), known, k)
            self._note(node, found, how, Fraction(value), out)
            return True
        # Few bits first: optimal weights are often small fractions.
        for bits in (12, WEIGHT_BITS) if how == "lp" else (WEIGHT_BITS,):
            whole = rounded(weights, bits)
            value = self._exact_value(node, known, k, clause, whole)
            if value > 0:
                self._note(node, multipliers(self.steps, whole, known, k), how, value, out)
                return True
        return False

    def _note(
        self, node: Node, found: Multipliers, how: str, value: Fraction, out: Refuted
    ) -> None:
        total = sum(found.rows, Fraction(0)) or Fraction(1)
        out.margin = min(out.margin, float(value / total))
        node.found = (*(node.found or ()), found)
        how = "split" if node.path else how
        node.how = max(node.how or how, how, key=HARDER.index)

    def _exact_value(
        self, node: Node, known: Relaxation, k: int, clause: Clause, weights: _exactly.Dyadic
    ) -> Fraction:
        if node.exact_box is None:
            low, high, _ = self.box(node)
            node.exact_box = _exactly.Box.of(tuple(low), tuple(high))
        return _exactly.least(self.steps, known, k, node.exact_box, clause, weights)
