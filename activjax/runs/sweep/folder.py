"""The folder of a sweep, as a path that can be asked what is planned, done, failed and missing.

<root>/<name>/<id>/
    sweep.yaml          the whole definition, reads back to this sweep (experiment: source/...)
    source/             the experiment's own files
    sweep.json          name, id, axes, seeds, sources, options: what was planned, never changed
    cells.jsonl         one line a cell, in the order of the sweep: id, group, seed, point
    groups/<id>.json    cells of equal static shape: measured memory, width, batches
    cells/<id>.json     the record of a cell, the truth about it: done or failed; written once
    cells/<id>/         figures and arrays that the cell's own code saved
    batches/<id>/       cells that share one program: metrics.jsonl, log.txt, work/, the claim
    jobs/<engine>/      on a cluster: tasks, news, ends, the scheduler's own files
    trials.jsonl        of a search: what was asked, reported, decided and told
    tracked/<tracker>/  what trackers keep here, and how far they have been told
    provenance.json     versions, device, engine, every attempt
    result.json         the sweep's own answer, written when every cell has a record
    index.sqlite        made from cells/ when needed; may be deleted
    report.html         made from the files above
"""

from __future__ import annotations

import contextlib
import functools
import json
from pathlib import Path
from typing import Any

from activjax.runs.errors import StorageError
from activjax.runs.store import Folder, pick, storing


class SweepFolder(Folder):
    """One sweep's folder.

    Args:
        path: `<root>/<name>/<id>`.
    """

    def __repr__(self) -> str:
        return f"SweepFolder({str(self.path)!r})"

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """`sweep.json`. Raises `StorageError` if it cannot be read."""
        return _parse(self.path / "sweep.json")[0]

    @functools.cached_property
    def cells(self) -> list[dict[str, Any]]:
        """The cells in order, `{"id", "group", "seed", "point"}`. Raises `StorageError`."""
        return _parse(self.path / "cells.jsonl", lines=True)

    def record_path(self, cell: str) -> Path:
        """Where a cell's record is, or will be."""
        return self.path / "cells" / f"{cell}.json"

    def record(self, cell: str) -> dict[str, Any] | None:
        """A cell's record; None if it has none yet."""
        return self.read_json(f"cells/{cell}.json")

    def recorded(self) -> set[str]:
        """The ids of the cells that have a record."""
        try:
            names = (self.path / "cells").iterdir()
            return {p.name[:-5] for p in names if p.name.endswith(".json") and p.name[0] != "."}
        except FileNotFoundError:
            return set()


def _parse(path: Path, *, lines: bool = False) -> list[Any]:
    with storing(path):
        text = path.read_text(encoding="utf-8")
    try:
        return [json.loads(line) for line in (text.splitlines() if lines else [text])]
    except ValueError as error:
        raise damaged(path, error) from None


def damaged(path: Path, problem: object) -> StorageError:
    """What to say of a file of the plan that cannot be read."""
    return StorageError(
        f"{path}: cannot be read ({problem}); starting the sweep again with the same config "
        "writes it anew, the records of its cells are kept"
    )


def find(sweep: str, root: Path) -> SweepFolder:
    """The sweep at a path, or the one below `root` by the beginning of its id, or by its name.

    Raises:
        StorageError: none or several.
    """
    if (Path(sweep) / "sweep.json").is_file():
        return SweepFolder(Path(sweep).resolve())
    return pick(sweep, all_sweeps(root), root, "sweeps")


def all_sweeps(root: Path) -> list[SweepFolder]:
    """The sweeps below a root of runs, newest first."""
    dated = []
    for path in root.glob("*/*/sweep.json"):
        with contextlib.suppress(OSError):  # removed since
            dated.append((changed(path.parent), path.parent))
    return [SweepFolder(path) for _, path in sorted(dated, reverse=True)]


def changed(path: Path) -> float:
    """When a sweep last wrote something that matters, in seconds since 1970."""
    names = ("result.json", "provenance.json", "cells", "sweep.json")
    return max(((path / n).stat().st_mtime for n in names if (path / n).exists()), default=0.0)
