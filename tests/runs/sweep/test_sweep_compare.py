"""Runs, sweeps and cells side by side."""

import io
import json
import math

import numpy as np
import pytest
import yaml
from rich.console import Console
from sweep_folder import HOSTILE, change, default_rows, make, row, value_at

from activjax.runs import StorageError
from activjax.runs.store import RunFolder
from activjax.runs.sweep import index
from activjax.runs.sweep.compare import compare
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.show_comparison import print_comparison
from activjax.stats import mean_interval


def text_of(found, **options):
    text = io.StringIO()
    print_comparison(found, Console(file=text, width=200), **options)
    return text.getvalue()


def make_run(path, rows, **config):
    """A finished run's folder."""
    path.mkdir(parents=True)
    config = {"experiment": "source/e.py", "name": "demo", "seeds": [0, 1], **config}
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    result = {"status": "done", "question": "?", "answer": ".", "summary": rows, "warnings": []}
    (path / "result.json").write_text(json.dumps(result))
    (path / "provenance.json").write_text(json.dumps({"source_hash": "f" * 64,
        "versions": {"jax": "0.10.2"}}))  # fmt: skip
    return path


def better(point, seed):
    return [{**r, "value": r["value"] + 0.01 * (seed + 1)} for r in default_rows(point, seed)]


@pytest.fixture
def sweeps(tmp_path):
    one = make(tmp_path / "one" / "aaaaaaaaaaaa")
    other = make(tmp_path / "other" / "bbbbbbbbbbbb", rows=better, seeds=range(4), failed=[0],
                 grid={"width": [8, 32, 256], "learning_rate": [1e-3, 1e-2]})  # fmt: skip
    return one, other


@pytest.mark.parametrize("kind", ["sweep", "cell", "run"])
def test_a_thing_is_identical_to_itself(sweeps, tmp_path, kind):
    thing = {
        "sweep": lambda: SweepFolder(sweeps[0]),
        "cell": lambda: next((sweeps[0] / "cells").glob("*.json")),
        "run": lambda: RunFolder(make_run(tmp_path / "run" / "x", [row("loss", math.nan)])),
    }[kind]()
    found = compare(thing, thing)
    assert found.identical
    assert found.rows
    assert "identical: config, sources and all numbers" in text_of(found)


def test_two_sweeps_are_paired_by_point_and_seed(sweeps):
    found = compare(*sweeps)
    assert (found.a, found.b) == ("one/aaaaaaaaaaaa", "other/bbbbbbbbbbbb")
    assert {change.key: (change.a, change.b) for change in found.config} == {
        "seeds": ("[0,1,2]", "[0,1,2,3]"), "width": ("[8,32,128]", "[8,32,256]")}  # fmt: skip
    assert found.sources == ()
    at = {(r.name, *r.where.values()): r for r in found.rows}
    assert len(found.rows) == len(at) == 8  # two quantities at the four points of both
    one = at["accuracy", 32, 0.01]
    mean, half = mean_interval(np.asarray([0.01, 0.02, 0.03]))
    assert (one.difference, one.low, one.high) == pytest.approx((mean, mean - half, mean + half))
    assert one.a == pytest.approx(np.mean([value_at(one.where, seed) for seed in range(3)]))
    assert one.b - one.a == pytest.approx(one.difference)
    assert one.n == 3
    assert at["accuracy", 8, 0.001].n == 2  # one of its cells failed
    assert not found.identical
    assert found.only_a == ("7 of 18 cells that are done",)
    assert found.only_b == ("12 of 23 cells that are done",)
    assert found.notes == ("11 pairs of cells with the same point and seed, at 4 points",)


def test_over_all_points_a_seed_is_one_trial(sweeps):
    overall = {r.name: r for r in compare(*sweeps).overall}["accuracy"]
    mean, half = mean_interval(np.asarray([0.01, 0.02, 0.03]))
    assert (overall.difference, overall.low) == pytest.approx((mean, mean - half))
    assert overall.n == 3
    assert dict(overall.where) == {}


def test_a_comparison_says_what_differs(sweeps):
    text = text_of(compare(*sweeps), limit=3)
    for part in (
        "a: one/aaaaaaaaaaaa", "seeds", "over all points", "at each point", "b - a",
        "5 more that differ", "0 of 8 numbers are the same", "only in a: 7 of 18",
    ):  # fmt: skip
        assert part in text, part


def test_independent_intervals_make_that_of_the_difference(tmp_path):
    a = make_run(tmp_path / "a" / "x", [row("q", 1.0, ends=(0.7, 1.4), n=5), row("r", 1.0)], lr=0.1)
    b = make_run(tmp_path / "b" / "x", [row("q", 2.0, ends=(1.6, 2.3), n=3), row("s", 1.0)], lr=0.2)
    change(b, "provenance.json", lambda p: p["versions"].update(jax="0.11"))
    found = compare(a, b)
    (q,) = found.rows
    assert (q.difference, q.low, q.high) == pytest.approx((1.0, 1 - math.hypot(0.4, 0.4),
                                                           1 + math.hypot(0.3, 0.3)))  # fmt: skip
    assert q.n == 3
    assert [(c.key, c.a, c.b) for c in found.config] == [("lr", "0.1", "0.2")]
    assert [(c.key, c.a, c.b) for c in found.sources] == [("versions.jax", "0.10.2", "0.11")]
    assert (found.only_a, found.only_b) == (("r",), ("s",))


def test_a_setting_that_repeats_the_config_does_not_keep_rows_apart(tmp_path):
    a = make_run(tmp_path / "a" / "x", [row("q", 1.0, width=8), row("q", 5.0, layer=1)], width=8)
    b = make_run(tmp_path / "b" / "x", [row("q", 6.0, layer=1), row("q", 2.0, width=16)], width=16)
    assert [(r.a, r.b, dict(r.where)) for r in compare(a, b).rows] == [
        (1.0, 2.0, {}), (5.0, 6.0, {"layer": 1})]  # fmt: skip


def test_two_cells_with_settings_of_their_points(tmp_path):
    def rows(point, seed):
        return [row("q", point["width"], width=point["width"])]

    path = make(tmp_path / "demo" / "x", grid={"width": [1, 2]}, seeds=[0], rows=rows)
    a, b = (SweepFolder(path).record_path(line.id) for line in index.rows(SweepFolder(path)))
    found = compare(a, b)
    assert [(r.difference, r.low) for r in found.rows] == [(1, None)]
    assert [(c.key, c.a, c.b) for c in found.config] == [("width", "1", "2")]


def test_a_sweep_beside_a_cell_is_taken_at_its_point(sweeps):
    one = SweepFolder(sweeps[0])
    line = index.rows(one)[3]
    found = compare(one, one.record_path(line.id))
    assert [r.b for r in found.rows] == [r.value for r in line.summary]
    assert found.rows[0].a == pytest.approx(
        np.mean([value_at(line.point, seed) for seed in range(3)])
    )
    assert found.notes == ("one/aaaaaaaaaaaa at width=8, learning_rate=0.01",)
    odd = next(li for li in index.rows(SweepFolder(sweeps[1])) if li.point["width"] == 256)
    with pytest.raises(StorageError, match="no point with the config of"):
        compare(one, SweepFolder(sweeps[1]).record_path(odd.id))


def test_a_run_beside_a_sweep(sweeps, tmp_path):
    run = make_run(tmp_path / "run" / "x", [row("accuracy", 0.5, n=5, ends=(0.4, 0.6))],
                   width=32, learning_rate=0.01, steps=10)  # fmt: skip
    found = compare(run, sweeps[0])
    (one,) = found.rows
    assert (one.a, one.n) == (0.5, 3)
    assert one.low is not None
    assert {c.key for c in found.config} == {"seeds", "note", "width", "learning_rate"}
    assert found.only_b == ("time [width=32, learning_rate=0.01]",)


def test_numbers_that_are_not_finite_are_not_hidden(tmp_path):
    a = make(tmp_path / "a" / "x", seeds=[0, 1], rows=lambda p, s: [row("q", math.nan)])
    b = make(tmp_path / "b" / "x", seeds=[0, 1], rows=lambda p, s: [row("q", 1.0)])
    found = compare(a, b)
    assert not found.same_numbers
    assert all(math.isnan(r.difference) for r in found.rows)
    assert compare(a, a).identical
    assert "nan" in text_of(found)


def test_what_is_none_of_these_is_refused(tmp_path, sweeps):
    (tmp_path / "text.json").write_text("{}")
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "text.json", sweeps[0] / "sweep.yaml"):
        with pytest.raises(StorageError, match=r"expected the folder|not the record"):
            compare(path, sweeps[0])


def test_hostile_text_reaches_no_terminal(tmp_path):
    paths = [make(tmp_path / name / "x", text=text, grid={HOSTILE: [1]},
                  rows=lambda p, s: [row(HOSTILE, s, note=HOSTILE)])
             for name, text in (("a", HOSTILE), ("b", HOSTILE * 2))]  # fmt: skip
    assert "\x1b" not in text_of(compare(*paths))
