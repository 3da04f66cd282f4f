"""Runs and results as tables for a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from activjax.runs.result import Row, from_json
from activjax.runs.store import DONE, FAILED, RUNNING, RunFolder, _changed

_COLORS = {DONE: "green", RUNNING: "cyan", FAILED: "red"}


def print_done(folder: RunFolder, console: Console) -> None:
    """The end of a run: answer, summary table, warnings, where the report is."""
    data = folder.read_json("result.json")
    result = from_json(data)
    console.print(Text(result.question, style="bold"))
    console.print(Text(result.answer))
    console.print(summary_table(result.summary))
    for warning in data.get("warnings", ()):
        console.print(Text(f"warning: {warning}", style="yellow"))
    where = folder.report if folder.report.exists() else folder.path
    # without wrapping, so that the path can be copied
    console.print(Text(f"{'report' if where == folder.report else 'results'}: {where}"),
                  soft_wrap=True)  # fmt: skip


def summary_table(rows: Sequence[Row]) -> Table:
    """The rows of a result: name, where, value [low, high], n, baseline."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "where"):
        table.add_column(column, overflow="fold")
    for column in ("value", "[low, high]", "n", "baseline"):
        table.add_column(Text(column), justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for row in rows:
        where = ", ".join(f"{k}={v}" for k, v in row.where.items())
        both = row.low is not None and row.high is not None
        interval = f"[{number(row.low)}, {number(row.high)}]" if both else ""
        unit = f" {row.unit}" if row.unit else ""
        table.add_row(
            Text(row.name),
            Text(where),
            Text(number(row.value) + unit),
            Text(interval),
            Text(str(row.n)),
            Text("" if row.baseline is None else number(row.baseline)),
            Text(row.baseline_name),
        )
    return table


def runs_table(runs: Sequence[RunFolder]) -> Table:
    """One line per run."""
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for column in ("state", "name", "id", "age"):
        table.add_column(column, no_wrap=True)
    # what is left of the line, for the first words
    table.add_column("answer", no_wrap=True, overflow="ellipsis", ratio=1)
    for run in runs:
        state = run.state()
        result = run.read_json("result.json") or run.read_json("failed.json") or {}
        text = result.get("answer") or result.get("error", "").rpartition("\n")[2]
        table.add_row(
            Text(state, style=_COLORS.get(state, "yellow")),
            Text(run.name),
            Text(run.id),
            Text(age(time.time() - _changed(run.path))),
            Text(text),
        )
    return table


def print_run(folder: RunFolder, console: Console) -> None:
    """Everything about one run: state, answer, summary, config, provenance."""
    state = folder.state()
    console.print(Text(f"{folder.name}/{folder.id}  ", style="bold"), Text(state), end="\n\n")
    if state == DONE:
        print_done(folder, console)
    elif state == FAILED:
        console.print(Text((folder.read_json("failed.json") or {}).get("error", "")))
    config = folder.path / "config.yaml"
    console.print(Text("\nconfig", style="bold"))
    console.print(Text(config.read_text(encoding="utf-8").rstrip()))
    if state not in (DONE, RUNNING):
        console.print(Text(f"to continue: activjax run {config} --out {folder.path.parent.parent}"),
                      soft_wrap=True)  # fmt: skip
    console.print(Text("\nprovenance", style="bold"))
    console.print(_pairs(folder.read_json("provenance.json") or {}))


def keys_table(cls: type) -> Table:
    """What a config file may say for an experiment: key, type, default, range, help."""
    import dataclasses
    import typing

    from activjax.runs import fields, schema

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("key", "type", "default", "expected", "help"):
        table.add_column(column, overflow="fold")
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        info = fields.info_of(field)
        default: Any = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        text = "(required)" if default is dataclasses.MISSING else json.dumps(schema.plain(default))
        kind = schema.type_words(hints[field.name]) + (", traced" if info.traced else "")
        table.add_row(*map(Text, (field.name, kind, text, info.expected(), info.help)))
    return table


def number(value: float | None) -> str:
    """Four significant digits."""
    return "" if value is None else f"{value:.4g}"


def age(seconds: float) -> str:
    """A duration in its largest unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _pairs(data: dict[str, Any]) -> Group:
    lines = []
    for key, value in data.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(Text(f"  {key}: {text}"))
    return Group(*lines)
