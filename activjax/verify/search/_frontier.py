"""What is open and what is done of one case, on the host."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from activjax.verify._tree import Leaf, Literal
from activjax.verify.search._loop import LINEAR, REFUTED, State, begin
from activjax.verify.search._spec import Boxes, Spec


@dataclass(eq=False)
class Frontier:
    """The search of one case, between calls of the device.

    Attributes:
      spec: sizes.
      numbers: how many parts have a number.
      waiting: boxes to visit, the last first.
      log: for each part visited its number, split, place of the cut and first child.
      programs: how many parts a linear program refuted.
      stuck: parts that it could not.
    """

    spec: Spec
    numbers: int = 1
    waiting: list[Boxes] = field(default_factory=list)
    log: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    programs: int = 0
    stuck: list[int] = field(default_factory=list)

    def copy(self) -> Frontier:
        """One that goes on without changing this one."""
        mine = list(self.waiting), list(self.log), self.programs, list(self.stuck)
        return Frontier(self.spec, self.numbers, *mine)

    @property
    def open(self) -> int:
        """How many boxes wait."""
        return sum(len(b.number) for b in self.waiting)

    @property
    def visited(self) -> int:
        """How many boxes were bounded."""
        return sum(len(part[0]) for part in self.log)

    def load(self) -> State:
        """A state for the device with as many of the waiting boxes as half of it holds."""
        state = begin(self.spec)
        room = max(self.spec.batch, self.spec.capacity // 2)
        taken: list[Boxes] = []
        while self.waiting and room:
            part = self.waiting.pop()
            n = len(part.number)
            if n > room:
                self.waiting.append(_rows(part, slice(0, n - room)))
                part = _rows(part, slice(n - room, n))
            room -= len(part.number)
            taken.append(part)
        stack = Boxes(*(np.concatenate(parts) for parts in zip(*reversed(taken), strict=True)))
        n = len(stack.number)
        full = jax.tree.map(_filled(self.spec.capacity), stack)
        return state._replace(
            boxes=jax.device_put(full),
            top=jax.device_put(np.int32(n)),
            numbers=jax.device_put(np.int32(self.numbers)),
        )

    def store(self, state: State) -> Boxes:
        """Takes over what the device has done; returns the boxes where a program decides."""
        self.numbers = int(state.numbers)
        self.read(state)
        top, count = int(state.top), int(state.queue.count)
        if top:
            self.waiting.append(_host(state.boxes, top))
        return _host(state.queue.boxes, count)

    def read(self, state: State) -> None:
        """Takes over the log."""
        rows = int(state.logged)
        self.log.append(tuple(np.asarray(a[:rows]) for a in jax.device_get(state.log)))

    def put_back(self, boxes: Boxes, first: int) -> None:
        """Boxes from `first` on wait again."""
        if first < len(boxes.number):
            self.waiting.append(_rows(boxes, slice(first, None)))

    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves of a finished search, depth first."""
        number, *logged = (np.concatenate(parts) for parts in zip(*self.log, strict=True))
        split, at, child = (_by_number(number, values, self.numbers) for values in logged)
        leaves: list[Leaf] = []
        stack: list[tuple[int, tuple[Literal, ...]]] = [(0, ())]
        while stack:
            part, literals = stack.pop()
            if split[part] in (REFUTED, LINEAR):
                leaves.append(Leaf(literals))
                continue
            for positive in (True, False):
                literal = self._literal(split[part], at[part], positive)
                stack.append((child[part] + positive, (*literals, literal)))
        return tuple(leaves)

    def _literal(self, split: int, at: float, positive: bool) -> Literal:
        if split < self.spec.inputs:
            return Literal("input", split, positive, Fraction(at))
        return Literal("relu", split - self.spec.inputs, positive)


def _by_number(number: np.ndarray, values: np.ndarray, many: int) -> list[Any]:
    """What was logged last for each part."""
    out = np.zeros(many, values.dtype)
    out[number] = values
    return out.tolist()


def _rows(boxes: Boxes, rows: slice) -> Boxes:
    return Boxes(*(a[rows] for a in boxes))


def _host(boxes: Boxes, n: int) -> Boxes:
    return Boxes(*(np.asarray(jax.device_get(a))[:n].copy() for a in boxes))


def _filled(capacity: int) -> Any:
    def fill(a: np.ndarray) -> np.ndarray:
        out = np.zeros((capacity, *a.shape[1:]), a.dtype)
        out[: len(a)] = a
        return out

    return fill
