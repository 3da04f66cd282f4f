"""Does a language model give away which texts it was trained on? An audit of a model of your own.

Two lists of texts are needed: `members`, which the model was trained on, and `candidates`, texts
like them which it was not. Half of each fits the attacks that have something to fit, the other half
is attacked. The report says how many of the members an attacker recognises at how many false
alarms, beside what chance gives, and beside controls that show whether the number means anything:
a classifier that never sees the model, and attacks fitted on shuffled labels. With `model: demo` a
small decoder is trained first, on half of some lines of the Python standard library.

A published model is given float32 parameters unless `param_dtype` says otherwise: one of the
attacks takes a step along a gradient, which bfloat16 would round away. Where its tokenizer begins a
text with a token of its own, every text has it, and what the model says after it counts.

What is found is a lower bound: who can train models like this one attacks better (`lira`, `rmia`).
"""

from __future__ import annotations

import ast
import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from activjax import data, membership, models, runs, stats, training
from activjax.runs import decoders, figures

QUESTION = "How well can an attacker tell which texts this model was trained on?"
DEMO = "demo"
PRECISE = "float32"
#: Fewer on a side, and an area has an interval too wide to say anything.
LEAST = 20
#: Steps whose drift the attack sees: one of length 1, and one along the gradient itself.
STEPS = (membership.DriftSpec(1.0, norm="unit"), membership.DriftSpec(1.0, norm="raw"))
FPR = (0.01, 0.001)
STACK, DRIFT, BOTH = "all scores together", "drift", "all scores and drift"
WORDS = {
    "loss": "loss",
    "zlib": "loss against zlib",
    "min_k": "Min-20 %",
    "min_k_plus_plus": "Min-20 %++",
    "grad_norm": "gradient norm",
    "reference": "loss against a reference model",
    "margin": "margin",
    "entropy": "entropy",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    model: str | decoders.Pretrained | decoders.Saved = runs.static(
        DEMO, help=f"{decoders.HELP}, or demo"
    )
    members: str = runs.static(DEMO, help="texts it was trained on: .txt, .jsonl, .parquet")
    candidates: str = runs.static(DEMO, help="texts like them that it was not trained on")
    reference: str | decoders.Pretrained | decoders.Saved | None = runs.static(
        None, help="a model that saw neither, given in the same way"
    )
    unit: Literal["line", "paragraph", "document"] = runs.static(
        "line", help="what one text is: of a text file each line, each paragraph, or all of it"
    )
    least_tokens: int = runs.static(8, ge=2, help="shorter texts are left out")
    most_texts: int = runs.static(2000, ge=2 * LEAST, help="of each list, drawn at random")
    seed: int = runs.static(0, ge=0, help="of the draw and of the split in halves")
    listed: int = runs.static(10, ge=0, help="most exposed members in the table, by place")
    demo_texts: int = runs.static(800, ge=2 * LEAST, help="of each list, for model: demo")
    demo_epochs: int = runs.static(20, ge=1)

    def __post_init__(self) -> None:
        demo = [name for name in ("model", "members", "candidates") if getattr(self, name) == DEMO]
        if demo and len(demo) < 3:
            given = ", ".join(n for n in ("model", "members", "candidates") if n not in demo)
            raise ValueError(
                f"{', '.join(demo)}: give your own too; {given} alone cannot be audited (all three "
                "are given, or all are demo)"
            )
        if self.members != DEMO and self.members == self.candidates:
            raise ValueError("candidates: the same file as members; nothing could be told apart")


def data_files(config: Config) -> list[Path]:
    """The texts and the models: their contents enter the run's id."""
    lists = ["stdlib"] if config.model == DEMO else [config.members, config.candidates]
    found = [file for one in lists for file in data.corpus(one).files]
    for model in (config.model, config.reference):
        found += [] if model in (None, DEMO) else decoders.of(model).files()
    return found


# --- texts ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Texts:
    """The texts of both lists.

    Attributes:
      texts: `[n]`.
      places: `[n]`, where each stands.
      member: `[n]`, whether the model was trained on it.
      groups: `[n]`, numbers of near duplicates.
      left_out: how many were too short, by list.
    """

    texts: list[str]
    places: list[str]
    member: np.ndarray
    groups: np.ndarray
    left_out: tuple[int, int]


def pieces(corpus: data.Corpus, unit: str) -> list[tuple[str, str]]:
    """Texts with their places."""
    out = []
    for name, text in zip(corpus.names, corpus.texts, strict=True):
        if unit == "document" or not any(f.suffix == ".txt" for f in corpus.files):
            out.append((name, text))
            continue
        parts = text.split("\n\n") if unit == "paragraph" else text.splitlines()
        out += [(f"{name}:{i}", part) for i, part in enumerate(parts, 1) if part.strip()]
    return out


def texts_of(config: Config, tokenizer: data.Tokenizer) -> Texts:
    """Both lists, without texts that are too short, near duplicates numbered."""
    rng = np.random.default_rng([config.seed, 0])
    kept, left = [], []
    for source in (config.candidates, config.members):
        found = pieces(data.corpus(source), config.unit)
        long = [p for p in found if len(tokenizer.encode(p[1])) >= config.least_tokens]
        left.append(len(found) - len(long))
        if len(long) < 2 * LEAST:
            raise runs.ExperimentError(
                f"{source}: {len(long)} texts of at least {config.least_tokens} tokens (of "
                f"{len(found)}), expected {2 * LEAST} or more; one text is a {config.unit} "
                "(unit:), and least_tokens: may be lowered"
            )
        chosen = np.sort(rng.permutation(len(long))[: config.most_texts])
        kept.append([long[i] for i in chosen])
    member = np.repeat([False, True], [len(k) for k in kept])
    places, texts = (list(part) for part in zip(*[p for k in kept for p in k], strict=True))
    groups = membership.near_duplicates(texts)
    check_apart(places, member, groups)
    return Texts(texts, places, member, groups, (left[1], left[0]))


def check_apart(places: list[str], member: np.ndarray, groups: np.ndarray) -> None:
    """Refuse lists that are largely one: what is in both is no candidate."""
    shared = np.intersect1d(groups[member], groups[~member])
    inside = int(np.isin(groups[~member], shared).sum())
    if 2 * inside > int((~member).sum()):
        first = np.flatnonzero(groups == shared[0])
        a, b = (next(places[i] for i in first if member[i] == m) for m in (True, False))
        raise runs.ExperimentError(
            f"candidates: {inside} of {int((~member).sum())} are near duplicates of members (say, "
            f"{b} of {a}): the model has seen them; give texts that it was not trained on"
        )


def demonstration(config: Config) -> tuple[models.Loaded, Texts]:
    """Pieces of the standard library's docstrings, and a decoder trained on half of them."""
    tokenizer = data.byte_tokenizer()
    found: dict[str, str] = {}
    for name, text in zip(*(lambda c: (c.names, c.texts))(data.stdlib()), strict=True):
        for where, piece in docstring_pieces(name, text):
            found.setdefault(piece, where)
    rng = np.random.default_rng([config.seed, 1])
    items = list(found.items())
    wanted = 2 * config.demo_texts
    if len(items) < wanted:
        raise runs.ExperimentError(f"demo_texts: there are only {len(items) // 2} for each list")
    chosen = [items[i] for i in rng.permutation(len(items))[:wanted]]
    texts, places = [t for t, _ in chosen], [w for _, w in chosen]
    member = np.arange(wanted) >= config.demo_texts
    model = models.decoder(
        vocab=tokenizer.vocab, context=48, layers=2, width=64, heads=4, precision="default"
    )
    tokens, segments = laid_out(texts, tokenizer, 49)
    trained = membership.train_shadows(
        model,
        optax.adam(3e-3),
        tokens,
        segments,
        member[None],
        key=jax.random.key(config.seed),
        epochs=config.demo_epochs,
        batch=32,
        loss=training.next_token(model),
    )
    params = jax.tree.map(lambda a: a[0], trained.params)
    groups = membership.near_duplicates(texts)
    return models.Loaded(model, params, tokenizer), Texts(texts, places, member, groups, (0, 0))


def docstring_pieces(name: str, text: str) -> list[tuple[str, str]]:
    """Pieces of 48 bytes of a file's docstrings, with their places."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    out = []
    for node in ast.walk(ast.parse(text)):
        raw = (ast.get_docstring(node) or "").encode() if isinstance(node, kinds) else b""
        for i in range(0, len(raw) - 47, 48):
            line = getattr(node, "lineno", 1)
            out.append((f"{name}:{line}+{i}", raw[i : i + 48].decode(errors="ignore")))
    return out


def laid_out(
    texts: list[str], tokenizer: data.Tokenizer, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens `[n, length]`, the text's end and padding after it, and 1 where there is text.

    What the tokenizer begins a text with stands before it, and is not of it.
    """
    tokens = np.full((len(texts), length), tokenizer.end, np.int32)
    inside = np.zeros((len(texts), length), np.int32)
    first = len(tokenizer.begin)
    tokens[:, :first] = tokenizer.begin
    for row, text in enumerate(texts):
        ids = tokenizer.encode(text)[: length - first]
        there = slice(first, first + len(ids))
        tokens[row, there], inside[row, there] = ids, 1
    return tokens, inside


# --- scores ---------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="apply")
def _logits(apply: Any, params: Any, tokens: Any) -> Any:
    return apply(params, tokens)


def scores_of(
    trained: models.Loaded, reference: models.Loaded | None, texts: list[str]
) -> tuple[dict[str, np.ndarray], np.ndarray, tuple[str, ...]]:
    """Every score of every text, and the drift's features with their names."""
    model, params, tokenizer = trained
    longest = len(tokenizer.begin) + max(len(tokenizer.encode(t)) for t in texts)
    length = min(model.config.context + 1, longest)
    tokens, inside = laid_out(texts, tokenizer, length)
    x, y, mask = tokens[:, :-1], tokens[:, 1:], inside[:, 1:] > 0
    seen = [tokenizer.decode(row[there > 0]) for row, there in zip(tokens, inside)]
    columns, names = [], []
    moved = [membership.drift(model.apply, params, x, y, spec, mask=mask) for spec in STEPS]
    norm = np.asarray(moved[0].grad_norm)
    for spec, found in zip(STEPS, moved, strict=True):
        values, labels = membership.features(found)
        columns.append(np.asarray(values))
        names += [f"{spec.norm} step: {label}" for label in labels]
    parts = []
    for at in range(0, len(x), 64):
        rows = slice(at, at + 64)
        options: dict[str, Any] = {"mask": mask[rows], "texts": seen[rows], "grad_norm": norm[rows]}
        if reference is not None:
            options["reference"] = _logits(reference.model.apply, reference.params, x[rows])
        logits = _logits(model.apply, params, x[rows])
        parts.append(membership.scores(logits, y[rows], **options))
    scores = {k: np.concatenate([np.asarray(p[k]) for p in parts]) for k in parts[0]}
    return scores, np.concatenate(columns, 1), tuple(names)


@dataclasses.dataclass(frozen=True)
class Attacked:
    """The half that was attacked.

    Attributes:
      rows: its rows among all texts.
      scores: of every attack, by name.
      weights: the fitted attack on drift.
      best: the attack that was best on the other half.
    """

    rows: np.ndarray
    scores: dict[str, np.ndarray]
    weights: membership.Attack
    best: str


def attacked(
    config: Config,
    texts: Texts,
    scores: dict[str, np.ndarray],
    drift: np.ndarray,
    names: tuple[str, ...],
) -> Attacked:
    """Fit on one half, attack the other; what to headline is chosen on the first."""
    fit, test = membership.halves(config.seed, texts.member, texts.groups)
    table, labels = membership.stacked(scores)
    sets = {
        STACK: (table, labels),
        DRIFT: (drift, names),
        BOTH: (np.concatenate([table, drift], 1), (*labels, *names)),
    }
    member = texts.member
    fitted = {k: membership.fit_attack(F[fit], member[fit], names=n) for k, (F, n) in sets.items()}
    found = {WORDS.get(k, k): v[test] for k, v in scores.items()}
    found |= {k: attack.score(sets[k][0][test]) for k, attack in fitted.items()}
    inner, outer = membership.halves(config.seed + 1, member[fit], texts.groups[fit])
    areas = {WORDS.get(k, k): stats.auroc(v[fit], member[fit]).value for k, v in scores.items()}
    for k, (F, n) in sets.items():
        own = membership.fit_attack(F[fit][inner], member[fit][inner], names=n)
        areas[k] = stats.auroc(own.score(F[fit][outer]), member[fit][outer]).value
    return Attacked(test, found, fitted[DRIFT], max(areas, key=lambda k: areas[k]))


def main(config: Config, out: Any) -> runs.Result:
    """The audit."""
    if config.model == DEMO:
        trained, texts = demonstration(config)
    else:
        trained = decoders.of(config.model).load(param_dtype=PRECISE)
        texts = texts_of(config, trained.tokenizer)
    reference = None if config.reference is None else decoders.of(config.reference).load()
    if reference is not None and reference.tokenizer != trained.tokenizer:
        raise runs.ExperimentError("reference: it has another tokenizer than the model")
    scores, drift, names = scores_of(trained, reference, texts.texts)
    half = attacked(config, texts, scores, drift, names)
    test, member, groups = half.rows, texts.member, texts.groups
    fit = np.setdiff1d(np.arange(len(member)), test)
    rows = membership.compare(
        member[test], half.scores, baseline=WORDS["loss"], groups=groups[test], fpr=FPR
    )
    pick = lambda at: [texts.texts[i] for i in at]  # noqa: E731
    blind = membership.blind(pick(fit), member[fit], pick(test), member[test], groups=groups[test])
    shuffled = membership.permuted(drift[fit], member[fit], drift[test], member[test])
    out.array("member", member[test])
    for name, score in half.scores.items():
        out.array("score_" + "".join(c if c.isalnum() else "_" for c in name), score)
    with figures.style():
        out.figure("attacks", attacks_figure(rows, blind), caption=CAPTIONS[0])
        out.figure("roc", roc_figure(member[test], half), caption=CAPTIONS[1])
        out.figure("scores", score_figure(member[test], half), caption=CAPTIONS[2])
    out.table("attacks", [attack_cells(r) for r in rows], ATTACK_COLUMNS, CAPTIONS[3])
    if config.listed:
        exposed = exposed_members(config, texts, half)
        out.table("exposed", exposed, EXPOSED_COLUMNS, CAPTIONS[4])
    summary = summarised(rows, blind, shuffled)
    return runs.Result(QUESTION, answer(config, texts, half, rows, blind, shuffled), summary)


# --- what the report says -------------------------------------------------------------------

CAPTIONS = (
    "How well each attack tells members from candidates: area under the ROC curve with its 95 % "
    "interval. 0.5 is a coin. The last line is the control that never sees the model.",
    "Members recognised against candidates wrongly accused, both on logarithmic axes: what matters "
    "to a person is the left end. The dotted line is chance.",
    "The score of the attack that was best on the other half: members and candidates.",
    "Every attack. Areas and rates are of the half that nothing was fitted on; the last column is "
    "the difference of the area from that of the loss, paired.",
    "The members that the headline attack is surest of: which share of candidates scores as high. "
    "Texts are named by their place and not shown.",
)
ATTACK_COLUMNS = ("attack", "area", "low", "high", "recognised at 1 %", "at 0.1 %", "over the loss")
EXPOSED_COLUMNS = ("place", "score", "candidates at least as high")


def attack_cells(row: membership.Row) -> list[Any]:
    """A line of the table."""
    e = row.evaluation
    rates = [None if np.isnan(e.tpr[f].value) else e.tpr[f].value for f in FPR]
    gain = None if row.difference is None else row.difference.value
    return [row.name, e.auc.value, e.auc.low, e.auc.high, *rates, gain]


def exposed_members(config: Config, texts: Texts, half: Attacked) -> list[list[Any]]:
    """The members with the highest scores."""
    score, member = half.scores[half.best], texts.member[half.rows]
    others = score[~member]
    order = [i for i in np.argsort(-score, kind="stable") if member[i]][: config.listed]
    return [
        [texts.places[half.rows[i]], float(score[i]), float((others >= score[i]).mean())]
        for i in order
    ]


def attacks_figure(rows: tuple[membership.Row, ...], blind: membership.Blind) -> Any:
    """Areas with intervals, a line an attack."""
    found = [(r.name, r.evaluation.auc) for r in rows] + [("control: data alone", blind.auc)]
    fig, ax = plt.subplots(figsize=(6.4, 0.34 * len(found) + 1.0))
    for i, (name, auc) in enumerate(found[::-1]):
        colour = figures.COLOURS[6 if name.startswith("control") else 0]
        ax.plot([auc.low, auc.high], [i, i], color=colour)
        ax.plot([auc.value], [i], "o", color=colour)
    ax.axvline(0.5, color="black", linewidth=1, linestyle=":")
    ax.set_yticks(range(len(found)), [name for name, _ in found[::-1]])
    ax.set(xlabel="area under the ROC curve (0.5 is chance)")
    return fig


def roc_figure(member: np.ndarray, half: Attacked) -> Any:
    """ROC curves on logarithmic axes."""
    fig, ax = plt.subplots(figsize=(4.8, 4.4))
    least = 1 / max(int((~member).sum()), 1)
    shown = dict.fromkeys([half.best, WORDS["loss"], WORDS["min_k_plus_plus"], STACK, DRIFT])
    for name, line in zip(shown, ("-", "--", "-.", ":", "-"), strict=False):
        fpr, tpr = membership.roc(member, half.scores[name])
        ax.step(np.maximum(fpr, least / 2), tpr, where="post", label=name, linestyle=line)
    ax.plot([least / 2, 1], [least / 2, 1], color="black", linewidth=1, linestyle=":")
    ax.set(
        xscale="log", yscale="log", xlim=(least / 2, 1), ylim=(least / 2, 1.05),
        xlabel="candidates wrongly called members", ylabel="members recognised",
    )  # fmt: skip
    ax.legend(loc="lower right")
    return fig


def score_figure(member: np.ndarray, half: Attacked) -> Any:
    """Distributions of the headline score."""
    fig, ax = plt.subplots(figsize=(6.4, 3.2))
    score = half.scores[half.best]
    low, high = np.quantile(score, [0.005, 0.995])
    edges = np.linspace(low, high, 41)
    for name, chosen, colour in (("members", member, 1), ("candidates", ~member, 0)):
        kept = np.clip(score[chosen], low, high)
        ax.hist(kept, edges, histtype="step", density=True, label=name,
                color=figures.COLOURS[colour], linewidth=1.6)  # fmt: skip
    ax.set(xlabel=f"score: {half.best} (higher is member)", ylabel="density")
    ax.legend()
    return fig


def summarised(
    rows: tuple[membership.Row, ...], blind: membership.Blind, shuffled: membership.Permuted
) -> tuple[runs.Row, ...]:
    """Areas and rates of every attack, and the controls."""
    out = []
    for row in rows:
        e, where = row.evaluation, {"attack": row.name}
        n = e.n_members + e.n_non_members
        out.append(_row("area under the ROC curve", e.auc, n, 0.5, "chance", where))
        for rate in FPR:
            if not np.isnan(e.tpr[rate].value):  # too few candidates: the answer says so
                name = f"members recognised at {rate:.1%} false alarms"
                out.append(_row(name, e.tpr[rate], n, rate, "chance", where))
    where = {"attack": "control: data alone"}
    out.append(_row("area under the ROC curve", blind.auc, n, 0.5, "chance", where))
    out.append(
        runs.Row(
            "area under the ROC curve", shuffled.mean, shuffled.low, shuffled.high,
            len(shuffled.aucs), "", 0.5, "chance", {"attack": "control: shuffled labels"},
        )
    )  # fmt: skip
    return tuple(out)


def _row(name: str, found: Any, n: int, baseline: float, what: str, where: Any) -> runs.Row:
    low, high = (None if np.isnan(x) else x for x in (found.low, found.high))
    return runs.Row(name, found.value, low, high, n, "", baseline, what, where)


def answer(
    config: Config,
    texts: Texts,
    half: Attacked,
    rows: tuple[membership.Row, ...],
    blind: membership.Blind,
    shuffled: membership.Permuted,
) -> str:
    """Plain words, from the numbers."""
    best = next(r for r in rows if r.name == half.best).evaluation
    n, m = best.n_members, best.n_non_members
    said = [f"{n} members and {m} candidates were attacked, as many others fitted the attacks."]
    area = f"{best.auc.value:.3f} [{best.auc.low:.3f}, {best.auc.high:.3f}]"
    rate = best.tpr[FPR[0]]
    if blind.flagged:
        said.append(
            "THE LISTS CANNOT BE COMPARED: a classifier that never sees the model tells them apart "
            f"(area {blind.auc.value:.3f} [{blind.auc.low:.3f}, {blind.auc.high:.3f}]), so that no "
            "number below says how much the model gives away. Give members and candidates that "
            "were divided at random."
        )
    if best.auc.low > 0.5:
        said.append(f"The model gives membership away: the attack by {half.best} has area {area}")
    elif best.auc.high < 0.5:
        said.append(
            f"The attack by {half.best} is worse than a coin where it is tested, area {area}"
        )
    else:
        said.append(f"No sign that membership leaks: the attack by {half.best} has area {area}")
    if np.isnan(rate.value):
        said[-1] += "."
    else:
        said[-1] += (
            f" and recognises {rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}] of the members at "
            f"{FPR[0]:.0%} false alarms, where chance gives {FPR[0]:.0%}."
        )
    unresolved = [f"{f:.1%}" for f in FPR if np.isnan(best.tpr[f].value)]
    if unresolved:
        least = next(f for f in FPR if np.isnan(best.tpr[f].value))
        said.append(
            f"{m} candidates are too few for a rate at {' or '.join(unresolved)} false alarms: "
            f"that takes {round(1 / least)} in the half that is attacked."
        )
    said.append(
        "It was chosen on the half that the attacks were fitted on. The control that never sees "
        f"the model has area {blind.auc.value:.3f} [{blind.auc.low:.3f}, {blind.auc.high:.3f}], "
        f"attacks fitted on shuffled labels {shuffled.mean:.3f} on average."
    )
    if shuffled.flagged:
        said.append("The interval of that average leaves out 0.5: look at it before you conclude.")
    said.append("An attacker who trains models of this kind may do better: this is a lower bound.")
    short = sum(texts.left_out)
    if short:
        said.append(f"{short} texts were shorter than {config.least_tokens} tokens and left out.")
    return " ".join(said)


def sites(config: Config) -> Any:
    """The model, for `activjax sites`."""
    if config.model == DEMO:
        model = models.decoder(vocab=257, context=48, layers=2, width=64, heads=4)
        params = jax.eval_shape(model.init, jax.random.key(0))
    else:
        model, params, _ = decoders.of(config.model).abstract()
    return model.apply, (params, jax.ShapeDtypeStruct((1, 8), jnp.int32))
