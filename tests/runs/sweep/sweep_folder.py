"""The folder of a sweep, written by hand, with hostile text to put into it."""

import hashlib
import itertools
import json
import math

HOSTILE = """<script>document.title='owned'</script>"' onerror="alert(1)" &amp; </title>\x1b\x00"""
GRID = {"width": [8, 32, 128], "learning_rate": [1e-3, 1e-2]}


def row(name, value, *, baseline=0.1, baseline_name="chance", unit="", n=1, ends=(None, None),
        **where):  # fmt: skip
    """A summary row as it is in a record."""
    out = {"name": name, "value": value, "low": ends[0], "high": ends[1], "n": n, "unit": unit,
           "baseline": baseline, "baseline_name": baseline_name, "where": where}  # fmt: skip
    flags = {}
    for key in ("value", "low", "high", "baseline"):
        if out[key] is not None and not math.isfinite(out[key]):
            flags[key], out[key] = str(out[key]), None
    return out | ({"flag": flags} if flags else {})


def value_at(point, seed):
    """A made-up number that depends on the point and a little on the seed."""
    text = json.dumps([point, seed], sort_keys=True)
    noise = int(hashlib.sha256(text.encode()).hexdigest()[:6], 16) / 0xFFFFFF - 0.5
    size = sum(math.log10(v) for v in point.values() if type(v) in (int, float) and v > 0)
    return 0.5 + 0.1 * math.tanh(size) + 0.02 * noise


def default_rows(point, seed):
    """Two quantities of one cell."""
    value = value_at(point, seed)
    return [row("accuracy", value), row("time", 10 * value, baseline=None, baseline_name="none",
            unit="ms")]  # fmt: skip


def make(folder, *, grid=None, points=None, seeds=(0, 1, 2), rows=default_rows, failed=(),
         missing=(), text="plain", done=True, about=None):  # fmt: skip
    """Write a sweep's folder.

    Args:
        folder: `<root>/<name>/<id>`.
        grid: key -> values; the points are their product.
        points: instead of a grid.
        seeds: of every point.
        rows: `(point, seed) -> rows` of a cell.
        failed, missing: indices of cells that failed, or have no record.
        text: stands wherever free text does.
        done: whether there is a result.
        about: replaces entries of `sweep.json`.
    """
    grid = GRID if grid is None and points is None else grid
    if points is None:
        points = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    axes = {}
    for point in points:
        for key, value in point.items():
            axes.setdefault(key, {})[json.dumps(value)] = value
    axes = {key: list(values.values()) for key, values in axes.items()}
    cells = [cell(point, seed) for point in points for seed in seeds]
    (folder / "cells").mkdir(parents=True)
    (folder / "source").mkdir()
    whole = {"id": folder.name, "name": folder.parent.name, "experiment": "e.py",
             "source_hash": "f" * 64, "data_hash": None, "axes": axes, "seeds": list(seeds),
             "cells": len(cells), "options": {"exact": False}}  # fmt: skip
    write(folder, "sweep.json", whole | (about or {}))
    (folder / "sweep.yaml").write_text(f"experiment: source/e.py\nnote: {json.dumps(text)}\n")
    lines = [json.dumps(c) + "\n" for c in cells]
    (folder / "cells.jsonl").write_text("".join(lines), "utf-8")
    for i, c in enumerate(cells):
        if i not in missing:
            make_record(folder, c, rows(c["point"], c["seed"]), failed=i in failed, text=text)
    attempt = {"started": "2026-01-02T03:04:05+00:00", "seconds": 60.0, "ended": "killed"}
    provenance = {
        "id": folder.name, "name": folder.parent.name, "experiment": "e.py",
        "seeds": list(seeds), "source_hash": "f" * 64, "git": {"commit": "c" * 40, "dirty": True},
        "python": "3.11.7", "system": "Linux x86_64", "versions": {"activjax": "0.1.0", "x": text},
        "device": {"platform": "cpu", "kind": "cpu", "count": 1}, "wall_seconds": 125.4,
        "compile_seconds": 3.2, "resumed": 1, "attempts": [attempt, {**attempt, "ended": "done"}],
    }  # fmt: skip
    write(folder, "provenance.json", provenance)
    if done and not missing:
        result = {"status": "done", "question": f"Is wider better? {text}",
                  "answer": f"It is: 0.54 {text}", "warnings": [f"a warning: {text}"],
                  "summary": [row("best accuracy", 0.54, ends=(0.52, 0.56), n=3)]}  # fmt: skip
        write(folder, "result.json", result)
    return folder


def cell(point, seed):
    """A line of `cells.jsonl`."""
    name = hashlib.sha256(json.dumps([point, seed]).encode()).hexdigest()[:12]
    return {"id": name, "group": name[:8], "seed": seed, "point": point}


def make_record(folder, cell, rows, *, failed=False, text="plain"):
    """Write the record of a cell."""
    record = {
        "id": cell["id"], "status": "failed" if failed else "done", "seed": cell["seed"],
        "point": cell["point"], "config": {"steps": 10, "note": text, **cell["point"]},
        "source_hash": "f" * 64, "data_hash": None,
    }  # fmt: skip
    if failed:
        record["error"] = {"kind": "raised", "message": f"ValueError: no {text}",
                           "traceback": f"Traceback:\n  {text}", "checkpoint": None}  # fmt: skip
    else:
        record |= {"question": f"Is it? {text}", "answer": f"It is. {text}", "summary": rows,
                   "warnings": [], "contents": []}  # fmt: skip
    record["run"] = {"engine": "local", "batch": f"{cell['group']}-0", "width": 3, "devices": 1,
                     "seconds": 1.25, "compile_seconds": 0.4, "attempts": 1,
                     "peak_memory_mb": 512.0, "started": "2026-01-02T03:04:05+00:00"}  # fmt: skip
    write(folder, f"cells/{cell['id']}.json", record)


def write(folder, name, data):
    """Write a JSON file as the package does: a new file in place of the old one."""
    path = folder / name
    path.with_name(f".{path.name}.tmp").write_text(json.dumps(data), "utf-8")
    path.with_name(f".{path.name}.tmp").replace(path)


def change(folder, name, function):
    """Change a JSON file."""
    data = json.loads((folder / name).read_text("utf-8"))
    function(data)
    write(folder, name, data)
