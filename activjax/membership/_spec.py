"""What a drift measurement does: the step, what moves, what is measured, and how it is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from activjax.transforms import Selector

Norm = Literal["unit", "raw"]
Method = Literal["auto", "loop", "vmap", "ghost"]
Sites = str | Selector | Sequence[str | Selector]

_NORMS, _METHODS = ("unit", "raw"), ("auto", "loop", "vmap", "ghost")


_STATIC: Any = {"static": True}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DriftSpec:
    """One step of gradient ascent on an example's loss, and what is measured before and after.

    A pytree: `eta` and `directions` may be traced and mapped, everything else is static.

    Attributes:
      eta: length of the step, in units of the parameters if `norm` is "unit", of the parameters
        squared over the loss if "raw".
      directions: `{site: [k, d]}`, unit vectors of the site's last axis on which its drift is
        projected; `random_directions` draws some. None for no projections.
      norm: "unit": `theta + eta g / |g|`, and no step where the gradient is 0; "raw":
        `theta + eta g`.
      sites: which activations to compare, as for `capture`. None: the residual stream
        (`embed` and `**/resid_post`) if there is one, else `**/post`, else all.
      moves: globs over the '/'-paths of the parameters that take part in the step; the others are
        frozen. None for all.
      method: "loop" (one example at a time), "vmap" (parameters for each example), "ghost" (no
        parameters for any example) or "auto". All give the same, but where parameters are cast to
        a smaller dtype: "ghost" does not round what it adds to them.
      layer_rule: whether "ghost" materialises parameters that are smaller than their factors.
      strict: whether "ghost" refuses large parameters that it does not cover, instead of
        materialising them with a warning.
      grad_norm: whether the gradient's norm is given out; "unit" needs it anyway, for "raw" ghosts
        it costs a little.
    """

    eta: float | Float[Array, ""] = 1.0
    directions: Mapping[str, Float[Array, "k d"]] | None = None
    norm: Norm = field(default="unit", metadata=_STATIC)
    sites: Sites | None = field(default=None, metadata=_STATIC)
    moves: str | tuple[str, ...] | None = field(default=None, metadata=_STATIC)
    method: Method = field(default="auto", metadata=_STATIC)
    layer_rule: bool = field(default=True, metadata=_STATIC)
    strict: bool = field(default=False, metadata=_STATIC)
    grad_norm: bool = field(default=True, metadata=_STATIC)

    def __post_init__(self) -> None:
        if self.norm not in _NORMS:
            raise ValueError(f"DriftSpec: norm is {self.norm!r}, expected one of {_NORMS}")
        if self.method not in _METHODS:
            raise ValueError(f"DriftSpec: method is {self.method!r}, expected one of {_METHODS}")
        for name in ("sites", "moves"):  # static fields are hashed
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))

    def length(self, square: Array) -> Array:
        """What a gradient of that squared norm is multiplied by.

        Rounding may leave a squared norm a little below 0: that is 0.
        """
        eta = jnp.asarray(self.eta, square.dtype)
        if self.norm == "raw":
            return eta
        norm = jnp.sqrt(jnp.maximum(square, 0))
        return jnp.where(norm == 0, 0, eta / jnp.where(norm == 0, 1, norm)).astype(square.dtype)
