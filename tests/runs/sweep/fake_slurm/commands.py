"""sbatch, srun, sacct, scancel and scontrol, for tests: jobs are processes of this machine.

    python commands.py NAME ARGUMENTS...

Everything is kept in the folder FAKE_SLURM: `count`, and for each job `<id>.job` (its script,
environment and state) and `<id>.wish` (what somebody wants of it). FAKE_SLURM_NODES jobs run at a
time. A signal goes to all processes of a job, as SLURM's cgroups do it, and a job that is over
leaves no process. `preempt`, `fail` and `oom` are what a cluster does by itself.
"""

import contextlib
import fcntl
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(os.environ["FAKE_SLURM"])
WAIT = 0.05
KILL_WAIT = 10.0  # between SIGTERM and SIGKILL
ENDS = {"cancel": "CANCELLED by 1000", "preempt": "PREEMPTED", "fail": "NODE_FAIL",
        "oom": "OUT_OF_MEMORY", "timeout": "TIMEOUT"}  # fmt: skip


@contextlib.contextmanager
def alone():
    with (HOME / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read(name):
    return json.loads((HOME / f"{name}.job").read_text())


def change(name, **more):
    path = HOME / f"{name}.job"
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps({**(read(name) if path.exists() else {}), **more}))
    temporary.replace(path)


def processes(name):
    """Of a job, wherever they are: all have its number in their environment."""
    mark = f"SLURM_FAKE={name}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def kill(name, number):
    for pid in processes(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def sbatch(script):
    text = Path(script).read_text()
    lines = [x.removeprefix("#SBATCH --") for x in text.splitlines() if x.startswith("#SBATCH")]
    flags = dict(line.partition("=")[::2] for line in lines)
    with (HOME / "asked").open("a") as file:
        file.write(json.dumps(flags) + "\n")
    with alone():
        first = int((HOME / "count").read_text()) if (HOME / "count").exists() else 100
        elements = [None]
        if "array" in flags:
            elements = [*range(int(flags["array"].partition("%")[0].partition("-")[2]) + 1)]
        (HOME / "count").write_text(str(first + len(elements)))
    for k, element in enumerate(elements):
        name = str(first) if element is None else f"{first}_{element}"
        more = {} if element is None else {
            "SLURM_ARRAY_JOB_ID": str(first), "SLURM_ARRAY_TASK_ID": str(element),
        }  # fmt: skip
        more |= {"SLURM_JOB_ID": str(first + k), "SLURM_FAKE": name}
        change(name, state="PENDING", text=text, more=more, flags=flags, cwd=os.getcwd(), starts=0)
        log = (HOME / f"{name}.log").open("a")
        command = [sys.executable, __file__, "element", name]
        subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    print(f"Submitted batch job {first}")


def room(name):
    """Start a job if there is a node for it."""
    with alone():
        states = [json.loads(p.read_text())["state"] for p in HOME.glob("*.job")]
        if states.count("RUNNING") < int(os.environ.get("FAKE_SLURM_NODES", "2")):
            change(name, state="RUNNING", starts=read(name)["starts"] + 1)
            return True
    return False


def element(name):
    """One job from its submission to its end."""
    wish = HOME / f"{name}.wish"
    while True:
        while not wish.exists() and not room(name):
            time.sleep(WAIT)
        job = read(name)
        if job["state"] == "RUNNING":
            again = {"SLURM_RESTART_COUNT": str(job["starts"] - 1)} if job["starts"] > 1 else {}
            minute = float(os.environ.get("FAKE_SLURM_MINUTE", "60"))
            end = time.time() + float(job["flags"]["time"]) * minute
            environment = {**os.environ, **job["more"], **again, "SLURM_PROCID": "0"}
            if os.environ.get("FAKE_SLURM_TELLS_END"):  # as a newer SLURM does
                environment["SLURM_JOB_END_TIME"] = f"{end:.0f}"
            process = subprocess.Popen(
                ["bash", "-c", job["text"]], cwd=job["cwd"], env=environment, start_new_session=True
            )
            word, _, before = job["flags"]["signal"].partition("@")
            limit = time.monotonic() + float(job["flags"]["time"]) * minute
            warn = limit - float(before) / 60 * minute
            while process.poll() is None and not wish.exists():
                if time.monotonic() > warn:
                    warn = float("inf")
                    kill(name, getattr(signal, f"SIG{word}"))
                if time.monotonic() > limit:
                    wish.write_text("timeout")
                time.sleep(WAIT)
            ended = "COMPLETED" if process.poll() == 0 else "FAILED"
        asked = wish.read_text() if wish.exists() else ""
        if asked in ("cancel", "preempt", "timeout", "requeue"):
            kill(name, signal.SIGCONT)
            kill(name, signal.SIGTERM)
        end = time.monotonic() + KILL_WAIT
        while asked not in ("", "fail", "oom") and processes(name) and time.monotonic() < end:
            if job["state"] == "RUNNING":
                process.poll()
            time.sleep(WAIT)
        kill(name, signal.SIGKILL)
        wish.unlink(missing_ok=True)
        if asked == "requeue" or (asked == "preempt" and os.environ.get("FAKE_SLURM_REQUEUES")):
            change(name, state="PENDING")
            continue
        return change(name, state=ENDS.get(asked) or ended)


def srun(*given):
    place = {"--output": "1", "--error": "2"}
    given = [*given]
    while given[0].startswith("--"):
        word = given.pop(0)
        if word in place:
            path = given.pop(0)
            more = {"%A": "SLURM_ARRAY_JOB_ID", "%a": "SLURM_ARRAY_TASK_ID", "%j": "SLURM_JOB_ID"}
            for mark, variable in more.items():
                path = path.replace(mark, os.environ.get(variable, ""))
            file = os.open(path.replace("%t", "0"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.dup2(file, int(place[word]))
    os.execvp(given[0], given)


def sacct(*given):
    print("JobID|State|NodeList")
    asked = {b for a, b in itertools.pairwise(given) if a == "-j"}
    for path in sorted(HOME.glob("*.job")):
        main, _, element = path.stem.partition("_")
        if main in asked:
            state = json.loads(path.read_text())["state"]
            shown = f"{main}_[{element}]" if element and state == "PENDING" else path.stem
            print(f"{shown}|{state}|node1")
            print(f"{path.stem}.batch|{state}|node1")


def wish(what, name):
    if read(name)["state"] in ("PENDING", "RUNNING"):
        (HOME / f"{name}.wish").write_text(what)


def scancel(*names):
    states = ("PENDING",) if "--state=PENDING" in names else ("PENDING", "RUNNING")
    for name in names:
        if not name.startswith("--") and read(name)["state"] in states:
            wish("cancel", name)


def scontrol(what, name):
    assert what == "requeue"
    wish("requeue", name)


def preempt(name):
    wish("preempt", name)


def fail(name):
    wish("fail", name)


def oom(name):
    wish("oom", name)


def warned(name):
    """The signal of `--signal`, early."""
    kill(name, getattr(signal, "SIG" + read(name)["flags"]["signal"].partition("@")[0]))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
