"""Figures of `introspection_lab.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from introspection_curves import CURVES, NOISE

from activjax import introspection
from activjax.runs import figures

CAPTIONS = {
    "table": "Every condition at strength 1 (the mean residual norm). Shares with 95 % intervals "
    "clustered by concept (by input where no concept is involved). Answers are greedy, so only "
    "different inputs count: a question is never asked twice.",
    "dialogues": "One question with its answer of every condition. Without training the answer to "
    "the question for thoughts is always NO.",
    "controls": "What is claimed under every condition, before and after fine-tuning, at strength "
    "1. Dots are networks, the bar is their mean. On the left what should be detected, on the "
    "right what should not.",
    "dose": "Rates by strength, in units of the mean residual norm: lines are means over networks, "
    "dots networks. Fine-tuning used the strengths in the grey span.",
    "curves": "Held-out concepts at strength 1 by place, by number of concepts trained on, and by "
    "rank of the adapters: lines are means over networks, dots networks. With so few networks "
    "intervals are wide; they are in the summary.",
    "layers": "Share of held-out concepts identified, mean over networks. Left: trained at one "
    "layer, put in at another (vectors of that one). Right: trained at the first layer, vectors "
    "read in one layer and put in at another. Nothing put in at the last layer reaches a later "
    "token: its column is an exact negative control.",
    "confusion": "Reported against injected held-out concepts at strength 1, all networks. "
    "Concepts are in order of category (dotted lines); the last column is no report.",
}
HELD = "injected, held out"
SHOULD = ("injected, trained", HELD, "mismatch")
SHOULD_NOT = ("clean", "mention", "noise", "wrong prompt", "wrong prompt, nothing put in")


def _claims(report: introspection.Report, condition: str) -> float:
    strength = 0.0 if condition in ("clean", "mention", SHOULD_NOT[-1]) else 1.0
    return report.get(condition, strength).rate("detected").value


def lines(ax: Any, x: np.ndarray, values: np.ndarray, label: str) -> None:
    """The mean over networks as a line, each network as a dot: intervals are in the tables."""
    (drawn,) = ax.plot(x, values.mean(axis=0), label=label)
    ax.plot(x, values.T, "o", color=drawn.get_color(), markersize=3, alpha=0.6)


def controls_figure(seen: Sequence[Any]) -> Any:
    """Claims by condition, before and after."""
    fig, axes = plt.subplots(
        1, 2, figsize=(9, 3.6), width_ratios=(len(SHOULD), len(SHOULD_NOT)), sharey=True
    )
    for ax, names in zip(axes, (SHOULD, SHOULD_NOT)):
        for k, (label, which) in enumerate((("before", "before"), ("after", "after"))):
            x = np.arange(len(names)) + (k - 0.5) * 0.36
            values = np.array([[_claims(getattr(s, which), n) for n in names] for s in seen])
            ax.bar(x, values.mean(0), 0.34, color=figures.COLOURS[k], alpha=0.55,
                   label=f"{label} fine-tuning")  # fmt: skip
            ax.plot(x, values.T, "o", color=figures.COLOURS[k], markersize=4)
        ax.set_xticks(np.arange(len(names)), [n.replace(", ", ",\n") for n in names])
        ax.tick_params(axis="x", labelsize=8)
        ax.set_ylim(-0.02, 1.04)
    axes[0].set(ylabel="share that claims a thought", title="should be claimed")
    axes[1].set_title("should not be claimed")
    figures.legend_below(fig, axes)
    return fig


def dose_figure(seen: Sequence[Any], doses: Sequence[float], trained: Sequence[float]) -> Any:
    """Rates against strength."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    panels = (
        ("held-out concepts", HELD, ("detected", "identified", "forced", "coherent")),
        ("controls at that strength", None, ()),
    )
    x = np.arange(len(doses))
    for ax, (title, condition, measures) in zip(axes, panels):
        shown = [(condition, m, m) for m in measures] or [
            ("injected, trained", "identified", "trained concepts identified"),
            ("mismatch", "identified", "identified, another mentioned"),
            ("noise", "detected", "random vector detected"),
            ("wrong prompt", "detected", "claimed, topic asked"),
            ("wrong prompt", "right answer", "right topic"),
        ]
        for name, measure, label in shown:
            values = [[s.after.get(name, d).rate(measure).value for d in doses] for s in seen]
            lines(ax, x, np.array(values), label)
        span = [i for i, d in enumerate(doses) if min(trained) <= d <= max(trained)]
        if span:
            ax.axvspan(span[0] - 0.3, span[-1] + 0.3, color="0.9", zorder=0)
        ax.set_xticks(x, [f"{d:g}" for d in doses])
        ax.set(xlabel="strength (mean residual norms)", title=title, ylim=(-0.04, 1.06))
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    axes[0].set_ylabel("share of trials")
    return fig


def curve_figures(curves: Sequence[Any]) -> Any:
    """Place, number of concepts, rank."""
    fig, axes = plt.subplots(1, len(CURVES), figsize=(10, 3.3), sharey=True)
    for ax, (name, title) in zip(axes, CURVES.items()):
        x = np.arange(len(curves[0][name].x))
        for measure in ("detected", "identified", NOISE):
            values = np.array([[r[measure].value for r in c[name].rates] for c in curves])
            label = measure if measure == NOISE else f"held-out concept {measure}"
            lines(ax, x, values, label)
        ax.set_xticks(x, [str(v) for v in curves[0][name].x])
        ax.set(xlabel=title, ylim=(-0.04, 1.06))
    axes[0].set_ylabel("share of trials")
    figures.legend_below(fig, axes)
    return fig


def map_figure(maps: Sequence[dict[str, np.ndarray]]) -> Any:
    """Layer by layer."""
    fig, axes = plt.subplots(1, 2, figsize=(8, 3.6))
    words = {"trained": "trained at layer", "vector": "vector read in layer"}
    for ax, (name, label) in zip(axes, words.items()):
        mean = np.mean([m[name] for m in maps], axis=0)
        image = ax.imshow(mean, vmin=0, vmax=1, cmap="viridis")
        for i, j in np.ndindex(*mean.shape):
            ax.text(j, i, f"{mean[i, j]:.0%}", ha="center", va="center", fontsize=9,
                    color="white" if mean[i, j] < 0.6 else "black")  # fmt: skip
        ax.set(xlabel="put in at layer", ylabel=label, xticks=range(len(mean)),
               yticks=range(len(mean)))  # fmt: skip
        ax.grid(visible=False)
    fig.colorbar(image, ax=axes, label="identified", shrink=0.85)
    return fig


def confusion_figure(report: Any, confusion: np.ndarray, concepts: Sequence[int]) -> Any:
    """Reported against injected."""
    names = report.talk.names
    rows = sorted({int(c) for c in concepts})
    used = [j for j in range(len(names)) if confusion[rows, j].any() or j in rows]
    table = np.concatenate([confusion[np.ix_(rows, used)], confusion[rows, -1:]], axis=1)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    fig, ax = plt.subplots(figsize=(2.5 + 0.16 * len(used), 1.8 + 0.16 * len(rows)))
    image = ax.imshow(share, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    ax.set_xticks(range(len(used) + 1), [*(names[j] for j in used), "none"], rotation=90)
    ax.set_yticks(range(len(rows)), [names[i] for i in rows])
    ax.tick_params(labelsize=7)
    ax.grid(visible=False)
    for axis, numbers in ((ax.axvline, used), (ax.axhline, rows)):
        letters = [names[j][0] for j in numbers]
        for k in range(1, len(letters)):
            if letters[k] != letters[k - 1]:
                axis(k - 0.5, color="0.6", linestyle=":", linewidth=0.8)
    ax.axvline(len(used) - 0.5, color="0.3", linewidth=1)
    ax.set(xlabel="reported", ylabel="put in")
    fig.colorbar(image, ax=ax, label="share of trials")
    return fig
