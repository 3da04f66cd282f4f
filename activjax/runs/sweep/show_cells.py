"""The cells of a sweep as a table for a terminal, and one cell with all that is known of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from activjax.runs._html import _CONTROL
from activjax.runs._words import did_you_mean
from activjax.runs.errors import ConfigError, StorageError
from activjax.runs.show import _COLORS, number, summary_table
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.index import DONE, FAILED, MISSING, Line, error_text, rows
from activjax.runs.sweep.table import compact, label, numbers

_VALUES = 4  # columns of numbers in the list of cells


def print_cells(
    folder: SweepFolder,
    console: Console,
    words: Sequence[str] = (),
    *,
    failed: bool = False,
    missing: bool = False,
    limit: int | None = 50,
) -> None:
    """`activjax ls SWEEP`: its cells, one a line.

    Args:
        folder: of the sweep.
        console: where to.
        words: `key=value`, all of which a cell must meet; see `select`.
        failed, missing: only the cells that failed, or that have no record; both: either.
        limit: at most so many lines; None means all.

    Raises:
        ConfigError: a word is not `key=value` or names no key.
        StorageError: the folder cannot be read.
    """
    every = rows(folder)
    states = {s for s, wanted in ((FAILED, failed), (MISSING, missing)) if wanted}
    lines = [line for line in select(every, words) if not states or line.state in states]
    shown = lines if limit is None else lines[:limit]
    axes = list(dict.fromkeys(k for line in shown for k in line.point))
    names = dict.fromkeys(key for line in shown for key, _, _ in numbers(line))
    values = list(names)[:_VALUES]
    table = table_of("state", "id", "seed", *axes)
    titles = [label(key[0], json.loads(key[2])) for key in values]
    for title in titles:
        table.add_column(plain(title), justify="right", overflow="fold")
    if any(line.state == FAILED for line in shown):
        table.add_column("error", overflow="fold")
    for line in shown:
        found = {key: row.value for key, row, _ in numbers(line)}
        style = _COLORS.get(line.state, "yellow")
        cells = [plain(line.state, style=style), plain(line.id), plain(line.seed)]
        cells += [plain(compact(line.point[k]) if k in line.point else "") for k in axes]
        cells += [plain(number(found.get(key))) for key in values]
        cells += [plain(error_text(line))] * (len(table.columns) - len(cells))
        table.add_row(*cells)
    console.print(table)
    told = f"{len(lines)} of {len(every)} cells"
    if len(shown) < len(lines):
        told += f", the first {len(shown)} shown (--limit N shows more)"
    if len(names) > len(values):
        told += f"; {len(names) - len(values)} more numbers a cell"
    console.print(plain(told, style="dim"))


def select(lines: Sequence[Line], words: Sequence[str]) -> list[Line]:
    """The cells that meet all conditions.

    Args:
        lines: the cells.
        words: `key=value`; the key is a swept key or its last part, `seed`, `state`, `id` or
            `group`; the value as in a config.

    Raises:
        ConfigError: a word is not `key=value`, or no cell has the key.
    """
    keys = dict.fromkeys(k for line in lines for k in line.point)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"'{word}': expected key=value")
        if key in ("seed", "state", "id", "group") and key not in keys:
            lines = [line for line in lines if str(getattr(line, key)) == value]
            continue
        meant = [k for k in keys if k == key] or [k for k in keys if k.endswith(f".{key}")]
        if len(meant) != 1:
            told = f"may be {', '.join(meant)}" if meant else "no such key"
            raise ConfigError(
                f"'{word}': {told}{did_you_mean(key, keys)} (swept: {', '.join(keys) or 'none'})"
            )
        lines = [li for li in lines if meant[0] in li.point and _is(li.point[meant[0]], value)]
    return list(lines)


def print_cell(folder: SweepFolder, prefix: str, console: Console) -> None:
    """`activjax show SWEEP/CELL`: one cell, with its numbers or its traceback.

    Args:
        folder: of the sweep.
        prefix: the beginning of the cell's id.
        console: where to.

    Raises:
        StorageError: no cell, or several, begin so, or the folder cannot be read.
    """
    line = find_cell(folder, prefix)
    record = (folder.record(line.id) or {}) if line.state != MISSING else {}
    console.print(plain(f"{folder.name}/{folder.id}/{line.id}  ", style="bold"),
                  plain(line.state, style=_COLORS.get(line.state, "yellow")))  # fmt: skip
    point = ", ".join(f"{k}={compact(v)}" for k, v in line.point.items())
    console.print(plain(f"{point}{', ' if point else ''}seed={line.seed}"), end="\n\n")
    if line.state == DONE:
        console.print(plain(record.get("question", ""), style="bold"))
        console.print(plain(record.get("answer", "")))
        console.print(summary_table(line.summary))
        for warning in line.warnings:
            console.print(plain(f"warning: {warning}", style="yellow"))
    elif line.state == FAILED:
        console.print(plain(error_text(line), style="red"))
        if record.get("error", {}).get("traceback"):
            console.print(plain(str(record["error"]["traceback"]).rstrip()))
        if line.error.get("checkpoint"):
            console.print(plain(f"checkpoint: {line.error['checkpoint']}"), soft_wrap=True)
    for title in ("pruned", "config", "run"):
        if record.get(title):
            console.print(Text(f"\n{title}", style="bold"))
            for key, value in record[title].items():
                console.print(plain(f"  {key}: {compact(value)}"))
    path = folder.record_path(line.id) if record else folder.path
    console.print(Text(f"\n{'record' if record else 'sweep'}: {path}"), soft_wrap=True)


def find_cell(folder: SweepFolder, prefix: str) -> Line:
    """The cell whose id begins so.

    Raises:
        StorageError: none or several.
    """
    lines = rows(folder)
    found = [line for line in lines if line.id.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    where = f"{folder.name}/{folder.id}"
    if found:
        ids = ", ".join(line.id for line in found[:8])
        raise StorageError(f"'{prefix}' means {len(found)} cells of {where}: {ids}; give more")
    raise StorageError(f"no cell '{prefix}' in {where} ({len(lines)} cells there)")


def _is(value: Any, text: str) -> bool:
    """Whether a value of a point is what was typed."""
    if text == compact(value):
        return True
    try:
        typed = json.loads(text)
    except ValueError:
        try:
            typed = float(text)  # 1e-3 is JSON, .5 and 1. are not
        except ValueError:
            return False
    return type(typed) is not bool and type(value) is not bool and typed == value


def table_of(*columns: str) -> Table:
    """An empty table in the style of the other commands."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(plain(column), no_wrap=True)
    return table


def plain(value: Any, style: str = "") -> Text:
    """Text of which nothing reaches the terminal as a command."""
    return Text(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value)), style=style)
