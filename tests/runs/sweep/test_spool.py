"""Tasks that go through files to a scheduler that does what a test says."""

import itertools
import time

import pytest

from activjax.runs.errors import ConfigError, EngineError
from activjax.runs.sweep import tasks
from activjax.runs.sweep.engines import Options, _mounts, _spool, parse_resources
from activjax.runs.sweep.engines._ray import _needs
from activjax.runs.sweep.engines._spool import Gone, SpoolEngine
from activjax.runs.sweep.engines._station import Station
from activjax.runs.sweep.engines._tickets import BEGUN, Spool
from activjax.runs.sweep.records import CellTask
from activjax.runs.sweep.tasks import Event, Task
from activjax.runs.sweep.worker import BROKEN, Hello


class Cluster:
    """A scheduler whose jobs do nothing; tests write what a machine would."""

    name, slots, most = "cluster", 2, 3
    ask_seconds = gather_seconds = grace_seconds = 0.0

    def __init__(self, spool):
        self.spool, self.started, self.cancelled = spool, [], []
        self.over, self.alive = {}, set()

    def start(self, tickets):
        self.started.append(list(tickets))
        return {ticket: f"job {ticket}" for ticket in tickets}

    def take_over(self, jobs):
        return self.alive & set(jobs)

    def gone(self, tickets):
        return {t: self.over[t] for t in tickets if t in self.over}

    def cancel(self, tickets):
        self.cancelled += tickets

    def close(self):
        pass


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
    ((ticket,),) = cluster.started
    hello, read = engine.spool.task(ticket)
    assert (hello.engine, read) == ("cluster", task("a"))
    engine.spool.tell(ticket, Event("a", BEGUN, {}))
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
    assert left == [".lock"]


def test_tickets_are_gathered_and_never_more_than_the_queue_takes(made):
    engine, cluster, _ = made(gather_seconds=0.2)
    engine.submit(task("first"))
    told(engine)
    assert len(cluster.started) == 1  # nothing runs: it does not wait
    engine.spool.tell(cluster.started[0][0], Event("first", BEGUN, {}))
    for name in "abcd":
        engine.submit(task(name))
    told(engine)
    assert len(cluster.started) == 1
    engine.poll(0.4)
    assert [len(tickets) for tickets in cluster.started] == [1, 2]  # three at most
    engine.spool.end(cluster.started[0][0], Event("first", tasks.DONE))
    assert told(engine) == [("first", "done")]
    engine.poll(0.4)
    assert [len(tickets) for tickets in cluster.started] == [1, 2, 1]


@pytest.mark.parametrize(
    ("gone", "kind", "reason"),
    [
        (Gone("crash", "it died"), "lost", "crash"),
        (Gone("memory", "out of memory"), "lost", "memory"),
        (Gone("", "the node was taken"), "stopped", None),  # nobody's fault: started again
    ],
)
def test_a_job_that_is_over_without_an_end_is_lost(made, gone, kind, reason):
    engine, cluster, _ = made()
    engine.submit(task("a"))
    told(engine)
    cluster.over = {cluster.started[0][0]: gone}
    (event,) = engine.poll(0.0)
    assert (event.kind, event.data["message"]) == (kind, gone.message)
    assert event.data.get("reason") == reason


def test_an_end_counts_also_where_the_scheduler_is_quicker(made):
    engine, cluster, _ = made(grace_seconds=30.0)
    engine.submit(task("a"))
    told(engine)
    cluster.over = {cluster.started[0][0]: Gone("crash", "")}
    assert told(engine) == []
    engine.spool.end(cluster.started[0][0], Event("a", tasks.DONE))
    assert told(engine) == [("a", "done")]


def test_a_driver_goes_on_with_the_jobs_of_the_one_before(made):
    before, cluster, _ = made()
    for name in "ab":
        before.submit(task(name))
    told(before)
    ours, gone = cluster.started[0]
    unheld = before.spool.offer(before._hello, task("c"))  # killed before it could keep the name
    before._held.close()  # as the end of its process does
    engine, cluster, said = made(alive=[ours, unheld])
    assert not engine.spool.wants(unheld)  # if a job has it, it ends at once
    assert said == ["cluster: going on with 1 jobs of a driver that has ended"]
    for name in "ab":
        engine.submit(task(name))
    told(engine)
    assert len(cluster.started) == 1
    ((new,),) = cluster.started
    assert new not in (ours, gone)  # the one that was lost is started again
    engine.spool.end(ours, Event("a", tasks.DONE))
    engine.spool.end(new, Event("b", tasks.DONE))
    assert sorted(told(engine)) == [("a", "done"), ("b", "done")]
    engine.close()
    assert cluster.cancelled == []


def test_a_stop_takes_back_what_has_not_begun(made):
    engine, cluster, _ = made()
    for name in "abcd":
        engine.submit(task(name))
    told(engine)
    begun, *idle = cluster.started[0]
    engine.spool.tell(begun, Event("a", BEGUN, {}))
    engine.spool.tell(begun, Event("a", tasks.CELL, {"cell": "c-a", "status": "done"}))
    engine.stop()
    assert engine.spool.stopping()
    heard = [("a", "cell"), *((name, "stopped") for name in "bcd")]
    assert sorted(told(engine)) == heard  # nothing that was said meanwhile is lost
    assert cluster.cancelled == idle
    engine.spool.end(begun, Event("a", tasks.STOPPED))
    assert told(engine) == [("a", "stopped")]
    assert not Spool(engine.spool.path).ended()
    assert list((engine.spool.path / "tasks").iterdir()) == []
    engine.close()
    made()  # the next driver
    assert not engine.spool.stopping()


def test_two_living_drivers_leave_each_other_alone(made):
    first, cluster, _ = made()
    first.submit(task("a"))
    told(first)
    (tickets,) = cluster.started
    second, other, said = made(alive=tickets)
    assert said == []
    second.submit(task("a"))
    told(second)
    second.stop()
    told(second)
    second.close()
    assert not set(other.cancelled) & set(tickets)
    assert not first.spool.stopping()
    assert first.spool.wants(*tickets)
    first.spool.end(*tickets, Event("a", tasks.DONE))
    assert told(first) == [("a", "done")]


def test_jobs_that_never_begin_end_the_engine(made):
    engine, cluster, _ = made()
    for _ in range(2):
        engine.submit(task("a"))
        told(engine)
        cluster.over = {cluster.started[-1][0]: Gone("crash", "no python there")}
        assert [event.kind for event in engine.poll(0.0)] == ["lost"]
    engine.submit(task("a"))
    told(engine)
    cluster.over = {cluster.started[-1][0]: Gone("crash", "no python there")}
    with pytest.raises(EngineError, match="3 jobs ended before they began.*no python there"):
        engine.poll(0.0)


def test_a_scheduler_that_refuses_is_asked_again_while_jobs_run(made, monkeypatch):
    monkeypatch.setattr(_spool, "_RETRY_SECONDS", 0.3)
    engine, cluster, said = made()
    engine.submit(task("a"))
    told(engine)
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
    engine.spool.end(cluster.started[0][0], Event("a", tasks.DONE))
    engine.spool.end(cluster.started[1][0], Event("b", tasks.DONE))
    assert sorted(told(engine)) == [("a", "done"), ("b", "done")]
    engine.submit(task("c"))
    with pytest.raises(EngineError, match="too many jobs"):  # nothing runs: it is said
        engine.poll(0.0)


def test_a_job_that_is_queued_again_is_not_over(made):
    engine, cluster, _ = made(grace_seconds=0.2)
    engine.submit(task("a"))
    told(engine)
    cluster.over = {cluster.started[0][0]: Gone("", "preempted")}
    told(engine)
    cluster.over = {}
    told(engine)
    time.sleep(0.3)
    assert told(engine) == []
    engine.spool.end(cluster.started[0][0], Event("a", tasks.DONE))
    assert told(engine) == [("a", "done")]


def test_a_machine_that_cannot_work_ends_the_engine(made):
    engine, cluster, _ = made()
    engine.submit(task("a"))
    told(engine)
    engine.spool.end(cluster.started[0][0], Event("a", BROKEN, {"message": "no activjax there"}))
    with pytest.raises(EngineError, match="no activjax there"):
        engine.poll(0.0)
    engine.close()
    assert cluster.cancelled == cluster.started[0]


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
    engine, cluster, _ = made(slots=100, most=100)
    for i in range(80):
        engine.submit(task(f"t{i}"))
    told(engine)
    (tickets,) = cluster.started
    for ticket in tickets:
        engine.spool.tell(ticket, Event("", tasks.SAY, {"text": "x"}))
    heard = list(itertools.chain(*(told(engine) for _ in range(3))))
    assert len(heard) == len({name for name, _ in heard}) == 80
