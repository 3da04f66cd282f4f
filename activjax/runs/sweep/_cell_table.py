"""The first cells of a sweep as a plain table of its report, for readers without scripts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from activjax.runs import _numbers
from activjax.runs._html import Html, scroll, tag
from activjax.runs.browse._packed import places
from activjax.runs.browse._sweeps import worth_showing
from activjax.runs.sweep._formats import Column
from activjax.runs.sweep.index import MISSING, Line

PLAIN = 500  # lines
_ID = re.compile(r"[0-9A-Za-z_-]+$")


def cell_table(lines: Sequence[Line], axes: Sequence[str]) -> list[Html | None]:
    """The table, and what it leaves out.

    Args:
        lines: the cells.
        axes: the swept keys in order.
    """
    if not lines:
        return []
    shown = list(lines[:PLAIN])
    table, constant = _shown(worth_showing(shown, axes))
    decimals = [places(column) for column in table]
    text = "All cells, each linked to its record; numbers are rounded here and exact there."
    text += (
        f" Baselines that are the same for all cells: {', '.join(constant)}." if constant else ""
    )
    head = tag("tr", [
        tag("th", tag("span", column.name), _small(column.unit), scope="col",
            class_=_class(column)) for column in table
    ])  # fmt: skip
    body = [
        tag("tr", [_cell(column, i, p, line) for column, p in zip(table, decimals)])
        for i, line in enumerate(shown)
    ]
    whole = tag("table", tag("thead", head), tag("tbody", body, class_="lines"))
    note = (
        f"These are the first {PLAIN} of {len(lines):,} cells; with scripts enabled all are here."
    )
    return [
        scroll(whole, "Cells", text),
        tag("p", note) if len(lines) > PLAIN else None,
    ]


def _shown(table: list[Column]) -> tuple[list[Column], list[str]]:
    """The columns worth the room, and the baselines that are the same everywhere, in words."""
    kept, constant = [], []
    for column in table:
        known = {v for v in column.values if v is not None}
        if column.role == "baseline" and len(known) == 1:
            named = f" ({column.note})" if column.note else ""
            name = column.name.removeprefix("baseline: ")
            constant.append(f"{name} {_numbers.number(known.pop())}{named}")
        else:
            kept.append(column)
    return kept, constant


def _class(column: Column) -> str | None:
    return "num" if column.kind in ("integer", "number") else None


def _cell(column: Column, i: int, decimals: int | None, line: Line) -> Html:
    value = column.values[i]
    if column.role == "record":
        return tag("td", link(line))
    if value is None:
        return tag("td", "" if column.role == "error" else _numbers.MISSING, class_=_class(column))
    text = text_of(value, decimals)
    odd = isinstance(value, float) and not math.isfinite(value)
    state = f"state-{value}" if column.role == "state" else None
    inner = tag("span", text, class_="odd" if odd else state) if odd or state else text
    return tag("td", inner, class_=_class(column))


def text_of(value: Any, decimals: int | None) -> str:
    """A value as the table shows it, by the script or without it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value).replace("-", _numbers.MINUS)
    return _numbers.number(value, decimals) if isinstance(value, float) else str(value)


def link(line: Line) -> Any:
    """A link to the record of a cell, if it has one and its id is one that we made."""
    linked = line.state != MISSING and _ID.match(line.id)
    return tag("a", line.id, href=f"cells/{line.id}.json") if linked else line.id


def _small(unit: str) -> Html | None:
    return tag("span", unit, class_="small") if unit else None
