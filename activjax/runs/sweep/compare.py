"""Two runs, sweeps or cells side by side: config, sources, and numbers with their differences."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.runs import store
from activjax.runs.errors import StorageError
from activjax.runs.result import Row
from activjax.runs.sweep._differences import Difference, Trial, independent, over_seeds
from activjax.runs.sweep._sides import Side, flat, open_side
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.index import DONE, Line
from activjax.runs.sweep.table import Key, aggregate, compact, label, numbers

_SETTINGS = ("experiment", "name", "checkpoint_seconds")  # a cell has none of its own


@dataclasses.dataclass(frozen=True)
class Change:
    """A setting or a version that differs; None on the side that does not have it."""

    key: str
    a: str | None
    b: str | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What two things differ in.

    Attributes:
        a, b: what they are called.
        config: settings that differ; of a sweep, a swept key has the list of its values.
        sources: hashes, versions and devices that differ.
        overall: of two sweeps, each number over all points that both have.
        rows: every number that both have; of two sweeps, at each point.
        only_a, only_b: what only one side has.
        notes: how it was compared.
    """

    a: str
    b: str
    config: tuple[Change, ...]
    sources: tuple[Change, ...]
    overall: tuple[Difference, ...]
    rows: tuple[Difference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def same_numbers(self) -> bool:
        """Whether both sides have the same numbers, exactly."""
        return all(r.same for r in self.rows) and not (self.only_a or self.only_b)

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return self.same_numbers and not (self.config or self.sources)


def compare(
    a: str | Path | store.RunFolder | SweepFolder, b: str | Path | store.RunFolder | SweepFolder
) -> Comparison:
    """Compare any two of: a run's folder, a sweep's folder, the record of a cell.

    Two sweeps are compared cell by cell: the difference at a point is the mean over the seeds that
    both have, with its paired 95 % interval; over all points, each seed's mean over the points is
    one trial. Otherwise the sides are independent, and the intervals of both make that of the
    difference. A sweep beside a run or a cell is
    taken at the point that the other's config is at.

    Args:
        a, b: folders, or paths of them, or of `cells/<id>.json`.

    Raises:
        StorageError: one of them is none of these, or cannot be read.
    """
    left, right = open_side(a), open_side(b)
    of_kind = left.kind == right.kind
    config, sources = (
        _changes(*(
            {k: v for k, v in side.items() if of_kind or k not in _SETTINGS} for side in pair
        ))
        for pair in ((left.config, right.config), (left.sources, right.sources))
    )  # fmt: skip
    notes = [f"{side.name} is not finished" for side in (left, right) if not side.finished]
    if left.kind == right.kind == "sweep":
        overall, rows, only, more = _paired(left.lines, right.lines)
    else:
        overall = []
        (ours, note_a), (theirs, note_b) = _at(left, right), _at(right, left)
        rows, only = _matched(ours, theirs)
        more = [note for note in (note_a, note_b) if note]
    return Comparison(
        left.name, right.name, config, sources, tuple(overall), tuple(rows),
        tuple(only[0]), tuple(only[1]), tuple(notes + more),
    )  # fmt: skip


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    texts = [{k: compact(v) for k, v in side.items()} for side in (a, b)]
    keys = dict.fromkeys([*a, *b])
    return tuple(
        Change(key, texts[0].get(key), texts[1].get(key))
        for key in keys
        if texts[0].get(key) != texts[1].get(key)
    )


def _at(side: Side, other: Side) -> tuple[list[tuple[Row, dict[str, Any]]], str]:
    """The numbers of a side, each with the settings its config does not say; and a note."""
    lines, note = side.lines, ""
    if side.kind == "sweep":
        lines = [
            line for line in lines
            if all(k in other.config and compact(other.config[k]) == compact(v)
                   for k, v in flat(line.point).items())
        ]  # fmt: skip
        if not lines:
            raise StorageError(f"{side.name}: has no point with the config of {other.name}")
        point = max((line.point for line in lines), key=len)  # the one that says most
        lines = [line for line in lines if line.point == point]
        at = ", ".join(f"{k}={compact(v)}" for k, v in point.items())
        note = f"{side.name} at {at or 'its only point'}"
        rows, left_out = aggregate(lines)
        note = "; ".join([note, *left_out])
        return [(row, {k: v for k, v in row.where.items() if k not in point}) for row in rows], note
    found = []
    for line in lines:
        # what a row's setting repeats of its config does not tell it from the other side's row
        whole = dataclasses.replace(line, point=side.config)
        found += [(row, rest) for _, row, rest in numbers(whole)]
    return found, note


def _matched(
    a: list[tuple[Row, dict[str, Any]]], b: list[tuple[Row, dict[str, Any]]]
) -> tuple[list[Difference], tuple[list[str], list[str]]]:
    """Rows of equal name and setting; of the rest those that differ by their config's settings."""
    pairs: dict[int, tuple[Row, Row]] = {}
    used: set[int] = set()
    for which in (0, 1):
        free: dict[str, list[int]] = {}
        for j, (row, rest) in enumerate(b):
            if j not in used:
                free.setdefault(_key(row, rest if which else row.where), []).append(j)
        for i, (row, rest) in enumerate(a):
            found = free.get(_key(row, rest if which else row.where))
            if i not in pairs and found:
                j = found.pop(0)
                used.add(j)
                pairs[i] = (row, b[j][0])
    only_a = [label(row.name, row.where) for i, (row, _) in enumerate(a) if i not in pairs]
    only_b = [label(row.name, row.where) for j, (row, _) in enumerate(b) if j not in used]
    return [independent(*pairs[i]) for i in sorted(pairs)], (only_a, only_b)


def _key(row: Row, where: Mapping[str, Any]) -> str:
    return json.dumps([row.name, row.unit, dict(where)], sort_keys=True)


def _paired(
    a: Sequence[Line], b: Sequence[Line]
) -> tuple[list[Difference], list[Difference], tuple[list[str], list[str]], list[str]]:
    """Overall, at each point, what only one side has, and how many pairs there are."""
    cells = [{(json.dumps(x.point, sort_keys=True), x.seed): x for x in side if x.state == DONE}
             for side in (a, b)]  # fmt: skip
    both = [key for key in cells[0] if key in cells[1]]
    only: tuple[list[str], list[str]] = ([], [])
    for mine, names in zip(cells, only):
        if len(mine) > len(both):
            names.append(f"{len(mine) - len(both)} of {len(mine)} cells that are done")
    points = {point: cells[0][point, seed].point for point, seed in both}
    everywhere: dict[Key, list[Trial]] = {}
    at_point: dict[tuple[str, Key], list[Trial]] = {}
    rests: dict[Key, dict[str, Any]] = {}
    lacking: tuple[dict[str, None], dict[str, None]] = ({}, {})
    for point, seed in both:
        ours, theirs = (
            {key: (row, rest) for key, row, rest in numbers(side[point, seed])} for side in cells
        )
        for mine, other, names in ((ours, theirs, lacking[0]), (theirs, ours, lacking[1])):
            names.update((label(k[0], json.loads(k[2])), None) for k in mine if k not in other)
        for key, (row, rest) in ours.items():
            if key in theirs:
                trial = (seed, row.value, theirs[key][0].value)
                everywhere.setdefault(key, []).append(trial)
                at_point.setdefault((point, key), []).append(trial)
                rests.setdefault(key, rest)
    for names, more in zip(only, lacking):
        names += more
    overall = [over_seeds(*k[:2], rests[k], trials) for k, trials in everywhere.items()]
    rows = [
        over_seeds(*k[:2], {**points[point], **rests[k]}, trials)
        for (point, k), trials in at_point.items()
    ]
    notes = [f"{len(both)} pairs of cells with the same point and seed, at {len(points)} points"]
    return overall, rows, only, notes
