"""Decoders for `codebook_text.py`: the base, what continues it, and what each says of excerpts."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from codebook_text_data import CODER, Held
from jaxtyping import Array, Float

import activjax as aj
from activjax import codebooks, data, models, training

MLP, HEADS = "blocks/mlp/out", "blocks/attn/heads"
#: The kinds of models that are scored, in the order of tables and figures.
BASE, EXTRA, CODES, TOPK, SAMPLED = (
    "base", "base, more steps", "codes", "TopK bottleneck", "sampled activations",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Network:
    """What all models have in common.

    Attributes:
        model: the decoder.
        spec: codebooks, and with the same sizes the TopK bottlenecks.
        rows: text to train on.
        batch: rows of a step.
        tokenizer: of the text.
    """

    model: models.Decoder
    spec: dict[str, codebooks.Spec]
    rows: data.Packed
    batch: int
    tokenizer: data.Tokenizer = CODER

    @property
    def batches(self) -> data.Batches:
        """Rows in random order."""
        return data.Batches(len(self.rows.tokens), self.batch)

    @functools.cached_property
    def loss(self) -> Any:
        """Next-token loss: one object, so that programs are shared."""
        return training.next_token(self.model)

    def taken(self, rows: Any) -> tuple[Array, Array]:
        """The text of some rows."""
        return jnp.asarray(self.rows.tokens)[rows], jnp.asarray(self.rows.segments)[rows]

    def sample(self, key: Array, most: int = 8192) -> tuple[Array, Array]:
        """Rows of about as many tokens, for first codes."""
        n = min(len(self.rows.tokens), max(1, most // (self.rows.tokens.shape[1] - 1)))
        tokens, segments = self.taken(jax.random.permutation(key, len(self.rows.tokens))[:n])
        return tokens[:, :-1], segments[:, :-1]


def _run(step: Callable[[Any], Any], state: Any, steps: int) -> tuple[Any, dict[str, np.ndarray]]:
    done = training.run(step, state, steps=steps, chunk=min(50, steps))
    return done.state, done.metrics


def train_base(net: Network, rate: float, steps: int, key: Array, params: Any = None) -> Any:
    """Train a decoder, from the beginning or from parameters. Returns parameters, metrics."""
    optimiser, batches = training.adamw(rate, steps=steps), net.batches
    state = training.init_state(net.model, optimiser, batches, key)
    if params is not None:
        state = state._replace(params=params, opt_state=optimiser.init(params))

    def step(state: training.TrainState) -> Any:
        position, rows = batches.next(state.batches)
        state = state._replace(batches=position)
        return training.train_step(net.loss, optimiser, state, net.taken(rows))

    state, metrics = _run(step, state, steps)
    return state.params, metrics


class Rates(NamedTuple):
    """How models are continued: peak rate of the network, rate of the codes, weight, revival."""

    network: float
    codes: float
    topk: float
    lam: float
    revive_every: int


def first_codes(net: Network, params: Any, key: Array) -> Any:
    """Codes that are activations of the base."""
    of_rows, of_codes = jax.random.split(key)
    tokens, segments = net.sample(of_rows)
    see = codebooks.inputs(net.model.apply, net.spec)
    acts = jax.jit(see)(params, tokens, segments=segments, mask=segments > 0)
    return codebooks.init(net.spec, acts, of_codes)


def train_codes(
    net: Network, params: Any, books: Any, rates: Rates, steps: int, key: Array
) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Continue a decoder with codebooks. Returns parameters, codebooks, metrics."""
    optimiser, batches = training.adamw(rates.network, steps=steps), net.batches
    of_codes = codebooks.optimiser(training.warmup_cosine(rates.codes, steps=steps))
    at = training.init_state(net.model, optimiser, batches, key).batches  # the control's order
    state = codebooks.init_state(params, books, optimiser, of_codes, key=key, batches=at)

    def step(state: codebooks.TrainState) -> Any:
        position, rows = batches.next(state.batches)
        tokens, segments = net.taken(rows)
        return codebooks.train_step(
            net.loss, net.spec, optimiser, of_codes, state._replace(batches=position),
            (tokens, segments), lam=rates.lam, mask=segments[:, :-1] > 0,
            revive_every=rates.revive_every,
        )  # fmt: skip

    state, metrics = _run(step, state, steps)
    return state.params, state.codebooks, metrics


# --- TopK bottlenecks: sparse autoencoders in place (Gao et al. 2024, arXiv 2406.04093) ---------

Topk = dict[str, dict[str, Array]]


def first_topk(net: Network, params: Any, key: Array) -> Topk:
    """Unit rows at random, the encoder their transpose, around the mean activation."""
    tokens, segments = net.sample(key)
    see = codebooks.inputs(net.model.apply, net.spec)
    acts = jax.jit(see)(params, tokens, segments=segments, mask=segments > 0)
    made = {}
    for number, (site, one) in enumerate(net.spec.items()):
        rows = acts[site].rows  # [layers, tokens, groups, d]
        mean = jnp.mean(rows, axis=1)
        scale = jnp.sqrt(jnp.mean(jnp.square(rows - mean[:, None]), axis=(1, 3)))
        shape = (*mean.shape[:-1], one.codes, mean.shape[-1])
        drawn = jax.random.normal(jax.random.fold_in(key, number), shape)
        dec = drawn / jnp.linalg.norm(drawn, axis=-1, keepdims=True)
        made[site] = {
            "enc": jnp.swapaxes(dec, -1, -2), "enc_bias": jnp.zeros(shape[:-1]),
            "dec": dec, "bias": mean, "scale": scale,
        }  # fmt: skip
    return made


@jax.tree_util.register_static
class Kept(int):
    """How many units stay; part of the program."""


def topk_bottleneck(k: Kept, p: Mapping[str, Array], x: Float[Array, "*tokens d"]) -> Array:
    """The edit of a site: `relu(a W_enc + b)`, its k largest, times `W_dec` plus a bias."""
    groups, d = p["bias"].shape
    a = jnp.moveaxis(x.reshape(-1, groups, d), 1, 0)
    scale = jax.lax.stop_gradient(p["scale"])[:, None, None]

    def units(a: Array) -> Array:
        return ((a - p["bias"][:, None]) / scale) @ p["enc"] + p["enc_bias"][:, None]

    def decoded(z: Array) -> Array:
        return (jnp.where(kept, z, 0.0) @ p["dec"]) * scale + p["bias"][:, None]

    z = units(a)
    # without the barrier XLA on a CPU sorts all units: 13 times as slow
    value, ids = jax.lax.optimization_barrier(jax.lax.top_k(jax.lax.stop_gradient(z), k))
    kept = (z >= value[..., -1:]) & (z > 0)
    held = jax.lax.stop_gradient(a)  # the error's gradient is the bottleneck's own, as of codes
    error = jnp.square((decoded(units(held)) - held) / scale)
    aj.tag(jnp.mean(jnp.sum(error, (0, 2))), "topk/error")
    shape = (*x.shape[:2], groups, k)
    aj.tag(jnp.moveaxis(jnp.where(value > 0, ids, -1), 0, 1).reshape(shape), "topk/ids")
    aj.tag(jnp.moveaxis(jax.nn.relu(value), 0, 1).reshape(shape), "topk/values")
    return jnp.moveaxis(decoded(z), 0, 1).reshape(x.shape)


def with_topk(net: Network, f: Callable[..., Any], *tags: str) -> Callable[..., Any]:
    """`g(params, topk, *inputs) -> (out, {site/topk/tag: value})` with bottlenecks in place."""

    def run(params: Any, topk: Topk, *inputs: Any) -> Any:
        made = {
            site: jax.tree_util.Partial(
                topk_bottleneck, Kept(net.spec[site].k), jax.tree.map(aj.edits.each, topk[site])
            )
            for site in topk
        }
        names = [f"{site}/topk/{tag}" for site in topk for tag in tags]
        return aj.capture(aj.intervene(f, made), names)(params, *inputs)

    return run


def train_topk(
    net: Network, params: Any, topk: Topk, rates: Rates, steps: int, key: Array
) -> tuple[Any, Topk, dict[str, np.ndarray]]:
    """Continue a decoder with TopK bottlenecks. Returns parameters, bottlenecks, metrics."""
    optimiser, batches = training.adamw(rates.network, steps=steps), net.batches
    of_topk = optax.adam(training.warmup_cosine(rates.topk, steps=steps))
    started = training.init_state(net.model, optimiser, batches, key)
    with jax.numpy_dtype_promotion("standard"):
        states = optimiser.init(params), of_topk.init(topk)
    edited = with_topk(net, net.loss, "error")

    def total(params: Any, topk: Topk, batch: Any, key: Array) -> Any:
        (loss, (_, metrics)), tags = edited(params, topk, {}, batch, key)
        error = sum(jnp.sum(tags[f"{site}/topk/error"]) for site in topk)
        return loss + rates.lam * error, {**metrics, "loss": loss, "codebook_loss": error}

    def step(state: Any) -> Any:
        params, topk, (opt, own), at = state
        at, rows = batches.next(at)
        grads, metrics = jax.grad(total, (0, 1), has_aux=True)(params, topk, net.taken(rows), key)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            updates, opt = optimiser.update(grads[0], opt, params)
            params = optax.apply_updates(params, updates)
            updates, own = of_topk.update(grads[1], own, topk)
            topk = optax.apply_updates(topk, updates)
        return (params, topk, (opt, own), at), metrics

    state, metrics = _run(step, (params, topk, states, started.batches), steps)
    return state[0], state[1], metrics


# --- what a model says of the excerpts ------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Said:
    """What a model says of all excerpts.

    Attributes:
        bits: for each token but the first, `[documents, size - 1]`.
        traces: by site, ids and similarities `[layers, documents, size, groups, k]`.
        acts: by site, activations `[documents, size, layers, d]` in float16.
    """

    bits: np.ndarray
    traces: dict[str, tuple[np.ndarray, np.ndarray]]
    acts: dict[str, np.ndarray]


def reader(net: Network, kind: str, acts: tuple[str, ...] = ()) -> Callable[..., Any]:
    """A jitted `read(params, extra, tokens)` -> nats, ids, values, activations, of windows.

    Args:
        net: the network.
        kind: `BASE`, `CODES` or `TOPK`.
        acts: for `BASE`: activations to read.
    """
    apply = net.model.apply

    def read(params: Any, extra: Any, tokens: Array) -> Any:
        found: dict[str, Any] = {}
        traces: dict[str, Any] = {}
        if kind == CODES:
            logits, seen = codebooks.run(apply, net.spec)(params, extra, tokens)
            traces = {site: (one.ids, one.similarities) for site, one in seen.items()}
        elif kind == TOPK:
            logits, tags = with_topk(net, apply, "ids", "values")(params, extra, tokens)
            traces = {s: (tags[f"{s}/topk/ids"], tags[f"{s}/topk/values"]) for s in net.spec}
        else:
            logits, found = aj.capture(apply, list(acts))(params, tokens)
        likely = jax.nn.log_softmax(logits[:, :-1], axis=-1)
        nats = -jnp.take_along_axis(likely, tokens[:, 1:, None], axis=-1)[..., 0]
        return nats, traces, {name: a.astype(jnp.float16) for name, a in found.items()}

    return jax.jit(read)


def said(read: Callable[..., Any], params: Any, extra: Any, held: Held, size: int = 32) -> Said:
    """Run a reader over all windows of the excerpts."""
    windows, parts = held.windows, []
    for at in range(0, len(windows), size):
        tokens = windows[at : at + size]
        full = np.pad(tokens, [(0, size - len(tokens)), (0, 0)])  # one shape, one program
        nats, traces, acts = jax.device_get(read(params, extra, jax.device_put(full)))
        inner = jax.tree.map(lambda a: np.moveaxis(a, 0, 1), (traces, acts))
        parts.append((nats, *inner))
    together = jax.tree.map(lambda *a: np.concatenate(a)[: len(windows)], *parts)
    nats, traces, acts = together

    def whole(a: np.ndarray) -> np.ndarray:  # [rows, layers, context, ...]
        return held.joined(np.swapaxes(a, 1, 2))

    def by_layer(a: np.ndarray) -> np.ndarray:
        return np.moveaxis(whole(a), 2, 0)

    return Said(
        held.joined(nats, lost=1).astype(np.float64) / math.log(2),
        {s: (by_layer(ids), by_layer(values)) for s, (ids, values) in traces.items()},
        {name: whole(a) for name, a in acts.items()},
    )
