"""Fields of an experiment's `Config`: which are traced, what they may be, how `hp` is built.

A *traced* field enters the compiled program as a scalar argument, so a sweep over it shares one
program; every other field is static and may decide shapes.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import typing
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

_KEY = "activjax"
_MISSING = dataclasses.MISSING


@dataclasses.dataclass(frozen=True)
class FieldInfo:
    """Bounds, choices and help of one field, as declared by `traced` or `static`."""

    traced: bool = False
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    choices: tuple | None = None
    help: str = ""

    def expected(self) -> str:
        """The bounds or choices in words; empty if there are none."""
        if self.choices is not None:
            return "one of " + ", ".join(repr(c) for c in self.choices)
        signs = ((">=", self.ge), (">", self.gt), ("<=", self.le), ("<", self.lt))
        bounds = [f"{sign} {bound}" for sign, bound in signs if bound is not None]
        return "a value " + " and ".join(bounds) if bounds else ""

    def accepts(self, value: Any) -> bool:
        """Whether `value` lies within the bounds (NaN never does) and among the choices."""
        if self.choices is not None and value not in self.choices:
            return False
        if value is None:  # an Optional field: its type has been checked already
            return True
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )


def traced(
    default: Any = _MISSING,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    help: str = "",
) -> Any:
    """Declare a `float`, `int` or `bool` field of `Config` that `init`/`step` read from `hp`.

    `setup` cannot read it: what depends on it would be fixed when a sweep varies it.

    Args:
        default: value when the config file does not give one; required there without it.
        ge, gt, le, lt: bounds, checked when the config is read.
        help: one line for people.
    """
    info = FieldInfo(traced=True, ge=ge, gt=gt, le=le, lt=lt, help=help)
    return dataclasses.field(default=default, metadata={_KEY: info})


def static(
    default: Any = _MISSING,
    *,
    default_factory: Any = _MISSING,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: tuple | list | None = None,
    help: str = "",
) -> Any:
    """Declare a static field of `Config` with bounds or choices; arguments as in `traced`."""
    info = FieldInfo(False, ge, gt, le, lt, None if choices is None else tuple(choices), help)
    if default_factory is not _MISSING:
        return dataclasses.field(default_factory=default_factory, metadata={_KEY: info})
    return dataclasses.field(default=default, metadata={_KEY: info})


def info_of(field: dataclasses.Field) -> FieldInfo:
    """What was declared for `field`; nothing for a plain dataclass field."""
    return field.metadata.get(_KEY, FieldInfo())


def out_of_bounds(value: Any, path: tuple = ()) -> Iterator[tuple[tuple, str, Any]]:
    """Every (path, expected, value) of a config instance that breaks its declared bounds."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            item, info = getattr(value, field.name), info_of(field)
            if not info.accepts(item):
                yield (*path, field.name), info.expected(), item
            yield from out_of_bounds(item, (*path, field.name))
    elif isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            yield from out_of_bounds(item, (*path, i))


def misdeclared(cls: type) -> str | None:
    """Why the traced fields of `Config` cannot be traced, or None if they can."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if info_of(field).traced and hints[field.name] not in (float, int, bool):
            kind = getattr(hints[field.name], "__name__", hints[field.name])
            return (
                f"field '{field.name}' is traced but has type {kind}; "
                "only float, int and bool can be traced"
            )
        nested: Any = hints[field.name]
        if dataclasses.is_dataclass(nested) and (problem := misdeclared(nested)):  # type: ignore
            return f"{field.name}: {problem}"
    return None


def traced_values(config: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The traced fields of a config, nested dataclasses included: path -> value."""
    values: dict[tuple[str, ...], Any] = {}
    for field in dataclasses.fields(config):
        item = getattr(config, field.name)
        if info_of(field).traced:
            values[(*path, field.name)] = item
        elif dataclasses.is_dataclass(item):
            values.update(traced_values(item, (*path, field.name)))
    return values


def hyper(config: Any, leaf: Any) -> Any:
    """The `hp` of an experiment: a NamedTuple of its traced fields, nested like the config.

    Args:
        config: an instance of `Config`.
        leaf: called as `leaf(path, value)` for every traced field; gives the leaf.
    """
    return _hyper(config, leaf, ())


def _hyper(config: Any, leaf: Any, path: tuple[str, ...]) -> Any:
    names, leaves = [], []
    for field in dataclasses.fields(config):
        item, here = getattr(config, field.name), (*path, field.name)
        if info_of(field).traced:
            names.append(field.name)
            leaves.append(leaf(here, item))
        elif dataclasses.is_dataclass(item) and traced_values(item):
            names.append(field.name)
            leaves.append(_hyper(item, leaf, here))
    return _hp_type(tuple(names))(*leaves)


@functools.cache  # one class per shape, so that the tree structures are equal
def _hp_type(names: tuple[str, ...]) -> type:
    return namedtuple("hp", names)


def hide_traced(config: Any, path: str = "") -> Any:
    """A copy of the config whose traced fields raise when used: what `setup` is given."""
    clone = copy.copy(config)
    for field in dataclasses.fields(config):
        item, here = getattr(config, field.name), f"{path}{field.name}"
        if info_of(field).traced:
            object.__setattr__(clone, field.name, TracedField(here))
        elif dataclasses.is_dataclass(item) and traced_values(item):
            object.__setattr__(clone, field.name, hide_traced(item, here + "."))
    return clone


class TracedField:
    """Stands in for a traced field during `setup`: any use of its value raises `TypeError`."""

    def __init__(self, name: str):
        self._name = name

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            f"'{self._name}' is a traced field: its value is in hp.{self._name}, inside init, "
            "step and measure; setup and static cannot depend on it (else declare it static)"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _refuse
    __pow__ = __rpow__ = __neg__ = __abs__ = __float__ = __int__ = __bool__ = _refuse
    __index__ = __lt__ = __le__ = __gt__ = __ge__ = __array__ = __jax_array__ = _refuse
    __eq__ = _refuse  # type: ignore[assignment]
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<traced field {self._name}>"
