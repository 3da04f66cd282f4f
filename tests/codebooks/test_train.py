"""Training: usage, revival, running means, the step, and eight devices against one."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from activjax import codebooks, models, training
from activjax.codebooks import Spec
from activjax.training import checkpoint

KEY = jax.random.key(0)
SPEC = {"layers/0/post": Spec(12, 2, 2), "layers/1/post": Spec(10)}
MLP = models.mlp([6, 8, 8, 3])
X = jax.random.normal(jax.random.key(1), (64, 6))
Y = jax.random.randint(jax.random.key(2), (64,), 0, 3)


revive = jax.jit(partial(codebooks.revive, spec=SPEC))
track = jax.jit(codebooks.track)
run = jax.jit(codebooks.run(MLP.apply, SPEC))


@pytest.fixture(scope="module")
def start():
    params = jax.jit(MLP.init)(KEY)
    acts = jax.jit(codebooks.inputs(MLP.apply, SPEC))(params, X)
    return params, codebooks.init(SPEC, acts, KEY), acts


def test_init_takes_activations_once_each():
    acts = {"a": jax.random.normal(KEY, (40, 4))}
    spec = {"a": Spec(30, norm="layer")}
    book = codebooks.init(spec, acts, KEY)["a"]
    a = np.asarray(acts["a"], np.float64)
    a = a - a.mean(-1, keepdims=True)
    scale = np.sqrt((a**2).mean())
    np.testing.assert_allclose(book["scale"], [scale], rtol=1e-5)
    a = a / np.sqrt((a**2).mean(-1, keepdims=True) + 1e-6 * scale**2)
    near = np.abs(np.asarray(book["codes"])[0][:, None] - a).max(-1)
    assert (near.min(1) < 1e-5).all()  # each code is an activation,
    assert len(set(near.argmin(1))) == 30  # and no two are the same
    # Summed codes begin at the scale of the data; few activations are taken again.
    summed = codebooks.init({"a": Spec(50, 5)}, acts, KEY)["a"]["codes"]
    rms = np.sqrt(np.mean(np.square(np.asarray(summed)) * 25))
    np.testing.assert_allclose(rms, 1, rtol=1e-3)
    assert len(np.unique(np.asarray(summed)[0], axis=0)) == 40


def test_init_by_clusters_and_by_a_normal_distribution():
    centres = jax.random.normal(KEY, (5, 4)) * 3
    rows = jnp.repeat(centres, 20, axis=0)
    noisy = rows + 0.01 * jax.random.normal(jax.random.key(1), rows.shape)
    book = codebooks.init({"a": Spec(5, norm=None)}, {"a": noisy}, KEY, "kmeans")["a"]
    distance = jnp.linalg.norm(book["codes"][0][:, None] - centres, axis=-1)
    assert sorted(distance.argmin(1).tolist()) == [0, 1, 2, 3, 4]
    assert float(distance.min(1).max()) < 0.01  # 20 draws of .01 in 4 dimensions: .0045 and less
    book = codebooks.init({"a": Spec(500, norm=None)}, {"a": noisy}, KEY, "normal")["a"]
    rms = jnp.sqrt(jnp.mean(noisy**2))
    # 2,000 normal draws: their mean square is within 4 * sqrt(2 / 2000) = 13 %.
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(book["codes"] ** 2)), rms, rtol=0.07)
    with pytest.raises(ValueError, match="'sample', 'kmeans' or 'normal'"):
        codebooks.init({"a": Spec(5)}, {"a": noisy}, KEY, "means")  # type: ignore[arg-type]


def test_usage_and_revival(start):
    params, books, acts = start
    _, traces = run(params, books, X)
    used = track(track(codebooks.usage(books), traces), traces)
    for site, trace in traces.items():
        np.testing.assert_array_equal(used[site].counts, 2 * trace.counts)
        assert int(used[site].tokens) == 128
        assert (used[site].perplexity <= SPEC[site].codes + 1e-3).all()
    adam = optax.adam(1e-2)
    state = adam.init(books)
    ones = jax.tree.map(jnp.ones_like, state[0].mu)
    state = (state[0]._replace(mu=ones, nu=ones), *state[1:])
    new, reset, counts = revive(books, state, used, traces, KEY)
    for site in SPEC:
        dead = np.asarray(used[site].counts == 0)
        changed = np.asarray((new[site]["codes"] != books[site]["codes"]).any(-1))
        np.testing.assert_array_equal(changed, dead)
        for moments in (reset[0].mu, reset[0].nu):
            np.testing.assert_array_equal((moments[site]["codes"] == 0).all(-1), dead)
            assert (moments[site]["scale"] == 1).all()
        np.testing.assert_array_equal(counts[site].revived, dead.sum(-1))
        assert int(counts[site].counts.sum()) == 0
    assert any((used[site].dead > 0).any() for site in SPEC)
    # What is dead is now near an activation, as the codes see it.
    site = "layers/1/post"
    a = codebooks.bottleneck(new[site], acts[site].rows.reshape(64, 8), SPEC[site])[1]
    if int(used[site].dead[0]):
        assert (a.counts[0][np.asarray(used[site].counts[0] == 0)] > 0).any()
    # Nothing dead, or nothing to draw: the same to the bit.
    full = {s: codebooks.Usage(u.counts + 1, u.tokens, u.revived) for s, u in used.items()}
    same, _, _ = revive(books, state, full, traces, KEY)
    chex.assert_trees_all_equal(same, books)
    nothing = {s: codebooks.Inputs(a.rows * jnp.nan, a.on & False) for s, a in acts.items()}
    same, _, _ = revive(books, None, used, nothing, KEY)
    chex.assert_trees_all_equal(same, books)


@pytest.mark.parametrize("means", [False, True])
def test_a_revived_code_survives_the_next_step(start, means):
    params, books, _ = start
    _, traces = run(params, books, X)
    used = track(codebooks.usage(books), traces)
    adam = optax.adam(1e-2)

    @jax.jit
    def stepped(books, state):
        if means:
            return codebooks.ema(books, state, run(params, books, X)[1], spec=SPEC)
        with jax.numpy_dtype_promotion("standard"):
            grads = jax.grad(lambda b: codebooks.loss(run(params, b, X)[1]))(books)
            updates, state = adam.update(grads, state, books)
        return optax.apply_updates(books, updates), state

    state = codebooks.ema_init(books) if means else adam.init(books)
    for _ in range(20):  # momentum, and means, that would carry dead codes away
        books, state = stepped(books, state)
    books, state, _ = revive(books, state, used, traces, KEY)
    after, _ = stepped(books, state)
    if means:  # its means begin anew: what chose it in this step, and nothing of before
        anew, seen = stepped(books, codebooks.ema_init(books))
    chosen = 0
    for site in SPEC:
        dead = np.asarray(used[site].counts == 0)
        now, then = np.asarray(after[site]["codes"]), np.asarray(books[site]["codes"])
        if means:
            # both are (1 - decay) times a sum of the same terms, divided by (1 - decay) times n
            alone = np.asarray(anew[site]["codes"])
            np.testing.assert_allclose(now[dead], alone[dead], rtol=1e-6, atol=1e-7)
            assert np.abs(now - alone)[~dead].max() > 1e-3, "the others have a past"
            chosen += int((np.asarray(seen.sizes[site]["codes"])[dead] > 0).sum())
        else:  # Adam's first step is its rate in each coordinate, its bias correction 20 steps on
            far = np.linalg.norm(now - then, axis=-1)[dead]
            assert (far <= 1e-2 * np.sqrt(then.shape[-1]) * 4).all()
    assert chosen or not means, "none was chosen: the test says nothing"


def test_running_means():
    spec = {"a": Spec(4, norm=None)}
    x = jnp.array([[1.0, 0.1], [3.0, 0.0], [0.0, 2.0], [0.0, -5.0]])
    books = {"a": {"codes": jnp.array([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]])}}
    mean = jax.jit(partial(codebooks.ema, spec=spec, decay=0.9))

    @jax.jit
    def chosen(books, x, mask):
        return {"a": codebooks.bottleneck(books["a"], x, spec["a"], mask=mask)[1]}

    traces = chosen(books, x, jnp.array([True, True, True, False]))
    new, state = mean(books, codebooks.ema_init(books), traces)
    # From nothing, the first means are those of the batch; what nothing chose stays; padding: no.
    np.testing.assert_allclose(
        new["a"]["codes"][0], [[2, 0.05], [0, 2], [-1, 0], [0, -1]], rtol=1e-6
    )
    np.testing.assert_allclose(state.sizes["a"]["codes"][0], [0.2, 0.1, 0, 0], rtol=1e-6)
    traces = chosen(new, x * 2, jnp.array([True, False, False, False]))
    newer, _ = mean(new, state, traces)
    # m = .9 * (.4, .01) + .1 * (2, .2), n = .9 * .2 + .1
    np.testing.assert_allclose(newer["a"]["codes"][0, 0], [0.56 / 0.28, 0.029 / 0.28], rtol=1e-5)
    with pytest.raises(ValueError, match="decay must lie"):
        codebooks.ema(books, state, traces, spec=spec, decay=1.0)


def trainer(means: bool, every: int | None = 3):
    adam = None if means else codebooks.optimiser(1e-2)
    opt = optax.sgd(1e-2)
    step = partial(
        codebooks.train_step, training.classification(MLP), SPEC, opt, adam, revive_every=every
    )
    return opt, adam, jax.jit(step)


@pytest.mark.parametrize("means", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_eight_devices_equal_one_and_a_checkpoint_goes_on(start, means, tmp_path):
    params, books, _ = start
    opt, adam, step = trainer(means)
    first = codebooks.init_state(params, books, opt, adam, KEY)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    whole = jax.device_put(first, NamedSharding(mesh, PartitionSpec()))
    batch = jax.device_put((X, Y), rows)
    one, many = first, whole
    for i in range(7):
        one, metrics = step(one, (X, Y))
        if i == 3:
            checkpoint.save_tree(tmp_path / "state", one)
    assert step._cache_size() == 1
    for _ in range(7):
        many, sharded = step(many, batch)
    chex.assert_trees_all_equal(*(jax.tree.map(lambda u: u.counts, s.usage,
        is_leaf=lambda u: isinstance(u, codebooks.Usage)) for s in (one, many)))  # fmt: skip
    # Sums over tokens in another order, seven steps: a few roundings of values of order one.
    chex.assert_trees_all_close(one.codebooks, many.codebooks, atol=2e-4)
    chex.assert_trees_all_close(one.code_state, many.code_state, atol=2e-4)
    np.testing.assert_allclose(metrics["loss"], sharded["loss"], atol=1e-5)
    assert float(metrics["revived"]) > 0
    again, _ = checkpoint.load_tree(tmp_path / "state", one)
    for _ in range(3):
        again, _ = step(again, (X, Y))
    keys = (again.key, one.key)
    chex.assert_trees_all_equal(*(jax.random.key_data(k) for k in keys))
    chex.assert_trees_all_equal(again._replace(key=0), one._replace(key=0))


def test_training_brings_the_loss_down_and_keeps_the_scales(start):
    params, books, _ = start
    opt, adam, step = trainer(False, None)
    state = codebooks.init_state(params, books, opt, adam, KEY)
    state, before = step(state, (X, Y))
    for _ in range(60):
        state, after = step(state, (X, Y))
    assert float(after["codebook_loss"]) < 0.7 * float(before["codebook_loss"])
    for site in SPEC:
        np.testing.assert_array_equal(state.codebooks[site]["scale"], books[site]["scale"])
    assert float(after["revived"]) == 0
    with pytest.raises(ValueError, match="revive_every"):
        codebooks.train_step(training.classification(MLP), SPEC, opt, adam, state, (X, Y),
                             revive_every=0)  # fmt: skip


def test_a_frozen_network(start):
    params, books, _ = start
    adam = codebooks.optimiser(1e-2)
    loss = training.classification(MLP)
    step = jax.jit(partial(codebooks.train_step, loss, SPEC, None, adam))
    state = codebooks.init_state(params, books, None, adam, KEY)
    state, _ = step(state, (X, Y))
    chex.assert_trees_all_equal(state.params, params)
    assert (state.codebooks["layers/1/post"]["codes"] != books["layers/1/post"]["codes"]).any()


def test_save_and_load(start, tmp_path):
    _, books, _ = start
    folder = codebooks.save(tmp_path / "codes", SPEC, books)
    spec, again = codebooks.load(folder)
    assert spec == SPEC
    chex.assert_trees_all_equal(again, books)
    with pytest.raises(FileNotFoundError, match="no codebooks in"):
        codebooks.load(tmp_path)
    (folder / "codebooks.json").write_text("{}")
    with pytest.raises(ValueError, match="not as codebooks.save writes it"):
        codebooks.load(folder)
    (folder / "codebooks.json").write_text('{"format": 9}')
    with pytest.raises(ValueError, match="format 9"):
        codebooks.load(folder)
    with pytest.raises(ValueError, match="codes have shape"):
        codebooks.save(tmp_path / "other", {"layers/*/post": Spec(99)}, books)
