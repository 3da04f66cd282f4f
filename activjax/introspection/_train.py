"""Fine-tuning on injected thoughts: answers to learn, or answers to prefer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float32

from activjax.data import Batches
from activjax.introspection._adapter import Adapter, LoRA, finished, in_training, start
from activjax.introspection._bank import ConceptBank, check_names
from activjax.introspection._inject import LAST, PERSISTENT, Units, inject_vectors
from activjax.introspection._put import put
from activjax.introspection._respond import answers_of
from activjax.introspection._rows import KINDS, Examples
from activjax.introspection._trials import Trials
from activjax.models import Decoder
from activjax.training import adamw
from activjax.training._cross_entropy import cross_entropy
from activjax.training.loop import Chunk, Loop, beside

Objective = Literal["sft", "dpo"]


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A model after training.

    Attributes:
      model, params: the model as any other: adapters are merged.
      trained: what was trained: adapters, all parameters, or the bias.
      curves: by step: `loss`, and what else the objective measures.
    """

    model: Decoder
    params: Any
    trained: Any
    curves: dict[str, Float32[np.ndarray, " steps"]]


def train(
    model: Decoder,
    params: Any,
    bank: ConceptBank,
    trials: Trials,
    *,
    adapter: Adapter | None = None,
    objective: Objective = "sft",
    steps: int = 400,
    batch: int = 32,
    rate: float = 5e-3,
    warmup: float = 0.05,
    decay: float = 0.0,
    beta: float = 0.1,
    examples: int | Examples | None = None,
    at: str = LAST,
    units: Units = "resid_norm",
    seed: int = 0,
    on_chunk: Callable[[Chunk], object] | None = None,
) -> Tuned:
    """Train a model to report what is put into its residual stream.

    "sft": cross-entropy of the right answers, a mean over the tokens of each and then over
    examples, with the vectors put in while the answers are read (Fonseca Rivera 2025, section 3).
    "dpo": direct preference optimisation (Rafailov et al. 2023, eq. 7) of the right answers over
    wrong ones, the reference being the model before, under the same vectors; it has no use for
    "replay", which is left out.

    Calls with equal models, shapes and settings but other data, vectors, layers, rates and seeds
    run one compiled program.

    Args:
      model, params: the decoder; `params` stay as they are.
      bank: the concepts.
      trials: the training data.
      adapter: what is trained: `LoRA(...)` (None: rank 8), `Full()` or `Bias(layer)`.
      objective: "sft" or "dpo".
      steps: of AdamW, cosine to a tenth of the rate.
      batch: examples a step.
      rate: the highest learning rate.
      warmup: share of the steps until then.
      decay: weight decay.
      beta: of "dpo".
      examples: how many different ones, or the examples themselves; None for `steps * batch`.
      at, units: as `inject`: "last_prompt" or "persistent".
      seed: of the adapter's start and of the order.
      on_chunk: called every 50 steps with a `training.Chunk`.

    Returns:
      The model after training.

    Raises:
      ValueError: a number out of range, an objective or place that does not exist, concepts or
        layers of the trials that are not in the bank, examples of "replay" for "dpo".
    """
    adapter = LoRA() if adapter is None else adapter
    if objective not in get_args(Objective):
        raise ValueError(f"objective: expected one of {get_args(Objective)}, got {objective!r}")
    if at not in (LAST, PERSISTENT):
        raise ValueError(f"at: expected {LAST!r} or {PERSISTENT!r} in training, got {at!r}")
    if steps < 1 or batch < 1:
        raise ValueError(f"steps, batch: expected at least 1, got {steps} and {batch}")
    check_names(bank, trials.talk.names)
    given = isinstance(examples, Examples)
    layers = set(np.asarray(examples.rows.layer).tolist() if given else trials.layers)
    if bank.layers is not None and (odd := layers - set(bank.layers)):
        raise ValueError(f"trials: layer {min(odd)} is not in the bank, which has {bank.layers}")
    if given and objective == "dpo" and (examples.rows.kind == KINDS.index("replay")).any():
        raise ValueError("examples: 'dpo' has no use for 'replay': nothing is rejected there")
    if not isinstance(examples, Examples):
        mix = {k: s for k, s in trials.mix.items() if objective == "sft" or k != "replay"}
        n = steps * batch if examples is None else examples
        answer = functools.partial(answers_of, model, params, trials.talk)
        examples = trials.training(n, mix=mix, answer=answer)
    rows = examples.rows
    arrays = {
        "tokens": examples.tokens,
        "learned": examples.learned,
        "last": rows.prompts.last,
        "concept": rows.concept,
        "noise": rows.noise,
        "strength": rows.strength,
        "layer": rows.layer,
    }
    if objective == "dpo":
        arrays |= {"rejected": examples.rejected, "rejected_learned": examples.rejected_learned}
    data = jax.tree.map(jnp.asarray, arrays)
    of_start, of_order = jax.random.split(jax.random.key(seed))
    trained = start(adapter, model, params, data["tokens"][:1], of_start)
    batches = Batches(len(rows), min(batch, len(rows)))
    recipe = _Recipe(model, adapter, objective, steps, warmup, decay, at, units, batches)
    numbers = {
        "rate": jnp.float32(rate),
        "beta": jnp.float32(beta),
        "seed": jnp.uint32(trials.seed),
    }
    state = (trained, recipe.optimiser(rate).init(trained), batches.init(of_order))
    state, bank, data, numbers = beside((state, bank, data, numbers), params)
    args = (params, bank, data, numbers)
    loop = _loop(recipe, _Shapes((state, args)))
    done = loop.run(state, *args, on_chunk=on_chunk)
    after, merged = finished(adapter, model, params, done.state[0])
    return Tuned(after, merged, done.state[0], {k: np.asarray(v) for k, v in done.metrics.items()})


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """All of a training that is compiled in."""

    model: Decoder
    adapter: Adapter
    objective: Objective
    steps: int
    warmup: float
    decay: float
    at: str
    units: Units
    batches: Batches

    def optimiser(self, rate: Any) -> Any:
        """AdamW."""
        warmup = int(self.warmup * self.steps)
        return adamw(rate, steps=self.steps, warmup=warmup, decay=self.decay, betas=(0.9, 0.98))

    def step(self, params: Any, bank: Any, data: Any, numbers: Any, state: Any) -> Any:
        """One update."""
        trained, opt_state, at = state
        at, chosen = self.batches.next(at)
        batch = jax.tree.map(lambda leaf: leaf[chosen], data)
        loss = self._dpo if self.objective == "dpo" else self._sft
        (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(
            trained, params, bank, batch, numbers
        )
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = self.optimiser(numbers["rate"]).update(grads, opt_state, trained)
            trained = optax.apply_updates(trained, updates)
        return (trained, opt_state, at), {"loss": value, **metrics}

    def _losses(
        self, apply: Any, which: str, params: Any, bank: Any, batch: Any, numbers: Any
    ) -> tuple[Array, Array]:
        """Nats of each token that is learned, and 1 where one is: `[batch, seq - 1]`."""
        tokens = batch["tokens" if which == "learned" else which.removesuffix("_learned")]
        vectors = put(
            bank, batch["concept"], batch["noise"], batch["strength"], batch["layer"],
            seed=numbers["seed"], units=self.units,
        )  # fmt: skip
        where: dict[str, Any] = {"at": batch["last"]}
        if self.at == PERSISTENT:
            where = {"at": PERSISTENT, "start": batch["last"]}
        layer = None if bank.layers is None else batch["layer"]
        f = inject_vectors(apply, bank.site, vectors, layer=layer, **where)
        logits = f(params, tokens[:, :-1]).astype(jnp.float32)
        weights = batch[which][:, 1:].astype(jnp.float32)
        return jnp.where(weights > 0, cross_entropy(logits, tokens[:, 1:]), 0), weights

    def _tuned(self, trained: Any) -> Any:
        apply = in_training(self.adapter, self.model)
        return lambda params, tokens: apply(params, trained, tokens)

    def _sft(self, trained: Any, *args: Any) -> Any:
        losses, weights = self._losses(self._tuned(trained), "learned", *args)
        # each example alike: documents of "replay" are longer than answers
        return (losses.sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1)).mean(), {}

    def _dpo(self, trained: Any, *args: Any) -> Any:
        def margin(apply: Any) -> Array:
            good, _ = self._losses(apply, "learned", *args)
            bad, _ = self._losses(apply, "rejected_learned", *args)
            return (bad - good).sum(axis=1)

        ahead = margin(self._tuned(trained)) - jax.lax.stop_gradient(margin(self.model.apply))
        value = -jax.nn.log_sigmoid(args[-1]["beta"] * ahead).mean()
        return value, {"preferred": (ahead > 0).astype(jnp.float32).mean()}


class _Shapes:
    """Abstract arrays of a tree, to compare and hash."""

    def __init__(self, tree: Any):
        leaves, self.structure = jax.tree.flatten(tree)
        self.leaves = tuple((x.shape, x.dtype, getattr(x, "sharding", None)) for x in leaves)

    def tree(self) -> Any:
        """The abstract tree."""
        made = [jax.ShapeDtypeStruct(s, d, sharding=h) for s, d, h in self.leaves]
        return jax.tree.unflatten(self.structure, made)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Shapes):
            return NotImplemented
        return self.leaves == other.leaves and self.structure == other.structure

    def __hash__(self) -> int:
        return hash((self.leaves, self.structure))


@functools.lru_cache(maxsize=8)
def _loop(recipe: _Recipe, shapes: _Shapes) -> Loop:
    """The compiled training; found again for equal shapes."""
    state, args = shapes.tree()
    return Loop(recipe.step, state, steps=recipe.steps, chunk=min(50, recipe.steps), args=args)
