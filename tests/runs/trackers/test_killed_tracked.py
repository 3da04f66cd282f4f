"""A tracked run that is killed and continued: every step is in every tracker, and once."""

import random
import time

import pytest


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the packages' own
def test_every_step_once_after_kills(activjax_command, activjax_run, tiny, tmp_path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    command = ("run", "regression.yaml", "steps=200", "sleep=0.02", "widths=[2]", "--quiet")
    whole, _, errors = activjax_run(*command, "--out", tmp_path / "whole", cwd=tiny)
    assert whole == 0, errors
    tracked = (*command, "--track", "tensorboard,mlflow", "--out", tmp_path / "killed")
    chance, kills = random.Random(0), 0
    for _ in range(4):
        process = activjax_command(*tracked, cwd=tiny)
        time.sleep(chance.uniform(5.0, 8.0))  # it takes some 15 s
        kills += process.poll() is None
        process.kill()
        process.communicate()
    code, _, errors = activjax_run(*tracked, cwd=tiny)
    assert code == 0, errors
    assert kills >= 2
    (plain,), (folder,) = (list(tmp_path.glob(f"{name}/*/*")) for name in ("whole", "killed"))
    for name in ("result.json", "metrics.jsonl"):
        assert (plain / name).read_bytes() == (folder / name).read_bytes()
    found = EventAccumulator(str(folder / "tracked" / "tensorboard" / folder.name / "w2"))
    found.Reload()
    assert [event.step for event in found.Scalars("loss")] == list(range(1, 201))
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/tracked/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("regression")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "w2/loss/seed1")
    assert [metric.step for metric in history] == list(range(1, 201))
    assert run.info.status == "FINISHED"
