"""The panels of a plot of a sweep: lines with intervals, heat maps, dots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from activjax.runs import _curves, figures
from activjax.runs.result import Row
from activjax.runs.sweep._plot_layout import HEAT, LINES, SCATTER, Axis, Layout
from activjax.runs.sweep.table import compact

BAND = 6  # points of a line from which a band suggests nothing that was not measured
TICKS = 12
_STYLES = ("-", "--", ":")
_NONE = "\N{EN DASH}"


def draw_lines(fig: Any, axes: Any, rows: Sequence[Row], laid: Layout, title: str) -> None:
    """Lines over x, each mean with its interval."""
    drawn = [row for row in rows if panel_of(row, laid) in laid.panels]
    for ax, panel in zip(axes, laid.panels):
        here = [row for row in drawn if panel_of(row, laid) == panel]
        for i, value in enumerate(laid.lines.values if laid.lines else ((),)):
            line = [row for row in here if laid.lines is None or laid.lines.at(row) == value]
            _line(ax, line, laid, *_look(laid.lines, i), text_of(laid.lines, value))
        if near(rows):
            _baseline(ax, here, laid)
        _x_axis(ax, laid.x)
        ax.set_xlabel(_curves._plain(laid.x.name))
        if laid.panel_axis:
            ax.set_title(text_of(laid.panel_axis, panel, keys=True))
    _y_axis(axes[0], drawn)
    for ax in axes[:: across(len(axes))]:
        ax.set_ylabel(_curves._plain(title))
    if laid.lines or any(ax.get_legend_handles_labels()[1] for ax in axes):
        name = _curves._plain(laid.lines.name) if laid.lines else None
        figures.legend_below(fig, axes, title=name)


def _line(ax: Any, rows: list[Row], laid: Layout, colour: Any, style: str, label: str) -> None:
    rows = sorted((r for r in rows if math.isfinite(r.value)), key=lambda r: _x(laid.x, r))
    if not rows:
        return
    x, y = [_x(laid.x, row) for row in rows], [row.value for row in rows]
    style = style if laid.x.numeric else ""
    ax.plot(x, y, marker="o", color=colour, linestyle=style, label=label or "_nolegend_")
    below, above = reach = _reach(rows)
    if not np.isfinite(reach).any():
        return
    if banded(laid):
        ax.fill_between(x, y - below, y + above, color=colour, alpha=0.2, linewidth=0)
    else:
        ax.errorbar(x, y, reach, fmt="none", ecolor=colour, elinewidth=1.2, capsize=3)


def _baseline(ax: Any, rows: Sequence[Row], laid: Layout) -> None:
    """One grey line where all lines have the same baseline, else one in the colour of each."""
    at: dict[float, set[float]] = {}
    lines: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for row in rows:
        if row.baseline is not None and math.isfinite(row.baseline):
            x = _x(laid.x, row)
            at.setdefault(x, set()).add(float(f"{row.baseline:.12g}"))
            lines.setdefault(laid.lines.at(row) if laid.lines else (), []).append((x, row.baseline))
    style: dict[str, Any] = {"linestyle": (0, (4, 3)), "linewidth": 1.2, "zorder": 1}
    if at and all(len(values) == 1 for values in at.values()):
        name = next((row.baseline_name for row in rows if row.baseline_name), "")
        label = _curves._plain(f"baseline: {name}" if name else "baseline")
        ax.plot(sorted(at), [min(at[x]) for x in sorted(at)], color="#666666", label=label,
                marker="" if len(at) > 1 else "_", **style)  # fmt: skip
        return
    for i, value in enumerate(laid.lines.values if laid.lines else ()):
        if value in lines:
            ax.plot(*zip(*sorted(lines[value])), color=_look(laid.lines, i)[0], alpha=0.8, **style)


def draw_scatter(fig: Any, axes: Any, rows: Sequence[Row], laid: Layout, title: str) -> None:
    """Dots over each of several axes."""
    found = [row for row in rows if math.isfinite(row.value)]
    for ax, axis in zip(axes, laid.panels):
        for i, value in enumerate(laid.lines.values if laid.lines else ((),)):
            here = [row for row in found if laid.lines is None or laid.lines.at(row) == value]
            x, y = [_x(axis, row) for row in here], [row.value for row in here]
            colour = _look(laid.lines, i)[0]
            if has_intervals(rows, laid):
                ax.errorbar(x, y, _reach(here), fmt="none", ecolor=colour, elinewidth=0.8,
                            alpha=0.4, zorder=1)  # fmt: skip
            ax.plot(x, y, marker="o", linestyle="", color=colour, label=text_of(laid.lines, value),
                    alpha=0.7 if len(found) < 500 else 0.3)  # fmt: skip
        _x_axis(ax, axis)
        ax.set_xlabel(_curves._plain(axis.name))
    _y_axis(axes[0], found)
    for ax in axes[:: across(len(axes))]:
        ax.set_ylabel(_curves._plain(title))
    if laid.lines:
        figures.legend_below(fig, axes, title=_curves._plain(laid.lines.name))


def across(panels: int) -> int:
    """How many panels stand side by side."""
    return 2 if panels == 4 else min(panels, 3)


def banded(laid: Layout) -> bool:
    """Whether intervals are bands and not bars."""
    return laid.kind == LINES and laid.x.numeric and len(laid.x.values) >= BAND


def has_intervals(rows: Sequence[Row], laid: Layout) -> bool:
    """Whether intervals are drawn: never in a heat map, nor around hundreds of dots."""
    if laid.kind == HEAT or (laid.kind == SCATTER and len(rows) > 300):
        return False
    return any(row.low is not None for row in rows)


def near(rows: Sequence[Row]) -> bool:
    """Whether a baseline is near enough to the means to be drawn."""
    return bool(_near(rows))


def _near(rows: Sequence[Row]) -> list[float]:
    values = [row.value for row in rows if math.isfinite(row.value)] or [0.0]
    low, high = min(values), max(values)
    room = 3 * (high - low)
    return [r.baseline for r in rows
            if r.baseline is not None and low - room <= r.baseline <= high + room]  # fmt: skip


def _x_axis(ax: Any, axis: Axis) -> None:
    if axis.scale == "ordinal":
        names = [text_of(axis, value) for value in axis.values]
        each = math.ceil(len(names) / TICKS)
        long = max(map(len, names)) * len(names[::each]) > 40
        turned: Any = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long else {}
        ax.set_xticks(range(0, len(names), each), names[::each], **turned)
        ax.set_xlim(-0.5, len(names) - 0.5)
        return
    if axis.scale == "log":
        ax.set_xscale("log")
    if len(axis.values) <= TICKS:
        figures.plain_ticks(ax.xaxis, [value[0] for value in axis.values])


def cut(rows: Sequence[Row]) -> bool:
    """Whether an interval reaches out of the plot."""
    _, bottom, top = _frame(rows)
    ends = [end for row in rows for end in (row.low, row.high) if end is not None]
    return any(end < bottom or end > top for end in ends)


def _y_axis(ax: Any, rows: Sequence[Row]) -> None:
    """Fit to means and near baselines; intervals are cut where they would flatten the lines."""
    log, bottom, top = _frame(rows)
    if log:
        ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.set_ylim(bottom if log else max(low, bottom), min(high, top))


def _frame(rows: Sequence[Row]) -> tuple[bool, float, float]:
    """Whether y is logarithmic, and how far it may reach down and up."""
    values = [*(row.value for row in rows if math.isfinite(row.value)), *_near(rows)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    if low > 0 and high > 100 * low:
        return True, low / 2, 10 * high
    room = 1.5 * (high - low) or math.inf
    return False, low - room, high + room


def panel_of(row: Row, laid: Layout) -> tuple[Any, ...]:
    """Which panel a row belongs to."""
    return laid.panel_axis.at(row) if laid.panel_axis else ()


def _x(axis: Axis, row: Row) -> float:
    return axis.place(axis.at(row))


def _reach(rows: Sequence[Row]) -> np.ndarray:
    """How far the intervals reach below and above the values, `[2, rows]`; NaN without one."""
    low, value, high = (
        np.asarray([getattr(row, end) for row in rows], np.float64)  # None becomes NaN
        for end in ("low", "value", "high")
    )
    return np.maximum([value - low, high - value], 0)


def _look(axis: Axis | None, i: int) -> tuple[Any, str]:
    """Colour and dashes of a line: an ordered colour scale for numbers, distinct ones else."""
    import matplotlib as mpl

    if axis is not None and axis.numeric and len(axis.values) > 2:
        return mpl.colormaps["viridis"](0.82 * i / (len(axis.values) - 1)), "-"
    return figures.COLOURS[i % len(figures.COLOURS)], _STYLES[i // len(figures.COLOURS) % 3]


def text_of(axis: Axis | None, value: tuple[Any, ...], keys: bool = False) -> str:
    """A value of an axis as a label."""
    if axis is None:
        return ""
    parts = [
        _NONE if v is None else f"{v:g}" if isinstance(v, float) else compact(v) for v in value
    ]
    if keys:
        parts = [f"{key} = {part}" for key, part in zip(axis.keys, parts)]
    return _curves._plain(", ".join(parts))
