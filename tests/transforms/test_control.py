"""Sites in branches, in loops of unknown length, and in the shards of a shard_map."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj

E = aj.edits


def branching(x, p):
    def yes(x):
        return aj.tag(2 * x, "yes")

    def no(x):
        return 3 * aj.tag(x + 1, "no")

    return jax.lax.cond(p, yes, no, x)


def looping(x, n):
    def body(c):
        i, h = c
        return i + 1, aj.tag(2 * h, "h")

    return jax.lax.while_loop(lambda c: c[0] < n, body, (jnp.int32(0), x))[1]


X = jnp.array([1.0, -2.0])


@pytest.mark.parametrize("jit", [False, True])
def test_a_branch_comes_with_its_mask(jit):
    run = aj.capture(branching)
    run = jax.jit(run) if jit else run
    out, acts = run(X, jnp.asarray(True))
    assert (out == 2 * X).all()
    assert acts["yes#valid"]
    assert not acts["no#valid"]
    assert (acts["yes"] == 2 * X).all()
    assert (acts["no"] == 0).all()
    out, acts = run(X, jnp.asarray(False))
    assert (out == 3 * (X + 1)).all()
    assert (acts["no"] == X + 1).all()
    assert (acts["yes#valid"].item(), acts["no#valid"].item()) == (False, True)
    assert {s.name for s in aj.sites(branching)(X, True) if s.conditional} == {"yes", "no"}


def test_switch_and_nested_branches():
    def f(i, x):
        def inner(x):
            return branching(x, x.sum() > 0)

        return jax.lax.switch(i, [lambda x: aj.tag(x, "zero"), inner, lambda x: -x], x)

    for i, expected in [(0, {"zero"}), (1, {"no"}), (2, set())]:
        out, acts = aj.capture(f)(jnp.int32(i), X)
        assert {k.split("#")[0] for k, v in acts.items() if "#valid" in k and v} == expected
        assert (out == [X, 3 * (X + 1), -X][i]).all()


def test_edits_on_both_sides():
    for p, expected in [(True, 2 * X + 5), (False, 3 * (X + 1) * 0)]:
        edits = {"yes": E.add(5.0), "no": E.scale(0.0)}
        p = jnp.asarray(p)
        assert (aj.intervene(branching, edits)(X, p) == expected).all()
        assert (jax.jit(aj.intervene(branching, edits))(X, p) == expected).all()


def test_a_batched_predicate_runs_both_and_has_no_mask():
    p = jnp.array([True, False, True])
    xs = jnp.stack([X, 2 * X, 3 * X])
    out, acts = aj.capture(jax.vmap(branching))(xs, p)
    assert set(acts) == {"yes", "no"}
    assert (acts["yes"] == 2 * xs).all()
    assert (acts["no"] == xs + 1).all()
    edited = aj.intervene(jax.vmap(branching), {"yes": E.scale(0.0)})(xs, p)
    assert (edited == jnp.where(p[:, None], 0, out)).all()
    # A predicate that is not mapped keeps its mask.
    out, acts = aj.capture(jax.vmap(branching, (0, None)))(xs, jnp.asarray(True))
    assert acts["yes#valid"].shape == ()
    assert acts["yes"].shape == (3, 2)


def test_branches_in_a_loop_have_a_mask_an_iteration():
    def f(x, ps):
        return aj.scan(lambda c, p: (branching(c, p), None), x, ps, name="steps")[0]

    ps = jnp.array([True, False, True])
    out, acts = aj.capture(f)(X, ps)
    assert acts["yes#valid"].tolist() == [True, False, True]
    assert acts["no#valid"].tolist() == [False, True, False]
    by_hand = [2 * X, 2 * X + 1, 2 * 3 * (2 * X + 1)]
    chex.assert_trees_all_close(acts["yes"], jnp.stack([by_hand[0], 0 * X, by_hand[2]]))
    chex.assert_trees_all_close(acts["no"][1], by_hand[1])
    _, picked = aj.capture(f, aj.select("yes", layers=[2, 1]))(X, ps)
    assert picked["yes#valid"].tolist() == [True, False]
    _, _, grads = aj.act_grads(lambda x, ps: f(x, ps).sum(), ["yes", "no"])(X, ps)
    assert grads["yes"].tolist() == [[6, 6], [0, 0], [1, 1]]
    assert grads["no"].tolist() == [[0, 0], [6, 6], [0, 0]]
    assert (out == by_hand[2]).all()


def test_while_gives_the_last_value_or_a_buffer():
    out, acts = jax.jit(aj.capture(looping))(X, 3)
    assert (out == 8 * X).all()
    assert (acts["h"] == 8 * X).all()
    _, acts = aj.capture(looping, aj.select("h", max_steps=5))(X, 3)
    chex.assert_trees_all_close(acts["h"][:3], jnp.stack([2 * X, 4 * X, 8 * X]))
    assert jnp.isnan(acts["h"][3:]).all()
    _, acts = aj.capture(looping, aj.select("h", max_steps=2))(X, 3)
    chex.assert_trees_all_close(acts["h"], jnp.stack([2 * X, 4 * X]))
    _, acts = aj.capture(looping, aj.select("h", layers=[1, 6]))(X, 3)
    chex.assert_trees_all_close(acts["h"][0], 4 * X)
    assert jnp.isnan(acts["h"][1]).all()
    assert jnp.isnan(aj.capture(looping)(X, 0)[1]["h"]).all()  # no iteration, no value
    assert aj.sites(looping)(X, 3)[0].captured_shape == (2,)


def test_while_edits_every_iteration_or_one():
    doubled = aj.intervene(looping, {"h": E.scale(2.0)})
    assert (doubled(X, 3) == 64 * X).all()
    once = aj.intervene(looping, [(aj.select("h", layers=1), E.add(10.0))])
    assert (once(X, 3) == 2 * (4 * X + 10)).all()
    context = aj.intervene(looping, {"h": lambda h, ctx: h + ctx.loops["loop0"]})
    with jax.numpy_dtype_promotion("standard"):
        assert (context(X, 2) == 2 * (2 * X) + 1).all()


def test_while_with_different_trip_counts_a_lane():
    counts, xs = jnp.array([0, 2, 4]), jnp.stack([X, 2 * X, 3 * X])
    for select in ("h", aj.select("h", max_steps=3)):
        out1, inside = aj.capture(jax.vmap(looping), select)(xs, counts)
        out2, outside = jax.vmap(aj.capture(looping, select))(xs, counts)
        chex.assert_trees_all_equal(out1, out2)
        moved = outside["h"] if select == "h" else jnp.moveaxis(outside["h"], 0, 1)
        np.testing.assert_array_equal(inside["h"], moved)
    scaled = aj.intervene(jax.vmap(looping), {"h": E.scale(2.0)})(xs, counts)
    assert (scaled == jnp.array([[1.0], [16.0], [256.0]]) * xs).all()
    # Values mapped once more than the predicate, over another size.
    more = jnp.stack([xs, -xs], axis=1)
    both = jax.vmap(jax.vmap(looping, (0, None)))
    _, inside = aj.capture(both)(more, counts)
    _, outside = jax.vmap(jax.vmap(aj.capture(looping), (0, None)))(more, counts)
    np.testing.assert_array_equal(inside["h"], outside["h"])


def test_while_refusals():
    with pytest.raises(aj.SiteError, match="count from 0"):
        aj.capture(looping, aj.select("h", layers=-1))(X, 3)
    with pytest.raises(aj.SiteError, match="`each` cannot fit it"):
        aj.intervene(looping, {"h": E.add(E.each(jnp.ones((3, 2))))})(X, 3)
    with pytest.raises(aj.SiteError, match="cannot differentiate backwards"):
        aj.act_grads(lambda x: looping(x, 3).sum())(X)
    with pytest.raises(aj.SiteError, match="`max_steps` is for reading a site inside a while"):
        aj.capture(branching, aj.select("yes", max_steps=3))(X, True)
    with pytest.raises(aj.SiteError, match="expected >= 1"):
        aj.capture(looping, aj.select("h", max_steps=0))(X, 3)
    # Lanes of equal size as another mapped axis cannot be told apart: refused, never guessed.
    both = jax.vmap(jax.vmap(looping, (0, None)))
    with pytest.raises(aj.SiteError, match="cannot be told"):
        aj.capture(both)(jnp.ones((3, 3, 2)), jnp.arange(3))


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize("check_vma", [True, False])
def test_shards_come_on_a_leading_axis(kind, check_vma):
    kinds = (getattr(jax.sharding.AxisType, kind),) * 2
    mesh = jax.make_mesh((2, 4), ("i", "j"), axis_types=kinds)
    spec = jax.sharding.PartitionSpec

    def body(x, w):
        h = aj.tag(x * w, "h", axes="row column")
        return aj.tag(jax.lax.psum(h, "i"), "sum")

    def f(x, w):
        specs = {"in_specs": (spec("i", "j"), spec()), "out_specs": spec(None, "j")}
        mapped = jax.shard_map(body, mesh=mesh, check_vma=check_vma, **specs)
        return mapped(x, w).sum()

    x = np.arange(32.0, dtype=np.float32).reshape(4, 8)
    args = [jax.device_put(x, jax.NamedSharding(mesh, spec("i", "j"))), jnp.float32(2)]
    if kind == "Explicit":
        args[1] = jax.device_put(args[1], jax.NamedSharding(mesh, spec()))
    out, acts = jax.jit(aj.capture(f))(*args)
    blocks = [2 * x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for i in range(2) for j in range(4)]
    np.testing.assert_array_equal(acts["h"], np.stack(blocks))
    sums = [blocks[j] + blocks[4 + j] for j in range(4)]
    np.testing.assert_array_equal(acts["sum"], np.stack(sums + sums))  # the same in every row
    assert out == 2 * x.sum()
    assert aj.sites(f)(*args)[0].loops == (("shards", 8),)
    edited = aj.intervene(f, {"h": E.scale(3.0)})
    assert jax.jit(edited)(*args) == 3 * out
    same = aj.intervene(f, {"h": E.replace(E.each(acts["h"]))})
    assert jax.jit(same)(*args) == out
    weights = np.arange(32.0, dtype=np.float32).reshape(8, 2, 2)

    def loss(x, w):
        return aj.intervene(f, {"h": lambda h, ctx: h * jnp.asarray(weights)[ctx.loops["shards"]]})(
            x, w
        )

    grads = jax.jit(aj.act_grads(loss, "h"))(*args)[2]["h"]
    assert grads.shape == (8, 2, 2)
    one = aj.select("h", at={"row": 0})
    assert jax.jit(aj.capture(f, one))(*args)[1]["h"].shape == (8, 2)
    with pytest.raises(aj.SiteError, match="in no loop"):
        aj.capture(f, aj.select("h", layers=0))(*args)
