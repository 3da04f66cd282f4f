"""Each tracker's own package, read back by its own reader. No network is touched."""

import shutil
import socket
import struct
import sys
import types
from pathlib import Path

import pytest

from activjax import cli
from activjax.runs import launch, trackers
from activjax.runs.sweep import Options, launch as sweeps
from activjax.runs.sweep.folder import SweepFolder

TINY = Path(__file__).parents[1] / "tiny"

pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own, not ours


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    tiny = shutil.copytree(TINY, tmp_path_factory.mktemp("tiny") / "tiny")
    (tiny / "s.yaml").write_text(
        "experiment: regression.py\nsteps: 12\nwidths: [2]\nsweep: {grid: {lr: [0.01, 0.02]}}\n"
    )
    root = tmp_path_factory.mktemp("runs")
    return sweeps.sweep(tiny / "s.yaml", out=root, options=Options("inline"), progress=False)


@pytest.fixture
def sweep(original, tmp_path, monkeypatch):
    """A finished sweep of two cells with one case of 12 steps, and no way out of the machine."""
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    real = socket.socket.connect

    def connect(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            pytest.fail(f"a tracker wants to reach {address}")
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    path = tmp_path / "s" / original.id
    return SweepFolder(shutil.copytree(original.path, path))


def losses(folder, cell):
    """The losses in the metrics file of the one batch of both cells."""
    import json

    (file,) = folder.path.glob("batches/*/metrics.jsonl")
    (group,) = (json.loads(p.read_text()) for p in folder.path.glob("groups/*.json"))
    place = group["batches"][0]["cells"].index(cell)
    return [json.loads(line)["metrics"]["loss"][place] for line in file.read_text().splitlines()]


def sent(folder, name):
    said = []
    assert trackers.export(folder, [name], said.append), said
    place = folder.path / "tracked" / name

    def sizes():
        return {p: p.stat().st_size for p in place.rglob("*") if p.is_file() and p.suffix != ".log"}

    before = sizes()
    assert trackers.export(folder, [name], said.append), said  # nothing twice
    assert sizes() == before
    return place


def test_tensorboard(sweep):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    place = sent(sweep, "tensorboard")
    assert "torch" not in sys.modules
    for cell in sweep.cells:
        run = place / f"{sweep.id}-{cell['id']}"
        found = EventAccumulator(str(run / "w2"))
        found.Reload()
        scalars = [(e.step, e.value) for e in found.Scalars("loss")]
        wanted = losses(sweep, cell["id"])  # float32 values, and float32 in the file
        assert scalars == [(i + 1, value) for i, value in enumerate(wanted)]
        found = EventAccumulator(str(run))
        found.Reload()
        row = sweep.record(cell["id"])["summary"][0]
        (value,) = [e.value for e in found.Scalars(f"summary/{row['name']} [width=2]")]
        assert value == struct.unpack("f", struct.pack("f", row["value"]))[0]
        assert found.Images("figures/w2/loss")[0].encoded_image_string.startswith(b"\x89PNG")
        content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
        assert start.hparams["lr"].number_value == cell["point"]["lr"]
        assert "_hparams_/session_end_info" in found.Tags()["tensors"]


def test_tensorboard_shows_repeated_steps_once(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from activjax.runs.trackers._tensorboard import make
    from activjax.runs.trackers.protocol import Tracked

    run = Tracked("r", "r", "e", tmp_path, {"lr": 1.0})
    first = make(tmp_path)
    for step in range(1, 9):
        first.metrics(run, None, step, {"loss": 10.0 + step})
    first.flush()  # killed before steps 5 to 8 were noted
    run.sent = {None: 4}
    second = make(tmp_path)
    for step in range(5, 11):
        second.metrics(run, None, step, {"loss": 10.0 + step})
    second.flush()
    for tracker in (first, second):
        for writer in tracker._writers.values():
            writer.close()
    found = EventAccumulator(str(tmp_path / "r"))
    found.Reload()
    assert [e.step for e in found.Scalars("loss")] == list(range(1, 11))


def test_mlflow(sweep):
    pytest.importorskip("mlflow")
    place = sent(sweep, "mlflow")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{place}/mlflow.db")
    experiment = client.get_experiment_by_name("s")
    runs = {r.data.tags["activjax.id"]: r for r in client.search_runs([experiment.experiment_id])}
    assert len(runs) == 3
    parent = runs[sweep.id]
    for cell in sweep.cells:
        run = runs[f"{sweep.id}-{cell['id']}"]
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params["lr"] == str(cell["point"]["lr"])
        assert run.data.params["steps"] == "12"
        history = client.get_metric_history(run.info.run_id, "w2/loss")
        wanted = losses(sweep, cell["id"])
        assert [(m.step, m.value) for m in history] == [(i + 1, v) for i, v in enumerate(wanted)]
        row = sweep.record(cell["id"])["summary"][0]
        assert run.data.metrics["summary/loss _width_2_"] == row["value"]
        assert run.data.metrics["summary/loss _width_2_/baseline"] == row["baseline"]
        assert [a.path for a in client.list_artifacts(run.info.run_id, "figures/w2")] == [
            "figures/w2/loss.png"
        ]
    (place / "sent.jsonl").unlink()  # a kill before anything was noted: the server is asked
    assert trackers.export(sweep, ["mlflow"], pytest.fail)
    again = client.search_runs([experiment.experiment_id])
    assert len(again) == 3
    for run in again:
        if run.info.run_id != parent.info.run_id:
            assert len(client.get_metric_history(run.info.run_id, "w2/loss")) == 12


def test_wandb(sweep):
    pytest.importorskip("wandb")
    import json

    place = sent(sweep, "wandb")
    found = {}
    for path in place.glob("wandb/offline-run-*/*.wandb"):
        run = types.SimpleNamespace(history=[], summary={}, config={}, group="", images=0)
        for record in wandb_records(path):
            if record.HasField("run"):
                found[record.run.run_id] = run
                run.group = record.run.run_group
                run.config |= {u.key: json.loads(u.value_json) for u in record.run.config.update}
            for item in record.history.item:
                key = item.key or "/".join(item.nested_key)
                run.history.append((key, json.loads(item.value_json)))
            for item in record.summary.update:
                key = item.key or "/".join(item.nested_key)
                run.summary[key] = json.loads(item.value_json)
    assert len(found) == 3
    for cell in sweep.cells:
        run = found[f"{sweep.id}-{cell['id']}"]
        assert run.group == sweep.id
        assert run.config["lr"] == cell["point"]["lr"]
        assert [v for k, v in run.history if k == "w2/loss"] == losses(sweep, cell["id"])
        assert [v for k, v in run.history if k == "step"][:12] == list(range(1, 13))
        row = sweep.record(cell["id"])["summary"][0]
        assert run.summary["summary/loss [width=2]"] == row["value"]
        assert run.summary["status"] == "done"


def wandb_records(path):
    """The records of a .wandb file: a header of 7 bytes, then LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    data, place, parts = path.read_bytes(), 7, []
    assert data[:4] == b":W&B"
    while place < len(data):
        if 2**15 - place % 2**15 < 7:  # a header never crosses the end of a block
            place += 2**15 - place % 2**15
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            yield wandb_internal_pb2.Record.FromString(b"".join(parts))
            parts = []


def test_a_run_with_all_three(tiny, tmp_path, monkeypatch):
    for name in trackers.NAMES:
        pytest.importorskip(name)
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "ACTIVJAX_TRACK"):
        monkeypatch.delenv(name, raising=False)
    plain = launch.run(tiny / "average.yaml", out=tmp_path / "a", progress=False)
    tracked = launch.run(
        tiny / "average.yaml", out=tmp_path / "b", progress=False,
        track="tensorboard,mlflow,wandb",
    )  # fmt: skip
    assert (plain.path / "result.json").read_bytes() == (tracked.path / "result.json").read_bytes()
    for name in trackers.NAMES:
        lines = (tracked.path / "tracked" / name / "sent.jsonl").read_text().splitlines()
        assert len(lines) == 1
        assert '"status": "done"' in lines[0]


def test_the_command_sends_what_is_there(sweep, capsys, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.delenv("ACTIVJAX_TRACK", raising=False)
    assert cli.main(["track", str(sweep.path)]) == 2
    assert (
        "say which with --track or ACTIVJAX_TRACK: tensorboard, mlflow" in capsys.readouterr().err
    )
    for _ in range(2):
        assert cli.main(["track", str(sweep.path), "--track", "tensorboard"]) == 0
    place = sweep.path / "tracked" / "tensorboard"
    assert capsys.readouterr().out.splitlines() == [str(place)] * 2
    assert len(list(place.glob("*/w2/events*"))) == 2
