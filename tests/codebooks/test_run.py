"""Bottlenecks spliced into functions: any model, scans, mapped axes, generation."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import activjax as aj
from activjax import codebooks, models
from activjax.codebooks import Spec, bottleneck

KEY = jax.random.key(0)
WS = jax.random.normal(jax.random.key(2), (3, 6, 6)) / 2


def scanned(ws: jax.Array, x: jax.Array) -> jax.Array:
    """Three layers in a scan, `[batch, seq, 6]`."""

    def layer(h: jax.Array, w: jax.Array):
        return aj.tag(jnp.tanh(h @ w), "post", axes="batch seq d"), None

    return aj.tag(aj.scan(layer, x, ws, name="layers")[0], "out")


X = jax.random.normal(jax.random.key(3), (2, 5, 6))
SPEC = {"post": Spec(7, 2, 2, axis=-1)}


@pytest.fixture(scope="module")
def books():
    return codebooks.init(SPEC, codebooks.inputs(scanned, SPEC)(WS, X), KEY)


def test_a_scan_equals_layers_by_hand(books):
    out, traces = jax.jit(codebooks.run(scanned, SPEC))(WS, books, X)
    h, found = X, []
    for i in range(3):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], books["post"])
        h, trace = bottleneck(own, jnp.tanh(h @ WS[i]), SPEC["post"])
        found.append(trace)
    # The same arithmetic, compiled otherwise: a few roundings in a chain of three layers.
    np.testing.assert_allclose(out, h, atol=1e-6)
    trace = traces["post"]
    assert trace.loops == 1
    np.testing.assert_array_equal(trace.ids, jnp.stack([t.ids for t in found]))
    np.testing.assert_array_equal(trace.counts, jnp.stack([t.counts for t in found]))
    assert trace.inputs.rows.shape == (3, 10, 2, 3)
    errors = np.stack([np.asarray(t.mse) for t in found])
    np.testing.assert_allclose(codebooks.loss(traces, 2.0), 2 * errors.sum() / 10, rtol=1e-5)


def test_gradients_through_a_scan(books):
    def loss(books, ws):
        out, traces = codebooks.run(scanned, SPEC)(ws, books, X)
        return jnp.sum(out**2) + codebooks.loss(traces)

    def by_hand(books, ws):
        h, total = X, 0.0
        for i in range(3):
            own = jax.tree.map(lambda leaf, i=i: leaf[i], books["post"])
            h, trace = bottleneck(own, jnp.tanh(h @ ws[i]), SPEC["post"])
            total = total + codebooks.loss({"post": trace})
        return jnp.sum(h**2) + total

    found, expected = (jax.jit(jax.grad(f, (0, 1)))(books, WS) for f in (loss, by_hand))
    chex.assert_trees_all_close(found, expected, atol=1e-4)


def test_vmap_over_models_and_over_examples(books):
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), (WS, books))
    run = codebooks.run(scanned, SPEC)
    out, traces = jax.jit(jax.vmap(run, (0, 0, None)))(*many, X)
    run = jax.jit(run)
    for i in range(2):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], many)
        expected, trace = run(*one, X)
        np.testing.assert_allclose(out[i], expected, atol=1e-6)
        np.testing.assert_array_equal(traces["post"].ids[i], trace["post"].ids)
    # Mapped inside the function: loops first, then the mapped axis, then the value's own.
    mapped = jax.vmap(lambda ws, x: scanned(ws, x[None])[0], (None, 0))
    inside, traces = jax.jit(codebooks.run(mapped, SPEC))(WS, books, X)
    expected, same = run(WS, books, X)
    np.testing.assert_allclose(inside, expected, atol=1e-6)
    assert traces["post"].ids.shape == (3, 2, 1, 5, 2, 2)
    np.testing.assert_array_equal(traces["post"].ids[:, :, 0], same["post"].ids)
    np.testing.assert_allclose(codebooks.loss(traces), codebooks.loss(same), rtol=1e-5)
    acts = codebooks.inputs(mapped, SPEC)(WS, X)["post"]
    np.testing.assert_array_equal(acts.rows, codebooks.inputs(scanned, SPEC)(WS, X)["post"].rows)


def test_an_mlp_a_convolution_and_a_recurrence():
    mlp = models.mlp([6, 8, 4])
    conv = linen.Conv(4, (3,), use_bias=False)
    kernel = conv.init(KEY, jnp.zeros((1, 9, 6)))

    def cnn(params, x):
        return aj.tag(conv.apply(params, x), "map", axes="batch place channel").sum(1)

    def recurrent(w, x):
        def step(h, x):
            h = aj.tag(jnp.tanh(x + h @ w), "state", axes="batch d")
            return h, h

        return jax.lax.scan(step, jnp.zeros_like(x[0]), x)[1]

    cases = [
        (mlp.apply, mlp.init(KEY), jax.random.normal(KEY, (5, 6)), "layers/*/post", (5,), ()),
        (cnn, kernel, jax.random.normal(KEY, (2, 9, 6)), "map", (2, 9), ()),
        (recurrent, WS[0], jax.random.normal(KEY, (4, 3, 6)), "state", (3,), (4,)),
    ]
    for f, params, x, site, lead, loops in cases:
        spec = {site: Spec(5, 2)}
        books = codebooks.init(spec, jax.jit(codebooks.inputs(f, spec))(params, x), KEY)
        out, traces = jax.jit(codebooks.run(f, spec))(params, books, x)
        assert out.shape == f(params, x).shape
        for trace in traces.values():
            assert trace.ids.shape == (*loops, *lead, 1, 2)
        run = codebooks.run(f, spec)
        grads = jax.jit(jax.grad(lambda b, p, x, run=run: run(p, b, x)[0].sum()))(books, params, x)
        assert any((leaf != 0).any() for leaf in jax.tree.leaves(grads))


def test_one_compilation_for_new_codes_and_overrides(books):
    run = codebooks.run(scanned, SPEC)
    over = codebooks.overrides(SPEC, books, tokens=(1, 1))

    @jax.jit
    @chex.assert_max_traces(n=1)
    def f(books, over, x):
        return run(WS, books, x, override=over)[0]

    f(books, over, X)
    f(jax.tree.map(lambda leaf: leaf * 2, books), over.fill("post", 3), X + 1)
    f(books, over.ban("post", 2).off("post", layer=1).replace_last("post", 4, group=1), X)


def test_the_decoder_with_and_without_a_cache():
    model = models.decoder(vocab=11, context=24, layers=2, width=16, heads=2, positions="rotary")
    params = jax.jit(model.init)(KEY)
    tokens = jax.random.randint(jax.random.key(1), (3, 6), 0, 11)
    spec = {"blocks/mlp/out": Spec(9, 2), "blocks/attn/heads": Spec(8, 1, groups=2, axis=-2)}
    acts = jax.jit(codebooks.inputs(model.apply, spec))(params, tokens)
    books = codebooks.init(spec, acts, KEY)
    over = codebooks.overrides(spec, books, tokens=(3, 24))
    over = over.fill("blocks/mlp/out", 4, layer=1, position=8, example=1)
    over = over.set("blocks/attn/heads", [3], layer=0, position=2, group=1)
    over = over.off("blocks/attn/heads", layer=1, position=7)
    generate = codebooks.run(functools.partial(models.generate, model, steps=5), spec)
    out, traces = jax.jit(generate)(params, books, tokens, override=over)
    # The same tokens at once, without a cache: the same codes, and so the same next tokens.
    whole = jnp.concatenate([tokens, out.tokens], axis=1)
    logits, full = jax.jit(codebooks.run(model.apply, spec))(params, books, whole, override=over)
    np.testing.assert_array_equal(jnp.argmax(logits[:, 5:-1], -1), out.tokens)
    for site in spec:
        before, after = (traces[f"{part}/{site}"].ids for part in ("prefill", "decode"))
        np.testing.assert_array_equal(before, full[site].ids[:, :, :6])
        later = jnp.moveaxis(after[:, :, :, 0], 0, 2)
        np.testing.assert_array_equal(later, full[site].ids[:, :, 6:10])
    ids = full["blocks/mlp/out"].ids
    assert (ids[1, 1, 8] == 4).all()
    assert (full["blocks/attn/heads"].ids[0, :, 2, 1] == 3).all()
    assert (full["blocks/attn/heads"].ids[1, :, 7] == -1).all()
    assert (full["blocks/attn/heads"].ids[0, :, 7] >= 0).all()


def test_the_own_ids_are_no_override_and_off_restores_the_network(books):
    run = codebooks.run(scanned, SPEC)

    @jax.jit
    def f(over):
        return run(WS, books, X, override=over)

    none = {"post": codebooks.Override(
        jnp.full((3, 2, 5, 2, 2), -1), jnp.full((3, 1, 1, 2, 1), -1), jnp.zeros((3, 1, 1, 2), bool)
    )}  # fmt: skip
    plain, traces = f(none)
    own = codebooks.Override(traces["post"].ids, none["post"].ban, none["post"].off)
    again, same = f({"post": own})
    chex.assert_trees_all_equal((again, same), (plain, traces))
    off = codebooks.Override(none["post"].ids, none["post"].ban, ~none["post"].off)
    restored, traces = f({"post": off})
    np.testing.assert_array_equal(restored, jax.jit(scanned)(WS, X))
    assert (traces["post"].ids == -1).all()
    assert (traces["post"].tokens == 0).all()


def test_traces_that_nobody_uses_cost_nothing(books):
    run = codebooks.run(scanned, SPEC)
    text = jax.jit(lambda b: run(WS, b, X)[0]).lower(books).compile().as_text()
    assert "s32[3,2,7]" not in text  # the counts of all layers


def test_errors(books):
    run = codebooks.run(scanned, SPEC)
    with pytest.raises(aj.SiteError, match="no site matches"):
        codebooks.inputs(scanned, {"past": Spec(5)})(WS, X)
    with pytest.raises(aj.SiteError, match="no site matches"):
        run(WS, {"post/other": books["post"]} and books, X) and codebooks.run(lambda w, x: x, SPEC)(
            WS, books, X
        )
    flat = {"post": {"codes": books["post"]["codes"][0], "scale": books["post"]["scale"][0]}}
    with pytest.raises(aj.SiteError, match="its codebook is one for all of them"):
        run(WS, flat, X)
    with pytest.raises(aj.SiteError, match=r"codebook 'post' has loops \[2\]"):
        run(WS, jax.tree.map(lambda leaf: leaf[:2], books), X)
    with pytest.raises(ValueError, match="codes have shape"):
        codebooks.run(scanned, {"post": Spec(8, 2, 2)})(WS, books, X)
    with pytest.raises(ValueError, match=r"expected the entries \['codes'\]"):
        codebooks.run(scanned, {"post": Spec(7, 2, 2, norm=None)})(WS, books, X)
    with pytest.raises(TypeError, match="codebooks.Spec"):
        codebooks.run(scanned, {"post": 7})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="no codebook at 'pots'"):
        run(WS, books, X, override={"pots": codebooks.Override()})
    with pytest.raises(aj.SiteError, match="both match"):
        codebooks.init({"a*": Spec(5), "*b": Spec(5)}, {"ab": jnp.ones((3, 4))}, KEY)
    with pytest.raises(ValueError, match="not all finite"):
        codebooks.init({"a": Spec(5)}, {"a": jnp.full((3, 4), jnp.nan)}, KEY)
    with pytest.raises(ValueError, match="no activations"):
        codebooks.init({"a": Spec(5)}, {"a": jnp.ones((0, 4))}, KEY)
