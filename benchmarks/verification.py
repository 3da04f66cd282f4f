"""Bounds, searches and proofs against auto_LiRPA, Marabou and published alpha-beta-CROWN times.

    python -m venv PEER && PEER/bin/pip install maraboupy==2.0.0 onnx onnxruntime torch
    PEER/bin/pip install git+https://github.com/Verified-Intelligence/auto_LiRPA
    python benchmarks/verification.py --folder ACASXU --peer-python PEER/bin/python

The folder has the ACAS Xu and MNIST networks and properties of VNN-COMP 2021 (repository
stanleybak/vnncomp2021) side by side; without it the cost of a box is measured on random weights of
the shape of ACAS Xu, and the rest is left out. Every process is kept on one core, and all numbers
are CPU-seconds of a process, which other processes of a busy machine change least. Ratios are a
peer's seconds to ours: above 1, ours is faster.

cost: CROWN bounds of all layers and of the outputs, of the same random boxes; peer and ours in
turn, round after round; per-round ratios. FLOP are those of the products that differ by box. The
peer gives lower bounds, and so does ours but for `verify.bound`, which gives both.
instances: a whole problem in a process of its own, compilation included, and once more in it,
without; the peer without its imports. MARABOU / OURS is to the one without.
proofs: sizes of trees, and the exact checker: the first check finds multipliers, the second is of
the proof that has them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEERS = Path(__file__).with_name("_verification_peers.py")
#: Network and property; MNIST's are named in full.
INSTANCES = ("1_1:1", "2_2:4", "2_2:2", "4_7:3", "3_9:4", "3_8:3", "1_1:3", "3_3:9", "1_1:4",
             "1_1:6", "4_5:10", "2_9:8", "4_2:2")  # fmt: skip
#: Marabou is asked about these.
ASKED = INSTANCES[:8]
PROOFS = ("4_7:3", "3_9:4", "3_8:3", "4_8:4", "1_1:1", "2_2:4", "4_5:10", "1_1:4", "1_1:3",
          "mnist-net_256x2:0_0.03")  # fmt: skip
#: Wall seconds, about 6.5 of them start-up, on another machine (VNN-COMP 2021,
#: stanleybak/vnncomp2021_results, results_csv/a-b-CROWN.csv).
PUBLISHED = {"1_1:3": 12.0, "3_3:9": 27.8, "1_1:6": 64.4, "4_2:2": 70.8, "2_9:8": 88.5}


def problem_of(folder: Path, name: str) -> Any:
    """The problem `NETWORK:PROPERTY`."""
    from activjax.verify import Problem

    return Problem.from_vnnlib(*files_of(folder, name))


def files_of(folder: Path, name: str) -> tuple[Path, Path]:
    """Its files."""
    network, prop = name.split(":")
    file = network if "-" in network else f"ACASXU_run2a_{network}_batch_2000"
    return folder / f"{file}.onnx", folder / f"prop_{prop}.vnnlib"


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU-seconds of a call, and its result."""
    start = time.process_time()
    out = call()
    return time.process_time() - start, out


def searched(folder: Path, name: str, limit: float) -> dict[str, Any]:
    """The search of one problem, twice."""
    from activjax.verify import Budget, prove

    problem, budget = problem_of(folder, name), Budget(seconds=limit)
    cold, verdict = timed(lambda: prove(problem, budget=budget))
    warm, verdict = timed(lambda: prove(problem, budget=budget))
    found = verdict.statistics
    return {"status": verdict.status, "cold": cold, "warm": warm, "boxes": found.boxes,
            "attack": found.attack}  # fmt: skip


def proved(folder: Path, name: str, limit: float) -> dict[str, Any]:
    """A proof, and two checks of it."""
    from activjax.verify import Budget, check, prove

    problem = problem_of(folder, name)
    seconds, verdict = timed(lambda: prove(problem, budget=Budget(seconds=limit)))
    if verdict.tree is None:
        return {"status": verdict.status}
    first, found = timed(lambda: check(verdict.tree, problem, seconds=4 * limit))
    out = {"status": verdict.status, "search": seconds, "leaves": verdict.tree.size,
           "depth": verdict.tree.depth, "first": first, "ok": found.ok, "exact": found.exact,
           "how": found.how, "reason": found.reason}  # fmt: skip
    if found.ok:
        second, again = timed(lambda: check(found.tree, problem, seconds=4 * limit))
        out |= {"second": second, "again": again.ok and again.exact, "kept": found.tree.size}
    return out


def child(command: list[str], limit: float) -> dict[str, Any]:
    """What a process says in its last line; its CPU-seconds are limited."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 5))

    out = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited)
    if out.returncode:
        why = (out.stderr.strip().splitlines() or [f"ended with {out.returncode}"])[-1]
        return {"late": out.returncode < 0, "error": why}
    return json.loads(out.stdout.strip().splitlines()[-1])


def ours(what: str, folder: Path, name: str, limit: float) -> dict[str, Any]:
    """`searched` or `proved` in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), "--limit", str(limit)]
    return child([*command, "--child", what, name], 20 * limit)


def marabou(python: str, folder: Path, name: str, limit: float) -> dict[str, Any]:
    """The answer of Marabou 2.0 to the same problem."""
    problem = problem_of(folder, name)
    boxes = [
        {"low": [float(v) for v in case.lower], "high": [float(v) for v in case.upper],
         "clauses": [[([float(w) for w in row], float(b)) for row, b in
                      zip(clause.weights, clause.bounds, strict=True)] for clause in case.clauses]}
        for case in problem.cases
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "query.json"
        file.write_text(json.dumps({"onnx": str(files_of(folder, name)[0]), "boxes": boxes}))
        return child([python, str(PEERS), "marabou", str(file)], limit)


def instances(folder: Path, names: list[str], python: str | None, limit: float) -> None:
    """Prints whole problems."""
    print(f"\ninstances, CPU-seconds, limit {limit:g} s of the search and of Marabou")
    print(f"{'':8s}{'verdict':>10s}{'boxes':>9s}{'cold':>7s}{'warm':>7s}{'Marabou':>16s}"
          f"{'ratio':>8s}{'published':>11s}")  # fmt: skip
    for name in names:
        mine = ours("searched", folder, name, limit)
        if "error" in mine:
            print(f"{name:8s} {mine['error']}")
            continue
        line = f"{name:8s}{mine['status']:>10s}{mine['boxes']:9d}"
        line += f"{mine['cold']:7.1f}{mine['warm']:7.2f}"
        said, ratio = "not asked", ""
        if python is not None and name in ASKED:
            theirs = marabou(python, folder, name, limit)
            if "seconds" in theirs:
                said = f"{theirs['answer']} {theirs['seconds']:.2f}"
                ratio = f"{theirs['seconds'] / mine['warm']:.1f}"
            elif theirs["late"]:
                said, ratio = f"> {limit:g}", f"> {limit / mine['warm']:.0f}"
            else:
                said = "cannot run"
                print(f"Marabou: {theirs['error']}", file=sys.stderr)
        line += f"{said:>16s}{ratio:>8s}{PUBLISHED.get(name, ''):>11}"
        print(line, flush=True)


def proofs(folder: Path, names: list[str], limit: float) -> None:
    """Prints sizes of proofs and times of checks."""
    print("\nproofs; CPU-seconds of the search, CPU-ms of the exact checker for each leaf")
    print(f"{'':24s}{'leaves':>8s}{'depth':>6s}{'search':>8s}{'first':>8s}{'second':>8s}"
          "  exact  how")  # fmt: skip
    for name in names:
        found = ours("proved", folder, name, limit)
        line = f"{name:24s}"
        if "leaves" not in found:
            print(line, found.get("error") or found["status"], flush=True)
            continue
        leaves = found["leaves"]
        line += f"{leaves:8d}{found['depth']:6d}{found['search']:8.1f}"
        line += f"{1e3 * found['first'] / leaves:8.2f}"
        second = (
            f"{1e3 * found['second'] / found['kept']:8.2f}" if "second" in found else f"{'':8s}"
        )
        exact = "yes" if found["ok"] and found["exact"] and found.get("again") else "NO"
        print(f"{line}{second}  {exact:5s}  {found['how']} {found['reason']}", flush=True)


def main() -> None:
    """The tables asked for."""
    parser = argparse.ArgumentParser(description="bounds, searches and proofs against their peers")
    parser.add_argument("--folder", type=Path, help="of networks and properties")
    parser.add_argument("--peer-python", help="of the peers' environment")
    parser.add_argument(
        "--limit", type=float, default=60.0, help="wall seconds of ours, CPU of Marabou"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tables", nargs="*", default=["cost", "instances", "proofs"])
    parser.add_argument("--names", nargs="*", help="instances, as 1_1:3")
    parser.add_argument("--core", type=int, help="to keep to; by default the last")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if (
        hasattr(os, "sched_setaffinity") and not args.child
    ):  # before the libraries count their threads
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores) if args.core is None else args.core})
    if args.child:  # on the core of its parent
        what, name = args.child
        print(
            json.dumps(
                {"searched": searched, "proved": proved}[what](args.folder, name, args.limit)
            )
        )
        return
    print(
        f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; one core is used"
    )
    if "cost" in args.tables:
        from _verification_cost import shaped, table

        problem = problem_of(args.folder, "1_1:1") if args.folder else shaped()
        table(problem, args.peer_python, PEERS, args.rounds)
    if args.folder is None:
        print("no --folder: neither instances nor proofs")
        return
    if "instances" in args.tables:
        instances(args.folder, args.names or list(INSTANCES), args.peer_python, args.limit)
    if "proofs" in args.tables:
        proofs(args.folder, args.names or list(PROOFS), args.limit)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
