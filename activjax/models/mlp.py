"""A multilayer perceptron with named activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from activjax.models._layers import activation as activation_of, check_sizes, he_normal
from activjax.models._model import Model
from activjax.transforms import scope, tag


class DenseBlock(nnx.Module):
    """Dense, optional batch normalisation, activation, optional dropout."""

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        activation: str,
        batch_norm: bool,
        dropout: float,
        precision: Any,
        rngs: nnx.Rngs,
    ):
        self.dense = nnx.Linear(d_in, d_out, kernel_init=he_normal, precision=precision, rngs=rngs)
        self.norm = nnx.BatchNorm(d_out, rngs=rngs) if batch_norm else None
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None
        self.activation = activation

    def __call__(self, x: Float[Array, "batch d_in"]) -> Float[Array, "batch d_out"]:
        """Apply the block; sites `pre` (after normalisation) and `post`."""
        x = self.dense(x)
        if self.norm is not None:
            x = self.norm(x)
        x = tag(x, "pre", axes="batch unit")
        x = tag(activation_of(self.activation)(x), "post", axes="batch unit")
        return x if self.dropout is None else self.dropout(x)


class MLP(nnx.Module):
    """The module behind `mlp`."""

    def __init__(self, sizes: Sequence[int], *, precision: Any, rngs: nnx.Rngs, **block: Any):
        *hidden, d_out = sizes[1:]
        self.layers = nnx.List(
            [
                DenseBlock(i, o, precision=precision, rngs=rngs, **block)
                for i, o in zip(sizes, hidden)
            ]
        )
        self.head = nnx.Linear(sizes[-2], d_out, precision=precision, rngs=rngs)

    def __call__(self, x: Float[Array, "batch d_in"]) -> Float[Array, "batch d_out"]:
        """Logits."""
        for i, layer in enumerate(self.layers):
            with scope(f"layers/{i}"):
                x = layer(x)
        return tag(self.head(x), "logits", axes="batch class")


def mlp(
    sizes: Sequence[int],
    *,
    activation: str = "relu",
    batch_norm: bool = False,
    dropout: float = 0.0,
    precision: Any = jax.lax.Precision.HIGHEST,
) -> Model:
    """A multilayer perceptron.

    Sites: `layers/<i>/pre`, `layers/<i>/post` (`[batch, unit]`) and `logits` (`[batch, class]`).

    Args:
      sizes: inputs, hidden widths, outputs: `[64, 128, 10]` has one hidden layer.
      activation: "relu", "leaky_relu", "tanh", "gelu", "silu" or "identity".
      batch_norm: normalise pre-activations over the batch (then the model has a state).
      dropout: probability of dropping a hidden unit in training.
      precision: of matrix products; sign codes are only the same on every platform at HIGHEST.

    Returns:
      A model on inputs `[batch, sizes[0]]`. Hidden weights are He-normal, biases zero.

    Raises:
      ValueError: fewer than two sizes, a size below 1, an unknown activation, dropout outside
        [0, 1).
    """
    sizes = check_sizes("mlp sizes", sizes, 2)
    activation_of(activation)
    if not 0 <= dropout < 1:
        raise ValueError(f"mlp dropout: expected a number in [0, 1), got {dropout}")
    return Model.from_nnx(
        lambda rngs: MLP(
            sizes,
            activation=activation,
            batch_norm=batch_norm,
            dropout=dropout,
            precision=precision,
            rngs=rngs,
        )
    )
