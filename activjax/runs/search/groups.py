"""Batches of a search: what a round adds to a group keeps together, and apart from earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.groups import Batch, Group, Groups


class SearchGroups(Groups):
    """The groups of a search's folder, laid out round by round.

    Args:
        folder: of the search.
        parts: lists of cells that may share a batch: those of a round, or of one trial where
            trials are pruned, since a batch ends as a whole.
    """

    def __init__(self, folder: SweepFolder, parts: Sequence[Sequence[str]]):
        super().__init__(folder)
        self._parts = parts

    def extend(self, group: str, cells: Sequence[str]) -> None:
        """Give a group that has been laid out batches for new cells. Raises `StorageError`."""
        if self.read(group) is not None:
            self.lay_out(group, cells, {})

    def lay_out(self, group: str, cells: Sequence[str], probe: dict[str, Any]) -> Group:
        """Divide the cells that are in no batch yet into batches, unless that has been done."""

        def laid(found: Group | None) -> Group:
            before = list(found.batches) if found is not None else []
            taken = {cell for batch in before for cell in batch.cells}
            heads = [batch.id.removeprefix(f"{group}-").partition(".")[0] for batch in before]
            number = 1 + max((int(head) for head in heads if head.isdecimal()), default=-1)
            whole = found.probe if found is not None else probe
            for part in self._parts:
                todo = [cell for cell in part if cell in cells and cell not in taken]
                width = max(1, min(whole["width"], len(todo)))
                for i in range(0, len(todo), width):
                    some = tuple(todo[i : i + width])
                    before.append(Batch(f"{group}-{number}", some, some, width))
                    taken.update(some)
                    number += 1
            return Group(group, whole, tuple(before))

        return self._change(group, laid)
