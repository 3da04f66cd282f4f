"""The index: never wrong, whatever has happened to it; only what changed is read again."""

import json
import math
import multiprocessing
import os
import random
import sqlite3
import time

import pytest
from sweep_folder import HOSTILE, change, default_rows, make, make_record, row

from activjax.runs.errors import StorageError
from activjax.runs.sweep import index
from activjax.runs.sweep.folder import SweepFolder, all_sweeps

INDEX = "index.sqlite"


@pytest.fixture
def path(tmp_path):
    return make(tmp_path / "demo" / "0123456789ab", failed=[3], missing=[5])


def read(path):
    return index.rows(SweepFolder(path))


def truth(path):
    """What the records say, without any index."""
    folder = SweepFolder(path)
    states = [(folder.record(cell["id"]) or {}).get("status", "missing") for cell in folder.cells]
    return [(cell["id"], state) for cell, state in zip(folder.cells, states)]


def states(lines):
    return [(line.id, line.state) for line in lines]


@pytest.fixture
def parsed(monkeypatch):
    """The cells whose records are read."""
    seen = []
    read = index._read

    def spy(folder, cell, stamp):
        seen.append(cell)
        return read(folder, cell, stamp)

    monkeypatch.setattr(index, "_read", spy)
    return seen


def test_it_says_what_the_records_say(path):
    for _ in range(2):  # without an index and with one
        lines = read(path)
        assert states(lines) == truth(path)
        assert index.counts(lines) == {"done": 16, "failed": 1, "missing": 1}
        done, failed, missing = lines[0], lines[3], lines[5]
        assert done.point == {"width": 8, "learning_rate": 0.001}
        assert (done.seed, done.group) == (0, done.id[:8])
        expected = default_rows(done.point, 0)
        assert [r.value for r in done.summary] == [r["value"] for r in expected]
        assert [r.name for r in done.summary] == ["accuracy", "time"]
        assert done.run["seconds"] == 1.25
        assert failed.message == "ValueError: no plain"
        assert "traceback" not in failed.error
        assert failed.summary == missing.summary == ()
        assert (missing.error, missing.run, missing.message) == ({}, {}, "")


def test_only_new_and_changed_records_are_read(path, parsed):
    cells = [cell["id"] for cell in SweepFolder(path).cells]
    read(path)
    assert parsed == [cell for i, cell in enumerate(cells) if i != 5]
    parsed.clear()
    assert index.counts(read(path))["done"] == 16
    assert parsed == []
    cell = SweepFolder(path).cells[3]
    make_record(path, cell, [row("accuracy", 0.9)])
    make_record(path, SweepFolder(path).cells[5], [])
    lines = read(path)
    assert parsed == [cells[3], cells[5]]
    assert [r.value for r in lines[3].summary] == [0.9]
    parsed.clear()
    (path / "cells" / f"{cells[0]}.json").unlink()
    assert read(path)[0].state == "missing"
    assert parsed == []


def test_a_record_replaced_within_the_clocks_tick_is_read_again(path):
    record = path / "cells" / f"{SweepFolder(path).cells[0]['id']}.json"
    read(path)
    before = record.stat()
    change(path, f"cells/{record.name}", lambda r: r["summary"][0].update(value=0.123))
    size = record.stat().st_size
    record.write_text(record.read_text() + " " * max(before.st_size - size, 0))
    os.utime(record, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read(path)[0].summary[0].value == 0.123


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"no database at all" * 1000),
        lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
        lambda file: (file.unlink(), file.mkdir()),
        lambda file: sqlite(file, "PRAGMA user_version = 99"),
        lambda file: sqlite(file, "DROP TABLE records"),
        lambda file: sqlite(file, "ALTER TABLE records DROP COLUMN checksum"),
        lambda file: sqlite(file, "UPDATE records SET kept = replace(kept, '0.', '1.')"),
        lambda file: sqlite(file, "UPDATE records SET state = 'failed'"),
        lambda file: sqlite(file, "UPDATE records SET kept = NULL, mtime = 'x'"),
        lambda file: file.with_name(f"{INDEX}-journal").write_bytes(os.urandom(4096)),
    ],
)
def test_a_damaged_index_is_as_good_as_none(path, damage):
    before = read(path)
    damage(path / INDEX)
    assert read(path) == before
    assert read(path) == before


def sqlite(file, command):
    with sqlite3.connect(file) as base:
        base.execute(command)
    base.close()


def test_flipped_bytes_never_make_a_wrong_number(path):
    before = read(path)
    good = (path / INDEX).read_bytes()
    draw = random.Random(0)
    for _ in range(60):
        bad = bytearray(good)
        for _ in range(draw.choice([1, 8])):
            bad[draw.randrange(len(bad))] ^= draw.randrange(1, 256)
        (path / INDEX).write_bytes(bad)
        assert read(path) == before


def test_an_index_that_cannot_be_written_is_done_without(path, parsed, monkeypatch):
    monkeypatch.setattr(index, "save", lambda *_: None)
    assert states(read(path)) == states(read(path)) == truth(path)
    assert len(parsed) == 2 * 17
    monkeypatch.undo()
    connect = sqlite3.connect

    def refuse(database, *arguments, **options):
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite3, "connect", refuse)
    assert states(read(path)) == truth(path)
    monkeypatch.setattr(sqlite3, "connect", connect)
    assert states(read(path)) == truth(path)
    assert (path / INDEX).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(path):
    path.chmod(0o500)
    try:
        assert states(read(path)) == truth(path)
    finally:
        path.chmod(0o700)


@pytest.mark.parametrize(
    "text",
    ['{"id": "x", "sta', "", "[]", "null", '{"status": "done"}', '{"status": "odd"}', "\xff",
     '{"status": "done", "summary": [{"name": "x"}]}', '{"status": "failed", "error": 3}',
     '{"status": "done", "summary": [{"name": "a", "value": "b", "low": null, "high": null, '
     '"n": 1, "unit": "", "baseline": null, "baseline_name": "", "where": {}}]}'],
)  # fmt: skip
def test_what_is_no_record_counts_as_missing(path, text):
    cell = SweepFolder(path).cells[1]["id"]
    (path / "cells" / f"{cell}.json").write_text(text, "latin-1")
    for _ in range(2):
        assert read(path)[1].state == "missing"
    make_record(path, SweepFolder(path).cells[1], [])
    assert read(path)[1].state == "done"


def test_records_of_other_cells_are_ignored(path):
    (path / "cells" / "ffffffffffff.json").write_text("{")
    (path / "cells" / ".0123.json.tmp").write_text("{")
    (path / "cells" / "0123456789ab").mkdir()
    (path / "cells" / "eeeeeeeeeeee.json").symlink_to("nowhere")
    assert len(read(path)) == 18


def test_no_records_yet_and_a_damaged_list_of_cells(path):
    for file in (path / "cells").iterdir():
        file.unlink()
    assert index.counts(read(path)) == {"done": 0, "failed": 0, "missing": 18}
    (path / "cells").rmdir()
    assert index.counts(read(path))["missing"] == 18
    (path / "cells.jsonl").write_text('{"id": "a", "seed": 0}\n')
    with pytest.raises(StorageError, match=r"cells\.jsonl: cannot be read"):
        read(path)
    (path / "cells.jsonl").write_text('{"id": "a", "se')
    with pytest.raises(StorageError, match=r"cells\.jsonl: cannot be read"):
        read(path)
    (path / "cells.jsonl").unlink()
    with pytest.raises(StorageError, match=r"cells\.jsonl"):
        read(path)


def test_what_is_not_finite_and_hostile_comes_back_as_it_was(tmp_path):
    odd = [row(HOSTILE, value, note=HOSTILE) for value in (math.nan, math.inf, -math.inf)]
    path = make(tmp_path / "demo" / "x" / "y", rows=lambda point, seed: odd, text=HOSTILE)
    record = path / "cells" / f"{SweepFolder(path).cells[0]['id']}.json"
    change(path, f"cells/{record.name}", lambda r: r.update(warnings=["\ud800"]))  # half a letter
    for _ in range(2):
        line = read(path)[0]
        assert [str(r.value) for r in line.summary] == ["nan", "inf", "-inf"]
        assert line.summary[0].name == line.summary[0].where["note"] == HOSTILE
        assert line.warnings == ["\ud800"]


def write_and_read(path, start, seconds, wrong):
    """Another process: replaces records and reads, as long as told."""
    folder = SweepFolder(path)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        cell = folder.cells[start]
        make_record(path, cell, [row("accuracy", random.random())])
        start = (start + 2) % len(folder.cells)
        lines = index.rows(SweepFolder(path))
        wrong.value += any(line.state == "missing" for line in lines)


@pytest.mark.filterwarnings("ignore:os.fork", "ignore:This process")  # the children use no JAX
def test_two_processes_at_once_and_kills_in_the_middle(path):
    make_record(path, SweepFolder(path).cells[5], [])
    context = multiprocessing.get_context("fork")
    wrong = context.Value("i", 0)
    others = [context.Process(target=write_and_read, args=(path, i, 30.0, wrong)) for i in range(2)]
    for other in others:
        other.start()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert index.counts(read(path))["missing"] == 0
    for other in others:
        other.kill()  # wherever they are
        other.join()
    assert wrong.value == 0
    assert states(read(path)) == truth(path)
    for line in read(path):
        record = json.loads((path / "cells" / f"{line.id}.json").read_text())
        assert [r.value for r in line.summary] == [r["value"] for r in record.get("summary", ())]


def test_what_killed_processes_left_is_cleared_away(path):
    old, new = (path / f".{INDEX}.{name}" for name in ("1-aa", "2-bb"))
    old.write_text("")
    new.write_text("")
    os.utime(old, (0, 0))
    read(path)
    assert [old.exists(), new.exists()] == [False, True]


def test_failures_are_grouped_and_sweeps_listed_newest_first(tmp_path):
    first = make(tmp_path / "b" / "x", failed=range(4))
    second = make(tmp_path / "a" / "y", missing=range(18))
    os.utime(first / "result.json", (2e9, 2e9))
    assert [f.path for f in all_sweeps(tmp_path)] == [first, second]
    groups = index.failures(read(first))
    assert {text: len(lines) for text, lines in groups.items()} == {"ValueError: no plain": 4}
    assert index.question(SweepFolder(first), read(first)) == "Is it? plain"
    assert index.question(SweepFolder(second), read(second)) == ""
