import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from tests.transforms import networks as nets

SITES = ["embed", "blocks/pre", "blocks/post", "score"]


@pytest.mark.parametrize("f", nets.LOOPED)
def test_gradients_of_all_layers_equal_finite_differences(f):
    with jax.enable_x64(True):
        p = jax.tree.map(lambda a: np.asarray(a, np.float64), nets.params())
        x = np.asarray(nets.inputs(), np.float64)
        out, acts, grads = aj.act_grads(f, SITES)(p, x)
        chex.assert_trees_all_equal_shapes(acts, grads)
        assert grads["score"] == 1
        step = 1e-6  # central differences in float64: error about step^2 + eps/step = 2e-10
        for name in SITES[:3]:
            shape = acts[name].shape

            @jax.jit
            def moved(bump, name=name):
                value = aj.edits.each(bump) if "blocks" in name else bump
                return aj.intervene(f, {name: aj.edits.add(value)})(p, x)

            for i in np.ndindex(shape):
                bump = np.zeros(shape)
                bump[i] = step
                slope = (moved(bump) - moved(-bump)) / (2 * step)
                assert np.isclose(slope, grads[name][i], rtol=1e-6, atol=1e-8)
        assert np.isclose(out, nets.by_hand(p, x)[0])


def test_pullback_is_linear_and_crosses_jit():
    p = nets.params()
    xs = jnp.stack([nets.inputs(), -nets.inputs()])
    mapped = jax.vmap(nets.scanned, (None, 0))
    out, acts, pullback = aj.act_vjp(mapped, "blocks/post")(p, xs)
    assert acts["blocks/post"].shape == (nets.L, 2, nets.D)
    first = jax.jit(lambda pull, ct: pull(ct))(pullback, jnp.array([1.0, 0.0]))["blocks/post"]
    assert first.shape == acts["blocks/post"].shape
    assert (first[:, 1] == 0).all()  # the second example does not move the first output
    one = aj.act_grads(nets.scanned, "blocks/post")(p, xs[0])[2]["blocks/post"]
    chex.assert_trees_all_close(first[:, 0], one, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(
        pullback(jnp.array([2.0, 0.0]))["blocks/post"], 2 * first, rtol=1e-6
    )
    assert out.shape == (2,)


def test_chosen_layers_and_positions():
    p, x = nets.params(), nets.inputs()
    full = aj.act_grads(nets.scanned, "blocks/post")(p, x)[2]["blocks/post"]
    chosen = aj.select("blocks/post", layers=[4, 1], at={"d": [2, 0]})
    for f in (nets.scanned, jax.jit(nets.scanned)):
        _, acts, grads = aj.act_grads(f, chosen)(p, x)
        assert acts["blocks/post"].shape == grads["blocks/post"].shape == (2, 2)
        chex.assert_trees_all_close(
            grads["blocks/post"], full[np.ix_([4, 1], [2, 0])], rtol=1e-5, atol=1e-6
        )


def test_gradient_norms_of_a_batch_by_vmap():
    p = nets.params()
    xs = jax.random.normal(jax.random.key(0), (3, 4))
    grads = jax.vmap(aj.act_grads(nets.scanned, "embed"), (None, 0))(p, xs)[2]["embed"]
    assert grads.shape == (3, nets.D)


def test_refusals():
    def f(x):
        n = aj.tag(jnp.arange(3), "n")
        return aj.tag(x * n.sum().astype(x.dtype), "h").sum()

    with pytest.raises(aj.SiteError, match="'n' has dtype int32, which has no derivative"):
        aj.act_grads(f)(jnp.ones(2))
    with pytest.raises(aj.SiteError, match="a reduced value has no derivative"):
        aj.act_grads(f, aj.select("h", reduce=jnp.sum))(jnp.ones(2))
    with pytest.raises(TypeError, match=r"returns a scalar, got shape \(2,\)"):
        aj.act_grads(lambda x: aj.tag(x, "h"))(jnp.ones(2))


@pytest.mark.parametrize("f", nets.LOOPED)
def test_pushforward_and_pullback_are_adjoint(f):
    p = nets.params()
    xs = jnp.stack([nets.inputs(), -nets.inputs(), 2 * nets.inputs()])
    mapped = jax.vmap(f, (None, 0))
    sites = ["embed", aj.select("blocks/post", layers=[3, 1])]
    out, acts, pushforward = aj.act_jvp(mapped, sites)(p, xs)
    _, same, pullback = aj.act_vjp(mapped, sites)(p, xs)
    chex.assert_trees_all_close(acts, same, rtol=1e-6)
    keys = jax.random.split(jax.random.key(5), 3)
    tangents = {n: jax.random.normal(k, a.shape) for k, (n, a) in zip(keys, acts.items())}
    cotangent = jax.random.normal(keys[2], out.shape)
    forward = jnp.vdot(cotangent, pushforward(tangents))
    grads = pullback(cotangent)
    backward = sum(jnp.vdot(tangents[n], grads[n]) for n in acts)
    # <ct, J t> = <J^T ct, t>: two sums of some 40 float32 products.
    assert np.isclose(forward, backward, rtol=1e-5, atol=1e-5)
    part = pushforward({"embed": tangents["embed"]})
    rest = pushforward({"blocks/post": tangents["blocks/post"]})
    chex.assert_trees_all_close(part + rest, pushforward(tangents), rtol=1e-4, atol=1e-5)
    with pytest.raises(aj.SiteError, match="nearest: embed"):
        pushforward({"embedd": tangents["embed"]})


def test_pushforward_passes_a_while_loop():
    def f(x):
        x = aj.tag(x, "h")
        return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, 2 * c[1]), (0, x))[1]

    out, _, pushforward = aj.act_jvp(f)(jnp.ones(2))
    assert pushforward({"h": jnp.array([1.0, -1.0])}).tolist() == [8, -8]
    assert out.tolist() == [8, 8]


def test_a_site_inside_a_custom_rule_is_refused():
    @jax.custom_jvp
    def straight(v):
        return aj.tag(jnp.sign(v), "in")

    straight.defjvp(lambda p, t: (straight(p[0]), t[0]))
    x = jnp.array([1.0, 2.0, 3.0])

    def f(v):
        return (straight(aj.tag(v, "h")) * x).sum()

    assert aj.act_grads(f, "h")(x)[2]["h"].tolist() == x.tolist()
    with pytest.raises(aj.SiteError, match="'in' is inside a function with a derivative rule"):
        aj.act_grads(f)(x)
