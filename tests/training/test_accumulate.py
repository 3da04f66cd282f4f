import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from activjax import data, training
from tests.training import tiny

KEY = jax.random.key(0)
BATCHES = data.BatchState(KEY, *(jnp.zeros((), jnp.int32),) * 3)
SGD = optax.sgd(1.0)  # the step is the gradient


def state_of(params, model_state=None):
    return training.TrainState(params, SGD.init(params), model_state or {}, BATCHES, KEY)


def stepped(loss, params, batch, model_state=None, **options):
    """The gradient, and everything else that a step gives."""
    run = jax.jit(functools.partial(training.train_step, loss, SGD, **options))
    state, metrics = run(state_of(params, model_state), batch)
    return jax.tree.map(jnp.subtract, params, state.params), state, metrics


def test_the_gradient_is_that_of_the_whole_batch_whatever_each_part_predicts():
    draw = np.random.default_rng(0)
    x, weights = draw.standard_normal((8, 3)), np.array([9, 2, 0, 5, 3, 1, 0, 9])
    p = np.array([1.0, -2, 0.5])

    def loss(p, model_state, batch, key):
        x, weights = batch
        total = weights.sum()
        value = jnp.sum(weights * jnp.square(x @ p)) / jnp.maximum(total, 1)
        return value, (model_state, {"predicted": total})

    batch = (jnp.asarray(x, jnp.float32), jnp.asarray(weights, jnp.float32))
    terms = 2 * weights[:, None] * (x @ p)[:, None] * x / weights.sum()
    # one part of the 4 predicts nothing at all
    got, _, metrics = stepped(loss, jnp.asarray(p, jnp.float32), batch, accumulate=4)
    # products of 4 factors, sums of 3 and of 8 of them, a division; and the step taken off
    rounding = (4 + 3 + 8 + 1) * 2.0**-24 * np.abs(terms).sum(0) + 2.0**-22 * np.abs(p)
    assert (np.abs(got - terms.sum(0)) <= rounding).all()
    assert metrics["predicted"] == 29
    assert np.isclose(metrics["loss"], (weights * (x @ p) ** 2).sum() / 29, rtol=1e-6)


def test_a_language_model_weighs_its_tokens_equally():
    model = tiny.language_model()
    params = tiny.filled(model)
    rows = np.random.default_rng(1).integers(0, tiny.VOCAB, (4, 9)).astype(np.int32)
    segments = (np.arange(9) < np.array([[9], [2], [0], [5]])).astype(np.int32)
    loss = training.next_token(model)
    whole, _, metrics = stepped(loss, params, (rows, segments))
    got, _, parted = stepped(loss, params, (rows, segments), accumulate=4)
    for a, b in zip(*jax.device_get(tuple(map(jax.tree.leaves, (got, whole))))):
        # sums of at most 32 products in another order, and a step that was added and taken off
        assert np.abs(a - b).max() <= 40 * 2.0**-24 * (np.abs(b).max() + 2)
    assert metrics["predicted"] == 13
    chex.assert_trees_all_close(parted, metrics, rtol=1e-5)


def test_the_state_goes_from_part_to_part():
    def loss(params, model_state, batch, key):
        mean = 0.5 * (model_state["mean"] + batch.mean())
        return params * mean, ({"mean": mean}, {})

    first = {"mean": jnp.float32(8)}
    batch = jnp.arange(6, dtype=jnp.float32)
    grad, state, metrics = stepped(loss, jnp.float32(1), batch, first, accumulate=3)
    means = [8.0]
    for i in range(3):
        means.append(0.5 * (means[-1] + batch[i::3].mean()))
    assert state.model_state["mean"] == means[-1]
    chex.assert_trees_all_close((grad, metrics["loss"]), (np.mean(means[1:]),) * 2, rtol=1e-6)


def test_each_part_has_its_own_key_and_metrics_are_averaged():
    def loss(params, model_state, batch, key):
        noise = jax.random.normal(key)
        metrics = {"noise": jnp.stack([noise, noise**2]), "rows": jnp.int32(batch.shape[0])}
        return noise * params, (model_state, {**metrics, "predicted": batch.sum()})

    batch = jnp.array([1, 0, 3, 4])
    grad, _, metrics = stepped(loss, jnp.float32(1), batch, accumulate=4)
    noise = jax.vmap(jax.random.normal)(jax.random.split(jax.random.split(KEY)[1], 4))
    want = jnp.sum(noise * batch.astype(jnp.float32)) / 8
    assert len(set(noise.tolist())) == 4
    chex.assert_trees_all_close((grad, metrics["loss"]), (want, want), rtol=1e-6)
    assert metrics["predicted"] == 8
    assert metrics["rows"] == 1
    assert jnp.isclose(metrics["noise"][0], want)


def test_one_part_at_a_time_is_in_memory():
    def loss(params, model_state, batch, key):
        x = jnp.sin(batch[:, None] * jnp.arange(64, dtype=jnp.float32))
        for w in params:
            x = jnp.tanh(x @ w)
        return jnp.mean(jnp.square(x)), (model_state, {})

    params = [jax.ShapeDtypeStruct((64, 64), jnp.float32)] * 4
    batch = jax.ShapeDtypeStruct((4096,), jnp.float32)

    def bytes_of(parts):
        run = jax.jit(functools.partial(training.train_step, loss, SGD, accumulate=parts))
        program = run.lower(jax.eval_shape(state_of, params), batch).compile()
        return program.memory_analysis().temp_size_in_bytes

    activations, gradient = 4 * 4 * 4096 * 64, 4 * 4 * 64 * 64
    assert bytes_of(1) > activations
    # what one part of 16 keeps, there and back; sums and one more gradient
    assert bytes_of(16) < 2 * activations / 16 + 3 * gradient


def test_a_sharded_batch_stays_where_it_is():
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    x = jax.device_put(jnp.ones((16, 3)), NamedSharding(mesh, P("data")))
    w = jax.device_put(jnp.ones(3), NamedSharding(mesh, P()))

    def loss(w, model_state, x, key):
        return jnp.mean(jnp.tanh(x @ w)), (model_state, {})

    run = jax.jit(functools.partial(training.train_step, loss, SGD, accumulate=2))
    program = run.lower(state_of(w), x).compile().as_text()
    assert "all-reduce" in program
    for moving in ("all-gather", "all-to-all", "collective-permute"):
        assert moving not in program


def test_half_precision_gradients_are_summed_in_float32():
    def loss(p, model_state, batch, key):
        return jnp.sum(p * batch.mean().astype(p.dtype)), (model_state, {})

    batch = jnp.concatenate([jnp.ones(1), jnp.full(255, 2.0**-9)])
    state, _ = jax.jit(functools.partial(training.train_step, loss, SGD, accumulate=256))(
        state_of(jnp.zeros((), jnp.bfloat16)), batch
    )
    assert state.params.dtype == jnp.bfloat16
    # in bfloat16 each of the 255 would have been lost beside the 1
    assert jnp.isclose(-state.params, (1 + 255 * 2.0**-9) / 256, rtol=2.0**-8)


@pytest.mark.parametrize(
    ("parts", "batch", "message"),
    [
        (3, jnp.zeros((8, 2)), "accumulate=3 does not divide the batch of 8"),
        (0, jnp.zeros((8, 2)), "accumulate: expected a whole number >= 1, got 0"),
        (2.0, jnp.zeros((8, 2)), "expected a whole number >= 1, got 2.0"),
        (2, (jnp.zeros((8, 2)), jnp.zeros(4)), r"one leading axis, got \[\[8, 2\], \[4\]\]"),
        (2, (jnp.zeros((8, 2)), jnp.float32(1)), r"one leading axis, got \[\[8, 2\], \[\]\]"),
    ],
)
def test_what_cannot_be_cut_is_refused(parts, batch, message):
    def loss(params, model_state, batch, key):
        raise AssertionError("not reached")

    with pytest.raises(ValueError, match=message):
        training.train_step(loss, SGD, state_of(jnp.zeros(())), batch, accumulate=parts)


def test_a_weight_is_one_number():
    def loss(params, model_state, batch, key):
        return params, (model_state, {"predicted": batch})

    with pytest.raises(ValueError, match="'predicted': micro-batches are weighted by it"):
        stepped(loss, jnp.zeros(()), jnp.zeros(4), accumulate=2)
