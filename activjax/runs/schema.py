"""A plain mapping becomes an instance of a frozen dataclass, or a list of problems in words.

pydantic checks the types (strictly: no `true` for an integer, no text for a number); what it
finds is re-worded here for somebody who is looking at a YAML file.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from activjax.runs import fields
from activjax.runs._words import did_you_mean, show

Location = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and the path of keys where it is."""

    path: Location
    message: str


def read(cls: type, data: dict[str, Any]) -> tuple[Any, list[Problem]]:
    """Build `cls` from plain values.

    Args:
        cls: a frozen dataclass; its fields may be nested dataclasses, unions of them told apart
            by a `kind: Literal[...]` field, `Literal`, `Enum`, `Optional`, tuples, lists, dicts.
        data: what the file holds for it.

    Returns:
        The instance and no problems, or None and the problems found.
    """
    import pydantic

    value = None
    try:
        adapter = _adapter(cls)
        # in JSON mode strict types accept what a file can hold: lists for tuples, text for enums
        value = adapter.validate_json(json.dumps(data))
        # once more, so that defaults are checked too and `lr: 1` equals a default of `1.0`
        data = plain(value)
        value = adapter.validate_json(json.dumps(data))
    except pydantic.ValidationError as error:
        return None, _reworded(cls, data, error.errors(include_url=False))
    except pydantic.errors.PydanticUserError as error:
        reason = str(error).splitlines()[0]
        return None, [Problem((), f"{cls.__name__} has a field no file can fill: {reason}")]
    problems = [
        Problem(path, f"expected {expected}, got {show(item)}")
        for path, expected, item in fields.out_of_bounds(value)
    ]
    return (None if problems else value), problems


@functools.cache  # a sweep reads thousands of configs of one class
def _adapter(cls: type) -> Any:
    import pydantic

    for nested in (cls, *_dataclasses_in(cls)):
        if "__pydantic_config__" not in vars(nested):
            type.__setattr__(
                nested, "__pydantic_config__", pydantic.ConfigDict(strict=True, extra="forbid")
            )
    return pydantic.TypeAdapter(cls)


def plain(value: Any) -> Any:
    """A config instance as JSON values (dataclasses to dicts, tuples to lists, enums to values)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(v) for v in value)
    return str(value) if isinstance(value, Path) else value


def keys(cls: type) -> list[str]:
    """The keys a file may give for `cls`."""
    return [f.name for f in dataclasses.fields(cls) if f.init]


_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "none_required": "null",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
    "path_type": "a path",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than_equal": ("ge", ">="),
    "greater_than": ("gt", ">"),
    "less_than_equal": ("le", "<="),
    "less_than": ("lt", "<"),
}


def _expected(error: Any) -> str:
    kind, ctx = error["type"], error.get("ctx") or {}
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind in _BOUNDS:
        key, sign = _BOUNDS[kind]
        return f"a value {sign} {ctx[key]}"
    if kind in ("literal_error", "enum"):
        return f"one of {ctx['expected'].replace(' or ', ', ')}"
    if kind == "too_short":
        return f"at least {ctx['min_length']} values"
    if kind == "too_long":
        return f"at most {ctx['max_length']} values"
    return error["msg"].removeprefix("Input should be ")


def _reworded(cls: type, data: Any, errors: list[Any]) -> list[Problem]:
    wanted: dict[Location, list[str]] = {}  # branches of one union complain about one place
    got: dict[Location, Any] = {}
    said: dict[tuple[Location, str], None] = {}
    for error in errors:
        place = _Place(cls, data)
        hidden = not all(place.enter(part) for part in error["loc"])
        if hidden:
            continue
        path, kind = tuple(place.path), error["type"]
        if kind == "missing":
            what = place.describe_missing()
            said[(path[:-1], what)] = None
        elif kind in ("unexpected_keyword_argument", "extra_forbidden"):
            said[(path, place.describe_unknown())] = None
        elif kind in ("value_error", "assertion_error"):  # raised by a Config's own check
            said[(path, str(error["ctx"]["error"]))] = None
        elif kind.startswith("union_tag"):
            said[(path, error["msg"])] = None
        else:
            expected = _expected(error)
            if expected not in wanted.setdefault(path, []):
                wanted[path].append(expected)
            got[path] = place.data
    problems = []
    for path, options in wanted.items():
        text = f"expected {_either(options)}, got {show(got[path])}"
        problems.append(Problem(path, text + _nearest_choice(options, got[path])))
    return problems + [Problem(path, text) for path, text in said]


def _either(options: list[str]) -> str:
    """Join what the branches of a union expect; several `one of` become one."""
    choices = [option[7:] for option in options if option.startswith("one of ")]
    others = [option for option in options if not option.startswith("one of ")]
    return " or ".join(others + (["one of " + ", ".join(choices)] if choices else []))


def _nearest_choice(options: list[str], value: Any) -> str:
    choices = [c.strip("' ") for o in options if o.startswith("one of ") for c in o[7:].split(",")]
    return did_you_mean(value, choices) if isinstance(value, str) else ""


_PLAIN = {"str", "int", "float", "bool"}  # pydantic's names of union branches that take no mapping


class _Place:
    """Follows one of pydantic's locations, in which names of union branches sit among the keys."""

    def __init__(self, cls: type, data: Any):
        self.types: list[type] = [cls]  # the dataclasses that may stand here
        self.hint: Any = cls
        self.data: Any = data
        self.path: list[str | int] = []
        self.parent: type | None = None
        self.only_kind = False

    def enter(self, part: str | int) -> bool:
        """Go one step down; False if the step leads into a branch that `kind` has not chosen."""
        branch = [t for t in self.types if t.__name__ == part and len(self.types) > 1]
        if branch:
            chosen = _chosen(self.types, self.data)
            if chosen is not None and chosen is not branch[0]:
                return False
            if chosen is None and isinstance(self.data, dict):
                if "kind" in self.data:  # an unknown kind: only the complaint about it is kept
                    self.only_kind = True
                    return True
                nearest = max(self.types, key=lambda t: len(set(keys(t)) & set(self.data)))
                if nearest is not branch[0]:
                    return False
            self.types = branch
            return True
        if isinstance(self.data, dict) and self.types and part in _PLAIN - set(self.data):
            return False  # a mapping is meant for the branches that take one
        if self.only_kind and part != "kind":
            return False
        self.only_kind = False
        if isinstance(self.data, dict) and isinstance(part, str):
            owner = next((t for t in self.types if part in keys(t)), None)
            known = part in self.data
            if not known and owner is None and self.types == []:
                return True  # a branch label of a union of plain types
            self.parent = owner or (self.types[0] if self.types else None)
            self.path.append(part)
            self.data = self.data.get(part)
            self._descend(typing.get_type_hints(owner)[part] if owner else None)
        elif isinstance(self.data, list) and isinstance(part, int):
            self.path.append(part)
            self.data = self.data[part] if part < len(self.data) else None
            self._descend(self.hint)
        return True

    def _descend(self, hint: Any) -> None:
        self.hint = hint
        self.types = list(_dataclasses_of(hint)) if hint is not None else []

    def describe_missing(self) -> str:
        name = self.path[-1]
        if isinstance(name, int):
            return f"expected at least {name + 1} values"
        hint = typing.get_type_hints(self.parent).get(name) if self.parent else None
        kind = f" ({type_words(hint)})" if hint is not None else ""
        return f"missing key '{name}'{kind}"

    def describe_unknown(self) -> str:
        known = keys(self.parent) if self.parent else []
        near = did_you_mean(str(self.path[-1]), known)
        return f"unknown key{near} (keys: {', '.join(known)})"


def type_words(hint: Any) -> str:
    """A type annotation as people write it: `int`, `tuple[int, ...]`, `int | None`."""
    if typing.get_origin(hint) is typing.Annotated:
        return type_words(typing.get_args(hint)[0])
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    if isinstance(hint, types.UnionType):
        return " | ".join(map(type_words, typing.get_args(hint))).replace("NoneType", "None")
    return str(hint).replace("typing.", "")


def _chosen(types: list[type], data: Any) -> type | None:
    """The dataclass of a union that the `kind` given in the data names."""
    kind = data.get("kind") if isinstance(data, dict) else None
    for cls in types:
        if kind is not None and kind in typing.get_args(typing.get_type_hints(cls).get("kind")):
            return cls
    return None


def _dataclasses_of(hint: Any) -> Iterator[type]:
    """The dataclasses that an annotation may hold, one level deep."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
        return
    for arg in typing.get_args(hint):
        yield from _dataclasses_of(arg)


def _dataclasses_in(cls: type, seen: set[type] | None = None) -> Iterator[type]:
    """Every dataclass below `cls`, at any depth."""
    seen = set() if seen is None else seen
    for hint in typing.get_type_hints(cls).values():
        for nested in _dataclasses_of(hint):
            if nested not in seen:
                seen.add(nested)
                yield nested
                yield from _dataclasses_in(nested, seen)
