"""The same network, written plain, in Flax Linen, in Flax NNX and in Equinox."""

import chex
import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

import activjax as aj

D, L = 4, 3
TOL = dict(rtol=1e-5, atol=1e-6)  # the same products in another order of fusion


def params():
    keys = jax.random.split(jax.random.key(0), 4)
    return {
        "up": jax.random.normal(keys[0], (L, D, 2 * D)) / 2,
        "down": jax.random.normal(keys[1], (L, 2 * D, D)) / 2,
        "head": jax.random.normal(keys[2], (D, 2)),
    }


X = jax.random.normal(jax.random.key(9), (5, D))


def plain(p, x):
    acts = {}
    for i in range(L):
        up = x @ p["up"][i]
        down = jnp.tanh(up) @ p["down"][i]
        x = x + down
        for name, value in (("/up", up), ("/down", down), ("", x)):
            acts.setdefault(name, []).append(value)
    out = x @ p["head"]
    stacked = {name: jnp.stack(values) for name, values in acts.items()}
    return out, stacked


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        up = nn.Dense(2 * D, use_bias=False, name="up")(x)
        return x + nn.Dense(D, use_bias=False, name="down")(jnp.tanh(up)), None


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        blocks = nn.scan(
            nn.remat(LinenBlock),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=L,
        )
        x, _ = blocks(name="blocks")(x)
        return nn.Dense(2, use_bias=False, name="head")(x)


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(D, 2 * D, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(2 * D, D, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return x + self.down(jnp.tanh(self.up(x)))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([NnxBlock(rngs) for _ in range(L)])
        self.head = nnx.Linear(D, 2, use_bias=False, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class EqxBlock(eqx.Module):
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __call__(self, x):
        return x + self.down(jnp.tanh(self.up(x)))


class EqxNet(eqx.Module):
    blocks: list
    head: eqx.nn.Linear

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def linen():
    p, net = params(), LinenNet()
    kernels = {"up": {"kernel": p["up"]}, "down": {"kernel": p["down"]}}
    variables = {"params": {"blocks": kernels, "head": {"kernel": p["head"]}}}
    return aj.tag_modules(net), variables, net.apply(variables, X)


def nnx_net():
    p, net = params(), NnxNet(nnx.Rngs(0))
    for i, block in enumerate(net.blocks):
        block.up.kernel[...], block.down.kernel[...] = p["up"][i], p["down"][i]
    net.head.kernel[...] = p["head"]
    return lambda m, x: m(x), aj.tag_modules(net), net(X)


def eqx_net():
    p, key = params(), jax.random.key(0)

    def linear(w):
        layer = eqx.nn.Linear(*w.shape, use_bias=False, key=key)
        return eqx.tree_at(lambda m: m.weight, layer, w.T)

    blocks = [EqxBlock(linear(p["up"][i]), linear(p["down"][i])) for i in range(L)]
    net = EqxNet(blocks, linear(p["head"]))
    return lambda m, x: jax.vmap(m)(x), aj.tag_modules(net), jax.vmap(net)(X)


@pytest.mark.parametrize("build", [linen, nnx_net, eqx_net])
def test_all_three_libraries_agree_with_the_plain_network(build):
    f, module, untouched = build()
    expected_out, expected = plain(params(), X)
    out, acts = aj.capture(f)(module, X)
    chex.assert_trees_all_close(out, untouched, **TOL)
    chex.assert_trees_all_close(out, expected_out, **TOL)
    chex.assert_trees_all_close(acts["output"], acts["head"], **TOL)
    for name in ("/up", "/down", ""):
        if build is linen:
            # Linen's scanned block returns (carry, None): its first output.
            got = acts[f"blocks{name}" if name else "blocks/0"]
        else:
            got = jnp.stack([acts[f"blocks/{i}{name}"] for i in range(L)])
        chex.assert_trees_all_close(got, expected[name], **TOL)
    zeroed = aj.intervene(f, {"**/down": aj.edits.scale(0.0)})(module, X)
    chex.assert_trees_all_close(zeroed, X @ params()["head"], **TOL)


def test_nnx_is_copied_not_patched_and_survives_split_and_jit():
    net = NnxNet(nnx.Rngs(0))
    tagged = aj.tag_modules(net)
    assert type(net) is NnxNet
    assert type(net.head) is nnx.Linear
    assert isinstance(tagged, NnxNet)
    assert aj.sites(lambda m: m(X))(tagged).names[-2:] == ("head", "output")
    with pytest.raises(aj.SiteError, match="no sites at all"):
        aj.capture(lambda m: m(X))(net)
    graph, state = nnx.split(tagged)
    run = jax.jit(aj.capture(lambda state: nnx.merge(graph, state)(X), "blocks/*"))
    assert set(run(state)[1]) == {"blocks/0", "blocks/1", "blocks/2"}
    out = nnx.jit(lambda m: m(X))(tagged)
    chex.assert_trees_all_close(out, net(X), **TOL)


def test_equinox_keeps_its_parameters_and_gradients():
    _, tagged, _ = eqx_net()

    def loss(m):
        return aj.intervene(lambda m: m(X[0]).sum(), {"head": lambda h: 2 * h})(m)

    grads = eqx.filter_grad(loss)(tagged)
    last = aj.capture(lambda m: m(X[0]), "blocks/2", out=False)(tagged)["blocks/2"]
    # d sum(2 W h) / dW is 2 h in every row.
    chex.assert_trees_all_close(grads.head.weight, jnp.stack([2 * last] * 2), **TOL)
    assert jax.tree.structure(grads) == jax.tree.structure(eqx.filter(tagged, eqx.is_array))


def test_checkpoint_names_are_sites():
    def f(x):
        with aj.scope("enc"):
            h = checkpoint_name(jnp.sin(x), "h")
        return aj.tag(2 * h, "out").sum()

    policy = jax.checkpoint_policies.save_only_these_names("h")
    x = jnp.arange(3.0)
    for g in (f, jax.checkpoint(f, policy=policy)):
        out, acts = aj.capture(g)(x)
        assert set(acts) == {"enc/h", "out"}
        chex.assert_trees_all_close(acts["enc/h"], jnp.sin(x))
        assert aj.intervene(g, {"enc/h": aj.edits.scale(0.0)})(x) == 0
        grads = aj.act_grads(g, "enc/h")(x)[2]["enc/h"]
        assert grads.tolist() == [2, 2, 2]
        assert out == acts["out"].sum()


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="no module of Flax Linen, Flax NNX or Equinox"):
        aj.tag_modules(jnp.sin)


@pytest.mark.parametrize("build", [linen, nnx_net, eqx_net])
def test_operations_of_one_kind_under_a_module(build):
    f, module, _ = build()
    g = aj.tag_primitives(f, "dot_general", scope="**/down")
    out, acts = aj.capture(g, "**/down/dot_general")(module, X)
    _, expected = plain(params(), X)
    if build is linen:
        got = acts["blocks/down/dot_general"]
    else:
        got = jnp.stack([acts[f"blocks/{i}/down/dot_general"] for i in range(L)])
    if got.shape != expected["/down"].shape:
        got = got.mT  # Equinox is mapped inside the function: weight times input, examples last
    chex.assert_trees_all_close(got, expected["/down"], **TOL)
    chex.assert_trees_all_close(out, plain(params(), X)[0], **TOL)
    zeroed = aj.intervene(g, {"**/dot_general": aj.edits.scale(0.0)})(module, X)
    chex.assert_trees_all_close(zeroed, X @ params()["head"], **TOL)


def test_operations_in_scopes_of_all_sorts():
    @jax.custom_jvp
    def odd(x):
        return jnp.sin(x)

    odd.defjvp(lambda p, t: (odd(p[0]), 100 * t[0]))

    def f(x):
        with jax.named_scope("outer"), aj.scope("inner"):
            x = aj.tag(odd(x), "own")
        x, _ = jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=2)
        return x.sum()

    x = jnp.arange(3.0)
    g = aj.tag_primitives(f, "sin")
    assert aj.sites(g)(x).names == ("outer/inner/sin", "inner/own", "sin")
    chex.assert_trees_all_close(jax.grad(g)(x), jax.grad(f)(x), rtol=1e-6)  # the rule is kept
    acts = jax.vmap(aj.capture(g, "**/sin", out=False))(x[None])
    chex.assert_trees_all_close(acts["outer/inner/sin"], jnp.sin(x)[None], rtol=1e-6)
    assert acts["sin"].shape == (1, 2, 3)
    assert aj.sites(aj.tag_primitives(f, "sin", scope="outer/**"))(x).names[0] == "outer/inner/sin"
    for primitive, scope, message in [
        ("sin", "attn", "no operation 'sin' in the scopes 'attn'; it is in: outer/inner, "),
        ("dot_generl", "**", "no operation 'dot_generl' in the scopes"),
        ("sine", "**", "nearest: sin"),
    ]:
        with pytest.raises(aj.SiteError, match=message):
            aj.tag_primitives(f, primitive, scope=scope)(x)
    with pytest.raises(aj.SiteError, match="name operations first"):
        aj.tag_primitives(jax.grad(jax.checkpoint(f)), "sin")(x)
