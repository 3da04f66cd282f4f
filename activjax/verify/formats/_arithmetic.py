"""ONNX's operators of arithmetic."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from activjax.verify.formats._registry import axes_of, operator, scalar
from activjax.verify.formats._sexpr import FormatError
from activjax.verify.formats._tensors import FLOAT, Node

_LARGEST = float(np.finfo(np.float32).max)


@operator("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum")
def _elementwise(node: Node, a: list[Any], xp: Any) -> Any:
    names = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide",
             "Max": "maximum", "Min": "minimum", "Sum": "add"}  # fmt: skip
    op = names[node.op]
    if op == "divide" and np.issubdtype(a[0].dtype, np.integer):
        op = "floor_divide"  # of shapes, which are not negative
    return functools.reduce(getattr(xp, op), a)


@operator("Neg", "Abs")
def _sign(node: Node, a: list[Any], xp: Any) -> Any:
    return xp.negative(a[0]) if node.op == "Neg" else xp.abs(a[0])


@operator("Relu")
def _relu(node: Node, a: list[Any], xp: Any) -> Any:
    return np.maximum(a[0], 0) if xp is np else jax.nn.relu(a[0])


@operator("LeakyRelu", attributes="alpha")
def _leaky_relu(node: Node, a: list[Any], xp: Any) -> Any:
    alpha = node.get("alpha", 0.01)
    if xp is np:
        return np.where(a[0] < 0, np.float32(alpha) * a[0], a[0])
    return jax.nn.leaky_relu(a[0], alpha)


@operator("Clip", attributes="min max")
def _clip(node: Node, a: list[Any], xp: Any) -> Any:
    low, high = (
        node.get(name) if len(a) <= place or a[place] is None else scalar(a[place], name)
        for name, place in (("min", 1), ("max", 2))
    )
    out = a[0]
    if low is not None and low > -_LARGEST:
        out = xp.maximum(out, low)
    if high is not None and high < _LARGEST:
        out = xp.minimum(out, high)
    return out


@operator("MatMul")
def _matmul(node: Node, a: list[Any], xp: Any) -> Any:
    return np.matmul(*a) if xp is np else jnp.matmul(*a, precision="highest")


@operator("Gemm", attributes="alpha beta transA transB")
def _gemm(node: Node, a: list[Any], xp: Any) -> Any:
    if not a[0].ndim == a[1].ndim == 2:
        raise FormatError(f"its operands have {a[0].ndim} and {a[1].ndim} axes; expected 2")
    left, right = (0 if node.get("transA", 0) else 1), (1 if node.get("transB", 0) else 0)
    if xp is np:
        out = np.tensordot(a[0], a[1], (left, right))
    else:
        out = lax.dot_general(a[0], a[1], (((left,), (right,)), ((), ())), precision="highest")
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    out = out if alpha == 1 else out * alpha
    if len(a) < 3 or a[2] is None or beta == 0:
        return out
    return out + (a[2] if beta == 1 else a[2] * beta)


@operator("Identity", "Dropout", attributes="ratio seed")
def _identity(node: Node, a: list[Any], xp: Any) -> Any:
    if node.op == "Dropout" and len(a) > 2 and a[2] is not None and bool(scalar(a[2], "mode")):
        raise FormatError("dropout in training mode is not supported; export for inference")
    return a[0]


@operator("Cast", attributes="to saturate")
def _cast(node: Node, a: list[Any], xp: Any) -> Any:
    if xp is jnp:
        if node.get("to") != FLOAT:
            raise FormatError(f"a cast to the type {node.get('to')} is not supported; expected "
                              f"float32 ({FLOAT})")  # fmt: skip
        return a[0]
    types = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64}
    return a[0].astype(types[node.get("to")])


@operator("GlobalAveragePool")
def _global_average_pool(node: Node, a: list[Any], xp: Any) -> Any:
    axes = tuple(range(2, a[0].ndim))
    return _mean(a[0], axes, True, xp)


@operator("ReduceSum", "ReduceMean", attributes="axes keepdims noop_with_empty_axes")
def _reduce(node: Node, a: list[Any], xp: Any) -> Any:
    axes = axes_of(node, a)
    if not axes and node.get("noop_with_empty_axes", 0):
        return a[0]
    along, keep = tuple(axes or range(a[0].ndim)), bool(node.get("keepdims", 1))
    if node.op == "ReduceSum":
        return xp.sum(a[0], axis=along, keepdims=keep)
    return _mean(a[0], along, keep, xp)


@operator("BatchNormalization")
def _scale_and_shift(node: Node, a: list[Any], xp: Any) -> Any:
    """As it is once folded: `x * scale + shift` along axis 1."""
    shape = (-1, *[1] * (a[0].ndim - 2))
    return a[0] * xp.reshape(a[1], shape) + xp.reshape(a[2], shape)


def _mean(x: Any, axes: tuple[int, ...], keep: bool, xp: Any) -> Any:
    count = math.prod(x.shape[axis] for axis in axes)
    return xp.sum(x, axis=axes, keepdims=keep) / float(count)
