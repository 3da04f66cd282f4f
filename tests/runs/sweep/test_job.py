"""What a job of SLURM does with the tickets that it finds; its worker is the test's."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from activjax.runs.sweep import tasks
from activjax.runs.sweep.engines import _job
from activjax.runs.sweep.engines._job import LEAVE_SECONDS, Job
from activjax.runs.sweep.engines._tickets import DRIVER, Spool
from activjax.runs.sweep.records import CellTask
from activjax.runs.sweep.tasks import Event, Task
from activjax.runs.sweep.worker import BROKEN, Hello

LINGER = 0.2


class Worker:
    """In place of a station: ends what it is given as a test says."""

    def __init__(self, job):
        self.job, self.did, self.left, self.closed = job, [], [], 0
        self.ends = {}

    def work(self, spool, ticket):
        kind = self.ends.get(len(self.did), tasks.DONE)
        self.did.append(ticket)
        if callable(kind):
            kind = kind(ticket)
        Spool(Path(spool)).end(ticket, Event("", kind))
        return kind

    def leave(self, spool, ticket, seconds, limit):
        self.left.append((ticket, limit))

    def close(self):
        self.closed += 1


@pytest.fixture
def there(tmp_path, monkeypatch):
    """(spool, offers a task, makes a job, its worker)"""
    spool = Spool(tmp_path)
    spool.create()
    hello = Hello(str(tmp_path), "x", "h", 1.0, "slurm", True, 1, str(tmp_path / "c"))
    worker = Worker("")
    library = SimpleNamespace(
        JobEnvironment=lambda: SimpleNamespace(cluster="slurm", job_id="7_0"),
        helpers=SimpleNamespace(DelayedSubmission=lambda job: job),
    )
    monkeypatch.setattr(_job, "submitit", lambda: library)
    monkeypatch.setattr(_job, "Station", lambda name: setattr(worker, "job", name) or worker)
    for name in ("SLURM_RESTART_COUNT", "SLURM_JOB_END_TIME"):
        monkeypatch.delenv(name, raising=False)

    def offer(name, kind="k"):
        cell = CellTask(f"c-{name}", "g", 0, {}, {})
        return spool.offer(hello, Task(name, tasks.BATCH, (cell,), 1, owes=(cell.id,)), kind)

    def job(**more):
        given = {"spool": str(tmp_path), "kind": "k", "minutes": 60, "linger": LINGER, **more}
        return Job(**given)

    return spool, offer, job, worker


def test_it_works_on_one_ticket_after_another_and_then_waits_a_while(there):
    spool, offer, job, worker = there
    mine = [offer(name) for name in "cab"]
    other, had = offer("x", "another kind"), offer("y")
    spool.claim(had, "8_0")
    begin = time.monotonic()
    assert job()() == 3
    assert time.monotonic() - begin >= LINGER
    assert worker.did == mine
    assert (worker.job, worker.closed) == ("slurm 7_0", 1)
    assert {spool.holder(ticket) for ticket in mine} == {"7_0"}
    assert spool.holder(other) == ""
    assert spool.jobs() == {}  # it has said that it ends


def test_a_ticket_that_comes_while_it_waits_is_taken(there):
    spool, offer, job, worker = there
    first, late = offer("a"), []
    timer = threading.Timer(0.3, lambda: late.append(offer("b")))
    worker.ends = {1: lambda _: spool.stop() or tasks.DONE}  # or it would wait for a third
    timer.start()
    assert job(linger=60.0)() == 2
    timer.join()
    assert worker.did == [first, *late]


def test_a_stop_ends_it_at_once(there):
    spool, offer, job, worker = there
    ticket = offer("a")
    spool.stop()
    begin = time.monotonic()
    assert job(linger=60.0)() == 0
    assert time.monotonic() - begin < 10  # of 60
    assert worker.did == []
    assert spool.holder(ticket) == ""
    assert spool.jobs() == {}


@pytest.mark.parametrize("kind", [BROKEN, tasks.STORAGE])
def test_where_the_machine_is_to_blame_it_takes_no_more(there, kind):
    spool, offer, job, worker = there
    first, second = offer("a"), offer("b")
    worker.ends = {0: kind}
    assert job()() == 1
    assert worker.did == [first]
    assert spool.holder(second) == ""


def test_what_the_driver_has_just_taken_back_is_left_alone(there, monkeypatch):
    spool, offer, job, worker = there
    gone, mine = offer("a"), offer("b")
    offered = Spool.offered

    def stale(self, kind):
        found = offered(self, kind)
        if gone in found:
            self.claim(gone, DRIVER)
            self.forget(gone)
        return found

    monkeypatch.setattr(Spool, "offered", stale)
    assert job()() == 1
    assert worker.did == [mine]
    assert spool.held() == {mine}


def test_it_is_queued_again_with_its_third_ticket(there):
    spool, offer, job, worker = there
    _, _, third, fourth = [offer(name) for name in "abcd"]
    one = job()
    again = []

    def taken(_):
        again.append(one.checkpoint())
        raise SystemExit  # as submitit does once the job is queued again

    worker.ends = {2: taken}
    with pytest.raises(SystemExit):
        one()
    assert worker.left == [(third, False)]
    assert spool.jobs() == {"7_0": "k"}  # it comes back
    assert spool.holder(fourth) == ""
    worker.did.clear()
    worker.ends = {}
    assert again[0].ticket == third
    assert again[0]() == 2
    assert worker.did == [third, fourth]


def test_between_two_tickets_it_is_not_queued_again(there, monkeypatch):
    spool, offer, job, worker = there
    ticket = offer("a")
    one = job()
    said = []

    def look(self, kind):
        said.append(one.checkpoint())
        raise RuntimeError("not queued again")  # as submitit does

    worker.ends = {0: lambda _: monkeypatch.setattr(Spool, "offered", look) or tasks.DONE}
    with pytest.raises(RuntimeError, match="not queued again"):
        one()
    assert worker.did == [ticket]
    assert (said, worker.left) == ([None], [])
    assert spool.jobs() == {}  # nothing is lost with it


def test_a_signal_right_after_a_claim_keeps_the_ticket(there, monkeypatch):
    spool, offer, job, _ = there
    ticket, other = offer("a"), offer("b")
    spool.claim(ticket, "8_0")
    one, found = job(), []
    claim = Spool.claim

    def interrupted(self, ticket, name):
        found.append(one.checkpoint())  # before it is ours
        claim(self, ticket, name)
        found.append(one.checkpoint())
        raise SystemExit

    monkeypatch.setattr(Spool, "claim", interrupted)
    with pytest.raises(SystemExit):
        one()
    before, after = found
    assert before is None
    assert after.ticket == other


def test_before_it_has_looked_around_it_is_queued_again_as_it_was(there):
    _, offer, job, worker = there
    ticket = offer("a")
    assert job(ticket=ticket).checkpoint().ticket == ticket
    assert job().checkpoint().ticket == ""
    assert worker.left == []


@pytest.mark.parametrize("before", [0, 1])  # times it was queued again with a warning
def test_queued_again_by_slurm_it_finds_what_it_had(there, monkeypatch, before):
    spool, offer, job, worker = there
    first, mine, over = offer("a"), offer("b"), offer("c")
    for ticket, name in ((mine, "7_0"), (over, "7_0")):
        spool.claim(ticket, name)
    spool.end(over, Event("", tasks.DONE))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert job(ticket=over if before else "")() == 2
    assert worker.did == [mine, first]


@pytest.mark.parametrize("fate", ["another has it", "it is forgotten", "it has ended"])
def test_a_ticket_that_it_has_no_more_is_left_alone(there, fate):
    spool, offer, job, worker = there
    ticket, other = offer("a"), offer("b")
    spool.claim(ticket, "8_0" if fate == "another has it" else "7_0")
    if fate == "it is forgotten":
        spool.forget(ticket)
    if fate == "it has ended":
        spool.end(ticket, Event("", tasks.DONE))
    assert job(ticket=ticket)() == 1
    assert worker.did == [other]


def test_near_its_end_it_takes_no_other_ticket(there, monkeypatch):
    spool, offer, job, worker = there
    first, second = offer("a"), offer("b")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + LEAVE_SECONDS))
    assert job()() == 1  # the first one always: else nobody ever would
    assert worker.did == [first]
    assert spool.holder(second) == ""


@pytest.mark.parametrize(
    ("minutes", "end", "limit"),
    [(60, None, False), (1.5, None, True), (60, 100, True), (1.5, 1000, False)],
)
def test_a_time_limit_is_told_from_a_preemption(there, monkeypatch, minutes, end, limit):
    _, offer, job, worker = there
    ticket = offer("a")
    if end is not None:  # SLURM knows better than we do
        monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + end))
    one = job(minutes=minutes)
    worker.ends = {0: lambda _: one.checkpoint() and tasks.STOPPED}
    assert one() == 1
    assert worker.left == [(ticket, limit)]
