"""Codebooks in every layer of a decoder of code: what they cost, mean, and can steer.

A decoder is trained on bytes of the standard library and then continued for some steps in three
ways: as it is, with codebooks at every MLP's output and every attention head (Tamkin, Taufeeque
and Goodman 2023, "Codebook Features", arXiv 2310.17230), and with TopK bottlenecks of equal size
at the same places. Single codes are then searched for concepts of Python, and put in place while
the decoder writes. Files that nothing was trained on are the judges: on half of their excerpts
units, thresholds and vectors are chosen, on the other half they are measured.

With `model:` a published decoder is the base: it is not trained here, only continued, in float32
and on tokens of its own. What is counted in bytes for bytes is then counted in tokens (context,
excerpt, prompt, new); bits are always a byte of text. Its tokenizer must lose no byte of a text.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import codebook_text_concepts as concepts
import codebook_text_data as text
import codebook_text_figures as pictures
import codebook_text_models as networks
import codebook_text_steering as steering
import jax
import jax.numpy as jnp
import numpy as np
from codebook_text_models import BASE, CODES, EXTRA, HEADS, MLP, SAMPLED, TOPK

from activjax import codebooks, data, models, runs, stats
from activjax.codebooks import save_view
from activjax.runs import decoders, figures

QUESTION = (
    "What do codebooks in every layer of a small decoder of Python code cost, what do single codes "
    "stand for, and can one steer with them?"
)
TRAINED = "trained"
DEAD, PERPLEXITY, F1 = "codes never chosen", "perplexity of codes", "F1 of the best unit"


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    model: str | decoders.Pretrained | decoders.Saved = runs.static(
        TRAINED,
        help=f"{decoders.HELP}, or trained",
    )
    modules: int | None = runs.static(None, ge=8, help="of the library, at random; None for all")
    held_out: float = runs.static(0.12, gt=0, lt=1, help="a file's chance of being held out")
    documents: int = runs.static(48, ge=4, help="held-out files, an excerpt of each")
    excerpt: int = runs.static(1536, ge=64, help="tokens: context + a multiple of context / 2")
    layers: int = runs.static(3, ge=1, help="of a decoder that is trained here, on bytes")
    width: int = runs.static(128, ge=8, help="of the same")
    heads: int = runs.static(4, ge=1, help="of the same")
    context: int = runs.static(128, ge=32, help="tokens that are read at a time")
    batch: int = runs.static(8, ge=1, help="rows of context + 1 tokens a step")
    steps: int = runs.static(600, ge=1, help="of the base, if it is trained here")
    more_steps: int = runs.static(200, ge=1, help="of what continues it")
    learning_rate: float = runs.static(4e-3, gt=0, help="peak, of the base")
    more_rate: float = runs.static(1e-3, gt=0, help="peak, of the networks that continue it")
    codes: int = runs.static(1024, ge=2, help="of each MLP codebook")
    k: int = runs.static(8, ge=1)
    head_codes: int = runs.static(512, ge=2, help="of each head's codebook")
    head_k: int = runs.static(4, ge=1)
    code_rate: float = runs.static(1e-2, gt=0, help="peak, of codes")
    topk_rate: float = runs.static(3e-3, gt=0, help="peak, of TopK bottlenecks")
    lam: float = runs.static(1.0, ge=0, help="weight of the reconstruction errors")
    revive_every: int = runs.static(50, ge=1, help="steps between revivals of dead codes")
    draws: int = runs.static(3, ge=1, help="dealings of shuffled labels")
    steered: tuple[str, ...] = runs.static(
        ("in a comment", "in a docstring", "name after def"), help="concepts to steer towards"
    )
    prompts: int = runs.static(64, ge=4, help="each continued once a setting")
    prompt: int = runs.static(48, ge=8, help="tokens of a prompt")
    new: int = runs.static(64, ge=8, help="tokens of a continuation")
    temperature: float = runs.static(0.8, gt=0)
    random_draws: int = runs.static(3, ge=1, help="sets of random codes")
    coefficients: tuple[float, ...] = runs.static((1.0, 2.0, 4.0, 8.0), help="of added vectors")

    def __post_init__(self) -> None:
        for name in self.steered:
            if name not in text.CONCEPTS:
                raise ValueError(f"steered: {name!r} is none of {', '.join(text.CONCEPTS)}")
        if self.prompt + self.new - 1 > self.context:
            raise ValueError(
                f"prompt, new: {self.prompt} + {self.new} tokens do not fit the context of "
                f"{self.context}"
            )
        if self.prompts % 2 or not self.steered or not self.coefficients:
            raise ValueError(
                "prompts is even, steered and coefficients are not empty: one half chooses how to "
                "steer, the other measures"
            )


def data_files(config: Config) -> list[Any]:
    """The library's files, and the model's: other contents are another run."""
    own = [] if config.model == TRAINED else decoders.of(config.model).files()
    return [*text.library().files, *own]


def start(config: Config) -> tuple[models.Decoder, Any, data.Tokenizer]:
    """The decoder, its parameters (None if it is trained here), its tokenizer."""
    if config.model == TRAINED:
        return network(config), None, text.CODER
    found = decoders.of(config.model).load(param_dtype="float32")
    if config.context > (most := found.model.config.context):
        raise runs.ConfigError(f"context: the decoder has {most}, got {config.context}")
    return found.model, found.params, found.tokenizer


def network(config: Config) -> models.Decoder:
    """The decoder."""
    return models.decoder(
        vocab=text.CODER.vocab, context=config.context, layers=config.layers, width=config.width,
        heads=config.heads, norm="rms", positions="rotary", bias=False,
    )  # fmt: skip


class Trained(NamedTuple):
    """All models of a seed: parameters, and codebooks or bottlenecks, by kind."""

    params: dict[str, Any]
    extra: dict[str, Any]
    curves: dict[str, np.ndarray]


def trained(config: Config, net: networks.Network, given: Any, seed: int, say: Any) -> Trained:
    """The base, unless its parameters are given, and what continues it."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), seed), 3)
    rates = networks.Rates(
        config.more_rate, config.code_rate, config.topk_rate, config.lam, config.revive_every
    )
    base, first = given, {}
    if given is None:
        base, first = networks.train_base(net, config.learning_rate, config.steps, keys[0])
        say("base trained")
    more = config.more_steps
    extra, of_extra = networks.train_base(net, config.more_rate, more, keys[1], base)
    sampled = networks.first_codes(net, base, keys[2])
    coded, books, of_codes = networks.train_codes(net, base, sampled, rates, more, keys[1])
    say("codes trained")
    topk = networks.first_topk(net, base, keys[2])
    sparse, topk, of_topk = networks.train_topk(net, base, topk, rates, more, keys[1])
    say("TopK bottlenecks trained")
    curves = {BASE: first, EXTRA: of_extra, CODES: of_codes, TOPK: of_topk}
    return Trained(
        {BASE: base, EXTRA: extra, CODES: coded, TOPK: sparse, SAMPLED: base},
        {BASE: {}, EXTRA: {}, CODES: books, TOPK: topk, SAMPLED: sampled},
        {kind: one["loss"] / np.log(2) for kind, one in curves.items() if one},
    )


def main(config: Config, out: Any) -> runs.Result:
    """Train, score, search, steer."""
    train, rest = text.split(config.held_out, config.modules)
    model, given, tokenizer = start(config)
    held = text.excerpts(rest, config.documents, config.excerpt, config.context, tokenizer)
    heads = model.config.heads
    spec = {
        MLP: codebooks.Spec(config.codes, config.k),
        HEADS: codebooks.Spec(config.head_codes, config.head_k, groups=heads, axis=-2),
    }
    rows = text.rows(train, config.context + 1, tokenizer)
    net = networks.Network(model, spec, rows, config.batch, tokenizer)
    acts = ("blocks/mlp/post", MLP)
    readers = {
        BASE: networks.reader(net, BASE, acts), CODES: networks.reader(net, CODES),
        TOPK: networks.reader(net, TOPK),
    }  # fmt: skip
    kinds = {BASE: BASE, EXTRA: BASE, CODES: CODES, TOPK: TOPK, SAMPLED: CODES}
    first: tuple[Trained, dict[str, networks.Said]] | None = None
    bits: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    for seed in out.seeds.tolist():
        own = trained(config, net, given, seed, out.log)
        told: dict[str, networks.Said] = {}
        for kind, reads in kinds.items():
            one = networks.said(readers[reads], own.params[kind], own.extra[kind], held)
            bits[kind].append(one.bits.sum(1))
            if kind != BASE and first is None:  # a gigabyte for each seed and kind
                told[kind] = one
        first = first or (own, told)
        out.log(f"seed {seed} scored")
    assert first is not None
    own, told = first
    scored = {kind: np.stack(rows) for kind, rows in bits.items()}
    out.arrays({f"bits.{kind.replace(', ', '_').replace(' ', '_')}": v for kind, v in
                scored.items()})  # fmt: skip
    with tempfile.TemporaryDirectory() as away:
        paths = {
            CODES: out.folder / "codes",
            TOPK: Path(away, "topk"),
            SAMPLED: Path(away, "sampled"),
        }
        indexes = {
            kind: concepts.indexed(net, held, told[kind], path, kind=kind)
            for kind, path in paths.items()
        }
        results, second, marks = concepts.search(held, indexes, told[EXTRA], config.draws)
        used = {kind: concepts.usage(index) for kind, index in indexes.items()}
    out.log("concepts searched")
    starts = steering.prompts(held, second, marks, config.prompts, config.prompt)
    vectors = {
        name: steering.differences(told[EXTRA].acts[MLP], one, second)
        for name, one in marks.items()
    }
    steered = steer(config, net, own, indexes[CODES], results, starts, vectors)
    out.log("steered")
    view(net, own, indexes[CODES], results, steered, starts, config)
    found = summary(scored, held, used, results, steered, config)
    report(out, scored, held, results, steered, own)
    said = answer(found, results, steered) + caution(config, tokenizer)
    return runs.Result(QUESTION, said, found)


def caution(config: Config, tokenizer: data.Tokenizer) -> str:
    """What is to be known of a base that was not trained here."""
    if config.model == TRAINED:
        return ""
    begin = (
        " Texts stand without what its tokenizer begins a text with: what the base itself needs is "
        "too high for that, what continues it has learned to do without."
        if tokenizer.begin
        else ""
    )
    return (
        " The base is a published or saved model, which may have been trained on the held-out "
        f"files.{begin}"
    )


def steer(
    config: Config, net: networks.Network, own: Trained, index: Any,
    results: Mapping[str, concepts.Searched], starts: np.ndarray, vectors: Mapping[str, np.ndarray],
) -> dict[steering.Setting, steering.Outcome]:  # fmt: skip
    """All continuations, towards the concepts that have a code."""
    chosen = {
        name: steering.chosen_codes(results[name], net.model.config.layers)
        for name in config.steered
        if name in results and results[name].found.hits
    }
    if not chosen:
        raise ValueError("steered: no code goes with any of them; take more documents")
    runner = steering.Steering(
        net, (own.params[CODES], own.extra[CODES]), own.params[EXTRA], own.params[BASE], starts,
        new=config.new, temperature=config.temperature,
    )  # fmt: skip
    return steering.steer(runner, chosen, index, vectors, config.random_draws, config.coefficients)


# --- the answer -----------------------------------------------------------------------------------


def summary(
    scored: Mapping[str, np.ndarray], held: text.Held, used: Mapping[str, Any],
    results: Mapping[str, concepts.Searched], steered: Mapping[Any, Any], config: Config,
) -> tuple[runs.Row, ...]:  # fmt: skip
    """Every number with its interval and what it is to be read against."""
    seeds = len(scored[BASE])
    where = {"seeds of training": seeds}
    sizes = held.sizes
    mean = {kind: rows.mean(0) for kind, rows in scored.items()}
    n, base = len(sizes), float(mean[EXTRA].sum() / sizes.sum())
    rows = []
    for kind, bits in mean.items():
        value, low, high = stats.ratio_interval(bits, sizes)
        rows.append(
            runs.Row("bits a byte", value, low, high, n, "bits", base, EXTRA,
                     {"model": kind, **where})
        )  # fmt: skip
    for kind, bits in mean.items():
        if kind != EXTRA:
            value, low, high = stats.ratio_interval(bits - mean[EXTRA], sizes)
            rows.append(
                runs.Row("more bits a byte", value, low, high, n, "bits", 0.0, EXTRA,
                         {"model": kind, **where})
            )  # fmt: skip
    for i, name in enumerate((DEAD, PERPLEXITY)):
        level = float(used[SAMPLED][i].mean())
        for kind, values in used.items():
            rows.append(
                runs.Row.over(name, values[i], baseline=level, baseline_name=SAMPLED, model=kind)
            )
    for name, one in results.items():
        for kind, best in one.best.items():
            value, low, high = best.f1
            level = one.best[concepts.SHUFFLED].f1[0]
            rows.append(
                runs.Row(F1, value, low, high, one.found.reported_on.examples, "", level,
                         concepts.SHUFFLED, {"concept": name, "unit": kind})
            )  # fmt: skip
        codes, neuron = one.best[CODES], one.best[concepts.NEURON]
        for what in ("precision", "recall"):
            value, low, high = getattr(codes, what)
            rows.append(
                runs.Row(f"{what} of the best code", value, low, high,
                         one.found.reported_on.examples, "", getattr(neuron, what)[0],
                         concepts.NEURON, {"concept": name, "code": codes.name})
            )  # fmt: skip
    return (*rows, *steering_rows(steered, config))


BUDGET = 0.5  # bits a byte that steering may cost, over no steering


def steering_rows(steered: Mapping[Any, Any], config: Config) -> list[runs.Row]:
    """Success of each method within a budget of fluency: chosen on half of the prompts."""
    half, rows = config.prompts // 2, []
    choose, rest = slice(None, half), slice(half, None)
    for concept in dict.fromkeys(s.concept for s in steered):
        for method in (steering.FOUND, steering.RANDOM, steering.ADDED):
            plain = steered[
                steering.Setting(
                    concept, "none", "no codes" if method == steering.ADDED else "codes"
                )
            ]
            limit = plain.fluency(choose) + BUDGET
            own: dict[str, steering.Outcome] = {}  # all draws of random codes together
            for way in dict.fromkeys(s.way for s in steered if s.method == method):
                key = (concept, method, way)
                drawn = [o for s, o in steered.items() if (s.concept, s.method, s.way) == key]
                own[way] = steering.Outcome.mean(drawn)
            own = {way: o for way, o in own.items() if o.fluency(choose) <= limit}
            best = max(own, key=lambda way: own[way].rate(choose)[0], default=None)
            outcome = plain if best is None else own[best]
            way = "none is within" if best is None else best
            value, low, high = outcome.rate(rest)
            rows.append(
                runs.Row(
                    "continuations with the concept", value, low, high, half, "",
                    plain.rate(rest)[0], "not steered",
                    {"concept": concept, "method": method, "way": way,
                     "budget in bits a byte": BUDGET},
                )
            )  # fmt: skip
    return rows


def answer(
    rows: tuple[runs.Row, ...], results: Mapping[str, concepts.Searched], steered: Mapping[Any, Any]
) -> str:
    """Three sentences from the rows."""
    more = {r.where["model"]: r for r in rows if r.name == "more bits a byte"}
    level = next(r for r in rows if r.name == "bits a byte" and r.where["model"] == EXTRA)

    def cost(kind: str) -> str:
        return f"{more[kind].value:+.3f} [{more[kind].low:+.3f}, {more[kind].high:+.3f}]"

    wins = {
        kind: sum(one.best[CODES].f1[1] > one.best[kind].f1[2] for one in results.values())
        for kind in (concepts.NEURON, SAMPLED, TOPK)
    }
    losses = {
        kind: sum(one.best[CODES].f1[2] < one.best[kind].f1[1] for one in results.values())
        for kind in wins
    }
    top = max(results, key=lambda name: results[name].best[CODES].f1[0])
    steer = [r for r in rows if r.name == "continuations with the concept"]
    told = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{r.where['method']} {r.value:.0%} (not steered {r.baseline:.0%})"
            for r in steer
            if r.where["concept"] == name
        )
        for name in dict.fromkeys(str(r.where["concept"]) for r in steer)
    )
    by = {(r.where["concept"], r.where["method"]): r for r in steer}
    names = list(dict.fromkeys(concept for concept, _ in by))
    better = sum(
        (by[name, steering.FOUND].low or 0) > (by[name, steering.RANDOM].high or 0)
        for name in names
    )
    return (
        f"Over the base continued for as many steps ({level.value:.3f} bits a byte), codes cost "
        f"{cost(CODES)} bits a byte, TopK bottlenecks {cost(TOPK)}, and sampled activations as "
        f"codes {cost(SAMPLED)}. The best single code has a higher F1 than the best neuron for "
        f"{wins[concepts.NEURON]} of {len(results)} concepts (a lower one for "
        f"{losses[concepts.NEURON]}), than a TopK unit for {wins[TOPK]} ({losses[TOPK]}), and than "
        f"an untrained code for {wins[SAMPLED]} ({losses[SAMPLED]}), intervals apart; the best is "
        f"{results[top].best[CODES].f1[0]:.2f} for '{top}'. Share of continuations that show the "
        f"concept, at a cost of at most {BUDGET:g} bits a byte: {told}; found codes beat random "
        f"ones for {better} of {len(names)} concepts, intervals apart."
    )


# --- the report -----------------------------------------------------------------------------------

USAGE = ("model", "bits a byte", "more than the base")
COLUMNS = (
    "concept",
    "base rate",
    "unit",
    "which",
    "precision",
    "recall",
    "lift",
    "F1",
    "chosen F1",
)
STEERED = ("concept", "method", "way", "draw", "share", "low", "high", "bits a byte")


def report(
    out: Any, scored: Mapping[str, np.ndarray], held: text.Held,
    results: Mapping[str, concepts.Searched], steered: Mapping[Any, Any], own: Trained,
) -> None:  # fmt: skip
    """Figures, tables and samples."""
    mean = {kind: rows.mean(0) for kind, rows in scored.items()}
    order = (BASE, CODES, TOPK, SAMPLED)
    names = list(dict.fromkeys(s.concept for s in steered))
    with figures.style():
        drawn = {
            "cost": pictures.cost_figure({k: mean[k] - mean[EXTRA] for k in order}, held.sizes),
            "concepts": pictures.concepts_figure(results),
            "steering": pictures.steering_figure(steered, names),
        }
        for name, fig in drawn.items():
            out.figure(name, fig, caption=pictures.CAPTIONS[name])
    out.array("steering.shows", np.stack([o.shows for o in steered.values()]))
    out.array("steering.bits", np.stack([o.bits for o in steered.values()]))
    for kind, curve in own.curves.items():
        out.array(f"loss.{kind.replace(', ', '_').replace(' ', '_')}", curve)
    lines = [
        [name, one.base_rate, kind, best.name, best.precision[0], best.recall[0], best.lift,
         best.f1[0], best.chosen]
        for name, one in results.items()
        for kind, best in ((k, one.best[k]) for k in concepts.SEARCHES)
    ]  # fmt: skip
    out.table("concepts", lines, COLUMNS, "The best single units, measured on the other half.")
    lines = [
        [s.concept, s.method, s.way, s.draw, *o.rate(), o.fluency()] for s, o in steered.items()
    ]
    out.table("steering", lines, STEERED, "Every setting, over all prompts.")
    for name in names:
        shown = [
            f"--- {s.method}, {s.way}\n{o.texts[0]}\n{o.texts[1]}"
            for s, o in steered.items()
            if s.concept == name and s.draw == 0
        ]
        out.text(f"samples_{name.replace(' ', '_')}", "\n".join(shown),
                 caption=f"Two continuations of each setting: {name}.")  # fmt: skip


SHOWN = 4  # prompts of each setting
ENDS = 5  # tokens that a code raises most, and lowers most


def effects_of(config: Any, params: Any, books: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By site the tokens whose logits each code changes most, straight through the final norm.

    Left out are heads whose sum goes through a norm of its own: a code has no one effect there.
    """
    scale = np.asarray(params["final"]["scale"]) + (config.norm == "rms_1p")
    head = params["embed"]["table"] if config.tied else params["head"]["kernel"].T
    table = np.asarray(head) * scale
    table -= table.mean(0)  # only differences between tokens count
    if config.norm == "layer":
        table -= table.mean(1, keepdims=True)
    kernel = np.asarray(params["blocks"]["attn"]["out"]["kernel"])
    heads = kernel.reshape(config.layers, config.heads, -1, config.width)
    effects = {}
    for site in books:
        if site == HEADS and config.out_norm:
            continue
        codes = np.asarray(books[site]["codes"] * books[site]["scale"][..., None, None])
        if site == HEADS:
            codes = codes @ heads
        shape = (*codes.shape[:-1], 2 * ENDS)
        ids, values = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        for at in np.ndindex(shape[:-2]):  # all at once would be codes x vocabulary numbers
            change = codes[at] @ table.T
            ids[at] = extremes(change)
            values[at] = np.take_along_axis(change, ids[at], axis=-1)
        effects[site] = ids, values
    return effects


def extremes(change: np.ndarray) -> np.ndarray:
    """The places of the largest and the smallest values of each row, the largest first."""
    order = np.argpartition(-change, (ENDS - 1, change.shape[-1] - ENDS), axis=-1)
    ends = np.concatenate([order[:, :ENDS], order[:, -ENDS:]], axis=-1)
    by_size = np.argsort(-np.take_along_axis(change, ends, axis=-1), axis=-1, kind="stable")
    return np.take_along_axis(ends, by_size, axis=-1)


def view(
    net: networks.Network, own: Trained, index: Any, results: Mapping[str, concepts.Searched],
    steered: Mapping[Any, Any], starts: np.ndarray, config: Config,
) -> None:  # fmt: skip
    """What `activjax codes` shows beside the index."""
    effects = effects_of(net.model.config, own.params[CODES], own.extra[CODES])
    records = []
    for concept in dict.fromkeys(s.concept for s in steered):
        for way in steering.WAYS:
            middle = config.coefficients[len(config.coefficients) // 2]
            added = f"{middle:g} x, {steering.REACH[0]}"
            outcomes = {
                "baseline": steered[steering.Setting(concept, "none", "codes")],
                "steered": steered[steering.Setting(concept, steering.FOUND, way)],
                "random": steered[steering.Setting(concept, steering.RANDOM, way)],
                steering.ADDED: steered[steering.Setting(concept, steering.ADDED, added)],
            }
            for number, start in enumerate(starts[:SHOWN]):
                texts = {name: o.texts[number] for name, o in outcomes.items()}
                records.append(
                    {
                        "prompt": net.tokenizer.decode(start),
                        "setting": f"{concept}: {way}; vectors {added}",
                        "others": {steering.ADDED: texts.pop(steering.ADDED)},
                        **texts,
                        "metrics": {
                            "share with the concept": {k: o.rate()[0] for k, o in outcomes.items()},
                            "bits a byte": {k: o.fluency() for k, o in outcomes.items()},
                        },
                    }
                )
    labels = {one.found.best.code: name for name, one in results.items() if one.found.best}
    save_view(index.path, effects=effects, steering=records, labels=labels)


def sites(config: Config) -> Any:
    """The decoder, for `activjax sites`; no parameters are made or read."""
    if config.model == TRAINED:
        model = network(config)
        params = jax.eval_shape(model.init, jax.random.key(0))
    else:
        model, params, _ = decoders.of(config.model).abstract()
    return model.apply, (params, jax.ShapeDtypeStruct((config.batch, config.context), jnp.int32))
