"""Concept vectors: what they are, where they may be read, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import introspection
from activjax.introspection import Prompts
from tests.introspection.world import MODEL, SPLIT, TALK, bank, params


def make(prompts, baseline, *args, **kwargs):
    return introspection.concept_vectors(MODEL.apply, params(), prompts, baseline, *args, **kwargs)


def test_vectors_are_differences_of_means_at_the_last_prompt_token():
    prompts, baseline = TALK.elicit(np.arange(64)), TALK.elicit(SPLIT.baseline)
    acts = [
        jax.jit(aj.capture(MODEL.apply, "blocks/resid_post", out=False))(params(), p.tokens)
        for p in (prompts, baseline)
    ]
    one, base = (
        np.asarray(a["blocks/resid_post"])[:, np.arange(len(p.last)), p.last]
        for a, p in zip(acts, (prompts, baseline))
    )
    found = bank()
    # two compilations of one network: a few roundings of values of about 1
    np.testing.assert_allclose(found.vectors, one - base.mean(1, keepdims=True), atol=2e-5)
    norms = np.linalg.norm(np.concatenate([one, base], 1), axis=-1).mean(1)
    np.testing.assert_allclose(found.resid_norm, norms, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.directions, axis=-1), 1, rtol=1e-5)


def test_resid_post_of_a_layer_is_resid_pre_of_the_next():
    before = bank("blocks/resid_pre")
    np.testing.assert_array_equal(bank().vectors[:-1], before.vectors[1:])
    np.testing.assert_array_equal(bank().resid_norm[:-1], before.resid_norm[1:])


def test_some_layers_are_those_of_all():
    prompts, baseline = TALK.elicit(np.arange(64)), TALK.elicit(SPLIT.baseline)
    some = make(prompts, baseline, "blocks/resid_post", [2, 0])
    assert some.layers == (2, 0)
    np.testing.assert_allclose(some.vectors, bank().vectors[jnp.array([2, 0])], atol=2e-5)
    assert make(prompts, baseline, "blocks/resid_post", 1).layers == (1,)


def test_a_site_in_no_loop():
    prompts, baseline = TALK.elicit(np.arange(5)), TALK.elicit(SPLIT.baseline)
    found = make(prompts, baseline, "final")
    assert found.layers is None
    assert found.vectors.shape == (1, 5, 16)
    apply = introspection.inject(MODEL.apply, found, 2, 1.0)
    ask = TALK.ask(np.full(2, -1), seed=0)
    edited, plain = (
        np.asarray(jax.jit(f)(params(), ask.tokens, mask=ask.mask)) for f in (apply, MODEL.apply)
    )
    changed = (edited != plain).any(-1) & ask.mask
    np.testing.assert_array_equal(changed, np.arange(changed.shape[1]) == ask.last[:, None])


def test_a_bank_is_a_pytree_of_its_arrays():
    leaves, structure = jax.tree.flatten(bank())
    assert [x.shape for x in leaves] == [(3, 64, 16), (3,)]
    assert jax.tree.unflatten(structure, leaves).names == TALK.names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": []}, "empty bank"),
        ({"baseline": []}, "at least one baseline"),
        ({"names": ["a"]}, "names: expected 5 different ones"),
        ({"names": list("aabcd")}, "'a' more than once"),
        ({"site": "blocks/resid_pots"}, "resid_post"),
        ({"site": "blocks/mlp/*"}, "site: expected one"),
        ({"layer": 3}, "3"),
        ({"layer": -1}, "count from the first"),
        ({"layer": []}, "layer: expected at least one"),
    ],
)
def test_refused(change, message):
    given = {"prompts": np.arange(5), "baseline": SPLIT.baseline, "names": None, "layer": None}
    given |= {"site": "blocks/resid_post"} | change
    none = Prompts(np.zeros((0, 5), np.int32), np.zeros(0, np.int32))
    prompts, baseline = (
        TALK.elicit(given[k]) if len(given[k]) else none for k in ("prompts", "baseline")
    )
    with pytest.raises((ValueError, aj.SiteError), match=message):
        make(prompts, baseline, given["site"], given["layer"], names=given["names"])


def test_a_vector_of_zero_and_nan_are_refused():
    one = TALK.elicit(np.array([3]))
    with pytest.raises(ValueError, match="concept '0': its vector is zero"):
        make(one, one)
    wrong = jax.tree.map(lambda x: x * jnp.nan, params())
    two = TALK.elicit(np.array([3, 4]))
    with pytest.raises(ValueError, match="not finite"):
        introspection.concept_vectors(MODEL.apply, wrong, two, one)


def test_a_name_that_is_not_there():
    with pytest.raises(KeyError, match="nearest: A1"):
        bank().index("A11")
