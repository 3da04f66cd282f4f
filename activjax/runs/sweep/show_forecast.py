"""What a sweep would be, as a table for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from activjax.runs._numbers import duration
from activjax.runs.sweep.forecast import Forecast
from activjax.runs.sweep.table import compact

_MOST = 40


def print_forecast(forecast: Forecast, console: Console) -> None:
    """Cells, groups, widths, memory and expected time of a sweep.

    Args:
        forecast: as `forecast.forecast` returns it.
        console: where to.
    """
    plan, groups = forecast.plan, forecast.groups
    points = len(plan.cells) // len(plan.seeds)
    console.print(
        Text(
            f"{plan.name}: {len(plan.cells)} cells ({points} points, {len(plan.seeds)} seeds) in "
            f"{len(groups)} groups of equal static shape"
        )
    )
    for key, values in plan.axes().items():
        shown = ", ".join(compact(v) for v in values[:12]) + (", ..." if len(values) > 12 else "")
        console.print(Text(f"  {key}: {shown}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("group", no_wrap=True)
    table.add_column("cells share", overflow="fold")
    for column in ("cells", "width", "programs", "memory", "compile", "a cell"):
        table.add_column(Text(column), justify="right", no_wrap=True)
    for group in groups[:_MOST]:
        shared = ", ".join(f"{k}={compact(v)}" for k, v in group["shared"].items())
        if "error" in group:
            words = Text(f"{shared}  {group['error'].strip().splitlines()[-1]}", style="red")
            table.add_row(Text(group["group"]), words, str(group["cells"]))
            continue
        cell = group["cell_seconds"]
        table.add_row(
            Text(group["group"]),
            Text(shared),
            str(group["cells"]),
            str(group["width"]) + (f" on {group['devices']}" if group["devices"] > 1 else ""),
            str(-(-group["cells"] // group["width"])),
            "?" if group["bytes"] is None else f"{group['bytes'] / 2**20:.1f} MB",
            duration(group["compile_seconds"]),
            "?" if cell is None else duration(cell) if cell >= 1 else f"{cell * 1e3:.0f} ms",
        )
    console.print(table)
    if len(groups) > _MOST:
        console.print(Text(f"... and {len(groups) - _MOST} more groups"))
    told = duration(forecast.seconds) if forecast.seconds else "unknown"
    compiling = sum(group.get("compile_seconds") or 0.0 for group in groups) / forecast.workers
    console.print(
        Text(
            f"expected: {told} of steps and measurements with {forecast.workers} "
            f"worker{'s' if forecast.workers > 1 else ''}, {duration(compiling)} of compiling "
            "where the cache is empty; `finish` comes on top"
        )
    )
