"""Networks of several libraries, as `(f(params, x), params, x)` with ReLU throughout."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from activjax import models

D = 4
X = jnp.linspace(-1.0, 1.0, 3 * D).reshape(3, D)
IMAGES = jnp.linspace(-1.0, 1.0, 2 * 8 * 8).reshape(2, 8, 8, 1)


def mlp(activation="relu"):
    model = models.mlp([D, 6, 6, 2], activation=activation)
    return model.apply, model.init(jax.random.key(0)), X


def cnn(**options):
    model = models.cnn([8, 8, 1], [2, 3], 2, **options)
    state = model.init_state()

    def apply(p, x):
        return model.apply(p, x, state=state)[0]

    return apply, model.init(jax.random.key(0)), IMAGES


def residual():
    def apply(p, x):
        for w in p:
            x = x + jax.nn.relu(x @ w["up"] + w["bias"]) @ w["down"]
        return x

    block = {"up": jnp.ones((D, 5)), "bias": jnp.ones(5), "down": jnp.ones((5, D))}
    return apply, [block, block], X


def scanned(wrap=lambda f: f):
    def layer(h, w):
        return h + jax.nn.relu(h @ w["up"] + w["bias"]) @ w["down"], h.sum()

    def apply(p, x):
        return jax.lax.scan(wrap(layer), x, p)[0]

    params = {"up": jnp.ones((3, D, 5)), "bias": jnp.ones((3, 5)), "down": jnp.ones((3, 5, D))}
    return apply, params, X


def rematted():
    return scanned(jax.checkpoint)


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return x + nn.Dense(D, name="down")(nn.relu(nn.Dense(5, name="up")(x))), None


class LinenScanned(nn.Module):
    @nn.compact
    def __call__(self, x):
        block = nn.scan(
            nn.remat(LinenBlock), variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        x, _ = block(name="blocks")(x)
        return nn.Dense(2, name="head")(x)


class LinenConv(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(3, (3, 3), name="conv")(x))
        pool = (1, 2, 2, 1)  # an average; Linen's own mixes dtypes
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, pool, pool, "VALID") / 4
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        return nn.Dense(2, name="head")(x.reshape(x.shape[0], -1))


def linen_scanned():
    net = LinenScanned()
    return net.apply, net.init(jax.random.key(0), X), X


def linen_conv():
    net = LinenConv()
    return net.apply, net.init(jax.random.key(0), IMAGES), IMAGES


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(D, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, use_running_average=True, rngs=rngs)
        self.down = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x):
        return self.down(nnx.relu(self.norm(self.up(x))))


def nnx_net():
    graph, params, rest = nnx.split(NnxNet(nnx.Rngs(0)), nnx.Param, ...)
    return (lambda p, x: nnx.merge(graph, p, rest)(x)), params, X


def attention(weights):
    """One head; `weights` turns scores into weights."""

    def apply(p, x):
        q, k, v = (x @ p[n] for n in "qkv")
        return weights(q @ k.T) @ v @ p["o"]

    return apply, {n: jnp.ones((D, D)) for n in "qkvo"}, X


NETWORKS = [mlp, cnn, residual, scanned, rematted, linen_scanned, linen_conv, nnx_net]
