"""Random programs of tagged primitives and control flow, against a plain-Python reference."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import activjax as aj

D = 3
TOL = {"rtol": 2e-4, "atol": 2e-5}  # some ten float32 operations, each within 1e-6, fused or not

# A program is a list of steps: ("affine", a, b), ("tanh",), ("tag",), or control flow with bodies.
leaf = st.one_of(
    st.tuples(st.just("affine"), st.sampled_from([0.5, -0.8, 1.2]), st.sampled_from([-0.3, 0.7])),
    st.just(("tanh",)),
    st.just(("tag",)),
)


def control(body):
    some = st.lists(body, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.tuples(st.just("scan"), st.integers(1, 3), st.booleans(), some),
        st.tuples(st.just("while"), st.integers(1, 3), some),
        st.tuples(st.just("cond"), st.sampled_from([-0.5, 0.0, 0.5]), some, some),
        st.tuples(st.sampled_from(["jit", "remat", "vmap"]), some),
    )


steps = st.recursive(leaf, control, max_leaves=6)
programs = st.lists(steps, min_size=1, max_size=4).map(tuple)


def numbered(program, names):
    """The program with a name of its own for every tag."""
    out = []
    for step in program:
        if step[0] == "tag":
            out.append(("tag", f"t{next(names)}"))
        else:
            out.append(tuple(numbered(s, names) if isinstance(s, tuple) else s for s in step))
    return tuple(out)


def run(program, x):
    """The program in JAX."""
    for step in program:
        match step:
            case ("affine", a, b):
                x = a * x + b * jnp.roll(x, 1)
            case ("tanh",):
                x = jnp.tanh(x)
            case ("tag", name):
                x = aj.tag(x, name)
            case ("scan", n, reverse, body):

                def one(c, t, body=body):
                    return run(body, c + t), None

                x, _ = jax.lax.scan(one, x, 0.1 * jnp.arange(float(n)), reverse=reverse)
            case ("while", n, body):

                def more(c, body=body):
                    return c[0] + 1, run(body, c[1])

                _, x = jax.lax.while_loop(lambda c, n=n: c[0] < n, more, (jnp.int32(0), x))
            case ("cond", c, yes, no):
                x = jax.lax.cond(
                    x.sum() > c, lambda x, p=yes: run(p, x), lambda x, p=no: run(p, x), x
                )
            case ("jit", body):
                x = jax.jit(lambda x, body=body: run(body, x))(x)
            case ("remat", body):
                x = jax.checkpoint(lambda x, body=body: run(body, x))(x)
            case ("vmap", body):
                x = jax.vmap(lambda x, body=body: run(body, x))(x[None])[0]
    return x


class Reference:
    """The program in NumPy; every value of every tag by the iterations around it."""

    def __init__(self, edit=lambda name, x: x):
        self.seen, self.edit = {}, edit

    def run(self, program, x, at=()):
        for step in program:
            match step:
                case ("affine", a, b):
                    x = a * x + b * np.roll(x, 1, axis=-1)
                case ("tanh",):
                    x = np.tanh(x)
                case ("tag", name):
                    x = self.edit(name, x)
                    self.seen.setdefault(name, {})[at] = x
                case ("scan", n, reverse, body):
                    for i in reversed(range(n)) if reverse else range(n):
                        x = self.run(body, x + 0.1 * i, (*at, i))
                case ("while", n, body):
                    for _ in range(n):
                        x = self.run(body, x, at)  # the last value stays
                case ("cond", c, yes, no):
                    assert abs(x.sum() - c) > 1e-3, "too close to call"
                    x = self.run(yes if x.sum() > c else no, x, at)
                case ("vmap", body):
                    x = self.run(body, x[None], at)[0]
                case (_, body):
                    x = self.run(body, x, at)
        return x


def check(program, x):
    program = numbered(program, itertools.count())
    names = [s for s in str(program).split("'") if s.startswith("t") and s[1:].isdigit()]
    reference = Reference()
    try:
        expected = reference.run(program, x)
    except AssertionError:
        return  # a predicate within rounding of its threshold decides nothing
    f = jax.jit(lambda x: run(program, x))
    table = aj.sites(f)(x)
    assert sorted(table.names) == sorted(names)
    if not names:
        return
    out, acts = aj.capture(f)(x)
    np.testing.assert_allclose(out, expected, **TOL)
    for site in table:
        got = np.asarray(acts[site.name])
        loops = [n for _, n in site.loops if n is not None]
        values = reference.seen.get(site.name, {})
        in_while = len(loops) < len(site.loops)
        for at in np.ndindex(*loops):
            if site.conditional and not in_while:
                assert bool(acts[f"{site.name}#valid"][at]) == (at in values)
            if at in values and not (site.conditional and in_while):
                np.testing.assert_allclose(got[at], values[at], **TOL)
            elif site.conditional and not in_while:
                assert (got[at] == 0).all()
    # Editing one site, and all of them, equals the hand-edited program.
    for chosen in ({names[0]}, set(names)):
        by_hand = Reference(lambda name, x, c=chosen: 0.9 * x + 0.1 if name in c else x)
        try:
            expected = by_hand.run(program, x)
        except AssertionError:
            continue
        edited = aj.intervene(f, {name: lambda h: 0.9 * h + 0.1 for name in chosen})(x)
        np.testing.assert_allclose(edited, expected, **TOL)


X = np.array([0.3, -0.6, 0.9], np.float32)
OPTIONS = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}


@settings(max_examples=20, **OPTIONS)
@given(programs)
def test_random_programs(program):
    check(program, X)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=300, **OPTIONS)
@given(programs, st.integers(0, 2**31))
def test_many_random_programs(program, seed):
    check(program, np.random.default_rng(seed).normal(size=D).astype(np.float32))
