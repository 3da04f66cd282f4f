"""A search in processes of its own, killed at random moments."""

import json
import random
import time
from pathlib import Path

import pytest

from activjax import cli

pytest.importorskip("optuna")

ROOT = Path(__file__).parents[3]

SEARCH = """\
experiment: drill.py
seeds: 2
steps: 30
chunk: 5
sleep: 0.02
checkpoint_seconds: 0
search:
  objective: loss
  direction: minimize
  trials: 10
  space: {lr: {log: [1e-3, 0.3]}, model.size: {choice: [2, 3]}}
  prune: {metric: loss, at: [10, 20]}
  parallel: PARALLEL
"""


def numbers(root):
    (folder,) = (root / "s").iterdir()
    records = {p.name: {**json.loads(p.read_text()), "run": None}
               for p in folder.glob("cells/*.json")}  # fmt: skip
    return (folder / "trials.jsonl").read_text(), (folder / "result.json").read_text(), records


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 4])
def test_kills_change_nothing(activjax_command, activjax_run, tiny, tmp_path, parallel):
    (tiny / "s.yaml").write_text(SEARCH.replace("PARALLEL", str(parallel)))
    command = ("search", "s.yaml", "--workers", 2, "--quiet", "--out")
    begun = time.monotonic()
    code, _, errors = activjax_run(*command, tmp_path / "whole", cwd=tiny)
    assert code == 0, errors
    seconds = time.monotonic() - begun
    chance, kills = random.Random(parallel), 0
    while kills < 5:
        process = activjax_command(*command, tmp_path / "killed", cwd=tiny)
        time.sleep(chance.uniform(0.15, 0.6) * seconds)
        kills += process.poll() is None
        process.kill()
        process.communicate()
        if process.returncode == 0:  # it was faster
            break
    code, _, errors = activjax_run(*command, tmp_path / "killed", cwd=tiny)
    assert code == 0, errors
    assert kills >= 2
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")


@pytest.mark.slow
def test_the_quickstart_at_reduced_size(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = str(ROOT / "configs" / "search_quickstart.yaml")
    few = ["seeds=2", "measure_steps=[0, 20]", "search.where.step=20", "search.trials=4",
           "search.prune.at=[5, 10]", "search.space.width={choice: [4, 8]}"]  # fmt: skip
    assert cli.main(["search", config, *few, "--engine", "inline"]) == 0
    assert cli.main(["ls", "search_quickstart"]) == 0
    shown = capsys.readouterr().out
    assert "Which learning_rate, width gives the highest test accuracy of the network?" in shown
