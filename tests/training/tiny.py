"""Models that compile in a moment, and parameters that need no compilation."""

import jax
import jax.numpy as jnp
import numpy as np

from activjax import models

VOCAB = 17


def filled(model, seed=0, size=0.5):
    """Random parameters, none at its default, without compiling `init`."""
    draw = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(
        lambda x: jnp.asarray(size * draw.standard_normal(x.shape), x.dtype), shapes
    )


def decoder(**fields):
    sizes = {"vocab": VOCAB, "context": 6, "layers": 2, "width": 8, "heads": 2}
    return models.decoder(**{**sizes, **fields})


def language_model(width=8):
    """The mean of earlier embeddings of the same document, through one hidden layer."""

    def init(key):
        draw = jax.random.split(key, 3)
        return {
            "embed": {"table": jax.random.normal(draw[0], (VOCAB, width))},
            "hidden": {
                "kernel": jax.random.normal(draw[1], (width, width)),
                "bias": jnp.zeros(width),
            },
            "head": {"kernel": jax.random.normal(draw[2], (width, VOCAB))},
        }

    def apply(params, tokens, *, segments=None, key=None, train=False):
        segments = jnp.ones_like(tokens) if segments is None else segments
        seen = jnp.tril(segments[:, :, None] == segments[:, None]).astype(jnp.float32)
        x = params["embed"]["table"][tokens]
        x = jnp.einsum("bts,bsd->btd", seen, x) / seen.sum(-1, keepdims=True)
        x = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        return x @ params["head"]["kernel"]

    return models.Model(init, apply)
