import re

import jax
import jax.numpy as jnp
import pytest

import activjax as aj
from tests.transforms import networks as nets


def optimised(f, *args):
    text = jax.jit(f).lower(*args).compile().as_text()
    text = re.sub(r"metadata=\{[^}]*\}", "", text)
    text = text[: text.find("\nFileNames")] if "\nFileNames" in text else text
    names = {}
    text = re.sub(r"jit_\w+", "jit", text)
    text = re.sub(r"stack_frame_id=\d+|frontend_attributes=\{[^}]*\}", "", text)
    return re.sub(r"%[\w.\-]+", lambda m: names.setdefault(m[0], f"%{len(names)}"), text)


@pytest.mark.parametrize("scan", [True, False])
def test_unused_tags_cost_nothing(scan):
    def tagged(p, x):
        return (nets.scanned if scan else nets.unrolled)(p, x)

    def bare(p, x):
        if scan:
            return nets.untagged(p, x)
        h = jax.nn.relu(x @ p["in"])
        for i in range(nets.L):
            h = h + jnp.tanh(h @ p["ws"][i])
        return h @ p["out"]

    p, x = nets.params(), nets.inputs()
    assert optimised(tagged, p, x) == optimised(bare, p, x)
    assert jax.jit(tagged)(p, x) == jax.jit(bare)(p, x)


def test_pytree_leaves_have_paths():
    def f(x):
        return aj.tag({"a": (x, 2 * x), "b": x + 1}, "q")["b"]

    assert aj.sites(f)(1.0 * jnp.ones(2)).names == ("q/a/0", "q/a/1", "q/b")
    _, acts = aj.capture(f, "q/a/1")(jnp.ones(2))
    assert acts["q/a/1"].tolist() == [2, 2]


def test_scopes_nest_and_survive_jit_caches():
    @jax.jit
    def inner(x):
        return aj.tag(jnp.sin(x), "h")

    def f(x):
        with aj.scope("enc"):
            with aj.scope("deep"):
                x = inner(x)
            with jax.named_scope("nothing"):
                x = inner(x)
        return inner(x)

    assert aj.sites(f)(jnp.ones(2)).names == ("enc/deep/h", "enc/h", "h")
    # The interpreter keeps names whatever wraps it, and an outer scope adds nothing.
    with aj.scope("outer"):
        again = aj.intervene(aj.intervene(f, {"h": lambda h: h}), {"enc/h": lambda h: h})
        assert aj.sites(again)(jnp.ones(2)).names == ("enc/deep/h", "enc/h", "h")


def test_repeated_names_are_numbered():
    def f(x):
        for _ in range(3):
            x = aj.tag(jnp.sin(x), "h")
        return x

    x = jnp.float32(0.5)
    assert aj.sites(f)(x).names == ("h#0", "h#1", "h#2")
    _, acts = aj.capture(f, "h#1")(x)
    assert list(acts) == ["h#1"]
    assert acts["h#1"] == jnp.sin(jnp.sin(x))
    assert len(aj.capture(f, "h")(x)[1]) == 3


@pytest.mark.parametrize("name", ["", "a b", "a//b", "/a", "a/", "a*", "a#1", "a{b}", "a(b)", 3])
def test_bad_names_are_refused(name):
    with pytest.raises(ValueError, match="is not a name"):
        aj.tag(jnp.ones(2), name)
    with pytest.raises(ValueError, match="is not a name"), aj.scope(name):
        pass


def test_axes_must_match():
    with pytest.raises(ValueError, match=r"tag 'h': 3 axes named .* shape \(2, 4\)"):
        aj.tag(jnp.ones((2, 4)), "h", axes="batch seq d")


def test_sites_without_running_or_arrays():
    p = jax.eval_shape(nets.params)
    table = aj.sites(nets.scanned)(p, jax.ShapeDtypeStruct((4,), jnp.float32))
    site = table[2]
    assert (site.name, site.shape, site.loops, site.nbytes) == (
        "blocks/post",
        (nets.D,),
        (("layers", nets.L),),
        nets.L * nets.D * 4,
    )
    text = repr(table)
    assert "blocks/post" in text
    assert "layers=6" in text
    assert "d=5" in text


def test_typed_keys_integers_and_bfloat16_pass():
    def f(key, n, b):
        key = aj.tag(key, "key")
        n = aj.tag(n + 1, "n")
        return aj.tag(b * 2, "b"), jax.random.uniform(key), n

    args = jax.random.key(3), jnp.arange(3), jnp.ones(2, jnp.bfloat16)
    out, acts = jax.jit(aj.capture(f))(*args)
    assert acts["key"].dtype == args[0].dtype
    assert acts["n"].tolist() == [1, 2, 3]
    assert acts["b"].dtype == jnp.bfloat16
    assert out[1] == jax.random.uniform(args[0])
