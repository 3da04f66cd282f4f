"""Kill `activjax run` at random moments, continue it, and compare with an undisturbed run."""

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("run", nargs="+", help="config and overrides")
    args = parser.parse_args()
    chance = random.Random(args.seed)

    def start(root):
        command = [sys.executable, "-m", "activjax.cli", "run", *args.run, "--out", str(root)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    begin = time.monotonic()
    assert start(args.root / "whole").wait() == 0, "the undisturbed run failed"
    seconds = time.monotonic() - begin
    (whole,) = (args.root / "whole").glob("*/*")
    landed = rounds = 0
    while landed < args.kills:  # a run that ends before its kills are used up is begun anew
        root = args.root / f"killed-{rounds}"
        rounds += 1
        while True:
            process = start(root)
            try:
                patience = chance.uniform(0.15, 0.8) * seconds if landed < args.kills else None
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                landed += 1
                continue
            assert process.returncode == 0, "a continued run failed"
            break
        (killed,) = root.glob("*/*")
        for name in ("result.json", "metrics.jsonl"):
            same = (whole / name).read_bytes() == (killed / name).read_bytes()
            assert same, f"{name} differs after kills"
    print(
        f"{landed} kills in {rounds} runs: result.json and metrics.jsonl equal an undisturbed run's"
    )


if __name__ == "__main__":
    main()
