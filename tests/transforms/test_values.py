"""Values of edits and selectors of the wrong kind are refused by name, never converted silently."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj

E = aj.edits


def _edited(edit, x, wrap=lambda f: f):
    return aj.intervene(wrap(lambda x: aj.tag(x, "h")), {"h": edit})(x)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
@pytest.mark.parametrize(
    ("edit", "dtype", "message"),
    [
        (E.add(0.5), jnp.int32, "holds int32, which cannot hold .* float32"),
        (E.add(1j), jnp.float32, "holds float32, which cannot hold .* complex64"),
        (E.add(2), jnp.bool_, "holds bool, which cannot hold .* int32"),
        (E.add(300), jnp.int8, r"holds int8(, from -128 to 127|; whether)"),
        (E.replace(-1), jnp.uint8, r"holds uint8(, from 0 to 255|; whether)"),
        (E.project_out(jnp.ones(3)), jnp.int32, "a projection needs floating-point"),
        (E.project_out(1j * np.ones(3, np.complex64)), jnp.float32, "the directions are complex64"),
        (E.renorm(E.add(1)), jnp.int32, "renorm needs floating-point"),
    ],
)
def test_a_value_that_the_site_cannot_hold_is_refused(wrap, edit, dtype, message):
    with pytest.raises(aj.SiteError, match=message):
        _edited(edit, jnp.ones(3, dtype), wrap)


def test_integers_that_fit_are_taken():
    small = jnp.array([1, 2, 3], jnp.int8)
    np.testing.assert_array_equal(_edited(E.add(4), small), [5, 6, 7])
    np.testing.assert_array_equal(_edited(E.add(jnp.int8(4)), small, jax.jit), [5, 6, 7])
    np.testing.assert_array_equal(_edited(E.add(2**31), jnp.ones(2, jnp.uint32)), [2**31 + 1] * 2)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(_edited(E.add(4), jnp.ones(2, jnp.int32), jax.jit), [5, 5])


def test_bounds_beyond_the_range_do_not_bind():
    x = jnp.array([0, 7, 255], jnp.uint8)
    for wrap in (lambda f: f, jax.jit):
        np.testing.assert_array_equal(_edited(E.clamp(-1, 300), x, wrap), x)
        np.testing.assert_array_equal(_edited(E.clamp(-1, 9), x, wrap), [0, 7, 9])


@pytest.mark.parametrize("value", ["a", None, {"v": 1.0}, [[1.0], [1.0, 2.0]], object()])
def test_a_value_that_is_no_number_is_refused(value):
    for make in (E.add, E.replace, E.scale, E.each, E.project_out, E.top_k):
        with pytest.raises(TypeError, match="expected a number or an array"):
            make(value)


def test_integers_beyond_64_bits_are_refused():
    with pytest.raises(OverflowError, match="needs 64 bits"):
        E.add(2**40)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: aj.intervene(_tagged, {"h": lambda v: {"a": v}}), "returned a dict"),
        (lambda: aj.intervene(_tagged, {"h": E.add((1.0, 2.0))}), r"shape \(2,\), which does not"),
        (lambda: aj.intervene(_tagged, {"h": E.chain(lambda v: v[:1])}), r"float32\[1\], expected"),
        (lambda: aj.intervene(_scalar, {"h": E.project_out(jnp.ones(1))}), "is a scalar"),
        (lambda: aj.intervene(_scalar, {"h": E.renorm(E.add(1.0))}), "is a scalar"),
        (lambda: aj.intervene(_scalar, {"h": E.top_k(1)}), "is a scalar"),
        (lambda: aj.intervene(_keys, {"h": E.add(1.0)}), "holds key<fry>"),
        (lambda: aj.intervene(_keys, {"h": E.replace(1.0)}), "holds key<fry>"),
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_what_an_edit_cannot_do_is_said_with_the_site(make, message, mapped):
    def call(x):
        return make()(x)

    with pytest.raises(aj.SiteError, match=f"site 'h'.*{message}"):
        (jax.vmap(call) if mapped else call)(jnp.ones((4, 3)) if mapped else jnp.ones(3))


def _tagged(x):
    return aj.tag(x, "h")


def _scalar(x):
    return aj.tag(x.sum(), "h")


def _keys(x):
    return aj.tag(jax.random.key(0), "h")


def test_keys_are_replaced_by_keys():
    new = aj.intervene(_keys, {"h": E.replace(jax.random.key(7))})(jnp.ones(3))
    assert (jax.random.key_data(new) == jax.random.key_data(jax.random.key(7))).all()


@pytest.mark.parametrize("key", [0, jnp.zeros(2, jnp.uint32), jax.random.split(jax.random.key(0))])
def test_a_key_that_is_none_is_refused(key):
    with pytest.raises(TypeError, match=r"key: expected one typed random key, jax.random.key\(0\)"):
        aj.intervene(_tagged, {"h": E.add(1.0)}, key=key)


def test_names_that_are_none_are_refused():
    with pytest.raises(TypeError, match="select: expected a glob over site names, got 3"):
        aj.select(3)
    with pytest.raises(TypeError, match="tag 'h': expected an array or .*, got 'x'"):
        aj.tag("x", "h")


def test_a_tangent_of_another_shape_is_refused():
    _, _, push = aj.act_jvp(lambda x: aj.tag(x, "h").sum())(jnp.ones(3))
    with pytest.raises(aj.SiteError, match=r"site 'h': .* shape \(3,\), got \(2,\)"):
        push({"h": jnp.ones(2)})


def test_bound_values_of_a_callable_are_swept_in_one_program():
    traces = []

    @jax.jit
    def f(x):
        traces.append(1)
        return aj.tag(x, "h") * 2

    def steer(strength, v):
        traces.append(1)
        return v + strength

    for s in range(5):
        got = aj.intervene(f, {"h": jax.tree_util.Partial(steer, float(s))})(jnp.ones(3))
        np.testing.assert_array_equal(got, jnp.full(3, 2.0 + 2 * s))
    assert len(traces) == 2


def test_no_position_of_two_axes_leaves_the_value():
    f = lambda x: aj.tag(x, "h", axes="a b")  # noqa: E731
    x = jnp.ones((2, 3))
    for at in ({"a": [], "b": [0]}, {"a": []}, {"a": [], "b": []}):
        np.testing.assert_array_equal(aj.intervene(f, [(aj.select("h", at=at), E.add(1.0))])(x), x)
        assert aj.capture(f, aj.select("h", at=at))(x)[1]["h"].size == 0
