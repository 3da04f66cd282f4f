"""What the activations of a decoder are like on text, layer by layer, and how well it predicts it.

One pass over held-out documents, fused with the forward pass and in constant memory (`harvest`):
how many directions the residual stream uses and what share the strongest has; how many units of an
MLP are in use; the largest value of the residual stream and the token that it is at (Sun et al.
2024, "Massive activations in large language models"); how widely attention is spread, and how much
of it goes to the first token (Xiao et al. 2023, "attention sinks"); and bits a byte, beside what
counting bytes and a compressor need for the same text. Everything stands beside what noise would
give. Intervals are over documents: the bootstrap for means, the delete-a-group jackknife for
spectra (Kott 2001).

As it stands a small decoder is trained first, on the other documents. For a published one:

    activjax run configs/text_statistics.yaml 'model={kind: pretrained, path: checkpoints/pythia}'
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import text_statistics_report as shown
from jaxtyping import Array, Float, Int

import activjax as aj
from activjax import data, models, runs, stats, training
from activjax.runs import decoders

QUESTION = "What are this decoder's activations like on text, layer by layer?"
RESID, UNITS, PATTERN, NATS = "blocks/resid_post", "blocks/mlp/post", "blocks/attn/pattern", "nats"
LARGEST = 8


@dataclasses.dataclass(frozen=True)
class Trained:
    """A small decoder of bytes, trained here on the documents that are not measured."""

    layers: int = runs.static(4, ge=1)
    width: int = runs.static(128, ge=8)
    heads: int = runs.static(4, ge=1)
    steps: int = runs.static(300, ge=0, help="0: as it was initialised")
    batch: int = runs.static(16, ge=1, help="excerpts a step")
    learning_rate: float = runs.static(4e-3, gt=0, help="peak of the schedule, of AdamW")
    kind: Literal["trained"] = "trained"


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    model: str | decoders.Pretrained | decoders.Saved | Trained = dataclasses.field(
        default_factory=Trained
    )
    corpus: str = runs.static("stdlib", help="stdlib, hub:user/set, a file, a folder or a glob")
    leave_out: tuple[str, ...] = runs.static((), help="globs over modules, for stdlib")
    held_out: float = runs.static(0.05, gt=0, lt=1, help="a document's chance of being measured")
    split_seed: int = runs.static(0, ge=0)
    documents: int = runs.static(32, ge=2, help="measured at most")
    excerpts: int = runs.static(8, ge=1, help="of a document at most, from its beginning on")
    length: int = runs.static(128, ge=4, help="tokens of an excerpt")
    batch: int = runs.static(8, ge=1, help="excerpts at a time")
    groups: int = runs.static(8, ge=2, help="of documents, for the intervals of spectra")


def data_files(config: Config) -> list[Any]:
    """The corpus's files, and the model's: other contents are another run."""
    own = [] if isinstance(config.model, Trained) else decoders.of(config.model).files()
    return [*corpus(config).files, *own]


def corpus(config: Config) -> data.Corpus:
    """All documents."""
    options: dict[str, Any] = {"leave_out": config.leave_out} if config.leave_out else {}
    return data.corpus(config.corpus, **options)


# --- text ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Excerpts:
    """Pieces of held-out documents, each read by itself.

    Attributes:
      names: of the documents.
      tokens: `[excerpts, length]`, what the tokenizer begins a text with first.
      source: `[excerpts]`, which document, rising.
      texts: what is predicted of each excerpt.
    """

    names: tuple[str, ...]
    tokens: Int[np.ndarray, "excerpts length"]
    source: Int[np.ndarray, " excerpts"]
    texts: list[str]

    @property
    def sizes(self) -> Float[np.ndarray, " documents"]:
        """Bytes that are predicted of each document."""
        own = [len(text.encode()) for text in self.texts]
        return np.bincount(self.source, own, len(self.names))


def excerpts(held: data.Corpus, tokenizer: data.Tokenizer, config: Config) -> Excerpts:
    """The first excerpts of documents in random order: a document is in one group only."""
    fresh = config.length - len(tokenizer.begin)
    if fresh < 2:
        raise runs.ExperimentError(
            f"length: the tokenizer begins a text with {len(tokenizer.begin)} tokens of its own, "
            f"expected at least {len(tokenizer.begin) + 2}, got {config.length}"
        )
    names, tokens, source, texts = [], [], [], []
    for i in np.random.default_rng(config.split_seed).permutation(len(held)):
        ids, spans = tokenizer.encode(held.texts[i]), tokenizer.offsets(held.texts[i])
        starts = range(0, len(ids) - fresh + 1, fresh)[: config.excerpts]
        for start in starts:
            # nothing comes before the first token, unless the tokenizer begins a text
            first = spans[start, 0 if tokenizer.begin else 1]
            texts.append(held.texts[i][first : spans[start + fresh - 1, 1]])
            tokens.append([*tokenizer.begin, *ids[start : start + fresh]])
            source.append(len(names))
        names += [held.names[i]] * bool(starts)
        if len(names) == config.documents:
            break
    if len(names) < config.groups:
        raise runs.ExperimentError(
            f"documents: {len(names)} held-out ones have {fresh} tokens, expected at least "
            f"{config.groups} (groups:): shorten `length`, or hold more out"
        )
    return Excerpts(tuple(names), np.array(tokens, np.int32), np.array(source), texts)


# --- the decoder --------------------------------------------------------------------------------


def byte_decoder(config: Config, own: Trained) -> models.Decoder:
    """The decoder that is trained here."""
    return models.decoder(
        vocab=data.byte_tokenizer().vocab, context=config.length, layers=own.layers,
        width=own.width, heads=own.heads, norm="rms", positions="rotary", bias=False,
    )  # fmt: skip


def loaded(config: Config, train: data.Corpus, key: Array) -> models.Loaded:
    """The decoder with its parameters and its tokenizer."""
    if isinstance(config.model, Trained):
        return trained(config, config.model, train, key)
    found = decoders.of(config.model).load()
    if (context := found.model.config.context) < config.length:
        raise runs.ConfigError(f"length: the decoder's context is {context}, got {config.length}")
    return found


def trained(config: Config, own: Trained, train: data.Corpus, key: Array) -> models.Loaded:
    """A short training on bytes."""
    tokenizer, model = data.byte_tokenizer(), byte_decoder(config, own)
    rows = data.pack(map(tokenizer.encode, train), config.length, end=tokenizer.end)
    batches = data.Batches(len(rows.tokens), own.batch)
    optimiser, loss = training.adamw(own.learning_rate, steps=own.steps), training.next_token(model)
    state = training.init_state(model, optimiser, batches, key)

    def step(state: training.TrainState) -> Any:
        position, chosen = batches.next(state.batches)
        batch = jnp.asarray(rows.tokens)[chosen], jnp.asarray(rows.segments)[chosen]
        return training.train_step(loss, optimiser, state._replace(batches=position), batch)

    if own.steps:
        state = training.run(step, state, steps=own.steps, chunk=min(50, own.steps)).state
    return models.Loaded(model, state.params, tokenizer)


# --- statistics ---------------------------------------------------------------------------------


def in_use(x: Float[Array, "*rows unit"]) -> Float[Array, "*rows 1"]:
    """The share of units that would carry as much if all carried the same: Treves and Rolls 1991.

    1 if all have one magnitude, 1 / units if a single one is on, 2 / pi for normal values.
    """
    x = jnp.abs(x.astype(jnp.float32))
    x = x / jnp.maximum(jnp.max(x, axis=-1, keepdims=True), jnp.finfo(jnp.float32).tiny)
    mean, square = (jnp.mean(v, axis=-1, keepdims=True) for v in (x, jnp.square(x)))
    return jnp.square(mean) / jnp.maximum(square, jnp.finfo(jnp.float32).tiny)


def spread(p: Float[Array, "batch head seq key"]) -> Float[Array, "batch later 2"]:
    """Entropy of attention in bits, and its share on the first token: mean over heads.

    The first token, which has nothing but itself to attend to, is left out.
    """
    p = p[:, :, 1:].astype(jnp.float32)
    entropy = -jnp.sum(p * jnp.log2(jnp.where(p > 0, p, 1.0)), axis=-1)
    return jnp.stack([entropy.mean(1), p[..., 0].mean(1)], axis=-1)


def pass_over(model: models.Decoder, begins: int, documents: int) -> stats.Harvest:
    """All statistics in one program; `begins` tokens of an excerpt are the tokenizer's."""
    losses = training.token_losses(model)

    def nats(params: Any, batch: Any) -> Array:
        found, _ = losses(params, batch["tokens"])
        return aj.tag(found[:, max(begins - 1, 0) :, None], NATS)

    by_document = stats.moments(labels=documents)
    sizes = stats.histogram().of(jnp.abs)
    return aj.harvest(
        nats,
        reduce={
            RESID: stats.together(
                moments=stats.moments("full"), sizes=sizes,
                largest=stats.top_k(LARGEST, by="magnitude"),
            ),
            UNITS: by_document.of(in_use),
            PATTERN: by_document.of(spread),
            NATS: by_document,
        },
        rows=lambda batch: stats.Rows(labels=batch["source"], ids=batch["number"]),
    )  # fmt: skip


def batches(found: Excerpts, which: np.ndarray, size: int) -> Iterator[dict[str, np.ndarray]]:
    """Some excerpts, of which each knows its document and its number."""
    for at in range(0, len(which), size):
        rows = which[at : at + size]
        yield {
            "tokens": found.tokens[rows], "source": found.source[rows].astype(np.int32),
            "number": rows.astype(np.uint32),
        }  # fmt: skip


def gathered(harvest: stats.Harvest, params: Any, found: Excerpts, config: Config) -> list[Any]:
    """One pass over all excerpts: the state of each group of documents."""
    states: list[Any] = []
    for group in range(config.groups):
        which = np.flatnonzero(found.source % config.groups == group)
        feed = batches(found, which, config.batch)
        harvest(params, feed, save=states.append, every=len(which), progress=False)
    return states


@jax.jit
def directions(moments: stats.Moments) -> Float[Array, "2 layers"]:
    """How many directions carry the variance (participation ratio), and the strongest's share."""
    e = stats.spectrum(moments.covariance()).eigenvalues
    return jnp.stack([stats.effective_rank(e, kind="participation"), e[:, 0] / e.sum(-1)])


def jackknife(whole: np.ndarray, without: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of an estimate, from those without each group `[groups, ...]`."""
    from scipy.special import stdtrit

    groups = len(without)
    error = np.sqrt((groups - 1) / groups * np.square(without - without.mean(0)).sum(0))
    half = stdtrit(groups - 1, 0.975) * error
    return whole - half, whole + half


def measured(
    whole: dict[str, Any], without: list[Any], documents: int, length: int
) -> list[shown.Measure]:
    """Every statistic by layer, beside what noise or no preference would give."""
    resid = whole[RESID]
    pair = np.asarray(directions(resid["moments"]), np.float64)
    low, high = jackknife(pair, np.stack([directions(m) for m in without]).astype(np.float64))
    layers, d = resid["moments"].mean.shape
    n = int(np.asarray(resid["moments"].n).ravel()[0])
    largest = np.abs(np.asarray(resid["largest"].value, np.float64)[:, 0])
    ratio = largest / resid["sizes"].quantile(0.5)
    end = np.arange(2, length)  # tokens that can be attended to, from the second one on
    noise = shown.normal_largest(n * d)
    made = [
        shown.Measure("directions of the residual stream", pair[0], low[0], high[0],
                      d / (1 + d / n), "noise", log=True),
        shown.Measure("share of the strongest direction", pair[1], low[1], high[1],
                      (1 + math.sqrt(d / n)) ** 2 / d, "noise"),
        shown.Measure("largest residual value over the median", ratio, None, None, noise, "noise",
                      log=True),
        by_document("share of MLP units in use", whole[UNITS], 0, 2 / math.pi, "normal values"),
        by_document("entropy of attention", whole[PATTERN], 0, float(np.log2(end).mean()),
                    "all earlier tokens alike", "bits"),
        by_document("attention to the first token", whole[PATTERN], 1, float((1 / end).mean()),
                    "all earlier tokens alike"),
    ]  # fmt: skip
    assert all(m.values.shape == (layers,) for m in made)
    return made


def by_document(
    name: str, found: stats.Moments, channel: int, level: float, meaning: str, unit: str = ""
) -> shown.Measure:
    """A mean over tokens by layer, with its bootstrap over documents."""
    n = np.asarray(found.n, np.float64)  # [layers, documents]
    sums = np.asarray(found.mean, np.float64)[..., channel] * n
    value, low, high = np.array([stats.ratio_interval(a, b) for a, b in zip(sums, n)]).T
    return shown.Measure(name, value, low, high, level, meaning, unit)


def main(config: Config, out: Any) -> runs.Result:
    """Read, gather, compare."""
    if len(out.seeds) > 1:
        raise runs.ConfigError("seeds: one decoder is looked at: leave them at 1")
    train, held = corpus(config).split(config.held_out, config.split_seed)
    model, params, tokenizer = loaded(config, train, jax.random.key(int(out.seeds[0])))
    found = excerpts(held, tokenizer, config)
    out.log(f"{len(found.tokens)} excerpts of {len(found.names)} documents")
    documents, begins = len(found.names), len(tokenizer.begin)
    harvest = pass_over(model, begins, documents)
    states = gathered(harvest, params, found, config)
    whole = harvest.finish(functools.reduce(harvest.merge, states))
    without = [
        harvest.finish(functools.reduce(harvest.merge, states[:g] + states[g + 1 :]))[RESID]
        for g in range(len(states))
    ]
    out.log("activations gathered")
    spent = whole[NATS]
    nats = np.asarray(spent.mean, np.float64)[:, 0] * np.asarray(spent.n, np.float64)
    text = shown.Text(nats / math.log(2), found.sizes, *counted(train, found))
    made = measured(whole, [w["moments"] for w in without], documents, config.length)
    massive = shown.massive_lines(whole[RESID], found, tokenizer)
    rows = shown.summary(text, made, documents)
    shown.report(out, text, made, massive, found.names, whole[RESID])
    seen = not isinstance(config.model, Trained)
    return runs.Result(QUESTION, shown.answer(text, made, massive, seen), rows)


def counted(train: data.Corpus, found: Excerpts) -> tuple[np.ndarray, np.ndarray, float]:
    """Bits of each document by a 5-gram model and by single bytes, and bits a byte of `xz -9`."""

    def bits(order: int) -> np.ndarray:
        ngram = data.ngram(list(train), order)
        own = [ngram.bits(text).sum() for text in found.texts]
        return np.bincount(found.source, own, len(found.names))

    return bits(5), bits(1), data.xz_bits_per_byte(found.texts)


def sites(config: Config) -> Any:
    """The decoder, for `activjax sites`; no parameters are made or read."""
    if isinstance(config.model, Trained):
        model = byte_decoder(config, config.model)
        params = jax.eval_shape(model.init, jax.random.key(0))
    else:
        model, params, _ = decoders.of(config.model).abstract()
    return model.apply, (params, jax.ShapeDtypeStruct((config.batch, config.length), jnp.int32))
