"""Programs on which reviews found wrong numbers: effects, platforms, indices, extremes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import activjax as aj

E = aj.edits
WRONG = aj.SiteError
X = jnp.array([1.0, 2.0, 3.0])


def test_an_edit_that_a_rematerialised_gradient_would_miss_is_refused():
    loss = lambda x: (jnp.sin(aj.tag(x**2, "h")) * 2).sum()  # noqa: E731
    edit = {"h": E.add(1.0)}
    expected = jax.grad(aj.intervene(loss, edit))(X)
    chex.assert_trees_all_close(
        jax.grad(aj.intervene(jax.checkpoint(loss), edit))(X), expected, rtol=1e-6
    )
    chex.assert_trees_all_close(aj.intervene(jax.grad(loss), edit)(X), expected, rtol=1e-5)
    with pytest.raises(aj.SiteError, match="computed a second time by jax.checkpoint"):
        aj.intervene(jax.value_and_grad(jax.checkpoint(loss)), edit)(X)


def _with_a_ref(x):
    @jax.custom_jvp
    def f(x):
        r = jax.new_ref(x)
        r[...] = r[...] * 3
        return aj.tag(r[...], "h") * 1

    f.defjvp(lambda p, t: (f(*p), t[0] * 3))
    return f(x)


@pytest.mark.parametrize("out", [True, False])
def test_refs_are_written_wherever_something_is_read(out):
    got = aj.capture(_with_a_ref, out=out)(X)
    chex.assert_trees_all_equal((got[1] if out else got)["h"], 3 * X)

    def counted(x):
        r = jax.new_ref(jnp.zeros(2))

        def body(c, _):
            r[...] = r[...] + 1.0
            return aj.tag(c * 2, "h"), None

        jax.lax.scan(body, x, None, length=3)
        return aj.tag(r[...], "o")

    got = aj.capture(counted, ["o", aj.select("h", layers=0)], out=out)(jnp.ones(2))
    chex.assert_trees_all_equal((got[1] if out else got)["o"], jnp.full(2, 3.0))


def test_only_the_branch_of_the_platform_is_lowered():
    f = lambda x: jax.lax.platform_dependent(  # noqa: E731
        x, cpu=lambda x: aj.tag(x * 2, "h"), tpu=_unlowerable, default=lambda x: x
    )
    for g in (f, jax.jit(f)):
        out, acts = aj.capture(g)(X)
        chex.assert_trees_all_equal((out, acts["h"], acts["h#valid"]), (2 * X, 2 * X, True))
        chex.assert_trees_all_equal(aj.intervene(g, {"h": E.add(1.0)})(X), 2 * X + 1)


def _unlowerable(x):
    from jax.experimental import pallas as pl

    def kernel(source, target):
        target[...] = source[...] * 2

    return pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype))(x)


def _mesh():
    return jax.make_mesh((4,), ("m",), axis_types=(jax.sharding.AxisType.Auto,))


@pytest.mark.parametrize("check_vma", [True, False])
def test_noise_on_a_value_that_all_shards_share_is_shared(check_vma):
    body = lambda x: aj.tag(jax.lax.psum(x, "m"), "r")  # noqa: E731
    f = jax.shard_map(body, mesh=_mesh(), in_specs=P("m"), out_specs=P(), check_vma=check_vma)
    noise = {"r": lambda v, ctx: v + jax.random.normal(ctx.key, v.shape)}
    got = jax.jit(aj.intervene(f, noise, key=jax.random.key(0)))(jnp.arange(8.0))
    copies = [np.asarray(shard.data) for shard in got.addressable_shards]
    for copy in copies:
        np.testing.assert_array_equal(copy, copies[0])


def test_a_shared_value_may_not_be_made_to_differ():
    body = lambda x: x * aj.tag(jax.lax.psum(x.sum(), "m"), "r")  # noqa: E731
    f = jax.shard_map(body, mesh=_mesh(), in_specs=P("m"), out_specs=P("m"))
    x = jnp.arange(8.0)
    acts = aj.capture(f)(x)[1]
    with pytest.raises(aj.SiteError, match=r"same on every shard of \['m'\]"):
        aj.intervene(f, {"r": E.replace(E.each(acts["r"]))})(x)
    with pytest.raises(aj.SiteError, match=r"same on every shard of \['m'\]"):
        aj.act_grads(lambda x: f(x).sum(), "r")(x)
    chex.assert_trees_all_equal(aj.intervene(f, {"r": E.replace(2.0)})(x), 2 * x)


def _scaled(x):
    def step(c, w):
        return aj.tag(c * w, "h", axes="seq"), None

    return jax.lax.scan(step, x, jnp.arange(1.0, 5.0))[0].sum()


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_repeated_traced_indices_have_the_same_derivative(wrap):
    f = wrap(_scaled)
    for where in (
        {"layers": jnp.array([1, 1])},
        {"layers": 1, "at": jnp.array([1, 1])},
        {"layers": jnp.array([1, 1]), "at": jnp.array([2, 0, 2])},
    ):
        _, acts, grads = aj.act_grads(f, aj.select("h", **where))(X)
        assert grads["h"].shape == acts["h"].shape
        chex.assert_trees_all_equal(grads["h"], jnp.full_like(grads["h"], 12.0))
        _, _, pullback = aj.act_vjp(f, aj.select("h", **where))(X)
        chex.assert_trees_all_equal(pullback(1.0)["h"], grads["h"])


def test_the_derivative_at_an_index_out_of_range_is_no_number():
    out, acts, grads = aj.act_grads(_scaled, aj.select("h", layers=jnp.array(9)))(X)
    for value in (out, acts["h"], grads["h"]):
        assert jnp.isnan(value).all()
    edit = [(aj.select("h", layers=jnp.array(9)), E.scale(2.0))]
    assert jnp.isnan(jax.grad(aj.intervene(_scaled, edit))(X)).all()


def test_a_wide_site_leaves_edits_of_others_alone():
    def f(x):
        with jax.enable_x64(True):
            z = aj.tag(x.astype(jnp.float64), "z")
        return aj.tag(z.astype(jnp.float32), "w")

    edit = {"w": lambda v: v + jnp.linspace(0.0, 1.0, 3)}
    chex.assert_trees_all_equal(
        aj.intervene(f, edit)(X), aj.intervene(f, {**edit, "z": E.scale(1.0)})(X)
    )
    _, acts, grads = aj.act_grads(lambda x: f(x).sum(), "z")(X)
    assert acts["z"].dtype == grads["z"].dtype == jnp.float64


@pytest.mark.parametrize("size", [1.0, 1e-20, 1e-30, 1e18])
def test_renorm_has_derivatives_at_every_length(size):
    def f(x):
        return (aj.tag(x, "h") * jnp.array([1.0, 2.0, 3.0])).sum()

    x = jnp.array([0.5, 1.0, 2.0]) * size
    for factor in (2.0, 1e-5):
        g = aj.intervene(f, {"h": E.renorm(E.scale(factor))})  # the identity
        np.testing.assert_allclose(jax.grad(g)(x), [1, 2, 3], rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 2])
def test_directions_of_the_largest_numbers(rows):
    u = jnp.full((rows, 4), 3e38)
    x = jnp.arange(1.0, 5.0)
    got = aj.intervene(lambda x: aj.tag(x, "h"), {"h": E.project_out(u)})(x)
    np.testing.assert_allclose(got, x - 2.5, rtol=1e-5)


def test_magnitudes_of_the_least_integer():
    f = lambda x: aj.tag(x, "h")  # noqa: E731
    x = jnp.array([-128, 2, 127], jnp.int8)
    got = aj.intervene(f, {"h": E.top_k(1, by="magnitude")})(x)
    np.testing.assert_array_equal(got, [-128, 0, 0])
    for k in (1.5, jnp.array([1, 2])):
        with pytest.raises(aj.SiteError, match="top_k needs one whole number"):
            aj.intervene(f, {"h": E.top_k(k)})(x)


def test_integers_are_fitted_to_narrow_sites_in_every_program():
    def f(x):
        step = lambda c, _: (aj.tag(c, "h"), None)  # noqa: E731
        return jax.lax.scan(step, x.astype(jnp.int8), None, length=3)[0]

    x = jnp.ones(2)
    edits = {"h": E.add(1)}
    for g in (aj.intervene(f, edits), jax.jit(aj.intervene(f, edits))):
        np.testing.assert_array_equal(g(x), [4, 4])
    inside = jax.jit(lambda x: aj.intervene(f, {"h": E.add(1)})(x))
    np.testing.assert_array_equal(inside(x), [4, 4])
    each = {"h": E.chain(E.replace(E.each([1, 2, 3])))}
    np.testing.assert_array_equal(aj.intervene(f, each)(x), [3, 3])
    with pytest.raises(aj.SiteError, match="holds int8, from -128 to 127"):
        aj.intervene(f, {"h": E.replace(E.each([1, 2, 300]))})(x)
    with jax.enable_x64(True):
        most = aj.intervene(lambda x: aj.tag(x, "h"), {"h": E.replace(2**64 - 1)})
        assert most(jnp.zeros((), jnp.uint64)) == np.uint64(2**64 - 1)


def test_a_context_by_any_parameter_called_ctx():
    f = lambda x: aj.tag(aj.tag(x, "a") * 2, "b")  # noqa: E731

    def keyword(v, *, ctx):
        return v + ctx.read("a")

    def default(v, ctx=None):
        return v + ctx.read("a")

    for edit in (keyword, default, lambda v, c: v + c.read("a")):
        chex.assert_trees_all_equal(aj.intervene(f, {"b": edit})(X), 3 * X)
    mode = jax.tree_util.Partial(lambda mode, v: -v if mode == "minus" else v, "minus")
    chex.assert_trees_all_equal(aj.intervene(f, {"b": mode})(X), -2 * X)


def test_an_edit_may_use_the_axis_that_a_map_named():
    f = jax.vmap(lambda x: aj.tag(x, "h"), axis_name="batch")
    centred = aj.intervene(f, {"h": lambda v: v - jax.lax.pmean(v, "batch")})
    chex.assert_trees_all_close(centred(X), X - 2.0)


def test_act_vjp_of_a_jitted_function_compiles_once():
    traces = []

    @jax.jit
    def f(x):
        traces.append(1)
        return (aj.tag(x * 2, "h") ** 2).sum()

    for i in range(3):
        out, acts, pullback = aj.act_vjp(f)(X + i)
        chex.assert_trees_all_close(pullback(jnp.ones_like(out))["h"], 2 * acts["h"])
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: aj.act_jvp(f)(X)[2]([X]), TypeError, "expected {site: tangent}, got list"),
        (lambda f: aj.act_jvp(f)(X)[2]({"h": 1j * np.ones(3)}), aj.SiteError, "is real"),
        (lambda f: aj.act_grads(lambda x: f(x).astype(int))(X), TypeError, "returns int32"),
        (lambda f: aj.capture(f, aj.select("h", reduce=lambda v: (v, v)))(X), WRONG, "a tuple"),
        (lambda f: aj.capture(f, aj.select("h", reduce=lambda v: None))(X), WRONG, "a NoneType"),
        (lambda f: aj.select("h", loops=[1]), TypeError, "loops: expected {name: index}"),
        (lambda f: aj.tag(jnp.ones((2, 2)), "h", axes="a a"), ValueError, "two axes have one name"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(lambda x: aj.tag(x, "h").sum())
