"""A thread that follows a folder: what it sends, what it never sends twice, and how it fails."""

import json
import math
import shutil
import threading
import time
from pathlib import Path

import pytest

from activjax.runs import launch, trackers
from activjax.runs.errors import ConfigError
from activjax.runs.store import RunFolder
from activjax.runs.sweep import Options, launch as sweeps
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.trackers import choose, follow
from activjax.runs.trackers.feed import Source, read_line
from activjax.runs.trackers.protocol import flat

TINY = Path(__file__).parents[1] / "tiny"


class Notes:
    """A tracker that keeps what it is told, over all adapters made; `trouble(self)` may raise."""

    def __init__(self, trouble=lambda notes: None):
        self.told, self.trouble, self.made, self.names = [], trouble, 0, {}

    def __call__(self, name, place):
        self.made += 1
        return self

    def begin(self, run):
        self.names[run.id] = run
        self.told.append(("begin", run.id))

    def metrics(self, run, case, step, values):
        self.trouble(self)
        self.told.append(("metrics", run.id, case, step, dict(values)))

    def summary(self, run, rows):
        self.told.append(("summary", run.id, [row.name for row in rows]))

    def figures(self, run, files):
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in files.values())
        self.told.append(("figures", run.id, sorted(files)))

    def flush(self):
        pass

    def end(self, run, status):
        self.told.append(("end", run.id, status))

    def of(self, kind):
        return [entry[1:] for entry in self.told if entry[0] == kind]

    def steps(self):
        return [(run, case, step) for run, case, step, _ in self.of("metrics")]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    tiny = shutil.copytree(TINY, tmp_path_factory.mktemp("tiny") / "tiny")
    root = tmp_path_factory.mktemp("runs")
    return launch.run(tiny / "regression.yaml", ["steps=12"], out=root, progress=False)


@pytest.fixture
def done(original, tmp_path):
    """A finished run of two cases, 12 steps each, three seeds."""
    path = tmp_path / "done" / "regression" / original.id
    return RunFolder(shutil.copytree(original.path, path))


@pytest.fixture
def sweep(tiny, tmp_path):
    """A sweep of two programs; cells are trained together, two of four fail in `finish`."""
    (tiny / "s.yaml").write_text(
        "experiment: drill.py\nseeds: 2\nsweep: {grid: {model.size: [2, 3], bad: [0, 1]}}\n"
    )

    def run(more=(), **options):
        return sweeps.sweep(
            tiny / "s.yaml", ["steps=8", *more], out=tmp_path / "runs",
            options=Options("inline"), progress=False, **options,
        )  # fmt: skip

    return run


def send(folder, notes, said=None, **options):
    said = [] if said is None else said
    with trackers.following(folder, ["fake"], said.append, make=notes, **options):
        pass


def test_a_run_is_sent_once_whole(done):
    notes = Notes()
    send(done, notes)
    assert notes.steps() == [(done.id, case, s) for case in ("w2", "w3") for s in range(1, 13)]
    first = notes.of("metrics")[0][3]
    line = json.loads((done.path / "metrics.jsonl").read_text().splitlines()[0])["metrics"]
    assert [first[f"loss/seed{i}"] for i in range(3)] == line["loss"]
    assert first["loss"] == pytest.approx(sum(line["loss"]) / 3, rel=1e-12)
    assert first["norm/w/1/seed2"] == line["norm/w"][2][1]
    assert notes.of("summary")[0][1].count("loss") == 2
    assert notes.of("figures") == [(done.id, ["w2/loss", "w3/loss"])]
    assert notes.of("end") == [(done.id, "done")]
    assert notes.names[done.id].config["lr"] == 0.05
    send(done, again := Notes())
    assert again.told == []


def test_a_sweep_is_sent_cell_by_cell(sweep):
    folder = sweep()
    notes = Notes()
    send(folder, notes)
    cells = {f"{folder.id}-{c['id']}": c for c in folder.cells}
    assert len(cells) == 8
    assert sorted(notes.steps()) == sorted((run, None, s) for run in cells for s in range(1, 9))
    ends = dict(notes.of("end"))
    assert ends == {**dict.fromkeys(cells, "done"), folder.id: "done"}
    for run, _, step, _values in notes.of("metrics"):
        point = cells[run]["point"]
        assert notes.names[run].config["seed"] == cells[run]["seed"]
        assert notes.names[run].config["bad"] == point["bad"]
        record = folder.record(cells[run]["id"])
        if step == 8:  # the mean over all steps is in the record, as float32
            every = [v["loss"] for r, _, _, v in notes.of("metrics") if r == run]
            mean = next(r["value"] for r in record["summary"] if r["name"] == "mean loss")
            assert sum(every) / 8 == pytest.approx(mean, rel=8 * 2**-24)
    assert notes.names[next(iter(cells))].parent is notes.names[folder.id]


def test_a_failed_cell_is_sent_again_when_it_is_done(sweep, tiny):
    with pytest.raises(Exception, match="4 of 8 cells failed"):
        sweep(["trouble=finish raise"])
    (path,) = (tiny.parent / "runs" / "s").iterdir()
    folder = SweepFolder(path)
    send(folder, notes := Notes())
    assert sorted(status for _, status in notes.of("end")) == ["done"] * 5 + ["failed"] * 4
    bad = next(c["id"] for c in folder.cells if folder.record(c["id"])["status"] == "failed")
    record = folder.record(bad)
    good = next(folder.record(c["id"]) for c in folder.cells if c["point"]["bad"] == 0)
    changed = {**record, "status": "done", "summary": good["summary"], "contents": []}
    folder.record_path(bad).write_text(json.dumps(changed))
    send(folder, again := Notes())
    assert again.steps() == []
    assert again.of("end") == [(f"{folder.id}-{bad}", "done"), (folder.id, "done")]


def test_metrics_are_followed_while_they_are_written(tmp_path, done, monkeypatch):
    monkeypatch.setattr(follow, "_LOOK_SECONDS", 0.01)
    path = done.path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    result = (done.path / "result.json").read_bytes()
    (done.path / "result.json").unlink()
    path.write_bytes(b"")
    notes = Notes()

    def grown(count):
        until = time.monotonic() + 20
        while len(notes.of("metrics")) < count and time.monotonic() < until:
            time.sleep(0.005)
        return len(notes.of("metrics"))

    with trackers.following(done, ["fake"], pytest.fail, make=notes):
        with path.open("ab", buffering=0) as file:
            file.write(b"".join(lines[:5]) + lines[5][:20])
        assert grown(5) == 5
        path.write_bytes(b"".join(lines[:3]))  # killed, cut back to a checkpoint
        time.sleep(0.1)
        with path.open("ab", buffering=0) as file:
            file.write(b"".join(lines[3:9]))
        assert grown(9) == 9
    assert notes.of("end") == [(done.id, "stopped")]
    send(done, later := Notes())  # a resumed command, in another process
    assert later.steps() == []
    path.write_bytes(b"".join(lines))
    (done.path / "result.json").write_bytes(result)
    send(done, later := Notes())
    steps = notes.steps() + later.steps()
    assert steps == [(done.id, case, s) for case in ("w2", "w3") for s in range(1, 13)]
    assert later.of("end") == [(done.id, "done")]


def test_a_tracker_that_fails_is_told_of_once_and_tried_three_times(done, monkeypatch):
    monkeypatch.setattr(follow, "_LOOK_SECONDS", 0.01)

    def trouble(notes):
        raise OSError("the server\nis gone")

    said, notes = [], Notes(trouble)
    send(done, notes, said)
    assert len(said) == 1
    assert said[0].startswith("tracker fake: OSError: the server is gone (the run goes on;")
    assert f"activjax track {done.path} --track fake" in said[0]
    assert notes.made == 3


def test_what_failed_is_sent_later(done):
    count = [0]

    def trouble(notes):
        count[0] += 1
        if count[0] == 5:
            raise OSError("once")

    said, notes = [], Notes(trouble)
    send(done, notes, said)
    assert len(said) == 1
    assert notes.made == 2
    assert notes.of("end") == [(done.id, "done")]
    assert set(notes.steps()) == {(done.id, c, s) for c in ("w2", "w3") for s in range(1, 13)}


def test_a_tracker_that_hangs_does_not_hold_up_the_run(done):
    begun, said, release = time.monotonic(), [], threading.Event()
    notes = Notes(lambda notes: release.wait(60))
    send(done, notes, said, wait=0.3)
    assert time.monotonic() - begun < 10  # 0.3 s, and a machine that does other things
    assert len(said) == 1
    assert "not done 0.3 s after the end, left behind; last sent: nothing;" in said[0]
    release.set()


def test_two_processes_do_not_send_the_same(done):
    release, said = threading.Event(), []
    notes = Notes(lambda notes: release.wait(60))
    with trackers.following(done, ["fake"], pytest.fail, make=notes):
        while not notes.made:
            time.sleep(0.01)
        send(done, other := Notes(), said)
        release.set()
    assert other.told == []
    assert "another process sends what this folder has" in said[0]


def test_the_numbers_are_the_same_with_a_tracker(done, tiny, tmp_path, monkeypatch):
    notes = Notes()
    monkeypatch.setattr(choose, "NAMES", {"fake": ("json",)})
    monkeypatch.setattr(choose, "make", notes)
    monkeypatch.setenv("ACTIVJAX_TRACK", "fake")
    tracked = launch.run(
        tiny / "regression.yaml", ["steps=12"], out=tmp_path / "other", progress=False
    )
    assert (tracked.path / "tracked" / "fake" / "sent.jsonl").exists()
    assert len(notes.steps()) == 24
    for name in ("result.json", "metrics.jsonl", "contents.json", "config.yaml"):
        assert (tracked.path / name).read_bytes() == (done.path / name).read_bytes()


def test_trackers_are_chosen_before_any_work(monkeypatch, tiny, tmp_path):
    monkeypatch.delenv("ACTIVJAX_TRACK", raising=False)
    assert trackers.chosen() == ()
    with pytest.raises(ConfigError, match=r"no tracker 'tensorbord'; did you mean 'tensorboard'"):
        trackers.chosen("tensorbord")
    monkeypatch.setitem(choose.NAMES, "wandb", ("no_such_package_here",))
    monkeypatch.setenv("ACTIVJAX_TRACK", " wandb ,")
    with pytest.raises(ConfigError, match=r'ACTIVJAX_TRACK: the package .* "activjax\[track\]"'):
        launch.run(tiny / "regression.yaml", out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_torn_journal_is_cut(done):
    send(done, Notes())
    path = done.path / "tracked" / "fake" / "sent.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    send(done, notes := Notes())
    assert [entry[0] for entry in notes.told] == ["begin", "summary", "figures", "end"]
    assert len(path.read_bytes()) == len(whole) or path.read_bytes().endswith(b"}\n")
    send(RunFolder(done.path), again := Notes())
    assert again.told == []


def test_lines_are_read_as_plain_numbers(tmp_path):
    source = Source(tmp_path, {"a": {"": 0}, "b": {"": 1}})
    line = {"case": None, "step": 3, "metrics": {"x": [1, "NaN"], "m": [[[1, 2]], [[3, 4]]],
            "many": [list(range(20)), [5] * 20], "flag": [True, False]}}  # fmt: skip
    case, step, runs = read_line(json.dumps(line).encode(), source)
    assert (case, step) == (None, 3)
    assert runs["a"] == {"x": 1.0, "m/0": 1.0, "m/1": 2.0, "many/mean": 9.5, "many/least": 0.0,
                         "many/greatest": 19.0, "flag": 1.0}  # fmt: skip
    assert math.isnan(runs["b"]["x"])
    assert flat({"a": {"b": [1, 2], "c": {}}, "d": None, "e": True}) == {
        "a.b": "[1, 2]", "a.c": "{}", "d": "null", "e": True,
    }  # fmt: skip
