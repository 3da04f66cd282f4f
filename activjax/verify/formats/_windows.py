"""ONNX's operators of windows: convolution and average pooling."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from activjax.verify.formats._registry import operator
from activjax.verify.formats._sexpr import FormatError
from activjax.verify.formats._tensors import Node

_POOL = "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides"


@operator("Conv", attributes="auto_pad dilations group kernel_shape pads strides")
def _conv(node: Node, a: list[Any], xp: Any) -> Any:
    """`[batch, channels, ...]`, with weights `[out, channels / group, ...]` and a bias `[out]`."""
    x, weights = a[0], a[1]
    kernel = node.get("kernel_shape", tuple(weights.shape[2:]))
    if tuple(kernel) != tuple(weights.shape[2:]):
        raise FormatError(f"its kernel_shape {kernel} is not that of its weights {weights.shape}")
    strides, dilations, pads = _windows(node, x, kernel)
    out = lax.conv_general_dilated(
        jnp.asarray(x), jnp.asarray(weights), strides, pads, rhs_dilation=dilations,
        feature_group_count=node.get("group", 1), precision="highest",
    )  # fmt: skip
    if len(a) > 2 and a[2] is not None:
        out = out + jnp.reshape(a[2], (-1, *[1] * len(kernel)))
    return out


@operator("AveragePool", attributes=_POOL)
def _average_pool(node: Node, a: list[Any], xp: Any) -> Any:
    """Means of windows: the sum, divided by the number of elements."""
    kernel = node.get("kernel_shape", ())
    if node.get("ceil_mode", 0):
        raise FormatError("ceil_mode is not supported; expected 0")
    strides, dilations, pads = _windows(node, a[0], kernel)

    def total(x: Any) -> Any:
        return lax.reduce_window(
            x, np.zeros((), x.dtype), lax.add, (1, 1, *kernel), (1, 1, *strides),
            ((0, 0), (0, 0), *pads), window_dilation=(1, 1, *dilations),
        )  # fmt: skip

    sums = total(jnp.asarray(a[0]))
    counts = np.full(sums.shape[2:], np.prod(kernel), sums.dtype)
    if not node.get("count_include_pad", 0) and any(map(any, pads)):
        counts = _inside(a[0].shape[2:], kernel, strides, dilations, pads, sums.shape[2:]).astype(
            sums.dtype
        )
    # a scalar where all are equal: one divisor, which readers of programs know
    return sums / (float(counts.flat[0]) if (counts == counts.flat[0]).all() else counts)


def _inside(
    sizes: Any, kernel: Any, strides: Any, dilations: Any, pads: Any, out: Any
) -> np.ndarray:
    """How many elements of each window are not padding."""
    counts = np.ones(out, np.int64)
    for axis, size in enumerate(sizes):
        begins = np.arange(out[axis]) * strides[axis] - pads[axis][0]
        places = begins[:, None] + np.arange(kernel[axis]) * dilations[axis]
        inside = ((places >= 0) & (places < size)).sum(1)
        counts *= inside.reshape([-1 if i == axis else 1 for i in range(len(sizes))])
    return counts


def _windows(node: Node, x: Any, kernel: Any) -> tuple[Any, Any, list[tuple[int, int]]]:
    """Strides, dilations and padding."""
    rank = x.ndim - 2
    strides = node.get("strides", (1,) * rank)
    dilations = node.get("dilations", (1,) * rank)
    if not len(kernel) == len(strides) == len(dilations) == rank or min(kernel) < 1:
        raise FormatError(f"its windows {kernel} do not fit an operand of {x.ndim} axes")
    auto, given = node.get("auto_pad", "NOTSET"), node.get("pads", (0,) * 2 * rank)
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise FormatError(f"auto_pad {auto!r} is not supported")
    if auto == "NOTSET":
        if len(given) != 2 * rank or min(given, default=0) < 0:
            raise FormatError(f"its pads {given} do not fit; expected {2 * rank}, none below 0")
        return strides, dilations, list(zip(given[:rank], given[rank:], strict=True))
    pads = []
    for size, window, stride, dilation in zip(x.shape[2:], kernel, strides, dilations):
        reach = (window - 1) * dilation + 1
        needed = max((-(-size // stride) - 1) * stride + reach - size, 0)
        needed = 0 if auto == "VALID" else needed
        low = needed // 2 if auto == "SAME_UPPER" else -(-needed // 2)
        pads.append((low, needed - low))
    return strides, dilations, pads
