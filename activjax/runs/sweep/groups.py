"""Which cells share a program: a group's batches, laid out once and from then on only refined.

Every change happens under one lock and by one rename, so that two drivers, or one that was killed,
go by the same batches; with them a resumed cell meets the same program and ends with the same bits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from activjax.runs.result import dumps
from activjax.runs.store import storing, write_text
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.width import even


@dataclasses.dataclass(frozen=True)
class Batch:
    """Cells of one program.

    Attributes:
        id: names its folder.
        cells: all that are trained together, also those that another batch has to deliver.
        owes: those that this batch gives a record.
        width: of the program, at least `len(cells)`.
    """

    id: str
    cells: tuple[str, ...]
    owes: tuple[str, ...]
    width: int


@dataclasses.dataclass(frozen=True)
class Group:
    """A group with its batches, as in `groups/<id>.json`; `probe` is what `width.Probe` found."""

    id: str
    probe: dict[str, Any]
    batches: tuple[Batch, ...]


class Groups:
    """The groups of a sweep folder."""

    def __init__(self, folder: SweepFolder):
        self._folder = folder.path / "groups"

    def read(self, group: str) -> Group | None:
        """A group, or None if it has not been laid out. Raises `StorageError`."""
        path = self._folder / f"{group}.json"
        with storing(path):
            if not path.exists():
                return None
            data = json.loads(path.read_text(encoding="utf-8"))
        batches = [
            Batch(b["id"], tuple(b["cells"]), tuple(b["owes"]), b["width"]) for b in data["batches"]
        ]
        return Group(group, data["probe"], tuple(batches))

    def lay_out(self, group: str, cells: Sequence[str], probe: dict[str, Any]) -> Group:
        """Divide a group into batches of the width found, unless that has been done."""
        width = probe["width"]

        def laid(found: Group | None) -> Group:
            if found is not None:
                return found
            parts = [tuple(cells[i : i + width]) for i in range(0, len(cells), width)]
            batches = [Batch(f"{group}-{k}", p, p, width) for k, p in enumerate(parts)]
            return Group(group, probe, tuple(batches))

        return self._change(group, laid)

    def split(self, group: str, batch: str, *, halve: bool) -> Group:
        """Replace a batch by two halves, or by single cells, unless that has been done."""

        def smaller(found: Group | None) -> Group:
            assert found is not None
            batches: list[Batch] = []
            for b in found.batches:
                if b.id != batch or len(b.cells) == 1:
                    batches.append(b)
                    continue
                width = even(len(b.cells), (len(b.cells) + 1) // 2) if halve else 1
                parts = [b.cells[i : i + width] for i in range(0, len(b.cells), width)]
                for k, part in enumerate(parts):
                    owes = tuple(cell for cell in part if cell in b.owes)
                    if owes:
                        batches.append(Batch(f"{b.id}.{k}", part, owes, width))
            return dataclasses.replace(found, batches=tuple(batches))

        return self._change(group, smaller)

    def again(self, group: str, cells: Sequence[str]) -> Group:
        """Let cells be run anew, each by itself, from the beginning."""
        stamp = f"{time.time_ns():x}"

        def moved(found: Group | None) -> Group:
            assert found is not None
            kept = [
                dataclasses.replace(b, owes=tuple(c for c in b.owes if c not in cells))
                for b in found.batches
            ]
            new = [Batch(f"{group}-r{stamp}.{k}", (c,), (c,), 1) for k, c in enumerate(cells)]
            return dataclasses.replace(found, batches=tuple([b for b in kept if b.owes] + new))

        return self._change(group, moved)

    def _change(self, group: str, change: Callable[[Group | None], Group]) -> Group:
        with self._lock():
            before = self.read(group)
            after = change(before)
            if after != before:
                path = self._folder / f"{group}.json"
                data = {"probe": after.probe, "batches": [vars(b) for b in after.batches]}
                write_text(path, dumps(data))
        return after

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with storing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / ".lock").open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # held for milliseconds
                yield
