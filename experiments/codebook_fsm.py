"""Do codebook features find the states of a finite-state machine, and can they be set by hand?

A small transformer learns TokFSM (100 states, ten successors each, two digits a state) and is then
trained on with a codebook after every MLP and in every attention head, one code a token. "Codebook
Features" (Tamkin, Taufeeque and Goodman 2023, section 3) reports that single codes stand for single
states, more precisely than any neuron, and that putting the codes of another state in place makes
the network go on from that state. Codes that are untrained activations of the same network, put in
their place without any training, are the control that the paper lacks.

For each state the code of highest F1 at its second digit is chosen on one half of the texts; its
precision and recall are those on the other half.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from codebook_fsm_lab import MLP, Config, Lab, Network, Texts, lab_of, train
from codebook_fsm_look import (
    SIZE,
    Found,
    Kind,
    Programs,
    Ratio,
    best_codes,
    jsd_ratio,
    kinds,
    neurons_at_recall,
)

from activjax import codebooks, runs
from activjax.runs import figures

QUESTION = (
    "Do single codes stand for single states of a finite-state machine, and does the network go on "
    "from another state when its codes are put in place?"
)


class Seen(NamedTuple):
    """Everything measured of one network with codebooks."""

    nats: np.ndarray  # [texts], a token
    accuracy: np.ndarray  # [written texts]
    states: list[Found]  # by layer
    patched: dict[str, dict[str, Ratio]]  # by what is put in place, then by kind


SETTINGS = {"state": "a state", "digit": "a state and a digit"}


def look(
    programs: Programs, network: Network, texts: Texts, half: np.ndarray, which: list[Kind]
) -> Any:
    """What is measured of a network, and what it computed."""
    config, machine = programs.lab.config, programs.lab.machine
    found = programs.read(network, texts.tokens)
    nats = found["nats"].mean(1, dtype=np.float64)
    accuracy = programs.written(network, jax.random.key(config.seed + 1))
    if network.off:
        return Seen(nats, accuracy, [], {}), found
    states = [
        best_codes(found[MLP][:, :, i, 0], texts.states, half, config.mlp_codes, machine.states)
        for i in range(config.layers)
    ]
    classes = {
        "state": (texts.states, machine.states),
        "digit": (texts.trigrams, len(machine.trigrams)),
    }
    patched: dict[str, dict[str, Ratio]] = {}
    for name, (labels, number) in classes.items():
        arguments = (programs, network, texts, found, labels, number, half)
        patched[name] = jsd_ratio(*arguments, which)
        patched[f"{name}, random"] = jsd_ratio(*arguments, which[:1], random=True)
    return Seen(nats, accuracy, states, patched), found


def main(config: Config, out: Any) -> runs.Result:
    """Train, read the codes, put others in place."""
    lab = lab_of(config)
    trained = train(lab)
    tokens = lab.machine.sample(config.texts, lab.length, seed=2 * config.seed + 2)
    second = lab.machine.digit_of(tokens) == 1
    texts = Texts(
        tokens, np.where(second, lab.machine.states_of(tokens), -1), lab.machine.trigrams_of(tokens)
    )
    half = np.random.default_rng(config.seed).permutation(config.texts) < config.texts // 2
    which = kinds(config.layers)
    programs = Programs(lab)
    base, base_found = look(programs, trained.base, texts, half, which)
    coded, _ = look(programs, trained.coded, texts, half, which)
    sampled, _ = look(programs, trained.sampled, texts, half, which[:1])
    neurons = [
        neurons_at_recall(
            base_found["neurons"][:, :, i].reshape(-1, base_found["neurons"].shape[-1]),
            texts.states.reshape(-1),
            np.repeat(half, tokens.shape[1]),
            coded.states[i].recall,
        )
        for i in range(config.layers)
    ]
    out.arrays(
        precision=np.stack([f.precision for f in coded.states]),
        recall=np.stack([f.recall for f in coded.states]),
        best=np.stack([f.best for f in coded.states]),
        sampled_precision=np.stack([f.precision for f in sampled.states]),
        sampled_recall=np.stack([f.recall for f in sampled.states]),
        neuron_precision=np.stack(neurons),
        **{f"curve_{name.replace(' ', '_')}": v for name, v in trained.curves.items()},
    )  # fmt: skip
    save_codes(lab, trained.coded, texts, out)
    rows = summarised(lab, base, coded, sampled, neurons)
    with figures.style():
        out.figure("training", training_figure(lab, trained.curves), caption=CAPTIONS[0])
        out.figure("states", states_figure(coded, sampled, neurons), caption=CAPTIONS[1])
        out.figure("interventions", jsd_figure(coded, sampled), caption=CAPTIONS[2])
    return runs.Result(QUESTION, answer(base, coded, sampled, neurons), tuple(rows))


def sites(config: Config) -> Any:
    """The decoder, for `activjax sites`."""
    lab = lab_of(config)
    params = jax.eval_shape(lab.model.init, jax.random.key(0))
    return lab.model.apply, (params, jax.ShapeDtypeStruct((config.batch, lab.length), jnp.int32))


def save_codes(lab: Lab, network: Network, texts: Texts, out: Any) -> None:
    """The codes of some texts as an index, for `activjax codes`."""
    batches = np.array_split(texts.tokens[:SIZE], 1)
    codebooks.index(
        lab.model.apply, lab.spec, network.params, network.books, batches, out.folder / "codes",
        vocabulary=lab.machine.tokens, overwrite=True,
    )  # fmt: skip


def summarised(
    lab: Lab, base: Seen, coded: Seen, sampled: Seen, neurons: list[np.ndarray]
) -> list[runs.Row]:
    """The numbers, each beside what is trivial."""
    floor = float(lab.machine.entropy(lab.length).mean())
    over, control = runs.Row.over, "activations as codes, untrained"
    rows: list[runs.Row] = []
    for name, seen in (("codebooks", coded), ("activations as codes", sampled)):
        rows += [
            over("nats a token above the base", seen.nats - base.nats, unit="nats",
                 baseline=float((sampled.nats - base.nats).mean()), baseline_name=control,
                 network=name),
            over("transitions written that exist", seen.accuracy, baseline=base.accuracy,
                 baseline_name="base network", network=name),
        ]  # fmt: skip
    rows.insert(
        0, over("nats a token of the base", base.nats, unit="nats", baseline=floor,
                baseline_name="entropy of the machine")
    )  # fmt: skip
    for i, (mine, theirs, units) in enumerate(zip(coded.states, sampled.states, neurons)):
        where: dict[str, Any] = {"layer": i}
        rows += [
            runs.Row("different codes of the states", float(len(set(mine.best))), None, None, 1, "",
                     float(len(set(theirs.best))), control, where),
            over("precision of a state's code", mine.precision, baseline=theirs.precision,
                 baseline_name=control, **where),
            over("recall of a state's code", mine.recall, baseline=theirs.recall,
                 baseline_name=control, **where),
            over("precision of a state's best neuron at its code's recall",
                 units[np.isfinite(units)], baseline=1 / lab.machine.states / 2,
                 baseline_name="any place", **where),
        ]  # fmt: skip
    for name, title in SETTINGS.items():
        chance = coded.patched[f"{name}, random"]["all MLP codes"].value
        for kind, ratio in coded.patched[name].items():
            rows.append(
                runs.Row("JSD to the target, of that before", *ratio, lab.config.pairs, "", chance,
                         "all MLP codes of a random class", {"put": title, "by": kind})
            )  # fmt: skip
        rows.append(
            runs.Row("JSD to the target, of that before, activations as codes",
                     *sampled.patched[name]["all MLP codes"], lab.config.pairs, "",
                     sampled.patched[f"{name}, random"]["all MLP codes"].value,
                     "all MLP codes of a random class", {"put": title, "by": "all MLP codes"})
        )  # fmt: skip
    return rows


def answer(base: Seen, coded: Seen, sampled: Seen, neurons: list[np.ndarray]) -> str:
    """A few plain sentences."""
    cost = float((coded.nats - base.nats).mean())
    last, control = coded.states[-1], sampled.states[-1]
    digit = coded.patched["digit"]["all MLP codes"].value
    others = sampled.patched["digit"]["all MLP codes"].value
    chance = coded.patched["digit, random"]["all MLP codes"].value
    bought = float((sampled.nats - base.nats).mean())
    return (
        f"Yes: in the last layer {len(set(last.best))} different codes stand for the 100 states, "
        f"with precision {last.precision.mean():.2f} and recall {last.recall.mean():.2f} (the best "
        f"neuron at that recall: {np.nanmean(neurons[-1]):.2f}), at {cost:+.3f} nats a token and "
        f"{coded.accuracy.mean():.1%} valid transitions (base {base.accuracy.mean():.1%}); putting "
        f"in place the MLP codes of another state and digit leaves {digit:.3f} of the divergence "
        f"from what follows there (a random class {chance:.2f}). Precision is no evidence of "
        f"training: untrained activations as codes have {control.precision.mean():.2f} and recall "
        f"{control.recall.mean():.2f}; what they lack is the loss ({bought:+.2f} nats) and the "
        f"grip ({others:.2f} left)."
    )


CAPTIONS = (
    "Training: the loss without and with codebooks in nats a token, beside the entropy of the "
    "machine; the codes' error; codes that nothing chose since the last revival (they are counted "
    "anew after each).",
    "Precision and recall of the code of each state at the state's second digit, on texts that it "
    "was not chosen on: trained codes, untrained activations as codes, and the best neuron of the "
    "base network at the recall of the trained code. The horizontal axis is recall.",
    "What is left of the Jensen-Shannon divergence between what the network expects next and what "
    "it expects in the target text, after codes of the target were put in place at one token: 0 is "
    "a perfect change, 1 is none. Bars are 95 % intervals over pairs of texts.",
)


def smooth(values: np.ndarray, width: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Means of stretches of steps, at their middles."""
    n = max(1, len(values) // width) if len(values) >= width else len(values)
    parts = np.array_split(values, n)
    ends = np.cumsum([len(p) for p in parts])
    return ends - np.array([len(p) for p in parts]) / 2, np.array([p.mean() for p in parts])


def training_figure(lab: Lab, curves: dict[str, np.ndarray]) -> Any:
    """Loss, error of the codes, dead codes."""
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    steps = lab.config.base_steps
    axes[0].plot(*smooth(curves["base"]), label="base")
    x, y = smooth(curves["with codebooks"])
    axes[0].plot(x + steps, y, label="with codebooks")
    axes[0].axhline(
        float(lab.machine.entropy(lab.length).mean()), color="0.4", ls=":", label="entropy"
    )
    axes[0].set(xlabel="step", ylabel="loss (nats a token)", ylim=(1.15, 2.4))
    axes[0].legend()
    x, y = smooth(curves["error"])
    axes[1].plot(x + steps, y)
    axes[1].set(xlabel="step", ylabel="squared error of the codes", yscale="log")
    x, y = smooth(curves["dead"])
    axes[2].plot(x + steps, y)
    axes[2].set(xlabel="step", ylabel="codes unused since revival (share)", ylim=(0, None))
    return fig


def states_figure(coded: Seen, sampled: Seen, neurons: list[np.ndarray]) -> Any:
    """Precision against recall, a point a state, a panel a layer."""
    fig, axes = plt.subplots(
        1, len(neurons), figsize=(4.6 * len(neurons), 3.9), layout="constrained", sharey=True,
        squeeze=False,
    )  # fmt: skip
    for i, ax in enumerate(axes[0]):
        for label, found, marker in (
            ("trained codes", coded.states[i], "o"), ("untrained codes", sampled.states[i], "^"),
        ):  # fmt: skip
            ax.scatter(found.recall, found.precision, s=18, marker=marker, alpha=0.7, label=label)
        ax.scatter(coded.states[i].recall, neurons[i], s=22, marker="x", label="best neuron")
        ax.set(xlabel="recall", title=f"layer {i}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.06))
    axes[0, 0].set_ylabel("precision")
    figures.legend_below(fig, axes)
    return fig


def jsd_figure(coded: Seen, sampled: Seen) -> Any:
    """What is left of the divergence, by what was put in place."""
    fig, axes = plt.subplots(
        1, 2, figsize=(10, 3.4), layout="constrained", sharex=True, sharey=True
    )
    for ax, (name, title) in zip(axes, SETTINGS.items(), strict=True):
        bars = dict(coded.patched[name])
        bars["all MLP codes, untrained"] = sampled.patched[name]["all MLP codes"]
        bars["MLP codes of a random class"] = coded.patched[f"{name}, random"]["all MLP codes"]
        y = np.arange(len(bars))[::-1]
        values = np.array([(b.value, b.value - b.low, b.high - b.value) for b in bars.values()])
        ax.barh(y, values[:, 0], xerr=np.maximum(values[:, 1:].T, 0), capsize=3, height=0.7)
        ax.set_yticks(y, list(bars))
        ax.axvline(1, color="0.4", ls=":")
        ax.set(xlabel="JSD to the target (before: 1)", title=f"codes of {title}")
    return fig
