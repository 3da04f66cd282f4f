"""The wide table of a sweep as a file: CSV and Parquet."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from activjax import _files
from activjax.runs.errors import StorageError
from activjax.runs.store import storing, write_text

#: A swept key that is set to nothing; a key that the cell's point lacks is None.
NULL = "null"


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of the wide table.

    Attributes:
        name: unique in its table.
        kind: `"integer"`, `"number"`, `"flag"` (bool) or `"text"`: what all values are.
        role: `"record"` (the id), `"state"`, `"cell"`, `"axis"`, `"value"`, `"low"`, `"high"`,
            `"baseline"`, `"error"` or `"run"`.
        values: one a cell; None where there is none.
        unit: of the numbers.
        note: what the baseline is.
    """

    name: str
    kind: str
    role: str
    values: list[Any]
    unit: str = ""
    note: str = ""


def write_csv(path: Path, table: Sequence[Column]) -> None:
    """A line a cell, in UTF-8. Raises `StorageError`."""
    lines = [",".join(_field(column.name) for column in table)]
    lines += [",".join(map(_field, line)) for line in zip(*(column.values for column in table))]
    write_text(path, "\n".join(lines) + "\n")


def write_parquet(path: Path, table: Sequence[Column]) -> None:
    """Typed columns, with role, unit and what the baseline is as metadata of the fields.

    Raises:
        StorageError: the file cannot be written, or there is no pyarrow.
    """
    try:
        pyarrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise StorageError(
            "Parquet needs pyarrow, which is not installed: pip install 'activjax[parquet]', "
            "or export to a name that ends in .csv"
        ) from error
    types = {
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "flag": pyarrow.bool_(),
        "text": pyarrow.string(),
    }
    fields, arrays = [], []
    for column in table:
        about = {"role": column.role, "unit": column.unit, "baseline": column.note}
        about = {key: text for key, text in about.items() if text}
        fields.append(pyarrow.field(column.name, types[column.kind], metadata=about))
        values = column.values
        if column.kind != "text":
            values = [None if v == NULL else v for v in values]
        arrays.append(pyarrow.array(values, types[column.kind], from_pandas=False))
    whole = pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields))
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(whole, sink)
    _write_bytes(path, sink.getvalue())


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = (
        repr(value)
        if isinstance(value, float)
        else str(value).replace("\0", "\N{REPLACEMENT CHARACTER}")
    )
    # an empty text is not the same as nothing
    if not text or any(c in text for c in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _write_bytes(path: Path, data: Any) -> None:
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _files.whole(path, "wb") as file:
            file.write(data)
