"""How to plot a quantity of a sweep: which axis goes along x, which is lines, which is panels."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from activjax.runs.result import Row

LINES, HEAT, SCATTER = "lines", "heat", "scatter"
_LONG = 7  # values that are still told apart as lines
_MOST_LINES = 10
_MOST_PANELS = 6


@dataclasses.dataclass(frozen=True)
class Axis:
    """Keys that vary together.

    Attributes:
        keys: one, or several whose combinations are the values.
        values: for each its tuple of settings, None where a point has none; in order.
        numeric: all values are numbers.
        scale: `"linear"`, `"log"` or `"ordinal"` (positions).
    """

    keys: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    numeric: bool
    scale: str

    @property
    def name(self) -> str:
        """The keys, as a label."""
        return ", ".join(self.keys)

    def at(self, row: Row) -> tuple[Any, ...]:
        """The value of a row."""
        return tuple(row.where.get(key) for key in self.keys)

    def place(self, value: tuple[Any, ...]) -> float:
        """Where a value lies along x."""
        return self.values.index(value) if self.scale == "ordinal" else value[0]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How to plot one quantity.

    Attributes:
        kind: `LINES`, `HEAT` or `SCATTER`.
        x: the axis along x; of a scatter plot, those of its panels.
        lines: lines, the y axis of a heat map, or the colours of dots.
        panels: what stands in each panel: settings of the panel axis, or an axis.
        panel_axis: None where there is one panel, or for a scatter plot.
        notes: what a caption has to say.
    """

    kind: str
    x: Axis
    lines: Axis | None
    panels: tuple[Any, ...]
    panel_axis: Axis | None
    notes: tuple[str, ...]


def layout(rows: Sequence[Row], keys: Iterable[str]) -> Layout | None:
    """The layout of one quantity's means; None if nothing varies.

    Args:
        rows: of one quantity.
        keys: the swept keys in order; settings of the rows come after them.
    """
    keys = list(keys)
    order = dict.fromkeys([*keys, *(k for row in rows for k in row.where)])
    axes = [axis for axis in (_axis((key,), rows) for key in order) if len(axis.values) > 1]
    axes, notes = _untied(axes, rows)
    if not axes:
        return None
    numeric = [axis for axis in axes if axis.numeric]
    x = max(numeric or axes, key=lambda axis: len(axis.values))  # the first of equal ones
    others = [axis for axis in axes if axis is not x]
    second = max((a for a in others if a.numeric), key=lambda a: len(a.values), default=None)
    long = second is not None and x.numeric and len(second.values) > _LONG
    points = len({tuple(axis.at(row) for axis in axes) for row in rows})
    if len(numeric) > 1 and points > _LONG and _sparse(axes, others, rows, points):
        along = [axis for axis in numeric if len(axis.values) > _LONG]
        notes += _told(_MOST_PANELS, len(along), "long axes")
        # what tells the rows of one cell apart, before what tells cells apart
        short = sorted((a for a in axes if a not in along and len(a.values) <= _LONG),
                       key=lambda a: a.keys[0] in keys)  # fmt: skip
        colours = next(iter(short), None)
        return Layout(SCATTER, x, colours, tuple(along[:_MOST_PANELS]), None, tuple(notes))
    if long:
        lines = second
    else:
        merged = _conditional(others, rows)
        if merged:
            others = [axis for axis in others if axis not in merged]
            others.insert(0, _axis(tuple(k for axis in merged for k in axis.keys), rows))
        short = [axis for axis in others if len(axis.values) <= _LONG]
        lines = next(iter(others[:1] if merged else short or others), None)
    rest = [axis for axis in others if axis is not lines]
    panel_axis = _axis(tuple(k for axis in rest for k in axis.keys), rows) if rest else None
    panels = panel_axis.values if panel_axis else ((),)
    notes += _told(_MOST_PANELS, len(panels), f"panels ({panel_axis.name})" if panel_axis else "")
    if lines is not None and not long and len(lines.values) > _MOST_LINES:
        notes += _told(_MOST_LINES, len(lines.values), f"lines ({lines.name})")
        lines = dataclasses.replace(lines, values=lines.values[:_MOST_LINES])
    kind = HEAT if long else LINES
    return Layout(kind, x, lines, panels[:_MOST_PANELS], panel_axis, tuple(notes))


def _axis(keys: tuple[str, ...], rows: Sequence[Row]) -> Axis:
    found = {}
    for row in rows:
        value = tuple(row.where.get(key) for key in keys)
        found.setdefault(_token(value), value)
    values = list(found.values())
    numbers = [v[0] for v in values if len(keys) == 1 and _is_number(v[0])]
    numeric = len(numbers) == len(values)
    if len(keys) == 1:  # numbers in order, then the rest as it comes
        values.sort(key=lambda v: (not _is_number(v[0]), v[0] if _is_number(v[0]) else 0))
    else:
        alone = [_axis((key,), rows).values for key in keys]
        values.sort(key=lambda value: [at.index((v,)) for at, v in zip(alone, value)])
    scale = _scale(sorted(numbers)) if numeric else "ordinal"
    return Axis(keys, tuple(values), numeric, scale)


def _scale(values: Sequence[float]) -> str:
    """Log where steps are more even as ratios; positions where a zero stands before such values."""
    zero = len(values) > 3 and values[0] == 0
    positive = values[1:] if zero else values
    if len(positive) < 3 or positive[0] <= 0 or positive[-1] < 8 * positive[0]:
        return "linear"
    even = _unevenness([math.log(v) for v in positive]) < _unevenness(positive)
    return ("ordinal" if zero else "log") if even else "linear"


def _unevenness(values: Sequence[float]) -> float:
    steps = [b - a for a, b in zip(values, values[1:])]  # noqa: RUF007
    mean = sum(steps) / len(steps)
    return math.sqrt(sum((s - mean) ** 2 for s in steps) / len(steps)) / mean


def _untied(axes: list[Axis], rows: Sequence[Row]) -> tuple[list[Axis], list[str]]:
    """Without the axes that go with an earlier one, value by value."""
    kept: list[Axis] = []
    notes = []
    for axis in axes:
        partner = next((other for other in kept if _tied(other, axis, rows)), None)
        if partner is None:
            kept.append(axis)
        else:
            notes.append(f"{axis.name} varies along with {partner.name}")
    return kept, notes


def _tied(a: Axis, b: Axis, rows: Sequence[Row]) -> bool:
    pairs = {_token([a.at(row), b.at(row)]): (a.at(row), b.at(row)) for row in rows}
    if not len(pairs) == len(a.values) == len(b.values):
        return False
    if not (a.numeric and b.numeric):
        return True
    # draws of two numbers pair them off too, but not in order
    seconds = [second for _, (second,) in sorted((x[0], y) for x, y in pairs.values())]
    return seconds in (sorted(seconds), sorted(seconds, reverse=True))


def _conditional(axes: list[Axis], rows: Sequence[Row]) -> list[Axis]:
    """The axes that only some points have, with the axes that decide which points."""
    partial = [axis for axis in axes if any(None in value for value in axis.values)]
    found = []
    for axis in axes:
        pairs = {(_token(axis.at(row)), *(p.at(row) == (None,) for p in partial)) for row in rows}
        if axis in partial or (partial and len(pairs) == len(axis.values)):
            found.append(axis)
    return found


def _sparse(axes: list[Axis], others: list[Axis], rows: Sequence[Row], points: int) -> bool:
    """Whether the points are no grid: lines would have hardly two points each."""
    lines = len({_token([axis.at(row) for axis in others]) for row in rows})
    full = math.prod(len(axis.values) for axis in axes)
    return bool(others) and lines > _LONG and points < 2 * lines and points < full / 2


def _told(shown: int, there: int, what: str) -> list[str]:
    return [f"only the first {shown} of {there} {what}"] if there > shown else []


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _token(value: Any) -> str:
    """Tells 1 and true apart."""
    return json.dumps(value)
