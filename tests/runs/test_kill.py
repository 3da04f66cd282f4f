"""Nothing is lost: SIGKILL at random moments, Ctrl-C, SIGTERM, a full disk, two processes."""

import json
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

# slow steps, so that kills find something to kill
SLOW = ("run", "regression.yaml", "sleep=0.008", "--out")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, activjax_run):
    """The folder that commands run in, and the run there that nobody kills."""
    home = shutil.copytree(
        Path(__file__).parent / "tiny", tmp_path_factory.mktemp("undisturbed") / "tiny"
    )
    code, _, err = activjax_run(*SLOW, "runs", cwd=home)
    assert code == 0, err
    return home, only_run(home / "runs")


def only_run(root):
    (folder,) = (root / "regression").iterdir()
    return folder


def assert_same_numbers(one, other):
    assert one.name == other.name, "the same command gives the same id"
    for name in ("result.json", "metrics.jsonl", "contents.json", "config.yaml"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    arrays = sorted(p.relative_to(one) for p in one.rglob("*.npy"))
    assert arrays
    for name in arrays:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def lines_written(root):
    return sum(p.read_bytes().count(b"\n") for p in root.glob("regression/*/metrics.jsonl"))


def survive(undisturbed, command, kills, seed, steps):
    """Kill `kills` times, while starting or some steps after where it got to, then let it end."""
    home, whole = undisturbed
    root = home / f"killed-{seed}"
    chance = random.Random(seed)
    for _ in range(kills):
        process = command(*SLOW, root, cwd=home)
        begin, before = time.monotonic(), lines_written(root)
        if chance.random() < 0.4:
            seconds, goal = chance.uniform(0.1, 3.0), 10**9
        else:
            seconds, goal = 60.0, before + chance.randint(1, steps)
        while time.monotonic() - begin < seconds and lines_written(root) < goal:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.1))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    process = command(*SLOW, root, cwd=home)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert_same_numbers(whole, only_run(root))
    assert not (only_run(root) / "work").exists()
    attempts = json.loads((only_run(root) / "provenance.json").read_text())["attempts"]
    assert {a["ended"] for a in attempts} <= {"killed", "done"}


@pytest.mark.slow  # .ci/run kills the quickstart three times
def test_survives_kills(undisturbed, activjax_command):
    survive(undisturbed, activjax_command, 2, seed=1, steps=20)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_survives_many_kills(undisturbed, activjax_command, seed):
    survive(undisturbed, activjax_command, 10, seed=seed, steps=2)


def wait_for_steps(process, folder, count):
    """Until the run has written so many lines of metrics."""
    for _ in range(600):
        lines = [p.read_bytes().count(b"\n") for p in folder.glob("regression/*/metrics.jsonl")]
        if lines and lines[0] >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("the run did not get going")


def test_ctrl_c_stops_locks_and_continues(undisturbed, activjax_command, activjax_run):
    home, whole = undisturbed
    root = home / "stopped"
    process = activjax_command(*SLOW, root, cwd=home)
    wait_for_steps(process, root, 14)
    process.send_signal(signal.SIGSTOP)
    code, out, err = activjax_run(*SLOW, root, cwd=home)  # meanwhile, a second process
    process.send_signal(signal.SIGCONT)
    assert (code, out) == (4, "")
    assert f"process {process.pid} is working on this run" in err

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping at the next safe point" in err
    assert "stopped after step " in err
    assert "the same command continues from there" in err
    assert "Traceback" not in err
    folder = only_run(root)
    assert list(folder.glob("work/w*/checkpoints/*/manifest.json"))

    process = activjax_command(*SLOW, root, cwd=home)
    wait_for_steps(process, root, 75)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "continuing from step" in err

    code, _, err = activjax_run(*SLOW, root, cwd=home)
    assert code == 0, err
    assert "continuing from step" in err
    assert_same_numbers(whole, folder)


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(undisturbed, activjax_command):
    home, _ = undisturbed
    process = activjax_command(
        "run", "regression.yaml", "sleep=0.02", "chunk=2000", "steps=4000", "--out", "twice",
        cwd=home,
    )  # fmt: skip
    wait_for_steps(process, home / "twice", 10)  # the chunk after the measurement takes minutes
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - begin < 5
    assert process.returncode == 130
    assert "stopped at once" in err


@pytest.mark.slow  # test_launch fills the disk in this process
def test_a_full_disk_is_one_clear_error(undisturbed, activjax_command, activjax_run):
    home, whole = undisturbed

    process = activjax_command(*SLOW, "full", cwd=home)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (12_000, resource.RLIM_INFINITY))
    out, err = process.communicate(timeout=120)
    code = process.returncode
    assert (code, out) == (3, "")
    assert "the disk is full (File too large); free some space and run the same command" in err
    assert "Traceback" not in err
    code, _, err = activjax_run(*SLOW, "full", cwd=home)
    assert code == 0, err
    assert_same_numbers(whole, only_run(home / "full"))
