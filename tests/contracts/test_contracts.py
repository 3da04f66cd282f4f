"""What every transform and every method must pass."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import (
    codebooks,
    fit,
    introspection,
    membership,
    patterns,
    regions,
    stats,
    transforms,
    verify,
    zonotope,
)
from tests.contracts.registry import CASES, EDITS, EXEMPT, FIT, SUMMARIES

N = 9


def floats(tree):
    return [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]


def close(case, a, b):
    chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
    if case.tol:
        chex.assert_trees_all_close(a, b, rtol=case.tol, atol=case.tol)
    else:
        chex.assert_trees_all_equal(a, b)


def cases(keep=lambda case: True, rarely=()):
    """The cases to keep; those of `rarely` run in .ci/full only."""
    marks = {c.name: pytest.mark.slow for c in rarely}
    kept = [c for c in CASES if keep(c)]
    return pytest.mark.parametrize(
        "case", [pytest.param(c, marks=marks.get(c.name, ()), id=c.name) for c in kept]
    )


@cases(rarely=[*FIT, *SUMMARIES])  # slow without jit
def test_jit_equals_no_jit_and_compiles_once(case):
    traces = []

    def counted(*args):
        traces.append(1)
        return case.fn(*args)

    run = jax.jit(counted)
    for seed in range(2):
        args = case.args(N, jnp.float32, seed)
        close(case, run(*args), case.fn(*args))
    assert len(traces) == run._cache_size() == 1


@cases(rarely=SUMMARIES)
def test_vmap_equals_a_loop(case):
    many = [case.args(N, jnp.float32, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *many)
    mapped = jax.jit(jax.vmap(case.fn))(*stacked)
    one = jax.jit(case.fn)
    looped = jax.tree.map(lambda *a: jnp.stack(a), *(one(*args) for args in many))
    close(case, mapped, looped)


@cases()
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_are_kept(case, dtype):
    with jax.enable_x64(dtype == "float64"):
        args = case.args(N, jnp.dtype(dtype))
        out = jax.eval_shape(case.fn, *args)
        for leaf in floats(out):
            assert leaf.dtype == ("float32" if case.counted else dtype)
        for leaf in jax.tree.leaves(out):
            if jnp.issubdtype(leaf.dtype, jnp.signedinteger):
                assert leaf.dtype == jnp.int32


@cases(lambda c: c.name.startswith(("capture", "intervene", "act_")))
def test_transforms_keep_bfloat16(case):
    for leaf in floats(jax.eval_shape(case.fn, *case.args(N, jnp.bfloat16))):
        assert leaf.dtype == jnp.bfloat16


@cases(lambda c: c.differentiable)
def test_gradients_are_finite_and_not_all_zero(case):
    x, *rest = case.args(N)

    def total(x):
        return sum(jnp.sum(a) for a in floats(case.fn(x, *rest)))

    grad = jax.jit(jax.grad(total))(x)
    assert jnp.isfinite(grad).all()
    assert (grad != 0).any()


@cases()
@pytest.mark.parametrize("n", [0, 1])
def test_empty_and_single_example(case, n):
    expected = case.empty if n == 0 else case.single
    args = case.args(n)
    if expected in ("works", "nan"):
        out, usual = case.fn(*args), case.fn(*case.args(N))
        chex.assert_trees_all_equal_structs(out, usual)
        for leaf in floats(out):
            assert jnp.isfinite(leaf).all() if expected == "works" else jnp.isnan(leaf).all()
    else:
        with pytest.raises(ValueError, match=expected):
            case.fn(*args)


@cases()
def test_nan_does_what_is_documented(case):
    x, *rest = case.args(N)
    bad = x.at[4, 2].set(jnp.nan)
    out = case.fn(bad, *rest)
    found = any(jnp.isnan(a).any() for a in floats(out))
    assert found == (case.nan == "spreads")
    if case.nan == "inactive":
        close(case, out, case.fn(x.at[4, 2].set(-9.0), *rest))


@cases()
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_lowers_for_accelerators(case, platform):
    exported = jax.export.export(jax.jit(case.fn), platforms=[platform])(*case.args(N))
    assert exported.platforms == (platform,)


def test_every_public_name_is_entered():
    entered = {case.name.split(".")[0] for case in CASES}
    for name, module in {
        "transforms": transforms,
        "patterns": patterns,
        "fit": fit,
        "stats": stats,
        "codebooks": codebooks,
        "introspection": introspection,
        "membership": membership,
        "regions": regions,
        "verify": verify,
        "zonotope": zonotope,
    }.items():
        public = {n for n in vars(module) if not n.startswith("_")}
        public -= {n for n in public if hasattr(getattr(module, n), "__path__")}
        assert public - entered == EXEMPT[name], f"enter new names of {name} in registry.py"
    kinds = {n for n in aj.edits.__all__ if n.islower()}
    assert kinds == set(EDITS), "enter new edits in registry.py"


@pytest.mark.slow
def test_values_are_reproducible_in_a_fresh_trace():
    for case in CASES:
        args = case.args(N)
        a, b = case.fn(*args), case.fn(*args)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), case.name
