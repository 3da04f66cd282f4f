"""Plots of a sweep's quantities against its axes."""

from __future__ import annotations

import dataclasses
import io
import math
import warnings
from collections.abc import Iterable, Sequence

from activjax.runs import _curves, _numbers, figures
from activjax.runs.result import Row
from activjax.runs.sweep import _plot_heat, _plot_panels as panels
from activjax.runs.sweep._plot_layout import HEAT, LINES, SCATTER, Layout, layout

MOST = 12
_DRAW = {LINES: panels.draw_lines, HEAT: _plot_heat.draw_heat, SCATTER: panels.draw_scatter}


@dataclasses.dataclass(frozen=True)
class Plot:
    """A picture, what it shows, and the quantity's name."""

    png: bytes
    caption: str
    name: str


def draw(rows: Sequence[Row], keys: Iterable[str]) -> tuple[list[Plot], list[str]]:
    """A plot for each quantity that varies with an axis.

    Args:
        rows: means over seeds, as `table.aggregate` makes them.
        keys: the swept keys in order.

    Returns:
        At most `MOST` plots, and the names of the quantities that were left out.
    """
    quantities: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        quantities.setdefault((row.name, row.unit), []).append(row)
    keys, plots, left_out = list(keys), [], []
    for (name, unit), found in quantities.items():
        laid = layout(found, keys)
        if laid is None:
            continue
        if len(plots) == MOST:
            left_out.append(name)
            continue
        title = f"{name} ({unit})" if unit else name
        plots.append(Plot(_png(found, laid, title), _caption(found, laid, name), name))
    return plots, left_out


def _png(rows: Sequence[Row], laid: Layout, title: str) -> bytes:
    from matplotlib.figure import Figure

    count = len(laid.panels)
    across = panels.across(count)
    down = math.ceil(count / across)
    size = ({1: 5.6, 2: 8.4, 3: 10.0}[across], 3.3 * down + 0.3)
    with figures.style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter that the font lacks is a box
        fig = Figure(figsize=size)
        axes = fig.subplots(down, across, squeeze=False, sharey=laid.kind != HEAT).ravel()
        for ax in axes[count:]:
            ax.remove()
        _DRAW[laid.kind](fig, axes[:count], rows, laid, title)
        buffer = io.BytesIO()
        fig.savefig(buffer, **_curves._FORMAT)
    return buffer.getvalue()


def _caption(rows: Sequence[Row], laid: Layout, name: str) -> str:
    seeds = sorted({row.n for row in rows})
    told = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    text, notes, odd = name, list(laid.notes), sum(not math.isfinite(row.value) for row in rows)
    if laid.kind == SCATTER:
        text += " against each long axis while all others vary too, a dot a point"
        text += f", by {laid.lines.name}" if laid.lines else ""
    else:
        text += f" against {laid.x.name}"
        if laid.lines:
            text += f" and {laid.lines.name}" if laid.kind == HEAT else f", by {laid.lines.name}"
        text += f", a panel for each {laid.panel_axis.name}" if laid.panel_axis else ""
    text += ": one seed, no intervals" if seeds == [1] else f": mean over {told} seeds"
    if seeds != [1] and panels.has_intervals(rows, laid):
        text += f", {'bands' if panels.banded(laid) else 'bars'}: 95 % intervals"
        if panels.cut(rows):
            notes.append("wide intervals are cut")
    if laid.kind == HEAT and _plot_heat.gaps(rows, laid):
        notes.append("grey: no cell is done")
    if odd:
        how = "crosses" if laid.kind == HEAT else "not drawn"
        notes.append(f"{odd} of {len(rows)} means are not finite ({how})")
    if laid.kind == LINES:
        notes += _of_baselines(rows)
    return "; ".join([text, *notes]) + "."


def _of_baselines(rows: Sequence[Row]) -> list[str]:
    values = [r.baseline for r in rows if r.baseline is not None and math.isfinite(r.baseline)]
    if not values:
        return []
    if panels.near(rows):
        return ["dashed: the baseline"]
    ends = dict.fromkeys(_numbers.number(v) for v in (min(values), max(values)))
    named = next((row.baseline_name for row in rows if row.baseline_name), "")
    return [f"outside the plot: the baseline{f' ({named})' if named else ''}, {' to '.join(ends)}"]
