"""The training curves of a report, drawn from `metrics.jsonl`."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from activjax.runs import figures

_MOST_BYTES = 64e6  # of a longer file every k-th line is read
_POINTS = 200
_METRICS = 6
_CASES = 14
_LINES = ("-", "--", ":")
# without the version of matplotlib, equal figures are equal files
_FORMAT: Any = {"format": "png", "dpi": 150, "bbox_inches": "tight", "metadata": {"Software": None}}


@dataclasses.dataclass(frozen=True)
class Curves:
    """A picture and what has to be said about it."""

    png: bytes
    caption: str


@dataclasses.dataclass(frozen=True)
class _Curve:
    """One metric of one case: `steps [points]`, `values [points, cells]`; how it was thinned."""

    steps: np.ndarray
    values: np.ndarray
    each: int
    vector: bool


def draw(path: Path) -> Curves | None:
    """Every metric against the step, one panel a metric, one line a case.

    Vectors are averaged over their entries, long histories over neighbouring steps. None where
    nothing was recorded or the file cannot be read; damaged lines are left out.
    """
    try:
        history = _read(path)
    except OSError:
        return None
    cases = list(dict.fromkeys(case for case, _ in history))
    metrics = list(dict.fromkeys(metric for _, metric in history))
    if not history:
        return None
    curves = {
        (case, metric): history[case, metric]
        for metric in metrics[:_METRICS]
        for case in cases[:_CASES]
        if (case, metric) in history
    }
    return Curves(_picture(curves), _caption(curves, cases, metrics))


def _read(path: Path) -> dict[tuple[str | None, str], _Curve]:
    stride = max(1, math.ceil(path.stat().st_size / _MOST_BYTES))
    steps: dict[tuple[str | None, str], list[int]] = {}
    values: dict[tuple[str | None, str], list[np.ndarray]] = {}
    vectors = set()
    with path.open("rb") as file:
        for i, line in enumerate(file):
            if i % stride:
                continue
            try:
                case, step, metrics = _parsed(line)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
            for name, cells in metrics.items():
                before = values.setdefault((case, name), [])
                if cells.ndim > 1:
                    vectors.add(name)
                    cells = cells.reshape(len(cells), -1).mean(axis=1)
                if cells.shape == (before[0] if before else cells).shape:
                    before.append(cells)
                    steps.setdefault((case, name), []).append(step)
    return {key: _thinned(steps[key], values[key], stride, key[1] in vectors) for key in steps}


def _parsed(line: bytes) -> tuple[str | None, int, dict[str, np.ndarray]]:
    data = json.loads(line)
    case = data["case"]
    if not (case is None or isinstance(case, str)):
        raise TypeError("a case is named by text")
    metrics = {}
    for name, cells in data["metrics"].items():
        array = np.asarray(cells, np.float64)  # "NaN" and "Infinity" become numbers
        if array.ndim and array.size:
            metrics[name] = np.where(np.isfinite(array), array, np.nan)
    return case, int(data["step"]), metrics


def _thinned(steps: list[int], values: list[np.ndarray], stride: int, vector: bool) -> _Curve:
    """Means over at most `_POINTS` neighbourhoods."""
    x, y = np.asarray(steps, np.float64), np.stack(values)
    each = max(1, math.ceil(len(x) / _POINTS))
    if each > 1:
        starts = np.arange(0, len(x), each)
        sizes = np.diff(np.append(starts, len(x)))
        x = np.add.reduceat(x, starts) / sizes
        y = np.add.reduceat(y, starts, axis=0) / sizes[:, None]
    return _Curve(x, y, each * stride, vector)


def _picture(curves: dict[tuple[str | None, str], _Curve]) -> bytes:
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(metric for _, metric in curves))
    cases = list(dict.fromkeys(case for case, _ in curves))
    across = min(len(metrics), 3)
    down = math.ceil(len(metrics) / across)
    wide = {1: 5.2, 2: 8.0, 3: 10.0}[across]
    with figures.style():
        fig = Figure(figsize=(wide, 3.0 * down + 0.3 * (len(cases) > 1)))
        axes = fig.subplots(down, across, squeeze=False).ravel()
        for ax, metric in zip(axes, metrics, strict=False):
            lowest, highest = math.inf, -math.inf
            for i, case in enumerate(cases):
                if (case, metric) not in curves:
                    continue
                curve = curves[case, metric]
                style = _LINES[i // len(figures.COLOURS) % len(_LINES)]
                colour = figures.COLOURS[i % len(figures.COLOURS)]
                figures.band(ax, curve.steps, curve.values.T, _plain(case or metric),
                             colour=colour, linestyle=style, marker="")  # fmt: skip
                mean = curve.values.mean(axis=1)
                if np.isfinite(mean).any():
                    lowest = min(lowest, np.nanmin(mean))
                    highest = max(highest, np.nanmax(mean))
            _frame(ax, lowest, highest)
            ax.set(xlabel="step", ylabel=_plain(metric))
        for ax in axes[len(metrics) :]:
            ax.remove()
        if len(cases) > 1:
            figures.legend_below(fig, axes[: len(metrics)])
        buffer = io.BytesIO()
        with warnings.catch_warnings():  # a letter that the font lacks is a box, and no more
            warnings.filterwarnings("ignore", message="Glyph")
            fig.savefig(buffer, **_FORMAT)
    return buffer.getvalue()


def _frame(ax: Any, lowest: float, highest: float) -> None:
    """Fit the panel to the means: wide bands of few seeds are cut rather than flatten the lines."""
    if 0 < lowest < math.inf and highest > 100 * lowest:
        ax.set_yscale("log")
        ax.set_ylim(lowest / 2, None)
    elif lowest < highest:
        bottom, top = ax.get_ylim()
        room = 0.6 * (highest - lowest)
        ax.set_ylim(max(bottom, lowest - room), min(top, highest + room))


def _plain(text: str) -> str:
    """Text that matplotlib takes literally: no formula, no hidden label."""
    short = text if len(text) <= 40 else f"{text[:39]}…"
    shown = "".join(c if c.isprintable() else "?" for c in short).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _caption(curves: dict[Any, _Curve], cases: list[Any], metrics: list[str]) -> str:
    trials = {curve.values.shape[1] for curve in curves.values()}
    text = "Metrics recorded during training"
    if max(trials) > 1:
        text += f": mean over {'/'.join(map(str, sorted(trials)))} seeds, bands: 95 % intervals"
    each = {curve.each for curve in curves.values()}
    if max(each) > 1:
        text += f"; each point is the mean of up to {max(each)} steps"
    text += "."
    if any(curve.vector for curve in curves.values()):
        text += " Metrics with several entries are averaged over them."
    if len(metrics) > _METRICS:
        text += f" Not drawn: {', '.join(metrics[_METRICS:])}."
    if len(cases) > _CASES:
        text += f" Drawn are the first {_CASES} of {len(cases)} cases."
    return text
