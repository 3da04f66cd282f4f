"""Trained introspection on a decoder of one's own: taught to report injected thoughts, in text.

The recipe of "Training Introspective Behavior" (Fonseca Rivera 2025, arXiv 2511.21399): concept
vectors from "Tell me about {c}", put in at the last prompt token, LoRA, held-out concepts; with the
mix of trials of its follow-up, in which half of the examples keep what the model did before, and
with every control. Not reproduced: 8-bit AdamW, dropout, accumulation of gradients.

A model whose tokenizer has a chat template is spoken to by it; another one in the plain frame of
`templates`, after what its tokenizer begins a text with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from activjax import data, introspection, models, runs
from activjax.runs import decoders, figures

QUESTION = "Can this decoder learn to report, in words, concepts put into its residual stream?"
RANDOM = "random"
HELD, TRAINED = "injected, held out", "injected, trained"

#: Positives, as many mismatches by half, noise and nothing by a quarter, and half of it all replay.
PUBLISHED = {"injected": 0.25, "mismatch": 0.125, "noise": 0.0625, "clean": 0.0625, "replay": 0.5}

#: What the summary has: name, condition, measure, what a model does that knows nothing.
MEASURED = (
    ("held-out concepts identified", HELD, "identified"),
    ("held-out concepts detected", HELD, "detected"),
    ("trained concepts identified", TRAINED, "identified"),
    ("identified while another concept is mentioned", "mismatch", "identified"),
    ("false reports, random vector", "noise", "detected"),
    ("reports in answer to another question", "wrong prompt", "detected"),
    ("false reports, no concept mentioned", "clean", "detected"),
    ("false reports, concept mentioned", "mention", "detected"),
)
FORCED = "held-out concepts named once the claim is written"
ALWAYS = ("clean", "mention")  # nothing is put in, so there is no strength


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    model: str | decoders.Pretrained | decoders.Saved = runs.static(
        RANDOM, help=f"{decoders.HELP}, or random"
    )
    begin: int | None = runs.static(
        None, ge=0, help="id before every prompt; null for what the tokenizer says"
    )
    chat: bool | None = runs.static(
        None, help="speak by the tokenizer's chat template; null: if it has one, and no own frame"
    )
    names: tuple[str, ...] | None = runs.static(None, help="concepts; None for 60 usual ones")
    held_out: int = runs.static(20, ge=1, help="of the names, the last ones")
    baseline: tuple[str, ...] | None = runs.static(
        None, help="words that concept vectors are differences from; None for 32 usual ones"
    )
    templates: introspection.Templates = dataclasses.field(default_factory=introspection.Templates)
    answer: int = runs.static(48, ge=1, help="tokens that an answer may take")
    layer: int | None = runs.static(None, ge=0, help="from 0; None for two thirds of the depth")
    at: Literal["last_prompt", "persistent"] = "last_prompt"
    units: Literal["resid_norm", "abs"] = "resid_norm"
    strengths: tuple[float, ...] = runs.static((0.5, 0.75, 1.0, 1.5), help="in training")
    tested: tuple[float, ...] = runs.static((0.5, 1.0, 1.5, 2.0), help="in evaluation")
    reported: float = runs.static(1.0, help="the strength of the answer, one of those tested")
    mix: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(PUBLISHED))
    kernels: tuple[str, ...] = runs.static(
        ("blocks/attn/*/kernel", "blocks/mlp/*/kernel"), help="that get a LoRA"
    )
    rank: int = runs.static(32, ge=1)
    alpha: float = runs.static(64.0, gt=0)
    rate: float = runs.static(2e-4, gt=0)
    steps: int = runs.static(400, ge=1)
    batch: int = runs.static(16, ge=1)
    prompts: int = runs.static(5, ge=1, help="questions that each held-out concept is put into")
    clean: int = runs.static(100, ge=1, help="questions that mention no concept")
    mentions: int = runs.static(300, ge=1, help="questions that mention one, nothing put in")
    noises: int = runs.static(100, ge=1, help="random vectors")
    chunk: int = runs.static(64, ge=1, help="answers at a time")
    layers: int = runs.static(4, ge=1, help="of a random decoder")
    width: int = runs.static(64, ge=8, help="of a random decoder")
    heads: int = runs.static(4, ge=1, help="of a random decoder")

    def __post_init__(self) -> None:
        if self.reported not in self.tested:
            raise ValueError(f"reported: {self.reported:g} is none of those tested: {self.tested}")
        if self.chat and (self.begin is not None or own_frame(self.templates)):
            raise ValueError(
                "chat: the template makes the whole prompt: leave out begin, templates.frame, "
                "templates.elicit and templates.before_answer, or set chat: false"
            )


def own_frame(templates: introspection.Templates) -> bool:
    """Whether the texts around a prompt are not the default ones."""
    usual = introspection.Templates()
    return any(
        getattr(templates, name) != getattr(usual, name)
        for name in ("frame", "elicit", "before_answer")
    )


def data_files(config: Config) -> list[Path]:
    """The model: its contents enter the run's id."""
    return [] if config.model == RANDOM else decoders.of(config.model).files()


def loaded(config: Config) -> tuple[models.Decoder, Any, introspection.Conversation]:
    """The decoder, its parameters and how one speaks with it."""
    if config.model == RANDOM:
        talk = conversation(config, data.byte_tokenizer())
        model = decoder(config, talk)
        return model, model.init(jax.random.key(0)), talk
    found = decoders.of(config.model).load()
    talk = conversation(config, found.tokenizer)
    if (context := found.model.config.context) < talk.room:
        raise ValueError(
            f"model: its context of {context} tokens does not hold the {talk.room} of the longest "
            "prompt with its answer; shorten the templates or `answer`"
        )
    return found.model, found.params, talk


#: What some templates ask for: no date of today in the prompt, no thoughts before the answer.
CHAT = {"date_string": "01 Jan 2025", "enable_thinking": False}


def conversation(config: Config, tokenizer: data.Tokenizer) -> introspection.Conversation:
    """How one speaks with the model."""
    named = [config.names] if config.names else []
    chat = config.chat
    if chat is None:
        own = config.begin is not None or own_frame(config.templates)
        chat = bool(tokenizer.chats.templates) and not own
    if not chat:
        return introspection.conversation(
            tokenizer, *named, templates=config.templates, steps=config.answer, begin=config.begin
        )

    def prompt(text: str) -> str:
        return tokenizer.chat([{"role": "user", "content": text}], **CHAT)

    texts = dataclasses.replace(
        config.templates, frame=prompt("{text}"), elicit=prompt("Tell me about {c}."),
        before_answer="",
    )  # fmt: skip
    talk = introspection.conversation(
        tokenizer, *named, templates=texts, steps=config.answer, begin=()
    )
    talk.stop = (*talk.stop, *turn_end(tokenizer, talk.pad))
    return talk


def turn_end(tokenizer: data.Tokenizer, pad: int) -> tuple[int, ...]:
    """The special token after an answer in a conversation, where it is not the document's end."""
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "(answer)"}]
    text = tokenizer.chat(turns, add_generation_prompt=False, **CHAT)
    after = tokenizer.encode(text.rpartition("(answer)")[2], parse_special=True).tolist()
    special = {*tokenizer.special.values()} - {tokenizer.end, pad}
    return tuple(i for i in after[:1] if i in special)


def decoder(config: Config, talk: introspection.Conversation) -> models.Decoder:
    """A decoder with room for the conversation, untrained."""
    return models.decoder(
        vocab=talk.tokenizer.vocab, context=-(-talk.room // 16) * 16, layers=config.layers,
        width=config.width, heads=config.heads, norm="rms", positions="rotary", bias=False,
    )  # fmt: skip


def main(config: Config, out: Any) -> runs.Result:
    """Vectors, training, evaluation before and after."""
    model, params, talk = loaded(config)
    layer = 2 * model.config.layers // 3 if config.layer is None else config.layer
    if layer >= model.config.layers:
        raise ValueError(f"layer: the model has {model.config.layers}, from 0; got {layer}")
    elicit = talk.elicit(np.arange(len(talk.names)))
    ground = talk.baseline_prompts(*([config.baseline] if config.baseline else []))

    def vectors(params: Any) -> introspection.ConceptBank:
        return introspection.concept_vectors(
            model.apply, params, elicit, ground, layer=[layer], names=talk.names
        )

    bank = jax.jit(vectors)(params)
    lengths = {"concept vectors": bank.norms[0].mean(), "residual stream": bank.resid_norm[0]}
    out.log(", ".join(f"{name}: norm {float(x):.3g}" for name, x in lengths.items()))
    every = range(len(talk.names))
    if config.held_out >= len(every):
        raise ValueError(f"held_out: {config.held_out} of {len(every)} names leave none to train")
    rows: list[runs.Row] = []
    for seed in out.seeds.tolist():
        trials = introspection.Trials(
            talk, train=every[: -config.held_out], held_out=every[-config.held_out :],
            mix=config.mix, strengths=config.strengths, layers=(layer,), prompts=config.prompts,
            clean=config.clean, mentions=config.mentions, noises=config.noises, seed=seed,
        )  # fmt: skip
        ask: dict[str, Any] = {
            "strengths": config.tested, "at": config.at, "units": config.units,
            "chunk": config.chunk,
        }  # fmt: skip
        before = introspection.evaluate(model, params, bank, trials, **ask)
        out.log(f"seed {seed}: asked before training")
        tuned = introspection.train(
            model, params, bank, trials, at=config.at, units=config.units, steps=config.steps,
            batch=config.batch, rate=config.rate, warmup=0.0, seed=seed,
            adapter=introspection.LoRA(config.rank, config.alpha, config.kernels),
        )  # fmt: skip
        out.log(f"seed {seed}: trained, loss {tuned.curves['loss'][-1]:.3f} nats a token")
        after = introspection.evaluate(tuned.model, tuned.params, bank, trials, **ask)
        out.log(f"seed {seed}: asked after training")
        changed = changed_by(tuned, params, ground)
        rows += summary(before, after, config, changed.kl, seed)
        report(out, before, after, tuned, seed)
    return runs.Result(QUESTION, answer(config, rows, out.seeds.tolist()[0]), tuple(rows))


def changed_by(
    tuned: introspection.Tuned, before: Any, prompts: introspection.Prompts
) -> introspection.SideEffects:
    """What training does to the prompts of the baseline words, which no training example has."""
    learned = prompts.mask.copy()
    learned[:, 0] = False
    documents = introspection.Replay(prompts.tokens, prompts.last + 1, learned)
    return introspection.side_effects(tuned.model, tuned.params, before, documents)


# --- the answer -----------------------------------------------------------------------------------


def summary(
    before: introspection.Report, after: introspection.Report, config: Config,
    changed: np.ndarray, seed: int,
) -> list[runs.Row]:  # fmt: skip
    """Every rate with its interval, the number of different inputs, and the model before."""
    rows = []
    for name, condition, measure in MEASURED:
        for strength in (0.0,) if condition in ALWAYS else config.tested:
            now, then = (r.get(condition, strength).rate(measure) for r in (after, before))
            where: dict[str, Any] = {"seed": seed, "strength": strength}
            rows.append(
                runs.Row(name, now.value, now.low, now.high, now.distinct, "", then.value,
                         "before training", where)
            )  # fmt: skip
    for strength in config.tested:
        now = after.get(HELD, strength).rate("forced")
        rows.append(
            runs.Row(FORCED, now.value, now.low, now.high, now.distinct, "", after.chance,
                     "chance", {"seed": seed, "strength": strength})
        )  # fmt: skip
    rows.append(
        runs.Row.over("change of other text", changed, baseline=0.0,
                      baseline_name="before training", unit="nats a token", seed=seed)
    )  # fmt: skip
    return rows


def answer(config: Config, rows: list[runs.Row], seed: int) -> str:
    """One paragraph from the rows of the first seed."""
    still = [name for name, condition, _ in MEASURED if condition in ALWAYS]
    of = {
        row.name: row
        for row in rows
        if row.where["seed"] == seed
        and (row.name in still or row.where.get("strength") in (None, config.reported))
    }

    def shown(name: str) -> str:
        r = of[name]
        return f"{r.value:.0%} [{r.low:.0%}, {r.high:.0%}] (before {r.baseline:.0%}, {r.n} inputs)"

    start = (
        "The decoder is random and small: it can at most learn trained concepts by heart, and this "
        "run shows no more than that everything runs. "
        if config.model == RANDOM
        else ""
    )
    false = "; ".join(
        f"{name.partition(', ')[2]} {shown(name)}" for name in of if name.startswith("false")
    )
    return (
        f"{start}At strength {config.reported:g} ({config.units}), of held-out concepts "
        f"{shown(MEASURED[0][0])} are identified and {shown(MEASURED[1][0])} detected. False "
        f"reports: {false}. Asked something else, the model reports a thought in "
        f"{shown('reports in answer to another question')}. Training changed its distribution over "
        f"other text by {of['change of other text'].value:.3g} nats a token."
    )


# --- the report -----------------------------------------------------------------------------------

CAPTIONS = {
    "doses": "Shares against strength: concepts put in, and what should not be reported. Bars: "
    "95 % over concepts, of random vectors over vectors. Dotted: nothing put in.",
    "confusion": "Held-out concepts put in (rows) against what was reported (columns: all "
    "concepts, and no report last).",
    "loss": "Loss in training, nats a token of the answers.",
}


def report(
    out: Any, before: introspection.Report, after: introspection.Report,
    tuned: introspection.Tuned, seed: int,
) -> None:  # fmt: skip
    """Tables with all controls, figures, dialogues."""
    end = f"_{seed}" if len(out.seeds) > 1 else ""
    for name, one in (("before", before), ("after", after)):
        columns, lines = one.table()
        caption = f"Every condition, {name} training. Intervals: 95 %, by concept."
        out.table(f"{name}{end}", lines, columns, caption)
        out.text(f"dialogues_{name}{end}", one.dialogues(2),
                 caption=f"Two trials of every condition, {name} training.")  # fmt: skip
    with figures.style():
        drawn = {
            "doses": doses(after), "confusion": confusion(after, out.config.reported),
            "loss": loss(tuned.curves),
        }  # fmt: skip
        for name, fig in drawn.items():
            out.figure(f"{name}{end}", fig, caption=CAPTIONS[name])
    out.array(f"loss{end}", tuned.curves["loss"])
    out.array(f"confusion{end}", after.confusion(HELD, out.config.reported))


def doses(found: introspection.Report) -> Any:
    """Rates against strength."""
    fig, ax = plt.subplots(figsize=(6.4, 4.2))
    lines = (
        (HELD, "identified"), (HELD, "detected"), (TRAINED, "identified"), ("noise", "detected"),
        ("wrong prompt", "detected"),
    )  # fmt: skip
    strengths = sorted({c.strength for c in found if c.name == HELD})
    for k, (condition, measure) in enumerate(lines):
        rates = [found.get(condition, strength).rate(measure) for strength in strengths]
        value = np.array([r.value for r in rates])
        ends = np.array([[r.low for r in rates], [r.high for r in rates]])
        ax.errorbar(
            np.arange(len(strengths)) + 0.05 * (k - len(lines) // 2), value,
            yerr=np.maximum([value - ends[0], ends[1] - value], 0), marker="o", capsize=3,
            label=f"{condition}: {measure}",
        )  # fmt: skip
    ax.set_xticks(range(len(strengths)), [f"{strength:g}" for strength in strengths])
    for condition, colour in zip(ALWAYS, figures.COLOURS[5:]):
        level = found.get(condition).rate("detected").value
        ax.axhline(level, color=colour, linestyle=":", label=f"{condition}: detected")
    ax.set(xlabel="strength", ylabel="share", ylim=(-0.03, 1.03))
    figures.legend_below(fig, ax)
    return fig


def confusion(found: introspection.Report, strength: float) -> Any:
    """Which concept was reported for which."""
    counts = found.confusion(HELD, strength)
    which = np.flatnonzero(counts.sum(1))
    names = found.talk.names
    fig, ax = plt.subplots(figsize=(1.5 + 0.16 * counts.shape[1], 1.8 + 0.2 * len(which)))
    ax.imshow(counts[which] / counts[which].sum(1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    ax.set_yticks(range(len(which)), [names[i] for i in which])
    ax.set_xticks(range(counts.shape[1]), [*names, "no report"], rotation=90, fontsize=7)
    ax.set(xlabel="reported", ylabel="put in")
    ax.grid(visible=False)
    return fig


def loss(curves: Mapping[str, np.ndarray]) -> Any:
    """The loss of every step."""
    fig, ax = plt.subplots(figsize=(6.4, 3.2))
    ax.plot(np.arange(1, len(curves["loss"]) + 1), curves["loss"])
    ax.set(xlabel="step", ylabel="nats a token")
    return fig


def sites(config: Config) -> Any:
    """The decoder, for `activjax sites`; no parameters are made or read."""
    if config.model == RANDOM:
        talk = conversation(config, data.byte_tokenizer())
        model, size = decoder(config, talk), talk.room
        params = jax.eval_shape(model.init, jax.random.key(0))
    else:
        model, params, tokenizer = decoders.of(config.model).abstract()
        size = 8 if tokenizer is None else conversation(config, tokenizer).room
    return model.apply, (params, jax.ShapeDtypeStruct((1, size), jnp.int32))
