"""`harvest` against the same statistics of stored activations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import models, stats
from activjax.stats import Rows
from activjax.training import checkpoint

NET = models.mlp([6, 16, 12, 3])
PARAMS = NET.init(jax.random.key(0))
N = 90
X = np.random.default_rng(0).normal(size=(N, 6)).astype(np.float32)
Y = np.arange(N, dtype=np.int32) % 3
ALL = stats.together(
    moments=stats.moments("full"),
    top=stats.top_k(5),
    histogram=stats.histogram(),
    together=stats.coactive(),
    sample=stats.reservoir(jax.random.key(1), 7),
)


def cut(*sizes):
    return [X[a:b] for a, b in itertools.pairwise([0, *itertools.accumulate(sizes), N]) if b > a]


def scanned(weights, x):
    def layer(h, w):
        return aj.tag(jnp.tanh(h @ w), "h", axes="batch unit"), None

    x = aj.tag(x, "x", axes="batch unit")
    h, _ = aj.scan(layer, x, weights, name="layers")
    return aj.tag(h.sum(-1), "score", axes="batch")


WEIGHTS = np.random.default_rng(1).normal(size=(4, 6, 6)).astype(np.float32) / 2


def assert_same(a, b, tol=1e-5):
    """Equal but for the rounding of the forward pass, which may differ with a batch's size."""

    def check(p, q):
        p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
        np.testing.assert_allclose(p, q, rtol=0, atol=tol * max(1, np.abs(p).max(initial=0)))

    jax.tree.map(check, a, b)


def mesh(n):
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((n,), ("data",), devices=jax.devices()[:n], axis_types=auto)


def test_equals_the_statistics_of_stored_activations():
    found = aj.harvest(NET.apply, "layers/0/post", reduce=ALL)(PARAMS, cut(32, 32))
    _, acts = aj.capture(NET.apply, "layers/0/post")(PARAMS, X)
    assert list(found) == list(acts)
    for name, value in acts.items():
        stored = ALL.finish(ALL.update(ALL.init(value), value, Rows(ids=jnp.arange(N))))
        for part in ("moments", "top", "together", "sample"):
            assert_same(found[name][part], stored[part])
        # Rounding in the forward pass can move a value to the next bin.
        counts = np.asarray(found[name]["histogram"].counts), np.asarray(stored["histogram"].counts)
        assert counts[0].sum() == counts[1].sum()
        assert np.abs(np.cumsum(counts[0]) - np.cumsum(counts[1])).max() <= 3


ONE, FOUR = (pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))


@pytest.mark.parametrize("devices", [ONE, 2, FOUR, 8])
def test_shards_and_ragged_batches_agree(devices):
    one = aj.harvest(NET.apply, "layers/1/post", reduce=ALL)(PARAMS, cut())
    job = aj.harvest(NET.apply, "layers/1/post", reduce=ALL, mesh=mesh(devices))
    for sizes in ([32, 32], [40, 3, 40]):
        found = job(PARAMS, cut(*sizes))
        for name in one:
            for part in ("moments", "top", "together", "sample"):
                assert_same(found[name][part], one[name][part])
            n = np.asarray(found[name]["histogram"].n)
            assert n == N * 12


def test_shards_of_any_number_are_merged():
    one = aj.harvest(NET.apply, "logits", reduce=stats.top_k(3))(PARAMS, cut())["logits"]
    for devices in (3, 7):
        where = mesh(devices)
        found = aj.harvest(NET.apply, "logits", reduce=stats.top_k(3), mesh=where)(PARAMS, cut(50))
        np.testing.assert_array_equal(found["logits"].example, one.example)


def test_loops_are_axes_of_the_result_and_pairs_are_keys():
    acc = {"h": stats.moments("full"), ("x", "score"): stats.cross(), "score": stats.moments()}
    found = aj.harvest(scanned, reduce=acc)(WEIGHTS, cut(50))
    _, acts = aj.capture(scanned)(WEIGHTS, X)
    assert found["h"].mean.shape == (4, 6)
    for i in range(4):
        np.testing.assert_allclose(found["h"].covariance()[i], np.cov(acts["h"][i].T), atol=1e-5)
    assert found["score"].mean.shape == (1,)
    assert found["x", "score"].scatter.shape == (6, 1)
    both = np.cov(np.asarray(acts["x"]).T, np.asarray(acts["score"]))
    np.testing.assert_allclose(found["x", "score"].covariance()[:, 0], both[:6, 6], atol=1e-4)
    layers = aj.select("h", layers=[3, 0])
    chosen = aj.harvest(scanned, layers, reduce=stats.moments())(WEIGHTS, cut())
    np.testing.assert_allclose(chosen["h"].mean, found["h"].mean[jnp.array([3, 0])], atol=1e-6)


def test_masks_and_labels_come_from_the_batch():
    def f(params, batch):
        return NET.apply(params, batch["x"])

    batches = [{"x": x, "y": Y[i * 30 : i * 30 + 30]} for i, x in enumerate(np.split(X, 3))]
    rows = lambda b: Rows(mask=b["y"] != 1, labels=b["y"])  # noqa: E731
    for where in (None, mesh(2)):
        job = aj.harvest(f, "logits", reduce=stats.moments(labels=3), rows=rows, mesh=where)
        found = job(PARAMS, batches)["logits"]
        assert np.asarray(found.n).tolist() == [30, 0, 30]
        logits = NET.apply(PARAMS, X)
        np.testing.assert_allclose(found.mean[2], logits[Y == 2].mean(0), atol=1e-5)


def test_sites_in_branches_count_where_the_branch_ran():
    def f(threshold, x):
        one = lambda v: jax.lax.cond(  # noqa: E731
            v.sum() > threshold, lambda v: aj.tag(v * 2, "big"), lambda v: v, v
        )
        return jax.lax.map(one, x)

    with pytest.raises(aj.SiteError, match="examples on its first axis"):
        aj.harvest(f, "big", reduce=stats.moments())(jnp.float32(0), [X])

    def whole(threshold, x):
        return jax.lax.cond(x.sum() > threshold, lambda v: aj.tag(v * 2, "big"), lambda v: v, x)

    batches = cut(30, 30)
    found = aj.harvest(whole, "big", reduce=stats.moments())(jnp.float32(0), batches)["big"]
    ran = [x for x in batches if x.sum() > 0]
    assert 0 < len(ran) < 3
    assert int(found.n) == sum(len(x) for x in ran)
    np.testing.assert_allclose(found.mean, 2 * np.concatenate(ran).mean(0), atol=1e-6)


def test_a_saved_state_goes_on_to_the_same_bits(tmp_path):
    job = aj.harvest(NET.apply, "layers/*/post", reduce=ALL)
    batches = [X[i : i + 10] for i in range(0, N, 10)]
    saved = []

    def save(state):
        path = tmp_path / str(int(state.batches))
        checkpoint.save_tree(path, state)
        saved.append(path)

    whole = job(PARAMS, batches, save=save, every=4)
    assert [p.name for p in saved] == ["4", "8", "9"]
    again = aj.harvest(NET.apply, "layers/*/post", reduce=ALL)  # as a new process would
    like = again.init(PARAMS, batches[0])
    state, _ = checkpoint.load_tree(saved[0], like)
    rest = itertools.islice(batches, int(state.batches), None)
    resumed = again(PARAMS, rest, state=state)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    done, _ = checkpoint.load_tree(saved[-1], like)
    jax.tree.map(np.testing.assert_array_equal, again(PARAMS, [], state=done), whole)
    other = aj.harvest(NET.apply, "logits", reduce=stats.moments())
    with pytest.raises(ValueError, match="that of another harvest"):
        other(PARAMS, batches, state=checkpoint.load_tree(saved[0], like)[0])


def test_one_compilation_and_constant_memory(compilations):
    job = aj.harvest(NET.apply, "layers/*/post", reduce=ALL)
    job(PARAMS, np.split(X[:40], 2))
    with compilations() as seen:
        job(PARAMS, [X[:20], X[20:40], X[40:47]])
    assert not seen

    def stream(n, held):
        for i in range(n):
            held.append(sum(a.nbytes for a in jax.live_arrays()))
            yield X[:20] + np.float32(i)

    few, many = [], []
    job(PARAMS, stream(6, few))
    job(PARAMS, stream(200, many))
    # Besides the state only the batches in flight are alive, however long the stream.
    assert max(many) <= max(few) + 4 * X[:20].nbytes


def test_what_only_the_output_needs_is_not_run():
    called = []

    def f(params, x):
        h = aj.tag(x @ params, "h")
        jax.debug.callback(lambda: called.append(1))
        return h

    big = jnp.ones((6, 6))
    aj.harvest(f, "h", reduce=stats.moments())(big, [X])
    jax.effects_barrier()
    assert len(called) == 1  # effects happen once a batch, as in `f`


def test_merging_streams():
    numbered = lambda b: Rows(ids=b["i"])  # noqa: E731
    f = lambda p, b: NET.apply(p, b["x"])  # noqa: E731
    job = aj.harvest(f, "layers/1/post", reduce=ALL, rows=numbered)
    batches = [{"x": X[i : i + 30], "i": np.arange(i, i + 30)} for i in range(0, N, 30)]
    states = []
    for batch in batches:
        states.append(job.update(PARAMS, job.init(PARAMS, batch), batch))
    merged = job.merge(states[2], job.merge(states[0], states[1]))
    assert int(merged.examples) == N
    assert_same(job.finish(merged), job(PARAMS, batches))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: aj.harvest(NET.apply, reduce=max), TypeError, "expected an accumulator"),
        (lambda: aj.harvest(NET.apply, reduce={}), ValueError, "reduce is empty"),
        (lambda: _run(reduce={"layers/9/post": ALL}), aj.SiteError, "layers/0/post"),
        (lambda: _run("logits", reduce={"layer/*": ALL}), aj.SiteError, "not chosen"),
        (lambda: _run(reduce={"layers/*/post": ALL, "**": ALL}), aj.SiteError, "two keys"),
        (lambda: _run(reduce={("layers/*/post", "logits"): ALL}), aj.SiteError, "not one site"),
        (lambda: _run(batches=[]), ValueError, "no examples"),
        (lambda: _run(batches=[X[:0]]), ValueError, "no examples"),
        (lambda: _run(batches=[np.float32(3)]), ValueError, "first axis"),
        (lambda: _run(batches=[None]), ValueError, "a batch is empty"),
        (lambda: _run(rows=lambda b: b), TypeError, "expected Rows"),
        (lambda: _run(every=0), ValueError, "every is 0"),
        (lambda: aj.harvest(NET.apply, reduce=ALL, axis="data"), ValueError, "axis= names an axis"),
        (lambda: aj.harvest(NET.apply, reduce=ALL, mesh=mesh(2), axis="x"), ValueError, "axis is"),
        (
            lambda: aj.harvest(scanned, reduce={("x", "h"): stats.cross()})(WEIGHTS, [X]),
            aj.SiteError,
            "different loops",
        ),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def _run(select=None, reduce=ALL, batches=(X,), rows=None, every=10):
    return aj.harvest(NET.apply, select, reduce=reduce, rows=rows)(PARAMS, batches, every=every)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [4, 6])  # 6 channels: a mixed up axis shows, or it fits
def test_every_method_of_a_result_treats_layers_apart(layers):
    weights = np.random.default_rng(3).normal(size=(layers, 6, 6)).astype(np.float32) / 2
    labels = lambda x: Rows(labels=jnp.arange(len(x), dtype=jnp.int32) % 6)  # noqa: E731
    accumulators = {
        "full": stats.moments("full"),
        "labelled": stats.moments("full", labels=6),
        "cross": stats.cross().of(lambda x: (x, jnp.tanh(x))),
        "sketch": stats.range_sketch(jax.random.key(0), 3),
        "above": stats.exceedances((0.0, 0.1)),
        "pairs": stats.coactive(labels=6),
    }
    job = aj.harvest(scanned, "h", reduce=stats.together(**accumulators), rows=labels)
    found = job(weights, [X])["h"]
    values = aj.capture(scanned, "h")(weights, X)[1]["h"]

    def methods(r):
        return {
            "covariance": r["full"].covariance(),
            "variance": r["full"].variance(),
            "correlation": r["full"].correlation(),
            "pooled": r["labelled"].pooled().covariance(),
            "within": r["labelled"].within().scatter,
            "cross": r["cross"].covariance(),
            "cross correlation": r["cross"].correlation(),
            "missing": r["sketch"].missing,
            "rates": r["above"].rates(),
            "active": r["pairs"].rates(),
        }

    together = methods(found)
    for i in range(layers):
        acc = stats.together(**accumulators)
        one = acc.finish(acc.update(acc.init(values[i]), values[i], labels(X)))
        for name, value in methods(one).items():
            np.testing.assert_allclose(together[name][i], value, atol=1e-4, err_msg=name)
    with pytest.raises(ValueError, match="labels were not kept apart"):
        found["full"].pooled()


def test_a_state_of_another_harvest_is_refused_when_warm_too():
    batches = np.split(X[:80], 2)
    job = aj.harvest(NET.apply, "logits", reduce=stats.top_k(5))
    job(PARAMS, batches)
    other = aj.harvest(NET.apply, "logits", reduce=stats.top_k(3))
    state = other.init(PARAMS, batches[0])
    for call in (
        lambda: job(PARAMS, batches, state=state),
        lambda: job.update(PARAMS, state, batches[0]),
        lambda: job.merge(state, state),
        lambda: job.finish(state),
    ):
        with pytest.raises(ValueError, match="that of another harvest"):
            call()
    with pytest.raises(ValueError, match=r"call init\(params, batch\) first"):
        aj.harvest(NET.apply, "logits", reduce=stats.top_k(5)).finish(state)
    with pytest.raises(ValueError, match="an iterable of batches"):
        job(PARAMS, X)
    masked = lambda x: Rows(mask=np.ones(1, bool))  # noqa: E731
    with pytest.raises(ValueError, match="expected booleans with the 40 examples"):
        aj.harvest(NET.apply, "logits", reduce=ALL, rows=masked)(PARAMS, batches)


def test_explicit_meshes_and_parameters_on_one_device():
    explicit = jax.make_mesh((4,), ("x",), devices=jax.devices()[:4])  # JAX's default axis type
    committed = jax.device_put(PARAMS, jax.devices()[0])
    one = aj.harvest(NET.apply, "logits", reduce=stats.moments())(PARAMS, cut(50))["logits"]
    for where in (explicit, mesh(4)):
        job = aj.harvest(NET.apply, "logits", reduce=stats.moments(), mesh=where)
        assert_same(job(committed, cut(50))["logits"], one)


def test_sites_in_while_loops_are_refused():
    def f(p, x):
        step = lambda s: (s[0] + 1, aj.tag(s[1] / 2, "h"))  # noqa: E731
        return jax.lax.while_loop(lambda s: s[0] < 3, step, (0, x))[1]

    with pytest.raises(aj.SiteError, match="is in a while loop"):
        aj.harvest(f, aj.select("h", max_steps=5), reduce=stats.moments())(None, [X])


def test_a_name_used_twice_means_both():
    def f(w, x):
        h = aj.tag(jnp.tanh(x @ w), "h", axes="batch unit")
        return aj.tag(h @ w, "h", axes="batch unit").sum(-1)

    w = jnp.asarray(WEIGHTS[0])
    found = aj.harvest(f, reduce={"h": stats.moments()})(w, [X])
    assert list(found) == ["h#0", "h#1"]
    _, acts = aj.capture(f, "h")(w, X)
    for name, moments in found.items():
        np.testing.assert_allclose(moments.mean, acts[name].mean(0), atol=1e-6)
    assert list(aj.harvest(f, "h", reduce={"h#1": stats.moments()})(w, [X])) == ["h#1"]
