import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from activjax import data, models
from activjax.training import step as training


def setup(batch_norm=False, lr=0.1):
    model = models.mlp([4, 8, 3], batch_norm=batch_norm)
    batches = data.Batches(30, 10)
    x = jax.random.normal(jax.random.key(1), (30, 4))
    y = jnp.argmax(x[:, :3], axis=1).astype(jnp.int32)
    loss = training.classification(model)

    def advance(state, lr=lr):
        at, rows = batches.next(state.batches)
        state = state._replace(batches=at)
        return training.train_step(loss, optax.adam(lr), state, (x[rows], y[rows]))

    state = training.init_state(model, optax.adam(lr), batches, jax.random.key(0))
    return advance, state


@pytest.mark.parametrize("batch_norm", [False, True])
def test_training_learns_and_is_reproducible(batch_norm):
    advance, first = setup(batch_norm)
    run = jax.jit(lambda s: jax.lax.scan(lambda s, _: advance(s), s, length=100))
    state, metrics = run(first)
    assert metrics["loss"][-3:].mean() < 0.3 * metrics["loss"][:3].mean()
    assert metrics["accuracy"][-1] >= 0.9
    chex.assert_trees_all_equal(run(first)[0].params, state.params)
    assert state.batches.epoch == 33
    if batch_norm:
        assert not jnp.allclose(state.model_state["layers"]["0"]["norm"]["mean"], 0)


def test_one_sgd_step_by_hand():
    model = models.mlp([2, 2])
    params = {"head": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}}
    batches = data.Batches(1, 1)
    state = training.init_state(model, optax.sgd(0.5), batches, jax.random.key(0))
    state = state._replace(params=params)
    x, y = jnp.array([[1.0, 2.0]]), jnp.array([1])
    loss = training.classification(model)
    new, metrics = training.train_step(loss, optax.sgd(0.5), state, (x, y))
    # At zero weights p = (1/2, 1/2): d loss / d logits = (1/2, -1/2).
    assert jnp.isclose(metrics["loss"], jnp.log(2.0))
    assert new.params["head"]["bias"].tolist() == [-0.25, 0.25]
    assert new.params["head"]["kernel"].tolist() == [[-0.25, 0.25], [-0.5, 0.5]]


def test_traced_hyper_parameters_and_seeds_share_one_program():
    advance, _ = setup()
    model, batches = models.mlp([4, 8, 3]), data.Batches(30, 10)

    @jax.jit
    @chex.assert_max_traces(1)
    def run(keys, rates):
        def one(key, lr):
            state = training.init_state(model, optax.adam(lr), batches, key)
            return jax.lax.scan(lambda s, _: advance(s, lr), state, length=20)[1]["loss"]

        return jax.vmap(one)(keys, rates)

    keys = jax.random.split(jax.random.key(0), 3)
    losses = run(keys, jnp.array([0.0, 0.01, 0.1]))
    assert run(keys, jnp.array([0.1, 0.1, 0.1])).shape == (3, 20)
    assert losses[2, -1] < losses[1, -1]


def test_ties_go_to_the_first_class():
    assert training.accuracy(jnp.zeros((4, 3)), jnp.array([0, 0, 1, 2])) == 0.5
