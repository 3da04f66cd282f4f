"""Limits on clusters: a cell that hangs, eats memory or ends its process fails alone, and once."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import activjax
from activjax.runs.sweep.folder import SweepFolder
from tests.processes import Job, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

TINY = Path(__file__).parents[1] / "tiny"
CELLS = ("sweep.grid.bad=[0.0, 1.0]", "seeds=2")  # one batch, half of it bad
MORE = """
import signal
STEP["exit"] = lambda: os._exit(7)
STEP["segv"] = lambda: os.kill(os.getpid(), signal.SIGSEGV)
"""
#: what goes wrong, the limit, the record's kind and message, at most so many attempts: three deaths
#: without progress, and one more for each of the two good cells whose record may be lost with them
TROUBLES = [
    ("finish hang", ("--cell-seconds", 10), "time", "took more than 10 s a cell", 1),
    ("hang", ("--cell-seconds", 10), "time", "took more than 10 s a cell", 1),
    ("finish eat", ("--memory-mb", 1500), "memory", "its process held more than 1500 MB", 1),
    ("finish exit", (), "crash", "its process died (exit code 7)", 5),
    ("finish segv", (), "crash", "its process died (signal 11)", 5),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("limits")
    shutil.copytree(TINY, home / "tiny")
    shutil.copytree(Path(activjax.__file__).parent, home / "activjax")  # nobody edits it meanwhile
    with (home / "tiny" / "drill.py").open("a") as file:
        file.write(MORE)
    (home / "tiny" / "s.yaml").write_text("experiment: drill.py\nseeds: 3\n")
    return home / "tiny"


@pytest.fixture(scope="module")
def ray_cluster(home):
    """A cluster of this machine for all tests: each start of Ray's takes ten seconds."""
    pytest.importorskip("ray")
    port = free_port()
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
    with subprocess.Popen(
        [*ray, f"--port={port}", "--num-cpus=2", "--include-dashboard=false"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(home.parent)},  # its machines have these sources
    ) as head:  # fmt: skip
        try:
            assert any("Ray runtime started" in line for line in head.stdout)
            yield ("--engine", "ray", "--address", f"127.0.0.1:{port}")
        finally:
            head.terminate()  # ends what it has started, too
            head.communicate(timeout=60)


@pytest.fixture
def engine(request):
    if request.param == "ray":
        return request.getfixturevalue("ray_cluster")
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("submitit is not installed (activjax[slurm])")
    return ("--engine", "slurm", "--address", "local")


@pytest.mark.parametrize(("trouble", "limit", "kind", "message", "attempts"), TROUBLES)
@pytest.mark.parametrize("engine", ["ray", "slurm"], indirect=True)
def test_one_bad_cell_fails_alone(home, engine, trouble, limit, kind, message, attempts):
    name = f"{engine[1]}-{trouble.replace(' ', '-')}"
    arguments = (
        "-m", "activjax.cli", "sweep", "s.yaml", f"name={name}", f"trouble={trouble}", *CELLS,
        *engine, "--workers", 1, "--width", 4, *limit, "--out", "runs",
    )  # fmt: skip
    with Job(1, lambda *_: arguments, home, home=home.parent) as job:
        codes, (said,) = job.ended(400)
    assert codes == [5], said
    (path,) = (home / "runs" / name).iterdir()
    folder = SweepFolder(path)
    records = [folder.record(cell["id"]) for cell in folder.cells]
    assert all(records), "every cell has a record"
    states = {(r["point"]["bad"], r["seed"]): r["status"] for r in records}
    assert states == {(bad, s): "failed" if bad else "done" for bad in (0.0, 1.0) for s in (0, 1)}
    for record in records:
        assert record["run"]["engine"] == engine[1]
        if record["status"] == "failed":
            assert (record["error"]["kind"], record["error"]["message"]) == (kind, message)
            assert record["run"]["attempts"] <= attempts
        if trouble.startswith("finish "):  # the good ones were in a batch with the bad
            assert record["run"]["width"] == 4
            assert record["run"]["batch"] == records[0]["run"]["batch"]
    if trouble.endswith("hang"):
        failed = [r for r in records if r["status"] == "failed"]
        assert all("hanging" in r["error"]["traceback"] for r in failed)
    assert not list((path / "jobs" / engine[1] / "tasks").iterdir())  # nothing is left to do
