"""`check`: whether a proof tree proves a problem."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal as Choice

from activjax.verify._problem import Case, Problem
from activjax.verify._tree import Leaf, Tree
from activjax.verify.checking._coverage import uncovered
from activjax.verify.checking._leaves import HARDER, Node, OutOfTime, Refuter
from activjax.verify.checking._statement import mismatch, proved_by
from activjax.verify.checking._steps import Steps


@dataclass(frozen=True, eq=False)
class Checked:
    """What a check found.

    Attributes:
      ok: whether the proof proves the problem.
      reason: why not, naming the case, the leaf, the literal or the unit; empty if it does.
      leaves: how many were refuted.
      exact: whether nothing was left to rounding.
      how: by the way they were refuted, the number of leaves: "stored" multipliers, "default"
        slopes, "ascent", "lp", "split" further, "empty" because bounds cross.
      smallest_margin: of a leaf, how far above its bound some convex combination of a clause's
        rows stays; infinite where all leaves are empty.
      seconds: of the check.
      tree: the proof with the multipliers that were found, so that the next check needs no search
        for them; the tree that was given where it is not ok.
    """

    ok: bool
    reason: str
    leaves: int
    exact: bool
    how: dict[str, int]
    smallest_margin: float
    seconds: float
    tree: Tree

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        said = "ok" if self.ok else f"not ok: {self.reason}"
        kind = "exactly" if self.exact else "in floating point"
        return f"Checked({said}, {self.leaves} leaves {kind}, {self.seconds:.2f} s)"


def check(
    tree: Tree,
    problem: Problem,
    arithmetic: Choice["exact", "lp"] = "exact",
    *,
    seconds: float | None = None,
) -> Checked:
    """Whether a proof tree proves that no input of a problem is unsafe.

    Nothing of the search is used. The leaves must cover each box, and in each leaf each clause of
    the problem must be refuted: by the multipliers that the proof holds, as they are, else by such
    as the checker finds itself (usual slopes, ascent, a linear program, further splits).

    Args:
      tree: the proof; where it assumes a pattern, inputs with this pattern alone are covered.
      problem: network, boxes and clauses.
      arithmetic: "exact": each refutation is evaluated in integers, on bounds of the rectifiers
        that are widened by all rounding. "lp": float values are believed.
      seconds: time to give up after, with `ok` False.

    Raises:
      ValueError: arguments that are not of these types, or a network that is not continuous and
        piecewise linear.
      UnsupportedError: the network has an operation that is not supported; it is named.
    """
    if not isinstance(tree, Tree):
        raise ValueError(f"check: tree is a {type(tree).__name__}, expected a verify.Tree")
    if not isinstance(problem, Problem):
        raise ValueError(f"check: problem is a {type(problem).__name__}, expected a verify.Problem")
    if arithmetic not in ("exact", "lp"):
        raise ValueError(f'check: arithmetic is {arithmetic!r}, expected "exact" or "lp"')
    if seconds is not None and not seconds > 0:
        raise ValueError(f"check: seconds is {seconds}, expected a positive number or None")
    return _Check(tree, problem, arithmetic == "exact", seconds).run()


class _Check:
    def __init__(self, tree: Tree, problem: Problem, exact: bool, seconds: float | None) -> None:
        self.tree, self.problem, self.exact = tree, problem, exact
        self.began = time.monotonic()
        self.deadline = math.inf if seconds is None else self.began + seconds
        self.how: Counter[str] = Counter()
        self.margin = math.inf

    def run(self) -> Checked:
        tree, problem = self.tree, self.problem
        steps = Steps.of(problem)
        if reason := mismatch(tree, problem, steps.units):
            return self._no(reason)
        sources = proved_by(tree, problem)
        if isinstance(sources, str):
            return self._no(sources)
        filled, used = [], []
        for k, (case, j) in enumerate(zip(problem.cases, sources, strict=True)):
            where = f"case {k + 1}, " if len(problem.cases) > 1 else ""
            leaves = tree.leaves[j]
            paths = [leaf.literals for leaf in leaves]
            if reason := uncovered(paths, case.lower, case.upper, tree.assumed):
                return self._no(where + reason)
            clauses = [tree.cases[j].clauses.index(clause) for clause in case.clauses]
            stored = any(leaf.multipliers is not None for leaf in leaves)
            # Multipliers are of the box of the proof, which may be larger than the problem's.
            outer = tree.cases[j] if stored else case
            box = Case(outer.lower, outer.upper, case.clauses)
            refuter = Refuter(steps, box, tree.assumed, exact=self.exact, deadline=self.deadline)
            try:
                done = refuter.run(leaves, clauses, len(tree.cases[j].clauses))
            except OutOfTime:
                return self._no(f"{where}not decided within {self.deadline - self.began:.0f} s")
            self._count(done.nodes)
            self.margin = min(self.margin, done.margin)
            if done.reason:
                return self._no(where + done.reason)
            filled.append(_leaves(done.nodes))
            used.append(box)
        proved = Tree(
            tree.inputs, tree.outputs, tree.units, tuple(used), tuple(filled), tree.assumed,
            tree.digest,
        )  # fmt: skip
        return self._result(True, "", proved)

    def _count(self, nodes: Sequence[Node]) -> None:
        """By leaf, the hardest way that one of its parts needed."""
        ways: dict[int, str] = {}
        for node in nodes:
            ways[node.leaf] = max(ways.get(node.leaf, "empty"), node.how, key=HARDER.index)
        self.how.update(ways.values())

    def _no(self, reason: str) -> Checked:
        return self._result(False, reason, self.tree)

    def _result(self, ok: bool, reason: str, tree: Tree) -> Checked:
        seconds = time.monotonic() - self.began
        return Checked(ok, reason, self.how.total(), self.exact, dict(self.how), self.margin,
                       seconds, tree)  # fmt: skip


def _leaves(nodes: Sequence[Node]) -> tuple[Leaf, ...]:
    return tuple(Leaf(node.literals, node.found) for node in nodes)
