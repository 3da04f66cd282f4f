"""Tiny ONNX networks, written without ONNX's library.

`python tests/verify/make_networks.py` writes those that are committed, in `data/`. What ONNX
Runtime computes of all of them is in `data/reference.json`; `python tests/verify/make_networks.py
FOLDER` writes all of them, for it to be made anew.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"
COMMITTED = ("mlp", "conv", "gap")
FLOAT, INT64 = 1, 7


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value) -> bytes:
    """A field; the wire type is that of the value."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name: str, array, *, raw: bool = True) -> bytes:
    array = np.asarray(array)
    kind = {np.dtype("f4"): 1, np.dtype("i8"): 7, np.dtype("f8"): 11}[array.dtype]
    out = b"".join(field(1, size) for size in array.shape) + field(2, kind) + field(8, name)
    if raw:
        return out + field(9, array.tobytes())
    if kind == INT64:
        return out + field(7, b"".join(varint(int(v)) for v in array.reshape(-1)))
    return out + field(4 if kind == FLOAT else 10, array.tobytes())


def attribute(name: str, value) -> bytes:
    """Kinds are those of AttributeProto.AttributeType."""
    if isinstance(value, float):
        return field(1, name) + field(2, value) + field(20, 1)
    if isinstance(value, int):
        return field(1, name) + field(3, value) + field(20, 2)
    if isinstance(value, str):
        return field(1, name) + field(4, value) + field(20, 3)
    if isinstance(value, np.ndarray):
        return field(1, name) + field(5, tensor("", value)) + field(20, 4)
    return field(1, name) + b"".join(field(8, v) for v in value) + field(20, 7)


def node(op: str, inputs: str, output: str, **attributes) -> bytes:
    """Inputs are separated by spaces; `-` leaves one out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    parts = [field(1, name) for name in names] + [field(2, name) for name in output.split()]
    parts += [field(3, f"{op}_{output}"), field(4, op)]
    return b"".join(parts + [field(5, attribute(k, v)) for k, v in attributes.items()])


def value_info(name: str, shape, kind: int = FLOAT) -> bytes:
    dims = b"".join(field(1, field(2 if isinstance(d, str) else 1, d)) for d in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def model(
    nodes, constants, shape, out, *, opset=13, listed=False, raw=True, kind=FLOAT, output="y"
) -> bytes:
    """A network from `x` to `y`.

    Args:
      nodes: from `node`.
      constants: arrays by name.
      shape: of the input.
      out: of the output.
      opset: of the operators.
      listed: whether constants are inputs as well, as old files have it.
      raw: whether constants are stored as bytes.
      kind: of the input's elements.
      output: its name.
    """
    graph = [field(1, n) for n in nodes] + [field(2, "network")]
    graph += [field(5, tensor(name, array, raw=raw)) for name, array in constants.items()]
    if listed:
        graph += [field(11, value_info(k, v.shape)) for k, v in constants.items()]
    graph += [field(11, value_info("x", shape, kind)), field(12, value_info(output, out))]
    opsets = field(8, field(1, "") + field(2, opset))
    return field(1, 7) + opsets + field(7, b"".join(graph))


def networks() -> dict[str, bytes]:
    """All of them, with the same weights at every call."""
    rng = np.random.default_rng(5)

    def some(*shape):
        return (rng.integers(-16, 17, shape) / 16).astype("f4")

    def ints(*values):
        return np.asarray(values, "i8")

    out = {}
    out["mlp"] = model(
        [
            node("Gemm", "x a b", "1", transB=1, alpha=1.0, beta=1.0),
            node("Relu", "1", "2"),
            node("Gemm", "2 c d", "3", transB=1, alpha=1.0, beta=1.0),
            node("Relu", "3", "4"),
            node("Gemm", "4 e f", "y", transB=1, alpha=1.0, beta=1.0),
        ],
        {"a": some(6, 3), "b": some(6), "c": some(5, 6), "d": some(5), "e": some(2, 5),
         "f": some(2)},
        [1, 3], [1, 2],
    )  # fmt: skip
    out["matmul"] = model(
        [
            node("Sub", "x mean", "1"),
            node("Flatten", "1", "2", axis=1),
            node("MatMul", "2 a", "3"),
            node("Add", "3 b", "4"),
            node("Relu", "4", "5"),
            node("MatMul", "5 c", "6"),
            node("Add", "6 d", "y"),
        ],
        {"mean": some(1, 1, 1, 5), "a": some(5, 4), "b": some(4), "c": some(4, 2), "d": some(2)},
        ["batch", 1, 1, 5], ["batch", 2], opset=8, listed=True, raw=False,
    )  # fmt: skip
    out["conv"] = model(
        [
            node("Conv", "x a b", "1", kernel_shape=[3, 3], pads=[1, 0, 1, 2], strides=[2, 1]),
            node("BatchNormalization", "1 s t m v", "2", epsilon=1e-3),
            node("Relu", "2", "3"),
            node("AveragePool", "3", "4", kernel_shape=[2, 2], strides=[1, 2], pads=[0, 1, 1, 0]),
            node("Conv", "4 c", "5", kernel_shape=[2, 2], group=2, dilations=[1, 2]),
            node("LeakyRelu", "5", "6", alpha=0.125),
            node("GlobalAveragePool", "6", "7"),
            node("Flatten", "7", "8"),
            node("Gemm", "8 d e", "y"),
        ],
        {"a": some(4, 2, 3, 3), "b": some(4), "s": some(4) + 1, "t": some(4), "m": some(4),
         "v": some(4) + 2, "c": some(6, 2, 2, 2), "d": some(6, 3), "e": some(3)},
        [1, 2, 7, 6], [1, 3],
    )  # fmt: skip
    out["same"] = model(
        [
            node("Conv", "x a", "1", kernel_shape=[3], auto_pad="SAME_UPPER", strides=[2]),
            node("Relu", "1", "2"),
            node("Conv", "2 b", "3", kernel_shape=[2], auto_pad="SAME_LOWER"),
            node("AveragePool", "3", "4", kernel_shape=[3], auto_pad="SAME_LOWER", strides=[2],
                 count_include_pad=1),
            node("Conv", "4 c", "5", auto_pad="VALID", kernel_shape=[2]),
            node("Reshape", "5 shape", "y"),
        ],
        {"a": some(3, 2, 3), "b": some(3, 3, 2), "c": some(2, 3, 2), "shape": ints(0, -1)},
        [1, 2, 9], [1, 4],
    )  # fmt: skip
    out["shapes"] = model(
        [
            node("Shape", "x", "s"),
            node("Gather", "s zero", "n"),
            node("Unsqueeze", "n axis", "n1"),
            node("Constant", "", "rest", value=ints(-1)),
            node("Concat", "n1 rest", "flat", axis=0),
            node("Transpose", "x", "1", perm=[0, 2, 1]),
            node("Reshape", "1 flat", "2"),
            node("Slice", "x starts ends axes steps", "3"),
            node("Pad", "3 pads value", "4"),
            node("Reshape", "4 flat", "5"),
            node("Gather", "x pick", "6", axis=2),
            node("Unsqueeze", "6 axis", "7"),
            node("Squeeze", "7 axis", "8"),
            node("Flatten", "8", "9"),
            node("Concat", "2 5 9", "y", axis=-1),
        ],
        {"zero": np.asarray(0, "i8"), "axis": ints(0), "starts": ints(-1, 0), "ends": ints(-99, 1),
         "axes": ints(2, 1), "steps": ints(-2, 1), "pads": ints(0, 1, 0, 0, 0, 2),
         "value": np.asarray(0, "f4"), "pick": ints(0, -1)},
        ["n", 2, 4], ["n", 20],
    )  # fmt: skip
    scalars = [
        node("Identity", "x", "1"),
        node("Neg", "1", "2"),
        node("Abs", "2", "3"),
        node("Max", "1 2 lines", "4"),
        node("Min", "3 4", "5"),
        node("Clip", "5 low high", "6"),
        node("LeakyRelu", "1", "7", alpha=0.25),
        node("Mul", "6 factor", "8"),
        node("Div", "8 three", "9"),
        node("Sum", "9 7 x", "10"),
        node("Dropout", "10", "11"),
        node("Cast", "11", "12", to=1),
        node("ReduceSum", "12 last", "13", keepdims=0),
        node("ReduceMean", "12", "14", axes=[-1], keepdims=0),
        node("Concat", "13 14", "y", axis=1),
    ]
    out["scalars"] = model(
        scalars,
        {"lines": some(3), "low": np.asarray(-0.5, "f4"), "high": np.asarray(0.75, "f4"),
         "factor": some(2, 1), "three": np.asarray(3, "f4"), "last": ints(-1)},
        [1, 2, 3], [1, 4],
    )  # fmt: skip
    out["folded"] = model(
        [
            node("Transpose", "a", "at"),
            node("Mul", "at two", "w"),
            node("Reshape", "b column", "bias"),
            node("Gemm", "w w", "square", transA=1),
            node("Gemm", "x w bias", "1", alpha=0.5, beta=2.0),
            node("Relu", "1", "2"),
            node("MatMul", "2 square", "3"),
            node("Clip", "1", "4"),
            node("Gemm", "4 3", "y", transA=1, beta=0.0),
        ],
        {"a": some(4, 3), "two": np.asarray(2, "f4"), "b": some(4), "column": ints(1, 4)},
        [1, 3], [4, 4],
    )  # fmt: skip
    eye = np.asarray([[1, 0, 1], [0, 1, 1]], "f4")
    out["gap"] = model(
        [
            node("MatMul", "x a", "1"),
            node("Relu", "1", "2"),
            node("MatMul", "2 b", "y"),
        ],
        {"a": eye, "b": np.asarray([[1], [1], [-1]], "f4")},
        [1, 2], [1, 1],
    )  # fmt: skip
    return out


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    for name, data in networks().items():
        if len(sys.argv) > 1 or name in COMMITTED:
            (folder / f"{name}.onnx").write_bytes(data)
