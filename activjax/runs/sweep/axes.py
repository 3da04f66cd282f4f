"""From the value of `sweep:` in a config to the points of the sweep, in order.

A space is a mapping with the sections `grid`, `zip`, `list` and `random`, which multiply in this
order; then `when` multiplies the points that match further, and `except` leaves some out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from activjax.runs._words import did_you_mean, dotted, show
from activjax.runs.schema import Location, Problem
from activjax.runs.sweep import _values
from activjax.runs.sweep._values import LIMIT, MISSING, frozen, look_up

Point = dict[str, Any]
Conditions = dict[str, frozenset[Hashable]]  # key -> the values that match

_GIVING = ("grid", "zip", "list", "random")
_SECTIONS = (*_GIVING, "when", "except")


@dataclasses.dataclass(frozen=True)
class Space:
    """The points of a sweep.

    Attributes:
        points: distinct, in order; each maps dotted keys to values (shared: do not change them).
        merged: how many points were left out because an equal one comes before.
        keys: every dotted key that some point sets, in order of appearance.
        where: key -> path below `sweep` of the first axis that sets it.
    """

    points: tuple[Point, ...]
    merged: int
    keys: tuple[str, ...]
    where: dict[str, Location]


def read(
    data: Any, base: Mapping[str, Any], known: Sequence[str]
) -> tuple[Space | None, list[Problem]]:
    """Work out the points of a sweep.

    Args:
        data: the value of `sweep:`, a space or a list of spaces, whose points are joined.
        base: the config that points are laid over; `if` and `except` may ask for its keys.
        known: the keys of the experiment's `Config`.

    Returns:
        The points and no problems, or None and all problems found, with paths below `sweep`.
    """
    reader = _Reader(base, known)
    if isinstance(data, (list, tuple)) and data:
        parts = [reader.space(item, (i,), {}) for i, item in enumerate(data)]
    else:
        parts = [reader.space(data, (), {})]
    points: list[Point] = []
    with contextlib.suppress(_TooMany):
        if not reader.problems:
            reader.limit(sum(part.size for part in parts), ())
            points = [point for part in parts for point in reader.points(part, [{}])[0]]
            reader.limit(len(points), ())
    keys = tuple(dict.fromkeys(itertools.chain.from_iterable(points)))
    if not keys and not reader.problems:
        reader.add((), "expected at least one key to sweep")
    if reader.problems:
        return None, reader.problems
    distinct: dict[Hashable, Point] = {}
    for point in points:
        distinct.setdefault(frozen(point), point)
    where, merged = {key: reader.where[key] for key in keys}, len(points) - len(distinct)
    return Space(tuple(distinct.values()), merged, keys, where), []


class _TooMany(Exception):
    """There are more points than anyone wants; the problem has been added."""


@dataclasses.dataclass
class _Part:
    """One space as it was read: the product of `factors`, then `when`, then `leave_out`."""

    path: Location
    factors: list[list[Point]] = dataclasses.field(default_factory=list)
    keys: dict[str, Location] = dataclasses.field(default_factory=dict)  # of the factors
    scope: dict[str, Location] = dataclasses.field(default_factory=dict)  # with outer and inner
    when: list[tuple[Conditions, _Part]] = dataclasses.field(default_factory=list)
    leave_out: list[Conditions] = dataclasses.field(default_factory=list)

    @property
    def size(self) -> int:
        return math.prod(map(len, self.factors))


class _Reader:
    """Reads spaces, then works out their points; collects the problems of both."""

    def __init__(self, base: Mapping[str, Any], known: Sequence[str]):
        self.base, self.known = base, known
        self.problems: list[Problem] = []
        self.where: dict[str, Location] = {}

    def add(self, path: Location, message: str) -> None:
        self.problems.append(Problem(path, message))

    def limit(self, count: int, path: Location) -> None:
        if count > LIMIT:
            self.add(path, f"{count} points, at most {LIMIT} are allowed")
            raise _TooMany

    # reading

    def space(self, data: Any, path: Location, outer: Mapping[str, Any]) -> _Part:
        """Read a space; `outer` holds the keys swept outside, of which `when` may ask."""
        part, clause = _Part(path), path[-2:-1] == ("when",)
        names = ("if", *_SECTIONS) if clause else _SECTIONS
        needed = (*_GIVING, "when") if clause else _GIVING
        data = self.mapping(data, path, f"a mapping with {', '.join(needed[:-1])} or {needed[-1]}")
        unknown = [name for name in data if name not in names]
        for name in unknown:
            hint = did_you_mean(str(name), names)
            if str(name).partition(".")[0] in self.known:
                hint = "; an axis goes into `grid` or another section"
            self.add((*path, name), f"unknown section{hint} (sections: {', '.join(names)})")
        if data and not unknown and data.keys().isdisjoint(needed):
            given = ", ".join(f"`{name}`" for name in data)
            self.add(path, f"expected at least one of {', '.join(needed)}, got only {given}")
        for name in _GIVING:
            if name in data:
                part.factors += getattr(self, f"_{name}")(data[name], (*path, name), part.keys)
        part.scope.update({**outer, **part.keys})
        for here, item in self.items(data, "when", path, "clauses with `if`"):
            matching: Conditions = {}
            if isinstance(item, dict) and "if" in item:
                matching = self.conditions(item["if"], (*here, "if"), part.scope)
            elif isinstance(item, dict) and item:
                self.add(here, "missing key 'if' (which points the clause is for)")
            inner = self.space(item, here, part.scope)
            part.when.append((matching, inner))
            part.scope.update(inner.scope)
        for here, item in self.items(data, "except", path, "mappings of values"):
            part.leave_out.append(self.conditions(item, here, part.scope))
        return part

    def mapping(self, data: Any, path: Location, wanted: str) -> dict[str, Any]:
        if isinstance(data, dict) and data:
            return {str(key): value for key, value in data.items()}
        self.add(path, f"expected {wanted}, got {show(data)}")
        return {}

    def items(
        self, data: dict[str, Any], name: str, path: Location, wanted: str
    ) -> Iterator[tuple[Location, Any]]:
        """The items of the list `data[name]` with their paths; none if there is no such key."""
        found, path = data.get(name), (*path, name)
        if isinstance(found, (list, tuple)) and found:
            yield from (((*path, i), item) for i, item in enumerate(found))
        elif name in data:
            self.add(path, f"expected a list of {wanted} (one or more), got {show(found)}")

    def axes(self, data: Any, path: Location, keys: dict) -> Iterator[tuple[str, list[Any]]]:
        for key, values in self.mapping(data, path, "a mapping from keys to axes").items():
            self.claim(key, (*path, key), keys)
            yield key, _values.axis(values, (*path, key), self.problems)

    def _grid(self, data: Any, path: Location, keys: dict) -> list[list[Point]]:
        return [[{key: v} for v in values] for key, values in self.axes(data, path, keys)]

    def _zip(self, data: Any, path: Location, keys: dict) -> list[list[Point]]:
        axes = dict(self.axes(data, path, keys))
        lengths = {key: len(values) for key, values in axes.items()}
        if len(set(lengths.values())) > 1 and all(lengths.values()):
            said = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            self.add(path, f"expected axes of equal length, got {said}")
        return [[dict(zip(axes, row)) for row in zip(*axes.values())]]

    def _list(self, data: Any, path: Location, keys: dict) -> list[list[Point]]:
        points, before = [], dict(keys)
        for here, item in self.items({"list": data}, "list", path[:-1], "points"):
            if not isinstance(item, dict):
                self.add(here, f"expected a mapping from keys to values, got {show(item)}")
                continue
            points.append({str(key): value for key, value in item.items()})
            taken = dict(before)  # the other items are other points
            for key, value in points[-1].items():
                self.claim(key, (*here, key), taken)
                _values.refuse_nan(value, (*here, key), self.problems)
            keys.update({**taken, **keys})
        return [points]

    def _random(self, data: Any, path: Location, keys: dict) -> list[list[Point]]:
        data = self.mapping(data, path, "a mapping with `draws` and distributions")
        own = {key: data[key] for key in data if key not in ("draws", "seed")}
        if data and "draws" not in data:
            self.add(path, "missing key 'draws' (how many points to draw)")
        if data and not own:
            self.add(path, "expected at least one key with a distribution")
        count = _values.integer(data.get("draws", 1), 1, LIMIT, (*path, "draws"), self.problems)
        seed = _values.integer(data.get("seed", 0), 0, None, (*path, "seed"), self.problems)
        columns = []
        for key, value in own.items():
            self.claim(key, (*path, key), keys)
            columns.append(_values.draws(value, count, seed, key, (*path, key), self.problems))
        return [[dict(zip(own, row)) for row in zip(*columns)]]

    def claim(self, key: str, path: Location, taken: dict[str, Location]) -> None:
        """Check a key that is swept at `path` and enter it in `taken`."""
        self.check(key, path)
        if (other := _values.clash(key, taken)) is not None:
            at = dotted(("sweep", *taken[other]))
            same = f"'{key}' is swept twice, here and in {at}"
            parts = f"'{key}' and '{other}' ({at}) overlap: sweep the whole or its parts, not both"
            self.add(path, same if key == other else parts)
        taken.setdefault(key, path)
        self.where.setdefault(key, path)

    def check(self, key: str, path: Location) -> bool:
        """Whether a dotted key may be in the config; a problem is added if not."""
        if problem := _values.key_problem(key, self.known):
            self.add(path, problem)
        return not problem

    def conditions(self, data: Any, path: Location, scope: Mapping[str, Any]) -> Conditions:
        """Read which values keys must have; what the base decides is decided here."""
        matching: Conditions = {}
        for key, value in self.mapping(data, path, "a mapping from keys to values").items():
            here, options = (*path, key), value if isinstance(value, (list, tuple)) else [value]
            if not options:
                self.add(here, f"expected a value or a list of values, got {show(value)}")
            if not self.check(key, here):
                continue
            values, fixed = frozenset(map(frozen, options)), look_up(key, {}, self.base)
            inside = [other for other in scope if other.startswith(f"{key}.")]
            if inside:
                self.add(here, f"only parts of '{key}' are swept: ask for {', '.join(inside)}")
            elif _values.clash(key, scope) is not None:
                matching[key] = values
            elif fixed is MISSING:
                near = did_you_mean(key, [*scope, *self.base])
                self.add(here, f"'{key}' is neither swept nor in the base config{near}")
            elif frozen(fixed) not in values:
                matching[key] = frozenset()
        return matching

    # working out

    def points(self, part: _Part, points: list[Point]) -> list[list[Point]]:
        """Lay a space over each of `points`; one list of points comes from each."""
        self.limit(len(points) * part.size, part.path)
        rows = itertools.product(*part.factors)
        product = [{key: value for own in row for key, value in own.items()} for row in rows]
        groups = [[{**point, **own} for own in product] for point in points]
        for matching, clause in part.when:
            flags = [[self.matches(matching, point) for point in group] for group in groups]
            flat = [*itertools.chain.from_iterable(groups)]
            matched = [*itertools.compress(flat, itertools.chain.from_iterable(flags))]
            # no values at all: the base switches the clause off, as an override may want
            if not matched and all(matching.values()):
                had = _values.found(matching, flat, self.base)
                self.add((*clause.path, "if"), f"matches no point ({had})")
            self.check_keys(clause, matched)
            laid = iter(self.points(clause, matched) if matched else ())
            groups = [
                [p for point, flag in zip(group, now) for p in (next(laid) if flag else [point])]
                for group, now in zip(groups, flags)
            ]
            self.limit(sum(map(len, groups)), part.path)
        return self.without(part, groups) if part.leave_out and any(groups) else groups

    def check_keys(self, clause: _Part, matched: list[Point]) -> None:
        for keys in {tuple(point): None for point in matched}:
            for key, path in clause.keys.items():
                if (other := _values.clash(key, keys)) is not None:
                    said = f"'{key}' is swept twice: points that match `if` have '{other}' already"
                    self.add(path, f"{said} (keys: {', '.join(keys)})")

    def without(self, part: _Part, groups: list[list[Point]]) -> list[list[Point]]:
        flat = [*itertools.chain.from_iterable(groups)]
        for i, matching in enumerate(part.leave_out):
            if not any(self.matches(matching, point) for point in flat):
                had = _values.found(matching, flat, self.base)
                self.add((*part.path, "except", i), f"leaves out no point ({had})")
        kept = [
            [point for point in group if not any(self.matches(m, point) for m in part.leave_out)]
            for group in groups
        ]
        if not any(kept):
            self.add((*part.path, "except"), "leaves out every point")
        return kept

    def matches(self, matching: Conditions, point: Point) -> bool:
        return all(
            frozen(look_up(key, point, self.base)) in values for key, values in matching.items()
        )
