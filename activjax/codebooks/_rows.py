"""Activations as rows `[tokens, groups, features]`, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from activjax.codebooks._spec import Spec


@dataclass(frozen=True)
class Form:
    """How one site's value falls into tokens, groups and features.

    Attributes:
      lead: the axes of tokens, such as (batch, seq).
      groups, features: G and the features of one group.
      tail: the value's other axes.
    """

    lead: tuple[int, ...]
    groups: int
    features: int
    tail: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """How many tokens."""
        return math.prod(self.lead)

    def rows(self, x: Array) -> Array:
        """`[tokens, groups, features]`."""
        return x.reshape(self.tokens, self.groups, self.features)

    def value(self, rows: Array) -> Array:
        """Rows in the value's own shape."""
        return rows.reshape(*self.lead, *self.tail)

    def mask(self, mask: Any) -> Bool[Array, " tokens"]:
        """A mask of the tokens, flat.

        Raises:
          ValueError: not a truth value for each token.
        """
        mask = jnp.asarray(mask)
        if mask.dtype != bool or mask.shape != self.lead:
            raise ValueError(
                f"mask: expected truth values {list(self.lead)}, one for each token, got "
                f"{mask.dtype}{list(mask.shape)}"
            )
        return mask.reshape(-1)

    def each_token(self, of_token: Array) -> Array:
        """`[tokens, ...]` with the axes of the tokens in front."""
        return of_token.reshape(*self.lead, *of_token.shape[1:])


def form(shape: tuple[int, ...], spec: Spec, features: int | None = None, what: str = "x") -> Form:
    """How a value of some shape is divided.

    Args:
      shape: of one value, without loops.
      spec: says how many groups, and which axis they divide.
      features: of one group, where the codes exist already; they tell the two axes apart.
      what: the value's name, for messages.

    Raises:
      ValueError: the shape does not fit, or fits in two ways.
    """
    size = shape[-1] if shape else 0
    last = size > 0 and size % spec.groups == 0
    heads = size > 0 and len(shape) >= 2 and shape[-2] == spec.groups
    if features is not None:
        last = last and size == features * spec.groups
        heads = heads and size == features
    if spec.groups == 1 and last:
        heads = False  # one and the same, and the second last axis may be of tokens
    last, heads = last and spec.axis != -2, heads and spec.axis != -1
    if last and heads:
        raise ValueError(
            f"{what}: shape {list(shape)} can be divided into {spec.groups} groups along its last "
            "axis and along the one before: say which by Spec(axis=-1) or Spec(axis=-2)"
        )
    if heads:
        return Form(shape[:-2], spec.groups, size, shape[-2:])
    if last:
        return Form(shape[:-1], spec.groups, size // spec.groups, shape[-1:])
    wide = "" if features is None else f" of {features} features"
    raise ValueError(
        f"{what}: expected a value with {spec.groups} group{'s' * (spec.groups > 1)}{wide} along "
        f"{'its last axis or the one before' if spec.axis is None else f'axis {spec.axis}'}, got "
        f"shape {list(shape)}"
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Inputs:
    """Activations on their way into a bottleneck.

    Attributes:
      rows: `[*loops, tokens, groups, features]`, as the network computes them.
      on: `[*loops, tokens]`, False for padding.
    """

    rows: Float[Array, "*loops tokens groups features"]
    on: Bool[Array, "*loops tokens"]


def as_inputs(given: Any, spec: Spec, what: str) -> Inputs:
    """Inputs, the inputs of a trace, or an array outside loops as rows.

    Raises:
      TypeError, ValueError: it is none of them, or does not fit.
    """
    given = getattr(given, "inputs", given)
    if isinstance(given, Inputs):
        if given.rows.shape[-2] != spec.groups:
            raise ValueError(
                f"{what}: the activations have {given.rows.shape[-2]} groups, the spec "
                f"{spec.groups}"
            )
        return given
    if not hasattr(given, "shape") or not hasattr(given, "dtype"):
        raise TypeError(
            f"{what}: expected activations, codebooks.inputs(f, spec)(...)[site] or an array, got "
            f"{type(given).__name__}"
        )
    x = jnp.asarray(given)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{what}: expected floating-point activations, got {x.dtype}")
    of = form(x.shape, spec, what=what)
    return Inputs(of.rows(x), jnp.full((of.tokens,), True))


def by_loop(
    array: Array, loops: int, own: tuple[int, ...], tail: int, what: str
) -> Float[Array, "*own n *tail"]:
    """What a site gave in all its loops, by iteration of the loops that its codebook knows.

    A codebook may know the innermost loops only (layers, but not decoding steps around them).

    Args:
      array: `[*loops, ..., *tail]`.
      loops: how many loops the site is in.
      own: the lengths of the codebook's.
      tail: how many axes stay at the end.
      what: for messages.

    Raises:
      ValueError: the loops are others.
    """
    around = loops - len(own)
    if around < 0 or array.shape[around:loops] != own:
        raise ValueError(
            f"{what} is of loops {list(array.shape[:loops])}, the codebook of {list(own)}"
        )
    array = jnp.moveaxis(array, range(around), range(len(own), loops))
    return array.reshape(*own, -1, *array.shape[array.ndim - tail :])


def over_loops(f: Callable[..., Any], loops: int) -> Callable[..., Any]:
    """A function of one iteration, for arguments with leading axes of loops; one after another."""
    for _ in range(loops):
        f = _mapped(f)
    return f


def _mapped(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: jax.lax.map(lambda one: f(*one), args)
