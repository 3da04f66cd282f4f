"""Cells inside one program: equal to runs of their own, compiled once, over all devices."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from activjax import cli, runs
from activjax.runs import contract, store
from activjax.runs.cells import Cells
from activjax.runs.errors import CellsFailed, ExperimentError
from activjax.runs.programs import Programs
from activjax.runs.sweep import launch, width
from activjax.runs.sweep.engines import Options
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.forecast import forecast

INLINE = Options(engine="inline", width=4)


@pytest.fixture
def drill(tiny):
    """Runs a sweep of drill.py in this process."""
    (tiny / "drill.yaml").write_text("experiment: drill.py\nseeds: 3\n")

    def start(*overrides, **options):
        options = {"options": INLINE, "progress": False, "out": tiny / "runs", **options}
        return launch.sweep(tiny / "drill.yaml", overrides, **options)

    start.home = tiny
    return start


def values(folder):
    return {c["id"]: [row["value"] for row in folder.record(c["id"])["summary"]]
            for c in folder.cells}  # fmt: skip


def traces(folder):
    module = contract.load(str(folder.path / "source" / "drill.py"), None).module
    return module.TRACES


def test_cells_equal_runs_of_their_own(drill):
    folder = drill("sweep.grid.lr=[0.02, 0.05]")
    found = values(folder)
    assert len(found) == 6
    for cell in folder.cells[1::3]:
        record = folder.record(cell["id"])
        assert record["status"] == "done"
        alone = runs.run(
            drill.home / "drill.yaml",
            [f"lr={cell['point']['lr']}", f"seeds=[{cell['seed']}]"],
            out=drill.home / "alone",
            progress=False,
        )
        assert alone.id == cell["id"]
        expected = alone.read_json("result.json")["summary"]
        # SGD with these rates contracts, so what rounding adds in 20 steps stays of its own size:
        # sums of 8 to 40 terms in another order, an error of 40 * 2**-23 = 5e-6 at most
        for row, other in zip(record["summary"], expected, strict=True):
            assert row["value"] == pytest.approx(other["value"], rel=1e-5)
            if other["baseline"] is not None:
                assert row["baseline"] == pytest.approx(other["baseline"], rel=1e-5)
            assert (row["name"], row["n"], row["where"]) == (other["name"], 1, other["where"])
        assert np.load(folder.path / "cells" / cell["id"] / "arrays" / "w.npy").shape == (1, 3)


def test_exact_is_bit_equal_to_a_run(drill):
    folder = drill("sweep.grid.lr=[0.02]", "seeds=2", exact=True)
    for cell in folder.cells:
        alone = runs.run(
            drill.home / "drill.yaml", ["lr=0.02", f"seeds=[{cell['seed']}]"],
            out=drill.home / "alone", progress=False,
        )  # fmt: skip
        record = folder.record(cell["id"])
        assert record["summary"] == alone.read_json("result.json")["summary"]
        assert (record["run"]["width"], record["run"]["engine"]) == (1, "inline")


def test_one_program_for_all_batches_of_a_group(drill, compilations):
    with compilations() as first:
        folder = drill("sweep.grid.lr=[0.01, 0.02, 0.03, 0.04]")  # 12 cells, 3 batches
    with compilations() as more:
        bigger = drill("sweep.grid.lr={from: 0.01, to: 0.4, linear: 40}")  # 120 cells, 30 batches
    assert len(more) <= len(first)
    assert len(bigger.cells) == 120
    assert {folder.record(c["id"])["run"]["batch"][-1] for c in folder.cells} == {"0", "1", "2"}


def test_the_last_batch_is_filled_up(drill):
    folder = drill("seeds=7", options=Options(engine="inline", width=4))
    group = json.loads(next((folder.path / "groups").glob("*.json")).read_text())
    assert [len(b["cells"]) for b in group["batches"]] == [4, 3]
    assert {b["width"] for b in group["batches"]} == {4}
    assert len(values(folder)) == 7
    # the same numbers as in a batch that is full
    other = drill("seeds=8", options=Options(engine="inline", width=4))
    whole = values(other)
    for cell, value in values(folder).items():
        assert value == whole[cell]


def test_cases_and_main_experiments_are_swept_too(tiny):
    options = {"options": INLINE, "progress": False, "out": tiny / "runs"}
    overrides = ["sweep.grid.lr=[0.02, 0.05]", "seeds=[1]", "steps=20"]
    folder = launch.sweep(tiny / "regression.yaml", overrides, exact=True, **options)
    alone = runs.run(tiny / "regression.yaml", ["lr=0.05", "seeds=[1]", "steps=20"], out=tiny / "x")
    record = folder.record(alone.id)
    assert record["summary"] == alone.read_json("result.json")["summary"]
    names = [item["name"] for item in record["contents"] if item["kind"] == "array"]
    assert names == ["w", "velocity", "w", "velocity"]

    folder = launch.sweep(tiny / "average.yaml", ["sweep.grid.n=[10, 20]"], **options)
    alone = runs.run(tiny / "average.yaml", ["n=20", "seeds=[3]"], out=tiny / "x")
    expected = alone.read_json("result.json")["summary"]
    assert folder.record(alone.id)["summary"] == expected


def test_over_all_devices_without_a_word_between_them(drill):
    folder = drill("seeds=16", options=Options(engine="inline", width=16))
    assert {folder.record(c["id"])["run"]["devices"] for c in folder.cells} == {8}
    experiment = contract.load(str(folder.path / "source" / "drill.py"), None)
    config = experiment.Config()
    cells = Cells.of([(config, seed) for seed in range(16)])
    one = Programs(experiment, None, config, 16)
    many = Programs(experiment, None, config, 16, sharded=True)
    assert (one.devices, many.devices) == (1, 8)
    text = many.loop.program._advance.as_text()
    for word in ("all-reduce", "all-gather", "all-to-all", "collective-permute"):
        assert word not in text
    a = one.loop.run(one.init(cells), cells.hp)
    b = many.loop.run(many.init(cells), many.placed(cells.hp))
    np.testing.assert_allclose(a.state.w, b.state.w, rtol=1e-5)
    for i in (0, 9, 15):
        np.testing.assert_array_equal(many.cell(b.state, i).w[0], b.state.w[i])


@pytest.mark.parametrize("seed", [0, 5, 2**31, 2**32 - 1])
def test_keys_are_those_of_the_seeds(seed):
    config = dataclasses.make_dataclass("Config", [])()
    cells = Cells.of([(config, seed)])
    expected = jax.random.key_data(jax.random.key(np.uint32(seed)))
    np.testing.assert_array_equal(jax.random.key_data(cells.keys)[0], expected)


def test_width_follows_memory():
    class Fake:
        devices, compile_seconds = 1, 0.0

        def __init__(self, cells):
            self.memory = lambda: 1000 + 100 * cells

    def probe(count, most, budget):
        made = []

        def make(cells):
            made.append(cells)
            return [Fake(cells)]

        return width.probe(make, count, most, budget, 1)[0].width, made

    assert probe(100, 64, None) == (50, [50])  # two equal batches
    assert probe(100, 64, 10_000) == (50, [50])
    assert probe(100, 64, 3_000) == (20, [50, 25, 20])
    assert probe(100, 64, 0)[0] == 1
    assert width.even(100, 64, 8) == 56  # a multiple of the devices
    assert width.even(5, 64, 8) == 5


def test_a_limit_of_memory_narrows_programs(drill):
    folder = drill(options=Options(engine="inline", width=4, memory_mb=1.0))
    (group,) = (json.loads(p.read_text()) for p in (folder.path / "groups").glob("*.json"))
    assert (group["probe"]["width"], group["probe"]["budget"]) == (1, 0)
    assert group["probe"]["bytes"] > 40 * 3 * 4, "at least the data"
    assert {folder.record(c["id"])["run"]["width"] for c in folder.cells} == {1}


def test_nothing_is_run_twice(drill):
    folder = drill("sweep.grid.lr=[0.02, 0.05]")
    before = {p.name: p.stat().st_mtime_ns for p in (folder.path / "cells").glob("*.json")}
    drill("sweep.grid.lr=[0.02, 0.05]")
    gone = folder.cells[4]["id"]
    kept = folder.record(gone)
    folder.record_path(gone).unlink()
    again = launch.resume(folder.path, progress=False)
    assert isinstance(again, SweepFolder)
    after = {p.name: p.stat().st_mtime_ns for p in (folder.path / "cells").glob("*.json")}
    assert {n for n in after if after[n] != before[n]} == {f"{gone}.json"}
    assert {k: v for k, v in folder.record(gone).items() if k != "run"} == {
        k: v for k, v in kept.items() if k != "run"
    }


# --- what goes wrong --------------------------------------------------------------------------


def failures(drill, *overrides):
    """The failed cells of a sweep, and what it said of them."""
    with pytest.raises(CellsFailed) as caught:
        drill(*overrides)
    (folder,) = (drill.home / "runs" / "drill").iterdir()
    folder = SweepFolder(folder)
    records = [folder.record(c["id"]) for c in folder.cells]
    assert all(records), "every cell has a record"
    return [r for r in records if r["status"] == "failed"], str(caught.value)


def test_a_cell_that_raises_keeps_its_traceback_and_checkpoint(drill, capsys, monkeypatch):
    monkeypatch.chdir(drill.home)
    # 0.5 is as bad as 1.0
    words = ["sweep", "drill.yaml", "trouble=finish raise", "sweep.grid.bad=[0.0, 1.0, 0.5]"]
    assert cli.main([*words, "--engine", "inline", "--width", "4"]) == 5
    said = capsys.readouterr().err
    assert "6 of 9 cells failed (RuntimeError: asked to fail)" in said
    assert "Traceback" not in said
    (path,) = (drill.home / "runs" / "drill").iterdir()
    folder = SweepFolder(path)
    kept = {c["id"]: folder.record(c["id"]) for c in folder.cells}
    found = {i: r for i, r in kept.items() if r["status"] == "failed"}
    assert {r["point"]["bad"] for r in found.values()} == {0.5, 1.0}
    for record in found.values():
        error = record["error"]
        assert (error["kind"], error["message"]) == ("raised", "RuntimeError: asked to fail")
        assert "drill.py" in error["traceback"]
        assert list((path / error["checkpoint"]).glob("*/manifest.json"))
    assert {row.where["bad"] for row in folder.result().summary} == {0.0}

    assert cli.main(["resume", str(path)]) == 5  # nothing is missing
    assert kept == {i: folder.record(i) for i in kept}
    assert cli.main(["resume", str(path), "--retry-failed", "--quiet"]) == 5
    again = {i: folder.record(i) for i in kept}
    assert {i for i, r in again.items() if r["status"] == "failed"} == set(found)
    assert all(again[i]["run"]["width"] == 1 for i in found)
    assert all(again[i] == kept[i] for i in kept if i not in found)


def test_what_all_share_fails_for_all_at_once(drill):
    found, said = failures(drill, "sweep.list=[{trouble: setup}, {lr: 0.1}]")
    assert len(found) == 3
    assert "3 of 6 cells failed (RuntimeError: asked to fail in setup)" in said
    assert all("asked to fail in setup" in r["error"]["traceback"] for r in found)


def test_nan_is_a_result_that_is_flagged(drill):
    folder = drill("trouble=nan", "sweep.grid.bad=[0.0, 1.0]")
    for record in (folder.record(c["id"]) for c in folder.cells):
        odd = bool(record["warnings"])
        assert odd == (record["point"]["bad"] == 1.0)
        assert (record["summary"][0]["value"] is None) == odd
        assert ("flag" in record["summary"][0]) == odd


def test_infinite_values_are_swept_too(drill):
    folder = drill("sweep.grid.bad=[0.0, .inf]")
    points = [folder.record(c["id"])["point"]["bad"] for c in folder.cells]
    assert points == [0.0] * 3 + ["Infinity"] * 3
    drill("sweep.grid.bad=[0.0, .inf]")  # finds it done
    assert folder.about["axes"] == {"bad": [0.0, "Infinity"]}


def test_a_forecast(drill):
    overrides = ["sweep.grid.lr=[0.02, 0.05]", "sweep.zip.steps=[20, 40]"]
    found = forecast(
        drill.home / "drill.yaml", overrides, options=INLINE, out=drill.home / "dry", progress=False
    )
    assert [(g["cells"], g["width"], g["shared"]) for g in found.groups] == [
        (6, 3, {"steps": 20}), (6, 3, {"steps": 40}),
    ]  # fmt: skip
    assert all(g["bytes"] > 0 < g["cell_seconds"] for g in found.groups)
    assert found.seconds == pytest.approx(sum(6 * g["cell_seconds"] for g in found.groups))
    assert not (drill.home / "dry" / "drill").exists()


def test_a_failed_conclusion_loses_no_cell(drill):
    source = drill.home / "drill.py"
    source.write_text(source.read_text() + "\n\ndef conclude(cells, out):\n    1 / 0\n")
    with pytest.raises(ExperimentError, match="ZeroDivisionError"):
        drill()
    (folder,) = (drill.home / "runs" / "drill").iterdir()
    assert len(values(SweepFolder(folder))) == 3
    assert "ZeroDivisionError" in json.loads((folder / "failed.json").read_text())["error"]


def test_conclude_sees_every_cell(drill):
    source = drill.home / "drill.py"
    source.write_text(
        source.read_text()
        + """

def conclude(cells, out):
    assert [c.seed for c in cells] == [0, 1, 2] * 2
    sizes = [np.abs(c.load("w")).sum() for c in cells]
    out.table("sizes", [(c.point["lr"], s) for c, s in zip(cells, sizes)], ["lr", "size"])
    rows = [runs.Row.over("loss", [c.value("mean loss", part="history") for c in cells])]
    return runs.Result("All?", f"{len(cells)}", tuple(rows))
"""
    )
    folder = drill("sweep.grid.lr=[0.02, 0.05]")
    result = store.RunFolder(folder.path).result()
    assert (result.answer, result.summary[0].n) == ("6", 6)
    assert json.loads((folder.path / "contents.json").read_text())["items"][0]["name"] == "sizes"


def test_a_torn_record_is_made_again(drill):
    folder = drill()
    path = folder.record_path(folder.cells[1]["id"])
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    drill()
    assert json.loads(path.read_text())["summary"] == json.loads(whole)["summary"]


def test_main_needs_no_probe(tiny, monkeypatch):
    def probe(*_):
        raise AssertionError("there is no program whose width could be measured")

    monkeypatch.setattr("activjax.runs.sweep.executor.Executor.probe", probe)
    folder = launch.sweep(
        tiny / "average.yaml", ["seeds=3"], options=INLINE, progress=False, out=tiny / "runs"
    )
    assert len(folder.recorded()) == 3
    assert {folder.record(c["id"])["run"]["width"] for c in folder.cells} == {1}


def test_what_watches_a_worker_does_not_wait_for_jax():
    """A job's supervisor starts on every node of a cluster, from a file system that all share."""
    modules = ("_station", "_slurm", "_ray")
    lines = [f"import activjax.runs.sweep.engines.{name}" for name in modules]
    lines += ["import sys", "assert not {'jax', 'numpy', 'pydantic'} & set(sys.modules)"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
