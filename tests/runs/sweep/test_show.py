"""What the terminal says about sweeps."""

import io

import pytest
from rich.console import Console
from sweep_folder import HOSTILE, make, write

from activjax.runs.errors import ConfigError, StorageError
from activjax.runs.result import Result, to_json
from activjax.runs.sweep import index, show, table
from activjax.runs.sweep.folder import SweepFolder, all_sweeps


@pytest.fixture
def folder(tmp_path):
    return SweepFolder(make(tmp_path / "demo" / "0123456789ab", failed=[3, 4], missing=[7]))


def printed(function, *arguments, width=200, **options):
    text = io.StringIO()
    function(*arguments, Console(file=text, width=width, no_color=True), **options)
    return text.getvalue()


def cells(folder, *words, **options):
    console = Console(file=(text := io.StringIO()), width=200)
    show.print_cells(folder, console, words, **options)
    lines = text.getvalue().splitlines()
    return lines[0].split(), [line.split() for line in lines[1:-1]], lines[-1]


def test_all_sweeps_one_a_line(tmp_path, folder):
    make(tmp_path / "whole" / "bbbbbbbbbbbb", text=HOSTILE)
    broken = make(tmp_path / "broken" / "cccccccccccc")
    (broken / "cells.jsonl").write_text("[")
    text = printed(show.print_sweeps, all_sweeps(tmp_path))
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "demo" in lines["17 of 18"]
    assert " 2 " in lines["17 of 18"]
    assert "It is: 0.54" in lines["done"]
    assert "\x1b" not in text
    assert "broken" in lines["unreadable"]
    assert printed(show.print_sweeps, []) == ""


def test_cells_are_listed_and_filtered(folder):
    head, found, told = cells(folder)
    assert head == ["state", "id", "seed", "width", "learning_rate", "accuracy", "time", "error"]
    assert len(found) == 18
    assert told == "18 of 18 cells"
    assert [line[0] for line in cells(folder, failed=True)[1]] == ["failed"] * 2
    assert [line[0] for line in cells(folder, missing=True)[1]] == ["missing"]
    assert len(cells(folder, failed=True, missing=True)[1]) == 3
    assert len(cells(folder, "width=32")[1]) == 6
    assert len(cells(folder, "learning_rate=1e-3", "seed=2")[1]) == 3
    assert len(cells(folder, "learning_rate=.001", "width=32", "state=done")[1]) == 2
    assert cells(folder, "width=33")[2] == "0 of 18 cells"
    _, found, told = cells(folder, limit=4)
    assert len(found) == 4
    assert told.startswith("18 of 18 cells, the first 4 shown")
    assert len(cells(folder, limit=None)[1]) == 18


@pytest.mark.parametrize(
    ("word", "says"),
    [("width", "expected key=value"), ("widht=3", "did you mean 'width'"), ("=3", "no such key")],
)
def test_a_filter_that_cannot_be_says_why(folder, word, says):
    with pytest.raises(ConfigError, match=says):
        cells(folder, word)


def test_filters_know_all_kinds_of_values(tmp_path):
    points = [{"a.x": None, "b": True}, {"a.x": [1, 2], "b": "yes"}, {"a.x": 1, "c": "1"}]
    lines = index.rows(SweepFolder(make(tmp_path / "d" / "x", points=points, seeds=[0])))

    def selected(*words):
        return [lines.index(line) for line in show.select(lines, words)]

    assert selected("a.x=null") == selected("b=true") == [0]
    assert selected("x=[1,2]") == selected("b=yes") == [1]
    assert selected("x=1.0") == selected("c=1") == [2]
    assert selected("b=1") == []
    assert selected(f"id={lines[1].id}") == [1]


def test_one_sweep_with_its_means_failures_and_what_to_do(folder):
    text = printed(show.print_sweep, folder)
    for part in (
        "demo/0123456789ab  17 of 18 cells, 2 failed", "Is it? plain", "means over seeds",
        "width=8, learning_rate=0.001", "2 of 18 cells failed and are left out",
        "2  ValueError: no plain", f"activjax resume {folder.path}\n",
        f"activjax resume {folder.path} --retry-failed", f"results: {folder.path}",
    ):  # fmt: skip
        assert part in text, part
    assert text.index("accuracy  width=128") < text.index("time      width=8")


def test_a_sweep_that_is_done_shows_its_answer(tmp_path):
    path = make(tmp_path / "demo" / "x", text=HOSTILE)
    (path / "report.html").write_text("")
    text = printed(show.print_sweep, SweepFolder(path))
    assert "done, 18 cells" in text
    assert "best accuracy" in text
    assert f"report: {path / 'report.html'}" in text
    assert "resume" not in text
    assert "\x1b" not in text


def test_an_answer_that_is_the_means_is_shown_once(tmp_path):
    path = make(tmp_path / "demo" / "x")
    means, _ = table.aggregate(index.rows(SweepFolder(path)))
    write(path, "result.json", to_json(Result("Is it?", "It is.", tuple(means))))
    assert printed(show.print_sweep, SweepFolder(path)).count("width=128, learning_rate=0.01") == 2


def test_one_cell(folder):
    lines = index.rows(folder)
    done, failed, missing = (printed(lambda c, i=i: show.print_cell(folder, lines[i].id[:7], c))
                             for i in (0, 3, 7))  # fmt: skip
    assert "width=8, learning_rate=0.001, seed=0" in done
    assert "accuracy" in done
    assert "seconds: 1.25" in done
    assert f"record: {folder.record_path(lines[0].id)}" in done
    assert "Traceback:\n  plain" in failed
    assert "missing" in missing
    with pytest.raises(StorageError, match="no cell 'xyz'"):
        show.find_cell(folder, "xyz")
    with pytest.raises(StorageError, match="means 18 cells"):
        show.find_cell(folder, "")


def test_a_list_of_sweeps_reads_no_record_a_second_time(tmp_path, monkeypatch):
    grid = {"a": list(range(10)), "b": list(range(10))}
    folder = SweepFolder(make(tmp_path / "demo" / "x", grid=grid, seeds=range(5)))
    read, real = [], index._read
    monkeypatch.setattr(index, "_read", lambda *args: read.append(args) or real(*args))
    first = printed(show.print_sweeps, [folder])
    count = len(folder.recorded())
    assert len(read) == count > 400
    assert printed(show.print_sweeps, [SweepFolder(folder.path)]) == first
    assert len(read) == count
