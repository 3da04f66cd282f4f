"""Units patched from another run, against full forward passes; curves that never fall."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax.introspection._features import claims
from activjax.introspection._inject import inject
from activjax.introspection._patching import Patched, monotone, patch_units
from tests.introspection.test_features import (
    CLAIM,
    CONCEPTS,
    DENIAL,
    HIDDEN,
    LAYERS,
    N,
    lab,
    prompts_of,
)

UNITS = [(1, 0), (1, 7), (2, 23), (0, 5)]


def run(chosen=UNITS, **options):
    (model, params, bank), ids = lab(), {"claim": CLAIM, "denial": DENIAL}
    options = {"layer": 0, "strength": 1.0, "draws": 4, **ids, **options}
    return patch_units(model, params, bank, prompts_of(3), chosen, **options)


@functools.partial(jax.jit, static_argnums=3)
def by_hand(concept, strength, taken, chosen):
    """Whole forward passes, values put in one layer after the other."""
    (model, params, bank), prompts = lab(), prompts_of(3)
    metric, tokens = claims(model, CLAIM, DENIAL), jnp.asarray(prompts.tokens)
    apply = functools.partial(model.apply, mask=jnp.asarray(prompts.mask))

    def said(edits, strength):
        edited = aj.intervene(inject(apply, bank, concept, strength, layer=0), edits)
        return metric(edited(params, tokens)[jnp.arange(N), prompts.last])

    where = aj.select("blocks/mlp/post", at=aj.per_example(prompts.last))
    other = inject(apply, bank, concept, taken, layer=0)
    values = aj.capture(other, where, out=False)(params, tokens)["blocks/mlp/post"]
    edits = []
    for layer in range(LAYERS):
        own = np.array([u for n, u in chosen if n == layer], np.int32)

        def put(x, own=own, layer=layer):  # [batch, seq, unit]
            rows = jnp.arange(N)[:, None]
            at = prompts.last[:, None]
            return x.at[rows, at, own].set(values[layer][:, own])

        if len(own):
            edits.append((aj.select("blocks/mlp/post", layers=layer), put))
    return [said([], strength), said([], taken), said(edits, strength)]


def test_patched_runs_are_those_of_whole_forward_passes():
    got = run()
    assert got.run.shape == got.taken.shape == got.patched.shape == (CONCEPTS, N)
    assert got.random.shape == (4, CONCEPTS, N)
    for concept in (0, 3):
        expected = by_hand(concept, 1.0, 0.0, tuple(UNITS))
        for name, one in zip(("run", "taken", "patched"), expected, strict=True):
            # logits of size 1 in float32 through another program: the bar of issue 11
            np.testing.assert_allclose(getattr(got, name)[concept], one, rtol=0, atol=1e-5)
    assert np.abs(got.effect).max() > 1e-3
    np.testing.assert_allclose(got.whole, (got.taken - got.run).mean(1), rtol=0, atol=0)


def test_all_units_of_all_layers_carry_what_mlps_say():
    every = [(n, u) for n in range(LAYERS) for u in range(HIDDEN)]
    got = run(every, draws=1)
    np.testing.assert_array_equal(got.random[0], got.patched)  # there are no others to draw
    np.testing.assert_allclose(np.mean(got.by_chance[0]), np.mean(got.effect))
    assert got.rank == 1.0  # the draw is as large: nothing is told


def test_a_run_patched_with_itself_is_the_same():
    got = run(strength=0.5, taken=0.5)
    # what is put in place has another program's rounding: a few units of the last place
    np.testing.assert_allclose(got.patched, got.run, rtol=0, atol=1e-6)
    np.testing.assert_allclose(got.random, [got.run] * 4, rtol=0, atol=1e-6)


def test_units_below_the_injection_change_nothing():
    got = run([(0, 1), (0, 2)], layer=1)
    # their values differ by the rounding of two programs, at most
    np.testing.assert_allclose(got.patched, got.run, rtol=0, atol=1e-6)
    assert np.abs(got.whole).max() > 1e-3


def test_intervals_are_over_concepts_and_the_rank_over_draws():
    rng = np.random.default_rng(0)
    base = rng.standard_normal((6, 2))
    move = np.array([1.0, 2, 3, 4, 5, 6])[:, None]
    random = base + np.array([0.0, 9.0, -1.0])[:, None, None]
    made = Patched(base, base + 10, base + move, random, np.arange(6))
    mean, low, high = made.interval()["effect"]
    half = 2.5706 * np.std(np.arange(1, 7), ddof=1) / np.sqrt(6)  # Student's t, 5 degrees
    np.testing.assert_allclose([mean, low, high], [3.5, 3.5 - half, 3.5 + half], rtol=1e-4)
    np.testing.assert_allclose(made.interval()["by chance"], 8 / 3)
    np.testing.assert_allclose(made.interval()["whole"], 10)
    assert made.rank == (1 + 1) / (1 + 3)


def test_random_units_are_as_many_of_each_layer_and_others():
    from activjax.introspection._patching import _masks

    masks = _masks(lab()[0], UNITS, 50, seed=0)
    assert masks.shape == (51, LAYERS, HIDDEN)
    np.testing.assert_array_equal(masks.sum(2), np.tile([1, 2, 1], (51, 1)))
    assert not (masks[1:] & masks[0]).any()
    assert len(np.unique(masks[1:].reshape(50, -1), axis=0)) == 50
    most = [(1, u) for u in range(HIDDEN - 1)]  # not enough others: drawn from all
    np.testing.assert_array_equal(_masks(lab()[0], most, 2, seed=0).sum((1, 2)), HIDDEN - 1)


def test_what_is_refused():
    for message, chosen in {
        "chosen: expected .* got float64 of shape \\[0\\]": [],
        "chosen: expected .*\\[2\\]": [1, 2],
        "\\(3, 0\\) is none of 3 layers of 24 units": [(0, 0), (3, 0)],
        "a unit is there twice": [(1, 1), (1, 1)],
    }.items():
        with pytest.raises(ValueError, match=message):
            run(chosen)
    with pytest.raises(ValueError, match="draws: expected at least 1"):
        run(draws=0)
    with pytest.raises(ValueError, match="layer: expected one of"):
        run(layer=7)


def test_monotone_counts_curves_that_never_fall():
    doses = [0.0, 0.5, 1.0, 2.0]
    curves = np.array([
        [0.0, 1.0, 2.0, 0.0],  # falls beyond 1 only
        [0.0, 0.0, 1.0, 2.0],
        [0.0, 1.0, 0.9, 3.0],
        [0.5, 0.5, 0.5, 0.5],  # does not answer at all
    ])  # fmt: skip
    assert monotone(doses, curves) == 0.5
    assert monotone(doses, curves, up_to=2.0) == 0.25
    assert monotone(doses, curves, slack=0.2) == 0.75
    assert monotone(np.array(doses, np.float32), curves.astype(np.float32)) == 0.5
    wobble = np.array([0.0, 1.0, 1.0 - 4 * np.finfo(np.float32).eps], np.float32)
    assert monotone(doses[:3], wobble) == 1.0  # rounding is no fall
    tenths = np.cumsum(np.full(10, 0.1, np.float32))  # ends a little above 1
    assert monotone(tenths, np.append(np.arange(9.0), -1)) == 0.0
    for wrong, message in (
        (([1.0, 1.0], np.zeros(2)), "increasing"),
        (([1.0, 2.0, 3.0], np.zeros(2)), "increasing"),
        (([1.0, 2.0], np.ones(2)), "at least 2"),
        (([0.0, 1.0], np.array([0.0, np.nan])), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            monotone(*wrong)
