"""The driver against an engine that follows a script, and the pieces that both share."""

import collections
import json
import os
import socket

import pytest

from activjax.runs.errors import ConfigError, StorageError
from activjax.runs.sweep import drive as drive_of, launch, plan, records, tasks
from activjax.runs.sweep.compile_cache import CompileCache
from activjax.runs.sweep.drive import Driver, Limits
from activjax.runs.sweep.engines import Options, _local as local
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.groups import Groups
from activjax.runs.sweep.ready import Ready
from activjax.runs.sweep.tasks import Event, Task
from activjax.runs.sweep.worker import Hello, executor, perform


class Scripted:
    """An engine whose batches end as a function says; by default all their cells are done."""

    name, slots = "scripted", 2

    def __init__(self, folder, width, script=None):
        self.folder, self.width, self.script = folder, width, script
        self.waiting, self.ran = collections.deque(), []

    def submit(self, task):
        self.waiting.append(Task.from_json(json.loads(json.dumps(task.to_json()))))

    def poll(self, timeout):
        if not self.waiting:
            return []
        task = self.waiting.popleft()
        if task.kind == tasks.PROBE:
            return [Event(task.id, tasks.PROBED, {"width": min(self.width, task.width)})]
        self.ran.append(task)
        count = sum(t.id == task.id for t in self.ran)
        return list(self.script(self, task, count)) if self.script else list(self.done(task))

    def done(self, task, without=()):
        writer = records.Writer(self.folder)
        for cell in task.cells:
            if cell.id in task.owes and cell.id not in without:
                record = {"id": cell.id, "status": "done", "summary": [], "batch": task.id}
                writer.add(record)
                yield Event(task.id, tasks.CELL, {"cell": cell.id, "status": "done"})
        writer.flush()
        yield Event(task.id, tasks.DONE)

    def stop(self):
        pass

    def close(self):
        pass


class Silent:
    def __init__(self):
        self.said, self.last = [], None

    def event(self, event):
        pass

    def counts(self, done, failed, total):
        self.last = (done, failed, total)

    def say(self, text):
        self.said.append(text)


@pytest.fixture
def drive(tiny, tmp_path):
    (tiny / "s.yaml").write_text("experiment: drill.py\nseeds: 8\n")
    found = plan.load(tiny / "s.yaml")
    folder = SweepFolder(tmp_path / "runs" / "s" / found.id)
    launch._describe(found, folder, Options())

    def drive(script=None, width=4, stopping=lambda: False):
        engine, watch = Scripted(folder, width, script), Silent()
        Driver(folder, found, engine, Limits(9.0, None, 16), watch, stopping).run()
        return folder, engine, watch

    return drive


def failed(folder):
    found = [folder.record(c["id"]) for c in folder.cells]
    assert all(found)
    return [r for r in found if r["status"] == "failed"]


def lost(task, reason="crash", finishing=None):
    data = {"reason": reason, "message": reason, "finishing": finishing, "traceback": "words"}
    return Event(task.id, tasks.LOST, data)


def test_every_cell_once(drive):
    folder, engine, watch = drive()
    assert [len(t.cells) for t in engine.ran] == [4, 4]
    assert watch.last == (8, 0, 8)
    _, again, _ = drive()
    assert again.ran == []
    folder.record_path(folder.cells[5]["id"]).write_text('{"id": "torn')
    _, again, _ = drive()
    assert [t.id for t in again.ran] == [engine.ran[1].id]


def test_a_process_that_dies_is_replaced_as_long_as_it_gets_on(drive):
    def script(engine, task, count):
        if count <= 6:  # every time a little further
            yield Event(task.id, tasks.STEP, {"step": count, "steps": 9})
            yield lost(task)
        else:
            yield from engine.done(task)

    folder, engine, _ = drive(script)
    assert not failed(folder)
    assert len(engine.ran) == 14
    assert max(t.attempt for t in engine.ran) == 7


def test_a_process_that_dies_at_one_place_is_narrowed_down(drive):
    bad = []

    def script(engine, task, count):
        bad[:] = bad or [engine.folder.cells[2]["id"]]
        if bad[0] in [c.id for c in task.cells]:
            yield Event(task.id, tasks.STEP, {"step": 3, "steps": 9})
            yield lost(task)
        else:
            yield from engine.done(task)

    folder, engine, watch = drive(script)
    (record,) = failed(folder)
    assert record["id"] == bad[0]
    assert record["error"] == {
        "kind": "crash", "message": "crash", "traceback": "words", "checkpoint": None,
    }  # fmt: skip
    assert watch.last == (8, 1, 8)
    # three times the batch, then its four cells alone, the bad one three times; the other batch
    assert collections.Counter(len(t.cells) for t in engine.ran) == {4: 4, 1: 6}


@pytest.mark.parametrize(
    ("reason", "sizes"), [("memory", {4: 2, 2: 2, 1: 2}), ("time", {4: 2, 1: 4})]
)
def test_limits_split_batches(drive, reason, sizes):
    def script(engine, task, count):
        if engine.folder.cells[0]["id"] in [c.id for c in task.cells]:
            yield lost(task, reason)
        else:
            yield from engine.done(task)

    folder, engine, _ = drive(script)
    (record,) = failed(folder)
    assert (record["id"], record["error"]["kind"]) == (folder.cells[0]["id"], reason)
    assert collections.Counter(len(t.cells) for t in engine.ran) == sizes


def test_who_is_finished_is_to_blame(drive):
    def script(engine, task, count):
        guilty = engine.folder.cells[1]["id"]
        if guilty in [c.id for c in task.cells] and engine.folder.record(guilty) is None:
            yield lost(task, "time", finishing=guilty)
        else:
            yield from engine.done(task, without=[guilty])

    folder, engine, _ = drive(script)
    (record,) = failed(folder)
    assert record["id"] == folder.cells[1]["id"]
    assert [len(t.cells) for t in engine.ran] == [4, 4, 4]


def test_what_another_driver_has_is_waited_for(drive):
    def script(engine, task, count):
        if count == 1:
            yield Event(task.id, tasks.CLAIMED)
        else:
            yield from engine.done(task)

    folder, engine, _ = drive(script)
    assert not failed(folder)
    assert len(engine.ran) == 4


def test_a_full_disk_ends_everything(drive):
    def script(engine, task, count):
        yield Event(task.id, tasks.STORAGE, {"message": "the disk is full"})

    with pytest.raises(StorageError, match="the disk is full"):
        drive(script)


def test_a_failed_probe_is_told_by_the_batches(drive):
    seen = []

    def script(engine, task, count):
        seen.append(len(task.cells))
        yield from engine.done(task)

    original = Scripted.poll

    def poll(self, timeout):
        if self.waiting and self.waiting[0].kind == tasks.PROBE:
            task = self.waiting.popleft()
            return [Event(task.id, tasks.PROBED, {"error": "out", "memory": True})]
        return original(self, timeout)

    Scripted.poll = poll
    try:
        drive(script)
    finally:
        Scripted.poll = original
    assert seen == [1] * 8


def test_batches_are_laid_out_once_and_refined(tmp_path):
    groups = Groups(SweepFolder(tmp_path))
    assert groups.read("g") is None
    cells = [f"c{i}" for i in range(7)]
    first = groups.lay_out("g", cells, {"width": 3})
    assert [b.cells for b in first.batches] == [("c0", "c1", "c2"), ("c3", "c4", "c5"), ("c6",)]
    assert groups.lay_out("g", cells, {"width": 5}) == first, "a second driver goes by the first"
    half = groups.split("g", "g-0", halve=True)
    assert [b.cells for b in half.batches[:2]] == [("c0", "c1"), ("c2",)]
    assert groups.split("g", "g-0", halve=True) == half
    assert [b.width for b in groups.split("g", "g-1", halve=False).batches[2:5]] == [1, 1, 1]
    again = groups.again("g", ["c0"])
    (moved,) = [b for b in again.batches if b.cells == ("c0",)]
    assert moved.owes == ("c0",)
    (old,) = [b for b in again.batches if b.cells == ("c0", "c1")]
    assert old.owes == ("c1",), "the program of what is left stays the same"
    owed = [cell for b in again.batches for cell in b.owes]
    assert sorted(owed) == cells


def test_halves_of_a_hidden_cell_are_not_made(tmp_path):
    groups = Groups(SweepFolder(tmp_path))
    groups.lay_out("g", ["a", "b"], {"width": 2})
    groups.again("g", ["a"])
    after = groups.split("g", "g-0", halve=True)
    assert sorted(b.cells for b in after.batches) == [("a",), ("b",)]


def test_records_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    writer = records.Writer(SweepFolder(tmp_path))
    for i in range(3):
        writer.add({"id": f"c{i}", "status": "done"})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(StorageError, match="disk is full"):
        writer.flush()
    assert SweepFolder(tmp_path).recorded() == set()


def test_a_cell_is_told_when_its_record_is_on_the_disk(tiny, tmp_path):
    (tiny / "s.yaml").write_text("experiment: drill.py\nseeds: 3\n")
    found = plan.load(tiny / "s.yaml")
    folder, told = SweepFolder(tmp_path), []

    def tell(kind, data):
        if kind == tasks.CELL:
            assert folder.record(data["cell"])["status"] == data["status"] == "done"
            told.append(data["cell"])

    hello = Hello(str(tmp_path), str(found.experiment.path), found.source, 1.0, "x", False, 1, "")
    cells = tuple(drive_of._plain(found, cell) for cell in found.cells)
    ids = tuple(cell.id for cell in cells)
    work = executor(hello, tell, lambda: False)
    assert perform(work, Task("b", tasks.BATCH, cells, 3, owes=ids)) == ("done", {})
    assert tuple(told) == ids


def test_half_a_compilation_is_not_passed_on(tmp_path):
    one, other = CompileCache(tmp_path), CompileCache(tmp_path)
    (one.own / "jit_f-1-cache").write_bytes(b"whole")
    one.publish()
    (one.own / "jit_g-2-cache").write_bytes(b"ha")  # killed here
    other.fetch()
    assert (other.own / "jit_f-1-cache").read_bytes() == b"whole"
    assert not (other.own / "jit_g-2-cache").exists()
    other.close()
    cannot_be = 2**22 + 1
    stale = one.shared / f".own-{cannot_be}-{socket.gethostname()}-gone"
    stale.mkdir()
    third = CompileCache(tmp_path)
    assert one.own.exists()
    assert not stale.exists()
    third.close()
    one.close()
    assert [p.name for p in one.shared.iterdir()] == ["jit_f-1-cache"]


def test_an_error_of_ours_is_an_end_too(tiny, tmp_path, monkeypatch):
    (tiny / "s.yaml").write_text("experiment: drill.py\n")
    found = plan.load(tiny / "s.yaml")
    hello = Hello(str(tmp_path), str(found.experiment.path), found.source, 1.0, "x", False, 1, "")
    work = executor(hello, lambda *_: None, lambda: False)
    monkeypatch.setattr(type(work), "run", lambda *_: 1 / 0)
    kind, data = perform(work, Task("b", tasks.BATCH, (), 1))
    assert (kind, data["reason"]) == ("split", "crash")
    assert "ZeroDivisionError" in data["traceback"]


def test_who_is_finished_is_forgotten_when_all_are_trained_again():
    cells = tuple(records.CellTask(f"c{i}", "g", 0, {}, {}) for i in range(4))
    task = Task("b", tasks.BATCH, cells, 4, seconds=100.0)
    engine = local.LocalEngine(Hello("", "", "", 1.0, "local", False, 1, ""), [set()])
    worker = local._Worker(0, None, -1, ready=True, task=task)
    worker.deadline = whole = local._deadline(task, 4)

    def hear(cell):
        engine._event(worker, {"kind": tasks.FINISHING, "data": {"cell": cell}})
        return worker.deadline

    assert hear(None) == whole, "the first training has the time that is left"
    assert hear("c3") <= whole - 290
    assert hear(None) >= whole, "the next case is the time of all cells"
    assert worker.finishing is None
    engine.close()


def test_a_probe_that_goes_wrong_in_our_code_is_told_by_the_batches(drive):
    original = Scripted.poll

    def poll(self, timeout):
        if self.waiting and self.waiting[0].kind == tasks.PROBE:
            task = self.waiting.popleft()
            return [Event(task.id, tasks.SPLIT, {"reason": "memory", "message": "no memory"})]
        return original(self, timeout)

    Scripted.poll = poll
    try:
        folder, engine, _ = drive()
    finally:
        Scripted.poll = original
    assert not failed(folder)
    assert [len(t.cells) for t in engine.ran] == [1] * 8


def plan_of(tiny, tmp_path, text, experiment=None):
    if experiment:
        (tiny / "given.py").write_text(experiment)
    (tiny / "s.yaml").write_text(text)
    found = plan.load(tiny / "s.yaml")
    folder = SweepFolder(tmp_path / "runs" / "s" / found.id)
    launch._describe(found, folder, Options())
    return found, folder


class Timed(Scripted):
    """Tells each probe's time, in proportion to the number of steps, and what was begun when."""

    def __init__(self, *args, slots=2):
        super().__init__(*args)
        self.slots, self.begun = slots, []

    def poll(self, timeout):
        if self.waiting and self.waiting[0].kind == tasks.PROBE:
            task = self.waiting.popleft()
            assert bool(task.timing) == (self.slots > 1)
            self.begun.append("probe")
            found = {"width": 2}
            if task.timing:
                found["cell_seconds"] = task.cells[0].config["steps"] * 0.1
            return [Event(task.id, tasks.PROBED, found)]
        return super().poll(timeout)

    def done(self, task, without=()):
        self.begun.append(task.cells[0].config["steps"])
        return super().done(task, without)


STEPS = "experiment: drill.py\nseeds: 2\nsweep: {grid: {steps: [4, 8, 6], lr: [0.1, 0.2]}}\n"


def test_what_takes_longest_comes_first(tiny, tmp_path):
    found, folder = plan_of(tiny, tmp_path, STEPS)
    engine = Timed(folder, 2)
    Driver(folder, found, engine, Limits(None, None, 16), Silent()).run()
    # four tasks are with the engine: by the last probe's end it has the first group's; from then
    # on the longest is next
    assert engine.begun == ["probe"] * 3 + [4, 4, 8, 8, 6, 6]
    assert not failed(folder)


def test_with_one_place_nothing_is_timed_and_the_order_is_the_plans(tiny, tmp_path):
    found, folder = plan_of(tiny, tmp_path, STEPS)
    engine = Timed(folder, 2, slots=1)
    Driver(folder, found, engine, Limits(None, None, 16), Silent()).run()
    assert [s for s in engine.begun if s != "probe"] == [4, 4, 8, 8, 6, 6]
    assert not failed(folder)


GUESSED = """
import dataclasses
@dataclasses.dataclass(frozen=True)
class Config:
    a: int = 0
def main(config, out): raise AssertionError("not run here")
def cost(config): return {body}
"""


def test_an_experiment_may_say_what_takes_longest(tiny, tmp_path):
    text = "experiment: given.py\nsweep: {grid: {a: [3, 1, 4, 5, 9, 2, 6]}}\n"
    found, folder = plan_of(tiny, tmp_path, text, GUESSED.format(body="(config.a % 5) ** 2"))
    engine = Scripted(folder, 2)
    Driver(folder, found, engine, Limits(None, None, 16), Silent()).run()
    order = [task.cells[0].config["a"] for task in engine.ran]
    assert order == [4, 9, 3, 2, 1, 6, 5], "by what it guesses, equal ones as planned"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("-1", "cost\\(config\\) returned -1, expected a number of at least 0"),
        ("float('nan')", "cost\\(config\\) returned nan"),
        ("float('inf')", "cost\\(config\\) returned inf"),
        ("None", "cost\\(config\\) raised:(.|\n)*TypeError"),
        ("config.b", "cost\\(config\\) raised:(.|\n)*no attribute 'b'"),
    ],
)
def test_a_guess_that_is_none_is_refused_before_anything_is_run(tiny, body, told):
    (tiny / "given.py").write_text(GUESSED.format(body=body))
    (tiny / "s.yaml").write_text("experiment: given.py\nsweep: {grid: {a: [1, 2]}}\n")
    with pytest.raises(ConfigError, match=told):
        plan.load(tiny / "s.yaml")


def test_what_was_begun_goes_on_before_what_takes_longer():
    ready = Ready()
    task = lambda name: Task(name, tasks.BATCH, (), 1)  # noqa: E731
    ready.put(task("short"), 1.0)
    ready.put(task("long"), 3.0)
    ready.put(task("long too"), 3.0)
    ready.put(task("begun"), begun=True)
    assert "begun" in ready
    assert [ready.take().id for _ in range(4)] == ["begun", "long", "long too", "short"]
    assert not ready
    assert "begun" not in ready
