"""Columns of a table as the page takes them: small strict JSON, numbers of seven digits."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from activjax.runs import _numbers
from activjax.runs._html import _CONTROL
from activjax.runs.sweep._formats import Column

_DIGITS = 7
_LONGEST = 2_000  # characters of a text in a table; whole in the file that it comes from


def pack(table: Sequence[Column]) -> list[dict[str, Any]]:
    """Every column with what it needs of `same`, `levels` and `codes`, or `values`."""
    return [_packed(column) for column in table]


def places(column: Column) -> int | None:
    """Decimals of a column of numbers; of settings as many digits as they need."""
    if column.kind != "number" or column.role == "axis":
        return None
    values = [v for v in column.values if isinstance(v, float) and math.isfinite(v)]
    found = _numbers.decimals(values, digits=4)
    small = found is not None and any(v and abs(v) < 10.0 ** (1 - found) for v in values)
    return None if small else found


def plain(value: Any) -> Any:
    """A JSON value for the page: numbers rounded or, where not finite, text; no control characters.

    Texts keep their line ends; what stands for a character that no page can hold is the
    replacement character.
    """
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else str(value)
    if isinstance(value, str):
        text = value.encode("utf-8", "replace").decode("utf-8")
        return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    if isinstance(value, dict):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        return str(value)  # a script's numbers would round it
    return value


def dumps(data: Any) -> str:
    """Compact strict JSON."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def embedded(data: Any) -> str:
    """The same as it may stand inside a page's script element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _packed(column: Column) -> dict[str, Any]:
    about: dict[str, Any] = {"name": plain(column.name), "kind": column.kind, "role": column.role}
    about |= {key: plain(text) for key, text in (("unit", column.unit), ("note", column.note))
              if text}  # fmt: skip
    decimals = places(column)
    if decimals is not None:
        about["places"] = decimals
    values = [_short(plain(value)) for value in column.values]
    # True and 1 are equal: the type is part of the key
    levels = list({(type(v), v): v for v in values}.values())
    if len(levels) == 1:
        return about | {"same": levels[0]}
    if len(levels) <= len(values) // 3:
        where = {(type(level), level): i for i, level in enumerate(levels)}
        return about | {"levels": levels, "codes": [where[type(v), v] for v in values]}
    return about | {"values": values}


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{value[:_LONGEST]} ... ({len(value):,} characters)"
    return value
