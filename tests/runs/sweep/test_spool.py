"""Tasks that go through files to a scheduler that does what a test says."""

import concurrent.futures
import itertools
import multiprocessing
import os
import time

import pytest

from activjax.runs.errors import ConfigError, EngineError, StorageError
from activjax.runs.sweep import tasks
from activjax.runs.sweep.engines import Options, _mounts, _spool, parse_resources
from activjax.runs.sweep.engines._ray import _needs
from activjax.runs.sweep.engines._scheduler import Gone
from activjax.runs.sweep.engines._spool import SpoolEngine
from activjax.runs.sweep.engines._station import Station
from activjax.runs.sweep.engines._tickets import BEGUN, LEFT, Spool
from activjax.runs.sweep.records import CellTask
from activjax.runs.sweep.tasks import Event, Task
from activjax.runs.sweep.worker import BROKEN, Hello


class Cluster:
    """A scheduler whose jobs do nothing; tests do what a machine would."""

    name, slots, most, pulls, needs = "cluster", 2, 3, True, {}
    ask_seconds = gather_seconds = grace_seconds = 0.0

    def __init__(self, spool):
        self.spool, self.started, self.cancelled, self.withdrawn = spool, [], [], []
        self.over, self.alive, self.wanted = {}, set(), []

    def start(self, tickets):
        first = len(list(itertools.chain(*self.started)))
        self.started.append([f"job{first + i}" for i in range(len(tickets))])
        self.wanted.append(list(tickets))
        return self.started[-1]

    def take_over(self, jobs):
        return self.alive & set(jobs)

    def gone(self, jobs):
        return {job: self.over[job] for job in jobs if job in self.over}

    def cancel(self, jobs):
        self.cancelled += jobs

    def withdraw(self, jobs):
        self.withdrawn += jobs

    def close(self):
        pass


def take(engine, job, begins=True):
    """A job takes the next ticket, and says so."""
    for ticket in engine.spool.offered(engine._kind):
        if engine.spool.claim(ticket, job):
            if begins:
                engine.spool.tell(ticket, Event("", BEGUN, {"job": job}))
            return ticket
    return None


@pytest.fixture
def made(tmp_path):
    """Makes the engine of a driver: (engine, cluster, what was said)."""

    def make(alive=(), **more):
        found = {}

        def cluster(spool):
            found["cluster"] = Cluster(spool)
            found["cluster"].alive = set(alive)
            for key, value in more.items():
                setattr(found["cluster"], key, value)
            return found["cluster"]

        said = []
        hello = Hello(str(tmp_path), "x", "h", 1.0, "cluster", True, 1, str(tmp_path / "c"))
        return SpoolEngine(hello, cluster, said.append), found["cluster"], said

    return make


def task(name):
    return Task(name, tasks.BATCH, (CellTask(f"c-{name}", "g", 0, {}, {}),), 1, owes=(f"c-{name}",))


def told(engine):
    return [(e.task, e.kind) for e in engine.poll(0.0)]


def test_a_task_is_heard_of_to_its_end(made):
    engine, cluster, _ = made()
    engine.submit(task("a"))
    assert told(engine) == []
    assert cluster.started == [["job0"]]
    ticket = take(engine, "job0")
    hello, read = engine.spool.task(ticket)
    assert (hello.engine, read) == ("cluster", task("a"))
    engine.spool.tell(ticket, Event("a", tasks.STEP, {"step": 1, "steps": 2}))
    assert told(engine) == [("a", "step")]
    with (engine.spool.path / "news" / f"{ticket}.jsonl").open("a") as file:
        file.write('{"kind": "cell", "da')  # a line that is being written
    assert told(engine) == []
    with (engine.spool.path / "news" / f"{ticket}.jsonl").open("a") as file:
        file.write('ta": {"cell": "c-a", "status": "done"}}\n')
    engine.spool.end(ticket, Event("a", tasks.DONE, {}))
    assert told(engine) == [("a", "cell"), ("a", "done")]
    left = [p.name for p in engine.spool.path.rglob("*") if p.is_file()]
    assert sorted(left) == [".lock", f"job0~{engine._kind}"]


def test_where_jobs_do_not_pull_each_has_its_ticket(made):
    engine, cluster, _ = made(pulls=False)
    for name in "abcd":
        engine.submit(task(name))
    assert told(engine) == []
    assert [len(tickets) for tickets in cluster.wanted] == [3]  # three at most
    first, *_ = cluster.wanted[0]
    assert engine.spool.holder(first) == "job0"
    engine.spool.end(first, Event("a", tasks.DONE))
    assert told(engine) == [("a", "done")]
    told(engine)
    assert [len(tickets) for tickets in cluster.wanted] == [3, 1]
    engine.stop()
    heard = [(name, "stopped") for name in "bcd"]
    assert sorted(told(engine)) == heard
    assert sorted(cluster.cancelled) == ["job1", "job2", "job3"]
    left = [p.name for p in engine.spool.path.rglob("*") if p.is_file()]
    assert sorted(left) == [".lock", "stop"]


def test_jobs_are_gathered_and_no_more_than_the_tickets_need(made):
    engine, cluster, _ = made(gather_seconds=0.2)
    engine.submit(task("first"))
    told(engine)
    assert len(cluster.started) == 1  # nothing runs: it does not wait
    for name in "abcd":
        engine.submit(task(name))
    told(engine)
    assert len(cluster.started) == 1
    engine.poll(0.4)
    assert [len(jobs) for jobs in cluster.started] == [1, 2]  # three at most
    for job in ("job0", "job1", "job2"):
        assert take(engine, job)
    engine.poll(0.4)
    assert len(cluster.started) == 2
    ended = take(engine, "job1")  # its first one is over: it takes the next by itself
    engine.spool.end(ended, Event("c", tasks.DONE))
    assert ("c", "done") in told(engine)
    engine.spool.leave("job2", engine._kind)  # it has waited long enough
    engine.submit(task("e"))
    engine.submit(task("f"))
    engine.poll(0.4)
    # two wait; job0 has "first", job1 has "a" and job2 "b": none of the three is free
    assert len(cluster.started) == 2


def test_a_job_that_has_ended_by_itself_is_replaced(made):
    engine, cluster, _ = made()
    engine.submit(task("a"))
    told(engine)
    engine.spool.end(take(engine, "job0"), Event("a", tasks.DONE))
    assert told(engine) == [("a", "done")]
    engine.submit(task("b"))
    told(engine)
    assert cluster.started == [["job0"]]  # it is there still, and will take it
    engine.spool.leave("job0", engine._kind)
    told(engine)
    assert cluster.started == [["job0"], ["job1"]]


def test_tickets_are_taken_in_the_order_of_their_offer(made):
    engine, *_ = made()
    for name in "zmaq":
        engine.submit(task(name))
    taken = [engine.spool.task(take(engine, "job0"))[1].id for _ in range(4)]
    assert taken == list("zmaq")
    assert take(engine, "job0") is None
    assert engine.spool.offered("another kind") == []


def _take_all(path, kind, job, barrier):
    spool, mine = Spool(path), []
    barrier.wait(60)
    while offered := spool.offered(kind):
        mine += [ticket for ticket in offered[:3] if spool.claim(ticket, job)]
    return mine


def test_of_eight_processes_one_has_each_ticket(tmp_path):
    spool = Spool(tmp_path)
    spool.create()
    hello = Hello(str(tmp_path), "x", "h", 1.0, "cluster", True, 1, str(tmp_path / "c"))
    tickets = [spool.offer(hello, task(f"t{i}"), "k") for i in range(60)]
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, concurrent.futures.ProcessPoolExecutor(8, context) as pool:
        barrier = manager.Barrier(8)
        found = list(pool.map(_take_all, [tmp_path] * 8, "k" * 8, "abcdefgh", [barrier] * 8))
    assert sorted(itertools.chain(*found)) == sorted(tickets)
    for job, mine in zip("abcdefgh", found):
        assert {spool.holder(ticket) for ticket in mine} <= {job}
    assert {p.name for p in (tmp_path / "held").iterdir()} == set(tickets)  # nothing is left over


def test_a_link_that_was_made_counts_whatever_it_told(tmp_path, monkeypatch):
    spool = Spool(tmp_path)
    spool.create()
    link = os.link

    def answer_lost(*given):
        link(*given)
        raise FileExistsError(17, "File exists")  # what NFS says when it is asked again

    monkeypatch.setattr(os, "link", answer_lost)
    assert spool.claim("t~1-k", "one")
    monkeypatch.undo()
    assert not spool.claim("t~1-k", "two")
    assert spool.holder("t~1-k") == "one"

    def unable(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", unable)
    with pytest.raises(StorageError):
        spool.claim("t~2-k", "one")
    assert spool.held() == {"t~1-k"}


@pytest.mark.parametrize(
    ("gone", "kind", "reason"),
    [
        (Gone("crash", "it died"), "lost", "crash"),
        (Gone("memory", "out of memory"), "lost", "memory"),
        (Gone("", "the node was taken"), "stopped", None),  # nobody's fault: started again
        (Gone("time", "time was up"), "stopped", None),  # it may get further the next time
    ],
)
@pytest.mark.parametrize("begins", [True, False])  # killed between its claim and its first word
def test_a_job_that_is_over_without_an_end_has_lost_its_ticket(made, gone, kind, reason, begins):
    engine, cluster, _ = made()
    engine.submit(task("a"))
    engine.submit(task("b"))
    told(engine)
    ticket = take(engine, "job0", begins)
    cluster.over = {"job0": gone}
    (event,) = engine.poll(0.0)
    assert (event.task, event.kind, event.data["message"]) == ("a", kind, gone.message)
    assert event.data.get("reason") == reason
    assert not engine.spool.wants(ticket)
    engine.submit(task("a"))
    told(engine)
    assert [engine.spool.task(take(engine, "job1"))[1].id for _ in range(2)] == ["b", "a"]


def test_an_end_counts_also_where_the_scheduler_is_quicker(made):
    engine, cluster, _ = made(grace_seconds=30.0)
    engine.submit(task("a"))
    told(engine)
    ticket = take(engine, "job0")
    cluster.over = {"job0": Gone("crash", "")}
    assert told(engine) == []
    engine.spool.end(ticket, Event("a", tasks.DONE))
    assert told(engine) == [("a", "done")]


def test_a_job_that_is_over_without_a_ticket_has_lost_nothing(made):
    engine, cluster, _ = made()
    for i in range(5):
        engine.submit(task("a"))
        told(engine)
        engine.spool.end(take(engine, f"job{i}"), Event("a", tasks.DONE))
        assert told(engine) == [("a", "done")]
        cluster.over[f"job{i}"] = Gone("crash", "preempted while it waited")
        assert told(engine) == []
    assert len(cluster.started) == 5


@pytest.mark.parametrize("well", [True, False])
def test_jobs_that_found_nothing_to_do_are_not_those_that_never_began(made, well):
    engine, cluster, _ = made()
    for i in range(3):
        engine.submit(task("a"))
        told(engine)
        ticket = take(engine, "job9", begins=False)  # another one is quicker
        told(engine)
        if well:
            engine.spool.leave(f"job{i}", engine._kind)  # as a job does that ends by itself
        cluster.over = {f"job{i}": Gone("crash", "job ended (finished)")}
        engine.spool.end(ticket, Event("a", tasks.DONE))
        if i == 2 and not well:
            with pytest.raises(EngineError, match="before they began"):
                engine.poll(0.0)
        else:
            assert told(engine) == [("a", "done")]


def test_a_driver_goes_on_with_the_jobs_of_the_one_before(made):
    before, cluster, _ = made()
    for name in "abc":
        before.submit(task(name))
    told(before)
    ours, lost = take(before, "job0"), take(before, "job1")
    before._held.close()  # as the end of its process does
    unseen = take(before, "job9", begins=False)  # of a job whose name nobody could keep
    before.spool.join("job9", before._kind)
    before.submit(task("d"))
    waiting = before.spool.offered(before._kind)
    engine, cluster, said = made(alive=["job0", "job2", "job9"])
    assert not any(map(engine.spool.wants, [lost, *waiting]))  # offered anew
    assert said == ["cluster: going on with 3 jobs of a driver that has ended"]
    for name in "abcd":
        engine.submit(task(name))
    assert told(engine) == []
    assert cluster.started == []  # three at most, and job2 has no ticket yet
    assert engine.spool.held() == {ours, unseen}
    assert engine.spool.task(unseen)[1].id == "c"
    for ticket, name in ((ours, "a"), (unseen, "c")):
        engine.spool.end(ticket, Event(name, tasks.DONE))
    assert sorted(told(engine)) == [("a", "done"), ("c", "done")]
    again = take(engine, "job2")
    assert engine.spool.task(again)[1].id == "b"
    engine.close()
    assert cluster.cancelled == ["job2"]
    assert cluster.withdrawn == ["job0", "job9"]


def test_a_ticket_that_is_taken_while_a_driver_takes_over_goes_on(made, monkeypatch):
    before, *_ = made()
    for name in "ab":
        before.submit(task(name))
    told(before)
    before._held.close()
    holders, taken = Spool.holders, []

    def meanwhile(spool):
        found = holders(spool)
        taken.append(take(before, "job0"))
        return found

    monkeypatch.setattr(Spool, "holders", meanwhile)
    engine, *_ = made(alive=["job0"])
    for name in "ab":
        engine.submit(task(name))
    told(engine)
    assert len(engine.spool.offered(engine._kind)) == 1  # b; nobody else may take a
    assert engine.spool.wants(*taken)
    engine.spool.end(*taken, Event("a", tasks.DONE))
    assert told(engine) == [("a", "done")]


def test_jobs_take_no_tickets_of_a_driver_that_wants_something_else(made):
    before, *_ = made()
    for name in "abc":
        before.submit(task(name))
    told(before)
    ours = take(before, "job0")
    before._held.close()
    engine, cluster, _ = made(alive=["job0", "job1", "job2"], needs={"memory_gb": 8})
    assert engine._kind != before._kind
    assert cluster.cancelled == ["job1", "job2"]  # they wait for tickets that there are no more
    for name in "ab":
        engine.submit(task(name))
    told(engine)
    assert cluster.started == [["job0"]]  # for b: the one of before works on a
    engine.spool.end(ours, Event("a", tasks.DONE))
    assert told(engine) == [("a", "done")]
    assert take(before, "job0") is None


def test_a_stop_takes_back_what_has_not_begun(made):
    engine, cluster, _ = made()
    for name in "abcd":
        engine.submit(task(name))
    told(engine)
    begun = take(engine, "job0")
    engine.spool.tell(begun, Event("a", tasks.CELL, {"cell": "c-a", "status": "done"}))
    engine.stop()
    assert engine.spool.stopping()
    late = take(engine, "job1", begins=False)  # a job that has not seen it yet
    heard = [("a", "cell"), *((name, "stopped") for name in "cd")]
    assert sorted(told(engine)) == heard  # nothing that was said meanwhile is lost
    assert take(engine, "job1") is None
    assert cluster.cancelled == []
    assert cluster.withdrawn == ["job0", "job1", "job2"]  # those that are pending still
    for ticket, name in ((begun, "a"), (late, "b")):
        engine.spool.end(ticket, Event(name, tasks.STOPPED))
    assert sorted(told(engine)) == [("a", "stopped"), ("b", "stopped")]
    assert not Spool(engine.spool.path).ended()
    assert list((engine.spool.path / "tasks").iterdir()) == []
    assert engine.spool.held() == set()
    engine.close()
    made()  # the next driver
    assert not engine.spool.stopping()
    assert engine.spool.jobs() == {}


def test_two_living_drivers_leave_each_other_alone(made):
    first, *_ = made()
    first.submit(task("a"))
    told(first)
    second, other, said = made(alive=["job0"])
    assert said == []
    second.submit(task("a"))
    told(second)
    second.stop()
    told(second)
    second.close()
    assert other.cancelled == []
    assert not first.spool.stopping()
    ticket = take(first, "job0")
    first.spool.end(ticket, Event("a", tasks.DONE))
    assert told(first) == [("a", "done")]


def test_jobs_that_are_withdrawn_are_not_missed(made):
    engine, cluster, _ = made(slots=4, most=4)
    for name in "abcd":
        engine.submit(task(name))
    told(engine)
    ticket = take(engine, "job0")
    engine.stop()
    assert sorted(told(engine)) == [(name, "stopped") for name in "bcd"]
    cluster.over = {f"job{i}": Gone("crash", "cancelled") for i in range(1, 4)}
    assert told(engine) == []
    cluster.over = {"job0": Gone("crash", "cancelled")}  # it was queued again, and pending
    assert told(engine) == [("a", "stopped")]
    assert not engine.spool.wants(ticket)


@pytest.mark.parametrize("pulls", [True, False])
def test_jobs_that_never_begin_end_the_engine(made, pulls):
    engine, cluster, _ = made(pulls=pulls)
    engine.submit(task("a"))
    told(engine)
    for i in range(2):
        cluster.over = {f"job{i}": Gone("crash", "no python there")}
        heard = [event.kind for event in engine.poll(0.0)]
        assert heard == ([] if pulls else ["lost"])
        if not pulls:
            engine.submit(task("a"))
        told(engine)
    cluster.over = {"job2": Gone("crash", "no python there")}
    with pytest.raises(EngineError, match="3 jobs ended before they began.*no python there"):
        engine.poll(0.0)


def test_a_scheduler_that_refuses_is_asked_again_while_jobs_run(made, monkeypatch):
    monkeypatch.setattr(_spool, "_RETRY_SECONDS", 0.3)
    engine, cluster, said = made()
    engine.submit(task("a"))
    told(engine)
    ticket = take(engine, "job0")
    start = cluster.start

    def refuse(tickets):
        raise EngineError("too many jobs")

    cluster.start = refuse
    engine.submit(task("b"))
    told(engine)
    told(engine)
    assert said == ["too many jobs; tried again in 0.3 s"]
    cluster.start = start
    time.sleep(0.3)
    told(engine)
    assert len(cluster.started) == 2
    cluster.start = refuse
    engine.spool.end(ticket, Event("a", tasks.DONE))
    engine.spool.end(take(engine, "job1"), Event("b", tasks.DONE))
    assert sorted(told(engine)) == [("a", "done"), ("b", "done")]
    for job in ("job0", "job1"):
        engine.spool.leave(job, engine._kind)
    engine.submit(task("c"))
    with pytest.raises(EngineError, match="too many jobs"):  # nothing runs: it is said
        engine.poll(0.0)


def test_a_job_that_is_queued_again_is_not_over(made):
    engine, cluster, _ = made(grace_seconds=0.2)
    engine.submit(task("a"))
    told(engine)
    ticket = take(engine, "job0")
    cluster.over = {"job0": Gone("", "preempted")}
    told(engine)
    cluster.over = {}
    told(engine)
    time.sleep(0.3)
    assert told(engine) == []
    engine.spool.end(ticket, Event("a", tasks.DONE))
    assert told(engine) == [("a", "done")]


def step(n, **more):
    return Event("", tasks.STEP, {"step": n, "steps": 9, **more})


def left(limit):
    return Event("", LEFT, {"text": "n1 is taken away", "limit": limit})


CELL_DONE = Event("", tasks.CELL, {"cell": "c", "status": "done"})
STAY = (step(4, label="x"), step(6), left(True))  # from the same checkpoint each time


@pytest.mark.parametrize(
    ("stays", "late"),
    [
        ([STAY] * 3, False),  # the first one got from 4 to 6
        ([STAY] * 4, True),
        ([STAY] * 3 + [(step(4, label="x"), step(7), left(True))] + [STAY] * 2, False),
        ([STAY] * 3 + [(CELL_DONE, left(True))] + [STAY] * 2, False),
        ([STAY] * 3 + [(step(0, label="y"), left(True))] + [STAY] * 2, False),
        ([(*STAY[:2], left(False))] * 9, False),  # preempted: nobody's fault
        ([(left(True),)] * 3, True),  # never so far as a step
    ],
)
def test_time_limits_without_progress_end_a_task(made, stays, late):
    engine, cluster, _ = made()
    engine.submit(task("a"))
    told(engine)
    ticket = take(engine, "job0")
    for said in itertools.chain(*stays):
        engine.spool.tell(ticket, said)
    heard = engine.poll(0.0)
    assert [e.data["text"] for e in heard if e.kind == tasks.SAY] == ["n1 is taken away"] * len(
        stays
    )
    assert (heard[-1].kind == tasks.LOST) == late
    assert cluster.cancelled == ["job0"] * late
    if late:
        assert heard[-1].data["reason"] == "time"
        assert "met the time limit 3 times" in heard[-1].data["message"]
        assert "--resources minutes=" in heard[-1].data["message"]


def test_time_limits_without_a_warning_end_a_task_as_well(made):
    engine, cluster, _ = made()
    heard = []
    for i in range(3):
        engine.submit(task("a"))
        told(engine)
        ticket = take(engine, f"job{i}")
        engine.spool.tell(ticket, step(0, label="x"))
        cluster.over = {f"job{i}": Gone("time", "job ended (timeout)")}
        heard += [e for e in engine.poll(0.0) if e.kind in tasks.ENDS]
    assert [event.kind for event in heard] == ["stopped", "stopped", "lost"]
    assert heard[-1].data["reason"] == "time"


def test_a_machine_that_cannot_work_ends_the_engine(made):
    engine, cluster, _ = made()
    engine.submit(task("a"))
    told(engine)
    ticket = take(engine, "job0")
    engine.spool.end(ticket, Event("a", BROKEN, {"message": "no activjax there"}))
    with pytest.raises(EngineError, match="no activjax there"):
        engine.poll(0.0)
    engine.close()
    assert cluster.cancelled == ["job0"]
    assert engine.spool.stopping()  # for those that have none


def test_a_job_queued_again_after_its_end_does_nothing(tmp_path):
    spool = Spool(tmp_path)
    spool.create()
    assert Station("j").work(str(tmp_path), "gone~1") == tasks.DONE
    assert not spool.wants("gone~1")


@pytest.mark.parametrize(
    ("line", "warned"),
    [
        ("server:/x {} nfs4 rw,vers=4.2,local_lock=none 0 0", False),
        ("server:/x {} nfs rw,vers=3,nolock 0 0", True),
        ("server:/x {} nfs4 rw,local_lock=flock 0 0", True),
        ("mds@tcp:/l {} lustre rw,flock 0 0", False),
        ("mds@tcp:/l {} lustre rw 0 0", True),
        ("mds@tcp:/l {} lustre rw,localflock 0 0", True),
        ("/dev/sda {} ext4 rw 0 0", False),
        ("server:/x {}/other nfs rw,nolock 0 0", False),
    ],
)
def test_file_systems_without_locks_are_told(tmp_path, line, warned):
    mounts = "/dev/root / ext4 rw 0 0\n" + line.format(tmp_path) + "\n"
    found = _mounts.warning(tmp_path / "runs", mounts)
    assert (found is not None) == warned
    if warned:
        assert "does not carry locks between machines" in found


def test_resources():
    assert parse_resources("cpus=4, gpus=0.5,partition=short ,time=1-0") == {
        "cpus": 4, "gpus": 0.5, "partition": "short", "time": "1-0",
    }  # fmt: skip
    for text, message in (
        ("cpus", "expected name=value"),
        ("cpus=1,cpus=2", "cpus is given twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_resources(text)
    assert _needs({"cpus": 2, "memory_gb": 1, "licence": 1}) == {
        "num_cpus": 2, "num_gpus": 0, "memory": 2**30, "resources": {"licence": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "slrum"}, "expected local, inline, slurm, ray, hosts, got 'slrum'; did you"),
        ({"engine": "ray", "resources": {"cpus": "four"}}, "cpus: expected a positive number"),
        ({"engine": "slurm", "resources": {"minutes": -1}}, "minutes: expected a positive number"),
        ({"resources": {"cpus": 1}}, "resources: the engine local has none"),
        ({"engine": "inline", "address": "x"}, "address: the engine inline has none"),
        ({"engine": "ray", "process": 0}, "processes, process: they belong to --engine hosts"),
    ],
)
def test_options_that_cannot_be(given, message):
    with pytest.raises(ConfigError, match=message):
        Options(**given)


def test_what_is_saved_says_nothing_of_this_process():
    given = Options("hosts", address="a:1", processes=2, process=1)
    assert "process" not in given.saved()
    assert Options(**given.saved()) == Options("hosts", address="a:1", processes=2)


def test_another_engine_starts_with_its_own_place_and_workers():
    saved = Options("slurm", 8, 4, address="local", resources={"partition": "x"}).saved()
    assert Options.resumed(saved, None).resources == {"partition": "x"}
    assert Options.resumed(saved, {"engine": "slurm", "width": 2}).workers == 8
    assert Options.resumed(saved, {"engine": "local"}) == Options(width=4)


def test_news_of_many_tasks_are_read_in_turn(made):
    engine, *_ = made(slots=100, most=100)
    for i in range(80):
        engine.submit(task(f"t{i}"))
    told(engine)
    while ticket := take(engine, "job0", begins=False):
        engine.spool.tell(ticket, Event("", tasks.SAY, {"text": "x"}))
    heard = list(itertools.chain(*(told(engine) for _ in range(3))))
    assert len(heard) == len({name for name, _ in heard}) == 80
