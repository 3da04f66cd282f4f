"""Do deep ReLU networks have few activation patterns, at initialisation and in training?

Hanin and Rolnick ("Deep ReLU networks have surprisingly few activation patterns", 2019): on a set
of dimension d a network with n >= d neurons has on average at most (T n)^d / d! patterns, whatever
its depth, and this is tight at initialisation and in training, memorisation of random labels
included. (The formula is recalled, not copied; T depends on the set, on weights and on biases.)
Here patterns are counted exactly: on segments between digits (d = 1), on planes through three
digits (d = 2), and on the whole input box of networks with one or two inputs. Initialisation and
optimiser are those of the same authors' "Complexity of linear regions in deep networks" (2019).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from activjax import data, models, regions, runs, stats, training
from activjax.runs import figures

QUESTION = (
    "Does the number of activation patterns on a d-dimensional set grow like the number of neurons "
    "to the power d, whatever the depth, at initialisation and in training, even on random labels?"
)
SETS = {1: "lines", 2: "planes"}
UNITS = {1: "patterns / n", 2: "patterns / (n^2 / 2)"}
EXPECTED = {1: (0.9, 1.1), 2: (1.8, 2.2)}
LABELS = ("true labels", "random labels")
#: Layers of fewer neurons are called thin.
THICK = 16
STATES = ("initial", *LABELS)


def _several(name: str, values: tuple[int, ...]) -> None:
    if not values or min(values) < 1 or any(b <= a for a, b in itertools.pairwise(values)):
        raise ValueError(f"{name}: expected rising positive integers, got {values}")


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    neurons: tuple[int, ...] = runs.static((24, 48, 96, 192, 384), help="in all hidden layers")
    depths: tuple[int, ...] = runs.static((1, 2, 3, 6), help="hidden layers, of equal width")
    bias_std: float = runs.static(1e-3, gt=0, help="of initial biases, digits")
    learning_rate: float = runs.static(1e-3, gt=0, help="of Adam")
    batch: int = runs.static(64, ge=1, help="images a step")
    examples: int = runs.static(512, ge=3, le=1347, help="training images of a seed")
    moments: tuple[int, ...] = runs.static(
        (1, 4, 16, 64, 256), help="epochs after which patterns are counted; the last ends it"
    )
    segments: int = runs.static(50, ge=1, help="of a seed, each between two training images")
    planes: int = runs.static(2, ge=1, help="of a seed, each through three training images")
    margin: float = runs.static(0.25, ge=0, le=4, help="around the three, share of the box's sides")
    shown_neurons: int = runs.static(96, ge=1, help="of the network of the film strip")
    shown_depth: int = runs.static(3, ge=1, help="of the network of the film strip")
    box_networks: int = runs.static(4, ge=1, help="of a seed with one input, and with two")
    box_bias_std: float = runs.static(0.1, gt=0, help="of their biases; inputs are in [-1, 1]")

    def __post_init__(self) -> None:
        for name in ("neurons", "depths", "moments"):
            _several(name, getattr(self, name))
        if len(self.neurons) < 2:
            raise ValueError(f"neurons: a slope needs two numbers at least, got {self.neurons}")
        for n in self.neurons:
            uneven = [depth for depth in self.depths if n % depth]
            if uneven:
                raise ValueError(
                    f"neurons: {n} cannot be cut into {uneven[0]} layers of equal width; take "
                    f"multiples of {math.lcm(*self.depths)}"
                )
        if self.batch > self.examples:
            raise ValueError(f"batch: {self.batch} is more than the {self.examples} examples")
        if self.shown_neurons not in self.neurons or self.shown_depth not in self.depths:
            raise ValueError(
                f"shown_neurons, shown_depth: expected one of {self.neurons} and one of "
                f"{self.depths}, got {self.shown_neurons} and {self.shown_depth}"
            )


# --- networks -------------------------------------------------------------------------------


def network(inputs: int, neurons: int, depth: int, outputs: int) -> models.Model:
    """Hidden layers of equal width."""
    return models.mlp([inputs, *(neurons // depth,) * depth, outputs])


def initial(model: models.Model, rng: np.random.Generator, bias_std: float) -> Any:
    """He-normal weights, normal biases; drawn on the host, which spares a program a shape."""

    def draw(leaf: Any) -> np.ndarray:
        scale = math.sqrt(2 / leaf.shape[0]) if leaf.ndim == 2 else bias_std
        return (scale * rng.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0)))


@dataclasses.dataclass(frozen=True)
class Task:
    """What one seed trains on, and where its patterns are counted.

    Attributes:
        x: `[examples, 64]`.
        y: `[2, examples]`, labels true and random.
        rows: `[steps, batch]`, the images of every step.
        ends: `[2, segments, 64]`.
        planes: rectangles of planes through three images.
        corners: `[3, 2]`, the three on the first plane.
    """

    x: np.ndarray
    y: np.ndarray
    rows: np.ndarray
    ends: np.ndarray
    planes: list[regions.Plane]
    corners: np.ndarray


def task(config: Config, split: data.Split, seed: int) -> Task:
    """Drawn from the seed alone: all networks of a seed see the same."""
    rng = np.random.default_rng([seed, 0])
    chosen = rng.permutation(len(split.train_y))[: config.examples]
    x, true = split.train_x[chosen], split.train_y[chosen]
    random = rng.integers(0, split.classes, len(true)).astype(true.dtype)
    steps = config.examples // config.batch
    orders = [rng.permutation(config.examples) for _ in range(config.moments[-1])]
    rows = np.concatenate([o[: steps * config.batch].reshape(steps, -1) for o in orders])
    pairs = np.stack([rng.choice(len(x), 2, replace=False) for _ in range(config.segments)], 1)
    triples = [rng.choice(len(x), 3, replace=False) for _ in range(config.planes)]
    planes = [regions.plane_through(*x[t], margin=config.margin) for t in triples]
    corners = (x[triples[0]] - planes[0].origin) @ planes[0].basis.T
    return Task(x, np.stack([true, random]), rows.astype(np.int32), x[pairs], planes, corners)


def trained(config: Config, model: models.Model, tasks: list[Task], params: list[Any]) -> Any:
    """Train on both kinds of labels, from the same weights; yields at every moment.

    Yields:
        Parameters with two leading axes (seeds, labels) and training accuracies `[seeds, 2]`.
    """
    optimiser = optax.adam(config.learning_rate)
    loss = training.classification(model)

    def one(state: Any, x: jax.Array, y: jax.Array, rows: jax.Array, begin: Any, end: Any) -> Any:
        def step(i: jax.Array, state: Any) -> Any:
            batch = x[rows[i]], y[rows[i]]
            return training.train_step(loss, optimiser, state, batch)[0]

        state = jax.lax.fori_loop(begin, end, step, state)
        return state, training.accuracy(model.apply(state.params, x), y)

    labels = jax.vmap(one, (0, None, 0, None, None, None))
    program = jax.jit(jax.vmap(labels, (0, 0, 0, 0, None, None)))
    both = jax.tree.map(lambda *v: np.stack([np.stack([a, a]) for a in v]), *params)
    # Nothing random is left in a step, so every network may have the same key.
    keys = jnp.broadcast_to(jax.random.key(0), (len(tasks), 2))
    start = jax.vmap(jax.vmap(optimiser.init))(both)
    state = training.TrainState(both, start, {}, None, keys)
    x, y, rows = (np.stack([getattr(t, name) for t in tasks]) for name in ("x", "y", "rows"))
    per_epoch = config.examples // config.batch
    done = 0
    for epoch in (0, *config.moments):
        state, accuracy = program(state, x, y, rows, done, epoch * per_epoch)
        done = epoch * per_epoch
        yield jax.device_get(state.params), np.asarray(accuracy)


def of_one(model: models.Model, params: Any) -> Callable[[Any], Any]:
    """The network as a function of one example."""
    return lambda x: model.apply(params, x[None])[0]


# --- counts ---------------------------------------------------------------------------------


@dataclasses.dataclass
class Counts:
    """Numbers of patterns; axes: moment, labels, neurons, depth, seed, and segment or plane.

    Attributes:
        patterns: those on lines, and those on planes.
        accuracy: on the training labels; without the last axis.
        frames: of the shown network, seed by seed and by labels, the first plane at every moment.
        corners: the three images of the first seed's plane.
        proven: of the shown network, segments and planes whose count is certified, and all.
    """

    patterns: dict[int, np.ndarray]
    accuracy: np.ndarray
    frames: list[tuple[list[regions.Polygons], ...]]
    corners: np.ndarray
    proven: tuple[int, int]


def count_digits(config: Config, seeds: np.ndarray, out: Any) -> Counts:
    """Train every network and count its patterns at every moment."""
    split = data.digits()
    tasks = [task(config, split, seed) for seed in seeds.tolist()]
    moments = len(config.moments) + 1
    grid = (moments, 2, len(config.neurons), len(config.depths), len(tasks))
    lines = np.zeros((*grid, config.segments), np.int64)
    planes = np.zeros((*grid, config.planes), np.int64)
    accuracy = np.zeros(grid)
    frames: list[tuple[list[regions.Polygons], ...]] = [([], []) for _ in tasks]
    proven = total = 0
    for i, j in np.ndindex(grid[2:4]):
        neurons, depth = config.neurons[i], config.depths[j]
        shown = (neurons, depth) == (config.shown_neurons, config.shown_depth)
        model = network(split.train_x.shape[1], neurons, depth, split.classes)
        start = [
            initial(model, np.random.default_rng([s, 1, neurons, depth]), config.bias_std)
            for s in seeds.tolist()
        ]
        for m, (params, right) in enumerate(trained(config, model, tasks, start)):
            accuracy[m, :, i, j] = right.T
            for s, k in np.ndindex(len(tasks), 2):
                at = (m, k, i, j, s)
                if m == 0 and k == 1:  # both kinds of labels begin with the same weights
                    lines[at], planes[at] = lines[0, 0, i, j, s], planes[0, 0, i, j, s]
                    frames[s][1].extend(frames[s][0] if shown else ())
                    continue
                f = of_one(model, jax.tree.map(lambda v, s=s, k=k: v[s, k], params))
                pieces = regions.on_segments(f, *tasks[s].ends)
                cells = [regions.on_plane(f, *plane) for plane in tasks[s].planes]
                lines[at], planes[at] = pieces.counts, [len(c) for c in cells]
                if shown:
                    frames[s][k].append(cells[0])
                    in_doubt = len(np.unique(pieces.segment[pieces.doubt]))
                    proven += len(pieces) - in_doubt
                    proven += sum(c.certificate != "uncertified" for c in cells)
                    total += len(pieces) + len(cells)
        found = lines[-1, :, i, j].mean((1, 2)), planes[-1, :, i, j].mean((1, 2))
        out.log(f"{neurons} neurons, {depth} layers: lines {found[0]}, planes {found[1]}")
    return Counts({1: lines, 2: planes}, accuracy, frames, tasks[0].corners, (proven, total))


def count_boxes(config: Config, seeds: np.ndarray) -> dict[int, np.ndarray]:
    """Patterns on the whole input box at initialisation, `[neurons, depth, seed, network]`."""
    grid = (len(config.neurons), len(config.depths), len(seeds), config.box_networks)
    found = {d: np.zeros(grid, np.int64) for d in SETS}
    box = np.array([[-1.0, 1.0]] * 2)
    for d, i, j in ((d, *ij) for d in SETS for ij in np.ndindex(grid[:2])):
        neurons, depth = config.neurons[i], config.depths[j]
        model = network(d, neurons, depth, 1)
        for s, k in np.ndindex(grid[2:]):
            rng = np.random.default_rng([int(seeds[s]), 2, d, neurons, depth, k])
            f = of_one(model, initial(model, rng, config.box_bias_std))
            if d == 1:
                found[d][i, j, s, k] = regions.on_segment(f, box[:1, 0], box[:1, 1]).counts[0]
            else:
                found[d][i, j, s, k] = len(regions.on_plane(f, np.zeros(2), np.eye(2), box))
    return found


def one_layer(n: int, d: int) -> float:
    """The most patterns that one hidden layer of n neurons can have on d dimensions."""
    return float(sum(math.comb(n, i) for i in range(d + 1)))


def most(n: int, depth: int, d: int) -> float:
    """A bound for every network of that shape: the product of its layers' (Montufar 2017)."""
    return one_layer(n // depth, d) ** depth


# --- what the counts tell -------------------------------------------------------------------


def slopes(neurons: Sequence[int], counts: np.ndarray) -> np.ndarray:
    """Log-log slope against the number of neurons, for `[neurons, depth, seed]` mean counts."""
    x = np.log(np.asarray(neurons, np.float64))
    x -= x.mean()
    return np.tensordot(x, np.log(counts), (0, 0)) / (x @ x)


def depth_effect(counts: np.ndarray) -> np.ndarray:
    """`[neurons, 3]`: the largest mean count over depths by the smallest; a bootstrap over seeds.

    The ratio of the largest to the smallest is above 1 by noise alone, in every resample too.
    """

    def effect(means: np.ndarray) -> np.ndarray:
        return means.max(1) / means.min(1)

    seeds = counts.shape[-1]
    drawn = np.random.default_rng(0).integers(0, seeds, (2000, seeds))
    low, high = np.quantile(effect(counts[..., drawn].mean(-1)), [0.025, 0.975], axis=1)
    return np.stack([effect(counts.mean(-1)), low, high], 1)


def implied(config: Config, counts: np.ndarray, d: int) -> np.ndarray:
    """The T at which (T n)^d / d! is the mean count `[neurons, depth, ...]`."""
    n = np.asarray(config.neurons, np.float64).reshape(-1, *(1,) * (counts.ndim - 1))
    return (math.factorial(d) * counts) ** (1 / d) / n


def growth_rows(
    config: Config, counts: np.ndarray, d: int, each_depth: bool, **where: Any
) -> list[runs.Row]:
    """Slopes and depth effects of `[neurons, depth, seed]` mean counts."""
    found = slopes(config.neurons, counts)
    bounds = np.array([[[most(n, depth, d)] for depth in config.depths] for n in config.neurons])
    limit = slopes(config.neurons, bounds)[:, 0]
    name, base = "log-log slope of patterns against neurons", "most patterns of such shapes"
    rows = [
        runs.Row.over(name, found.mean(0), baseline=limit.mean(), baseline_name=base,
                      **where, depth="all")
    ]  # fmt: skip
    for j, depth in enumerate(config.depths if each_depth else ()):
        rows.append(
            runs.Row.over(name, found[j], baseline=limit[j], baseline_name=base, **where,
                          depth=depth)
        )  # fmt: skip
    seeds = counts.shape[-1]
    for i in (0, len(config.neurons) - 1):
        value, low, high = depth_effect(counts)[i].tolist()
        ends = (low, high) if seeds > 1 else (None, None)
        limits = bounds[i].max() / bounds[i].min()
        rows.append(
            runs.Row("most patterns by fewest over depths", value, *ends, seeds, "", limits, base,
                     {**where, "neurons": config.neurons[i]})
        )  # fmt: skip
    return rows


def size_rows(config: Config, counts: np.ndarray, d: int, **where: Any) -> list[runs.Row]:
    """Patterns by n^d / d! at the largest n, and the largest T, of `[neurons, depth, seed]`."""
    n = config.neurons[-1]
    scale = n**d / math.factorial(d)
    full = one_layer(n, d)
    T = implied(config, counts, d).reshape(-1, counts.shape[-1])
    T = T[T.mean(1).argmax()]
    return [
        runs.Row.over(f"{UNITS[d]}, mean over depths", counts[-1].mean(0) / scale,
                      baseline=full / scale, baseline_name="one hidden layer, at most",
                      **where, neurons=n),
        runs.Row.over("T implied, largest over networks", T,
                      baseline=(math.factorial(d) * full) ** (1 / d) / n,
                      baseline_name="one hidden layer, at most", **where),
    ]  # fmt: skip


def by_state(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Mean counts `[neurons, depth, seed]` at the start and at the end of both trainings."""
    means = counts.mean(-1)
    return {"initial": means[0, 0], **{name: means[-1, k] for k, name in enumerate(LABELS)}}


def main(config: Config, out: Any) -> runs.Result:
    """Train, count, fit."""
    found = count_digits(config, out.seeds, out)
    boxes = count_boxes(config, out.seeds)
    swept, changed = movement(found)
    for d, name in SETS.items():
        out.array(f"patterns.{name}", found.patterns[d])
        out.array(f"patterns.box{d}", boxes[d])
    out.arrays(accuracy=found.accuracy, swept=swept, changed=changed)

    rows: list[runs.Row] = []
    table = []
    for d, name in SETS.items():
        for state, counts in by_state(found.patterns[d]).items():
            where = {"set": name, "network": state}
            rows += growth_rows(config, counts, d, state == "initial", **where)
            rows += size_rows(config, counts, d, **where)
            table += table_rows(config, counts, d, name, state)
        counts = boxes[d].mean(-1)
        where = {"set": f"[-1, 1]^{d}", "network": "initial"}
        rows += growth_rows(config, counts, d, True, **where)
        rows += size_rows(config, counts, d, **where)
        table += table_rows(config, counts, d, where["set"], "initial")
    guess = 1 / data.digits().classes
    for k, name in enumerate(LABELS):
        rows.append(
            runs.Row.over("training accuracy, mean over depths", found.accuracy[-1, k, -1].mean(0),
                          baseline=guess, baseline_name="one of ten", network=name,
                          neurons=config.neurons[-1])
        )  # fmt: skip
        rows.append(
            runs.Row.over("area swept by a unit, last interval", swept[:, k, -1],
                          baseline=swept[:, k, 0], baseline_name="first interval", network=name,
                          neurons=config.shown_neurons, depth=config.shown_depth)
        )  # fmt: skip
    columns = ["set", "network", "neurons", *(f"{d} layers" for d in config.depths), "most / least"]
    out.table("patterns", table, columns, TABLE)
    with figures.style():
        out.figure("growth", growth_figure(config, found), caption=GROWTH)
        out.figure("training", training_figure(config, found), caption=TRAINING)
        out.figure("boxes", boxes_figure(config, boxes), caption=BOXES)
        out.figure("strip", strip_figure(config, found), caption=STRIP)
        out.figure("movement", movement_figure(config, swept, changed), caption=MOVEMENT)
    return runs.Result(QUESTION, answer(config, found, boxes, rows), tuple(rows))


def movement(found: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Shares of a plane's area swept in every interval, each `[seeds, labels, intervals]`.

    Returns:
        Swept by a unit's boundary, the mean over units; and that where some unit's state changed.
    """
    swept = np.array(
        [
            [
                [(m.swept.mean(), m.new) for m in itertools.starmap(regions.moved, pairs)]
                for pairs in map(itertools.pairwise, both)
            ]
            for both in found.frames
        ]
    )  # fmt: skip
    return swept[..., 0], swept[..., 1]


def table_rows(config: Config, counts: np.ndarray, d: int, name: str, state: str) -> list[Any]:
    """Mean counts by neurons and depth."""
    means, effect = counts.mean(-1), depth_effect(counts)[:, 0]
    return [
        [name, state, n, *np.round(means[i], 1).tolist(), round(float(effect[i]), 2)]
        for i, n in enumerate(config.neurons)
    ]


def answer(
    config: Config, found: Counts, boxes: dict[int, np.ndarray], rows: list[runs.Row]
) -> str:
    """One paragraph: what of the claim reproduced, and what did not."""
    pooled = {
        (r.where["set"], r.where["network"]): r
        for r in rows
        if r.name.startswith("log-log") and r.where["depth"] == "all"
    }

    def number(row: runs.Row) -> str:
        ends = "" if row.low is None else f" [{row.low:.2f}, {row.high:.2f}]"
        return f"{row.value:.2f}{ends}"

    parts = []
    for d, name in SETS.items():
        low, high = EXPECTED[d]
        three = [pooled[name, state] for state in STATES]
        box = pooled[f"[-1, 1]^{d}", "initial"]
        inside = sum(low <= r.value <= high for r in (*three, box))
        verdict = {4: "reproduced", 0: "not reproduced"}.get(inside, f"{inside} of 4 reproduced")
        outside = [
            f"{depth} layers, {state}, {slope:.2f}"
            for state, counts in every(found, boxes)[d]
            for depth, slope in zip(config.depths, slopes(config.neurons, counts).mean(1))
            if not low <= slope <= high
        ]
        alone = f"; outside it are, of single depths, {'; '.join(outside)}" if outside else ""
        alone += thick(config, every(found, boxes)[d])
        parts.append(
            f"On {name} the number of patterns grows with neurons to the power "
            f"{number(three[0])} at initialisation, {number(three[1])} after training on true and "
            f"{number(three[2])} on random labels, and {number(box)} on the whole box of networks "
            f"with {d} input{'s' * (d > 1)} ({d} ± {high - d:.1f} expected: {verdict}){alone}."
        )
    wide = [
        (name, n, float(effect))
        for name, counts in itertools.chain(*every(found, boxes).values())
        for n, effect in zip(config.neurons, depth_effect(counts)[:, 0])
    ]
    broken = [f"{n} neurons ({name}, {effect:.1f})" for name, n, effect in wide if effect >= 2]
    median = float(np.median([effect for *_, effect in wide]))
    parts.append(
        f"Over depths {config.depths[0]} to {config.depths[-1]} the largest mean count is "
        f"{median:.2f} times the smallest in the median of {len(wide)} settings; "
        + (
            f"it is 2 or more in {len(broken)} of them: {', '.join(broken)}."
            if broken
            else "it is below 2 in all of them: independence of depth reproduced."
        )
    )
    for d, name in SETS.items():
        means = found.patterns[d].mean((-2, -1))  # [moments, labels, neurons, depth]
        T = np.stack([implied(config, m, d) for m in means.reshape(-1, *means.shape[2:])])
        rise = (means / means[:1]).max(0)
        large = means[:, :, -1].mean(-1) / (config.neurons[-1] ** d / d)
        box = implied(config, boxes[d].mean((-2, -1)), d).max()
        parts.append(
            f"On {name} the mean counts obey the bound with T = {T.max():.2f} at every moment "
            f"({implied(config, means[0, 0], d).max():.2f} at initialisation; on whole boxes "
            f"{box:.2f}; one hidden layer in general position needs 1 in the limit); training "
            f"multiplies the count by at most {rise[0].max():.2f} (true labels) and "
            f"{rise[1].max():.2f} (random labels). With {config.neurons[-1]} neurons {UNITS[d]} is "
            f"{large[0, 0]:.3f} at initialisation, {large[-1, 0]:.3f} after training on true and "
            f"{large[-1, 1]:.3f} on random labels (at most {large.max():.3f} on the way)."
        )
    right = found.accuracy[-1, :, -1].mean((1, 2))
    proven, total = found.proven
    parts.append(
        f"The networks of {config.neurons[-1]} neurons end with a training accuracy of "
        f"{right[0]:.2f} on true and {right[1]:.2f} on random labels. Of the {total} counts of the "
        f"network of the film strip {proven} are certified. Means are arithmetic, over the "
        "segments or planes of a seed; slopes are fitted to the logarithm of these means, seed by "
        f"seed; intervals are over {found.accuracy.shape[-1]} seeds."
    )
    return " ".join(parts)


def thick(config: Config, named: list[tuple[str, np.ndarray]]) -> str:
    """What the slopes of the deepest networks are without those whose layers are thin."""
    at = [i for i, n in enumerate(config.neurons) if n // config.depths[-1] >= THICK]
    if not 2 <= len(at) < len(config.neurons):
        return ""
    neurons = [config.neurons[i] for i in at]
    found = [
        f"{slopes(neurons, counts[at, -1:]).mean():.2f} ({name})"
        for name, counts in named
        if "labels" not in name
    ]
    return (
        f"; {config.neurons[0]} neurons in {config.depths[-1]} layers are "
        f"{config.neurons[0] // config.depths[-1]} a layer, and from {neurons[0]} neurons on the "
        f"{config.depths[-1]} layers grow with {' and '.join(found)}"
    )


def every(found: Counts, boxes: dict[int, np.ndarray]) -> dict[int, list[tuple[str, np.ndarray]]]:
    """All mean counts `[neurons, depth, seed]` by dimension and name."""
    return {
        d: [
            *((f"{name}, {state}", c) for state, c in by_state(found.patterns[d]).items()),
            (f"[-1, 1]^{d}", boxes[d].mean(-1)),
        ]
        for d, name in SETS.items()
    }


# --- figures --------------------------------------------------------------------------------

TABLE = (
    "Mean numbers of patterns: over the segments or planes of a seed (or its networks, for boxes) "
    "and over seeds."
)
GROWTH = (
    "Number of patterns on segments between two digits and on rectangles around three, against the "
    "number of hidden neurons, at initialisation and after training. Points: geometric means over "
    "seeds of a seed's mean; bars: 95 % t intervals of their logarithm; points of equal n are "
    "drawn side by side. Dashed: the claimed power n^d, through the mean of the points. Dotted: "
    "the most that one hidden layer can have; what deeper networks could have leaves the picture."
)
TRAINING = (
    "Patterns over n (lines) and over n^2 / 2 (planes) during training, at the largest number of "
    "neurons, and training accuracy. One hidden layer has at most 1 in the limit of large n. "
    "Bands: 95 % intervals over seeds. Dotted: guessing. The axis is linear up to 1 epoch, then "
    "logarithmic."
)
BOXES = (
    "Patterns on all of the input box of networks with one input and with two, at initialisation, "
    "over the claimed power of the number of neurons. A horizontal line is the claim. Bars: 95 % "
    "intervals over seeds. Dotted: the most that one hidden layer can have."
)
STRIP = (
    "The plane through three digits (dots) while a network trains on true labels (above) and on "
    "random ones (below). Cells are sets of one pattern; similar patterns have similar colours. "
    "Coordinates are Euclidean lengths in the space of images."
)
MOVEMENT = (
    "Left: share of a plane's area that the boundary of a unit sweeps over in an interval of "
    "training, mean over units. Right: share of the area on which some unit has another state at "
    "the end of the interval than at its begin. Bands: 95 % intervals over seeds."
)
REFERENCE = {"color": "black", "linestyle": "--", "linewidth": 1}
FULL = {"color": "grey", "linestyle": ":", "linewidth": 1.4}


def growth_figure(config: Config, found: Counts) -> Any:
    """Counts against neurons, a row a dimension, a column a state."""
    fig, axes = plt.subplots(2, 3, figsize=(9.6, 6.0), sharex=True, sharey="row")
    n = np.asarray(config.neurons, np.float64)
    for row, (d, name) in zip(axes, SETS.items()):
        full = [one_layer(int(v), d) for v in n]
        for ax, counts in zip(row, by_state(found.patterns[d]).values()):
            for j, depth in enumerate(config.depths):
                side = 1.04 ** (j - (len(config.depths) - 1) / 2)
                label = f"{depth} hidden layer{'s' * (depth > 1)}"
                middle, half = stats.mean_interval(np.log(counts[:, j].T))
                ends = np.exp(middle) - np.exp(middle - half), np.exp(middle + half)
                ends = np.stack([ends[0], ends[1] - np.exp(middle)])
                (drawn,) = ax.plot(n * side, np.exp(middle), marker="o", label=label)
                bar = {"fmt": "none", "ecolor": drawn.get_color(), "elinewidth": 1.2, "capsize": 3}
                ax.errorbar(n * side, np.exp(middle), ends, **bar)
            level = np.exp(np.mean(np.log(counts).mean((1, 2)) - d * np.log(n)))
            ax.plot(n, level * n**d, **REFERENCE, label="slope d")
            ax.plot(n, full, **FULL, label="one hidden layer, at most")
            ax.set(xscale="log", yscale="log")
            figures.plain_ticks(ax.xaxis, n)
        row[0].set_ylabel(f"patterns on {name} (d = {d})")
    for ax, state in zip(axes[0], STATES):
        ax.set_title("at initialisation" if state == "initial" else f"trained on {state}")
    for ax in axes[1]:
        ax.set_xlabel("hidden neurons n")
    figures.legend_below(fig, axes, ncols=3)
    return fig


def training_figure(config: Config, found: Counts) -> Any:
    """Normalised counts and accuracy against epochs, a column a kind of labels."""
    fig, axes = plt.subplots(3, 2, figsize=(8.2, 7.6), sharex=True, sharey="row")
    epochs = np.array([0, *config.moments], np.float64)
    n = config.neurons[-1]
    for k, name in enumerate(LABELS):
        for row, d in enumerate(SETS):
            scale = n**d / math.factorial(d)
            for j, depth in enumerate(config.depths):
                label = f"{depth} hidden layer{'s' * (depth > 1)}"
                values = found.patterns[d][:, k, -1, j].mean(-1).T / scale
                figures.band(axes[row, k], epochs, values, label)
        for j in range(len(config.depths)):
            figures.band(axes[2, k], epochs, found.accuracy[:, k, -1, j].T, "")
        axes[2, k].axhline(0.1, **FULL, label="guessing")
        axes[2, k].set(xlabel="epochs")
        axes[0, k].set_title(f"{name}, n = {n}")
    for ax in axes.ravel():
        ax.set_xscale("symlog", linthresh=1)
        figures.plain_ticks(ax.xaxis, epochs)
    for ax, top in zip(axes[:, 0], (None, None, 1.03)):  # the columns share the axis
        ax.set_ylim(0, top)
    for ax, label in zip(axes[:, 0], ("patterns on lines / n", "patterns on planes / (n²/2)",
                                      "training accuracy")):  # fmt: skip
        ax.set_ylabel(label)
    figures.legend_below(fig, axes, ncols=3)
    return fig


def boxes_figure(config: Config, boxes: dict[int, np.ndarray]) -> Any:
    """Normalised counts on input boxes against neurons."""
    fig, axes = plt.subplots(1, 2, figsize=(8.2, 3.6))
    n = np.asarray(config.neurons, np.float64)
    for ax, d in zip(axes, SETS):
        scale = n**d / math.factorial(d)
        for j, depth in enumerate(config.depths):
            side = 1.04 ** (j - (len(config.depths) - 1) / 2)
            label = f"{depth} hidden layer{'s' * (depth > 1)}"
            figures.bars(ax, n * side, boxes[d][:, j].mean(-1).T / scale, label)
        ax.plot(n, [one_layer(int(v), d) for v in n] / scale, **FULL,
                label="one hidden layer, at most")  # fmt: skip
        top = (boxes[d].mean((-2, -1)).max(1) / scale).max()
        ax.set(xscale="log", xlabel="hidden neurons n", ylim=(0, 1.25 * max(top, 1)))
        ax.set_ylabel("patterns on [-1, 1] / n" if d == 1 else "patterns on [-1, 1]² / (n²/2)")
        figures.plain_ticks(ax.xaxis, n)
    figures.legend_below(fig, axes, ncols=3)
    return fig


def strip_figure(config: Config, found: Counts) -> Any:
    """One plane of the first seed at four moments, for both kinds of labels."""
    epochs = (0, *config.moments)
    shown = np.unique(np.linspace(0, len(epochs) - 1, min(4, len(epochs))).round().astype(int))
    pictures, titles = [], []
    for name, frames in zip(LABELS, found.frames[0]):
        for m in shown:
            pictures.append(frames[m])
            titles.append(f"{name}, epoch {epochs[m]}\n{len(frames[m]):,} patterns")
    fig = regions.strip(pictures, titles, columns=len(shown))
    for ax in fig.axes:
        ax.plot(*found.corners.T, "o", color="black", markeredgecolor="white", markersize=6)
    return fig


def movement_figure(config: Config, swept: np.ndarray, changed: np.ndarray) -> Any:
    """Swept area against the interval of training."""
    fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.4))
    ends = [0, *config.moments]
    names = [f"{a} to {b}" for a, b in itertools.pairwise(ends)]
    ylabels = ("area swept by a unit (share)", "area with another pattern (share)")
    for ax, values, ylabel in zip(axes, (swept, changed), ylabels):
        for k, name in enumerate(LABELS):
            figures.band(ax, np.arange(len(names)), values[:, k], name)
        ax.set_xticks(np.arange(len(names)), names)
        ax.set(xlabel="epochs", ylabel=ylabel, ylim=(0, None))
    figures.legend_below(fig, axes)
    return fig


def sites(config: Config) -> Any:
    """The network of the film strip, for `activjax sites`."""
    model = network(64, config.shown_neurons, config.shown_depth, 10)
    params = jax.eval_shape(model.init, jax.random.key(0))
    return model.apply, (params, jax.ShapeDtypeStruct((config.examples, 64), jnp.float32))
