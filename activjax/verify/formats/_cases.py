"""From a property's formulas to boxes and clauses."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from activjax.verify._problem import Case
from activjax.verify._property import Clause
from activjax.verify.formats._linear import Atom
from activjax.verify.formats._normal import Normal
from activjax.verify.formats._sexpr import Source

_ZERO = Fraction(0)
# of an input: from, to; None where there is no bound
_Side = Fraction | None


class _Parts(NamedTuple):
    """The atoms of one conjunction."""

    sides: dict[int, tuple[_Side, _Side]]
    rows: list[tuple[tuple[Fraction, ...], Fraction]]
    false: bool
    empty: int | None


def cases_of(source: Source, formula: Normal[Atom], inputs: int, outputs: int) -> tuple[Case, ...]:
    """Boxes, each with its clauses, in the order of the file.

    Alternatives of the same box become clauses of one case. A formula that is never true gives one
    case without clauses.

    Raises:
      FormatError: an atom of inputs and outputs together or of several inputs, an input without
        lower or upper bound, an empty box.
    """
    base = _parts(source, formula.always, outputs, {})
    if base.empty is not None:
        raise source.fail(base.empty, "the box is empty: this bound crosses another")
    constrained = sum(
        any(kind == "X" for atoms in choices for atom in atoms for kind, _ in atom.left.weights)
        for choices in formula.choices
    )
    found: dict[tuple, list[Clause]] = {}
    crossed = None
    for atoms in formula.alternatives():
        parts = _parts(source, atoms, outputs, base.sides)
        if parts.empty is not None:
            # alternatives of several `or`s may exclude one another; one that is written may not
            if constrained == 1:
                raise source.fail(parts.empty, "the box is empty: this bound crosses another")
            crossed = parts.empty
        elif not (parts.false or base.false):
            key = tuple(sorted((i, s) for i, s in parts.sides.items() if base.sides.get(i) != s))
            weights, bounds = zip(*base.rows, *parts.rows) if base.rows or parts.rows else ((), ())
            found.setdefault(key, []).append(Clause(weights, bounds))
    if not found:
        if crossed is not None:
            raise source.fail(crossed, "all boxes are empty: this bound crosses another")
        found = {(): []}
    return tuple(_case(source, base.sides | dict(key), found[key], inputs) for key in found)


def _parts(
    source: Source, atoms: Iterable[Atom], outputs: int, known: dict[int, tuple[_Side, _Side]]
) -> _Parts:
    sides: dict[int, tuple[_Side, _Side]] = {}
    rows: list[tuple[tuple[Fraction, ...], Fraction]] = []
    false, empty = False, None
    for (weights, constant), at, _ in atoms:
        kinds = {kind for kind, _ in weights}
        if "N" in kinds:
            raise source.fail(at, "a rectifier N_i belongs into the proof, not the property")
        if kinds == {"X", "Y"}:
            raise source.fail(at, "inputs and outputs in one comparison are not supported; "
                              "expected a bound of one input, or outputs alone")  # fmt: skip
        if kinds == {"Y"}:
            row = [_ZERO] * outputs
            for (_, index), weight in weights.items():
                row[index] = weight
            rows.append((tuple(row), -constant))
            continue
        bounded = [(index, weight) for (_, index), weight in weights.items() if weight]
        if len(bounded) > 1:
            names = ", ".join(f"input {index}" for index, _ in bounded[:3])
            raise source.fail(at, f"a comparison of several inputs ({names}) is not supported; "
                              "expected a bound of one input")  # fmt: skip
        if not bounded:
            false = false or constant > 0
            continue
        index, weight = bounded[0]
        low, high = sides.get(index) or known.get(index) or (None, None)
        value = -constant / weight
        if weight > 0:
            high = value if high is None else min(high, value)
        else:
            low = value if low is None else max(low, value)
        sides[index] = low, high
        if low is not None and high is not None and low > high and empty is None:
            empty = at
    return _Parts(sides, rows, false, empty)


def _case(
    source: Source, sides: dict[int, tuple[_Side, _Side]], clauses: list[Clause], inputs: int
) -> Case:
    lower, upper = [], []
    for index in range(inputs):
        low, high = sides.get(index, (None, None))
        if low is None or high is None:
            side = "lower" if low is None else "upper"
            raise source.fail(len(source.text.rstrip()), f"input {index} has no {side} bound by "
                              "the end of the file; every input needs both")  # fmt: skip
        lower.append(low)
        upper.append(high)
    return Case(tuple(lower), tuple(upper), tuple(clauses))
