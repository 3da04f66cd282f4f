"""What the published families need beyond GPT-2 and Llama: windows, caps, norms, rotary scaling."""

import dataclasses
import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import models, training
from activjax.training import lora
from tests.models.reference import forward
from tests.models.test_decoder import FAMILIES, KEY, NEWER, SIZES, network, tokens

# What LLVM makes of a program is not the point here, and takes half the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
slow = functools.partial(pytest.param, marks=pytest.mark.slow)
close = functools.partial(chex.assert_trees_all_close, atol=1e-5)  # as in test_decoder


@pytest.mark.parametrize(
    ("family", "without"),
    [
        ("mistral", {"window": None}),
        ("mistral", {"window": 4}),
        ("llama3", {"rotary_scaling": None}),
        ("llama3", {"rotary_scaling": {"kind": "linear", "factor": 8.0}}),
        ("llama3", {"rotary_scaling": {"kind": "llama3", "factor": 8.0, "original": 32}}),
        ("gemma2", {"windowed": (1,)}),
        ("gemma2", {"score_scale": None}),
        ("gemma2", {"score_cap": None}),
        ("gemma2", {"logit_cap": None}),
        ("gemma2", {"embed_scale": None}),
        ("gemma2", {"norm": "rms"}),
        ("gemma2", {"out_norm": False}),
        ("gemma3", {"rotary_scaling": None}),
        ("gemma3", {"window_rotary_base": None}),
        ("gemma3", {"qk_norm": False}),
    ],
)
def test_each_option_counts_in_the_numbers_that_the_decoder_equals(family, without):
    # so that test_logits_are_those_written_out_by_hand would notice one that is not used
    model, params = network(family)
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    row = np.asarray(tokens())[0]
    changed = dataclasses.replace(model.config, **without)
    want, other = forward(exact, row, model.config), forward(exact, row, changed)
    assert np.abs(want - other).max() > 1e-3 * np.abs(want).max()  # 50 times its tolerance


def test_a_window_counts_tokens_of_the_document_and_not_padding():
    model, params = network("gemma3")
    patterns = jit(aj.capture(model.apply, "blocks/attn/pattern", out=False))

    def seen(**how):
        pattern = patterns(params, tokens(1), **how)["blocks/attn/pattern"][:, 0]
        return np.asarray(pattern > 0).all(axis=1), np.asarray(pattern > 0).any(axis=1)

    def expected(document, place, window):
        document, place = np.array(document), np.array(place)
        same = (document[:, None] == document) & (document > 0)
        back = place[:, None] - place
        return same & (back >= 0) & (back < window)

    cases = [
        ({}, [1] * 9, range(9)),
        ({"mask": jnp.array([[0, 1, 1, 0, 1, 1, 0, 1, 1]]) > 0},
         [0, 1, 1, 0, 1, 1, 0, 1, 1], [0, 0, 1, 0, 2, 3, 0, 4, 5]),
        ({"segments": jnp.array([[1, 1, 1, 1, 0, 2, 1, 2, 1]])},
         [1, 1, 1, 1, 0, 2, 1, 2, 1], [0, 1, 2, 3, 0, 0, 4, 1, 5]),
    ]  # fmt: skip
    for how, document, place in cases:
        every, some = seen(**how)
        real = np.array(document) > 0
        for layer, window in enumerate((99, 3)):
            want = expected(document, place, window)[real]
            np.testing.assert_array_equal(every[layer][real], want)
            np.testing.assert_array_equal(some[layer][real], want)


@pytest.mark.parametrize("family", ["gemma3", *map(slow, ("mistral", "gemma2"))])
def test_a_sweep_by_layer_equals_the_full_forward_under_windows(family):
    model, params = network(family)
    ids, strengths = tokens(), np.array([0.0, 2.0], np.float32)
    mask = np.arange(9)[None] < np.array([[6], [9]])
    name = "blocks/attn/out"
    got = jit(
        lambda p: models.sweep_last_token(
            model, p, ids, lambda layer, s: {name: aj.edits.scale(s)}, strengths,
            layers=[0, 1], mask=mask,
        )
    )(params)  # fmt: skip

    @jit
    def full(a, layer):
        where = aj.select(name, layers=layer, at="last_prompt")
        return aj.intervene(model.apply, [(where, aj.edits.scale(a))])(params, ids, mask=mask)

    for layer in range(2):
        for j, a in enumerate(strengths):
            close(got[layer, j], full(a, layer)[jnp.arange(2), jnp.array([5, 8])])


def test_generation_goes_on_as_the_full_forward_does():
    model, params = network("gemma2")
    ids = tokens(2, 5)
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]) > 0
    out = jit(lambda p: models.generate(model, p, ids, steps=8, mask=mask))(params)
    text = jnp.concatenate([ids, out.tokens], axis=1)
    mask = np.concatenate([mask, np.ones((2, 8), bool)], axis=1)
    logits = jit(model.apply)(params, text, mask=mask)
    likely = jax.nn.log_softmax(logits[:, 4:-1])
    close(out.logprobs, likely.max(-1))
    np.testing.assert_array_equal(out.tokens, likely.argmax(-1))


def test_sites_are_after_scales_caps_and_norms():
    model, params = network("gemma2")
    ids = tokens()
    logits, acts = jit(aj.capture(model.apply))(params, ids)
    a = {n.removeprefix("blocks/"): x for n, x in acts.items()}
    close(a["embed"], 4 * params["embed"]["table"][ids])
    close(a["resid_mid"], a["resid_pre"] + a["attn/out"])
    close(a["resid_post"], a["resid_mid"] + a["mlp/out"])
    for part in ("attn", "mlp"):
        gain = 1 + params["blocks"][part]["out_norm"]["scale"][:, None, None]
        size = jnp.sqrt(jnp.mean((a[f"{part}/out"] / gain) ** 2, -1))
        close(size, jnp.ones_like(size), atol=1e-3)  # norm_eps beside a mean square of .01 or more
    keys = jnp.repeat(a["attn/k"], 2, axis=3)
    raw = jnp.einsum("lbthd,lbshd->lbhts", a["attn/q"], keys) / 2
    assert jnp.abs(raw).max() > 1.5  # the cap is reached
    close(a["attn/scores"], 1.5 * jnp.tanh(raw / 1.5))
    table = params["embed"]["table"]
    close(logits, 3 * jnp.tanh(a["final"] @ table.T / 3))
    close(jit(model.unembed)(params, a["resid_post"][-1]), logits)
    zero = aj.intervene(model.apply, {"blocks/*/out": aj.edits.scale(0.0)})
    close(jit(zero)(params, ids), jit(model.unembed)(params, a["embed"]))


@pytest.mark.parametrize(
    "more", [{"remat": True}, *map(slow, ({}, {"scan": False, "remat": "dots"}))]
)
def test_gradients_pass_layers_of_two_kinds(more):
    model, params = network("gemma3", **more)
    plain = network("gemma3")[0]
    ids = tokens(1)
    loss = lambda p, model: jnp.mean(jnp.sin(model.apply(p, ids)))  # noqa: E731
    grads = jit(jax.grad(functools.partial(loss, model=model)))(params)
    step = jax.tree.map(lambda x: np.float32(1e-2) * np.sign(np.sin(1e3 * np.asarray(x))), params)
    along = jit(lambda p, d: jax.jvp(functools.partial(loss, model=plain), (p,), (d,))[1])
    slope = sum(np.vdot(g, s) for g, s in zip(jax.tree.leaves(grads), jax.tree.leaves(step)))
    # the sum of 4,000 products in float32
    assert abs(along(params, step) - slope) < 1e-4 * abs(slope)


def test_low_rank_adapters_and_sharding_axes_know_the_new_parameters():
    model, params = network("gemma2")
    adapters = lora.init(KEY, params, {"blocks/**/kernel": 2})
    adapters = jax.tree.map(lambda x: x + 0.1, adapters)
    apply, ids = jit(model.apply), tokens()
    adapted = apply(lora.attach(params, adapters, alpha=1.0), ids)
    assert jnp.abs(adapted - apply(params, ids)).max() > 0.01
    close(adapted, apply(lora.merge(params, adapters, alpha=1.0), ids), atol=3e-5)
    axes = {}
    for family in NEWER:
        entries = models.sharding(network(family)[0], models.mesh(data=4, model=2)).entries()
        assert not [entry.path for entry in entries if "no logical axes" in entry.note]
        axes |= {entry.path: entry.axes for entry in entries}
    for name in ("attn/q_norm/scale", "attn/out_norm/scale", "attn/out_norm/bias"):
        assert axes[f"blocks/{name}"] == ("layers", "norm")
    assert axes["blocks/mlp/out_norm/scale"] == ("layers", "norm")


def test_parameters_start_where_their_norms_do_nothing():
    model = models.decoder(
        **SIZES, norm="rms_1p", bias="attn", out_norm=True, qk_norm=True, positions="rotary"
    )
    params = jit(model.init)(KEY)
    flat = jax.tree_util.tree_leaves_with_path(params)
    values = {jax.tree_util.keystr(k, simple=True, separator="/"): v for k, v in flat}
    scales = {k for k in values if k.endswith("/scale")}
    norms = {"attn_norm", "attn/q_norm", "attn/k_norm", "attn/out_norm", "mlp_norm", "mlp/out_norm"}
    assert scales == {"final/scale", *(f"blocks/{norm}/scale" for norm in norms)}
    assert not any(values[k].any() for k in scales)
    biases = {k for k in values if k.endswith("/bias")}
    assert biases == {f"blocks/attn/{p}/bias" for p in ("q", "k", "v", "out")}


def test_layers_that_are_alike_have_nothing_to_choose_from():
    ids = tokens()

    def text(**fields):
        model = models.decoder(**{**SIZES, **FAMILIES["mistral"], **fields})
        params = jax.eval_shape(model.init, KEY)
        return jax.jit(model.apply).lower(params, ids).as_text()

    assert text(windowed=[1, 0]) == text()
    base = {"window_rotary_base": 50.0, "rotary_scaling": {"kind": "linear", "factor": 2.0}}
    assert text(**base) == text(rotary_base=50.0)
    same = {"window_rotary_base": 10_000.0, "windowed": [0]}
    assert text(**same) == text(windowed=[0])


def test_float16_keeps_float32_logits_and_is_near():
    model, params = network("gemma3")
    half = network("gemma3", dtype="float16", param_dtype="float16")[0]
    small = jax.tree.map(lambda x: x.astype(jnp.float16), params)
    assert {x.dtype.name for x in jax.tree.leaves(jax.eval_shape(half.init, KEY))} == {"float16"}
    assert half.init_cache(2, 3).k.dtype == jnp.float16
    exact = jit(model.apply)(params, tokens())
    out, acts = jit(aj.capture(half.apply))(small, tokens())
    assert out.dtype == jnp.float32
    assert acts["blocks/resid_post"].dtype == acts["embed"].dtype == jnp.float16
    # 2 blocks of 14 values and 4 more, each rounded by up to 2^-11, errors adding up
    assert jnp.abs(out - exact).max() < 32 * 2.0**-11 * jnp.abs(exact).max()


@pytest.mark.parametrize("family", NEWER)
def test_a_config_survives_json(family, tmp_path):
    model = network(family)[0]
    written = json.loads(json.dumps(dataclasses.asdict(model.config)))
    again = models.DecoderConfig(**written)
    assert again == model.config
    assert hash(again) == hash(model.config)
    assert models.decoder(again).config == model.config
    if family == "gemma3":
        wide = models.decoder(dataclasses.replace(model.config, vocab=257))
        params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(wide.init, KEY))
        training.save_model(tmp_path, wide, params)
        assert training.load_model(tmp_path).model.config == wide.config


def test_numbers_of_numpy_are_taken_as_python_has_them():
    given = {"window": np.int64(3), "windowed": np.array([1, 0]), "score_cap": np.float64(2.0)}
    config = models.decoder(**SIZES, **given, dtype="bfloat16").config
    assert [type(x) for x in (config.window, config.windowed[0], config.score_cap)] == [
        int, int, float
    ]  # fmt: skip
    assert config.windowed == (0, 1)
    json.dumps(dataclasses.asdict(config))


ROTARY = {"positions": "rotary"}
LLAMA3 = {"kind": "llama3", "factor": 8.0}


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"window": 0}, ValueError, "decoder window: expected at least 1 positive"),
        ({"window": 2.5}, ValueError, "decoder window: expected"),
        ({"windowed": (0,)}, ValueError, "windowed: it is of layers with a window: give window="),
        ({"window": 3, "windowed": (2,)}, ValueError, r"windowed: expected layers 0\.\.1, got 2"),
        ({"window": 3, "windowed": (-1,)}, ValueError, r"expected layers 0\.\.1, got -1"),
        ({"window": 3, "windowed": (True,)}, ValueError, r"expected layers 0\.\.1, got True"),
        ({"window": 3, "windowed": (1, 1)}, ValueError, "a layer is named twice"),
        ({"window": 3, "windowed": ()}, ValueError, "it names no layer: leave out window="),
        ({"window": 3, "windowed": 1}, ValueError, "windowed: expected layers, got 1"),
        ({**ROTARY, "window_rotary_base": 9.0}, ValueError, "base: it is of layers with a window"),
        ({"window": 3, "window_rotary_base": 9.0}, ValueError, "positions are 'learned': give pos"),
        ({"rotary_scaling": LLAMA3}, ValueError, "rotary_scaling: positions are 'learned'"),
        ({**ROTARY, "rotary_scaling": 8.0}, ValueError, "expected a RotaryScaling or a mapping"),
        ({**ROTARY, "rotary_scaling": {**LLAMA3, "kind": "yarn"}}, ValueError, "'linear' or 'llam"),
        ({**ROTARY, "rotary_scaling": {**LLAMA3, "factor": 0}}, ValueError, "factor: expected a p"),
        ({**ROTARY, "rotary_scaling": {**LLAMA3, "low": 4}}, ValueError, "expected low < high"),
        ({**ROTARY, "rotary_scaling": {**LLAMA3, "original": 0}}, ValueError, "original: expected"),
        ({**ROTARY, "rotary_scaling": {"kind": "llama3"}}, TypeError, "scaling: missing factor"),
        ({**ROTARY, "rotary_scaling": {**LLAMA3, "hihg": 4}}, TypeError, "did you mean 'high'"),
        ({"score_scale": 0.0}, ValueError, "score_scale: expected a positive number, got 0.0"),
        ({"score_cap": -1.0}, ValueError, "score_cap: expected a positive number"),
        ({"logit_cap": float("inf")}, ValueError, "logit_cap: expected a positive number"),
        ({"embed_scale": True}, ValueError, "embed_scale: expected a positive number, got True"),
        ({"rotary_base": "big"}, ValueError, "rotary_base: expected a positive number, got 'big'"),
        ({"out_norm": "yes"}, ValueError, "out_norm: expected one of"),
        ({"norm": "rms1p"}, ValueError, "norm: expected one of"),
        ({"bias": "mlp"}, ValueError, "bias: expected one of"),
        ({"dtype": "float64"}, ValueError, "dtype: expected one of"),
        ({"windows": 3}, TypeError, "unknown argument 'windows'; did you mean 'window'"),
    ],
)
def test_options_without_meaning_are_refused_by_name(fields, error, message):
    with pytest.raises(error, match=message):
        models.decoder(**{**SIZES, **fields})
