"""From a YAML file and `key=value` overrides to a checked `RunConfig`."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.runs import _yaml, contract, schema, sources
from activjax.runs._words import did_you_mean, dotted, show
from activjax.runs.contract import Experiment
from activjax.runs.errors import ConfigError

SETTINGS = ("experiment", "name", "seeds", "checkpoint_seconds")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*$")
_MAX_SEED = 2**32
_MOST_SEEDS = 100_000  # cells of one run: more is a slip of the finger


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A run that can be started: every default filled in, everything checked.

    Attributes:
        name: the folder under `runs/`.
        experiment: the loaded experiment.
        config: an instance of its `Config`.
        seeds: distinct seeds, one cell each.
        checkpoint_seconds: at most this long is lost by a kill; does not change numbers.
        source: hash of the sources (activjax's and the experiment's).
        id: 12 hex digits over config, seeds, sources and data files.
    """

    name: str
    experiment: Experiment
    config: Any
    seeds: tuple[int, ...]
    checkpoint_seconds: float
    source: str
    id: str

    def as_yaml(self, experiment: str) -> dict[str, Any]:
        """The whole config as a mapping that reads back to this run."""
        return {
            "experiment": experiment,
            "name": self.name,
            "seeds": list(self.seeds),
            "checkpoint_seconds": self.checkpoint_seconds,
            **schema.plain(self.config),
        }


def load(config: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """Read a config file (or a mapping with the same keys) and apply overrides.

    Args:
        config: path of a YAML file, or a mapping; a mapping needs `name`, and its experiment's
            path is relative to the working directory.
        overrides: `key=value`, nested `model.width=32`, list positions `layers.0=8`; the value is
            read as in a file.

    Raises:
        ConfigError: with one line per problem: file and line (or override), key, what was
            expected, what is there, the nearest valid key.
    """
    data, folder, reader = opened(config, overrides)
    return reader.read(data, folder, default_name(config))


def default_name(config: str | Path | Mapping[str, Any]) -> str | None:
    """The name of a run that is given none: the file's."""
    return None if isinstance(config, Mapping) else Path(config).stem


def experiment_of(path: str | Path) -> Experiment:
    """The experiment that a config file names, whatever else is in the file.

    Raises:
        ConfigError: as `load`.
    """
    data, folder, reader = opened(path)
    return reader.experiment(data, folder)


def opened(
    config: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> tuple[dict[str, Any], Path | None, Reader]:
    """What a config says after its overrides, the folder that paths are relative to, its reader.

    Raises:
        ConfigError: no file, not YAML, no mapping, or an override that fits nowhere.
    """
    if isinstance(config, Mapping):
        data, folder, reader = copy.deepcopy(dict(config)), None, Reader("config", {})
    else:
        path = Path(config)
        data, lines = _yaml.read_file(path)
        if data is None:
            raise ConfigError(f"{path}: the file is empty, expected at least `experiment:`")
        if not isinstance(data, dict):
            raise ConfigError(f"{path}: expected `key: value` lines, got {show(data)}")
        folder, reader = path.parent, Reader(str(path), lines)
    for text in overrides:
        _override(data, text, reader.given)
    return data, folder, reader


class Reader:
    """Collects the problems of one config, each with its place."""

    def __init__(self, source: str, lines: _yaml.Lines):
        self.source, self.lines = source, lines
        self.given: dict[tuple[str | int, ...], str] = {}  # path -> the override that set it
        self.problems: list[tuple[int, str]] = []
        self._once: set[tuple] = set()

    def read(self, data: dict, folder: Path | None, default_name: str | None) -> RunConfig:
        """The run that `data` describes. Raises `ConfigError`."""
        experiment = self.experiment(data, folder)
        for kind in ("sweep", "search"):
            if kind in data:
                self.add((kind,), f"this describes a {kind}: start it with `activjax {kind}`")
                self.fail()
        run_name, seeds, seconds = self.settings(data, default_name)
        value = self.config(experiment, self.own(data, experiment))
        self.fail()
        digest = sources.source_hash(experiment.path)
        run_id = sources.run_id(
            {"seeds": list(seeds), **schema.plain(value)}, digest, data_hash(experiment, value)
        )
        return RunConfig(run_name, experiment, value, seeds, seconds, digest, run_id)

    def settings(self, data: dict, default_name: str | None) -> tuple[str, tuple[int, ...], float]:
        """Name, seeds and seconds between checkpoints."""
        return (
            self._run_name(data.get("name", default_name)),
            self._seeds(data.get("seeds", 1)),
            self._seconds(data.get("checkpoint_seconds", 20)),
        )

    def own(self, data: dict, experiment: Experiment) -> dict[str, Any]:
        """What is meant for the experiment's `Config`; keys that nobody knows are problems."""
        others = (*SETTINGS, "sweep", "search")
        own = {key: value for key, value in data.items() if key not in others}
        known = [*schema.keys(experiment.Config), *SETTINGS]
        for key in [key for key in own if key not in known]:
            del own[key]
            self.add(
                (key,),
                f"unknown key{did_you_mean(str(key), known)} "
                f"(keys of {experiment.label}: {', '.join(schema.keys(experiment.Config))}; "
                f"of every run: {', '.join(SETTINGS)})",
            )
        return own

    def config(self, experiment: Experiment, own: dict[str, Any]) -> Any:
        """An instance of `Config`; what is wrong with it are problems."""
        value, problems = schema.read(experiment.Config, own)
        for problem in problems:
            self.add(problem.path, problem.message)
        return value

    def experiment(self, data: dict, folder: Path | None) -> Experiment:
        """The experiment that `data` names. Raises `ConfigError`."""
        name = data.get("experiment")
        if not isinstance(name, str) or not name:
            if "experiment" in data:
                self.add(("experiment",), f"expected a module or .py path, got {show(name)}")
            else:
                near = [key for key in data if did_you_mean(str(key), ["experiment"])]
                hint = f"; is '{near[0]}' meant?" if near else ""
                self.add((), f"missing key 'experiment' (a module or .py path){hint}")
            self.fail()
        try:
            return contract.load(str(name), folder)
        except ConfigError as error:
            raise ConfigError(f"{self.place(('experiment',))}: {error}") from None

    def _run_name(self, name: Any) -> str:
        if isinstance(name, str) and _NAME.match(name):
            return name
        wanted = "letters, digits and _ . + - (it names a folder)"
        if name is None:
            self.add((), f"missing key 'name' ({wanted})")
        else:
            self.add(("name",), f"expected {wanted}, got {show(name)}")
        return ""

    def _seeds(self, seeds: Any) -> tuple[int, ...]:
        wanted = f"a number of seeds from 1 to {_MOST_SEEDS} or a list of distinct integers >= 0"
        if isinstance(seeds, int) and not isinstance(seeds, bool) and 1 <= seeds <= _MOST_SEEDS:
            return tuple(range(seeds))
        if isinstance(seeds, (list, tuple)) and seeds:
            for i, seed in enumerate(seeds):
                if isinstance(seed, bool) or not isinstance(seed, int):
                    self.add(("seeds", i), f"expected an integer, got {show(seed)}")
                elif not 0 <= seed < _MAX_SEED:
                    self.add(("seeds", i), f"expected 0 <= seed < 2**32, got {seed}")
                elif seed in seeds[:i]:
                    self.add(("seeds", i), f"seed {seed} is given twice")
            return tuple(seeds)
        self.add(("seeds",), f"expected {wanted}, got {show(seeds)}")
        return ()

    def _seconds(self, value: Any) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
            return float(value)
        self.add(("checkpoint_seconds",), f"expected a number >= 0, got {show(value)}")
        return 0.0

    def place(self, path: tuple[str | int, ...]) -> str:
        """File and line (or override) of the deepest known part of a path."""
        for depth in range(len(path), -1, -1):
            if path[:depth] in self.given:
                return f"override `{self.given[path[:depth]]}`"
            if depth and path[:depth] in self.lines:
                return f"{self.source}:{self.lines[path[:depth]]}"
        return self.source

    def add(self, path: tuple[str | int, ...], message: str) -> None:
        """Note a problem at a path of the config."""
        line = next(
            (self.lines[path[:d]] for d in range(len(path), 0, -1) if path[:d] in self.lines), 0
        )
        key = f"{dotted(path)}: " if path else ""
        self.problems.append((line, f"{self.place(path)}: {key}{message}"))

    def add_once(self, path: tuple[str | int, ...], message: str) -> None:
        """Note a problem that a sweep may meet in every cell, the first time only."""
        if (path, message) not in self._once:
            self._once.add((path, message))
            self.add(path, message)

    def fail(self) -> None:
        """Raise `ConfigError` with everything noted so far, in the order of the file."""
        if self.problems:
            ordered = sorted(self.problems, key=lambda problem: problem[0])
            raise ConfigError("\n".join(text for _, text in ordered))


def _override(data: dict[str, Any], text: str, given: dict[tuple, str]) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"override `{text}`: expected key=value, such as seeds=3")
    if key == "experiment":
        raise ConfigError(f"override `{text}`: the experiment is chosen by the config file")
    parts = key.split(".")
    here: Any = data
    path: list[str | int] = []
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if isinstance(here, list):
            if not part.isdecimal() or int(part) >= len(here):
                raise ConfigError(
                    f"override `{text}`: {dotted(path)} is a list of {len(here)}; "
                    f"expected a position 0..{len(here) - 1}, got '{part}'"
                )
            index: Any = int(part)
        elif isinstance(here, dict):
            index = part
            if not last and not isinstance(here.get(part), (dict, list)):
                here[part] = {}
        else:
            raise ConfigError(f"override `{text}`: {dotted(path)} has no keys inside it")
        path.append(index)
        if last:
            if tuple(path) in given:
                raise ConfigError(
                    f"override `{text}`: {dotted(path)} is given twice, first as "
                    f"`{given[tuple(path)]}`"
                )
            here[index] = _yaml.read_text(value, f"override `{text}`")[0]
            given[tuple(path)] = text
        else:
            here = here[index]


def data_hash(experiment: Experiment, config: Any) -> str | None:
    """Hash of the data files that a config names; None where the experiment has none.

    Raises:
        ConfigError: one cannot be read, or `data_files` raised.
    """
    data_files = experiment.function("data_files")
    if data_files is None:
        return None
    with contract.guarded(experiment, "data_files"):
        try:
            return sources.data_hash(data_files(config))
        except ConfigError as error:
            raise ConfigError(f"{experiment.label}: {error}") from None
        except OSError as error:
            raise ConfigError(
                f"{experiment.label}: data_files: cannot read {error.filename}: {error.strerror}"
            ) from None
