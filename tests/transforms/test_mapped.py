"""Values that `jax.vmap` maps inside the function: which example is which, and never a guess."""

import chex
import jax
import jax.numpy as jnp
import pytest

import activjax as aj

E = aj.edits


def _rows_then_columns(**name):
    # Two maps of equal size, over the rows and over the columns of a square.
    def f(xs):
        rows = jax.vmap(lambda v: aj.tag(v * 10, "row"), **name)(xs)
        return jax.vmap(lambda v: aj.tag(v, "column"), in_axes=1, out_axes=1, **name)(rows)

    return f


def test_two_maps_of_one_size_are_not_paired():
    xs = jnp.arange(9.0).reshape(3, 3)
    edits = {"column": lambda v, ctx: v + ctx.read("row")}
    with pytest.raises(aj.SiteError, match="nothing tells which example .* name the axis"):
        aj.intervene(_rows_then_columns(), edits)(xs)


def test_read_is_by_the_names_of_mapped_axes():
    def f(xs, ys):
        def outer(x):
            a = aj.tag(x * 10, "a")

            def inner(y):
                b = aj.tag(x + y, "b")
                return aj.tag(a + b + y, "c")

            return jax.vmap(inner, axis_name="inner")(ys)

        return jax.vmap(outer, axis_name="outer")(xs)

    xs, ys = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.1, 0.2, 0.3])
    edits = {"c": lambda v, ctx: ctx.read("a") - 2 * ctx.read("b")}
    got = aj.intervene(f, edits)(xs, ys)
    chex.assert_trees_all_close(got, 10 * xs[:, None] - 2 * (xs[:, None] + ys[None]), rtol=1e-6)
    # Mapped once more from outside: the same, example by example.
    twice = jax.vmap(aj.intervene(f, edits), (0, None))(jnp.stack([xs, -xs]), ys)
    chex.assert_trees_all_close(twice[0], got, rtol=1e-6)


def test_read_across_a_transposed_order_of_maps():
    def f(m):
        first = jax.vmap(
            lambda r: jax.vmap(lambda v: aj.tag(v, "a"), axis_name="j")(r), axis_name="i"
        )(m)
        second = jax.vmap(
            lambda c: jax.vmap(lambda v: aj.tag(v * 0, "b"), axis_name="i")(c),
            in_axes=1,
            axis_name="j",
        )(first)
        return second

    m = jnp.arange(6.0).reshape(2, 3)
    got = aj.intervene(f, {"b": lambda v, ctx: v + ctx.read("a")})(m)
    chex.assert_trees_all_equal(got, m.T)


def test_axes_of_an_edit_that_reads_are_named_in_errors_only_when_asked():
    # Reading a value that is not mapped needs no names.
    def f(xs, w):
        w = aj.tag(w * 2, "w")
        return jax.vmap(lambda x: aj.tag(x, "x"))(xs) * w

    got = aj.intervene(f, {"x": lambda v, ctx: v + ctx.read("w")})(jnp.arange(3.0), 5.0)
    chex.assert_trees_all_equal(got, (jnp.arange(3.0) + 10) * 10)


def _counting(c):
    def f(n):
        def body(s):
            i, total = s
            z = jax.vmap(lambda q: aj.tag(q * 1.0, "t"))(c)
            u = aj.tag(total + z.sum() + 1, "u")
            return i + 1, u

        return jax.lax.while_loop(lambda s: s[0] < n, body, (0, 0.0))

    return f


def test_lanes_of_a_mapped_while_are_told_from_a_map_inside_its_body():
    trips = jnp.array([1, 2, 0])
    other = aj.capture(jax.vmap(_counting(jnp.arange(4.0))))(trips)[1]
    chex.assert_trees_all_equal(other["t"], jnp.arange(4.0))
    expected = jax.vmap(aj.capture(_counting(jnp.arange(4.0)), "u"))(trips)[1]
    chex.assert_trees_all_equal(other["u"], expected["u"])
    # A map of the lanes' own size over values from outside could be either: refused.
    same = jax.vmap(_counting(jnp.arange(3.0)))
    with pytest.raises(aj.SiteError, match="which of them is the loop's cannot be told"):
        aj.capture(same, "t")(trips)
    chex.assert_trees_all_close(aj.capture(same, "u")(trips)[1]["u"][:2], jnp.array([4.0, 8.0]))


def test_checkpoint_names_in_a_mapped_while_are_refused():
    from jax.ad_checkpoint import checkpoint_name

    def f(n):
        step = lambda s: (s[0] + 1, checkpoint_name(s[1] + 1, "t"))  # noqa: E731
        return jax.lax.while_loop(lambda s: s[0] < n, step, (0, 0.0))

    assert aj.capture(f)(3)[1]["t"] == 3
    try:
        jax.make_jaxpr(jax.vmap(f))(jnp.array([1, 2]))
    except NotImplementedError:
        pytest.skip("jax 0.10 with jax_remat3 cannot map a checkpoint_name in a while itself")
    with pytest.raises(aj.SiteError, match="name the value with aj.tag"):
        aj.capture(jax.vmap(f))(jnp.array([1, 2]))
