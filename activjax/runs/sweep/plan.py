"""From a config with a `sweep:` section to its cells, each named by a hash, in groups."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.runs import config as configs, contract, fields, schema, sources
from activjax.runs._words import dotted, show
from activjax.runs.contract import Experiment
from activjax.runs.errors import ConfigError
from activjax.runs.sweep import axes

_MOST_CELLS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Cell:
    """One config with one seed.

    Attributes:
        id: 12 hex digits, those of `activjax run` on this config with this one seed.
        group: 8 hex digits, equal for cells that differ in seed and traced fields only.
        seed: its seed.
        point: dotted key -> value, what the sweep sets.
        config: an instance of the experiment's `Config`.
        cost: how long it takes compared with others, as the experiment guesses.
    """

    id: str
    group: str
    seed: int
    point: dict[str, Any]
    config: Any
    cost: float = 0.0


@dataclasses.dataclass(frozen=True)
class SweepPlan:
    """A sweep that can be started: every cell read and checked.

    Attributes:
        name: the folder under the root.
        experiment: the loaded experiment.
        definition: the config file's mapping, with overrides, as it was given.
        seeds: of every point.
        checkpoint_seconds: at most this long is lost by a kill.
        source: hash of the sources of activjax and the experiment.
        keys: the swept keys.
        cells: in order, all seeds of a point together.
        merged: equal cells that were given more than once.
        exact: every cell in a program of its own.
        id: 12 hex digits over the cells and `exact`.
    """

    name: str
    experiment: Experiment
    definition: dict[str, Any]
    seeds: tuple[int, ...]
    checkpoint_seconds: float
    source: str
    keys: tuple[str, ...]
    cells: tuple[Cell, ...]
    merged: int
    exact: bool
    id: str

    @functools.cached_property
    def groups(self) -> dict[str, list[Cell]]:
        """Cells of equal static shape, in order of first appearance."""
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.group, []).append(cell)
        return found

    def axes(self) -> dict[str, list[Any]]:
        """The distinct values of every swept key, in order."""
        found: dict[str, dict[str, Any]] = {key: {} for key in self.keys}
        for cell in self.cells:
            for key, value in cell.point.items():
                found[key].setdefault(json.dumps(value), value)
        return {key: list(values.values()) for key, values in found.items()}


def load(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    exact: bool = False,
    name: str | None = None,
) -> SweepPlan:
    """Read a config and lay out its sweep; without a `sweep:` section its cells are its seeds.

    Args:
        config: path of a YAML file, or a mapping with the same keys.
        overrides: `key=value`, as for a run; `sweep.grid.width='[8, 16]'` reaches the axes.
        exact: every cell in a program of its own.
        name: what the sweep is called if the config does not say; None means the file's name.

    Raises:
        ConfigError: with one line per problem, as for a run; a value of an axis is blamed on the
            line of the axis.
    """
    data, folder, reader = configs.opened(config, overrides)
    experiment = reader.experiment(data, folder)
    called, seeds, seconds = reader.settings(data, name or configs.default_name(config))
    own = reader.own(data, experiment)
    space = _space(reader, data, own, experiment)
    reader.fail()
    assert space is not None
    if len(space.points) * len(seeds) > _MOST_CELLS:
        raise ConfigError(
            f"{reader.place(('sweep',))}: {len(space.points)} points with {len(seeds)} seeds are "
            f"more than {_MOST_CELLS} cells; sweep less"
        )
    read = [_read(reader, experiment, own, point, space) for point in space.points]
    reader.fail()
    cells = cells_of(experiment, list(zip(space.points, read)), seeds)
    text = json.dumps([[cell.id for cell in cells], exact])
    return SweepPlan(
        name=called,
        experiment=experiment,
        definition=data,
        seeds=seeds,
        checkpoint_seconds=seconds,
        source=sources.source_hash(experiment.path),
        keys=space.keys,
        cells=cells,
        merged=len(seeds) * (len(space.points) + space.merged) - len(cells),
        exact=exact,
        id=hashlib.sha256(text.encode()).hexdigest()[:12],
    )


def _space(
    reader: configs.Reader, data: dict[str, Any], own: dict[str, Any], experiment: Experiment
) -> axes.Space | None:
    if "sweep" not in data:
        return axes.Space(({},), 0, (), {})
    base = {**defaults(experiment.Config), **own}
    space, problems = axes.read(data["sweep"], base, schema.keys(experiment.Config))
    for problem in problems:
        reader.add(("sweep", *problem.path), problem.message)
    return space


def defaults(cls: type) -> dict[str, Any]:
    """What the config says where nobody says anything; conditions may ask for it."""
    found = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            found[field.name] = schema.plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = schema.plain(field.default_factory())
    return found


def _read(
    reader: configs.Reader,
    experiment: Experiment,
    own: dict[str, Any],
    point: dict[str, Any],
    space: axes.Space,
) -> Any:
    """The config of a point; what the sweep has set is blamed on its axis."""
    value, problems = schema.read(experiment.Config, laid(own, point))
    told = ", ".join(f"{key}={json.dumps(v)}" for key, v in point.items())
    for problem in problems:
        key = dotted(problem.path)
        axis = next((k for k in point if key == k or key.startswith((f"{k}.", f"{k}["))), None)
        if axis is not None:
            reader.add_once(("sweep", *space.where[axis]), f"{key}: {problem.message}")
        elif problem.path and problem.path[0] in own:
            reader.add_once(problem.path, problem.message)
        else:
            at = f"{key}: " if key else ""
            reader.add_once(("sweep",), f"{at}{problem.message} (at {told or 'the only point'})")
    return value


def laid(own: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config with those of a point (dotted keys) in their places.

    Raises:
        ConfigError: a key leads through a value that has no keys.
    """
    data = copy.deepcopy(dict(own))
    for key, value in point.items():
        _set(data, key, value)
    return data


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    here: Any = data
    *parents, last = key.split(".")
    for i, part in enumerate(parents):
        inner = here.setdefault(part, {}) if isinstance(here, dict) else None
        if not isinstance(inner, dict):
            where = ".".join(parents[: i + 1])
            raise ConfigError(f"sweep: {key}: {where} holds {show(inner)}, which has no keys")
        here = inner
    here[last] = value


def cells_of(
    experiment: Experiment, points: list[tuple[dict[str, Any], Any]], seeds: tuple[int, ...]
) -> tuple[Cell, ...]:
    """The cells of points, given with their configs: each with every seed, equal ones once."""
    source = sources.source_hash(experiment.path)
    found: dict[str, Cell] = {}
    for point, config in points:
        plain = schema.plain(config)
        data = configs.data_hash(experiment, config)
        group, cost = _group(plain, config, data), _cost(experiment, config)
        for seed in seeds:
            cell = sources.run_id({"seeds": [seed], **plain}, source, data)
            found.setdefault(cell, Cell(cell, group, seed, point, config, cost))
    return tuple(found.values())


def _cost(experiment: Experiment, config: Any) -> float:
    """What the experiment guesses; 0 where it does not."""
    guess = experiment.function("cost")
    if guess is None:
        return 0.0
    with contract.guarded(experiment, "cost"):
        value = float(guess(config))
    if not 0 <= value < math.inf:
        raise ConfigError(
            f"{experiment.label}: cost(config) returned {value:g}, expected a number of at least "
            "0: how long the cell takes compared with others"
        )
    return value


def _group(plain: dict[str, Any], config: Any, data: str | None) -> str:
    """The hash of what a program is compiled for: the config without its traced fields."""
    static = copy.deepcopy(plain)
    for *parents, last in fields.traced_values(config):
        here = static
        for part in parents:
            here = here[part]
        del here[last]
    text = json.dumps([static, data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
