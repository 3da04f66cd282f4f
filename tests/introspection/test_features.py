"""Doses of every MLP unit: against NumPy and SciPy, run by run, and hand-made units."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats as scipy_stats

import activjax as aj
from activjax import models
from activjax.introspection._bank import concept_vectors
from activjax.introspection._features import Features, claims, features
from activjax.introspection._inject import inject
from activjax.introspection._talk import Prompts
from activjax.training import lora

LAYERS, WIDTH, HIDDEN, VOCAB, N, CONCEPTS = 3, 16, 24, 29, 3, 5
DOSES = np.array([0.25, 0.5, 1.0, 2.0], np.float32)
CLAIM, DENIAL = [3, 4], [7]


def prompts_of(seed, n=N, seq=7):
    rng = np.random.default_rng(seed)
    last = rng.integers(2, seq, n).astype(np.int32)
    return Prompts(rng.integers(0, VOCAB, (n, seq)).astype(np.int32), last)


@functools.cache
def lab():
    sizes = dict(vocab=VOCAB, context=8, layers=LAYERS, width=WIDTH, heads=2, mlp_width=HIDDEN)
    model = models.decoder(**sizes)
    with jax.ensure_compile_time_eval():
        params = jax.jit(model.init)(jax.random.key(0))
        # kernels larger than at first, so that what units write is not almost zero
        params["blocks"]["mlp"] = jax.tree.map(lambda x: 2 * x, params["blocks"]["mlp"])
        ones, others = prompts_of(1, CONCEPTS), prompts_of(2, CONCEPTS)
        bank = jax.jit(lambda p: concept_vectors(model.apply, p, ones, others))(params)
    return model, params, bank


@functools.cache
def found(layer=0):
    model, params, bank = lab()
    ids = {"claim": CLAIM, "denial": DENIAL}
    return features(model, params, bank, prompts_of(3), layer=layer, strengths=DOSES, **ids)


@functools.cache
def by_runs():
    """Activations `[concepts, doses + 1, layers, units]` of full forward passes, 0 first."""
    (model, params, bank), prompts = lab(), prompts_of(3)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def run(concept, strength):
        edited = inject(model.apply, bank, concept, strength, layer=0)
        where = aj.select("blocks/mlp/post", at=aj.per_example(prompts.last))
        real = jnp.asarray(prompts.mask)
        read = aj.capture(lambda p, x: edited(p, x, mask=real), where, out=False)
        acts = read(params, jnp.asarray(prompts.tokens))
        return acts["blocks/mlp/post"].mean(1)

    return np.asarray(run(jnp.arange(CONCEPTS), jnp.append(0.0, DOSES)), np.float64)


def test_means_and_correlations_are_those_of_single_runs():
    got, acts = found(), by_runs()[:, 1:]
    # means of a dozen float32 activations of size 1, from two programs
    np.testing.assert_allclose(got.mean, acts.mean(axis=(0, 1)), rtol=0, atol=2e-6)
    doses = np.tile(DOSES, CONCEPTS)
    for layer in (1, 2):
        for unit in range(0, HIDDEN, 5):
            x = acts[:, :, layer, unit]
            # activations move by .01 and more here: rounding of 1e-6 is 1e-4 of that
            np.testing.assert_allclose(
                got.correlation[layer, unit], np.corrcoef(doses, x.ravel())[0, 1], atol=1e-3
            )
            ranks = np.mean([scipy_stats.spearmanr(DOSES, row)[0] for row in x])
            np.testing.assert_allclose(got.rank_correlation[layer, unit], ranks, atol=1e-5)
    steps = np.diff(acts, axis=1)
    np.testing.assert_allclose(got.rises[1:], (steps > 0).all(axis=1).mean(axis=0)[1:], atol=1e-6)
    np.testing.assert_allclose(got.falls[1:], (steps < 0).all(axis=1).mean(axis=0)[1:], atol=1e-6)
    assert 0 < got.rises[1:].mean() < 1


def test_what_the_injection_does_not_reach_does_not_move():
    got = found()
    for name in ("correlation", "rank_correlation", "rises", "falls"):
        np.testing.assert_array_equal(getattr(got, name)[0], 0)  # the MLP before the injection
        assert np.abs(getattr(got, name)[1:]).max() > 0.5
    last = found(LAYERS - 1)
    assert not np.any(last.rises)
    assert len(last.evidence(3)) == len(last.gates(3)) == 0
    # the attribution is of the clean run and of the means, which differ above the injection only
    np.testing.assert_allclose(last.attribution[0], got.attribution[0], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_attribution_is_the_gradient_of_what_units_write():
    """The last block's units write into what the lens reads: their whole effect is direct."""
    (model, params, bank), prompts, got = lab(), prompts_of(3), found()
    del bank
    metric = claims(model, CLAIM, DENIAL)

    @jax.jit
    @jax.grad
    def slope(shift):
        # of one layer's units at the last prompt token
        edit = aj.edits.add(shift)
        where = aj.select("blocks/mlp/post", layers=LAYERS - 1, at="last_prompt")
        mask = jnp.asarray(prompts.mask)
        logits = aj.intervene(model.apply, [(where, edit)])(params, prompts.tokens, mask=mask)
        return metric(logits[jnp.arange(N), prompts.last]).mean()

    expected = slope(jnp.zeros(HIDDEN)) * got.mean[-1]
    # products of float32 sums of 24 terms of size 0.1: 1e-6 at the outside
    np.testing.assert_allclose(got.attribution[-1], expected, rtol=1e-4, atol=1e-6)
    assert np.abs(expected).max() > 1e-3


def test_attribution_leaves_out_what_later_blocks_make_of_it():
    """Of every layer it is `kernel @ u`, whatever the blocks above do."""
    (model, params, _), prompts, got = lab(), prompts_of(3), found()
    where = aj.select("blocks/resid_post", layers=LAYERS - 1, at=aj.per_example(prompts.last))
    read = jax.jit(aj.capture(model.apply, where, out=False))
    x = read(params, jnp.asarray(prompts.tokens))["blocks/resid_post"]
    metric = claims(model, CLAIM, DENIAL)
    u = jax.grad(lambda x: metric(model.unembed(params, x[None])[0]).mean())(x).sum(axis=0)
    expected = got.mean * (params["blocks"]["mlp"]["out"]["kernel"] @ u)
    np.testing.assert_allclose(got.attribution, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_attached_adapters_count():
    (model, params, bank), prompts = lab(), prompts_of(3)
    adapters = lora.init(jax.random.key(1), params, "blocks/mlp/out/kernel", rank=2)
    draw = lambda x: jax.random.normal(jax.random.key(2), x.shape)  # noqa: E731
    adapters = jax.tree.map(draw, adapters)
    both = [f(params, adapters, alpha=1.0) for f in (lora.attach, lora.merge)]
    go = functools.partial(
        features, model, layer=0, strengths=DOSES, claim=CLAIM, denial=DENIAL, prompts=prompts
    )
    attached, merged = (go(p, bank) for p in both)
    # the same numbers by another order of products
    np.testing.assert_allclose(attached.attribution, merged.attribution, rtol=1e-3, atol=1e-5)
    assert np.abs(attached.attribution - found().attribution).max() > 1e-2


def test_one_program(compilations):
    (model, params, bank), ids = lab(), {"claim": CLAIM, "denial": DENIAL}
    found()
    doses = jax.device_put(DOSES * 2)
    with compilations() as seen:
        features(model, params, bank, prompts_of(9), layer=1, strengths=doses, **ids)
    assert not seen


def test_evidence_and_gates():
    """Hand-made: which units are taken, and in which order."""
    zero = np.zeros((2, 4), np.float32)
    fields = {
        "mean": [[1, 1, 1, -1], [1, 1, 2, 1]],
        "correlation": [[0.9, 0.5, -0.5, 0.7], [0.8, -0.9, -0.1, 0.0]],
        "rises": [[0.5, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]],
        "attribution": [[-9, 0, -1, -2], [0, 3, -4, -8]],
    }
    arrays = {k: np.array(v, np.float32) for k, v in fields.items()}
    made = Features(**arrays, rank_correlation=zero, falls=zero)
    # rises * correlation: .8 at (1, 0), .5 at (0, 1), .45 at (0, 0), and no others
    np.testing.assert_array_equal(made.evidence(2), [(1, 0), (0, 1)])
    np.testing.assert_array_equal(made.evidence(9), [(1, 0), (0, 1), (0, 0)])
    # (0, 0) grows; (0, 3) is below 0 and comes up to it; (1, 3) does not move
    np.testing.assert_array_equal(made.gates(9), [(1, 2), (0, 3), (0, 2)])
    with pytest.raises(ValueError, match="k: expected at least 1"):
        made.gates(0)


def test_what_is_refused():
    model, params, bank = lab()
    ids = {"claim": CLAIM, "denial": DENIAL}
    call = functools.partial(features, model, params, bank, prompts_of(3))
    for message, wrong in {
        "strengths: expected at least 3, increasing": {"strengths": [1.0, 2.0]},
        "strengths: expected at least 3, increasing, ": {"strengths": [0.0, 2.0, 1.0]},
        "layer: expected one of": {"layer": 3},
        "concepts: expected 0 to 4": {"concepts": [7]},
        "claim: expected tokens of 0..28": {"claim": [29]},
        "denial: expected tokens of 0..28, got \\[\\]": {"denial": []},
        "token 4 is in both": {"denial": [4]},
        "units: expected one of": {"units": "sigma"},
    }.items():
        with pytest.raises(ValueError, match=message):
            call(**{"layer": 0, "strengths": DOSES, **ids, **wrong})
    unrolled = models.decoder(dataclasses.replace(model.config, scan=False))
    with pytest.raises(aj.SiteError):
        features(unrolled, params, bank, prompts_of(3), layer=0, strengths=DOSES, **ids)


def test_claims_is_a_difference_of_logsumexps():
    logits = np.random.default_rng(0).standard_normal((4, VOCAB)).astype(np.float32)
    metric = claims(lab()[0], CLAIM, np.array(DENIAL))
    expected = np.logaddexp(logits[:, 3], logits[:, 4]) - logits[:, 7]
    np.testing.assert_allclose(metric(jnp.asarray(logits)), expected, rtol=0, atol=1e-6)
    assert metric == claims(lab()[0], tuple(CLAIM), DENIAL)
