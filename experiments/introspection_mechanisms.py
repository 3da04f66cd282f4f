"""What makes a small model report what was put into its activations?

On the networks of `introspection_lab.py`, the claims of "Mechanisms of Introspective Awareness"
(2026, arXiv 2603.21396) about a large model, each beside what chance or no treatment gives: that
removing a direction of refusal at all layers uncovers detection; that one trained vector, added to
the output of one MLP, does; that detection grows with the strength; that MLP units which carry
evidence rise with the strength and units that gate the answer fall, with an effect when they are
patched; that preferences (DPO) teach what answers to imitate (SFT) do not.

The laboratory differs from that model in one respect that matters: before it is fine-tuned, the
network has never written "YES". There is nothing to uncover in it. So directions and vectors are
also tried on the fine-tuned network, where a weak injection goes unnoticed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from introspection_mechanisms_figures import (
    CAPTIONS,
    ablation_figure,
    dose_figure,
    preference_figure,
    unit_figure,
)
from introspection_mechanisms_look import (
    Ablated,
    Doses,
    Hits,
    Units,
    ablations,
    doses,
    of_condition,
    pooled,
    question_direction,
    repeated,
    rising,
    units,
)
from introspection_world import Network, World, model_of, network, trials_of, tuned

from activjax import introspection, runs
from activjax.runs import figures

QUESTION = (
    "Which of the mechanisms described for a large model make a small one report what was put into "
    "its activations: a gate that can be removed, a bias that can be trained, evidence that MLP "
    "units carry, preferences rather than imitation?"
)
HELD, AGAIN = "injected, held out", "wrong prompt, nothing put in"
SFT, PLAIN, DPO, BOTH = "SFT", "SFT without replay", "DPO", "half SFT, then half DPO"
BIASED, BIASED_TUNED, RANDOM = "bias, network before", "bias, network after SFT", "random bias"


@dataclasses.dataclass(frozen=True)
class Config(World):
    """What may be set in the YAML file."""

    weak: float = runs.static(0.25, gt=0, help="an injection that often goes unnoticed")
    weights: tuple[float, ...] = runs.static((0.0, 0.25, 0.5, 0.75, 1.0), help="of an ablation")
    draws: int = runs.static(8, ge=1, help="random directions, and random sets of units")
    tuning: int = runs.static(256, ge=8, help="training trials that weights are chosen by")
    bias_layer: int = runs.static(2, ge=0, help="of the MLP that a vector is trained for")
    bias_rate: float = runs.static(1e-2, gt=0)
    dpo_rate: float = runs.static(1e-3, gt=0)
    beta: float = runs.static(0.1, gt=0, help="of DPO")
    units: int = runs.static(32, ge=1, help="gates, and carriers of evidence, to patch")
    doses: tuple[float, ...] = runs.static(
        (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.5, 2.0, 3.0)
    )


class Seen(NamedTuple):
    """Everything measured of one network."""

    reports: dict[str, introspection.Report]
    ablated: Ablated
    random: list[Ablated]
    untrained: Ablated
    doses: Doses
    untrained_doses: Doses
    units: Units
    preferred: np.ndarray


def main(config: Config, out: Any) -> runs.Result:
    """Train in every way, look."""
    seen = []
    for seed in range(config.first, config.first + config.networks):
        seen.append(one(config, network(config, out, seed), out))
    rows = summarised(config, seen)
    keep(config, seen, out)
    return runs.Result(QUESTION, answer(config, seen), tuple(rows))


def sites(config: Config) -> Any:
    """The decoder, for `activjax sites`."""
    model = model_of(config)
    params = jax.eval_shape(model.init, jax.random.key(0))
    shape = (config.base_batch, model.config.context)
    return model.apply, (params, jax.ShapeDtypeStruct(shape, np.int32))


def one(config: Config, net: Network, out: Any) -> Seen:
    """All that is measured of a network."""
    net = net._replace(params=placed(net.params), bank=placed(net.bank))
    trials, trained = trials_of(config, net), trainings(config, net)
    reports = {"before": told(config, net, trials, model_of(config), net.params)}
    for name, after in trained.items():
        reports[name] = told(config, net, trials, after.model, placed(after.params))
        out.log(f"seed {net.seed}, {name}: {reports[name].get(HELD, 1.0).rate('identified')}")
    params = placed(trained[SFT].params)
    direction = question_direction(config, net, params, trials, config.tuning)
    rng = np.random.default_rng(net.seed)
    sizes = np.linalg.norm(direction, axis=-1, keepdims=True)
    drawn = rng.standard_normal((config.draws, *direction.shape))
    drawn = sizes * drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
    before = question_direction(config, net, net.params, trials, config.tuning)
    return Seen(
        reports,
        ablations(config, net, params, trials, placed(direction)),
        [ablations(config, net, params, trials, placed(np.float32(d))) for d in drawn],
        ablations(config, net, net.params, trials, placed(before)),
        doses(config, net, params, trials),
        doses(config, net, net.params, trials),
        units(config, net, params, trials),
        trained[DPO].curves["preferred"],
    )


def placed(tree: Any) -> Any:
    """Arrays on the first device for good: then equal shapes find the program compiled before."""
    return jax.device_put(tree, jax.devices()[0])


def trainings(config: Config, net: Network) -> dict[str, introspection.Tuned]:
    """The network after each kind of training, as many examples in each."""
    trials = trials_of(config, net)
    plain = dataclasses.replace(
        trials, mix={k: v for k, v in trials.mix.items() if k != "replay"}
    )  # as DPO, which has no use for documents
    weak = dataclasses.replace(trials, strengths=(config.weak,))
    half = config.steps // 2
    prefer = {"objective": "dpo", "beta": config.beta, "rate": config.dpo_rate}
    vector: Any = {
        "adapter": introspection.Bias(layer=min(config.bias_layer, config.layers - 1)),
        "rate": config.bias_rate,
    }
    sft = tuned(config, net, trials)
    first = tuned(config, net, plain, steps=half)
    after = tuned(config, net._replace(params=placed(sft.params)), weak, **vector)
    length = float(np.linalg.norm(after.trained["bias"]))
    drawn = np.random.default_rng(net.seed).standard_normal(after.trained["bias"].shape)
    drawn = (length * drawn / np.linalg.norm(drawn)).astype(np.float32)
    return {
        SFT: sft,
        PLAIN: tuned(config, net, plain),
        DPO: tuned(config, net, plain, **prefer),
        BOTH: tuned(config, net._replace(params=placed(first.params)), plain, steps=half, **prefer),
        BIASED: tuned(config, net, trials, **vector),
        BIASED_TUNED: after,
        RANDOM: dataclasses.replace(after, params={**after.params, "bias": drawn}),
    }


def told(config: Config, net: Network, trials: Any, model: Any, params: Any) -> Any:
    """The report at both strengths."""
    strengths = (config.weak, 1.0)
    return introspection.evaluate(model, params, net.bank, trials, strengths=strengths)


# --- numbers ---


def over(seen: Sequence[Seen], name: str, condition: str, measure: str, strength: Any) -> Hits:
    """Outcomes of one condition under one training, all networks together."""
    return pooled([of_condition(s.reports[name].get(condition, strength), measure) for s in seen])


def row(name: str, hits: Hits, baseline: float, baseline_name: str, **where: Any) -> runs.Row:
    """A share with its interval over concepts."""
    r = hits.rate
    return runs.Row(name, r.value, r.low, r.high, r.distinct, "", baseline, baseline_name, where)


def summarised(config: Config, seen: Sequence[Seen]) -> list[runs.Row]:
    """The numbers, each beside what is trivial."""
    rows: list[runs.Row] = []
    asked = {
        "detected": (HELD, "detected", 1.0),
        "identified": (HELD, "identified", 1.0),
        "false positives, prompt mentions a concept": ("mention", "detected", None),
        "random vector detected": ("noise", "detected", 1.0),
        "right answer to another question": (AGAIN, "right answer", None),
    }
    for name, (condition, measure, strength) in asked.items():
        before = over(seen, "before", condition, measure, strength).rate.value
        rows += [row(name, over(seen, how, condition, measure, strength), before,
                     "before training", training=how)
                 for how in (SFT, PLAIN, DPO, BOTH)]  # fmt: skip
    biased = {
        "detected, weak": (HELD, "detected", config.weak),
        "detected": (HELD, "detected", 1.0),
        "false positives, prompt mentions a concept": ("mention", "detected", None),
        "random vector detected": ("noise", "detected", 1.0),
    }
    for name, (condition, measure, strength) in biased.items():
        for how, base in ((BIASED, "before"), (BIASED_TUNED, SFT), (RANDOM, SFT)):
            bare = over(seen, base, condition, measure, strength).rate.value
            rows.append(row(name, over(seen, how, condition, measure, strength), bare,
                            "without the vector", vector=how))  # fmt: skip
    for name in seen[0].ablated.chosen:
        random = [repeated([r.chosen[name] for r in s.random]) for s in seen]
        chance = pooled(random).rate.value
        untouched = float(np.mean([s.ablated.uniform[name][0] for s in seen]))
        for how, hits, base, what in (
            ("after SFT", [s.ablated.chosen[name] for s in seen], chance, "random direction"),
            ("after SFT, random direction", random, untouched, "nothing removed"),
            ("before", [s.untrained.chosen[name] for s in seen], 0.0, "nothing removed"),
        ):  # fmt: skip
            rows.append(row(f"says YES, question direction removed: {name}", pooled(hits), base,
                            what, network=how))  # fmt: skip
    return rows + dose_rows(config, seen) + unit_rows(seen)


def dose_rows(config: Config, seen: Sequence[Seen]) -> list[runs.Row]:
    """Concepts whose claim never falls with the strength, by layer of the injection."""
    rows = []
    for i, layer in enumerate(dict.fromkeys((config.layer, config.layers - 1))):
        for how in ("after SFT", "before"):
            found = [s.doses if how == "after SFT" else s.untrained_doses for s in seen]
            of = [rising(config, d.concepts[i]) for d in found]
            chance = np.concatenate([rising(config, d.noise[i]) for d in found]).mean()
            hits = pooled([Hits(h, np.arange(len(h)), len(h)) for h in of])
            rows.append(row("claim never falls up to strength 1", hits, float(chance),
                            "random vectors", network=how, layer=layer))  # fmt: skip
    return rows


def unit_rows(seen: Sequence[Seen]) -> list[runs.Row]:
    """Nats by which patching moves the claim against the denial, in parts of the whole."""
    rows = []
    for name in dict.fromkeys(n for s in seen for n in s.units.effect):
        some = [s.units for s in seen if name in s.units.effect]
        share, chance = (
            np.concatenate([getattr(u, f)[name] / u.whole[name].mean() for u in some])
            for f in ("effect", "chance")
        )
        every = name.startswith("all units")
        rows.append(runs.Row.over(
            "share of the way from one run to the other, MLP units patched", share,
            baseline=0.0 if every else float(chance.mean()),
            baseline_name="none patched" if every else "as many random units", units=name,
        ))  # fmt: skip
    return rows


def answer(config: Config, seen: Sequence[Seen]) -> str:
    """A few plain sentences."""

    def share(how: str, condition: str, measure: str = "detected", strength: Any = None) -> str:
        return f"{over(seen, how, condition, measure, strength).rate.value:.0%}"

    def removed(name: str, random: bool = False) -> str:
        found = [r for s in seen for r in (s.random if random else [s.ablated])]
        return f"{pooled([a.chosen[name] for a in found]).rate.value:.0%}"

    bare = {k: f"{np.mean([s.ablated.uniform[k][0] for s in seen]):.0%}"
            for k in seen[0].ablated.uniform}  # fmt: skip
    share_of = {str(r.where["units"]): r for r in unit_rows(seen)}
    parts = "; ".join(
        f"{name} {r.value:.0%} (random ones {r.baseline:.0%})" for name, r in share_of.items()
        if not name.startswith("all") and r.baseline is not None
    )  # fmt: skip
    every = " and ".join(f"{r.value:.0%}" for n, r in share_of.items() if n.startswith("all"))
    first = dose_rows(config, seen)[0]
    means = [rising(config, s.doses.concepts[0].mean(axis=0)[None])[0] for s in seen]
    return (
        f"Held-out concepts at strength 1 are identified by {share(SFT, HELD, 'identified', 1.0)} "
        f"after SFT, {share(PLAIN, HELD, 'identified', 1.0)} without replay, "
        f"{share(DPO, HELD, 'identified', 1.0)} after DPO and "
        f"{share(BOTH, HELD, 'identified', 1.0)} after half of each, at equal examples. A vector "
        f"trained for one MLP gives a network that has never written YES "
        f"{share(BIASED, HELD, strength=1.0)} detection (and {share(BIASED, 'noise', strength=1.0)}"
        f" of random vectors); after SFT it takes detection at strength {config.weak:g} from "
        f"{share(SFT, HELD, strength=config.weak)} to "
        f"{share(BIASED_TUNED, HELD, strength=config.weak)}, and false positives on prompts that "
        f"mention a concept from {share(SFT, 'mention')} to {share(BIASED_TUNED, 'mention')} (a "
        f"random vector of its length: {share(RANDOM, HELD, strength=config.weak)} and "
        f"{share(RANDOM, 'mention')}). The direction of the question removed, weights chosen on "
        f"training trials: at strength {config.weak:g} {bare['held out, weak']} becomes "
        f"{removed('held out, weak')}, at 1 {bare['held out']} becomes {removed('held out')}, false"
        f" positives on mentions {bare['mention']} become {removed('mention')} (random directions: "
        f"{removed('held out, weak', True)}, {removed('held out', True)}, "
        f"{removed('mention', True)}). Up to strength 1 the claim never falls for "
        f"{first.value:.0%} of concepts (random vectors {first.baseline:.0%}), and on average over "
        f"concepts in {sum(means)} of {len(means)} networks. Patching MLP "
        f"units moves the answer by these shares of the way from one run to the other: {parts}; "
        f"all of them {every}."
    )


# --- what is kept ---


def keep(config: Config, seen: Sequence[Seen], out: Any) -> None:
    """Tables, figures, arrays."""
    first = seen[0]
    for name, report in first.reports.items():
        columns, rows = report.table()
        key = "".join(c if c.isalnum() else "-" for c in name)
        out.table(f"seed0-{key}", rows, columns, caption=f"All conditions, first network: {name}.")
    out.arrays(
        weights=np.stack([s.ablated.weights for s in seen]),
        doses=np.stack([s.doses.concepts for s in seen]),
        doses_noise=np.stack([s.doses.noise for s in seen]),
        preferred=np.stack([s.preferred for s in seen]),
        correlation=np.stack([np.asarray(s.units.seen.correlation) for s in seen]),
        attribution=np.stack([np.asarray(s.units.seen.attribution) for s in seen]),
    )
    with figures.style():
        out.figure("ablation", ablation_figure(config, seen), caption=CAPTIONS[0])
        out.figure("doses", dose_figure(config, seen), caption=CAPTIONS[1])
        out.figure("preferences", preference_figure(seen), caption=CAPTIONS[2])
        out.figure("units", unit_figure(seen), caption=CAPTIONS[3])
