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
    landed = attempts = 0
    while landed < args.kills:
        attempts += 1
        process = start(args.root / "killed")
        try:
            # Short lives: the work left shrinks with every kill.
            process.wait(chance.uniform(0.2, 1.6) * seconds / (1 + landed / 2))
            assert process.returncode == 0, "a continued run failed"
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            landed += 1
    assert start(args.root / "killed").wait() == 0, "the last continuation failed"
    names = "result.json", "metrics.jsonl"
    (whole,) = (args.root / "whole").glob("*/*/result.json")
    (killed,) = (args.root / "killed").glob("*/*/result.json")
    for name in names:
        same = (whole.parent / name).read_bytes() == (killed.parent / name).read_bytes()
        assert same, f"{name} differs after {landed} kills"
    print(
        f"survived {landed} kills: {', '.join(names)} equal to the undisturbed run's, byte for byte"
    )
    assert landed >= min(args.kills, 2), "the run was too quick to be killed"


if __name__ == "__main__":
    main()
