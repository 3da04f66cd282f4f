"""The activation hash phase chart: when does a ReLU network give every example a code of its own?

One cell trains one digits MLP on `samples` examples of which a share `noise` have a random label,
and looks at its activation codes at several steps. Over a sweep of width, sample size and label
noise the codes pass through three regimes (He et al. 2021, "Neural networks behave as hash
encoders: an empirical study"): many examples share a code; nearly all have their own, but classes
cannot be read off; nearly all have their own, and classes can.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Patch

import activjax as aj
from activjax import data, fit, models, patterns, runs, training
from activjax.runs import figures

QUESTION = (
    "For which width, training time, sample size and label noise do the activation codes of a "
    "ReLU network behave as a hash, and for which can classes be read off them?"
)


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    width: int = runs.static(32, ge=1, help="of both hidden layers")
    samples: int = runs.traced(1348, ge=5, le=1348, help="training examples")
    noise: float = runs.traced(0.0, ge=0, le=1, help="share of training labels drawn at random")
    learning_rate: float = runs.traced(3e-3, gt=0, help="of Adam")
    batch: int = runs.static(64, ge=1, help="examples a step, drawn with replacement")
    measure_steps: tuple[int, ...] = runs.static(
        (0, 10, 30, 100, 300, 1000), help="training times; the last one ends the training"
    )
    neighbours: int = runs.static(5, ge=1, le=5, help="k of k-NN on codes")

    def __post_init__(self) -> None:
        at = self.measure_steps
        if len(at) < 2 or at[0] != 0 or any(b <= a for a, b in itertools.pairwise(at)):
            raise ValueError(f"measure_steps: expected 0 and then ascending steps, got {at}")


class Static(NamedTuple):
    """One width: the network and the data."""

    config: Config
    model: models.Model
    split: data.Split
    steps: int
    chunk: int
    measure_at: tuple[int, ...]


class State(NamedTuple):
    """A network in training, with its own examples and labels."""

    params: Any
    opt_state: Any
    order: Array  # the first `samples` of it are trained on
    labels: Array  # the given ones, or random ones
    key: Array


def setup(config: Config) -> Static:
    """Load the digits and lay out the training."""
    split = data.digits()
    model = models.mlp([split.train_x.shape[1], config.width, config.width, split.classes])
    at = config.measure_steps
    return Static(config, model, split, at[-1], min(100, at[-1]), at)


def init(static: Static, hp: Any, key: Array) -> State:
    """A fresh network; which examples it sees and which labels are random is its own draw."""
    of_params, of_order, of_noise, of_labels, rest = jax.random.split(key, 5)
    params = static.model.init(of_params)
    given = jnp.asarray(static.split.train_y)
    drawn = jax.random.randint(of_labels, given.shape, 0, static.split.classes, given.dtype)
    noisy = jax.random.uniform(of_noise, given.shape) < hp.noise
    order = jax.random.permutation(of_order, given.shape[0])
    optimiser = optax.adam(hp.learning_rate)
    return State(params, optimiser.init(params), order, jnp.where(noisy, drawn, given), rest)


def step(static: Static, hp: Any, state: State) -> tuple[State, dict[str, Array]]:
    """One step of Adam on the cross-entropy of a batch drawn with replacement."""
    key, of_rows = jax.random.split(state.key)
    rows = state.order[jax.random.randint(of_rows, (static.config.batch,), 0, hp.samples)]
    batch = jnp.asarray(static.split.train_x)[rows], state.labels[rows]
    none = data.BatchState(key, state.order, jnp.int32(0), jnp.int32(0))
    now = training.TrainState(state.params, state.opt_state, {}, none, key)
    loss = training.classification(static.model)
    now, metrics = training.train_step(loss, optax.adam(hp.learning_rate), now, batch)
    return state._replace(params=now.params, opt_state=now.opt_state, key=now.key), metrics


def measure(static: Static, hp: Any, state: State) -> dict[str, Array]:
    """Redundancy of the codes and what can be read off them."""
    split, config = static.split, static.config
    read = aj.capture(static.model.apply, "layers/*/pre")
    logits, pre = read(state.params, jnp.asarray(split.train_x))
    test_logits, test_pre = read(state.params, jnp.asarray(split.test_x))
    train, test = patterns.codes(pre), patterns.codes(test_pre)
    n = split.train_y.shape[0]
    chosen = jnp.zeros(n, bool).at[state.order].set(jnp.arange(n) < hp.samples)
    # an example that is not trained on counts as a copy of one that is
    own = jnp.where(chosen, jnp.arange(n), state.order[0])
    distinct = patterns.count_distinct(dataclasses.replace(train, words=train.words[own]))
    distances = patterns.hamming(test, train)
    far = jnp.iinfo(distances.dtype).max
    near = fit.knn(
        jnp.where(chosen, distances, far), jnp.asarray(split.train_y),
        config.neighbours, n_classes=split.classes,
    )  # fmt: skip
    right = (jnp.argmax(logits, -1) == state.labels) & chosen
    labels = jnp.asarray(split.test_y)
    return {
        "redundancy/train": 1 - distinct / hp.samples,
        "redundancy/test": patterns.redundancy_ratio(test),
        "accuracy/codes": (near == labels).astype(jnp.float32).mean(),
        "accuracy/network": training.accuracy(test_logits, labels),
        "accuracy/fit": right.sum() / hp.samples,
    }


NAMES = {
    "redundancy/train": "redundancy ratio, train",
    "redundancy/test": "redundancy ratio, test",
    "accuracy/codes": "test accuracy of k-NN on codes",
    "accuracy/network": "test accuracy of the network",
    "accuracy/fit": "training accuracy, given labels",
}


def largest_class(static: Static) -> float:
    """Test accuracy of always saying the most frequent class."""
    labels = static.split.test_y
    return float(np.bincount(labels).max() / len(labels))


def finish(static: Static, hp: Any, states: Any, out: Any) -> runs.Result:
    """Every number at every training time."""
    rows = []
    for at, found in out.measured.items():
        for name, shown in NAMES.items():
            if name.startswith("redundancy"):
                baseline, told = out.measured[0][name], "untrained network"
            else:
                baseline, told = largest_class(static), "largest class"
            rows.append(
                runs.Row.over(shown, found[name], baseline=baseline, baseline_name=told, step=at)
            )
    last = out.measured[static.steps]
    answer = (
        f"Width {static.config.width}: redundancy {last['redundancy/test'].mean():.3f}, k-NN on "
        f"codes {last['accuracy/codes'].mean():.3f} after {static.steps} steps."
    )
    return runs.Result(QUESTION, answer, tuple(rows))


# --- over a sweep -----------------------------------------------------------------------------

HASHED, READABLE = 0.05, 0.9  # most redundancy of a hash; least k-NN accuracy of a readable one
PHASES = ("shared codes", "own codes, classes not readable", "own codes, classes readable")


class Chart(NamedTuple):
    """Numbers over the sweep, `[noise, width, samples, step, seed]`; NaN without a cell."""

    noises: list[float]
    widths: list[int]
    sizes: list[int]
    steps: list[int]
    values: dict[str, np.ndarray]

    @property
    def axes(self) -> tuple[list, ...]:
        """The values of every axis but the seeds."""
        return self.noises, self.widths, self.sizes, self.steps

    def phases(self) -> np.ndarray:
        """`[noise, width, samples, step]`: the phase of the means over seeds; -1 if unknown."""
        redundancy = self.values["redundancy/test"].mean(-1)
        readable = self.values["accuracy/codes"].mean(-1) >= READABLE
        phase = np.where(redundancy > HASHED, 0, np.where(readable, 2, 1))
        return np.where(np.isnan(redundancy), -1, phase)


def chart(cells: list[Any]) -> Chart:
    """Collect the cells of a sweep."""
    axes: tuple[list, ...] = (
        sorted({c.config.noise for c in cells}),
        sorted({c.config.width for c in cells}),
        sorted({c.config.samples for c in cells}),
        sorted({row.where["step"] for c in cells for row in c.summary}),
        sorted({c.seed for c in cells}),
    )
    keys = {shown: name for name, shown in NAMES.items()}
    values = {name: np.full([len(axis) for axis in axes], np.nan) for name in NAMES}
    for cell in cells:
        config = cell.config
        at = [axis.index(v) for axis, v in zip(axes, (config.noise, config.width, config.samples))]
        for row in cell.summary:
            step, seed = axes[3].index(row.where["step"]), axes[4].index(cell.seed)
            values[keys[row.name]][*at, step, seed] = row.value
    return Chart(*axes[:4], values)


def conclude(cells: list[Any], out: Any) -> runs.Result:
    """The phase chart of a sweep."""
    found = chart(cells)
    chance = largest_class(setup(cells[0].config))
    with figures.style():
        out.figure("phases", phase_figure(found), caption=CAPTIONS[0])
        for name, caption in (("redundancy/test", CAPTIONS[1]), ("accuracy/codes", CAPTIONS[2])):
            out.figure(name.replace("/", "_"), heat_figure(found, name), caption=caption)
    out.arrays({name.replace("/", "_"): values for name, values in found.values.items()})
    rows = [row for axis in range(4) for row in along(found, axis, chance)]
    phases = found.phases()
    known = phases[phases >= 0]
    shares = ", ".join(f"{(known == i).mean():.0%} {name}" for i, name in enumerate(PHASES))
    text = f"Of {known.size} settings (means over {out.seeds.size} seeds): {shares}. "
    text += " ".join(told(found, axis) for axis in range(4))
    return runs.Result(QUESTION, text, tuple(rows))


AXES = ("noise", "width", "samples", "step")
WORDS = ("label noise", "width", "sample size", "training time")


def along(found: Chart, axis: int, chance: float) -> list[runs.Row]:
    """Both numbers along one axis; all others at the end that helps most (no noise, the most)."""
    rows, axes = [], found.axes
    best: list[Any] = [0, -1, -1, -1]
    for i in range(len(axes[axis])):
        at = [*best[:axis], i, *best[axis + 1 :]]
        where = {name: axes[k][at[k]] for k, name in enumerate(AXES)}
        where = {"along": WORDS[axis], **where}
        start = found.values["redundancy/test"][*at[:3], 0]
        for name, baseline, words in (
            ("redundancy/test", start, "untrained network"),
            ("accuracy/codes", np.full_like(start, chance), "largest class"),
        ):
            values = found.values[name][tuple(at)]
            kept = ~np.isnan(values)
            if kept.any():
                row = runs.Row.over(
                    NAMES[name], values[kept], baseline=baseline[kept], baseline_name=words, **where
                )
                rows.append(row)
    return rows


def told(found: Chart, axis: int) -> str:
    """One sentence: what the two ends of an axis differ by, paired, over everything else."""
    ends = found.axes[axis]
    if len(ends) < 2:
        return ""
    parts = []
    for name, words in (("redundancy/test", "redundancy"), ("accuracy/codes", "k-NN accuracy")):
        values = np.moveaxis(found.values[name], axis, 0)
        change = (values[-1] - values[0]).reshape(-1, values.shape[-1])
        change = change[~np.isnan(change).any(1)].mean(0)  # one number a seed
        row = runs.Row.over("", change)
        half = "" if row.high is None else f" ± {row.high - row.value:.3f}"
        parts.append(f"{words} by {row.value:+.3f}{half}")
    return f"From {WORDS[axis]} {ends[0]:g} to {ends[-1]:g}, {' and '.join(parts)}."


def panels(found: Chart) -> tuple[Any, Any]:
    """One panel for each label noise (row) and training time (column)."""
    rows, columns = len(found.noises), len(found.steps)
    fig, grid = plt.subplots(
        rows, columns, figsize=(1.55 * columns + 1.4, 1.5 * rows + 0.9), squeeze=False,
        sharex=True, sharey=True,
    )  # fmt: skip
    for i, noise in enumerate(found.noises):
        for j, step in enumerate(found.steps):
            ax = grid[i, j]
            ax.set_xticks(range(len(found.widths)), found.widths, rotation=90)
            ax.set_yticks(range(len(found.sizes)), found.sizes)
            ax.grid(False)
            if i == 0:
                ax.set_title(f"{step} steps")
            if j == 0:
                ax.set_ylabel(f"noise {noise:g}\nsamples")
            if i == rows - 1:
                ax.set_xlabel("width")
    return fig, grid


def phase_figure(found: Chart) -> Any:
    """The phase of every setting."""
    fig, grid = panels(found)
    colours = ListedColormap(["#d9d9d9", "#56B4E9", "#0072B2"])
    norm = BoundaryNorm([-0.5, 0.5, 1.5, 2.5], 3)
    phases = np.ma.masked_less(found.phases(), 0)
    for i, j in np.ndindex(grid.shape):
        grid[i, j].imshow(phases[i, :, :, j].T, cmap=colours, norm=norm, origin="lower",
                          aspect="auto")  # fmt: skip
    handles = [Patch(color=colours(k)) for k in range(3)]
    fig.legend(handles, PHASES, loc="outside lower center", ncols=3)
    return fig


def heat_figure(found: Chart, name: str) -> Any:
    """One number for every setting, mean over seeds."""
    fig, grid = panels(found)
    mean = np.ma.masked_invalid(found.values[name].mean(-1))
    for i, j in np.ndindex(grid.shape):
        image = grid[i, j].imshow(mean[i, :, :, j].T, vmin=0, vmax=1, cmap="viridis",
                                  origin="lower", aspect="auto")  # fmt: skip
    fig.colorbar(image, ax=grid, label=f"{NAMES[name]}", shrink=0.8, pad=0.01)
    return fig


CAPTIONS = (
    "Phases of the activation codes by width and sample size; columns: training time, rows: share "
    f"of random labels. Shared codes: more than {HASHED:.0%} of the test examples add no new code. "
    f"Readable: k-NN on the codes (true labels) reaches a test accuracy of {READABLE:g}. Means "
    "over seeds.",
    "Redundancy ratio on the test set: share of examples that add no new code. Means over seeds.",
    "Test accuracy of k-NN that sees only the codes and the true labels of the training examples. "
    "Means over seeds.",
)


def sites(config: Config) -> Any:
    """The network, for `activjax sites`."""
    static = setup(config)
    params = jax.eval_shape(static.model.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct(static.split.test_x.shape, jnp.float32)
    return static.model.apply, (params, inputs)
