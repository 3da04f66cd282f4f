"""SLURM as submitit sees it, on a cluster that is made of shell commands: see `fake_slurm`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runs.sweep import fake_slurm
from tests.runs.sweep.test_clusters import (
    CHECKPOINT,
    LONG,
    folder_of,
    home,
    needs,
    numbers,
    processes,
    run,
    start,
    undisturbed,
    until,
)

__all__ = ["home", "undisturbed"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), needs("submitit")]
COMMANDS = Path(fake_slurm.__file__).with_name("commands.py")
SLURM = ("--engine", "slurm", "--workers", 2, "--out", "runs")


class Cluster:
    """The fake one: what was asked of it, and what it does by itself."""

    def __init__(self, path):
        self.path = path

    def asked(self):
        return [json.loads(line) for line in (self.path / "asked").read_text().splitlines()]

    def jobs(self, state="RUNNING"):
        read = {p.stem: json.loads(p.read_text()) for p in self.path.glob("*.job")}
        return {name: job for name, job in sorted(read.items()) if job["state"].startswith(state)}

    def does(self, *words):
        subprocess.run([sys.executable, COMMANDS, *words], check=True)


@pytest.fixture
def cluster(tmp_path, monkeypatch, home):
    there = tmp_path / "cluster"
    (there / "bin").mkdir(parents=True)
    for name in ("sbatch", "srun", "sacct", "scancel", "scontrol"):
        script = there / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{COMMANDS}" {name} "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{there / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(there))
    made = Cluster(there)
    yield made
    for name in [*made.jobs(), *made.jobs("PENDING")]:
        made.does("scancel", name)
    end = time.monotonic() + 20
    while made.jobs() or made.jobs("PENDING"):
        assert time.monotonic() < end
        time.sleep(0.1)
    shutil.rmtree(home / "runs", ignore_errors=True)


def wait_for(there, seconds=60):
    end = time.monotonic() + seconds
    while not (found := there()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def record_of(folder, cell):
    record = folder.record(cell["id"])
    assert record is not None
    return record


RESOURCES = "cpus=1,partition=short,setup=echo modules are loaded"


def test_job_arrays_and_their_logs(home, cluster, undisturbed):
    more = ("--workers", 3, "--resources", RESOURCES)  # more than there are nodes
    code, said = run(home, "name=long", *LONG, *SLURM[:2], *more, "--out", "runs")
    assert code == 0, said
    folder = folder_of(home, "long")
    assert numbers(folder) == undisturbed
    asked = cluster.asked()
    # one for the probe, then two: they do all the batches, and one never gets a node
    assert [flags.get("array") for flags in asked] == [None, "0-1%2"]
    assert {flags["partition"] for flags in asked} == {"short"}
    wait_for(lambda: not (cluster.jobs() or cluster.jobs("PENDING")))  # at once: none waits on
    assert len(cluster.jobs("COMPLETED")) == 2
    assert len(cluster.jobs("CANCELLED")) == 1
    for cell in folder.cells:
        job = record_of(folder, cell)["run"]["job"].removeprefix("slurm ")
        assert job in cluster.jobs("COMPLETED")
        assert (folder.path / "jobs/slurm/submitit" / f"{job}_0_log.out").is_file()
        assert "modules are loaded" in (cluster.path / f"{job}.log").read_text()


def went_on(home, codes, said, undisturbed):
    """The folder of a sweep that went on from a checkpoint, which no number tells of."""
    assert codes[0] == 0, said
    folder = folder_of(home, "long")
    assert numbers(folder) == undisturbed
    assert "continuing from step" in said[0]
    assert {record_of(folder, c)["run"]["attempts"] for c in folder.cells} == {1}
    return folder


def last_batch(home):
    """The checkpoints of the batch that was begun last, if it is not the first."""
    logs = sorted((home / "runs/long").glob("*/batches/*/log.txt"), key=lambda p: p.stat().st_ctime)
    saved = logs[-1].parent.glob("work/*/checkpoints/*/manifest.json") if len(logs) > 1 else ()
    return list(saved)


@pytest.mark.parametrize("by", ["warned", "preempt"])
def test_a_machine_is_taken_away_with_its_third_ticket(home, cluster, undisturbed, monkeypatch, by):
    monkeypatch.setenv("FAKE_SLURM_REQUEUES", "1")
    with start(home, "name=long", *LONG, *SLURM[:2], "--workers", 1, "--out", "runs") as job:
        until(job, home, "long", "*/cells/*.json")  # the probe and a batch are done
        wait_for(lambda: last_batch(home))
        (taken,) = cluster.jobs()
        cluster.does(by, taken)
        codes, said = job.ended(300)
    went_on(home, codes, said, undisturbed)
    assert len(cluster.asked()) == 1  # one job did it all
    assert read(cluster, taken)["starts"] == 2


@pytest.mark.parametrize("by", ["warned", "preempt", "fail"])
def test_a_machine_that_is_taken_away(home, cluster, undisturbed, monkeypatch, by):
    """By a warning, by SIGTERM and a requeue of SLURM's, and without a word."""
    monkeypatch.setenv("FAKE_SLURM_REQUEUES", "1")
    with start(home, "name=long", *LONG, *SLURM) as job:
        until(job, home, "long", CHECKPOINT)
        saved = (home / "runs" / "long").glob  # of both jobs, so that there is what to go on from
        wait_for(lambda: len({path.parents[4] for path in saved(CHECKPOINT)}) > 1)
        taken = next(iter(cluster.jobs()))
        cluster.does(by, taken)
        codes, said = job.ended(300)
    folder = went_on(home, codes, said, undisturbed)
    if by != "fail":
        assert read(cluster, taken)["starts"] == 2
    if by == "warned":
        assert "is taken away; a checkpoint is saved" in said[0]
        logs = [p.read_text() for p in folder.path.glob("batches/*/log.txt")]
        assert not any("Fatal" in text or "User defined signal" in text for text in logs)


def read(cluster, name):
    return json.loads((cluster.path / f"{name}.job").read_text())


def test_a_job_that_meets_its_time_limit_is_queued_again(home, cluster, undisturbed, monkeypatch):
    monkeypatch.setenv("FAKE_SLURM_MINUTE", "10")  # of 3 minutes, 2 until the warning
    # four batches of 6 s and more: the only job meets it, whatever the start takes
    more = (*SLURM[:2], "--workers", 1, "--out", "runs", "--resources", "minutes=3")
    code, said = run(home, "name=long", *LONG, *more)
    assert code == 0, said
    assert numbers(folder_of(home, "long")) == undisturbed
    # how it ends does not matter: a signal may have come when it had no ticket any more
    assert max(job["starts"] for job in cluster.jobs("").values()) > 1
    assert cluster.jobs("TIMEOUT") == {}


def test_a_cell_that_no_time_limit_lets_get_on_is_given_up(home, cluster, monkeypatch):
    monkeypatch.setenv("FAKE_SLURM_MINUTE", "10")
    monkeypatch.setenv("FAKE_SLURM_TELLS_END", "1")
    more = ("trouble=hang", "bad=1.0", "seeds=1", "--resources", "minutes=3")
    with start(home, "name=late", *more, *SLURM) as job:
        codes, said = job.ended(380)
    assert codes[0] != 0
    folder = folder_of(home, "late")
    (cell,) = folder.cells
    error = record_of(folder, cell)["error"]
    assert error["kind"] == "time", said
    assert "met the time limit 3 times and got no further" in error["message"]
    assert "--resources minutes=" in said[0]
    assert sum(job["starts"] for job in cluster.jobs("").values()) >= 3


def test_too_much_memory_is_said_of_the_job(home, cluster):
    with start(home, "name=oom", *LONG, *SLURM) as job:
        until(job, home, "oom", "*/batches/*/metrics.jsonl")
        cluster.does("oom", next(iter(cluster.jobs())))
        codes, said = job.ended(300)
    assert codes[0] == 0, said  # in smaller batches all is well
    assert "out_of_memory" in said[0]
    assert "trying in smaller batches" in said[0]


def test_a_driver_takes_over_and_a_second_one_leaves_it_alone(home, cluster, undisturbed):
    more = ("name=long", *LONG, *SLURM)
    with start(home, *more) as first:
        until(first, home, "long", CHECKPOINT)
        with start(home, *more) as second:
            codes, both = second.ended(300)
            assert codes[0] == 0, both
        codes, said = first.ended(300)
        assert codes[0] == 0, said
    assert "going on with" not in both[0]
    folder = folder_of(home, "long")
    assert numbers(folder) == undisturbed
    cancelled = cluster.jobs("CANCELLED").values()
    assert [job["starts"] for job in cancelled] == [0] * len(cancelled)  # none that had begun
    assert (folder.path / "jobs/slurm-2").is_dir()
    shutil.rmtree(home / "runs")
    with start(home, *more) as job:
        until(job, home, "long", CHECKPOINT)
        job.send(0, signal.SIGKILL)
        job.processes[0].wait()
    assert cluster.jobs()
    code, said = run(home, *more)
    assert code == 0, said
    assert "going on with" in said
    assert numbers(folder_of(home, "long")) == undisturbed


def test_a_stop_saves_checkpoints_and_leaves_no_job(home, cluster):
    with start(home, "name=stop", *LONG, *SLURM) as job:
        until(job, home, "stop", CHECKPOINT)
        job.send(0, signal.SIGTERM)
        codes, said = job.ended()
    assert codes[0] == 143, said
    wait_for(lambda: not (cluster.jobs() or cluster.jobs("PENDING")))
    assert processes("activjax.runs.sweep.worker", home) == []
