"""A kernel with a low-rank addition that is never multiplied out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LowRank:
    """`kernel + scale * a @ b`, to be used in place of a kernel (Hu et al. 2021, eq. 3).

    A pytree: it is scanned, mapped, sharded and differentiated by its leaves. Modules that can use
    one say so by `nnx.Param(..., low_rank=True)` and multiply by `product`.

    Attributes:
      kernel: the matrix; leading axes are those of stacked layers.
      a, b: the factors.
      scale: of the addition.
    """

    kernel: Float[Array, "*stack d_in d_out"]
    a: Float[Array, "*stack d_in rank"]
    b: Float[Array, "*stack rank d_out"]
    scale: Float[Array, "*stack"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the kernel.

        Raises:
          ValueError: the factors are not those of a kernel of this shape.
        """
        *stack, d_in, d_out = shape = jnp.shape(self.kernel)
        rank = jnp.shape(self.a)[-1]
        wanted = ((*stack, d_in, rank), (*stack, rank, d_out), tuple(stack))
        if (got := tuple(map(jnp.shape, (self.a, self.b, self.scale)))) != wanted:
            raise ValueError(
                f"low-rank kernel {list(shape)}: a, b and scale have shapes "
                f"{', '.join(str(list(s)) for s in got)}, expected "
                f"{', '.join(str(list(s)) for s in wanted)}"
            )
        return shape


def product(
    x: Float[Array, "*batch d_in"],
    kernel: Float[Array, "d_in d_out"] | LowRank,
    dtype: Any,
    *,
    precision: Any = None,
    out: Any = None,
) -> Float[Array, "*batch d_out"]:
    """`x @ kernel` in the compute dtype, given out in `out`.

    For a `LowRank` it is `x @ kernel + (x @ a) @ (scale * b)`: no matrix of the kernel's size is
    made, neither here nor for the gradients of `a` and `b`. The thin products are of matrices:
    with more axes XLA transposes what comes back to them, on CPU at several times their cost.
    """

    def times(x: Array, matrix: Array, out: Any) -> Array:
        matrix = matrix.astype(dtype)
        return jnp.matmul(x, matrix, precision=precision, preferred_element_type=out)

    if not isinstance(kernel, LowRank):
        return times(x, kernel, out)
    scaled = kernel.scale.astype(kernel.b.dtype)[..., None, None] * kernel.b
    low = times(times(x.reshape(-1, x.shape[-1]), kernel.a, None), scaled, out)
    return times(x, kernel.kernel, out) + low.reshape(*x.shape[:-1], -1)
