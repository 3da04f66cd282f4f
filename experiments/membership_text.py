"""Does the drift under one step of gradient ascent tell what a language model was trained on?

"G-Drift MIA: Membership Inference via Gradient-Induced Feature Drift" (arXiv 2604.00419) attacks a
model with a classifier on how far one ascent step on an example's own loss moves the network. Only
the abstract was at hand: steps, features and setting are ours, so nothing here reproduces or
refutes its numbers. Equal decoders are trained on random halves of the same pool of short pieces
of docstrings, near-duplicates dropped, and attacked while they learn them by heart. One more is
trained on other pieces: the reference model. Each of the equal ones is a target, with the others as
its references. Everything that is chosen or fitted is so on half of a target's examples
(attack-fit) or on other targets, and scored on the other half. Beside ascents stand descents: the
same features of a step down the loss.
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from scipy.special import ndtri
from scipy.stats import rankdata

from activjax import data, membership, models, runs, stats, training
from activjax.runs import figures

QUESTION = (
    "Which attacks tell the texts that a small language model was trained on from others, how "
    "early in training, and does drift under a step of gradient ascent add anything to them?"
)
FPR, LOW_FPR = 0.01, 0.001
AUC, TPR, LOW_TPR = "AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR"
#: Folders of the library whose docstrings are tables of one form.
LEFT_OUT = ("pydoc_data/*", "encodings/*")


class Step(NamedTuple):
    """One step: its norm, and its length; a negative one goes down the loss."""

    norm: str
    eta: float

    def __str__(self) -> str:
        return f"{self.norm} {self.eta:g}"


def parsed(text: str) -> Step:
    """A step from text such as "unit 1"."""
    norm, _, eta = text.partition(" ")
    try:
        step = Step(norm, float(eta))
    except ValueError:
        step = Step("", 0.0)
    if norm not in ("raw", "unit") or not step.eta or not np.isfinite(step.eta):
        raise ValueError(f"steps: expected 'unit' or 'raw' and a length other than 0, got {text!r}")
    return step


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    pool: int = runs.static(1600, ge=64, help="texts, of each seed; a target trains on half")
    other_texts: int = runs.static(1600, ge=32, help="that the reference model trains on")
    length: int = runs.static(48, ge=16, help="bytes of a text")
    modules: int | None = runs.static(None, ge=1, help="of the library, at random; None for all")
    near: float = runs.static(0.5, gt=0, le=1, help="Jaccard index that makes near-duplicates")
    targets: int = runs.static(8, ge=8, help="in pairs, one on each half of the pool")
    shadow_fit: int = runs.static(4, ge=1, help="other targets, to fit shadow-fit attacks on")
    layers: int = runs.static(2, ge=1)
    width: int = runs.static(64, ge=8)
    heads: int = runs.static(4, ge=1)
    learning_rate: float = runs.static(3e-3, gt=0, help="of Adam")
    batch: int = runs.static(32, ge=1)
    moments: tuple[int, ...] = runs.static((8, 20, 45), help="epochs; the middle one is in detail")
    reference_epochs: int = runs.static(12, ge=1, help="of the reference model")
    steps: tuple[str, ...] = runs.static(
        ("raw 0.1", "raw 1", "unit 0.1", "unit 1", "unit -0.3", "unit -1"),
        help="norm and length of drift steps; negative ones go down the loss",
    )
    pair: tuple[str, ...] = runs.static(("raw 1", "unit 1"), help="steps of one attack together")
    shown: tuple[str, ...] = runs.static(("unit 1", "unit -0.3"), help="steps in figures")
    prefix: int = runs.static(47, ge=1, help="bytes of a non-member put before texts, for ReCaLL")
    k: float = runs.static(0.2, gt=0, le=1, help="of Min-K% and Min-K%++")
    gamma: float = runs.static(1.0, ge=1, help="of RMIA; larger values only make ties")
    a: tuple[float, ...] = runs.static((0.3, 0.6, 1.0), help="of RMIA, chosen on attack-fit")
    permutations: int = runs.static(20, ge=20, help="of the permutation control, by target")

    def __post_init__(self) -> None:
        known = [str(parsed(step)) for step in self.steps]
        if not known or len(set(known)) < len(known):
            raise ValueError(f"steps: expected different steps, at least one, got {self.steps}")
        for name in ("pair", "shown"):
            chosen = [str(parsed(step)) for step in getattr(self, name)]
            missing = [step for step in chosen if step not in known]
            if missing:
                raise ValueError(f"{name}: {missing[0]!r} is none of the steps {known}")
            if len(set(chosen)) != 2 or len(chosen) != 2:
                raise ValueError(f"{name}: expected two different steps, got {chosen}")
        if not {True, False} <= {parsed(step).eta > 0 for step in self.steps}:
            raise ValueError(f"steps: expected ascents and descents (negative), got {self.steps}")
        if (
            not self.moments
            or list(self.moments) != sorted(set(self.moments))
            or self.moments[0] < 1
        ):
            raise ValueError(f"moments: expected rising positive integers, got {self.moments}")
        if self.pool % 4:
            raise ValueError(f"pool: expected a multiple of 4, for equal halves, got {self.pool}")
        if self.targets % 2:
            raise ValueError(
                f"targets: expected an even number, they come in pairs, got {self.targets}"
            )
        if self.shadow_fit > self.targets - 2:
            raise ValueError(
                f"shadow_fit: expected at most {self.targets - 2}, the targets but a pair, got "
                f"{self.shadow_fit}"
            )
        for name, size in (("pool", self.pool // 2), ("other_texts", self.other_texts)):
            if self.batch > size:
                raise ValueError(f"batch: {self.batch} is more than {size}, by {name}")
        if self.prefix >= self.length:
            raise ValueError(f"prefix: expected less than length {self.length}, got {self.prefix}")
        if not self.a or not all(0 <= a <= 1 for a in self.a):
            raise ValueError(f"a: expected numbers in [0, 1], got {self.a}")

    @property
    def middle(self) -> int:
        """The moment that is shown in detail."""
        return len(self.moments) // 2


# --- texts and models -----------------------------------------------------------------------


@functools.cache
def pieces(length: int, modules: int | None) -> tuple[bytes, ...]:
    """All different pieces of the library's docstrings, or of some modules', in their order."""
    found: dict[bytes, None] = {}
    sources = library().texts
    for i in np.random.default_rng(0).permutation(len(sources))[:modules]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the library's own source warns of
            tree = ast.parse(sources[i])
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                said = (ast.get_docstring(node) or "").encode()
                starts = range(0, len(said) - length + 1, length)
                found |= dict.fromkeys(said[i : i + length] for i in starts)
    return tuple(found)


@functools.cache
def library() -> data.Corpus:
    """The standard library's source."""
    return data.stdlib(leave_out=LEFT_OUT)


def data_files(config: Config) -> list[Any]:
    """The library's files: another Python is another run."""
    return [*library().files]


def drawn(config: Config, seed: int) -> tuple[list[bytes], int]:
    """Texts in random order, one of each group of near-duplicates, and how many that left out."""
    need = config.pool + config.other_texts + 1
    every = pieces(config.length, config.modules)
    order = np.random.default_rng([seed, 0]).permutation(len(every))[: need + need // 4 + 16]
    some = [every[i] for i in order]
    groups = membership.near_duplicates(some, threshold=config.near)
    first = np.sort(np.unique(groups, return_index=True)[1])
    if len(first) < need:
        raise ValueError(
            f"pool, other_texts: {need} texts are needed, and of {len(some)} pieces of "
            f"{config.length} bytes {len(first)} are no near-duplicates of others: take fewer"
        )
    return [some[i] for i in first[:need]], int(first[need - 1]) + 1 - need


@functools.cache
def network(config: Config) -> tuple[models.Decoder, optax.GradientTransformation, Any]:
    """One object for all, so that programs are shared.

    Rotary positions: with learned ones, texts after a prefix would stand where none was trained.
    """
    model = models.decoder(
        vocab=data.byte_tokenizer().vocab, context=config.prefix + config.length - 1,
        layers=config.layers, width=config.width, heads=config.heads, positions="rotary",
    )  # fmt: skip
    return model, optax.adam(config.learning_rate), training.next_token(model)


@dataclasses.dataclass(frozen=True)
class Pool:
    """Texts, the targets that were trained on halves of them, and the reference model.

    Attributes:
        texts: the pool, `[n]`.
        tokens: `[n, length]`.
        sizes: `[n]`, bytes of each text under zlib.
        prefix: the tokens that ReCaLL puts before a text.
        inside: `[targets, n]`; targets 2 k and 2 k + 1 are a pair, on complementary halves.
        shadows: the targets at every moment.
        reference: parameters of the reference model, trained on no text of the pool.
        left_out: near-duplicates that were dropped on the way to so many texts.
    """

    config: Config
    texts: list[bytes]
    tokens: np.ndarray
    sizes: np.ndarray
    prefix: np.ndarray
    inside: np.ndarray
    shadows: membership.Shadows
    reference: Any
    left_out: int

    def params(self, i: int, moment: int) -> Any:
        """Parameters of a target at a moment."""
        return jax.tree.map(lambda a: a[moment, i], self.shadows.snapshots)

    def others(self, *targets: int) -> np.ndarray:
        """The targets of other pairs: references for these.

        Each text is in exactly half of them, whoever is the target. With the other one of the pair
        among them a member would have one model less that trained on it than a non-member, means
        over fewer models are noisier, and attacks would measure that.
        """
        models = np.arange(self.config.targets)
        return models[~np.isin(models // 2, np.array(targets) // 2)]


def trained(config: Config, seed: int) -> Pool:
    """Train the targets in one program, and the reference model."""
    texts, left_out = drawn(config, seed)
    encode = data.byte_tokenizer().encode
    tokens = np.stack([encode(text) for text in texts])
    n = config.pool
    pairs = [membership.half_splits(seed * config.targets + k, n, 2)
             for k in range(config.targets // 2)]  # fmt: skip
    inside = np.concatenate(pairs)
    model, optimiser, loss = network(config)
    keys = jax.random.split(jax.random.key(seed))
    shadows = membership.train_shadows(
        model, optimiser, tokens[:n], None, inside, key=keys[0], epochs=config.moments[-1],
        batch=config.batch, loss=loss, at=config.moments, chunk=2,
    )  # fmt: skip
    other = membership.train_shadows(
        model, optimiser, tokens[n:-1], None, np.ones((1, config.other_texts), bool), key=keys[1],
        epochs=config.reference_epochs, batch=config.batch, loss=loss,
    )  # fmt: skip
    reference = jax.tree.map(lambda a: a[0], other.params)
    sizes, prefix = membership.zlib_bytes(texts[:n]), tokens[-1, : config.prefix]
    return Pool(config, texts[:n], tokens[:n], sizes, prefix, inside, shadows, reference, left_out)


# --- what one model says --------------------------------------------------------------------

#: Scores of the target alone that the stack has, by their names in `membership.scores`.
FIVE = {
    "loss": "loss",
    "zlib": "zlib",
    "Min-K%": "min_k",
    "Min-K%++": "min_k_plus_plus",
    "gradient norm": "grad_norm",
}
ALONE = {**FIVE, "ReCaLL": "recall", "reference": "reference"}
#: Examples at a time: activations of more do not stay in a CPU's cache; it divides usual pools.
CHUNK = 40


class Look(NamedTuple):
    """What a model says of the pool.

    Attributes:
        scores: by name of `membership.scores`, `[n]`; "recall" and "reference" for targets only.
        losses: of tokens, `[n, length - 1]`.
        drifts: by step, features `[n, d]`.
        names: of the features.
    """

    scores: dict[str, np.ndarray]
    losses: np.ndarray
    drifts: dict[str, np.ndarray]
    names: tuple[str, ...]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _climb(model: models.Decoder, norm: Any, params: Any, x: Any, y: Any, etas: Any) -> Any:
    """Drifts with the etas on the first axis: they share the gradient."""

    def one(eta: Any) -> membership.Drift:
        spec = membership.DriftSpec(eta, norm=norm, method="ghost")
        return membership.drift(model.apply, params, x, y, spec, chunk=CHUNK)

    return jax.vmap(one)(etas)


@functools.partial(jax.jit, static_argnums=0)
def _forward(model: models.Decoder, params: Any, tokens: Any, prefix: Any) -> Any:
    """Logits, losses, and losses after the prefix."""
    logits = model.apply(params, tokens[:, :-1])
    losses = -membership.token_statistics(logits, tokens[:, 1:]).log_p
    return logits, losses, membership.recall_losses(model.apply, params, prefix, tokens)


def look(pool: Pool, params: Any, reference: np.ndarray | None = None) -> Look:
    """All scores and drifts of one model.

    Args:
        pool: the texts.
        params: of the model.
        reference: losses of the reference model; None for itself.
    """
    config, (model, *_) = pool.config, network(pool.config)
    x, y = pool.tokens[:, :-1], pool.tokens[:, 1:]
    steps = [parsed(step) for step in config.steps]
    drifts: dict[str, np.ndarray] = {}
    names: tuple[str, ...] = ()
    norm_of_gradient = np.zeros(0)
    for norm in dict.fromkeys(step.norm for step in steps):
        some = [step for step in steps if step.norm == norm]
        etas = np.array([step.eta for step in some], np.float32)
        found = jax.device_get(_climb(model, norm, params, x, y, etas))
        for i, step in enumerate(some):
            values, names = membership.features(jax.tree.map(lambda a, i=i: a[i], found))
            drifts[str(step)] = np.asarray(values, np.float64)
        norm_of_gradient = found.grad_norm[0]
    parts = []
    for i in range(0, len(x), CHUNK):
        rows = slice(i, i + CHUNK)
        logits, losses, after = _forward(model, params, pool.tokens[rows], pool.prefix)
        given = {} if reference is None else {"reference": reference[rows], "conditional": after}
        scores = membership.scores(
            logits, y[rows], texts=pool.sizes[rows], grad_norm=norm_of_gradient[rows], k=config.k,
            **given,
        )  # fmt: skip
        parts.append((scores, losses))
    parts = jax.tree.map(lambda *a: np.concatenate(a), *jax.device_get(parts))
    own = {name: score.astype(np.float64) for name, score in parts[0].items()}
    # in the order of the config
    drifts = {str(step): drifts[str(step)] for step in steps}
    return Look(own, parts[1], drifts, names)


def stack(seen: Look) -> np.ndarray:
    """The five scores as features."""
    values, _ = membership.stacked({name: seen.scores[key] for name, key in FIVE.items()})
    return values


def wide(seen: Look) -> np.ndarray:
    """What else a forward pass tells, after the five: drift down the loss has much of it, too."""
    losses = seen.losses.astype(np.float64)
    more = [seen.scores["margin"], seen.scores["entropy"], losses.std(1), losses.max(1)]
    return np.concatenate([stack(seen), np.stack(more, 1)], 1)


def side_by_side(seen: Look, steps: Iterable[str]) -> np.ndarray:
    """Features of several steps."""
    return np.concatenate([seen.drifts[step] for step in steps], 1)


# --- attacks --------------------------------------------------------------------------------


class Entry(NamedTuple):
    """An attack: what it is fitted on, what it needs, and the fair comparison."""

    fitted: str
    references: str
    against: str


TARGET, SHADOW, NONE = "target's labels", "other targets", "nothing"
MODEL, MANY = "one model", "other targets"
CONTROLS = {
    "permutation": "drift, chosen, fitted on shuffled membership",
    "placebo, LiRA": "LiRA on the reference model, which saw none of the pool",
    "placebo, relative": "relative baselines + drift on that model",
}
BLIND = "a classifier of bags of bytes"
#: Attacks with references that every other one is compared with.
BEST = ("reference", "RMIA", "LiRA")
CONTROL, RANK = "AUC of a control", "rank correlation of the loss's drift with the loss"


def groups(config: Config) -> dict[str, tuple[str, ...]]:
    """The drift attacks fitted on the target's labels, and their steps."""
    steps = [parsed(step) for step in config.steps]
    pair = tuple(str(parsed(step)) for step in config.pair)
    return {
        **{f"drift, {step}": (str(step),) for step in steps},
        f"drift, {' + '.join(pair)}": pair,
        "drift, all ascents": tuple(str(step) for step in steps if step.eta > 0),
        "drift, all descents": tuple(str(step) for step in steps if step.eta < 0),
        "drift, all steps": tuple(map(str, steps)),
    }


def attacks(config: Config) -> dict[str, Entry]:
    """Every attack."""
    stacked, both = "baselines", "baselines + reference"
    taught = "wide baselines, shadow-fit"
    alone = dict.fromkeys([*FIVE, "ReCaLL"], Entry(NONE, "none", "loss"))
    return {
        **alone,
        "loss": Entry(NONE, "none", ""),
        stacked: Entry(TARGET, "none", "loss"),
        **dict.fromkeys(groups(config), Entry(TARGET, "none", stacked)),
        "drift, chosen": Entry(TARGET, "none", stacked),
        "baselines + drift, chosen": Entry(TARGET, "none", stacked),
        "wide baselines": Entry(TARGET, "none", stacked),
        "wide baselines + drift, chosen": Entry(TARGET, "none", "wide baselines"),
        taught: Entry(SHADOW, "none", "loss"),
        "drift, all ascents, shadow-fit": Entry(SHADOW, "none", taught),
        "drift, all steps, shadow-fit": Entry(SHADOW, "none", taught),
        "wide baselines + drift, shadow-fit": Entry(SHADOW, "none", taught),
        "reference": Entry(NONE, MODEL, "loss"),
        "drift, chosen, less reference": Entry(TARGET, MODEL, "reference"),
        both: Entry(TARGET, MODEL, "reference"),
        f"{both} + drift, chosen": Entry(TARGET, MODEL, both),
        f"{both}, shadow-fit": Entry(SHADOW, MODEL, "reference"),
        f"{both} + drift, shadow-fit": Entry(SHADOW, MODEL, f"{both}, shadow-fit"),
        "mean-OUT": Entry(NONE, MANY, "loss"),
        "RMIA": Entry(NONE, MANY, "loss"),
        "LiRA": Entry(NONE, MANY, "loss"),
        "LiRA + RMIA": Entry(TARGET, MANY, "LiRA"),
        "LiRA + RMIA + drift, chosen": Entry(TARGET, MANY, "LiRA + RMIA"),
        "relative baselines": Entry(SHADOW, MANY, "LiRA"),
        "relative drift": Entry(SHADOW, MANY, "relative baselines"),
        "relative baselines + drift": Entry(SHADOW, MANY, "relative baselines"),
    }


class Scored(NamedTuple):
    """Membership and scores of the attack-test examples of one target."""

    member: np.ndarray
    score: np.ndarray


@dataclasses.dataclass
class Found:
    """What the attacks gave at one moment; lists have an entry a target.

    Attributes:
        scores: by attack.
        evaluations: by attack.
        controls: AUC by control; of placebos one a pair.
        inner: by drift and features, AUC inside attack-fit.
        coefs, alone: by shown step, of the attack on it, `[d]`: coefficients, and the AUC of each
            feature.
        moved: by shown step, features `[n, d]` of all examples.
        member: `[n]`.
        names: of the features.
        losses: mean loss of members, and of others.
        ranks: by shown step, the rank correlation of the loss's drift with the loss.
        a: that of RMIA.
    """

    scores: dict[str, list[Scored]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )
    evaluations: dict[str, list[membership.Evaluation]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )
    controls: dict[str, list[float]] = dataclasses.field(
        default_factory=lambda: {k: [] for k in CONTROLS}
    )
    inner: list[dict[tuple[str, str], float]] = dataclasses.field(default_factory=list)
    coefs: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    alone: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    moved: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    member: list[np.ndarray] = dataclasses.field(default_factory=list)
    names: tuple[str, ...] = ()
    losses: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    ranks: list[dict[str, float]] = dataclasses.field(default_factory=list)
    a: list[float] = dataclasses.field(default_factory=list)

    def chosen(self) -> list[tuple[str, str]]:
        """The drift and the features that were best inside attack-fit, by target."""
        return [max(one, key=lambda k: one[k]) for one in self.inner]

    def auc(self, attack: str) -> np.ndarray:
        """`[targets]`."""
        return np.array([e.auc.value for e in self.evaluations[attack]])

    def tpr(self, attack: str, fpr: float) -> np.ndarray:
        """`[targets]`, NaN where there are too few non-members."""
        return np.array([e.tpr[fpr].value for e in self.evaluations[attack]])


def area(member: np.ndarray, score: np.ndarray) -> float:
    """The AUC; intervals here are over targets."""
    return stats.auroc(score, member).value


def normal_scores(values: np.ndarray) -> np.ndarray:
    """`[models, n, d]` to `[d, models, n]`: each column to normal scores, over all models."""
    flat = np.moveaxis(values, -1, 0).reshape(values.shape[-1], -1)
    ranks = rankdata(flat, axis=1)
    return ndtri((ranks - 0.5) / flat.shape[1]).reshape(-1, *values.shape[:2])


def relative(values: np.ndarray, i: int, others: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """`[n, 3 d]`: of `values [d, models, n]` in model `i`, LiRA's ratio, mean-OUT, as it is.

    A feature is treated as LiRA treats the loss, with the same references.
    """
    out = []
    for v in values:
        against = v[i], v[others], inside[others]
        out += [membership.lira(*against, variance="global"), membership.mean_out(*against), v[i]]
    return np.stack(out, 1)


def padded(F: np.ndarray) -> np.ndarray:
    """With columns of zeros, which count for nothing, so that attacks share compiled programs."""
    return np.pad(F, [(0, 0), (0, -F.shape[1] % 64)])


def fit(F: np.ndarray, member: np.ndarray) -> membership.Attack:
    """An attack on padded features."""
    return membership.fit_attack(padded(F), member)


def scored(F: np.ndarray, member: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Scores of all examples by an attack fitted on some."""
    return fit(F[rows], member[rows]).score(padded(F))


def parts(names: Sequence[str], steps: int) -> dict[str, np.ndarray]:
    """Which columns of so many steps are in each set of features."""
    out = np.array([name.startswith(("out ", "loss ")) for name in names] * steps)
    return {"all": np.ones_like(out), "layers": ~out, "logits": out}


def choice(
    seen: Look, config: Config, member: np.ndarray, rows: np.ndarray, seed: int
) -> dict[tuple[str, str], float]:
    """AUC inside attack-fit of each drift and set of its features, cross-fitted on two halves."""
    one, other = membership.halves(seed, member[rows])
    folds = [(rows[a], rows[b]) for a, b in ((one, other), (other, one))]
    found = {}
    for name, steps in groups(config).items():
        F = side_by_side(seen, steps)
        for part, kept in parts(seen.names, len(steps)).items():
            areas = [area(member[b], scored(F[:, kept], member, a)[b]) for a, b in folds]
            found[name, part] = float(np.mean(areas))
    return found


def best_drift(config: Config, found: Found) -> Callable[[Look], np.ndarray]:
    """The features of any model that were chosen for the target at hand, the last one."""
    name, part = found.chosen()[-1]
    steps = groups(config)[name]
    kept = parts(found.names, len(steps))[part]
    return lambda seen: side_by_side(seen, steps)[:, kept]


def attack(pool: Pool, moment: int, other: Look, seed: int, found: Found, out: Any) -> None:
    """All attacks on all targets at one moment; adds to `found`.

    Args:
        pool: texts and models.
        moment: which.
        other: what the reference model says.
        seed: of splits.
        found: what is added to.
        out: for the log.
    """
    config, inside = pool.config, pool.inside
    looks = [look(pool, pool.params(i, moment), other.losses) for i in range(config.targets)]
    every, steps = [*looks, other], [str(parsed(step)) for step in config.steps]
    found.names = other.names
    own = np.stack([-seen.losses.mean(1) for seen in every]).astype(np.float64)
    values = np.stack([np.concatenate([stack(s), side_by_side(s, steps)], 1) for s in every])
    kept = np.flatnonzero(values.min((0, 1)) < values.max((0, 1)))  # a constant tells nothing
    table, five = normal_scores(values[..., kept]), len(FIVE)
    cut = {
        "relative baselines": slice(0, 3 * five),
        "relative drift": slice(3 * five, None),
        "relative baselines + drift": slice(None),
    }

    def with_reference(seen: Look) -> np.ndarray:
        return np.concatenate([stack(seen), stack(other), seen.scores["reference"][:, None]], 1)

    ascents, both = groups(config)["drift, all ascents"], "baselines + reference"
    features: dict[str, Callable[[Look], np.ndarray]] = {
        "wide baselines, shadow-fit": wide,
        "drift, all ascents, shadow-fit": lambda s: side_by_side(s, ascents),
        "drift, all steps, shadow-fit": lambda s: side_by_side(s, steps),
        "wide baselines + drift, shadow-fit": lambda s: np.concatenate(
            [wide(s), side_by_side(s, steps)], 1
        ),
        f"{both}, shadow-fit": with_reference,
        f"{both} + drift, shadow-fit": lambda s: np.concatenate(
            [with_reference(s), side_by_side(s, steps), side_by_side(other, steps)], 1
        ),
    }
    for t, seen in enumerate(looks):
        member = inside[t]
        rows, test = membership.halves(seed, member)
        others = pool.others(t)
        fits = others[np.arange(t, t + config.shadow_fit) % len(others)]
        scores = {name: seen.scores[key] for name, key in ALONE.items()}
        scores |= references(pool, t, rows, own, found)
        # Shadow-fit attacks never see an example of attack-test, in any model.
        labels = inside[fits][:, rows].ravel()
        for name, of in features.items():
            taught = fit(np.concatenate([of(looks[i])[rows] for i in fits]), labels)
            scores[name] = taught.score(padded(of(seen)))

        found.inner.append(choice(seen, config, member, rows, seed))
        of_best = best_drift(config, found)
        best, base = of_best(seen), stack(seen)
        joint = np.concatenate([base, scores["reference"][:, None]], 1)
        known = np.stack([scores[k] for k in ("LiRA", "RMIA", "mean-OUT")], 1)
        known = np.concatenate([known, base], 1)
        given = {name: side_by_side(seen, some) for name, some in groups(config).items()} | {
            "baselines": base,
            "drift, chosen": best,
            "baselines + drift, chosen": np.concatenate([base, best], 1),
            "wide baselines": wide(seen),
            "wide baselines + drift, chosen": np.concatenate([wide(seen), best], 1),
            "drift, chosen, less reference": best - of_best(other),
            both: joint,
            f"{both} + drift, chosen": np.concatenate([joint, best], 1),
            "LiRA + RMIA": known,
            "LiRA + RMIA + drift, chosen": np.concatenate([known, best], 1),
        }
        scores |= {name: scored(F, member, rows) for name, F in given.items()}

        few, who = table[..., rows], inside[:, rows]
        apart = [relative(few, i, pool.others(t, i), who) for i in fits]
        mine, wrong = (relative(table, i, others, inside) for i in (t, config.targets))
        for name, some in cut.items():
            taught = fit(np.concatenate([F[:, some] for F in apart]), labels)
            scores[name] = taught.score(padded(mine[:, some]))
            scores["placebo, relative"] = taught.score(padded(wrong[:, some]))
        scores["placebo, LiRA"] = membership.lira(
            own[-1], own[others], inside[others], variance="global"
        )
        shuffled = membership.permuted(
            padded(best[rows]), member[rows], padded(best[test]), member[test],
            draws=config.permutations, seed=seed + t,
        )  # fmt: skip
        found.controls["permutation"].append(shuffled.mean)
        if t % 2 == 0:  # with the other one of the pair an area is exactly 1 less this, or nearly
            for name in ("placebo, LiRA", "placebo, relative"):
                found.controls[name].append(area(member[test], scores[name][test]))
        for name in attacks(config):
            one = Scored(member[test], scores[name][test])
            # A few draws: the intervals in the report are over targets.
            evaluation = membership.evaluate(*one, fpr=(FPR, LOW_FPR), draws=50, name=name)
            found.scores[name].append(one)
            found.evaluations[name].append(evaluation)
        shown = {step: seen.drifts[step] for step in shown_steps(config)}
        light = {step: fit(F[rows], member[rows]).coef for step, F in shown.items()}
        found.coefs.append({step: w[: len(seen.names)] for step, w in light.items()})
        found.alone.append(
            {s: np.array([area(member[test], c) for c in F[test].T]) for s, F in shown.items()}
        )
        found.moved.append(shown)
        found.member.append(member)
        losses = -seen.scores["loss"]
        last = seen.names.index("loss drift")
        ranked = {s: (rankdata(F[:, last]), rankdata(losses)) for s, F in shown.items()}
        found.ranks.append({s: float(np.corrcoef(*pair)[0, 1]) for s, pair in ranked.items()})
        found.losses.append((float(losses[member].mean()), float(losses[~member].mean())))
    means = ", ".join(f"{name} {found.auc(name).mean():.3f}" for name in curves(config))
    out.log(f"after {config.moments[moment]} epochs: {means}")


def shown_steps(config: Config) -> tuple[str, ...]:
    """The steps in figures."""
    return tuple(str(parsed(step)) for step in config.shown)


def references(
    pool: Pool, t: int, rows: np.ndarray, own: np.ndarray, found: Found
) -> dict[str, np.ndarray]:
    """The published attacks with other targets as references.

    The statistic is a text's mean log-probability of a token, `own [models, n]`. RMIA's population
    is attack-fit's non-members, its `a` the best on attack-fit.
    """
    config = pool.config
    others = pool.others(t)
    inside, member = pool.inside[others], pool.inside[t]
    z = rows[~member[rows]]
    by_a = {
        a: membership.rmia(
            own[t], own[others], inside, own[t][z], own[others][:, z], inside[:, z],
            gamma=config.gamma, a=a,
        )
        for a in config.a
    }  # fmt: skip
    best = max(by_a, key=lambda a: area(member[rows], by_a[a][rows]))
    found.a.append(best)
    return {
        "mean-OUT": membership.mean_out(-own[t], -own[others], inside),
        "RMIA": by_a[best],
        "LiRA": membership.lira(own[t], own[others], inside, variance="global"),
    }


def blind(pool: Pool, seed: int) -> list[membership.Blind]:
    """The blind control, one of each pair: the other's is the same with labels exchanged."""
    found = []
    for member in pool.inside[::2]:
        rows, test = membership.halves(seed, member)
        texts = [[pool.texts[i] for i in some] for some in (rows, test)]
        found.append(membership.blind(texts[0], member[rows], texts[1], member[test]))
    return found


# --- report ---------------------------------------------------------------------------------


def main(config: Config, out: Any) -> runs.Result:
    """Train, attack, compare."""
    found = {epochs: Found() for epochs in config.moments}
    blinds, left_out = [], []
    for seed in out.seeds.tolist():
        pool = trained(config, seed)
        left_out.append(pool.left_out)
        out.log(f"trained; {pool.left_out} near-duplicates left out")
        other = look(pool, pool.reference)
        blinds += blind(pool, seed)
        for moment, one in enumerate(found.values()):
            attack(pool, moment, other, seed, one, out)
    for epochs, one in found.items():
        out.array(f"auc.{epochs}", np.stack([one.auc(name) for name in attacks(config)]))
        out.array(f"tpr.{epochs}", np.stack([one.tpr(name, FPR) for name in attacks(config)]))
    rows = tuple(row for epochs, one in found.items() for row in summary(config, epochs, one))
    rows += (control_row("blind", [b.auc.value for b in blinds]),)
    out.table("attacks", table(config, rows), by_moment(config), TABLE)
    out.table("differences", differences(config, rows), COLUMNS, DIFFERENCES)
    out.table("choice", choice_table(found), ("epochs", "drift", "features", "AUC", "chosen"),
              CHOICE)  # fmt: skip
    one = found[config.moments[config.middle]]
    out.text("audit", audit(config, one, blinds[0]), caption=AUDIT)
    with figures.style():
        out.figure("attacks", attacks_figure(config, found, blinds), caption=ATTACKED)
        out.figure("roc", roc_figure(config, one), caption=ROC)
        out.figure("epochs", epochs_figure(config, found), caption=EPOCHS)
        out.figure("layers", layers_figure(config, one), caption=LAYERS)
        out.figure("features", features_figure(config, one), caption=FEATURES)
    return runs.Result(QUESTION, answer(config, found, rows, blinds, left_out), rows)


def control_row(name: str, values: Sequence[float], **where: Any) -> runs.Row:
    """The AUC of a control."""
    where |= {"control": name}
    return runs.Row.over(CONTROL, values, baseline=0.5, baseline_name="chance", **where)


def summary(config: Config, epochs: int, one: Found) -> list[runs.Row]:
    """Every number of one moment."""
    entries = attacks(config)
    auc = {name: one.auc(name) for name in entries}
    rows = []
    for name, entry in entries.items():
        where = {"epochs": epochs, "attack": name}
        base = (0.5, "chance") if not entry.against else (auc[entry.against], entry.against)
        rows.append(runs.Row.over(AUC, auc[name], baseline=base[0], baseline_name=base[1], **where))
        for title, fpr in ((TPR, FPR), (LOW_TPR, LOW_FPR)):
            values = one.tpr(name, fpr)
            if not np.isnan(values).any():  # unresolved: the table and the answer say so
                rows.append(
                    runs.Row.over(title, values, baseline=fpr, baseline_name="guessing", **where)
                )
        for other in dict.fromkeys([entry.against, *BEST]):
            if other and other != name:
                rows.append(
                    runs.Row.over(f"{AUC} less that of {other}", auc[name] - auc[other],
                                  baseline=0.0, baseline_name="no difference", **where)
                )  # fmt: skip
    rows += [control_row(name, v, epochs=epochs) for name, v in one.controls.items()]
    for step in shown_steps(config):
        rows.append(
            runs.Row.over(RANK, [r[step] for r in one.ranks], baseline=0.0,
                          baseline_name="no relation", epochs=epochs, step=step)
        )  # fmt: skip
    inside, outside = np.transpose(one.losses)
    rows.append(
        runs.Row.over("loss on members", inside, baseline=outside, baseline_name="on others",
                      unit="nats a byte", epochs=epochs)
    )  # fmt: skip
    return rows


def find(rows: Iterable[runs.Row], epochs: int | None, name: str, which: str) -> runs.Row | None:
    """The row of an attack, a control or a step, if there is one."""
    for row in rows:
        where = row.where
        named = where.get("attack", where.get("control", where.get("step", "")))
        if (row.name, where.get("epochs"), named) == (name, epochs, which):
            return row
    return None


def get(rows: Iterable[runs.Row], epochs: int | None, name: str, which: str = "") -> runs.Row:
    """A row that there is."""
    row = find(rows, epochs, name, which)
    if row is None:
        raise KeyError(f"no row {name!r} of {which!r} after {epochs} epochs")
    return row


def side(row: runs.Row) -> str:
    """Where the interval of a difference lies."""
    if row.low is None or row.high is None or row.low <= 0 <= row.high:
        return "undecided"
    return "above" if row.low > 0 else "below"


def verdicts(config: Config, rows: Any, epochs: int) -> str:
    """Which attacks with drift are above the same without it, below it, or neither."""
    sides: dict[str, list[tuple[float, str]]] = {"above": [], "below": [], "undecided": []}
    drifts = {name: entry for name, entry in attacks(config).items() if "drift" in name}
    for name, entry in drifts.items():
        row = get(rows, epochs, f"{AUC} less that of {entry.against}", name)
        sides[side(row)].append((row.value, f"'{name}' {row.value:+.3f}"))
    said = []
    for kind, some in sides.items():
        texts = [text for _, text in sorted(some, reverse=True)]
        if len(texts) > 6:
            texts = [f"{len(texts)}, from {texts[0]} to {texts[-1]}"]
        said.append(f"{kind}: {', '.join(texts) or 'none'}")
    return f"of {len(drifts)}, {'; '.join(said)}"


def against_best(config: Config, rows: Any, epochs: int) -> str:
    """Which attacks with drift are above all published attacks with references, and by drift."""
    entries = attacks(config)
    above, by_drift = [], []
    for name, entry in entries.items():
        if "drift" not in name:
            continue
        each = [get(rows, epochs, f"{AUC} less that of {other}", name) for other in BEST]
        if all(side(row) == "above" for row in each):
            above.append(f"'{name}'")
            own = get(rows, epochs, f"{AUC} less that of {entry.against}", name)
            by_drift += [f"'{name}'"] if side(own) == "above" else []
    best = ", ".join(BEST)
    if not above:
        return f"None is above all of {best}"
    owed = f"of these above the same without drift: {', '.join(by_drift) or 'none'}"
    return f"Above all of {best}: {', '.join(above)}; {owed}"


def gains(rows: Any, epochs: int) -> str:
    """What the chosen drift adds to what it is put beside."""
    said = []
    for name in ("baselines", "wide baselines", "baselines + reference", "LiRA + RMIA"):
        row = get(rows, epochs, f"{AUC} less that of {name}", f"{name} + drift, chosen")
        said.append(f"{row.value:+.3f}{ends(row)} to '{name}'")
    return ", ".join(said)


def answer(
    config: Config,
    found: Mapping[int, Found],
    rows: Any,
    blinds: Sequence[membership.Blind],
    left_out: Sequence[int],
) -> str:
    """Which attacks win, and where drift loses, moment by moment."""
    entries, said, off = attacks(config), [], []
    pair = f"drift, {' + '.join(str(parsed(step)) for step in config.pair)}"
    for epochs, one in found.items():
        auc = {name: get(rows, epochs, AUC, name) for name in entries}
        text = {name: f"{row.value:.3f}{ends(row)}" for name, row in auc.items()}
        best = max(auc, key=lambda k: auc[k].value)
        alone = max((k for k in auc if entries[k].references == "none"), key=lambda k: auc[k].value)
        loss = get(rows, epochs, "loss on members")
        (name, part), count = collections.Counter(one.chosen()).most_common(1)[0]
        off += [f"{k} after {epochs} epochs" for k in CONTROLS
                if side(shifted(get(rows, epochs, CONTROL, k))) != "undecided"]  # fmt: skip
        ranks = [f"{get(rows, epochs, RANK, step).value:.2f} ({step})"
                 for step in shown_steps(config)]  # fmt: skip
        said.append(
            f"After {epochs} epochs (loss {loss.value:.2f} on members, {loss.baseline:.2f} on "
            f"others) the AUC of the loss is {text['loss']}, of Min-K%++ {text['Min-K%++']}, of "
            f"the five baselines together {text['baselines']}; of '{pair}' {text[pair]}, of all "
            f"ascents {text['drift, all ascents']}, of all descents {text['drift, all descents']}, "
            f"of the drift chosen on attack-fit {text['drift, chosen']} (most often "
            f"'{name}' with {part} features, for {count} of {len(one.inner)}), of all steps fitted "
            f"on other targets {text['drift, all steps, shadow-fit']}; with references the "
            f"reference model has {text['reference']}, mean-OUT {text['mean-OUT']}, RMIA "
            f"{text['RMIA']}, LiRA {text['LiRA']}. The highest AUC is that of '{best}', "
            f"{text[best]}; without references that of '{alone}', {text[alone]}. The chosen drift "
            f"adds {gains(rows, epochs)}. Attacks with drift, by the interval of the paired "
            f"difference to the same without drift: {verdicts(config, rows, epochs)}. "
            f"{against_best(config, rows, epochs)}. The loss's drift has a rank correlation with "
            f"the loss of {' and '.join(ranks)}."
        )
    row = get(rows, None, CONTROL, "blind")
    off += [] if side(shifted(row)) == "undecided" else ["blind"]
    flagged = sum(b.flagged for b in blinds)
    controls = len(found) * len(CONTROLS) + 1
    said.append(
        f"The blind control (a bag of bytes) has {row.value:.3f}{ends(row)}, and is flagged for "
        f"{flagged} of {len(blinds)} pairs of targets. "
        + (
            f"CONTROLS OFF CHANCE: {', '.join(off)} ({len(off)} of {controls}; one in twenty is "
            "expected)."
            if off
            else f"All {controls} controls are at chance."
        )
    )
    unresolved = np.isnan(np.concatenate([one.tpr("loss", LOW_FPR) for one in found.values()]))
    others = found[config.moments[0]].evaluations["loss"][0].n_non_members
    low = (
        f"{LOW_TPR} is unresolved: attack-test has {others} non-members, and it needs 1000. "
        if unresolved.any()
        else ""
    )
    said.append(
        f"{low}{sum(left_out)} near-duplicates were left out. Intervals are 95 % t intervals over "
        f"{2 * len(blinds)} targets, which share a pool of texts and their references, in pairs on "
        "complementary halves: they say how it varies over models, not over texts, and are not "
        "corrected for the number of attacks."
    )
    return " ".join(said)


def ends(row: runs.Row) -> str:
    """The interval, if there is one."""
    return "" if row.low is None else f" [{row.low:.3f}, {row.high:.3f}]"


def shifted(row: runs.Row) -> runs.Row:
    """An AUC as its difference to chance."""
    low, high = (None if end is None else end - 0.5 for end in (row.low, row.high))
    return dataclasses.replace(row, value=row.value - 0.5, low=low, high=high)


COLUMNS = ("epochs", "attack", "AUC", "± AUC", TPR, "± TPR", LOW_TPR, "less comparison",
           "± comparison", "comparison", "less reference", "± reference", "less LiRA",
           "± LiRA")  # fmt: skip
TABLE = (
    "All attacks and controls by moment: AUC on attack-test, means over targets with half-widths "
    "of their 95 % t intervals. Controls should be at .5. ReCaLL's prefix makes rows that are "
    "longer than any the models were trained on."
)
DIFFERENCES = (
    "The same with true positive rates, and paired differences of the AUC to the like-for-like "
    "comparison, to the reference model and to LiRA."
)
CHOICE = (
    "What was chosen from: the AUC inside attack-fit (cross-fitted, mean over targets), and "
    "for how many targets it was the best."
)
AUDIT = (
    "What the auditor of one model would read: the first target at the middle moment. Intervals "
    "here are over texts (DeLong for areas, Clopper-Pearson and bootstrap for rates), differences "
    "are those to 'baselines'."
)
ATTACKED = (
    "AUC on attack-test by moment. Points: means over targets; bars: 95 % t intervals over targets "
    "(one pool of texts, shared references). Dashed: LiRA; dotted: chance. Colours tell what an "
    "attack is given."
)
ROC = (
    "ROC curves at the middle moment on logarithmic axes: the mean over targets of the true "
    "positive rate at each false positive rate, with 95 % t bands. Dotted: guessing. Left of the "
    "grey line a rate is less than one non-member of attack-test."
)
EPOCHS = (
    "AUC and true positive rate at 1 % false positives on attack-test while the models train. "
    "Bands: 95 % t intervals over targets. Dotted: guessing."
)
LAYERS = (
    "How one step on a text's own loss moves the residual stream and the logits at the middle "
    "moment (logarithmic axes): above the Euclidean length, below how far a vector turns "
    "(1 - cosine) and the KL divergence of the prediction, means over tokens. Distributions over "
    "texts of all targets, with medians."
)
FEATURES = (
    "Left: coefficients of the attack on one drift step at the middle moment (log-odds of "
    "membership for a normal score; the features are correlated, so that they say what the attack "
    "uses, not what each feature knows). Right: the AUC of each feature alone, on attack-test, as "
    "it is: below .5 members have smaller values. Bars: 95 % t intervals over targets."
)


def by_moment(config: Config) -> tuple[str, ...]:
    """Columns of the table of all attacks."""
    numbers = [f"{name}, {epochs} epochs" for epochs in config.moments for name in (AUC, "±")]
    return ("attack", "fitted on", "references", *numbers)


def numbers(row: runs.Row | None) -> list[Any]:
    """A value and the half-width of its interval."""
    if row is None:
        return [None, None]
    half = None if row.high is None else round(row.high - row.value, 3)
    return [round(row.value, 3), half]


def table(config: Config, rows: Any) -> list[list[Any]]:
    """A line an attack and a control."""
    lines = [
        [name, fitted, references]
        + [v for epochs in config.moments for v in numbers(get(rows, epochs, AUC, name))]
        for name, (fitted, references, _) in attacks(config).items()
    ]
    for name, what in CONTROLS.items():
        each = [v for epochs in config.moments for v in numbers(get(rows, epochs, CONTROL, name))]
        lines.append([f"control: {name}", what, "none", *each])
    each = numbers(get(rows, None, CONTROL, "blind")) * len(config.moments)
    return [*lines, ["control: blind", BLIND, "none", *each]]


def differences(config: Config, rows: Any) -> list[list[Any]]:
    """A line a moment and attack."""
    lines = []
    for epochs in config.moments:
        for name, (*_, other) in attacks(config).items():
            each = [
                numbers(find(rows, epochs, f"{AUC} less that of {k}", name))
                for k in (other, "reference", "LiRA")
            ]
            low = find(rows, epochs, LOW_TPR, name)
            lines.append(
                [epochs, name, *numbers(get(rows, epochs, AUC, name)),
                 *numbers(find(rows, epochs, TPR, name)),
                 "unresolved" if low is None else round(low.value, 3), *each[0], other or None,
                 *each[1], *each[2]]
            )  # fmt: skip
    return lines


def choice_table(found: Mapping[int, Found]) -> list[list[Any]]:
    """A line a drift and set of features."""
    lines = []
    for epochs, one in found.items():
        counts = collections.Counter(one.chosen())
        for name, part in one.inner[0]:
            mean = float(np.mean([inner[name, part] for inner in one.inner]))
            lines.append([epochs, name, part, round(mean, 3), counts[name, part]])
    return lines


def curves(config: Config) -> tuple[str, ...]:
    """The main attacks, for figures."""
    pair = " + ".join(str(parsed(step)) for step in config.pair)
    return ("loss", "baselines", f"drift, {pair}", "drift, all steps, shadow-fit", "reference",
            "LiRA", "relative baselines + drift")  # fmt: skip


def audit(config: Config, one: Found, control: membership.Blind) -> str:
    """The first target alone, with intervals over texts."""
    names = ["baselines", *(k for k in curves(config) if k != "baselines"), "drift, chosen"]
    scores = {name: one.scores[name][0].score for name in names}
    member = one.scores["loss"][0].member
    rows = membership.compare(member, scores, baseline="baselines", fpr=(FPR, LOW_FPR))
    return "\n".join([*map(str, rows), str(control)])


def attacks_figure(
    config: Config, found: Mapping[int, Found], blinds: Sequence[membership.Blind]
) -> Any:
    """AUC of every attack and control."""
    entries = attacks(config)
    size = (2.6 + 2.4 * len(found), 8.4)
    fig, axes = plt.subplots(1, len(found), figsize=size, squeeze=False, sharey=True)
    names = [*entries, *(f"control: {k}" for k in (*CONTROLS, "blind"))]
    y = np.arange(len(names))[::-1]
    free = [e.references == "none" for e in entries.values()]
    taught = [e.fitted == SHADOW for e in entries.values()]
    kinds = {
        "the target alone": [a and not b for a, b in zip(free, taught)],
        "other targets": [a and b for a, b in zip(free, taught)],
        "references": [not a for a in free],
    }
    rest = len(names) - len(entries)
    for ax, (epochs, one) in zip(axes[0], found.items()):
        values = [*(one.auc(k) for k in entries), *one.controls.values()]
        values.append(np.array([b.auc.value for b in blinds]))
        mean, half = np.transpose([stats.mean_interval(v) for v in values])
        chosen = {k: np.array([*v, *[False] * rest]) for k, v in kinds.items()}
        chosen["control"] = ~np.any(list(chosen.values()), 0)
        for (kind, at), colour in zip(chosen.items(), ("#0072B2", "#009E73", "#D55E00", "grey")):
            bar = {"fmt": "o", "color": colour, "elinewidth": 1.2, "capsize": 2}
            ax.errorbar(mean[at], y[at], xerr=half[at], label=kind, **bar)
        ax.axvline(mean[names.index("LiRA")], color="black", linestyle="--", linewidth=1)
        ax.axvline(0.5, color="grey", linestyle=":", linewidth=1.4)
        ax.set(xlabel="AUC", title=f"{epochs} epochs")
    axes[0, 0].set_yticks(y, names)
    axes[0, 0].set_ylim(-0.8, len(names) - 0.2)
    figures.legend_below(fig, axes, ncols=4)
    return fig


def rates(member: np.ndarray, score: np.ndarray, fpr: np.ndarray) -> np.ndarray:
    """The largest true positive rates of thresholds with at most these false positive rates."""
    false, true = membership.roc(member, score)
    return true[np.searchsorted(false, fpr, side="right") - 1]


def roc_figure(config: Config, one: Found) -> Any:
    """True against false positives."""
    fig, ax = plt.subplots(figsize=(6.0, 5.0))
    least = 1 / max((~s.member).sum() for s in one.scores["loss"])
    grid = np.geomspace(least / 2, 1, 80)
    for name, colour in zip(curves(config), figures.COLOURS):
        mean, half = stats.mean_interval(np.stack([rates(*s, grid) for s in one.scores[name]]))
        ax.step(grid, mean, where="post", label=name, color=colour)
        low = np.maximum(mean - half, least / 10)
        ax.fill_between(grid, low, mean + half, step="post", color=colour, alpha=0.15, lw=0)
    ax.plot(grid, grid, color="grey", linestyle=":", label="guessing")
    ax.axvline(least, color="lightgrey", linewidth=1)
    ax.set(xscale="log", yscale="log", xlabel="false positive rate", ylabel="true positive rate",
           xlim=(grid[0], 1), ylim=(grid[0], 1.05))  # fmt: skip
    figures.legend_below(fig, ax, ncols=2)
    return fig


def epochs_figure(config: Config, found: Mapping[int, Found]) -> Any:
    """AUC and true positive rate while training."""
    fig, axes = plt.subplots(1, 2, figsize=(9.2, 4.2))
    for name, colour in zip(curves(config), figures.COLOURS):
        for ax, values in zip(
            axes, ([one.auc(name) for one in found.values()],
                   [one.tpr(name, FPR) for one in found.values()])
        ):  # fmt: skip
            figures.band(ax, config.moments, np.stack(values, 1), name, colour=colour)
    for ax, level, ylabel in zip(axes, (0.5, FPR), (AUC, TPR)):
        ax.axhline(level, color="grey", linestyle=":", linewidth=1.4, label="guessing")
        ax.set(xscale="log", xlabel="epochs", ylabel=ylabel)
        figures.plain_ticks(ax.xaxis, config.moments)
    figures.legend_below(fig, axes, ncols=3)
    return fig


def readable(name: str) -> str:
    """A feature's name in figures: blocks are counted from 1."""
    where, measure = name.rsplit(" ", 1)
    if "[" in where:
        where = f"block {int(where.rstrip(']').rsplit('[', 1)[1]) + 1}"
    where = where.replace("out", "logits")
    return f"{where} {measure.replace('_', ' ')}"


def layers_figure(config: Config, one: Found) -> Any:
    """Distributions of the drift by layer, of members and of others."""
    steps = shown_steps(config)
    fig, axes = plt.subplots(2, 2, figsize=(9.2, 6.0), sharey="row")
    lengths = [k for k in one.names if k.endswith(" norm_mean")] + ["out norm"]
    turns = [k for k in one.names if k.endswith(" turn")] + ["out kl"]
    member = np.concatenate(one.member)
    ticks = [readable(k).removesuffix(" norm mean").removesuffix(" norm") for k in lengths]
    for step, column in zip(steps, axes.T):
        moved = np.concatenate([m[step] for m in one.moved])
        column[0].set_title(f"{step}: {'up' if parsed(step).eta > 0 else 'down'} the loss")
        for ax, names, last in zip(column, (lengths, turns), ("logits", "logits (KL)")):
            values = moved[:, [one.names.index(k) for k in names]].T
            values = np.log10(np.maximum(values, np.finfo(np.float32).tiny))
            at = np.arange(len(names))
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
            ax.set_xticks(at, [*ticks[:-1], last])
            ax.yaxis.set_major_formatter(lambda v, _: f"{10**v:.2g}")
    axes[0, 0].set_ylabel("length of the move")
    axes[1, 0].set_ylabel("1 - cosine; KL in nats")
    figures.legend_below(fig, axes)
    return fig


def features_figure(config: Config, one: Found) -> Any:
    """Coefficients of the attack on a step, and what each feature tells alone."""
    fig, axes = plt.subplots(1, 2, figsize=(9.2, 5.2), sharey=True)
    names = [readable(name) for name in one.names]
    for k, step in enumerate(shown_steps(config)):
        y = np.arange(len(names))[::-1] + 0.3 * (0.5 - k)
        for ax, values in zip(axes, (one.coefs, one.alone)):
            mean, half = stats.mean_interval(np.stack([v[step] for v in values]))
            bar = {"fmt": "o", "color": figures.COLOURS[k], "elinewidth": 1.2, "capsize": 2}
            ax.errorbar(mean, y, xerr=half, label=step, **bar)
    axes[0].set_yticks(np.arange(len(names))[::-1], names)
    for ax, at, xlabel in zip(axes, (0.0, 0.5), ("coefficient", "AUC of the feature alone")):
        ax.axvline(at, color="grey", linestyle=":", linewidth=1.4)
        ax.set(xlabel=xlabel)
    figures.legend_below(fig, axes)
    return fig


def sites(config: Config) -> Any:
    """The decoder, for `activjax sites`."""
    model, *_ = network(config)
    params = jax.eval_shape(model.init, jax.random.key(0))
    return model.apply, (params, jax.ShapeDtypeStruct((config.batch, config.length - 1), jnp.int32))
