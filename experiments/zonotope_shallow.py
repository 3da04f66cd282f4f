"""Shallow ReLU networks trained over zonotope vertices, against gradient descent.

Matena and Raffel ("A combinatorial perspective on the optimization of shallow ReLU networks",
2022) split the training of one hidden ReLU layer in two: with the activation patterns of the units
fixed (a tuple of vertices of the data's zonotope) the rest is a convex program, so training is a
search over vertices. They report that a greedy local search over adjacent vertices finds better
optima than gradient descent. Here both have underparameterised problems: random regression, and
pairs of handwritten digits; and, with as many units as the polynomial selection needs, random
labels.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import activjax as aj
from activjax import data, patterns, runs, zonotope
from activjax.runs import figures

QUESTION = (
    "Does a greedy local search over zonotope vertices train shallow ReLU networks to a lower "
    "loss than gradient descent with as much time, and than vertices drawn at random?"
)
OURS, VERTICES, ADAM, SGD = "local search", "random vertices", "Adam", "SGD"


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    widths: tuple[int, ...] = runs.static((2, 4), help="hidden units")
    examples: int = runs.static(32, ge=4, help="of a problem")
    dims: int = runs.static(4, ge=2, help="features, with the bias")
    digits: tuple[str, ...] = runs.static(("3-8", "4-9"), help="pairs of classes")
    restarts: int = runs.static(16, ge=1, help="of the local search")
    search_steps: int = runs.static(100, ge=1, help="of the local search, at most")
    programs: int = runs.static(500, ge=1, help="most of them for random vertices")
    descents: int = runs.static(512, ge=1, help="restarts of each gradient method")
    descent_steps: int = runs.static(4000, ge=1, help="of each gradient method")
    adam_rates: tuple[float, ...] = runs.static((0.01, 0.03, 0.1), help="tried for Adam")
    sgd_rates: tuple[float, ...] = runs.static((0.003, 0.01, 0.03), help="tried for SGD")
    batch: int = runs.static(8, ge=1, help="examples of a step of SGD")
    tuning: int = runs.static(2, ge=1, help="problems that the rates are tuned on, not counted")
    zero_examples: int = runs.static(24, ge=4, help="of a problem with random labels")

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or len(set(self.widths)) < len(self.widths):
            raise ValueError(f"widths: expected distinct positive integers, got {self.widths}")
        if self.batch > self.examples:
            raise ValueError("batch: expected at most as many as examples")
        for pair in self.digits:
            a, _, b = pair.partition("-")
            if not (a.isdigit() and b.isdigit() and a != b and len(a) == len(b) == 1):
                raise ValueError(f"digits: expected pairs such as 3-8, got {pair!r}")


Problem = tuple[np.ndarray, np.ndarray]


def regression(config: Config, seed: int) -> Problem:
    """Gaussian features with a bias, Gaussian targets: `[n, dims]`, `[n]`."""
    rng = np.random.default_rng([seed, 0])
    X = rng.normal(size=(config.examples, config.dims))
    X[:, -1] = 1.0
    return X, rng.normal(size=config.examples)


def digit_pair(config: Config, pair: str, seed: int) -> Problem:
    """Leading principal components of two classes, with a bias, and labels -1 and 1."""
    split = data.digits()
    x = np.concatenate([split.train_x, split.test_x]).reshape(-1, 64).astype(np.float64)
    y = np.concatenate([split.train_y, split.test_y])
    a, b = map(int, pair.split("-"))
    rng = np.random.default_rng([seed, 1 + a, 1 + b])
    half = config.examples // 2
    chosen = np.concatenate(
        [rng.choice(np.flatnonzero(y == c), n, replace=False)
         for c, n in ((a, half), (b, config.examples - half))]
    )  # fmt: skip
    x = x[chosen] - x[chosen].mean(axis=0)
    _, _, directions = np.linalg.svd(x, full_matrices=False)
    X = x @ directions[: config.dims - 1].T
    X = np.column_stack([X / X.std(axis=0), np.ones(len(X))])
    return X, np.where(y[chosen] == a, -1.0, 1.0)


def families(config: Config) -> dict[str, Callable[[int], Problem]]:
    """The kinds of problems, each a function of the seed."""
    out: dict[str, Callable[[int], Problem]] = {
        "random regression": lambda seed: regression(config, seed)
    }
    for pair in config.digits:
        out[f"digits {pair}"] = lambda seed, pair=pair: digit_pair(config, pair, seed)
    return out


def relative(loss: Any, y: np.ndarray) -> Any:
    """The squared error over that of the constant 0."""
    return loss / np.sum(y**2)


# --- gradient descent -----------------------------------------------------------------------


def descent(config: Config, width: int, kind: str) -> Callable[..., jax.Array]:
    """`run(X, y, rate, key) -> [descents]` final relative losses; one program a width and kind."""

    def network(params: Any, X: jax.Array) -> jax.Array:
        hidden = jnp.matmul(X, params["in"].T, precision="highest")
        return jnp.matmul(jax.nn.relu(hidden), params["out"], precision="highest")

    def loss(params: Any, X: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean(jnp.square(network(params, X) - y))

    def one(X: jax.Array, y: jax.Array, rate: jax.Array, key: jax.Array) -> jax.Array:
        inner, outer, order = jax.random.split(key, 3)
        n, d = X.shape
        params = {
            "in": jax.random.normal(inner, (width, d)) * jnp.sqrt(2 / d),
            "out": jax.random.normal(outer, (width,)) / jnp.sqrt(1.0 * width),
        }
        schedule = optax.cosine_decay_schedule(1.0, config.descent_steps)
        rule = optax.scale_by_adam() if kind == ADAM else optax.trace(0.9)
        optimiser = optax.chain(rule, optax.scale_by_schedule(schedule), optax.scale(-1.0))

        def step(carry: Any, key: jax.Array) -> Any:
            params, state = carry
            rows = slice(None)
            if kind == SGD:
                rows = jax.random.randint(key, (config.batch,), 0, n)
            grads = jax.grad(loss)(params, X[rows], y[rows])
            with jax.numpy_dtype_promotion("standard"):  # optax needs it
                updates, state = optimiser.update(grads, state)
            updates = jax.tree.map(lambda u: rate * u, updates)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(order, config.descent_steps)
        (params, _), _ = jax.lax.scan(step, (params, optimiser.init(params)), keys)
        return jnp.sum(jnp.square(network(params, X) - y)) / jnp.sum(jnp.square(y))

    many = jax.vmap(one, in_axes=(None, None, None, 0))
    return jax.jit(lambda X, y, rate, key: many(X, y, rate, jax.random.split(key, config.descents)))


def best_of_descents(
    run: Callable[..., jax.Array], problem: Problem, rate: float, key: jax.Array
) -> float:
    """The lowest loss over restarts; one that diverged does not count."""
    X, y = (jnp.asarray(v, jnp.float32) for v in problem)
    return float(jnp.nanmin(run(X, y, jnp.float32(rate), key)))


def tuned(
    config: Config, run: Callable[..., jax.Array], rates: tuple[float, ...],
    problem: Callable[[int], Problem],
) -> float:  # fmt: skip
    """The rate with the lowest mean of best losses, on problems that are used for nothing else."""
    means = []
    for rate in rates:
        losses = [
            best_of_descents(run, problem(10**6 + i), rate, jax.random.key(i))
            for i in range(config.tuning)
        ]
        means.append(np.mean(np.nan_to_num(losses, nan=np.inf)))
    return rates[int(np.argmin(means))]


# --- search over vertices -------------------------------------------------------------------


def best_of_vertices(
    X: np.ndarray, y: np.ndarray, width: int, n: int, key: jax.Array
) -> tuple[float, np.ndarray]:
    """The lowest loss of `n` convex programs at random vertices, with random output signs."""
    X = np.asarray(X)
    drawn = patterns.unpack(zonotope.sample(X, key, 4 * width * n).codes)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    chosen = np.asarray(drawn)[rng.integers(0, len(drawn), (n, width))]
    signs = rng.choice([-1, 1], (n, width))
    fits = zonotope.solve(X, np.broadcast_to(y, (n, len(y))), chosen, signs)
    losses = relative(fits.loss, y)
    return float(losses.min()), losses


def win_rate(ours: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """How often ours is lower, and its 95 % Wilson interval; a difference below 1e-6 is half a win.

    1e-6 is what a convex program's relative loss can be off by.
    """
    n, z = len(ours), 1.959964
    share = float(np.mean((ours < other - 1e-6) + 0.5 * (np.abs(ours - other) <= 1e-6)))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return share, max(centre - half, 0.0), min(centre + half, 1.0)


# --- the experiment -------------------------------------------------------------------------


def compare(config: Config, seeds: np.ndarray, out: Any) -> tuple[dict, list[dict]]:
    """Relative losses of every method, `{(family, width): {method: [seeds]}}`, and a time table."""
    losses: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    table = []
    for width in config.widths:
        runs_ = {kind: descent(config, width, kind) for kind in (ADAM, SGD)}
        rates_ = {ADAM: config.adam_rates, SGD: config.sgd_rates}
        for family, problem in families(config).items():
            rates = {kind: tuned(config, runs_[kind], rates_[kind], problem) for kind in runs_}
            _search(config, problem(10**6), width, 0)  # compiled before it is timed
            found: dict[str, list[float]] = {m: [] for m in (OURS, VERTICES, ADAM, SGD)}
            seconds: dict[str, list[float]] = {m: [] for m in found}
            for seed in seeds.tolist():
                X, y = problem(seed)
                start = time.perf_counter()
                search = _search(config, (X, y), width, seed)
                seconds[OURS].append(time.perf_counter() - start)
                found[OURS].append(float(relative(search.fit.loss[search.best], y)))
                start = time.perf_counter()
                programs = min(int(search.programs.sum()), config.programs)
                found[VERTICES].append(
                    best_of_vertices(X, y, width, programs, jax.random.key(seed))[0]
                )
                seconds[VERTICES].append(time.perf_counter() - start)
                for kind, run in runs_.items():
                    start = time.perf_counter()
                    key = jax.random.key(seed)
                    found[kind].append(best_of_descents(run, (X, y), rates[kind], key))
                    seconds[kind].append(time.perf_counter() - start)
            losses[family, width] = {m: np.array(v) for m, v in found.items()}
            for method, values in seconds.items():
                share = np.array(values) / np.array(seconds[OURS])
                table.append(
                    {"problems": family, "width": width, "method": method,
                     "rate": rates.get(method), "seconds": float(np.median(values)),
                     "times ours": float(np.median(share)),
                     "loss": float(np.mean(found[method]))}
                )  # fmt: skip
            means = ", ".join(f"{m} {np.mean(v):.4f}" for m, v in found.items())
            out.log(f"{family}, width {width}: {means}")
    return losses, table


def _search(config: Config, problem: Problem, width: int, seed: int) -> zonotope.Search:
    signs = np.random.default_rng([seed, 3]).choice([-1, 1], (config.restarts, width))
    return zonotope.local_search(
        *problem, width, jax.random.key(seed), restarts=config.restarts, output_signs=signs,
        max_steps=config.search_steps,
    )  # fmt: skip


def random_labels(config: Config, seeds: np.ndarray) -> dict[str, np.ndarray]:
    """Relative losses on random labels at the width of the polynomial selection."""
    found: dict[str, list[Any]] = {"selection": [], "one random choice": [], "width": []}
    for seed in seeds.tolist():
        rng = np.random.default_rng([seed, 7])
        X = np.column_stack(
            [
                rng.normal(size=(config.zero_examples, config.dims - 1)),
                np.ones(config.zero_examples),
            ]
        )
        y = rng.choice([-1.0, 1.0], config.zero_examples)
        codes, signs = zonotope.select_vertices(X)
        width = len(signs)
        found["selection"].append(relative(zonotope.solve(X, y, codes, signs).loss, y))
        key = jax.random.key(seed)
        found["one random choice"].append(best_of_vertices(X, y, width, 1, key)[0])
        found["width"].append(width)
    return {name: np.array(values) for name, values in found.items()}


def main(config: Config, out: Any) -> runs.Result:
    """Train on every seed's problems by every method."""
    losses, table = compare(config, out.seeds, out)
    zero = random_labels(config, out.seeds)
    columns = list(table[0])
    out.table("methods", table, columns, "Medians of seconds, means of relative losses.")
    for (family, width), by in losses.items():
        for method, values in by.items():
            out.array(f"{family}.{width}.{method}".replace(" ", "_"), values)
    for name, values in zero.items():
        out.array(f"random_labels.{name}".replace(" ", "_"), values)
    rows = []
    for (family, width), by in losses.items():
        for other in (ADAM, SGD, VERTICES):
            share, low, high = win_rate(by[OURS], by[other])
            rows.append(
                runs.Row(f"local search beats {other}", share, low, high, len(by[OURS]), "",
                         0.5, "a coin", {"problems": family, "width": width})
            )  # fmt: skip
        best = np.minimum(by[ADAM], by[SGD])
        rows.append(
            runs.Row.over("relative loss of local search", by[OURS], baseline=best,
                          baseline_name="the better of Adam and SGD", problems=family, width=width)
        )  # fmt: skip
    rows.append(
        runs.Row.over("relative loss of the selection, random labels", zero["selection"],
                      baseline=zero["one random choice"], baseline_name="one random choice",
                      width=int(zero["width"][0]))
    )  # fmt: skip
    with figures.style():
        out.figure("losses", losses_figure(losses), caption=LOSSES)
        out.figure("zonotope", path_figure(), caption=PATH)
    return runs.Result(QUESTION, answer(losses, zero), tuple(rows))


def answer(losses: dict, zero: dict[str, np.ndarray]) -> str:
    """One paragraph."""
    pooled = {
        m: np.concatenate([by[m] for by in losses.values()]) for m in (OURS, VERTICES, ADAM, SGD)
    }
    parts = []
    for other in (ADAM, SGD, VERTICES):
        share, low, high = win_rate(pooled[OURS], pooled[other])
        parts.append(f"{other} in {share:.0%} [{low:.0%}, {high:.0%}]")
    _, low, high = win_rate(pooled[OURS], np.minimum(pooled[ADAM], pooled[SGD]))
    verdict = "holds" if low > 0.5 else "does not hold" if high < 0.5 else "is not decided"
    return (
        f"Over {len(pooled[OURS])} problems the local search ends lower than "
        f"{parts[0]}, than {parts[1]} and than {parts[2]} of them, with mean relative losses of "
        + ", ".join(f"{np.mean(v):.3f} ({m})" for m, v in pooled.items())
        + f". That it beats tuned gradient descent {verdict} here (seconds are in the table). With "
        f"the {int(zero['width'][0])} units of the polynomial selection random labels are fitted "
        f"to a relative loss of {zero['selection'].max():.0e} at most."
    )


LOSSES = "Loss over that of the constant 0; a dot a problem, the bar is the mean. Lower is better."
PATH = (
    "The zonotope of nine examples in three dimensions (two features and a bias), seen from "
    "outside. A vertex is an activation pattern of the one unit; its colour is the loss of the "
    "convex program there. Along edges goes a local search, from the square to the star, dotted "
    "where it is behind. Other vertices behind are left out."
)


def losses_figure(losses: dict[tuple[str, int], dict[str, np.ndarray]]) -> Any:
    """Relative losses by method, one panel for each kind of problem."""
    names = list(dict.fromkeys(family for family, _ in losses))
    widths = list(dict.fromkeys(width for _, width in losses))
    fig, axes = plt.subplots(
        len(widths), len(names), squeeze=False,
        figsize=(2.1 * len(names) + 0.8, 2.1 * len(widths) + 0.5),
    )  # fmt: skip
    for i, width in enumerate(widths):
        for j, family in enumerate(names):
            ax, by = axes[i, j], losses[family, width]
            for k, (_, values) in enumerate(by.items()):
                spread = np.linspace(-0.22, 0.22, len(values))
                ax.plot(k + spread, values, ".", color=figures.COLOURS[k], alpha=0.6)
                ax.plot([k - 0.3, k + 0.3], [values.mean()] * 2, color="black", linewidth=1.5)
            ax.set(ylim=(0, None), xticks=range(len(by)), xticklabels=[])
            if i == len(widths) - 1:
                ax.set_xticks(range(len(by)), list(by), rotation=35, ha="right")
            if i == 0:
                ax.set_title(family)
        axes[i, 0].set_ylabel(f"relative loss, {width} units")
    return fig


def path_figure() -> Any:
    """A zonotope in three dimensions, the loss at its vertices, and the way of a search."""
    from mpl_toolkits.mplot3d.art3d import Line3DCollection
    from scipy.spatial import ConvexHull

    rng = np.random.default_rng(3)
    X = np.column_stack([rng.normal(size=(9, 2)), np.ones(9)])
    y = np.maximum(X @ np.array([1.0, -1.0, 0.3]), 0) + 0.2 * rng.normal(size=9)
    Z = zonotope.vertices(X)
    n = len(Z)
    active = np.asarray(patterns.unpack(Z.codes))
    fits = zonotope.solve(X, np.broadcast_to(y, (n, 9)), active[:, None], np.ones((n, 1)))
    losses = relative(fits.loss, y)
    searches = zonotope.local_search(
        X, y, 1, jax.random.key(0), restarts=16, output_signs=np.ones(1), neighbourhood="full"
    )
    longest = int(np.argmax(searches.steps))
    number = {row.tobytes(): i for i, row in enumerate(active)}
    path = [number[row[0].tobytes()] for row in searches.path(longest)]

    points = Z.points - Z.points.mean(axis=0)
    edges = np.argwhere(np.triu(np.asarray(patterns.hamming(Z.codes)) == 1))
    hull = ConvexHull(points)
    eye = points[path].mean(axis=0)
    azimuth = float(np.degrees(np.arctan2(eye[1], eye[0])))
    height = float(np.clip(np.degrees(np.arctan2(eye[2], np.hypot(*eye[:2]))), -35, 35))
    azimuth_, height_ = np.radians([azimuth, height])
    view = np.array([np.cos(height_) * np.cos(azimuth_), np.cos(height_) * np.sin(azimuth_),
                     np.sin(height_)])  # fmt: skip
    front = hull.equations[hull.equations[:, :3] @ view > 0]

    def seen(places: np.ndarray) -> np.ndarray:
        return np.asarray((np.abs(places @ front[:, :3].T + front[:, 3]) < 1e-9).any(axis=1))

    fig = plt.figure(figsize=(6.4, 5.0))
    ax: Any = fig.add_subplot(projection="3d", computed_zorder=False)
    shown = edges[seen(points[edges].mean(axis=1))]
    ax.add_collection3d(Line3DCollection(points[shown], colors="0.55", linewidths=0.9))
    dots = seen(points)
    marks = ax.scatter(*points[dots].T, c=losses[dots], cmap="viridis", s=34, depthshade=False,
                       edgecolor="white", linewidth=0.4, zorder=5)  # fmt: skip
    for a, b in itertools.pairwise(path):
        visible = seen(points[[a, b]].mean(axis=0, keepdims=True))[0]
        look = {"linestyle": "-", "zorder": 6} if visible else {"linestyle": ":", "zorder": 1}
        ax.plot(*points[[a, b]].T, color=figures.COLOURS[1], linewidth=2.4, **look)
    for end, marker in ((path[0], "s"), (path[-1], "*")):
        style = {"marker": marker, "markersize": 11, "linestyle": "", "markeredgewidth": 1.8}
        ax.plot(*points[[end]].T, **style, color=figures.COLOURS[1], markerfacecolor="none",
                zorder=7)  # fmt: skip
    ax.set_axis_off()
    ax.view_init(height, azimuth)
    ax.set_box_aspect(np.ptp(points, axis=0), zoom=1.35)
    fig.colorbar(marks, ax=ax, shrink=0.7, label="loss at a vertex, over that of the constant 0")
    return fig


def sites(config: Config) -> Any:
    """One unit's pre-activations on a problem, for `activjax sites`."""

    def unit(X: jax.Array, w: jax.Array) -> jax.Array:
        hidden = aj.tag(jnp.matmul(X, w.T, precision="highest"), "pre", axes="example unit")
        return jax.nn.relu(hidden).sum(axis=1)

    shapes = ((config.examples, config.dims), (config.widths[0], config.dims))
    return unit, tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
