"""Sweeps as tables for a terminal: all of them, the cells of one, one whole, one cell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from activjax.runs.errors import StorageError
from activjax.runs.result import Row, from_json
from activjax.runs.show import age, summary_table
from activjax.runs.sweep.folder import SweepFolder, changed
from activjax.runs.sweep.index import DONE, FAILED, MISSING, Line, counts, failures, question, rows
from activjax.runs.sweep.show_cells import (
    find_cell as find_cell,
    plain,
    print_cell as print_cell,
    print_cells as print_cells,
    select as select,
    table_of,
)
from activjax.runs.sweep.table import aggregate, label

#: What continues a sweep, and what runs its failed cells again.
RESUME = "activjax resume {path}"
RETRY = "activjax resume {path} --retry-failed"
_ROWS = 60  # lines of the summary
_GROUPS = 12  # different errors


def sweeps_table(sweeps: Sequence[SweepFolder]) -> Table:
    """One line a sweep: state, failed cells, name, id, age, answer.

    Args:
        sweeps: their folders.
    """
    table = table_of("state", "failed", "name", "id", "age")
    table.expand = True
    table.add_column("answer", no_wrap=True, overflow="ellipsis", ratio=1)
    for folder in sweeps:
        result = _result(folder)
        try:
            count = counts(rows(folder))
            state, style = _state(count, result is not None)
            failed = str(count[FAILED] or "")
            when = age(time.time() - changed(folder.path))
        except (StorageError, OSError):  # one damaged folder does not hide the others
            state, style, failed, when = "unreadable", "red", "", ""
        text = str((result or {}).get("answer") or "")
        cells = (plain(state, style=style), plain(failed, style="red"), plain(folder.name),
                 plain(folder.id), plain(when), plain(text))  # fmt: skip
        table.add_row(*cells)
    return table


def print_sweeps(sweeps: Sequence[SweepFolder], console: Console) -> None:
    """`activjax ls`: prints `sweeps_table`; nothing where there are none."""
    if sweeps:
        console.print(sweeps_table(sweeps))


def print_sweep(folder: SweepFolder, console: Console) -> None:
    """`activjax show SWEEP`: question, answer, means over seeds, failures, how to go on.

    Args:
        folder: of the sweep.
        console: where to.

    Raises:
        StorageError: the folder cannot be read.
    """
    lines, result = rows(folder), _result(folder)
    count = counts(lines)
    state, style = _state(count, result is not None)
    told = f", {len(lines)} cells" if state == DONE else " cells"
    told += f", {count[FAILED]} failed" if count[FAILED] else ""
    console.print(plain(f"{folder.name}/{folder.id}  ", style="bold"), plain(state, style=style),
                  Text(told), sep="", end="\n\n")  # fmt: skip
    means, left_out = aggregate(lines)
    own = False
    if result is not None:
        console.print(plain(result.get("question", ""), style="bold"))
        console.print(plain(result.get("answer", "")))
        summary = from_json(result).summary
        if _names(summary) != _names(means):  # else the answer is these means
            own = True
            console.print(summary_table(summary))
    else:
        console.print(plain(question(folder, lines), style="bold"))
    names = list(dict.fromkeys((row.name, row.unit) for row in means))
    means.sort(key=lambda row: names.index((row.name, row.unit)))
    most = 0 if own else _ROWS  # an experiment that concludes has said what matters
    if means[:most]:
        console.print(Text("\nmeans over seeds", style="bold"))
        console.print(summary_table(means[:most]))
    if len(means) > most:
        told = f"{len(means) - most} {'means over seeds are' if own else 'more rows'} in the report"
        console.print(Text(told, style="dim"))
    for text in [*(result or {}).get("warnings", ()), *left_out]:
        console.print(plain(f"warning: {text}", style="yellow"))
    if count[FAILED]:
        _print_failures(lines, console)
    _print_next(folder, count, result is not None, console)


def _print_failures(lines: Sequence[Line], console: Console) -> None:
    groups = failures(lines)
    console.print(Text("\nfailed cells", style="bold"))
    for text, found in list(groups.items())[:_GROUPS]:
        ids = ", ".join(line.id for line in found[:4]) + (", ..." if len(found) > 4 else "")
        console.print(plain(f"{len(found):5d}  {text}", style="red"))
        console.print(Text(f"       {ids}", style="dim"))
    if len(groups) > _GROUPS:
        console.print(Text(f"       {len(groups) - _GROUPS} other messages", style="dim"))


def _print_next(folder: SweepFolder, count: dict[str, int], done: bool, console: Console) -> None:
    """What can be done with it now; without wrapping, so that it can be copied."""
    hints = []
    if count[MISSING] or not done:
        hints.append(f"to continue: {RESUME.format(path=folder.path)}")
    if count[FAILED] and not folder.about.get("search"):
        hints.append(f"to run the failed cells again: {RETRY.format(path=folder.path)}")
    report = folder.path / "report.html"
    hints.append(f"report: {report}" if report.exists() else f"results: {folder.path}")
    console.print()
    for hint in hints:
        console.print(plain(hint), soft_wrap=True)


def _names(rows: Sequence[Row]) -> set[str]:
    return {label(row.name, row.where) for row in rows}


def _state(count: dict[str, int], finished: bool) -> tuple[str, str]:
    """The state in words, and its colour."""
    if finished and not count[MISSING]:
        return DONE, "green"
    return f"{sum(count.values()) - count[MISSING]} of {sum(count.values())}", "yellow"


def _result(folder: SweepFolder) -> dict[str, Any] | None:
    data = folder.read_json("result.json")
    return data if isinstance(data, dict) else None
