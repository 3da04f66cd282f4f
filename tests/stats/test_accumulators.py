"""The accumulators against whole-data computations in float64: cut, shuffled, masked, merged."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from activjax import stats
from activjax.stats import Rows

D, N = 5, 40
KEY = jax.random.key(7)
EPS = float(np.finfo(np.float32).eps)

ACCUMULATORS = {
    "diagonal": stats.moments(),
    "full": stats.moments("full"),
    "diagonal by label": stats.moments(labels=3),
    "full by label": stats.moments("full", labels=3),
    "histogram": stats.histogram(),
    "histogram by channel": stats.histogram(12, per_channel=True),
    "top_k": stats.top_k(6),
    "top_k by magnitude": stats.top_k(6, by="magnitude"),
    "coactive": stats.coactive(),
    "exceedances": stats.exceedances((0.0, 0.5, -1.0)),
    "coactive by label": stats.coactive(0.3, labels=3),
    "reservoir": stats.reservoir(KEY, 9),
    "range_sketch": stats.range_sketch(KEY, 3),
    "together": stats.together(a=stats.moments(), b=stats.histogram().of(jnp.abs)),
}
cases = pytest.mark.parametrize("acc", ACCUMULATORS.values(), ids=ACCUMULATORS.keys())


def data(n=N, seed=0):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, D)) * [1, 2, 0.5, 1, 3] + [0, 50, 0, -1, 0]).astype(np.float32)
    x[:, 3] = np.round(x[:, 3])  # ties
    return x, Rows(
        mask=rng.random(n) < 0.8,
        labels=rng.integers(-1, 4, n).astype(np.int32),
        ids=np.arange(n, dtype=np.uint32),
    )


def part(rows, chosen):
    return jax.tree.map(lambda a: a[chosen], rows)


@functools.cache
def compiled(acc):
    return jax.jit(acc.update), jax.jit(acc.merge), jax.jit(acc.finish)


def gathered(acc, x, rows, size=None):
    """The state after batches of one size (by default all at once)."""
    state, update = acc.init(jax.ShapeDtypeStruct((1, x.shape[-1]), x.dtype)), compiled(acc)[0]
    for start in range(0, len(x), size or len(x)):
        chosen = slice(start, start + (size or len(x)))
        state = update(state, x[chosen], part(rows, chosen))
    return state


def found_in(acc, x, rows, size=None):
    return compiled(acc)[2](gathered(acc, x, rows, size))


def assert_same(a, b):
    """Counts, choices and samples equal; sums to their rounding."""

    def check(p, q):
        if jnp.issubdtype(p.dtype, jnp.inexact):
            # Each side rounds its means, deviations, products and sums of n terms once or twice:
            # n eps of the largest entry bounds that for n = 40.
            scale = max(float(np.abs(p).max(initial=0)), 1e-30)
            np.testing.assert_allclose(p, q, rtol=0, atol=N * EPS * scale)
        else:
            np.testing.assert_array_equal(p, q)

    jax.tree.map(check, a, b)


@cases
def test_cuts_order_and_merging_do_not_matter(acc):
    x, rows = data()
    whole = found_in(acc, x, rows)
    merge, finish = compiled(acc)[1:]
    for size in (10, 1):
        assert_same(found_in(acc, x, rows, size), whole)
    order = np.random.default_rng(1).permutation(N).reshape(4, 10)
    p, q, r, s = (gathered(acc, x[c], part(rows, c)) for c in order)
    for merged in (
        merge(merge(merge(p, q), r), s),
        merge(s, merge(r, merge(q, p))),
        merge(merge(p, q), merge(r, s)),
    ):
        assert_same(finish(merged), whole)


@cases
def test_what_the_mask_hides_does_not_count(acc):
    x, rows = data()
    kept = np.flatnonzero(rows.mask)[:30]
    rows = Rows(np.isin(np.arange(N), kept), rows.labels, rows.ids)
    hidden = np.where(rows.mask[:, None], x, np.float32(np.nan))
    masked = found_in(acc, hidden, rows)
    assert_same(masked, found_in(acc, x[kept], part(rows, kept), 10))


@pytest.mark.parametrize("name", [n for n in ACCUMULATORS if n[:5] not in ("top_k", "reser")])
def test_positions_are_rows(name):
    acc = ACCUMULATORS[name]  # of the others positions are part of the result
    x, rows = data()
    folded = Rows(rows.mask.reshape(8, 5), rows.labels.reshape(8, 5), np.arange(8))
    state = acc.init(jax.ShapeDtypeStruct((8, 5, D), x.dtype))
    update, _, finish = compiled(acc)
    assert_same(finish(update(state, x.reshape(8, 5, D), folded)), found_in(acc, x, rows))


@pytest.mark.slow
@cases
def test_states_are_typed_and_updates_are_compiled_once(acc):
    x, rows = data()
    state = acc.init(jax.ShapeDtypeStruct((1, D), jnp.float32))
    update = jax.jit(acc.update, donate_argnums=0)
    new = update(jax.tree.map(jnp.copy, state), x, rows)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, new)
    update(new, x + 1, rows)
    assert update._cache_size() == 1


@cases
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("int8", marks=pytest.mark.slow)])
def test_other_dtypes(acc, dtype):
    x, rows = data()
    x = np.asarray(jnp.asarray(x).astype(dtype))
    swapped = np.roll(np.arange(N), N // 2)
    first, second = ((x[c], part(rows, c)) for c in (np.arange(N), swapped))
    assert_same(found_in(acc, *first, N // 2), found_in(acc, *second, N // 2))


def test_moments_equal_numpy():
    x, rows = data(400)
    kept, labels = x[rows.mask].astype(np.float64), rows.labels[rows.mask]
    found = found_in(ACCUMULATORS["full"], x, rows, 100)
    assert int(found.n) == len(kept)
    np.testing.assert_allclose(found.mean, kept.mean(0), atol=2 * EPS * 60)
    expected = np.cov(kept.T)
    # Products and sums of 400 deviations, each rounded: 400 eps of the largest variance at most.
    np.testing.assert_allclose(found.covariance(), expected, atol=400 * EPS * 10)
    np.testing.assert_allclose(found.variance(0), kept.var(0), rtol=400 * EPS)
    np.testing.assert_allclose(found.correlation(), np.corrcoef(kept.T), atol=800 * EPS)
    by = found_in(ACCUMULATORS["full by label"], x, rows, 100)
    diagonal = found_in(ACCUMULATORS["diagonal by label"], x, rows, 100)
    for label in range(3):
        own = kept[labels == label]
        assert np.asarray(by.n)[label] == np.asarray(diagonal.n)[label] == len(own)
        np.testing.assert_allclose(by.mean[label], own.mean(0), atol=2 * EPS * 60)
        np.testing.assert_allclose(by.covariance()[label], np.cov(own.T), atol=400 * EPS * 10)
        np.testing.assert_allclose(diagonal.variance()[label], own.var(0, ddof=1), rtol=400 * EPS)
    known = kept[(labels >= 0) & (labels < 3)]
    assert int(by.skipped) == len(kept) - len(known)
    pooled = by.pooled()
    np.testing.assert_allclose(pooled.covariance(), np.cov(known.T), atol=400 * EPS * 10)
    inside = sum(np.cov(kept[labels == k].T) * ((labels == k).sum() - 1) for k in range(3))
    np.testing.assert_allclose(by.within().scatter, inside, atol=400 * EPS * 3000)
    with pytest.raises(ValueError, match="full"):
        diagonal.covariance()


def test_a_large_mean_and_an_outlier_cost_no_accuracy():
    rng = np.random.default_rng(0)
    n = 65536
    x = rng.normal(size=(n, 8)).astype(np.float32)
    x[:, 0] = 100 + 0.05 * rng.normal(size=n)
    x[777, 0] = 5e4
    x[:, 1] = 100 + 0.05 * rng.normal(size=n)
    exact = np.cov(x.astype(np.float64).T)
    acc = stats.moments("full")
    state, update = acc.init(x[:1]), jax.jit(acc.update)
    for batch in np.split(x, 16):
        state = update(state, batch)
    got = np.asarray(acc.finish(state).covariance(), np.float64)
    others = np.abs(exact[1:, 1:]).max()
    assert np.abs(got - exact)[1:].max() <= 1e-4 * others  # the accuracy asked for
    # The outlier's batch: 4,095 products are added to one that is nearly the whole sum, each with a
    # rounding of half a unit of it, in the order that the machine's caches give a product.
    assert abs(got[0, 0] / exact[0, 0] - 1) < 4096 * EPS / 2
    # Of the small variance itself: deviations are rounded at eps * 100 / 0.05 of their size.
    assert abs(got[1, 1] / exact[1, 1] - 1) < 2 * EPS * 100 / 0.05
    naive = (x.T @ x / n - np.outer(x.mean(0), x.mean(0))).astype(np.float64)
    assert np.abs(naive - exact)[1:].max() > 1e-2 * others  # what it is for


def test_long_streams_do_not_drift():
    acc = stats.moments()
    x = np.full((8, 1), 0.1, np.float32)
    x[::2] += np.float32(1.0)

    def step(state, _):
        return acc.update(state, x), None

    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, length=50_000))(acc.init(x))
    found = acc.finish(state)
    one = x.astype(np.float64)
    assert int(found.n) == 400_000
    # Two roundings, however long: a plain sum would be off by thousands of them.
    np.testing.assert_allclose(found.mean, one.mean(0), rtol=2 * EPS)
    np.testing.assert_allclose(found.variance(0), one.var(0), rtol=4 * EPS)


@pytest.mark.parametrize("name", ["diagonal", "histogram", "coactive", "reservoir"])
def test_counts_beyond_float32(name):
    acc = ACCUMULATORS[name]
    x, rows = data(3)
    update, merge, finish = compiled(acc)
    state = first = update(acc.init(x), x, Rows(ids=rows.ids))
    for _ in range(34):
        state = merge(state, state)
    found = finish(state)
    if name == "histogram":
        assert found.n == 3 * D * 2**34
        first = finish(first)
        np.testing.assert_array_equal(found.counts, np.asarray(first.counts) << 34)
        np.testing.assert_array_equal(found.quantile([0.1, 0.5]), first.quantile([0.1, 0.5]))
    else:
        assert int(found.n) == 3 * 2**34
    if name == "coactive":
        np.testing.assert_array_equal(np.diagonal(found.pairs), (x > 0).sum(0) << 34)


def test_a_count_carries():
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**32, 20, dtype=np.uint64)
    count = stats.Count.zeros()
    for number in numbers:
        count = count.add(np.uint32(number))
    assert int(count) == int(numbers.sum())
    assert int(count + count) == 2 * int(numbers.sum())
    assert np.isclose(float(count.to()), float(numbers.sum()), rtol=2 * EPS)


BF16 = st.integers(0, 2**16 - 1)
HISTOGRAM = stats.histogram()
TOP = {(k, by): stats.top_k(k, by=by) for k in (1, 7) for by in ("value", "magnitude")}
SPECIAL = st.sampled_from([-2.0, -0.0, 0.0, 1.0, np.inf, -np.inf, np.nan])


@settings(max_examples=60, deadline=None)
@given(st.lists(BF16, min_size=1, max_size=60), st.lists(st.floats(0, 1), max_size=4))
def test_quantiles_of_bfloat16_are_exact(patterns, shares):
    n = len(patterns)
    x = np.asarray(patterns + [0] * (60 - n), np.uint16).view(jnp.bfloat16)[:, None]
    found = found_in(HISTOGRAM, x, Rows(mask=np.arange(60) < n))
    wide = x[:n, 0].astype(np.float64)  # exact, subnormals, infinities and zeros included
    finite = np.sort(wide[~np.isnan(wide)])
    assert int(found.nan) == np.isnan(wide).sum()
    assert found.n == len(finite)
    for q in [0.0, 0.5, 1.0, *shares]:
        got = found.quantile(q)
        if not len(finite):
            assert np.isnan(got)
            continue
        shares = np.arange(1, len(finite) + 1) / len(finite)
        assert got == finite[np.flatnonzero(shares >= q)[0]]


def test_histograms_of_float32_round_on_the_bits():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**32, 4000, dtype=np.uint32)  # subnormals and NaNs among them
    x = words.view(np.float32)[:, None]
    found = found_in(HISTOGRAM, x, Rows())
    with np.errstate(invalid="ignore"):
        expected = x[:, 0].astype(jnp.bfloat16).astype(np.float64)
    assert int(found.nan) == np.isnan(x).sum()
    values, counts = np.unique(expected[~np.isnan(expected)], return_counts=True)
    seen = np.asarray(found.counts)
    got = dict.fromkeys(values, 0)
    for v, c in zip(found.values()[seen > 0], seen[seen > 0], strict=True):
        got[v] += c
    assert got == dict(zip(values, counts, strict=True))


def test_fewer_bits_and_channels():
    x, _ = data(200)
    found = found_in(ACCUMULATORS["histogram by channel"], x, Rows())
    assert found.counts.shape == (D, 4096)
    np.testing.assert_array_equal(found.n, 200)
    median, exact = found.quantile(0.5), np.sort(x, axis=0)[99]
    # Sign, 8 bits of exponent, 3 of fraction: a bin is an eighth of its lower end wide.
    assert (np.abs(median) <= np.abs(exact) * (1 + 2**-8)).all()
    assert (np.abs(exact) <= np.abs(median) * (1 + 1 / 8) * (1 + 2**-8)).all()
    np.testing.assert_allclose(found.share_up_to(1.0)[2], (np.abs(x[:, 2]) <= 1).mean(), atol=0.03)
    with pytest.raises(ValueError, match=r"shares in \[0, 1\]"):
        found.quantile(1.5)
    with pytest.raises(ValueError, match="bits is 3"):
        stats.histogram(3)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(SPECIAL, min_size=4, max_size=24),
    st.sampled_from([1, 7]),
    st.sampled_from(["value", "magnitude"]),
    st.randoms(),
)
def test_top_k_equals_sorting(numbers, k, by, random):
    x = np.asarray(numbers[: len(numbers) // 4 * 4], np.float32).reshape(-1, 2, 2)
    ids = list(range(len(x)))
    random.shuffle(ids)
    update, _, finish = compiled(TOP[k, by])
    state = TOP[k, by].init(x)
    for i in range(len(x)):
        state = update(state, x[i : i + 1], Rows(ids=np.asarray(ids[i : i + 1], np.uint32)))
    found = finish(state)
    size = np.abs if by == "magnitude" else np.asarray
    entries = sorted(
        (-float(size(x[i, p, c])), ids[i], p, c, x[i, p, c])
        for i, p, c in np.ndindex(x.shape)
        if not np.isnan(x[i, p, c])
    )[:k]
    assert int(found.nan) == np.isnan(x).sum()
    assert int(found.valid.sum()) == len(entries)
    for j, (_, example, position, channel, value) in enumerate(entries):
        assert found.value[j] == value
        got = (found.example[j], found.position[j], found.channel[j])
        assert tuple(map(int, got)) == (example, position, channel)


def test_top_k_of_integers_does_not_overflow():
    x = np.asarray([[-(2**31), 5], [2**31 - 1, -(2**31)]], np.int32)
    found = stats.top_k(4).finish(
        stats.top_k(4).update(stats.top_k(4).init(x), x, Rows(ids=np.arange(2)))
    )
    assert found.value.tolist() == [2**31 - 1, 5, -(2**31), -(2**31)]
    assert found.example.tolist() == [1, 0, 0, 1]


def test_coactivation_equals_counting():
    x, rows = data(300)
    acc = ACCUMULATORS["coactive by label"]
    found = found_in(acc, x, rows, 150)
    for label in range(3):
        on = (x[rows.mask & (rows.labels == label)] > np.float32(0.3)).astype(int)
        np.testing.assert_array_equal(np.asarray(found.pairs)[label], on.T @ on)
        np.testing.assert_array_equal(np.asarray(found.active)[label], on.sum(0))
        np.testing.assert_allclose(found.rates()[label], on.mean(0), rtol=2 * EPS)
    assert int(found.skipped) == (rows.mask & ~np.isin(rows.labels, range(3))).sum()


def test_exceedances_equal_counting():
    x, rows = data(300)
    found = found_in(ACCUMULATORS["exceedances"], x, rows)
    for i, level in enumerate((0.0, 0.5, -1.0)):
        np.testing.assert_array_equal(np.asarray(found.counts)[i], (x[rows.mask] > level).sum(0))
    np.testing.assert_allclose(found.rates()[0], (x[rows.mask] > 0).mean(0), rtol=2 * EPS)
    with pytest.raises(ValueError, match="thresholds are"):
        stats.exceedances(())


@pytest.mark.parametrize("name", ["diagonal", "histogram", "histogram by channel", "exceedances"])
def test_large_batches_are_taken_block_by_block(name):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(3000, 128)) + 5).astype(np.float32)  # two blocks and a part of one
    rows = Rows(mask=rng.random(3000) < 0.9)
    acc = ACCUMULATORS[name]
    found, kept = found_in(acc, x, rows), x[rows.mask]
    if name == "diagonal":
        # One rounding of a mean of 5, and of some thousand squares.
        np.testing.assert_allclose(found.mean, kept.mean(0, dtype=float), rtol=2 * EPS)
        np.testing.assert_allclose(found.variance(0), kept.var(0, dtype=float), rtol=1000 * EPS)
    elif name == "exceedances":
        np.testing.assert_array_equal(np.asarray(found.counts)[0], (kept > 0).sum(0))
    else:
        small = found_in(acc, x[:100], Rows(mask=rows.mask[:100]), 50)
        for start in range(100, 3000, 50):
            part = x[start : start + 50], Rows(mask=rows.mask[start : start + 50])
            small = jax.tree.map(lambda a, b: a + b, small, found_in(acc, *part))
        np.testing.assert_array_equal(np.asarray(found.counts), np.asarray(small.counts))


def test_a_reservoir_is_a_uniform_sample():
    n, k, draws = 30, 6, 400
    x = np.arange(n, dtype=np.float32)[:, None]

    def drawn(key):
        acc = stats.reservoir(key, k)
        return acc.finish(acc.update(acc.init(x), x, Rows(ids=jnp.arange(n)))).example

    chosen = np.asarray(jax.jit(jax.vmap(drawn))(jax.random.split(KEY, draws)))
    assert all(len(set(row)) == k for row in chosen.tolist())
    hits = np.bincount(chosen.ravel(), minlength=n)
    share = k / n
    # Each count is binomial(400, 1/5); 4.5 standard deviations hold for all 30 with p > .9997.
    assert np.abs(hits - draws * share).max() < 4.5 * np.sqrt(draws * share * (1 - share))


def test_a_short_stream_fills_a_reservoir_partly():
    x, rows = data(4)
    found = found_in(ACCUMULATORS["reservoir"], x, Rows(labels=rows.labels, ids=rows.ids))
    assert found.valid.tolist() == [True] * 4 + [False] * 5
    order = np.asarray(found.example[:4])
    np.testing.assert_array_equal(found.values[:4], x[order])
    np.testing.assert_array_equal(found.label[:4], rows.labels[order])


def test_cross_equals_numpy():
    x, rows = data(300)
    y = np.tanh(x[:, [0, 2]] + 1)
    acc = stats.cross()
    update, merge, finish = compiled(acc)
    halves = []
    for half in np.arange(300).reshape(2, 150):
        state = acc.init((x, y))
        for c in half.reshape(3, 50):
            state = update(state, (x[c], y[c]), part(rows, c))
        halves.append(state)
    found = finish(merge(*halves))
    both = np.cov(x[rows.mask].T.astype(np.float64), y[rows.mask].T.astype(np.float64))
    np.testing.assert_allclose(found.covariance(), both[:D, D:], atol=300 * EPS * 3)
    scale = np.sqrt(np.diag(both))
    expected = both[:D, D:] / scale[:D, None] / scale[None, D:]
    np.testing.assert_allclose(found.correlation(), expected, atol=600 * EPS)


def test_a_range_sketch_finds_the_leading_directions_and_its_own_error():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    scale = np.concatenate([[10, 7, 5], np.full(57, 0.02)])
    x = (rng.normal(size=(2000, 60)) * scale @ basis.T).astype(np.float32)
    exact = np.linalg.eigvalsh(np.cov(x.T.astype(np.float64)))[::-1]
    acc = stats.range_sketch(KEY, 12)
    found = found_in(acc, x, Rows(), 400)
    # Never above the truth but for rounding, and below by at most what is missing.
    rounding = 2000 * EPS * exact[0]
    gap = exact[:12] - np.asarray(found.eigenvalues, np.float64)
    assert (gap >= -rounding).all()
    assert (gap <= float(found.missing) + rounding).all()
    assert abs(float(found.trace) - exact.sum()) < rounding
    assert float(found.missing) <= exact[3:].sum() + rounding
    np.testing.assert_allclose(found.eigenvalues[:3], exact[:3], rtol=1e-4)
    vectors = np.asarray(found.eigenvectors)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(12), atol=12 * EPS)


@cases
def test_degenerate_streams(acc):
    update, _, finish = compiled(acc)
    nothing = finish(acc.init(jax.ShapeDtypeStruct((1, D), jnp.float32)))
    zeros = np.zeros((1, D), np.float32)
    rows = Rows(labels=np.zeros(1, np.int32), ids=np.zeros(1, np.uint32))
    one = finish(update(acc.init(zeros), zeros, rows))
    chex.assert_trees_all_equal_shapes_and_dtypes(nothing, one)


def test_variances_of_one_row_and_of_constants():
    acc = stats.moments("full")
    x = np.full((1, 2), 3.0, np.float32)
    one = acc.finish(acc.update(acc.init(x), x))
    assert np.isnan(one.covariance()).all()
    assert (np.asarray(one.covariance(0)) == 0).all()
    many = np.stack([np.full(9, 0.1), np.arange(9)], axis=1).astype(np.float32)
    found = acc.finish(acc.update(acc.init(many), many))
    assert found.variance()[0] == 0
    assert np.isnan(found.correlation()[0]).all()
    assert np.isclose(found.correlation()[1, 1], 1)


def test_nan_spreads_in_its_channel_only():
    x, _ = data()
    x[3, 1] = np.nan
    found = found_in(ACCUMULATORS["full"], x, Rows())
    assert np.isnan(found.mean).tolist() == [False, True, False, False, False]
    bad = np.isnan(found.covariance())
    expected = np.zeros((D, D), bool)
    expected[1], expected[:, 1] = True, True
    np.testing.assert_array_equal(bad, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: stats.moments("whole"), "expected .diagonal. or .full."),
        (lambda x: stats.moments(labels=0), "labels is 0"),
        (lambda x: _one(stats.moments(labels=2), x), "expected rows=Rows.labels"),
        (lambda x: _one(stats.moments(), x[0]), r"expected \[rows, channels\]; for one number"),
        (lambda x: _one(stats.moments(), x, mask=np.ones(3, bool)), r"rows.mask has shape \(3,\)"),
        (lambda x: _one(stats.moments(), x, mask=np.ones(N)), "rows.mask has dtype float"),
        (lambda x: _one(stats.moments(), x.astype(np.complex64)), "expected real numbers"),
        (lambda x: _one(stats.top_k(2), x), "expected a number for every example"),
        (lambda x: _one(stats.reservoir(KEY, 2), x), "expected a number for every example"),
        (lambda x: stats.top_k(0), "k is 0"),
        (lambda x: stats.top_k(1, by="size"), "by is 'size'"),
        (lambda x: stats.reservoir(KEY, 0), "k is 0"),
        (lambda x: stats.range_sketch(KEY, 9).init(x), "at most the 5 channels"),
        (lambda x: stats.cross().init(x), "expected a pair"),
        (lambda x: stats.coactive(labels=0), "labels is 0"),
        (lambda x: stats.together(), "at least one"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(data()[0])


def _one(acc, x, **rows):
    return acc.update(acc.init(jax.ShapeDtypeStruct((1, D), jnp.float32)), x, Rows(**rows))


@pytest.mark.parametrize("log_n", [16, 20])
def test_compensated_sums_do_not_drift(log_n):
    n, x = 2**log_n, np.float32(0.1)
    from activjax.stats._sums import Sum

    one = Sum.zeros((), jnp.float32)
    found = jax.jit(lambda: jax.lax.fori_loop(0, n, lambda _, s: s.add(x), one).value)()
    exact = n * float(x)
    assert abs(float(found) - exact) <= np.spacing(np.float32(exact))
    doubled = one.add(x)
    for _ in range(log_n):
        doubled = doubled.join(doubled)
    assert float(doubled.value) == exact


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_large_means_cost_no_accuracy_over_many_batches(kind):
    rng = np.random.default_rng(0)
    x = (1e7 + rng.normal(size=(1000, 7, 1))).astype(np.float32)
    acc = stats.moments(kind)
    state, _ = jax.jit(lambda s: jax.lax.scan(lambda s, b: (acc.update(s, b), None), s, x))(
        acc.init(x[0])
    )
    found, wide = acc.finish(state), x.astype(np.float64).ravel()
    np.testing.assert_allclose(found.mean, wide.mean(), rtol=2 * EPS)
    # The mean's second word is up to half a unit of 1e7, that is 1/2, and each of 1,000 merges
    # rounds it by EPS; the deviations, of size 1, are off by the sum of these.
    np.testing.assert_allclose(found.variance(0), wide.var(), rtol=1000 * EPS / 2)


@pytest.mark.parametrize("name", ["diagonal", "full"])
def test_huge_constants_have_no_variance(name):
    x = np.full((6, D), -1e30, np.float32)
    found = found_in(ACCUMULATORS[name], x, Rows(), 3)
    assert (np.asarray(found.variance(0)) == 0).all()


def test_labels_and_thresholds_beyond_their_types():
    x = np.asarray([[0, 1], [1, -1]], np.int32)
    for acc in (stats.coactive(-0.5), stats.exceedances(-0.5)):
        found = acc.finish(acc.update(acc.init(x), x))
        counts = found.active if hasattr(found, "active") else found.counts
        np.testing.assert_array_equal(np.asarray(counts).ravel(), [2, 1])
    yes = np.asarray([[True, False]])
    for threshold, expected in ((-1.0, [1, 1]), (0.0, [1, 0]), (1.0, [0, 0])):
        for acc in (stats.coactive(threshold), stats.exceedances(threshold)):
            found = acc.finish(acc.update(acc.init(yes), yes))
            counts = found.active if hasattr(found, "active") else found.counts
            np.testing.assert_array_equal(np.asarray(counts).ravel(), expected)
    small = np.asarray([[200]], np.uint8)
    assert int(_count(stats.exceedances((-1.0, 300.0)), small)) == 1
    large = np.asarray([[2**24 + 1]], np.int32)
    assert int(_count(stats.exceedances(2.0**24), large)) == 1
    tenth = np.asarray([[0.1]], jnp.bfloat16)
    assert int(_count(stats.exceedances(0.1), tenth)) == 1  # bfloat16(0.1) is .10009765625
    acc = stats.moments(labels=2)
    rows = Rows(labels=np.asarray([2**32 - 1, 0], np.uint32))
    assert np.asarray(acc.finish(acc.update(acc.init(x), x, rows)).n).tolist() == [1, 0]
    with pytest.raises(ValueError, match="the threshold is NaN"):
        stats.coactive(float("nan"))


def _count(acc, x):
    return np.asarray(acc.finish(acc.update(acc.init(x), x)).counts).sum()


def test_quantiles_at_shares_that_are_no_floats():
    x = np.arange(1, 11, dtype=np.float32)[:, None]
    found = found_in(HISTOGRAM, x, Rows())
    for q in (0.1, 0.2, 0.3, 0.7, 0.9):
        assert found.quantile(q) == np.quantile(x[:, 0], q, method="inverted_cdf")
