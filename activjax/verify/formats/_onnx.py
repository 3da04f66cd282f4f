"""ONNX files as functions of JAX, read without ONNX's own library."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from activjax.verify.formats._fold import Network, folded
from activjax.verify.formats._graph import Graph
from activjax.verify.formats._operators import OPERATORS
from activjax.verify.formats._protobuf import Message
from activjax.verify.formats._sexpr import FormatError
from activjax.verify.formats._tensors import DOUBLE, FLOAT, Node, read_node, read_tensor

_FIRST_OPSET = 7


@dataclass(frozen=True)
class Onnx:
    """A network from a file.

    Attributes:
      graph: `graph(params, x)` for one example.
      params: float32 arrays by name.
      output_shape: as the graph returns it.
      digest: `sha256:` of the file.
    """

    graph: Graph
    params: dict[str, np.ndarray]
    output_shape: tuple[int, ...]
    digest: str


def read_onnx(path: Path) -> Onnx:
    """Reads a network with one input and one output of float32.

    What depends on constants alone is computed here, in the types of the file; batch normalisation
    becomes a scale and a shift, rounded once to float32.

    Raises:
      FormatError: a file that is cut off or damaged, an operator, type or shape that is not
        supported; the message names node or tensor.
    """
    data = path.read_bytes()
    label = path.name
    model = Message(memoryview(data), label)
    if not model.messages(7, "graph"):
        raise FormatError(f"{label}: holds no graph; is it an ONNX file?")
    for opset in model.messages(8, "opset"):
        if opset.text(1) in ("", "ai.onnx") and opset.integer(2) < _FIRST_OPSET:
            raise FormatError(f"{label}: operator set {opset.integer(2)}; expected "
                              f"{_FIRST_OPSET} or later: convert the network")  # fmt: skip
    network = folded(_network(model.message(7, "graph"), label), label)
    names = _safe(list(network.params))
    graph = Graph(
        network.input,
        network.output,
        network.shape,
        tuple(network.nodes),
        tuple(
            (name, value.dtype.name, value.shape, tuple(value.reshape(-1).tolist()))
            for name, value in network.settings.items()
        ),
        tuple(names.items()),
        label,
    )
    params = {names[name]: value for name, value in network.params.items()}
    example = jax.ShapeDtypeStruct(graph.example, np.float32)
    out = jax.eval_shape(graph, params, example)
    if out.dtype != np.float32:
        raise FormatError(f"{label}: the output has type {out.dtype}; expected float32")
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return Onnx(graph, params, out.shape, digest)


def _network(graph: Message, label: str) -> Network:
    if 15 in graph:
        raise FormatError(f"{label}: sparse tensors are not supported; save them dense")
    tensors = [read_tensor(item) for item in graph.messages(5, "tensor")]
    constants, nodes = dict(tensors), []
    if len(constants) < len(tensors):
        raise FormatError(f"{label}: two tensors have the same name")
    for message in graph.messages(1, "node"):
        node, tensor = read_node(message)
        if node.op == "Constant":
            constants[node.outputs[0]] = _constant(node, tensor, label)
        else:
            nodes.append(node)
    inputs = [item for item in graph.messages(11, "input") if item.text(1) not in constants]
    outputs = graph.messages(12, "output")
    for found, what in ((inputs, "input"), (outputs, "output")):
        if len(found) != 1:
            names = ", ".join(repr(item.text(1)) for item in found) or "none"
            raise FormatError(f"{label}: {len(found)} {what}s ({names}); networks with one {what} "
                              "are supported")  # fmt: skip
    name, output = inputs[0].text(1), outputs[0].text(1)
    if not name or not output:
        raise FormatError(f"{label}: the input or output has no name")
    nodes = _needed(nodes, name, output, set(constants), label)
    return Network(name, output, _shape(inputs[0], label), nodes, constants, {}, {})


def _needed(nodes: list[Node], name: str, output: str, known: set[str], label: str) -> list[Node]:
    """The nodes that the output needs; all of them are supported and in order."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    kept.reverse()
    known = known | {name, ""}
    for node in kept:
        if node.op not in OPERATORS:
            supported = ", ".join(sorted({*OPERATORS, "Constant"}))
            raise FormatError(f"{label}: {node}: the operator {node.op} is not supported; "
                              f"supported are {supported}")  # fmt: skip
        for value in node.inputs:
            if value not in known:
                raise FormatError(f"{label}: {node} reads {value!r}, which no node before it "
                                  "computes")  # fmt: skip
        for value in node.outputs[1:]:
            if value in wanted:
                raise FormatError(f"{label}: {node}: its output {value!r} is not supported; only "
                                  "the first output is")  # fmt: skip
        if node.outputs[0] in known:
            raise FormatError(f"{label}: {node}: {node.outputs[0]!r} is computed twice")
        known.add(node.outputs[0])
    if output not in known:
        raise FormatError(f"{label}: no node computes the output {output!r}")
    return kept


def _constant(node: Node, tensor: np.ndarray | None, label: str) -> np.ndarray:
    if tensor is not None:
        return tensor
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32),
                        ("value_int", np.int64), ("value_ints", np.int64)):  # fmt: skip
        if node.get(name) is not None:
            return np.asarray(node.get(name), dtype)
    raise FormatError(f"{label}: {node}: holds no tensor and no numbers")


def _shape(message: Message, label: str) -> tuple[int, ...]:
    name, tensor = message.text(1), message.message(2, "type").message(1, "tensor type")
    kind = tensor.integer(1)
    if kind != FLOAT:
        what = "float64" if kind == DOUBLE else f"type {kind}"
        raise FormatError(f"{label}: the input {name!r} has {what}; expected float32: convert the "
                          "network")  # fmt: skip
    sizes = []
    for axis, dim in enumerate(tensor.message(2, "shape").messages(1, "dimension")):
        size = dim.integer(1)
        if size < 1 and axis:
            raise FormatError(f"{label}: axis {axis} of the input {name!r} has no fixed size; "
                              "export with fixed shapes")  # fmt: skip
        sizes.append(max(size, 1))  # a batch that is left open is one example
    return tuple(sizes)


def _safe(names: list[str]) -> dict[str, str]:
    """Names of letters, digits, points and lines, all different."""
    out: dict[str, str] = {}
    for name in names:
        stem = safe = re.sub(r"[^A-Za-z0-9_.]", "_", name) or "_"
        count = 1
        while safe in out.values():
            count += 1
            safe = f"{stem}_{count}"
        out[name] = safe
    return out
