"""A convolutional network with named activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from activjax.models._layers import activation as activation_of, check_sizes, he_normal
from activjax.models._model import Model
from activjax.transforms import scope, tag

AXES = "batch height width channel"


class ConvBlock(nnx.Module):
    """Convolution, optional batch normalisation, activation, max-pooling."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        kernel: int,
        pool: int,
        activation: str,
        batch_norm: bool,
        precision: Any,
        rngs: nnx.Rngs,
    ):
        self.conv = nnx.Conv(
            c_in,
            c_out,
            (kernel, kernel),
            kernel_init=he_normal,
            precision=precision,
            rngs=rngs,
        )
        self.norm = nnx.BatchNorm(c_out, rngs=rngs) if batch_norm else None
        self.activation = activation
        self.pool = pool

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch h2 w2 c2"]:
        """Apply the block; sites `pre` (after normalisation), `post` and, if it pools, `pool`."""
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        x = tag(x, "pre", axes=AXES)
        x = tag(activation_of(self.activation)(x), "post", axes=AXES)
        if self.pool > 1:
            window = (self.pool, self.pool)
            x = tag(nnx.max_pool(x, window, strides=window), "pool", axes=AXES)
        return x


class CNN(nnx.Module):
    """The module behind `cnn`."""

    def __init__(
        self,
        image: Sequence[int],
        channels: Sequence[int],
        classes: int,
        *,
        pool: int,
        precision: Any,
        rngs: nnx.Rngs,
        **block: Any,
    ):
        height, width, c_in = image
        self.layers = nnx.List(
            [
                ConvBlock(i, o, pool=pool, precision=precision, rngs=rngs, **block)
                for i, o in zip((c_in, *channels), channels)
            ]
        )
        for _ in channels:
            height, width = height // pool, width // pool
        self.head = nnx.Linear(
            height * width * channels[-1], classes, precision=precision, rngs=rngs
        )

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
        """Logits."""
        for i, layer in enumerate(self.layers):
            with scope(f"layers/{i}"):
                x = layer(x)
        x = x.reshape(x.shape[0], -1)
        return tag(self.head(x), "logits", axes="batch class")


def cnn(
    image: Sequence[int],
    channels: Sequence[int],
    classes: int,
    *,
    kernel: int = 3,
    pool: int = 2,
    activation: str = "relu",
    batch_norm: bool = False,
    precision: Any = jax.lax.Precision.HIGHEST,
) -> Model:
    """A convolutional network: blocks of convolution, activation and max-pooling, then a head.

    Sites: `layers/<i>/pre`, `layers/<i>/post` and, where it pools, `layers/<i>/pool` (`[batch,
    height, width, channel]`), and `logits` (`[batch, class]`).

    Args:
      image: height, width and channels of the inputs.
      channels: output channels of each block.
      classes: number of outputs.
      kernel: side of the convolution, with padding that keeps the size.
      pool: side and stride of the max-pooling; 1 for none.
      activation: as for `mlp`.
      batch_norm: normalise pre-activations over the batch (then the model has a state).
      precision: of convolutions and products; see `mlp`.

    Returns:
      A model on inputs `[batch, height, width, channels]`.

    Raises:
      ValueError: a size below 1, an unknown activation, or images too small for the pooling.
    """
    image = check_sizes("cnn image", image, 3)
    channels = check_sizes("cnn channels", channels, 1)
    check_sizes("cnn classes, kernel, pool", (classes, kernel, pool), 3)
    activation_of(activation)
    if len(image) != 3:
        raise ValueError(f"cnn image: expected height, width and channels, got {image}")
    if min(image[:2]) // pool ** len(channels) < 1:
        raise ValueError(
            f"cnn: {len(channels)} poolings by {pool} leave nothing of {image[0]}x{image[1]}"
        )
    return Model.from_nnx(
        lambda rngs: CNN(
            image,
            channels,
            classes,
            kernel=kernel,
            pool=pool,
            activation=activation,
            batch_norm=batch_norm,
            precision=precision,
            rngs=rngs,
        )
    )
