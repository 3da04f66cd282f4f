import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import models
from activjax.models.encoder import axes
from activjax.models.sharding._axes import leaves, named_axes

KEY = jax.random.key(0)
SIZES = {"vocab": 37, "context": 12, "layers": 2, "width": 12, "heads": 3, "mlp_width": 10}
PARTS = {"pooler": True, "mlm": True, "next_sentence": True}
MASK = np.arange(9)[None] < np.array([[6], [9]])
TYPES = (np.arange(9)[None] > 3) * np.ones((2, 1), int)


@functools.cache
def network(**more):
    """An encoder and parameters with nothing at its default: biases and scales matter."""
    model = models.encoder(**{**SIZES, **PARTS, **more})
    rng = np.random.default_rng(0)

    def draw(path, like):
        x = rng.standard_normal(like.shape)
        if path[-1].key in ("scale", "bias"):
            x = 0.1 * x + (path[-1].key == "scale")
        else:
            x = x / like.shape[-2] ** 0.5
        return jnp.asarray(x, like.dtype)

    return model, jax.tree_util.tree_map_with_path(draw, jax.eval_shape(model.init, KEY))


@functools.cache
def run(read="final", **more):
    """`apply`, compiled."""
    model, _ = network(**more)
    return jax.jit(functools.partial(model.apply, read=read))


def tokens(batch=2, seq=9, seed=2):
    drawn = np.random.default_rng(seed).integers(0, SIZES["vocab"], (batch, seq))
    return jnp.asarray(drawn, jnp.int32)


# BERT, written out by hand in float64, one sequence without padding


def erf_gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def linear(p, x):
    return x @ p["kernel"] + p["bias"]


def layer_norm(p, x):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return scaled * p["scale"] + p["bias"]


def attention(p, x, heads):
    q, k, v = (np.split(linear(p[name], x), heads, axis=-1) for name in "qkv")
    out = []
    for a, b, c in zip(q, k, v):
        scores = a @ b.T / math.sqrt(a.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out.append(weights / weights.sum(-1, keepdims=True) @ c)
    return linear(p["out"], np.concatenate(out, -1))


def reference(params, ids, types, heads):
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x = p["embed"]["table"][ids] + p["place"]["table"][: len(ids)] + p["type"]["table"][types]
    streams = [layer_norm(p["embed_norm"], x)]
    for i in range(len(p["blocks"]["attn"]["q"]["bias"])):
        block = jax.tree.map(lambda x: x[i], p["blocks"])  # noqa: B023
        x = layer_norm(
            block["attn_norm"], streams[-1] + attention(block["attn"], streams[-1], heads)
        )
        hidden = erf_gelu(linear(block["mlp"]["pre"], x))
        streams.append(layer_norm(block["mlp_norm"], x + linear(block["mlp"]["out"], hidden)))
    head = p["mlm"].get("head", {"kernel": p["embed"]["table"].T})
    masked = layer_norm(p["mlm"]["norm"], erf_gelu(linear(p["mlm"]["dense"], streams[-1])))
    pooled = np.tanh(linear(p["pooler"], streams[-1][0]))
    return streams, {
        "final": streams[-1],
        "logits": masked @ head["kernel"] + p["mlm"]["bias"],
        "pooled": pooled,
        "next_sentence": linear(p["next_sentence"], pooled),
    }


@pytest.mark.parametrize("read", ["final", "pooled", "logits", "next_sentence"])
def test_what_is_read_is_that_written_out_by_hand(read):
    _, params = network()
    ids = tokens()
    got = run(read)(params, ids, mask=MASK, types=TYPES)
    for row, kinds, real, out in zip(np.asarray(ids), TYPES, MASK, got):
        want = reference(params, row[real], kinds[real], SIZES["heads"])[1][read]
        out = out[: real.sum()] if read in ("final", "logits") else out
        # float32 rounding of sums of up to 37 products through two blocks of order one
        np.testing.assert_allclose(out, want, rtol=0, atol=2e-5 * np.abs(want).max())
    assert got.dtype == jnp.float32


def test_a_head_of_its_own():
    _, params = network(tied=False)
    ids = tokens(1)
    got = run("logits", tied=False)(params, ids)
    want = reference(params, np.asarray(ids[0]), np.zeros(9, int), SIZES["heads"])[1]["logits"]
    np.testing.assert_allclose(got[0], want, rtol=0, atol=2e-5 * np.abs(want).max())


def test_streams_are_sites_of_the_loop():
    model, params = network()
    ids = tokens(1)
    names = ["embed", "blocks/resid_pre", "blocks/resid_post", "final"]
    acts = jax.jit(aj.capture(model.apply, names, out=False))(params, ids)
    streams = reference(params, np.asarray(ids[0]), np.zeros(9, int), SIZES["heads"])[0]
    got = [acts["embed"], *acts["blocks/resid_post"]]
    for stream, want in zip(got, streams, strict=True):
        np.testing.assert_allclose(stream[0], want, rtol=0, atol=2e-5 * np.abs(want).max())
    chex.assert_trees_all_equal(acts["blocks/resid_pre"][0], acts["embed"])
    chex.assert_trees_all_equal(acts["blocks/resid_post"][1], acts["final"])


@pytest.mark.parametrize("read", ["final", "pooled"])
def test_padding_anywhere_changes_nothing(read):
    _, params = network()
    ids = tokens()
    alone = run(read)(params, ids[:1, :6], types=TYPES[:1, :6])
    left = ids.at[0].set(jnp.roll(ids[0], 3))
    gap = jnp.concatenate([ids[:1, :2], ids[:1, 6:], ids[:1, 2:6]], axis=1)
    cases = (
        (MASK, ids, TYPES),
        (MASK[:, ::-1], left, np.roll(TYPES, 3, axis=1)),
        (np.array([[1, 1, 0, 0, 0, 1, 1, 1, 1]], bool), gap, np.array([[0] * 7 + [1] * 2])),
    )
    for real, given, types in cases:
        out = run(read)(params, given, mask=real, types=types)
        # other numbers of keys: other orders of summation
        chex.assert_trees_all_close(
            out[0][real[0]] if read == "final" else out[0], alone[0], atol=1e-5
        )
        assert jnp.isfinite(out).all()
        junk = jnp.where(real, given, -5), np.where(real, types, 9)
        other = run(read)(params, junk[0], mask=real, types=junk[1])
        chex.assert_trees_all_equal(other, out)


def test_every_token_sees_every_other_one():
    model, params = network()
    f = jax.jit(aj.capture(model.apply, "blocks/attn/pattern", out=False))
    pattern = f(params, tokens(), mask=MASK)["blocks/attn/pattern"]
    assert pattern.shape == (2, 2, 3, 9, 9)
    # of a float32 softmax over nine
    chex.assert_trees_all_close(pattern.sum(-1), jnp.ones((2, 2, 3, 9)), atol=1e-6)
    assert (pattern[:, 0, :, :, 6:] == 0).all()
    assert (pattern[:, 0, :, :, :6] > 0).all()
    assert (pattern[:, 1] > 0).all()


def test_sites_and_their_shapes():
    model, params = network()
    table = {s.name: s.shape for s in aj.sites(model.apply)(params, tokens())}
    heads, square, unit, stream = (2, 9, 3, 4), (2, 3, 9, 9), (2, 9, 10), (2, 9, 12)
    inside = {
        **dict.fromkeys(["attn/q", "attn/k", "attn/v", "attn/heads"], heads),
        **dict.fromkeys(["attn/scores", "attn/pattern"], square),
        **dict.fromkeys(["mlp/pre", "mlp/post"], unit),
        **dict.fromkeys(["resid_pre", "attn/out", "resid_mid", "mlp/out", "resid_post"], stream),
    }
    common = {"positions": (2, 9), "last_prompt": (2,), "embed": stream, "final": stream}
    want = {**common, **{f"blocks/{name}": shape for name, shape in inside.items()}}
    assert table == want
    for read, more in {
        "pooled": {"pooled": (2, 12)},
        "next_sentence": {"pooled": (2, 12), "next_sentence": (2, 2)},
        "logits": {f"mlm/{n}": stream for n in ("pre", "post", "out")} | {"logits": (2, 9, 37)},
    }.items():
        f = functools.partial(model.apply, read=read)
        assert {s.name: s.shape for s in aj.sites(f)(params, tokens())} == {**want, **more}


@pytest.mark.slow
def test_unrolled_it_is_the_same():
    _, params = network()
    unrolled, _ = network(scan=False)
    ids = tokens()
    out, acts = jax.jit(aj.capture(unrolled.apply, "blocks/1/resid_mid"))(params, ids, mask=MASK)
    f = aj.capture(network()[0].apply, aj.select("blocks/resid_mid", layers=1))
    want, other = jax.jit(f)(params, ids, mask=MASK)
    # two programs: fused otherwise
    chex.assert_trees_all_close(out, want, atol=1e-5)
    chex.assert_trees_all_close(acts["blocks/1/resid_mid"], other["blocks/resid_mid"], atol=1e-5)


def test_an_edit_reaches_what_is_read():
    model, params = network()
    ids = tokens()
    f = functools.partial(model.apply, read="pooled")
    acts = jax.jit(aj.capture(f, "blocks/resid_mid", out=False))(params, ids)
    same = aj.intervene(
        f, {"blocks/resid_mid": aj.edits.replace(aj.edits.each(acts["blocks/resid_mid"]))}
    )
    chex.assert_trees_all_close(jax.jit(same)(params, ids), run("pooled")(params, ids), atol=1e-5)
    last = aj.select("blocks/resid_post", layers=1, at={"seq": 0})
    gone = aj.intervene(f, [(last, aj.edits.scale(0.0))])
    want = jnp.tanh(params["pooler"]["bias"])
    chex.assert_trees_all_close(jax.jit(gone)(params, ids), jnp.stack([want, want]), atol=1e-6)


def test_parameters_by_name():
    model, params = network(tied=False)
    shapes = {"/".join(path): leaf.shape for path, leaf in leaves(params)}
    square, norm = {"kernel": (12, 12), "bias": (12,)}, {"scale": (12,), "bias": (12,)}
    inside = {
        **{f"attn/{n}": square for n in ("q", "k", "v", "out")},
        "attn_norm": norm,
        "mlp/pre": {"kernel": (12, 10), "bias": (10,)},
        "mlp/out": {"kernel": (10, 12), "bias": (12,)},
        "mlp_norm": norm,
    }
    groups = {
        "embed": {"table": (37, 12)}, "place": {"table": (12, 12)}, "type": {"table": (2, 12)},
        "embed_norm": norm, "pooler": square, "mlm/dense": square, "mlm/norm": norm,
        "mlm/head": {"kernel": (12, 37)}, "mlm": {"bias": (37,)},
        "next_sentence": {"kernel": (12, 2), "bias": (2,)},
        **{f"blocks/{n}": {k: (2, *s) for k, s in g.items()} for n, g in inside.items()},
    }  # fmt: skip
    assert shapes == {f"{n}/{k}": s for n, g in groups.items() for k, s in g.items()}
    assert set(jax.eval_shape(models.encoder(**SIZES, types=0).init, KEY)) == {
        "embed", "place", "embed_norm", "blocks"
    }  # fmt: skip
    # every parameter has axes by name, and no glob is of something that is not there
    assert model.config.heads == axes.pieces(model.config)["heads"] == 3
    named = named_axes(params, {}, axes.PARAMETERS)
    assert {"/".join(path) for path in named} == set(shapes)
    own = {n: a for n, a in axes.PARAMETERS.items() if not n.startswith("blocks/")}
    assert set(named_axes(params, own, {})) <= set(named)


def test_dtypes():
    model = models.encoder(**SIZES, **PARTS, dtype="bfloat16", param_dtype="bfloat16")
    params = jax.eval_shape(model.init, KEY)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(params))
    out = jax.eval_shape(model.apply, params, tokens())
    assert (out.shape, out.dtype) == ((2, 9, 12), jnp.bfloat16)
    for read in ("logits", "next_sentence"):
        f = functools.partial(model.apply, read=read)
        assert jax.eval_shape(f, params, tokens()).dtype == jnp.float32


def test_dropout_is_for_training():
    model, params = network(dropout=0.5)
    train = jax.jit(functools.partial(model.apply, train=True))
    ids = tokens()
    assert "random_bits" in str(jax.make_jaxpr(train)(params, ids, key=KEY))
    assert "random_bits" not in str(jax.make_jaxpr(model.apply)(params, ids, key=KEY))
    one, two = (train(params, ids, key=jax.random.key(i)) for i in (1, 2))
    chex.assert_trees_all_equal(one, train(params, ids, key=jax.random.key(1)))
    assert (one != two).any()
    with pytest.raises(ValueError, match="pass key="):
        model.apply(params, ids, train=True)


@pytest.mark.slow
def test_gradients_reach_every_parameter_that_is_read():
    model, params = network()

    def loss(params):
        logits = model.apply(params, tokens(), mask=MASK, types=TYPES, read="logits")
        return jnp.square(jnp.where(MASK[..., None], logits, 0.0)).mean()

    grads = jax.jit(jax.grad(loss))(params)
    assert jax.tree.all(jax.tree.map(lambda g: jnp.isfinite(g).all(), grads))
    still = {"/".join(path[:1]) for path, g in leaves(grads) if not np.asarray(g).any()}
    # a softmax is the same whatever is added to all its scores: of k's bias it is rounding alone
    assert still - {"blocks"} == {"pooler", "next_sentence"}


def test_a_state_comes_back():
    model, params = network()
    assert model.init_state() == {}
    out, state = jax.eval_shape(functools.partial(model.apply, state={}), params, tokens())
    assert (out.shape, state) == ((2, 9, 12), {})


def test_ids_outside_the_tables():
    _, params = network()
    ids = tokens()
    for bad in (-1, 37):
        out = run()(params, ids.at[0, 3].set(bad))
        assert jnp.isnan(out[0]).all()
        assert jnp.isfinite(out[1]).all()
    out = run()(params, ids, types=jnp.asarray(TYPES).at[1, 0].set(2))
    assert jnp.isnan(out[1]).all()
    assert jnp.isfinite(out[0]).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tokens": jnp.zeros((2, 3))}, "expected integers, got float32"),
        ({"tokens": np.zeros(3, int)}, r"got \[3\]; for one sequence tokens\[None\]"),
        ({"tokens": np.zeros((0, 3), int)}, r"shape \[batch, seq\], got \[0, 3\]"),
        ({"tokens": np.zeros((1, 13), int)}, "13 a sequence, but the encoder's context is 12"),
        ({"tokens": np.full((1, 3), 37)}, "id 37 is outside the vocabulary 0..36 .3 of 3"),
        ({"tokens": np.full((1, 3), 2**32 + 1)}, "id 4294967297 is outside"),
        ({"mask": np.ones((2, 9), int)}, "mask: expected booleans"),
        ({"mask": np.ones((1, 9), bool)}, r"mask: expected the tokens' shape \[2, 9\]"),
        ({"mask": np.array([[1] * 9, [0] * 9], bool)}, "sequence 1 has no tokens"),
        ({"types": np.full((2, 9), 2)}, "types: 2 is outside 0..1"),
        ({"types": np.ones((2, 9))}, "types: expected integers"),
        ({"types": np.ones((2, 8), int)}, r"types: expected the tokens' shape \[2, 9\]"),
        ({"read": "poled"}, "expected one of final, pooled.*did you mean 'pooled'"),
        ({"read": 3}, "expected one of final"),
    ],
)
def test_inputs_that_are_refused(given, said):
    model, params = network()
    given = {"tokens": tokens(), **given}
    with pytest.raises(ValueError, match=said):
        model.apply(params, given.pop("tokens"), **given)


def test_parts_that_are_not_there():
    model = models.encoder(**SIZES, pooler=True, types=0)
    params = jax.eval_shape(model.init, KEY)
    for read, part in (("logits", "mlm"), ("next_sentence", "next_sentence")):
        said = f"{read!r} needs a part.*build it with {part}=True, or read final or pooled"
        with pytest.raises(ValueError, match=said):
            model.apply(params, tokens(), read=read)
    with pytest.raises(ValueError, match="read final$"):
        models.encoder(**SIZES).apply(params, tokens(), read="pooled")
    with pytest.raises(ValueError, match="no token types"):
        model.apply(params, tokens(), types=TYPES)


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        ({"widht": 3}, TypeError, "encoder: unknown argument 'widht'; did you mean 'width'"),
        ({"heads": 5}, ValueError, "encoder width 12 is not a multiple of heads=5: change one$"),
        ({"layers": 0}, ValueError, "encoder layers: expected"),
        ({"types": -1}, ValueError, "encoder types: expected"),
        ({"next_sentence": True}, ValueError, "encoder next_sentence: .*pooler=True"),
        ({"pooler": 1}, ValueError, "encoder pooler: expected True or False, got 1"),
        ({"activation": "gleu"}, ValueError, "activation 'gleu'.*did you mean 'gelu'"),
        ({"dtype": "int8"}, ValueError, "encoder dtype: expected one of"),
        ({"norm_eps": 0}, ValueError, "encoder norm_eps: expected a positive number"),
        ({"dropout": 1.0}, ValueError, "encoder dropout"),
        ({"mlp_width": 0}, ValueError, "encoder mlp_width"),
    ],
)
def test_fields_that_are_refused(fields, kind, said):
    with pytest.raises(kind, match=said):
        models.encoder(**{**SIZES, **fields})


def test_a_config_or_fields():
    config = models.EncoderConfig(**SIZES)
    assert models.encoder(config).config == models.encoder(**SIZES).config == config
    with pytest.raises(TypeError, match="not both"):
        models.encoder(config, vocab=3)
    with pytest.raises(TypeError, match="encoder: missing vocab, context"):
        models.encoder(layers=1, width=2, heads=1)


def test_it_lowers_for_accelerators():
    model, params = network()
    f = jax.jit(functools.partial(model.apply, read="logits"))
    jax.export.export(f, platforms=["tpu", "cuda"])(params, tokens(), mask=jnp.asarray(MASK))
