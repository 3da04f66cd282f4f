"""What the page shows of one run, or of one cell of a sweep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from activjax.runs import _yaml
from activjax.runs.browse import _paths
from activjax.runs.browse._packed import plain
from activjax.runs.browse._sweeps import summary, texts
from activjax.runs.store import FAILED, RunFolder
from activjax.runs.sweep.index import PRUNED

_KEYS = 2000  # of a config
_ROWS = 2000  # of a table
_LOG = 64 * 1024  # bytes, from the end
_LONG = 200_000  # characters of a text
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def run_details(root: Path, parts: Sequence[str]) -> dict[str, Any] | None:
    """A run; None if there is none at that place."""
    folder = _paths.inside(root, parts)
    if folder is None or _paths.leaks(root, folder) or not (folder / "config.yaml").is_file():
        return None

    def read(name: str) -> dict[str, Any]:
        found = _paths.read_json(root, [*parts, name])
        return found if isinstance(found, dict) else {}

    state = RunFolder(folder).state()
    failed = read("failed.json") if state == FAILED else {}
    items = read("contents.json").get("items")
    text = _paths.read(root, [*parts, "config.yaml"]) or b""
    return {
        "kind": "run", "state": state, **_found(read("result.json"), items, ""),
        "config": flat_yaml(text.decode("utf-8", "replace")),
        "provenance": flat(read("provenance.json")),
        "error": plain(str(failed.get("error") or ""))[:_LONG],
        "traceback": plain(str(failed.get("traceback") or ""))[-_LONG:],
        "metrics": _has(root, [*parts, "metrics.jsonl"]),
        "report": _has(root, [*parts, "report.html"]),
    }  # fmt: skip


def cell_details(root: Path, parts: Sequence[str], cell: str) -> dict[str, Any] | None:
    """A cell of the sweep at `parts`; one without a record has the batch that it is in, if any."""
    if not _paths.plain(cell) or _paths.inside(root, [*parts, "sweep.json"]) is None:
        return None
    record = _paths.read_json(root, [*parts, "cells", f"{cell}.json"])
    record = record if isinstance(record, dict) else {}
    line = record or _line(root, parts, cell)
    if line is None:
        return None
    run = record.get("run")
    run = run if isinstance(run, dict) else {}
    planned = line if "batch" in run else _line(root, parts, cell) or line  # a pruned one: no batch
    batch, index = _batch(root, parts, str(planned.get("group") or ""), cell, run.get("batch"))
    error = record.get("error")
    error = error if isinstance(error, dict) else {}
    place = str(run.get("log") or (f"batches/{batch}/log.txt" if batch else "")).split("/")
    log = _paths.read(root, [*parts, *place], last=_LOG)
    return {
        "kind": "cell", "state": record.get("status") if record else "missing",
        **_found(record, record.get("contents"), f"cells/{cell}/"),
        "config": {"seed": plain(line.get("seed")), **flat(record.get("config"))},
        "point": flat(line.get("point")),
        "provenance": flat({**_pruned(record), **run, "source_hash": record.get("source_hash")}),
        "error": plain(str(error.get("message") or ""))[:_LONG],
        "traceback": plain(str(error.get("traceback") or ""))[-_LONG:],
        "batch": batch, "index": index,
        "metrics": bool(batch) and _has(root, [*parts, "batches", batch, "metrics.jsonl"]),
        "log": plain(log.decode("utf-8", "replace")) if log else "",
    }  # fmt: skip


def _pruned(record: dict[str, Any]) -> dict[str, Any]:
    """Where a search has ended a cell, and why."""
    return {"pruned": record["pruned"]} if record.get("status") == PRUNED else {}


def flat(data: Any, above: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys; lists are compact text."""
    out: dict[str, Any] = {}
    for key, value in data.items() if isinstance(data, dict) else ():
        name = f"{above}.{key}" if above else plain(str(key))
        if isinstance(value, dict) and value:
            out |= flat(value, name)
        elif len(out) < _KEYS:
            out[name] = _value(value)
    return out


def flat_yaml(text: str) -> dict[str, Any]:
    """A config as one mapping with dotted keys; what cannot be read is under `(unreadable)`."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except (yaml.YAMLError, RecursionError) as error:
        return {"(unreadable)": plain(str(error).splitlines()[0][:200])}
    out: dict[str, Any] = {}
    # an alias is the same node in many places: without a bound a small file would be a huge config
    left = [_KEYS]

    def build(node: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            return "..."
        if isinstance(node, yaml.ScalarNode):
            return node.value if node.style else _yaml.scalar(node.value)
        if isinstance(node, yaml.SequenceNode):
            return [build(item) for item in node.value[: left[0] + 1]]
        if not isinstance(node, yaml.MappingNode):
            return None
        pairs = node.value[: left[0] + 1]
        return {str(getattr(key, "value", "?")): build(value) for key, value in pairs}

    try:
        out = flat(build(node))
    except RecursionError:
        return {"(unreadable)": "nested too deep"}
    return out


def _found(data: dict[str, Any], items: Any, above: str) -> dict[str, Any]:
    """Question, answer, numbers, and what the experiment saved."""
    return {
        "question": plain(str(data.get("question") or "")),
        "answer": plain(str(data.get("answer") or "")),
        "summary": summary(data.get("summary")),
        "warnings": texts(data.get("warnings")),
        **saved(items, above),
    }


def saved(items: Any, above: str) -> dict[str, Any]:
    """The figures, tables and texts among the items of `contents.json`.

    Args:
        items: as they are in the file.
        above: the folder that their files are in, below that of the run or sweep.
    """
    figures, tables, kept = [], [], []
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict):
            continue
        about = {key: plain(str(item.get(key) or "")) for key in ("name", "case", "caption")}
        if item.get("kind") == "figure":
            figures.append({**about, "file": f"{above}{item.get('file')}"})
        elif item.get("kind") == "table":
            rows = item.get("rows")
            rows = plain(rows[:_ROWS]) if isinstance(rows, list) else []
            tables.append({**about, "columns": plain(item.get("columns")), "rows": rows})
        elif item.get("kind") == "text":
            kept.append({**about, "text": plain(str(item.get("text") or ""))[:_LONG]})
    return {"figures": figures, "tables": tables, "texts": kept}


def _value(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return plain(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return plain(text[:_LONG])


def _line(root: Path, parts: Sequence[str], cell: str) -> dict[str, Any] | None:
    """The line of a cell that has no record."""
    for text in (_paths.read(root, [*parts, "cells.jsonl"]) or b"").splitlines():
        if cell.encode() in text:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and line.get("id") == cell:
                return line
    return None


def _batch(
    root: Path, parts: Sequence[str], group: str, cell: str, batch: Any
) -> tuple[str, int | None]:
    """The batch that a cell was or will be trained in, and its place among the batch's cells."""
    if isinstance(batch, str) and not group:
        group = batch.partition("-")[0]
    data = _paths.read_json(root, [*parts, "groups", f"{group}.json"]) if group else None
    found = data.get("batches") if isinstance(data, dict) else None
    for item in found if isinstance(found, list) else ():
        if not isinstance(item, dict) or cell not in (item.get("cells") or ()):
            continue
        name = item.get("id")
        wanted = name == batch if isinstance(batch, str) else cell in (item.get("owes") or ())
        if wanted and isinstance(name, str) and _paths.plain(name):
            return name, list(item["cells"]).index(cell)
    if isinstance(batch, str) and _paths.plain(batch):
        return batch, None
    return "", None


def _has(root: Path, parts: Sequence[str]) -> bool:
    path = _paths.inside(root, parts)
    return path is not None and path.is_file()
