"""A classifier before and after training by Adam, for experiments that compare the two."""

from __future__ import annotations

from typing import Any

import jax
import optax

from activjax import models, training


def trained(
    model: models.Model, x: Any, y: Any, key: jax.Array, *, rate: float, batch: int, steps: int
) -> tuple[Any, Any]:
    """Parameters at the start and at the end.

    Args:
      model: without a state.
      x, y: all examples and their labels.
      key: of the start and of the batches, drawn with repetition.
      rate: of Adam.
      batch: examples a step.
      steps: how many.
    """
    optimiser, loss = optax.adam(rate), training.classification(model)
    first, order = jax.random.split(key)
    start = model.init(first)

    def step(state: training.TrainState, key: jax.Array) -> Any:
        rows = jax.random.randint(key, (batch,), 0, len(x))
        return training.train_step(loss, optimiser, state, (x[rows], y[rows]))[0], None

    state = training.TrainState(start, optimiser.init(start), {}, None, order)
    state, _ = jax.lax.scan(step, state, jax.random.split(order, steps))
    return start, state.params
