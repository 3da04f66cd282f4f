"""Corpora from files: text, JSON lines, Parquet."""

from __future__ import annotations

import difflib
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from activjax.data._corpus import Corpus
from activjax.data._files import Paths, found
from activjax.data._needs import needed

#: How the names of JSON lines files end.
JSONL = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")


def text_files(paths: Paths) -> Corpus:
    """A document a file, as it stands.

    Args:
      paths: a file, a folder (with all below it), a glob (`**` across folders), or several.

    Raises:
      FileNotFoundError: nothing there.
      ValueError: no file is left (empty ones and such that are not UTF-8 are left out), or two
        files have one name.
    """
    files = found(paths)
    documents = ((name, path.read_bytes()) for name, path in files.items())
    return Corpus.of(documents, label=_label(paths), files=[*files.values()])


def jsonl(paths: Paths, field: str = "text") -> Corpus:
    """A document a line of JSON, named `file.jsonl:line` from line 1. Also `.gz`.

    Args:
      paths: as for `text_files`.
      field: which field of a line's object is the text; null is an empty document.

    Raises:
      FileNotFoundError: nothing there.
      ValueError: a line that is not a JSON object, lacks the field or has no text in it; or no
        document is left.
    """
    files = found(paths)
    return Corpus.of(jsonl_rows(files, field), label=_label(paths), files=[*files.values()])


def parquet(paths: Paths, column: str = "text") -> Corpus:
    """A document a row of a Parquet file, named `file.parquet:row` from row 1.

    Args:
      paths: as for `text_files`.
      column: which column is the text; null is an empty document.

    Raises:
      ImportError: pyarrow is missing (`pip install 'activjax[parquet]'`).
      FileNotFoundError: nothing there.
      ValueError: not Parquet, no such column, not a column of text; or no document is left.
    """
    files = found(paths)
    return Corpus.of(parquet_rows(files, column), label=_label(paths), files=[*files.values()])


def jsonl_rows(files: Mapping[str, Path], field: str) -> Iterator[tuple[str, str | bytes | None]]:
    """The documents of JSON lines files, one after the other."""
    for name, path in files.items():
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{name}:{number}"
                try:
                    line.decode()
                except UnicodeDecodeError:
                    yield where, line  # the corpus lists it
                    continue
                yield where, _field(where, line, field)


def _field(where: str, line: bytes, field: str) -> str | None:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object such as {{{field!r}: ...}}, got {row!r:.60}")
    if field not in row:
        raise ValueError(f"{where}: no field {field!r}; {_nearest(field, row)}")
    if not isinstance(row[field], str | None):
        raise ValueError(f"{where}: {field}: expected text, got {row[field]!r:.60}")
    return row[field]


def parquet_rows(files: Mapping[str, Path], column: str) -> Iterator[tuple[str, bytes | None]]:
    """The documents of Parquet files, one after the other; all columns are checked first."""
    arrow = needed("pyarrow", "parquet", "parquet")
    reader = needed("pyarrow.parquet", "parquet", "parquet")
    opened = {}
    for name, path in files.items():
        try:
            opened[name] = reader.ParquetFile(path)
        except arrow.ArrowInvalid as error:
            raise ValueError(f"{path}: not a Parquet file: {error}") from None
        schema = opened[name].schema_arrow
        if column not in schema.names:
            raise ValueError(f"{path}: no column {column!r}; {_nearest(column, schema.names)}")
        kind = schema.field(column).type
        kind = kind.value_type if arrow.types.is_dictionary(kind) else kind
        if "string" not in str(kind):
            raise ValueError(f"{path}: {column}: expected a column of text, it has type {kind}")
    for name, file in opened.items():
        row = 0
        for batch in file.iter_batches(columns=[column]):
            # As bytes: Arrow does not promise that a string is UTF-8.
            texts = batch.column(0).cast(arrow.string()).cast(arrow.binary())
            for text in texts.to_pylist():
                row += 1
                yield f"{name}:{row}", text


def _nearest(name: str, names: Iterable[str]) -> str:
    names = [*names]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    return f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(names[:12])}"


def _label(paths: Paths) -> str:
    asked = [paths] if isinstance(paths, (str, Path)) else list(paths)
    return f"{asked[0]}" + (f" and {len(asked) - 1} more" if len(asked) > 1 else "")
