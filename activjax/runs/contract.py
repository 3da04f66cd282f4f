"""What an experiment module must define, and the loading and checking of one.

The traced contract (the runner batches, chunks, checkpoints and resumes):

    Config                                    a frozen dataclass
    setup(config) -> static                   host; static.steps, optionally .chunk, .measure_at
    init(static, hp, key) -> state            pure, one cell (a seed, one value per traced field)
    step(static, hp, state) -> (state, metrics)    pure; metrics: a dict of arrays
    measure(static, hp, state) -> tree        optional, pure; run at the steps static.measure_at
    finish(static, hp, states, out) -> Result host; states and hp have a leading cell axis

Optional: `cases(config) -> {name: Config}` (sub-configs of differing shapes, one program each)
with `combine(config, results, out) -> Result`; `data_files(config) -> paths` (their contents
enter the run's id); `sites(config) -> (f, args)` for `activjax sites`; `conclude(cells, out) ->
Result` makes the answer of a whole sweep from its finished cells (`sweep.CellResult`);
`cost(config) -> float`, how long a cell takes compared with others, lets the longest start first.

What cannot be batched defines `Config` and `main(config, out) -> Result` instead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from activjax.runs import fields
from activjax.runs._words import did_you_mean
from activjax.runs.errors import ConfigError, ExperimentError, RunError
from activjax.runs.sources import local_files

RESERVED = ("experiment", "name", "seeds", "checkpoint_seconds", "sweep", "search")

_TRACED = {
    "setup": ("config",),
    "init": ("static", "hp", "key"),
    "step": ("static", "hp", "state"),
    "finish": ("static", "hp", "states", "out"),
}
_OPTIONAL = {
    "measure": ("static", "hp", "state"),
    "cases": ("config",),
    "combine": ("config", "results", "out"),
    "data_files": ("config",),
    "sites": ("config",),
    "conclude": ("cells", "out"),
    "cost": ("config",),
}
_MAIN = {"main": ("config", "out")}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A loaded and checked experiment module.

    Attributes:
        label: how people call it: the file's name or the dotted module.
        path: its source file.
        module: the module itself.
        Config: its config class.
    """

    label: str
    path: Path
    module: ModuleType
    Config: type

    @property
    def traced(self) -> bool:
        """True for the traced contract, False for `main(config, out)`."""
        return not hasattr(self.module, "main")

    def function(self, name: str) -> Callable[..., Any] | None:
        """A function of the contract, or None where an optional one is not defined."""
        return getattr(self.module, name, None)


def load(name: str, folder: Path | None) -> Experiment:
    """Load the experiment that a config names.

    Args:
        name: a `.py` path relative to `folder`, or a dotted module of the Python environment.
        folder: the config file's folder; None means the working directory.

    Raises:
        ConfigError: not found (with the nearest name), raises when imported (with the part of
            the traceback that is its own), or does not fulfil the contract.
    """
    folder = folder or Path.cwd()
    if name.endswith(".py"):
        path = (folder / name).resolve()
        if not path.is_file():
            near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.py")])
            where = path.parent if path.parent.is_dir() else f"{path.parent} (no such folder)"
            raise ConfigError(f"experiment: no file {path.name} in {where}{near}")
        label, module = path.name, _import_file(path)
    else:
        label, module = name, _import_dotted(name, folder)
        if not getattr(module, "__file__", None):
            raise ConfigError(f"experiment: {name} is a package without source, expected a module")
        path = Path(str(module.__file__)).resolve()
    return check(Experiment(label, path, module, getattr(module, "Config", type(None))))


def check(experiment: Experiment) -> Experiment:
    """Return the experiment if it fulfils the contract, else raise `ConfigError`."""
    label, module, cls = experiment.label, experiment.module, experiment.Config
    if not (dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen):  # type: ignore
        raise ConfigError(f"{label}: Config must be a frozen dataclass (@dataclass(frozen=True))")
    for field in dataclasses.fields(cls):
        if field.name in RESERVED:
            raise ConfigError(
                f"{label}: Config.{field.name}: this name is reserved for the run's own settings "
                f"({', '.join(RESERVED)}); rename the field"
            )
    try:
        problem = fields.misdeclared(cls)
    except NameError as error:  # an annotation that exists for type checkers only
        problem = f"a type annotation cannot be read: {error}"
    if problem:
        raise ConfigError(f"{label}: Config: {problem}")
    has_main = hasattr(module, "main")
    found = [name for name in _TRACED if hasattr(module, name)]
    if has_main and found:
        raise ConfigError(
            f"{label}: defines main and also {', '.join(found)}: an experiment has either "
            "main(config, out), or setup, init, step and finish"
        )
    if not has_main and len(found) < len(_TRACED):
        missing = [_signature(name) for name in _TRACED if name not in found]
        what = f"{', '.join(found)} but not " if found else "neither main(config, out) nor "
        raise ConfigError(f"{label}: defines {what}{', '.join(missing)}")
    for name, wanted in {**(_MAIN if has_main else _TRACED), **_OPTIONAL}.items():
        if hasattr(module, name):
            _check_arity(label, getattr(module, name), name, wanted)
    return experiment


@contextlib.contextmanager
def running(experiment: Experiment, name: str) -> Iterator[None]:
    """Run the experiment's own code; what it raises becomes an `ExperimentError` that shows it."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        from activjax.hosts import Elsewhere  # later: looking must not wait for jax

        if isinstance(error, Elsewhere):
            raise
        text = user_traceback(error, experiment.path)
        raise ExperimentError(f"{experiment.label}: {name} raised\n{text}") from error


@contextlib.contextmanager
def guarded(experiment: Experiment, name: str) -> Iterator[None]:
    """Ask the experiment's own code about a config; what it raises becomes a `ConfigError`."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        text = user_traceback(error, experiment.path)
        raise ConfigError(f"{experiment.label}: {name}(config) raised:\n{text}") from None


def user_traceback(error: BaseException, path: Path) -> str:
    """The traceback from the experiment's own code on, without the frames that led there."""
    frames = traceback.extract_tb(error.__traceback__)
    folder = str(path.parent)
    first = next((i for i, f in enumerate(frames) if f.filename == str(path)), None)
    if first is None:
        inside = (i for i, f in enumerate(frames) if f.filename.startswith(folder))
        first = next(inside, len(frames))  # a syntax error has no frame of its own
    kept = [f for f in frames[first:] if "/jax/_src/" not in f.filename]
    text = "".join(traceback.format_list(kept) + traceback.format_exception_only(error))
    return text.partition("--------------------\nFor simplicity, JAX has removed")[0].rstrip()


def _signature(name: str) -> str:
    arguments = {**_TRACED, **_OPTIONAL, **_MAIN}[name]
    return f"{name}({', '.join(arguments)})"


def _check_arity(label: str, function: Any, name: str, wanted: tuple[str, ...]) -> None:
    if not callable(function):
        raise ConfigError(f"{label}: {name} must be a function {_signature(name)}")
    signature = inspect.signature(function)
    try:
        signature.bind(*wanted)
    except TypeError:
        raise ConfigError(
            f"{label}: {name} is defined as {name}{signature}, expected {_signature(name)}"
        ) from None


def _import_file(path: Path) -> ModuleType:
    files = {str(p) for p in local_files(path)}
    for name, module in list(sys.modules.items()):  # a second load in a notebook sees the edits
        if getattr(module, "__file__", None) in files:
            del sys.modules[name]
    _search_beside(path.parent)
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"activjax_experiment_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError(
            f"experiment: {path} cannot be imported:\n{user_traceback(error, path)}"
        ) from None
    return module


def _search_beside(folder: Path | None) -> None:
    """Let imports find what lies in the experiment's folder, as for a script; one at a time."""
    while _beside:
        with contextlib.suppress(ValueError):
            sys.path.remove(_beside.pop())
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        _beside.append(str(folder))


_beside: list[str] = []


def _import_dotted(name: str, folder: Path) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f"experiment: expected a dotted module such as `my_package.experiment` or a path that "
            f"ends in .py, got '{name}'"
        )
    _search_beside(None)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None:
        relative = Path(*name.split(".")).with_suffix(".py")
        for parent in (folder, *folder.resolve().parents):
            if (parent / relative).is_file():
                hint = os.path.relpath(parent / relative, folder)
                raise ConfigError(
                    f"experiment: no module '{name}' in this Python environment; there is a file, "
                    f"write `experiment: {Path(hint).as_posix()}`"
                )
        raise ConfigError(
            f"experiment: no module '{name}' in this Python environment"
            f"{did_you_mean(name.split('.')[-1] + '.py', _py_files(folder))}; "
            "a file is written as a path relative to the config, such as `my_experiment.py`"
        )
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        path = Path(spec.origin or name)
        raise ConfigError(
            f"experiment: module {name} cannot be imported:\n{user_traceback(error, path)}"
        ) from None


def _py_files(folder: Path) -> list[str]:
    try:
        return [p.name for p in folder.glob("*.py")]
    except OSError:
        return []
