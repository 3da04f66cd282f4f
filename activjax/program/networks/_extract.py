"""`extract`: the network in normal form that a user's function is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from activjax import program
from activjax.program.networks._domain import Forms
from activjax.program.networks._network import Affine, Network


@dataclass(frozen=True, eq=False)
class Extracted:
    """A function in normal form.

    Attributes:
      network: of the flattened input and the flattened outputs, laid end to end.
      shape: of the input.
      structure: of the outputs.
    """

    network: Network
    shape: tuple[int, ...]
    structure: Any


def extract(name: str, f: Callable[[Any], Any], x: Any) -> Extracted:
    """The normal form of `f`, a function of one array.

    Args:
      name: of the caller, for messages.
      f: continuous and piecewise linear; its outputs are floats.
      x: an array, or a `jax.ShapeDtypeStruct`, of the shape and dtype of its input.

    Raises:
      TypeError: the input or an output is no array of real numbers.
      ValueError: `f` is not piecewise linear, not continuous, or has constants that are not finite;
        the operation is named.
      UnsupportedError: it is, but by an operation that is not supported.
    """
    traced, shape = traced_function(name, f, x)
    domain = Forms(name)
    outs = program.evaluate(traced.closed, [domain.input(shape)], domain)
    out = domain.outputs(outs)  # may still add a layer
    network = Network(int(np.prod(shape)), tuple(domain.layers), out)
    check_finite(name, [*((x.name, x.affine) for x in network.layers), ("the output", out)])
    return Extracted(network, shape, traced.out_shape)


def traced_function(
    name: str, f: Callable[[Any], Any], x: Any
) -> tuple[program.Program, tuple[int, ...]]:
    """The program of a piecewise linear function, and the shape of its input; as `extract`."""
    x = x if hasattr(x, "dtype") else np.asarray(x)
    shape, dtype = tuple(x.shape), x.dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{name}: expected an input of real numbers, got {dtype}; convert it to floats"
        )
    like = jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))
    verdict = program.piecewise_linear(f)(like)
    if (bad := verdict.first_nonlinear) is not None:
        inside = f" in {bad.functions[-1]}" if bad.functions else ""
        line = f" at {bad.line}" if bad.source else ""
        raise ValueError(
            f"{name}: the function is not piecewise linear: {bad.name}{inside}{line} ({bad.reason})"
        )
    traced = program.trace(f, like)
    for leaf in jax.tree.leaves(traced.out_shape):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"{name}: an output has dtype {leaf.dtype}; expected real numbers. Return logits, "
                "not a class"
            )
    if not jax.tree.leaves(traced.out_shape):
        raise TypeError(f"{name}: the function returns no array; expected real numbers")
    if not like.size:
        raise ValueError(f"{name}: the input has shape {shape}, without elements")
    return traced, shape


def check_finite(name: str, maps: Iterable[tuple[str, Affine]]) -> None:
    """Refuses constants that are not finite, by the operation that they lead to.

    Raises:
      ValueError: there is one.
    """
    for where, affine in maps:
        arrays = [m if isinstance(m, np.ndarray) else m.data for m in affine.matrices.values()]
        if not all(np.isfinite(a).all() for a in (affine.bias, *arrays)):
            raise ValueError(
                f"{name}: constants on the way to {where} are NaN or infinite; check the parameters"
            )
