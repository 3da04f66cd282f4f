"""The audit of a model folder and two files, as a user would run it."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
import yaml

from activjax import cli, models, training

CONFIG = str(Path(__file__).parents[2] / "configs" / "membership_audit.yaml")
RNG = np.random.default_rng(0)


def lines(n: int) -> list[str]:
    """Random words."""
    return ["".join(RNG.choice(list("abcdefgh "), 20)).strip() + f" {i}" for i in range(n)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A tiny checkpoint and two files, in the working directory."""
    monkeypatch.chdir(tmp_path)
    model = models.decoder(vocab=257, context=16, layers=1, width=8, heads=2)
    training.save_model("model", model, model.init(jax.random.key(0)))
    Path("members.txt").write_text("\n".join(lines(60)) + "\n")
    Path("candidates.txt").write_text("\n".join([*lines(60), "short"]) + "\n")
    return tmp_path


def audit(*overrides: str) -> int:
    """What the command returns."""
    given = {"model": "model", "members": "members.txt", "candidates": "candidates.txt"}
    given |= dict(o.split("=") for o in overrides)
    return cli.main(["run", CONFIG, *(f"{k}={v}" for k, v in given.items())])


@pytest.mark.slow
def test_a_report_of_a_tiny_checkpoint(folder):
    assert audit() == 0
    (run,) = (folder / "runs").glob("*/*")
    result = yaml.safe_load((run / "result.json").read_text())
    assert "30 members and 30 candidates were attacked" in result["answer"]
    assert "30 candidates are too few for a rate at 1.0% or 0.1% false alarms" in result["answer"]
    assert "1 texts were shorter" in result["answer"]
    # an untrained model knows nothing: no attack may be sure that it does
    areas = {r["where"]["attack"]: r for r in result["summary"]}
    assert areas["loss"]["low"] < 0.5
    assert {"drift", "all scores together", "control: data alone"} <= set(areas)
    assert all(r["baseline"] == 0.5 for r in result["summary"])
    report = (run / "report.html").read_text()
    assert "members.txt:" in report
    assert lines(1)[0] not in report  # places, and no texts


@pytest.mark.slow
def test_a_reference_and_flagged_lists(folder):
    capitals = [line.upper() for line in lines(60)]
    Path("candidates.txt").write_text("\n".join(capitals) + "\n")
    assert audit("reference=model") == 0
    (run,) = (folder / "runs").glob("*/*")
    result = yaml.safe_load((run / "result.json").read_text())
    assert "THE LISTS CANNOT BE COMPARED" in result["answer"]
    areas = {r["where"]["attack"]: r["value"] for r in result["summary"]}
    assert areas["loss against a reference model"] == 0.5  # the model is its own reference


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=nowhere"], "no model.json"),
        (["members=demo"], "members: give your own too"),
        (["candidates=members.txt"], "the same file as members"),
        (["candidates=copy.txt"], "near duplicates of members"),
        (["candidates=few.txt"], "expected 40 or more"),
        (["candidates=missing.txt"], "missing.txt"),
        (["unit=sentence"], "unit"),
    ],
)
def test_bad_input_is_said(folder, capsys, overrides, said):
    Path("copy.txt").write_text(Path("members.txt").read_text())
    Path("few.txt").write_text("\n".join(lines(5)))
    assert audit(*overrides) != 0
    assert said in " ".join(capsys.readouterr().err.split())
