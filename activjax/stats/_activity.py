"""What histograms and largest values tell of a site: sparsity curves and massive activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from activjax.stats._histogram import Histogram
from activjax.stats._top_k import TopK


@dataclass(frozen=True)
class SparsityCurve:
    """How many values a threshold on their magnitude would drop.

    Attributes:
      threshold: `[t]`.
      share: `[*lead, t]`, of values whose magnitude is at most the threshold.
    """

    threshold: np.ndarray
    share: np.ndarray


def sparsity_curve(histogram: Histogram, points: int = 64) -> SparsityCurve:
    """The share of values that lie at or below each of a range of magnitudes, and exactly at 0.

    Args:
      histogram: of the values, as `stats.histogram` gives it.
      points: thresholds: 0, then logarithmically spaced from the smallest to the largest
        magnitude seen.

    Raises:
      ValueError: fewer than 2 points, or nothing was counted.
    """
    if points < 2:
        raise ValueError(f"sparsity_curve: points is {points}, expected at least 2")
    counts = np.asarray(histogram.counts)
    magnitudes = np.abs(histogram.values())
    seen = magnitudes[(counts.reshape(-1, counts.shape[-1]).sum(0) > 0)]
    seen = seen[np.isfinite(seen) & (seen > 0)]
    if not histogram.n.sum():
        raise ValueError("sparsity_curve: the histogram is empty")
    grid = np.geomspace(seen.min(), seen.max(), points - 1) if seen.size else np.zeros(0)
    if seen.size:
        grid[-1] = seen.max()  # geomspace rounds
    thresholds = np.concatenate([[0.0], grid])
    return SparsityCurve(thresholds, histogram.share_up_to(thresholds))


@dataclass(frozen=True)
class Massive:
    """A value far beyond the others of its site.

    Attributes:
      value: the activation.
      ratio: its magnitude over the site's median magnitude; infinite where that is 0.
      example, position, channel: where it was.
    """

    value: float
    ratio: float
    example: int
    position: int
    channel: int


def massive_activations(
    largest: TopK, histogram: Histogram, *, above: float = 100.0, times: float = 1000.0
) -> tuple[Massive, ...]:
    """The activations that are massive by the rule of Sun et al. ("Massive activations in large
    language models", 2024): magnitude above 100 and at least about 1,000 times the median's.

    Args:
      largest: of one site, from `top_k(k, by="magnitude")`.
      histogram: of the magnitudes of the same site, from `histogram().of(jnp.abs)`.
      above, times: the two parts of the rule.

    Returns:
      Those of `largest`, in its order. If all `k` are massive there may be more.

    Raises:
      ValueError: statistics of several loops (index them first), or a histogram of other values.
    """
    value = np.asarray(largest.value, np.float64)
    if value.ndim != 1 or np.asarray(histogram.counts).ndim != 1:
        raise ValueError(
            "massive_activations: expected the statistics of one layer; take one first, such as "
            "jax.tree.map(lambda a: a[0], result)"
        )
    counts = np.asarray(histogram.counts)
    if counts[histogram.values() < 0].any():
        raise ValueError("massive_activations: expected a histogram of magnitudes, .of(jnp.abs)")
    median = float(histogram.quantile(0.5))
    out: list[Massive] = []
    places = (np.asarray(a) for a in (largest.example, largest.position, largest.channel))
    for size, valid, *place in zip(value, np.asarray(largest.valid), *places):
        ratio = abs(size) / median if median > 0 else np.inf
        if valid and abs(size) > above and ratio >= times:
            out.append(Massive(float(size), float(ratio), *map(int, place)))
    return tuple(out)


def massive_table(found: dict[str, Any]) -> str:
    """Massive activations of several sites as text, one line each."""
    lines = [
        f"{'site':24s} {'value':>12s} {'x median':>10s} {'example':>8s} {'position':>8s} channel"
    ]
    for site, massive in found.items():
        lines += [
            f"{site:24s} {m.value:12.4g} {m.ratio:10.3g} {m.example:8d} {m.position:8d} {m.channel}"
            for m in massive
        ]
    return "\n".join(lines)
