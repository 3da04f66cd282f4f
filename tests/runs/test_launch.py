"""From a config to a result in this process: cells, cases, states of a folder, failures."""

import errno
import json
import logging
import os
import sys

import jax
import numpy as np
import pytest

from activjax import runs
from activjax.runs import ConfigError, ExperimentError, LockedError, StorageError, store
from activjax.training import checkpoint


@pytest.fixture
def start(tiny, tmp_path):
    def start(*overrides, config="regression.yaml", **options):
        options = {"progress": False, "out": tmp_path / "runs", **options}
        return runs.run(tiny / config, overrides, **options)

    return start


def module():
    """The experiment module as it was loaded last."""
    loaded = [m for name, m in sys.modules.items() if name.startswith("activjax_experiment_regr")]
    return loaded[-1]


def test_a_run_from_config_to_result(start, capsys):
    folder = start()
    assert folder.state() == "done"
    result = folder.result()
    assert [row.name for row in result.summary] == ["loss", "mean loss"] * 2 + ["squared norm"]
    assert result.summary[0].where == {"width": 2}
    assert result.summary[0].n == 3
    assert 0 < result.summary[0].low < result.summary[0].value < 0.05 < result.summary[0].baseline
    assert module().TRACES == ["w2", "w3"], "one trace per case, whatever the chunk lengths"

    lines = [json.loads(x) for x in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["case"], line["step"]) for line in lines] == [
        (case, step) for case in ("w2", "w3") for step in range(1, 61)
    ]
    assert np.shape(lines[0]["metrics"]["loss"]) == (3,)
    assert np.shape(lines[-1]["metrics"]["norm/w"]) == (3, 3)

    contents = folder.read_json("contents.json")["items"]
    assert [(c["kind"], c["name"], c["case"]) for c in contents if c["case"] == "w2"] == [
        ("array", "w", "w2"),
        ("array", "velocity", "w2"),
        ("figure", "loss", "w2"),
        ("table", "measured", "w2"),
    ]
    assert all((folder.path / c["file"]).is_file() for c in contents if "file" in c)
    assert np.load(folder.path / "arrays/w2/velocity.npy").dtype == np.float32  # was bfloat16

    provenance = folder.read_json("provenance.json")
    assert provenance["width"] == {"w2": 3, "w3": 3}
    assert provenance["seeds"] == [0, 1, 2]
    assert provenance["resumed"] == 0
    assert provenance["wall_seconds"] > 0 < provenance["peak_memory_mb"]
    assert provenance["attempts"][0]["ended"] == "done"
    assert provenance["versions"]["jax"] == jax.__version__
    assert not (folder.path / "work").exists()
    assert capsys.readouterr().err == ""

    # the folder explains itself: its config reads back to the same run, which is done
    module().TRACES.clear()
    before = (folder.path / "result.json").stat().st_mtime_ns
    again = runs.run(folder.path / "config.yaml", out=folder.path.parents[1], progress=False)
    assert again.path == folder.path
    assert (folder.path / "result.json").stat().st_mtime_ns == before

    bytes_before = (folder.path / "result.json").read_bytes()
    forced = start(force=True)
    assert forced.path == folder.path
    assert (folder.path / "result.json").stat().st_mtime_ns != before
    assert (folder.path / "result.json").read_bytes() == bytes_before


def test_cells_are_the_seeds_run_one_by_one(start):
    together = start("steps=20", "widths=[2]")
    for i, seed in enumerate((0, 1, 2)):
        alone = start("steps=20", "widths=[2]", f"seeds=[{seed}]")
        one = np.load(alone.path / "arrays/w2/w.npy")[0]
        np.testing.assert_allclose(
            np.load(together.path / "arrays/w2/w.npy")[i], one, rtol=1e-5, atol=1e-6
        )


def test_no_steps_and_no_cases(start, tiny):
    (tiny / "bare.py").write_text(
        (tiny / "regression.py").read_text().replace("def cases", "def no_cases")
        .replace("def combine", "def no_combine")
    )  # fmt: skip
    (tiny / "bare.yaml").write_text("experiment: bare.py\n")
    folder = start("steps=0", "chunk=1", config="bare.yaml")
    assert folder.result().summary[0].n == 1
    assert folder.result().summary[0].low is None
    assert (folder.path / "arrays/w.npy").is_file()
    assert (folder.path / "metrics.jsonl").read_text() == ""


def test_cases_without_combine_are_joined(start, tiny):
    text = (tiny / "regression.py").read_text().replace("def combine", "def no_combine")
    (tiny / "regression.py").write_text(text)
    result = start("steps=10").result()
    assert [row.where["case"] for row in result.summary] == ["w2", "w2", "w3", "w3"]
    assert result.answer.startswith("w2: The loss is ")


def test_main_experiments(start):
    folder = start(config="average.yaml")
    result = folder.result()
    assert result.summary[0].n == 2
    expected = [np.random.default_rng(seed).random(10).mean() for seed in (3, 1)]
    assert result.summary[0].value == pytest.approx(np.mean(expected))
    np.testing.assert_array_equal(np.load(folder.path / "arrays/means.npy"), expected)


@pytest.mark.parametrize("where", ["setup", "step", "finish", "combine"])
def test_a_failure_is_kept_and_can_be_retried(start, tmp_path, where):
    with pytest.raises(ExperimentError) as error:
        start(f"fail_in={where}", "steps=10")
    text = str(error.value)
    assert text.startswith(f"regression.py: {where}")
    assert text.endswith(f"RuntimeError: asked to fail in {where}")
    assert "activjax/runs" not in text
    (folder,) = store.all_runs(tmp_path / "runs")
    assert folder.state() == "failed"
    kept = folder.read_json("failed.json")
    assert kept["error"] == text
    assert "Traceback (most recent call last)" in kept["traceback"]
    assert folder.read_json("provenance.json")["attempts"][-1]["ended"] == "failed"
    with pytest.raises(ExperimentError):
        start(f"fail_in={where}", "steps=10")
    assert folder.read_json("provenance.json")["resumed"] == 1


def test_nan_is_reported_and_not_hidden(start, capsys):
    folder = start("diverge=true", "widths=[2]")
    data = folder.read_json("result.json")
    assert len(data["warnings"]) == 1
    assert data["warnings"][0].startswith("w2: metric 'loss' is not finite, first at step ")
    assert data["warnings"][0].endswith("(seeds 0, 1, 2)")
    row = data["summary"][1]
    assert (row["name"], row["value"], row["flag"]["value"]) == ("mean loss", None, "nan")
    assert np.isnan(folder.result().summary[1].value)
    assert '"NaN"' in (folder.path / "metrics.jsonl").read_text()
    assert "metric 'loss' is not finite by step" in capsys.readouterr().err


def interrupt_at(monkeypatch, count):
    """A run that dies, as if killed, right after its `count`-th checkpoint."""
    saved = []
    save = checkpoint.save

    def dying(*args, **kwargs):
        save(*args, **kwargs)
        saved.append(args[1])
        if len(saved) == count:
            raise SystemExit(9)

    monkeypatch.setattr(checkpoint, "save", dying)


def test_resume_is_equal_and_redoes_nothing(start, monkeypatch):
    whole = start()
    expected = (whole.path / "result.json").read_bytes()
    metrics = (whole.path / "metrics.jsonl").read_bytes()
    whole.clear()
    with monkeypatch.context() as patch:
        interrupt_at(patch, 14)  # in the second case
        with pytest.raises(SystemExit):
            start()
    assert whole.state() == "interrupted"
    with (whole.path / "metrics.jsonl").open("a") as file:
        file.write('{"half a li')  # a torn line after the checkpoint
    start()
    assert module().TRACES == ["w3"], "the finished case is not run again"
    assert (whole.path / "result.json").read_bytes() == expected
    assert (whole.path / "metrics.jsonl").read_bytes() == metrics
    assert whole.read_json("provenance.json")["resumed"] == 1


@pytest.mark.slow
def test_corrupt_checkpoints(start, monkeypatch, capsys):
    whole = start("widths=[2]")
    expected = (whole.path / "result.json").read_bytes()
    whole.clear()
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        with pytest.raises(SystemExit):
            start("widths=[2]")
    folder = whole.path / "work/w2/checkpoints"
    one, two = sorted(folder.iterdir())
    for file in two.rglob("d/*"):
        file.write_bytes(b"rubbish")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        with pytest.raises(SystemExit):
            start("widths=[2]")
    said = capsys.readouterr().err
    assert f"checkpoint {two} is damaged" in said
    assert f"continuing from the one before, step {int(one.name)}" in said

    for file in folder.rglob("d/*"):
        file.write_bytes(b"rubbish")
    with pytest.raises(StorageError) as error:
        start("widths=[2]")
    assert "is damaged" in str(error.value)
    assert f"no older one is left: delete {folder} to start again" in str(error.value)
    assert "--force" in str(error.value)
    start("widths=[2]", force=True)
    assert (whole.path / "result.json").read_bytes() == expected


def test_a_full_disk_is_one_clear_error(start, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(StorageError) as error:
            start("steps=10", "widths=[2]")
    assert "arrays/w2/w.npy: the disk is full (No space left on device); free some space" in str(
        error.value
    )
    assert start("steps=10", "widths=[2]").state() == "done"


def test_an_unwritable_folder_is_found_before_any_work(start, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as error:
        start(out=tmp_path / "file" / "runs")
    assert str(error.value).endswith(
        f"{tmp_path}/file is a file, expected a folder; choose another one with --out DIR"
    )


def test_two_processes_do_not_share_a_folder(start):
    folder = start("steps=5", "widths=[2]")
    with folder.lock():
        assert folder.state() == "done"
        with pytest.raises(LockedError, match=rf"process {os.getpid()} is working on this run"):
            start("steps=5", "widths=[2]", force=True)
    (folder.path / "result.json").unlink()
    assert folder.state() == "interrupted"
    with folder.lock():
        assert folder.state() == "running"


def test_the_environment_names_the_root(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("ACTIVJAX_RUNS", str(tmp_path / "elsewhere"))
    folder = runs.run(tiny / "average.yaml", progress=False)
    assert folder.path.parent == tmp_path / "elsewhere/average"


def test_a_dotted_experiment(tiny, tmp_path, monkeypatch):
    (tiny / "my_package").mkdir()
    (tiny / "average.py").rename(tiny / "my_package/average.py")
    (tiny / "my_package/__init__.py").write_text("")
    monkeypatch.syspath_prepend(tiny)
    (tmp_path / "dotted.yaml").write_text("experiment: my_package.average\n")
    folder = runs.run(tmp_path / "dotted.yaml", out=tmp_path / "r", progress=False)
    assert folder.state() == "done"
    assert "experiment: my_package.average\n" in (folder.path / "config.yaml").read_text()


def test_a_mapping_runs_too(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny)
    config = {"experiment": "average.py", "name": "mine", "seeds": 2, "n": 5}
    assert runs.run(config, out=tmp_path / "r", progress=False).result().summary[0].n == 2


WRONG = {
    "static must have steps": ("return Static(", "return Static(", "steps=-1"),
    "what setup returns must have an attribute steps": (
        "return Static(jnp", "return None\n    return Static(jnp", ""),
    "'lr' is a traced field": ("rng = np", "config.lr + 1\n    rng = np", ""),
    "go together": ("def measure", "def no_measure", ""),
    "metrics a dict, got": (
        '{"loss": value, "norm": {"w": jnp.abs(w)}}', "value", ""),
    "step changes velocity from bfloat16": (
        "return State(w, velocity, key)", "return State(w, velocity.astype(jnp.float32), key)", ""),
    "expected a runs.Result, got str": (
        'return runs.Result("Does SGD fit a line?"', 'return str("Does SGD fit a line?"', ""),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_experiments_that_misbehave_hear_why(start, tiny, message):
    old, new, override = WRONG[message]
    path = tiny / "regression.py"
    text = path.read_text().replace("ge=0, le=100_000", "le=100_000")
    assert old in text
    if message.startswith("expected a runs.Result"):
        text = text.replace(', f"The loss is {row.value!r}.", (row, history))', ")")
    path.write_text(text.replace(old, new))
    with pytest.raises(ExperimentError, match=message):
        start("widths=[2]", "seeds=1", *([override] if override else []))


def test_one_compilation_of_the_training_program(start, caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        start("steps=9", "widths=[2]")
    compiled = [r.getMessage() for r in caplog.records if "Finished XLA compilation" in r.message]
    assert sum("_run" in message for message in compiled) == 1


def test_find(start, tmp_path):
    folder = start(config="average.yaml")
    root = tmp_path / "runs"
    assert store.find(folder.id[:4], root).path == folder.path
    assert store.find("average", root).path == folder.path
    assert store.find(str(folder.path), root).path == folder.path
    with pytest.raises(StorageError, match=r"no run 'averge' .* did you mean 'average'\?"):
        store.find("averge", root)
    other = start("n=3", config="average.yaml")
    assert other.path != folder.path
    with pytest.raises(StorageError, match="'average' means 2 runs"):
        store.find("average", root)


def test_a_config_error_leaves_nothing_behind(start, tmp_path):
    with pytest.raises(ConfigError):
        start("steps=x")
    assert not (tmp_path / "runs").exists()
