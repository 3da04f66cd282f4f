"""ONNX's operators that move elements, and shapes themselves."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from activjax.verify.formats._registry import axes_of, integers, operator, scalar
from activjax.verify.formats._sexpr import FormatError
from activjax.verify.formats._tensors import Node

_MOST_SLICES = 4096
_WIDEST = 1 << 20


@operator("Flatten", attributes="axis")
def _flatten(node: Node, a: list[Any], xp: Any) -> Any:
    axis = node.get("axis", 1)
    axis = axis + a[0].ndim if axis < 0 else axis
    return xp.reshape(a[0], (math.prod(a[0].shape[:axis]), math.prod(a[0].shape[axis:])))


@operator("Reshape", attributes="allowzero")
def _reshape(node: Node, a: list[Any], xp: Any) -> Any:
    shape = integers(a[1], "shape")
    if not node.get("allowzero", 0):
        shape = [a[0].shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return xp.reshape(a[0], tuple(shape))


@operator("Transpose", attributes="perm")
def _transpose(node: Node, a: list[Any], xp: Any) -> Any:
    return xp.transpose(a[0], node.get("perm"))


@operator("Squeeze", attributes="axes")
def _squeeze(node: Node, a: list[Any], xp: Any) -> Any:
    axes = axes_of(node, a)
    return xp.squeeze(a[0], None if axes is None else tuple(axes))


@operator("Unsqueeze", attributes="axes")
def _unsqueeze(node: Node, a: list[Any], xp: Any) -> Any:
    return xp.expand_dims(a[0], tuple(axes_of(node, a) or ()))


@operator("Concat", attributes="axis")
def _concat(node: Node, a: list[Any], xp: Any) -> Any:
    return xp.concatenate(a, axis=node.get("axis", 0))


@operator("Slice", attributes="starts ends axes")
def _slice(node: Node, a: list[Any], xp: Any) -> Any:
    def given(name: str, place: int) -> list[int] | None:
        if len(a) > place and a[place] is not None:
            return integers(a[place], name)
        value = node.get(name)
        return None if value is None else list(value)

    starts, ends = given("starts", 1) or [], given("ends", 2) or []
    axes = given("axes", 3) or list(range(len(starts)))
    steps = given("steps", 4) or [1] * len(starts)
    cuts = [slice(None)] * a[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # an end before the first element, of a step back, is -size - 1 or less
        before = step < 0 and end < -a[0].shape[axis]
        cuts[axis] = slice(start, None if before else end, step)
    return a[0][tuple(cuts)]


@operator("Pad", attributes="mode pads value")
def _pad(node: Node, a: list[Any], xp: Any) -> Any:
    if node.get("mode", "constant") != "constant":
        raise FormatError(f"the mode {node.get('mode')!r} is not supported; expected 'constant'")
    pads = integers(a[1], "pads") if len(a) > 1 else list(node.get("pads", ()))
    value = scalar(a[2], "value") if len(a) > 2 and a[2] is not None else node.get("value", 0.0)
    axes = integers(a[3], "axes") if len(a) > 3 and a[3] is not None else range(a[0].ndim)
    half, widths = len(pads) // 2, [(0, 0)] * a[0].ndim
    for axis, low, high in zip(axes, pads[:half], pads[half:], strict=True):
        widths[axis] = low, high
    if min(map(min, widths)) < 0 or max(map(max, widths)) > _WIDEST:
        raise FormatError(f"the pads {pads} are not supported; expected 0 to {_WIDEST}")
    return xp.pad(a[0], widths, constant_values=value)


@operator("Gather", attributes="axis")
def _gather(node: Node, a: list[Any], xp: Any) -> Any:
    axis = node.get("axis", 0) % a[0].ndim
    if xp is np:
        return np.asarray(np.take(a[0], a[1], axis=axis))
    # as slices: linear, and known to all that read programs
    size, indices = a[0].shape[axis], np.asarray(integers(a[1], "indices"), np.int64)
    if indices.size > _MOST_SLICES or not ((indices >= -size) & (indices < size)).all():
        raise FormatError(f"expected at most {_MOST_SLICES} indices below {size}")
    parts = [lax.slice_in_dim(a[0], i % size, i % size + 1, axis=axis) for i in indices.tolist()]
    shape = (*a[0].shape[:axis], *a[1].shape, *a[0].shape[axis + 1 :])
    return jnp.reshape(jnp.concatenate(parts, axis), shape)


@operator("Shape", attributes="start end")
def _shape(node: Node, a: list[Any], xp: Any) -> Any:
    return np.asarray(a[0].shape[node.get("start", 0) : node.get("end")], np.int64)
