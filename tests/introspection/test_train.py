"""Fine-tuning: what it changes, what it leaves, and that a sweep of it compiles once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import introspection, training
from activjax.introspection import Bias, Full, LoRA, _train
from tests.introspection.world import MODEL, TALK, bank, params, trials

STEPS = {"steps": 6, "batch": 8, "rate": 1e-2}
ASK = TALK.ask(np.full(4, -1), seed=3)
forward = jax.jit(MODEL.apply)


def tune(recipe=None, **options):
    recipe = trials() if recipe is None else recipe
    return introspection.train(MODEL, params(), bank(), recipe, **(STEPS | options))


def copies(tree):
    return jax.tree.map(np.array, tree)


@pytest.fixture(scope="module")
def lora():
    return tune(adapter=LoRA(rank=2, alpha=4))


def test_lora_changes_only_adapters(lora):
    before = copies(params())
    assert set(lora.trained) == {"blocks"}
    assert set(lora.trained["blocks"]) == {"attn"}
    jax.tree.map(np.testing.assert_array_equal, before, params())
    for path, leaf in jax.tree_util.tree_leaves_with_path(lora.params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        old = before
        for part in name.split("/"):
            old = old[part]
        assert (np.asarray(leaf) == old).all() == ("/attn/" not in name), name


def test_merged_equals_adapter(lora):
    attached = training.lora.attach(params(), lora.trained, alpha=4)
    one, other = (np.asarray(forward(p, ASK.tokens)) for p in (lora.params, attached))
    # a product of 16 terms rounded in another order, through three layers
    np.testing.assert_allclose(one, other, atol=2e-5)
    assert np.abs(one - np.asarray(forward(params(), ASK.tokens))).max() > 1e-3


def test_the_loss_is_that_of_the_answers_with_the_vectors_put_in():
    recipe = trials(mix={"injected": 1, "noise": 1, "clean": 1, "replay": 1})
    found = recipe.training(8)
    first = tune(recipe, examples=found, steps=1).curves["loss"][0]
    rows = found.rows
    vectors = introspection.put(
        bank(), rows.concept, rows.noise, rows.strength, rows.layer, seed=0, units="resid_norm"
    )
    apply = introspection.inject_vectors(
        MODEL.apply, "blocks/resid_post", vectors, layer=1, at=rows.prompts.last
    )
    logits = np.asarray(jax.jit(apply)(params(), found.tokens[:, :-1]), np.float64)
    likely = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nats = -np.take_along_axis(likely, found.tokens[:, 1:, None], -1)[..., 0]
    learned = found.learned[:, 1:]
    expected = ((nats * learned).sum(1) / learned.sum(1)).mean()
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    plain = np.asarray(forward(params(), found.tokens[:, :-1]), np.float64)
    assert np.abs(plain - logits).max() > 1e-2


@pytest.mark.slow
def test_it_learns_what_it_is_shown():
    recipe = trials(mix={"injected": 1, "clean": 1})
    done = tune(recipe, adapter=Full(), steps=150, batch=16, rate=1e-2)
    assert done.curves["loss"][-10:].mean() < 0.5 * done.curves["loss"][:10].mean()
    assert done.trained is done.params
    report = introspection.evaluate(done.model, done.params, bank(), recipe, chunk=64)
    assert report.get("clean").rate("detected").value < 0.5
    assert report.get("injected, trained").rate("detected").value > 0.5


def test_a_bias_is_one_vector_at_one_mlp():
    done = tune(adapter=Bias(layer=1))
    assert done.trained["bias"].shape == (16,)
    assert np.abs(done.trained["bias"]).max() > 0
    jax.tree.map(np.testing.assert_array_equal, done.params["params"], params())
    zero, biased = {"params": params(), "bias": jnp.zeros(16)}, jax.jit(done.model.apply)
    one, other = (np.asarray(biased(p, ASK.tokens)) for p in (zero, done.params))
    np.testing.assert_allclose(one, forward(params(), ASK.tokens), atol=1e-6)
    assert np.abs(one - other).max() > 1e-3
    with pytest.raises(NotImplementedError, match="bias"):
        done.model.part(done.params, None, method="unembed")


def test_dpo_prefers_the_right_answers_and_starts_at_log_2():
    done = tune(trials(mix={"clean": 1, "mention": 1}), objective="dpo", steps=40, batch=16)
    # no step made yet: policy and reference are equal, so that every margin is 0
    np.testing.assert_allclose(done.curves["loss"][0], np.log(2), rtol=1e-6)
    assert done.curves["preferred"][-5:].mean() > 0.8
    assert done.curves["loss"][-5:].mean() < done.curves["loss"][0]


def test_other_data_layers_rates_and_seeds_compile_nothing():
    _train._loop.cache_clear()
    for seed, layer in ((0, 0), (1, 2)):
        tune(trials(seed=seed, layers=(layer,)), examples=48, seed=seed, rate=1e-3 * (1 + seed))
    assert _train._loop.cache_info().misses == 1


def test_equal_seeds_give_equal_bits_and_others_do_not():
    one, again, other = (tune(seed=s) for s in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, one.trained, again.trained)
    a, b = (jax.tree.leaves(x.trained)[0] for x in (one, other))
    assert not np.array_equal(a, b)


def test_persistent_training_differs():
    once, always = (tune(steps=1, at=at).curves["loss"][0] for at in ("last_prompt", "persistent"))
    assert abs(once - always) > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "ppo"}, "objective"),
        ({"at": "all"}, "at: expected"),
        ({"steps": 0}, "steps, batch"),
        ({"adapter": LoRA(rank=2, select="blocks/atn/*/kernel")}, "atn"),
        ({"recipe": trials(layers=(7,))}, "layer 7 is not in the bank"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tune(**options)
