"""Figures in one style: readable in a report and in print, means with their intervals."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from activjax.stats import mean_interval

#: Okabe and Ito's palette without its yellow, distinct for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

_STYLE = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "legend.handlelength": 2.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The house style, inside the block only."""
    import matplotlib as mpl
    from cycler import cycler

    settings: Any = {**_STYLE, "axes.prop_cycle": cycler(color=COLOURS)}
    with mpl.rc_context(settings):
        yield


def band(
    ax: Any, x: Any, values: Any, label: str, *, colour: str | None = None, **line: Any
) -> None:
    """Draw the mean over trials as a line with markers, its 95 % interval as a band.

    Args:
        ax: matplotlib axes.
        x: `[points]`.
        values: `[trials, points]`.
        label: for the legend.
        colour: of line and band; None takes the next of the cycle.
        **line: passed on to `ax.plot`.
    """
    mean, half = mean_interval(values)
    (drawn,) = ax.plot(x, mean, label=label, color=colour, **{"marker": "o", **line})
    ax.fill_between(x, mean - half, mean + half, color=drawn.get_color(), alpha=0.2, linewidth=0)


def bars(
    ax: Any, x: Any, values: Any, label: str, *, colour: str | None = None, **line: Any
) -> None:
    """Draw the mean over trials as a line with markers, its 95 % interval as error bars.

    For a few points far apart, where a band would suggest what was not measured, or for one.

    Args:
        ax, x, values, label, colour, **line: as in `band`.
    """
    mean, half = mean_interval(values)
    (drawn,) = ax.plot(x, mean, label=label, color=colour, **{"marker": "o", **line})
    ax.errorbar(x, mean, half, fmt="none", ecolor=drawn.get_color(), elinewidth=1.2, capsize=3)


def legend_below(fig: Any, axes: Any, **options: Any) -> None:
    """One legend for all panels, below them: it never lies over data.

    Args:
        fig: matplotlib figure.
        axes: the panels; of equal labels the first one is shown.
        **options: passed on to `fig.legend`.
    """
    found: dict[str, Any] = {}
    for ax in np.ravel(axes):
        for handle, label in zip(*ax.get_legend_handles_labels()):
            found.setdefault(label, handle)
    columns = min(len(found), max(1, int(fig.get_figwidth() / 1.9)))
    fig.legend(
        found.values(), found.keys(), **{"loc": "outside lower center", "ncols": columns, **options}
    )


def plain_ticks(axis: Any, values: Any, *, apart: float = 0.11, margin: float = 0.05) -> None:
    """Ticks at some of the values, written as plain numbers, with room for their labels.

    The axis then spans the values. Call it after the scale has been set.

    Args:
        axis: `ax.xaxis` or `ax.yaxis`.
        values: where ticks may stand, in ascending order; the first and the last are kept.
        apart: least distance of two ticks, as a share of the axis.
        margin: room on both sides, as a share of the axis.
    """
    points = np.asarray(values, np.float64)
    scale = axis.get_transform()
    at = scale.transform(points)
    length = float(at[-1] - at[0])
    kept = [len(points) - 1]
    for i in range(len(points) - 2, -1, -1):
        if at[kept[-1]] - at[i] >= apart * length and (i == 0 or at[i] - at[0] >= apart * length):
            kept.append(i)
    shown = points[kept[::-1]]
    axis.set_ticks(shown, [f"{v:g}" for v in shown])
    axis.set_ticks([], minor=True)
    if length > 0:
        ends = np.asarray([at[0] - margin * length, at[-1] + margin * length])
        axis.set_view_interval(*scale.inverted().transform(ends), ignore=True)
