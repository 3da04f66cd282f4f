"""The cells of a sweep as a table of its report, and as data for the script that works on it.

Without the script the table has the first cells; with it all of them, sorted and filtered, of which
the lines in view are made.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from activjax.runs import _numbers
from activjax.runs._findings import Counter
from activjax.runs._html import _CONTROL, Html, scroll, tag
from activjax.runs.sweep._formats import Column
from activjax.runs.sweep.index import MISSING, Line
from activjax.runs.sweep.table import columns

PLAIN = 500  # lines without the script
MOST_CELLS = 50_000
MOST_NUMBERS = 300_000  # keeps the page below 5 MB
_ID = re.compile(r"[0-9A-Za-z_-]+$")
_DIGITS = 7
_HELP = (
    "Words are looked for in all columns. Conditions: name=value, !=, <, <=, >, >=; a name with "
    'spaces in quotes or with underscores. Example: width>=32 "test accuracy"<0.9 state=done'
)


def cell_table(lines: Sequence[Line], axes: Sequence[str], number: Counter) -> list[Html | None]:
    """The table, its tools and its data.

    Args:
        lines: the cells.
        axes: the swept keys in order.
        number: numbers tables.
    """
    if not lines:
        return []
    shown = list(lines[:MOST_CELLS])
    table, constant = _shown(columns(shown, axes))
    kept = table[: max(MOST_NUMBERS // len(shown), 4)]
    files = [line.figures or None for line in shown]
    if any(files):
        kept.append(Column("files", "integer", "files", files))
    places = [_places(column) for column in kept]
    text = "All cells, each linked to its record; numbers are rounded here and exact there."
    text += (
        f" Baselines that are the same for all cells: {', '.join(constant)}." if constant else ""
    )
    if len(shown) < len(lines):
        text += f" Here are the first {len(shown):,} of {len(lines):,} cells."
    if len(kept) < len(table):
        text += f" Not here, but in the records: {', '.join(c.name for c in table[len(kept) :])}."
    head = tag("tr", [
        tag("th", tag("span", column.name), _small(column.unit), scope="col",
            class_=_class(column)) for column in kept
    ])  # fmt: skip
    body = [
        tag("tr", [_cell(column, i, p, line) for column, p in zip(kept, places)])
        for i, line in enumerate(shown[:PLAIN])
    ]
    whole = tag("table", tag("thead", head), tag("tbody", body, class_="lines"), id="cells-table")
    box = scroll(whole, number.next("Table"), text)
    return [
        Html(box.replace('class="scroll"', 'class="scroll cells" id="cells-box"', 1)),
        _tools(),
        _plain_note(len(shown)),
        tag("script", Html(_data(kept, places, len(shown))), type="application/json",
            id="cells-data"),
    ]  # fmt: skip


def _shown(table: list[Column]) -> tuple[list[Column], list[str]]:
    """The columns worth the room, and the baselines that are the same everywhere, in words."""
    kept, constant = [], []
    for column in table:
        known = [v for v in column.values if v is not None]
        if column.role == "baseline" and len(set(known)) == 1:
            named = f" ({column.note})" if column.note else ""
            name = column.name.removeprefix("baseline: ")
            constant.append(f"{name} {_numbers.number(known[0])}{named}")
        elif known and not (column.name == "warnings" and not any(known)):
            kept.append(column)
    return kept, constant


def _places(column: Column) -> int | None:
    """Decimals of a column of numbers; of settings as many digits as they need."""
    if column.kind != "number" or column.role == "axis":
        return None
    values = [v for v in column.values if isinstance(v, float) and math.isfinite(v)]
    places = _numbers.decimals(values, digits=4)
    small = places is not None and any(v and abs(v) < 10.0 ** (1 - places) for v in values)
    return None if small else places


def _class(column: Column) -> str | None:
    return "num" if column.kind in ("integer", "number") else None


def _cell(column: Column, i: int, places: int | None, line: Line) -> Html:
    value = column.values[i]
    if column.role == "record":
        return tag("td", link(line))
    if value is None:
        return tag("td", "" if column.role == "error" else _numbers.MISSING, class_=_class(column))
    text = text_of(value, places)
    odd = isinstance(value, float) and not math.isfinite(value)
    state = f"state-{value}" if column.role == "state" else None
    inner = tag("span", text, class_="odd" if odd else state) if odd or state else text
    return tag("td", inner, class_=_class(column))


def text_of(value: Any, places: int | None) -> str:
    """A value as the table shows it, by the script or without it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value).replace("-", _numbers.MINUS)
    return _numbers.number(value, places) if isinstance(value, float) else str(value)


def link(line: Line) -> Any:
    """A link to the record of a cell, if it has one and its id is one that we made."""
    linked = line.state != MISSING and _ID.match(line.id)
    return tag("a", line.id, href=f"cells/{line.id}.json") if linked else line.id


def _small(unit: str) -> Html | None:
    return tag("span", unit, class_="small") if unit else None


def _tools() -> Html:
    """What only the script can use."""
    return tag(
        "div",
        tag("label", "Filter ", tag("input", id="cells-filter", type="search", size=48,
                                    autocomplete="off", spellcheck="false")),
        tag("span", "", id="cells-count", role="status"),
        tag("p", _HELP, class_="small"),
        id="cells-tools", hidden=True,
    )  # fmt: skip


def _plain_note(cells: int) -> Html | None:
    if cells <= PLAIN:
        return None
    text = f"These are the first {PLAIN} of {cells:,} cells; with scripts enabled all are here."
    return tag("noscript", tag("p", text))


def _data(table: list[Column], places: list[int | None], cells: int) -> str:
    """The table as JSON that can stand in a page."""
    found = []
    for column, decimals in zip(table, places):
        about: dict[str, Any] = {"name": column.name, "kind": column.kind, "role": column.role}
        if decimals is not None:
            about["places"] = decimals
        values = [_plain(value) for value in column.values]
        levels = list(dict.fromkeys(values)) if column.kind != "flag" else values
        if len(levels) <= len(values) // 3:
            where = {level: i for i, level in enumerate(levels)}
            about |= {"levels": levels, "codes": [where[value] for value in values]}
        else:
            about["values"] = values
        found.append(about)
    text = json.dumps({"cells": cells, "columns": found}, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    """A value as JSON has it: rounded, and not finite as text."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value)
    return value
