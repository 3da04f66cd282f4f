"""`parameter_uses`: networks of several libraries, views by hand, the same under every wrapper."""

import jax
import jax.numpy as jnp
import pytest

import activjax as aj
from activjax import program
from tests.program import networks

W = jnp.ones((4, 5))
X = jnp.ones((3, 4))
TABLE = jnp.ones((7, 4))
TOKENS = jnp.array([1, 2, 2])


def uses(f, *args, argnums=0):
    return program.parameter_uses(f, argnums)(*args)


def facts(found):
    return [(u.leaf, u.kind, u.operand, u.primitive, u.axes, u.loops, u.data) for u in found]


@pytest.mark.parametrize("build", networks.NETWORKS)
def test_networks(build):
    f, params, x = build()
    found = uses(f, params, x)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    assert found.leaves == tuple(jax.tree_util.keystr(path) for path, _ in leaves)
    assert found.unused == ()
    assert len(found) == len(leaves)
    for u in found:
        kernel = any(word in u.leaf for word in ("kernel", "up'", "down'")) and "bias" not in u.leaf
        if "scale" in u.leaf:
            assert (u.kind, u.primitive) == ("elementwise", "mul")
        elif "conv" in u.leaf and kernel:
            assert (u.kind, u.inputs, u.outputs, u.operand) == ("convolution", (2,), (3,), 1)
        elif kernel:
            loops = len(u.loops)
            assert (u.kind, u.operand, u.contracting) == ("dense", 1, (0,))
            assert (u.inputs, u.outputs) == ((loops,), (1 + loops,))
            assert not u.transposed
        else:
            assert (u.kind, u.primitive, u.axes[-1]) == ("elementwise", "add", len(u.shape) - 1)
        assert u.data or "scale" in u.leaf  # a scale meets the variance first
        assert [(x.length, x.leaf) for x in u.loops] in ([], [(3, "sliced")])


@pytest.mark.parametrize("build", networks.NETWORKS)
@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: jax.jit(jax.checkpoint(f))])
def test_wrappers_change_nothing(build, wrap):
    f, params, x = build()
    assert facts(uses(wrap(f), params, x)) == facts(uses(f, params, x))
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (params, x))
    assert facts(uses(f, *shapes)) == facts(uses(f, params, x))


def test_tied_embeddings_are_used_twice():
    def f(p, tokens):
        h = jax.nn.relu(p["table"][tokens]) + p["bias"]
        return h @ p["table"].T

    found = uses(f, {"table": TABLE, "bias": jnp.ones(4), "old": X}, TOKENS)
    lookup, bias, dense = found
    assert (lookup.kind, lookup.inputs, lookup.outputs, lookup.data) == ("gather", (0,), (1,), True)
    assert (bias.kind, bias.primitive, bias.axes) == ("elementwise", "add", (None, 0))
    assert (dense.kind, dense.transposed, dense.inputs, dense.outputs) == (
        "dense",
        True,
        (1,),
        (0,),
    )
    assert [s.name for s in dense.views] == ["transpose"]
    assert found.of("['table']") == (lookup, dense)
    assert found.unused == ("['old']",)
    assert "test_parameter_uses.py" in dense.source
    with pytest.raises(KeyError, match="no leaf .*table"):
        found.of("table")
    text = str(found)
    for word in ("unused", "gather", "3 uses of 3 leaves, 1 unused", "transpose (1, 0)"):
        assert word in text


@jax.custom_vjp
def clipped(w, x):
    return x @ w


clipped.defvjp(lambda w, x: (x @ w, (w, x)), lambda r, g: (r[1].T @ g, g @ r[0].T))


def sharded(w, x):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec
    f = jax.shard_map(
        lambda w, x: jax.lax.all_gather(w, "d", tiled=True).T @ x.T,
        mesh=mesh,
        in_specs=(spec("d"), spec()),
        out_specs=spec(),
        check_vma=False,
    )
    return f(w, x)


def branching(w, x):
    return jax.lax.cond(x[0, 0] > 0, lambda w: x @ w, lambda w: -x @ w, w)


VIEWS = {
    "plain": (lambda w, x: x @ w, 1, (0, 1)),
    "left": (lambda w, x: w.T @ x.T, 0, (1, 0)),
    "einsum": (lambda w, x: jnp.einsum("ij,bi->jb", w, x), None, None),
    "converted": (lambda w, x: x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16), 1, (0, 1)),
    "expanded": (lambda w, x: (x[:, None] @ w[None])[:, 0], 1, None),
    "halves": (lambda w, x: x @ w[:, :2] + x @ w[:, 2:4], 1, (0, 1)),
    "tagged": (lambda w, x: x @ aj.tag(w, "w"), 1, (0, 1)),
    "vmapped": (lambda w, x: jax.vmap(lambda r: r @ w)(x), 1, (0, 1)),
    "rule": (clipped, 1, (0, 1)),
    "cond": (
        lambda w, x: jax.lax.cond(x[0, 0] > 0, lambda w: x @ w, lambda w: -x @ w, w),
        1,
        (0, 1),
    ),
    "heads": (lambda w, x: x.reshape(3, 2, 2).sum(1) @ w.reshape(2, 2, 5)[0], 1, (None, 1)),
    "sharded": (sharded, 0, (1, 0)),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_views_are_followed(name, wrap):
    f, operand, axes = VIEWS[name]
    found = uses(wrap(f), W, X)
    assert {u.kind for u in found} == {"dense"}
    assert len(found) == (2 if name in ("halves", "cond") else 1)
    for u in found:
        assert operand in (None, u.operand)
        assert axes in (None, u.axes)
        assert name == "heads" or (u.inputs, u.outputs) == ((0,), (1,)), name
        assert u.data
        assert not u.sometimes
        assert u.place.conditional == (name == "cond")


def test_batched_products():
    experts = jnp.ones((3, 4, 5))
    (u,) = uses(lambda w, x: jnp.einsum("eij,ei->ej", w, x), experts, X)
    assert (len(u.batch), u.inputs, u.outputs) == (1, (1,), (2,))
    (u,) = uses(lambda w, x: jnp.einsum("bi,ihk->bhk", x, w), jnp.ones((4, 2, 5)), X)
    assert (u.inputs, u.outputs) == ((0,), (1, 2))


def test_kinds():
    (u,) = uses(lambda w, t: jax.nn.one_hot(t, 7) @ w, TABLE, TOKENS)
    assert u.kind == "dense"
    (u,) = uses(lambda w, t: jnp.take(w, t, axis=0), TABLE, TOKENS)
    assert u.kind == "gather"
    (u,) = uses(lambda w, t: jax.lax.dynamic_index_in_dim(w, t[0]), TABLE, TOKENS)
    assert (u.kind, u.primitive, u.inputs, u.outputs) == ("gather", "dynamic_slice", (0,), (1,))
    (u,) = uses(lambda w, x: w[jnp.array([1, 2, 3])] * x, TABLE, X)  # known indices: a part
    assert (u.kind, u.axes, [s.name for s in u.views]) == ("elementwise", (None, 1), ["gather"])
    (u,) = uses(lambda w: jnp.sort(w), TABLE)
    assert (u.kind, u.primitive) == ("other", "sort")
    (u,) = uses(lambda w: w.T, TABLE)
    assert (u.kind, u.primitive, u.transposed) == ("output", "output", True)
    first, second = uses(lambda w: w.T @ w, TABLE)
    assert (first.operand, first.data, first.others) == (0, False, ("",))
    assert second.operand == 1
    found = uses(lambda w, x: x @ (w / (w * w).sum()), W, X)
    assert [(u.primitive, u.operand) for u in found] == [("mul", 0), ("mul", 1), ("div", 0)]
    assert not any(u.data for u in found)
    found = uses(lambda p: jnp.where(p["f"], p["w"], 0), {"f": jnp.array(True), "w": X})
    assert [(u.leaf, u.operand) for u in found] == [("['f']", 0), ("['w']", 2)]


def test_what_decides_is_used():
    def f(w, s):
        return jax.lax.cond(s, jnp.sin, jnp.cos, w)

    found = uses(f, X, jnp.array(True), argnums=(0, 1))
    assert [(u.leaf, u.primitive, u.kind) for u in found] == [
        ("[1]", "cond", "other"),
        ("[0]", "cos", "elementwise"),
        ("[0]", "sin", "elementwise"),
    ]
    assert found[1].place.conditional


def test_several_outputs():
    def halves(w, x):
        a, b = jnp.split(w, 2, axis=1)
        return x @ a + x @ b

    first, second = uses(halves, jnp.ones((4, 6)), X)
    assert (first.axes, second.axes) == ((0, 1), (0, 1))
    assert first.views != second.views
    layers = uses(lambda ws, x: sum(x @ w for w in jnp.unstack(ws)), jnp.ones((3, 4, 4)), X)
    assert [u.axes for u in layers] == [(1, 2)] * 3
    assert len({u.views for u in layers}) == 3


def test_views_say_which_part_they_are():
    """Parts of one shape have the same steps only if they are the same."""

    def of(*parts):
        found = uses(lambda w, x: sum(x[:, :3] @ part(w) for part in parts), jnp.ones((6, 6)), X)
        return [u.views for u in found]

    cut = jax.lax.dynamic_slice
    first, second = of(lambda w: cut(w, (0, 0), (3, 6)), lambda w: cut(w, (9, 0), (3, 6)))
    assert (first[0].detail, second[0].detail) == (("0:3", "0:6"), ("3:6", "0:6"))
    first, second = of(lambda w: jnp.flip(w[:3], 0), lambda w: jnp.flip(w[:3], 1))
    assert (first[-1].detail, second[-1].detail) == ((0,), (1,))
    first, second = of(lambda w: jnp.split(w, 2)[0], lambda w: jnp.split(w, [3, 4])[0])
    assert first != second


def test_a_derivative_rule_alone_is_a_use():
    """A function that leaves a leaf alone may have a derivative by it all the same."""

    @jax.custom_vjp
    def pulled(x, w):
        return x

    pulled.defvjp(lambda x, w: (x, w), lambda w, ct: (ct, w))
    dense, rule = uses(lambda w, x: pulled(x @ w, w), jnp.ones((4, 4)), X)
    assert (dense.primitive, rule.kind, rule.operand) == ("dot_general", "other", 1)


def test_loops():
    ws = jnp.ones((3, 4, 4))

    def looped(ws, x):
        return jax.lax.fori_loop(0, 3, lambda i, x: x @ ws[i], x)

    (u,) = uses(looped, ws, X)
    assert (u.kind, u.loops[0].leaf, u.inputs, u.outputs) == ("dense", "indexed", (1,), (2,))
    (u,) = uses(lambda w, x: jax.lax.fori_loop(0, 3, lambda i, x: x @ w, x), ws[0], X)
    assert (u.loops[0].leaf, u.loops[0].length, u.sometimes) == ("shared", 3, False)

    def carried(w, x, n):
        return jax.lax.while_loop(
            lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] @ c[2], c[2]), (0, x, w)
        )

    found = uses(carried, ws[0], X, 5)
    assert [(u.kind, u.sometimes) for u in found] == [("dense", False), ("output", False)]
    assert found[0].loops == (program.UseLoop(None, None, "shared"),)
    (u,) = uses(lambda h, x: jax.lax.scan(lambda h, x: (jnp.tanh(h) + x, None), h, x)[0], X[0], X)
    assert (u.primitive, u.sometimes) == ("tanh", True)  # the state before the first step alone

    def flipping(w, x):
        return jax.lax.scan(lambda c, _: ((c[0] @ c[1], c[1].T), None), (x, w), None, 100)[0]

    assert {u.transposed for u in uses(flipping, ws[0], X) if u.kind == "dense"} == {True, False}

    def nested(ws, x):
        def outer(x, w):
            return aj.scan(lambda x, _: (x @ w, None), x, None, 2, name="inner")[0], w

        return aj.scan(outer, x, ws, name="layers")

    dense, out = uses(nested, ws, X)
    assert [(x.name, x.leaf) for x in dense.loops] == [("layers", "sliced"), ("inner", "shared")]
    assert (out.kind, out.axes, out.loops) == ("output", (0, 1, 2), ())


def test_what_reaches_no_output_is_unused():
    def f(p, x):
        jnp.tanh(x @ p["a"])
        return x * 2 if "b" in p else None

    assert uses(f, {"a": W, "b": W}, X).unused == ("['a']", "['b']")


def test_a_dense_use_says_what_its_gradient_needs():
    """Inputs, transposed, times the cotangents of outputs."""
    f, params, x = networks.residual()
    first = uses(f, params, x).of("[0]['up']")[0]
    h, pull = jax.vjp(lambda pre: f_after(params, x, pre), x @ params[0]["up"])
    (cotangent,) = pull(jnp.ones_like(h))
    by_hand = jnp.einsum("bi,bo->io", x, cotangent)
    exact = jax.grad(lambda p: f(p, x).sum())(params)[0]["up"]
    assert (first.inputs, first.outputs) == ((0,), (1,))
    assert jnp.allclose(by_hand, exact, rtol=1e-4)  # two orders of summing five float32 terms


def f_after(params, x, pre):
    x = x + jax.nn.relu(pre + params[0]["bias"]) @ params[0]["down"]
    return networks.residual()[0](params[1:], x)


def test_keys_are_leaves_too():
    found = uses(lambda k: jax.random.normal(k, (3,)), jax.random.key(0))
    assert found.unused == ()
    assert "key<fry>" in str(found)
