"""Whether a proof is of this problem, and its numbers are such as a proof may have."""

from __future__ import annotations

from fractions import Fraction

from activjax.verify._problem import Case, Problem
from activjax.verify._tree import Leaf, Literal, Multipliers, Tree
from activjax.verify.checking._coverage import words


def mismatch(tree: Tree, problem: Problem, units: int) -> str:
    """Why a proof is not about a problem; empty if it is."""
    if tree.digest is not None and tree.digest != problem.digest:
        return (
            f"the proof is of another network: it names {tree.digest[:23]}..., the problem's is "
            f"{problem.digest[:23]}..."
        )
    pairs = (
        (tree.inputs, problem.inputs, "inputs"),
        (tree.outputs, problem.outputs, "outputs"),
        (tree.units, units, "rectifiers"),
    )
    for theirs, ours, what in pairs:
        if theirs != ours:
            return (
                f"the proof is of another network: it has {theirs} {what}, the problem's has {ours}"
            )
    if len(tree.leaves) != len(tree.cases):
        return f"the proof has {len(tree.cases)} cases but leaves for {len(tree.leaves)}"
    for k, case in enumerate(tree.cases):
        if len(case.lower) != problem.inputs or len(case.upper) != problem.inputs:
            return f"case {k + 1} of the proof has a box of {len(case.lower)} inputs"
    for literal in tree.assumed:
        if literal.kind != "relu":
            return f"the proof assumes {words(literal)}; only signs of rectifiers can be assumed"
    for literals, where in [
        (tree.assumed, "what is assumed"),
        *((leaf.literals, place(c, k)) for c, part in enumerate(tree.leaves)
          for k, leaf in enumerate(part)),
    ]:  # fmt: skip
        for literal in literals:
            if literal.kind not in ("relu", "input"):
                return f"{where}: a literal of kind {literal.kind!r}"
            most = units if literal.kind == "relu" else problem.inputs
            if not 0 <= literal.index < most:
                return f"{where}: {words(literal)}, but the network has {most} of these"
            if literal.kind == "relu" and literal.at:
                return f"{where}: {words(literal)} splits at {literal.at}, expected 0"
    return ""


def place(case: int, leaf: int) -> str:
    """A leaf in words, counted from 1."""
    return f"case {case + 1}, leaf {leaf + 1}"


def proved_by(tree: Tree, problem: Problem) -> list[int] | str:
    """For each case of the problem, the case of the proof that covers it; or why there is none."""
    found = []
    for k, case in enumerate(problem.cases):
        fitting = [j for j, theirs in enumerate(tree.cases) if _covers(theirs, case)]
        # The same box before a larger one, and then the same place.
        fitting.sort(key=lambda j: (not _same_box(tree.cases[j], case), j != k))
        if not fitting:
            return (
                f"the proof is of another property: none of its {len(tree.cases)} cases has the box"
                f" and the clauses of case {k + 1}"
            )
        found.append(fitting[0])
    return found


def _same_box(a: Case, b: Case) -> bool:
    return (a.lower, a.upper) == (b.lower, b.upper)


def _covers(theirs: Case, ours: Case) -> bool:
    boxes = zip(theirs.lower, ours.lower, theirs.upper, ours.upper, strict=True)
    return all(a <= b and c >= d for a, b, c, d in boxes) and set(ours.clauses) <= set(
        theirs.clauses
    )


def wrong(leaf: Leaf, assumed: tuple[Literal, ...], multipliers: Multipliers, rows: int,
          units: int) -> str:  # fmt: skip
    """What is wrong with stored multipliers, whatever they prove; empty if nothing is."""
    if len(multipliers.rows) != rows:
        return f"{len(multipliers.rows)} row multipliers, the clause has {rows} rows"
    decided = {x.index for x in (*leaf.literals, *assumed) if x.kind == "relu"}
    for what, numbers in (("slope", multipliers.slopes), ("sign", multipliers.signs)):
        for unit in numbers:
            if not 0 <= unit < units:
                return f"a {what} multiplier of N_{unit + 1}, the network has {units} units"
    for unit, slope in multipliers.slopes.items():
        if unit in decided:
            return f"a slope of N_{unit + 1}, whose sign a literal decides"
        if not 0 <= slope <= 1:
            return f"the slope {float(slope)} of N_{unit + 1} is not in [0, 1]"
    for unit in multipliers.signs:
        if unit not in decided:
            return f"a sign multiplier of N_{unit + 1}, whose sign no literal decides"
    for number in (*multipliers.rows, *multipliers.signs.values()):
        if number < 0:
            return f"the negative multiplier {float(number)}"
    every = (*multipliers.rows, *multipliers.slopes.values(), *multipliers.signs.values())
    for number in every:
        if not _dyadic(number):
            return f"the multiplier {number} is no whole number over a power of two"
    return ""


def _dyadic(number: Fraction) -> bool:
    return number.denominator & (number.denominator - 1) == 0
