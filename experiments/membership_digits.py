"""Does the drift under one step of gradient ascent tell what a network was trained on?

"G-Drift MIA: Membership Inference via Gradient-Induced Feature Drift" (arXiv 2604.00419) attacks a
model with a classifier on how far one ascent step on an example's own loss moves the network. Only
the abstract was at hand: steps, features and setting are ours, so nothing here reproduces or
refutes its numbers. Many equal MLPs are trained on random halves of the digits, with clean and with
noisy labels. Some are attacked; the others are shadow models. Everything that is chosen or fitted
is so on half of a target's examples (attack-fit), in the target or in shadow models, and scored on
the other half (attack-test).

An attack with drift is compared with one without that has equal labels, references and freedom: the
usual scores of a model (loss, gradient norm, margin, entropy) linearly and as piecewise linear
functions ("curved"), because drift is a curved function of them.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from scipy.special import ndtri
from scipy.stats import rankdata

import activjax as aj
from activjax import data, membership, models, runs, stats
from activjax.runs import figures

QUESTION = (
    "Which attacks tell the examples that a digit classifier was trained on from others, and does "
    "drift under a step of gradient ascent add anything to them?"
)
FPR = 0.01
AUC, TPR = "AUC", "TPR at 1 % FPR"


def _rising(name: str, values: tuple[float, ...]) -> None:
    if not values or values[0] <= 0 or list(values) != sorted(set(values)):
        raise ValueError(f"{name}: expected rising positive numbers, got {values}")


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    labels: tuple[Literal["noisy", "clean"], ...] = runs.static(("noisy", "clean"))
    models: int = runs.static(40, ge=6, help="each trained on a random half, of each seed")
    targets: int = runs.static(8, ge=1, help="of them attacked, the first ones")
    shadow_fit: int = runs.static(8, ge=1, help="of the others, to fit shadow-fit attacks on")
    widths: tuple[int, ...] = runs.static((128, 128), help="hidden layers")
    centred: bool = runs.static(True, help="pixels in [-1, 1] and not in [0, 1]")
    learning_rate: float = runs.static(1e-3, gt=0, help="of Adam")
    batch: int = runs.static(64, ge=1)
    clean_epochs: int = runs.static(60, ge=1)
    noisy_epochs: int = runs.static(150, ge=1)
    noise: float = runs.static(0.2, gt=0, le=1, help="share of labels drawn anew")
    eta: float = runs.static(1.0, gt=0, help="of the plain attack; one of unit_etas")
    unit_etas: tuple[float, ...] = runs.static((0.03, 0.1, 0.3, 1.0, 3.0))
    raw_etas: tuple[float, ...] = runs.static((0.001, 0.01, 0.1, 1.0))
    layer_etas: tuple[float, ...] = runs.static((0.3, 1.0, 3.0), help="unit steps of one layer")
    gamma: float = runs.static(1.0, ge=1, help="of RMIA; larger values only make ties")
    a: float = runs.static(0.3, ge=0, le=1, help="of RMIA")
    permutations: int = runs.static(20, ge=20, help="of the permutation control, by target")
    moments: int = runs.static(7, ge=1, help="epochs at which attacks are compared in a figure")

    def __post_init__(self) -> None:
        for name in ("unit_etas", "raw_etas", "layer_etas"):
            _rising(name, getattr(self, name))
        if not self.labels or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels: expected 'noisy', 'clean' or both, got {self.labels}")
        if self.eta not in self.unit_etas:
            raise ValueError(f"eta: expected one of unit_etas {self.unit_etas}, got {self.eta}")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths: expected positive integers, got {self.widths}")
        if self.targets + self.shadow_fit > self.models:
            raise ValueError(
                f"models: {self.targets} targets and {self.shadow_fit} models for shadow-fit need "
                f"{self.targets + self.shadow_fit}, got {self.models}"
            )

    def epochs(self, labels: str) -> int:
        """How long models are trained."""
        return self.noisy_epochs if labels == "noisy" else self.clean_epochs


class Entry(NamedTuple):
    """An attack: what it is fitted on, what it needs, and the fair comparison."""

    fitted: str
    references: bool
    against: str


TARGET, SHADOW, NONE = "target's labels", "shadow models", "nothing"
ATTACKS = {
    "loss": Entry(NONE, False, ""),
    "gradient norm": Entry(NONE, False, "loss"),
    "margin": Entry(NONE, False, "loss"),
    "entropy": Entry(NONE, False, "loss"),
    "baselines": Entry(TARGET, False, "loss"),
    "loss, curved": Entry(TARGET, False, "loss"),
    "baselines, curved": Entry(TARGET, False, "loss"),
    "activation probe": Entry(TARGET, False, "baselines, curved"),
    "drift, one step": Entry(TARGET, False, "baselines, curved"),
    "drift, chosen": Entry(TARGET, False, "baselines, curved"),
    "drift, several etas": Entry(TARGET, False, "baselines, curved"),
    "drift, layer by layer": Entry(TARGET, False, "baselines, curved"),
    "drift, other directions": Entry(TARGET, False, "baselines, curved"),
    "drift, second order": Entry(TARGET, False, "baselines, curved"),
    "baselines, curved + drift, chosen": Entry(TARGET, False, "baselines, curved"),
    "SF baselines": Entry(SHADOW, False, "loss"),
    "SF baselines, curved": Entry(SHADOW, False, "loss"),
    "SF drift, one step": Entry(SHADOW, False, "SF baselines, curved"),
    "SF drift, several etas": Entry(SHADOW, False, "SF baselines, curved"),
    "SF drift, every step": Entry(SHADOW, False, "SF baselines, curved"),
    "SF baselines, curved + drift": Entry(SHADOW, False, "SF baselines, curved"),
    "mean-OUT": Entry(NONE, True, "loss"),
    "RMIA": Entry(NONE, True, "loss"),
    "LiRA": Entry(NONE, True, "loss"),
    "LiRA + RMIA": Entry(TARGET, True, "LiRA"),
    "LiRA + RMIA + drift, chosen": Entry(TARGET, True, "LiRA + RMIA"),
    "relative baselines": Entry(SHADOW, True, "LiRA"),
    "relative baselines, curved": Entry(SHADOW, True, "LiRA"),
    "relative drift, one step": Entry(SHADOW, True, "relative baselines, curved"),
    "relative drift, several etas": Entry(SHADOW, True, "relative baselines, curved"),
    "relative baselines, curved + drift": Entry(SHADOW, True, "relative baselines, curved"),
}
#: Scores of the target alone, by their names in `membership.scores`.
ALONE = {"loss": "loss", "gradient norm": "grad_norm", "margin": "margin", "entropy": "entropy"}
SETS = ("several etas", "layer by layer", "other directions", "second order")
CURVES = ("loss", "drift, one step", "mean-OUT", "RMIA", "LiRA")
Scaling = Literal["quantile_normal", "standard"]
QUANTILE: Scaling = "quantile_normal"
SCALINGS: tuple[Scaling, ...] = (QUANTILE, "standard")
CONTROLS = {
    "blind": "a classifier of pixels",
    "permutation": "drift, one step, fitted on shuffled membership",
    "placebo, LiRA": "LiRA on a model that was trained apart from the target's membership",
    "placebo, relative": "relative baselines, curved + drift on that model",
}


# --- models and steps -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Pool:
    """Trained models of one kind of labels and one seed; the last one is the placebo.

    Attributes:
        inside: `[models, n]`, each example in half of them; the placebo's half, drawn apart, is
            row `models`.
        logits: `[models + 1, n, classes]`.
        groups: `[n]`, equal images share a number.
    """

    config: Config
    model: models.Model
    x: np.ndarray
    y: np.ndarray
    inside: np.ndarray
    groups: np.ndarray
    shadows: membership.Shadows
    logits: np.ndarray

    def params(self, i: int, moment: int | None = None) -> Any:
        """Parameters of one model, at the end or at a moment."""
        if moment is None:
            return jax.tree.map(lambda a: a[i], self.shadows.params)
        return jax.tree.map(lambda a: a[moment, i], self.shadows.snapshots)


@functools.cache
def network(config: Config) -> tuple[models.Model, optax.GradientTransformation]:
    """One object for all, so that programs are shared."""
    return models.mlp([64, *config.widths, 10]), optax.adam(config.learning_rate)


def trained(config: Config, labels: str, seed: int) -> Pool:
    """Train all models of one setting in one program."""
    split = data.digits()
    x = np.concatenate([split.train_x, split.test_x])
    y = np.concatenate([split.train_y, split.test_y])
    x = 2 * x - 1 if config.centred else x
    n = len(y)
    rng = np.random.default_rng([seed, 0])
    placebo = rng.permutation(n) < n // 2
    if labels == "noisy":  # the same noise for all models: it belongs to the data
        drawn = rng.permutation(n)[: round(config.noise * n)]
        y[drawn] = rng.integers(0, split.classes, len(drawn))
    inside = membership.half_splits(seed, n, config.models)
    epochs = config.epochs(labels)
    at = np.unique(np.geomspace(1, epochs, config.moments).round().astype(int)).tolist()
    model, optimiser = network(config)
    everyone = np.concatenate([inside, placebo[None]])
    shadows = membership.train_shadows(
        model, optimiser, x, y, everyone, key=jax.random.key(seed), epochs=epochs,
        batch=config.batch, at=at,
    )  # fmt: skip
    logits = np.asarray(all_logits(model, shadows.params, x))
    groups = membership.duplicates(x)
    return Pool(config, model, x, y, everyone, groups, shadows, logits)


@functools.partial(jax.jit, static_argnums=0)
def all_logits(model: models.Model, params: Any, x: Any) -> jax.Array:
    """`[models, n, classes]`."""
    return jax.vmap(model.apply, (0, None))(params, x)


@dataclasses.dataclass(frozen=True)
class Step:
    """One step: its size, what moves, and the label whose loss it climbs."""

    eta: float
    norm: Literal["unit", "raw"] = "unit"
    moves: str | None = None
    label: Literal["own", "rival", "predicted"] = "own"

    def __str__(self) -> str:
        moved = f" of {self.moves}" if self.moves else ""
        label = f", {self.label} label" if self.label != "own" else ""
        return f"{self.norm} {self.eta:g}{moved}{label}"


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _climb(
    model: models.Model, norm: Any, moves: str | None, params: Any, x: Any, y: Any, eta: Any
) -> membership.Drift:
    spec = membership.DriftSpec(eta, norm=norm, moves=moves, method="ghost")
    return membership.drift(model.apply, params, x, y, spec)


def climb(pool: Pool, step: Step, i: int, moment: int | None = None) -> membership.Drift:
    """The drift of all examples in model `i`."""
    logits, y = pool.logits[i], pool.y
    if step.label == "predicted":
        y = logits.argmax(-1).astype(y.dtype)
    if step.label == "rival":
        others = np.where(np.arange(logits.shape[-1]) == y[:, None], -np.inf, logits)
        y = others.argmax(-1).astype(y.dtype)
    eta = np.float32(step.eta)
    return _climb(pool.model, step.norm, step.moves, pool.params(i, moment), pool.x, y, eta)


class Columns(NamedTuple):
    """Features of several models, `[models, n, d]`, and their names."""

    values: np.ndarray
    names: tuple[str, ...]


def columns(pool: Pool, steps: Iterable[Step], some: Iterable[int]) -> Columns:
    """The features of steps in some models, without those that are constant.

    Where one layer moves, those below it stand still. Such a column means nothing, and relative to
    references it would be rounding errors, which tell how many models were averaged: in the design
    of `half_splits` that is membership itself.
    """
    values, names = [], []
    for step in steps:
        each = [membership.features(climb(pool, step, i)) for i in some]
        values.append(np.stack([np.asarray(f.values, np.float64) for f in each]))
        names += [f"{step}: {name}" for name in each[0].names]
    found = np.concatenate(values, -1)
    kept = np.flatnonzero(found.min((0, 1)) < found.max((0, 1)))
    return Columns(found[..., kept], tuple(names[k] for k in kept))


def side_by_side(*parts: Columns) -> Columns:
    """Side by side; each name once."""
    found: dict[str, np.ndarray] = {}
    for part in parts:
        found |= dict(zip(part.names, np.moveaxis(part.values, -1, 0)))
    return Columns(np.stack(list(found.values()), -1), tuple(found))


def second_order(pool: Pool, some: Iterable[int]) -> Columns:
    """What the loss rises beyond the first order, `eta |g|`, at every unit step."""
    steps = [Step(eta) for eta in pool.config.unit_etas]
    beyond = [
        [np.asarray(d.loss_drift - s.eta * jnp.asarray(d.grad_norm), np.float64) for d in drifts]
        for s, drifts in ((s, [climb(pool, s, i) for i in some]) for s in steps)
    ]
    return Columns(np.moveaxis(np.array(beyond), 0, -1), tuple(f"{s}: curvature" for s in steps))


# --- attacks --------------------------------------------------------------------------------


class Scored(NamedTuple):
    """Membership and scores of the attack-test examples of one target."""

    member: np.ndarray
    score: np.ndarray


@dataclasses.dataclass
class Found:
    """What the attacks on one kind of labels gave; lists have an entry a target.

    Attributes:
        scores: by attack.
        controls: AUC by control.
        inner: by drift and scaling, AUC inside attack-fit.
        coefs, alone: of the plain drift attack, `[d]`: coefficients, and the AUC of each feature.
        names: of these features.
        moved: `[2, layers, n]`, how each layer moved in the plain step, and membership.
        curve: by attack, AUC at every moment `[moments]`.
        epochs: the moments.
        accuracy: on members, on others; of the targets.
    """

    scores: dict[str, list[Scored]] = dataclasses.field(
        default_factory=lambda: {k: [] for k in ATTACKS}
    )
    controls: dict[str, list[float]] = dataclasses.field(
        default_factory=lambda: {k: [] for k in CONTROLS}
    )
    inner: list[dict[tuple[str, Scaling], float]] = dataclasses.field(default_factory=list)
    coefs: list[np.ndarray] = dataclasses.field(default_factory=list)
    alone: list[np.ndarray] = dataclasses.field(default_factory=list)
    names: tuple[str, ...] = ()
    moved: list[tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=list)
    curve: list[dict[str, list[float]]] = dataclasses.field(default_factory=list)
    epochs: tuple[int, ...] = ()
    accuracy: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    def chosen(self) -> list[tuple[str, Scaling]]:
        """The drift and the scaling that were best inside attack-fit, by target."""
        return [max(one, key=lambda k: one[k]) for one in self.inner]

    def auc(self, attack: str) -> np.ndarray:
        """`[targets]`."""
        return np.array([area(*s) for s in self.scores[attack]])

    def tpr(self, attack: str) -> np.ndarray:
        """`[targets]`, at FPR."""
        return np.array([rates(*s, np.array([FPR]))[0] for s in self.scores[attack]])


def area(member: np.ndarray, score: np.ndarray) -> float:
    """The AUC; intervals here are over targets."""
    return stats.auroc(score, member).value


def rates(member: np.ndarray, score: np.ndarray, fpr: np.ndarray) -> np.ndarray:
    """The largest true positive rates of thresholds with at most these false positive rates."""
    false, true = membership.roc(member, score)
    return true[np.searchsorted(false, fpr, side="right") - 1]


def normal_scores(values: np.ndarray) -> np.ndarray:
    """`[models, n, d]` to `[d, models, n]`: each column to normal scores, over all models."""
    flat = np.moveaxis(values, -1, 0).reshape(values.shape[-1], -1)
    ranks = rankdata(flat, axis=1)
    return ndtri((ranks - 0.5) / flat.shape[1]).reshape(-1, *values.shape[:2])


def curved(values: np.ndarray) -> np.ndarray:
    """`[models, n, k]` to `[models, n, 10 k]`: normal scores, and their excess over each decile.

    A linear attack on these is any piecewise linear function of each score. It must be compared
    with drift: a member's loss is low, but the lowest losses are of easy examples, seen or not, so
    that the best function of the loss is not monotone, and drift is a curved function of it.
    """
    z = np.moveaxis(normal_scores(values), 0, -1)
    knots = ndtri(np.arange(1, 10) / 10)
    return np.concatenate([z, *(np.maximum(z - knot, 0) for knot in knots)], -1)


def relative(values: np.ndarray, i: int, others: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """`[n, d, 3]`: of `values [d, models, n]` in model `i`, LiRA's ratio, mean-OUT, as it is.

    A feature is treated as LiRA treats the log-odds, with the same references.
    """
    out = []
    for v in values:
        against = v[i], v[others], inside[others]
        out += [membership.lira(*against, variance="global"), membership.mean_out(*against), v[i]]
    return np.stack(out, 1).reshape(values.shape[-1], len(values), 3)


def log_probability(odds: np.ndarray) -> np.ndarray:
    """From log-odds."""
    return -np.logaddexp(0.0, -odds)


def padded(F: np.ndarray) -> np.ndarray:
    """With columns of zeros, which count for nothing, so that attacks share compiled programs."""
    return np.pad(F, [(0, 0)] * (F.ndim - 1) + [(0, -F.shape[-1] % 64)])


def flat(F: np.ndarray) -> np.ndarray:
    """All features of an example in a row."""
    return F.reshape(len(F), -1)


def fit(F: np.ndarray, member: np.ndarray, scaling: Scaling = QUANTILE) -> membership.Attack:
    """An attack on padded features."""
    return membership.fit_attack(padded(F), member, scaling=scaling)


def scored(F: np.ndarray, member: np.ndarray, rows: np.ndarray, scaling: Scaling = QUANTILE) -> Any:
    """Scores of all examples by an attack fitted on some."""
    return fit(F[rows], member[rows], scaling).score(padded(F))


def cross_fitted(
    candidates: Mapping[str, np.ndarray], member: np.ndarray, rows: np.ndarray, seed: int
) -> dict[tuple[str, Scaling], float]:
    """AUC inside attack-fit of each candidate and scaling, the mean of two cross-fits."""
    folds = [membership.halves(seed + r, member[rows]) for r in range(2)]
    folds = [(rows[a], rows[b]) for one, other in folds for a, b in ((one, other), (other, one))]
    return {
        (name, scaling): float(
            np.mean([area(member[b], scored(F, member, a, scaling)[b]) for a, b in folds])
        )
        for name, F in candidates.items()
        for scaling in SCALINGS
    }


@dataclasses.dataclass(frozen=True)
class Measured:
    """What attacks work with: `[models, n, ...]` of some or all models of a pool.

    Attributes:
        own: by score, of all models alone, `[models + 1, n]`.
        log_p: log-probabilities of the labels, `[models + 1, n]`.
        stack, bent: the baselines as features, of all models, as they are and `curved`.
        step: the plain step's features, of targets and models for shadow-fit.
        drifts: by candidate, features of these models.
        every: all of them side by side.
        table: statistics and normal scores of drifts in all models, `[d, models + 1, n]`.
        parts: which rows of the table an attack takes.
    """

    own: dict[str, np.ndarray]
    log_p: np.ndarray
    stack: np.ndarray
    bent: np.ndarray
    step: Columns
    drifts: dict[str, Columns]
    every: Columns
    table: np.ndarray
    parts: dict[str, np.ndarray]


def gathered(pool: Pool) -> Measured:
    """All scores and drifts of a pool."""
    config = pool.config
    everyone, near = range(config.models + 1), range(config.targets + config.shadow_fit)
    e, plain = config.eta, Step(config.eta)
    unit, raw = map(Step, config.unit_etas), [Step(eta, "raw") for eta in config.raw_etas]
    layers = [*(f"layers/{k}/**" for k in range(len(config.widths))), "head/**"]
    by_layer = [Step(eta, moves=m) for m in layers for eta in config.layer_etas]
    turned = [Step(-e), Step(-e, label="rival"), Step(e, label="rival"), Step(e, label="predicted")]

    singles = {str(s): columns(pool, [s], everyone) for s in unit}
    moving = normal_scores(np.concatenate([c.values for c in singles.values()], -1))
    singles = {s: Columns(c.values[: len(near)], c.names) for s, c in singles.items()}
    drifts = {
        "several etas": side_by_side(*singles.values()),
        "layer by layer": columns(pool, by_layer, near),
        "other directions": columns(pool, [plain, *turned], near),
        "second order": side_by_side(singles[str(plain)], second_order(pool, near)),
    }
    drifts = singles | {str(s): columns(pool, [s], near) for s in raw} | drifts

    norms = [np.asarray(climb(pool, plain, i).grad_norm) for i in everyone]
    each = [membership.scores(pool.logits[i], pool.y, grad_norm=norms[i]) for i in everyone]
    own = {k: np.stack([np.asarray(s[k], np.float64) for s in each]) for k in each[0]}
    log_p = log_probability(own["confidence"])
    size = np.log(np.maximum(-own["grad_norm"], np.finfo(np.float32).tiny))
    statistics = [own["confidence"], log_p, np.exp(log_p), size, own["margin"], own["entropy"]]
    stack = np.stack([own[k] for k in ALONE.values()], -1)
    bent = curved(stack)
    table = np.concatenate([statistics, np.moveaxis(bent, -1, 0), moving])
    rows = np.arange(len(table))
    six, last = rows[: len(statistics)], rows[-len(moving) :]
    plain_at = [str(plain) == name.split(": ")[0] for name in drifts["several etas"].names]
    parts = {
        "relative baselines": six,
        "relative baselines, curved": rows[: -len(moving)],
        "relative drift, one step": last[plain_at],
        "relative drift, several etas": last,
        "relative baselines, curved + drift": rows,
    }
    every = side_by_side(*drifts.values())
    return Measured(own, log_p, stack, bent, singles[str(plain)], drifts, every, table, parts)


def attack(pool: Pool, seed: int, found: Found, out: Any) -> None:
    """All attacks on all targets of a pool; adds to `found`."""
    config, inside, has = pool.config, pool.inside, gathered(pool)
    out.log(f"{len(has.every.names)} drift features of {len(has.every.values)} models")
    fits = list(range(config.targets, config.targets + config.shadow_fit))
    near = len(has.every.values)
    features = {
        "SF baselines": has.stack,
        "SF baselines, curved": has.bent,
        "SF drift, one step": has.step.values,
        "SF drift, several etas": has.drifts["several etas"].values,
        "SF drift, every step": has.every.values,
        "SF baselines, curved + drift": np.concatenate([has.bent[:near], has.every.values], -1),
    }
    found.names = tuple(name.split(": ")[1] for name in has.step.names)

    for t in range(config.targets):
        member, step = inside[t], has.step.values[t]
        rows, test = split(pool, t, seed)
        others = np.delete(np.arange(config.models), t)
        scores = {name: has.own[k][t] for name, k in ALONE.items()}
        scores |= references(pool, t, rows, has.own["confidence"], has.log_p)
        # Shadow-fit attacks never see an example of attack-test, in any model.
        labels = inside[fits][:, rows].ravel()
        for name, F in features.items():
            taught = fit(np.concatenate(F[fits][:, rows]), labels)
            scores[name] = taught.score(padded(F[t]))

        drifts = {name: c.values[t] for name, c in has.drifts.items()}
        found.inner.append(cross_fitted(drifts, member, rows, seed))
        best = drifts[found.chosen()[-1][0]]
        stack, bent = has.stack[t], has.bent[t]
        known = np.stack([scores[k] for k in ("LiRA", "RMIA", "mean-OUT")], 1)
        known = np.concatenate([known, stack], 1)
        given = {f"drift, {name}": drifts[name] for name in SETS} | {
            "drift, chosen": best,
            "baselines": stack,
            "loss, curved": bent[:, :: stack.shape[1]],
            "baselines, curved": bent,
            "baselines, curved + drift, chosen": np.concatenate([bent, best], 1),
            "LiRA + RMIA": known,
            "LiRA + RMIA + drift, chosen": np.concatenate([known, best], 1),
            "activation probe": np.asarray(last_hidden(pool.model, pool.params(t), pool.x)),
        }
        for name, F in given.items():
            # The scaling is chosen for all: drift must not gain by having had the choice.
            inside_fit = cross_fitted({name: F}, member, rows, seed)
            _, scaling = max(inside_fit, key=inside_fit.__getitem__)
            scores[name] = scored(F, member, rows, scaling)

        light = fit(step[rows], member[rows])
        scores["drift, one step"] = light.score(padded(step))
        found.coefs.append(light.coef[: step.shape[1]])
        found.alone.append(np.array([area(member[test], column) for column in step[test].T]))

        few, who = has.table[..., rows], inside[:, rows]
        apart = [relative(few, i, others[others != i], who) for i in fits]
        mine, wrong = (relative(has.table, i, others, inside) for i in (t, config.models))
        for name, part in has.parts.items():
            taught = fit(np.concatenate([flat(F[:, part]) for F in apart]), labels)
            scores[name] = taught.score(padded(flat(mine[:, part])))
            scores["placebo, relative"] = taught.score(padded(flat(wrong[:, part])))
        for name in ATTACKS:
            found.scores[name].append(Scored(member[test], scores[name][test]))

        blind = membership.blind(pool.x[rows], member[rows], pool.x[test], member[test])
        shuffled = membership.permuted(
            step[rows], member[rows], step[test], member[test], draws=config.permutations,
            seed=seed + t,
        )  # fmt: skip
        odds = has.own["confidence"]
        scores["placebo, LiRA"] = membership.lira(
            odds[-1], odds[others], inside[others], variance="global"
        )
        values = {"blind": blind.auc.value, "permutation": shuffled.mean}
        for name in CONTROLS:
            value = values[name] if name in values else area(member[test], scores[name][test])
            found.controls[name].append(value)
        right = pool.logits[t].argmax(-1) == pool.y
        found.accuracy.append((right[member].mean(), right[~member].mean()))
        found.moved.append((moves(pool, Step(config.eta), t), member))
        aucs = [f"{name} {found.auc(name)[-1]:.3f}" for name in CURVES]
        out.log(f"target {t}: {', '.join(aucs)}")
    follow(pool, seed, found)


def split(pool: Pool, t: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Attack-fit and attack-test; the first less one example in some targets, for one shape."""
    rows, test = membership.halves(seed, pool.inside[t], pool.groups)
    return rows[: len(pool.y) // 2], test


def references(
    pool: Pool, t: int, rows: np.ndarray, odds: np.ndarray, log_p: np.ndarray
) -> dict[str, np.ndarray]:
    """The published attacks with references; RMIA's population is attack-fit's non-members."""
    config = pool.config
    others = np.delete(np.arange(config.models), t)
    inside = pool.inside[others]
    z = rows[~pool.inside[t][rows]]
    return {
        "mean-OUT": membership.mean_out(-log_p[t], -log_p[others], inside),
        "RMIA": membership.rmia(
            log_p[t], log_p[others], inside, log_p[t][z], log_p[others][:, z], inside[:, z],
            gamma=config.gamma, a=config.a,
        ),
        "LiRA": membership.lira(odds[t], odds[others], inside, variance="global"),
    }  # fmt: skip


@functools.partial(jax.jit, static_argnums=0)
def last_hidden(model: models.Model, params: Any, x: Any) -> jax.Array:
    """`[n, width]`."""
    acts = aj.capture(model.apply, "layers/*/post", out=False)(params, x)
    return list(acts.values())[-1]


def moves(pool: Pool, step: Step, i: int) -> np.ndarray:
    """`[2, layers, n]`: lengths of the moves of hidden layers and logits; turns and the KL."""
    d = climb(pool, step, i)
    if d.out is None or d.out.kl is None:
        raise TypeError("the network has no logits")
    hidden = [d.sites[name] for name in d.names]
    lengths = [*(h.norm_mean for h in hidden), d.out.norm]
    return np.stack([np.stack(lengths), np.stack([*(h.turn for h in hidden), d.out.kl])])


def follow(pool: Pool, seed: int, found: Found) -> None:
    """The main attacks at moments of the training."""
    config = pool.config
    found.epochs = pool.shadows.at
    curves = [{name: [] for name in CURVES} for _ in range(config.targets)]
    for m in range(len(found.epochs)):
        params = jax.tree.map(lambda a, m=m: a[m], pool.shadows.snapshots)
        logits = all_logits(pool.model, params, pool.x)
        y = jnp.broadcast_to(pool.y, logits.shape[:2])
        odds = np.asarray(membership.confidence(logits, y), np.float64)
        log_p = log_probability(odds)
        for t, curve in enumerate(curves):
            member = pool.inside[t]
            rows, test = split(pool, t, seed)
            F = np.asarray(membership.features(climb(pool, Step(config.eta), t, m)).values)
            scores = references(pool, t, rows, odds, log_p)
            scores |= {"loss": log_p[t], "drift, one step": scored(F, member, rows)}
            for name in CURVES:
                curve[name].append(area(member[test], scores[name][test]))
    found.curve += curves


# --- report ---------------------------------------------------------------------------------


def main(config: Config, out: Any) -> runs.Result:
    """Train, attack, compare."""
    found = {labels: Found() for labels in config.labels}
    for labels, one in found.items():
        for seed in out.seeds.tolist():
            attack(trained(config, labels, seed), seed, one, out)
        for kind, values in (("auc", one.auc), ("tpr", one.tpr)):
            out.array(f"{labels}.{kind}", np.stack([values(name) for name in ATTACKS]))
        out.array(f"{labels}.coefs", np.stack(one.coefs))
    rows = tuple(row for labels, one in found.items() for row in summary(labels, one))
    out.table("attacks", table(found, rows), COLUMNS, TABLE)
    out.table(
        "choice", choice_table(found), ("labels", "drift", "scaling", "AUC", "chosen"), CHOICE
    )
    with figures.style():
        out.figure("attacks", attacks_figure(found), caption=ATTACKED)
        out.figure("roc", roc_figure(found), caption=ROC)
        out.figure("epochs", epochs_figure(found), caption=EPOCHS)
        out.figure("layers", layers_figure(found), caption=LAYERS)
        out.figure("features", features_figure(found), caption=FEATURES)
    return runs.Result(QUESTION, answer(config, found, rows), rows)


def summary(labels: str, one: Found) -> list[runs.Row]:
    """Every number of one kind of labels."""
    auc = {name: one.auc(name) for name in ATTACKS}
    rows = []
    for name, entry in ATTACKS.items():
        where = {"labels": labels, "attack": name}
        base = (0.5, "chance") if not entry.against else (auc[entry.against], entry.against)
        rows.append(runs.Row.over(AUC, auc[name], baseline=base[0], baseline_name=base[1], **where))
        rows.append(
            runs.Row.over(TPR, one.tpr(name), baseline=FPR, baseline_name="guessing", **where)
        )
        for other in dict.fromkeys([entry.against, "baselines", "LiRA", "RMIA"]):
            if other and other != name:
                rows.append(
                    runs.Row.over(f"{AUC} less that of {other}", auc[name] - auc[other],
                                  baseline=0.0, baseline_name="no difference", **where)
                )  # fmt: skip
    for name, values in one.controls.items():
        rows.append(
            runs.Row.over("AUC of a control", values, baseline=0.5, baseline_name="chance",
                          labels=labels, control=name)
        )  # fmt: skip
    inside, outside = np.transpose(one.accuracy)
    rows.append(
        runs.Row.over("accuracy on members", inside, baseline=outside,
                      baseline_name="on others", labels=labels)
    )  # fmt: skip
    return rows


def find(rows: Iterable[runs.Row], labels: str, name: str, which: str) -> runs.Row:
    """The row of an attack or a control."""
    return next(
        r
        for r in rows
        if r.name == name
        and r.where["labels"] == labels
        and which in (r.where.get("attack"), r.where.get("control"), "")
    )


def interval(row: runs.Row, sign: str = "") -> str:
    """A value with its interval."""
    ends = "" if row.low is None else f" [{row.low:{sign}.3f}, {row.high:{sign}.3f}]"
    return f"{row.value:{sign}.3f}{ends}"


def verdicts(rows: Any, labels: str, other: str) -> str:
    """Which attacks with drift are above another one, below it, or neither, by the interval.

    Args:
        rows: all.
        labels: which setting.
        other: an attack; "" for the like-for-like comparison of each.
    """
    sides: dict[str, list[tuple[float, str]]] = {"above": [], "below": [], "undecided": []}
    drifts = {name: entry for name, entry in ATTACKS.items() if "drift" in name}
    for name, entry in drifts.items():
        row = find(rows, labels, f"{AUC} less that of {other or entry.against}", name)
        side = "undecided"
        if row.low is not None and row.high is not None:
            side = "above" if row.low > 0 else "below" if row.high < 0 else "undecided"
        sides[side].append((row.value, f"'{name}' {row.value:+.3f}"))
    parts = []
    for side, some in sides.items():
        texts = [text for _, text in sorted(some, reverse=True)]
        if len(texts) > 4:
            texts = [f"from {texts[0]} to {texts[-1]}"]
        parts.append(f"{side} in {len(some)}" + (f" ({', '.join(texts)})" if some else ""))
    return f"{', '.join(parts)} of {len(drifts)}"


def answer(config: Config, found: Mapping[str, Found], rows: Any) -> str:
    """Which attacks win, and where drift loses."""
    parts = []
    for labels, one in found.items():
        get = functools.partial(find, rows, labels)
        auc = {name: get(AUC, name) for name in ATTACKS}
        text = {name: interval(row) for name, row in auc.items()}
        best = []
        for given, group in groups().items():
            pair = [
                max((k for k in group if ("drift" in k) == drift), key=lambda k: auc[k].value)
                for drift in (False, True)
            ]
            best.append(f"{given} " + " and ".join(f"'{k}' {text[k]}" for k in pair))
        low = max(ATTACKS, key=lambda k: get(TPR, k).value)
        right = get("accuracy on members", "")

        def less(other: str) -> str:
            row = find(rows, labels, f"{AUC} less that of {other}", "drift, one step")  # noqa: B023
            return interval(row, "+")

        (name, scaling), count = collections.Counter(one.chosen()).most_common(1)[0]
        parts.append(
            f"With {labels} labels (accuracy {right.value:.2f} on members, {right.baseline:.2f} on "
            f"others) the AUC of the loss is {text['loss']}, of four baselines together "
            f"{text['baselines']}, of piecewise linear functions of them "
            f"{text['baselines, curved']}, of a probe of activations {text['activation probe']}; "
            f"of one unit step of {config.eta:g} {text['drift, one step']} fitted on the target's "
            f"labels ({less('baselines')} from the baselines, {less('baselines, curved')} from "
            f"their functions) and {text['SF drift, one step']} on shadow models, of the drift "
            f"chosen on attack-fit {text['drift, chosen']} (most often '{name}' with "
            f"{'normal scores' if scaling == QUANTILE else 'standard scaling'}, {count} of "
            f"{len(one.inner)}); with references mean-OUT has {text['mean-OUT']}, RMIA "
            f"{text['RMIA']}, LiRA {text['LiRA']}. The highest AUC without and with drift: "
            f"{'; '.join(best)}. The highest {TPR} is that of '{low}', {interval(get(TPR, low))} "
            f"(LiRA {interval(get(TPR, 'LiRA'))}, loss {interval(get(TPR, 'loss'))}). By intervals "
            "of the paired difference, attacks with drift are, against their like without drift, "
            f"{verdicts(rows, labels, '')}; against LiRA {verdicts(rows, labels, 'LiRA')}; against "
            f"RMIA {verdicts(rows, labels, 'RMIA')}. " + controls(rows, labels)
        )
    n = len(next(iter(found.values())).inner)
    parts.append(
        f"Intervals are 95 % t intervals over {n} targets, which share one data set and their "
        "references: they say how it varies over models, not over data, and are not corrected for "
        "the number of attacks. A TPR at 0.1 % would need 1000 non-members in attack-test."
    )
    return " ".join(parts)


def controls(rows: Any, labels: str) -> str:
    """Which controls are above chance by their intervals: then attacks are flattered."""
    found = {k: find(rows, labels, "AUC of a control", k) for k in CONTROLS}
    known = {k: r.low for k, r in found.items() if r.low is not None}
    if len(known) < len(found):
        return "One target tells nothing of the controls."
    off = [f"{k} {interval(found[k])}" for k, low in known.items() if low > 0.5]
    return f"CONTROLS ABOVE CHANCE: {', '.join(off)}." if off else "No control is above chance."


COLUMNS = ("labels", "attack", "fitted on", "references", "AUC", "± AUC", "TPR", "± TPR",
           "less comparison", "± comparison", "comparison", "less LiRA", "± LiRA")  # fmt: skip
TERMS = (
    "Baselines: loss, gradient norm, margin, entropy; curved: piecewise linear functions of each. "
    "SF: fitted on shadow models. Relative: fitted on shadow models, each feature as LiRA's ratio, "
    "as difference to OUT models, and as it is; with log-odds and probability as further features."
)
TABLE = (
    "All attacks and controls: AUC and true positive rate at 1 % false positives on attack-test, "
    "means over targets with half-widths of their 95 % t intervals; and paired differences of the "
    f"AUC to the like-for-like comparison and to LiRA. Controls should be at .5. {TERMS}"
)
CHOICE = (
    "What was chosen from: the AUC inside attack-fit (cross-fitted, mean over targets), and "
    "for how many targets it was the best."
)
ATTACKED = (
    "AUC on attack-test. Points: means over targets; bars: 95 % t intervals over targets (one data "
    "set, shared references). Dashed: LiRA; dotted: chance. Colours: what an attack is given. "
    f"{TERMS}"
)
ROC = (
    "ROC curves on logarithmic axes: the mean over targets of the true positive rate at each false "
    "positive rate, with 95 % t bands. Dotted: guessing. Left of the grey line a rate is less than "
    "one non-member of attack-test."
)
EPOCHS = "AUC on attack-test while the models train. Bands: 95 % t intervals over targets."
LAYERS = (
    "How one unit step on an example's own loss moves hidden layers and logits: above the length "
    "(logarithmic axis), below how far a hidden layer turns (1 - cosine) and the KL divergence of "
    "the prediction, by their medians over others. Distributions over examples of all targets."
)
FEATURES = (
    "Left: coefficients of the attack on one drift step (log-odds of membership for a normal "
    "score; the features are correlated, so that they say what the attack uses, not what each "
    "feature knows). Right: the AUC of each feature alone, on attack-test, as it is: below .5 "
    "members have smaller values. Bars: 95 % t intervals over targets."
)


def table(found: Mapping[str, Found], rows: Any) -> list[list[Any]]:
    """A line an attack and a control."""

    def numbers(row: runs.Row | None) -> list[Any]:
        if row is None:
            return [None, None]
        half = None if row.high is None else round(row.high - row.value, 3)
        return [round(row.value, 3), half]

    lines = []
    for labels in found:
        get = functools.partial(find, rows, labels)
        for name, (fitted, references, other) in ATTACKS.items():
            both = [
                get(f"{AUC} less that of {k}", name) if k and k != name else None
                for k in (other, "LiRA")
            ]
            lines.append(
                [labels, name, fitted, references, *numbers(get(AUC, name)),
                 *numbers(get(TPR, name)), *numbers(both[0]), other or None, *numbers(both[1])]
            )  # fmt: skip
        for name, what in CONTROLS.items():
            row = numbers(get("AUC of a control", name))
            lines.append([labels, f"control: {name}", what, None, *row, *[None] * 7])
    return lines


def choice_table(found: Mapping[str, Found]) -> list[list[Any]]:
    """A line a drift and scaling."""
    lines = []
    for labels, one in found.items():
        counts = collections.Counter(one.chosen())
        for name, scaling in one.inner[0]:
            mean = float(np.mean([inner[name, scaling] for inner in one.inner]))
            kind = "normal scores" if scaling == QUANTILE else scaling
            lines.append([labels, name, kind, round(mean, 3), counts[name, scaling]])
    return lines


def _panels(found: Mapping[str, Found], height: float, rows: int = 1, **options: Any) -> Any:
    size = (4.6 * len(found), height)
    options = {"sharey": True, **options}
    fig, axes = plt.subplots(rows, len(found), figsize=size, squeeze=False, **options)
    for ax, labels in zip(axes[0], found):
        ax.set_title(f"{labels} labels")
    return fig, axes if rows > 1 else axes[0]


def groups() -> dict[str, list[str]]:
    """Attacks by what they are given."""
    return {
        "target alone": [k for k, e in ATTACKS.items() if not e.references and e.fitted != SHADOW],
        "shadow models": [k for k, e in ATTACKS.items() if not e.references and e.fitted == SHADOW],
        "references": [k for k, e in ATTACKS.items() if e.references],
    }


def attacks_figure(found: Mapping[str, Found]) -> Any:
    """AUC of every attack and control."""
    fig, axes = _panels(found, 7.2)
    names = [*ATTACKS, *(f"control: {k}" for k in CONTROLS)]
    y = np.arange(len(names))[::-1]
    kinds = groups() | {"control": names[len(ATTACKS) :]}
    for ax, one in zip(axes, found.values()):
        values = np.stack([*(one.auc(k) for k in ATTACKS), *one.controls.values()])
        mean, half = stats.mean_interval(values.T)
        for (kind, some), colour in zip(kinds.items(), ("#0072B2", "#009E73", "#D55E00", "grey")):
            at = np.isin(names, some)
            bar = {"fmt": "o", "color": colour, "elinewidth": 1.2, "capsize": 2}
            ax.errorbar(mean[at], y[at], xerr=half[at], label=kind, **bar)
        ax.axvline(mean[list(ATTACKS).index("LiRA")], color="black", linestyle="--", linewidth=1)
        ax.axvline(0.5, color="grey", linestyle=":", linewidth=1.4)
        ax.set(xlabel="AUC")
    axes[0].set_yticks(y, names)
    figures.legend_below(fig, axes, ncols=4)
    return fig


SHOWN = ("loss", "baselines, curved", "drift, one step", "SF drift, every step", "RMIA", "LiRA",
         "relative baselines, curved + drift")  # fmt: skip


def roc_figure(found: Mapping[str, Found]) -> Any:
    """True against false positives."""
    fig, axes = _panels(found, 4.6)
    for ax, one in zip(axes, found.values()):
        least = 1 / max((~s.member).sum() for s in one.scores["loss"])
        grid = np.geomspace(least / 2, 1, 80)
        for name, colour in zip(SHOWN, figures.COLOURS):
            curves = np.stack([rates(*s, grid) for s in one.scores[name]])
            mean, half = stats.mean_interval(curves)
            ax.step(grid, mean, where="post", label=name, color=colour)
            low = np.maximum(mean - half, least / 10)
            ax.fill_between(grid, low, mean + half, step="post", color=colour, alpha=0.15, lw=0)
        ax.plot(grid, grid, color="grey", linestyle=":", label="guessing")
        ax.axvline(least, color="lightgrey", linewidth=1)
        ax.set(xscale="log", yscale="log", xlabel="false positive rate", xlim=(grid[0], 1),
               ylim=(grid[0], 1.05))  # fmt: skip
    axes[0].set_ylabel("true positive rate")
    figures.legend_below(fig, axes, ncols=4)
    return fig


def epochs_figure(found: Mapping[str, Found]) -> Any:
    """AUC while training."""
    fig, axes = _panels(found, 3.8)
    for ax, one in zip(axes, found.values()):
        for name in CURVES:
            figures.band(ax, one.epochs, np.stack([c[name] for c in one.curve]), name)
        ax.axhline(0.5, color="grey", linestyle=":", linewidth=1.4)
        ax.set(xscale="log", xlabel="epochs")
        figures.plain_ticks(ax.xaxis, one.epochs)
    axes[0].set_ylabel("AUC")
    figures.legend_below(fig, axes, ncols=5)
    return fig


def layers_figure(found: Mapping[str, Found]) -> Any:
    """Distributions of the drift by layer, of members and of others."""
    fig, axes = _panels(found, 6.0, rows=2, sharey="row")
    for labels, column in zip(found, axes.T):
        moved = np.concatenate([m for m, _ in found[labels].moved], -1)
        member = np.concatenate([m for _, m in found[labels].moved])
        at = np.arange(moved.shape[1])
        for ax, values, last in zip(column, moved, ("logits", "logits (KL)")):
            if ax is column[0]:
                values = np.log10(np.maximum(values, np.finfo(np.float32).tiny))
                ax.yaxis.set_major_formatter(lambda v, _: f"{10**v:.2g}")
            else:
                values = values / np.median(values[:, ~member], axis=1, keepdims=True)
            for side, who, colour in (("low", member, 0), ("high", ~member, 1)):
                drawn = ax.violinplot(
                    [v[who] for v in values], at, side=side, widths=0.8, showmedians=True,
                    showextrema=False,
                )  # fmt: skip
                for body in drawn["bodies"]:
                    body.set(facecolor=figures.COLOURS[colour], alpha=0.6)
                drawn["cmedians"].set(color=figures.COLOURS[colour])
                label = ("members", "others")[colour]
                ax.plot([], [], color=figures.COLOURS[colour], lw=6, label=label)
            ax.set_xticks(at, [*(f"hidden {k + 1}" for k in at[:-1]), last])
    axes[0, 0].set_ylabel("length of the move")
    axes[1, 0].set_ylabel("turn or KL (median of others: 1)")
    figures.legend_below(fig, axes)
    return fig


def features_figure(found: Mapping[str, Found]) -> Any:
    """Coefficients of the plain attack, and what each feature tells alone."""
    fig, axes = plt.subplots(1, 2, figsize=(9.2, 4.2), sharey=True)
    for k, (labels, one) in enumerate(found.items()):
        names = [name.replace("_", " ").replace("out ", "logits ") for name in one.names]
        for layer in range(9):
            names = [n.replace(f"layers/{layer}/post", f"hidden {layer + 1}") for n in names]
        y = np.arange(len(names))[::-1] + 0.2 * (0.5 - k)
        for ax, values in zip(axes, (one.coefs, one.alone)):
            mean, half = stats.mean_interval(np.stack(values))
            bar = {"fmt": "o", "color": figures.COLOURS[k], "elinewidth": 1.2, "capsize": 2}
            ax.errorbar(mean, y, xerr=half, label=f"{labels} labels", **bar)
        axes[0].set_yticks(np.arange(len(names))[::-1], names)
    for ax, at, xlabel in zip(axes, (0.0, 0.5), ("coefficient", "AUC of the feature alone")):
        ax.axvline(at, color="grey", linestyle=":", linewidth=1.4)
        ax.set(xlabel=xlabel)
    figures.legend_below(fig, axes)
    return fig


def sites(config: Config) -> Any:
    """The network, for `activjax sites`."""
    model, _ = network(config)
    params = jax.eval_shape(model.init, jax.random.key(0))
    return model.apply, (params, jax.ShapeDtypeStruct((config.batch, 64), jnp.float32))
