import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from activjax import training
from tests.training import tiny

DECODER = tiny.decoder(norm="rms")
PARAMS = {
    "embed": {"table": jnp.array([[1.0, -2.0], [0.5, 3.0]])},
    "blocks": {"kernel": jnp.full((2, 2, 2), 2.0), "bias": jnp.array([[-0.0, 1.0], [0.0, -2.0]])},
}
GRADS = {
    "embed": {"table": jnp.full((2, 2), 3.0)},
    "blocks": {"kernel": jnp.full((2, 2, 2), -0.5), "bias": jnp.full((2, 2), 0.1)},
}


@functools.partial(jax.jit, static_argnums=0)
def _apply(optimiser, grads, state, params):
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimiser.update(grads, state, params)
        return optax.apply_updates(params, updates), state


def apply(optimiser, grads=GRADS, params=PARAMS, steps=1):
    state = optimiser.init(params)
    for _ in range(steps):
        params, state = _apply(optimiser, grads, state, params)
    return params, state


def arrays(state):
    return [x for x in jax.tree.leaves(state) if x.ndim]


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine():
    schedule = training.warmup_cosine(2.0, steps=10, warmup=4, final=0.1)
    rates = jax.jit(jax.vmap(schedule))(jnp.arange(13, dtype=jnp.int32))
    cosine = 0.1 + 0.9 * (1 + np.cos(np.pi * np.arange(1, 7) / 6)) / 2
    want = 2 * np.array([0.25, 0.5, 0.75, 1, *cosine, 0.1, 0.1, 0.1])
    np.testing.assert_allclose(rates, want, rtol=1e-5)
    everything = training.warmup_cosine(2.0, steps=4, warmup=4)
    assert everything(jnp.int32(3)) == 2
    at_once = training.warmup_cosine(2.0, steps=1, final=0.5)
    assert at_once(jnp.int32(0)) == 1


def test_one_step_by_hand():
    optimiser = training.adamw(0.1, steps=10, warmup=0, final=1, decay=0.25, eps=0, clip=None)
    new, _ = apply(optimiser)
    # Adam's first update is the gradient's sign; only the kernel decays, at 0.1 * 0.25 of it
    np.testing.assert_allclose(new["embed"]["table"], PARAMS["embed"]["table"] - 0.1, rtol=1e-6)
    np.testing.assert_allclose(new["blocks"]["kernel"], 2 + 0.1 - 0.1 * 0.25 * 2, rtol=1e-6)
    np.testing.assert_allclose(new["blocks"]["bias"], PARAMS["blocks"]["bias"] - 0.1, rtol=1e-6)


def test_it_is_optax_adamw_with_everything_in_its_place():
    steps = 6
    ours = training.adamw(1e-2, steps=steps, warmup=2, decay=0.3, clip=0.5, eps=1e-3)
    rates = jnp.stack([training.warmup_cosine(1e-2, steps=6, warmup=2)(c) for c in range(steps)])
    mask = {"embed": {"table": False}, "blocks": {"kernel": True, "bias": False}}
    theirs = optax.chain(
        optax.clip_by_global_norm(0.5),
        optax.adamw(lambda c: rates[c], 0.9, 0.95, eps=1e-3, weight_decay=0.3, mask=mask),
    )
    chex.assert_trees_all_close(
        apply(ours, steps=steps)[0], apply(theirs, steps=steps)[0], rtol=1e-6
    )


def test_what_decays_is_chosen_by_name():
    def moved(params=PARAMS, **options):
        optimiser = training.adamw(0.1, steps=1, final=1, decay=1.0, **options)
        zeros = jax.tree.map(jnp.zeros_like, params)
        new = apply(optimiser, zeros, params)[0]
        return {k for k, v in _flat(new).items() if (v != _flat(params)[k]).any()}

    assert moved() == {"blocks/kernel"}
    assert moved({"head": {"kernel": {"a": jnp.ones(2)}}}) == {"head/kernel/a"}  # of LoRA
    assert moved(decayed="embed/**") == {"embed/table"}
    assert moved(decayed=("blocks/bias", "**/table")) == {"blocks/bias", "embed/table"}
    with pytest.raises(ValueError, match=r"adamw decayed: no parameter is named 'table'; did you"):
        moved(decayed="table")


def _flat(tree):
    return {
        jax.tree_util.keystr(p, simple=True, separator="/"): v
        for p, v in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_a_sweep_of_hyper_parameters_is_one_program():
    numbers = {"peak": 1e-2, "warmup": 2, "final": 0.2, "decay": 0.3, "clip": 0.5}

    def run(swept, betas):
        optimiser = training.adamw(steps=4, betas=betas, **swept)
        state = (PARAMS, optimiser.init(PARAMS))
        body = lambda s, _: (_apply.__wrapped__(optimiser, GRADS, s[1], s[0]), None)  # noqa: E731
        return jax.lax.scan(body, state, length=4)[0][0]

    swept = {k: jnp.array([v, 2 * v]) for k, v in numbers.items()}
    betas = (jnp.array([0.9, 0.8]), jnp.array([0.95, 0.5]))
    traced = jax.jit(jax.vmap(chex.assert_max_traces(run, 1)))
    out = traced(swept, betas)
    traced(jax.tree.map(jnp.negative, swept), betas)
    first = training.adamw(steps=4, betas=(0.9, 0.95), **numbers)
    chex.assert_trees_all_close(
        jax.tree.map(lambda x: x[0], out), apply(first, steps=4)[0], rtol=1e-5
    )
    assert (out["blocks"]["kernel"][0] != out["blocks"]["kernel"][1]).all()


def test_bfloat16_parameters_have_float32_moments():
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    grads = jax.tree.map(lambda x: x.astype(jnp.bfloat16), GRADS)
    optimiser = training.adamw(0.5, steps=2, decay=0.0)
    new, state = apply(optimiser, grads, params, steps=2)
    assert {x.dtype.name for x in arrays(state)} == {"float32"}
    assert {x.dtype.name for x in jax.tree.leaves(new)} == {"bfloat16"}
    full, _ = apply(optimiser, steps=2)
    # two roundings to 8 bits
    chex.assert_trees_all_close(jax.tree.map(jnp.float32, new), full, rtol=2.0**-7, atol=2.0**-8)


def test_a_frozen_part_keeps_every_bit_and_no_state():
    optimiser = training.partition(
        PARAMS, {"**/kernel": training.adamw(0.1, steps=3)}, default=None
    )
    new, state = apply(optimiser, steps=3)
    assert [x.shape for x in arrays(state)] == [(2, 2, 2)] * 2  # Adam's moments of the kernel
    assert (new["blocks"]["kernel"] != PARAMS["blocks"]["kernel"]).all()
    for old, kept in (
        (PARAMS["blocks"]["bias"], new["blocks"]["bias"]),
        *zip(*map(jax.tree.leaves, (PARAMS["embed"], new["embed"]))),
    ):
        assert np.asarray(old).tobytes() == np.asarray(kept).tobytes()  # -0.0 too


def test_gradients_of_what_is_frozen_are_not_computed():
    loss = training.next_token(tiny.language_model())
    params = tiny.filled(tiny.language_model())
    batch = (jnp.ones((4, 9), jnp.int32), None)

    def flops(rules):
        optimiser = training.partition(params, rules)

        def step(params):
            grads = jax.grad(lambda p: loss(p, {}, batch, None)[0])(params)
            return optimiser.update(grads, optimiser.init(params), params)[0]

        return jax.jit(step).lower(params).compile().cost_analysis()["flops"]

    sgd = optax.sgd(0.1)
    assert flops({"head/**": sgd, "hidden/**": None, "embed/**": None}) < 0.7 * flops({"**": sgd})


def test_each_part_is_clipped_by_its_own_norm():
    clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))
    new, _ = apply(training.partition(PARAMS, {"embed/**": clipped}, default=clipped))
    np.testing.assert_allclose(new["embed"]["table"], PARAMS["embed"]["table"] - 0.5)  # norm 6
    norm = np.sqrt(8 * 0.5**2 + 4 * 0.1**2)
    np.testing.assert_allclose(new["blocks"]["kernel"], 2 + 0.5 / norm, rtol=1e-6)


def test_pairs_in_order_go_to_the_first_that_matches():
    rules = [("blocks/bias", optax.sgd(1.0)), ("blocks/**", None), ("**", optax.sgd(2.0))]
    new, _ = apply(training.partition(PARAMS, rules))
    moved = jax.tree.map(lambda a, b, g: ((b - a) / g).mean(), PARAMS, new, GRADS)
    chex.assert_trees_all_close(
        moved, {"embed": {"table": -2.0}, "blocks": {"kernel": 0.0, "bias": -1.0}}, atol=1e-6
    )


def test_a_model_says_its_own_paths():
    optimiser = training.partition(DECODER, {"blocks/mlp/**": optax.adam(0.1)}, default=None)
    state = jax.eval_shape(optimiser.init, jax.eval_shape(DECODER.init, jax.random.key(0)))
    assert len(arrays(state)) == 2 * 4  # two kernels and biases


SGD = optax.sgd(0.1)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"embed/**": SGD, "blocks/kernal": SGD},
            "matches 'blocks/kernal'; nearest: blocks/kernel",
        ),
        ({"blocks": SGD}, "no parameter is named 'blocks'; did you mean 'blocks/\\*\\*'"),
        ({"bias": SGD}, "did you mean '\\*\\*/bias'"),
        (
            {"**": SGD, "**/bias": None},
            "'blocks/bias' is matched by '\\*\\*' and '\\*\\*/bias': pass",
        ),
        ([("**", SGD), ("**/bias", None)], "all that '\\*\\*/bias' matches, such as 'blocks/bias'"),
        ({"embed/*": SGD}, "no optimiser for blocks/bias, blocks/kernel: give default="),
    ],
)
def test_rules_that_do_not_fit_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        training.partition(PARAMS, rules)


def test_an_optimiser_is_one_of_optax():
    with pytest.raises(
        TypeError, match=r"expected an optax optimiser or None \(freeze\) for '\*\*'"
    ):
        training.partition(PARAMS, {"**": 0.1})
    with pytest.raises(TypeError, match="expected globs over parameter paths, got 3"):
        training.partition(PARAMS, {3: SGD})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peak": -1.0}, "adamw peak: expected a number of at least 0, got -1"),
        ({"steps": 0}, "adamw steps: expected a number of at least 1, got 0"),
        ({"warmup": 11}, "adamw warmup: expected a number from 0 to 10, got 11"),
        ({"decay": float("nan")}, "adamw decay: expected .* got nan"),
        ({"betas": (0.9, 1.0)}, r"adamw betas: expected a number in \[0, 1\), got 1.0"),
        ({"clip": 0.0}, "adamw clip: expected a positive number, got 0.0"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        training.adamw(**{"peak": 1.0, "steps": 10, **options})
