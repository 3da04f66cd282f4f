import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

import activjax as aj
from activjax.transforms._call import _compiled
from tests.transforms import networks as nets

# Both sides compute the same operations; only fusion differs: a few units in the last place.
TOL = dict(rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("f", nets.LOOPED)
@pytest.mark.parametrize("jit", [False, True])
def test_scanned_activations_are_stacked(f, jit):
    p, x = nets.params(), nets.inputs()
    run = aj.capture(f)
    out, acts = (jax.jit(run) if jit else run)(p, x)
    expected_out, expected = nets.by_hand(p, x)
    chex.assert_trees_all_close(acts, expected, **TOL)
    chex.assert_trees_all_close(out, expected_out, **TOL)


def test_unrolled_activations_are_numbered():
    p, x = nets.params(), nets.inputs()
    _, acts = aj.capture(nets.unrolled, "**/post")(p, x)
    _, expected = nets.by_hand(p, x)
    assert list(acts) == [f"blocks/post#{i}" for i in range(nets.L)]
    stacked = jnp.stack(list(acts.values()))
    chex.assert_trees_all_close(stacked, expected["blocks/post"], **TOL)


def test_out_false_drops_what_only_the_output_needs():
    p, x = nets.params(), nets.inputs()
    only = jax.jit(aj.capture(nets.unrolled, "embed", out=False))
    text = only.lower(p, x).compile().as_text()
    assert "tanh" not in text
    assert list(only(p, x)) == ["embed"]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("jitted", [False, True])
def test_out_false_shortens_a_loop_to_the_last_iteration_asked(reverse, jitted):
    def f(x):
        def body(c, t):
            c = aj.tag(jnp.sin(c) + t, "h")
            return c, aj.tag(2 * c, "y")

        c, ys = jax.lax.scan(body, x, jnp.arange(10.0), reverse=reverse)
        return jnp.cos(c) + ys.sum()

    f = jax.jit(f) if jitted else f
    selects = [aj.select("h", layers=[6, 4]), aj.select("y", layers=5)]
    x = 1.0 * jnp.ones(())
    _, full = aj.capture(f, selects)(x)
    run = aj.capture(f, selects, out=False)
    chex.assert_trees_all_close(run(x), full, **TOL)
    text = str(jax.make_jaxpr(run)(x))
    assert f"length={6 if reverse else 7}" in text
    assert "cos" not in text
    # A traced index may be the last one.
    traced = str(jax.make_jaxpr(lambda i: aj.capture(f, aj.select("h", layers=i), out=False)(x))(3))
    assert "length=10" in traced


def test_nested_scans_stack_outermost_first():
    def f(x):
        def outer(c, i):
            def inner(c, j):
                return aj.tag(c + 10 * i + j, "h"), None

            c, _ = aj.scan(inner, c, jnp.arange(3.0), name="steps")
            return c, None

        return aj.scan(outer, x, jnp.arange(2.0), name="rounds")[0]

    _, acts = aj.capture(f)(jnp.zeros(4))
    assert acts["h"].shape == (2, 3, 4)
    values, c = [], 0
    for i in range(2):
        for j in range(3):
            values.append(c := c + 10 * i + j)
    assert acts["h"][..., 0].ravel().tolist() == values
    select = aj.select("h", layers=1, loops={"rounds": [1, 0]})
    _, picked = aj.capture(f, select)(jnp.zeros(4))
    assert picked["h"][:, 0].tolist() == [values[4], values[1]]
    assert aj.sites(f)(jnp.zeros(4))[0].loops == (("rounds", 2), ("steps", 3))


def test_reverse_scans_are_stacked_by_index():
    def f(x):
        def body(c, t):
            return aj.tag(c + t, "h"), None

        return jax.lax.scan(body, x, jnp.arange(3.0), reverse=True)[0]

    _, acts = aj.capture(f)(0.0)
    assert acts["h"].tolist() == [3, 3, 2]
    assert aj.capture(f, aj.select("h", layers=2))(0.0)[1]["h"] == 2


@pytest.mark.parametrize("f", [nets.scanned, nets.scanned_remat])
@pytest.mark.parametrize(
    ("in_axes", "shape"), [((None, 0), (3, 4)), ((None, 1), (4, 3)), ((0, None), (4,))]
)
def test_vmap_and_capture_commute(f, in_axes, shape):
    p = nets.params()
    x = jax.random.normal(jax.random.key(1), shape)
    if in_axes[0] == 0:
        p = jax.vmap(nets.params)(jnp.arange(3))
    out1, inside = aj.capture(jax.vmap(f, in_axes))(p, x)
    out2, outside = jax.vmap(aj.capture(f), in_axes)(p, x)
    moved = {
        name: jnp.moveaxis(a, 0, 1) if name.startswith("blocks") else a
        for name, a in outside.items()
    }
    chex.assert_trees_all_close(inside, moved, **TOL)
    chex.assert_trees_all_close(out1, out2, **TOL)


def test_nested_vmap_and_values_without_mapped_axes():
    p = nets.params()
    x = jax.random.normal(jax.random.key(1), (3, 4, 2))

    def f(p, x):
        shared = aj.tag(p["out"] * 2, "shared")
        return nets.scanned(p, x) + shared.sum()

    both = jax.vmap(jax.vmap(f, (None, 0)), (None, 2))
    _, inside = aj.capture(both)(p, x)
    assert inside["shared"].shape == (nets.D,)
    assert inside["blocks/post"].shape == (nets.L, 2, 3, nets.D)
    for i in range(2):
        for j in range(3):
            _, one = aj.capture(f)(p, x[j, :, i])
            chex.assert_trees_all_close(inside["blocks/post"][:, i, j], one["blocks/post"], **TOL)


@pytest.mark.parametrize("f", nets.LOOPED)
def test_capture_of_a_gradient_sees_each_site_once(f):
    p, x = nets.params(), nets.inputs()
    grads, acts = aj.capture(jax.grad(f))(p, x)
    _, expected = nets.by_hand(p, x)
    chex.assert_trees_all_close(acts, expected, **TOL)
    chex.assert_trees_all_close(grads, jax.grad(f)(p, x), **TOL)


@pytest.mark.parametrize("f", nets.LOOPED)
def test_gradient_and_jvp_of_a_captured_activation(f):
    p, x = nets.params(), nets.inputs()

    def norm(p):
        return jnp.sum(aj.capture(f, "blocks/post", out=False)(p, x)["blocks/post"] ** 2)

    def reference(p):
        return jnp.sum(nets.by_hand(p, x)[1]["blocks/post"] ** 2)

    chex.assert_trees_all_close(jax.grad(norm)(p), jax.grad(reference)(p), rtol=1e-4, atol=1e-5)
    tangent = jax.tree.map(jnp.ones_like, p)
    chex.assert_trees_all_close(
        jax.jvp(norm, (p,), (tangent,)), jax.jvp(reference, (p,), (tangent,)), rtol=1e-4
    )


def test_hessian_of_an_edited_network():
    p, x = nets.params(), nets.inputs()

    def f(v):
        return aj.intervene(nets.scanned, {"embed": aj.edits.add(v)})(p, x)

    def reference(v):
        h = jax.nn.relu(x @ p["in"]) + v
        h, _ = jax.lax.scan(lambda h, w: (h + jnp.tanh(h @ w), None), h, p["ws"])
        return h @ p["out"]

    v = jnp.zeros(nets.D)
    chex.assert_trees_all_close(jax.hessian(f)(v), jax.hessian(reference)(v), rtol=1e-4, atol=1e-5)


def test_reading_keeps_a_custom_rule_and_editing_differentiates_the_body():
    @jax.custom_jvp
    def double(x):
        return aj.tag(2 * x, "inner")

    double.defjvp(lambda p, t: (double(*p), 100.0 * t[0]))  # a rule that nobody could derive

    @jax.custom_vjp
    def triple(x):
        return aj.tag(3 * x, "inner")

    triple.defvjp(lambda x: (triple(x), None), lambda _, ct: (1000.0 * ct,))
    for f, own, rule in ((double, 2.0, 100.0), (triple, 3.0, 1000.0)):
        out, acts = aj.capture(f)(1.0 * jnp.ones(()))
        assert (out, acts["inner"]) == (own, own)

        def value(x, f=f):
            return aj.capture(f)(x)[0]

        def tap(x, f=f):
            return aj.capture(f)(x)[1]["inner"]

        assert jax.grad(value)(1.0) == rule
        assert jax.grad(tap)(1.0) == own
        edited = aj.intervene(f, {"inner": lambda h: 7 * h})
        assert edited(1.0 * jnp.ones(())) == 7 * own
        assert jax.grad(edited)(1.0) == 7 * own
        # An outer capture of a capture does not see the sites twice.
        assert aj.sites(aj.capture(f))(jnp.ones(())).names == ("inner",)


def test_one_layer_is_neither_stacked_nor_returned():
    d, layers = 512, 12

    def f(ws, x):
        def body(h, w):
            return aj.tag(jnp.tanh(h * w), "h", axes="n d"), None

        return jax.lax.scan(body, x, ws)[0]

    args = jnp.ones((layers, d)), jnp.ones((256, d))
    one = 256 * d * 4

    def memory(select):
        run = aj.capture(f, select) if select else f
        stats = jax.jit(run).lower(*args).compile().memory_analysis()
        return stats.temp_size_in_bytes, stats.output_size_in_bytes

    temp, out = memory(None)
    picked_temp, picked_out = memory(aj.select("h", layers=[7]))
    _, stacked_out = memory("h")
    slack = 65536  # loop counters, tuples and alignment
    assert picked_out - out <= one + slack
    assert picked_temp - temp <= one + slack
    assert stacked_out - out >= layers * one


@pytest.mark.parametrize("layers", [2, -1, [0, 4], [5, 1], [], slice(1, 4)])
def test_layers(layers):
    p, x = nets.params(), nets.inputs()
    _, full = aj.capture(nets.scanned, "blocks/post")(p, x)
    index = np.array(layers, int) if isinstance(layers, list) else layers
    _, some = jax.jit(aj.capture(nets.scanned, aj.select("blocks/post", layers=layers)))(p, x)
    chex.assert_trees_all_close(some["blocks/post"], full["blocks/post"][index], **TOL)


def test_traced_layers_compile_once_and_give_nan_out_of_range():
    p, x = nets.params(), nets.inputs()
    _, full = aj.capture(nets.scanned, "blocks/post")(p, x)

    @jax.jit
    @chex.assert_max_traces(1)
    def run(i, many):
        chosen = aj.select("blocks/post", layers=i)
        several = aj.select("blocks/pre", layers=many)
        return aj.capture(nets.scanned, [chosen, several], out=False)(p, x)

    for i in range(nets.L):
        acts = run(jnp.int32(i), jnp.array([i, -1, i]))
        chex.assert_trees_all_close(acts["blocks/post"], full["blocks/post"][i], **TOL)
        chex.assert_trees_all_equal(acts["blocks/pre"][0], acts["blocks/pre"][2])
    acts = run(jnp.int32(nets.L), jnp.array([-nets.L - 1, 0, 99]))
    assert jnp.isnan(acts["blocks/post"]).all()
    assert jnp.isnan(acts["blocks/pre"]).any(axis=1).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("at", "index"),
    [
        ({"seq": 1}, np.s_[:, 1]),
        ({"seq": -1, "head": [2, 0]}, np.s_[[2, 0], -1]),
        (2, np.s_[:, 2]),
        ({"d": [1, 0]}, np.s_[:, :, [1, 0]]),
        ({"head": [0, 1], "seq": [3, 1]}, np.ix_([0, 1], [3, 1])),
        ({"seq": slice(0, 2)}, np.s_[:, :2]),
    ],
)
def test_positions_by_axis_name(at, index):
    x = jnp.arange(3 * 4 * 2.0).reshape(3, 4, 2)

    def f(x):
        return aj.tag(2 * x, "h", axes="head seq d").sum()

    _, acts = aj.capture(f, aj.select("h", at=at))(x)
    assert acts["h"].tolist() == np.asarray(2 * x)[index].tolist()
    # Editing writes to the same places and nowhere else.
    edited = aj.capture(aj.intervene(f, [(aj.select("h", at=at), lambda h: h - 100)]), "h")(x)[1]
    by_hand = np.array(2 * x)
    by_hand[index] -= 100
    assert edited["h"].tolist() == by_hand.tolist()


def test_traced_positions_out_of_range_give_nan():
    def f(x):
        return aj.tag(x, "h", axes="seq")

    @jax.jit
    def read(i):
        return aj.capture(f, aj.select("h", at=i), out=False)(jnp.arange(3.0))["h"]

    assert [read(jnp.int32(i)).item() for i in (0, -1, 2)] == [0, 2, 2]
    assert jnp.isnan(read(jnp.int32(3)))
    assert jnp.isnan(read(jnp.int32(-4)))


def test_reduce_runs_inside_the_loop():
    p, x = nets.params(), nets.inputs()
    select = aj.select("blocks/post", reduce=lambda h: jnp.argmax(h))
    _, acts = aj.capture(jax.vmap(nets.scanned, (None, 0)), select)(p, jnp.stack([x, -x]))
    assert acts["blocks/post"].shape == (nets.L, 2)
    assert acts["blocks/post"].dtype == jnp.int32
    text = str(jax.make_jaxpr(aj.capture(nets.scanned, select))(p, x))
    assert f"f32[{nets.L},{nets.D}] =" not in text  # nothing is stacked before it is reduced


def test_errors_name_the_site_and_the_way_out():
    p, x = nets.params(), nets.inputs()
    cases = [
        ("block/post", "nearest: blocks/post"),
        (aj.select("embed", layers=0), "'embed' is in no loop"),
        (aj.select("blocks/post", layers=6), "index 6 is out of range for length 6"),
        (aj.select("blocks/post", layers=[1, 1]), "repeated"),
        (aj.select("blocks/post", loops={"layer": 1}), r"no loop 'layer'; its loops: \['layers'\]"),
        (aj.select("blocks/post", at={"seq": 0}), r"no axis 'seq'; its axes: \('d',\)"),
        (aj.select("blocks/post", layers=1.5), "expected an int"),
        (aj.select("blocks/post", layers=True), "expected an int"),
        (["blocks/post", "**/post"], "chosen by two selectors"),
    ]
    for select, message in cases:
        with pytest.raises(aj.SiteError, match=message):
            aj.capture(nets.scanned, select)(p, x)
    with pytest.raises(aj.SiteError, match="has no sites at all"):
        aj.capture(nets.untagged)(p, x)
    with pytest.raises(TypeError, match="expected a glob"):
        aj.capture(nets.scanned, 3)(p, x)


def test_what_cannot_be_opened_is_listed_and_raises_when_asked():
    def f(x):
        x = aj.tag(x, "before")
        x = jax.lax.while_loop(lambda v: aj.tag(v, "inside") < 10, lambda v: v * 2, x)
        return aj.tag(x, "after")

    table = aj.sites(f)(1.0 * jnp.ones(()))
    assert table.names == ("before", "inside", "after")
    assert "condition of a `while`" in table[1].blocked
    _, acts = aj.capture(f, ["before", "after"])(jnp.ones(()))
    assert (acts["before"], acts["after"]) == (1, 16)
    for ask in (aj.capture(f), aj.intervene(f, {"inside": lambda v: v})):
        with pytest.raises(aj.SiteError, match="'inside' cannot be reached: it is the condition"):
            ask(jnp.ones(()))


def test_a_plain_function_is_never_stale_and_a_jitted_one_traces_once():
    box = {"scale": 2.0}
    traces = []

    def f(x):
        traces.append(1)
        return aj.tag(box["scale"] * x, "h")

    x = jnp.ones(3)
    assert aj.capture(f)(x)[1]["h"][0] == 2
    box["scale"] = 3.0
    assert aj.capture(f)(x)[1]["h"][0] == 3
    traces.clear()
    jitted = jax.jit(f)
    for _ in range(1000):
        aj.capture(jitted)(x)
    for v in range(100):
        out = aj.intervene(jitted, {"h": aj.edits.add(float(v))})(x)
        assert out[0] == 3 + v
    # One trace: jit keeps f's; capture and intervene each rebuild from it, once.
    assert len(traces) == 1
    assert len(_compiled[jitted]) == 2


def test_static_arguments_and_keywords():
    def f(x, n, *, train=False, mode="a"):
        for _ in range(n):
            x = aj.tag(x * 2, "h")
        return x if train and mode == "b" else -x

    out, acts = aj.capture(f)(jnp.ones(()), 3, train=True, mode="b")
    assert out == 8
    assert list(acts) == ["h#0", "h#1", "h#2"]


@pytest.mark.parametrize("wrap", [jax.jit, lambda f: f])
def test_exports_and_x64(wrap):
    p, x = nets.params(), nets.inputs()
    run = jax.jit(aj.capture(wrap(nets.scanned), "blocks/post"))
    exported = jax.export.export(run)(p, x)
    chex.assert_trees_all_equal(exported.call(p, x), run(p, x))
    with jax.enable_x64(True):
        p64 = jax.tree.map(lambda a: np.asarray(a, np.float64), p)
        _, acts = aj.capture(nets.scanned)(p64, np.asarray(x, np.float64))
        assert all(a.dtype == np.float64 for a in acts.values())


def test_outputs_are_arrays_in_their_own_structure():
    out, acts = aj.capture(lambda x: {"a": None, "b": (aj.tag(2 * x, "h"), 3)})(2.0)
    assert out["a"] is None
    assert all(isinstance(v, jax.Array) for v in (*out["b"], acts["h"]))
    assert (out["b"][0], out["b"][1]) == (4, 3)


def test_collectives_and_shardings_pass():
    mesh = jax.make_mesh((8,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("i"))
    x = jnp.arange(32.0).reshape(8, 4)

    def centred(row):
        return aj.tag(row - jax.lax.pmean(row, "batch"), "h")

    inside = aj.capture(jax.vmap(centred, axis_name="batch"))(x)[1]["h"]
    outside = jax.vmap(aj.capture(centred), axis_name="batch")(x)[1]["h"]
    chex.assert_trees_all_close(inside, outside, x - x.mean(0), **TOL)

    def f(x):
        return jax.jit(lambda x: aj.tag(2 * x, "h"), out_shardings=rows)(x)

    out, acts = jax.jit(aj.capture(f))(x)
    assert out.sharding.is_equivalent_to(rows, 2)
    assert (acts["h"] == 2 * x).all()


def test_equal_python_numbers_of_other_types_are_other_programs():
    f = jax.jit(lambda x, a: aj.tag(x / a, "h"))
    x = jnp.ones(2)
    assert aj.capture(f)(x, 0.0)[0][0] == jnp.inf
    assert aj.capture(f)(x, -0.0)[0][0] == -jnp.inf


def test_nested_loops_of_one_name_are_refused_when_chosen():
    def f(x):
        def inner(c, _):
            return aj.tag(c + 1, "h"), None

        def outer(c, _):
            return aj.scan(inner, c, None, length=2, name="layers")[0], None

        return aj.scan(outer, x, None, length=3, name="layers")[0]

    assert aj.capture(f)(0.0)[1]["h"].shape == (3, 2)
    with pytest.raises(aj.SiteError, match="several loops around it are called 'layers'"):
        aj.capture(f, aj.select("h", layers=0))(0.0)


def test_activations_come_in_execution_order_from_a_jitted_function_too():
    def f(x):
        for i in range(12):
            x = aj.tag(x * 1.5, f"layers/{i}")
        return x.sum()

    expected = [f"layers/{i}" for i in range(12)]
    for g in (f, jax.jit(f)):
        assert list(aj.capture(g)(jnp.ones(2))[1]) == expected
        assert list(aj.capture(g, out=False)(jnp.ones(2))) == expected
        assert [list(d) for d in aj.act_grads(g)(jnp.ones(2))[1:]] == [expected] * 2


def test_callbacks_in_a_custom_rule_happen_once():
    from jax.experimental import io_callback

    calls = []

    @jax.custom_jvp
    def g(x):
        io_callback(lambda: calls.append(1), None, ordered=False)
        return aj.tag(jnp.sin(x), "inside")

    g.defjvp(lambda p, t: (g(p[0]), t[0]))
    aj.capture(g)(jnp.ones(3))
    jax.effects_barrier()
    assert calls == [1]


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_a_traced_index_out_of_range_is_an_error_under_checkify(wrap):
    p, x = nets.params(), nets.inputs()

    def read(i):
        return aj.capture(nets.scanned, aj.select("blocks/post", layers=i), out=False)(p, x)

    def edit(i):
        edits = [(aj.select("embed", at={"d": i}), aj.edits.add(1.0))]
        return aj.intervene(nets.scanned, edits)(p, x)

    for fn, where, n in ((read, "loop 'layers'", nets.L), (edit, "axis 'd'", nets.D)):
        checked = wrap(checkify.checkify(fn))
        error, _ = checked(jnp.int32(n - 1))
        error.throw()
        error, out = checked(jnp.int32(n))
        with pytest.raises(checkify.JaxRuntimeError, match=f"{where}: a traced index is out of"):
            error.throw()
        assert all(bool(jnp.isnan(v).all()) for v in jax.tree_util.tree_leaves(out))
