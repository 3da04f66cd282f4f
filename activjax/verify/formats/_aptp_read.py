"""Proofs from text: activation pattern trees (APTP), ours and of others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from activjax.verify._problem import Case
from activjax.verify._tree import Leaf, Multipliers, Tree
from activjax.verify.formats._aptp_write import END, HEADER
from activjax.verify.formats._cases import cases_of
from activjax.verify.formats._declared import Variables
from activjax.verify.formats._linear import comparison
from activjax.verify.formats._literals import Literals
from activjax.verify.formats._multipliers import MARK, read_multipliers
from activjax.verify.formats._normal import MOST, normal
from activjax.verify.formats._sexpr import Group, Node, Source, Word, read_source
from activjax.verify.formats._vnnlib import asserted, declare_scalars, statement

_LEAVES = re.compile(r"; leaves (\d{1,12}) of case (\d{1,12})")
_ASSUMED = re.compile(r"; assumed (\d{1,12})")
_CASES = re.compile(r"; cases (\d{1,12})")
_NETWORK = "; network "


def read_tree(path: Path) -> Tree:
    """Reads a proof.

    APTP is VNN-LIB 1.0 with `(declare-pwl N_1 ... ReLU)`, rectifiers in order from 1, and one
    assert of leaves `(or (and (< N_4 0) (>= N_2 0)) ...)`; without it the whole box is one leaf.
    Formulas of others may nest `and` and `or`; they are multiplied out to at most 100,000 leaves.
    `N > 0` is read as `N >= 0` and `N <= 0` as `N < 0`, `X < c` as `X <= c`.

    Files that begin with `; activjax-proof 1` say more: the network (`; network sha256:...`),
    several boxes (`; cases 2`: one `or` of boxes with their clauses, and leaves of each), what is
    assumed of every input (`; assumed 3`, then an assert), cuts of inputs (`(<= X_0 0.5)`) and,
    after a leaf, the multipliers of each clause (`;! rows ...`).

    Source: dynaroars/APTPchecker.

    Raises:
      FormatError: with line and column: text that is cut off, brackets, a rectifier that is not
        declared or is cut elsewhere than at 0, a formula of another form.
    """
    return _Reader(read_source(path)).tree()


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.variables = Variables()
        self.asserts: list[Group] = []
        self.literals = Literals(source, self.variables)
        self._numbers: dict[str, Fraction] = {}
        for group in source.groups:
            if group.head == "assert":
                self.asserts.append(group)
            elif group.head in ("declare-const", "declare-fun"):
                declare_scalars(source, group, self.variables)
            elif group.head == "declare-pwl":
                self._rectifiers(group)
            else:
                raise source.fail(group, f"({group.head or '...'} is not known; expected "
                                  "declare-const, declare-pwl or assert")  # fmt: skip
        self.units = self.variables.count(source, "N", 1)

    def tree(self) -> Tree:
        """The proof."""
        first = self.source.comments[0] if self.source.comments else Word("", 0)
        if not first.text.startswith("; activjax-proof") or self.source.text[: first.at].strip():
            return self._plain()
        if first.text != HEADER:
            raise self.source.fail(first, f"{first.text!r}: this version is not known; expected "
                                   f"{HEADER!r}")  # fmt: skip
        return self._own()

    def _plain(self) -> Tree:
        """A file of others."""
        hidden = [group for group in self.asserts if _mentions_rectifiers(group)]
        if len(hidden) > 1:
            raise self.source.fail(hidden[1], "a second assert of rectifiers; expected one, with "
                                   "all leaves")  # fmt: skip
        stated = [asserted(self.source, g) for g in self.asserts if g not in hidden]
        cases, inputs, outputs = self._statement(stated)
        leaves = [Leaf(())]
        if hidden:
            leaves = []
            for item in _items(asserted(self.source, hidden[0])):
                for literals in self.literals.alternatives(item):
                    leaves.append(Leaf(literals))
                    if len(leaves) > 10 * MOST:
                        raise self.source.fail(hidden[0], f"more than {10 * MOST} leaves")
        return Tree(inputs, outputs, self.units, cases, (tuple(leaves),) * len(cases))

    def _own(self) -> Tree:
        """A file of `write_tree`."""
        source, digest, count, assumed = self.source, None, 1, ()
        events: list[Word | Group] = list(self.asserts)
        for word in source.comments:
            if word.text.startswith(_NETWORK):
                digest = word.text[len(_NETWORK) :]
            elif found := _CASES.fullmatch(word.text):
                count = int(found[1])
            elif _LEAVES.fullmatch(word.text) or _ASSUMED.fullmatch(word.text):
                events.append(word)
        if source.comments[-1].text != END:
            raise source.fail(len(source.text), f"the proof has no line {END!r}: is it cut off?")
        events.sort(key=lambda event: event.at)
        stated: list[Node] = []
        leaves: list[tuple[Leaf, ...]] = []
        place = 0
        while place < len(events):
            event, place = events[place], place + 1
            if isinstance(event, Group):
                stated.append(asserted(source, event))
                continue
            # a comment says what the assert after it is
            follows = events[place] if place < len(events) else None
            follows = follows if isinstance(follows, Group) else None
            place += follows is not None
            stop = events[place].at if place < len(events) else len(source.text)
            if found := _LEAVES.fullmatch(event.text):
                if int(found[2]) != len(leaves) + 1:
                    raise source.fail(event, f"expected the leaves of case {len(leaves) + 1}")
                leaves.append(self._leaves(event, int(found[1]), follows, stop))
            elif follows is None:
                raise source.fail(event, "no assert follows with what is assumed")
            else:
                assumed = self.literals.leaf(asserted(source, follows))
        if len(leaves) != count:
            raise source.fail(0, f"{count} cases are announced, here are leaves of {len(leaves)}")
        cases, inputs, outputs = self._statement(stated, count)
        if len(cases) != count:
            raise source.fail(0, f"{count} cases are announced, the file states {len(cases)}")
        return Tree(inputs, outputs, self.units, cases, tuple(leaves), assumed, digest)

    def _leaves(self, said: Word, count: int, group: Group | None, stop: int) -> tuple[Leaf, ...]:
        """The leaves of one case of our own file."""
        if group is None:
            if count > 1:
                raise self.source.fail(said, f"no assert follows with the {count} leaves")
            return tuple(Leaf((), self._multipliers(said.at, stop)) for _ in range(count))
        items = _items(asserted(self.source, group))
        if len(items) != count:
            raise self.source.fail(group, f"{count} leaves are announced, here are {len(items)}")
        ends = [*(item.at for item in items[1:]), stop]
        return tuple(
            Leaf(self.literals.leaf(item), self._multipliers(item.at, end))
            for item, end in zip(items, ends, strict=True)
        )

    def _multipliers(self, start: int, stop: int) -> tuple[Multipliers, ...] | None:
        lines = [w for w in self.source.comments_in(start, stop) if w.text.startswith(MARK)]
        return read_multipliers(self.source, lines, self.units, self._numbers)

    def _statement(self, stated: list[Node], count: int = 1) -> tuple[tuple[Case, ...], int, int]:
        if count == 1:
            found = statement(self.source, self.variables, stated)
            return found.cases, found.inputs, found.outputs
        inputs, outputs = (self.variables.count(self.source, kind) for kind in "XY")
        cases: list[Case] = []
        for node in stated:
            for item in _items(node):
                formula = normal(
                    self.source, [item], lambda s, node: comparison(s, node, self.variables)
                )
                cases += cases_of(self.source, formula, inputs, outputs)
        return tuple(cases), inputs, outputs

    def _rectifiers(self, group: Group) -> None:
        """`(declare-pwl N_1 N_2 ReLU)`."""
        words = [item for item in group.items if isinstance(item, Word)]
        if len(words) != len(group.items) or len(words) < 3 or words[-1].text != "ReLU":
            raise self.source.fail(group, "expected (declare-pwl N_1 ... ReLU); other activations "
                                   "are not supported")  # fmt: skip
        for word in words[1:-1]:
            self.variables.add_scalar(self.source, word, "N")


def _items(node: Node) -> tuple[Node, ...]:
    """The members of an `or`; of anything else, itself."""
    if isinstance(node, Group) and node.head == "or":
        return node.items[1:]
    return (node,)


def _mentions_rectifiers(group: Group) -> bool:
    def words(node: Node) -> Iterator[str]:
        if isinstance(node, Word):
            yield node.text
        else:
            for item in node.items:
                yield from words(item)

    return any(text.startswith("N_") for text in words(group))
