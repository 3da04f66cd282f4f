"""A colour for each combination of two long axes of a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from activjax.runs import _curves
from activjax.runs.result import Row
from activjax.runs.sweep._plot_layout import Layout
from activjax.runs.sweep._plot_panels import TICKS, panel_of, text_of


def draw_heat(fig: Any, axes: Any, rows: Sequence[Row], laid: Layout, title: str) -> None:
    """A colour for each combination of two long axes."""
    import matplotlib as mpl
    from matplotlib.colors import LogNorm, Normalize

    assert laid.lines is not None
    finite = [row.value for row in rows if math.isfinite(row.value)] or [0.0]
    low, high = min(finite), max(finite)
    norm = LogNorm(low, high) if 0 < low < high / 100 else Normalize(low, high)
    colours = mpl.colormaps["viridis"].with_extremes(bad="#d9d9d9")
    image = None
    for ax, panel in zip(axes, laid.panels):
        matrix = np.full((len(laid.lines.values), len(laid.x.values)), np.nan)
        for row in rows:
            if panel_of(row, laid) == panel:
                i, j = (
                    laid.lines.values.index(laid.lines.at(row)),
                    laid.x.values.index(laid.x.at(row)),
                )
                matrix[i, j] = row.value if math.isfinite(row.value) else np.nan
                if not math.isfinite(row.value):
                    ax.plot(j, i, marker="x", color="#B3261E", markersize=5, linestyle="")
        image = ax.imshow(matrix, origin="lower", aspect="auto", cmap=colours, norm=norm)
        ax.grid(False)
        for axis, shown in ((ax.xaxis, laid.x), (ax.yaxis, laid.lines)):
            each = math.ceil(len(shown.values) / TICKS)
            places = range(0, len(shown.values), each)
            axis.set_ticks(places, [_short(shown.values[k][0]) for k in places])
        if len(laid.x.values) > 6:
            ax.tick_params(axis="x", rotation=45 if axes.size == 1 else 90)
        ax.set(xlabel=_curves._plain(laid.x.name), ylabel=_curves._plain(laid.lines.name))
        if laid.panel_axis:
            ax.set_title(text_of(laid.panel_axis, panel, keys=True))
    fig.colorbar(image, ax=list(axes), label=_curves._plain(title))


def gaps(rows: Sequence[Row], laid: Layout) -> bool:
    """Whether a heat map has places without a cell."""
    assert laid.lines is not None
    size = len(laid.x.values) * len(laid.lines.values)
    panels = [panel_of(row, laid) for row in rows]
    return any(panels.count(panel) < size for panel in laid.panels)


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
