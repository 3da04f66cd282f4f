import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import models
from tests.models.reference import forward

KEY = jax.random.key(0)
SIZES = {"vocab": 37, "context": 24, "layers": 2, "width": 16, "heads": 4}
FAMILIES = {
    "gpt2": {},
    "neox": dict(
        positions="rotary", rotary_fraction=0.5, parallel=True, tied=False, activation="gelu_exact"
    ),
    "llama": dict(
        norm="rms", positions="rotary", kv_heads=2, bias=False, tied=False, activation="silu",
        gated=True, mlp_width=20, rotary_base=500.0,
    ),
    "qwen2": dict(
        norm="rms", positions="rotary", kv_heads=1, bias="qkv", activation="silu", gated=True
    ),
    "qwen3": dict(
        norm="rms", positions="rotary", kv_heads=2, head_width=6, qk_norm=True, bias=False,
        activation="silu", gated=True,
    ),
    "bare": dict(positions="none", bias=False, activation="relu"),
    "mistral": dict(
        norm="rms", positions="rotary", kv_heads=2, bias="attn", activation="silu", gated=True,
        tied=False, window=3,
    ),
    "llama3": dict(  # planes that turn 10, 2, .5 and .1 times in what was the context
        norm="rms", positions="rotary", kv_heads=2, head_width=8, bias=False, activation="silu",
        gated=True, rotary_base=500.0, rotary_scaling=dict(kind="llama3", factor=8.0, original=64),
    ),
    "gemma2": dict(
        norm="rms_1p", positions="rotary", kv_heads=2, head_width=6, bias=False, gated=True,
        out_norm=True, embed_scale=4.0, score_scale=0.5, score_cap=1.5, logit_cap=3.0, window=3,
        windowed=(0,),
    ),
    "gemma3": dict(
        norm="rms_1p", positions="rotary", kv_heads=1, head_width=8, bias=False, gated=True,
        out_norm=True, embed_scale=4.0, score_scale=0.3, qk_norm=True, window=3, windowed=(1,),
        rotary_base=1e6, rotary_scaling=dict(kind="linear", factor=8.0), window_rotary_base=50.0,
    ),
    "mixed": dict(  # no family: what none of them has together
        embed_scale=3.0, out_norm=True, parallel=True, tied=False, logit_cap=2.0, window=4,
        windowed=(1,),
    ),
}  # fmt: skip


SLOW = [pytest.param(f, marks=pytest.mark.slow) for f in ("qwen2", "bare")]
FEW = ["gpt2", "neox", "llama", "qwen3", *SLOW]
NEWER = ["mistral", "llama3", "gemma2", "gemma3", "mixed"]


@functools.cache
def network(family, **more):
    """A decoder and parameters with nothing at its default: biases and scales matter."""
    model = models.decoder(**{**SIZES, **FAMILIES[family], **more})
    rng = np.random.default_rng(0)

    def draw(path, like):
        x = rng.standard_normal(like.shape)
        if path[-1].key in ("scale", "bias"):
            x = 0.1 * x + (path[-1].key == "scale")
        else:
            x = x / like.shape[-2] ** 0.5
        return jnp.asarray(x, like.dtype)

    return model, jax.tree_util.tree_map_with_path(draw, jax.eval_shape(model.init, KEY))


def tokens(batch=2, seq=9, seed=2):
    drawn = np.random.default_rng(seed).integers(0, SIZES["vocab"], (batch, seq))
    return jnp.asarray(drawn, jnp.int32)


@pytest.mark.parametrize("family", [*FEW, *NEWER])
def test_logits_are_those_written_out_by_hand(family):
    model, params = network(family)
    ids = tokens()
    got = jax.jit(model.apply)(params, ids)
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    for row, out in zip(np.asarray(ids), got):
        want = forward(exact, row, model.config)
        # float32 rounding of sums of up to 64 products, through two blocks
        np.testing.assert_allclose(out, want, rtol=0, atol=2e-5 * np.abs(want).max())
    assert got.dtype == jnp.float32


@pytest.mark.parametrize("family", [*FEW[1:], *NEWER[:-1]])
def test_cached_decoding_equals_the_full_forward(family):
    model, params = network(family)
    ids = tokens()
    full = jax.jit(model.apply)(params, ids)
    step = jax.jit(lambda p, t, c: model.apply(p, t, state=c))
    cache, outs = model.init_cache(2, 9), []
    for piece in (ids[:, :4], ids[:, 4:6], ids[:, 6:7], ids[:, 7:8], ids[:, 8:]):
        out, cache = step(params, piece, cache)
        outs.append(out)
    chex.assert_trees_all_close(jnp.concatenate(outs, 1), full, atol=1e-5)
    assert cache.lengths.tolist() == [9, 9]
    assert cache.prompt.tolist() == [4, 4]


def test_a_cache_without_slots_comes_back_as_long_as_the_tokens():
    model, params = network("llama")
    ids = tokens()
    full = jax.jit(model.apply)(params, ids)
    step = jax.jit(lambda p, t, c: model.apply(p, t, state=c))
    _, cache = step(params, ids[:, :6], model.init_cache(2))
    assert cache.slots == 6
    out, _ = step(params, ids[:, 6:], cache.grown(9))
    chex.assert_trees_all_close(out, full[:, 6:], atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
def test_padding_on_either_side_changes_nothing(family):
    model, params = network(family)
    ids = tokens()
    apply = jax.jit(model.apply)
    alone = apply(params, ids[:1, :6])
    right = jnp.asarray(np.arange(9)[None] < np.array([[6], [9]]))
    left = right[:, ::-1]
    shifted = ids.at[0].set(jnp.roll(ids[0], 3))
    full = apply(params, ids)
    for real, given in ((right, ids), (left, shifted)):
        out = apply(params, given, mask=real)
        # other numbers of keys: other orders of summation
        chex.assert_trees_all_close(out[0][real[0]], alone[0], atol=1e-5)
        chex.assert_trees_all_close(out[1], full[1], atol=1e-5)
        assert jnp.isfinite(out).all()
    acts = {
        name: jax.jit(aj.capture(model.apply, ["positions", "last_prompt"], out=False))(
            params, given, mask=real
        )
        for name, real, given in (("right", right, ids), ("left", left, shifted))
    }
    assert acts["left"]["positions"][0].tolist() == [-1, -1, -1, 0, 1, 2, 3, 4, 5]
    assert acts["right"]["positions"][0].tolist() == [0, 1, 2, 3, 4, 5, -1, -1, -1]
    assert acts["left"]["last_prompt"].tolist() == acts["right"]["last_prompt"].tolist() == [5, 8]


def test_ids_of_padding_are_ignored():
    model, params = network("gpt2")
    ids, real = tokens(1), np.arange(9)[None] < 6
    apply = jax.jit(model.apply)
    for bad in (-100, 99):
        strange = np.where(real, ids, bad)
        out = apply(params, strange, mask=real)
        chex.assert_trees_all_close(out[:, :6], apply(params, ids[:, :6]), atol=1e-5)
        model.apply(jax.tree.map(jnp.zeros_like, params), strange, mask=real)  # known ids: no error


def test_documents_of_one_row_do_not_see_one_another():
    for family in ("gpt2", "llama", "gemma3"):
        model, params = network(family)
        ids = tokens(1)
        segments = jnp.array([[7, 7, 7, 2, 2, 2, 2, 0, 0]])
        apply = jax.jit(model.apply)
        out = apply(params, ids, segments=segments)
        chex.assert_trees_all_close(out[:, :3], apply(params, ids[:, :3]), atol=1e-5)
        chex.assert_trees_all_close(out[:, 3:7], apply(params, ids[:, 3:7]), atol=1e-5)
        changed = apply(params, ids.at[0, 1].set(5), segments=segments)
        assert (changed[:, 3:7] == out[:, 3:7]).all()
        # padding inside a document, and a document in two pieces
        apart = apply(params, ids, segments=jnp.array([[1, 0, 1, 2, 2, 1, 0, 2, 2]]))
        one = apply(params, ids, mask=jnp.array([[1, 0, 1, 0, 0, 1, 0, 0, 0]], bool))
        at = jnp.array([0, 2, 5])
        chex.assert_trees_all_close(apart[:, at], one[:, at], atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_scanned_and_unrolled_have_the_same_parameters_and_numbers(family):
    scanned, params = network(family)
    unrolled, same = network(family, scan=False)
    chex.assert_trees_all_equal_shapes(params, same)
    ids = tokens()
    out, acts = jax.jit(aj.capture(scanned.apply))(params, ids)
    flat, each = jax.jit(aj.capture(unrolled.apply))(params, ids)
    chex.assert_trees_all_close(out, flat, atol=1e-5)
    for name, value in acts.items():
        if name.startswith("blocks/"):
            site = name.removeprefix("blocks/")
            alone = jnp.stack([each[f"blocks/{i}/{site}"] for i in range(2)])
            chex.assert_trees_all_close(value, alone, atol=1e-5)


def test_sites_are_those_of_the_design_and_hold_what_they_say():
    model, params = network("gpt2")
    ids = tokens()
    logits, acts = jax.jit(aj.capture(model.apply))(params, ids)
    blocks = [
        "resid_pre", "attn/q", "attn/k", "attn/v", "attn/scores", "attn/pattern", "attn/heads",
        "attn/out", "resid_mid", "mlp/pre", "mlp/post", "mlp/out", "resid_post",
    ]  # fmt: skip
    names = ["last_prompt", "positions", "embed", *(f"blocks/{b}" for b in blocks)]
    assert [s.name for s in aj.sites(model.apply)(params, ids)] == [*names, "final", "logits"]
    a = {n.removeprefix("blocks/"): x for n, x in acts.items()}
    close = functools.partial(chex.assert_trees_all_close, atol=1e-5)
    close(a["resid_mid"], a["resid_pre"] + a["attn/out"])
    close(a["resid_post"], a["resid_mid"] + a["mlp/out"])
    assert (a["resid_post"][0] == a["resid_pre"][1]).all()
    assert (a["embed"] == a["resid_pre"][0]).all()
    scores = jnp.einsum("lbthd,lbshd->lbhts", a["attn/q"], a["attn/k"]) / 2
    close(a["attn/scores"], scores)
    causal = jnp.tril(jnp.ones((9, 9), bool))
    assert (a["attn/pattern"][..., ~causal] == 0).all()
    close(a["attn/pattern"].sum(-1), jnp.ones(()))
    close(a["attn/heads"], jnp.einsum("lbhts,lbshd->lbthd", a["attn/pattern"], a["attn/v"]))
    assert (logits == a["logits"]).all()
    lens = jax.jit(model.unembed)(params, a["resid_post"])
    assert lens.shape == (2, 2, 9, SIZES["vocab"])
    close(lens[-1], logits)
    # an edit of every value by itself changes nothing
    same = aj.intervene(
        model.apply, {f"blocks/{b}": aj.edits.replace(aj.edits.each(a[b])) for b in blocks}
    )
    close(same(params, ids), logits)


@pytest.mark.parametrize("remat", [True, pytest.param("dots", marks=pytest.mark.slow)])
def test_remat_gives_the_same_gradients_for_less_memory(remat):
    _, params = network("gpt2")
    ids = tokens(4, 24)

    def gradient(remat):
        model = models.decoder(**SIZES, remat=remat)
        loss = jax.jit(jax.grad(lambda p: jnp.mean(model.apply(p, ids) ** 2)))
        compiled = loss.lower(params).compile()
        return compiled(params), compiled.memory_analysis().temp_size_in_bytes

    (plain, most), (again, least) = map(gradient, (False, remat))
    chex.assert_trees_all_close(plain, again, rtol=1e-4, atol=1e-6)
    assert least < most


def test_bfloat16_activations_keep_float32_logits_and_are_near():
    model, params = network("gpt2")
    half = models.decoder(**SIZES, dtype="bfloat16")
    ids = tokens()
    exact = jax.jit(model.apply)(params, ids)
    out, acts = jax.jit(aj.capture(half.apply))(params, ids)
    assert out.dtype == jnp.float32
    assert acts["blocks/resid_post"].dtype == acts["blocks/attn/pattern"].dtype == jnp.bfloat16
    # 2 blocks of 10 values and 3 more, each rounded by up to 2^-9, errors adding up
    assert jnp.abs(out - exact).max() < 23 * 2.0**-9 * jnp.abs(exact).max()
    stored = models.decoder(**SIZES, dtype="bfloat16", param_dtype="bfloat16")
    assert {x.dtype.name for x in jax.tree.leaves(jax.eval_shape(stored.init, KEY))} == {"bfloat16"}
    assert half.init_cache(2, 3).k.dtype == jnp.bfloat16


def test_dropout_follows_its_key_and_differs_by_layer():
    _, params = network("gpt2")
    model = models.decoder(**SIZES, dropout=0.5)
    ids = tokens()
    run = jax.jit(aj.capture(lambda k: model.apply(params, ids, key=k, train=True)))
    out, acts = run(KEY)
    assert (out == run(KEY)[0]).all()
    assert (out != run(jax.random.key(9))[0]).any()
    dropped = acts["blocks/resid_mid"] == acts["blocks/resid_pre"]
    assert 0.4 < dropped.mean() < 0.6  # 576 of them: a standard deviation of .02
    assert (dropped[0] != dropped[1]).any()
    still = jax.make_jaxpr(lambda: model.apply(params, ids, key=KEY))()
    assert str(still) == str(jax.make_jaxpr(lambda: models.decoder(**SIZES).apply(params, ids))())
    with pytest.raises(ValueError, match="pass key="):
        model.apply(params, ids, train=True)


def test_gradients_are_those_of_finite_differences():
    model, params = network("qwen3")
    ids = tokens(1, 5)
    step = jax.tree.map(lambda x: np.sign(np.sin(1e3 * np.asarray(x))), params)

    @jax.jit
    def both(p):
        return jax.value_and_grad(lambda p: jnp.mean(jnp.square(model.apply(p, ids))))(p)

    grads = both(params)[1]
    slope = sum(np.vdot(g, s) for g, s in zip(jax.tree.leaves(grads), jax.tree.leaves(step)))
    h = 1e-3
    up, down = (
        both(jax.tree.map(lambda x, s: np.float32(x + e * s), params, step))[0]  # noqa: B023
        for e in (h, -h)
    )
    # rounding of the loss over 2h, and the third derivative's share of h^2
    assert abs((up - down) / (2 * h) - slope) < 0.01 * abs(slope)


IDS = np.array([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, p: m.apply(p, IDS + 40), r"id 41 is outside the vocabulary 0\.\.36 \(6 of 6"),
        (lambda m, p: m.apply(p, -IDS), "id -1 is outside the vocabulary"),
        (lambda m, p: m.apply(p, IDS / 2), "tokens: expected integers, got float"),
        (lambda m, p: m.apply(p, IDS[0]), r"for one sequence tokens\[None\]"),
        (lambda m, p: m.apply(p, IDS[:0]), r"expected shape \[batch, seq\], got \[0, 3\]"),
        (lambda m, p: m.apply(p, np.zeros((1, 25), int)), "25 a sequence, but the decoder's conte"),
        (lambda m, p: m.apply(p, IDS, mask=IDS > 4), "mask: sequence 0 has no tokens"),
        (lambda m, p: m.apply(p, IDS, mask=IDS), "mask: expected booleans"),
        (lambda m, p: m.apply(p, IDS, mask=IDS[:1] > 0), r"mask: expected the tokens' shape"),
        (lambda m, p: m.apply(p, IDS, segments=IDS > 0), "segments: expected integers"),
        (lambda m, p: m.apply(p, IDS, segments=IDS, mask=IDS > 0), "not both"),
        (lambda m, p: m.apply(p, IDS, segments=IDS, state=m.init_cache(2)), "segments= is for who"),
        (lambda m, p: m.apply(p, IDS, state={}), "state: expected a Cache"),
        (lambda m, p: m.apply(p, IDS, state=m.init_cache(3)), "of another decoder or batch"),
        (lambda m, p: m.apply(p, IDS, state=m.init_cache(2, 2)), "3 tokens do not fit into its 2"),
        (lambda m, p: m.apply(p, IDS, state=m.init_cache(2, 25)), "25 slots, but the decoder's"),
        (lambda m, p: m.init_cache(0), "expected batch >= 1"),
        (lambda m, p: m.init_cache(2, 5).grown(3), "5 slots already, more than 3"),
    ],
)
def test_what_cannot_be_run_is_said_first(call, message):
    model = models.decoder(**SIZES)
    params = jax.eval_shape(model.init, KEY)  # never reached
    with pytest.raises(ValueError, match=message):
        call(model, params)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"width": 18}, ValueError, "width 18 is not a multiple of heads=4"),
        ({"kv_heads": 3}, ValueError, "kv_heads: expected a divisor of heads=4, got 3"),
        ({"norm": "batch"}, ValueError, "norm: expected one of"),
        ({"bias": 1}, ValueError, "bias: expected one of"),
        ({"layers": 0}, ValueError, "decoder layers: expected at least 1 positive"),
        ({"rotary_fraction": 0.1, "positions": "rotary"}, ValueError, "at least 2 of 4"),
        ({"activation": "gelu_exct"}, ValueError, "did you mean 'gelu_exact'"),
        ({"dropout": 1.0}, ValueError, r"dropout: expected a number in \[0, 1\)"),
        ({"norm_eps": 0.0}, ValueError, "norm_eps: expected a positive number"),
        ({"widht": 3}, TypeError, "unknown argument 'widht'; did you mean 'width'"),
    ],
)
def test_a_config_that_cannot_be_is_refused_by_name(fields, error, message):
    with pytest.raises(error, match=message):
        models.decoder(**{**SIZES, **fields})
    with pytest.raises(TypeError, match="missing context"):
        models.decoder(vocab=3, layers=1, width=4, heads=1)


def test_what_cannot_be_checked_beforehand_is_nan():
    model, params = network("gpt2")
    apply = jax.jit(model.apply)
    for bad in (99, -1):
        out = apply(params, tokens().at[0, 4].set(bad))
        assert jnp.isnan(out[0, 4:]).all()
        assert jnp.isfinite(out[1]).all()
    step = jax.jit(lambda p, t, c: model.apply(p, t, state=c))
    cache = model.init_cache(2, 10)
    out, cache = step(params, tokens(), cache)
    assert jnp.isfinite(out).all()
    out, _ = step(params, tokens()[:, :2], cache)
    assert jnp.isnan(out).all()
