import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import data


def test_digits_are_the_same_everywhere():
    split = data.digits()
    assert split.train_x.shape == (1347, 64)
    assert split.test_x.shape == (450, 64)
    assert split.train_x.dtype == np.float32
    assert split.train_x.min() == 0
    assert split.train_x.max() == 1
    digest = hashlib.sha256(split.test_x.tobytes() + split.test_y.tobytes()).hexdigest()
    assert digest == "ef42b3ace8ff93efe918ca819938b10d3f48fef62d662494d5cdb61ac6de1fcb"
    assert (data.digits(seed=1).test_y != split.test_y).any()


def test_split_is_stratified_and_disjoint():
    y = np.repeat(np.arange(3), [100, 40, 20]).astype(np.int32)
    train, test = data.stratified(y, 0.25, 0)
    assert np.bincount(y[test]).tolist() == [25, 10, 5]
    assert sorted([*train, *test]) == list(range(160))
    for fraction in (0.0, 1.0, -1, 0.001):
        with pytest.raises(ValueError, match="test_fraction"):
            data.stratified(y, fraction, 0)


@pytest.mark.parametrize(("n", "size"), [(10, 3), (6, 3), (5, 5), (1, 1)])
def test_every_epoch_uses_each_example_once(n, size):
    batches = data.Batches(n, size)
    state = batches.init(jax.random.key(0))
    step = jax.jit(batches.next)
    orders = []
    for epoch in range(3):
        rows = []
        for _ in range(batches.per_epoch):
            assert state.epoch == epoch
            state, batch = step(state)
            rows += batch.tolist()
        assert len(set(rows)) == len(rows) == batches.per_epoch * size
        orders.append(rows)
    assert step._cache_size() == 1
    if n == 10:
        assert orders[0] != orders[1]


def test_position_can_be_saved_and_mapped():
    batches = data.Batches(10, 4)
    states = jax.vmap(batches.init)(jax.random.split(jax.random.key(0), 2))
    for _ in range(5):
        states, rows = jax.vmap(batches.next)(states)
    one = batches.init(jax.random.split(jax.random.key(0), 2)[1])
    for _ in range(5):
        one, alone = batches.next(one)
    assert rows[1].tolist() == alone.tolist()
    saved = jax.tree.map(lambda a: a, one)
    assert batches.next(saved)[1].tolist() == batches.next(one)[1].tolist()
    assert isinstance(rows, jax.Array)
    assert rows.dtype == jnp.int32


def test_bad_batch_sizes():
    for size in (0, 11):
        with pytest.raises(ValueError, match="expected 1 to 10"):
            data.Batches(10, size)
