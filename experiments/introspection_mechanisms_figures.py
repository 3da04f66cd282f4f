"""Figures of `introspection_mechanisms.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from activjax.runs import figures

CAPTIONS = (
    "The direction of the question removed at all layers with one weight: how often the network "
    "after SFT says YES, beside the mean over random directions (dashed).",
    "Claims against denials, logsumexp(YES) - logsumexp(NO), by the strength of the injection: "
    "means over held-out concepts with their quartiles, and over random vectors of equal length "
    "(dashed). Above 0 the network says YES.",
    "Training: how often the network prefers the right answer to the wrong one more than the "
    "network before did, in DPO.",
    "All MLP units: correlation with the strength against direct attribution to YES, in the "
    "network after SFT. Marked are the units that were patched.",
)


def ablation_figure(config: Any, seen: Sequence[Any]) -> Any:
    """Shares by weight."""
    fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name in seen[0].ablated.uniform:
        shares = np.mean([s.ablated.uniform[name] for s in seen], axis=0)
        chance = np.mean([r.uniform[name] for s in seen for r in s.random], axis=0)
        (line,) = ax.plot(config.weights, shares, marker="o", label=name)
        ax.plot(config.weights, chance, ls="--", color=line.get_color())
    ax.set(xlabel="weight", ylabel="says YES", ylim=(-0.02, 1.02))
    figures.legend_below(fig, np.array([[ax]]))
    return fig


def dose_figure(config: Any, seen: Sequence[Any]) -> Any:
    """Claims by strength, at the layer of training and the last one."""
    layers = list(dict.fromkeys((config.layer, config.layers - 1)))
    fig, axes = plt.subplots(
        1, len(layers), figsize=(4.6 * len(layers), 3.4), layout="constrained", sharey=True,
        squeeze=False,
    )  # fmt: skip
    for i, (ax, layer) in enumerate(zip(axes[0], layers)):
        for label, of in (("after SFT", "doses"), ("before", "untrained_doses")):
            found = [getattr(s, of) for s in seen]
            curves = np.concatenate([d.concepts[i] for d in found])
            noise = np.concatenate([d.noise[i] for d in found])
            low, high = np.percentile(curves, [25, 75], axis=0)
            (line,) = ax.plot(config.doses, curves.mean(axis=0), label=label)
            ax.fill_between(config.doses, low, high, color=line.get_color(), alpha=0.2, lw=0)
            ax.plot(config.doses, noise.mean(axis=0), ls="--", color=line.get_color())
        ax.axhline(0, color="0.4", ls=":")
        ax.set(xlabel="strength", title=f"put in after block {layer}")
    axes[0, 0].set_ylabel("claim against denial (nats)")
    figures.legend_below(fig, axes)
    return fig


def preference_figure(seen: Sequence[Any]) -> Any:
    """DPO's own measure of success."""
    fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    curve = np.mean([s.preferred for s in seen], axis=0)
    parts = np.array_split(curve, max(1, len(curve) // 10))
    ends = np.cumsum([len(p) for p in parts])
    ax.plot(ends, [p.mean() for p in parts])
    ax.set(xlabel="step", ylabel="right answer preferred", ylim=(0, 1.02))
    return fig


def unit_figure(seen: Sequence[Any]) -> Any:
    """All units of the first network."""
    fig, ax = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
    found = seen[0].units
    x, y = np.asarray(found.seen.correlation), np.asarray(found.seen.attribution)
    ax.scatter(x, y, s=5, color="0.7", label="units")
    for name, marker in (("gates", "v"), ("evidence", "^")):
        which = tuple(found.chosen[name].T)
        ax.scatter(x[which], y[which], s=20, marker=marker, label=name)
    ax.set(xlabel="correlation with the strength", ylabel="attribution to YES (logits)")
    figures.legend_below(fig, np.array([[ax]]))
    return fig
