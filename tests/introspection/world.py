"""The concept language with a small random decoder: what most tests here speak to."""

import functools
from typing import Any

import jax
import numpy as np

from activjax import data, introspection, models

WORLD = data.languages.concepts()
TALK = introspection.laboratory(WORLD)
SPLIT = WORLD.split()
MODEL = models.decoder(
    vocab=WORLD.vocab, context=WORLD.length, layers=3, width=16, heads=2, positions="rotary",
    norm="rms", bias=False, tied=False,
)  # fmt: skip


@functools.cache
def params() -> Any:
    """Random parameters."""
    with jax.ensure_compile_time_eval():  # also when a traced function is the first to ask
        return jax.jit(MODEL.init)(jax.random.key(0))


@functools.cache
def bank(site: str = "blocks/resid_post") -> introspection.ConceptBank:
    """All concepts, all layers."""
    prompts, baseline = TALK.elicit(np.arange(64)), TALK.elicit(SPLIT.baseline)
    with jax.ensure_compile_time_eval():
        return introspection.concept_vectors(
            MODEL.apply, params(), prompts, baseline, site, names=TALK.names
        )


def trials(**given: Any) -> introspection.Trials:
    """A small recipe."""
    small: dict[str, Any] = {"prompts": 2, "clean": 6, "mentions": 12, "noises": 6, "layers": (1,)}
    return introspection.Trials(TALK, SPLIT.train, SPLIT.held_out, **(small | given))
