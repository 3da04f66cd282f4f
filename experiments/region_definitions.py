"""How far the six definitions of a linear region differ on networks that were trained.

Stargalla, Hertrich and Reichman ("The Computational Complexity of Counting Linear Regions in ReLU
Neural Networks", 2025) order six definitions that the literature uses as if they were one: from
activation patterns to affine functions. They can differ by any factor; here is by how much they do
on planes through handwritten digits, for wide and narrow networks, untrained and trained.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import classifier
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from activjax import data, models, regions, runs, training
from activjax.runs import figures

QUESTION = (
    "By how much do the six definitions of a linear region differ on networks trained on digits?"
)
MOMENTS = ("untrained", "trained")


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    networks: tuple[str, ...] = runs.static(
        ("32-32-32", "8-8-8-8", "4-4-4-4-4", "32-3-32-3-32"), help="hidden widths, such as 32-32"
    )
    steps: int = runs.static(3000, ge=1, help="of training")
    batch: int = runs.static(128, ge=1, help="examples of a step")
    rate: float = runs.static(3e-3, gt=0, help="of Adam")
    planes: int = runs.static(4, ge=1, help="planes for each seed, through three images each")
    margin: float = runs.static(0.5, ge=0, help="of the box, as a share of its sides")

    def __post_init__(self) -> None:
        if not self.networks or len(set(self.networks)) < len(self.networks):
            raise ValueError(f"networks: expected distinct names, got {self.networks}")
        for name in self.networks:
            widths(name)


def widths(name: str) -> list[int]:
    """`32-32` as numbers."""
    parts = name.split("-")
    if not all(p.isdigit() and int(p) > 0 for p in parts):
        raise ValueError(f"networks: expected hidden widths such as 32-32, got {name!r}")
    return [int(p) for p in parts]


def train(config: Config, model: models.Model, key: jax.Array) -> Any:
    """Parameters before and after training, and the training accuracy."""
    split = data.digits()
    x, y = jnp.asarray(split.train_x), jnp.asarray(split.train_y)
    start, params = classifier.trained(
        model, x, y, key, rate=config.rate, batch=config.batch, steps=config.steps
    )
    return start, params, training.accuracy(model.apply(params, x), y)


def decision(model: models.Model, params: Any, a: int, b: int) -> Any:
    """The logit of one class over that of another: one image to a number."""

    def f(x: jax.Array) -> jax.Array:
        logits = model.apply(params, x[None])[0]
        return logits[a] - logits[b]

    return f


def planes(config: Config, seed: int) -> list[tuple[regions.Plane, tuple[int, int]]]:
    """Planes through three images of different classes, and the first two classes."""
    split = data.digits()
    rng = np.random.default_rng([seed, 11])
    out = []
    for _ in range(config.planes):
        classes = rng.permutation(10)[:3]
        images = [split.train_x[rng.choice(np.flatnonzero(split.train_y == c))] for c in classes]
        a, b, _ = classes.tolist()
        out.append((regions.plane_through(*images, margin=config.margin), (a, b)))
    return out


def main(config: Config, out: Any) -> runs.Result:
    """Train each network on every seed, cut the planes, count by every definition."""
    rows, table, told = [], [], []
    ratios: dict[tuple[str, str], np.ndarray] = {}
    shown = None
    for name in config.networks:
        model = models.mlp([64, *widths(name), 10])
        keys = jnp.stack([jax.random.key(int(s)) for s in out.seeds])
        untrained, trained, accuracy = jax.jit(jax.vmap(partial(train, config, model)))(keys)
        low = np.zeros((2, len(out.seeds), config.planes, len(regions.DEFINITIONS)))
        high = np.zeros_like(low)
        for i, seed in enumerate(out.seeds.tolist()):
            for j, (plane, classes) in enumerate(planes(config, seed)):
                for k, stacked in enumerate((untrained, trained)):
                    params = jax.tree.map(lambda p, i=i: p[i], stacked)
                    found = regions.on_plane(decision(model, params, *classes), *plane)
                    counts = found.counts().values()
                    low[k, i, j] = [c.low for c in counts]
                    high[k, i, j] = [c.high for c in counts]
                    if shown is None or (k == 1 and i == j == 0):
                        shown = (name, found)
        out.array(f"low.{name}", low)
        out.array(f"high.{name}", high)
        out.array(f"accuracy.{name}", np.asarray(accuracy))
        for k, moment in enumerate(MOMENTS):
            total = low[k].sum(1)  # over a seed's planes
            share = (total + high[k].sum(1)) / 2 / total[:, [1]]
            ratios[name, moment] = share
            for d, definition in enumerate(regions.DEFINITIONS):
                known = float((low[k, ..., d] == high[k, ..., d]).mean())
                table.append([name, moment, definition, float(total[:, d].mean()),
                              float(high[k].sum(1)[:, d].mean()), known])  # fmt: skip
                if definition != "proper":
                    rows.append(
                        runs.Row.over(f"{definition} regions for each proper one", share[:, d],
                                      baseline=1.0, baseline_name="the proper ones",
                                      network=name, moment=moment)
                    )  # fmt: skip
        rows.append(
            runs.Row.over("training accuracy", np.asarray(accuracy), baseline=0.1,
                          baseline_name="chance", network=name)
        )  # fmt: skip
        after = ratios[name, "trained"].mean(0)
        told.append(f"{name} {after[2]:.3f}, {after[3]:.3f} and {after[5]:.3f}")
        out.log(f"{name}: " + ", ".join(f"{v:.3f}" for v in after))
    out.table(
        "counts", table,
        ["network", "moment", "definition", "at least", "at most", "share of planes known"],
        "Regions of all planes of a seed, mean over seeds.",
    )  # fmt: skip
    extra = max(float(v[:, 0].max()) for v in ratios.values())
    answer = (
        "For each proper activation region of a trained network there are, as convex, open "
        "connected and affine regions: " + "; ".join(told) + ". Patterns without an interior add "
        f"at most {extra - 1:.1%} to the proper ones."
    )
    with figures.style():
        out.figure("ratios", ratio_figure(config, ratios), caption=RATIOS)
        assert shown is not None
        out.figure("definitions", picture(*shown), caption=PICTURE)
    return runs.Result(QUESTION, answer, tuple(rows))


RATIOS = (
    "Regions on planes through three digits by each definition, for each proper activation region; "
    "mean and 95 % interval over seeds. The function is the difference of two logits."
)
PICTURE = (
    "One plane of a trained network: its regions by each definition. Colours tell regions apart; "
    "by the last definition pieces of one colour may lie apart."
)


def ratio_figure(config: Config, ratios: dict[tuple[str, str], np.ndarray]) -> Any:
    """Ratios by definition, one panel for each moment."""
    fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.4), sharey=True)
    labels = [d.replace("_", "\n") for d in regions.DEFINITIONS]
    for ax, moment in zip(axes, MOMENTS, strict=True):
        for i, name in enumerate(config.networks):
            x = np.arange(len(labels)) + 0.08 * (i - (len(config.networks) - 1) / 2)
            figures.bars(ax, x, ratios[name, moment], name)
        ax.set(title=moment, xticks=range(len(labels)), xlabel="definition", ylim=(0, None))
        ax.set_xticklabels(labels, fontsize=8)
    axes[0].set_ylabel("regions for each proper one")
    figures.legend_below(fig, axes)
    return fig


def picture(name: str, found: regions.Polygons) -> Any:
    """A plane by five definitions."""
    kinds = regions.DEFINITIONS[1:]
    fig, axes = plt.subplots(1, len(kinds), figsize=(2.5 * len(kinds), 2.9), sharey=True)
    for ax, definition in zip(axes, kinds, strict=True):
        regions.plot(found.by(definition), ax, "region", edges=False)
        number = str(found.count(definition)).split(" (")[0]
        ax.set_title(f"{definition.replace('_', ' ')}: {number}")
        ax.label_outer()
    fig.suptitle(f"hidden widths {name}, trained", fontsize=10)
    return fig


def sites(config: Config) -> Any:
    """The first network, for `activjax sites`."""
    model = models.mlp([64, *widths(config.networks[0]), 10])
    params = jax.eval_shape(model.init, jax.random.key(0))
    return model.apply, (params, jax.ShapeDtypeStruct((1, 64), jnp.float32))
