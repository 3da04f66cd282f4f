"""What the built-in networks share: activations by name, initialisers, argument checks."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.core import Tracer

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "tanh": jax.numpy.tanh,
    "gelu": jax.nn.gelu,
    "gelu_exact": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_quick": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "silu": jax.nn.silu,
    "identity": lambda x: x,
}

# He et al. 2015, eq. 10: keeps the variance of ReLU activations over depth.
he_normal = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """An activation function by name."""
    if name not in ACTIVATIONS:
        near = difflib.get_close_matches(name, ACTIVATIONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"activation {name!r}: expected one of {sorted(ACTIVATIONS)}{hint}")
    return ACTIVATIONS[name]


def known(x: Any) -> np.ndarray | None:
    """An array whose values can be looked at; None while it is traced."""
    return None if isinstance(x, Tracer) else np.asarray(x)


def check_sizes(what: str, sizes: Sequence[Any], at_least: int) -> tuple[int, ...]:
    """Sizes as a tuple of positive ints, at least so many."""
    sizes = tuple(sizes)
    whole = [isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in sizes]
    if len(sizes) < at_least or not all(whole) or min(sizes) < 1:
        raise ValueError(f"{what}: expected at least {at_least} positive integers, got {sizes}")
    return tuple(int(n) for n in sizes)
