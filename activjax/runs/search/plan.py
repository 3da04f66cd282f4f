"""From a config with a `search:` section to a search that can be started, everything checked."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from activjax.runs import config as configs, schema, sources
from activjax.runs.contract import Experiment
from activjax.runs.errors import ConfigError
from activjax.runs.fields import static
from activjax.runs.search import space as spaces
from activjax.runs.search.space import Dimension
from activjax.runs.sweep import plan as sweeps
from activjax.runs.sweep._values import MISSING, look_up
from activjax.runs.sweep.plan import Cell, SweepPlan, laid

Direction = Literal["maximize", "minimize"]


@dataclasses.dataclass(frozen=True)
class Prune:
    """When a trial is given up.

    Attributes:
        metric: of the training, one number a step; its mean over the seeds is compared.
        at: steps at which trials are compared.
        direction: of the metric.
        rule: halving: only the better half of those at a step goes on; median: what is worse than
            the median of the finished trials at that step ends.
        startup: finished trials before the median rule prunes.
    """

    metric: str
    at: tuple[int, ...]
    direction: Direction = "minimize"
    rule: Literal["halving", "median"] = "halving"
    startup: int = static(4, ge=0)

    def __post_init__(self) -> None:
        if not self.at or self.at[0] < 1 or list(self.at) != sorted(set(self.at)):
            raise ValueError(f"at: expected ascending steps from 1, got {list(self.at)}")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The `search:` section.

    Attributes:
        objective: name of a row of the experiment's summary; its mean over the seeds counts.
        direction: of the objective.
        trials: how many; more may be asked for later.
        space: key -> distribution.
        where: settings of the row, where several have the name.
        sampler: which of Optuna's suggests.
        seed: of the sampler.
        parallel: trials that are asked for before any of them is told.
        prune: None: every trial runs to its end.
    """

    objective: str
    direction: Direction
    trials: int = static(ge=1, le=100_000)
    space: dict[str, Any] = dataclasses.field(default_factory=dict)
    where: dict[str, str | int | float | bool] = dataclasses.field(default_factory=dict)
    sampler: Literal["tpe", "random", "cmaes"] = "tpe"
    seed: int = static(0, ge=0, le=2**32 - 1)
    parallel: int = static(1, ge=1, le=10_000)
    prune: Prune | None = None


@dataclasses.dataclass(frozen=True)
class SearchPlan:
    """A search that can be started.

    Attributes:
        name, experiment, definition, seeds, checkpoint_seconds, source, exact: as in `SweepPlan`.
        settings: the section.
        space: what is searched, in the order of the file.
        defaults: the config's own values of the searched keys: trial 0.
        own: the config's values that are not searched.
        id: 12 hex digits; the number of trials is no part of it, so that more can be added.
    """

    name: str
    experiment: Experiment
    definition: dict[str, Any]
    seeds: tuple[int, ...]
    checkpoint_seconds: float
    source: str
    exact: bool
    settings: Settings
    space: dict[str, Dimension]
    defaults: dict[str, Any]
    own: dict[str, Any]
    id: str

    def cells(self, point: Mapping[str, Any]) -> tuple[Cell, ...]:
        """The cells of a trial, one a seed. Raises `ConfigError` where no config has this point."""
        config, problems = schema.read(self.experiment.Config, laid(self.own, point))
        if problems:
            raise ConfigError(problems[0].message)
        return sweeps.cells_of(self.experiment, [(dict(point), config)], self.seeds)

    def sweep(self, cells: Sequence[Cell]) -> SweepPlan:
        """The plan that a sweep of these cells would have."""
        return SweepPlan(
            self.name, self.experiment, self.definition, self.seeds, self.checkpoint_seconds,
            self.source, tuple(self.space), tuple({c.id: c for c in cells}.values()), 0,
            self.exact, self.id,
        )  # fmt: skip

    @functools.cached_property
    def default_in_space(self) -> bool:
        """Whether the sampler can be told of trial 0."""
        return all(dim.holds(self.defaults[key]) for key, dim in self.space.items())


def load(
    config: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, exact: bool = False
) -> SearchPlan:
    """Read a config with a `search:` section.

    Args:
        config: path of a YAML file, or a mapping with the same keys.
        overrides: `key=value`; `search.trials=80` reaches the section.
        exact: every cell in a program of its own, bit-equal to `activjax run`.

    Raises:
        ConfigError: with one line per problem, as for a run; or Optuna is not installed.
    """
    data, folder, reader = configs.opened(config, overrides)
    experiment = reader.experiment(data, folder)
    name, seeds, seconds = reader.settings(data, configs.default_name(config))
    own = reader.own(data, experiment)
    settings = _settings(reader, data)
    space, problems = spaces.read(
        settings.space if settings else {"": {}}, schema.keys(experiment.Config)
    )
    for problem in problems if settings else ():
        reader.add(("search", "space", *problem.path), problem.message)
    reader.fail()
    assert settings is not None
    defaults = _defaults(reader, experiment, own, space)
    _try(reader, experiment, own, space, defaults)
    if settings.prune and (not experiment.traced or experiment.function("cases")):
        reader.add(
            ("search", "prune"), "expected an experiment with setup, init, step, finish and "
            f"without cases; {experiment.label} is none: leave `prune` out",
        )  # fmt: skip
    reader.fail()
    _installed(settings)
    source = sources.source_hash(experiment.path)
    of_defaults, _ = schema.read(experiment.Config, laid(own, defaults))
    what = {**schema.plain(settings), "trials": None, "seeds": list(seeds), "exact": exact,
            "config": own}  # fmt: skip
    return SearchPlan(
        name, experiment, data, seeds, seconds, source, exact, settings, space, defaults, own,
        sources.run_id(what, source, configs.data_hash(experiment, of_defaults)),
    )  # fmt: skip


def _settings(reader: configs.Reader, data: dict[str, Any]) -> Settings | None:
    if "sweep" in data:
        reader.add(("sweep",), "a config is either a sweep or a search: leave one of them out")
    section = data.get("search")
    if not isinstance(section, dict):
        wanted = "expected a mapping with objective, direction, trials and space"
        reader.add(("search",), f"{wanted} (a `search:` section says what `activjax search` does)")
        return None
    settings, problems = schema.read(Settings, section)
    for problem in problems:
        reader.add(("search", *problem.path), problem.message)
    return settings


def _defaults(
    reader: configs.Reader,
    experiment: Experiment,
    own: dict[str, Any],
    space: Mapping[str, Dimension],
) -> dict[str, Any]:
    """The config's own values of the searched keys."""
    base = {**sweeps.defaults(experiment.Config), **own}
    found = {key: look_up(key, {}, base) for key in space}
    for key, value in found.items():
        if value is MISSING:
            text = f"'{key}' has no default: give one in the config, trial 0 runs with it"
            reader.add(("search", "space", key), text)
    return found


def _try(
    reader: configs.Reader,
    experiment: Experiment,
    own: dict[str, Any],
    space: Mapping[str, Dimension],
    defaults: dict[str, Any],
) -> None:
    """Read configs at the ends of every distribution, the other keys at their defaults."""
    if MISSING in defaults.values():
        return
    _, wrong = schema.read(experiment.Config, laid(own, defaults))
    for problem in wrong:
        reader.add_once(problem.path or (), problem.message)
    for key, dimension in space.items():
        for value in [] if wrong else dimension.probes():
            _, problems = schema.read(experiment.Config, laid(own, {**defaults, key: value}))
            for problem in problems:
                reader.add_once(
                    ("search", "space", key), f"at {key}={json.dumps(value)}: {problem.message}"
                )


def _installed(settings: Settings) -> None:
    for package, needed in (("optuna", True), ("cmaes", settings.sampler == "cmaes")):
        if needed and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"search: the package {package} is not installed; "
                '`pip install "activjax[search]"` brings it'
            )


def trial_key(point: Mapping[str, Any]) -> str:
    """Equal for equal points."""
    return hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()
