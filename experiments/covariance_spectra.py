"""Covariance spectra: how many directions of a layer's activations carry signal, before and after.

Random-matrix theory says what the correlation matrix of independent channels looks like: a
Marchenko-Pastur bulk, and with probability .95 nothing above the Tracy-Widom threshold. What is
above it is signal. Trained networks are said to compress: fewer and larger outliers, about one a
class in the last layer. Asked here of digits MLPs, with the raw pixels, the untrained network and
shuffled activations (each channel permuted on its own, so that only chance correlates) beside it.
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
    "How many directions of a hidden layer carry more variance than chance allows, and does "
    "training leave fewer of them?"
)
KINDS = ("trained", "untrained", "shuffled")


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    width: int = runs.static(128, ge=2, help="hidden width")
    depth: int = runs.static(3, ge=1, le=8, help="hidden layers")
    learning_rate: float = runs.traced(1e-3, gt=0, help="of Adam")
    batch: int = runs.static(64, ge=1, help="examples a step")
    epochs: int = runs.static(60, ge=1)
    test_fraction: float = runs.static(0.25, gt=0, lt=1)


@dataclasses.dataclass(frozen=True)
class Static:
    """The network, the data and when to measure."""

    config: Config
    model: models.Model
    split: data.Split
    batches: data.Batches
    steps: int
    chunk: int
    measure_at: tuple[int, ...]


def setup(config: Config) -> Static:
    """Load the digits and lay out the training."""
    split = data.digits(test_fraction=config.test_fraction)
    batches = data.Batches(len(split.train_y), config.batch)
    steps = config.epochs * batches.per_epoch
    sizes = [split.train_x.shape[1], *(config.width,) * config.depth, split.classes]
    return Static(config, models.mlp(sizes), split, batches, steps, batches.per_epoch, (0, steps))


def init(static: Static, hp: Any, key: jax.Array) -> training.TrainState:
    """A freshly initialised network."""
    return training.init_state(static.model, optax.adam(hp.learning_rate), static.batches, key)


def step(static: Static, hp: Any, state: training.TrainState) -> Any:
    """One step of Adam on the cross-entropy."""
    position, rows = static.batches.next(state.batches)
    batch = jnp.asarray(static.split.train_x)[rows], jnp.asarray(static.split.train_y)[rows]
    return training.train_step(
        training.classification(static.model),
        optax.adam(hp.learning_rate),
        state._replace(batches=position),
        batch,
    )


def measure(static: Static, hp: Any, state: training.TrainState) -> dict[str, jax.Array]:
    """Parameters, whose spectra `finish` takes, and the accuracy."""
    logits = static.model.apply(state.params, jnp.asarray(static.split.test_x))
    accuracy = training.accuracy(logits, jnp.asarray(static.split.test_y))
    return {"params": state.params, "accuracy": accuracy}


@dataclasses.dataclass(frozen=True)
class Found:
    """What one correlation matrix tells. `d` channels are left when constant ones are dropped."""

    eigenvalues: np.ndarray
    d: int
    outliers: int
    effective_rank: float
    outlier_share: float
    law: stats.MarchenkoPastur


def spectrum(moments: stats.Moments) -> Found:
    """The spectrum of the correlations of the channels that vary."""
    keep = np.flatnonzero(np.asarray(moments.variance(0)) > 0)
    correlation = np.asarray(moments.correlation())[np.ix_(keep, keep)]
    values = np.asarray(stats.spectrum(jnp.asarray(correlation)).eigenvalues)
    law = stats.marchenko_pastur(int(moments.n) - 1, len(keep), variance=1.0)
    above = law.outliers(values)
    rank = float(stats.effective_rank(jnp.asarray(values)))
    return Found(
        values, len(keep), int(above.sum()), rank, float(values[above].sum() / values.sum()), law
    )


def shuffled(acts: dict[str, Any], seed: int) -> dict[str, Found]:
    """The same spectra of activations whose channels are permuted apart from one another."""
    rng, full = np.random.default_rng(seed), stats.moments("full")
    out = {}
    for name, h in acts.items():
        h = rng.permuted(np.asarray(h), axis=0)
        out[name] = spectrum(full.finish(full.update(full.init(h), h)))
    return out


def finish(static: Static, hp: Any, states: Any, out: Any) -> runs.Result:
    """Spectra of every layer and seed, the answer and the figures."""
    x, config = static.split.train_x, static.config
    tagged = lambda p, x: static.model.apply(p, aj.tag(x, "pixels", axes="batch pixel"))  # noqa: E731
    pass_ = aj.harvest(tagged, ["pixels", "layers/*/post"], reduce=stats.moments("full"))
    found: dict[tuple[str, str], list[Found]] = {}
    for i, seed in enumerate(out.seeds):
        for kind, at in (("untrained", 0), ("trained", static.steps)):
            params = jax.tree.map(lambda a, i=i: jnp.asarray(a[i]), out.measured[at]["params"])
            moments = pass_(params, np.array_split(x, 4), progress=False)
            for name, m in moments.items():
                found.setdefault((kind, name), []).append(spectrum(m))
        _, acts = aj.capture(tagged, ["pixels", "layers/*/post"])(params, jnp.asarray(x))
        for name, f in shuffled(acts, int(seed)).items():
            found.setdefault(("shuffled", name), []).append(f)
    layers = [name for kind, name in found if kind == "trained" and name != "pixels"]
    for (kind, name), each in found.items():
        longest = max(f.d for f in each)
        padded = [np.pad(f.eigenvalues, (0, longest - f.d)) for f in each]
        out.array(f"{kind}.{name.replace('/', '.')}", np.stack(padded))
    with figures.style():
        out.figure("spectra", spectra_figure(found, layers), caption=CAPTIONS[0])
        out.figure("outliers", outlier_figure(found, layers), caption=CAPTIONS[1])
    rows = summary(found, layers, out.measured[static.steps]["accuracy"], static)
    return runs.Result(QUESTION, answer(found, layers, config), rows)


CAPTIONS = (
    "Eigenvalues of the correlations of one network (the first seed): after training, "
    "before, and with every channel shuffled on its own. Dotted: the threshold that pure chance "
    "exceeds with probability .05; grey: the Marchenko-Pastur bulk.",
    "Left: directions above the threshold of chance. Right: effective rank (exponential of the "
    "spectral entropy). By layer; bars: 95 % intervals over seeds.",
)
STYLES = {"trained": ("#0072B2", "-"), "untrained": ("#D55E00", "--"), "shuffled": ("#009E73", ":")}


def spectra_figure(found: dict[tuple[str, str], list[Found]], layers: list[str]) -> Any:
    """Eigenvalues against their rank, one panel a layer."""
    fig, axes = plt.subplots(1, len(layers), figsize=(3.4 * len(layers), 3.5), sharey=True)
    for ax, name in zip(np.ravel(axes), layers):
        for kind in KINDS:
            one = found[kind, name][0]
            colour, line = STYLES[kind]
            rank = np.arange(1, one.d + 1)
            ax.plot(rank, np.maximum(one.eigenvalues, 1e-4), line, color=colour, label=kind)
        law = found["trained", name][0].law
        ax.axhspan(law.low, law.high, color="grey", alpha=0.2, linewidth=0, label="bulk of chance")
        ax.axhline(law.threshold, color="black", linestyle=":", linewidth=1, label="threshold")
        ax.set(title=name.removesuffix("/post"), xlabel="rank", xscale="log", yscale="log")
    np.ravel(axes)[0].set_ylabel("eigenvalue of the correlations")
    figures.legend_below(fig, axes, ncols=5)
    return fig


def outlier_figure(found: dict[tuple[str, str], list[Found]], layers: list[str]) -> Any:
    """Outliers and effective rank by layer."""
    fig, axes = plt.subplots(1, 2, figsize=(8, 3.5))
    for ax, field in zip(axes, ("outliers", "effective_rank")):
        for j, kind in enumerate(KINDS):
            values = [[getattr(f, field) for f in found[kind, name]] for name in layers]
            colour, line = STYLES[kind]
            x = np.arange(len(layers)) + 0.05 * (j - 1)
            figures.bars(ax, x, np.transpose(values), kind, colour=colour, linestyle=line)
        pixels = getattr(found["trained", "pixels"][0], field)
        ax.axhline(pixels, color="grey", linestyle="-.", linewidth=1, label="raw pixels")
        ax.set(xlabel="hidden layer", xticks=range(len(layers)), ylim=(0, None))
    axes[0].set_ylabel("directions above chance")
    axes[1].set_ylabel("effective rank")
    figures.legend_below(fig, axes, ncols=4)
    return fig


def summary(
    found: dict[tuple[str, str], list[Found]], layers: list[str], accuracy: Any, static: Static
) -> tuple[runs.Row, ...]:
    """Rows by layer, the untrained network and the shuffled activations beside them."""
    rows = []
    fields = {
        "outliers": "directions above chance",
        "outlier_share": "share of the variance in them",
        "effective_rank": "effective rank",
    }
    for name in layers:
        for field, words in fields.items():
            for baseline, told in (("untrained", "untrained network"), ("shuffled", "shuffled")):
                rows.append(
                    runs.Row.over(
                        f"{words}, against {told}",
                        [getattr(f, field) for f in found["trained", name]],
                        baseline=[getattr(f, field) for f in found[baseline, name]],
                        baseline_name=told,
                        layer=name.split("/")[1],
                    )
                )
    largest = np.bincount(static.split.test_y).max() / len(static.split.test_y)
    rows.append(
        runs.Row.over("test accuracy", accuracy, baseline=largest, baseline_name="largest class")
    )
    return tuple(rows)


def answer(found: dict[tuple[str, str], list[Found]], layers: list[str], config: Config) -> str:
    """One paragraph from the spectra."""

    def mean(kind: str, name: str, field: str) -> float:
        return float(np.mean([getattr(f, field) for f in found[kind, name]]))

    parts = [
        f"{mean('trained', name, 'outliers'):.1f} in layer {name.split('/')[1]} (untrained "
        f"{mean('untrained', name, 'outliers'):.1f}, shuffled "
        f"{mean('shuffled', name, 'outliers'):.1f}; effective rank "
        f"{mean('trained', name, 'effective_rank'):.1f}, untrained "
        f"{mean('untrained', name, 'effective_rank'):.1f})"
        for name in layers
    ]
    false = np.mean([f.outliers > 0 for name in layers for f in found["shuffled", name]])
    pixels = found["trained", "pixels"][0]
    return (
        f"Of {config.width} directions, as many carry more variance than chance allows: "
        f"{', '.join(parts)}. The raw pixels have {pixels.outliers} of {pixels.d} and an effective "
        f"rank of {pixels.effective_rank:.1f}. Of the shuffled spectra {false:.0%} have any "
        "(5 % are expected)."
    )


def sites(config: Config) -> Any:
    """The network, for `activjax sites`."""
    static = setup(config)
    params = jax.eval_shape(static.model.init, jax.random.key(0))
    return static.model.apply, (
        params,
        jax.ShapeDtypeStruct(static.split.train_x.shape, jnp.float32),
    )
