import functools
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec as P

import activjax as aj
from activjax import data, models, training
from activjax.models.decoder import axes as of_decoder
from activjax.models.sharding._rules import KNOWN
from activjax.training import checkpoint, lora
from activjax.transforms._names import glob

KEY = jax.random.key(0)
B, T = 8, 12
SIZES = dict(vocab=40, context=24, layers=2, width=16, heads=8, mlp_width=96)
LLAMA = dict(
    norm="rms", positions="rotary", bias=False, tied=False, activation="silu", gated=True,
    kv_heads=4,
)  # fmt: skip
BARE = dict(norm="rms", positions="none", bias=False, activation="relu")
MODEL = models.decoder(**SIZES)

# Two orders of summing n terms differ by about 2 sqrt(n) u times their size (Higham and Mary 2019;
# at most 2 n u). No sum has more than 96 terms (hidden units; in gradients tokens), and 9 of them
# follow one another: 4 products a block and the head.
FORWARD = 2 * math.sqrt(96) * 2.0**-24 * 9
BACKWARD = 2 * FORWARD


# What LLVM makes of a program is not the point here, and takes half the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def near(got, want, tolerance=FORWARD):
    """Equal, relative to the largest value."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1e-3))


@functools.cache
def network(model=MODEL):
    """Parameters of which none is at its default: biases and scales matter."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        gain = 1 / math.sqrt(leaf.shape[-2]) if leaf.shape[-1] != 16 else 0.3
        return (gain * rng.standard_normal(leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(draw, jax.eval_shape(model.init, KEY))


def tokens(vocab=SIZES["vocab"]):
    return np.random.default_rng(3).integers(0, vocab, (B, T), np.int32)


def grid(sizes=(2, 4)):
    return models.mesh(data=sizes[0], model=sizes[1])


def placed(sizes=(2, 4), model=MODEL, **kwargs):
    place = models.sharding(model, grid(sizes), **kwargs)
    ids = jax.device_put(tokens(model.config.vocab), place.batch)
    return place, place.put(network(model)), ids


def local(x):
    """The shape that each device has; the same on all."""
    (shape,) = {shard.data.shape for shard in x.addressable_shards}
    return shape


def same_shardings(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        y = getattr(y, "sharding", y)
        assert x.sharding.is_equivalent_to(y, x.ndim), (x.shape, x.sharding, y)


def reading(model):
    return aj.capture(model.apply, "blocks/resid_post")


def editing(model):
    push = aj.edits.add(np.linspace(-1, 1, 16, dtype=np.float32))
    return aj.intervene(model.apply, [(aj.select("blocks/resid_post", layers=0, at=5), push)])


def generating(model):
    def generate(params, ids):
        return models.generate(model, params, ids[:, :8], steps=5)

    return aj.capture(generate, "*/logits")


def sweeping(model):
    vectors = jnp.asarray(np.random.default_rng(2).standard_normal((3, 16)), jnp.float32)

    def edits(vector, layer):
        return {aj.select("blocks/resid_post", layers=layer): aj.edits.add(vector)}

    return lambda params, ids: models.sweep_last_token(
        model, params, ids, edits, vectors, jnp.arange(2)
    )


@functools.cache
def on_one_device(what, model=MODEL):
    return jax.device_get(jit(what(model))(network(model), tokens(model.config.vocab)))


def run(what, place, params, ids, compilations):
    """What a function gives on a mesh, compiled once for two calls."""
    f = jit(what(place.model))
    with compilations() as seen:
        out = f(params, ids)
        f(params, ids)
    assert len(seen) == 1
    return out


@pytest.mark.parametrize(
    ("sizes", "rules"),
    [((8, 1), "tensor"), ((2, 4), "tensor"), ((1, 8), "tensor"), ((4, 2), "tensor"),
     ((2, 4), "fsdp")],
)  # fmt: skip
def test_logits_and_activations_are_those_of_one_device(sizes, rules, compilations):
    place, params, ids = placed(sizes, rules=rules)
    logits, acts = run(reading, place, params, ids, compilations)
    near((logits, acts), on_one_device(reading))
    assert local(acts["blocks/resid_post"]) == (2, B // sizes[0], T, 16)
    assert local(logits) == (B // sizes[0], T, 40 // sizes[1])


def test_edits_are_those_of_one_device(compilations):
    got = run(editing, *placed(), compilations)
    want, plain = on_one_device(editing), on_one_device(reading)[0]
    near(got, want)
    assert np.abs(want - plain)[:, 5].max() > 0.1
    near(got[:, :5], plain[:, :5])


def loss_of(model):
    def loss(params, model_state, ids, key):
        logits = model.apply(params, ids)[:, :-1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, ids[:, 1:]).mean(), ({}, {})

    return loss


# With eps = lr, Adam's first update lr g / (|g| + eps) moves no more than the gradient does.
ADAM = optax.adam(0.01, eps=0.01)


@jit
def start(params):
    at = data.Batches(30, B).init(KEY)
    return training.TrainState(params, ADAM.init(params), {}, at, jax.random.key(3))


def stepping(model):
    return functools.partial(training.train_step, loss_of(model), ADAM)


@functools.cache
def stepped(model):
    state, _ = jit(stepping(model))(start(network(model)), tokens())
    return jax.device_get((state.params, state.opt_state))


@pytest.mark.parametrize(
    ("rules", "fields"),
    [
        ("tensor", BARE),
        pytest.param("tensor", LLAMA, marks=pytest.mark.slow),
        pytest.param("fsdp", LLAMA, marks=pytest.mark.slow),
        pytest.param("fsdp", {}, marks=pytest.mark.slow),
    ],
)
def test_a_training_step_is_that_of_one_device(rules, fields, compilations):
    model = models.decoder(**SIZES, **fields)
    place, params, ids = placed(model=model, rules=rules)
    state = place.put(start(network(model)))
    adam = state.opt_state[0]
    same_shardings(adam.mu, params)  # Adam's moments are split, not copied
    same_shardings(adam.nu, params)
    assert local(adam.mu["blocks"]["mlp"]["pre"]["kernel"])[-1] == 96 // 4
    step = jit(stepping(place.model), out_shardings=(place.like(state), None))
    with compilations() as seen:
        after, metrics = step(state, ids)
        again, more = step(after, ids)
    assert len(seen) == 1
    assert more["loss"] < metrics["loss"]
    near((after.params, after.opt_state), stepped(model), BACKWARD)
    same_shardings(again, place.like(state))


def test_generated_tokens_are_those_of_one_device(compilations):
    place, params, ids = placed()
    got, acts = run(generating, place, params, ids, compilations)
    want, logits = on_one_device(generating)
    near(acts, logits)
    for x in (logits["prefill/logits"][:, -1], logits["decode/logits"]):
        best = np.sort(x, axis=-1)
        assert (best[..., -1] - best[..., -2]).min() > 20 * FORWARD * np.abs(x).max()  # no ties
    assert got.tokens.tolist() == want.tokens.tolist()
    near(got.logprobs, want.logprobs)
    near((got.state.k, got.state.v), (want.state.k, want.state.v))
    # by itself it comes out as `like` says: over sequences and heads
    same_shardings((got.state.k, got.state.v), [place.like(got.state).k] * 2)
    assert local(got.state.k) == (2, B // 2, 8 // 4, T, 2)


def test_a_sweep_at_the_last_token_is_that_of_one_device(compilations):
    got = run(sweeping, *placed(), compilations)
    near(got, on_one_device(sweeping))
    assert local(got) == (3, 2, B // 2, 40 // 4)


def test_a_placed_cache_is_gone_on_with(compilations):
    place, params, ids = placed()
    cache = place.put(MODEL.init_cache(B, T))
    assert local(cache.k) == (2, B // 2, 8 // 4, T, 2)
    assert local(cache.lengths) == (B // 2,)
    step = lambda model: lambda p, t: model.apply(p, t, state=cache)  # noqa: E731
    logits, after = run(step, place, params, ids, compilations)
    near(logits, on_one_device(reading)[0])
    same_shardings((after.k, after.v), (cache.k, cache.v))
    made = place.make(lambda: MODEL.init_cache(B, T))
    chex.assert_trees_all_equal(made, cache)
    same_shardings(made, place.like(cache))


def test_what_cannot_be_split_is_whole_and_said():
    # 2 key heads of 2 columns: 4 columns would go over 4 devices, two torn heads
    model = models.decoder(**{**SIZES, **LLAMA, "vocab": 37, "kv_heads": 2})
    place, params, ids = placed(model=model)
    notes = {e.path: (e.cut.spec, e.note) for e in place.entries() if e.note}
    vocab, heads = "37 is no multiple of 4", "2 is no multiple of 4"
    assert notes == {
        "embed/table": (P(), f"vocab not over model: {vocab}"),
        "head/kernel": (P(), f"vocab not over model: {vocab}"),
        "blocks/attn/k/kernel": (P(), f"kv_heads not over model: {heads}"),
        "blocks/attn/v/kernel": (P(), f"kv_heads not over model: {heads}"),
    }
    assert "kv_heads=2x2" in repr(place)
    near(jit(model.apply)(params, ids), on_one_device(lambda m: m.apply, model))
    (note,) = {e.note for e in place.entries(model.init_cache(B, T)) if e.path in ("k", "v")}
    assert note == f"kv_heads not over model: {heads}"
    odd = {e.path: e.note for e in place.entries(model.init_cache(3, T))}
    assert odd["lengths"] == "batch not over data: 3 is no multiple of 2"


def test_bfloat16_runs():
    model = models.decoder(**SIZES, dtype="bfloat16", param_dtype="bfloat16")
    _, params, ids = placed(model=model)
    logits = jit(model.apply)(params, ids)
    assert logits.dtype == jnp.float32
    # 8 bits: about 20 roundings in a row of parameters and activations
    near(logits, on_one_device(reading)[0], 20 * 2.0**-9)


def test_each_device_makes_and_holds_its_share_only():
    place = models.sharding(MODEL, grid(), rules="fsdp")
    init = jit(MODEL.init, out_shardings=place.params)
    compiled = init.lower(KEY).compile()
    shapes = {
        tuple(map(int, dims.split(",")))
        for dims in re.findall(r"\w+\[([\d,]+)\]", compiled.as_text())
    }
    split = {e.shape for e in place.entries() if math.prod(e.shape) > 384 and any(e.cut.over)}
    assert len(split) == 4  # of attention, of the MLP in and out, of the vocabulary
    assert not shapes & split
    used = compiled.memory_analysis()
    whole = sum(e.nbytes for e in place.entries())
    assert used.output_size_in_bytes <= place.nbytes() + 8 * 64 < whole / 5  # and a table of 64
    params = compiled(KEY)
    kernel = params["blocks"]["mlp"]["pre"]["kernel"]
    assert local(kernel) == (2, 16 // 2, 96 // 4)
    held = dict.fromkeys(jax.devices(), 0)
    for leaf in jax.tree.leaves(params):
        for shard in leaf.addressable_shards:
            held[shard.device] += shard.data.nbytes
    assert set(held.values()) == {place.nbytes()}


@pytest.mark.slow
def test_a_decoder_made_in_place_is_that_of_one_device():
    for rules in models.SHARDING_RULES:
        made = models.sharding(MODEL, grid(), rules=rules).make(MODEL.init, KEY)
        near(made, jax.jit(MODEL.init)(KEY), 4 * 2.0**-24)  # the same bits, and a few roundings


def test_the_compiler_adds_what_it_must_and_gathers_nothing():
    place, params, ids = placed()
    text = jit(MODEL.apply).lower(params, ids).compile().as_text()
    sums = re.findall(r"= (\S+) all-reduce\(", text)
    # after the embedding, attention and the MLP: the residual stream of the device's sequences
    assert [s.split("{")[0] for s in sums] == [f"f32[{B // 2},{T},16]"] * 3
    for other in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert f" {other}(" not in text
    assert place.model is MODEL
    assert models.sharding(MODEL, grid((1, 8)), rules="fsdp").model is MODEL  # no data axis
    assert models.sharding(MODEL, grid(), rules="fsdp").model is not MODEL


CONFIGS = [
    {}, LLAMA, dict(bias="qkv"), dict(qk_norm=True, norm="rms"), dict(positions="none", tied=False),
    dict(parallel=True, scan=False, gated=True, qk_norm=True),
]  # fmt: skip


def test_every_parameter_of_a_decoder_has_named_axes():
    idle = set(of_decoder.PARAMETERS)
    for fields in CONFIGS:
        place = models.sharding(models.decoder(**{**SIZES, **fields}), grid())
        for entry in place.entries():
            assert "no logical axes" not in entry.note, entry.path
            assert set(entry.axes) <= set(KNOWN)
            idle -= {g for g in of_decoder.PARAMETERS if glob(g).fullmatch(entry.path)}
    assert not idle


def test_states_are_split_like_the_parameters_they_mirror():
    place = models.sharding(MODEL, grid())
    shapes = place.shapes
    labels = jax.tree_util.tree_map_with_path(
        lambda path, _: "slow" if "blocks" in jax.tree_util.keystr(path) else "fast", shapes
    )
    optimiser = optax.MultiSteps(
        optax.partition({"slow": optax.adamw(0.1), "fast": optax.lion(0.1)}, labels), 2
    )
    state = jax.eval_shape(optimiser.init, shapes)
    entries = {e.path: e for e in place.entries(state)}
    q = "blocks/attn/q/kernel"
    mirrors = [e for path, e in entries.items() if path.endswith(q)]
    assert len(mirrors) == 3  # two moments, and the sum of gradients
    assert {e.cut.spec for e in mirrors} == {P(None, None, "model")}
    counts = [e for e in entries.values() if e.shape == ()]
    assert counts
    assert all(e.cut.spec == P() and not e.note for e in counts)
    factored = jax.eval_shape(optax.adafactor(0.1, min_dim_size_to_factor=4).init, shapes)
    (rows,) = [e for e in place.entries(factored) if e.path.endswith(f"v_row/{q}")]
    assert (rows.cut.spec, rows.note) == (P(), "whole: not of the parameter's shape")
    assert place.nbytes(jax.eval_shape(optax.adam(0.1).init, shapes)) == 2 * place.nbytes() + 4


def test_adapters_are_split_where_their_kernels_are():
    place = models.sharding(MODEL, grid())
    adapters = jax.eval_shape(lambda: lora.init(KEY, place.shapes, {"blocks/attn/*/kernel": 3}))
    by_path = {e.path: e for e in place.entries(optax.adam(0.1).init(adapters))}
    q, out = "0/mu/blocks/attn/q/kernel", "0/mu/blocks/attn/out/kernel"
    specs = [by_path[f"{path}/{factor}"].cut.spec for path in (q, out) for factor in "ab"]
    assert specs == [P(), P(None, None, "model"), P(None, "model"), P()]
    assert not any(e.note for e in by_path.values())
    attached = jax.eval_shape(lambda a: lora.attach(place.shapes, a, alpha=4.0), adapters)
    by_path = {e.path: e.cut.spec for e in place.entries(attached)}
    assert by_path["blocks/attn/q/kernel/kernel"] == P(None, None, "model")
    assert by_path["blocks/attn/q/kernel/scale"] == P()
    torn = {"blocks": {"attn": {"q": {"kernel": {"b": np.zeros((2, 3, 9))}}}}}
    assert place.entries(torn)[0].note == "whole: not of the parameter's shape"


@pytest.mark.slow
def test_a_network_with_adapters_is_that_of_one_device():
    place, params, ids = placed()
    drawn = lora.init(KEY, network(), {"blocks/**/kernel": 3})
    drawn = jax.tree.map(lambda leaf: leaf + 0.1, drawn)
    tuned = lambda p, a, x: MODEL.apply(lora.attach(p, a, alpha=4.0), x)  # noqa: E731
    near(jit(tuned)(params, place.put(drawn), ids), jit(tuned)(network(), drawn, tokens()))


@pytest.mark.parametrize("sizes", [(2, 4), (8, 1)])
def test_a_checkpoint_comes_back_onto_any_mesh(tmp_path, sizes):
    state = placed()[0].put(start(network()))
    checkpoint.save(tmp_path, 5, state)
    place = models.sharding(MODEL, grid(sizes), rules="fsdp")
    like = place.put(jax.eval_shape(start, network()))
    found = checkpoint.restore(tmp_path, like).state
    as_data = lambda s: jax.device_get(s._replace(key=jax.random.key_data(s.key), batches=()))  # noqa: E731
    chex.assert_trees_all_equal(as_data(found), as_data(state))
    same_shardings((found.params, found.opt_state), place.like((found.params, found.opt_state)))


def test_other_models_are_whole_unless_their_axes_are_named():
    model = models.mlp([6, 32, 16, 5])
    assert {e.note for e in models.sharding(model, grid()).entries()} == {"whole: no logical axes"}
    axes = {"layers/0/*/kernel": "_ mlp", "layers/1/*/kernel": "mlp wide", "layers/0/**": "mlp"}
    rules = {"batch": "data", "mlp": "model", "wide": "data"}
    place = models.sharding(model, grid(), axes=axes, rules=rules, pin="layers/*/post")
    assert {e.path: e.cut.spec for e in place.entries() if any(e.cut.over)} == {
        "layers/0/dense/kernel": P(None, "model"),
        "layers/0/dense/bias": P("model"),
        "layers/1/dense/kernel": P("model", "data"),
    }
    params, whole = place.make(model.init, KEY), jit(model.init)(KEY)
    near(params, whole, 4 * 2.0**-24)  # the same bits, and a few roundings
    x = np.random.default_rng(0).standard_normal((B, 6), np.float32)
    want = model.apply(whole, x)
    run = jit(aj.capture(place.model.apply, "layers/1/post"))
    got, acts = run(params, jax.device_put(x, place.batch))
    near(got, want)
    assert local(acts["layers/1/post"])[0] == B // 2  # pinned
    near(place.model.apply(whole, x[:3]), want[:3])  # 3 rows cannot be shared by 2 devices


def test_a_mesh_axis_splits_one_axis_of_an_array():
    def specs(rules, axes):
        model = models.mlp([8, 24])
        place = models.sharding(model, grid(), rules=rules, axes={"head/kernel": axes})
        (entry,) = [e for e in place.entries() if e.path == "head/kernel"]
        return entry.cut.spec, entry.note

    assert specs({"mlp": "model", "embed": "model"}, "embed mlp") == (
        P(None, "model"), "embed not over model: it splits mlp already",
    )  # fmt: skip
    assert specs({"embed": "model", "mlp": "model"}, "embed mlp") == (
        P("model"), "mlp not over model: it splits embed already",
    )  # fmt: skip
    assert specs({"mlp": ("model", "data")}, "_ mlp") == (P(None, ("model", "data")), "")
    assert specs({"mlp": ["model", "data"], "embed": None}, "mlp embed") == (
        P(("model", "data")), "",
    )  # fmt: skip
    assert specs({"embed": ("model", "data")}, "mlp embed")[1] == ""
    assert specs({"embed": ("data", "model"), "mlp": "model"}, "embed embed") == (
        P(("data", "model")),
        "embed not over data: it splits embed already; embed not over model: it splits embed "
        "already",
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(rules="tensors"), "rules 'tensors': did you mean 'tensor'"),
        (dict(rules={"head": "model"}), "has a logical axis 'head': did you mean 'heads'"),
        (dict(rules=["heads"]), "rules: expected a mapping or one of 'tensor', 'fsdp'"),
        (dict(rules={"heads": 4}), "rules 'heads': expected mesh axes, got 4"),
        (dict(rules={"heads": "modle"}), "'modle', and the mesh has .*: did you mean 'model'"),
        (dict(rules={"heads": ("data", "x")}), "axis 'x', .* expected one of 'data', 'model'"),
        (dict(axes={"head/kernel": "in out"}), "axes: no rule for 'in'"),
        (dict(axes={"head/kernel": "embd _"}), "axes: no rule for 'embd': did you mean 'embed'"),
        (dict(axes={"head/kernl": "embed _"}), "matches 'head/kernl'; nearest: head/kernel"),
        (dict(axes={"head/kernel": "embed"}), r"names 1 axes, and head/kernel has shape \[8, 24\]"),
        (dict(axes={"head/kernel": ("embed", None)}), "expected names such as 'embed mlp'"),
        (dict(axes={"head/kernel": "heads _"}, pieces={"heads": 3}), "8 of it, .* not 3 equal"),
        (dict(axes={"head/kernel": "heads _"}, pieces={"heads": 0}), "expected a positive number"),
        (dict(pieces={"hands": 3}), "no axis is called 'hands'"),
    ],
)  # fmt: skip
def test_rules_that_mean_nothing_are_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        models.sharding(models.mlp([8, 24]), grid(), **given)


def test_a_mesh_is_made_of_the_devices_there_are():
    assert dict(models.mesh().shape) == {"data": 8, "model": 1}
    assert dict(models.mesh(model=4).shape) == {"data": 2, "model": 4}
    assert dict(models.mesh(data=2, stage=2).shape) == {"data": 2, "model": 1, "stage": 2}
    assert models.mesh(data=3).devices.ravel().tolist() == jax.devices()[:3]
    assert set(models.mesh().axis_types) == {AxisType.Auto}
    for sizes, message in [
        (dict(data=4, model=4), "data=4, model=4 needs 16 devices, there are 8"),
        (dict(model=3), "data=-1, model=3: 8 devices are no multiple of 3"),
        (dict(model=-1), "only one axis can be -1, got data and model"),
        (dict(data=0), "mesh data: expected a number of devices or -1, got 0"),
        (dict(model=2.0), "mesh model: expected a number of devices or -1, got 2.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            models.mesh(**sizes)
    explicit = jax.make_mesh((8,), ("data",), (AxisType.Explicit,))
    with pytest.raises(ValueError, match="expected axes of type Auto"):
        models.sharding(MODEL, explicit)
    with pytest.raises(ValueError, match="mesh has .*'data': 8"):
        models.sharding(MODEL, jax.make_mesh((8,), ("data",), (AxisType.Auto,)))
