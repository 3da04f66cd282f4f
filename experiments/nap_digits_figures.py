"""Figures of `nap_digits`."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from activjax.runs import figures

RECALL = (
    "Share of held-out digits that have the pattern of their class (left), and of pairs of a digit "
    "and another class in which the digit has that class's pattern (right), against delta. "
    "Dashed: codes of the untrained network; dotted: patterns mined with shuffled labels. Bars: "
    "95 % intervals over networks, each trained on its own split."
)
RADIUS = (
    "Verified radius (largest coordinate, pixels in [0, 1]) around held-out digits that follow the "
    "pattern of their class, with it against without. Larger marks are several digits; grey: equal."
)
BALLS = (
    "What is found in balls around held-out digits that are classified rightly, whether they have "
    "the pattern or not. Empty: no input of the ball has the pattern, nothing is verified."
)
PAIRS = (
    "Of all networks of a kind, how many have patterns of two classes that no input can have both: "
    "because they ask for different signs of a unit, or by a proof over the whole box."
)
LINES = {"trained": "-", "untrained": "--", "shuffled": ":"}
VERDICTS = {"verified": 2, "violated": 1, "empty_region": 4, "unknown": 6}


def recall(config: Any, measured: dict[str, dict[str, np.ndarray]]) -> Any:
    """Recall and other-class hits against delta."""
    fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.8))
    at = np.arange(len(config.deltas))
    for ax, key, title in zip(
        axes, ("recall", "hits"), ("recall", "other-class hits"), strict=True
    ):
        shift = -0.1
        for i, (name, found) in enumerate(measured.items()):
            for kind, line in LINES.items():
                label = name if kind == "trained" else f"{name}, {kind}"
                values = found[f"{key}.{kind}"]
                figures.bars(
                    ax, at + shift, values, label, colour=figures.COLOURS[i], linestyle=line
                )
                shift += 0.04  # so that bars do not lie on one another
        ax.set(
            title=title, xlabel="delta", xticks=at, xticklabels=config.deltas, ylim=(-0.02, 1.02)
        )
    axes[0].set_ylabel("share")
    figures.legend_below(fig, axes, ncols=3)
    return fig


def radius(config: Any, measured: dict[str, dict[str, np.ndarray]]) -> Any:
    """Radius with the pattern against without."""
    fig, grid = plt.subplots(
        1, len(config.proved), figsize=(4.2 * len(config.proved), 4), squeeze=False
    )
    every = [found[f"radius.{k}"] for found in measured.values() for k in ("with", "without")]
    top = 1.08 * max(1e-3, *(float(np.nanmax(v)) for v in every))
    for i, (ax, delta) in enumerate(zip(grid[0], config.proved, strict=True)):
        ax.plot([0, top], [0, top], color="grey", linewidth=1)
        for j, (name, found) in enumerate(measured.items()):
            x, y = found["radius.without"].ravel(), found["radius.with"][:, i].ravel()
            points = np.stack([x, y], 1)[np.isfinite(x) & np.isfinite(y)]
            places, count = np.unique(points, axis=0, return_counts=True)
            ax.scatter(*places.T, s=22 * count, color=figures.COLOURS[j], alpha=0.55,
                       label=name, marker="os"[j])  # fmt: skip
        ax.set(title=f"delta {delta}", xlabel="radius without a pattern", aspect="equal",
               xlim=(0, top), ylim=(0, top))  # fmt: skip
    grid[0, 0].set_ylabel("radius with the pattern")
    figures.legend_below(fig, grid)
    return fig


def balls(config: Any, measured: dict[str, dict[str, np.ndarray]]) -> Any:
    """Verdicts on balls, stacked."""
    names = ["no pattern", *(f"delta {d}" for d in config.proved)]
    fig, grid = plt.subplots(1, len(measured), figsize=(4.2 * len(measured), 3.4), squeeze=False)
    for ax, (name, found) in zip(grid[0], measured.items(), strict=True):
        below = np.zeros(len(names))
        for k, (status, colour) in enumerate(VERDICTS.items()):
            share = (found["balls"] == k).mean((0, 2))
            label = status.replace("_region", "")
            ax.bar(names, share, bottom=below, color=figures.COLOURS[colour], label=label)
            below += share
        ax.set(title=f"{name}, balls of radius {config.ball}", ylim=(0, 1))
        ax.grid(visible=False, axis="x")
    grid[0, 0].set_ylabel("share of balls")
    figures.legend_below(fig, grid, ncols=4)
    return fig


def pairs(config: Any, measured: dict[str, dict[str, np.ndarray]]) -> Any:
    """Which classes exclude one another."""
    shape = len(measured), len(config.proved)
    fig, grid = plt.subplots(*shape, figsize=(3.9 * shape[1], 3.7 * shape[0]), squeeze=False)
    drawn: Any = None
    n = 1
    for line, (name, found) in zip(grid, measured.items(), strict=True):
        n = len(found["pairs"])
        for i, (ax, delta) in enumerate(zip(line, config.proved, strict=True)):
            kinds = found["pairs"][:, i]
            count = ((kinds == 0) | (kinds == 1)).sum(0).astype(float)
            np.fill_diagonal(count, np.nan)
            drawn = ax.imshow(count, vmin=0, vmax=n, cmap="Blues")
            for a in range(10):
                for b in range(10):
                    if a != b:
                        ax.text(b, a, f"{count[a, b]:.0f}", ha="center", va="center", fontsize=7,
                                color="white" if count[a, b] > n / 2 else "black")  # fmt: skip
            ax.set(title=f"{name}, delta {delta}", xlabel="class", ylabel="class",
                   xticks=range(10), yticks=range(10))  # fmt: skip
            ax.grid(visible=False)
    bar = fig.colorbar(drawn, ax=grid, shrink=0.7, ticks=range(n + 1))
    bar.set_label("networks whose patterns exclude one another")
    return fig
