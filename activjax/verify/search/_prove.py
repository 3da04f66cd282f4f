"""`prove`: attack, then branch and bound on the device."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from activjax.program.networks import ExactNetwork, extract_exactly
from activjax.verify._problem import Problem
from activjax.verify._property import Clause
from activjax.verify._tree import Literal, Tree
from activjax.verify.search._attack import attack
from activjax.verify.search._budget import Budget
from activjax.verify.search._frontier import Frontier
from activjax.verify.search._linear_part import decide
from activjax.verify.search._loop import BATCHES, State, advance
from activjax.verify.search._settled import settled
from activjax.verify.search._spec import Boxes, Spec, root_of, rows_of, spec_of
from activjax.verify.search._verdict import Statistics, Verdict
from activjax.verify.search._witness import Witness, replay

#: Steps of the attack, and points of it that are replayed exactly.
ATTACK_STEPS, REPLAYED = 100, 8
#: A call of the device should take about this long, in seconds.
CALL = 1.0


def prove(
    problem: Problem,
    *,
    budget: Budget | None = None,
    pattern: Any = None,
    resume: Verdict | None = None,
    key: Any = None,
) -> Verdict:
    """Looks for an unsafe input, or proves that there is none.

    An attack by gradients comes first. Then boxes are bounded in batches, on the device, inside one
    `while_loop` that the host looks at about once a second: cut at an input or divided by the sign
    of a rectifier's operand, until each part is refuted. Where no unit is undecided the network is
    linear, and a linear program decides. "verified" holds in real arithmetic in spite of rounding
    (`bound` says where); `verify.check` proves it again without any of this. "violated" has a
    witness that was replayed exactly.

    Args:
      problem: boxes, network and unsafe outputs.
      budget: what it may take; by default a minute.
      pattern: `[units]` or an object with `signs`: only inputs count where a unit's operand is
        above 0 (1) or at most 0 (-1). Units in the order of the program, from `verify.codes`.
      resume: an unknown verdict of the same problem, to go on from.
      key: of the attack's starts.

    Raises:
      UnsupportedError: an operation of the network is not supported, by name.
      ValueError: the pattern, or the verdict to go on from, does not fit.
    """
    started = time.perf_counter()
    budget = budget or Budget()
    key = jax.random.key(0) if key is None else key
    apply, params = settled(problem.apply, problem.params, problem.input_shape, problem.dtype)
    compiled = replace(problem, apply=apply, params=params)
    spec = spec_of(compiled, budget.splits, budget.steps)
    assumed = _assumed(pattern, spec)
    network = extract_exactly(
        "verify.prove",
        lambda x: problem.apply(problem.params, x),
        jax.ShapeDtypeStruct(problem.input_shape, problem.dtype),
    )
    if resume is not None:
        _same_question(resume.frontier, problem, spec, assumed)
        cases = [case.copy() for case in resume.frontier.cases]
        search = replace(resume.frontier, budget=budget, started=started, cases=cases)
    else:
        search = _Search(problem, spec, params, network, assumed, budget, started)
        if budget.restarts:
            witness = search.attacked(key)
            if witness is not None:
                return search.verdict("violated", witness)
    witness = search.run()
    if witness is not None:
        return search.verdict("violated", witness)
    if search.open:
        return search.verdict("unknown", reason=search.why)
    verdict = search.verdict("verified")
    return _inhabited(problem, verdict, budget, key, search) if assumed.any() else verdict


def _same_question(left: Any, problem: Problem, spec: Spec, assumed: np.ndarray) -> None:
    """Refuses what another search has left: it would answer another question."""
    if not isinstance(left, _Search):
        wrong = "it is no unknown verdict"
    elif left.problem.digest != problem.digest or left.spec.apply != spec.apply:
        wrong = "it is of another network"
    elif left.problem.cases != problem.cases:
        wrong = "it is of other boxes or another property"
    elif not np.array_equal(left.assumed, assumed):
        wrong = "it is of another pattern"
    elif left.spec != spec:
        wrong = "its budget had other splits or steps"
    else:
        return
    raise ValueError(
        f"verify.prove: cannot go on from resume: {wrong}; give an unknown verdict of the same "
        "problem, pattern, splits and steps, or leave it out"
    )


def _inhabited(
    problem: Problem, verdict: Verdict, budget: Budget, key: Any, search: _Search
) -> Verdict:
    """Whether some input has the pattern, so that something was verified."""
    anything = tuple(replace(case, clauses=(Clause((), ()),)) for case in problem.cases)
    left = max(1.0, budget.seconds - (time.perf_counter() - search.started))
    asked = _Search(
        replace(problem, cases=anything), search.spec, search.params, search.network,
        search.assumed,
        replace(budget, seconds=left, restarts=max(1, budget.restarts)), time.perf_counter(),
    )  # fmt: skip
    if asked.attacked(key) is not None or asked.run() is not None:
        return replace(verdict, statistics=search.statistics())
    if asked.open:
        why = "the property holds, but whether any input has the pattern is open: " + asked.why
        return search.verdict("unknown", reason=why)
    return replace(asked.verdict("verified"), status="empty_region", witness=None)


@dataclass(eq=False)
class _Search:
    problem: Problem
    spec: Spec
    params: Any
    network: ExactNetwork
    assumed: np.ndarray
    budget: Budget
    started: float
    cases: list[Frontier] = field(default_factory=list)
    compiling: float = 0.0
    attack_seconds: float = 0.0
    before: float = 0.0
    why: str = ""

    def __post_init__(self) -> None:
        if not self.cases:
            for case in self.problem.cases:
                root = root_of(self.spec, self.params, case, self.assumed)
                self.cases.append(Frontier(self.spec, waiting=[root]))

    @property
    def open(self) -> int:
        """How many parts are open."""
        return sum(case.open + len(case.stuck) for case in self.cases)

    @property
    def boxes(self) -> int:
        """How many parts were bounded."""
        return sum(case.visited for case in self.cases)

    def attacked(self, key: Any) -> Witness | None:
        """A witness that the attack found."""
        began = time.perf_counter()
        for i, case in enumerate(self.problem.cases):
            if not case.clauses:
                continue
            rows = rows_of(case, self.problem.outputs)
            (root,) = self.cases[i].waiting
            points, values = attack(
                self.spec, self.budget.restarts, ATTACK_STEPS, self.params, rows,
                root.signs[0], (root.low[0], root.high[0]), jax.random.fold_in(key, i),
            )  # fmt: skip
            points, values = np.asarray(points), np.asarray(values)
            for j in np.argsort(values)[:REPLAYED]:
                if values[j] <= 0 and (found := self.replayed(i, points[j])) is not None:
                    self.attack_seconds += time.perf_counter() - began
                    return found
        self.attack_seconds += time.perf_counter() - began
        return None

    def replayed(self, case: int, x: Any) -> Witness | None:
        """The witness that a point is."""
        return replay(self.problem, self.network, case, x.tolist(), self.assumed)

    def run(self) -> Witness | None:
        """Goes on until all is decided, a witness is found or the budget ends."""
        for i, frontier in enumerate(self.cases):
            if not self.problem.cases[i].clauses:
                frontier.waiting.clear()
            witness = self.case(i, frontier)
            if witness is not None:
                return witness
            if frontier.stuck:
                self.why = (
                    f"{len(frontier.stuck)} parts in which the network is linear come so near the "
                    "border that float64 does not decide them"
                )
            if frontier.open:
                return None
        return None

    def case(self, i: int, frontier: Frontier) -> Witness | None:
        """The search of one case."""
        rows = rows_of(self.problem.cases[i], self.problem.outputs)
        batches, found = 4, np.float32(0)
        while frontier.open:
            state = frontier.load()
            while int(state.top):
                left = self.left()
                if left is None:
                    frontier.store(state)
                    return None
                began = time.perf_counter()
                most = min(batches, BATCHES, -(-left // self.spec.batch))
                known = advance._cache_size()  # pyright: ignore
                state = advance(
                    self.spec, self.params, rows, self.assumed.astype(np.int8),
                    (np.int32(most), found), state,
                )  # fmt: skip
                jax.block_until_ready(state.top)
                took = time.perf_counter() - began
                if advance._cache_size() > known:  # pyright: ignore
                    self.compiling += took
                elif took > 0:
                    done = max(1, int(state.batches))
                    batches = int(np.clip(CALL / took * done, 1, BATCHES))
                value = float(state.best[0])
                if value <= found:
                    witness = self.replayed(i, np.asarray(state.best[1]))
                    if witness is not None:
                        frontier.store(state)
                        return witness
                    # Unsafe in float32 only: look for a point that is so by more.
                    found = np.float32(2 * min(value, 0.0) - 1e-6)
                full = int(state.top) + self.spec.batch > self.spec.capacity
                boxes = frontier.store(state)
                witness = self.linear(i, frontier, boxes)
                if witness is not None:
                    return witness
                if full or not int(state.top):
                    break
                if self.left() is None:
                    return None
                state = self.continued(frontier, state)
        return None

    def continued(self, frontier: Frontier, state: State) -> State:
        """The same frontier, still on the device, with an empty log."""
        frontier.waiting.pop()
        zero = np.int32(0)
        none = np.float32(np.inf), np.zeros(self.spec.inputs, np.float32)
        logged, batches, count, best = jax.device_put((zero, zero, zero, none))
        return state._replace(
            logged=logged, batches=batches, queue=state.queue._replace(count=count), best=best
        )

    def linear(self, i: int, frontier: Frontier, boxes: Boxes) -> Witness | None:
        """Decides the boxes in which the network is linear."""
        for k in range(len(boxes.number)):
            if self.left() is None:
                frontier.put_back(boxes, k)
                return None
            clauses = self.problem.cases[i].clauses
            decided = decide(self.network, clauses, boxes, k)
            if decided.refuted:
                frontier.programs += 1
                continue
            if decided.point is not None:
                witness = self.replayed(i, decided.point)
                if witness is not None:
                    return witness
            frontier.stuck.append(int(boxes.number[k]))
        return None

    def left(self) -> int | None:
        """How many boxes the budget has left; None where it has ended."""
        boxes, spent = self.budget.boxes - self.boxes, time.perf_counter() - self.started
        if spent > self.budget.seconds:
            self.why = f"the budget of {self.budget.seconds:g} s ended"
            return None
        if boxes <= 0:
            self.why = f"the budget of {self.budget.boxes} boxes ended"
            return None
        return boxes

    def statistics(self) -> Statistics:
        """What it took so far."""
        splits = [part[1] for case in self.cases for part in case.log]
        return Statistics(
            boxes=self.boxes,
            leaves=sum(int((s < 0).sum()) for s in splits),
            programs=sum(case.programs for case in self.cases),
            seconds=self.before + time.perf_counter() - self.started,
            compiling=self.compiling,
            attack=self.attack_seconds,
            open=self.open,
        )

    def verdict(self, status: Any, witness: Witness | None = None, reason: str = "") -> Verdict:
        """With the tree or the frontier."""
        tree = self.tree() if status == "verified" else None
        frontier = None
        if status == "unknown":
            frontier = replace(self, before=self.before + time.perf_counter() - self.started)
        return Verdict(status, witness, tree, self.statistics(), reason, frontier)

    def tree(self) -> Tree:
        """The proof."""
        problem = self.problem
        leaves = tuple(
            frontier.leaves() if case.clauses else ()
            for case, frontier in zip(problem.cases, self.cases, strict=True)
        )
        assumed = tuple(
            Literal("relu", int(u), bool(self.assumed[u] > 0)) for u in np.flatnonzero(self.assumed)
        )
        return Tree(problem.inputs, problem.outputs, self.spec.units, problem.cases, leaves,
                    assumed, problem.digest)  # fmt: skip


def _assumed(pattern: Any, spec: Spec) -> np.ndarray:
    if pattern is None:
        return np.zeros(spec.units, np.int8)
    signs = np.asarray(getattr(pattern, "signs", pattern))
    if signs.shape != (spec.units,) or not np.isin(signs, (-1, 0, 1)).all():
        raise ValueError(
            f"verify.prove: the pattern has shape {signs.shape}, expected [{spec.units}] signs "
            "1, -1 and 0: one for each rectifying unit"
        )
    return signs.astype(np.int8)
