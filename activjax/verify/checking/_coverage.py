"""Whether the leaves of a proof leave nothing of a box out.

Lists that are written as a tree is walked (leaves in depth-first order, literals in path order) are
checked in one pass. Any other list is checked by Shannon's expansion: choose a unit or a cut,
assume each side in turn, drop what cannot hold, until some leaf has no condition left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from activjax.verify._tree import Literal

#: Literals that the expansion may look at before it gives up.
MOST = 20_000_000

Path = tuple[Literal, ...]
Sides = dict[int, tuple[Fraction, Fraction]]


def uncovered(
    leaves: Sequence[Path],
    lower: Sequence[Fraction],
    upper: Sequence[Fraction],
    assumed: Path = (),
    *,
    most: int = MOST,
) -> str:
    """Why leaves do not cover a box; empty if they do.

    Args:
      leaves: the literals of each.
      lower, upper: the box.
      assumed: what holds of every input that must be covered.
      most: steps before giving up, which counts as not covered.
    """
    if not leaves:
        return "there are no leaves"
    if is_tree(leaves):
        return ""
    return _Expansion(leaves, lower, upper, assumed, most).run()


def is_tree(leaves: Sequence[Path]) -> bool:
    """Whether they are all leaves of a binary tree, in order; time linear in their literals."""
    at, depth, count = 0, 0, len(leaves)
    expected: list[Literal] = []  # what the second side of each open node must say
    opened: list[int] = []
    while True:
        if at == count:
            return False
        path = leaves[at]
        if len(path) < depth:
            return False
        for k in range(depth, len(path)):
            expected.append(_other(path[k]))
            opened.append(k)
        at += 1
        # Close the sides that end with this leaf; go on with the second side of the last open one.
        if not opened:
            return at == count
        if at == count:
            return False
        k = opened.pop()
        wanted = expected.pop()
        follower = leaves[at]
        if len(follower) <= k or follower[:k] != path[:k] or follower[k] != wanted:
            return False
        depth = k + 1


def _other(literal: Literal) -> Literal:
    return Literal(literal.kind, literal.index, not literal.positive, literal.at)


class _Expansion:
    def __init__(
        self,
        leaves: Sequence[Path],
        lower: Sequence[Fraction],
        upper: Sequence[Fraction],
        assumed: Path,
        most: int,
    ) -> None:
        self.box: Sides = dict(enumerate(zip(lower, upper, strict=True)))
        self.left = most
        known: list[Path] = [tuple(path) for path in leaves]
        for literal in assumed:
            known = self._given(known, literal, self.box)
        # What the box itself decides.
        self.start = [p for path in known if (p := _inside(path, self.box)) is not None]

    def run(self) -> str:
        stack: list[tuple[list[Path], Sides, Path]] = [(self.start, self.box, ())]
        while stack:
            leaves, box, path = stack.pop()
            if any(not leaf for leaf in leaves):
                continue
            if not leaves:
                where = " and ".join(map(words, path)) or "the whole box"
                return f"no leaf covers {where}"
            chosen = self._chosen(leaves)
            if self.left < 0:
                return "not decided: the leaves are no tree, and telling took too many steps"
            for side in (_other(chosen), chosen):
                inner = box
                if chosen.kind == "input":
                    low, high = box[chosen.index]
                    cut = (max(low, side.at), high) if side.positive else (low, min(high, side.at))
                    inner = {**box, chosen.index: cut}
                stack.append((self._given(leaves, side, inner), inner, (*path, side)))
        return ""

    def _chosen(self, leaves: list[Path]) -> Literal:
        """A literal of the unit or cut that occurs most."""
        counts: Counter[tuple[str, int, Fraction]] = Counter()
        for leaf in leaves:
            counts.update((x.kind, x.index, x.at) for x in leaf)
            self.left -= len(leaf)
        (kind, index, at), _ = counts.most_common(1)[0]
        return Literal(kind, index, True, at)  # pyright: ignore

    def _given(self, leaves: list[Path], literal: Literal, box: Sides) -> list[Path]:
        """What is left of leaves where a literal holds."""
        kept = []
        for leaf in leaves:
            if literal.kind == "input":
                rest = _inside(leaf, box)
            elif any(x.kind == "relu" and x.index == literal.index
                     and x.positive != literal.positive for x in leaf):  # fmt: skip
                rest = None
            else:
                rest = tuple(x for x in leaf if (x.kind, x.index) != ("relu", literal.index))
            if rest is not None:
                kept.append(rest)
        return kept


def _inside(path: Path, box: Sides) -> Path | None:
    """The literals that a box leaves open; None if it breaks one, or leaves no more than an edge.

    A literal that holds on an edge of the box alone is dropped with its leaf: that can only make
    the answer no.
    """
    kept = []
    for x in path:
        if x.kind == "input":
            low, high = box[x.index]
            if (low >= x.at) if x.positive else (high <= x.at):
                continue
            if (high <= x.at) if x.positive else (low >= x.at):
                return None
        kept.append(x)
    return tuple(kept)


def words(literal: Literal) -> str:
    """A literal as an atom of the proof, units counted from 1 as there."""
    if literal.kind == "relu":
        return f"N_{literal.index + 1} {'>= 0' if literal.positive else '< 0'}"
    return f"X_{literal.index} {'>=' if literal.positive else '<='} {float(literal.at)}"
