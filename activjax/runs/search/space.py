"""The space of a search: for every key a distribution, as it stands in the file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from activjax.runs._words import did_you_mean, show
from activjax.runs.schema import Location, Problem
from activjax.runs.sweep import _values

KINDS = ("log", "uniform", "int", "choice")


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One key that is searched.

    Attributes:
        kind: of `KINDS`.
        values: the two ends, or the choices.
    """

    kind: str
    values: tuple[Any, ...]

    def probes(self) -> list[Any]:
        """Values that the experiment must accept, for all others to be plausible."""
        if self.kind == "choice":
            return list(self.values)
        low, high = self.values
        if self.kind == "int":
            return [low, (low + high) // 2, high]
        return [low, math.sqrt(low * high) if self.kind == "log" else (low + high) / 2, high]

    def holds(self, value: Any) -> bool:
        """Whether a value can be suggested."""
        if self.kind == "choice":
            return any(same(value, choice) for choice in self.values)
        right = isinstance(value, int if self.kind == "int" else (int, float))
        return right and not isinstance(value, bool) and self.values[0] <= value <= self.values[1]

    def encode(self, value: Any) -> Any:
        """A value as Optuna is told it: numbers as they are, a choice by its place."""
        if self.kind == "choice":
            return next(i for i, choice in enumerate(self.values) if same(value, choice))
        return value if self.kind == "int" else float(value)

    def decode(self, value: Any) -> Any:
        """The inverse of `encode`."""
        return self.values[value] if self.kind == "choice" else value

    def distribution(self) -> Any:
        """Optuna's."""
        from optuna import distributions  # pyright: ignore

        if self.kind == "choice":
            return distributions.CategoricalDistribution(tuple(range(len(self.values))))
        if self.kind == "int":
            return distributions.IntDistribution(*self.values)
        return distributions.FloatDistribution(*self.values, log=self.kind == "log")


def same(a: Any, b: Any) -> bool:
    """Equality of values in a config."""
    return _values.frozen(a) == _values.frozen(b)


def read(data: Any, known: Sequence[str]) -> tuple[dict[str, Dimension], list[Problem]]:
    """Read the mapping `space:`.

    Args:
        data: key -> `{log: [a, b]}`, `{uniform: [a, b]}`, `{int: [a, b]}` or `{choice: [...]}`.
        known: the keys of the experiment's `Config`.

    Returns:
        What could be read, and what is wrong with the rest.
    """
    problems: list[Problem] = []
    if not isinstance(data, dict) or not data:
        text = f"expected a mapping from keys to distributions, got {show(data)}"
        return {}, [Problem((), text)]
    found: dict[str, Dimension] = {}
    for key, value in data.items():
        if problem := _values.key_problem(str(key), known):
            problems.append(Problem((key,), problem))
        elif (other := _values.clash(key, found)) is not None:
            problems.append(Problem((key,), f"'{key}' and '{other}' overlap: search one of them"))
        elif (dimension := _dimension(value, (key,), problems)) is not None:
            found[key] = dimension
    return found, problems


def _dimension(data: Any, path: Location, problems: list[Problem]) -> Dimension | None:
    example = "one of {log: [1e-4, 1e-1]}, {uniform: [0, 1]}, {int: [1, 4]}, {choice: [a, b]}"
    if not isinstance(data, dict) or len(data) != 1:
        problems.append(Problem(path, f"expected {example}, got {show(data)}"))
        return None
    ((kind, values),) = data.items()
    path = (*path, kind)
    before = len(problems)
    if kind not in KINDS:
        text = f"unknown distribution{did_you_mean(kind, KINDS)} (expected {example})"
        problems.append(Problem(path, text))
    elif kind == "choice":
        choices = _values.plain(values, path, problems)
        if len({json.dumps(c, sort_keys=True) for c in choices}) < len(choices):
            problems.append(Problem(path, "a choice is given twice"))
    else:
        _ends(kind, values, path, problems)
    if len(problems) > before:
        return None
    return Dimension(kind, tuple(values if kind in ("choice", "int") else map(float, values)))


def _ends(kind: str, values: Any, path: Location, problems: list[Problem]) -> None:
    types = int if kind == "int" else (int, float)
    right = isinstance(values, (list, tuple)) and len(values) == 2 and all(
        isinstance(v, types) and not isinstance(v, bool) and math.isfinite(v) for v in values
    )  # fmt: skip
    what = "integers" if kind == "int" else "numbers"
    if not right:
        problems.append(Problem(path, f"expected two {what} [low, high], got {show(values)}"))
    elif not values[0] < values[1]:
        problems.append(Problem(path, f"expected low < high, got {show(values)}"))
    elif kind == "log" and values[0] <= 0:
        problems.append(Problem(path, f"expected a low end above zero, got {values[0]}"))


def point_of(space: Mapping[str, Dimension], params: Mapping[str, Any]) -> dict[str, Any]:
    """What Optuna suggested, as values of config keys, in the order of the file."""
    return {key: dimension.decode(params[key]) for key, dimension in space.items()}
