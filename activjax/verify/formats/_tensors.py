"""Nodes, attributes and constant tensors of ONNX."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from activjax.verify.formats._protobuf import Message
from activjax.verify.formats._sexpr import FormatError

# ONNX's TensorProto.DataType: dtype, and the field of a TensorProto for elements that are not raw
_DTYPES: dict[int, tuple[Any, int]] = {
    1: (np.float32, 4), 2: (np.uint8, 5), 3: (np.int8, 5), 6: (np.int32, 5), 7: (np.int64, 7),
    9: (np.bool_, 5), 11: (np.float64, 10),
}  # fmt: skip
_NAMES = {
    4: "uint16", 5: "int16", 8: "string", 10: "float16", 12: "uint32", 13: "uint64",
    14: "complex64", 15: "complex128", 16: "bfloat16",
}  # fmt: skip
FLOAT, DOUBLE = 1, 11
_MOST_AXES = 32


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
      op: its operator.
      inputs: names of values; "" where an optional one is left out.
      outputs: names; only the first is ever computed.
      attributes: by name.
      name: for messages.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Any], ...] = ()
    name: str = field(default="", compare=False)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return dict(self.attributes).get(name, default)

    def __str__(self) -> str:
        return f"node {self.name or self.outputs[0]!r} ({self.op})"


def read_node(message: Message) -> tuple[Node, np.ndarray | None]:
    """A node, and the tensor among its attributes.

    Raises:
      FormatError: an attribute that is no number, text or tensor.
    """
    attributes, tensor = [], None
    domain = message.text(7)
    op = message.text(4) if domain in ("", "ai.onnx") else f"{domain}.{message.text(4)}"
    for item in message.messages(5, "attribute"):
        name = item.text(1)
        kind = item.integer(20)
        if kind == 1 or (not kind and 2 in item):
            value: Any = (item.floats(2) or [0.0])[-1]
        elif kind == 2 or (not kind and 3 in item):
            value = item.integer(3)
        elif kind == 3 or (not kind and 4 in item):
            value = item.text(4)
        elif kind == 4 or (not kind and 5 in item):
            tensor, value = read_tensor(item.message(5, "tensor"))[1], None
        elif kind == 6 or (not kind and 7 in item):
            value = tuple(item.floats(7))
        elif kind == 7 or (not kind and 8 in item):
            value = tuple(item.integers(8))
        else:
            value = "an attribute of another kind"
        attributes.append((name, value))
    outputs = tuple(message.texts(2))
    if not any(outputs[:1]):
        raise FormatError(f"{message.what} {message.text(3)!r} ({op}) has no output")
    node = Node(op, tuple(message.texts(1)), outputs, tuple(sorted(attributes)), message.text(3))
    return node, tensor


def read_tensor(message: Message) -> tuple[str, np.ndarray]:
    """Name and elements of a constant.

    Raises:
      FormatError: elements of an unknown type, elsewhere than in the file, or not as many as the
        shape says.
    """
    name = message.text(8)
    what = f"{message.what} {name!r}"
    kind, dims = message.integer(2), message.integers(1)
    if kind not in _DTYPES:
        raise FormatError(f"{what} has elements of type {_NAMES.get(kind, kind)}, which is not "
                          "supported; convert the network to float32")  # fmt: skip
    if message.integer(14) == 1 or 13 in message:
        raise FormatError(f"{what} is stored in another file, which is not supported; save the "
                          "network as one file")  # fmt: skip
    if any(size < 0 for size in dims) or len(dims) > _MOST_AXES:
        raise FormatError(f"{what} has the shape {dims}; expected up to {_MOST_AXES} sizes")
    dtype, number = _DTYPES[kind]
    raw = message.data(9)
    if raw is not None:
        stored = np.dtype(dtype).newbyteorder("<")
        if len(raw) != math.prod(dims) * stored.itemsize:
            raise FormatError(f"{what} has {len(raw)} bytes, expected {math.prod(dims)} elements "
                              f"of {stored.itemsize}: its shape is {dims}")  # fmt: skip
        return name, np.frombuffer(raw, stored).astype(dtype).reshape(dims)
    if number in (4, 10):
        elements: Any = message.floats(number, double=number == 10)
    else:
        elements = message.integers(number)
    if len(elements) != math.prod(dims):
        raise FormatError(f"{what} has {len(elements)} elements, expected {math.prod(dims)}: its "
                          f"shape is {dims}")  # fmt: skip
    return name, np.asarray(elements).astype(dtype).reshape(dims)
