"""A strict reader of the YAML that people write: values with the line each of them came from.

YAML 1.2's plain scalars (`1e-3` is a number, `no` is text, `010` is ten), no duplicate keys, no
tags, no merge keys.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from activjax.runs.errors import ConfigError

_INT = re.compile(r"[-+]?[0-9][0-9_]*$")
_HEX = re.compile(r"0(x[0-9a-fA-F]+|o[0-7]+|b[01]+)$")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_INF = re.compile(r"[-+]?\.(inf|Inf|INF)$")
_WORDS = {"true": True, "True": True, "false": False, "False": False}
_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))
_NULLS = ("", "~", "null", "Null", "NULL")

Lines = dict[tuple[str | int, ...], int]


def read_file(path: Path) -> tuple[Any, Lines]:
    """Read one YAML file.

    Returns:
        The value, and the 1-based line of every path (keys and list positions) in it.

    Raises:
        ConfigError: no such file, a folder, not UTF-8 text, or not YAML; says where.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_nearest_file(path)}") from None
    except IsADirectoryError:
        found = sorted(p.name for p in path.glob("*.y*ml"))
        hint = f"; it holds {', '.join(found[:5])}" if found else ""
        raise ConfigError(f"{path}: this is a folder, expected a YAML file{hint}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file (expected YAML in UTF-8)") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return read_text(text, str(path))


def read_text(text: str, source: str) -> tuple[Any, Lines]:
    """Read YAML text; `source` names it in errors. Returns and raises as `read_file`."""
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{source}{at}: not valid YAML: {reason}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from None
    lines: Lines = {}
    value = None if node is None else _Builder(source, lines).build(node, ())
    return value, lines


def dump(data: Any) -> str:
    """YAML text that `read_text` reads back to equal values."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that only our reader takes for numbers, such as 1e-3; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(scalar(text), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


class _Builder:
    def __init__(self, source: str, lines: Lines):
        self.source, self.lines = source, lines
        self.open: set[int] = set()

    def build(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if node.tag not in _TAGS:  # BaseLoader resolves nothing: any other tag is in the file
            self.refuse(node, f"tags are not supported, got {node.tag}")
        if isinstance(node, yaml.ScalarNode):
            return node.value if node.style is not None else scalar(node.value)
        if id(node) in self.open:
            self.refuse(node, "an alias refers to the value it is part of")
        self.open.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            value = [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        else:
            value = self.mapping(node, path)
        self.open.discard(id(node))
        return value

    def mapping(self, node: Any, path: tuple[str | int, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.refuse(key_node, "a key must be plain text")
            key = key_node.value
            if key == "<<":
                self.refuse(key_node, "merge keys ('<<') are not supported: write the keys out")
            if key in result:
                first = self.lines[(*path, key)]
                self.refuse(key_node, f"key '{key}' is given twice (first in line {first})")
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            result[key] = self.build(value_node, (*path, key))
        return result

    def refuse(self, node: yaml.Node, message: str) -> None:
        raise ConfigError(f"{self.source}:{node.start_mark.line + 1}: {message}")


def scalar(text: str) -> Any:
    """A plain (unquoted) scalar by the rules above: null, bool, int, float or text."""
    if text in _NULLS:
        return None
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    if _HEX.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        return float(text)
    if _INF.match(text):
        return float(text.replace(".", "", 1))
    if text in (".nan", ".NaN", ".NAN"):
        return float("nan")
    return text


def _nearest_file(path: Path) -> str:
    from activjax.runs._words import did_you_mean

    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    if folder != path.parent:
        return f" (there is no folder {path.parent})"
    return did_you_mean(path.name, [p.name for p in folder.glob("*.y*ml")])
