"""Which MLP units carry evidence of an injection, and which gate the answer: by their doses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from activjax.introspection._bank import ConceptBank
from activjax.introspection._inject import Units, inject
from activjax.introspection._sweep import axis, concept_numbers, known_ones
from activjax.introspection._talk import Prompts
from activjax.models import Decoder, last_token
from activjax.transforms import capture, edits, intervene, tag

POST, OUT, RESID = "blocks/mlp/post", "blocks/mlp/out", "blocks/resid_post"

#: Differences of activations below so many units of rounding are none: sums of a few hundred terms.
_NOISE = 256


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Features:
    """How every MLP unit answers to the strength of an injection, at the last prompt token.

    What does not change with the strength, such as units below the injection, has 0 everywhere but
    in `mean` and `attribution`.

    Attributes:
      mean: activation, over concepts, strengths and prompts.
      correlation: of activation and strength over all concepts (Pearson).
      rank_correlation: the same of ranks (Spearman), within a concept, mean over concepts.
      rises: share of concepts in which it never falls from one strength to the next, and ends
        higher than it began.
      falls: share of concepts in which it never rises, and ends lower.
      attribution: what the unit adds at its mean activation to "claim" against "denial", directly,
        in logits.
    """

    mean: Float[Array, "layers units"]
    correlation: Float[Array, "layers units"]
    rank_correlation: Float[Array, "layers units"]
    rises: Float[Array, "layers units"]
    falls: Float[Array, "layers units"]
    attribution: Float[Array, "layers units"]

    def evidence(self, k: int) -> Int[np.ndarray, "k 2"]:
        """The k units that most of all rise with the strength, as (layer, unit), best first.

        By `rises * correlation`. Fewer where fewer rise in any concept.
        """
        score = np.asarray(self.rises, np.float64) * np.asarray(self.correlation)
        return _first(score, k)

    def gates(self, k: int) -> Int[np.ndarray, "k 2"]:
        """The k units that speak most against a claim and fall silent, as (layer, unit).

        The most negative `attribution` among those whose activation shrinks as the strength grows.
        Fewer where there are fewer.
        """
        mean, slope = np.asarray(self.mean), np.asarray(self.correlation)
        return _first(np.where(mean * slope < 0, -np.asarray(self.attribution, np.float64), 0), k)


def features(
    model: Decoder,
    params: Any,
    bank: ConceptBank,
    prompts: Prompts,
    *,
    layer: int | Int[Array, ""],
    strengths: Float[Array, " strengths"] | Sequence[float],
    claim: Sequence[int],
    denial: Sequence[int],
    concepts: Int[Array, " concepts"] | Sequence[int | str] | None = None,
    units: Units = "resid_norm",
) -> Features:
    """Follow every MLP unit over a sweep of strengths, in one program that runs prompts once.

    "Mechanisms of Introspective Awareness" (arXiv 2603.21396): *evidence* rises monotonically with
    the strength; *gates* are active without an injection, promote the denial, and are suppressed.
    There the units are a transcoder's, here the MLP's own (`blocks/mlp/post`). Their order by
    attribution is the paper's, `(w_dec . (u_yes - u_no)) * mean activation`; what the final norm
    does is linearised: the direction `u` is the gradient of `claims` (logsumexp of claim less that
    of denial) with respect to the last residual stream, its mean over the clean prompts. Only what
    a unit writes is counted, not what later blocks make of it.

    Args:
      model: the decoder (with `scan=True`, the default).
      params: its parameters; adapters may be attached.
      bank: concept vectors.
      prompts: the questions; the injection and all readings are at their last token.
      layer: where to inject.
      strengths: at least 3, increasing, in `units`; may be traced.
      claim, denial: first tokens of an answer that claims a thought, and of one that denies it.
      concepts: names or numbers; all of the bank's if left out.
      units: as `inject`.

    Returns:
      One number for each layer and unit.

    Raises:
      ValueError: fewer than 3 strengths, known ones that do not increase, or tokens outside the
        vocabulary; as `inject`.
      SiteError: a decoder without a loop over blocks.
    """
    doses = axis(strengths, jnp.float32, "strengths")
    if doses.shape[0] < 3 or (np.diff(known_ones(doses)) <= 0).any():
        raise ValueError(
            f"strengths: expected at least 3, increasing, got {known_ones(doses) or doses.shape}"
        )
    numbers = concept_numbers(bank, concepts)
    inject(model.apply, bank, -1, 0.0, layer=layer, units=units)  # refuses what is not there
    metric = claims(model, claim, denial)
    tokens, mask = jnp.asarray(prompts.tokens), jnp.asarray(prompts.mask)
    return _features(model, units, metric, params, bank, tokens, mask, layer, numbers, doses)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _features(
    model: Decoder,
    units: Units,
    metric: Claims,
    params: Any,
    bank: ConceptBank,
    tokens: Array,
    mask: Array,
    layer: Any,
    concepts: Array,
    doses: Array,
) -> Features:
    last, cache = last_token(model, params, tokens, mask=mask)
    run = partial(_posts, model, params, bank, last, cache, layer, units)
    count = concepts.shape[0] * doses.shape[0]
    centred = doses - doses.mean()

    def concept(sums: Any, number: Array) -> tuple[Any, None]:
        # the clean run is a lane of its own, so that what does not change differs by rounding only
        every = jax.vmap(lambda a: run(number, a))(jnp.concatenate([jnp.zeros(1), doses]))
        clean, x = every[0], every[1:] - every[0]
        floor = _NOISE * jnp.finfo(x.dtype).eps * jnp.abs(every).max(axis=0)
        x = jnp.where(jnp.abs(x).max(axis=0) > floor, x, 0)
        steps, whole = jnp.diff(x, axis=0), x[-1] - x[0]
        new = (
            clean + x.mean(axis=0),
            x.sum(axis=0),
            jnp.square(x).sum(axis=0),
            _along(centred, x),
            _rank_correlation(x, floor),
            ((steps >= -floor).all(axis=0) & (whole > floor)).astype(x.dtype),
            ((steps <= floor).all(axis=0) & (whole < -floor)).astype(x.dtype),
        )
        return jax.tree.map(jnp.add, sums, new), None

    start = jax.tree.map(jnp.zeros_like, (jax.eval_shape(run, concepts[0], doses[0]),) * 7)
    (mean, total, squares, cross, ranks, rises, falls), _ = jax.lax.scan(concept, start, concepts)
    spread = squares - jnp.square(total) / count
    size = jnp.square(centred).sum() * concepts.shape[0]
    bound = jnp.sqrt(jnp.maximum(spread, 0) * size)
    slope = jnp.where(bound > 0, cross / jnp.where(bound > 0, bound, 1), 0)
    mean, ranks, rises, falls = (x / concepts.shape[0] for x in (mean, ranks, rises, falls))
    weight = _direct(model, params, last, cache, metric)
    return Features(mean, jnp.clip(slope, -1, 1), ranks, rises, falls, mean * weight)


def _posts(
    model: Decoder,
    params: Any,
    bank: ConceptBank,
    last: Array,
    cache: Any,
    layer: Any,
    units: Units,
    concept: Array,
    strength: Array,
) -> Float[Array, "layers units"]:
    """Activations at the last prompt token, mean over prompts."""
    edited = inject(model.apply, bank, concept, strength, layer=layer, units=units)
    acts = capture(edited, POST, out=False)(params, last, state=cache)
    return acts[POST].astype(jnp.float32).mean(axis=(1, 2))


def _rank_correlation(x: Array, floor: Array) -> Array:
    """Spearman's, over the first axis, of values against their order; ties within `floor`."""

    def rank(one: Array) -> Array:  # values below it less values above it
        apart = one - x
        return jnp.where(jnp.abs(apart) > floor, jnp.sign(apart), 0).sum(axis=0)

    ranks = jax.lax.map(rank, x)
    order = jnp.arange(x.shape[0], dtype=x.dtype) - (x.shape[0] - 1) / 2
    size = jnp.sqrt(jnp.square(ranks).sum(axis=0) * jnp.square(order).sum())
    return jnp.where(size > 0, _along(order, ranks) / jnp.where(size > 0, size, 1), 0)


def _along(weights: Array, x: Array) -> Array:
    return jnp.tensordot(weights, x, axes=1, precision="highest")


def _direct(
    model: Decoder, params: Any, last: Array, cache: Any, metric: Claims
) -> Float[Array, "layers units"]:
    """What a unit of activation adds to the metric by what it writes into the residual stream."""
    (_, cache_), acts = capture(model.apply, [POST, RESID])(params, last, state=cache)
    del cache_

    def lens(x: Array) -> Array:
        return metric(model.part(params, x, method="unembed")).mean()

    slope = jax.grad(lens)(acts[RESID][-1, :, 0])

    def seen(y: Array) -> Array:
        # what is written is read here, and goes no further: later blocks do not count
        return jax.lax.stop_gradient(tag(y, "written"))

    def written(shift: Array) -> Array:
        # one prompt is as good as another: what a unit writes is linear in its activation
        edit = [(POST, edits.add(edits.each(shift))), (OUT, seen)]
        found = capture(intervene(model.apply, edit), f"{OUT}/written", out=False)
        return found(params, last, state=cache)[f"{OUT}/written"][:, 0, 0]

    post = acts[POST]
    _, pull = jax.vjp(written, jnp.zeros((post.shape[0], post.shape[-1]), post.dtype))
    direction = slope.sum(axis=0).astype(post.dtype)
    return pull(jnp.broadcast_to(direction, (post.shape[0], direction.shape[0])))[0]


@dataclass(frozen=True)
class Claims:
    """See `claims`."""

    claim: tuple[int, ...]
    denial: tuple[int, ...]

    def __call__(self, logits: Float[Array, "*n vocab"]) -> Float[Array, "*n"]:
        """logsumexp over tokens of claims, less that over tokens of denials."""
        ones, others = (
            jax.nn.logsumexp(logits[..., np.array(ids)], axis=-1)
            for ids in (self.claim, self.denial)
        )
        return ones - others


def claims(
    model: Decoder, claim: Sequence[int], denial: Sequence[int]
) -> Callable[[Float[Array, "*n vocab"]], Float[Array, "*n"]]:
    """How much more likely an answer begins as a claim than as a denial, in nats, from logits.

    `logsumexp(claim) - logsumexp(denial)`, the metric of "Mechanisms of Introspective Awareness";
    a function that compares equal to another with the same tokens, so that programs are shared.

    Raises:
      ValueError: no tokens, one outside the vocabulary, or one that is both.
    """
    ones, others = (tuple(int(i) for i in np.ravel(ids)) for ids in (claim, denial))
    vocab = model.config.vocab
    for name, ids in (("claim", ones), ("denial", others)):
        if not ids or min(ids) < 0 or max(ids) >= vocab:
            raise ValueError(f"{name}: expected tokens of 0..{vocab - 1}, got {list(ids)}")
    if both := set(ones) & set(others):
        raise ValueError(f"claim, denial: token {min(both)} is in both")
    return Claims(ones, others)


def _first(score: Float[np.ndarray, "layers units"], k: int) -> Int[np.ndarray, "k 2"]:
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    order = np.argsort(-score.ravel(), kind="stable")[:k]
    order = order[score.ravel()[order] > 0]
    return np.stack(np.unravel_index(order, score.shape), axis=1).astype(np.int32)
