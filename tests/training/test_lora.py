import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

import activjax as aj
from activjax import data, models, training
from activjax.training import lora
from tests.training import tiny

KEY = jax.random.key(0)
FIELDS = {"gated": True, "tied": False, "activation": "silu"}
MODEL = tiny.decoder(**FIELDS)
PARAMS = tiny.filled(MODEL)
IDS = np.random.default_rng(2).integers(0, tiny.VOCAB, (8, 6)).astype(np.int32)
ALPHA = 3.0
KERNELS = [
    "blocks/attn/k/kernel", "blocks/attn/out/kernel", "blocks/attn/q/kernel",
    "blocks/attn/v/kernel", "blocks/mlp/out/kernel", "blocks/mlp/pre/kernel",
    "blocks/mlp/up/kernel", "head/kernel",
]  # fmt: skip
SHAPES = jax.eval_shape(lambda: lora.init(KEY, PARAMS, "**/kernel", rank=2))
ADAPTERS = jax.tree.map(
    lambda x: jnp.asarray(
        0.3 * np.random.default_rng(x.size).standard_normal(x.shape), jnp.float32
    ),
    SHAPES,
)


def _path(keys):
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def flat(tree):
    return {_path(p): v for p, v in jax.tree_util.tree_leaves_with_path(tree)}


def only(start):
    """The adapters of kernels whose path starts so; the others add nothing."""
    return jax.tree_util.tree_map_with_path(
        lambda p, x: x if _path(p).startswith(start) else jnp.zeros_like(x), ADAPTERS
    )


@jax.jit
def attached(adapters, ids=IDS, params=PARAMS):
    return MODEL.apply(lora.attach(params, adapters, alpha=ALPHA), ids)


plain = jax.jit(MODEL.apply)


def close(a, b):
    """To 1e-5 of the largest."""
    size = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(b))
    chex.assert_trees_all_close(a, b, rtol=0, atol=1e-5 * size)


def test_adapters_have_the_kernels_places_and_change_nothing_at_first():
    assert sorted(flat(SHAPES)) == [f"{k}/{f}" for k in KERNELS for f in "ab"]
    pre = SHAPES["blocks"]["mlp"]["pre"]["kernel"]
    assert pre["a"].shape == (2, 8, 2)
    assert pre["b"].shape == (2, 2, 32)
    assert SHAPES["head"]["kernel"]["a"].shape == (8, 2)
    assert lora.count(SHAPES) == lora.count(ADAPTERS) == sum(x.size for x in flat(SHAPES).values())

    params = {"x": {"kernel": jnp.ones((3, 100, 50))}, "y": {"kernel": jnp.ones((3, 100, 50))}}
    first = jax.jit(lambda: lora.init(KEY, params, "*/kernel", rank=40))()
    chex.assert_trees_all_equal(lora.merge(params, first, alpha=ALPHA), params)
    drawn = np.stack([first[k]["kernel"]["a"] for k in "xy"])
    assert np.unique(drawn[:, :, 0, :3]).size == 18  # every layer of each has its own
    # 24,000 draws: a standard deviation of 0.5 %
    assert abs(10 * drawn.std() - 1) < 0.02


def test_the_adapted_model_starts_exactly_equal():
    assert (attached(only("none")) == plain(PARAMS, IDS)).all()


@pytest.mark.parametrize("scan", [True, False])
def test_merged_equals_adapter_for_every_projection(scan):
    with_adapters, apply = attached, plain
    if not scan:
        model = tiny.decoder(**FIELDS, scan=False)
        apply = jax.jit(model.apply)
        with_adapters = jax.jit(lambda a: model.apply(lora.attach(PARAMS, a, alpha=ALPHA), IDS))
    merged = jax.jit(functools.partial(lora.merge, alpha=ALPHA))
    base = apply(PARAMS, IDS)
    for path in (*KERNELS, ""):
        adapters = only(path)
        out = with_adapters(adapters)
        close(out, apply(merged(PARAMS, adapters), IDS))
        assert jnp.abs(out - base).max() > 1e-2


def test_the_scale_is_alpha_over_each_rank():
    params = {
        "x": {"kernel": jnp.ones((4, 3))},
        "y": {"kernel": jnp.zeros((4, 3))},
        "z": jnp.ones(2),
    }
    shapes = jax.eval_shape(lambda: lora.init(KEY, params, {"x/*": 1, "y/kernel": 2}))
    adapters = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    merged = lora.merge(params, adapters, alpha=jnp.float32(4))
    chex.assert_trees_all_close(merged["x"]["kernel"], jnp.full((4, 3), 1 + 4.0))
    chex.assert_trees_all_close(merged["y"]["kernel"], jnp.full((4, 3), 2 * 4 / 2.0))
    assert merged["z"] is params["z"]


def test_only_adapters_move_and_a_loop_compiles_once():
    before = jax.tree.map(np.array, PARAMS)
    select = ["blocks/attn/?/kernel", "head/kernel"]
    model = lora.adapt(MODEL, PARAMS, select, rank=2, alpha=ALPHA)
    optimiser = training.adamw(0.1, steps=20, decay=0.0)
    adapters = tiny.filled(model)  # as `init`, without compiling it
    position = data.BatchState(KEY, *(jnp.zeros((), jnp.int32),) * 3)
    state = training.TrainState(adapters, optimiser.init(adapters), {}, position, KEY)
    numbers = lora.count(state.params)
    assert sum(x.size for x in jax.tree.leaves(state.opt_state)) == 2 * numbers + 2  # two counts
    assert set(state.params["blocks"]) == {"attn"}

    @jax.jit
    @chex.assert_max_traces(1)
    def step(state, batch):
        return training.train_step(training.next_token(model), optimiser, state, batch)

    losses = []
    for _ in range(20):
        state, metrics = step(state, (IDS, None))
        losses.append(metrics["loss"])
    assert losses[-1] < 0.8 * losses[0]
    chex.assert_trees_all_equal(PARAMS, before)
    after = lora.attach(PARAMS, state.params, alpha=ALPHA)
    kept = {k: v for k, v in flat(after).items() if k in flat(PARAMS)}
    assert all(v is flat(PARAMS)[k] for k, v in kept.items())


def test_no_gradient_of_a_kernel_is_computed():
    loss = lambda p: training.next_token(MODEL)(p, {}, (IDS, None), KEY)[0]  # noqa: E731
    of_all = jax.grad(loss)
    of_adapters = jax.grad(lambda a, p: loss(lora.attach(p, a, alpha=ALPHA)))

    def products(f, *args):
        """Shapes of all matrix products."""
        program = str(jax.make_jaxpr(f)(*args))
        return set(re.findall(r"f32\[([\d,]+)\] = dot_general", program))

    # [d_out, d_in] of the MLP's kernels occurs as a gradient, and nowhere with adapters
    assert {"8,32", "32,8"} & products(of_all, PARAMS)
    assert not {"8,32", "32,8"} & products(of_adapters, ADAPTERS, PARAMS)
    gradients = jax.eval_shape(of_adapters, ADAPTERS, PARAMS)
    chex.assert_trees_all_equal_shapes_and_dtypes(gradients, ADAPTERS)

    wide = models.decoder(vocab=64, context=32, layers=2, width=128, heads=4)
    shapes = jax.eval_shape(wide.init, KEY)
    small = jax.eval_shape(lambda: lora.init(KEY, shapes, "blocks/**/kernel", rank=4))
    ids = jax.ShapeDtypeStruct((4, 33), jnp.int32)
    cost = lambda p, t: training.next_token(wide)(p, {}, (t, None), None)[0]  # noqa: E731
    full = jax.jit(jax.grad(cost)).lower(shapes, ids).cost_analysis()["flops"]
    less = jax.grad(lambda a, p, t: cost(lora.attach(p, a, alpha=8.0), t))
    less = jax.jit(less).lower(small, shapes, ids).cost_analysis()["flops"]
    # forward and back through the inputs are 2 of 3 parts; attention and adapters a little more
    assert less < 0.8 * full


def test_an_adapted_decoder_is_a_decoder():
    model = lora.adapt(MODEL, PARAMS, "blocks/attn/*/kernel", rank=2, alpha=ALPHA)
    assert isinstance(model, models.Decoder)
    adapters = jax.eval_shape(model.init, jax.random.key(0))
    prompts = np.zeros((2, 3), int)
    edits = lambda layer: {"blocks/mlp/out": aj.edits.scale(0.0)}  # noqa: E731

    def everything(adapters):
        new = models.generate(model, adapters, prompts, steps=2)
        return new.tokens, models.sweep_last_token(model, adapters, prompts, edits, layers=[1])

    shapes = [x.shape for x in jax.tree.leaves(jax.eval_shape(everything, adapters))]
    assert shapes == [(2, 2), (1, 2, tiny.VOCAB)]


def test_adapters_map_over_an_axis():
    many = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), ADAPTERS)
    out = jax.jit(jax.vmap(attached))(many)
    for i in range(2):
        one = attached(jax.tree.map(lambda x: x[i], many))  # noqa: B023
        close(out[i], one)


def test_sites_are_read_and_edited_through_adapters():
    tuned = lora.attach(PARAMS, ADAPTERS, alpha=ALPHA)
    out, acts = jax.jit(aj.capture(MODEL.apply, "blocks/attn/v"))(tuned, IDS)
    close(out, attached(ADAPTERS))
    # another adapter of v, but the values of this one
    edit = {site: aj.edits.replace(aj.edits.each(x)) for site, x in acts.items()}
    another = jax.tree_util.tree_map_with_path(
        lambda p, x: 2 * x if "attn/v/" in _path(p) else x, ADAPTERS
    )
    edited = jax.jit(aj.intervene(MODEL.apply, edit))
    close(edited(lora.attach(PARAMS, another, alpha=ALPHA), IDS), out)
    assert jnp.abs(attached(another) - out).max() > 1e-2


def test_a_mesh_changes_nothing():
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "model"))

    def put(x, *spec):
        return jax.device_put(x, NamedSharding(mesh, P(*spec)))

    def kernel(path, x):
        out = "model" if x.shape[-1] % 2 == 0 and path[-1].key == "kernel" else None
        return put(x, *[None] * (x.ndim - 1), out)

    params, adapters = jax.tree_util.tree_map_with_path(kernel, PARAMS), jax.tree.map(put, ADAPTERS)
    ids = put(IDS, "data")
    close(attached(adapters, ids, params), attached(ADAPTERS))


@pytest.mark.slow
def test_generation_and_recomputation_use_adapters():
    for fields in ({"remat": True}, {"remat": True, "scan": False}):
        model = tiny.decoder(**FIELDS, **fields)

        def gradient(join, model=model):
            loss = training.next_token(model)
            value = lambda a: loss(join(PARAMS, a, alpha=ALPHA), {}, (IDS, None), KEY)[0]  # noqa: E731
            return jax.jit(jax.grad(value))(ADAPTERS)

        close(gradient(lora.attach), gradient(lora.merge))
    run = jax.jit(functools.partial(models.generate, MODEL, steps=3))
    both = [
        run(join(PARAMS, ADAPTERS, alpha=ALPHA), IDS[:, :3]) for join in (lora.attach, lora.merge)
    ]
    assert (both[0].tokens == both[1].tokens).all()


def test_half_precision_keeps_float32_adapters():
    model = tiny.decoder(**FIELDS, dtype="bfloat16", param_dtype="bfloat16")
    params = jax.eval_shape(model.init, KEY)
    adapters = jax.eval_shape(lambda: lora.init(KEY, params, "**/kernel", rank=2))
    loss = training.next_token(model)

    def value(adapters, params):
        return loss(lora.attach(params, adapters, alpha=ALPHA), {}, (IDS, None), KEY)[0]

    for tree in (adapters, jax.eval_shape(jax.grad(value), adapters, params)):
        assert {x.dtype.name for x in jax.tree.leaves(tree)} == {"float32"}
    merged = jax.eval_shape(lambda p, a: lora.merge(p, a, alpha=ALPHA), params, adapters)
    chex.assert_trees_all_equal_shapes_and_dtypes(merged, params)


def test_a_module_that_cannot_use_them_says_merge():
    model = models.mlp([4, 8, 3])
    params = tiny.filled(model)
    x = jnp.ones((2, 4))
    select = {"head/kernel": 2}
    refused = lora.adapt(model, params, select, alpha=2.0)
    adapters = tiny.filled(refused)
    with pytest.raises(ValueError, match=r"'head/kernel' is a low-rank kernel.*merge it \(lora.m"):
        refused.apply(adapters, x)
    merged = lora.adapt(model, params, select, alpha=2.0, merged=True)
    adapters = jax.tree.map(jnp.ones_like, tiny.filled(merged))
    shifted = {**params, "head": {**params["head"], "kernel": params["head"]["kernel"] + 2.0}}
    close(jax.jit(merged.apply)(adapters, x), jax.jit(model.apply)(shifted, x))


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (
            {"blocks/atn/q/kernel": 2},
            "matches 'blocks/atn/q/kernel'; nearest: blocks/attn/q/kernel",
        ),
        (
            {"blocks/attn": 2},
            r"no parameter is named 'blocks/attn'; did you mean 'blocks/attn/\*\*'",
        ),
        (
            {"final/*": 2},
            r"'final/bias', which is no matrix but one number or vector \(shape \[8\]",
        ),
        ({"blocks/attn/**": 2}, r"'blocks/attn/k/bias', which is no matrix but a vector a layer"),
        ({"**/kernel": 0}, r"rank of '\*\*/kernel': expected a whole number >= 1, got 0"),
        ({"**/kernel": 2.0}, "expected a whole number >= 1, got 2.0"),
        (
            {"head/kernel": 9},
            r"rank 9 is above that of 'head/kernel', a matrix \[8, 17\]: at most 8",
        ),
        ({"head/*": 2, "**/kernel": 3}, "two ranks for 'head/kernel', 2 and 3"),
        ({}, "nothing to adapt"),
        ("**/kernel", r"give rank=, or \{glob: rank\}"),
    ],
)
def test_what_cannot_be_adapted_is_refused(select, message):
    with pytest.raises(ValueError, match=message):
        lora.init(KEY, PARAMS, select)
    with pytest.raises(ValueError, match=message):
        lora.adapt(MODEL, PARAMS, select, alpha=1.0)


def test_adapters_of_another_model_are_refused():
    def attach(adapters, params=PARAMS):
        return lora.attach(params, adapters, alpha=1.0)

    with pytest.raises(ValueError, match="adapters have 'nose' at 'blocks', where the parameters"):
        attach({"blocks": {"nose": {}}})
    with pytest.raises(ValueError, match="'head/kernel': low-rank kernel .8, 17.: a, b and scale"):
        attach({"head": {"kernel": {"a": np.ones((9, 2)), "b": np.ones((2, 17))}}})
    with pytest.raises(
        ValueError, match="expected .'a': ..., 'b': .... for the kernel 'head/kernel'"
    ):
        attach({"head": {"kernel": np.ones(3)}})
    with pytest.raises(ValueError, match="'head/kernel' has an adapter attached already"):
        attach({"head": ADAPTERS["head"]}, attach({"head": ADAPTERS["head"]}))
    with pytest.raises(ValueError, match="not both"):
        lora.init(KEY, PARAMS, {"head/kernel": 2}, rank=2)
