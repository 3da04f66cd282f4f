"""Ghost gradients where a leaf's uses look alike and are not: what once was wrong in silence."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.membership.networks import D as WIDTH, Net, V, arrays, labels, mm, rows, tag
from tests.membership.test_ghost import GHOST, LOOP, ascended, gap

HALF = WIDTH // 2
slice_ = jax.lax.dynamic_slice


def reversed_rows(p: Any, x: Any) -> Any:
    """A leaf, and the same with its rows in reverse."""
    return mm(jnp.tanh(mm(x, p["v"])), p["v"][::-1])


def reversed_axes(p: Any, x: Any) -> Any:
    """Reversed along one axis and along the other."""
    return mm(jnp.tanh(mm(x, p["v"][:, ::-1])), p["v"][::-1])


def halves(p: Any, x: Any) -> Any:
    """Two dynamic slices of one size, at fixed starts; the second is moved inside."""
    size = (HALF, WIDTH)
    top, bottom = slice_(p["v"], (0, 0), size), slice_(p["v"], (WIDTH, 0), size)
    return mm(x[:, :HALF], top) + jnp.tanh(mm(x[:, HALF:], bottom))


def shifted(p: Any, x: Any) -> Any:
    """The same, overlapping."""
    a, b = (slice_(p["v"], (i, 0), (HALF, WIDTH)) for i in (0, 2))
    return mm(x[:, :HALF], a) + jnp.tanh(mm(x[:, HALF:], b))


def computed(p: Any, x: Any) -> Any:
    """The same, at starts that are computed."""
    at = jnp.arange(2) * 2
    a, b = (slice_(p["v"], (at[i], 0), (HALF, WIDTH)) for i in (0, 1))
    return mm(x[:, :HALF], a) + jnp.tanh(mm(x[:, HALF:], b))


def across(p: Any, x: Any) -> Any:
    """The first output of a split, and the second of one along the other axis."""
    top, right = jnp.split(p["v"], 2)[0], jnp.split(p["v"], 2, axis=1)[1]
    return mm(x[:, :HALF], top) + jnp.tile(jnp.tanh(mm(x, right)), (1, 2))


def uneven(p: Any, x: Any) -> Any:
    """Outputs of two splits of different sizes, which overlap."""
    low, top = jnp.split(p["v"], [2])[1], jnp.split(p["v"], [HALF])[0]
    return mm(x[:, 2:], low) + jnp.tanh(mm(x[:, :HALF], top))


def unstacked(p: Any, x: Any) -> Any:
    """Matrices of a stack by its first axis and by its second."""
    cube = p["v"].reshape(2, 2, 2, WIDTH)
    one, other = jnp.unstack(cube)[0].reshape(HALF, -1), jnp.unstack(cube, axis=1)[1]
    return mm(x[:, :HALF], one) + jnp.tanh(mm(x[:, HALF:], other.reshape(HALF, -1)))


def handed_out_twice(p: Any, x: Any) -> Any:
    """One loop that hands out a stack forwards and backwards."""

    def body(h: Any, w: Any) -> Any:
        return jnp.tanh(mm(h[:, :HALF], w[0]) + mm(x[:, HALF:], w[1])), None

    return jax.lax.scan(body, x, (p["v"], p["v"][::-1]))[0]


def repeated_by_a_loop(p: Any, x: Any) -> Any:
    """A loop over copies of a stack, of which each iteration takes the first matrix."""
    copies = jnp.broadcast_to(p["v"], (2, *p["v"].shape))
    return jax.lax.scan(lambda h, w: (jnp.tanh(mm(h[:, :HALF], w[0])), None), x, copies)[0]


@jax.custom_vjp
def _pulled(x: Any, w: Any) -> Any:
    del w
    return x


_pulled.defvjp(lambda x, w: (x, w), lambda w, ct: (ct, 0.3 * w))


@jax.custom_jvp
def _pushed(x: Any, w: Any) -> Any:
    del w
    return x


@_pushed.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (x, w), (dx, dw) = primals, tangents
    return x, dx + 0.3 * jnp.sum(w * dw)


def pulled(p: Any, x: Any) -> Any:
    """A derivative that a rule makes up: the function itself leaves the leaf alone."""
    return _pulled(mm(x, p["v"]), p["v"])


def pushed(p: Any, x: Any) -> Any:
    """The same, forwards."""
    return _pushed(mm(x, p["v"]), p["v"])


ALIKE = [
    *(reversed_rows, reversed_axes, halves, shifted, computed, across, uneven, unstacked),
    *(handed_out_twice, repeated_by_a_loop, pulled, pushed),
]


def agree(apply: Any, params: Any, x: Any) -> None:
    """Ghosts are exact, to the rounding of float64."""
    net = Net("", apply, params, x, labels(), ())
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="drift: exact, but")
        exact = ascended(net, LOOP, jnp.float64)
        assert gap(exact, ascended(net, GHOST, jnp.float64)) < 1e-10
        assert gap(exact.before, exact.after) > 1e-3


@pytest.mark.parametrize("body", ALIKE, ids=lambda body: body.__name__)
def test_views_that_look_alike(body):
    stack = body in (handed_out_twice, repeated_by_a_loop)
    params = arrays(v=(2, HALF, WIDTH) if stack else (WIDTH, WIDTH), head=(WIDTH, V))
    agree(lambda p, x: mm(tag(jnp.tanh(body(p, x))), p["head"]), params, rows(WIDTH))


def test_the_order_of_parameters():
    """Their paths sort otherwise than they come: "10" before "2", "a-b" before "a/b"."""
    one = arrays(w=(WIDTH, WIDTH))["w"]
    params = {
        "layers": [np.roll(one, i, 1) for i in range(11)],
        "a": {"b": 2 * one},
        "a-b": one.T,
        "head": arrays(head=(WIDTH, V))["head"],
    }

    def apply(p: Any, x: Any) -> Any:
        for w in (p["a"]["b"], p["a-b"], *p["layers"]):
            x = jnp.tanh(mm(x, w))
        return mm(tag(x), p["head"])

    agree(apply, params, rows(WIDTH))


def test_small_indices_of_a_large_table():
    """The number of rows does not fit the indices' dtype; some lookups miss."""
    x = (np.arange(30).reshape(5, 6) * 7 - 60).astype(np.int8)

    def apply(p: Any, x: Any) -> Any:
        found = jnp.take(p["table"], x, axis=0, mode="fill", fill_value=0)
        return mm(tag(jnp.tanh(found).mean(1)), p["head"])

    agree(apply, arrays(table=(200, WIDTH), head=(WIDTH, V)), x)


def test_equal_rows_of_outputs():
    """A mean over many positions, of which XLA's fused Gram matrices on a CPU make a mess."""

    def apply(p: Any, x: Any) -> Any:
        return mm(tag(mm(x, p["w"]).mean(1)), p["head"])

    for positions in (32, 40):
        agree(apply, arrays(w=(WIDTH, WIDTH), head=(WIDTH, V)), rows(positions, WIDTH))
