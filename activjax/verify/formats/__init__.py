"""Files of verification: ONNX networks, VNN-LIB properties, APTP proofs."""

from activjax.verify.formats._aptp_read import read_tree as read_tree
from activjax.verify.formats._aptp_write import write_tree as write_tree
from activjax.verify.formats._graph import Graph as Graph
from activjax.verify.formats._join import read_problem as read_problem
from activjax.verify.formats._literals import literal_text as literal_text
from activjax.verify.formats._numbers import decimal_text as decimal_text
from activjax.verify.formats._onnx import Onnx as Onnx, read_onnx as read_onnx
from activjax.verify.formats._sexpr import FormatError as FormatError
from activjax.verify.formats._vnnlib import (
    Statement as Statement,
    read_property as read_property,
)
