"""The wide table, its files, and means over seeds."""

import csv
import io
import math
import sys

import numpy as np
import pytest
from sweep_folder import HOSTILE, change, make, row

from activjax.runs.errors import ConfigError, StorageError
from activjax.runs.sweep import index, table
from activjax.runs.sweep.folder import SweepFolder
from activjax.stats import mean_interval

POINTS = [
    {"model.width": 8, "act": "relu", "layers": [1, 2], "clip": None, "flag": True, "p": 0.5},
    {"model.width": 16, "act": 3, "clip": 0.5, "flag": False, "p": 1},
]


def odd_rows(point, seed):
    width = point["model.width"]
    values = {8: math.nan, 16: math.inf}
    return [
        row("accuracy", 0.5 + seed, baseline=0.1 * width, width=width, seed=seed),
        row("accuracy", 0.25, layer=0, width=width),
        row("accuracy", 0.75, layer=0, width=width),
        row("loss", values[width], unit="nats", baseline=None, ends=(1.0, 2.0)),
        *([row("only here", 1, unit="")] if width == 8 else []),
    ]


@pytest.fixture
def path(tmp_path):
    return make(tmp_path / "demo" / "x", points=POINTS, seeds=[0, 1], rows=odd_rows, failed=[3])


def columns(path, **options):
    folder = SweepFolder(path)
    return {c.name: c for c in table.columns(index.rows(folder), folder.about["axes"], **options)}


def test_one_column_for_each_axis_and_each_number(path):
    found = columns(path)
    assert list(found) == [
        "id", "state", "seed", "model.width", "act", "layers", "clip", "flag", "p",
        "accuracy", "baseline: accuracy", "accuracy [layer=0]", "baseline: accuracy [layer=0]",
        "accuracy [layer=0] (2)", "baseline: accuracy [layer=0] (2)",
        "loss", "low: loss", "high: loss", "only here", "baseline: only here",
        "warnings", "error",
    ]  # fmt: skip
    kinds = {name: column.kind for name, column in found.items()}
    assert kinds["seed"] == kinds["model.width"] == kinds["warnings"] == "integer"
    assert kinds["p"] == kinds["accuracy"] == kinds["loss"] == kinds["clip"] == "number"
    assert kinds["act"] == kinds["layers"] == kinds["error"] == "text"
    assert kinds["flag"] == "flag"
    assert found["act"].values == ["relu", "relu", "3", "3"]
    assert found["layers"].values == ["[1,2]", "[1,2]", None, None]
    assert found["clip"].values == ["null", "null", 0.5, 0.5]
    assert found["accuracy"].values == [0.5, 1.5, 0.5, None]
    assert found["accuracy [layer=0] (2)"].values == [0.75, 0.75, 0.75, None]
    assert found["baseline: accuracy"].note == "chance"
    assert (found["loss"].unit, found["accuracy"].unit) == ("nats", "")
    assert found["error"].values == [None, None, None, "ValueError: no plain"]
    assert found["only here"].values == [1, 1, None, None]


def test_what_may_differ_is_there_if_asked_for(path):
    assert not any(name.startswith("run.") for name in columns(path))
    found = columns(path, volatile=True)
    assert found["run.seconds"].values == [1.25] * 4
    assert found["run.engine"].kind == "text"


def test_equal_names_are_told_apart(tmp_path):
    path = make(tmp_path / "demo" / "x", grid={"id": [1], "accuracy": [2]}, seeds=[0])
    names = list(columns(path))
    assert names[:5] == ["id", "state", "seed", "id (2)", "accuracy"]
    assert "accuracy (2)" in names


def test_numbers_too_large_for_their_type_stay_text(tmp_path):
    path = make(tmp_path / "demo" / "x", grid={"big": [2**70, 1], "mixed": [2**60 + 1, 0.5]})
    found = columns(path)
    assert found["big"].values[0] == str(2**70)
    assert found["mixed"].values[0] == str(2**60 + 1)


def test_csv_says_what_is_there(path, tmp_path):
    out = tmp_path / "new" / "table.csv"
    assert table.export(SweepFolder(path), out) == out
    lines = list(csv.DictReader(io.StringIO(out.read_text(), newline="")))
    assert [line["loss"] for line in lines] == ["nan", "nan", "inf", ""]
    assert [line["clip"] for line in lines] == ["null", "null", "0.5", "0.5"]
    assert [line["layers"] for line in lines] == ["[1,2]", "[1,2]", "", ""]
    assert [line["flag"] for line in lines] == ["true", "true", "false", "false"]
    assert lines[0]["accuracy"] == "0.5"
    assert float(lines[2]["baseline: accuracy"]) == 0.1 * 16
    assert not list(tmp_path.glob("**/.*tmp"))


def test_hostile_text_survives_csv(tmp_path):
    text = 'a,"b"\r\nc\rd\n=1+1\x00'

    def rows(point, seed):
        return [row(text, 1.0)]

    path = make(tmp_path / "demo" / "x", grid={"note": [text, "", HOSTILE]}, seeds=[0], rows=rows)
    record = SweepFolder(path).cells[0]["id"]
    change(path, f"cells/{record}.json", lambda r: r["summary"][0].update(unit="\ud800"))
    out = table.export(SweepFolder(path), tmp_path / "t.csv")
    lines = list(csv.reader(io.StringIO(out.read_bytes().decode(), newline="")))
    clean = [x.replace("\0", "\N{REPLACEMENT CHARACTER}") for x in (text, "", HOSTILE)]
    assert [line[3] for line in lines] == ["note", *clean]
    assert {len(line) for line in lines} == {len(lines[0])}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_equal_sweeps_export_equal_bytes(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    files = []
    for name in ("a", "b"):
        path = make(tmp_path / name / "x", points=POINTS, rows=odd_rows)
        for file in (path / "cells").iterdir():
            change(path, f"cells/{file.name}", lambda r, name=name: r["run"].update(started=name))
        files.append(table.export(SweepFolder(path), tmp_path / f"{name}{suffix}"))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_parquet_has_types_units_and_gaps(path, tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    out = table.export(SweepFolder(path), tmp_path / "t.parquet", volatile=True)
    found = pyarrow.parquet.read_table(out)
    data = found.to_pydict()
    assert list(data)[:4] == ["id", "state", "seed", "model.width"]
    assert data["clip"] == [None, None, 0.5, 0.5]
    assert math.isnan(data["loss"][0])
    assert data["loss"][2:] == [math.inf, None]
    assert data["flag"] == [True, True, False, False]
    assert str(found.schema.field("model.width").type) == "int64"
    assert found.schema.field("loss").metadata == {b"role": b"value", b"unit": b"nats"}
    assert found.schema.field("baseline: accuracy").metadata[b"baseline"] == b"chance"
    assert data["run.seconds"] == [1.25] * 4


def test_an_export_that_cannot_be_says_why(path, tmp_path, monkeypatch):
    folder = SweepFolder(path)
    with pytest.raises(ConfigError, match=r"\.csv or \.parquet"):
        table.export(folder, tmp_path / "t.xlsx")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        table.export(folder, tmp_path / "file" / "t.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(StorageError, match=r"pip install 'activjax\[parquet\]'"):
        table.export(folder, tmp_path / "t.parquet")


def test_means_over_seeds_have_their_intervals(tmp_path):
    path = make(tmp_path / "demo" / "x", seeds=range(5), failed=[0, 5, 6, 7, 8], missing=[10])
    lines = index.rows(SweepFolder(path))
    means, told = table.aggregate(lines)
    assert [(r.name, *r.where.values()) for r in means[:3]] == [
        ("accuracy", 8, 0.001), ("time", 8, 0.001), ("accuracy", 8, 0.01)]  # fmt: skip
    assert [r.n for r in means[::2]] == [4, 1, 4, 5, 5, 5]
    values = [line.summary[0].value for line in lines[1:5]]
    mean, half = mean_interval(np.asarray(values))
    assert (means[0].value, means[0].low, means[0].high) == (mean, mean - half, mean + half)
    assert (means[2].low, means[2].high) == (None, None)
    assert (means[0].baseline, means[0].baseline_name) == (0.1, "chance")
    assert (means[1].unit, means[1].baseline) == ("ms", None)
    assert told == [
        "5 of 30 cells failed and are left out",
        "1 of 30 cells have no record yet and are left out",
    ]


def test_settings_of_points_and_rows_stand_side_by_side(path):
    means, _ = table.aggregate(index.rows(SweepFolder(path)))
    assert dict(means[0].where) == {
        "model.width": 8, "act": "relu", "layers": "[1,2]", "clip": "null", "flag": True,
        "p": 0.5}  # fmt: skip
    assert means[1].where["layer"] == 0
    assert [r.value for r in means if "layer" in r.where] == [0.25, 0.75, 0.25, 0.75]
    assert math.isnan(means[3].value)
    assert means[3].n == 2
    assert [r.n for r in means if r.name == "only here"] == [2]


def test_a_row_that_contradicts_its_point_keeps_both(tmp_path):
    def rows(point, seed):
        return [{**row("gain", 1.0), "where": {"width": 99, "name": "n", "values": 1}}]

    path = make(tmp_path / "demo" / "x", grid={"width": [1]}, seeds=[0, 1], rows=rows)
    means, _ = table.aggregate(index.rows(SweepFolder(path)))
    assert [dict(r.where) for r in means] == [
        {"width": 1, "row.width": 99, "name": "n", "values": 1}
    ]
    assert "gain [width=99, name=n, values=1]" in columns(path)


def test_a_sweep_without_any_result_has_a_table_too(tmp_path):
    path = make(tmp_path / "demo" / "x", missing=range(18))
    assert list(columns(path)) == ["id", "state", "seed", "width", "learning_rate", "warnings",
                                   "error"]  # fmt: skip
    assert table.aggregate(index.rows(SweepFolder(path)))[0] == []
