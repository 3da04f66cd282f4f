import functools
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from activjax import data, models, training
from activjax.training._cross_entropy import cross_entropy, is_top
from tests.training import tiny

KEY = jax.random.key(0)
SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 3], [4, 4, 4, 4, 4, 0, 0]])
COUNTS = np.array([[1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 0, 0]])
MODEL = tiny.language_model()
PARAMS = tiny.filled(MODEL)
BATCHES = data.BatchState(KEY, *(jnp.zeros((), jnp.int32),) * 3)
ROWS = np.random.default_rng(1).integers(0, tiny.VOCAB, SEGMENTS.shape).astype(np.int32)
loss = jax.jit(training.next_token(MODEL))
evaluate = jax.jit(training.token_losses(MODEL))


def by_hand(logits, targets):
    logits = np.asarray(logits, np.float64)
    own = np.take_along_axis(logits, np.asarray(targets)[..., None], -1)[..., 0]
    return np.log(np.exp(logits).sum(-1)) - own


def test_the_loss_is_the_mean_over_tokens_that_follow_one_of_their_document():
    logits = jax.jit(MODEL.apply)(PARAMS, ROWS[:, :-1], segments=SEGMENTS[:, :-1])
    want = by_hand(logits, ROWS[:, 1:])
    right = np.asarray(logits).argmax(-1) == ROWS[:, 1:]
    padded = jnp.where(SEGMENTS > 0, ROWS, -100)  # whatever stands there
    value, (state, metrics) = loss(PARAMS, {}, (padded, SEGMENTS), KEY)
    assert state == {}
    assert int(metrics["predicted"]) == COUNTS.sum() == 8
    # logits and sums rounded once more, differently compiled
    size = 2.0**-20 * np.abs(logits).max()
    assert abs(value - (want * COUNTS).sum() / 8) < size
    assert metrics["accuracy"] == (right * COUNTS).sum() / 8
    losses, weights = evaluate(PARAMS, padded, SEGMENTS)
    np.testing.assert_array_equal(weights, COUNTS)
    np.testing.assert_allclose(losses, want * COUNTS, atol=size)


def test_rows_without_segments_are_one_document_each():
    value, (_, metrics) = loss(PARAMS, {}, (ROWS, None), KEY)
    losses, weights = evaluate(PARAMS, ROWS)
    assert metrics["predicted"] == weights.sum() == 12
    assert jnp.isclose(value, losses.mean())
    same, _ = evaluate(PARAMS, ROWS, np.full_like(ROWS, 5))
    chex.assert_trees_all_close(losses, same)


def test_losses_become_bits_per_byte():
    losses, weights = evaluate(PARAMS, ROWS, SEGMENTS)
    bytes_each = SimpleNamespace(byte_lengths=np.full(tiny.VOCAB, 2))
    bits = data.bits_per_byte(losses, ROWS[:, 1:], bytes_each, weights)
    assert np.isclose(bits, losses.sum() / np.log(2) / 16)


def test_nothing_to_predict_moves_nothing():
    slope = jax.jit(jax.value_and_grad(training.next_token(MODEL), has_aux=True))
    (value, (_, metrics)), grads = slope(PARAMS, {}, (ROWS, 0 * SEGMENTS), KEY)
    assert value == metrics["predicted"] == metrics["accuracy"] == 0
    assert all((g == 0).all() for g in jax.tree.leaves(grads))


def test_a_predicted_id_outside_the_vocabulary_is_seen():
    wrong = jnp.asarray(ROWS).at[0, 2].set(tiny.VOCAB)
    losses, _ = evaluate(PARAMS, wrong, SEGMENTS)
    assert jnp.isnan(losses[0, 1])
    assert jnp.isfinite(losses[1]).all()


def test_a_model_with_a_state_hands_it_on():
    def apply(params, tokens, *, state, key, train):
        assert train
        return params["w"][tokens], {"seen": state["seen"] + 1}

    model = models.Model(lambda key: {}, apply, lambda: {"seen": jnp.int32(0)})
    batch = (jnp.eye(3, dtype=jnp.int32), None)
    _, (state, _) = jax.jit(training.next_token(model))(
        {"w": jnp.zeros((3, 3))}, model.init_state(), batch, KEY
    )
    assert state == {"seen": 1}


def test_cross_entropy_has_the_derivatives_of_the_formula():
    draw = np.random.default_rng(0)
    logits = jnp.asarray(5 * draw.standard_normal((4, 3, 7)), jnp.float32)
    targets = jnp.asarray(draw.integers(0, 7, (4, 3)), jnp.int32)
    weights = jnp.asarray(draw.standard_normal((4, 3)), jnp.float32)

    def derivatives(f, logits):
        total = jax.value_and_grad(lambda x: jnp.vdot(weights, f(x, targets)))
        return total(logits), jax.hessian(lambda x: f(x, targets[0, 0]))(logits[0, 0])

    ours = jax.jit(functools.partial(derivatives, cross_entropy))
    theirs = jax.jit(
        functools.partial(derivatives, optax.softmax_cross_entropy_with_integer_labels)
    )
    chex.assert_trees_all_close(ours(logits), theirs(logits), rtol=1e-5, atol=1e-6)
    (_, slope), _ = ours(logits.at[0, 0].set(1e30))
    assert jnp.isfinite(slope).all()
    wrong = targets.at[1, 2].set(7).at[2, 0].set(-1)
    out = np.asarray(jax.jit(cross_entropy)(logits, wrong))
    assert np.argwhere(np.isnan(out)).tolist() == [[1, 2], [2, 0]]


def test_the_gradient_keeps_one_array_of_the_size_of_the_logits():
    logits = jax.ShapeDtypeStruct((64, 1000), jnp.float32)
    targets = jax.ShapeDtypeStruct((64,), jnp.int32)
    w = jax.ShapeDtypeStruct((8, 1000), jnp.float32)
    x = jax.ShapeDtypeStruct((64, 8), jnp.float32)

    def bytes_of(f):
        grad = jax.jit(jax.grad(lambda w, x, t: f(x @ w, t).mean()))
        return grad.lower(w, x, targets).compile().memory_analysis().temp_size_in_bytes

    one = logits.size * 4
    assert bytes_of(cross_entropy) < 1.1 * one
    assert bytes_of(optax.softmax_cross_entropy_with_integer_labels) > 1.9 * one


def test_the_top_is_the_first_of_equals():
    logits = jnp.array([[1.0, 2, 2], [1, 2, 2], [0, 0, 0], [3, jnp.nan, 1], [3, jnp.nan, 1]])
    targets = jnp.array([1, 2, 0, 0, 1])
    assert jax.jit(is_top)(logits, targets).tolist() == [True, False, True, False, False]


@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.int16, np.uint8])
def test_targets_of_any_whole_dtype(dtype):
    """300 classes: more than a uint8 can count; under strict promotion no two dtypes mix."""
    logits = np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)
    targets = np.asarray([0, 7, 255, 44])
    logits[1, 7] = 9.0

    @jax.jit
    def all_of(x, t):
        loss, slope = jax.value_and_grad(lambda x: cross_entropy(x, t).sum())(x)
        return loss, slope, is_top(x, t), cross_entropy(x, t)

    expected = all_of(logits, targets.astype(np.int32))
    assert expected[2].tolist() == [False, True, False, False]
    with jax.enable_x64(True):
        found = all_of(jnp.asarray(logits), jnp.asarray(targets.astype(dtype)))
        assert found[0].dtype == jnp.float32
        if dtype is np.int64:
            out = jnp.asarray([0, 300, -1, 2**32])  # the last is 0 where 32 bits are kept
            lost = cross_entropy(jnp.asarray(logits), out)
            assert np.isnan(lost).tolist() == [False, True, True, True]
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


def bfloat16():
    model = tiny.decoder(dtype="bfloat16")  # its context is one less than a row
    params, optimiser = tiny.filled(model), training.adamw(3e-2, steps=20, warmup=2)
    state = training.TrainState(params, optimiser.init(params), {}, BATCHES, KEY)
    return functools.partial(training.train_step, training.next_token(model), optimiser), state


def test_bfloat16_activations_keep_float32_gradients_and_optimiser():
    step, state = bfloat16()
    end, metrics = jax.eval_shape(step, state, (ROWS, SEGMENTS))
    floats = [x for x in jax.tree.leaves((end.params, end.opt_state)) if x.dtype != jnp.int32]
    assert {x.dtype.name for x in (*floats, metrics["loss"])} == {"float32"}
    chex.assert_trees_all_equal_shapes_and_dtypes(end, state)


@pytest.mark.slow
def test_bfloat16_activations_train():
    step, state = bfloat16()
    run = jax.jit(lambda s: jax.lax.scan(lambda s, _: step(s, (ROWS, SEGMENTS)), s, length=20))
    loss = run(state)[1]["loss"]
    assert loss[-1] < 0.5 * loss[0]


ONES = np.ones((2, 4), int)


@pytest.mark.parametrize(
    ("tokens", "segments", "message"),
    [
        (ONES[0], None, r"expected integers \[batch, seq\].* got int32 \[4\]"),
        (ONES[:, :1], None, r"at least 2 in a row.* got int32 \[2, 1\]"),
        (ONES / 2, None, "got float32"),
        (ONES, ONES[:, 1:], r"segments: expected integers of the tokens' shape \[2, 4\]"),
        (ONES, ONES > 0, "segments: expected integers .* got bool"),
        (99 * ONES, None, "id 99 is outside the vocabulary"),
    ],
)
def test_bad_batches_are_refused(tokens, segments, message):
    model = tiny.decoder()
    with pytest.raises(ValueError, match=message):
        training.token_losses(model)({}, tokens, segments)
