"""Sums of codes: to the bit, with the gradients of the definition, and never k vectors a token."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from activjax.codebooks._combine import combine
from activjax.codebooks._nearest import nearest
from activjax.codebooks._strategy import Strategy

T, G, D, C = 40, 2, 7, 30

ways = pytest.mark.parametrize("way", ["gather", "one_hot"])


def inputs(k, tokens=T):
    rng = np.random.default_rng(0)
    a, codes, slope = (
        rng.standard_normal(shape, np.float32)
        for shape in ((tokens, G, D), (G, C, D), (tokens, G, D))
    )
    ids = rng.integers(0, C, (tokens, G, k)).astype(np.int32)  # some of them twice for a token
    return tuple(map(jnp.asarray, (a, codes, ids, slope)))


def in_order(codes, ids, reduce):
    """The definition: codes added in the order of ranks."""
    codes, ids = np.asarray(codes), np.asarray(ids)
    total = codes[np.arange(G), ids[..., 0]]
    for r in range(1, ids.shape[-1]):
        total = total + codes[np.arange(G), ids[..., r]]
    return total if reduce == "sum" else total * np.float32(1 / ids.shape[-1])


def straight_through(a, codes, ids, reduce):
    """The definition, for autodiff: `q + a - stop(a)`, and an error that `a` gets nothing of."""
    chosen = jax.vmap(lambda c, i: c[i], (0, 1), 1)(codes, ids)
    q = chosen.sum(axis=2) if reduce == "sum" else chosen.mean(axis=2)
    still = jax.lax.stop_gradient(a)
    return q + a - still, jnp.square(q - still).sum(axis=-1)


def slopes(fn, a, codes, slope):
    def loss(a, codes):
        q, error = fn(a, codes)
        return (q * slope).sum() + (error * jnp.arange(1.0, G + 1)).sum()

    return jax.grad(loss, argnums=(0, 1))(a, codes)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("k", [1, 23])
def test_output_is_the_sum_in_order_to_the_bit(k, reduce):
    a, codes, ids, _ = inputs(k)
    expected = in_order(codes, ids, reduce)
    for run in (combine, jax.jit(combine, static_argnums=3)):
        q, error = run(a, codes, ids, reduce)
        np.testing.assert_array_equal(q, expected)
        # A sum of d squares in float32.
        exact = np.square(expected.astype(np.float64) - a).sum(-1)
        np.testing.assert_allclose(error, exact, rtol=(D + 2) * 2.0**-23)


@ways
@pytest.mark.parametrize(
    ("k", "reduce"),
    [(8, "sum"), (8, "mean")]
    + [pytest.param(k, r, marks=pytest.mark.slow) for k in (1, 100) for r in ("sum", "mean")],
)
def test_gradients_are_those_of_the_definition(k, reduce, way):
    a, codes, ids, slope = inputs(k)
    strategy = Strategy(combine=way, chunk=16)

    @jax.jit
    def both(a, codes, ids, weights):
        def own(a, codes):
            return combine(a, codes, ids, reduce, weights, strategy)

        def definition(a, codes):
            q, error = straight_through(a, codes, ids, reduce)
            broad = weights if weights is None or weights.ndim == 2 else weights[:, None]
            return q, error if weights is None else jnp.where(broad, error, 0)

        return slopes(own, a, codes, slope), slopes(definition, a, codes, slope)

    by_token = np.arange(T) % 3 != 0
    for weights in (None, by_token, by_token[:, None] ^ np.asarray([True, False])):
        got, expected = both(a, codes, ids, weights)
        np.testing.assert_array_equal(got[0], slope)
        # A code sums as many vectors as it was chosen, T k / C on average; a vector has a sum of k.
        scale = np.abs(expected[1]).max()
        np.testing.assert_allclose(got[1], expected[1], rtol=0, atol=(T + k) * 2.0**-23 * scale)


def test_masked_tokens_leave_no_trace():
    a, codes, ids, slope = inputs(3)
    weights = jnp.arange(T) != 5
    usual = combine(a, codes, ids, "sum", weights)
    broken = a.at[5].set(jnp.nan)
    q, error = combine(broken, codes, ids, "sum", weights)
    np.testing.assert_array_equal(q, usual[0])
    np.testing.assert_array_equal(error, usual[1])
    assert (error[5] == 0).all()
    grads = [
        slopes(lambda a, c: combine(a, c, ids, "sum", weights), x, codes, slope)[1]
        for x in (a, broken)
    ]
    np.testing.assert_array_equal(*grads)


def _total(codes, a, ids, strategy):
    return combine(a, codes, ids, "sum", None, strategy)[0].sum()


def test_ids_out_of_range_give_nan_to_their_token_and_its_codes():
    a, codes, ids, _ = inputs(3)
    for bad in (-1, C):
        wrong = ids.at[4, 0, 1].set(bad)
        q, error = combine(a, codes, wrong)
        assert np.isnan(q[4, 0]).all()
        assert np.isnan(error[4, 0])
        assert np.isnan(q).sum() == D
        grad = jax.grad(_total)(codes, a, wrong, Strategy(combine="gather"))
        spoilt = {int(ids[4, 0, 0]), int(ids[4, 0, 2])}
        assert set(np.nonzero(np.isnan(grad).any(-1))[1]) == spoilt
        assert not np.isnan(grad[1]).any()


def test_half_precision_sums_in_float32():
    a, codes, ids, _ = inputs(23)
    low = codes.astype(jnp.bfloat16)
    q, error = combine(a.astype(jnp.bfloat16), low, ids)
    wide = in_order(low.astype(jnp.float32), ids, "sum")
    assert (q.dtype, error.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal(np.asarray(q), np.asarray(jnp.asarray(wide).astype(jnp.bfloat16)))
    ones = jax.grad(lambda c: combine(a, c, jnp.zeros((T, G, 23), jnp.int32))[0].sum())(low)
    assert ones.dtype == jnp.bfloat16
    assert (ones[:, 0] == T * 23).all()  # 920, which sums of ones in bfloat16 never reach


def test_float64_is_kept():
    with jax.enable_x64(True):
        a, codes, ids, slope = (jnp.asarray(np.asarray(x)) for x in inputs(3))
        a, codes, slope = (x.astype(jnp.float64) for x in (a, codes, slope))
        found = (
            *combine(a, codes, ids, "mean"),
            *jax.grad(lambda a, c: combine(a, c, ids)[1].sum(), argnums=(0, 1))(a, codes),
        )
    assert {x.dtype for x in found} == {np.dtype(np.float64)}


def test_vmap_and_scan():
    a, codes, ids, slope = inputs(3)

    def grads(a, codes, ids):
        return slopes(lambda a, c: combine(a, c, ids), a, codes, slope)

    usual = jax.jit(grads)(a, codes, ids)
    models = jax.jit(jax.vmap(grads, (None, 0, None)))(a, jnp.stack([codes, -codes]), ids)
    # The same sums, in the order in which XLA scatters a batch.
    np.testing.assert_allclose(models[1][0], usual[1], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(models[0][0], usual[0])
    parts = [x.reshape(4, T // 4, *x.shape[1:]) for x in (a, ids)]

    def sums(codes):
        one = jax.checkpoint(lambda a, i: combine(a, codes, i)[1].sum())
        return jax.lax.scan(lambda s, x: (s + one(*x), None), 0.0, tuple(parts))[0]

    whole = jax.jit(jax.grad(lambda c: combine(a, c, ids)[1].sum()))(codes)
    np.testing.assert_allclose(jax.jit(jax.grad(sums))(codes), whole, rtol=0, atol=1e-4)


def test_no_tokens():
    a, codes, ids, _ = (x[:0] if x.shape[0] == T else x for x in inputs(3))
    q, error = combine(a, codes, ids)
    assert (q.shape, error.shape) == ((0, G, D), (0, G))
    for way in ("gather", "one_hot"):
        assert not jax.grad(_total)(codes, a, ids, Strategy(combine=way)).any()


def test_eight_devices_are_one():
    a, codes, ids, slope = inputs(3, tokens=64)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))

    @jax.jit
    def run(a, codes, ids, slope):
        return slopes(lambda a, c: combine(a, c, ids), a, codes, slope)

    expected = run(a, codes, ids, slope)
    there = [jax.device_put(x, split) for x in (a, ids, slope)]
    there.insert(1, jax.device_put(codes, NamedSharding(mesh, PartitionSpec())))
    compiled = run.lower(*there).compile()
    assert compiled.as_text().count(" all-reduce(") == 1  # not one for each rank
    got = compiled(*there)
    np.testing.assert_array_equal(got[0], expected[0])
    # The same terms, 64 * 3 / 30 for a code, in another order.
    np.testing.assert_allclose(got[1], expected[1], rtol=0, atol=1e-5)


def step(k, strategy=None):
    def loss(a, codes):
        ids, _ = nearest(a, codes, k, None, strategy)
        q, error = combine(a, codes, ids, "mean", None, strategy)
        return jnp.square(q).sum() + error.mean()

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


@pytest.mark.parametrize(
    "strategy",
    [Strategy(), pytest.param(Strategy(combine="one_hot"), marks=pytest.mark.slow)],
)
def test_no_array_has_k_vectors_a_token(strategy):
    tokens, d, count, k = 41, 37, 53, 29
    args = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((tokens, 1, d), (1, count, d))]
    lowered = step(k, strategy).lower(*args)
    for text in (lowered.as_text(), lowered.compile().as_text()):
        shapes = re.findall(r"f32\[([\d,]+)\]|tensor<([\dx]+)xf32>", text)
        assert shapes
        sizes = {np.prod([int(n) for n in re.split("[,x]", a or b)]) for a, b in shapes}
        assert max(sizes) < tokens * k * d / 4, max(sizes)


def temporary(tokens, groups, codes, d, k):
    args = [
        jax.ShapeDtypeStruct(shape, jnp.float32)
        for shape in ((tokens, groups, d), (groups, codes, d))
    ]
    return step(k).lower(*args).compile().memory_analysis().temp_size_in_bytes / 1e6


@pytest.mark.parametrize(("groups", "d"), [(12, 8), pytest.param(1, 96, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_similarities(groups, d):
    # All similarities would be 12 * 1024 * 2500 * 4 bytes, 123 MB, or 10 MB.
    megabytes = 4 * (3 * 1024 + 4 * 2500) * 96 / 1e6  # activations thrice, codes four times
    block = 1024 * 2500 * 4 / 1e6 if groups == 1 else 12.6
    assert temporary(1024, groups, 2500, d, 8) < megabytes + 2 * block


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "d", "k"), [(12, 64, 8), (1, 768, 8), (1, 768, 100)])
def test_memory_at_full_size(groups, d, k):
    assert temporary(4096, groups, 10_000, d, k) < 150


def test_what_does_not_fit_is_refused():
    a, codes, ids, _ = inputs(2)
    with pytest.raises(ValueError, match=r"ids have shape \[40, 2\]"):
        combine(a, codes, ids[..., 0])
    with pytest.raises(ValueError, match="dtype float32, expected integers"):
        combine(a, codes, a)
    with pytest.raises(ValueError, match="reduce is 'max'"):
        combine(a, codes, ids, "max")
    with pytest.raises(ValueError, match=r"weights: float32\[40\], expected booleans"):
        combine(a, codes, ids, "sum", jnp.ones(T))
    with pytest.raises(ValueError, match=r"codes have shape \[1, 30, 7\]"):
        combine(a, codes[:1], ids)
