"""Small networks in every form of control flow, and one that returns its activations by hand."""

import jax
import jax.numpy as jnp

import activjax as aj

D, L = 5, 6


def params(key=0):
    k1, k2, k3 = jax.random.split(jax.random.key(key), 3)
    return {
        "in": jax.random.normal(k1, (4, D)),
        "ws": jax.random.normal(k2, (L, D, D)) / jnp.sqrt(D),
        "out": jax.random.normal(k3, (D,)),
    }


def inputs():
    return jnp.array([0.5, -1.0, 2.0, 0.25])


def _layer(h, w):
    with aj.scope("blocks"):
        pre = aj.tag(h @ w, "pre", axes="d")
        return aj.tag(h + jnp.tanh(pre), "post", axes="d"), None


def unrolled(p, x):
    h = aj.tag(jax.nn.relu(x @ p["in"]), "embed", axes="d")
    for i in range(L):
        h, _ = _layer(h, p["ws"][i])
    return aj.tag(h @ p["out"], "score", axes=())


def scanned(p, x):
    h = aj.tag(jax.nn.relu(x @ p["in"]), "embed", axes="d")
    h, _ = aj.scan(_layer, h, p["ws"], name="layers")
    return aj.tag(h @ p["out"], "score", axes=())


def scanned_remat(p, x):
    h = aj.tag(jax.nn.relu(x @ p["in"]), "embed", axes="d")
    h, _ = jax.lax.scan(jax.checkpoint(_layer), h, p["ws"])
    return aj.tag(h @ p["out"], "score", axes=())


def jitted_inside(p, x):
    return jax.jit(scanned)(p, x)


def untagged(p, x):
    h = jax.nn.relu(x @ p["in"])
    h, _ = jax.lax.scan(lambda h, w: (h + jnp.tanh(h @ w), None), h, p["ws"])
    return h @ p["out"]


def by_hand(p, x, edit=lambda layer, post: post):
    """The same network; activations returned by hand, `edit` applied to every `post`."""
    h = embed = jax.nn.relu(x @ p["in"])
    pres, posts = [], []
    for i in range(L):
        pre = h @ p["ws"][i]
        h = edit(i, h + jnp.tanh(pre))
        pres.append(pre)
        posts.append(h)
    score = h @ p["out"]
    return score, {
        "embed": embed,
        "blocks/pre": jnp.stack(pres),
        "blocks/post": jnp.stack(posts),
        "score": score,
    }


LOOPED = [scanned, scanned_remat, jitted_inside]
