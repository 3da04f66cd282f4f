"""Figures of `codebook_text.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from codebook_text_concepts import SEARCHES, Searched
from codebook_text_steering import ADDED, FOUND, RANDOM, REACH, WAYS, Outcome, Setting

from activjax import stats
from activjax.runs import figures

CAPTIONS = {
    "cost": "Bits a byte of held-out excerpts more than the base that was trained on for as many "
    "steps needs for them. Dots: mean over all bytes; bars: 95 % over excerpts.",
    "concepts": "F1 of the best single unit for each concept, chosen on half of the excerpts, "
    "measured on the others. Bars: 95 % over excerpts; for shuffled labels over tokens.",
    "steering": "Share of sampled continuations that show the concept, against bits a byte that "
    "the base needs for them (left: more fluent, or duller). Codes: least similar choice or all "
    "choices replaced, in one codebook or several. Vectors: the mean difference of activations, "
    "longer and longer. Crosses: not steered. Bars: 95 % (Wilson); of random codes, all draws.",
}


def cost_figure(differences: Mapping[str, np.ndarray], sizes: np.ndarray) -> Any:
    """Paired differences in bits a byte, `{kind: [documents]}` of sums of bits; their bytes."""
    fig, ax = plt.subplots(figsize=(6.4, 0.6 + 0.5 * len(differences)))
    names = list(differences)[::-1]
    for y, bits in enumerate(map(differences.__getitem__, names)):
        value, low, high = stats.ratio_interval(bits, sizes)
        ax.errorbar(
            value, y, xerr=[[value - low], [high - value]], fmt="o", capsize=3,
            color=figures.COLOURS[0],
        )  # fmt: skip
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(-0.6, len(differences) - 0.4)
    ax.axvline(0, color="grey", linestyle=":", linewidth=1.4)
    ax.set_xscale("symlog", linthresh=0.1)
    ends = [x for x in (-0.1, -0.05, 0, 0.05, 0.1, 0.2, 0.5, 1, 2, 4) if x >= ax.get_xlim()[0]]
    ax.set_xticks(ends, [f"{x:g}" for x in ends])
    ax.set_xticks([], minor=True)
    top = max(float(b.sum() / sizes.sum()) for b in differences.values())
    ax.set_xlim(min(-0.06, ax.get_xlim()[0]), max(0.12, 1.4 * top))
    ax.set_xlabel("more bits a byte than the base")
    return fig


def concepts_figure(results: Mapping[str, Searched]) -> Any:
    """F1 by concept and search."""
    fig, ax = plt.subplots(figsize=(7.2, 1.2 + 0.55 * len(results)))
    names = list(results)[::-1]
    for k, kind in enumerate(SEARCHES):
        y = np.arange(len(names)) + 0.15 * (len(SEARCHES) / 2 - 0.5 - k)
        found = np.array([results[name].best[kind].f1 for name in names])
        value, low, high = found.T
        bars = [np.maximum(value - low, 0), np.maximum(high - value, 0)]
        ax.errorbar(value, y, xerr=bars, fmt="o", capsize=2, label=kind, elinewidth=1.2,
                    color=figures.COLOURS[k])  # fmt: skip
    ax.set_yticks(np.arange(len(names)), names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set(xlabel="F1 on the other half", xlim=(-0.02, 1.02))
    figures.legend_below(fig, ax, ncols=3)
    return fig


def pooled(outcomes: Sequence[Outcome]) -> tuple[float, float, float, float]:
    """Share that shows the concept with its interval, and bits a byte, of all draws together."""
    shows = np.concatenate([one.shows for one in outcomes])
    low, high = stats.wilson(shows.sum(), len(shows))
    bits = float(np.mean([one.fluency() for one in outcomes]))
    return float(shows.mean()), float(low), float(high), bits


def curves(
    steered: Mapping[Setting, Outcome], concept: str
) -> dict[str, list[tuple[float, float, float, float]]]:
    """By curve, its points: share, low, high, bits."""

    def points(method: str, ways: Sequence[str]) -> list[tuple[float, float, float, float]]:
        found = []
        for way in ways:
            own = [o for s, o in steered.items() if (s.concept, s.method, s.way) ==
                   (concept, method, way)]  # fmt: skip
            found.append(pooled(own))
        return found

    added = [s.way for s in steered if s.concept == concept and s.method == ADDED]
    vectors = {
        f"{ADDED}, {reach}": points(ADDED, [way for way in added if way.endswith(reach)])
        for reach in REACH
    }
    return {FOUND: points(FOUND, list(WAYS)), RANDOM: points(RANDOM, list(WAYS)), **vectors}


def steering_figure(steered: Mapping[Setting, Outcome], concepts: Sequence[str]) -> Any:
    """Success against fluency, a panel for each concept."""
    fig, axes = plt.subplots(
        1, len(concepts), figsize=(1.2 + 3.3 * len(concepts), 4.0), squeeze=False, sharey=True
    )
    for ax, concept in zip(axes[0], concepts):
        for k, (name, points) in enumerate(curves(steered, concept).items()):
            value, low, high, bits = np.array(points).T
            style = {"marker": "osv^"[k], "linestyle": "" if k < 2 else "-"}
            ax.errorbar(
                bits, value, yerr=[np.maximum(value - low, 0), np.maximum(high - value, 0)],
                label=name, color=figures.COLOURS[k], elinewidth=0.9, capsize=2, markersize=5,
                **style,
            )  # fmt: skip
        for way, colour in (("codes", figures.COLOURS[0]), ("no codes", figures.COLOURS[2])):
            plain = steered[Setting(concept, "none", way)]
            ax.plot(plain.fluency(), plain.rate()[0], "X", color=colour, markersize=9,
                    markeredgecolor="black", label=f"not steered, {way}")  # fmt: skip
        ax.set(title=concept, xlabel="bits a byte under the base", ylim=(-0.03, 1.03), xscale="log")
        ticks = np.array([0.25, 0.5, 1, 2, 4, 8, 16, 32])
        seen = [o.fluency() for s, o in steered.items() if s.concept == concept]
        first, last = np.searchsorted(ticks, [min(seen), max(seen)])
        figures.plain_ticks(ax.xaxis, ticks[max(first - 1, 0) : last + 1])
    axes[0, 0].set_ylabel("share of continuations")
    figures.legend_below(fig, axes, ncols=3)
    return fig
