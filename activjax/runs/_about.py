"""The parts of a report that say how the run came about: config, commands, provenance."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import Any

import yaml

from activjax.runs._html import Html, code, join, scroll, tag
from activjax.runs._numbers import TIMES, duration
from activjax.runs.store import RunFolder


def config_section(folder: Path) -> list[Html]:
    """`config.yaml`, every default filled in, lists of plain values on one line."""
    try:
        text = (folder / "config.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [tag("p", "The file config.yaml is missing.", class_="note")]
    with contextlib.suppress(yaml.YAMLError):  # damaged: shown as it is
        text = yaml.safe_dump(
            yaml.safe_load(text), sort_keys=False, allow_unicode=True, default_flow_style=None
        )
    note = tag("p", "All settings, defaults included, as in ", tag("code", "config.yaml"), ".")
    return [note, code(text.rstrip(), "Configuration")]


def reproduce_section(run: RunFolder, provenance: dict[str, Any], *, done: bool) -> list[Html]:
    """The commands that repeat, or continue, the run."""
    place = "In the run's folder, which holds the config"
    if (run.path / "source").is_dir():
        place += " and the experiment's own source files"
    if not done:
        return [
            tag("p", f"{place}:"),
            code("activjax run config.yaml --out ../..", "Command that continues the run"),
            tag("p", "It goes on from the last checkpoint, if there is one, and starts again "
                "otherwise. After a change of the config or the sources it is another run."),
        ]  # fmt: skip
    versions = provenance.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    pins = [shlex.quote(f"{k}=={v}") for k, v in versions.items() if k != "activjax"]
    lines = ["activjax run config.yaml --out again"]
    if pins:
        lines.insert(0, f"pip install {' '.join(pins)}")
    return [
        tag("p", f"{place}, with activjax {versions.get('activjax', '')} installed:"),
        code("\n".join(lines), "Commands that repeat the run"),
        tag("p", "This makes a new run below ", tag("code", "again/"), ". With the same versions, "
            "sources and kind of device, its ", tag("code", "result.json"),
            " holds the same numbers."),
    ]  # fmt: skip


def provenance_section(run: RunFolder, data: dict[str, Any]) -> list[Html]:
    """Versions, sources, device, times: what may differ between two runs of equal numbers."""
    if not data:
        return [tag("p", "The file provenance.json is missing or damaged.", class_="note")]
    device, git = data.get("device"), data.get("git")
    facts = [
        ("run", tag("code", data.get("id", ""))),
        ("experiment", tag("code", data.get("experiment", ""))),
        ("hash of the sources", tag("code", data.get("source_hash", ""))),
        ("git commit", _commit(git) if isinstance(git, dict) else "none: not in a repository"),
        ("seeds", _listed(data.get("seeds"))),
        ("seeds in one program", _pairs(data.get("width"), ": ")),
        ("device", _device(device) if isinstance(device, dict) else None),
        ("system", join([data.get("system"), f"Python {data.get('python')}"], ", ")),
        ("versions", _pairs(data.get("versions"), " ")),
        ("wall time", _wall(data)),
        ("peak memory", _megabytes(data.get("peak_memory_mb"))),
        ("resumed", _times(data.get("resumed"))),
    ]
    lines = [
        tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in facts if value
    ]
    parts = [
        scroll(tag("table", tag("tbody", lines, class_="lines"), class_="facts"), "Provenance")
    ]
    attempts = [a for a in data.get("attempts") or () if isinstance(a, dict)]
    if len(attempts) > 1:
        parts += [tag("h3", "Attempts"), _attempts(attempts)]
    return parts


def _attempts(attempts: list[dict[str, Any]]) -> Html:
    heads = [tag("th", text, scope="col") for text in ("started", "ended")]
    heads.insert(1, tag("th", "lasted", scope="col", class_="num"))
    lines = [
        tag("tr", tag("td", _moment(a.get("started"))),
            tag("td", _seconds(a.get("seconds")), class_="num"), tag("td", a.get("ended")))
        for a in attempts
    ]  # fmt: skip
    table = tag("table", tag("thead", tag("tr", heads)), tag("tbody", lines, class_="lines"))
    return scroll(table, "Attempts")


def _moment(text: Any) -> str:
    return str(text).replace("T", " ").replace("+00:00", " UTC")


def _commit(git: dict[str, Any]) -> Html:
    dirty = "with uncommitted changes" if git.get("dirty") else None
    return join([tag("code", git.get("commit", "")), dirty], ", ")


def _device(device: dict[str, Any]) -> str:
    count, platform, kind = device.get("count", 1), device.get("platform"), device.get("kind")
    name = str(platform) if kind == platform else f"{platform} ({kind})"
    return name if count == 1 else f"{count} {TIMES} {name}"


def _wall(data: dict[str, Any]) -> str:
    text, compiling = _seconds(data.get("wall_seconds")), _seconds(data.get("compile_seconds"))
    return f"{text}, of which {compiling} to compile the training" if compiling else text


def _seconds(value: Any) -> str:
    return duration(value) if isinstance(value, (int, float)) else ""


def _megabytes(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return ""
    return f"{value / 1024:.2f} GiB" if value >= 1024 else f"{value:.0f} MiB"


def _times(value: Any) -> str:
    return {0: "never", 1: "once"}.get(value, f"{value} times") if isinstance(value, int) else ""


def _listed(values: Any) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) else ""


def _pairs(values: Any, between: str) -> str:
    if not isinstance(values, dict):
        return ""
    return ", ".join(f"{k}{between}{v}" for k, v in values.items())
