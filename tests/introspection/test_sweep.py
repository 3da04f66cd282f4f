"""Sweeps of injections: what `inject` gives at the last prompt token, for every combination."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import models
from activjax.introspection._bank import concept_vectors
from activjax.introspection._inject import inject
from activjax.introspection._sweep import sweep
from tests.introspection.test_features import prompts_of

LAYERS, WIDTH, VOCAB, N = 3, 16, 29, 3
NAMES = ("dust", "sea", "clock", "fire", "stone")
STRENGTHS = np.array([0.0, 0.5, 1.0, -2.0], np.float32)

#: Logits of size 1, float32, two programs of sums of at most 64 products: the bar of issue 11.
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)


@functools.cache
def lab():
    model = models.decoder(vocab=VOCAB, context=8, layers=LAYERS, width=WIDTH, heads=2)
    with jax.ensure_compile_time_eval():  # also where it is first needed inside a program
        return model, jax.jit(model.init)(jax.random.key(0))


@functools.cache
def bank_of(site="blocks/resid_post"):
    model, params = lab()
    ones, others = prompts_of(1, 5), prompts_of(2, 5)
    made = jax.jit(lambda p: concept_vectors(model.apply, p, ones, others, site, names=NAMES))
    return made(params)


@functools.cache
def grid(site="blocks/resid_post", units="resid_norm"):
    """A sweep of everything."""
    return run(bank_of(site), units=units)


def run(bank, seed=3, **options):
    return sweep(*lab(), bank, prompts_of(seed), **{"strengths": STRENGTHS, **options})


@functools.partial(jax.jit, static_argnames="units")
def by_inject(bank, concept, strength, layer, source, units):
    (model, params), prompts = lab(), prompts_of(3)
    where = {"layer": layer, "source": source}
    edited = inject(model.apply, bank, concept, strength, **where, units=units)
    logits = edited(params, jnp.asarray(prompts.tokens), mask=jnp.asarray(prompts.mask))
    return logits[jnp.arange(N), prompts.last]


@pytest.mark.parametrize(
    ("site", "units"),
    [
        ("blocks/resid_post", "resid_norm"),
        ("blocks/resid_pre", "abs"),
        pytest.param("blocks/mlp/out", "raw", marks=pytest.mark.slow),
    ],
)
def test_a_sweep_is_inject_for_every_combination(site, units):
    out = grid(site, units)
    assert out.shape == (LAYERS, 5, 4, N, VOCAB)
    for layer, c, s in [(0, 0, 1), (0, 4, 3), (1, 2, 2), (2, 1, 3), (1, 3, 0)]:
        close(out[layer, c, s], by_inject(bank_of(site), c, STRENGTHS[s], layer, layer, units))
    moved = np.abs(out[:, :, 3] - out[:, :, 0]).max(axis=(2, 3))
    assert (moved > 1e-3).all()  # an injection is felt at every layer, the last one, too


def test_zero_strength_and_no_concept_are_the_clean_run():
    out = run(bank_of(), concepts=[0, 3, -1, 1, 2])
    for layer in np.asarray(out):
        # of one layer it is the same program, and the same bits
        for clean in (layer[:, 0], layer[2]):
            np.testing.assert_array_equal(clean, np.broadcast_to(layer[0, 0], clean.shape))
        close(layer[0, 0], by_inject(bank_of(), -1, 1.0, 0, 0, "resid_norm"))


def test_vectors_of_another_layer():
    bank, out = bank_of(), run(bank_of(), source=1)
    for layer in range(LAYERS):
        close(out[layer, 3, 2], by_inject(bank, 3, 1.0, layer, 1, "resid_norm"))
    close(out[1], grid()[1])
    assert np.abs(out[0] - grid()[0]).max() > 1e-3


def test_one_program_for_sweeps_of_equal_sizes(compilations):
    grid()
    layers, concepts, strengths = (
        jax.device_put(np.asarray(x)) for x in ([2, 0, 1], [4, -1, 2, 0, 0], STRENGTHS[::-1].copy())
    )
    with compilations() as seen:
        other = run(bank_of(), seed=4, layers=layers, concepts=concepts, strengths=strengths)
    assert not seen
    assert other.shape == grid().shape
    assert np.abs(other - grid()).max() > 1e-3


@pytest.mark.slow
def test_what_is_read_of_logits():
    read = run(bank_of(), read=lambda logits: jnp.argmax(logits, axis=-1))
    np.testing.assert_array_equal(read, np.argmax(grid(), axis=-1))


@pytest.mark.slow
def test_chunks():
    close(run(bank_of(), chunk=3), grid())


def test_padding_may_be_anything():
    bank, prompts = bank_of(), prompts_of(3)
    tokens = np.where(prompts.mask, prompts.tokens, 7)  # padding may be any id
    again = sweep(*lab(), bank, prompts._replace(tokens=tokens), strengths=STRENGTHS)
    np.testing.assert_array_equal(again, grid())


@pytest.mark.slow
def test_a_bank_of_some_layers():
    bank = bank_of()
    rows = np.array([2, 0])
    some = dataclasses.replace(
        bank, vectors=bank.vectors[rows], resid_norm=bank.resid_norm[rows], layers=(2, 0)
    )
    close(run(some), grid()[rows])


@pytest.mark.slow
def test_strengths_have_a_derivative():
    def total(strength):
        return run(bank_of(), strengths=strength[None], layers=[1])[..., 3].mean()

    at, step = jnp.float32(0.5), 1e-2
    slope = jax.grad(total)(at)
    around = (total(at + step) - total(at - step)) / (2 * step)
    # central differences: step^2 times a third derivative of order 1, and rounding / step
    np.testing.assert_allclose(slope, around, rtol=0, atol=5e-4)
    assert abs(slope) > 1e-3


def test_what_is_refused():
    bank = bank_of()
    some = dataclasses.replace(
        bank, vectors=bank.vectors[1:], resid_norm=bank.resid_norm[1:], layers=(1, 2)
    )
    for message, wrong in {
        r"layers: the bank has vectors of layers \[1, 2\], not of \[0\]": {"layers": [1, 0]},
        r"source: the bank has vectors of layers \[1, 2\], not of \[3\]": {"source": 3},
        "layers: expected at least one": {"layers": []},
        "layers: expected whole numbers": {"layers": [1.0]},
        "concepts: expected 0 to 4": {"concepts": [5]},
        "concepts: expected at least one": {"concepts": []},
        "strengths: expected at least one": {"strengths": []},
        "units: expected one of": {"units": "sigma"},
        "chunk": {"chunk": 0},
    }.items():
        with pytest.raises(ValueError, match=message):
            run(some, **wrong)
    with pytest.raises(KeyError, match="'dusk'.*nearest: dust"):
        run(some, concepts=["dusk"])
    outside = dataclasses.replace(bank, site="embed", layers=None)
    with pytest.raises(ValueError, match="'embed', expected one in the loop over blocks"):
        run(outside)
    with pytest.raises(aj.SiteError, match="blocks/resid"):
        run(dataclasses.replace(bank, site="blocks/residual"))


@pytest.mark.slow
def test_a_traced_place_that_is_not_there_gives_nan():
    bank = bank_of()
    go = jax.jit(lambda n, c: run(bank, strengths=[1.0], layers=n, concepts=c))
    out = np.isnan(go(jnp.array([1, 3]), jnp.array([0, 9])))
    assert not out[0, 0].any()
    assert out[1].all()
    assert out[0, 1].all()
