"""What a review found wrong: repeated names, branches, whiles, resets, extremes, indices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import activjax as aj
from activjax import codebooks
from activjax.codebooks import Inputs, Override, Spec, Trace, Usage, bottleneck
from activjax.codebooks._usage import reset_rows

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
W = jnp.asarray(RNG.normal(size=(4, 4)).astype(np.float32))
X = jnp.asarray(RNG.normal(size=(2, 3, 4)).astype(np.float32))
SPEC = Spec(5, 2)
CODES = RNG.normal(size=(1, 5, 4)).astype(np.float32)
BOOK = {"codes": jnp.asarray(CODES), "scale": jnp.asarray(np.array([0.5], np.float32))}


def book(*loops: int) -> dict[str, jax.Array]:
    return {
        "codes": jnp.asarray(RNG.normal(size=(*loops, 1, 5, 4)).astype(np.float32)),
        "scale": jnp.asarray(np.ones((*loops, 1), np.float32)),
    }


def ids_of(codes: np.ndarray, x: np.ndarray, k: int) -> np.ndarray:
    """The nearest codes, in float64."""
    a, c = x.astype(np.float64), codes.astype(np.float64)
    return np.argsort(-a @ (c / np.linalg.norm(c, axis=-1, keepdims=True)).T, axis=-1)[..., :k]


def twice(w, x):
    h = aj.tag(jnp.tanh(x @ w), "post")
    h = aj.tag(jnp.sin(h @ w), "post")
    return aj.tag(h + 1, "post")


@jax.jit
def by_hand(books, x):
    """`twice` with a bottleneck at each name that has a codebook."""
    traces = {}
    for i, f in enumerate((lambda h: jnp.tanh(h @ W), lambda h: jnp.sin(h @ W), lambda h: h + 1)):
        x = f(x)
        if f"post#{i}" in books:
            x, traces[f"post#{i}"] = bottleneck(books[f"post#{i}"], x, SPEC)
    return x, {name: trace.ids for name, trace in traces.items()}


def test_a_name_that_is_used_more_than_once():
    spec = {"post": SPEC}  # a bare name is all of them
    assert list(codebooks.inputs(twice, spec)(W, X)) == ["post#0", "post#1", "post#2"]
    for names in (["post#2", "post#1"],):
        books = dict.fromkeys(names, BOOK)
        out, traces = jax.jit(codebooks.run(twice, spec))(W, books, X)
        expected, ids = by_hand(books, X)
        np.testing.assert_allclose(out, expected, atol=1e-5)  # two layers, compiled otherwise
        assert set(traces) == set(names)
        for name in names:
            np.testing.assert_array_equal(traces[name].ids, ids[name])


def test_a_branch_that_did_not_run_counts_nothing():
    def f(w, x, flags):
        def layer(h, flag):
            run = lambda h: aj.tag(jnp.tanh(h @ w), "post")  # noqa: E731
            return jax.lax.cond(flag, run, lambda h: h, h), None

        return jax.lax.scan(layer, x, flags)[0]

    spec, flags = {"post": SPEC}, jnp.array([True, False])
    acts = jax.jit(codebooks.inputs(f, spec))(W, X, flags)["post"]
    np.testing.assert_array_equal(acts.on.any(-1), flags)
    books = {"post": book(2)}

    @jax.jit
    def all_of_it(books):
        _, traces = codebooks.run(f, spec)(W, books, X, flags)
        means, _ = codebooks.ema(books, codebooks.ema_init(books), traces, spec=spec)
        used = codebooks.track(codebooks.usage(books), traces)
        return traces, means, used, codebooks.revive(books, None, used, traces, KEY, spec=spec)[0]

    traces, means, used, revived = all_of_it(books)
    trace, codes = traces["post"], books["post"]["codes"]
    np.testing.assert_array_equal(trace.valid, flags)
    assert (trace.ids[1] == -1).all()
    assert (trace.ids[0] >= 0).all()
    for new in (means, revived):  # no zeros that nobody computed
        np.testing.assert_array_equal(new["post"]["codes"][1], codes[1])
    np.testing.assert_array_equal(used["post"].tokens, [6, 0])


@pytest.mark.slow
def test_a_site_in_a_while_is_of_no_loop():
    def f(w, x):
        def body(carry):
            return carry[0] + 1, aj.tag(jnp.tanh(carry[1] @ w), "post")

        def outer(h, _):
            return jax.lax.while_loop(lambda c: c[0] < 2, body, (0, h))[1], None

        return jax.lax.scan(outer, x, None, length=2)[0]

    books = {"post": book(2)}
    out, traces = jax.jit(codebooks.run(f, {"post": SPEC}))(W, books, X)

    @jax.jit
    def twice_two(x):
        found = []
        for i in range(2):
            own = {name: leaf[i] for name, leaf in books["post"].items()}
            for _ in range(2):
                x, trace = bottleneck(own, jnp.tanh(x @ W), SPEC)
            found.append(trace.ids)
        return x, jnp.stack(found)

    expected, ids = twice_two(X)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    np.testing.assert_array_equal(traces["post"].ids, ids)


def test_loops_around_those_of_a_codebook_do_not_mix_its_layers():
    # A site in 2 steps of 3 layers, whose codebook knows the layers.
    ids = jnp.asarray(RNG.integers(0, 5, (2, 3, 4, 1, 2)).astype(np.int32))
    counts = np.zeros((2, 3, 1, 5), np.int32)
    for at in np.ndindex(2, 3):
        np.add.at(counts[at][0], np.asarray(ids[at]).ravel(), 1)
    rows = jnp.asarray(RNG.normal(size=(2, 3, 4, 1, 4)).astype(np.float32))
    trace = Trace(
        ids, jnp.zeros(ids.shape), jnp.zeros((2, 3, 4, 1)), jnp.asarray(counts),
        jnp.full((2, 3), 4), Inputs(rows, jnp.full((2, 3, 4), True)), loops=2,
    )  # fmt: skip
    spec, books = {"post": Spec(5, 2, norm=None)}, {"post": {"codes": book(3)["codes"]}}
    used = codebooks.track(codebooks.usage(books), {"post": trace})["post"]
    np.testing.assert_array_equal(used.counts, counts.sum(0))
    np.testing.assert_array_equal(used.tokens, [8, 8, 8])
    _, state = codebooks.ema(
        books, codebooks.ema_init(books), {"post": trace}, spec=spec, decay=0.5
    )
    sums = np.zeros((3, 1, 5, 4))
    for step, layer, token, rank in np.ndindex(2, 3, 4, 2):
        sums[layer, 0, ids[step, layer, token, 0, rank]] += np.asarray(rows)[step, layer, token, 0]
    # Half of it, as decay=.5, and of that half, as k=2; eight terms of order one.
    np.testing.assert_allclose(state.sums["post"]["codes"], sums / 4, atol=16 * 2**-24)
    few = {"post": book(4)}
    with pytest.raises(ValueError, match=r"of loops \[2, 3\], the codebook of \[4\]"):
        codebooks.track(codebooks.usage(few), {"post": trace})


def test_a_codebook_is_for_its_own_site_and_not_for_a_longer_name():
    def f(w, x):
        h = aj.tag(jnp.tanh(x @ w), "blocks/mid")
        return aj.tag(aj.tag(h @ w, "blocks/out") @ w, "out")

    def decoded(w, x):
        with aj.scope("decode"):
            return f(w, x)

    def both(w, x):
        return f(w, x) + decoded(w, x)

    spec = {"**/out": SPEC}
    for g, books, served in (
        (f, ["out"], {"out"}),
        (f, ["blocks/out", "out"], {"blocks/out", "out"}),
        (decoded, ["out"], {"decode/out"}),
        (both, ["out"], {"out", "decode/out"}),
    ):
        run = codebooks.run(g, spec)
        traces = jax.eval_shape(run, W, dict.fromkeys(books, BOOK), X)[1]
        assert set(traces) == served


@pytest.mark.parametrize(
    "wrap",
    [
        lambda adam: codebooks.optimiser(1e-2),
        pytest.param(
            lambda adam: optax.MultiSteps(codebooks.optimiser(1e-2), 2).gradient_transformation(),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda adam: optax.masked(adam, {"s": {"codes": True, "scale": False}}),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda adam: optax.chain(optax.clip(1.0), optax.inject_hyperparams(optax.adam)(1e-2)),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_revived_rows_are_reset_in_whatever_wraps_the_optimiser(wrap):
    books = {"s": BOOK}
    state = wrap(optax.adam(1e-2)).init(books)
    state = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), state)
    used = {"s": Usage(jnp.array([[3, 0, 1, 0, 2]]), jnp.int32(6), jnp.zeros(1, jnp.int32))}
    new = revived_by(books, state, used, {"s": ACTS})[1]
    moments = [leaf for leaf in jax.tree.leaves(new) if leaf.shape == (1, 5, 4)]
    assert len(moments) >= 2
    for leaf in moments:
        np.testing.assert_array_equal((leaf == 0).all(-1), used["s"].counts == 0)
    rest = [leaf for leaf in jax.tree.leaves(new) if leaf.shape != (1, 5, 4)]
    assert all((leaf == 1).all() for leaf in rest)


ACTS = Inputs(X.reshape(6, 1, 4), jnp.full(6, True))


@jax.jit
def revived_by(books, state, used, acts):
    return codebooks.revive(books, state, used, acts, KEY, spec={"s": SPEC}, noise=0.0)


def test_a_state_without_the_codes_is_refused():
    state = {"mu": {"w": jnp.ones((4, 4))}}
    with pytest.raises(ValueError, match="no entries for the codebooks 's'"):
        reset_rows(state, {"s": jnp.ones((1, 5), bool)})
    assert reset_rows((), {"s": jnp.ones((1, 5), bool)}) == ()


def test_revival_draws_what_is_finite_and_each_but_once():
    used = {"s": Usage(jnp.array([[0, 3, 0, 0, 0]]), jnp.int32(3), jnp.zeros(1, jnp.int32))}
    rows = ACTS.rows.at[1].set(jnp.nan).at[4, 0, 2].set(jnp.inf)  # four are left for four
    new = revived_by({"s": BOOK}, None, used, {"s": Inputs(rows, ACTS.on)})[0]["s"]["codes"]
    assert jnp.isfinite(new).all()
    assert len(np.unique(np.asarray(new)[0], axis=0)) == 5
    none = Inputs(rows * jnp.nan, ACTS.on)
    same = revived_by({"s": BOOK}, None, used, {"s": none})[0]["s"]["codes"]
    np.testing.assert_array_equal(same, CODES)


@pytest.mark.slow
def test_a_nan_token_leaves_running_means_alone():
    spec = {"s": SPEC}

    @jax.jit
    def means(x):
        traces = {"s": bottleneck(BOOK, x, SPEC)[1]}
        books = {"s": BOOK}
        return codebooks.ema(books, codebooks.ema_init(books), traces, spec=spec)[0]["s"]["codes"]

    rows = X.reshape(6, 4)
    found = means(rows.at[2].set(jnp.nan))
    np.testing.assert_allclose(found, means(rows[np.array([0, 1, 3, 4, 5])]), atol=1e-6)


def test_counts_stay_at_the_largest_number():
    most = 2**31 - 1
    old = {"s": Usage(jnp.full((1, 5), most - 2), jnp.int32(most), jnp.zeros(1, jnp.int32))}
    counts = jnp.array([[0, 1, 2, 3, most]], jnp.int32)
    ids = jnp.zeros((1, 1, 2), jnp.int32)
    trace = Trace(ids, ids, ids, counts, jnp.int32(7), ACTS)
    new = codebooks.track(old, {"s": trace})["s"]
    np.testing.assert_array_equal(new.counts, [[most - 2, most - 1, most, most, most]])
    assert int(new.tokens) == most


def test_double_precision_in_training_and_steering():
    with jax.enable_x64(True):
        books = {"s": {"codes": jnp.asarray(CODES, jnp.float64), "scale": jnp.ones(1)}}
        x = jnp.asarray(np.asarray(X), jnp.float64)

        @jax.jit
        def step(books, ids):
            used = codebooks.usage(books)
            _, trace = bottleneck(books["s"], x, SPEC, override=Override(ids=ids, ban=ids))
            new = codebooks.track(used, {"s": trace})
            assert jax.tree.map(jnp.dtype, new) == jax.tree.map(jnp.dtype, used)
            return trace.ids, codebooks.revive(
                books, None, new, {"s": trace}, KEY, spec={"s": SPEC}
            )[0]

        ids, revived = step(books, jnp.array([[3, -1]], jnp.int64))
        assert (ids[..., 0] == 3).all()
        assert (ids[..., 1] != 3).all()
        assert revived["s"]["codes"].dtype == jnp.float64
        # 2**32 + 1 is no code; as an int32 it would be code 1.
        ids, _ = step(books, jnp.array([[2**32 + 1, -1]], jnp.int64))
        assert (ids[..., 0] == -1).all()


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "norm", ["rms", pytest.param("layer", marks=SLOW), pytest.param(None, marks=SLOW)]
)
def test_huge_and_tiny_activations(norm):
    spec, weights = Spec(5, 2, norm=norm), jnp.arange(4, dtype=jnp.float32)

    @jax.jit
    def made(x):
        books = codebooks.init({"s": spec}, {"s": x}, KEY)["s"]
        y, trace = bottleneck(books, x, spec)
        slope = jax.grad(lambda x: (bottleneck(books, x, spec)[0] * weights).sum())(x)
        _, put = bottleneck(books, x, spec, override=Override(ids=jnp.array([[3, 4]])))
        return y, trace.ids, trace.similarities, slope, put.similarities

    x = X.reshape(6, 4)
    plain = made(x)
    for power in (-70, 66):  # about 1e-21 and 7e19: their squares are no float32
        size = np.float32(2.0) ** power
        found = made(x * size)
        np.testing.assert_array_equal(found[1], plain[1])
        for i, by in enumerate((size, None, 1, 1, 1)):
            if by is not None:  # powers of two: the same to the last few bits
                np.testing.assert_allclose(
                    np.asarray(found[i], np.float64) / by, plain[i], rtol=1e-5, atol=1e-5
                )


@pytest.mark.slow
def test_cosines_stay_within_one():
    a = np.repeat(RNG.normal(size=(40, 1, 16)), 3, 0).astype(np.float32)
    _, trace = bottleneck(jnp.asarray(a[::3].swapaxes(0, 1)), jnp.asarray(a[:, 0]), Spec(40, 1))
    # Two norms and a product of 16 terms: (16 + 8) roundings at the most.
    assert float(jnp.abs(trace.similarities).max()) <= 1 + 24 * 2**-23


def test_an_index_of_arrays_goes_with_its_codes():
    spec, books = {"s": Spec(9, 2, 3)}, {"s": {"codes": jnp.zeros((3, 9, 4)), "scale": jnp.ones(3)}}
    over = codebooks.overrides(spec, books, tokens=(2, 5))
    codes = np.array([[1, 2], [3, 4], [5, 6]])  # as many as groups
    ids = np.asarray(over.set("s", codes, position=[0, 2, -1]).sites["s"].ids)
    for i, position in enumerate((0, 2, 4)):
        assert (ids[:, position] == codes[i]).all()
    assert (ids[:, [1, 3]] == -1).all()
    ids = np.asarray(over.fill("s", [7, 8], example=[0, 1], group=[2, -3]).sites["s"].ids)
    assert (ids[0, :, 2] == 7).all()
    assert (ids[1, :, 0] == 8).all()
    assert (ids >= 0).sum() == 2 * 5 * 2
    ids = np.asarray(over.replace_last("s", [7, 8], example=[0, 1], group=1).sites["s"].ids)
    np.testing.assert_array_equal(ids[:, 0, 1], [[-1, 7], [-1, 8]])
    off = np.asarray(over.off("s", [True, False], position=[1, 2]).sites["s"].off)
    assert off[:, 1].all()
    assert off.sum() == 2 * 3
    with pytest.raises(ValueError, match="index 9 along an axis of 5"):
        over.fill("s", 1, position=[0, 9])
    with pytest.raises(TypeError, match="indices at 's' are whole numbers"):
        over.fill("s", 1, position=np.array([True, False]))
    with pytest.raises(ValueError, match=r"values of shape \[3\] for \[2\] places"):
        over.fill("s", [1, 2, 3], position=[0, 1])


@pytest.mark.slow
def test_a_traced_index_out_of_range_is_seen():
    over = codebooks.overrides({"s": SPEC}, {"s": BOOK}, tokens=(2, 3))

    @jax.jit
    def steer(position):
        put = over.ban("s", 1, position=position).sites["s"]
        return bottleneck(BOOK, X, SPEC, override=put)

    assert jnp.isfinite(steer(2)[0]).all()
    y, trace = steer(3)
    assert jnp.isnan(y).all()
    assert (trace.ids == -1).all()  # and no code is counted
    assert int(trace.counts.sum()) == 0


def test_an_override_of_other_loops_is_refused():
    def f(w, x):
        return jax.lax.scan(lambda h, _: (aj.tag(h @ w, "post"), None), x, None, length=3)[0]

    over = {"post": Override(ids=jnp.zeros((1, 1, 2), jnp.int32))}
    run = codebooks.run(f, {"post": SPEC})
    with pytest.raises(ValueError, match=r"ids at 'post' has shape .* expected the loops \[3\]"):
        run(W, {"post": book(3)}, X, override=over)
    with pytest.raises(ValueError, match="off holds float32, expected truth values"):
        bottleneck(BOOK, X, SPEC, override=Override(off=jnp.ones(1)))
    with pytest.raises(ValueError, match="ids holds float32, expected whole numbers"):
        bottleneck(BOOK, X, SPEC, override=Override(ids=jnp.ones((1, 2))))


def test_arguments_in_other_places_are_told_by_name():
    run = codebooks.run(twice, {"post": SPEC})
    for books in (W, {"w": W}):
        with pytest.raises(TypeError, match="are params and codebooks in their places"):
            run(BOOK, books, X)


def test_codebooks_in_double_precision_are_not_rounded_when_loaded(tmp_path):
    spec, books = {"s": Spec(5, norm=None)}, {"s": {"codes": CODES.astype(np.float64)}}
    codebooks.save(tmp_path, spec, books)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'codes' of 's' is float64.*jax_enable_x64"):
        codebooks.load(tmp_path)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(codebooks.load(tmp_path)[1]["s"]["codes"], CODES)


def test_forward_mode_is_refused():
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda x: bottleneck(BOOK, x, SPEC)[0], (X,), (X,))


def test_the_index_hides_padding_from_the_network(tmp_path):
    def f(w, tokens, mask=None):
        x = jnp.take(w, tokens, axis=0)
        seen = jnp.ones(tokens.shape, bool) if mask is None else mask
        total = jnp.cumsum(jnp.where(seen[..., None], x, 0), axis=1)
        return aj.tag(total, "post", axes="batch seq d")

    table, tokens = jnp.asarray(RNG.normal(size=(6, 4)).astype(np.float32)), np.array([[5, 1, 2]])
    mask = np.array([[False, True, True]])
    spec, books = {"post": SPEC}, {"post": BOOK}
    padded = codebooks.index(f, spec, table, books, [(tokens, mask)], tmp_path / "a")
    alone = codebooks.index(f, spec, table, books, [tokens[:, 1:]], tmp_path / "b")
    for one in (padded, alone):
        assert one.codebook("post").counts.sum() == 4
    np.testing.assert_array_equal(padded.codebook("post").counts, alone.codebook("post").counts)
