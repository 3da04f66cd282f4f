"""Figures in one style: readable in a report and in print, means with their intervals."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

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
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The house style, inside the block only."""
    import matplotlib as mpl
    from cycler import cycler

    with mpl.rc_context({**_STYLE, "axes.prop_cycle": cycler(color=COLOURS)}):
        yield


def interval(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and half-width of the 95 % Student-t interval over the first axis.

    Args:
        values: `[n, ...]`, one entry per independent trial.

    Returns:
        Two arrays `[...]`; the half-width is NaN where there is one trial only.
    """
    from scipy.special import stdtrit

    x = np.asarray(values, np.float64)
    if x.shape[0] < 2:
        return x.mean(axis=0), np.full(x.shape[1:], np.nan)
    half = stdtrit(x.shape[0] - 1, 0.975) * x.std(axis=0, ddof=1) / math.sqrt(x.shape[0])
    return x.mean(axis=0), half


def band(ax: Any, x: Any, values: Any, label: str, *, colour: str | None = None, **line: Any) -> None:
    """Draw the mean over trials as a line with markers, its 95 % interval as a band.

    Args:
        ax: matplotlib axes.
        x: `[points]`.
        values: `[trials, points]`.
        label: for the legend.
        colour: of line and band; None takes the next of the cycle.
        **line: passed on to `ax.plot`.
    """
    mean, half = interval(values)
    (drawn,) = ax.plot(x, mean, label=label, color=colour, **{"marker": "o", **line})
    ax.fill_between(x, mean - half, mean + half, color=drawn.get_color(), alpha=0.2, linewidth=0)
