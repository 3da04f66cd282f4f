"""SLURM (by submitit's stand-in) and Ray for real: kills and preemption, and no number changes."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import activjax
from activjax.runs.sweep.folder import SweepFolder
from tests.processes import Job, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def needs(module):
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed (activjax[slurm,ray])")


TINY = Path(__file__).parents[1] / "tiny"
CELLS = ("sweep.grid.lr={from: 0.01, to: 0.1, linear: 4}", "seeds=4")
LONG = (*CELLS, "sleep=0.05", "steps=120", "checkpoint_seconds=0.5")
SLURM = ("--engine", "slurm", "--address", "local")
RAY = ("--engine", "ray")
CLUSTERS = [
    pytest.param(SLURM, id="slurm", marks=needs("submitit")),
    pytest.param(RAY, id="ray", marks=needs("ray")),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("clusters")
    shutil.copytree(TINY, home / "tiny")
    shutil.copytree(Path(activjax.__file__).parent, home / "activjax")  # nobody edits it meanwhile
    (home / "tiny" / "s.yaml").write_text("experiment: drill.py\nseeds: 3\n")
    return home / "tiny"


def start(home, *arguments):
    width = () if "--width" in arguments else ("--width", "4")
    more = ("-m", "activjax.cli", "sweep", "s.yaml", *arguments, *width)
    return Job(1, lambda *_: more, home, home=home.parent)


def run(home, *arguments):
    with start(home, *arguments) as job:
        codes, said = job.ended(300)
    return codes[0], said[0]


def folder_of(home, name, runs="runs"):
    (path,) = (home / runs / name).iterdir()
    return SweepFolder(path)


def numbers(folder):
    """Everything in the records that does not tell how they came about."""
    found = {}
    for cell in folder.cells:
        record = dict(folder.record(cell["id"]))
        del record["run"]
        found[cell["id"]] = record
    return found


@pytest.fixture(scope="module")
def undisturbed(home):
    """The numbers of the long sweep, by local workers."""
    code, said = run(home, "name=long", *LONG, "--out", "one")
    assert code == 0, said
    return numbers(folder_of(home, "long", "one"))


def until(job, home, name, there, seconds=90):
    end = time.monotonic() + seconds
    while True:
        found = sorted((home / "runs" / name).glob(there))
        if found:
            return found[0]
        assert time.monotonic() < end, "nothing was written"
        assert job.processes[0].poll() is None, job.ended()
        time.sleep(0.05)


def processes(word, home):
    """The processes of this test's sweeps whose command line has a word."""
    found = subprocess.run(["pgrep", "-f", word], capture_output=True, text=True).stdout.split()
    mine = []
    for pid in map(int, found):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if str(home.parent).encode() in environment:
            mine.append(pid)
    return mine


def jobs_of(folder):
    """The jobs of submitit that a sweep has started, and the workers that they have."""
    jobs = {p.name.partition("_")[0] for p in folder.path.glob("jobs/slurm/submitit/*_log.out")}
    return jobs, list((folder.path / "logs").glob("*-0.txt"))


CHECKPOINT = "*/batches/*/work/*/checkpoints/*/manifest.json"


@pytest.mark.parametrize("engine", CLUSTERS)
def test_equal_to_local_workers(home, engine):
    name = engine[1]
    code, said = run(home, f"name=equal-{name}", *CELLS, *engine, "--workers", 2, "--out", "runs")
    assert code == 0, said
    code, said = run(home, f"name=equal-{name}", *CELLS, "--out", "one")
    assert code == 0, said
    folder = folder_of(home, f"equal-{name}")
    assert numbers(folder) == numbers(folder_of(home, f"equal-{name}", "one"))
    runs = [folder.record(cell["id"])["run"] for cell in folder.cells]
    assert {run["engine"] for run in runs} == {name}
    assert all(run["job"] for run in runs)
    assert all(run["host"] for run in runs)
    assert not list((folder.path / "jobs" / name / "tasks").iterdir())
    if name == "slurm":  # the job's own log is found from the cell
        job = runs[0]["job"].split()[-1]
        assert (folder.path / "jobs/slurm/submitit" / f"{job}_0_log.out").is_file()


@needs("submitit")
def test_few_jobs_do_many_tickets_and_end_with_their_driver(home):
    many = ("sweep.grid.lr={from: 0.01, to: 0.1, linear: 50}", "seeds=4", "steps=5")
    more = ("name=many", *many, *SLURM, "--workers", 2, "--width", 1, "--out", "runs")
    code, said = run(home, *more)
    assert code == 0, said
    folder = folder_of(home, "many")
    assert len(folder.recorded()) == 200
    jobs, workers = jobs_of(folder)
    assert len(jobs) <= 4  # two; one more after each time that none was left for long
    assert len(workers) <= 4
    ran = {folder.record(cell["id"])["run"]["job"] for cell in folder.cells}
    assert ran <= {f"slurm {job}" for job in jobs} | {f"local {job}" for job in jobs}
    end = time.monotonic() + 10  # they see the stop, also those that would wait still
    while processes("submitit.core._submit", home):
        assert time.monotonic() < end
        time.sleep(0.1)
    shutil.rmtree(home / "runs" / "many")


@needs("submitit")
def test_a_stop_while_jobs_take_tickets(home):
    many = ("sweep.grid.lr={from: 0.01, to: 0.1, linear: 15}", "seeds=4", "steps=5")
    more = ("name=short", *many, *SLURM, "--workers", 2, "--width", 1, "--out", "runs")
    with start(home, *more) as job:
        until(job, home, "short", "*/cells/*.json")
        job.send(0, signal.SIGTERM)
        codes, said = job.ended()
    assert codes[0] == 143, said
    folder = folder_of(home, "short")
    before = {cell: folder.record(cell) for cell in folder.recorded()}
    assert 0 < len(before) < 60
    assert list((folder.path / "jobs/slurm/tasks").iterdir()) == []
    assert list((folder.path / "jobs/slurm/held").iterdir()) == []
    code, said = run(home, *more)
    assert code == 0, said
    assert len(folder.recorded()) == 60
    assert before.items() <= {c: folder.record(c) for c in folder.recorded()}.items()
    shutil.rmtree(home / "runs" / "short")


@needs("submitit")
def test_a_preempted_job_saves_and_is_queued_again(home, undisturbed):
    more = ("name=long", *LONG, *SLURM, "--workers", 2, "--out", "runs")
    with start(home, *more) as job:
        until(job, home, "long", "*/batches/*/metrics.jsonl")
        time.sleep(1.5)
        taken = processes("submitit.core._submit", home)[0]
        os.kill(taken, signal.SIGUSR2)  # what SLURM sends before it takes a machine away
        codes, said = job.ended(300)
    assert codes[0] == 0, said
    assert "is taken away; a checkpoint is saved" in said[0]
    assert "continuing from step" in said[0]
    folder = folder_of(home, "long")
    assert numbers(folder) == undisturbed
    logs = "".join(p.read_text() for p in folder.path.glob("jobs/slurm/submitit/*.err"))
    logs += "".join(p.read_text() for p in folder.path.glob("jobs/slurm/submitit/*.out"))
    assert "Requeued job" in logs
    shutil.rmtree(home / "runs" / "long")


@needs("submitit")
def test_jobs_outlive_their_driver_and_the_next_one_takes_them_over(home, undisturbed):
    more = ("name=long", *LONG, *SLURM, "--workers", 2, "--out", "runs")
    with start(home, *more) as job:
        until(job, home, "long", "*/batches/*/metrics.jsonl")
        job.send(0, signal.SIGKILL)
        job.processes[0].wait()
    left = processes("submitit.core._submit", home)
    assert left
    code, said = run(home, *more)
    assert code == 0, said
    assert "going on with" in said
    folder = folder_of(home, "long")
    assert numbers(folder) == undisturbed
    taken = [folder.record(c["id"])["run"]["attempts"] for c in folder.cells]
    assert set(taken) == {1}
    shutil.rmtree(home / "runs" / "long")


@pytest.mark.parametrize("engine", CLUSTERS)
def test_a_stop_saves_checkpoints_and_leaves_nobody(home, undisturbed, engine):
    more = ("name=long", *LONG, *engine, "--workers", 2, "--out", "runs")
    with start(home, *more) as job:
        until(job, home, "long", "*/batches/*/metrics.jsonl")
        time.sleep(1.0)
        job.send(0, signal.SIGTERM)
        codes, said = job.ended()
    assert codes[0] == 143, said
    assert list((home / "runs" / "long").glob(CHECKPOINT))
    time.sleep(1.0)
    assert processes("activjax.runs.sweep.worker", home) == []
    code, said = run(home, *more)
    assert code == 0, said
    assert "continuing from step" in said
    assert numbers(folder_of(home, "long")) == undisturbed
    shutil.rmtree(home / "runs" / "long")


@needs("ray")
def test_ray_with_a_killed_worker_and_a_killed_driver(home, undisturbed):
    more = ("name=long", *LONG, *RAY, "--workers", 2, "--out", "runs")
    with start(home, *more) as job:
        until(job, home, "long", CHECKPOINT)
        (first, *_) = processes("ray::work", home)
        os.kill(first, signal.SIGKILL)  # Ray's own process
        time.sleep(8.0)
        (inner, *_) = processes("activjax.runs.sweep.worker", home)
        os.kill(inner, signal.SIGKILL)  # the one that trains
        time.sleep(2.0)
        assert job.processes[0].poll() is None, job.ended()
        job.send(0, signal.SIGKILL)
        job.processes[0].wait()
    end = time.monotonic() + 30
    while processes("activjax.runs.sweep.worker", home):  # Ray ends what its driver had
        assert time.monotonic() < end
        time.sleep(0.2)
    code, said = run(home, *more)
    assert code == 0, said
    assert numbers(folder_of(home, "long")) == undisturbed
    shutil.rmtree(home / "runs" / "long")


@needs("ray")
def test_a_running_cluster_is_used_and_left_running(home):
    port = free_port()
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
    with subprocess.Popen(
        [*ray, f"--port={port}", "--num-cpus=2", "--include-dashboard=false"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(home.parent)},  # its machines have these sources
    ) as head:  # fmt: skip
        try:
            assert any("Ray runtime started" in line for line in head.stdout)
            where = ("--address", f"127.0.0.1:{port}", "--resources", "cpus=2")
            code, said = run(home, "name=joined", *CELLS, *RAY, *where, "--out", "runs")
            assert code == 0, said
            assert head.poll() is None
            code, said = run(home, "name=joined", *CELLS, *RAY, *where, "--out", "runs")
            assert code == 0, said  # done: nothing is started
        finally:
            head.terminate()  # ends what it has started, too
            head.communicate(timeout=60)


@needs("ray")
def test_a_cluster_that_does_not_answer(home):
    begin = time.monotonic()
    code, said = run(home, *CELLS, *RAY, "--address", "127.0.0.1:9", "--out", "runs")
    assert code == 6
    assert "no cluster at 127.0.0.1:9" in said
    assert "ray start --head" in said
    assert time.monotonic() - begin < 60


@needs("ray")
def test_a_resource_that_no_machine_has(home):
    code, said = run(home, *CELLS, *RAY, "--resources", "gpus=64", "--out", "runs")
    assert code == 6
    assert "no machine of the cluster can hold one task" in said


@needs("submitit")
@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="this is a SLURM cluster")
def test_without_slurm(home):
    code, said = run(home, *CELLS, "--engine", "slurm", "--out", "runs")
    assert code == 6
    assert "there is no `sbatch` here" in said
    code, said = run(home, *CELLS, *SLURM, "--resources", "partitoin=x", "--out", "runs")
    assert code == 6
    assert "partitoin" in said


@pytest.mark.parametrize(("engine", "extra"), [("ray", "ray"), ("slurm", "slurm")])
def test_a_missing_library_is_one_clear_line(home, engine, extra):
    module = {"slurm": "submitit"}.get(engine, engine)
    if importlib.util.find_spec(module) is not None:
        hidden = home.parent / module
        hidden.mkdir(exist_ok=True)
        (hidden / "__init__.py").write_text("raise ImportError('hidden')\n")
    try:
        code, said = run(home, *CELLS, "--engine", engine, "--out", "runs")
    finally:
        shutil.rmtree(home.parent / module, ignore_errors=True)
    assert code == 6
    assert f'pip install "activjax[{extra}]"' in said
