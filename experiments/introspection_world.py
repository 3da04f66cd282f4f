"""The concept language, a small decoder pre-trained on it, and its fine-tuning, for
`introspection_lab.py` and `introspection_mechanisms.py`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from activjax import data, introspection, models, runs, training


@dataclasses.dataclass(frozen=True)
class Mix:
    """Shares of the kinds of trial in fine-tuning."""

    injected: float = runs.static(0.35, ge=0)
    mismatch: float = runs.static(0.1, ge=0)
    clean: float = runs.static(0.19, ge=0)
    mention: float = runs.static(0.08, ge=0)
    noise: float = runs.static(0.03, ge=0)
    wrong_prompt: float = runs.static(0.0, ge=0)
    replay: float = runs.static(0.25, ge=0)

    def shares(self) -> dict[str, float]:
        """By the names that `introspection.Trials` has."""
        return {k.replace("_", " "): v for k, v in dataclasses.asdict(self).items()}


@dataclasses.dataclass(frozen=True)
class World:
    """What the laboratory is made of; in the YAML file beside the experiment's own settings."""

    networks: int = runs.static(3, ge=1, help="each pre-trained and fine-tuned by itself")
    first: int = runs.static(
        3, ge=0, help="seed of the first; the settings were chosen on seeds 0 to 2"
    )
    width: int = runs.static(64, ge=8)
    layers: int = runs.static(4, ge=2)
    heads: int = runs.static(4, ge=1)
    base_steps: int = runs.static(500, ge=1, help="pre-training")
    base_batch: int = runs.static(48, ge=1)
    base_rate: float = runs.static(4e-3, gt=0, help="peak of AdamW")
    layer: int = runs.static(0, ge=0, help="where concepts are put in")
    rank: int = runs.static(32, ge=1, help="of LoRA on the projections of attention")
    scale: float = runs.static(2.0, gt=0, help="of LoRA: alpha over rank")
    steps: int = runs.static(700, ge=1, help="fine-tuning")
    batch: int = runs.static(32, ge=1)
    rate: float = runs.static(1e-3, gt=0, help="peak of AdamW")
    strengths: tuple[float, ...] = runs.static((0.5, 0.75, 1.0, 1.5), help="in fine-tuning")
    mix: Mix = dataclasses.field(default_factory=Mix)
    held_out: int = runs.static(16, ge=1, help="concepts never trained on")
    baseline: int = runs.static(8, ge=1, help="concepts whose mean is subtracted")
    prompts: int = runs.static(5, ge=1, help="different questions for each test concept")
    clean: int = runs.static(100, ge=1, help="different clean questions")
    mentions: int = runs.static(300, ge=1, help="different ones that mention a concept")
    noises: int = runs.static(100, ge=1, help="random vectors")


class Network(NamedTuple):
    """One pre-trained network and its concepts."""

    seed: int
    params: Any
    bank: introspection.ConceptBank
    split: data.languages.ConceptSplit


@functools.cache
def language() -> data.languages.Concepts:
    """The published world: 64 concepts."""
    return data.languages.concepts()


@functools.cache
def talk() -> introspection.Laboratory:
    """How networks of the language are asked."""
    return introspection.laboratory(language())


def model_of(config: World) -> models.Decoder:
    """The decoder."""
    return _model(config.width, config.layers, config.heads)


@functools.cache
def _model(width: int, layers: int, heads: int) -> models.Decoder:
    return models.decoder(
        vocab=language().vocab,
        context=language().length,
        layers=layers,
        width=width,
        heads=heads,
        norm="rms",
        positions="rotary",
        bias=False,
        tied=False,
    )


def pretrained(config: World, out: Any, seed: int) -> Any:
    """Parameters after next-token prediction on the language; made once for all runs."""
    names = ("width", "layers", "heads", "base_steps", "base_batch", "base_rate")
    settings = {n: getattr(config, n) for n in names} | {"seed": seed}
    model = model_of(config)
    like = jax.eval_shape(model.init, jax.random.key(0))

    def make() -> Any:
        out.log(f"pre-training, seed {seed}")
        texts = language().sample(config.base_steps * config.base_batch, seed=seed + 1)
        segments = (texts != language().pad).astype(np.int32)
        rows = [jnp.asarray(x.reshape(config.base_steps, config.base_batch, -1))
                for x in (texts, segments)]  # fmt: skip
        return _pretraining(config)(jax.random.key(seed), *rows)

    params = out.kept("introspection-base", settings, like, make)
    # on a device for good, as what training returns is: else programs would be compiled for both
    return jax.device_put(params, jax.devices()[0])


@functools.cache
def _pretraining(config: World) -> Any:
    model = model_of(config)
    loss = training.next_token(model)
    optimiser = training.adamw(config.base_rate, steps=config.base_steps, decay=0.01)

    @jax.jit
    def run(key: Any, tokens: Any, segments: Any) -> Any:
        state = training.init_state(model, optimiser, None, key)

        def step(state: Any, batch: Any) -> Any:
            return training.train_step(loss, optimiser, state, batch)

        return jax.lax.scan(step, state, (tokens, segments))[0].params

    return run


def network(config: World, out: Any, seed: int) -> Network:
    """A pre-trained network with the vectors of all concepts in all layers."""
    params = pretrained(config, out, seed)
    split = language().split(seed, baseline=config.baseline, held_out=config.held_out)
    ask = talk()
    bank = introspection.concept_vectors(
        model_of(config).apply,
        params,
        ask.elicit(np.arange(len(ask.names))),
        ask.elicit(split.baseline),
        names=ask.names,
    )
    return Network(seed, params, bank, split)


def trials_of(
    config: World, net: Network, *, layer: int | None = None, concepts: int | None = None
) -> introspection.Trials:
    """Training and test trials of a network; `concepts`: how many to train on."""
    train: Sequence[int] = net.split.train.tolist()
    return introspection.Trials(
        talk(),
        train[:concepts],
        net.split.held_out.tolist(),
        mix=config.mix.shares(),
        strengths=config.strengths,
        layers=(config.layer if layer is None else layer,),
        prompts=config.prompts,
        clean=config.clean,
        mentions=config.mentions,
        noises=config.noises,
        seed=net.seed,
    )


def tuned(
    config: World,
    net: Network,
    trials: introspection.Trials,
    *,
    rank: int | None = None,
    **options: Any,
) -> introspection.Tuned:
    """A network after fine-tuning with LoRA."""
    rank = config.rank if rank is None else rank
    given: dict[str, Any] = {
        "adapter": introspection.LoRA(rank=rank, alpha=config.scale * rank),
        "steps": config.steps,
        "batch": config.batch,
        "rate": config.rate,
        "seed": net.seed,
    }
    return introspection.train(model_of(config), net.params, net.bank, trials, **given | options)
