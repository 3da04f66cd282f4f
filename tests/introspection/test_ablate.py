"""Directions removed at every layer, by weight; differences of means at one token."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import models
from activjax.introspection._ablate import ablate
from activjax.introspection._contrast import contrast
from activjax.introspection._inject import inject_vectors
from tests.introspection.test_features import prompts_of

LAYERS, WIDTH, VOCAB, SITE = 3, 16, 29, "blocks/resid_post"
TOKENS = np.random.default_rng(0).integers(0, VOCAB, (2, 6)).astype(np.int32)
DIRECTIONS = np.random.default_rng(1).standard_normal((LAYERS, WIDTH)).astype(np.float32)


@functools.cache
def lab(**config):
    model = models.decoder(vocab=VOCAB, context=8, layers=LAYERS, width=WIDTH, heads=2, **config)
    with jax.ensure_compile_time_eval():  # also where it is first needed inside a program
        return model, jax.jit(model.init)(jax.random.key(0))


@functools.partial(jax.jit, static_argnames="at")
def seen(directions, weights, at=None):
    """Logits and the stream after every block."""
    model, params = lab()
    return aj.capture(ablate(model.apply, directions, weights, at=at), SITE)(params, TOKENS)


@functools.cache
def clean():
    model, params = lab()
    return jax.jit(aj.capture(model.apply, SITE))(params, TOKENS)


def along(x, directions):
    """[layers, ..., r] parts of a stream along unit vectors, in float64."""
    rows = np.asarray(directions, np.float64).reshape(LAYERS, -1, WIDTH)
    rows = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.einsum("lbsd,lrd->lbsr", np.asarray(x, np.float64), rows)


def test_weight_one_removes_the_part_and_nothing_else():
    (logits, acts), x = seen(DIRECTIONS, np.ones(LAYERS, np.float32)), clean()[1][SITE]
    left, size = along(acts[SITE], DIRECTIONS), np.linalg.norm(x, axis=-1).max()
    # x - (x.r) r in float32: a sum of 16 products and a difference, each rounded to eps |x|
    assert np.abs(left).max() <= 16 * np.finfo(np.float32).eps * size
    assert np.abs(along(x, DIRECTIONS)).max() > 0.01 * size
    r = DIRECTIONS[0] / np.linalg.norm(DIRECTIONS[0])
    first = x[0] - np.outer(x[0] @ r, r).reshape(x[0].shape)
    np.testing.assert_allclose(acts[SITE][0], first, rtol=0, atol=1e-6 * max(size, 1))
    assert np.abs(logits - clean()[0]).max() > 1e-3


def test_weight_zero_and_zero_directions_change_nothing():
    for directions, weights in ((DIRECTIONS, 0.0), (np.zeros_like(DIRECTIONS), 1.0)):
        logits, acts = seen(directions, np.full(LAYERS, weights, np.float32))
        # no bit by themselves (see below); in another program XLA rounds other sums
        np.testing.assert_allclose(logits, clean()[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(acts[SITE], clean()[1][SITE], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_left_of_rows_of_which_each_is_its_own_direction(dtype):
    rows = jnp.asarray(DIRECTIONS, dtype)

    def scanned(rows):
        tagged = lambda row: aj.tag(row, "x")  # noqa: E731
        return aj.scan(lambda c, row: (c, tagged(row)), 0, rows, name="layers")[1]

    weights = jnp.array([0.0, 1.0, 0.5])
    large = jnp.asarray(1e30 * DIRECTIONS, jnp.float32)  # their squares overflow
    out = np.asarray(ablate(scanned, large, weights, site="x")(rows), np.float32)
    np.testing.assert_array_equal(out[0], np.asarray(rows[0], np.float32))
    # the row is its direction but for its own rounding, and the result's
    eps, size = float(jnp.finfo(rows.dtype).eps), np.abs(DIRECTIONS).max()
    np.testing.assert_allclose(out[1], 0, atol=8 * eps * size)
    np.testing.assert_allclose(out[2], DIRECTIONS[2] / 2, atol=8 * eps * size)
    none = ablate(scanned, jnp.zeros_like(large), 1.0, site="x")(rows)
    assert none.dtype == rows.dtype
    np.testing.assert_array_equal(none, rows)


def test_weights_are_of_each_layer_and_linear():
    weights = np.array([0.0, 0.5, -1.0], np.float32)
    acts, x = seen(DIRECTIONS, weights)[1][SITE], clean()[1][SITE]
    np.testing.assert_array_equal(acts[0], x[0])
    part = along(x, DIRECTIONS)[1]  # what enters layer 1 is as it was
    np.testing.assert_allclose(along(acts, DIRECTIONS)[1], 0.5 * part, rtol=0, atol=1e-6)
    assert np.abs(part).max() > 1e-3
    number = jax.jit(lambda w: ablate(lab()[0].apply, DIRECTIONS, w)(lab()[1], TOKENS))
    np.testing.assert_allclose(
        number(jnp.float32(0.5)), seen(DIRECTIONS, np.full(3, 0.5, np.float32))[0], atol=1e-6
    )


def test_idempotent_and_of_several_directions():
    model, params = lab()
    both = np.random.default_rng(2).standard_normal((LAYERS, 2, WIDTH)).astype(np.float32)
    one = np.ones(LAYERS, np.float32)
    acts = seen(both, one)[1][SITE]
    size = np.linalg.norm(acts, axis=-1).max()
    # two directions that are not orthogonal, by a singular value decomposition: a few dozen eps
    assert np.abs(along(acts, both)).max() <= 64 * np.finfo(np.float32).eps * size
    twice = ablate(ablate(model.apply, both, one), both, one)
    np.testing.assert_allclose(
        jax.jit(twice)(params, TOKENS), seen(both, one)[0], rtol=0, atol=1e-6
    )


def test_one_position_and_one_program_of_all_weights(compilations):
    one = np.ones(LAYERS, np.float32)
    acts = seen(DIRECTIONS, one, at=3)[1][SITE]
    np.testing.assert_array_equal(acts[:, :, :3], clean()[1][SITE][:, :, :3])
    assert np.abs(along(acts, DIRECTIONS)[:, :, 3]).max() < 1e-5
    assert np.abs(along(acts, DIRECTIONS)[:, :, 4]).max() > 1e-3
    with compilations() as again:
        seen(DIRECTIONS, one * 0, at=3)
    assert not again


def test_an_injection_inside_is_removed_and_one_around_is_not():
    model, params = lab()
    vector = 3 * DIRECTIONS[1] / np.linalg.norm(DIRECTIONS[1])
    one = np.ones(LAYERS, np.float32)

    def last(f):
        stream = jax.jit(aj.capture(f, SITE, out=False))(params, TOKENS)[SITE]
        return along(stream, DIRECTIONS)[1, :, -1, 0]

    put = functools.partial(inject_vectors, site=SITE, vectors=jnp.asarray(vector), layer=1)
    gone = functools.partial(ablate, directions=DIRECTIONS, weights=one)
    # a sum of 16 products of size 3 and its removal, in float32
    np.testing.assert_allclose(last(gone(put(model.apply))), 0, atol=1e-5)
    np.testing.assert_allclose(last(put(gone(model.apply))), 3, atol=1e-5)


@pytest.mark.slow
def test_weights_have_a_derivative():
    (model, params), w = lab(), jnp.full(LAYERS, 0.3)
    total = jax.jit(lambda w: ablate(model.apply, DIRECTIONS, w)(params, TOKENS)[..., 2].sum())
    slope = jax.jit(jax.grad(total))(w)
    step = jnp.array([0.0, 1e-2, 0.0])
    around = (total(w + step) - total(w - step)) / 2e-2
    # central differences: rounding of a sum of 12 logits over the step, 1e-6 / 1e-2
    np.testing.assert_allclose(slope[1], around, rtol=1e-2, atol=1e-3)


def test_ablations_that_are_refused():
    model, params = lab()
    with pytest.raises(ValueError, match=r"expected \[layers, d\] or \[layers, r, d\], got \[16\]"):
        ablate(model.apply, DIRECTIONS[0], 1.0)
    with pytest.raises(ValueError, match="weights: expected a number or one for each of 3 layers"):
        ablate(model.apply, DIRECTIONS, [1.0, 1.0])
    with pytest.raises(aj.SiteError, match="features, the directions 5"):
        ablate(model.apply, DIRECTIONS[:, :5], 1.0)(params, TOKENS)
    with pytest.raises(aj.SiteError):
        ablate(model.apply, DIRECTIONS[:2], 1.0)(params, TOKENS)  # another number of layers
    with pytest.raises(aj.SiteError):
        ablate(model.apply, DIRECTIONS, 1.0, site="embed")(params, TOKENS)  # no loop around it


@pytest.mark.parametrize("back", [0, 1])
def test_contrast_is_the_difference_of_means_at_a_token(back):
    model, params = lab()
    ones, others = prompts_of(3, 5), prompts_of(4, 5)
    got = contrast(model.apply, params, ones, others, back=back)
    means = []
    read = jax.jit(aj.capture(model.apply, SITE, out=False))
    for prompts in (ones, others):  # causal: what follows the last token is not seen
        x = np.asarray(read(params, prompts.tokens)[SITE], np.float64)
        means.append(x[:, np.arange(len(x[0])), prompts.last - back].mean(1))
    # means of float32 values of size below 1
    np.testing.assert_allclose(got, means[0] - means[1], rtol=0, atol=1e-6)
    assert got.shape == (LAYERS, WIDTH)
    assert got.dtype == jnp.float32


def test_contrast_does_not_see_padding_and_refuses_what_is_not_there():
    model, params = lab()
    ones, others = prompts_of(3, 5), prompts_of(4, 5)
    got = contrast(model.apply, params, ones, others, back=1)
    other = ones._replace(tokens=np.where(ones.mask, ones.tokens, 5))
    np.testing.assert_array_equal(contrast(model.apply, params, other, others, back=1), got)
    np.testing.assert_array_equal(contrast(model.apply, params, ones, ones), 0)
    few = ones._replace(tokens=ones.tokens[:0], last=ones.last[:0])
    for message, a, b, back in (
        ("ones: 0 prompts; expected at least one", few, others, 0),
        (f"others: 5 prompts, the shortest has {ones.last.min() + 1};", others, ones, 4),
        ("ones: .*got back=-1", ones, others, -1),
    ):
        with pytest.raises(ValueError, match=message):
            contrast(model.apply, params, a, b, back=back)
    with pytest.raises(aj.SiteError, match="resid"):
        contrast(model.apply, params, ones, others, "blocks/residual")
    with pytest.raises(aj.SiteError, match="is 2 sites, expected one"):
        contrast(model.apply, params, ones, others, "blocks/resid_p*")
