"""A sweep as one wide table, one line a cell; as a CSV or Parquet file; as means over its seeds."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.runs.errors import ConfigError
from activjax.runs.result import Row
from activjax.runs.sweep import _formats
from activjax.runs.sweep._formats import NULL, Column
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.index import (
    DONE,
    FAILED,
    MISSING,
    PRUNED,
    Line,
    counts,
    error_text,
    rows,
)

_LARGEST = 2**63


#: What tells the numbers of one cell apart: name, unit, settings, how many of these came before.
Key = tuple[str, str, str, int]


def numbers(line: Line) -> Iterator[tuple[Key, Row, dict[str, Any]]]:
    """The numbers of a cell, each with its key and the settings that its point does not say."""
    seen: dict[tuple[str, str, str], int] = {}
    for row in line.summary:
        rest = {k: v for k, v in row.where.items() if not _said(line, k, v)}
        key = (row.name, row.unit, json.dumps(rest, sort_keys=True))
        seen[key] = seen.get(key, 0) + 1
        yield (*key, seen[key] - 1), row, rest


def columns(
    lines: Sequence[Line], axes: Sequence[str] = (), *, volatile: bool = False
) -> list[Column]:
    """The wide table.

    Args:
        lines: the cells.
        axes: the swept keys in order; those that only points have come after them.
        volatile: also what may differ between two equal sweeps, as columns `run.<key>`.
    """
    found = [
        ("id", "record", [line.id for line in lines], "", ""),
        ("state", "state", [line.state for line in lines], "", ""),
        ("seed", "cell", [line.seed for line in lines], "", ""),
    ]
    for key in dict.fromkeys([*axes, *(k for line in lines for k in line.point)]):
        values = [_axis_value(line.point, key) for line in lines]
        found.append((key, "axis", values, "", ""))
    found += _numbers(lines)
    warned = [len(line.warnings) if line.state == DONE else None for line in lines]
    found.append(("warnings", "cell", warned, "", ""))
    errors = [error_text(line) if line.state == FAILED else None for line in lines]
    found.append(("error", "error", errors, "", ""))
    if any(line.state == PRUNED for line in lines):
        steps = [line.pruned.get("step") for line in lines]
        found.append(("pruned at step", "cell", steps, "", ""))
    if volatile:
        for key in dict.fromkeys(k for line in lines for k in line.run):
            found.append((f"run.{key}", "run", [line.run.get(key) for line in lines], "", ""))
    taken: set[str] = set()
    return [_column(_unique(name, taken), *rest) for name, *rest in found]


def export(folder: SweepFolder, path: str | Path, *, volatile: bool = False) -> Path:
    """Write the wide table into a file, in one step. Equal sweeps give equal bytes.

    Numbers that are not finite stay so (`nan`, `inf`); what is not there is an empty field, or null
    in Parquet; a swept key that is set to nothing is `null`. Units are in Parquet's field metadata.

    Args:
        folder: of the sweep.
        path: its suffix, `.csv` or `.parquet`, decides on the format.
        volatile: also what may differ between two equal sweeps, such as times.

    Returns:
        The path.

    Raises:
        ConfigError: another suffix.
        StorageError: the folder cannot be read, the file cannot be written, or pyarrow is missing.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"{path}: the name of an export ends in .csv or .parquet")
    table = columns(rows(folder), list(folder.about.get("axes", ())), volatile=volatile)
    (_formats.write_csv if path.suffix == ".csv" else _formats.write_parquet)(path, table)
    return path


def aggregate(lines: Sequence[Line]) -> tuple[list[Row], list[str]]:
    """The means over seeds, with 95 % intervals.

    Args:
        lines: the cells.

    Returns:
        One row for each point and number, in order of first appearance, `n` the seeds that have
        it, `where` the point with the settings of the number; and what was left out, in words.
    """
    groups: dict[tuple[str, Key], list[tuple[int, Row]]] = {}
    wheres: dict[tuple[str, Key], dict[str, Any]] = {}
    for line in lines:
        point = json.dumps(line.point, sort_keys=True)
        for key, row, rest in numbers(line):
            groups.setdefault((point, key), []).append((line.seed, row))
            if (point, key) not in wheres:
                # a setting that contradicts the point keeps both
                more = {f"row.{k}" if k in line.point else k: v for k, v in rest.items()}
                wheres[point, key] = {k: _scalar(v) for k, v in {**line.point, **more}.items()}
    out = []
    for key, found in groups.items():
        of_seed = dict(found)  # one number a seed
        first = found[0][1]
        bases = [row.baseline for row in of_seed.values() if row.baseline is not None]
        mean = Row.over(
            first.name,
            [row.value for row in of_seed.values()],
            baseline=bases or None,
            baseline_name=first.baseline_name,
            unit=first.unit,
        )
        out.append(dataclasses.replace(mean, where=wheres[key]))
    return out, _left_out(lines)


def compact(value: Any) -> str:
    """Any value of a config as short text."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def label(name: str, settings: Mapping[str, Any]) -> str:
    """`accuracy [layer=0]`."""
    inner = ", ".join(f"{k}={compact(v)}" for k, v in settings.items())
    return f"{name} [{inner}]" if inner else name


def _said(line: Line, key: str, value: Any) -> bool:
    """Whether the cell's point, or its seed, says this setting already; `width` is `model.width`"""
    if key == "seed" and value == line.seed:
        return True
    return any(
        (k == key or k.endswith(f".{key}")) and _equal(v, value) for k, v in line.point.items()
    )


def _equal(a: Any, b: Any) -> bool:
    return a == b or (not isinstance(b, str) and compact(a) == compact(b)) or _scalar(a) == b


def _axis_value(point: Mapping[str, Any], key: str) -> Any:
    return (NULL if point[key] is None else point[key]) if key in point else None


def _numbers(lines: Sequence[Line]) -> list[tuple[str, str, list[Any], str, str]]:
    """The columns of values, each followed by those of its intervals and baselines, if any."""
    parts = ("value", "low", "high", "baseline")
    found: dict[Key, dict[str, list[Any]]] = {}
    about: dict[Key, tuple[str, str, str]] = {}
    for i, line in enumerate(lines):
        for key, row, rest in numbers(line):
            if key not in found:
                found[key] = {part: [None] * len(lines) for part in parts}
                about[key] = (label(row.name, rest), row.unit, row.baseline_name)
            for part in parts:
                found[key][part][i] = getattr(row, part)
    out = []
    for key, columns in found.items():
        name, unit, note = about[key]
        for part, values in columns.items():
            if part == "value" or any(v is not None for v in values):
                title = name if part == "value" else f"{part}: {name}"
                out.append((title, part, values, unit, note if part == "baseline" else ""))
    return out


def _column(name: str, role: str, values: list[Any], unit: str, note: str) -> Column:
    kind = _kind(values)
    if kind == "text":
        values = [None if v is None else _clean(compact(v)) for v in values]
    elif kind == "number":
        values = [float(v) if isinstance(v, int) else v for v in values]
    return Column(_clean(name), kind, role, values, _clean(unit), _clean(note))


def _kind(values: list[Any]) -> str:
    kinds = {type(v) for v in values if v is not None and v != NULL}
    if kinds == {bool}:
        return "flag"
    whole = [v for v in values if type(v) is int]
    if kinds == {int} and all(-_LARGEST <= v < _LARGEST for v in whole):
        return "integer"
    if float in kinds and kinds <= {int, float} and all(abs(v) < 2**53 for v in whole):
        return "number"
    return "text"


def _clean(text: str) -> str:
    """Text that UTF-8 can hold: JSON may hold halves of characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _unique(name: str, taken: set[str]) -> str:
    free, i = name, 2
    while free in taken:
        free, i = f"{name} ({i})", i + 1
    taken.add(free)
    return free


def _scalar(value: Any) -> str | int | float | bool:
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if isinstance(value, (str, int, float, bool)) and finite else compact(value)


def _left_out(lines: Sequence[Line]) -> list[str]:
    count = counts(lines)
    words = {FAILED: "failed", PRUNED: "were pruned", MISSING: "have no record yet"}
    return [
        f"{count[state]} of {len(lines)} cells {text} and are left out"
        for state, text in words.items()
        if count.get(state)
    ]
