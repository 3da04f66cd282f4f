"""A run, a sweep or a cell as one side of a comparison."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from activjax.runs import _yaml
from activjax.runs.errors import ConfigError, StorageError
from activjax.runs.store import RunFolder
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.index import DONE, MISSING, Line, rows

_FACTS = ("experiment", "source_hash", "data_hash", "python", "system", "device", "versions")


@dataclasses.dataclass(frozen=True)
class Side:
    """One of two things that are compared.

    Attributes:
        kind: `"run"`, `"sweep"` or `"cell"`.
        name: what it is called.
        config: dotted key -> value; a swept key has the list of its values.
        sources: hashes, versions, device.
        lines: the cells; a run is one line, whose point is empty.
        finished: whether everything has been recorded.
    """

    kind: str
    name: str
    config: dict[str, Any]
    sources: dict[str, Any]
    lines: list[Line]
    finished: bool


def open_side(given: str | Path | RunFolder | SweepFolder) -> Side:
    """Read one side.

    Args:
        given: a run's or a sweep's folder, or the path of one, or of `cells/<id>.json`.

    Raises:
        StorageError: it is none of these, or cannot be read.
    """
    path = given.path if isinstance(given, (RunFolder, SweepFolder)) else Path(given)
    if (path / "sweep.json").is_file():
        return _sweep(SweepFolder(path))
    if path.is_file():
        return _cell(path)
    if (path / "config.yaml").is_file():
        return _run(RunFolder(path))
    raise StorageError(
        f"{path}: expected the folder of a run or a sweep, or cells/<id>.json of one"
    )


def flat(data: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys; lists are values."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping) and value:
            out.update(flat(value, name))
        else:
            out[name] = value
    return out


def _run(folder: RunFolder) -> Side:
    result = folder.read_json("result.json")
    summary = result.get("summary", []) if isinstance(result, dict) else []
    state = DONE if result is not None else MISSING
    line = Line(folder.id, "", -1, {}, state, json.dumps({"summary": summary}))
    config = flat(_read_yaml(folder.path / "config.yaml"))
    sources = _sources(folder, {})
    return Side("run", f"{folder.name}/{folder.id}", config, sources, [line], result is not None)


def _cell(path: Path) -> Side:
    folder = SweepFolder(path.parent.parent)
    record = folder.record(path.stem) if path.parent.name == "cells" else None
    line = next((x for x in rows(folder) if x.id == path.stem), None) if record else None
    if line is None or not isinstance(record, dict) or line.state == MISSING:
        raise StorageError(f"{path}: not the record of a cell of a sweep")
    config = {"seeds": [line.seed], **flat(record.get("config") or {})}
    name = f"{folder.name}/{folder.id}/{line.id}"
    return Side("cell", name, config, _sources(RunFolder(folder.path), record), [line],
                line.state == DONE)  # fmt: skip


def _sweep(folder: SweepFolder) -> Side:
    lines, about = rows(folder), folder.about
    first = next((line for line in lines if line.state != MISSING), None)
    record = folder.record(first.id) if first else None
    # a record has every default filled in, the definition need not
    whole = (record or {}).get("config") or _read_yaml(folder.path / "sweep.yaml")
    axes = about.get("axes") or {}
    config: dict[str, Any] = {"seeds": about.get("seeds")}
    for key, value in flat(whole).items():
        if not any(key == axis or key.startswith(f"{axis}.") for axis in axes):
            config[key] = value
    config |= axes
    sources = _sources(RunFolder(folder.path), about)
    finished = all(line.state != MISSING for line in lines)
    return Side("sweep", f"{folder.name}/{folder.id}", config, sources, lines, finished)


def _sources(folder: RunFolder, known: Mapping[str, Any]) -> dict[str, Any]:
    provenance = folder.read_json("provenance.json")
    facts = {**(provenance if isinstance(provenance, dict) else {}), **known}
    return flat({key: facts[key] for key in _FACTS if facts.get(key) is not None})


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data, _ = _yaml.read_file(path)
    except ConfigError as error:
        raise StorageError(str(error)) from error
    return data if isinstance(data, dict) else {}
