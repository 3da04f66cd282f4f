import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from tests.transforms import networks as nets

E = aj.edits
TOL = dict(rtol=1e-5, atol=1e-6)  # the same operations, fused differently
X = jnp.array([[3.0, -1.0, 2.0, -4.0], [0.5, 0.5, -0.25, 0.0]])


def identity(x):
    return aj.tag(x, "h", axes="batch d")


def edited(edit, x=X, f=identity):
    return aj.intervene(f, {"h": edit})(x)


V = jnp.array([1.0, 0.0, -1.0, 2.0])
U = jnp.array([[1.0, 1.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (E.add(V), X + V),
        (E.add(1), X + 1),
        (E.replace(V), jnp.broadcast_to(V, X.shape)),
        (E.scale(-2.0), -2 * X),
        (E.clamp(-1, 2), jnp.clip(X, -1, 2)),
        (E.clamp(high=0.0), jnp.minimum(X, 0)),
        (E.clamp(low=V), jnp.maximum(X, V)),
        (E.top_k(2), X * jnp.array([[1, 0, 1, 0], [1, 1, 0, 0]], X.dtype)),
        (E.top_k(2, by="magnitude"), X * jnp.array([[1, 0, 0, 1], [1, 1, 0, 0]], X.dtype)),
        (E.top_k(0), 0 * X),
        (E.top_k(9), X),
        (E.project_out(jnp.zeros(4)), X),
        (E.project_out(5 * jnp.eye(4)[0]), X.at[:, 0].set(0)),
        (E.project_out(U), X.at[:, :2].set(0)),
        (E.patch_subspace(V, U), X.at[:, :2].set(V[:2])),
        (E.renorm(E.scale(3.0)), X),
        (E.chain(E.add(1.0), E.scale(2.0), lambda h: h - 1), 2 * (X + 1) - 1),
        (lambda h: -h, -X),
    ],
)
def test_each_edit_by_hand(edit, expected):
    chex.assert_trees_all_close(edited(edit), expected, **TOL)
    one_by_one = aj.intervene(jax.vmap(lambda x: aj.tag(x, "h")), {"h": edit})(X)
    chex.assert_trees_all_close(one_by_one, expected, **TOL)


def test_a_repeated_direction_is_removed_once():
    u = jnp.array([1.0, 2.0, 0.0, 1.0])
    once, twice = edited(E.project_out(u)), edited(E.project_out(jnp.stack([u, 2 * u])))
    chex.assert_trees_all_close(once, twice, **TOL)
    chex.assert_trees_all_close(once @ u, jnp.zeros(2), atol=1e-5)


def test_renorm_keeps_the_norm_and_a_zero_row():
    x = jnp.array([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    y = edited(E.renorm(E.add(V)), x)
    assert jnp.allclose(jnp.linalg.norm(y, axis=-1), jnp.array([5.0, 0.0]))
    assert (edited(E.renorm(E.add(-x)), x) == 0).all()  # nothing left to scale


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_edits_keep_the_dtype(dtype):
    x = X.astype(dtype)
    for edit in (
        E.add(V), E.scale(0.5), E.project_out(U), E.patch_subspace(V, U), E.top_k(2),
        E.clamp(-1.0, 1.0), E.renorm(E.add(V)), E.replace(V),
    ):  # fmt: skip
        assert edited(edit, x).dtype == dtype


def test_zero_strength_is_the_unedited_program():
    f = jax.jit(lambda s: edited(E.add(s * V)))
    assert (f(0.0) == X).all()
    assert (jax.jit(lambda s: edited(E.renorm(E.add(s * V))))(0.0) == X).all()


def test_bad_edits_name_site_got_and_expected():
    for edit, message in [
        (E.add(jnp.ones(3)), r"'h' has shape \(2, 4\).*value has shape \(3,\)"),
        (E.replace(jnp.ones((3, 2, 4))), r"value has shape \(3, 2, 4\)"),
        (lambda h: None, "'h' returned None: return the edited value"),
        (lambda h: h[:1], r"returned float32\[1, 4\], expected float32\[2, 4\]"),
        (lambda h: h.astype(jnp.int32), r"returned int32\[2, 4\], expected float32"),
        (E.project_out(jnp.ones(3)), r"4 features; directions have shape \(1, 3\)"),
        (E.add(E.each(jnp.ones(3))), "in no loop; `each` has nothing to run over"),
    ]:
        with pytest.raises(aj.SiteError, match=message):
            edited(edit)
    with pytest.raises(aj.SiteError, match="cannot hold the edit's value of type float32"):
        edited(E.add(0.5), jnp.arange(8).reshape(2, 4))
    with pytest.raises(TypeError, match="use aj.edits.replace"):
        edited(jnp.ones(4))
    with pytest.raises(TypeError, match="expected {glob: edit}"):
        aj.intervene(identity, "h")
    with pytest.raises(aj.SiteError, match="cannot be edited"):
        aj.intervene(identity, [(aj.select("h", reduce=jnp.sum), E.add(1))])
    with pytest.raises(ValueError, match="expected 'value' or 'magnitude'"):
        E.top_k(1, by="size")
    with pytest.raises(aj.SiteError, match="is a scalar"):
        aj.intervene(lambda x: aj.tag(x, "h"), {"h": E.top_k(1)})(jnp.ones(()))


def test_a_site_hit_twice():
    mapping = {"h": E.add(1.0), "*": E.scale(2.0)}
    with pytest.raises(aj.SiteError, match="'h' and '\\*': pass a list to fix the order"):
        aj.intervene(identity, mapping)(X)
    assert (aj.intervene(identity, list(mapping.items()))(X) == 2 * (X + 1)).all()
    assert (aj.intervene(identity, list(mapping.items())[::-1])(X) == 2 * X + 1).all()
    nested = aj.intervene(aj.intervene(identity, {"h": E.add(1.0)}), {"h": E.scale(2.0)})
    assert (nested(X) == 2 * (X + 1)).all()


def test_nothing_to_edit_leaves_the_program():
    p, x = nets.params(), nets.inputs()
    assert aj.intervene(nets.scanned, {}) is nets.scanned
    none = aj.intervene(nets.scanned, [(aj.select("blocks/post", layers=[]), E.add(1.0))])
    assert str(jax.make_jaxpr(none)(p, x)) == str(jax.make_jaxpr(nets.scanned)(p, x))


@pytest.mark.parametrize("f", nets.LOOPED)
def test_replacing_what_was_captured_changes_nothing(f):
    p, x = nets.params(), nets.inputs()
    out, acts = aj.capture(f)(p, x)
    for name in ("blocks/pre", "blocks/post"):
        again = aj.intervene(f, {name: E.replace(E.each(acts[name]))})
        chex.assert_trees_all_close(again(p, x), out, **TOL)
    many = jnp.stack([x, -x, 2 * x])
    mapped = jax.vmap(f, (None, 0))
    out, acts = aj.capture(mapped)(p, many)
    again = aj.intervene(mapped, {"blocks/post": E.replace(E.each(acts["blocks/post"]))})
    chex.assert_trees_all_close(again(p, many), out, **TOL)


@pytest.mark.parametrize("f", nets.LOOPED)
@pytest.mark.parametrize("layers", [None, 2, [1, 4], jnp.array([0, 3])])
def test_edits_in_loops_equal_the_hand_edited_network(f, layers):
    p, x = nets.params(), nets.inputs()
    chosen = range(nets.L) if layers is None else np.atleast_1d(np.asarray(layers)).tolist()
    v = jax.random.normal(jax.random.key(3), (len(chosen), nets.D))
    single = isinstance(layers, int)
    value = v[0] if single else v
    place = aj.select("blocks/post", layers=layers)
    run = aj.intervene(f, [(place, E.add(E.each(value)))])

    def by_hand(i, post):
        return post + v[list(chosen).index(i)] if i in chosen else post

    expected, _ = nets.by_hand(p, x, by_hand)
    chex.assert_trees_all_close(run(p, x), expected, **TOL)
    chex.assert_trees_all_close(jax.jit(run)(p, x), expected, **TOL)

    # The gradient with respect to every layer's value comes back in one array.
    def loss(value):
        return aj.intervene(f, [(place, E.add(E.each(value)))])(p, x)

    def reference(v):
        return nets.by_hand(p, x, lambda i, h: h + v[list(chosen).index(i)] if i in chosen else h)[
            0
        ]

    expected = jax.grad(reference)(v)
    expected = expected[0] if single else expected
    chex.assert_trees_all_close(jax.grad(loss)(value), expected, rtol=1e-4, atol=1e-5)


def test_each_checks_its_leading_axes():
    p, x = nets.params(), nets.inputs()
    with pytest.raises(aj.SiteError, match=r"needs leading axes \(6,\), got shape \(5, 5\)"):
        aj.intervene(nets.scanned, {"blocks/post": E.add(E.each(jnp.ones((5, nets.D))))})(p, x)


@pytest.mark.parametrize("jitted", [False, True])
def test_sweeps_compile_once(jitted):
    p, x = nets.params(), nets.inputs()
    traces = []

    def f(p, x):
        traces.append(1)
        return nets.scanned(p, x)

    def run(strength, layer, vector, k):
        place = aj.select("blocks/post", layers=layer)
        edits = [(place, E.add(strength * vector)), ("embed", E.top_k(k))]
        return aj.intervene(jax.jit(f) if jitted else f, edits)(p, x)

    run = jax.jit(run)
    outs = [
        run(jnp.float32(s), jnp.int32(s % nets.L), jnp.full(nets.D, s), jnp.int32(s % 5)).item()
        for s in range(100)
    ]
    assert len(traces) == 1
    assert run._cache_size() == 1
    for s in (0, 7, 63):
        expected = aj.intervene(
            nets.scanned,
            [
                (aj.select("blocks/post", layers=s % nets.L), E.add(jnp.full(nets.D, s * s))),
                ("embed", E.top_k(s % 5)),
            ],
        )(p, x)
        assert np.isclose(outs[s], expected, rtol=1e-4)


def test_a_traced_layer_out_of_range_poisons_the_edit():
    p, x = nets.params(), nets.inputs()

    @jax.jit
    def run(layer):
        place = aj.select("blocks/post", layers=layer)
        return aj.intervene(nets.scanned, [(place, E.add(1.0))])(p, x)

    assert jnp.isfinite(run(jnp.int32(-1)))
    assert jnp.isnan(run(jnp.int32(nets.L)))


def test_vmapped_sweep_equals_a_loop():
    p, x = nets.params(), nets.inputs()
    vectors = jax.random.normal(jax.random.key(0), (4, nets.D))

    def run(v, layer):
        place = aj.select("blocks/post", layers=layer)
        return aj.intervene(nets.scanned, [(place, E.add(v))])(p, x)

    grid = jax.vmap(jax.vmap(run, (None, 0)), (0, None))(vectors, jnp.arange(nets.L))
    for i in range(4):
        for layer in range(nets.L):
            chex.assert_trees_all_close(grid[i, layer], run(vectors[i], layer), **TOL)


def test_callables_see_their_context():
    p, x = nets.params(), nets.inputs()
    seen = []

    def fn(h, ctx):
        seen.append((ctx.site, ctx.axes, sorted(ctx.loops)))
        return h + ctx.loops["layers"].astype(h.dtype)

    out = aj.intervene(nets.scanned, {"blocks/post": fn})(p, x)
    expected, _ = nets.by_hand(p, x, lambda i, h: h + i)
    chex.assert_trees_all_close(out, expected, **TOL)
    assert seen[0] == ("blocks/post", ("d",), ["layers"])


@pytest.mark.parametrize("f", nets.LOOPED)
def test_an_edit_reads_sites_before_it(f):
    p, x = nets.params(), nets.inputs()

    def restore(h, ctx):
        return ctx.read("blocks/pre") + ctx.read("embed") * 0.5

    def by_hand(p, x):
        h = embed = jax.nn.relu(x @ p["in"])
        for i in range(nets.L):
            h = h @ p["ws"][i] + embed * 0.5
        return h @ p["out"]

    edits = {"blocks/post": restore}
    chex.assert_trees_all_close(aj.intervene(f, edits)(p, x), by_hand(p, x), **TOL)
    xs = jnp.stack([x, -x, 3 * x])
    mapped = aj.intervene(jax.vmap(f, (None, 0), axis_name="batch"), edits)(p, xs)
    chex.assert_trees_all_close(mapped, jax.vmap(by_hand, (None, 0))(p, xs), **TOL)
    grads = jax.grad(aj.intervene(f, edits))(p, x)
    chex.assert_trees_all_close(grads, jax.grad(by_hand)(p, x), rtol=1e-4, atol=1e-5)
    for name in ("score", "blocks/post", "nothing"):
        with pytest.raises(aj.SiteError, match="there are: blocks/pre, embed"):
            aj.intervene(f, {"blocks/post": lambda h, ctx, name=name: ctx.read(name)})(p, x)


def test_random_edits_need_a_key_and_differ_by_site_and_layer():
    p, x = nets.params(), nets.inputs()

    def noise(h, ctx):
        return h + aj.tag(jax.random.normal(ctx.key, h.shape), "noise")

    edits = {"blocks/p*": noise}
    with pytest.raises(aj.SiteError, match="give one: intervene"):
        aj.intervene(nets.scanned, edits)(p, x)
    run = aj.intervene(nets.scanned, edits, key=jax.random.key(0))
    _, acts = aj.capture(run, "**/noise")(p, x)
    assert set(acts) == {"blocks/pre/noise", "blocks/post/noise"}
    both = jnp.concatenate(list(acts.values()))
    assert len(np.unique(np.asarray(both))) == both.size
    chex.assert_trees_all_equal(aj.capture(run, "**/noise")(p, x)[1], acts)


def test_tags_made_by_an_edit_are_sites_below_it():
    p, x = nets.params(), nets.inputs()

    def sparse(h):
        with aj.scope("sae"):
            code = aj.tag(jax.nn.relu(h), "code", axes="d")
        return code

    run = aj.intervene(nets.scanned, {"blocks/post": sparse})
    out, acts = aj.capture(run)(p, x)
    assert "blocks/post/sae/code" in acts
    chex.assert_trees_all_close(acts["blocks/post"], acts["blocks/post/sae/code"])
    expected, _ = nets.by_hand(p, x, lambda i, h: jax.nn.relu(h))
    chex.assert_trees_all_close(out, expected, **TOL)
    again = aj.intervene(run, {"blocks/post/sae/code": E.scale(0.0)})
    assert again(p, x) == 0


def test_edits_are_pytrees():
    edit = E.chain(E.add(V), E.renorm(E.scale(2.0)))
    assert len(jax.tree.leaves(edit)) == 2
    doubled = jax.tree.map(lambda v: 2 * v, edit)
    chex.assert_trees_all_close(
        edited(doubled), edited(E.chain(E.add(2 * V), E.renorm(E.scale(4.0))))
    )
