"""Nearest codes: those of float64, the same however they are computed, jitted or not, sharded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from activjax.codebooks._combine import combine
from activjax.codebooks._nearest import nearest
from activjax.codebooks._strategy import Strategy
from activjax.codebooks._tune import tune

T, G, D, C, K = 90, 3, 12, 333, 4

EXACT = {
    "top_k map": Strategy(select="top_k", groups="map", chunk=48),
    "blocks vmap": Strategy(select="blocks", groups="vmap", chunk=48, block=25),
    "blocks bfloat16": Strategy(select="blocks", groups="map", chunk=90, similarity="bfloat16"),
}
MORE = {
    "blocks map": Strategy(select="blocks", groups="map", chunk=16),
    "top_k bfloat16": Strategy(select="top_k", groups="vmap", chunk=16, similarity="bfloat16"),
}
strategies = pytest.mark.parametrize(
    "strategy",
    [pytest.param(s, id=name) for name, s in EXACT.items()]
    + [pytest.param(s, id=name, marks=pytest.mark.slow) for name, s in MORE.items()],
)


def inputs(tokens=T, groups=G, codes=C, d=D):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((tokens, groups, d), np.float32)
    return jnp.asarray(a), jnp.asarray(rng.standard_normal((groups, codes, d), np.float32))


def wide_similarities(a, codes):
    a, codes = np.asarray(a, np.float64), np.asarray(codes, np.float64)
    norm = np.linalg.norm(codes, axis=-1, keepdims=True)
    return np.einsum("tgd,gcd->tgc", a, codes / np.where(norm > 0, norm, 1))


def order(similarities, k):
    return np.argsort(-similarities, axis=-1, kind="stable")[..., :k]


def reference(a, codes, k):
    s = wide_similarities(a, codes)
    ids = order(s, k)
    return ids, np.take_along_axis(s, ids, -1)


def same(found, expected):
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def rounding(a):
    """Of a dot product in float32, d u |a| at most, and of the code's length."""
    return 2 * a.shape[-1] * 2.0**-23 * np.linalg.norm(np.asarray(a), axis=-1).max()


@pytest.mark.parametrize("k", [1, K, C])
def test_ids_and_similarities_are_those_of_float64(k):
    a, codes = inputs()
    ids, values = nearest(a, codes, k)
    expected, dots = reference(a, codes, k)
    if k == C:  # among 333 some are nearer to each other than rounding
        expected, dots = np.asarray(ids), np.take_along_axis(wide_similarities(a, codes), ids, -1)
        assert (np.sort(ids, axis=-1) == np.arange(C)).all()
        assert (np.diff(values, axis=-1) <= 0).all()
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(values, dots, rtol=0, atol=rounding(a))
    assert (ids.dtype, values.dtype) == (jnp.int32, jnp.float32)


@strategies
def test_strategies_give_the_same_ids(strategy):
    a, codes = inputs()
    ids, values = nearest(a, codes, K, None, strategy)
    expected, dots = reference(a, codes, K)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(values, dots, rtol=0, atol=rounding(a))


@strategies
def test_lowest_id_of_equals(strategy):
    a, codes = inputs()
    # Powers of two change no bit of a code of length 1.
    origin = np.concatenate([np.arange(150), np.arange(100), np.arange(83)])
    twins = codes[:, origin] * jnp.exp2(jnp.arange(C, dtype=jnp.float32) % 5 - 2)[:, None]
    ids, values = nearest(a, twins, K, None, strategy)
    np.testing.assert_array_equal(ids, order(wide_similarities(a, codes)[..., origin], K))
    equal = origin[ids][..., 1:] == origin[ids][..., :-1]
    assert equal.mean() > 0.5
    np.testing.assert_array_equal(values[..., 1:][equal], values[..., :-1][equal])


@strategies
def test_equals_across_blocks(strategy):
    # Two similarities only: ids alone decide, and the best are in more blocks than are looked into.
    sign = np.where(np.random.default_rng(2).random((G, C)) < 0.1, 1, -1).astype(np.float32)
    codes = jnp.asarray(sign)[..., None] * jnp.ones(D)
    ids, _ = nearest(jnp.ones((T, G, D)), codes, K, None, strategy)
    np.testing.assert_array_equal(ids, np.broadcast_to(order(sign, K), ids.shape))


@strategies
def test_rounding_to_bfloat16_is_made_good(strategy):
    # Codes nearer to each other than bfloat16 tells, and more of them than the margin.
    a, codes = inputs()
    near = codes[:, :1] + 2.0**-10 * codes
    ids, values = nearest(a, near, K, None, strategy)
    s = wide_similarities(a, near)
    chosen = np.take_along_axis(s, np.asarray(ids), -1)
    np.testing.assert_allclose(chosen, np.take_along_axis(s, order(s, K), -1), atol=2 * rounding(a))
    np.testing.assert_allclose(values, chosen, rtol=0, atol=rounding(a))
    rough = wide_similarities(a.astype(jnp.bfloat16), near.astype(jnp.bfloat16))
    lost = np.take_along_axis(s, order(rough, K), -1)
    assert (np.abs(lost - chosen).max(axis=-1) > 2 * rounding(a)).mean() > 0.5


def test_zero_activation_zero_code_and_extreme_sizes():
    a, codes = inputs()
    usual = nearest(a, codes, K)
    none = nearest(a.at[5].set(0), codes.at[:, 7].set(0), C)
    np.testing.assert_array_equal(none[0][5], np.broadcast_to(np.arange(C), (G, C)))
    np.testing.assert_array_equal(none[1][5], 0)
    np.testing.assert_array_equal(none[1][none[0] == 7], 0)
    for size in (2.0**-100, 2.0**100):  # squares of these vanish or overflow in float32
        same(nearest(a, codes * size, K), usual)
        same(nearest(a * size, codes, K), (usual[0], usual[1] * size))


@strategies
def test_a_token_that_is_not_finite_stays_alone(strategy):
    a, codes = inputs()
    usual = nearest(a, codes, K, None, strategy)
    for bad in (jnp.nan, -jnp.inf):
        ids, values = nearest(a.at[3, 1, 2].set(bad), codes, K, None, strategy)
        np.testing.assert_array_equal(ids[3, 1], np.arange(K))
        assert np.isnan(values[3, 1]).all()
        same((ids.at[3, 1].set(usual[0][3, 1]), values.at[3, 1].set(usual[1][3, 1])), usual)


@strategies
def test_a_code_that_is_not_finite_comes_first(strategy):
    a, codes = inputs()
    ids, values = nearest(
        a, codes.at[1, 8, 0].set(jnp.nan).at[1, 200, 3].set(-jnp.inf), K, None, strategy
    )
    np.testing.assert_array_equal(ids[:, 1, :2], np.broadcast_to([8, 200], (T, 2)))
    assert np.isnan(values[:, 1, :2]).all()
    s = wide_similarities(a, codes)[:, 1]
    s[:, [8, 200]] = -np.inf
    np.testing.assert_array_equal(ids[:, 1, 2:], order(s, K - 2))
    usual = nearest(a, codes, K, None, strategy)
    same((ids[:, ::2], values[:, ::2]), (usual[0][:, ::2], usual[1][:, ::2]))
    broken = nearest(a, jnp.full_like(codes, jnp.nan), K, None, strategy)
    np.testing.assert_array_equal(broken[0], np.broadcast_to(np.arange(K), (T, G, K)))


@pytest.mark.parametrize(
    "strategy",
    [EXACT["blocks vmap"]]
    + [pytest.param(s, marks=pytest.mark.slow) for s in (*EXACT.values(), *MORE.values())],
    ids=str,
)
def test_banned_codes_are_not_chosen(strategy):
    a, codes = inputs()
    ban = reference(a, codes, 5)[0][..., [0, 3, 0, 2]].astype(np.int32)  # one of them twice
    ban[:, :, 3] = -1
    for banned in (ban, ban[:1]):
        ids, values = nearest(a, codes, K, jnp.asarray(banned), strategy)
        s = wide_similarities(a, codes)
        np.put_along_axis(s, np.broadcast_to(banned[..., :3], (T, G, 3)), -np.inf, -1)
        np.testing.assert_array_equal(ids, order(s, K))
        assert np.isfinite(values).all()
    broken = codes.at[:, 8].set(jnp.nan)
    ids, _ = nearest(a, broken, K, jnp.full((T, G, 4), 8, jnp.int32), strategy)
    s = wide_similarities(a, codes)
    s[..., 8] = -np.inf
    np.testing.assert_array_equal(ids, order(s, K))


def test_banned_codes_follow_where_too_few_are_left():
    a, codes = inputs(codes=6)
    ban = jnp.broadcast_to(jnp.asarray([5, 1, 3, 1], jnp.int32), (1, G, 4))
    ids, values = nearest(a, codes, 5, ban)
    np.testing.assert_array_equal(ids[..., 3:], np.broadcast_to([1, 3], (T, G, 2)))
    assert (values[..., 3:] == -jnp.inf).all()
    assert np.isfinite(values[..., :3]).all()
    np.testing.assert_array_equal(np.sort(ids[..., :3], -1), np.broadcast_to([0, 2, 4], (T, G, 3)))


def test_one_code_no_token_one_token():
    a, codes = inputs()
    assert (nearest(a, codes[:, :1], 1)[0] == 0).all()
    none = nearest(a[:0], codes, 2)
    assert [x.shape for x in none] == [(0, G, 2)] * 2
    usual = nearest(a, codes, K)
    same(nearest(a[:1], codes, K), [x[:1] for x in usual])


def test_what_does_not_fit_is_refused():
    a, codes = inputs()
    for k in (0, C + 1):
        with pytest.raises(ValueError, match=f"k is {k}, expected 1 to {C}"):
            nearest(a, codes, k)
    with pytest.raises(ValueError, match=r"a has shape \[90, 36\], expected \[tokens, groups, d\]"):
        nearest(a.reshape(T, -1), codes, 2)
    with pytest.raises(
        ValueError, match=r"codes have shape \[2, 333, 12\], expected \[3, codes, 1"
    ):
        nearest(a, codes[:2], 2)
    with pytest.raises(ValueError, match=r"banned has shape \[1, 2, 1\], expected \[90 or 1, 3, n"):
        nearest(a, codes, 2, jnp.zeros((1, 2, 1), jnp.int32))
    with pytest.raises(ValueError, match="dtype int32, expected floating"):
        nearest(a.astype(jnp.int32), codes, 2)
    for field in ({"select": "best"}, {"chunk": 0}, {"margin": -1}, {"similarity": "float16"}):
        with pytest.raises(ValueError, match=f"Strategy: {next(iter(field))}"):
            Strategy(**field)


def test_half_precision_is_ranked_in_float32():
    a, codes = inputs()
    low = a.astype(jnp.bfloat16), codes.astype(jnp.float16)
    same(nearest(*low, K), nearest(*(x.astype(jnp.float32) for x in low), K))


def test_float64_is_ranked_in_float64():
    with jax.enable_x64(True):
        a, codes = (jnp.asarray(np.asarray(x), jnp.float64) for x in inputs())
        # Equal in float32.
        codes = codes.at[:, 1::2].set(codes[:, :-1:2] * (1 + 1e-12 * codes[:, 1::2]))
        ids, values = nearest(a, codes, K)
        expected, dots = reference(a, codes, K)
    np.testing.assert_array_equal(ids, expected)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, dots, rtol=0, atol=rounding(a) * 2.0**-29)


def test_jit_scan_vmap_and_gradients():
    a, codes = inputs()
    usual = nearest(a, codes, K)
    same(jax.jit(nearest, static_argnums=2)(a, codes, K), usual)
    _, scanned = jax.lax.scan(lambda _, a: (None, nearest(a, codes, K)), None, a[:, None])
    same([x[:, 0] for x in scanned], usual)
    # Another product of matrices, with its own rounding, and the same ids.
    both = jnp.stack([codes, codes[:, ::-1]])
    ids, values = jax.vmap(lambda c: nearest(a, c, K))(both)
    np.testing.assert_array_equal(ids[0], usual[0])
    np.testing.assert_array_equal(C - 1 - ids[1], usual[0])
    np.testing.assert_allclose(values, jnp.stack([usual[1]] * 2), rtol=0, atol=rounding(a))
    ids, values = jax.vmap(lambda a: nearest(a, codes, K))(jnp.stack([-a, a]))
    np.testing.assert_array_equal(ids[1], usual[0])
    np.testing.assert_allclose(values[1], usual[1], rtol=0, atol=rounding(a))
    slopes = jax.grad(lambda a, c: nearest(a, c, K)[1].sum(), argnums=(0, 1))(a, codes)
    assert not any(x.any() for x in slopes)


@pytest.mark.parametrize(
    "strategy",
    [
        Strategy(chunk=64),
        pytest.param(Strategy(groups="vmap", chunk=16), marks=pytest.mark.slow),
        pytest.param(Strategy(similarity="bfloat16"), marks=pytest.mark.slow),
    ],
)
def test_tokens_on_eight_devices(strategy):
    a, codes = inputs(tokens=256)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))

    def run(a, codes):
        return nearest(a, codes, K, None, strategy)

    there = jax.device_put(a, split), jax.device_put(codes, NamedSharding(mesh, PartitionSpec()))
    compiled = jax.jit(run, out_shardings=split).lower(*there).compile()
    same(compiled(*there), run(a, codes))
    # Activations and similarities stay where they are: nothing is gathered from other devices.
    for moving in ("all-gather", "all-to-all", "collective-permute", "all-reduce-start"):
        assert moving not in compiled.as_text()


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_lowers_for_accelerators(platform):
    a, codes = (jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs())

    def loss(a, codes, strategy):
        ids, _ = nearest(a, codes, K, None, strategy)
        q, error = combine(a, codes, ids, "mean", None, strategy)
        return q.sum() + error.sum()

    for strategy in (EXACT["blocks bfloat16"], Strategy(select="approx", combine="one_hot")):
        step = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)
        exported = jax.export.export(step, platforms=[platform])(a, codes, strategy)
        assert exported.platforms == (platform,)


def test_strategies_are_resolved_by_platform():
    sizes = dict(tokens=4096, groups=12, codes=10_000, d=64, k=8)
    for platform in ("cpu", "gpu", "tpu"):
        found = Strategy().resolved(**sizes, platform=platform)
        assert "auto" not in (found.select, found.combine, found.groups)
        assert found.resolved(**sizes) == found
        at_once = 1 if found.groups == "map" else 12
        assert found.chunk * at_once * 10_000 * 4 <= 64 * 2**20
    assert Strategy().resolved(**sizes, platform="cuda") == Strategy().resolved(
        **sizes, platform="gpu"
    )
    own = Strategy("top_k", "one_hot", "vmap", 7)
    assert own.resolved(**sizes) == own
    assert Strategy().resolved(**{**sizes, "k": 100}, platform="cpu").select == "top_k"


def test_approximate_selection_finds_most():
    a, codes = inputs()
    ids, _ = nearest(a, codes, K, None, Strategy(select="approx"))
    exact = reference(a, codes, K)[0]
    hits = (np.asarray(ids)[..., None] == exact[..., None, :]).any(-1)
    assert hits.mean() > 0.9  # asked of it: 0.95 on average


@pytest.mark.slow
def test_tuning_returns_the_fastest_and_the_ratios():
    given = [Strategy(chunk=16), Strategy(select="top_k", groups="vmap")]
    best, table = tune(T, G, C, D, K, candidates=given, repeats=3)
    assert len(table) == 2
    assert (best, 1.0) == (table[0].strategy, table[0].ratio)
    assert table[0].milliseconds <= table[1].milliseconds
    assert {row.strategy for row in table} == {s.resolved(T, G, C, D, K) for s in given}
    with pytest.raises(ValueError, match="candidates"):
        tune(T, G, C, D, K, candidates=[])
