"""Do chosen units carry what a model says? Their values taken from another run, against chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from activjax.introspection._bank import ConceptBank
from activjax.introspection._features import POST, Claims, claims
from activjax.introspection._inject import Units, inject
from activjax.introspection._sweep import concept_numbers
from activjax.introspection._talk import Prompts
from activjax.models import Decoder, last_token
from activjax.stats import mean_interval
from activjax.transforms import capture, edits, intervene


@dataclass(frozen=True)
class Patched:
    """How much more likely a claim than a denial is, in nats, for each concept and prompt.

    Attributes:
      run: of the run whose units are patched.
      taken: of the run that their values are taken from.
      patched: with the chosen units' values.
      random: with those of as many random units of the same layers.
      concepts: their numbers.
    """

    run: Float[np.ndarray, "concepts prompts"]
    taken: Float[np.ndarray, "concepts prompts"]
    patched: Float[np.ndarray, "concepts prompts"]
    random: Float[np.ndarray, "draws concepts prompts"]
    concepts: Int[np.ndarray, " concepts"]

    @property
    def effect(self) -> Float[np.ndarray, " concepts"]:
        """What patching changes, mean over prompts."""
        return (self.patched - self.run).mean(axis=1)

    @property
    def by_chance(self) -> Float[np.ndarray, "draws concepts"]:
        """The same of random units."""
        return (self.random - self.run).mean(axis=2)

    @property
    def whole(self) -> Float[np.ndarray, " concepts"]:
        """What there is to change: the other run less this one."""
        return (self.taken - self.run).mean(axis=1)

    def interval(self, level: float = 0.95) -> dict[str, tuple[float, float, float]]:
        """Mean and ends of the interval over concepts of "effect", "by chance", and "whole".

        Concepts are the independent trials: their prompts are the same, and averaged.
        """
        out = {}
        for name, x in {
            "effect": self.effect,
            "by chance": self.by_chance.mean(axis=0),
            "whole": self.whole,
        }.items():
            mean, half = (float(v) for v in mean_interval(x, level=level))
            out[name] = (mean, mean - half, mean + half)
        return out

    @property
    def rank(self) -> float:
        """Share of draws of random units whose mean effect is at least as large as the chosen's.

        With the chosen ones counted among them, as in a permutation test: at least
        `1 / (draws + 1)`.
        """
        chosen, chance = abs(self.effect.mean()), np.abs(self.by_chance.mean(axis=1))
        return float((1 + (chance >= chosen).sum()) / (1 + len(chance)))


def patch_units(
    model: Decoder,
    params: Any,
    bank: ConceptBank,
    prompts: Prompts,
    chosen: Int[np.ndarray, "k 2"] | Sequence[tuple[int, int]],
    *,
    layer: int,
    strength: float | Float[Array, ""],
    taken: float | Float[Array, ""] = 0.0,
    claim: Sequence[int],
    denial: Sequence[int],
    concepts: Int[Array, " concepts"] | Sequence[int | str] | None = None,
    draws: int = 16,
    seed: int = 0,
    units: Units = "resid_norm",
) -> Patched:
    """Put the values of some MLP units at the last prompt token in place of those of another run.

    The causal check of "Mechanisms of Introspective Awareness" (arXiv 2603.21396), whose metric is
    logsumexp(Yes) - logsumexp(No). Later units see the patched values. What tells something is
    `effect` beside `by_chance`: units that do not matter move the answer as random ones do.

    Args:
      model, params, bank, prompts, layer, claim, denial, concepts, units: as `features`.
      chosen: layer and unit of each.
      strength: of the run that is patched.
      taken: of the run, with the same vector, that values are taken from; 0 is the clean run.
      draws: how many times units are drawn at random: of each layer as many as chosen, from those
        not chosen where they suffice.
      seed: of the draws.

    Returns:
      The metric in all runs.

    Raises:
      ValueError: no units, one twice or one that the model does not have, or no draws; as
        `features`.
    """
    numbers = concept_numbers(bank, concepts)
    masks = _masks(model, chosen, draws, seed)
    inject(model.apply, bank, -1, 0.0, layer=layer, units=units)  # refuses what is not there
    metric = claims(model, claim, denial)
    tokens, mask = jnp.asarray(prompts.tokens), jnp.asarray(prompts.mask)
    both = jnp.asarray([strength, taken], jnp.float32)
    arrays = (params, bank, tokens, mask, layer, numbers, both, masks)
    run, other, patched = map(np.asarray, _patched(model, units, metric, *arrays))
    return Patched(run, other, patched[0], patched[1:], np.asarray(numbers))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _patched(
    model: Decoder,
    units: Units,
    metric: Claims,
    params: Any,
    bank: ConceptBank,
    tokens: Array,
    mask: Array,
    layer: Any,
    concepts: Array,
    strengths: Array,
    masks: Array,
) -> tuple[Array, Array, Array]:
    last, cache = last_token(model, params, tokens, mask=mask)

    def concept(number: Array) -> tuple[Array, Array, Array]:
        def edited(strength: Array) -> Any:
            return inject(model.apply, bank, number, strength, layer=layer, units=units)

        def said(apply: Any) -> Array:
            return metric(apply(params, last, state=cache)[0][:, 0])

        (logits, _), acts = capture(edited(strengths[1]), POST)(params, last, state=cache)

        def patched(mask: Array) -> Array:
            edit = jax.tree_util.Partial(_chosen, edits.each(mask), edits.each(acts[POST]))
            return said(intervene(edited(strengths[0]), {POST: edit}))

        # the unpatched run is a lane of the same program: what nothing is taken of is the same
        every = jax.vmap(patched)(jnp.concatenate([jnp.zeros_like(masks[:1]), masks]))
        return every[0], metric(logits[:, 0]), every[1:]

    run, other, patched = jax.lax.map(concept, concepts)
    return run, other, jnp.swapaxes(patched, 0, 1)


def _chosen(mask: Array, values: Array, x: Array) -> Array:
    return jnp.where(mask, values, x)


def _masks(
    model: Decoder, chosen: Any, draws: int, seed: int
) -> Bool[np.ndarray, "draws+1 layers units"]:
    layers, units = model.config.layers, model.config.hidden
    pairs = np.asarray(chosen)
    if pairs.ndim != 2 or pairs.shape[1:] != (2,) or not len(pairs) or pairs.dtype.kind not in "iu":
        raise ValueError(
            f"chosen: expected (layer, unit) of at least one unit, got {pairs.dtype} of shape "
            f"{list(pairs.shape)}"
        )
    outside = (pairs < 0) | (pairs >= [layers, units])
    if outside.any():
        wrong = tuple(pairs[outside.any(axis=1)][0].tolist())
        raise ValueError(f"chosen: {wrong} is none of {layers} layers of {units} units")
    if len(np.unique(pairs, axis=0)) < len(pairs):
        raise ValueError("chosen: a unit is there twice")
    if draws < 1:
        raise ValueError(f"draws: expected at least 1, got {draws}")
    masks = np.zeros((draws + 1, layers, units), bool)
    masks[0, pairs[:, 0], pairs[:, 1]] = True
    rng = np.random.default_rng(seed)
    for mask in masks[1:]:
        for row in np.unique(pairs[:, 0]):
            own = masks[0, row]
            rest = np.flatnonzero(~own) if 2 * own.sum() <= units else np.arange(units)
            mask[row, rng.choice(rest, own.sum(), replace=False)] = True
    return masks


def monotone(
    doses: Float[np.ndarray, " doses"] | Sequence[float],
    metric: Float[np.ndarray, "*concepts doses"],
    *,
    up_to: float = 1.0,
    slack: float | None = None,
) -> float:
    """Share of dose-response curves that never fall, as far as a dose.

    Args:
      doses: increasing.
      metric: one curve for each concept.
      up_to: the last dose that counts: far above it a model breaks down.
      slack: a fall of no more is none; by default rounding, 64 units of the metric's type at the
        largest value.

    Returns:
      A number from 0 to 1. A curve that stays where it is does not rise, and does not count.

    Raises:
      ValueError: doses that do not increase or fewer than 2 of them that count, another number of
        them than in the metric, or a metric that is not finite.
    """
    x, y = np.asarray(doses, np.float64), np.asarray(metric)
    if x.ndim != 1 or y.shape[-1:] != x.shape or (np.diff(x) <= 0).any():
        raise ValueError(
            f"monotone: expected increasing doses [n] and a metric [..., n], got {x} and shape "
            f"{list(y.shape)}"
        )
    # a dose may be the nearest float32 number to the one meant
    y = y[..., x <= up_to + 1e-6 * abs(up_to)]
    if y.shape[-1] < 2 or not y.size or not np.isfinite(y).all():
        raise ValueError(
            f"monotone: {y.shape[-1]} doses up to {up_to} of {y[..., :1].size} finite curves; "
            "expected at least 2, of at least one"
        )
    eps = np.finfo(y.dtype).eps if y.dtype.kind == "f" else 0
    slack = 64 * float(eps * np.abs(y).max()) if slack is None else slack
    y = y.astype(np.float64)
    rising = (np.diff(y, axis=-1) >= -slack).all(axis=-1) & (y[..., -1] - y[..., 0] > slack)
    return float(rising.mean())
