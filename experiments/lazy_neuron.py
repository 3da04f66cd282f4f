"""The lazy neuron: how few hidden units of a ReLU network are active, and what makes them so.

Li et al. ("The lazy neuron phenomenon", 2023) find that trained networks activate a small share of
their hidden units, the smaller the wider and the deeper, with the given labels and with random
ones; and that keeping only the most active units of each example costs little. Here the same is
asked of digits MLPs: by layer, by width, over training, and with random labels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import activjax as aj
from activjax import data, models, runs, stats, training
from activjax.runs import figures

QUESTION = (
    "Does training make the hidden units of ReLU networks lazy: are fewer of them active than "
    "before training, in wide networks and deep layers above all, and also under random labels?"
)
LABELS = ("given", "random")


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    widths: tuple[int, ...] = runs.static((32, 128, 512), help="hidden width, one program each")
    labels: tuple[str, ...] = runs.static(LABELS, help="given, random or both")
    depth: int = runs.static(4, ge=1, le=8, help="hidden layers")
    learning_rate: float = runs.traced(1e-3, gt=0, help="of Adam")
    batch: int = runs.static(64, ge=1, help="examples a step")
    epochs: int = runs.static(60, ge=1)
    measure_epochs: tuple[int, ...] = runs.static((0, 1, 3, 10, 30), help="besides the end")
    test_fraction: float = runs.static(0.25, gt=0, lt=1)
    kept: float = runs.static(
        0.1, gt=0, le=1, help="share of units that top-k keeps in the summary"
    )

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or len(set(self.widths)) < len(self.widths):
            raise ValueError(f"widths: expected distinct positive integers, got {self.widths}")
        if not self.labels or set(self.labels) - set(LABELS):
            raise ValueError(f"labels: expected some of {LABELS}, got {self.labels}")
        if any(e < 0 for e in self.measure_epochs):
            raise ValueError(f"measure_epochs: expected numbers >= 0, got {self.measure_epochs}")


@dataclasses.dataclass(frozen=True)
class Static:
    """One width and kind of labels."""

    config: Config
    width: int
    labels: str
    model: models.Model
    split: data.Split
    batches: data.Batches
    steps: int
    chunk: int
    measure_at: tuple[int, ...]


def cases(config: Config) -> dict[str, Config]:
    """One program a width and kind of labels."""
    return {
        f"width={w}.{kind}": dataclasses.replace(config, widths=(w,), labels=(kind,))
        for kind in config.labels
        for w in config.widths
    }


def setup(config: Config) -> Static:
    """Load the digits and lay out the training."""
    (width,), (labels,) = config.widths, config.labels
    split = data.digits(test_fraction=config.test_fraction)
    batches = data.Batches(len(split.train_y), config.batch)
    epochs = sorted({e for e in config.measure_epochs if e < config.epochs} | {config.epochs})
    return Static(
        config,
        width,
        labels,
        models.mlp([split.train_x.shape[1], *(width,) * config.depth, split.classes]),
        split,
        batches,
        steps=config.epochs * batches.per_epoch,
        chunk=batches.per_epoch,
        measure_at=tuple(e * batches.per_epoch for e in epochs),
    )


def init(static: Static, hp: Any, key: jax.Array) -> Any:
    """A freshly initialised network, and the labels that it is trained on."""
    y = jnp.asarray(static.split.train_y)
    if static.labels == "random":
        y = jax.random.permutation(jax.random.fold_in(key, 1), y)  # equally many of each class
    state = training.init_state(static.model, optax.adam(hp.learning_rate), static.batches, key)
    return {"train": state, "y": y}


def step(static: Static, hp: Any, state: Any) -> Any:
    """One step of Adam on the cross-entropy."""
    now = state["train"]
    position, rows = static.batches.next(now.batches)
    batch = jnp.asarray(static.split.train_x)[rows], state["y"][rows]
    new, metrics = training.train_step(
        training.classification(static.model),
        optax.adam(hp.learning_rate),
        now._replace(batches=position),
        batch,
    )
    return {**state, "train": new}, metrics


def active(h: jax.Array) -> jax.Array:
    """Indicators of the units that are active."""
    return (h > 0).astype(jnp.float32)


def measure(static: Static, hp: Any, state: Any) -> dict[str, jax.Array]:
    """Accuracies, and how many units are active on the test set, layer by layer."""
    params, split = state["train"].params, static.split
    logits, acts = aj.capture(static.model.apply, "layers/*/post")(
        params, jnp.asarray(split.test_x)
    )
    rate = stats.moments().of(active)
    rates = [
        rate.finish(rate.update(rate.init(h), h)).mean  # [width]: of each unit
        for h in acts.values()
    ]
    train_logits = static.model.apply(params, jnp.asarray(split.train_x))
    return {
        "active": jnp.stack([r.mean() for r in rates]),
        "dead": jnp.stack([(r == 0).astype(jnp.float32).mean() for r in rates]),
        "accuracy/train": training.accuracy(train_logits, state["y"]),
        "accuracy/test": training.accuracy(logits, jnp.asarray(split.test_y)),
    }


def top_k_curve(static: Static, params: Any, y: jax.Array, kept: np.ndarray) -> jax.Array:
    """Training accuracy when each example keeps its k most active units in every hidden layer."""
    x = jnp.asarray(static.split.train_x)

    def one(k: jax.Array) -> jax.Array:
        edited = aj.intervene(static.model.apply, {"layers/*/post": aj.edits.top_k(k)})
        return training.accuracy(edited(params, x), y)

    return jax.lax.map(one, jnp.asarray(kept))


def magnitudes(static: Static, params: Any) -> np.ndarray:
    """`[layers, quantiles]`: quantiles of the activations over the test set, in one pass."""
    pass_ = aj.harvest(static.model.apply, "layers/*/post", reduce=stats.histogram())
    found = pass_(params, np.array_split(static.split.test_x, 4), progress=False)
    return np.stack([h.quantile(QUANTILES) for h in found.values()])


QUANTILES = (0.5, 0.75, 0.9, 0.99, 1.0)


def finish(static: Static, hp: Any, states: Any, out: Any) -> runs.Result:
    """The numbers of one network."""
    first, last = out.measured[0], out.measured[static.steps]
    steps = sorted(out.measured)
    for name in first:
        values = np.stack([out.measured[s][name] for s in steps], axis=1)
        out.array(name.replace("/", "."), values)
    out.array("epochs", np.asarray(steps) / static.batches.per_epoch)
    params, y = states["train"].params, states["y"]
    wanted = max(1, round(static.config.kept * static.width))
    kept = np.unique([*np.round(np.geomspace(1, static.width, 10)), wanted]).astype(np.int32)
    curve = jax.jit(jax.vmap(lambda p, y: top_k_curve(static, p, y, kept)))(params, y)
    out.arrays({"kept": kept, "top_k": curve})
    seeds = range(len(out.seeds))
    out.array(
        "quantiles",
        np.stack([magnitudes(static, jax.tree.map(lambda a, i=i: a[i], params)) for i in seeds]),
    )
    where = {"width": static.width, "labels": static.labels}
    largest = np.bincount(static.split.train_y).max() / len(static.split.train_y)
    rows = [
        runs.Row.over(
            f"share of active units, layer {i}",
            last["active"][:, i],
            baseline=first["active"][:, i],
            baseline_name="untrained network",
            **where,
        )
        for i in range(static.config.depth)
    ]
    rows.append(
        runs.Row.over(
            "training accuracy",
            last["accuracy/train"],
            baseline=largest,
            baseline_name="largest class",
            **where,
        )
    )
    rows.append(
        runs.Row.over(
            f"training accuracy with the most active {static.config.kept:.0%} of units kept",
            np.asarray(curve)[:, list(kept).index(wanted)],
            baseline=largest,
            baseline_name="largest class",
            **where,
        )
    )
    return runs.Result(QUESTION, f"Width {static.width}, {static.labels} labels.", tuple(rows))


def combine(config: Config, results: dict[str, runs.Result], out: Any) -> runs.Result:
    """The answer over all networks, and the figures."""
    rows = tuple(row for result in results.values() for row in result.summary)
    with figures.style():
        out.figure("layers", layer_figure(config, out), caption=CAPTIONS[0])
        out.figure("training", training_figure(config, out), caption=CAPTIONS[1])
        out.figure("top_k", top_k_figure(config, out), caption=CAPTIONS[2])
    return runs.Result(QUESTION, answer(config, rows), rows)


CAPTIONS = (
    "Share of active hidden units on the test set, by layer, after training (solid) and before "
    "(dashed). Bars: 95 % intervals over seeds.",
    "Mean share of active units over all hidden layers while training. Bands: 95 % intervals over "
    "seeds. The axis is linear up to 2 epochs, then logarithmic.",
    "Training accuracy when every example keeps only its k most active units in each hidden layer, "
    "without training for it. Bands: 95 % intervals over seeds; dash-dotted: always the largest "
    "class.",
)


def _panels(config: Config, ylabel: str) -> tuple[Any, Any]:
    n = len(config.labels)
    fig, grid = plt.subplots(1, n, figsize=(4.4 * n, 3.6), sharey=True, squeeze=False)
    grid[0, 0].set_ylabel(ylabel)
    for ax, kind in zip(grid[0], config.labels):
        ax.set_title(f"{kind} labels")
    return fig, grid[0]


def _each(config: Config) -> Any:
    for panel, kind in enumerate(config.labels):
        for i, width in enumerate(config.widths):
            yield panel, f"width={width}.{kind}", width, figures.COLOURS[i % 7]


def layer_figure(config: Config, out: Any) -> Any:
    """Active units by layer, one panel a kind of labels."""
    fig, axes = _panels(config, "share of active units")
    layers = np.arange(config.depth)
    for panel, name, width, colour in _each(config):
        values = out.load("active", name)
        side_by_side = 0.05 * (list(config.widths).index(width) - 1)
        x = layers + side_by_side
        figures.bars(axes[panel], x, values[:, -1], f"width {width}", colour=colour)
        figures.bars(axes[panel], x, values[:, 0], "", colour=colour, linestyle="--")
    for ax in axes:
        ax.plot([], [], color="grey", linestyle="--", label="untrained")
        ax.set(xlabel="hidden layer", ylim=(0, 1), xticks=layers)
    figures.legend_below(fig, axes, ncols=4)
    return fig


def training_figure(config: Config, out: Any) -> Any:
    """Active units over training, one panel a kind of labels."""
    fig, axes = _panels(config, "share of active units, all layers")
    for panel, name, width, colour in _each(config):
        epochs = out.load("epochs", name)
        values = out.load("active", name).mean(-1)
        figures.band(axes[panel], epochs, values, f"width {width}", colour=colour)
        axes[panel].set(xscale="symlog", xlabel="epochs", ylim=(0, 1))
        figures.plain_ticks(axes[panel].xaxis, epochs)
    figures.legend_below(fig, axes, ncols=4)
    return fig


def top_k_figure(config: Config, out: Any) -> Any:
    """Accuracy against the share of units kept, one panel a kind of labels."""
    fig, axes = _panels(config, "training accuracy")
    largest = np.bincount(data.digits(test_fraction=config.test_fraction).train_y)
    for panel, name, width, colour in _each(config):
        share = out.load("kept", name) / width
        figures.band(axes[panel], share, out.load("top_k", name), f"width {width}", colour=colour)
    for ax in axes:
        chance = largest.max() / largest.sum()
        ax.axhline(chance, color="grey", linestyle="-.", linewidth=1, label="largest class")
        ax.set(xscale="log", xlabel="share of units kept in each layer", ylim=(0, 1.03))
        figures.plain_ticks(ax.xaxis, [0.002, 0.01, 0.03, 0.1, 0.3, 1.0])
    figures.legend_below(fig, axes, ncols=4)
    return fig


FIELDS = ("low", "high", "baseline")


def answer(config: Config, rows: tuple[runs.Row, ...]) -> str:
    """One paragraph from the rows."""
    lines = []
    for kind in config.labels:
        parts = []
        for width in config.widths:
            own = [r for r in rows if r.where["width"] == width and r.where["labels"] == kind]
            shares = [r for r in own if r.name.startswith("share")]
            after, before = (
                np.mean([getattr(r, f) for r in shares]) for f in ("value", "baseline")
            )
            deepest = shares[-1]
            fits = next(r for r in own if r.name == "training accuracy")
            parts.append(
                f"{after:.3f} of all hidden units at width {width} (untrained {before:.3f}; in the "
                f"deepest layer {deepest.value:.3f}, untrained {deepest.baseline:.3f}; training "
                f"accuracy {fits.value:.3f})"
            )
        shares = [r for r in rows if r.where["labels"] == kind and r.name.startswith("share")]
        low, high, before = ([getattr(r, f) or np.nan for r in shares] for f in FIELDS)
        fewer = sum(h < b for h, b in zip(high, before))
        more = sum(v > b for v, b in zip(low, before))
        lines.append(
            f"With {kind} labels {', '.join(parts)} are active after training: by the 95 % "
            f"intervals fewer than before in {fewer} of {len(shares)} layers, more in {more}."
        )
    return " ".join(lines)


def sites(config: Config) -> Any:
    """The first network, for `activjax sites`."""
    first = dataclasses.replace(config, widths=config.widths[:1], labels=config.labels[:1])
    static = setup(first)
    params = jax.eval_shape(static.model.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct(static.split.test_x.shape, jnp.float32)
    return static.model.apply, (params, inputs)
