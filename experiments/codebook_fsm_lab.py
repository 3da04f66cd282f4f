"""The machine, the network and its training, for `codebook_fsm.py`."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from activjax import codebooks, data, models, runs, training

MLP, HEADS, NEURONS = "blocks/mlp/out", "blocks/attn/heads", "blocks/mlp/post"


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    layers: int = runs.static(2, ge=1, le=8)
    width: int = runs.static(64, ge=8)
    heads: int = runs.static(4, ge=1)
    states_a_text: int = runs.static(16, ge=4, help="a text is <bos> and twice as many digits")
    batch: int = runs.static(62, ge=1, help="texts a step")
    base_steps: int = runs.static(1500, ge=1, help="training without codebooks")
    base_rate: float = runs.static(5e-3, gt=0, help="peak of AdamW")
    steps: int = runs.static(1500, ge=1, help="training with codebooks")
    rate: float = runs.static(2e-3, gt=0, help="peak of AdamW, for the network")
    code_rate: float = runs.static(2e-2, gt=0, help="of Adam, for the codes")
    mlp_codes: int = runs.static(768, ge=1)
    head_codes: int = runs.static(256, ge=1, help="in each head")
    k: int = runs.static(1, ge=1, help="codes chosen")
    norm: Literal["rms", "layer", "none"] = runs.static("layer")
    lam: float = runs.static(1.0, ge=0, help="weight of the codes' error")
    revive_every: int = runs.static(100, ge=0, help="steps; 0 for never")
    texts: int = runs.static(2000, ge=40, help="held-out texts whose codes are read")
    written: int = runs.static(1000, ge=20, help="texts that each network writes")
    pairs: int = runs.static(500, ge=20, help="interventions of each kind")
    seed: int = runs.static(0, ge=0)


class Texts(NamedTuple):
    """Held-out texts and what stands in them, all `[texts, length]`."""

    tokens: np.ndarray
    states: np.ndarray
    trigrams: np.ndarray


class Network(NamedTuple):
    """A network with codebooks in it, which may be switched off."""

    params: Any
    books: Any
    off: bool = False


@dataclasses.dataclass(frozen=True)
class Lab:
    """The machine, the decoder and the spec."""

    config: Config
    machine: data.languages.FiniteState
    model: models.Decoder
    spec: dict[str, codebooks.Spec]

    @property
    def length(self) -> int:
        """Tokens that the decoder reads."""
        return 2 * self.config.states_a_text + 1


def lab_of(config: Config) -> Lab:
    """The published machine and a small decoder."""
    machine = data.languages.finite_state()
    model = models.decoder(
        vocab=machine.vocab,
        context=2 * config.states_a_text + 1,
        layers=config.layers,
        width=config.width,
        heads=config.heads,
        norm="layer",
        positions="learned",
    )
    make = functools.partial(
        codebooks.Spec, k=config.k, norm=None if config.norm == "none" else config.norm
    )
    spec = {
        MLP: make(config.mlp_codes),
        HEADS: make(config.head_codes, groups=config.heads, axis=-2),
    }
    return Lab(config, machine, model, spec)


class Trained(NamedTuple):
    """What training gave: networks, and curves `[steps]`."""

    base: Network
    coded: Network
    sampled: Network
    curves: dict[str, np.ndarray]


def texts_for(lab: Lab) -> tuple[jax.Array, data.Batches]:
    """Texts enough for every step of the longer training, and the order of their use."""
    config = lab.config
    n = config.batch * max(config.base_steps, config.steps)
    rows = lab.machine.sample(n, lab.length, seed=2 * config.seed + 1)
    return jnp.asarray(rows), data.Batches(n, config.batch)


def train_base(lab: Lab, key: jax.Array) -> tuple[Any, np.ndarray]:
    """Parameters without codebooks, and the loss of every step."""
    config = lab.config
    rows, batches = texts_for(lab)
    loss = training.next_token(lab.model)
    optimiser = training.adamw(config.base_rate, steps=config.base_steps, decay=0.01)

    def step(state: training.TrainState) -> Any:
        position, at = batches.next(state.batches)
        state, metrics = training.train_step(
            loss, optimiser, state._replace(batches=position), (rows[at], None)
        )
        return state, metrics["loss"]

    start = training.init_state(lab.model, optimiser, batches, key)
    steps = config.base_steps
    done = training.run(step, start, steps=steps, chunk=min(100, steps))
    return done.state.params, done.metrics


def train_codes(
    lab: Lab, params: Any, books: Any, key: jax.Array, code_optimiser: Any = None
) -> tuple[Network, dict[str, np.ndarray]]:
    """The network trained on with codebooks in it, and the metrics of every step."""
    config = lab.config
    rows, batches = texts_for(lab)
    loss = training.next_token(lab.model)
    optimiser = training.adamw(config.rate, steps=config.steps, decay=0.01)
    if code_optimiser is None:
        code_optimiser = codebooks.optimiser(config.code_rate)

    def step(state: codebooks.TrainState) -> Any:
        position, at = batches.next(state.batches)
        return codebooks.train_step(
            loss, lab.spec, optimiser, code_optimiser, state._replace(batches=position),
            (rows[at], None), lam=config.lam, revive_every=config.revive_every or None,
        )  # fmt: skip

    of_steps, of_batches = jax.random.split(key)
    start = codebooks.init_state(
        params, books, optimiser, code_optimiser, of_steps, batches=batches.init(of_batches)
    )
    done = training.run(step, start, steps=config.steps, chunk=min(100, config.steps))
    return Network(done.state.params, done.state.codebooks), done.metrics


def sampled_books(lab: Lab, params: Any, key: jax.Array) -> Any:
    """Codes that are activations of the network."""
    rows, _ = texts_for(lab)
    acts = jax.jit(codebooks.inputs(lab.model.apply, lab.spec))(params, rows[:200])
    return codebooks.init(lab.spec, acts, key, method="sample")


def train(lab: Lab) -> Trained:
    """The base, the base with trained codebooks, and the base with its activations as codes."""
    keys = jax.random.split(jax.random.key(lab.config.seed), 3)
    params, curve = train_base(lab, keys[0])
    books = sampled_books(lab, params, keys[1])
    coded, metrics = train_codes(lab, params, books, keys[2])
    curves = {
        "base": curve,
        "with codebooks": metrics["loss"],
        "error": metrics["codebook_loss"],
        "dead": metrics["dead"],
    }
    return Trained(Network(params, books, off=True), coded, Network(params, books), curves)
