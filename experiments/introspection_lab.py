"""Can a small model learn to report what was put into its residual stream?

A decoder is pre-trained on the concept language (64 concepts with names and attributes) until it
answers questions about texts, and "NO" to the question whether it detects a thought. Concept
vectors are read from it. It is then fine-tuned (LoRA) to answer "YES" and the concept's name when a
concept's vector is added to its residual stream at one single token, and tested on concepts that
it was never trained on: "Training Introspective Behavior" (Fonseca Rivera 2025), with the controls
that its evaluation lacks. A report counts only if it is affirmed, not denied, names the concept,
and claims before it names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from introspection_curves import CURVES, Curve, curves_of, layer_maps
from introspection_figures import (
    CAPTIONS,
    confusion_figure,
    controls_figure,
    curve_figures,
    dose_figure,
    map_figure,
)
from introspection_world import World, model_of, network, talk, trials_of, tuned

from activjax import introspection, runs, stats
from activjax.runs import figures

QUESTION = (
    "Can a model learn to report which concept was put into its activations, for concepts that it "
    "was never trained on, without reporting thoughts that are not there?"
)
HELD, TRAINED, AGAIN = "injected, held out", "injected, trained", "wrong prompt, nothing put in"


@dataclasses.dataclass(frozen=True)
class Config(World):
    """What may be set in the YAML file."""

    doses: tuple[float, ...] = runs.static(
        (-1.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 8.0),
        help="strengths of the dose curve; 1 is always among them",
    )
    maps: bool = runs.static(True, help="layer by layer: trained at one, put in at another")
    training_concepts: tuple[int, ...] = runs.static((5, 10, 20), help="besides all")
    ranks: tuple[int, ...] = runs.static((2, 8), help="besides `rank`")
    back: tuple[int, ...] = runs.static((1, 2, 3), help="tokens before the last prompt token")
    documents: int = runs.static(400, ge=2, help="of the language, for side effects")


@dataclasses.dataclass(frozen=True)
class Seen:
    """What was found of one network."""

    seed: int
    before: introspection.Report
    after: introspection.Report
    side: introspection.SideEffects
    loss: np.ndarray


def doses_of(config: Config) -> tuple[float, ...]:
    """Strengths at which everything is asked."""
    return tuple(sorted({*map(float, config.doses), 1.0}))


def main(config: Config, out: Any) -> runs.Result:
    """Pre-train, fine-tune, ask."""
    model, seen, curves, maps = model_of(config), [], [], []
    for seed in range(config.first, config.first + config.networks):
        net = network(config, out, seed)
        trials = trials_of(config, net)
        after = tuned(config, net, trials)
        report = introspection.evaluate(
            model, after.params, net.bank, trials, strengths=doses_of(config)
        )
        before = introspection.evaluate(model, net.params, net.bank, trials)
        documents = talk().replay(config.documents, seed=1_000_000 + seed)
        side = introspection.side_effects(model, after.params, net.params, documents)
        seen.append(Seen(seed, before, report, side, after.curves["loss"]))
        held = report.get(HELD, 1.0)
        out.log(
            f"seed {seed}: held out, detected {held.rate('detected')}, identified "
            f"{held.rate('identified')}"
        )
        curves.append(curves_of(config, net, after))
        if config.maps:
            maps.append(layer_maps(config, net, after))
    keep(config, seen, curves, maps, out)
    return runs.Result(QUESTION, answer(seen), tuple(summarised(seen, curves)))


def sites(config: Config) -> Any:
    """The decoder, for `activjax sites`."""
    model = model_of(config)
    params = jax.eval_shape(model.init, jax.random.key(0))
    shape = (config.base_batch, model.config.context)
    return model.apply, (params, jax.ShapeDtypeStruct(shape, np.int32))


# --- numbers ---


def over_networks(name: str, rates: Sequence[introspection.Rate], **row: Any) -> runs.Row:
    """The mean over networks, with the interval over them.

    One network has the interval over its concepts. Where all networks agree, a t interval would
    have no width: the binomial one of all their clusters stands in.
    """
    values = np.array([r.value for r in rates])
    distinct = sum(r.distinct for r in rates)
    where = {"distinct inputs": distinct, **row.pop("where", {})}
    if len(rates) == 1:
        low, high = rates[0].low, rates[0].high
    elif (values == values[0]).all():
        clusters = sum(r.clusters for r in rates)
        hits = np.zeros(clusters, bool)
        hits[: round(values[0] * clusters)] = True
        pooled = introspection.rate(hits, np.arange(clusters), clusters)
        low, high = pooled.low, pooled.high
    else:
        mean, half = stats.mean_interval(values)
        low, high = max(0.0, float(mean - half)), min(1.0, float(mean + half))
    return runs.Row(
        name, float(values.mean()), low, high, len(rates), "", row.pop("baseline"),
        row.pop("baseline_name"), where,
    )  # fmt: skip


def summarised(seen: Sequence[Seen], curves: Sequence[dict[str, Curve]]) -> list[runs.Row]:
    """The numbers at strength 1, each beside the network before fine-tuning."""
    chance = seen[0].after.chance
    rows = []

    def row(title: str, condition: str, measure: str, baseline: Any = None, **where: Any) -> None:
        rates = [s.after.get(condition).rate(measure) if condition in ("clean", "mention", AGAIN)
                 else s.after.get(condition, 1.0).rate(measure) for s in seen]  # fmt: skip
        name = f"naming one of {len(seen[0].after.talk.names)} by chance"
        if baseline is None:
            baseline = float(np.mean([s.before.get(condition).rate(measure).value for s in seen]))
            name = "before fine-tuning"
        rows.append(over_networks(title, rates, baseline=baseline, baseline_name=name, where=where))

    row("thought detected", HELD, "detected", concepts="held out")
    row("concept identified", HELD, "identified", chance, concepts="held out")
    row("concept identified, of the detected", HELD, "identified if detected", chance,
        concepts="held out")  # fmt: skip
    row("concept named after a forced claim", HELD, "forced", chance, concepts="held out")
    row("thought detected", TRAINED, "detected", concepts="trained")
    row("concept identified", TRAINED, "identified", chance, concepts="trained")
    row("false positives", "clean", "detected", prompt="names no concept")
    row("false positives", "mention", "detected", prompt="mentions a concept")
    row("random vector detected", "noise", "detected")
    row("concept identified", "mismatch", "identified", chance,
        concepts="held out", prompt="mentions another")  # fmt: skip
    row("mentioned concept named instead", "mismatch", "names the mentioned", chance)
    row("thought reported", "wrong prompt", "detected", prompt="asks for the topic")
    row("right answer", "wrong prompt", "right answer", chance, prompt="asks for the topic",
        put="a concept")  # fmt: skip
    row("concept put in named instead", "wrong prompt", "names the injected", chance,
        prompt="asks for the topic")  # fmt: skip
    row("right answer", AGAIN, "right answer", prompt="asks for the topic", put="nothing")
    over = runs.Row.over
    rows += [
        over("KL from the network before, on its language", [s.side.kl.mean() for s in seen],
             unit="nats", baseline=0.0, baseline_name="no training"),
        over("cross-entropy on its language", [s.side.after.mean() for s in seen], unit="nats",
             baseline=[s.side.before.mean() for s in seen], baseline_name="before fine-tuning"),
    ]  # fmt: skip
    for name, title in CURVES.items():
        for i, value in enumerate(curves[0][name].x if curves[0] else ()):
            rates = [c[name].rates[i]["identified"] for c in curves]
            rows.append(
                over_networks("concept identified", rates, baseline=chance, baseline_name="chance",
                              where={"concepts": "held out", title: value})
            )  # fmt: skip
    return rows


def answer(seen: Sequence[Seen]) -> str:
    """A few plain sentences."""

    def mean(condition: str, measure: str, strength: float | None = 1.0) -> str:
        return (
            f"{np.mean([s.after.get(condition, strength).rate(measure).value for s in seen]):.0%}"
        )

    def inputs(condition: str) -> int:
        return sum(s.after.get(condition).rows.distinct for s in seen)

    false = mean("clean", "detected", None), mean("mention", "detected", None)
    return (
        f"At strength 1 (the mean residual norm), put in at one single token, held-out concepts "
        f"are detected in {mean(HELD, 'detected')} and identified in {mean(HELD, 'identified')} of "
        f"trials (trained ones {mean(TRAINED, 'identified')}, chance "
        f"{seen[0].after.chance:.1%}, before fine-tuning "
        f"{np.mean([s.before.get(HELD).rate('identified').value for s in seen]):.0%}); with the "
        f"claim written for the model, {mean(HELD, 'forced')} are named. Thoughts are reported on "
        f"{false[0]} of {inputs('clean')} different clean prompts, on {false[1]} of "
        f"{inputs('mention')} that mention a concept, and for {mean('noise', 'detected')} of "
        f"random vectors of the same length. While the topic of a text is asked for, a concept put "
        f"in leaves {mean('wrong prompt', 'right answer')} right answers "
        f"({mean(AGAIN, 'right answer', None)} with nothing put in) and is named in its "
        f"place in {mean('wrong prompt', 'names the injected')}. Means over "
        f"{len(seen)} network{'s' if len(seen) > 1 else ''}."
    )


# --- what is kept ---


def keep(
    config: Config, seen: Sequence[Seen], curves: Sequence[Any], maps: Sequence[Any], out: Any
) -> None:
    """Tables, figures, arrays and dialogues."""
    for s in seen:
        columns, rows = s.after.table()
        chosen = [r for r in rows if r[1] in (0.0, 1.0)]
        out.table(f"conditions-seed{s.seed}", chosen, columns, caption=CAPTIONS["table"])
    out.text("dialogues", seen[0].after.dialogues(), caption=CAPTIONS["dialogues"])
    confusion = np.sum([s.after.confusion(HELD, 1.0) for s in seen], axis=0)
    out.arrays(confusion=confusion, loss=np.stack([s.loss for s in seen]))
    with figures.style():
        out.figure("controls", controls_figure(seen), caption=CAPTIONS["controls"])
        dose = dose_figure(seen, doses_of(config), config.strengths)
        out.figure("dose", dose, caption=CAPTIONS["dose"])
        if curves[0]:
            out.figure("curves", curve_figures(curves), caption=CAPTIONS["curves"])
        if maps:
            out.arrays(**{f"map_{name}": np.stack([m[name] for m in maps]) for name in maps[0]})
            out.figure("layers", map_figure(maps), caption=CAPTIONS["layers"])
        out.figure("confusion", confusion_figure(seen[0].after, confusion, [
            c for s in seen for c in np.unique(s.after.get(HELD, 1.0).rows.concept)
        ]), caption=CAPTIONS["confusion"])  # fmt: skip
