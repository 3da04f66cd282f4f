"""Worker processes: cells that raise, hang, eat memory, crash or return NaN; kills; two drivers."""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from activjax import cli
from activjax.runs import sources
from activjax.runs.sweep import launch
from activjax.runs.sweep.engines import Options
from activjax.runs.sweep.engines._local import cores_for
from activjax.runs.sweep.folder import SweepFolder

TINY = Path(__file__).parents[1] / "tiny"
LIMITS = ("--workers", 2)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the experiments; all sweeps in it share their compiled programs."""
    home = tmp_path_factory.mktemp("sweeps")
    shutil.copytree(TINY, home / "tiny")
    (home / "tiny" / "s.yaml").write_text("experiment: drill.py\nseeds: 3\n")
    return home / "tiny"


@pytest.fixture
def start(home, activjax_run):
    """`activjax sweep s.yaml ...`: its folder, exit code and what it said."""

    def start(*overrides, options=LIMITS, name="s"):
        arguments = ("sweep", "s.yaml", f"name={name}", *overrides, *options, "--out", "runs")
        code, out, err = activjax_run(*arguments, cwd=home)
        (folder,) = (home / "runs" / name).iterdir()
        return SweepFolder(folder), code, out + err

    return start


def failures(folder):
    records = [folder.record(c["id"]) for c in folder.cells]
    assert all(records), "every cell has a record"
    return {(r["point"].get("bad"), r["seed"]): r for r in records if r["status"] == "failed"}


BAD = ("sweep.grid.bad=[0.0, 1.0, 0.0, 0.5]", "seeds=2")  # 0.5 is as bad as 1.0


@pytest.mark.slow
def test_one_bad_cell_of_a_program_is_found(start):
    folder, code, said = start("trouble=raise", *BAD, name="within")
    assert code == 5, said
    assert "trying in smaller batches" in said
    found = failures(folder)
    assert {key[0] for key in found} == {0.5, 1.0}
    assert all("asked to fail" in r["error"]["traceback"] for r in found.values())


@pytest.mark.slow
def test_a_crash_is_told_with_its_last_words(start):
    folder, code, said = start("trouble=finish crash", *BAD, name="crash")
    assert code == 5, said
    found = failures(folder)
    assert {key[0] for key in found} == {0.5, 1.0}
    for record in found.values():
        assert record["error"]["kind"] == "crash"
        assert "its process died (signal 6)" in record["error"]["message"]
        assert "_crash" in record["error"]["traceback"]
        assert list((folder.path / record["error"]["checkpoint"]).glob("*/manifest.json"))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["finish hang", "hang"])
def test_a_cell_that_hangs_is_stopped(start, where):
    options = (*LIMITS, "--cell-seconds", 4)
    folder, code, said = start(
        f"trouble={where}", "sweep.grid.bad=[0.0, 1.0, 0.0, 0.0]", "seeds=2",
        options=options, name=where.replace(" ", "-"),
    )  # fmt: skip
    assert code == 5, said
    found = failures(folder)
    assert set(found) == {(1.0, 0), (1.0, 1)}
    for record in found.values():
        assert record["error"]["kind"] == "time"
        assert record["error"]["message"] == "took more than 4 s a cell"
        assert "hanging" in record["error"]["traceback"]
        if where == "finish hang":
            assert list((folder.path / record["error"]["checkpoint"]).glob("*/manifest.json"))


@pytest.mark.slow
def test_a_cell_that_eats_memory_is_stopped(start):
    folder, code, said = start(
        "trouble=finish eat", "sweep.grid.bad=[0.0, 1.0]",
        options=(*LIMITS, "--memory-mb", 1500), name="eat",
    )  # fmt: skip
    assert code == 5, said
    found = failures(folder)
    assert {key[0] for key in found} == {1.0}
    for record in found.values():
        assert record["error"]["kind"] == "memory"
        assert record["error"]["message"] == "its process held more than 1500 MB"


# --- kills ------------------------------------------------------------------------------------

CELLS = ("sweep.grid.lr={from: 0.01, to: 0.1, linear: 4}", "seeds=6", "sleep=0.006", "steps=40")
KILLED = (*LIMITS, "--width", 3)


def numbers(folder):
    """Everything in the records that does not tell how they came about."""
    found = {}
    for cell in folder.cells:
        record = folder.record(cell["id"])
        assert record is not None, cell
        found[cell["id"]] = {k: v for k, v in record.items() if k != "run"}
    return found


@pytest.fixture(scope="module")
def undisturbed(home, activjax_run):
    arguments = ("sweep", "s.yaml", *CELLS, *KILLED, "--out", "whole")
    code, _, err = activjax_run(*arguments, cwd=home)
    assert code == 0, err
    (folder,) = (home / "whole" / "s").iterdir()
    return SweepFolder(folder)


def workers_of(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(word) for word in children.read_text().split()]
    except OSError:
        return []


def test_sigterm_saves_and_the_rest_is_bit_equal(undisturbed, home, activjax_command, activjax_run):
    arguments = ("sweep", "s.yaml", *CELLS, *KILLED, "checkpoint_seconds=1000", "--out", "stopped")
    process = activjax_command(*arguments, cwd=home)
    root = home / "stopped"
    wait(process, lambda: any(p.stat().st_size for p in root.glob("s/*/batches/*/metrics.jsonl")))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "continues" in err
    (folder,) = (root / "s").iterdir()
    assert list(folder.glob("batches/*/work/all/checkpoints/*/manifest.json"))
    code, _, err = activjax_run("resume", folder, cwd=home)
    assert code == 0, err
    assert numbers(SweepFolder(folder)) == numbers(undisturbed)
    attempts = json.loads((folder / "provenance.json").read_text())["attempts"]
    assert [a["ended"] for a in attempts] == ["stopped", "done"]


def wait(process, condition, seconds=60):
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def survive(whole, home, command, run, cells, kills, seed, limit):
    """Kill workers, the driver or both at random moments; then let it end and compare."""
    chance = random.Random(seed)
    arguments = ("sweep", "s.yaml", *cells, "--out", f"killed-{seed}")
    root, landed, rounds = home / f"killed-{seed}", 0, 0
    while landed < kills:
        process = command(*arguments, cwd=home)
        alive = True
        while alive and landed < kills:
            time.sleep(chance.uniform(0.0, limit))
            whom = chance.choice(["worker", "worker", "driver", "both"])
            if process.poll() is not None:  # done before the next kill: the rest in a new folder
                shutil.rmtree(root)
                rounds += 1
                break
            for pid in workers_of(process.pid)[: {"worker": 1, "driver": 0, "both": None}[whom]]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            alive = whom == "worker"
            if not alive:
                process.kill()
            landed += 1
        if alive and landed == kills:
            process.kill()
        process.communicate(timeout=60)
    code, _, err = run(*arguments, cwd=home)
    assert code == 0, err
    (folder,) = (root / "s").iterdir()
    assert folder.name == whole.id
    assert numbers(SweepFolder(folder)) == numbers(whole)
    assert (folder / "result.json").read_bytes() == (whole.path / "result.json").read_bytes()
    assert rounds < kills


@pytest.mark.slow  # and thirty below; .ci/run kills the quickstart
def test_survives_kills(undisturbed, home, activjax_command, activjax_run):
    survive(undisturbed, home, activjax_command, activjax_run, (*CELLS, *KILLED), 3, 1, 3.0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_survives_thirty_kills_of_200_cells(home, activjax_command, activjax_run):
    cells = (
        "sweep.grid.lr={from: 0.005, to: 0.1, linear: 20}", "seeds=10", "sleep=0.002", "steps=60",
        "chunk=3", "checkpoint_seconds=0.5", *LIMITS, "--width", 5,
    )  # fmt: skip
    code, _, err = activjax_run("sweep", "s.yaml", *cells, "--out", "whole200", cwd=home)
    assert code == 0, err
    (folder,) = (home / "whole200" / "s").iterdir()
    whole = SweepFolder(folder)
    assert len(whole.cells) == 200
    survive(whole, home, activjax_command, activjax_run, cells, 30, 2, 6.0)


@pytest.mark.slow
def test_two_drivers_share_the_work(undisturbed, home, activjax_command, tmp_path):
    log = tmp_path / "finished.txt"
    arguments = ("sweep", "s.yaml", *CELLS, *KILLED, "--out", "two")
    both = [activjax_command(*arguments, cwd=home, more={"DRILL_LOG": str(log)})
            for _ in range(2)]  # fmt: skip
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    (folder,) = (home / "two" / "s").iterdir()
    assert numbers(SweepFolder(folder)) == numbers(undisturbed)
    lines = log.read_text().splitlines()
    assert len(lines) == len({tuple(line.split()[:2]) for line in lines}) == 24


@pytest.mark.slow
def test_a_full_disk_is_one_clear_error(home, activjax_command, activjax_run):
    cells = ("sweep", "s.yaml", *CELLS[:2], "steps=200", *KILLED)  # 20 kB of metrics each
    process = activjax_command(*cells, "--out", "full", cwd=home)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (8_000, resource.RLIM_INFINITY))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "the disk is full (File too large); free some space" in err
    assert "Traceback" not in err
    folders = []
    for root in ("full", "empty"):  # the same again, and in a folder where nothing went wrong
        code, _, err = activjax_run(*cells, "--out", root, cwd=home)
        assert code == 0, err
        folders += (home / root / "s").iterdir()
    assert numbers(SweepFolder(folders[0])) == numbers(SweepFolder(folders[1]))


# --- starting ---------------------------------------------------------------------------------


def test_sources_that_change_are_refused(home, activjax_run, tmp_path, monkeypatch):
    shutil.copytree(home, tmp_path / "tiny", ignore=shutil.ignore_patterns("runs", "whole"))
    folder = launch.sweep(
        tmp_path / "tiny" / "s.yaml", options=Options(engine="inline"), out=tmp_path / "runs",
        progress=False,
    )  # fmt: skip
    source = folder.path / "source" / "drill.py"
    source.write_text(source.read_text() + "\n# changed\n")
    with pytest.raises(launch.ConfigError, match="have changed since this sweep was started"):
        launch.resume(folder.path, progress=False)
    monkeypatch.setattr(sources, "source_hash", lambda _: "other")
    with pytest.raises(launch.ConfigError, match="have changed"):
        launch.resume(folder.path, progress=False)


@pytest.mark.slow
def test_dry_run(home, activjax_run):
    text = "seeds: 3\nsweep: {grid: {model.size: [2, 4], lr: [0.01, 0.02, 0.05]}}"
    (home / "dry.yaml").write_text(f"experiment: drill.py\n{text}")
    code, out, err = activjax_run("sweep", "dry.yaml", "--dry-run", "--out", "dry", cwd=home)
    assert code == 0, err
    assert "18 cells (6 points, 3 seeds) in 2 groups of equal static shape" in out
    assert "model.size=4" in out
    assert "expected:" in out
    assert not (home / "dry" / "dry").exists()


def test_bad_options_are_told_before_any_work(tiny, monkeypatch, capsys):
    monkeypatch.chdir(tiny)
    (tiny / "s.yaml").write_text("experiment: drill.py\nseeds: 3\n")
    for option, message in (
        (["--workers", "0"], "workers: expected a positive number, got 0"),
        (["--cell-seconds", "-1"], "cell_seconds: expected a positive number, got -1.0"),
    ):
        assert cli.main(["sweep", "s.yaml", *option, "--out", "odd"]) == 2
        assert message in capsys.readouterr().err
    assert not (tiny / "odd").exists()
    assert cli.main(["resume", "nothing", "--out", "odd"]) == 3
    assert "no sweep 'nothing' in odd" in capsys.readouterr().err


def test_cores_are_shared_out():
    mine = sorted(os.sched_getaffinity(0))
    assert set().union(*cores_for(len(mine))) == set(mine)
    assert all(len(cores) == 1 for cores in cores_for(len(mine) + 3))
    assert cores_for(1) == [set(mine)]
