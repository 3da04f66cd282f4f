"""All operators of ONNX that are supported: importing their files enters them."""

from activjax.verify.formats import _arithmetic, _moving, _windows
from activjax.verify.formats._registry import OPERATORS, check_kinds, run

__all__ = ["OPERATORS", "check_kinds", "run"]

_FILES = (_arithmetic, _moving, _windows)
