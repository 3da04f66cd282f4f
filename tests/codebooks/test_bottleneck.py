"""The bottleneck against its definition: values to the bit, gradients, and every odd input."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import codebooks
from activjax.codebooks import Spec, bottleneck


def draw(*shape: int, seed: int = 0, dtype: Any = jnp.float32) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def chosen(codes: np.ndarray, a: np.ndarray, k: int) -> np.ndarray:
    """`[tokens, groups, k]` by the definition, in float64."""
    codes, a = codes.astype(np.float64), a.astype(np.float64)
    norm = np.linalg.norm(codes, axis=-1)
    similar = np.einsum("tgd,gcd->tgc", a, codes) / np.where(norm > 0, norm, 1)
    return np.argsort(-similar, axis=-1, kind="stable")[..., :k]


def reference(codes: jax.Array, x: jax.Array, spec: Spec, scale: Any = 1.0) -> Any:
    """Output and error by the definition, differentiable: `q + a - stop_gradient(a)`."""
    a = x.reshape(-1, spec.groups, codes.shape[-1])
    if spec.norm == "layer":
        a = a - a.mean(-1, keepdims=True)
    if spec.norm is not None:
        a = a / jnp.sqrt(jnp.mean(a**2, -1, keepdims=True) + 1e-6 * scale**2)
    still = jax.lax.stop_gradient
    ids = jnp.asarray(chosen(np.asarray(still(codes)), np.asarray(still(a)), spec.k))
    q = jnp.stack([codes[g][ids[:, g]].sum(1) for g in range(spec.groups)], 1)
    q = q / spec.k if spec.reduce == "mean" else q
    y = (q + a - still(a)) * (1.0 if spec.norm is None else scale)
    return y.reshape(x.shape), ((q - still(a)) ** 2).sum(-1), ids


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("k", "groups", "reduce"),
    [
        (1, 1, "sum"),
        (8, 2, "mean"),
        (100, 1, "sum"),
        slow(1, 1, "mean"),
        slow(8, 2, "sum"),
        slow(100, 1, "mean"),
    ],
)
def test_values_to_the_bit(k, groups, reduce):
    codes, x = draw(groups, 130, 6), draw(3, 5, groups * 6, seed=1)
    spec = Spec(130, k, groups, reduce=reduce, norm=None)
    with_outer = jax.jit(lambda *args: bottleneck(*args))
    for call in (bottleneck, with_outer):
        y, trace = call(codes, x, spec)
        rows = np.asarray(x).reshape(15, groups, 6)
        ids = np.asarray(trace.ids).reshape(15, groups, k)
        np.testing.assert_array_equal(ids, chosen(np.asarray(codes), rows, k))
        total = np.zeros((15, groups, 6), np.float32)
        for g in range(groups):
            picked = np.asarray(codes)[g][ids[:, g]]
            total[:, g] = picked[:, 0]
            for r in range(1, k):  # in the order of similarity
                total[:, g] += picked[:, r]
        total = total * np.float32(1 / k) if reduce == "mean" else total
        np.testing.assert_array_equal(np.asarray(y).reshape(total.shape), total)
        assert int(trace.counts.sum()) == 15 * groups * k
        assert int(trace.tokens) == 15


@pytest.mark.parametrize(
    ("k", "reduce", "norm"),
    [
        (1, "sum", "rms"),
        (8, "mean", "layer"),
        (100, "sum", None),
        slow(1, "sum", None),
        slow(8, "sum", "rms"),
        slow(8, "sum", "layer"),
        slow(8, "mean", None),
        slow(100, "mean", "rms"),
        slow(100, "sum", "layer"),
    ],
)
def test_gradients_are_those_of_the_definition(k, reduce, norm):
    codes, x, out = draw(2, 110, 4) / 3, draw(9, 8, seed=1), draw(9, 8, seed=2)
    spec = Spec(110, k, 2, reduce=reduce, norm=norm)
    scale = None if norm is None else jnp.array([1.5, 0.7])
    book = {"codes": codes} if scale is None else {"codes": codes, "scale": scale}

    def ours(codes: Any, x: Any) -> Any:
        y, trace = bottleneck({**book, "codes": codes}, x, spec)
        return jnp.sum(y * out) + 0.3 * jnp.sum(trace.mse)

    def defined(codes: Any, x: Any) -> Any:
        s = 1.0 if scale is None else scale[:, None]
        y, error, _ = reference(codes, x, spec, s)
        return jnp.sum(y * out) + 0.3 * jnp.sum(error)

    # The definition's own value carries the rounding of q + a - a; the gradients do not.
    grads = (jax.grad(f, (0, 1))(codes, x) for f in (jax.jit(ours), defined))
    for found, expected in zip(*grads):
        size = float(jnp.abs(expected).max())
        # A code's gradient sums at most 9 tokens times k terms: (9 k + 20) roundings of 2^-24.
        np.testing.assert_allclose(found, expected, rtol=0, atol=(9 * k + 20) * 2**-24 * 4 * size)


def test_the_error_has_no_gradient_to_the_input_and_the_scale_none_at_all():
    spec = Spec(20, 3)
    book = {"codes": draw(1, 20, 5), "scale": jnp.ones(1)}
    x = draw(4, 5, seed=1)
    assert (jax.grad(lambda x: bottleneck(book, x, spec)[1].mse.sum())(x) == 0).all()
    grads = jax.grad(lambda b: bottleneck(b, x, spec)[0].sum())(book)
    assert (grads["scale"] == 0).all()
    assert (grads["codes"] != 0).any()


def test_the_similarities_are_cosines():
    codes, x = draw(1, 30, 5), draw(6, 5, seed=1)
    _, trace = bottleneck(codes, x, Spec(30, 30, norm=None))
    a = np.asarray(x, np.float64)
    c = np.asarray(codes, np.float64)[0][np.asarray(trace.ids)[:, 0]]
    cosine = (a[:, None] * c).sum(-1) / np.linalg.norm(a, axis=-1)[:, None]
    cosine = cosine / np.linalg.norm(c, axis=-1)
    # A dot product of 5 terms and two norms, each of 7 roundings.
    np.testing.assert_allclose(trace.similarities[:, 0], cosine, atol=25 * 2**-24)
    assert (np.diff(trace.similarities[:, 0], axis=-1) <= 0).all()


def test_zeros_ties_duplicates_and_scaled_codes():
    codes = jnp.array([[[2.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 3.0], [1.0, 0.0]]])
    x = jnp.array([[0.0, 0.0], [5.0, 0.0], [-1.0, -1.0]])
    y, trace = bottleneck(codes, x, Spec(5, 3, norm=None))
    # A zero activation is as near to all; lengths of codes do not count; a zero code has 0, which
    # is more than -1/sqrt(2).
    np.testing.assert_array_equal(trace.ids[:, 0], [[0, 1, 2], [0, 2, 4], [1, 0, 2]])
    np.testing.assert_array_equal(y, [[3, 0], [4, 0], [3, 0]])
    np.testing.assert_allclose(trace.similarities[:2, 0], [[0, 0, 0], [1, 1, 1]])
    for spec in (Spec(5, 3), Spec(5, 3, norm="layer")):
        y, trace = bottleneck({"codes": codes, "scale": jnp.ones(1)}, x * 0, spec)
        assert jnp.isfinite(y).all()
        assert (trace.ids == jnp.arange(3)).all()
        grad = jax.grad(lambda x, spec=spec: bottleneck(codes, x, spec)[0].sum())(x * 0)
        assert jnp.isfinite(grad).all()


def test_all_codes_one_code_no_tokens():
    codes, x = draw(1, 7, 3), draw(4, 3, seed=1)
    y, trace = bottleneck(codes, x, Spec(7, 7, norm=None))
    assert (jnp.sort(trace.ids, axis=-1) == jnp.arange(7)).all()
    y, trace = bottleneck(codes[:, :1], x, Spec(1, norm=None))
    assert (y == codes[0, 0]).all()
    y, trace = bottleneck(codes, x[:0], Spec(7, 2))
    assert y.shape == (0, 3)
    assert int(trace.tokens) == 0
    assert codebooks.loss({"site": trace}) == 0


@pytest.mark.parametrize("norm", ["rms", slow(None), slow("layer")])
def test_a_nan_stays_with_its_token_and_a_broken_code_is_seen(norm):
    codes, x = draw(1, 9, 4), draw(5, 4, seed=1)
    spec = Spec(9, 2, norm=norm)
    good, _ = bottleneck(codes, x, spec)
    y, trace = bottleneck(codes, x.at[2, 1].set(jnp.nan), spec)
    assert jnp.isnan(y[2]).all()
    np.testing.assert_array_equal(np.delete(y, 2, 0), np.delete(good, 2, 0))
    np.testing.assert_array_equal(trace.ids[2, 0], [0, 1])
    broken, _ = bottleneck(codes.at[0, 6, 0].set(jnp.nan), x, spec)
    assert jnp.isnan(broken).all()


def test_half_precision():
    codes, x = draw(1, 40, 8), draw(20, 8, seed=1).astype(jnp.bfloat16)
    spec = Spec(40, 4)
    y, trace = bottleneck(codes, x, spec)
    wide, same = bottleneck(codes, x.astype(jnp.float32), spec)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(trace.ids, same.ids)
    np.testing.assert_array_equal(y, wide.astype(jnp.bfloat16))
    # Codes in half precision are widened first.
    narrow = codes.astype(jnp.bfloat16)
    _, trace = bottleneck(narrow, x, spec)
    _, same = bottleneck(narrow.astype(jnp.float32), x, spec)
    np.testing.assert_array_equal(trace.ids, same.ids)


def test_double_precision():
    with jax.enable_x64(True):
        codes, x = draw(1, 30, 6, dtype=jnp.float64), draw(10, 6, seed=1, dtype=jnp.float64)
        y, trace = bottleneck(codes, x, Spec(30, 3, norm=None))
        ids = chosen(np.asarray(codes), np.asarray(x)[:, None], 3)
        np.testing.assert_array_equal(trace.ids, ids)
        assert y.dtype == jnp.float64
        assert (jax.grad(lambda c: bottleneck(c, x, Spec(30, 3))[0].sum())(codes) != 0).any()


def test_padding_passes_and_leaves_no_trace():
    codes, x = draw(2, 12, 3), draw(2, 4, 6, seed=1)
    mask = jnp.array([[True, True, False, False], [False, True, True, True]])
    garbage = x.at[0, 2:].set(jnp.nan).at[1, 0].set(jnp.inf)
    spec = Spec(12, 2, 2)

    def loss(codes: Any, x: Any) -> Any:
        y, trace = bottleneck(codes, x, spec, mask=mask)
        return jnp.where(mask[..., None], y**2, 0).sum() + codebooks.loss({"s": trace}), (y, trace)

    grads, (y, trace) = jax.jit(jax.grad(loss, has_aux=True))(codes, garbage)
    same, (_, clean) = jax.jit(jax.grad(loss, has_aux=True))(codes, x)
    np.testing.assert_array_equal(grads, same)
    np.testing.assert_array_equal(y[0, 2:], garbage[0, 2:])
    assert (trace.ids[~np.asarray(mask)] == -1).all()
    assert (trace.similarities[~np.asarray(mask)] == 0).all()
    assert (trace.mse[~np.asarray(mask)] == 0).all()
    np.testing.assert_array_equal(trace.counts, clean.counts)
    assert int(trace.tokens) == 5
    # Each row alone, without its padding, gives the same.
    kept = [x[0, :2], x[1, 1:]]
    apart = [bottleneck(codes, one, spec)[1] for one in kept]
    np.testing.assert_array_equal(trace.counts, sum(t.counts for t in apart))
    errors = np.concatenate([np.asarray(t.mse) for t in apart])
    np.testing.assert_allclose(codebooks.loss({"s": trace}), errors.sum() / 5, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "options", "match"),
    [
        ((4, 6), dict(groups=4), "expected a value with 4 groups of 3 features"),
        ((3, 3), dict(axis=-2), "along axis -2"),
        ((), {}, "got shape"),
    ],
)
def test_shapes_that_do_not_fit(shape, options, match):
    spec = Spec(5, **options)
    codes = draw(spec.groups, 5, 3)
    with pytest.raises(ValueError, match=match):
        bottleneck(codes, jnp.zeros(shape), spec)


def test_refusals():
    x = jnp.zeros((2, 3))
    with pytest.raises(ValueError, match="k=4 codes cannot be chosen of 3"):
        Spec(3, 4)
    with pytest.raises(ValueError, match="norm='batch'"):
        Spec(3, norm="batch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="codes must be a whole number"):
        Spec(0)
    with pytest.raises(ValueError, match=r"codes have shape \[1, 4, 3\], expected \[1, 5, d\]"):
        bottleneck(jnp.zeros((1, 4, 3)), x, Spec(5))
    with pytest.raises(ValueError, match="floating-point"):
        bottleneck(jnp.zeros((1, 5, 3)), jnp.zeros((2, 3), int), Spec(5))
    with pytest.raises(ValueError, match=r"mask: expected truth values \[2\]"):
        bottleneck(jnp.zeros((1, 5, 3)), x, Spec(5), mask=jnp.ones(3, bool))
    acts = {"s": jnp.zeros((2, 4, 8))}
    with pytest.raises(ValueError, match=r"Spec\(axis=-1\) or Spec\(axis=-2\)"):
        codebooks.init({"s": Spec(5, groups=4)}, acts, jax.random.key(0))
