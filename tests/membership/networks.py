"""Functions whose parameters are used in every way that ghost gradients know, and in some not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import activjax as aj
from activjax import models
from activjax.training import lora

N, T, D, V = 5, 6, 8, 11


@dataclass(frozen=True)
class Net:
    """A function with parameters and examples.

    Attributes:
      name: of the case.
      apply: `apply(params, x)`, with the site "h" or none.
      params: float64 NumPy arrays.
      x, y: `N` examples; the second is like the first.
      ghosts: paths of leaves that must be ghosts when asked for.
      mask: or None.
    """

    name: str
    apply: Callable[..., Any]
    params: Any
    x: Any
    y: Any
    ghosts: tuple[str, ...]
    mask: Any = None


def arrays(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Random parameters."""
    rng = np.random.default_rng(0)
    return {k: rng.normal(size=s) / np.sqrt(s[-2] if len(s) > 1 else 2) for k, s in shapes.items()}


def rows(*shape: int) -> np.ndarray:
    """Real inputs."""
    return np.random.default_rng(1).normal(size=(N, *shape))


def tokens(*shape: int) -> np.ndarray:
    """Token ids, many of them repeated."""
    return np.random.default_rng(2).integers(0, V, (N, *shape)).astype(np.int32)


def labels(*shape: int, classes: int = V) -> np.ndarray:
    """Classes."""
    return np.random.default_rng(3).integers(0, classes, (N, *shape)).astype(np.int32)


def mm(a: Any, b: Any) -> Any:
    """A product at full precision."""
    return jnp.matmul(a, b, precision="highest")


def einsum(how: str, *args: Any) -> Any:
    """The same for `einsum`."""
    return jnp.einsum(how, *args, precision="highest")


def tag(x: Any) -> Any:
    """The site "h"."""
    return aj.tag(x, "h")


def plain(p: Any, x: Any) -> Any:
    """Dense layers with a bias and without, and one that is used transposed."""
    h = tag(jnp.tanh(mm(x, p["a"]) + p["b"]))
    return mm(jnp.tanh(mm(h, p["c"])), p["d"].T)


def heads(p: Any, x: Any) -> Any:
    """Attention with grouped queries, kernels with an axis of heads, gains and shifts."""
    mean = x.mean(-1, keepdims=True)
    norm = (x - mean) / jnp.sqrt(jnp.square(x - mean).mean(-1, keepdims=True) + 1e-5)
    h = norm * p["gain"] + p["shift"]
    q, k, v = (einsum("btd,dhk->bthk", h, p[n]) for n in "qkv")
    k, v = (jnp.repeat(a, 2, axis=2) for a in (k, v))
    w = jax.nn.softmax(einsum("bqhk,bthk->bhqt", q, k))
    mixed = einsum("bhqt,bthk->bqhk", w, v)
    return mm(tag(x + einsum("bqhk,hkd->bqd", mixed, p["o"])), p["head"])


def fused(p: Any, x: Any) -> Any:
    """One kernel for three, cut after the product, before it by slices, and by `split`."""
    a, b, c = jnp.split(mm(x, p["after"]), 3, axis=-1)
    h = a * jnp.tanh(b) + c
    h = mm(h, p["slices"][:, :D]) * jnp.tanh(mm(h, p["slices"][:, D:]))
    one, two = jnp.split(p["split"], 2, axis=0)
    return mm(tag(mm(h, one) + jnp.tanh(mm(h, two))), p["head"])


def tied(p: Any, x: Any) -> Any:
    """A table that embeds and predicts, and one of positions."""
    h = p["table"][x] + p["place"][jnp.arange(x.shape[1])]
    h = tag(h + jnp.tanh(mm(h, p["w"])))
    return einsum("btd,vd->btv", h, p["table"])


def dropping(p: Any, x: Any) -> Any:
    """A table whose lookups may miss."""
    h = jnp.take(p["table"], x + V // 2, axis=0, mode="fill", fill_value=0)
    return mm(tag(jnp.tanh(h)), p["w"])


def convolutions(p: Any, x: Any) -> Any:
    """Strides, dilations, groups and paddings."""
    conv = jax.lax.conv_general_dilated
    numbers = ("NHWC", "HWIO", "NHWC")
    options: dict[str, Any] = {"dimension_numbers": numbers, "precision": "highest"}
    h = jnp.tanh(conv(x, p["one"], (2, 1), "SAME", **options))
    h = jnp.tanh(conv(h, p["two"], (1, 1), [(1, 0), (0, 2)], rhs_dilation=(1, 2), **options))
    h = tag(jnp.tanh(conv(h, p["grouped"], (1, 1), "VALID", feature_group_count=2, **options)))
    h = jnp.tanh(conv(h, p["depthwise"], (1, 1), "SAME", feature_group_count=4, **options))
    return mm(h.mean((1, 2)), p["head"])


def channels_first(p: Any, x: Any) -> Any:
    """A convolution in another layout, upsampling."""
    h = jax.lax.conv_general_dilated(
        x, p["one"], (1, 1), [(1, 1), (1, 0)], lhs_dilation=(2, 1), precision="highest"
    )
    return mm(tag(jnp.tanh(h)).mean((2, 3)), p["head"])


def stacked(p: Any, x: Any) -> Any:
    """Layers in a loop, backwards, with rematerialisation, and one kernel for all of them."""

    @jax.checkpoint
    def block(h: Any, layer: Any) -> Any:
        w, b = layer
        h = tag(h + jnp.tanh(mm(h, w) + b))
        return jnp.tanh(mm(h, p["shared"])), None

    h, _ = jax.lax.scan(block, x, (p["w"], p["b"]), reverse=True)
    return mm(h, p["head"])


def recurrent(p: Any, x: Any) -> Any:
    """A network over time, twice, through one set of kernels."""

    def over(h: Any, x: Any) -> Any:
        h = jnp.tanh(mm(h, p["h"]) + mm(x, p["x"]))
        return h, h

    def layer(x: Any, w: Any) -> Any:
        _, out = jax.lax.scan(over, x[:, 0], jnp.swapaxes(x, 0, 1))
        return mm(jnp.swapaxes(out, 0, 1), w), None

    h, _ = jax.lax.scan(layer, x, p["w"])
    return mm(tag(h), p["head"])


def repeated(p: Any, x: Any) -> Any:
    """One kernel three times, unrolled, once of them transposed; and a block-diagonal one."""
    h = jnp.tanh(mm(x, p["w"]))
    h = jnp.tanh(mm(h, p["w"].T))
    h = tag(jnp.tanh(mm(h, p["w"])))
    blocks = einsum("btgi,gio->btgo", h.reshape(*h.shape[:2], 2, D // 2), p["blocks"])
    return mm(blocks.reshape(h.shape), p["head"])


def left(p: Any, x: Any) -> Any:
    """The kernel is the left operand, and meets several axes at once."""
    h = einsum("od,btd->bto", p["w"], x)
    return einsum("vtd,btd->bv", p["all"], tag(jnp.tanh(h)))


CASES = [
    Net(
        "plain",
        plain,
        arrays(a=(D, 7), b=(7,), c=(7, D), d=(V, D)),
        rows(D),
        labels(),
        ("a", "c", "d"),
    ),
    Net(
        "heads",
        heads,
        arrays(
            gain=(D,), shift=(D,), q=(D, 4, 3), k=(D, 2, 3), v=(D, 2, 3), o=(4, 3, D), head=(D, V)
        ),
        rows(T, D),
        labels(T),
        ("q", "k", "v", "o", "head"),
    ),
    Net(
        "fused",
        fused,
        arrays(after=(D, 3 * D), slices=(D, 2 * D), split=(2 * D, D), head=(D, V)),
        rows(T, D),
        labels(T),
        ("after", "slices", "split", "head"),
    ),
    Net(
        "tied",
        tied,
        arrays(table=(V, D), place=(2 * T, D), w=(D, D)),
        tokens(T),
        labels(T),
        ("table", "place", "w"),
        mask=np.arange(N * T).reshape(N, T) % 3 > 0,
    ),
    Net("dropping", dropping, arrays(table=(V, D), w=(D, V)), tokens(T), labels(T), ("table", "w")),
    Net(
        "convolutions",
        convolutions,
        arrays(
            one=(3, 3, 2, 4), two=(2, 3, 4, 6), grouped=(2, 2, 3, 4), depthwise=(3, 3, 1, 8),
            head=(8, V),
        ),
        rows(7, 6, 2),
        labels(),
        ("one", "two", "grouped", "depthwise", "head"),
    ),
    Net(
        "channels_first",
        channels_first,
        arrays(one=(4, 2, 3, 3), head=(4, V)),
        rows(2, 5, 6),
        labels(),
        ("one", "head"),
    ),
    Net(
        "stacked",
        stacked,
        arrays(w=(3, D, D), b=(3, D), shared=(D, D), head=(D, V)),
        rows(T, D),
        labels(T),
        ("w", "shared", "head"),
    ),
    Net(
        "recurrent",
        recurrent,
        arrays(h=(D, D), x=(D, D), w=(2, D, D), head=(D, V)),
        rows(T, D),
        labels(T),
        ("h", "x", "w", "head"),
    ),
    Net(
        "repeated",
        repeated,
        arrays(w=(D, D), blocks=(2, D // 2, D // 2), head=(D, V)),
        rows(T, D),
        labels(T),
        ("w", "blocks", "head"),
    ),
    Net("left", left, arrays(w=(D, D), all=(V, T, D)), rows(T, D), labels(), ("w", "all")),
]  # fmt: skip


# --- what ghosts do not cover ---------------------------------------------------------------


def normalised(p: Any, x: Any) -> Any:
    """Weight normalisation: the leaf meets no data."""
    w = p["v"] / jnp.linalg.norm(p["v"], axis=0, keepdims=True) * p["g"]
    return mm(tag(jnp.tanh(mm(x, w))), p["head"])


@jax.custom_vjp
def _straight(x: Any, w: Any) -> Any:
    return jnp.sign(mm(x, w))


def _straight_forward(x: Any, w: Any) -> Any:
    return _straight(x, w), (x, w)


def _straight_backward(kept: Any, ct: Any) -> Any:
    x, w = kept
    return mm(ct, w.T), mm(x.T, ct)


_straight.defvjp(_straight_forward, _straight_backward)


def ruled(p: Any, x: Any) -> Any:
    """A layer with a derivative of its own."""
    return mm(tag(_straight(x, p["v"]) + x), p["head"])


def branching(p: Any, x: Any) -> Any:
    """A layer inside a branch."""
    use = x.sum() > 0
    h = jax.lax.cond(use, lambda h: mm(h, p["v"]), lambda h: h, x)
    return mm(tag(jnp.tanh(h)), p["head"])


def regularised(p: Any, x: Any) -> Any:
    """A leaf that is used as a matrix, and otherwise too."""
    h = tag(jnp.tanh(mm(x, p["v"])))
    return mm(h, p["head"]) + jnp.square(p["v"]).sum()


def overlapping(p: Any, x: Any) -> Any:
    """Two slices of one leaf that share entries."""
    h = mm(x, p["v"][:, :D]) + jnp.tanh(mm(x, p["v"][:, 2:]))
    return mm(tag(h), p["head"])


def indexed(p: Any, x: Any) -> Any:
    """Layers that a loop looks up by a counter."""
    h = jax.lax.fori_loop(0, 3, lambda i, h: jnp.tanh(mm(h, p["v"][i])), x)
    return mm(tag(h), p["head"])


def stopped(p: Any, x: Any) -> Any:
    """A leaf that moves, and has no gradient in one of its uses."""
    h = jnp.tanh(mm(x, jax.lax.stop_gradient(p["v"])))
    return mm(tag(jnp.tanh(mm(h, p["v"]))), p["head"])


def rounded(p: Any, x: Any) -> Any:
    """A leaf that passes through whole numbers, where its derivative ends."""
    h = mm(x, p["v"])
    whole = p["v"].astype(int).astype(p["v"].dtype)
    return mm(tag(jnp.tanh(h + mm(x, whole))), p["head"])


@jax.custom_vjp
def _reversed(w: Any) -> Any:
    return w


_reversed.defvjp(lambda w: (w, None), lambda _, ct: (-ct,))


def reversing(p: Any, x: Any) -> Any:
    """A leaf that passes through a function with a derivative of its own."""
    return mm(tag(jnp.tanh(mm(x, _reversed(p["v"])))), p["head"])


def _uncovered(apply: Any, **shapes: tuple[int, ...]) -> Net:
    params = arrays(**shapes, head=(D, V))
    return Net(apply.__name__, apply, params, rows(D), labels(), ("head",))


UNCOVERED = [
    _uncovered(normalised, v=(D, D), g=(D,)),
    _uncovered(ruled, v=(D, D)),
    _uncovered(stopped, v=(D, D)),
    _uncovered(rounded, v=(D, D)),
    _uncovered(reversing, v=(D, D)),
    _uncovered(branching, v=(D, D)),
    _uncovered(regularised, v=(D, D)),
    _uncovered(overlapping, v=(D, D + 2)),
    _uncovered(indexed, v=(3, D, D)),
]


# --- whole models ---------------------------------------------------------------------------


class Linen(nn.Module):
    """Attention, norms and an embedding of Flax Linen, as they come."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Logits."""
        h = nn.Embed(V, D)(x)
        h = h + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(h))
        h = aj.tag(h + nn.Dense(D)(jax.nn.gelu(nn.Dense(12)(nn.RMSNorm()(h)))), "h")
        return nn.Dense(V, use_bias=False)(h)


class NNX(nnx.Module):
    """The same of Flax NNX, and a convolution."""

    def __init__(self, rngs: nnx.Rngs):
        self.embed = nnx.Embed(V, D, rngs=rngs)
        self.conv = nnx.Conv(D, D, kernel_size=(3,), rngs=rngs)
        self.attn = nnx.MultiHeadAttention(2, D, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(D, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """Logits."""
        h = self.conv(self.embed(x))
        h = aj.tag(h + self.attn(self.norm(h)), "h")
        return self.embed.attend(h)


def whole_models() -> list[Net]:
    """Models as people have them; float32."""
    linen = Linen()
    nets = [
        Net(
            "linen", linen.apply, linen.init(jax.random.key(0), tokens(T)), tokens(T), labels(T), ()
        )
    ]
    own = {
        "nnx": models.Model.from_nnx(NNX),
        "decoder": models.decoder(vocab=V, context=2 * T, layers=2, width=D, heads=2),
        "modern decoder": models.decoder(
            vocab=V, context=T, layers=2, width=D, heads=4, kv_heads=2, norm="rms", bias=False,
            positions="rotary", gated=True, tied=False, remat=True,
        ),
        "unrolled decoder": models.decoder(
            vocab=V, context=T, layers=2, width=D, heads=2, scan=False
        ),
    }  # fmt: skip
    base = own["modern decoder"]
    params = base.init(jax.random.key(1))
    adapted = lora.adapt(base, params, "blocks/attn/*/kernel", rank=2, alpha=4.0)
    own["lora"] = adapted
    for name, model in own.items():
        params = model.init(jax.random.key(0))
        if name == "lora":  # the second factors start at 0, and then the first have no gradient
            params = jax.tree.map(lambda a: a + 0.1, params)
        nets.append(Net(name, model.apply, params, tokens(T), labels(T), ()))
    cnn = models.cnn([8, 8, 1], [3, 4], V)
    nets.append(Net("cnn", cnn.apply, cnn.init(jax.random.key(0)), rows(8, 8, 1), labels(), ()))
    return nets
