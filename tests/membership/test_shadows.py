import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from activjax import models, training
from activjax.membership._shadows import half_splits, train_shadows

VOCAB = 5


@pytest.mark.parametrize("n", [2, 7, 100])
@pytest.mark.parametrize("m", [2, 6, 16])
def test_each_example_is_in_exactly_half_of_an_even_number(n, m):
    inside = half_splits(0, n, m)
    assert inside.shape == (m, n)
    assert inside.dtype == bool
    assert (inside.sum(0) == m // 2).all()
    assert np.ptp(inside.sum(1)) <= 1


@pytest.mark.parametrize("m", [1, 3, 9])
def test_an_odd_number_is_split_as_evenly_as_can_be(m):
    inside = half_splits(1, 51, m)
    assert set(inside.sum(0)) == {m // 2, m // 2 + 1}
    assert (inside.sum(0) == m // 2 + 1).sum() == 25
    assert np.ptp(inside.sum(1)) <= 1


def test_splits_follow_the_seed_and_look_random():
    a = half_splits(0, 2000, 8)
    np.testing.assert_array_equal(a, half_splits(0, 2000, 8))
    assert (a != half_splits(1, 2000, 8)).any()
    assert (half_splits(jax.random.key(3), 50, 4) == half_splits(jax.random.key(3), 50, 4)).all()
    # two models share an example with probability (m/2 - 1) / (m - 1) / 2 = 3 / 14
    shared = (a[:, None] & a).mean(2)[np.triu_indices(8, 1)]
    assert np.abs(shared - 3 / 14).max() < 5 * np.sqrt(3 / 14 * 11 / 14 / 2000)


@pytest.mark.parametrize(
    ("n", "m", "match"), [(1, 2, "n is 1"), (5, 0, "models is 0"), (5, 2.0, "models is 2.0")]
)
def test_splits_refuse(n, m, match):
    with pytest.raises(ValueError, match=match):
        half_splits(0, n, m)


def tiny(n=24, d=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int32)


def memory(n):
    """A model whose parameters count how often it saw each example: gradient one, rate one."""
    model = models.Model(lambda key: {"seen": jnp.zeros(n)}, lambda p, x, **_: x)

    def loss(params, state, batch, key):
        rows, _ = batch
        return -params["seen"][rows].sum(), (state, {})

    return model, loss


def test_every_model_sees_its_own_members_only_and_each_once_an_epoch():
    n, m = 23, 4
    inside = half_splits(0, n, m)  # sizes 11 and 12: 3 batches of 3, a remainder of 2 or 3
    model, loss = memory(n)
    shadows = train_shadows(
        model, optax.sgd(1.0), np.arange(n), None, inside, key=jax.random.key(0), epochs=5,
        batch=3, loss=loss, at=(1, 2, 5),
    )  # fmt: skip
    seen = np.asarray(shadows.snapshots["seen"])
    assert seen.shape == (3, m, n)
    assert (seen[:, ~inside] == 0).all()
    assert set(np.unique(seen[0])) == {0, 1}
    assert (seen[0].sum(1) == 9).all()
    assert (np.diff(seen, axis=0) >= 0).all()
    assert (seen[1].sum(1) == 18).all()
    assert seen[1].max() == 2
    np.testing.assert_array_equal(seen[2], shadows.params["seen"])
    # the remainder is another one in each epoch
    left_out = (seen[0] == 0) & inside
    assert (left_out != (seen[1] - seen[0] == 0) & inside).any(1).all()


OPTIMISER = optax.sgd(0.3)
MLP = models.mlp([3, 4, 2])  # one object, one compilation
INSIDE = half_splits(0, 24, 3)


def mlp_run(chunk=None, y=None, model=MLP, x=None, inside=None):
    given, labels = tiny()
    x, y = (given if x is None else x), (labels if y is None else y)
    inside = INSIDE if inside is None else inside
    return train_shadows(
        model, OPTIMISER, x, y, inside, key=jax.random.key(0), epochs=40, batch=4, at=(1, 2, 40),
        chunk=chunk,
    )  # fmt: skip


def right(shadows, y):
    logits = jax.vmap(MLP.apply, (0, None))(shadows.params, tiny()[0])
    return (np.asarray(logits).argmax(-1) == y).mean(1)


def test_shadow_models_learn_and_differ():
    shadows = mlp_run()
    kernel = shadows.params["head"]["kernel"]
    assert kernel.shape == (3, 4, 2)
    assert len(np.unique(np.asarray(kernel)[:, 0, 0])) == 3
    assert shadows.losses.shape == (3, 40)
    assert (shadows.losses[:, -3:].mean(1) < 0.5 * shadows.losses[:, 0]).all()
    assert (right(shadows, tiny()[1]) > 0.8).all()
    chex.assert_trees_all_equal(shadows.params, mlp_run().params)
    alike = mlp_run(inside=INSIDE[[0, 0, 0]])  # of one training set, but each with its own start
    assert len(np.unique(np.asarray(alike.params["head"]["kernel"])[:, 0, 0])) == 3
    chex.assert_trees_all_equal(jax.tree.map(lambda a: a[-1], shadows.snapshots), shadows.params)


@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_chunks_of_models_change_nothing_and_are_one_compilation(chunk, compilations):
    whole = mlp_run()
    with compilations() as seen:  # no other test has these chunks
        parts = mlp_run(chunk)
    assert len(seen) == 1
    with compilations() as seen:
        other = mlp_run(chunk, inside=half_splits(1, 24, 3))
    assert not seen
    assert (other.losses != parts.losses).any()
    early = jax.tree.map(lambda a: a[:2], (parts.snapshots, whole.snapshots))
    # 6 steps of size 0.3 on values of size 1; products of 24 terms may be summed otherwise
    chex.assert_trees_all_close(*early, atol=6 * 0.3 * 24 * 2.0**-24)


def test_labels_may_differ_by_model():
    _, y = tiny()
    own = np.stack([y, 1 - y, y])
    shadows, same = mlp_run(y=own), mlp_run(y=np.stack([y, y, y]))
    assert (right(shadows, own) > 0.8).all()
    for model, equal in enumerate([True, False, True]):
        kernels = [np.asarray(s.params["head"]["kernel"][model]) for s in (shadows, same)]
        assert np.array_equal(*kernels) == equal
    np.testing.assert_allclose(same.losses[:, 0], mlp_run().losses[:, 0], rtol=1e-5)


def test_a_model_that_diverges_is_named():
    x = tiny()[0].copy()
    row = np.flatnonzero((INSIDE.sum(0) == 1) & INSIDE[1])[0]
    x[row] = np.nan
    with pytest.raises(ArithmeticError, match=r"shadow model 1: .* epoch 1 .1 of 3 models"):
        mlp_run(x=x)


@pytest.mark.slow
def test_dropout_and_batch_statistics_are_each_models_own():
    model = models.mlp([3, 4, 2], dropout=0.5, batch_norm=True)
    shadows = mlp_run(model=model)
    mean = np.asarray(shadows.model_state["layers"]["0"]["norm"]["mean"])
    assert mean.shape == (3, 4)
    assert (mean[0] != mean[1]).any()
    chex.assert_trees_all_equal(
        jax.tree.map(lambda a: a[-1], shadows.snapshot_state), shadows.model_state
    )


def language_model():
    def init(key):
        return {"table": 0.1 * jax.random.normal(key, (VOCAB, VOCAB))}

    return models.Model(init, lambda p, x, **_: p["table"][x])


def test_text_and_trees_of_arrays():
    tokens = np.random.default_rng(0).integers(0, VOCAB, (20, 6))
    tokens[:, 1::2] = (tokens[:, ::2] + 1) % VOCAB
    model = language_model()

    def loss(params, state, batch, key):
        (rows, weights), segments = batch
        assert rows.shape == segments.shape == (5, 6)
        assert weights.shape == (5,)
        return training.next_token(model)(params, state, (rows, segments), key)

    x, segments = (tokens, np.ones(20, np.float32)), np.ones((20, 6), np.int32)
    shadows = train_shadows(
        model, optax.adam(0.1), x, segments, half_splits(0, 20, 4), key=jax.random.key(1),
        epochs=20, batch=5, loss=loss,
    )  # fmt: skip
    assert shadows.params["table"].shape == (4, VOCAB, VOCAB)
    assert (shadows.losses[:, -1] < 0.7 * shadows.losses[:, 0]).all()
    assert shadows.snapshots is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"inside": np.ones((2, 23), bool)},
            r"inside has shape \[2, 23\], expected \[models, 24\]",
        ),
        ({"inside": np.full((2, 24), 2)}, "inside: expected booleans"),
        ({"inside": np.eye(2, 24) > 0}, "model 0 has 1 examples, fewer than a batch of 4"),
        ({"inside": np.arange(24) < np.array([[8], [20]])}, "between 8 and 20 examples"),
        ({"y": np.zeros((3, 24), int)}, r"y has shape \[3, 24\], expected \[24, ...\]"),
        ({"x": {"a": np.zeros(24), "b": np.zeros(3)}}, r"x has leaves .*\[24\], \[3\]"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"chunk": 0}, "chunk is 0"),
        ({"at": (2, 1)}, "at is .2, 1."),
        ({"at": (1, 9)}, "at is .1, 9."),
        ({"key": 0}, "key"),
    ],
)
def test_refusals(change, match):
    x, y = tiny()
    given = {"x": x, "y": y, "inside": half_splits(0, 24, 2), "key": jax.random.key(0)}
    given |= {"epochs": 3, "batch": 4} | change
    with pytest.raises(ValueError, match=match):
        train_shadows(MLP, OPTIMISER, **given)
