"""A finished run's folder, written by hand, and hostile text to put into it."""

import json
import math
import struct
import zlib

import yaml

HOSTILE = (
    """<script>document.title='owned'</script>"' onerror="alert(1)" &amp; </title></style>\x1b"""
)


def png(width=300, height=150, colour=90):
    """A grey picture."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = zlib.compress((b"\0" + bytes([colour]) * width) * height)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def row(name, value, half=0.02, n=5, unit="", baseline=0.1, baseline_name="chance", **where):
    """A summary row as it is in `result.json`."""
    ends = (None, None) if half is None else (value - half, value + half)
    return {"name": name, "value": value, "low": ends[0], "high": ends[1], "n": n, "unit": unit,
            "baseline": baseline, "baseline_name": baseline_name, "where": where}  # fmt: skip


def make(folder, *, text="plain", state="done", rows=None, warnings=()):
    """Write a run's folder whose every free text is `text`."""
    (folder / "figures" / "w8").mkdir(parents=True)
    (folder / "source").mkdir()
    (folder / "figures" / "first.png").write_bytes(png(1500, 500))
    (folder / "figures" / "w8" / "second.png").write_bytes(png(colour=200))
    config = {"experiment": "source/e.py", "name": "demo", "seeds": [0, 1], "note": text}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
    items = [
        {"kind": "figure", "name": "first", "case": None, "file": "figures/first.png",
         "caption": f"About the first: {text}"},
        {"kind": "figure", "name": "second", "case": "w8", "file": "figures/w8/second.png",
         "caption": ""},
        {"kind": "array", "name": "weights", "case": "w8", "file": "arrays/w8/weights.npy",
         "shape": [2, 3], "dtype": "float32"},
        {"kind": "table", "name": "table_one", "case": None, "caption": text,
         "columns": ["who", "share", text], "rows": [["a", 0.12345, 3], [text, 12.5, None]]},
        {"kind": "text", "name": "a_sample", "case": None, "caption": "",
         "text": f"def f():\n\treturn 1\0 # {text}"},
    ]  # fmt: skip
    lines = [
        {"case": case, "step": step, "metrics": {
            "loss": [math.exp(-step / 50), "NaN" if step == 7 else 1.0],
            f"norm/{text}": [[1.0, 2.0], [3.0, 4.0]]}}
        for case in ("w8", "w32") for step in range(1, 301)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    attempt = {"started": "2026-01-02T03:04:05+00:00", "seconds": 60.0, "ended": "killed"}
    provenance = {
        "id": "0123456789ab", "name": "demo", "experiment": "e.py", "seeds": [0, 1],
        "source_hash": "f" * 64, "git": {"commit": "c" * 40, "dirty": True}, "python": "3.11.7",
        "system": "Linux x86_64", "versions": {"activjax": "0.1.0", "jax": "0.10.2", "x": text},
        "device": {"platform": "cpu", "kind": text, "count": 2}, "wall_seconds": 125.4,
        "compile_seconds": 3.2, "peak_memory_mb": 2048.0, "resumed": 1, "width": {"w8": 2},
        "attempts": [attempt, {**attempt, "ended": "done"}],
    }  # fmt: skip
    write(folder, "provenance.json", provenance)
    if state == "failed":
        write(folder, "failed.json", {"error": f"e.py: {text}", "traceback": f"Traceback: {text}"})
    if state == "done":
        write(folder, "contents.json", {"items": items})
        rows = rows or [
            *(row("accuracy", 0.5 + w / 200, width=w, note=text) for w in (32, 8)),
            row(text, 3.14159, half=None, n=1, unit=text, baseline_name=text, note=text),
        ]
        result = {"status": "done", "question": f"Is it? {text}", "answer": f"It is: 0.54 {text}",
                  "summary": rows, "warnings": list(warnings)}  # fmt: skip
        write(folder, "result.json", result)
    return folder


def write(folder, name, data):
    """Write a JSON file."""
    (folder / name).write_text(json.dumps(data), "utf-8")


def change(folder, name, function):
    """Change a JSON file in place."""
    data = json.loads((folder / name).read_text("utf-8"))
    function(data)
    write(folder, name, data)
