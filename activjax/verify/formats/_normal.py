"""Formulas of `and` and `or` as alternatives: a disjunctive normal form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from activjax.verify.formats._sexpr import Group, Node, Source

#: So many alternatives of one file are read.
MOST = 100_000
_OTHERS = {"not", "=>", "xor", "ite", "let", "forall", "exists", "distinct", "!="}

A = TypeVar("A")


@dataclass
class Normal(Generic[A]):
    """All of `always`, and one alternative of each of `choices`."""

    always: list[A]
    choices: list[list[tuple[A, ...]]]

    def count(self) -> int:
        """The number of alternatives."""
        return math.prod(map(len, self.choices))

    def alternatives(self) -> Iterator[tuple[A, ...]]:
        """Without what holds always."""
        for chosen in itertools.product(*self.choices):
            yield tuple(itertools.chain.from_iterable(chosen))


def normal(
    source: Source, nodes: Sequence[Node], atom: Callable[[Source, Group], Sequence[A]]
) -> Normal[A]:
    """The conjunction of formulas; `atom` reads what is neither `and` nor `or`.

    Raises:
      FormatError: what is no formula, or more than 100,000 alternatives.
    """
    out = Normal[A]([], [])
    for node in nodes:
        if not isinstance(node, Group):
            raise source.fail(node, f"{node.text!r} is not a formula; expected (and ...), "
                              "(or ...) or a comparison")  # fmt: skip
        head = node.head
        if head == "and":
            inner = normal(source, node.items[1:], atom)
            out.always += inner.always
            out.choices += inner.choices
        elif head == "or":
            choices: list[tuple[A, ...]] = []
            for item in node.items[1:]:
                inner = normal(source, [item], atom)
                _limit(source, node, len(choices) + inner.count())
                always = tuple(inner.always)
                choices += [always + rest for rest in inner.alternatives()]
            if len(choices) == 1:
                out.always += choices[0]
            else:
                out.choices.append(choices)
        elif head in _OTHERS:
            raise source.fail(node, f"{head!r} is not supported; expected and, or, <=, >=, <, >, "
                              "=; write the formula with those")  # fmt: skip
        else:
            out.always += atom(source, node)
        _limit(source, node, out.count())
    return out


def _limit(source: Source, node: Group, count: int) -> None:
    if count > MOST:
        raise source.fail(node, f"the formula has {count} alternatives when its `or`s are "
                          f"multiplied out, at most {MOST} are read; split the file")  # fmt: skip
