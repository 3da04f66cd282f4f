"""A corpus as a config writes it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.data._corpus import Corpus
from activjax.data._files import found
from activjax.data._hub import hub
from activjax.data._sources import JSONL, jsonl, parquet, text_files
from activjax.data._stdlib import stdlib

_KINDS: dict[str, Callable[..., Corpus]] = {
    "stdlib": stdlib,
    "text": text_files,
    "jsonl": jsonl,
    "parquet": parquet,
    "hub": hub,
}
_FIRST = {"text": "path", "jsonl": "path", "parquet": "path", "hub": "name"}


def corpus(spec: str | Path | Sequence[str | Path] | Mapping[str, Any], **options: Any) -> Corpus:
    """The corpus that a config names.

    `stdlib`, or `hub:user/dataset`, or files: a path, a folder, a glob or a list of these. The
    kind of files follows from how their names end: `.jsonl` and `.ndjson` (also `.gz`) are JSON
    lines, `.parquet` is Parquet, anything else is text. A mapping says it in full:

        corpus: stdlib
        corpus: notes/**/*.md
        corpus: {path: [a.jsonl, b.jsonl], field: body}
        corpus: {kind: text, path: data.jsonl}
        corpus: {kind: hub, name: user/dataset, split: train, revision: 4f2a1c9}

    Args:
      spec: as above. Relative paths are relative to the working directory.
      options: of the function for that kind (`field`, `column`, `leave_out`, ...).

    Raises:
      ValueError: an unknown kind or option, files of mixed kinds, or as that function raises.
      FileNotFoundError: nothing there.
    """
    kind, given, options = _read(spec, options)
    if kind is None:
        kind = _kind_of(given)
    make = _KINDS[kind]
    known = [p for p in inspect.signature(make).parameters if p not in ("paths", "name")]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(known)}"
            raise ValueError(f"corpus: kind {kind!r} has no option {option!r}; {hint}")
    return make(**options) if given is None else make(given, **options)


def _read(spec: Any, options: dict[str, Any]) -> tuple[str | None, Any, dict[str, Any]]:
    """The kind if it is said, the path or name, and the options."""
    if isinstance(spec, Mapping):
        options = {**spec, **options}
        kind = options.pop("kind", None)
        if kind is not None and kind not in _KINDS:
            near = difflib.get_close_matches(str(kind), _KINDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(_KINDS)}"
            raise ValueError(f"corpus: there is no kind {kind!r}; {hint}")
        if kind == "stdlib":
            return kind, None, options
        first = _FIRST.get(kind or "text", "path")
        if first not in options:
            raise ValueError(f"corpus: kind {kind or 'text'!r} needs {first!r}, got {dict(spec)}")
        return kind, options.pop(first), options
    if spec == "stdlib":
        return "stdlib", None, options
    if isinstance(spec, str) and spec.startswith("hub:"):
        return "hub", spec.removeprefix("hub:"), options
    if not isinstance(spec, (str, Path, list, tuple)) or spec == "":
        raise ValueError(f"corpus: expected a path, a kind or a mapping, got {spec!r}")
    return None, spec, options


def _kind_of(paths: Any) -> str:
    try:
        files = found(paths)
    except FileNotFoundError as error:
        if isinstance(paths, str) and difflib.get_close_matches(paths, ["stdlib"], cutoff=0.75):
            error.strerror = "no such file or folder; did you mean 'stdlib'?"
        raise
    kinds: dict[str, str] = {}
    for path in files.values():
        name = path.name.lower()
        kind = "parquet" if name.endswith(".parquet") else "text"
        kinds.setdefault("jsonl" if name.endswith(JSONL) else kind, path.name)
    if len(kinds) > 1:
        shown = ", ".join(f"{kind} ({name})" for kind, name in kinds.items())
        raise ValueError(
            f"corpus: {paths} has files of several kinds, {shown}; choose by a glob, or say "
            "which it is: {kind: text, path: ...}"
        )
    return next(iter(kinds))
