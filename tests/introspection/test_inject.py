"""Injections: where, how much, and that nothing else changes."""

import dataclasses
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import introspection, models
from tests.introspection.world import MODEL, TALK, bank, params

ASK = TALK.ask(np.full(4, -1), seed=3)
MASK = ASK.mask


@partial(jax.jit, static_argnames="at")
def injected(concept, strength, layer, place, tokens, mask, at=None):
    """One program for each word, and one for positions: everything else is traced."""
    where = place if at is None else at
    apply = introspection.inject(MODEL.apply, bank(), concept, strength, layer=layer, at=where)
    return apply(params(), tokens, mask=mask)


def run(
    concept: Any,
    strength: Any,
    layer: Any = 1,
    at: Any = "last_prompt",
    tokens: Any = ASK.tokens,
    mask: Any = MASK,
):
    concept, strength, layer = (
        np.broadcast_to(np.asarray(x, d), 4)
        for x, d in ((concept, np.int32), (strength, np.float32), (layer, np.int32))
    )
    word = at if isinstance(at, str) else None
    place = np.zeros(4, np.int32) if word else np.asarray(at, np.int32)
    return np.asarray(injected(concept, strength, layer, place, tokens, mask, at=word))


def cached() -> int:
    """Programs compiled so far."""
    return injected._cache_size()  # pyright: ignore[reportFunctionMemberAccess]


CLEAN = np.asarray(jax.jit(MODEL.apply)(params(), ASK.tokens, mask=MASK))


def changed(out):
    return (out != CLEAN).any(-1) & MASK


def test_it_is_intervene_with_the_vector_at_the_strength():
    out = run(bank().index("B3"), 0.75, layer=1)
    d = bank().directions[1, bank().index("B3")] * bank().resid_norm[1] * 0.75
    where = aj.select("blocks/resid_post", layers=1, at="last_prompt")
    plain = aj.intervene(MODEL.apply, [(where, aj.edits.add(d))])
    plain = jax.jit(plain)(params(), ASK.tokens, mask=MASK)
    # both add the same vector, up to the roundings of its scale
    np.testing.assert_allclose(out[MASK], np.asarray(plain)[MASK], atol=1e-5)


@pytest.mark.parametrize(("units", "size"), [("abs", 1.0), ("raw", None), ("resid_norm", "norm")])
def test_units(units, size):
    v = introspection.vectors_of(bank(), 7, 2.0, layer=2, units=units)
    own = bank().norms[2, 7] if size is None else bank().resid_norm[2] if size == "norm" else size
    np.testing.assert_allclose(np.linalg.norm(v), 2.0 * own, rtol=1e-5)


def test_positions_before_the_injection_are_unchanged_exactly():
    last = np.arange(ASK.tokens.shape[1]) == ASK.last[:, None]
    np.testing.assert_array_equal(changed(run(5, 1.0, layer=0)), last)
    at = np.array([2, 4, 1, 3])
    later = (np.arange(ASK.tokens.shape[1]) >= at[:, None]) & MASK
    np.testing.assert_array_equal(changed(run(5, 1.0, layer=0, at=at)), later)
    np.testing.assert_array_equal(changed(run(5, 1.0, layer=0, at="all")), MASK)


def test_the_last_layer_changes_its_own_token_only():
    """An exact negative control: nothing later attends to it."""
    at = np.array([2, 4, 1, 3])
    own = np.arange(ASK.tokens.shape[1]) == at[:, None]
    np.testing.assert_array_equal(changed(run(5, 1.0, layer=2, at=at)), own)


def test_zero_strength_is_no_injection_exactly_in_the_same_program():
    zero, none = run(np.arange(4), 0.0), run(-1, 1.0)
    mixed = run(np.arange(4), [0.0, 1.0, 0.0, -2.0])
    np.testing.assert_array_equal(zero, none)
    np.testing.assert_array_equal(mixed[::2], zero[::2])
    assert (mixed[1::2] != zero[1::2]).any((1, 2)).all()
    np.testing.assert_array_equal(changed(zero), np.zeros_like(MASK))


def test_each_example_has_its_own_concept_strength_and_layer():
    concept, strength, layer = np.array([1, 2, 3, 4]), np.array([1.0, 0.5, -1, 2]), [0, 1, 2, 0]
    together = run(concept, strength, layer=np.array(layer))
    for i in range(4):
        alone = run(int(concept[i]), float(strength[i]), layer=layer[i])
        np.testing.assert_allclose(together[i][MASK[i]], alone[i][MASK[i]], atol=1e-5)


def test_left_and_right_padding_inject_at_the_same_place():
    _n, width = ASK.tokens.shape
    left, real = np.zeros_like(ASK.tokens), np.zeros_like(MASK)
    for i, last in enumerate(ASK.last):
        left[i, width - last - 1 :], real[i, width - last - 1 :] = ASK.tokens[i, : last + 1], True
    for at in ("last_prompt", "persistent", "all", np.array([2, 4, 1, 3])):
        right_out = run(np.arange(4), 1.0, layer=1, at=at)
        left_out = run(np.arange(4), 1.0, layer=1, at=at, tokens=left, mask=real)
        np.testing.assert_allclose(left_out[real], right_out[MASK], atol=1e-5)


def test_transfer_puts_the_vector_of_another_layer():
    v = introspection.vectors_of(bank(), 9, 1.0, layer=2, source=0)
    expected = bank().directions[0, 9] * bank().resid_norm[2]
    np.testing.assert_allclose(v, expected, rtol=1e-5)


@pytest.mark.parametrize("at", ["last_prompt", "persistent", "all"])
def test_cached_decoding_equals_the_uncached_forward(at):
    """What is put in at a token stays in the cache; "persistent" goes on being put in."""
    apply = introspection.inject(MODEL.apply, bank(), np.arange(4), 2.0, layer=1, at=at)
    edited = dataclasses.replace(MODEL, apply=apply)
    new = jax.jit(partial(models.generate, edited, steps=3))(
        params(), jnp.asarray(ASK.tokens), mask=jnp.asarray(MASK)
    )
    tokens = np.pad(ASK.tokens, [(0, 0), (0, 3)])
    last = jnp.asarray(ASK.last)
    for k in range(3):
        tokens[np.arange(4), ASK.last + 1 + k] = np.asarray(new.tokens)[:, k]
    mask = np.arange(tokens.shape[1]) <= ASK.last[:, None] + 3
    vectors = introspection.vectors_of(bank(), np.arange(4), 2.0, layer=1)
    where = {"at": last} if at == "last_prompt" else {"at": at}
    where |= {"start": last} if at == "persistent" else {}
    whole = introspection.inject_vectors(
        MODEL.apply, "blocks/resid_post", vectors, layer=1, **where
    )
    whole = jax.jit(whole)(params(), tokens, mask=mask)
    likely = jax.nn.log_softmax(whole, axis=-1)
    for k in range(3):
        row = np.asarray(likely)[np.arange(4), ASK.last + k]
        chosen = np.asarray(new.tokens)[:, k]
        # two compilations; log-probabilities of about 5
        np.testing.assert_allclose(
            row[np.arange(4), chosen], np.asarray(new.logprobs)[:, k], atol=2e-5
        )


def test_persistent_differs_from_transient_in_what_is_generated():
    def new(at):
        apply = introspection.inject(MODEL.apply, bank(), 5, 3.0, layer=1, at=at)
        edited = dataclasses.replace(MODEL, apply=apply)
        ask = jax.jit(partial(models.generate, edited, steps=2))
        return np.asarray(ask(params(), ASK.tokens, mask=MASK).logprobs)

    once, always = new("last_prompt"), new("persistent")
    np.testing.assert_allclose(once[:, 0], always[:, 0], atol=1e-5)
    assert (np.abs(once[:, 1] - always[:, 1]) > 1e-3).any()


def test_a_sweep_compiles_once():
    run(1, 1.0)
    before = cached()
    for layer in range(3):
        run(np.arange(4) + layer, layer / 2, layer=[0, layer, 2, 1])
    assert cached() == before

    @jax.jit
    @chex.assert_max_traces(1)
    def scalars(concept, strength, layer, at):
        apply = introspection.inject(MODEL.apply, bank(), concept, strength, layer=layer, at=at)
        return apply(params(), ASK.tokens, mask=MASK)

    for layer in range(3):
        scalars(jnp.int32(layer), jnp.float32(layer), jnp.int32(layer), jnp.int32(1 + layer))


def test_vmap_and_grad_go_through():
    @jax.jit
    def logit(strength, concept):
        apply = introspection.inject(MODEL.apply, bank(), concept, strength, layer=1)
        return apply(params(), jnp.asarray(ASK.tokens), mask=jnp.asarray(MASK))[0, ASK.last[0], 0]

    strengths = jnp.array([0.0, 0.5, 1.0])
    many = jax.vmap(lambda s: logit(s, 3))(strengths)
    np.testing.assert_allclose(many, [logit(s, 3) for s in strengths], atol=1e-5)
    slope = jax.grad(logit)(jnp.float32(0.7), 3)
    h = 1e-2  # a cubic's error and the rounding of a difference of values of about 1
    near = (logit(0.7 + h, 3) - logit(0.7 - h, 3)) / (2 * h)
    np.testing.assert_allclose(slope, near, atol=2e-3)


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        (("A0", 1.0), {"layer": 0}, KeyError, "nearest"),
        ((64, 1.0), {"layer": 0}, ValueError, "concept: expected -1 to 63, got 64"),
        ((np.array([1, 64]), 1.0), {"layer": 0}, ValueError, "got 64"),
        ((1, 1.0), {"layer": 3}, ValueError, r"layer: expected one of the bank's \[0, 1, 2\]"),
        ((1, 1.0), {"layer": np.array([0, 5, 0, 0])}, ValueError, "got 5"),
        ((1, 1.0), {}, ValueError, "say which"),
        ((1, 1.0), {"layer": 0, "source": 9}, ValueError, "source"),
        ((1, 1.0), {"layer": 0, "units": "norms"}, ValueError, "units"),
        ((1, 1.0), {"layer": 0, "at": "lastprompt"}, ValueError, "at: expected"),
        ((1.5, 1.0), {"layer": 0}, ValueError, "whole number"),
    ],
)
def test_refused(args, kwargs, error, message):
    with pytest.raises(error, match=message):
        introspection.inject(MODEL.apply, bank(), *args, **kwargs)


def test_traced_values_out_of_range_give_nan():
    f = jax.jit(lambda concept, row: introspection.vectors_of(bank(), concept, 1.0, layer=row))
    assert np.isnan(f(64, 0)).all()
    assert np.isnan(f(0, 3)).all()
    assert np.isfinite(f(0, 2)).all()

    @jax.jit
    def put(layer):
        site, vector = "blocks/resid_post", jnp.ones(16)
        apply = introspection.inject_vectors(MODEL.apply, site, vector, layer=layer)
        return apply(params(), ASK.tokens, mask=MASK)

    wrong = np.isnan(put(jnp.array([0, 1, 7, 2]))).any((1, 2))
    np.testing.assert_array_equal(wrong, [False, False, True, False])
