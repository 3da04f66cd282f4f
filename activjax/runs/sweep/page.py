"""`report.html` of a sweep: one file that shows it from its question to where its cells failed.

It needs no network and no other file; the links go to the records in the same folder. The only
script is that of `activjax serve`, on the data of this one sweep: the table of cells, plots along
axes, parallel coordinates, comparisons; the page is whole without it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from activjax.runs import _about, report, store
from activjax.runs._findings import Counter, _shown, arrays_table, contents, figure, table
from activjax.runs._html import Html, code, esc, join, page, scroll, tag
from activjax.runs._numbers import TIMES, duration
from activjax.runs.browse import _assets
from activjax.runs.browse._still import still_data
from activjax.runs.result import Result
from activjax.runs.store import RunFolder
from activjax.runs.sweep import _axis_plots
from activjax.runs.sweep._cell_table import cell_table, link
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.index import (
    DONE,
    FAILED,
    MISSING,
    PRUNED,
    Line,
    counts,
    failures,
    question,
    rows,
)
from activjax.runs.sweep.show import RESUME, RETRY
from activjax.runs.sweep.table import aggregate, compact

_SUMMARY = 200  # rows
_GROUPS = 30  # different errors
_CELLS = 40  # links of one error
_VALUES = 24  # of an axis
_LARGEST = 1e150  # that is drawn


def write(folder: SweepFolder | Path) -> Path:
    """Write `report.html` into a sweep's folder; an older one is replaced.

    A sweep that is not finished gets a report of what there is.

    Args:
        folder: of the sweep.

    Returns:
        The path of the report.

    Raises:
        StorageError: the folder cannot be read, or the report cannot be written.
    """
    sweep = folder if isinstance(folder, SweepFolder) else SweepFolder(folder)
    target = sweep.path / "report.html"
    store.write_text(target, _render(sweep))
    return target


def _render(sweep: SweepFolder) -> str:
    lines, about, run = rows(sweep), sweep.about, RunFolder(sweep.path)
    count, number = counts(lines), Counter()
    data = run.read_json("result.json")
    result = None if data is None else report._result(run, data)
    finished = result is not None and not count[MISSING]
    provenance = run.read_json("provenance.json")
    provenance = provenance if isinstance(provenance, dict) else {}
    items = [item for item in contents(run) if "kind" in item]
    axes = list(about.get("axes") or ())
    sections: list[tuple[str, str, Any]] = [
        ("answer", "Question and answer", _answer(sweep, lines, result, number)),
        ("figures", "Figures",
         [figure(sweep.path, item, number) for item in items if item["kind"] == "figure"]),
        ("axes", "Plots along the axes", _plots(lines, axes, number)),
        ("tables", "Tables", [table(item, number) for item in items if item["kind"] == "table"]),
        ("cells", "Cells", _cells(sweep, lines, axes)),
        ("failures", "Failed cells", _failures(sweep, lines)),
        ("arrays", "Saved arrays", arrays_table(items, number)),
        ("definition", "Definition", _definition(sweep, about)),
        ("reproduce", "How to reproduce" if finished else "How to continue",
         _commands(sweep, finished, count)),
        ("provenance", "Provenance", _about.provenance_section(run, provenance)),
    ]  # fmt: skip
    sections = [section for section in sections if section[2]]
    body = [
        tag("header", _title(sweep, provenance, finished, count), report._navigation(sections)),
        _warnings(data or {}, count),
        tag("main", [
            tag("section", tag("h2", heading), content, id=anchor)
            for anchor, heading, content in sections
        ]),
        tag("footer", "Written by activjax from the files of the sweep's folder; the exact "
            "numbers are in ", tag("code", "cells/"), "."),
    ]  # fmt: skip
    name = _name(sweep)
    title = name if finished else f"{name} (not finished)"
    return page(title, join(body, "\n"), script="\n" + _assets.script() if lines else "",
                css=_assets.style())  # fmt: skip


def _name(sweep: SweepFolder) -> str:
    return str(sweep.about.get("name") or sweep.path.resolve().parent.name)


def _title(
    sweep: SweepFolder, provenance: dict[str, Any], finished: bool, count: dict[str, int]
) -> list[Html]:
    total, seeds = sum(count.values()), len(sweep.about.get("seeds") or ())
    wall = provenance.get("wall_seconds")
    facts = [
        tag("b", DONE if finished else f"{total - count[MISSING]:,} of {total:,} cells"),
        esc(["sweep ", tag("code", sweep.about.get("id") or sweep.path.resolve().name)]),
        f"{total:,} cell{'s' if total != 1 else ''}" if finished else None,
        f"{count[FAILED]:,} failed" if count[FAILED] else None,
        f"{count[PRUNED]:,} pruned" if count.get(PRUNED) else None,
        f"{seeds} seed{'s' if seeds != 1 else ''}" if seeds else None,
        duration(wall) if isinstance(wall, (int, float)) else None,
    ]
    return [
        tag("p", "activjax sweep report", class_="over"),
        tag("h1", _name(sweep)),
        tag("p", join(facts, " · "), class_="meta"),
    ]


def _warnings(result: dict[str, Any], count: dict[str, int]) -> Html | None:
    """What the reader must know before the numbers."""
    found = [str(text) for text in result.get("warnings") or ()]
    total = sum(count.values())
    for state, text in ((FAILED, "failed"), (MISSING, "not recorded yet")):
        if count[state]:
            found.append(f"{count[state]:,} of {total:,} cells {text}: in no mean and no plot")
    if not found:
        return None
    title = f"{len(found)} warning{'s' if len(found) > 1 else ''}"
    return tag("aside", tag("h2", title), tag("ul", [tag("li", t) for t in found]), class_="note")


def _answer(
    sweep: SweepFolder, lines: Sequence[Line], result: Result | None, number: Counter
) -> list[Html]:
    if result is None:
        asked = question(sweep, lines)
        none = "There is no answer yet: what follows is of the cells that are done."
        return [*([tag("p", asked, class_="question")] if asked else []), tag("p", none)]
    parts = [tag("p", result.question, class_="question"), tag("p", result.answer or None)]
    parts += report._summary_tables(result.summary[:_SUMMARY], number)
    if len(result.summary) > _SUMMARY:
        more = f"{len(result.summary) - _SUMMARY} more rows are in "
        parts.append(tag("p", more, tag("code", "result.json"), "."))
    return parts


def _plots(lines: Sequence[Line], axes: Sequence[str], number: Counter) -> list[Html]:
    means, _ = aggregate(lines)
    # matplotlib cannot scale an axis at the end of the floating-point range
    means = [
        dataclasses.replace(row, value=math.copysign(math.inf, row.value), low=None, high=None)
        if math.isfinite(row.value) and abs(row.value) > _LARGEST
        else row
        for row in means
    ]
    drawn, left_out = _axis_plots.draw(means, axes)
    found = []
    for plot in drawn:
        label = number.next("Figure")
        caption = tag("figcaption", tag("b", f"{label}."), " ", plot.caption)
        found.append(_shown(plot.png, f"Plot: {plot.name}", caption))
    if left_out:
        names = ", ".join(left_out)
        found.append(tag("p", f"Not drawn, as {len(drawn)} plots are enough: {names}."))
    return found


def _cells(sweep: SweepFolder, lines: Sequence[Line], axes: Sequence[str]) -> list[Html]:
    """What the script works on; until it does, a plain table stands in its place."""
    if not lines:
        return []
    return [
        tag("div", cell_table(lines, axes), id="browse"),
        tag("script", Html(still_data(sweep, lines)), type="application/json", id="browse-data"),
    ]


def _failures(sweep: SweepFolder, lines: Sequence[Line]) -> list[Html]:
    groups = failures(lines)
    found = []
    for text, cells in list(groups.items())[:_GROUPS]:
        links = [esc(link(line)) for line in cells[:_CELLS]]
        more = f" and {len(cells) - _CELLS:,} more" if len(cells) > _CELLS else None
        record = sweep.record(cells[0].id)
        error = record.get("error") if isinstance(record, dict) else None
        trace = error.get("traceback") if isinstance(error, dict) else None
        checkpoint = cells[0].error.get("checkpoint")
        found.append(tag(
            "details",
            tag("summary", f"{len(cells):,} {TIMES} ", tag("b", text)),
            tag("p", join(links, ", "), more),
            code(trace, "Traceback of the first") if trace else None,
            tag("p", "Last checkpoint: ", tag("code", checkpoint)) if checkpoint else None,
        ))  # fmt: skip
    if len(groups) > _GROUPS:
        found.append(tag("p", f"{len(groups) - _GROUPS} other messages are in the table of cells."))
    return found


def _definition(sweep: SweepFolder, about: dict[str, Any]) -> list[Html]:
    facts = [(tag("code", key), _values(values)) for key, values in about.get("axes", {}).items()]
    facts += [
        (esc(key), _values(about[key]))
        for key in ("seeds", "options", "data_hash")
        if about.get(key) not in (None, {}, [])
    ]
    body = [tag("tr", tag("th", name, scope="row"), tag("td", text)) for name, text in facts]
    parts = [scroll(tag("table", tag("tbody", body, class_="lines"), class_="facts"), "Axes")]
    try:
        text = (sweep.path / "sweep.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [*parts, tag("p", "The file sweep.yaml is missing.", class_="note")]
    return [*parts, code(text.rstrip(), "Definition of the sweep")]


def _values(values: Any) -> str:
    if isinstance(values, dict):
        return ", ".join(f"{key}: {compact(value)}" for key, value in values.items())
    if not isinstance(values, list):
        return compact(values)
    more = f", ... ({len(values)} values)" if len(values) > _VALUES else ""
    return ", ".join(map(compact, values[:_VALUES])) + more


def _commands(sweep: SweepFolder, finished: bool, count: dict[str, int]) -> list[Html]:
    kind = "search" if sweep.about.get("search") else "sweep"
    again = (f"activjax {kind} sweep.yaml --out again", f"the whole {kind}, in a new folder")
    lines = [again if finished else (RESUME.format(path="."), "the cells that are missing")]
    if count[FAILED] and kind == "sweep":
        lines.append((RETRY.format(path="."), "also those that failed"))
    wide = max(len(command) for command, _ in lines)
    text = "\n".join(f"{command:{wide}}  # {what}" for command, what in lines)
    told = "In the sweep's folder, which holds its definition and the experiment's own sources:"
    return [tag("p", told), code(text, "Commands")]
