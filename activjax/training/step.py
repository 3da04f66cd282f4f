"""One optimiser step as a pure function of a state that holds everything training needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from activjax.data import Batches
from activjax.models import Model
from activjax.training._accumulate import Loss, gradients


class TrainState(NamedTuple):
    """Everything that a training run carries, and so everything that a checkpoint must hold.

    Attributes:
      params: the parameters.
      opt_state: the optimiser's state.
      model_state: batch statistics and the like; `{}` for a model without.
      batches: the position in the data (`BatchState`); None where the data come from outside.
      key: random key of the steps to come.
    """

    params: Any
    opt_state: Any
    model_state: Any
    batches: Any
    key: Array


def init_state(
    model: Model, optimiser: optax.GradientTransformation, batches: Batches | None, key: Array
) -> TrainState:
    """The state before the first step, everything random drawn from `key`.

    Without `batches` the state holds no position in the data: a stream keeps its own.
    """
    of_params, of_batches, rest = jax.random.split(key, 3)
    params = model.init(of_params)
    at = None if batches is None else batches.init(of_batches)
    return TrainState(params, optimiser.init(params), model.init_state(), at, rest)


def train_step(
    loss: Loss,
    optimiser: optax.GradientTransformation,
    state: TrainState,
    batch: Any,
    *,
    accumulate: int = 1,
) -> tuple[TrainState, dict[str, Array]]:
    """One step of gradient descent.

    Args:
      loss: `loss(params, model_state, batch, key)` returns the loss, a mean over the batch, the new
        model state and metrics; `classification` and `next_token` make one.
      optimiser: any optax transformation; its hyper-parameters may be traced.
      state: the state, its batch position already moved on (`Batches.next`).
      batch: what `loss` takes.
      accumulate: cut the batch into so many micro-batches of equal size, one in memory at a time.
        The gradient is that of the whole batch's mean: where micro-batches count different numbers
        of predictions, they are weighted by the metric `predicted` of the loss (without it,
        equally). That metric is the sum over them, every other one their mean, so weighted. Each
        has a random key of its own, and the model state goes from one to the next. Micro-batch i
        has the rows i, i + k, i + 2k, ...: a batch sharded over devices stays where it is.

    Returns:
      The new state, and the metrics with `loss` among them.

    Raises:
      ValueError: `accumulate` is below 1 or does not divide the batch, or the arrays of the batch
        have no leading axis in common.
    """
    key, of_step = jax.random.split(state.key)
    value, model_state, metrics, grads = gradients(
        loss, state.params, state.model_state, batch, of_step, accumulate
    )
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
    state = state._replace(params=params, opt_state=opt_state, model_state=model_state, key=key)
    return state, {"loss": value, **metrics}


def accuracy(logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, ""]:
    """Share of examples whose largest logit is their label's (the first of equals counts)."""
    return jnp.mean((jnp.argmax(logits, axis=-1) == labels).astype(logits.dtype))


def classification(model: Model) -> Loss:
    """The mean cross-entropy of a classifier, for `train_step`.

    Args:
      model: maps inputs to logits `[n, classes]`.

    Returns:
      A loss on batches `(inputs, labels)` that also reports `accuracy` on the batch.
    """

    def loss(params: Any, model_state: Any, batch: Any, key: Array) -> Any:
        inputs, labels = batch
        out = model.apply(params, inputs, state=model_state or None, key=key, train=True)
        logits, model_state = out if model_state else (out, model_state)
        value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return value, (model_state, {"accuracy": accuracy(logits, labels)})

    return loss
