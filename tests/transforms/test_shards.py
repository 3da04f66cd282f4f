"""Loops and branches inside `shard_map`, where every value says over which mesh axes it varies."""

import chex
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

import activjax as aj

E = aj.edits
N = 4


def _body(x):
    def layer(h, i):
        h = aj.tag(h * 2 + i, "t")
        h = jax.lax.cond(i > 0, lambda h: aj.tag(h + 1, "branch"), lambda h: h, h)
        fixed = aj.tag(jnp.full((2,), 3.0) * i, "fixed")  # the same on every shard
        return h + fixed.sum(), None

    h, _ = aj.scan(layer, x, jnp.arange(3.0), name="layers")
    return jax.lax.while_loop(lambda h: h.sum() < 50, lambda h: aj.tag(h * 3, "w"), h)


def _sharded(check_vma, kind):
    mesh = jax.make_mesh((N,), ("data",), axis_types=(kind,))

    def f(x):
        if kind == jax.sharding.AxisType.Explicit:
            x = jax.reshard(x, jax.sharding.NamedSharding(mesh, P("data")))
        return jax.shard_map(
            _body, mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=check_vma
        )(x)

    return jax.jit(f)


KINDS = [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit]


@pytest.mark.parametrize("kind", KINDS, ids=["auto", "explicit"])
@pytest.mark.parametrize("check_vma", [True, False])
def test_reads_and_edits_of_some_iterations(check_vma, kind):
    f, x = _sharded(check_vma, kind), jnp.arange(2.0 * N)
    shards = x.reshape(N, 2)
    for select in (
        "**",
        [aj.select("t", layers=1), aj.select("branch", layers=[2, 0]), "w"],
        aj.select("fixed", layers=jnp.int32(1)),
    ):
        got = aj.capture(f, select)(x)[1]
        expected = jax.vmap(aj.capture(_body, select))(shards)[1]
        for name, value in got.items():
            if name == "fixed" and not isinstance(select, str):
                chex.assert_trees_all_close(value, jnp.full((N, 2), 3.0))
            elif name not in ("w", "fixed") and not name.endswith("#valid"):
                chex.assert_trees_all_close(value, expected[name], rtol=1e-6)
            else:
                assert value.shape[0] == N
    for edits in (
        [(aj.select("t", layers=1), E.add(5.0))],
        [(aj.select("t", layers=1), lambda h: h + 5.0)],
        [(aj.select("fixed", layers=1), lambda h: h + 5.0)],
        [(aj.select("branch", layers=2), lambda h: h * 2)],
        {"w": lambda h: h + 1.0},
    ):
        expected = jax.lax.map(aj.intervene(_body, edits), shards).reshape(-1)
        chex.assert_trees_all_close(aj.intervene(f, edits)(x), expected, rtol=1e-6)


def test_x64_set_locally_around_a_loop():
    def f(x):
        with jax.enable_x64(True):
            step = lambda c, _: (aj.tag(c + jnp.float64(1), "t"), None)  # noqa: E731
            y = jax.lax.scan(step, x.astype(jnp.float64) * jnp.float64(0.1), None, length=3)[0]
        return y.astype(jnp.float32)

    for layers, shape in ((None, (3, 2)), (1, (2,)), ([2], (1, 2)), (jnp.array([0]), (1, 2))):
        value = aj.capture(f, aj.select("t", layers=layers))(jnp.ones(2))[1]["t"]
        assert value.dtype == jnp.float64
        assert value.shape == shape
