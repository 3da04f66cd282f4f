"""What a network computes of its constants alone, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from activjax.verify.formats._graph import evaluate
from activjax.verify.formats._operators import check_kinds
from activjax.verify.formats._sexpr import FormatError
from activjax.verify.formats._tensors import Node

# operands that are part of the program: bounds of Clip, the value of Pad, Dropout's mode
_SETTINGS = {"Clip": (1, 2), "Pad": (2,), "Dropout": (1, 2)}


@dataclass
class Network:
    """A network on its way to a `Graph`.

    Attributes:
      input, output: names.
      shape: of the input.
      nodes: that depend on the input, once folded.
      constants: of the file; empty once folded.
      params: the constants that are float32.
      settings: those that are shapes, axes, or bounds of Clip.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    nodes: list[Node]
    constants: dict[str, np.ndarray]
    params: dict[str, np.ndarray]
    settings: dict[str, np.ndarray]


def folded(network: Network, label: str) -> Network:
    """The network without nodes whose operands are all constant.

    Raises:
      FormatError: a constant that is neither float32 nor integers, or batch normalisation that
        cannot be folded.
    """
    constants, nodes = dict(network.constants), []
    for node in network.nodes:
        if node.op == "BatchNormalization":
            node = _scale_and_shift(node, constants, label)
        if all(name in constants or not name for name in node.inputs):
            values: dict[str, Any] = dict(constants)
            evaluate(node, values, label)
            constants[node.outputs[0]] = np.asarray(values[node.outputs[0]])
        else:
            nodes.append(node)
    settings = {
        name
        for node in nodes
        for place, name in enumerate(node.inputs)
        if place in _SETTINGS.get(node.op, ())
    }
    used = {name for node in nodes for name in node.inputs} | {network.output}
    params, static = {}, {}
    for name in sorted(used & constants.keys()):
        value = constants[name]
        if np.issubdtype(value.dtype, np.integer) or value.dtype == np.bool_ or name in settings:
            if np.isnan(value).any():
                raise FormatError(f"{label}: the tensor {name!r} has NaN numbers")
            static[name] = value
        elif value.dtype == np.float32:
            params[name] = value
        else:
            raise FormatError(f"{label}: the tensor {name!r} has type {value.dtype}; expected "
                              "float32: convert the network")  # fmt: skip
    return Network(network.input, network.output, network.shape, nodes, {}, params, static)


def _scale_and_shift(node: Node, constants: dict[str, np.ndarray], label: str) -> Node:
    """Batch normalisation as `x * scale + shift`."""
    try:
        check_kinds(node)
    except FormatError as error:
        raise FormatError(f"{label}: {node}: {error}") from None
    if node.get("training_mode", 0) or not node.get("spatial", 1):
        raise FormatError(f"{label}: {node}: expected inference (training_mode 0, spatial 1)")
    if len(node.inputs) != 5 or not set(node.inputs[1:]) <= constants.keys():
        raise FormatError(f"{label}: {node}: its scale, bias, mean and variance have to be "
                          "constant")  # fmt: skip
    shapes = {constants[name].shape for name in node.inputs[1:]}
    if len(shapes) != 1 or len(*shapes) != 1:
        raise FormatError(f"{label}: {node}: its scale, bias, mean and variance have shapes "
                          f"{sorted(shapes)}; expected one number for each channel")  # fmt: skip
    scale, bias, mean, variance = (constants[n].astype(np.float64) for n in node.inputs[1:])
    with np.errstate(all="ignore"):  # what is not finite is refused with the problem, by name
        scale = (scale / np.sqrt(variance + node.get("epsilon", 1e-5))).astype(np.float32)
        shift = (bias - mean * scale.astype(np.float64)).astype(np.float32)
    names = f"{node.outputs[0]}.scale", f"{node.outputs[0]}.shift"
    constants |= dict(zip(names, (scale, shift), strict=True))
    return Node(node.op, (node.inputs[0], *names), node.outputs, (), node.name)
