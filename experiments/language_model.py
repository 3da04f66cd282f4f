"""A language model on real text: what it needs for a byte, beside what counting bytes needs.

A decoder is trained on one part of a corpus and scored on whole documents that it has not seen, in
bits a byte: the unit in which models of any tokenizer and compressors compare. Beside it stand the
trivial alternatives on the same held-out documents: the frequencies of single bytes, a 5-gram model
(interpolated modified Kneser-Ney) of the same training part, and `xz -9`, which has seen nothing
but the held-out documents themselves. Every held-out token is scored once, with at least half a
window of text before it; a document's first byte, which nothing precedes, is charged 8 bits.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from activjax import data, models, runs, stats, training
from activjax.runs import figures

QUESTION = (
    "How many bits does a small decoder need for a byte of text it has not seen, and is that fewer "
    "than counting bytes or a compressor needs?"
)


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    corpus: str = runs.static("stdlib", help="stdlib, hub:user/set, a file, a folder or a glob")
    leave_out: tuple[str, ...] = runs.static((), help="globs over modules, for stdlib")
    held_out: float = runs.static(0.05, gt=0, lt=1, help="a document's chance of being held out")
    split_seed: int = runs.static(0, ge=0)
    tokenizer: str = runs.static("bytes", help="bytes, bpe:<vocabulary>, or a tokenizer.json")
    layers: int = runs.static(4, ge=1)
    width: int = runs.static(192, ge=2)
    heads: int = runs.static(6, ge=1)
    kv_heads: int | None = runs.static(None, help="for grouped-query attention")
    context: int = runs.static(256, ge=8, help="tokens that the decoder sees at most")
    norm: Literal["layer", "rms"] = runs.static("rms")
    positions: Literal["learned", "rotary", "none"] = runs.static("rotary")
    activation: str = runs.static("gelu")
    gated: bool = runs.static(False)
    bias: bool = runs.static(False)
    tied: bool = runs.static(True)
    dropout: float = runs.static(0.0, ge=0, lt=1)
    dtype: Literal["float32", "bfloat16"] = runs.static("float32")
    remat: bool = runs.static(False)
    steps: int = runs.static(2000, ge=1)
    batch: int = runs.static(16, ge=1, help="rows of context + 1 tokens a step")
    accumulate: int = runs.static(1, ge=1, help="micro-batches a step")
    learning_rate: float = runs.traced(3e-3, gt=0, help="peak of the schedule, of AdamW")
    weight_decay: float = runs.traced(0.1, ge=0)
    measurements: int = runs.static(10, ge=1, help="looks at held-out text while training")
    measured_rows: int = runs.static(64, ge=1, help="held-out rows of each look")
    prompt: str = runs.static("def ", help="what the sample goes on from")
    temperature: float = runs.static(0.8, ge=0, help="of the sample; 0 is greedy")


@dataclasses.dataclass(frozen=True)
class Static:
    """The decoder, the text as rows, and when to measure."""

    config: Config
    model: models.Decoder
    tokenizer: data.Tokenizer
    train: data.Corpus
    held: data.Corpus
    rows: data.Packed
    looks: tuple[np.ndarray, np.ndarray]
    batches: data.Batches
    steps: int
    chunk: int
    measure_at: tuple[int, ...]


@functools.lru_cache(maxsize=2)
def text(config: Config) -> data.Corpus:
    """The corpus."""
    options: dict[str, Any] = {"leave_out": config.leave_out} if config.leave_out else {}
    return data.corpus(config.corpus, **options)


def data_files(config: Config) -> list[Any]:
    """The corpus's files, and the tokenizer's: another text is another run."""
    named = config.tokenizer != "bytes" and not config.tokenizer.startswith("bpe:")
    return [*text(config).files, *([config.tokenizer] if named else [])]


def tokens_of(config: Config, train: data.Corpus) -> data.Tokenizer:
    """The tokenizer; byte-pair encodings are trained on the training part."""
    if config.tokenizer == "bytes":
        return data.byte_tokenizer()
    if config.tokenizer.startswith("bpe:"):
        size = config.tokenizer.removeprefix("bpe:")
        if not size.isdigit():
            raise ValueError(f"tokenizer: expected bpe:<size>, got {config.tokenizer!r}")
        return data.train_bpe(train, int(size))
    return data.load_tokenizer(config.tokenizer)


def setup(config: Config) -> Static:
    """Read the corpus, split it by document and lay it out in rows."""
    train, held = text(config).split(config.held_out, config.split_seed)
    tokenizer = tokens_of(config, train)
    length = config.context + 1
    rows = data.pack([tokenizer.encode(t) for t in train], length, end=tokenizer.end)
    looks = data.pack([tokenizer.encode(t) for t in held], length, end=tokenizer.end)
    # spread over the held-out documents, the same for every run of this split
    some = np.linspace(0, len(looks.tokens) - 1, min(config.measured_rows, len(looks.tokens)))
    some = some.astype(int)
    model = models.decoder(
        vocab=tokenizer.vocab,
        context=config.context,
        layers=config.layers,
        width=config.width,
        heads=config.heads,
        kv_heads=config.kv_heads,
        norm=config.norm,
        positions=config.positions,
        activation=config.activation,
        gated=config.gated,
        bias=config.bias,
        tied=config.tied,
        dropout=config.dropout,
        dtype=config.dtype,
        remat=config.remat,
    )
    measure_at = np.linspace(0, config.steps, config.measurements + 1).astype(int).tolist()
    return Static(
        config,
        model,
        tokenizer,
        train,
        held,
        rows,
        (looks.tokens[some], looks.segments[some]),
        data.Batches(len(rows.tokens), config.batch),
        config.steps,
        max(1, min(50, config.steps // 4)),
        tuple(sorted({*measure_at})),
    )


def optimiser(static: Static, hp: Any) -> Any:
    """AdamW with warm-up and cosine."""
    return training.adamw(hp.learning_rate, steps=static.steps, decay=hp.weight_decay)


def init(static: Static, hp: Any, key: jax.Array) -> training.TrainState:
    """A freshly initialised decoder."""
    return training.init_state(static.model, optimiser(static, hp), static.batches, key)


def step(static: Static, hp: Any, state: training.TrainState) -> Any:
    """One step on rows drawn without replacement."""
    position, rows = static.batches.next(state.batches)
    batch = jnp.asarray(static.rows.tokens)[rows], jnp.asarray(static.rows.segments)[rows]
    state, metrics = training.train_step(
        training.next_token(static.model),
        optimiser(static, hp),
        state._replace(batches=position),
        batch,
        accumulate=static.config.accumulate,
    )
    bits = metrics["loss"] / math.log(2)
    return state, {"bits a token": bits, "accuracy": metrics["accuracy"]}


def measure(static: Static, hp: Any, state: training.TrainState) -> jax.Array:
    """Bits a byte on a few rows of held-out text."""
    tokens, segments = map(jnp.asarray, static.looks)
    nats, counted = training.token_losses(static.model)(state.params, tokens, segments)
    bytes_ = jnp.asarray(static.tokenizer.byte_lengths)[tokens[:, 1:]].astype(jnp.float32)
    return nats.sum() / math.log(2) / jnp.sum(bytes_ * counted)


@dataclasses.dataclass(frozen=True)
class Scored:
    """Bits that a model needs for held-out documents, `[seeds, documents]`, and by place."""

    bits: np.ndarray
    by_place: np.ndarray


def score(static: Static, params: Any) -> Scored:
    """Score every held-out document whole, by every seed's parameters."""
    config, encode = static.config, static.tokenizer.encode
    documents = [encode(t) for t in static.held]
    cut = data.windows(
        documents, config.context + 1, max(1, config.context // 2), end=static.tokenizer.end
    )
    losses = jax.jit(training.token_losses(static.model))
    first = 8.0 * static.tokenizer.byte_lengths[[ids[0] for ids in documents]]
    seeds = len(jax.tree.leaves(params)[0])
    bits = np.tile(first, (seeds, 1))
    place = np.zeros((seeds, config.context))
    size = 32
    for seed in range(seeds):
        own = jax.tree.map(lambda leaf, seed=seed: jnp.asarray(leaf[seed]), params)
        for at in range(0, len(cut.tokens), size):
            rows = [_full(x[at : at + size], size) for x in (cut.tokens, cut.segments)]
            nats = np.asarray(losses(own, *rows)[0], np.float64)[: len(cut.tokens) - at]
            found = nats / math.log(2)
            counted = found * cut.counted[at : at + size, 1:]
            np.add.at(bits[seed], cut.source[at : at + size], counted.sum(1))
            place[seed] += found.sum(0)
    there = (cut.segments[:, 1:] > 0).sum(0)
    return Scored(bits, place / np.maximum(there, 1))


def _full(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows filled up to one size, so that one program serves all."""
    return np.pad(rows, [(0, size - len(rows)), (0, 0)])


@dataclasses.dataclass(frozen=True)
class Baselines:
    """Bits of each held-out document by counting, and bits a byte of the compressor."""

    unigram: np.ndarray
    fivegram: np.ndarray
    xz: float


def baselines(static: Static) -> Baselines:
    """What needs no training to speak of."""
    train = list(static.train)

    def bits(order: int) -> np.ndarray:
        model = data.ngram(train, order)
        return np.array([model.bits(t).sum() for t in static.held])

    return Baselines(bits(1), bits(5), data.xz_bits_per_byte(static.held))


def finish(static: Static, hp: Any, states: Any, out: Any) -> runs.Result:
    """Bits a byte of held-out documents, the curve, and a sample."""
    sizes = np.array([len(t.encode()) for t in static.held], np.float64)
    scored, plain = score(static, states.params), baselines(static)
    out.array("bits", scored.bits)
    out.array("bytes", sizes)
    out.array("bits_by_place", scored.by_place)
    curve = {at: np.asarray(value) for at, value in out.measured.items()}
    out.array("curve", np.stack(list(curve.values()), axis=1))
    mean = scored.bits.mean(0)
    with figures.style():
        out.figure("curve", curve_figure(static, curve, plain, sizes), caption=CAPTIONS[0])
        out.figure("documents", document_figure(mean, plain, sizes, static), caption=CAPTIONS[1])
        out.figure("place", place_figure(static, scored), caption=CAPTIONS[2])
    out.table("documents", document_table(static, mean, plain, sizes), COLUMNS, TABLE)
    keep(static, states.params, out.folder / "model")
    sample = sampled(static, states.params)
    out.text("sample", sample, caption=f"A sample at temperature {static.config.temperature:g} "
             f"(the first seed) after {static.config.prompt!r}.")  # fmt: skip
    rows = summary(static, scored, plain, sizes)
    return runs.Result(QUESTION, answer(static, rows), rows)


CAPTIONS = (
    "Bits a byte while training, on a few held-out rows (whose early tokens have little text "
    "before them). Horizontal lines: the trivial alternatives on all held-out documents.",
    "Bits a byte of each held-out document: the decoder against the 5-gram model. Below the "
    "diagonal the decoder needs fewer. Larger dots are larger documents.",
    "Bits a token by its place in the window, over all held-out windows: what more text before it "
    "is worth. Mean over seeds.",
)
COLUMNS = ("document", "bytes", "decoder", "5-gram", "unigram")
TABLE = "Bits a byte of the held-out documents, the largest first."


def curve_figure(static: Static, curve: dict[int, Any], plain: Baselines, sizes: Any) -> Any:
    """Held-out bits a byte against tokens seen."""
    fig, ax = plt.subplots(figsize=(6.4, 3.8))
    tokens = np.array(list(curve)) * static.config.batch * static.config.context / 1e6
    figures.band(ax, tokens, np.stack(list(curve.values()), axis=1), "decoder")
    levels = {
        "unigram": plain.unigram.sum() / sizes.sum(),
        "5-gram": plain.fivegram.sum() / sizes.sum(),
        "xz -9": plain.xz,
    }
    for (name, level), colour, line in zip(
        levels.items(), figures.COLOURS[1:], ("--", "-.", ":"), strict=False
    ):
        ax.axhline(level, color=colour, linestyle=line, label=name)
    ax.set(xlabel="tokens trained on (millions)", ylabel="bits a byte", yscale="log")
    low = min(*levels.values(), *(float(v.min()) for v in curve.values()))
    round_numbers = np.array([0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8])
    figures.plain_ticks(ax.yaxis, round_numbers[np.searchsorted(round_numbers, low) - 1 :])
    figures.legend_below(fig, ax, ncols=4)
    return fig


def document_figure(mean: Any, plain: Baselines, sizes: Any, static: Static) -> Any:
    """The decoder against the 5-gram model, a point a document."""
    fig, ax = plt.subplots(figsize=(4.4, 4.2))
    x, y = plain.fivegram / sizes, mean / sizes
    ax.scatter(x, y, s=4 + 80 * np.sqrt(sizes / sizes.max()), alpha=0.7, linewidths=0)
    low, high = min(x.min(), y.min()) * 0.95, max(x.max(), y.max()) * 1.05
    ax.plot([low, high], [low, high], color="black", linewidth=1, linestyle=":")
    ax.set(xlabel="5-gram, bits a byte", ylabel="decoder, bits a byte",
           xlim=(low, high), ylim=(low, high))  # fmt: skip
    return fig


def place_figure(static: Static, scored: Scored) -> Any:
    """Bits by the number of tokens before."""
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    place = np.arange(1, static.config.context + 1)
    ax.plot(place, scored.by_place.mean(0))
    ax.set(xlabel="tokens before it in the window", ylabel="bits a token", xscale="log")
    ax.set_ylim(0, None)
    return fig


def document_table(static: Static, mean: Any, plain: Baselines, sizes: Any) -> list[list[Any]]:
    """A line a document."""
    order = np.argsort(-sizes)
    return [
        [static.held.names[i], int(sizes[i])]
        + [float(bits[i] / sizes[i]) for bits in (mean, plain.fivegram, plain.unigram)]
        for i in order
    ]


def sampled(static: Static, params: Any) -> str:
    """Text that the decoder goes on with, in its first seed."""
    config, tokenizer = static.config, static.tokenizer
    prompt = tokenizer.encode(config.prompt or "\n")[-config.context // 2 :][None]
    own = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), params)
    go_on = functools.partial(
        models.generate,
        static.model,
        steps=config.context - prompt.shape[1],
        temperature=config.temperature,
        stop=[tokenizer.end],
        pad=tokenizer.end,
    )
    new = jax.jit(go_on)(own, prompt, key=jax.random.key(0))
    return tokenizer.decode(np.concatenate([prompt[0], np.asarray(new.tokens[0])]))


def keep(static: Static, params: Any, folder: Path) -> None:
    """The first seed's model as a folder, such as `configs/membership_audit.yaml` takes."""
    named = static.config.tokenizer
    tokenizer: str | Path | None = None if named == "bytes" else named
    if named.startswith("bpe:"):  # the same texts give the same tokenizer
        data.train_bpe(static.train, static.tokenizer.vocab, path=folder)
        tokenizer = folder
    own = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), params)
    training.save_model(folder, static.model, own, tokenizer=tokenizer)


def summary(
    static: Static, scored: Scored, plain: Baselines, sizes: np.ndarray
) -> tuple[runs.Row, ...]:
    """The decoder against each baseline; intervals over held-out documents."""
    bits, n = scored.bits.mean(0), len(sizes)
    total = sizes.sum()
    value, low, high = stats.ratio_interval(bits, sizes)
    seeds = len(scored.bits)
    where = {"seeds": seeds, "held-out bytes": int(total)}
    rows = [
        runs.Row("bits a byte", value, low, high, n, "bits", float(level), name, where)
        for name, level in (
            ("5-gram", plain.fivegram.sum() / total),
            ("unigram", plain.unigram.sum() / total),
            ("xz -9", plain.xz),
        )
    ]
    gain, low, high = stats.ratio_interval(plain.fivegram - bits, sizes)
    rows.append(
        runs.Row("gain over the 5-gram model", gain, low, high, n, "bits", 0.0, "no gain", where)
    )
    return tuple(rows)


def answer(static: Static, rows: tuple[runs.Row, ...]) -> str:
    """One paragraph from the rows."""
    five, one, xz, gain = rows
    assert five.low is not None
    seen = static.steps * static.config.batch * static.config.context / 1e6
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(_abstract(static)))
    if gain.low is None or gain.low <= 0 <= (gain.high or 0):
        against = "no more and no fewer than the 5-gram model as far as these documents tell"
    else:
        against = "fewer than the 5-gram model" if gain.value > 0 else "more than the 5-gram model"
    return (
        f"A decoder of {count / 1e6:.2f} million parameters, trained on {seen:.1f} million tokens, "
        f"needs {five.value:.3f} bits a byte [{five.low:.3f}, {five.high:.3f}] for {five.n} "
        f"held-out documents: {against} ({five.baseline:.3f}). Single bytes need "
        f"{one.baseline:.3f} and xz -9 {xz.baseline:.3f}."
    )


def _abstract(static: Static) -> Any:
    return jax.eval_shape(static.model.init, jax.random.key(0))


def sites(config: Config) -> Any:
    """The decoder, for `activjax sites`."""
    static = setup(config)
    tokens = jax.ShapeDtypeStruct((config.batch, config.context), jnp.int32)
    return static.model.apply, (_abstract(static), tokens)
