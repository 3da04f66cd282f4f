"""Neural networks behave as hash encoders: what the activation codes of a digits MLP tell.

Each hidden unit contributes one bit, active or not; the bits of an example are its code. If
training turns a network into a good hash encoder (He et al. 2021), nearly every example gets a
code of its own, and simple classifiers on the codes alone do nearly as well as the network.
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
from activjax import data, fit, models, patterns, runs, training
from activjax.runs import figures

CLASSIFIERS = ("k-NN", "logistic", "k-means")


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    widths: tuple[int, ...] = runs.static((8, 32, 128), help="hidden width, one program each")
    depth: int = runs.static(2, ge=1, le=8, help="hidden layers")
    learning_rate: float = runs.traced(3e-3, gt=0, help="of Adam")
    batch: int = runs.static(64, ge=1, help="examples a step")
    epochs: int = runs.static(30, ge=1)
    measure_epochs: tuple[int, ...] = runs.static(
        (0, 1, 3, 10), help="when codes are measured, besides the end"
    )
    test_fraction: float = runs.static(0.25, gt=0, lt=1)
    neighbours: int = runs.static(5, ge=1, help="k of k-NN")
    clusters: int = runs.static(10, ge=2, help="k of k-means; each predicts its majority label")
    l2: float = runs.static(1.0, gt=0, help="penalty of the logistic regression")
    draws: int = runs.static(20, ge=1, help="random sets of units in the edit curve")

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or len(set(self.widths)) < len(self.widths):
            raise ValueError(f"widths: expected distinct positive integers, got {self.widths}")
        if any(e < 0 for e in self.measure_epochs):
            raise ValueError(f"measure_epochs: expected numbers >= 0, got {self.measure_epochs}")


@dataclasses.dataclass(frozen=True)
class Static:
    """One width: the network, the data and when to measure."""

    config: Config
    width: int
    model: models.Model
    split: data.Split
    batches: data.Batches
    steps: int
    chunk: int
    measure_at: tuple[int, ...]


def cases(config: Config) -> dict[str, Config]:
    """One program a width."""
    return {f"width={w}": dataclasses.replace(config, widths=(w,)) for w in config.widths}


def setup(config: Config) -> Static:
    """Load the digits and lay out the training of one width."""
    (width,) = config.widths
    split = data.digits(test_fraction=config.test_fraction)
    sizes = [split.train_x.shape[1], *(width,) * config.depth, split.classes]
    batches = data.Batches(len(split.train_y), config.batch)
    epochs = sorted({e for e in config.measure_epochs if e < config.epochs} | {config.epochs})
    return Static(
        config,
        width,
        models.mlp(sizes),
        split,
        batches,
        steps=config.epochs * batches.per_epoch,
        chunk=batches.per_epoch,
        measure_at=tuple(e * batches.per_epoch for e in epochs),
    )


def init(static: Static, hp: Any, key: jax.Array) -> training.TrainState:
    """A freshly initialised network."""
    return training.init_state(static.model, optax.adam(hp.learning_rate), static.batches, key)


def step(static: Static, hp: Any, state: training.TrainState) -> Any:
    """One step of Adam on the cross-entropy."""
    position, rows = static.batches.next(state.batches)
    batch = jnp.asarray(static.split.train_x)[rows], jnp.asarray(static.split.train_y)[rows]
    loss = training.classification(static.model)
    optimiser = optax.adam(hp.learning_rate)
    return training.train_step(loss, optimiser, state._replace(batches=position), batch)


def classify(
    config: Config, key: jax.Array, train: Any, labels: Any, test: Any, distances: Any, classes: int
) -> dict[str, jax.Array]:
    """Test predictions of the three classifiers from features, or from bits as features."""
    regression = fit.logistic(train, labels, l2=config.l2, n_classes=classes)
    means = fit.kmeans(key, train, config.clusters)
    names = fit.majority_vote(means.labels, labels, n_clusters=config.clusters, n_classes=classes)
    return {
        "k-NN": fit.knn(distances, labels, k=config.neighbours, n_classes=classes),
        # No class where the fit has not converged: an accuracy of 0 that is seen, not a wrong one.
        "logistic": jnp.where(regression.converged, regression.predict(test), -1),
        "k-means": names[means.predict(test)],
    }


def measure(static: Static, hp: Any, state: training.TrainState) -> dict[str, jax.Array]:
    """Everything that the codes of one network tell, on all training and test examples."""
    split = static.split
    labels, test_labels = jnp.asarray(split.train_y), jnp.asarray(split.test_y)
    read = aj.capture(static.model.apply, "layers/*/pre")
    logits, pre = read(state.params, jnp.asarray(split.train_x))
    test_logits, test_pre = read(state.params, jnp.asarray(split.test_x))
    train, test = patterns.codes(pre), patterns.codes(test_pre)
    key = jax.random.fold_in(state.key, 0)  # the training's own keys are left alone
    predicted = classify(
        static.config,
        key,
        patterns.unpack(train).astype(jnp.float32),
        labels,
        patterns.unpack(test).astype(jnp.float32),
        patterns.hamming(test, train),
        split.classes,
    )
    active = [(h > 0).astype(jnp.float32).mean() for h in test_pre.values()]
    return {
        "redundancy/train": patterns.redundancy_ratio(train),
        "redundancy/test": patterns.redundancy_ratio(test),
        "distinct/train": patterns.count_distinct(train),
        "distinct/test": patterns.count_distinct(test),
        "active": jnp.stack(active),
        "accuracy/network": training.accuracy(test_logits, test_labels),
        "accuracy/network_train": training.accuracy(logits, labels),
        **{
            f"accuracy/{name}": (labels_ == test_labels).astype(jnp.float32).mean()
            for name, labels_ in predicted.items()
        },
    }


def edit_curve(static: Static, params: Any, key: jax.Array, kept: np.ndarray) -> dict[str, Any]:
    """Test accuracy with k units kept in each hidden layer: the most active, or random ones.

    The most active units are chosen for each example; random ones are drawn once a network and
    draw, for all examples.
    """
    x, y = jnp.asarray(static.split.test_x), jnp.asarray(static.split.test_y)

    def top(k: jax.Array) -> jax.Array:
        edited = aj.intervene(static.model.apply, {"layers/*/post": aj.edits.top_k(k)})
        return training.accuracy(edited(params, x), y)

    def random(k: jax.Array, key: jax.Array) -> jax.Array:
        def keep(h: jax.Array, ctx: Any) -> jax.Array:
            order = jax.random.permutation(ctx.key, h.shape[-1])
            return jnp.where(order < k, h, 0)

        edited = aj.intervene(static.model.apply, {"layers/*/post": keep}, key=key)
        return training.accuracy(edited(params, x), y)

    keys = jax.random.split(key, static.config.draws)
    each = jax.vmap(jax.vmap(random, (None, 0)), (0, None))(jnp.asarray(kept), keys)
    return {"top": jax.vmap(top)(jnp.asarray(kept)), "random": each.mean(axis=1)}


def finish(static: Static, hp: Any, states: Any, out: Any) -> runs.Result:
    """The numbers and curves of one width."""
    first, last = out.measured[0], out.measured[static.steps]
    steps = sorted(out.measured)
    for name in first:
        values = np.stack([out.measured[s][name] for s in steps], axis=1)
        out.array(name.replace("/", "."), values)
    epochs = np.asarray(steps) / static.batches.per_epoch
    out.array("epochs", epochs)

    quarter = max(1, static.width // 4)
    spread = np.round(np.geomspace(1, static.width, 12))
    kept = np.unique([*spread, quarter]).astype(np.int32)
    curve = jax.jit(jax.vmap(lambda p, k: edit_curve(static, p, k, kept)))(
        states.params, states.key
    )
    out.arrays({"kept": kept, "edit": curve})

    where: dict[str, Any] = {"width": static.width}
    untrained = "codes of the untrained network"
    rows = [
        runs.Row.over(
            f"redundancy ratio, {part}",
            last[f"redundancy/{part}"],
            baseline=first[f"redundancy/{part}"],
            baseline_name=untrained,
            **where,
        )
        for part in ("train", "test")
    ]
    rows += [
        runs.Row.over(
            f"test accuracy of {name} on codes",
            last[f"accuracy/{name}"],
            baseline=first[f"accuracy/{name}"],
            baseline_name=untrained,
            **where,
        )
        for name in CLASSIFIERS
    ]
    majority = np.bincount(static.split.test_y).max() / len(static.split.test_y)
    rows.append(
        runs.Row.over(
            "test accuracy of the network",
            last["accuracy/network"],
            baseline=majority,
            baseline_name="largest class",
            **where,
        )
    )
    at = list(kept).index(quarter)
    rows.append(
        runs.Row.over(
            "test accuracy with the most active quarter of the units kept",
            np.asarray(curve["top"])[:, at],
            baseline=np.asarray(curve["random"])[:, at],
            baseline_name=f"as many random units, mean of {static.config.draws} draws",
            **where,
        )
    )
    rows += [
        runs.Row.over(
            f"share of active units, layer {i}",
            last["active"][:, i],
            baseline=first["active"][:, i],
            baseline_name="untrained network",
            **where,
        )
        for i in range(static.config.depth)
    ]
    return runs.Result(QUESTION, f"Width {static.width}.", tuple(rows))


QUESTION = (
    "Do the activation codes of a trained ReLU network behave as a hash: a code of its own for "
    "nearly every example, and classes that can be read off the codes alone?"
)


def pixel_baseline(config: Config, seeds: np.ndarray) -> dict[str, np.ndarray]:
    """Test accuracy of the same classifiers on raw pixels; k-means has one run a seed."""
    split = data.digits(test_fraction=config.test_fraction)

    # The data are arguments: as constants, the compiler would sort them itself, slowly.
    def one(seed: jax.Array, x: jax.Array, y: jax.Array, xt: jax.Array, yt: jax.Array) -> Any:
        distances = fit.pairwise_sq_euclidean(xt, x)
        found = classify(config, jax.random.key(seed), x, y, xt, distances, split.classes)
        return {name: (p == yt).astype(jnp.float32).mean() for name, p in found.items()}

    arrays = (split.train_x, split.train_y, split.test_x, split.test_y)
    found = jax.jit(jax.vmap(one, (0, *(None,) * 4)))(jnp.asarray(seeds), *arrays)
    return {
        name: np.asarray(v) if name == "k-means" else np.asarray(v[:1]) for name, v in found.items()
    }


def combine(config: Config, results: dict[str, runs.Result], out: Any) -> runs.Result:
    """The answer over all widths, and the figures."""
    pixels = pixel_baseline(config, out.seeds)
    largest = [r.baseline for r in next(iter(results.values())).summary if "network" in r.name][-1]
    rows = [row for result in results.values() for row in result.summary]
    rows += [
        runs.Row.over(
            f"test accuracy of {name} on raw pixels",
            values,
            baseline=largest,
            baseline_name="largest class",
        )
        for name, values in pixels.items()
    ]
    names = list(results)
    with figures.style():
        out.figure("accuracy", accuracy_figure(config, names, pixels, out), caption=CAPTIONS[0])
        out.figure("training", training_figure(config, names, out), caption=CAPTIONS[1])
        out.figure("edits", edit_figure(config, names, out), caption=CAPTIONS[2])
    return runs.Result(QUESTION, answer(config, rows), tuple(rows))


CAPTIONS = (
    "Test accuracy against hidden width: the network itself, and three classifiers that see only "
    "its activation codes, after training and before. Dotted: the same classifier on raw pixels. "
    "Dash-dotted: always the largest class. Bars: 95 % intervals over seeds; points of equal width "
    "are drawn side by side.",
    "Over training: redundancy ratio of the codes (share of examples that add no new code; solid: "
    "training set, dashed: test set), number of distinct codes on the training set (dotted: one "
    "for every example), and share of active units in each hidden layer on the test set. Bands: "
    "95 % intervals over seeds. Measured at the ticks; the axis is linear up to 2 epochs, then "
    "logarithmic.",
    "Test accuracy when only some units of each hidden layer are kept: the most active for each "
    "example, or random ones (mean over draws). Dotted: the network with all its units. "
    "Dash-dotted: always the largest class. Bands: 95 % intervals over seeds.",
)
CHANCE = {"color": "grey", "linestyle": "-.", "linewidth": 1, "label": "largest class"}


def chance(config: Config) -> float:
    """Test accuracy of naming the largest class always."""
    labels = data.digits(test_fraction=config.test_fraction).test_y
    return float(np.bincount(labels).max() / len(labels))


def accuracy_figure(config: Config, names: list[str], pixels: Any, out: Any) -> Any:
    """Accuracy against width, one panel a classifier."""
    fig, axes = plt.subplots(1, 3, figsize=(10, 3.7), sharey=True)
    widths = np.asarray(config.widths, np.float64)
    order = np.argsort(widths)
    network = np.stack([out.load("accuracy.network", n)[:, -1] for n in names], axis=1)
    for ax, name in zip(axes, CLASSIFIERS):
        values = np.stack([out.load(f"accuracy.{name}", n) for n in names], axis=1)
        curves = (
            ("network", network, {"colour": "black"}),
            ("its codes, trained", values[:, :, -1], {}),
            ("its codes, untrained", values[:, :, 0], {"linestyle": "--"}),
        )
        for i, (label, y, line) in enumerate(curves):
            side_by_side = 1.05 ** (i - 1)
            figures.bars(ax, widths[order] * side_by_side, y[:, order], label, **line)
        ax.axhline(pixels[name].mean(), color="grey", linestyle=":", label="raw pixels")
        ax.axhline(chance(config), **CHANCE)
        ax.set(title=name, xlabel="hidden width (units)", xscale="log", ylim=(0, 1.03))
        figures.plain_ticks(ax.xaxis, widths[order])
    axes[0].set_ylabel("test accuracy")
    figures.legend_below(fig, axes, ncols=5)
    return fig


def training_figure(config: Config, names: list[str], out: Any) -> Any:
    """Redundancy, distinct codes and, layer by layer, active units over training."""
    rows = (config.depth + 3) // 2
    fig, grid = plt.subplots(rows, 2, figsize=(8.6, 2.75 * rows + 0.4), squeeze=False)
    redundancy, distinct, *layers = axes = grid.ravel()[: 2 + config.depth]
    for i, (name, width) in enumerate(zip(names, config.widths)):
        epochs = out.load("epochs", name)
        line = {"label": f"width {width}", "colour": figures.COLOURS[i % len(figures.COLOURS)]}
        figures.band(redundancy, epochs, out.load("redundancy.train", name), **line)
        figures.band(
            redundancy, epochs, out.load("redundancy.test", name),
            **{**line, "label": ""}, linestyle="--",
        )  # fmt: skip
        figures.band(distinct, epochs, out.load("distinct.train", name), **line)
        for layer, ax in enumerate(layers):
            figures.band(ax, epochs, out.load("active", name)[:, :, layer], **line)
    examples = len(data.digits(test_fraction=config.test_fraction).train_y)
    distinct.axhline(examples, color="grey", linestyle=":", label=f"{examples} training examples")
    for part, dashes in (("training", "-"), ("test", "--")):
        redundancy.plot([], [], color="grey", linestyle=dashes, label=f"redundancy, {part} set")
    redundancy.set(ylabel="redundancy ratio", ylim=(-0.03, 1.03))
    distinct.set(ylabel="distinct training codes", ylim=(0, 1.08 * examples))
    for layer, ax in enumerate(layers):
        ax.set(ylabel=f"active units, layer {layer} (share)", ylim=(0, 1.03))
    for ax in axes:
        ax.set(xlabel="epochs", xscale="symlog")
        figures.plain_ticks(ax.xaxis, out.load("epochs", names[0]))
    for ax in grid.ravel()[len(axes) :]:
        ax.remove()
    figures.legend_below(fig, axes, ncols=3)
    return fig


def edit_figure(config: Config, names: list[str], out: Any) -> Any:
    """Accuracy against the number of units kept, one panel a width."""
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    fig, grid = plt.subplots(
        rows, columns, figsize=(max(3.3 * columns, 5.5), 3 * rows + 0.5), sharey=True, squeeze=False
    )
    for ax, name, width in zip(grid.ravel(), names, config.widths):
        kept = out.load("kept", name)
        figures.band(ax, kept, out.load("edit.top", name), "most active units kept")
        figures.band(ax, kept, out.load("edit.random", name), "random units kept", linestyle="--")
        network = out.load("accuracy.network", name)[:, -1].mean()
        ax.axhline(network, color="grey", linestyle=":", label="all units")
        ax.axhline(chance(config), **CHANCE)
        ax.set(title=f"width {width}", xlabel="units kept in each layer", xscale="log")
        powers = 2.0 ** np.arange(np.log2(width).astype(int) + 1)
        figures.plain_ticks(ax.xaxis, np.unique([*powers, width]))
    for ax in grid[:, 0]:
        ax.set(ylabel="test accuracy", ylim=(0, 1.03))
    for ax in grid.ravel()[len(names) :]:
        ax.remove()
    figures.legend_below(fig, grid.ravel()[: len(names)], ncols=4 if columns > 2 else 2)
    return fig


def answer(config: Config, rows: list[runs.Row]) -> str:
    """One paragraph from the rows."""
    found = {(row.name, row.where.get("width")): row for row in rows}

    def number(value: float, row: runs.Row) -> str:
        half = "" if row.high is None else f" ± {row.high - row.value:.3f}"
        return f"{value:.3f}{half}"

    def over(name: str, baseline: str = "") -> str:
        parts = []
        for width in config.widths:
            row = found[name, width]
            told = f", {baseline} {row.baseline:.3f}" if baseline else ""
            parts.append(f"{number(row.value, row)} (width {width}{told})")
        return ", ".join(parts)

    lines = [
        f"After training the redundancy ratio of the test codes is "
        f"{over('redundancy ratio, test', 'untrained')}."
    ]
    for name in CLASSIFIERS:
        raw = found[f"test accuracy of {name} on raw pixels", None]
        lines.append(
            f"On the codes alone, {LONG[name]} reaches a test accuracy of "
            f"{over(f'test accuracy of {name} on codes', 'untrained')}; on raw pixels, "
            f"{number(raw.value, raw)}."
        )
    lines.append(f"The networks themselves reach {over('test accuracy of the network')}.")
    return " ".join(lines)


LONG = {"k-NN": "k-NN", "logistic": "logistic regression", "k-means": "k-means"}


def sites(config: Config) -> Any:
    """The first width's network, for `activjax sites`."""
    static = setup(dataclasses.replace(config, widths=config.widths[:1]))
    params = jax.eval_shape(static.model.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct(static.split.test_x.shape, jnp.float32)
    return static.model.apply, (params, inputs)
