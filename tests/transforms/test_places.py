"""Positions that a function names itself: `positions`, words, and one for each example."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj

W = jnp.linspace(-1.0, 1.0, 9).reshape(3, 3)
X = jnp.arange(30.0).reshape(2, 5, 3) / 10
PLACES = jnp.array([[-1, -1, 0, 1, 2], [10, 11, 12, 13, 14]])


def network(x, places=PLACES, name="positions"):
    places = aj.tag(places, name, axes="batch seq")
    first = aj.tag(jnp.maximum(places.min(axis=1), 0), "first", axes="batch")

    def layer(h, w):
        h = aj.tag(jnp.tanh(h @ w), "h", axes="batch seq d")
        turned = aj.tag(jnp.moveaxis(h, 1, 2), "turned", axes="batch d seq")
        used = (places + first[:, None]).astype(jnp.float32)[..., None]
        return h + jnp.moveaxis(turned, 2, 1) + 0.0 * used, None

    out, _ = aj.scan(layer, x, jnp.stack([W, W.T]), name="layers")
    return aj.tag(out, "out", axes="batch seq d")


RAW = jax.jit(aj.capture(network, out=False))(X)


def read(select, f=network, *args):
    return jax.jit(aj.capture(f, select, out=False))(*(args or (X,)))[select.site]


@pytest.mark.parametrize(
    ("at", "rows", "there"),
    [
        (2, [4, 0], [1, 0]),
        (11, [0, 1], [0, 1]),
        (jnp.int32(12), [0, 2], [0, 1]),
        ("first", [2, 0], [1, 1]),
        (aj.per_example([1, 14]), [3, 4], [1, 1]),
        (aj.per_example([-1, 14]), [4, 4], [1, 1]),
        (aj.per_example(jnp.array([7, 10])), [0, 0], [0, 1]),
        (-2, [3, 3], [1, 1]),
        ("last", [4, 4], [1, 1]),
    ],
)
@pytest.mark.parametrize(("site", "axis"), [("h", 2), ("turned", 3), ("out", 1)])
def test_an_index_is_a_position(at, rows, there, site, axis):
    got = read(aj.select(site, at=at))
    moved = jnp.moveaxis(RAW[site], axis, -2 if site != "turned" else -1)
    batch = 0 if site == "out" else 1
    for i in range(2):
        have = jnp.take(got, i, axis=batch)
        want = jnp.take(jnp.take(moved, i, axis=batch), rows[i], axis=axis - 1)
        if there[i]:
            chex.assert_trees_all_close(have, want, atol=1e-6)
        else:
            assert jnp.isnan(have).all()


@pytest.mark.parametrize("at", [[11, 2], jnp.array([11, 2])])
def test_several_positions_keep_their_axis(at):
    got = read(aj.select("h", layers=1, at=at))
    assert got.shape == (2, 2, 3)
    chex.assert_trees_all_close(got[0, 1], RAW["h"][1, 0, 4], atol=1e-6)
    chex.assert_trees_all_close(got[1, 0], RAW["h"][1, 1, 1], atol=1e-6)
    assert jnp.isnan(got[0, 0]).all()
    assert jnp.isnan(got[1, 1]).all()


@pytest.mark.parametrize(
    ("at", "hit"),
    [
        (2, [(0, 4)]),
        ([2, 11], [(0, 4), (1, 1)]),
        (99, []),
        ("first", [(0, 2), (1, 0)]),
        (aj.per_example([0, 13]), [(0, 2), (1, 3)]),
        ({"seq": jnp.array([12, 12])}, [(1, 2)]),
    ],
)
def test_an_edit_touches_the_chosen_tokens_only(at, hit):
    edited = aj.intervene(network, [(aj.select("out", at=at), aj.edits.replace(7.0))])
    want = np.asarray(network(X)).copy()
    for i, j in hit:
        want[i, j] = 7
    chex.assert_trees_all_close(jax.jit(edited)(X), want, atol=1e-6)


def test_a_place_and_an_index_together():
    select = aj.select("h", at={"seq": 11, "d": [0, 2]})
    got = read(select)
    assert got.shape == (2, 2, 2)
    chex.assert_trees_all_close(got[:, 1], RAW["h"][:, 1, 1][:, jnp.array([0, 2])], atol=1e-6)
    select = aj.select("turned", layers=1, at={"d": 1, "seq": 11})
    chex.assert_trees_all_close(read(select)[1], RAW["turned"][1, 1, 1, 1], atol=1e-6)
    edit = (aj.select("out", at={"seq": 11, "d": [0, 2]}), aj.edits.scale(0.0))
    want = np.asarray(network(X)).copy()
    want[1, 1, [0, 2]] = 0
    chex.assert_trees_all_close(aj.intervene(network, [edit])(X), want, atol=1e-6)
    edit = (aj.select("out", at={"seq": aj.per_example([2, 14]), "d": 1}), aj.edits.replace(3.0))
    want = np.asarray(network(X)).copy()
    want[0, 4, 1] = want[1, 4, 1] = 3
    chex.assert_trees_all_close(aj.intervene(network, [edit])(X), want, atol=1e-6)


def test_gradients_are_those_of_the_tokens_chosen():
    def loss(x):
        return jnp.sum(network(x) ** 2)

    whole = jax.jit(aj.act_grads(loss, "out"))(X)[2]["out"]
    one = jax.jit(aj.act_grads(loss, aj.select("out", at=aj.per_example([1, 12]))))(X)[2]["out"]
    chex.assert_trees_all_close(one, jnp.stack([whole[0, 3], whole[1, 2]]), atol=1e-6)
    again = aj.act_grads(loss, aj.select("out", at=jnp.array([11, 11])))(X)[2]["out"]
    chex.assert_trees_all_close(again[1], jnp.stack([whole[1, 1]] * 2), atol=1e-6)

    def strength(a, at):
        edit = [(aj.select("h", at=at), aj.edits.add(a * jnp.ones(3)))]
        return jnp.sum(aj.intervene(network, edit)(X) ** 2)

    slope = jax.jit(jax.grad(strength))(0.5, 11)
    h = 1e-2
    central = (strength(0.5 + h, 11) - strength(0.5 - h, 11)) / (2 * h)
    assert abs(slope - central) < 1e-2 * abs(slope)


def test_positions_sweep_without_compiling_again():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(at):
        return aj.intervene(network, [(aj.select("out", at=at), aj.edits.replace(7.0))])(X)

    plain = network(X)
    for at, hit in ((2, (0, 4)), (11, (1, 1)), (14, (1, 4))):
        changed = np.argwhere((run(jnp.int32(at)) != plain).any(-1))
        assert changed.tolist() == [list(hit)]
    swept = jax.vmap(run)(jnp.array([2, 11]))
    assert (swept[1, 1, 1] == 7).all()


def test_mapped_functions_use_positions_of_their_example():
    xs, places = jnp.stack([X, 2 * X]), jnp.stack([PLACES, PLACES + 1])
    select = aj.select("h", layers=1, at=12)
    alone = jnp.stack([read(select, network, x, p) for x, p in zip(xs, places)])
    outside = jax.vmap(lambda x, p: aj.capture(network, select, out=False)(x, p)["h"])
    chex.assert_trees_all_close(outside(xs, places), alone, atol=1e-6)
    named = jax.vmap(network, axis_name="many")
    chex.assert_trees_all_close(read(select, named, xs, places), alone, atol=1e-6)
    shared = jax.vmap(network, in_axes=(0, None))
    got = read(select, shared, xs, PLACES)
    chex.assert_trees_all_close(got[0], alone[0], atol=1e-6)
    with pytest.raises(aj.SiteError, match="position is found through site 'positions'; both are"):
        read(select, jax.vmap(network), xs, places)


def test_the_nearest_scope_and_the_last_one_before_count():
    def twice(x):
        with aj.scope("a"):
            one = network(x)
        with aj.scope("b"):
            return one + network(x, PLACES + 10)

    got = read(aj.select("a/out", at=12), twice)
    chex.assert_trees_all_close(got[1], RAW["out"][1, 2], atol=1e-6)
    got = read(aj.select("b/out", at=12), twice)
    chex.assert_trees_all_close(got[0], RAW["out"][0, 4], atol=1e-6)

    def again(x):
        return network(network(x), PLACES + 10)

    acts = aj.capture(again, out=False)(X)
    got = jax.jit(aj.capture(again, aj.select("out", at=12), out=False))(X)
    chex.assert_trees_all_close(got["out#0"][1], acts["out#0"][1, 2], atol=1e-6)
    chex.assert_trees_all_close(got["out#1"][0], acts["out#1"][0, 4], atol=1e-6)


def test_under_remat_and_grad_positions_are_still_found():
    def loss(x):
        return jnp.sum(jax.checkpoint(network)(x) ** 2)

    select = aj.select("out", at=11)
    want = RAW["out"][1, 1]
    chex.assert_trees_all_close(read(select, loss)[1], want, atol=1e-6)
    chex.assert_trees_all_close(read(select, jax.value_and_grad(loss))[1], want, atol=1e-6)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("frist", r"'frist' is no site of integers before it; .* sites \['positions', 'first'\]"),
        ("positions", "runs along this axis itself"),
        (aj.per_example([1, 2, 3]), "has 3 positions for 2 entries of axis 'batch'"),
        (aj.per_example([1, 2], axis="row"), r"per_example\(axis='row'\), but its axes are"),
        ([3, 3], "an index is repeated"),
        ([1.5], "expected an int, a list of ints or an array"),
        (-9, "index -9 is out of range for length 5"),
        ([2, -9], "index -9 is out of range for length 5"),
    ],
)
def test_what_is_no_position_is_said(at, message):
    with pytest.raises(aj.SiteError, match=message):
        jax.eval_shape(aj.capture(network, aj.select("h", at=at)), X)


def test_positions_per_example_need_integers_and_an_axis():
    with pytest.raises(TypeError, match=r"per_example: expected integers of shape \[batch\]"):
        aj.per_example([0.5])
    plain = aj.select("positions", at=aj.per_example([0, 4]))  # no positions before: plain indices
    assert read(plain).tolist() == [-1, 14]
    assert aj.parse_selector({"site": "h", "at": {"seq": "first"}}).at["seq"].name == "first"


def test_other_axes_of_the_positions_are_indexed_as_ever():
    got = read(aj.select("h", at={"batch": 1}))
    chex.assert_trees_all_close(got, RAW["h"][:, 1], atol=1e-6)
    got = read(aj.select("h", at={"batch": 1, "seq": 12}))
    chex.assert_trees_all_close(got, RAW["h"][:, 1, 2], atol=1e-6)
    edit = (aj.select("out", at={"batch": [0], "seq": 2}), aj.edits.replace(7.0))
    want = np.asarray(network(X)).copy()
    want[0, 4] = 7
    chex.assert_trees_all_close(aj.intervene(network, [edit])(X), want, atol=1e-6)


def tagged(x, places, name="positions", axes="batch seq"):
    places = aj.tag(places, name, axes=axes)
    return aj.tag(x + 0.0 * places.sum().astype(x.dtype), "h", axes="batch seq d")


@pytest.mark.parametrize("shape", [(2, 1), (2, 4), (1, 5), (3, 5)])
def test_positions_of_another_size_are_refused(shape):
    f = lambda x: tagged(x, jnp.zeros(shape, jnp.int32))  # noqa: E731
    with pytest.raises(aj.SiteError, match=r"site 'positions', which has . entries along"):
        read(aj.select("h", at=0), f)


def test_positions_that_cannot_be_reached_are_not_passed_over():
    def inside(x):
        places = jax.jit(lambda: aj.tag(PLACES, "positions", axes="batch seq"))()
        return aj.tag(x + 0.0 * places.sum().astype(x.dtype), "h", axes="batch seq d")

    with pytest.raises(aj.SiteError, match="'positions', which cannot be had here: it is inside a"):
        read(aj.select("h", at=0), inside)
    # of no concern where they come later, or have another meaning
    chex.assert_trees_all_close(
        read(aj.select("a/h", at=0), lambda x: _scoped(x)), X[:, 0], atol=1e-6
    )
    floats = lambda x: tagged(x, jnp.zeros((2, 5)))  # noqa: E731
    chex.assert_trees_all_close(read(aj.select("h", at=0), floats), X[:, 0], atol=1e-6)


def _scoped(x):
    with aj.scope("a"):
        x = aj.tag(x, "h", axes="batch seq d")
    return tagged(x, PLACES)


def test_of_repeated_positions_the_first_is_meant():
    places = jnp.array([[0, 1, 0, 1, 2], [0, 1, 2, 3, 4]])
    f = lambda x: tagged(x, places)  # noqa: E731
    chex.assert_trees_all_close(read(aj.select("h", at=1), f), X[:, 1], atol=1e-6)
    out = aj.intervene(f, [(aj.select("h", at=1), aj.edits.add(100.0))])(X)
    chex.assert_trees_all_close(out, X.at[:, 1].add(100.0), atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint32])
def test_positions_may_be_any_integers(dtype):
    f = lambda x: tagged(x, jnp.arange(10, dtype=dtype).reshape(2, 5))  # noqa: E731
    chex.assert_trees_all_close(read(aj.select("h", at=7), f)[1], X[1, 2], atol=1e-6)


def test_a_word_is_no_position_along_another_axis():
    def f(x):
        places = aj.tag(PLACES, "positions", axes="batch seq")
        first = aj.tag(places[:, 0], "first", axes="batch")
        used = 0.0 * (places.sum() + first.sum()).astype(x.dtype)
        return aj.tag(x @ x.mT + used, "scores", axes="batch seq key")

    with pytest.raises(aj.SiteError, match="nothing tells where the entries of 'key' stand"):
        read(aj.select("scores", at={"key": "first"}), f)
    assert read(aj.select("scores", at={"seq": "first", "key": 1}), f).shape == (2,)
