"""Every ordered pair of transforms, ours and JAX's, read and edited from outside, against calculus.

Each transform is written twice: `apply` on a function with the site "h", and `reference` on the
same function written with its edit as an argument and the sum of its activations as a result.
"""

import itertools
from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp
import pytest
from jax.experimental import checkify
from jax.sharding import PartitionSpec as P

import activjax as aj

W = jax.random.normal(jax.random.key(0), (3, 4)) / 2
V = jnp.array([0.5, -1.0, 0.25, 2.0])
X = jnp.array([0.3, -0.7, 1.1])
FACTORS = jnp.array([1.0, -0.5])


def network(x):
    h = aj.tag(jnp.tanh(x @ W), "h", axes="d")
    return (V * h**2 + h).sum()


def by_hand(x, edit):
    h = edit(jnp.tanh(x @ W))
    return (V * h**2 + h).sum(), h.sum()


def frozen(edit):
    """An edit made where a derivative was already taken: the value changes, the derivative stays.

    Derivatives with respect to what the edit itself depends on are taken later, and are real.
    """

    def run(h):
        pure, consts = jax.closure_convert(edit, h)
        changed = jax.custom_jvp(pure)

        def jvp(primals, tangents):
            (h, *consts), (dh, *dconsts) = primals, tangents
            moved = jax.jvp(lambda *c: pure(h, *c), consts, dconsts)[1] if consts else 0 * dh
            return changed(h, *consts), dh + moved

        changed.defjvp(jvp)
        return changed(h, *consts)

    return run


@dataclass(frozen=True)
class Transform:
    """A scalar function made of a scalar function, and its reference `(x, edit) -> (out, sum)`."""

    apply: object
    reference: object


def _same(transform):
    """JAX transforms that leave values as they are."""
    return Transform(transform, lambda r: r)


def _of_values(summary):
    """`summary(g, x)` of a function; what is read are the activations at `x`."""

    def reference(r):
        return lambda x, edit: (summary(lambda y: r(y, frozen(edit))[0], x), r(x, edit)[1])

    return Transform(lambda g: lambda x: summary(g, x), reference)


def _over(apply):
    """Sums over the function at `FACTORS * x`."""

    def reference(r):
        def run(x, edit):
            outs = [r(k * x, edit) for k in FACTORS]
            return sum(o for o, _ in outs), sum(s for _, s in outs)

        return run

    return Transform(apply, reference)


def _capture(g):
    def run(x):
        out, acts = aj.capture(g, "h")(x)
        return out + _total(acts)

    return run


def _total(acts):
    return sum(a.sum() for name, a in acts.items() if not name.endswith("#valid"))


def _shifted(r):
    """Output plus its derivative with respect to one number added to every activation."""

    def run(x, edit):
        out, total = r(x, edit)
        return out + jax.jacfwd(lambda e: r(x, lambda h: frozen(edit)(h + e))[0])(0.0), total

    return run


def _act_vjp(g):
    def run(x):
        out, _, pullback = aj.act_vjp(g, "h")(x)
        return out + _total(pullback(jnp.ones_like(out)))

    return run


def _act_grads(g):
    def run(x):
        out, _, grads = aj.act_grads(g, "h")(x)
        return out + _total(grads)

    return run


def _act_jvp(g):
    def run(x):
        out, acts, push = aj.act_jvp(g, "h")(x)
        tangents = {n: jnp.ones_like(a) for n, a in acts.items() if not n.endswith("#valid")}
        return out + push(tangents)

    return run


def _act_jvp_reference(r):
    # `pushforward` runs the function a second time, so that its activations are met twice.
    def run(x, edit):
        out, total = _shifted(r)(x, edit)
        return out, 2 * total

    return run


def _custom_jvp(g):
    h = jax.custom_jvp(lambda x: g(x))
    h.defjvp(lambda primals, tangents: jax.jvp(g, primals, tangents))
    return h


def _custom_vjp(g):
    h = jax.custom_vjp(lambda x: g(x))
    h.defvjp(lambda x: jax.vjp(g, x), lambda pull, ct: pull(ct))
    return h


def _scan(g):
    def run(x):
        step = lambda c, k: (c + g(k * x), None)  # noqa: E731
        return aj.scan(step, 0 * x.sum(), FACTORS, name="steps")[0]

    return run


def _while(g):
    def run(x):
        step = lambda s: (s[0] + 1, s[1] + g(FACTORS[s[0]] * x))  # noqa: E731
        return jax.lax.while_loop(lambda s: s[0] < 2, step, (jnp.int32(0), 0 * x.sum()))[1]

    return run


def _while_reference(r):
    # Of a while loop the last iteration's values are read.
    def run(x, edit):
        outs = [r(k * x, edit) for k in FACTORS]
        return sum(o for o, _ in outs), outs[-1][1]

    return run


def _shard_map(check_vma):
    def apply(g):
        mesh = jax.make_mesh((2,), ("shard",), axis_types=(jax.sharding.AxisType.Auto,))
        body = lambda x, k: g(k[0] * x)[None]  # noqa: E731
        specs = {"in_specs": (P(), P("shard")), "out_specs": P("shard")}
        mapped = jax.shard_map(body, mesh=mesh, check_vma=check_vma, **specs)
        return lambda x: mapped(x, FACTORS).sum()

    return apply


def _checkify(g):
    def run(x):
        error, out = checkify.checkify(g)(x)
        del error
        return out

    return run


def _export(g):
    return lambda x: jax.export.export(jax.jit(g))(x).call(x)


TRANSFORMS = {
    "capture": Transform(_capture, lambda r: lambda x, e: (sum(r(x, e)), r(x, e)[1])),
    "intervene": Transform(
        lambda g: aj.intervene(g, {"h": lambda h: 0.5 * h + 0.1}),
        lambda r: lambda x, edit: r(x, lambda h: edit(0.5 * h + 0.1)),
    ),
    "act_vjp": Transform(_act_vjp, _shifted),
    "act_grads": Transform(_act_grads, _shifted),
    "act_jvp": Transform(_act_jvp, _act_jvp_reference),
    "jit": _same(jax.jit),
    "vmap": _over(lambda g: lambda x: jax.vmap(g)(FACTORS[:, None] * x).sum()),
    "vmap, second axis": _over(
        lambda g: lambda x: jax.vmap(g, in_axes=1)(x[:, None] * FACTORS).sum()
    ),
    "grad": _of_values(lambda g, x: jax.grad(g)(x).sum()),
    "jvp": _of_values(lambda g, x: jax.jvp(g, (x,), (jnp.ones_like(x),))[1]),
    "hessian": _of_values(lambda g, x: jax.hessian(g)(x).sum()),
    "scan": _over(_scan),
    "while": Transform(_while, _while_reference),
    "cond": _same(lambda g: lambda x: jax.lax.cond(x.sum() > -9, g, lambda x: 0 * x.sum(), x)),
    "remat": _same(jax.checkpoint),
    "custom_jvp": _same(_custom_jvp),
    "custom_vjp": _same(_custom_vjp),
    "shard_map": _over(_shard_map(True)),
    "shard_map, no check": _over(_shard_map(False)),
    "checkify": _same(_checkify),
    "export": _same(_export),
}


def _chain(names, fn, which):
    for name in reversed(names):
        fn = getattr(TRANSFORMS[name], which)(fn)
    return fn


ACTS = ("act_vjp", "act_grads", "act_jvp")
OURS = ("capture", "intervene", *ACTS)
SHARDED = ("shard_map", "shard_map, no check")
NO_SITES = (aj.SiteError, "the function has no sites at all")
OLD_HIJAX = jax.config.jax_custom_vjp3 and jax.__version_info__ < (0, 11)
FORWARD = (TypeError, "can't apply forward-mode autodiff")


def refused(outer, inner):
    """The error of a composition that has no meaning, and who says so: JAX or activjax."""
    if inner == "export" and outer in OURS:
        return NO_SITES
    if inner == "export" and outer.startswith("vmap"):
        return NotImplementedError, "Batching rule for 'call_exported'"
    if inner in ("export", "custom_vjp") and outer == "jvp":
        return FORWARD
    if (outer, inner) == ("hessian", "export"):
        return FORWARD
    if inner == "while" and outer in ACTS:
        return aj.SiteError, "site 'h' is in a while loop"
    if inner == "while" and outer in ("grad", "hessian"):
        return ValueError, "Reverse-mode differentiation does not work for lax.while_loop"
    if inner in ("custom_jvp", "custom_vjp") and outer in ACTS:
        return aj.SiteError, "inside a function with a derivative rule of its own"
    if inner in SHARDED and outer in SHARDED:
        return ValueError, "context mesh"
    if inner == "custom_vjp" and outer in SHARDED and OLD_HIJAX:
        return AssertionError, None  # JAX 0.10's own, without activjax too
    if inner in SHARDED and outer == "export":
        return ValueError, "was exported for 2 devices"
    return None


def refused_edit(outer, inner):
    """The error of editing a composition that runs by itself."""
    if "export" in (outer, inner):
        return NO_SITES
    if inner == "remat" and outer in ("grad", "hessian", "act_vjp", "act_grads"):
        return aj.SiteError, "computed a second time by jax.checkpoint"
    return None


def _pairs():
    # Every pair of ours, every tenth of the others; .ci/full: all.
    for i, (outer, inner) in enumerate(itertools.product(TRANSFORMS, TRANSFORMS)):
        often = (outer in OURS and inner in OURS) or i % 10 == 0
        yield pytest.param(outer, inner, marks=() if often else pytest.mark.slow)


@pytest.mark.parametrize(("outer", "inner"), list(_pairs()))
def test_pair(outer, inner):
    fn = _chain([outer, inner], network, "apply")
    if error := refused(outer, inner):
        with pytest.raises(error[0], match=error[1]):
            jax.jit(fn)(X)
        return
    reference = _chain([outer, inner], by_hand, "reference")
    chex.assert_trees_all_close(jax.jit(fn)(X), reference(X, lambda h: h)[0], rtol=1e-5, atol=1e-5)

    edit = lambda h: 0.75 * h - 0.2  # noqa: E731
    changed = jax.jit(aj.capture(aj.intervene(fn, {"h": edit}), "h"))
    if error := refused_edit(outer, inner):
        with pytest.raises(error[0], match=error[1]):
            changed(X)
        return
    out, acts = changed(X)
    chex.assert_trees_all_close((out, _total(acts)), reference(X, edit), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_names_do_not_depend_on_transforms_around(name):
    listed = aj.sites(_chain([name], network, "apply"))(X).names
    expected = {"act_jvp": ("h#0", "h#1"), "export": ()}
    assert listed == expected.get(name, ("h",))
