"""The summary rows as tables: one line a quantity, one column a setting, where they allow it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from activjax.runs import _numbers
from activjax.runs._html import Html, esc, join, tag
from activjax.runs.result import Row

_MOST_COLUMNS = 6
_DAGGER = "†"


@dataclasses.dataclass(frozen=True)
class Pivot:
    """Rows laid out by one setting.

    Attributes:
        key: the setting whose values are the columns.
        columns: its values, numbers in ascending order.
        others: the settings that are columns of their own.
        lines: for each quantity its rows, one for each column or None.
    """

    key: str
    columns: list[Any]
    others: list[str]
    lines: list[list[Row | None]]


def arrange(rows: Sequence[Row]) -> tuple[Pivot | None, list[Row]]:
    """The rows that are best compared side by side, and the rest, grouped by name."""
    best, rest = None, list(rows)
    for key in dict.fromkeys(k for row in rows for k in row.where):
        found = _pivot(rows, key)
        if found and (best is None or len(found[1]) < len(rest)):
            best, rest = found
    order = list(dict.fromkeys((row.name, row.unit) for row in rest))
    return best, sorted(rest, key=lambda row: order.index((row.name, row.unit)))


def _pivot(rows: Sequence[Row], key: str) -> tuple[Pivot, list[Row]] | None:
    columns = {_same(row.where[key]): row.where[key] for row in rows if key in row.where}
    if not 2 <= len(columns) <= _MOST_COLUMNS:
        return None
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in columns.values()):
        columns = dict(sorted(columns.items(), key=lambda item: item[1]))
    lines: dict[str, dict[str, Row]] = {}
    for row in rows:
        if key in row.where:
            settings = {k: v for k, v in row.where.items() if k != key}
            line = lines.setdefault(_same([row.name, row.unit, settings]), {})
            if line.setdefault(_same(row.where[key]), row) is not row:
                return None  # two numbers for one cell
    lines = {name: line for name, line in lines.items() if len(line) > 1}
    if not lines:
        return None
    used = {id(row) for line in lines.values() for row in line.values()}
    shown = [row for row in rows if id(row) in used]
    others = list(dict.fromkeys(k for row in shown for k in row.where if k != key))
    table = [[line.get(c) for c in columns] for line in lines.values()]
    return Pivot(key, list(columns.values()), others, table), [r for r in rows if id(r) not in used]


def pivot_table(pivot: Pivot) -> Html:
    """The table of a `Pivot`: in a cell the value, its interval and its baseline."""
    corner = [tag("th", "quantity", scope="col", rowspan=2)]
    corner += [tag("th", name, scope="col", rowspan=2) for name in pivot.others]
    span = tag("th", pivot.key, scope="colgroup", colspan=len(pivot.columns))
    trials = tag("th", "n", scope="col", rowspan=2, class_="num")
    values = [tag("th", setting(v), scope="col", class_="num") for v in pivot.columns]
    head = tag("thead", tag("tr", corner, span, trials), tag("tr", values))
    places = _numbers.aligned([_places([row for row in line if row]) for line in pivot.lines])
    lines = [_pivot_line(pivot, line, p) for line, p in zip(pivot.lines, places)]
    body = tag("tbody", lines, class_="lines")
    return tag("table", head, body, class_="wide")


def _pivot_line(pivot: Pivot, line: list[Row | None], places: int | None) -> Html:
    rows = [row for row in line if row is not None]
    named = {row.baseline_name for row in rows}
    common = named.pop() if len(named) == 1 else None
    counts = {row.n for row in rows}
    cells = []
    for row in line:
        if row is None:
            cells.append(tag("td", _numbers.MISSING, class_="num"))
            continue
        base = _baseline(row, places, name=row.baseline_name if common is None else "")
        count = tag("span", f"n = {row.n}", class_="small") if len(counts) > 1 else None
        cells.append(tag("td", _value(row, places), _interval(row, places, "ci"), base, count,
                         class_="num"))  # fmt: skip
    first = rows[0]
    title = tag("th", _quantity(first), _against(rows, common), scope="row")
    others = [tag("td", setting(first.where.get(k))) for k in pivot.others]
    trials = tag("td", str(first.n) if len(counts) == 1 else "", class_="num")
    return tag("tr", title, others, cells, trials)


def long_table(rows: Sequence[Row]) -> Html:
    """One line a row: settings, value, interval, n, baseline and its name."""
    keys = list(dict.fromkeys(k for row in rows for k in row.where))
    heads = [tag("th", text, scope="col") for text in ("quantity", *keys)]
    heads += [
        tag("th", text, scope="col", class_="num")
        for text in ("value", "95 % interval", "n", "baseline")
    ]
    heads.append(tag("th", "what the baseline is", scope="col"))
    bodies, groups = [], {}
    for row in rows:
        groups.setdefault((row.name, row.unit), []).append(row)
    digits = _numbers.aligned([_places(group) for group in groups.values()])
    for group, places in zip(groups.values(), digits):
        lines = []
        for i, row in enumerate(group):
            title = tag("th", _quantity(row), scope="rowgroup", rowspan=len(group))
            lines.append(
                tag(
                    "tr",
                    None if i else title,
                    [tag("td", setting(row.where.get(k))) for k in keys],
                    tag("td", _value(row, places), class_="num"),
                    tag("td", _interval(row, places, None), class_="num"),
                    tag("td", row.n, class_="num"),
                    tag("td", _baseline(row, places, None), class_="num"),
                    tag("td", row.baseline_name or None, class_="text"),
                )
            )
        bodies.append(tag("tbody", lines))
    head = tag("thead", tag("tr", heads))
    return tag("table", head, bodies, class_="wide")


def setting(value: Any) -> str:
    """The value of a setting, as text."""
    if isinstance(value, float):
        return f"{value:g}"
    return _numbers.MISSING if value is None else str(value)


def inside(row: Row) -> bool:
    """Whether the baseline lies inside the interval of the value."""
    known = row.baseline is not None and row.low is not None and row.high is not None
    return known and row.low < row.high and row.low <= row.baseline <= row.high  # type: ignore


def _same(value: Any) -> str:
    """A key that tells 1, 1.0 and true apart."""
    return json.dumps(value, sort_keys=True)


def _places(rows: Sequence[Row]) -> int | None:
    values = [number for row in rows for number in (row.value, row.baseline)]
    halves = [
        (row.high - row.low) / 2 for row in rows if row.low is not None and row.high is not None
    ]
    return _numbers.decimals(values, halves)


def _number(value: float, places: int | None, **attributes: Any) -> Html:
    text = _numbers.number(value, places)
    if not math.isfinite(value):
        return tag("span", text, class_="odd")
    return tag("data", text, value=repr(value), **attributes)


def _value(row: Row, places: int | None) -> Html:
    return _number(row.value, places, class_="value")


def _interval(row: Row, places: int | None, name: str | None) -> Html:
    if row.low is None or row.high is None:
        return tag("span", "no interval", class_="small")
    text = join([_number(row.low, places), _number(row.high, places)], ", ")
    return tag("span", "[", text, "]", class_=name)


def _baseline(row: Row, places: int | None, name: str | None) -> Html:
    if row.baseline is None:
        return tag("span", _numbers.MISSING, class_="base" if name is not None else None)
    mark = _DAGGER if inside(row) else ""
    number = _number(row.baseline, places)
    if name is None:
        return esc([mark, number])
    return tag("span", "vs ", mark, number, f" ({name})" if name else "", class_="base")


def _quantity(row: Row) -> Html:
    return esc([row.name, f" ({row.unit})" if row.unit else ""])


def _against(rows: Sequence[Row], common: str | None) -> Html | None:
    if not common:
        return None
    text = "vs " if any(row.baseline is not None for row in rows) else "no baseline: "
    return tag("span", text, common, class_="small")
