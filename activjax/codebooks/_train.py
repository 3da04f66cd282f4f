"""One training step of a network and its codebooks, each with a learning rate of its own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32

from activjax.codebooks._books import Specs
from activjax.codebooks._ema import Ema, ema, ema_init
from activjax.codebooks._init import Codebooks
from activjax.codebooks._loss import loss as codebook_loss
from activjax.codebooks._run import run
from activjax.codebooks._usage import Usage, revive, track, usage
from activjax.training.step import Loss


class TrainState(NamedTuple):
    """Everything that training with codebooks carries, and so what a checkpoint must hold.

    Attributes:
      params: of the network.
      codebooks: as `init` returns them.
      opt_state: of the network's optimiser; None where the network is frozen.
      code_state: of the codes' optimiser; or `Ema`.
      model_state: batch statistics and the like.
      usage: counts since the last revival.
      batches: the position in the data, None where the data come from outside.
      key: random key of the steps to come.
      steps: steps done.
    """

    params: Any
    codebooks: Codebooks
    opt_state: Any
    code_state: Any
    model_state: Any
    usage: dict[str, Usage]
    batches: Any
    key: Array
    steps: Int32[Array, ""]


def optimiser(
    learning_rate: float | Float[Array, ""] | optax.Schedule = 2e-2,
) -> optax.GradientTransformation:
    """Adam for codes, without decay and without clipping; scales stay as they are.

    Codes want a higher rate than the network, and no part in the clipping of its gradient: a finite
    state machine's state accuracy went from 86 to 96 % with both (docs/design/0010).
    """

    def labels(codebooks: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "codes" if path[-1] == jax.tree_util.DictKey("codes") else "scale",
            codebooks,
        )

    rules: dict[Hashable, optax.GradientTransformation] = {
        "codes": optax.adam(learning_rate),
        "scale": optax.set_to_zero(),
    }
    return optax.partition(rules, labels)


def init_state(
    params: Any,
    codebooks: Codebooks,
    optimiser: optax.GradientTransformation | None,
    code_optimiser: optax.GradientTransformation | None,
    key: Array,
    *,
    model_state: Any = None,
    batches: Any = None,
) -> TrainState:
    """The state before the first step.

    Args:
      params: of the network, usually trained.
      codebooks: as `init` returns them.
      optimiser: of the network; None freezes it.
      code_optimiser: of the codes, such as `codebooks.optimiser()`; None for running means (`ema`).
      key: typed random key.
      model_state, batches: as `training.TrainState`.
    """
    with jax.numpy_dtype_promotion("standard"):
        of_model = None if optimiser is None else optimiser.init(params)
        of_codes = ema_init(codebooks) if code_optimiser is None else code_optimiser.init(codebooks)
    return TrainState(
        params,
        codebooks,
        of_model,
        of_codes,
        {} if model_state is None else model_state,
        usage(codebooks),
        batches,
        key,
        jnp.zeros((), jnp.int32),
    )


def train_step(
    loss: Loss,
    spec: Specs,
    optimiser: optax.GradientTransformation | None,
    code_optimiser: optax.GradientTransformation | None,
    state: TrainState,
    batch: Any,
    *,
    lam: float | Float[Array, ""] = 1.0,
    mask: Any = None,
    revive_every: int | None = 100,
    decay: float | Float[Array, ""] = 0.99,
) -> tuple[TrainState, dict[str, Array]]:
    """One step of gradient descent on the task's loss and the codes' error.

    Args:
      loss: as `training.train_step` takes it: `training.next_token(model)`,
        `training.classification(model)`, or your own.
      spec: as given to `init`.
      optimiser, code_optimiser: as given to `init_state`.
      state: its batch position already moved on.
      batch: what `loss` takes.
      lam: weight of the codes' error.
      mask: True for tokens, as `run` takes it.
      revive_every: after so many steps, codes that none of them used are replaced by activations of
        this batch (`revive`); None for never.
      decay: of the running means, where `code_optimiser` is None.

    Returns:
      The new state, and metrics: those of the loss, `loss` (the task's), `codebook_loss` (weighted
      by `lam`), `dead` (codes not used since the last revival, a share) and `revived` (so far).

    Raises:
      ValueError: `revive_every` below 1.
    """
    if revive_every is not None and revive_every < 1:
        raise ValueError(f"train_step: revive_every is at least 1 or None, got {revive_every}")
    key, of_step, of_codes = jax.random.split(state.key, 3)
    edited = run(loss, spec)

    def total(params: Any, codebooks: Codebooks) -> Any:
        (value, (model_state, metrics)), traces = edited(
            params, codebooks, state.model_state, batch, of_step, mask=mask
        )
        pull = codebook_loss(traces, lam)
        return value + pull.astype(value.dtype), (value, pull, model_state, metrics, traces)

    which = (0, 1) if optimiser is not None else (1,)
    grads, aux = jax.grad(total, which, has_aux=True)(state.params, state.codebooks)
    value, pull, model_state, metrics, traces = aux
    params, opt_state, books, code_state = (
        state.params, state.opt_state, state.codebooks, state.code_state,
    )  # fmt: skip
    if optimiser is not None:
        params, opt_state = _stepped(optimiser, grads[0], opt_state, params)
    if code_optimiser is not None:
        books, code_state = _stepped(code_optimiser, grads[-1], code_state, books)
    else:
        if not isinstance(code_state, Ema):
            raise TypeError("train_step: without a code_optimiser the state must hold an Ema")
        books, code_state = ema(books, code_state, traces, spec=spec, decay=decay)
    used = track(state.usage, traces)
    dead = _dead(used)
    steps = state.steps + 1
    if revive_every is not None:
        books, code_state, used = jax.lax.cond(
            steps % revive_every == 0,
            lambda: revive(books, code_state, used, traces, of_codes, spec=spec),
            lambda: (books, code_state, used),
        )
    state = state._replace(
        params=params,
        codebooks=books,
        opt_state=opt_state,
        code_state=code_state,
        model_state=model_state,
        usage=used,
        key=key,
        steps=steps,
    )
    revived = jnp.stack([jnp.sum(one.revived) for one in used.values()]).sum()
    return state, {
        **metrics, "loss": value, "codebook_loss": pull, "dead": dead, "revived": revived,
    }  # fmt: skip


def _stepped(
    optimiser: optax.GradientTransformation, grads: Any, opt_state: Any, params: Any
) -> tuple[Any, Any]:
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        updates, opt_state = optimiser.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state


def _dead(usage: Mapping[str, Usage]) -> Float[Array, ""]:
    dead = sum(jnp.sum(one.dead) for one in usage.values())
    codes = sum(one.counts.size for one in usage.values())
    return jnp.asarray(dead).astype(jnp.float32) / codes
