"""One program over several processes: equal to one process, through failures, stops and kills."""

import json
import resource
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import activjax
from activjax.runs.sweep.folder import SweepFolder
from tests.processes import Job, sweeping

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1000)]  # jobs have limits of their own

TINY = Path(__file__).parents[1] / "tiny"
CELLS = ("sweep.grid.lr=[0.02, 0.05]", "seeds=6")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("hosts")
    shutil.copytree(TINY, home / "tiny")
    shutil.copytree(Path(activjax.__file__).parent, home / "activjax")  # nobody edits it meanwhile
    (home / "tiny" / "s.yaml").write_text("experiment: drill.py\nseeds: 3\n")
    return home / "tiny"


def folder_of(home, name, runs="runs"):
    (path,) = (home / runs / name).iterdir()
    return SweepFolder(path)


def values(folder):
    found = {}
    for cell in folder.cells:
        record = folder.record(cell["id"])
        assert record is not None, cell
        found[json.dumps([cell["point"], cell["seed"]])] = (
            [row["value"] for row in record["summary"]] if record["status"] == "done" else None
        )
    return found


def start(home, count, *arguments, **options):
    return Job(count, sweeping(*arguments), home, home=home.parent, **options)


def inline(home, config, *overrides, name, runs="one"):
    more = ("sweep", config, f"name={name}", *overrides, "--out", runs)
    alone = ("-m", "activjax.cli", *more, "--engine", "inline", "--width", 12)
    with Job(1, lambda *_: alone, home, home=home.parent) as job:
        codes, said = job.ended()
    assert codes == [0], said
    return folder_of(home, name, runs)


def check_equal(one, many):
    """The arithmetic of a cell is the same; only how many share a device differs, so that XLA may
    sum in another order: 40 steps of float32 with values of order 1 stay far below 1e-4."""
    a, b = values(one), values(many)
    assert a.keys() == b.keys()
    for cell in a:
        np.testing.assert_allclose(a[cell], b[cell], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(("config", "more"), [("s.yaml", CELLS), ("regression.yaml", ("seeds=5",))])
def test_equal_to_one_process(home, count, config, more):
    name = f"equal-{count}-{Path(config).stem}"
    with start(home, count, config, f"name={name}", *more, "--out", "runs") as job:
        codes, said = job.ended()
    assert codes == [0] * count, said
    assert "report.html" in said[0]
    for text in said[1:]:  # XLA may complain of a slow machine
        assert not any(word in text for word in (name, "Traceback", "report.html")), said
    many = folder_of(home, name)
    check_equal(inline(home, config, *more, name=name), many)
    runs = [many.record(c["id"])["run"] for c in many.cells]
    assert {run["engine"] for run in runs} == {"hosts"}
    assert max(run["devices"] for run in runs) > count / 2  # some program spans the processes
    for cell in many.cells:  # what each cell saved is there, whichever process had the cell
        for item in many.record(cell["id"])["contents"]:
            if "file" in item:
                assert (many.path / "cells" / cell["id"] / item["file"]).is_file()


def test_a_cell_that_raises_is_the_only_one(home):
    more = ("trouble=finish raise", "sweep.grid.bad=[0.0, 1.0]", "seeds=4")
    with start(home, 2, "s.yaml", "name=bad", *more, "--out", "runs") as job:
        codes, said = job.ended()
    assert codes[0] == 5, said
    found = values(folder_of(home, "bad"))
    assert sum(v is None for v in found.values()) == 4


@pytest.mark.parametrize("trouble", ["raise", "setup"])
def test_what_raises_in_one_process_does_not_hold_the_others(home, trouble):
    """`raise`: only the devices of process 1 have the bad cells."""
    name = f"bad-{trouble}"
    more = (f"trouble={trouble}", "sweep.grid.bad=[0.0, 1.0]", "seeds=2", "checkpoint_seconds=0.0")
    with start(home, 2, "s.yaml", f"name={name}", *more, "--out", "runs") as job:
        codes, said = job.ended()
    assert codes[0] == (5 if trouble == "raise" else 1), said
    folder = folder_of(home, name)
    states = [folder.record(c["id"])["status"] for c in folder.cells]
    assert states == (["done", "done"] if trouble == "raise" else ["failed"] * 2) + ["failed"] * 2
    failed = folder.record(folder.cells[-1]["id"])["error"]
    assert failed["kind"] == "raised"
    assert "asked to fail" in failed["message"]


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
runpy.run_module("activjax.cli", run_name="__main__", alter_sys=True)
"""


def test_a_disk_that_is_full_for_one_process(home):
    more = ("s.yaml", "name=full", *CELLS, "steps=3000", "chunk=50", "--out", "runs")

    def command(i, count, address):
        whole = sweeping(*more)(i, count, address)
        return ("-c", LIMITED, *whole[2:]) if i == 0 else whole

    with Job(2, command, home, home=home.parent) as job:
        codes, said = job.ended()
    assert codes[0] == 3, said
    assert "the disk is full" in said[0]
    with start(home, 2, *more) as job:
        codes, said = job.ended()
    assert codes == [0, 0], said


@pytest.mark.parametrize("who", [0, 1])
def test_a_checkpoint_that_one_process_cannot_write_ends_all_and_is_gone_on_from(home, who):
    """From its second checkpoint on; one of Orbax's barriers would wait for 20 minutes."""
    name = f"refused-{who}"
    # 8 s of steps at least, so that checkpoints come after the limit; rates at which nothing
    # diverges, as 20000 times NaN are few bytes
    more = (
        "sweep.grid.lr=[0.00001, 0.00002]", "seeds=6", "model.size=20000", "sleep=0.02",
        "steps=400", "checkpoint_seconds=0.5",
    )  # fmt: skip
    with start(home, 2, "s.yaml", f"name={name}", *more, "--out", "runs") as job:
        until(job, home / "runs" / name, "*/batches/*/work/*/checkpoints/*/manifest.json")
        limit = (100_000, resource.RLIM_INFINITY)  # a process's part of the states has 480 kB
        resource.prlimit(job.processes[who].pid, resource.RLIMIT_FSIZE, limit)
        codes, said = job.ended(60)
    assert codes == [3, 3], said
    for text in said:
        assert f"the disk is full (process {who} on " in text, said
        assert "work/all/checkpoints" in text.replace("\n", ""), said
    folder = folder_of(home, name)
    kept = [int(p.parent.name) for p in folder.path.glob("batches/*/work/*/checkpoints/*/m*.json")]
    with start(home, 2, "s.yaml", f"name={name}", *more, "--out", "runs") as job:
        codes, said = job.ended()
    assert codes == [0, 0], said
    assert f"continuing from step {max(kept)}" in said[0]
    with start(home, 2, "s.yaml", f"name={name}", *more, "--out", "whole") as job:
        codes, said = job.ended()
    assert codes == [0, 0], said
    assert values(folder) == values(folder_of(home, name, "whole"))  # to the bit: the same mesh


def test_every_process_hears_of_a_wrong_config(home):
    with start(home, 2, "s.yaml", "lrr=1", "--out", "runs") as job:
        codes, said = job.ended()
    assert codes == [2, 2]
    assert all("did you mean 'lr'" in s for s in said)


def until(job, folder, there, seconds=60):
    end = time.monotonic() + seconds
    while not any(path.stat().st_size for path in folder.glob(there)):
        assert time.monotonic() < end, "nothing was written"
        assert all(p.poll() is None for p in job.processes)
        time.sleep(0.05)


@pytest.mark.parametrize("who", [0, 1])
def test_a_stop_of_one_process_stops_all_and_is_continued(home, who):
    name = f"stop-{who}"
    more = (f"name={name}", *CELLS, "sleep=0.02", "steps=80")
    with start(home, 2, "s.yaml", *more, "--out", "runs") as job:
        until(job, home / "runs" / name, "*/batches/*/metrics.jsonl")
        time.sleep(1.0)
        job.send(who)
        codes, said = job.ended()
    assert codes[0] == 143, said
    folder = folder_of(home, name)
    assert list(folder.path.glob("batches/*/work/*/checkpoints/*/manifest.json"))
    with start(home, 2, "s.yaml", *more, "--out", "runs") as job:
        codes, said = job.ended()
    assert codes[0] == 0, said
    assert "continuing from step" in said[0]
    check_equal(inline(home, "s.yaml", *more[1:], name=name), folder)


def test_a_killed_process_ends_the_job_and_the_same_command_goes_on(home):
    more = ("name=kill", *CELLS, "sleep=0.02", "steps=80", "checkpoint_seconds=0.5")
    with start(home, 2, "s.yaml", *more, "--out", "runs") as job:
        until(job, home / "runs" / "kill", "*/batches/*/work/*/checkpoints/*/manifest.json")
        job.send(1, signal.SIGKILL)
        begin = time.monotonic()
        codes, _ = job.ended()
        assert time.monotonic() - begin < 130  # the heartbeat's limit
    assert codes[0] != 0
    with start(home, 2, "s.yaml", *more, "--out", "runs") as job:
        codes, said = job.ended()
    assert codes[0] == 0, said
    assert "continuing from step" in said[0]
    check_equal(inline(home, "s.yaml", *more[1:], name="kill"), folder_of(home, "kill"))


def test_one_process_may_continue_what_two_began(home):
    more = ("name=fewer", *CELLS, "sleep=0.02", "steps=80")
    with start(home, 2, "s.yaml", *more, "--out", "runs") as job:
        until(job, home / "runs" / "fewer", "*/batches/*/metrics.jsonl")
        time.sleep(1.0)
        job.send(0)
        job.ended()
    folder = inline(home, "s.yaml", *more[1:], name="fewer", runs="runs")
    assert json.loads((folder.path / "provenance.json").read_text())["attempts"][1]["cells"] == 12
    check_equal(inline(home, "s.yaml", *more[1:], name="fewer"), folder)
