"""A comparison for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from activjax.runs.show import number
from activjax.runs.sweep._differences import Difference
from activjax.runs.sweep.compare import Change, Comparison
from activjax.runs.sweep.show_cells import plain
from activjax.runs.sweep.table import compact

_WIDE = 60  # characters of a value


def print_comparison(found: Comparison, console: Console, *, limit: int | None = 40) -> None:
    """Print what differs, and that nothing does.

    Args:
        found: the comparison.
        console: where to.
        limit: at most so many lines of numbers at points; None means all.
    """
    console.print(plain(f"a: {found.a}\nb: {found.b}", "bold"), end="\n\n")
    if found.identical:
        console.print(plain("identical: config, sources and all numbers", "green"))
    for title, changes in (("config", found.config), ("sources", found.sources)):
        if changes:
            console.print(_changes_table(title, changes), end="\n\n")
    if found.overall and not found.same_numbers:
        console.print(plain("over all points, paired by point and seed", "bold"))
        console.print(_numbers_table(found.overall), end="\n\n")
    rows = [row for row in found.rows if not row.same]
    if rows:
        title = "at each point, paired by seed" if found.overall else "numbers"
        console.print(plain(title, "bold"))
        console.print(_numbers_table(rows if limit is None else rows[:limit]))
    if limit is not None and len(rows) > limit:
        console.print(plain(f"{len(rows) - limit} more that differ", "dim"))
    if found.rows and not found.identical:
        same = len(found.rows) - len(rows)
        told = f"{'all' if same == len(found.rows) else same} of {len(found.rows)} numbers"
        console.print(plain(f"{told} are the same", "dim"))
    if not found.rows:
        console.print(plain("no number is on both sides", "yellow"))
    for side, names in (("a", found.only_a), ("b", found.only_b)):
        if names:
            more = f" and {len(names) - 12} more" if len(names) > 12 else ""
            console.print(plain(f"only in {side}: {', '.join(names[:12])}{more}", "yellow"))
    for note in found.notes:
        console.print(plain(note, "dim"))


def _changes_table(title: str, changes: Sequence[Change]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (title, "a", "b"):
        table.add_column(name, overflow="fold")
    for change in changes:
        table.add_row(plain(change.key), *(plain(_short(v)) for v in (change.a, change.b)))
    return table


def _numbers_table(rows: Sequence[Difference]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "where"):
        table.add_column(name, overflow="fold")
    for name in ("a", "b", "b - a", "\\[low, high]", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        both = row.low is not None and row.high is not None
        interval = f"[{number(row.low)}, {number(row.high)}]" if both else ""
        unit = f" ({row.unit})" if row.unit else ""
        where = ", ".join(f"{k}={compact(v)}" for k, v in row.where.items())
        values = (row.name + unit, where, number(row.a), number(row.b), number(row.difference),
                  interval, row.n)  # fmt: skip
        table.add_row(*map(plain, values))
    return table


def _short(value: str | None) -> str:
    if value is None:
        return "-"
    return value if len(value) <= _WIDE else f"{value[: _WIDE - 1]}…"
