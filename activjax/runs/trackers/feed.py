"""What the folder of a run or a sweep has to tell: files of metrics, and finished records."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from activjax.runs import _yaml
from activjax.runs.config import SETTINGS
from activjax.runs.result import Row, from_json
from activjax.runs.store import Folder, RunFolder
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.trackers.protocol import Tracked, flat

_MOST_ENTRIES = 16  # of an array metric that are sent one by one


@dataclasses.dataclass(frozen=True)
class Source:
    """A file of metrics.

    Attributes:
        path: `metrics.jsonl`.
        runs: id of a tracked run -> its positions in the lists of a line, by seed.
    """

    path: Path
    runs: dict[str, dict[str, int]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A finished run: what its record says; `stamp` tells two records of one run apart."""

    run: str
    stamp: str
    status: str
    rows: tuple[Row, ...]
    figures: dict[str, Path]
    config: dict[str, Any] | None


class RunFeed:
    """One run: all its seeds are one tracked run."""

    def __init__(self, folder: RunFolder):
        self.folder = folder
        config = _yaml.read_file(folder.path / "config.yaml")[0]
        self.seeds: list[int] = config["seeds"]
        self.main = Tracked(
            folder.id, f"{folder.name} {folder.id}", folder.name, folder.path, flat(config)
        )

    def run(self, name: str) -> Tracked:
        """The tracked run with this id."""
        return self.main

    def sources(self, ended: set[str]) -> Iterator[Source]:
        """Files with metrics of runs that are not among `ended`."""
        if self.main.id not in ended:
            places = {f"seed{seed}": i for i, seed in enumerate(self.seeds)}
            yield Source(self.folder.path / "metrics.jsonl", {self.main.id: places})

    def outcomes(self, ended: dict[str, tuple[str, str]]) -> Iterator[Outcome]:
        """Records that have not been sent."""
        yield from _own_outcome(self.folder, self.main, ended)


class SweepFeed:
    """A sweep: every cell is a tracked run, with the sweep as its parent."""

    def __init__(self, folder: SweepFolder):
        self.folder = folder
        definition = _yaml.read_file(folder.path / "sweep.yaml")[0]
        self.base = {k: v for k, v in definition.items() if k not in (*SETTINGS, "sweep", "search")}
        self.main = Tracked(
            folder.id, f"{folder.name} {folder.id}", folder.name, folder.path, flat(definition)
        )
        self._cells: dict[str, dict[str, Any]] = {}
        self._groups: dict[Path, tuple[int, list[dict[str, Any]]]] = {}
        self._runs: dict[str, Tracked] = {self.main.id: self.main}

    def run(self, name: str) -> Tracked:
        """The tracked run with this id."""
        if name not in self._runs:
            cell = name.rpartition("-")[2]
            if cell not in self._cells:  # a search adds cells as it goes
                found = SweepFolder(self.folder.path).cells
                self._cells = {entry["id"]: entry for entry in found}
            point, seed = self._cells[cell]["point"], self._cells[cell]["seed"]
            told = ", ".join(f"{key}={value}" for key, value in flat(point).items())
            title = f"{told or self.folder.name}, seed={seed}"
            config = {**flat(self.base), **flat(point), "seed": seed}
            self._runs[name] = Tracked(
                name, title, self.folder.name, self.folder.path, config, self.main
            )
        return self._runs[name]

    def sources(self, ended: set[str]) -> Iterator[Source]:
        """Files with metrics of runs that are not among `ended`."""
        for path in sorted(self.folder.path.glob("groups/*.json")):
            changed = path.stat().st_mtime_ns
            if path not in self._groups or self._groups[path][0] != changed:
                data = json.loads(path.read_text(encoding="utf-8"))
                self._groups[path] = (changed, data["batches"])
            for batch in self._groups[path][1]:
                names = {self._name(cell): {"": i} for i, cell in enumerate(batch["cells"])
                         if cell in batch["owes"]}  # fmt: skip
                if not ended.issuperset(names):
                    yield Source(
                        self.folder.path / "batches" / batch["id"] / "metrics.jsonl", names
                    )

    def outcomes(self, ended: dict[str, tuple[str, str]]) -> Iterator[Outcome]:
        """Records that have not been sent; a failed cell may have been run again."""
        for cell in sorted(self.folder.recorded()):
            name = self._name(cell)
            if ended.get(name, ("", ""))[1] in ("", "failed"):
                path = self.folder.record_path(cell)
                stamp = _stamp(path)
                if name in ended and ended[name][0] == stamp:
                    continue
                record = self.folder.record(cell)
                if record is None:
                    continue
                rows = from_json({"question": "", "answer": "", **record, "summary":
                                  record.get("summary", [])}).summary  # fmt: skip
                config = {**flat(record.get("config") or {}), "seed": record.get("seed")}
                figures = _figures(path.with_suffix(""), record.get("contents") or [])
                yield Outcome(name, stamp, record["status"], rows, figures, config)
        yield from _own_outcome(self.folder, self.main, ended)

    def _name(self, cell: str) -> str:
        return f"{self.folder.id}-{cell}"


def feed(folder: Folder) -> RunFeed | SweepFeed:
    """What a folder has to tell."""
    if isinstance(folder, SweepFolder):
        return SweepFeed(folder)
    return RunFeed(RunFolder(folder.path))


def read_line(text: bytes, source: Source) -> tuple[str | None, int, dict[str, dict[str, float]]]:
    """A line of metrics: case, step, and for every run its metrics as plain numbers.

    A run with one seed has `loss`; one with several has their mean as `loss`, and `loss/seed3`.
    Entries of an array metric are `name/0`, ..., or mean, least and greatest where there are many.

    Raises:
        ValueError: not a whole line.
    """
    line = json.loads(text)
    runs: dict[str, dict[str, float]] = {}
    for run, places in source.runs.items():
        found = runs[run] = {}
        for name, cells in line["metrics"].items():
            each = {part: _spread(name, cells[i]) for part, i in places.items()}
            for entry in next(iter(each.values())):
                found[entry] = sum(values[entry] for values in each.values()) / len(each)
            if len(each) > 1:
                found |= {f"{entry}/{part}": v for part, values in each.items()
                          for entry, v in values.items()}  # fmt: skip
    return line["case"], line["step"], runs


def _spread(name: str, value: Any) -> dict[str, float]:
    """The plain numbers that stand for one value of a metric."""
    if not isinstance(value, list):
        return {name: float(value)}  # also of the texts "NaN" and "Infinity"
    numbers = list(_numbers(value))
    if len(numbers) <= _MOST_ENTRIES:
        return {f"{name}/{i}": number for i, number in enumerate(numbers)}
    mean = sum(numbers) / len(numbers)
    return {f"{name}/mean": mean, f"{name}/least": min(numbers), f"{name}/greatest": max(numbers)}


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    else:
        yield float(value)


def _own_outcome(
    folder: Folder, run: Tracked, ended: dict[str, tuple[str, str]]
) -> Iterator[Outcome]:
    """The result of a whole run or sweep."""
    for file, status in (("result.json", "done"), ("failed.json", "failed")):
        path = folder.path / file
        data = folder.read_json(file)
        if data is None:
            continue
        stamp = _stamp(path)
        if run.id not in ended or ended[run.id][0] != stamp:
            rows = from_json(data).summary if status == "done" else ()
            items = (folder.read_json("contents.json") or {}).get("items", [])
            yield Outcome(run.id, stamp, status, rows, _figures(folder.path, items), None)
        return


def _figures(folder: Path, contents: Sequence[dict[str, Any]]) -> dict[str, Path]:
    files = {item["file"]: folder / item["file"] for item in contents
             if item.get("kind") == "figure" and item.get("file")}  # fmt: skip
    # "figures/case/loss.png" is called "case/loss"
    return {str(Path(*Path(name).with_suffix("").parts[1:])): path
            for name, path in files.items() if path.is_file()}  # fmt: skip


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except FileNotFoundError:  # a failed cell that is to run again
        return ""
    return f"{found.st_mtime_ns}-{found.st_size}"
