"""Shadow models: the same training on many known halves of the data, in one program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Key

from activjax.models import Model
from activjax.training import TrainState, classification, init_state, train_step


def half_splits(seed: int | Key[Array, ""], n: int, models: int) -> Bool[np.ndarray, "models n"]:
    """Training sets of shadow models: each example in exactly half of the models.

    The design of Carlini et al., "Membership inference attacks from first principles" (2022),
    with models of one size: rows are random subsets, then examples are moved from the
    largest models to the smallest until sizes differ by at most 1. With an odd number of models,
    half of the examples (rounded down) are in one model more than the others.

    Any of the models can be the target and the others its shadows; see `_references` for what an
    attack must not do then.

    Args:
      seed: whole number or random key; the same splits for the same one.
      n: examples, at least 2.
      models: how many, at least 1.

    Returns:
      `inside [models, n]`.

    Raises:
      ValueError: `n` or `models` out of range.
    """
    for name, value, least in (("n", n, 2), ("models", models, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"half_splits: {name} is {value}, expected at least {least}")
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        seed = np.asarray(jax.random.key_data(seed)).tolist()
    rng = np.random.default_rng(seed)
    times = np.full(n, models // 2)
    if models % 2:
        times[rng.permutation(n)[: n // 2]] += 1
    inside = rng.random((models, n)).argsort(0).argsort(0) < times
    while True:
        sizes = inside.sum(1)
        large, small = sizes.argmax(), sizes.argmin()
        if sizes[large] - sizes[small] <= 1:
            return inside
        movable = np.flatnonzero(inside[large] & ~inside[small])
        moved = rng.choice(movable, (sizes[large] - sizes[small]) // 2, replace=False)
        inside[large, moved], inside[small, moved] = False, True


@dataclass(frozen=True, eq=False)
class Shadows:
    """Shadow models after training; every array has the models on an axis.

    Attributes:
      params: `[models, ...]`, for `jax.vmap(model.apply, (0, None))`.
      model_state: `[models, ...]`, batch statistics and the like; `{}` for models without.
      losses: `[models, epochs]`, the mean training loss of each epoch.
      at: epochs after which snapshots were taken.
      snapshots: the parameters then, `[len(at), models, ...]`; None without `at`.
      snapshot_state: the model state then.
      inside: `[models, n]`, who trained on what.
    """

    params: Any
    model_state: Any
    losses: Float[np.ndarray, "models epochs"]
    at: tuple[int, ...]
    snapshots: Any
    snapshot_state: Any
    inside: Bool[np.ndarray, "models n"]


def train_shadows(
    model: Model,
    optimiser: optax.GradientTransformation,
    x: Any,
    y: Any,
    inside: Bool[np.ndarray, "models n"],
    *,
    key: Key[Array, ""],
    epochs: int,
    batch: int,
    loss: Any = None,
    at: Sequence[int] = (),
    chunk: int | None = None,
) -> Shadows:
    """Train a model on each row of `inside`, all in one compiled program.

    In an epoch every model uses each of its own examples once, in an order of its own, less the
    remainder of a division by `batch`; where models have different sizes, all take as many batches
    as the smallest. Start, order and dropout are drawn from a key by model. Calls with the same
    `model`, `optimiser` and `loss` objects and shapes share a compilation.

    Args:
      model: the model.
      optimiser: any optax transformation.
      x: array or tree of arrays, `[n, ...]`.
      y: array or tree `[n, ...]`, one array `[models, n]` of labels by model (noise, say), or
        None. A batch is `(x[rows], y[rows])`, or `(x[rows], None)`.
      inside: `[models, n]`, as `half_splits` makes.
      key: random key.
      epochs: of each model.
      batch: examples a step.
      loss: as for `training.train_step`; `training.classification(model)` if left out. For text
        `training.next_token(model)`, with `x` the tokens and `y` their segments or None.
      at: increasing epochs in 1..epochs after which parameters are kept.
      chunk: so many models are trained at a time, to save memory; all if left out. Results differ
        by rounding only.

    Returns:
      Shadows.

    Raises:
      ValueError: wrong shapes, a model with less than a batch, models whose sizes differ by a
        batch or more, arguments out of range.
      ArithmeticError: the loss of a model became NaN or infinite.
    """
    inside = _inside(inside, x, y, batch)
    models = len(inside)
    counts = (("epochs", epochs), ("batch", batch), ("chunk", models if chunk is None else chunk))
    for name, value in counts:
        if value < 1:
            raise ValueError(f"train_shadows: {name} is {value}, expected at least 1")
    at = tuple(at)
    if list(at) != sorted(set(at)) or (at and not 1 <= at[0] <= at[-1] <= epochs):
        raise ValueError(f"train_shadows: at is {at}, expected increasing epochs in 1..{epochs}")
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise ValueError(f"train_shadows: key is {key!r}, expected a jax.random.key")
    per_epoch = int(inside.sum(1).min()) // batch
    chunk = min(chunk or models, models)
    plan = (epochs, per_epoch, batch, at, chunk)
    state, losses, kept = _train(model, optimiser, loss, plan, x, y, inside, key)
    losses = np.asarray(losses)
    bad = np.argwhere(~np.isfinite(losses))
    if len(bad):
        i, epoch = bad[0]
        raise ArithmeticError(
            f"shadow model {i}: the loss is {losses[i, epoch]} in epoch {epoch + 1} "
            f"({len(set(bad[:, 0]))} of {models} models diverged): lower the learning rate"
        )
    params, model_state = state
    snapshots, snapshot_state = kept if at else (None, None)
    return Shadows(params, model_state, losses, at, snapshots, snapshot_state, inside)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _train(
    model: Model,
    optimiser: optax.GradientTransformation,
    loss: Any,
    plan: tuple[int, int, int, tuple[int, ...], int],
    x: Any,
    y: Any,
    inside: Array,
    key: Array,
) -> Any:
    epochs, per_epoch, batch, at, chunk = plan
    loss = classification(model) if loss is None else loss
    own_labels = not _by_rows(y, inside)

    def one(key: Array, members: Array, own: Any) -> Any:
        start, order = jax.random.split(key)
        labels = own if own_labels else y

        def step(state: TrainState, rows: Array) -> tuple[TrainState, Array]:
            one_batch = jax.tree.map(lambda a: a[rows], (x, labels))
            state, metrics = train_step(loss, optimiser, state, one_batch)
            return state, metrics["loss"]

        def epoch(carry: Any, i: Array) -> tuple[Any, Array]:
            state, kept = carry
            mixed = jax.random.permutation(jax.random.fold_in(order, i), len(members))
            first = mixed[jnp.argsort(~members[mixed], stable=True)][: per_epoch * batch]
            state, losses = jax.lax.scan(step, state, first.reshape(per_epoch, batch))
            if at:
                # Written after every epoch: the last write before the next checkpoint stays.
                slot = (np.asarray(at, np.int32) < i + 1).sum()
                now = (state.params, state.model_state)
                kept = jax.tree.map(lambda k, a: k.at[slot].set(a, mode="drop"), kept, now)
            return (state, kept), losses.mean()

        state = init_state(model, optimiser, None, start)
        like = (state.params, state.model_state) if at else None
        kept = jax.tree.map(lambda a: jnp.zeros((len(at), *a.shape), a.dtype), like)
        (state, kept), losses = jax.lax.scan(epoch, (state, kept), jnp.arange(epochs))
        return (state.params, state.model_state), losses, kept

    keys = jax.random.split(key, len(inside))
    each = (keys, inside, y if own_labels else None)
    if chunk >= len(inside):
        state, losses, kept = jax.vmap(one)(*each)
    else:
        state, losses, kept = jax.lax.map(lambda args: one(*args), each, batch_size=chunk)
    return state, losses, jax.tree.map(lambda a: a.swapaxes(0, 1), kept)


def _by_rows(y: Any, inside: Any) -> bool:
    """Whether `y` holds rows of examples, and not labels by model."""
    return not (hasattr(y, "shape") and jnp.ndim(y) == 2 and jnp.shape(y) == inside.shape)


def _inside(inside: Any, x: Any, y: Any, batch: int) -> np.ndarray:
    shapes = [list(np.shape(leaf)) for leaf in jax.tree.leaves(x)]
    sizes = {shape[0] if shape else None for shape in shapes}
    if len(sizes) != 1 or None in sizes:
        found = ", ".join(map(str, shapes)) or "none"
        raise ValueError(f"train_shadows: x has leaves of shapes {found}, expected [n, ...] each")
    (n,) = sizes
    flags = np.asarray(inside)
    if flags.ndim != 2 or flags.shape[1] != n or len(flags) == 0:
        raise ValueError(
            f"train_shadows: inside has shape {list(flags.shape)}, expected [models, {n}]"
        )
    if not np.isin(flags, (0, 1)).all():
        raise ValueError("train_shadows: inside: expected booleans")
    flags = flags.astype(bool)
    for leaf in jax.tree.leaves(y) if _by_rows(y, flags) else []:
        if np.shape(leaf)[:1] != (n,):
            raise ValueError(
                f"train_shadows: y has shape {list(np.shape(leaf))}, expected [{n}, ...], or "
                f"{list(flags.shape)} for labels by model"
            )
    members = flags.sum(1)
    if members.min() < batch:
        raise ValueError(
            f"train_shadows: model {members.argmin()} has {members.min()} examples, fewer than a "
            f"batch of {batch}"
        )
    if members.max() - members.min() >= max(batch, 1):
        raise ValueError(
            f"train_shadows: models have between {members.min()} and {members.max()} examples; "
            f"all take as many batches as the smallest, so larger ones would not be used whole: "
            f"make them differ by less than a batch ({batch})"
        )
    return flags
