"""Suppressors: a read-out's weights name channels that hold no signal, its pattern does not.

The core of PatternGAM and PatternQLR (after Haufe et al. 2014): the best linear read-out gives a
large weight to a channel that holds nothing but another channel's noise, since subtracting it
helps. The activation pattern of the same read-out is 0 there. Planted here: a signal (is the digit
one of 5 to 9?) in some channels, on top of the ink of other images as a shared distractor; other
channels hold the distractor alone, others nothing of either.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import activjax as aj
from activjax import data, fit, runs, stats
from activjax.runs import figures

QUESTION = (
    "Does a linear read-out give weight to channels that hold no signal (suppressors), and does "
    "its activation pattern reject them?"
)
KINDS = ("signal", "suppressor", "neither")


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    rows: int = runs.static(20_000, ge=100, help="examples drawn for each seed")
    channels: tuple[int, ...] = runs.static((8, 8, 8), help="signal, suppressor, neither")
    distractors: int = runs.static(3, ge=1, help="shared noise sources")
    noise: float = runs.static(0.05, gt=0, help="standard deviation of each channel's own noise")
    l2: float = runs.static(1e-3, gt=0, help="ridge penalty, for each example")
    batch: int = runs.static(1000, ge=1)

    def __post_init__(self) -> None:
        if len(self.channels) != 3 or min(self.channels) < 1:
            raise ValueError(f"channels: expected three positive integers, got {self.channels}")
        if self.channels[1] < self.distractors:
            raise ValueError("channels: expected at least as many suppressors as distractors")


def planted(config: Config, rng: np.random.Generator, ink: np.ndarray, labels: np.ndarray) -> Any:
    """Channels `[rows, d]`, the signal `[rows]` and the kind of each channel `[d]`."""
    chosen = rng.integers(0, len(labels), config.rows)
    signal = np.where(labels[chosen] >= 5, 1.0, -1.0)
    # Ink of other images: real numbers, independent of the signal.
    noise = ink[rng.integers(0, len(ink), (config.rows, config.distractors))]
    kinds = np.repeat(np.arange(3), config.channels)
    loading = np.where(kinds == 0, rng.uniform(0.5, 1.5, len(kinds)), 0.0)
    mixing = rng.normal(size=(config.distractors, len(kinds))) * (kinds < 2)
    x = signal[:, None] * loading + noise @ mixing
    x += config.noise * rng.normal(size=x.shape)
    x[:, kinds == 2] += rng.normal(size=(config.rows, config.channels[2]))
    return x.astype(np.float32), signal.astype(np.float32), kinds


def read_out(config: Config, x: np.ndarray, signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ridge read-out's weights and their pattern, `[d]` each, from one pass over batches."""

    def tagged(_: Any, batch: Any) -> Any:
        x = aj.tag(batch["x"], "x", axes="batch channel")
        return x, aj.tag(batch["y"], "y", axes="batch")

    pass_ = aj.harvest(tagged, reduce={"x": stats.moments("full"), ("x", "y"): stats.cross()})
    found = pass_(
        None,
        [
            {"x": x[i : i + config.batch], "y": signal[i : i + config.batch]}
            for i in range(0, len(x), config.batch)
        ],
        progress=False,
    )
    moments, both = found["x"], found["x", "y"]
    fitted = fit.ridge_from_moments(
        moments.scatter, both.scatter, both.mean_x, both.mean_y, config.l2 * len(x)
    )
    pattern = fit.activation_pattern(fitted.coef, moments.covariance())
    return np.asarray(fitted.coef)[:, 0], np.asarray(pattern)[:, 0]


def two_channels(config: Config, rng: np.random.Generator, ink: np.ndarray) -> tuple[float, float]:
    """The textbook case: `x1 = signal + noise`, `x2 = noise`. Weight and pattern of `x2`, over
    those of `x1`.
    """
    signal = rng.choice([-1.0, 1.0], config.rows)
    noise = ink[rng.integers(0, len(ink), config.rows)]
    x = np.stack([signal + noise, noise], axis=1).astype(np.float32)
    weights, pattern = read_out(dataclasses.replace(config, l2=1e-9), x, signal.astype(np.float32))
    return float(weights[1] / weights[0]), float(pattern[1] / pattern[0])


def main(config: Config, out: Any) -> runs.Result:
    """Read out every seed's planted signal."""
    images, labels = _digits()
    ink = images.sum(1)
    ink = (ink - ink.mean()) / ink.std()
    weights, patterns, textbook, areas = [], [], [], []
    for seed in out.seeds:
        rng = np.random.default_rng(int(seed))
        x, signal, kinds = planted(config, rng, ink, labels)
        w, a = read_out(config, x, signal)
        weights.append(np.abs(w) / np.abs(w).max())
        patterns.append(np.abs(a) / np.abs(a).max())
        # Does the size of an entry tell channels with signal from those without?
        areas.append([stats.auroc(v, kinds == 0).value for v in (weights[-1], patterns[-1])])
        textbook.append(two_channels(config, rng, ink))
    kinds = np.repeat(np.arange(3), config.channels)
    w, a, pairs, area = map(np.asarray, (weights, patterns, textbook, areas))
    out.arrays({"weights": w, "patterns": a, "kinds": kinds, "two_channels": pairs})
    rows = [
        runs.Row.over(
            "two channels: weight of the suppressor over that of the signal channel",
            pairs[:, 0],
            baseline=-1.0,
            baseline_name="exact",
        ),
        runs.Row.over(
            "two channels: pattern of the suppressor over that of the signal channel",
            pairs[:, 1],
            baseline=0.0,
            baseline_name="exact",
        ),
        runs.Row.over(
            "AUROC of |pattern| for channels with signal",
            area[:, 1],
            baseline=area[:, 0],
            baseline_name="|weight|",
        ),
        runs.Row.over(
            "AUROC of |weight| for channels with signal",
            area[:, 0],
            baseline=0.5,
            baseline_name="chance",
        ),
    ]
    rows += [
        runs.Row.over(
            f"mean size of the pattern, {kind} channels",
            a[:, kinds == i].mean(1),
            baseline=w[:, kinds == i].mean(1),
            baseline_name="of the weights",
        )
        for i, kind in enumerate(KINDS)
    ]
    with figures.style():
        out.figure("channels", figure(w, a, kinds), caption=CAPTION)
    answer = (
        f"In the textbook case the suppressor has {rows[0].value:.2f} times the weight of the "
        f"signal channel and {rows[1].value:+.3f} times its pattern. With {len(kinds)} channels "
        f"the size of a weight tells channels with signal from others with an AUROC of "
        f"{rows[3].value:.3f}, the size of a pattern entry with {rows[2].value:.3f}; suppressors "
        f"have a mean size of {rows[5].baseline:.3f} in the weights and "
        f"{rows[5].value:.3f} in the pattern, where the largest has 1."
    )
    return runs.Result(QUESTION, answer, tuple(rows))


CAPTION = (
    "Size of each channel's weight (left) and pattern entry (right), over the largest of its "
    "network; one dot a channel and seed, the bar is the mean of a kind."
)


def figure(w: np.ndarray, a: np.ndarray, kinds: np.ndarray) -> Any:
    """Sizes by kind of channel."""
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.4), sharey=True)
    for ax, values, title in zip(axes, (w, a), ("weight", "pattern")):
        for i, _ in enumerate(KINDS):
            own = values[:, kinds == i].ravel()
            spread = np.linspace(-0.25, 0.25, len(own))
            ax.plot(i + spread, own, ".", color=figures.COLOURS[i], alpha=0.5, markersize=4)
            ax.plot([i - 0.3, i + 0.3], [own.mean()] * 2, color="black", linewidth=1.5)
        ax.set(title=f"size of the {title}", xticks=range(3), xticklabels=KINDS, ylim=(-0.03, 1.05))
        ax.set_xlabel("what the channel holds")
    axes[0].set_ylabel("size over the largest")
    return fig


def _digits() -> tuple[np.ndarray, np.ndarray]:
    split = data.digits()
    return np.concatenate([split.train_x, split.test_x]), np.concatenate(
        [split.train_y, split.test_y]
    )


def sites(config: Config) -> Any:
    """The channels, for `activjax sites`."""
    shape = jax.ShapeDtypeStruct((config.batch, sum(config.channels)), jnp.float32)
    return (lambda x: aj.tag(x, "x", axes="batch channel")), (shape,)
