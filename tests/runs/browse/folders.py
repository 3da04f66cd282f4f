"""A folder of runs as the page meets it: a sweep, single runs, batches with curves."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "sweep"))
from sweep_folder import HOSTILE, cell, change, make, row

__all__ = ["HOSTILE", "PICTURE", "SWEEP", "batch", "cell", "change", "long_texts", "make",
           "make_run", "metrics", "root", "row", "snapshot"]  # fmt: skip

SWEEP = ("demo", "0123456789ab")
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


def root(path, **more):
    """A root with a sweep of 18 cells, one of them failed, and two runs."""
    make(path.joinpath(*SWEEP), failed=[3], **more)
    make_run(path / "single" / "aaaaaaaaaaaa", lr=0.5)
    make_run(path / "single" / "bbbbbbbbbbbb", lr=0.25, done=False)
    return path


def make_run(folder, *, done=True, text="plain", **config):
    """The folder of a single run."""
    folder.mkdir(parents=True)
    lines = [f"{key}: {json.dumps(value)}" for key, value in config.items()]
    (folder / "config.yaml").write_text("\n".join(["experiment: e.py", "seeds: [0, 1]", *lines]))
    if done:
        rows = [row("accuracy", 0.9, ends=(0.8, 0.95), n=2), row("loss", float("nan"))]
        result = {"status": "done", "question": f"Is it? {text}", "answer": f"It is. {text}",
                  "summary": rows, "warnings": [text]}  # fmt: skip
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def batch(path, cells, *, steps=50):
    """Lay out a batch of these cells of a sweep, with its curves and its log; returns its name."""
    name = f"{cells[0]['group']}-0"
    ids = [c["id"] for c in cells]
    (path / "groups").mkdir(exist_ok=True)
    data = {"probe": {}, "batches": [{"id": name, "cells": ids, "owes": ids, "width": len(ids)}]}
    (path / "groups" / f"{cells[0]['group']}.json").write_text(json.dumps(data))
    place = path / "batches" / name
    place.mkdir(parents=True)
    (place / ".lock").write_text("1\n")
    (place / "log.txt").write_text("compiling\nstep 50\n")
    (place / "metrics.jsonl").write_bytes(metrics(range(1, steps + 1), len(ids)))
    return name


def metrics(steps, cells, *, case=None, value=lambda step, k: 1.0 / step + k):
    """Lines of `metrics.jsonl`."""
    lines = [
        json.dumps({"case": case, "step": s, "metrics": {
            "loss": [value(s, k) for k in range(cells)]}}) + "\n"
        for s in steps
    ]  # fmt: skip
    return "".join(lines).encode()


def long_texts():
    """What a page must bear: markup, ends of scripts, other directions, length, odd numbers."""
    return [HOSTILE, "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>",
            "\u202eevil\u202c \u2066\u200f", "x" * 20_000, "'\"`${1}", "<!--", "]]>",
            "\ud83d\ude00", "javascript:alert(1)", "__proto__", "constructor"]  # fmt: skip


def snapshot(path):
    """Every file below a folder with its time and bytes, and every folder with its time."""
    found = {}
    for base, _, files in os.walk(path):
        found[base] = os.stat(base).st_mtime_ns
        for name in files:
            file = Path(base) / name
            found[str(file)] = (file.stat().st_mtime_ns, file.read_bytes())
    return found
