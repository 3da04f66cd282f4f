"""Do activation patterns settle before the weights do?

A network on digits is watched at every step of its training: which bits of the sign codes of a
fixed probe set flip, how units group by the images they are active on (the neuron partition), how
large the step is. Perez-Corral et al. ("Regime change hypothesis", arXiv 2602.08333, 2026) report
that changes of patterns decay about three times earlier than those of weights; their abstract does
not say how decay is measured, so it is measured here in two ways: by the size of changes in an
epoch, and by the distance to where training ends. A control knows nothing of training: the codes on
the straight line from the first weights to the last, at the distances that training has.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.ticker import LogLocator, NullFormatter

import activjax as aj
from activjax import data, models, patterns, regions, runs, stats, training
from activjax.runs import figures

QUESTION = "Do the activation patterns of a network settle about three times earlier than weights?"
CLAIMED = 3.0
FACTORS = {
    "distance": "times earlier, by distance",
    "line": "times earlier, by distance, on the straight line",
    "changes": "times earlier, by changes",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    widths: tuple[int, ...] = runs.static((16, 32, 64, 128), help="hidden width, a program each")
    depth: int = runs.static(2, ge=1, le=8, help="hidden layers")
    learning_rate: float = runs.traced(1e-3, gt=0, help="of Adam")
    batch: int = runs.static(64, ge=1, le=1347, help="images a step")
    epochs: int = runs.static(60, ge=4, help="of training")
    probes: int = runs.static(256, ge=2, le=450, help="test images whose codes are watched")
    segments: int = runs.static(40, ge=1, help="between two test images, the same for every seed")
    settled: float = runs.static(0.2, gt=0, lt=1, help="share of the start that counts as settled")
    levels: tuple[float, ...] = runs.static(
        (0.5, 0.3, 0.2, 0.1, 0.05), help="other such shares, for the table and the figure"
    )
    early: float = runs.static(0.1, gt=0, lt=1, help="share of the epochs that is the early phase")

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or len(set(self.widths)) < len(self.widths):
            raise ValueError(f"widths: expected distinct positive integers, got {self.widths}")
        if not self.levels or min(self.levels) <= 0 or max(self.levels) >= 1:
            raise ValueError(f"levels: expected shares between 0 and 1, got {self.levels}")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels: expected distinct shares, got {self.levels}")


@dataclasses.dataclass(frozen=True)
class Static:
    """One width: the network, the data and when to measure."""

    config: Config
    width: int
    model: models.Model
    split: data.Split
    batches: data.Batches
    probe: np.ndarray
    ends: np.ndarray
    steps: int
    chunk: int
    measure_at: tuple[int, ...]


class State(NamedTuple):
    """The training, and the codes that the last step left."""

    training: training.TrainState
    codes: patterns.Codes
    groups: jax.Array


def cases(config: Config) -> dict[str, Config]:
    """One program a width."""
    return {f"width={w}": dataclasses.replace(config, widths=(w,)) for w in config.widths}


def setup(config: Config) -> Static:
    """The data, the probe set and the segments, which are the same for all seeds."""
    (width,) = config.widths
    split = data.digits()
    batches = data.Batches(len(split.train_y), config.batch)
    rng = np.random.default_rng(0)
    probe = split.test_x[rng.permutation(len(split.test_y))[: config.probes]]
    pairs = [rng.choice(len(split.test_y), 2, replace=False) for _ in range(config.segments)]
    return Static(
        config,
        width,
        models.mlp([split.train_x.shape[1], *(width,) * config.depth, split.classes]),
        split,
        batches,
        probe,
        split.test_x[np.stack(pairs, 1)],
        steps=config.epochs * batches.per_epoch,
        chunk=batches.per_epoch,
        measure_at=tuple(e * batches.per_epoch for e in range(config.epochs + 1)),
    )


def codes_of(static: Static, params: Any) -> patterns.Codes:
    """Sign codes of the probe set."""
    read = aj.capture(static.model.apply, "layers/*/pre", out=False)
    return patterns.codes(read(params, jnp.asarray(static.probe)))


def init(static: Static, hp: Any, key: jax.Array) -> State:
    """A freshly initialised network."""
    state = training.init_state(
        static.model, optax.adam(hp.learning_rate), static.batches, key
    )  # fmt: skip
    codes = codes_of(static, state.params)
    return State(state, codes, patterns.neuron_partition(codes).groups)


def step(static: Static, hp: Any, state: State) -> tuple[State, dict[str, jax.Array]]:
    """One step of Adam, and what it changed."""
    before = state.training
    position, rows = static.batches.next(before.batches)
    batch = jnp.asarray(static.split.train_x)[rows], jnp.asarray(static.split.train_y)[rows]
    after, metrics = training.train_step(
        training.classification(static.model), optax.adam(hp.learning_rate),
        before._replace(batches=position), batch,
    )  # fmt: skip
    codes = codes_of(static, after.params)
    partition = patterns.neuron_partition(codes)
    moved = jax.tree.map(jnp.subtract, after.params, before.params)
    return State(after, codes, partition.groups), {
        "loss": metrics["loss"],
        "bits flipped": patterns.flips(state.codes, codes).rate,
        "weights moved": optax.tree.norm(moved) / optax.tree.norm(before.params),
        "distinct codes": patterns.count_distinct(codes),
        "groups of units": partition.n_groups,
        "partition changed": jnp.any(partition.groups != state.groups).astype(jnp.float32),
    }


def measure(static: Static, hp: Any, state: State) -> dict[str, Any]:
    """Everything that distances to the end need."""
    params = state.training.params
    logits = static.model.apply(params, jnp.asarray(static.split.test_x))
    return {
        "params": params,
        "words": state.codes.words,
        "accuracy": training.accuracy(logits, jnp.asarray(static.split.test_y)),
    }


# --- what the record tells ------------------------------------------------------------------


def settling(values: np.ndarray, threshold: float) -> np.ndarray:
    """The first moment from which on `[seeds, moments]` stays below a share of its first value.

    The number of moments where it never does.
    """
    above = values >= threshold * values[:, :1]
    last = above.shape[1] - 1 - above[:, ::-1].argmax(1)
    return np.where(above.any(1), last + 1, 0)


def distances(params: Any) -> np.ndarray:
    """`[seeds, moments]`, Euclidean distances of all weights to the last ones."""
    square = [
        np.square(v - v[:, -1:]).reshape(*v.shape[:2], -1).sum(-1, dtype=np.float64)
        for v in jax.tree.leaves(params)
    ]
    return np.sqrt(np.sum(square, axis=0))


def differing(words: np.ndarray, other: np.ndarray, units: int) -> np.ndarray:
    """The share of bits that differ, of words `[..., probes, words]`."""
    bits = np.bitwise_count(words ^ other).sum((-2, -1), dtype=np.int64)
    return bits / (words.shape[-2] * units)


def straight_line(static: Static, params: Any, weights: np.ndarray) -> np.ndarray:
    """`[seeds, moments, probes, words]`, codes of weights between the first and the last ones.

    Each is as far from the last weights as training was at that moment.
    """
    share = jnp.asarray(weights / weights[:, :1], jnp.float32)

    def one(first: Any, last: Any, at: jax.Array) -> jax.Array:
        between = jax.tree.map(lambda a, b: b + at * (a - b), first, last)
        return codes_of(static, between).words

    first, last = (jax.tree.map(lambda v, i=i: v[:, i], params) for i in (0, -1))
    return np.asarray(jax.jit(jax.vmap(jax.vmap(one, (None, None, 0))))(first, last, share))


def swept(a: regions.Segments, b: regions.Segments) -> float:
    """The share of the segments' length on which a unit's states differ, mean over units."""
    total = 0.0
    for i in range(len(a)):
        cuts = np.union1d(np.concatenate([a.breakpoints(i), b.breakpoints(i)]), [0.0, 1.0])
        middle = (cuts[1:] + cuts[:-1]) / 2
        states = [s.states[s.pieces[i] + np.searchsorted(s.breakpoints(i), middle)] for s in (a, b)]
        total += float(np.diff(cuts) @ (states[0] != states[1]).mean(1))
    return total / len(a)


def along_segments(static: Static, params: Any, at: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean pieces of a segment `[seeds, moments]`, and length swept between two moments."""
    seeds = jax.tree.leaves(params)[0].shape[0]
    pieces, length = np.zeros((seeds, len(at))), np.zeros((seeds, len(at) - 1))
    for s in range(seeds):
        found = []
        for m in at:
            one = jax.tree.map(lambda v, s=s, m=m: v[s, m], params)
            f = _of_one(static.model, one)
            found.append(regions.on_segments(f, *static.ends))
        pieces[s] = [f.counts.mean() for f in found]
        length[s] = [swept(a, b) for a, b in itertools.pairwise(found)]
    return pieces, length


def _of_one(model: models.Model, params: Any) -> Callable[[Any], Any]:
    return lambda x: model.apply(params, x[None])[0]


def moments(epochs: int) -> list[int]:
    """Epochs at which segments are cut, some five to a factor of ten."""
    return sorted({0, *np.round(np.geomspace(1, epochs, 10)).astype(int).tolist()})


def finish(static: Static, hp: Any, states: Any, out: Any) -> runs.Result:
    """The numbers of one width."""
    config, per_epoch = static.config, static.batches.per_epoch
    steps = sorted(out.measured)
    params, words, accuracy = (
        jax.tree.map(lambda *v: np.stack(v, 1), *(out.measured[s][name] for s in steps))
        for name in ("params", "words", "accuracy")
    )
    epoch = {
        name: values.reshape(len(values), config.epochs, per_epoch).mean(-1, dtype=np.float64)
        for name, values in out.history.items()
    }
    units = static.width * config.depth
    weights = distances(params)
    line = straight_line(static, params, weights)
    # The line's own end is a sum that rounds: it is compared with itself.
    curves = {
        "patterns": differing(words, words[:, -1:], units),
        "weights": weights,
        "line": differing(line, line[:, -1:], units),
    }
    for kind, (slow, fast) in senses(curves, epoch).items():
        logs = [np.log(earlier(slow, fast, level)) for level in config.levels]
        late = [settling(slow, level) >= config.epochs for level in config.levels]
        out.arrays({f"factor.{kind}": np.exp(np.stack(logs, 1)), f"late.{kind}": np.stack(late, 1)})
    at = moments(config.epochs)
    pieces, length = along_segments(static, params, at)
    out.arrays({f"epoch.{name.replace(' ', '_')}": v for name, v in epoch.items()})
    out.arrays({f"distance.{name}": v for name, v in curves.items()})
    out.arrays(segment_epochs=np.array(at), pieces=pieces, swept=length, accuracy=accuracy)

    where: dict[str, Any] = {"width": static.width}
    rows = settling_rows(config, curves, epoch, where)
    rows += partition_rows(out.history, per_epoch, config.epochs, where)
    early = max(1, round(config.early * config.epochs))
    others = np.roll(np.arange(len(words)), 1)
    unrelated = differing(words[:, -1], words[others, -1], units)
    start = 1 - curves["patterns"][:, 0]
    rows += [
        runs.Row.over("bits that have their last value after the early phase",
                      1 - curves["patterns"][:, early], baseline=start,
                      baseline_name="untrained network", **where),
        runs.Row.over("bits that have their last value before training", start,
                      baseline=1 - unrelated, baseline_name=_unrelated(len(words)), **where),
        runs.Row.over("bits flipped in a step, last epoch", epoch["bits flipped"][:, -1],
                      baseline=epoch["bits flipped"][:, 0], baseline_name="first epoch", **where),
        runs.Row.over("distinct codes of the probes", out.history["distinct codes"][:, -1],
                      baseline=patterns_at_start(words), baseline_name="untrained network",
                      **where),
        runs.Row.over("linear pieces of a segment", pieces[:, -1], baseline=pieces[:, 0],
                      baseline_name="untrained network", **where),
        runs.Row.over(f"length swept by a unit, epochs {at[-2]} to {at[-1]}", length[:, -1],
                      baseline=length[:, 0], baseline_name=f"epochs 0 to {at[1]}", **where),
        runs.Row.over("test accuracy", accuracy[:, -1],
                      baseline=np.bincount(static.split.test_y).max() / len(static.split.test_y),
                      baseline_name="largest class", **where),
    ]  # fmt: skip
    return runs.Result(QUESTION, f"Width {static.width}.", tuple(rows))


def _unrelated(seeds: int) -> str:
    return "another seed's network" if seeds > 1 else "itself: one seed only"


def patterns_at_start(words: np.ndarray) -> list[int]:
    """Distinct codes of the untrained network of each seed."""
    return [len(np.unique(w, axis=0)) for w in words[:, 0]]


def senses(
    curves: dict[str, np.ndarray], epoch: dict[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What is compared: a curve of weights `[seeds, moments]` and one of patterns, by name."""
    return {
        "distance": (curves["weights"], curves["patterns"]),
        "line": (curves["weights"], curves["line"]),
        "changes": (epoch["weights moved"], epoch["bits flipped"]),
    }


def earlier(slow: np.ndarray, fast: np.ndarray, level: float) -> np.ndarray:
    """`[seeds]`, how many times earlier `fast` settles; times are at least one epoch."""
    times = [np.maximum(settling(v, level), 1) for v in (slow, fast)]
    return times[0] / times[1]


def settling_rows(
    config: Config, curves: dict[str, np.ndarray], epoch: dict[str, np.ndarray], where: Any
) -> list[runs.Row]:
    """When patterns and weights settle, in both senses, and how many times earlier patterns do."""
    rows, share = [], f"{config.settled:.0%}"
    even = {"distance": config.epochs * (1 - config.settled), "changes": config.epochs}
    for kind, (slow, fast) in senses(curves, epoch).items():
        times = [settling(v, config.settled) for v in (slow, fast)]
        if kind != "line":
            what = "distance to the end" if kind == "distance" else "changes"
            rows += [
                runs.Row.over(f"{what} of patterns below {share}", times[1], unit="epochs",
                              baseline=times[0], baseline_name="weights", **where),
                runs.Row.over(f"{what} of weights below {share}", times[0], unit="epochs",
                              baseline=even[kind], baseline_name="at even speed", **where),
            ]  # fmt: skip
        logs = np.log(earlier(slow, fast, config.settled))
        mean, half = (float(v) for v in stats.mean_interval(logs))
        low, high = np.exp([mean - half, mean + half]).tolist()
        ends = (None, None) if len(logs) == 1 else (low, high)
        late = int((times[0] >= config.epochs).sum())
        base, note = 1.0, "both at once"
        if kind == "distance":
            on_line = earlier(slow, curves["line"], config.settled)
            base, note = float(np.exp(np.log(on_line).mean())), "on the straight line"
        note += f"; weights never in {late} of {len(logs)}" if late else ""
        rows.append(
            runs.Row(FACTORS[kind], float(np.exp(mean)), *ends, len(logs), "", base, note, where)
        )
    return rows


def partition_rows(
    history: dict[str, np.ndarray], per_epoch: int, epochs: int, where: Any
) -> list[runs.Row]:
    """When the neuron partition changed last, and how often."""

    def last(values: np.ndarray) -> np.ndarray:
        changed = values > 0
        steps = values.shape[1] - changed[:, ::-1].argmax(1)
        return np.where(changed.any(1), steps, 0) / per_epoch

    changed, flipped = history["partition changed"], history["bits flipped"]
    return [
        runs.Row.over("last change of the neuron partition", last(changed), unit="epochs",
                      baseline=last(flipped), baseline_name="last flip of any bit", **where),
        runs.Row.over("steps that change the neuron partition", changed.mean(1),
                      baseline=(flipped > 0).mean(1), baseline_name="steps that flip a bit",
                      **where),
    ]  # fmt: skip


def combine(config: Config, results: dict[str, runs.Result], out: Any) -> runs.Result:
    """The answer over all widths, and the figures."""
    rows = [row for result in results.values() for row in result.summary]
    names = list(results)
    out.table("factors", factor_table(config, names, out), COLUMNS, TABLE)
    with figures.style():
        out.figure("factors", factors_figure(config, names, out), caption=FACTORS_CAPTION)
        out.figure("settling", settling_figure(config, names, out), caption=SETTLING)
        out.figure("changes", changes_figure(config, names, out), caption=CHANGES)
        out.figure("codes", codes_figure(config, names, out), caption=CODES)
        out.figure("segments", segments_figure(config, names, out), caption=SEGMENTS)
    return runs.Result(QUESTION, answer(config, names, rows, out), tuple(rows))


ON_LINE = 3  # its column
COLUMNS = ["width", "level", *FACTORS.values(), "weights never, by changes"]
TABLE = (
    "Geometric means over seeds of how many times earlier patterns settle than weights, by what "
    "counts as settled; the last column: networks whose weight changes did not settle in training, "
    "where the last epoch stands for it and the factor is too small."
)


def factor_table(config: Config, names: list[str], out: Any) -> list[list[Any]]:
    """A row a width and level."""
    table = []
    for name, width in zip(names, config.widths):
        means = [np.exp(np.log(out.load(f"factor.{kind}", name)).mean(0)) for kind in FACTORS]
        late = out.load("late.changes", name).sum(0)
        for i, level in enumerate(config.levels):
            table.append([width, level, *(round(float(m[i]), 2) for m in means), int(late[i])])
    return table


def answer(config: Config, names: list[str], rows: list[runs.Row], out: Any) -> str:
    """One paragraph from the rows."""

    def over(name: str, digits: int = 2) -> str:
        parts = []
        for width in config.widths:
            (row,) = (r for r in rows if r.name == name and r.where["width"] == width)
            ends = "" if row.low is None else f" [{row.low:.{digits}f}, {row.high:.{digits}f}]"
            parts.append(f"{row.value:.{digits}f}{ends}")
        return ", ".join(parts)

    def verdict(name: str) -> str:
        ends = [(r.low, r.high) for r in rows if r.name == name]
        known = [(low, high) for low, high in ends if low is not None and high is not None]
        if not known:
            return "one seed does not decide whether that is so"
        return (
            f"the interval lies above 1 at {sum(low > 1 for low, _ in known)} of {len(known)} "
            f"widths and holds the claimed {CLAIMED:g} at "
            f"{sum(low <= CLAIMED <= high for low, high in known)}"
        )

    table = factor_table(config, names, out)

    def span(column: int) -> str:
        found = [row[column] for row in table]
        many = sum(factor >= CLAIMED for factor in found)
        where = "" if column == ON_LINE else f", {CLAIMED:g} or more in {many}"
        return f"{min(found):.1f} to {max(found):.1f}{where}"

    by_distance, on_line, by_changes = FACTORS.values()
    levels = f"from {max(config.levels):.0%} to {min(config.levels):.0%}"
    share = f"{config.settled:.0%}"
    never = "; ".join(
        f"width {r.where['width']}: {r.baseline_name.partition('; ')[2]}"
        for r in rows
        if r.name == by_changes and ";" in r.baseline_name
    )
    return (
        f"Numbers are for widths {', '.join(map(str, config.widths))}, in this order. By distance "
        f"to where training ends ({share} left), patterns settle "
        f"{over(by_distance)} times earlier than weights ({verdict(by_distance)}); on the "
        f"straight line from the first weights to the last, at the same distances, it would be "
        f"{over(on_line)}. By the size of changes ({share} of the first epoch's), flips settle "
        f"{over(by_changes)} times earlier than weight changes ({verdict(by_changes)}). "
        + (f"Where changes never settled, the end stands for it ({never}). " if never else "")
        + f"All of this depends on what counts as settled: at levels {levels} the factor is "
        f"{span(2)} of {len(table)} widths and levels by distance ({span(ON_LINE)} on the straight "
        f"line), and {span(4)} by changes. After the first "
        f"{max(1, round(config.early * config.epochs))} of {config.epochs} epochs "
        f"{over('bits that have their last value after the early phase', 3)} of the bits have "
        f"their last value, before training "
        f"{over('bits that have their last value before training', 3)}. The neuron partition "
        f"changes for the last time in epoch {over('last change of the neuron partition', 1)}; "
        f"a segment has {over('linear pieces of a segment', 1)} linear pieces in the end."
    )  # fmt: skip


# --- figures --------------------------------------------------------------------------------

FACTORS_CAPTION = (
    "How many times earlier patterns settle than weights, against the share of the start that "
    "counts as settled. Left: by distance to where training ends (dashed: on the straight line "
    "from the first weights to the last, at the same distances). Right: by the size of changes in "
    "an epoch; hollow points: in some networks the weights never settled, so it is a lower bound. "
    "Dotted: the claim. Geometric means over seeds; bands: 95 % t intervals of the logarithm."
)
SETTLING = (
    "Distance to where training ends, over the distance at its start: weights (Euclidean), "
    "patterns (bits of the probe set that differ), and patterns on the straight line between the "
    "first weights and the last, at the distances that training has. Dotted: what counts as "
    "settled. Bands: 95 % intervals over seeds."
)
CHANGES = (
    "Bits of the probe set that one step flips, of all, and size of a step over the size of the "
    "weights, in percent; means over an epoch. On the right both over their first epoch, "
    "geometric means over widths and seeds. Bands: 95 % intervals over seeds."
)
CODES = (
    "Distinct codes of the probe set, groups of units that are active on the same probes, over the "
    "number of units, and the share of steps that change these groups; means over an epoch. "
    "Bands: 95 % intervals over seeds."
)
SEGMENTS = (
    "Linear pieces of a segment between two test images over the number of units, counted exactly, "
    "and the share of the segments' length that the boundary of a unit swept over since the moment "
    "before (ticks), mean over units. Bands: 95 % intervals over seeds. The left axis is linear up "
    "to 1 epoch, then logarithmic."
)


def factors_figure(config: Config, names: list[str], out: Any) -> Any:
    """Factors against levels."""
    fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.7), sharey=True)
    levels = np.asarray(config.levels)
    order = np.argsort(levels)
    for i, (name, width) in enumerate(zip(names, config.widths)):
        colour = figures.COLOURS[i % len(figures.COLOURS)]
        for kind, ax, dashes in zip(FACTORS, (axes[0], axes[0], axes[1]), ("-", "--", "-")):
            middle, half = stats.mean_interval(np.log(out.load(f"factor.{kind}", name)[:, order]))
            label = f"width {width}" if kind == "distance" else ""
            x, y = levels[order], np.exp(middle)
            ax.plot(x, y, color=colour, linestyle=dashes, label=label)
            late = out.load(f"late.{kind}", name)[:, order].any(0) & (kind == "changes")
            for part, fill in ((late, "white"), (~late, colour)):
                ax.plot(x[part], y[part], "o", color=colour, markerfacecolor=fill)
            low, high = np.exp(middle - half), np.exp(middle + half)
            ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    for ax, title in zip(axes, ("by distance to the end", "by changes in an epoch")):
        ax.axhline(CLAIMED, color="grey", linestyle=":", label=f"claim: {CLAIMED:g}")
        ax.set(xscale="log", xlabel="level that counts as settled", title=title)
        figures.plain_ticks(ax.xaxis, levels[order], apart=0.05)
    tops = [np.log(out.load(f"factor.{kind}", n)).mean(0).max() for n in names for kind in FACTORS]
    axes[0].set_ylim(0, max(1.3 * float(np.exp(max(tops))), 1.2 * CLAIMED))
    axes[0].plot([], [], color="grey", linestyle="--", label="straight line")
    axes[0].set_ylabel("times earlier than weights")
    figures.legend_below(fig, axes, ncols=3 if len(names) > 2 else 4)
    return fig


def ticks(epochs: int) -> list[int]:
    """1, 3, 10, ... and the last."""
    return [*(e for e in (1, 3, 10, 30, 100, 300, 1000) if e < epochs), epochs]


def settling_figure(config: Config, names: list[str], out: Any) -> Any:
    """Distances to the end, a panel a width."""
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    fig, grid = plt.subplots(
        rows, columns, figsize=(max(4.0 * columns, 5.6), 2.6 * rows + 0.5), squeeze=False,
        sharex=True, sharey=True,
    )  # fmt: skip
    kinds = (("weights", "weights", "-"), ("patterns", "patterns", "-"),
             ("line", "patterns, straight line", "--"))  # fmt: skip
    for ax, name, width in zip(grid.ravel(), names, config.widths):
        for kind, label, dashes in kinds:
            values = out.load(f"distance.{kind}", name)
            values = values / values[:, :1]
            figures.band(ax, np.arange(values.shape[1]), values, label, marker="", linestyle=dashes)
        ax.axhline(config.settled, color="grey", linestyle=":", label="settled")
        ax.set(title=f"width {width}", ylim=(0, 1.05), xlim=(0, config.epochs))
        ax.label_outer()
    for ax in grid[:, 0]:
        ax.set_ylabel("distance to the end (share)")
    for ax in grid.ravel()[len(names) :]:
        ax.remove()
    for j in range(columns):
        grid[(len(names) - 1 - j) // columns, j].set_xlabel("epochs")
        grid[(len(names) - 1 - j) // columns, j].tick_params(labelbottom=True)
    figures.legend_below(fig, grid.ravel()[: len(names)], ncols=4)
    return fig


def changes_figure(config: Config, names: list[str], out: Any) -> Any:
    """Flips and weight changes of a step over training."""
    fig, axes = plt.subplots(1, 3, figsize=(10.4, 3.5))
    found: dict[str, list[np.ndarray]] = {"bits_flipped": [], "weights_moved": []}
    for name, width in zip(names, config.widths):
        for ax, kind in zip(axes, found):
            values = 100 * out.load(f"epoch.{kind}", name)
            figures.band(ax, np.arange(1, values.shape[1] + 1), values, f"width {width}", marker="")
            found[kind].append(values / values[:, :1])
    for values, label, dashes in zip(found.values(), ("flips", "weight changes"), "-:"):
        logs = np.log(np.maximum(np.mean(values, axis=0), 1e-12))
        mean, half = stats.mean_interval(logs)
        x = np.arange(1, logs.shape[1] + 1)
        axes[2].plot(x, np.exp(mean), color="black", linestyle=dashes, label=label)
        axes[2].fill_between(x, np.exp(mean - half), np.exp(mean + half), color="black", alpha=0.15)
    axes[2].axhline(config.settled, color="grey", linestyle="--", linewidth=1, label="settled")
    axes[0].set_ylabel("bits flipped in a step (%)")
    axes[1].set_ylabel("weights moved in a step (%)")
    axes[2].set_ylabel("change over the first epoch's")
    for ax in axes:
        ax.set(xlabel="epoch", xscale="log", yscale="log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        figures.plain_ticks(ax.xaxis, ticks(config.epochs))
    figures.legend_below(fig, axes, ncols=7)
    return fig


def codes_figure(config: Config, names: list[str], out: Any) -> Any:
    """Distinct codes, and the neuron partition."""
    fig, axes = plt.subplots(1, 3, figsize=(10.4, 3.5))
    for name, width in zip(names, config.widths):
        units = width * config.depth
        for ax, kind, scale in zip(
            axes, ("distinct_codes", "groups_of_units", "partition_changed"), (1, units, 1)
        ):
            values = out.load(f"epoch.{kind}", name) / scale
            figures.band(ax, np.arange(1, values.shape[1] + 1), values, f"width {width}", marker="")
    axes[0].axhline(config.probes, color="grey", linestyle=":", label=f"{config.probes} probes")
    axes[0].set_ylabel("distinct codes")
    axes[1].set_ylabel("groups / units")
    axes[2].set(ylabel="steps changing groups (share)", ylim=(0, None))
    for ax in axes:
        ax.set(xlabel="epoch", xscale="log")
        figures.plain_ticks(ax.xaxis, ticks(config.epochs))
    figures.legend_below(fig, axes, ncols=7)
    return fig


def segments_figure(config: Config, names: list[str], out: Any) -> Any:
    """Pieces of segments and the length swept."""
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.5))
    for name, width in zip(names, config.widths):
        at = out.load("segment_epochs", name)
        pieces = out.load("pieces", name) / (width * config.depth)
        figures.band(axes[0], at, pieces, f"width {width}")
        figures.band(axes[1], at[1:], out.load("swept", name), f"width {width}")
    axes[0].set(ylabel="linear pieces / units", xscale="symlog", ylim=(0, None))
    axes[1].set(ylabel="length swept by a unit (share)", xscale="log", ylim=(0, None))
    for ax, shown in zip(axes, (at, at[1:])):
        ax.set_xlabel("epochs")
        figures.plain_ticks(ax.xaxis, shown)
    figures.legend_below(fig, axes, ncols=4)
    return fig


def sites(config: Config) -> Any:
    """The first width's network, for `activjax sites`."""
    static = setup(dataclasses.replace(config, widths=config.widths[:1]))
    params = jax.eval_shape(static.model.init, jax.random.key(0))
    return static.model.apply, (params, jax.ShapeDtypeStruct(static.probe.shape, jnp.float32))
