"""`read_problem`: a network and a property as one problem."""

from __future__ import annotations

import math
from pathlib import Path

from activjax.verify._problem import Problem
from activjax.verify.formats._onnx import read_onnx
from activjax.verify.formats._sexpr import FormatError
from activjax.verify.formats._vnnlib import read_property


def read_problem(onnx: Path, vnnlib: Path) -> Problem:
    """The problem of an ONNX network and a VNN-LIB property.

    `<` and `>` in the property are read as `<=` and `>=`: the unsafe set is larger by its border,
    so what is proved holds, and a witness may lie on the border. Floating point types that the
    property declares are taken as real numbers.

    Raises:
      FormatError: a file that is not what its format asks for, or a property whose inputs or
        outputs are not those of the network.
      ValueError: a network with parameters that are not finite.
    """
    network, stated = read_onnx(onnx), read_property(vnnlib)
    shapes = network.graph.shape, network.output_shape
    counts = stated.inputs, stated.outputs
    for place, what in enumerate(("input", "output")):
        shape, count = shapes[place], counts[place]
        said = f"{count} {what}s" if count > 1 else f"{count} {what}"
        declared = stated.shapes[place] if stated.shapes else None
        if math.prod(shape) != count or (declared and _long(declared) != _long(shape)):
            said = f"an {what} of shape {list(declared)}" if declared else said
            raise FormatError(f"{vnnlib.name} declares {said}, the network {onnx.name} has "
                              f"{math.prod(shape)}, of shape {list(shape)}; do the files belong "
                              "together?")  # fmt: skip
        if stated.types[place] not in ("real", "float32"):
            raise FormatError(f"{vnnlib.name} declares an {what} of {stated.types[place]}, the "
                              f"network {onnx.name} has float32")  # fmt: skip
    return Problem(
        network.graph,
        network.params,
        network.graph.example,
        stated.outputs,
        stated.cases,
        network.digest,
        f"{onnx.name} · {vnnlib.name}",
    )


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes with more than one element."""
    return tuple(size for size in shape if size != 1)
