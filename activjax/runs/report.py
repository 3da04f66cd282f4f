"""`report.html`: one file that shows a run, from its question to how to reproduce it.

Everything in it comes from the run's folder, figures and style included: it needs no network and
no other file, runs no script, and equal folders give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from activjax.runs import _summary, store
from activjax.runs._about import config_section, provenance_section, reproduce_section
from activjax.runs._findings import (
    Counter,
    arrays_table,
    contents,
    curves,
    figure,
    table,
    text_block,
)
from activjax.runs._html import Html, code, esc, join, page, scroll, tag
from activjax.runs._numbers import duration
from activjax.runs.errors import StorageError
from activjax.runs.result import Result, Row, from_json
from activjax.runs.store import DONE, FAILED, RUNNING, RunFolder

_Section = tuple[str, str, Any]  # id, heading, what stands below it


def write(folder: Path) -> Path:
    """Write `report.html` into a run's folder; an older one is replaced.

    A run that is not done gets a report too: it says so, and why, and how to continue.

    Args:
        folder: `<root>/<name>/<id>`, as `activjax run` made it.

    Returns:
        The path of the report.

    Raises:
        StorageError: the report cannot be written, or `result.json` is not a result.
    """
    run = RunFolder(folder)
    text = _render(run)
    store.write_text(run.report, text)
    return run.report


def _render(run: RunFolder) -> str:
    state, data = run.state(), run.read_json("result.json")
    result = _result(run, data) if state == DONE else None
    provenance = run.read_json("provenance.json")
    provenance = provenance if isinstance(provenance, dict) else {}
    sections: list[_Section] = []
    number = Counter()
    if result is not None:
        answer = [tag("p", result.question, class_="question"), tag("p", result.answer or None)]
        sections.append(("answer", "Question and answer", answer))
        sections.append(("summary", "Summary", _summary_tables(result.summary, number)))
    items = contents(run)
    figures = [figure(run.path, item, number) for item in items if item.get("kind") == "figure"]
    tables = [table(item, number) for item in items if item.get("kind") == "table"]
    texts = [text_block(item, number) for item in items if item.get("kind") == "text"]
    sections += [
        ("figures", "Figures", figures),
        ("tables", "Tables", tables),
        ("texts", "Texts", texts),
        ("training", "Training curves", curves(run.path, number)),
        ("arrays", "Saved arrays", arrays_table(items, number)),
        ("config", "Configuration", config_section(run.path)),
        ("reproduce", "How to reproduce" if result else "How to continue",
         reproduce_section(run, provenance, done=result is not None)),
        ("provenance", "Provenance", provenance_section(run, provenance)),
    ]  # fmt: skip
    sections = [section for section in sections if section[2]]
    body = [
        tag("header", _title(run, state, provenance), _navigation(sections)),
        _warnings(result, data) if result is not None else _unfinished(run, state),
        tag("main", [
            tag("section", tag("h2", heading), content, id=anchor)
            for anchor, heading, content in sections
        ]),
        tag("footer", "Written by activjax from the files of the run's folder; "
            "the exact numbers are in ", tag("code", "result.json"), " and ",
            tag("code", "arrays/"), "."),
    ]  # fmt: skip
    name = _name(run, provenance)
    return page(name if state == DONE else f"{name} ({state})", join(body, "\n"))


def _result(run: RunFolder, data: Any) -> Result:
    try:
        return from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(
            f"{run.path / 'result.json'}: cannot be read as a result "
            f"({type(error).__name__}: {error}); `activjax run ... --force` runs it again"
        ) from error


def _name(run: RunFolder, provenance: dict[str, Any]) -> str:
    """The run's name, also after its folder was moved; a relative path may have none."""
    return str(provenance.get("name") or run.path.resolve().parent.name)


def _title(run: RunFolder, state: str, provenance: dict[str, Any]) -> list[Html]:
    attempts = provenance.get("attempts") or [{}]
    seeds, wall = provenance.get("seeds") or [], provenance.get("wall_seconds")
    facts = [
        tag("b", state),
        esc(["run ", tag("code", provenance.get("id") or run.path.resolve().name)]),
        f"{len(seeds)} seed{'s' if len(seeds) != 1 else ''}" if seeds else None,
        duration(wall) if isinstance(wall, (int, float)) else None,
        f"started {str(attempts[0].get('started', ''))[:10]}" if attempts[0] else None,
    ]
    return [
        tag("p", "activjax run report", class_="over"),
        tag("h1", _name(run, provenance)),
        tag("p", join(facts, " · "), class_="meta"),
    ]


def _navigation(sections: list[_Section]) -> Html:
    links = [tag("li", tag("a", text, href=f"#{anchor}")) for anchor, text, _ in sections]
    return tag("nav", tag("ul", links), aria_label="Sections")


def _warnings(result: Result, data: dict[str, Any]) -> Html | None:
    """What the reader must know before the numbers."""
    found = [str(text) for text in data.get("warnings") or ()]
    odd = [row.name for row in result.summary if not math.isfinite(row.value)]
    if odd:
        found.append(f"not finite in the summary: {', '.join(dict.fromkeys(odd))}")
    if not found:
        return None
    title = f"{len(found)} warning{'s' if len(found) > 1 else ''}"
    return tag("aside", tag("h2", title), tag("ul", [tag("li", t) for t in found]), class_="note")


def _unfinished(run: RunFolder, state: str) -> Html:
    """A run without a result: never more than what is known."""
    none = "There is no result; curves and settings below are of what was done so far."
    if state == RUNNING:
        return tag("aside", tag("h2", "This run is still going on"), tag("p", none), class_="note")
    if state != FAILED:
        text = f"It was stopped or killed before its end. {none}"
        return tag("aside", tag("h2", "This run is not finished"), tag("p", text), class_="note")
    failed = run.read_json("failed.json")
    failed = failed if isinstance(failed, dict) else {}
    trace = failed.get("traceback")
    return tag(
        "aside",
        tag("h2", "This run failed"),
        tag("p", failed.get("error") or "What it raised was not kept."),
        code(trace, "Traceback") if trace else None,
        tag("p", none),
        class_="bad",
    )


def _summary_tables(rows: tuple[Row, ...], number: Counter) -> list[Html]:
    pivot, rest = _summary.arrange(rows)
    tables = []
    if pivot is not None:
        shown = [row for line in pivot.lines for row in line if row is not None]
        caption = (
            f"The value for each {pivot.key}, below it its 95 % interval and the baseline, which "
            f"the first column names. n: independent trials. {_dagger(shown)}"
        )
        tables.append(scroll(_summary.pivot_table(pivot), number.next("Table"), caption))
    if rest:
        caption = "Numbers that stand alone" if pivot else "All numbers"
        caption += f", each with its baseline. n: independent trials. {_dagger(rest)}"
        tables.append(scroll(_summary.long_table(rest), number.next("Table"), caption))
    return tables


def _dagger(rows: Sequence[Row]) -> str:
    return "† The baseline lies inside the interval." if any(map(_summary.inside, rows)) else ""
