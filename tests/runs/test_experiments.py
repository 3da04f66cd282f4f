"""Every config of the repository runs, at reduced size, and names its sites."""

import json
from pathlib import Path

import jax
import pytest
import yaml

from activjax import cli, data, models
from activjax.runs import config as reader

ROOT = Path(__file__).parent.parent.parent
_MINUTES = 1800  # a limit for what hangs: two cores with much else to do need ten
SMALL = {
    "quickstart": ["widths=[8]", "epochs=2", "seeds=2", "measure_epochs=[0]", "draws=2"],
    "lazy_neuron": ["widths=[16]", "epochs=2", "seeds=2", "measure_epochs=[0]"],
    "covariance_spectra": ["width=16", "epochs=2", "seeds=2"],
    "suppressors": ["rows=500", "seeds=2", "batch=100"],
    "zonotope_shallow": [
        "seeds=2", "widths=[2]", "examples=12", "dims=3", "digits=['3-8']", "restarts=2",
        "programs=4", "descents=4", "descent_steps=20", "batch=4", "adam_rates=[0.03]",
        "sgd_rates=[0.01]", "tuning=1", "zero_examples=9",
    ],
    "few_patterns": [
        "seeds=2", "neurons=[4, 8]", "depths=[1]", "moments=[1]", "examples=64", "segments=4",
        "planes=1", "shown_neurons=8", "shown_depth=1", "box_networks=1",
    ],
    "pattern_dynamics": [
        "seeds=2", "widths=[8]", "depth=1", "epochs=4", "segments=4", "probes=32",
    ],
    "region_definitions": ["seeds=2", "networks=['4-3']", "steps=20", "planes=1"],
    "membership_digits": [
        "models=6", "targets=2", "shadow_fit=2", "clean_epochs=2", "noisy_epochs=2",
        "widths=[8, 8]", "moments=2", "unit_etas=[0.3, 1.0]", "raw_etas=[0.1, 1.0]",
        "layer_etas=[1.0, 3.0]",
    ],
    "membership_text": [
        "modules=60", "pool=200", "other_texts=64", "moments=[1, 2, 3]", "reference_epochs=1",
        "layers=1", "width=8", "heads=2",
    ],
    "membership_audit": ["demo_texts=60", "demo_epochs=1"],
    "codebook_fsm": [
        "base_steps=4", "steps=4", "width=16", "heads=2", "layers=1", "batch=8", "mlp_codes=32",
        "head_codes=16", "states_a_text=4", "texts=400", "pairs=20", "written=20",
    ],
    "codebook_text": [
        "modules=80", "held_out=0.3", "documents=8", "excerpt=192", "layers=1", "width=16",
        "heads=2", "context=64", "steps=20", "more_steps=10", "codes=32", "k=4", "head_codes=16",
        "head_k=2", "revive_every=5", "prompts=4", "prompt=16", "new=16", "random_draws=1",
        "draws=1", "coefficients=[1.0]", "steered=['in a docstring', 'attribute of self']",
    ],
    "introspection_lab": [
        "networks=2", "width=16", "heads=2", "layers=2", "base_steps=4", "steps=4", "rank=2",
        "prompts=2", "clean=6", "mentions=8", "noises=4", "doses=[0.5]", "training_concepts=[5]",
        "ranks=[1]", "back=[1]", "documents=8",
    ],
    "introspection_no_controls": [
        "networks=1", "width=16", "heads=2", "layers=2", "base_steps=4", "steps=4", "rank=2",
        "prompts=2", "clean=6", "mentions=8", "noises=4", "doses=[0.5]", "documents=8",
    ],
    "introspection_mechanisms": [
        "networks=2", "base_steps=20", "steps=4", "width=16", "heads=2", "layers=2", "rank=4",
        "prompts=2", "clean=8", "mentions=16", "noises=8", "held_out=4", "draws=2", "tuning=64",
        "units=4", "doses=[0.0, 0.5, 1.0]", "bias_layer=1",
    ],
    "introspection_text": [
        "names=[dust, rain, mud, ice, tea, salt]", "held_out=2", "baseline=[water, wood]",
        "layers=1", "width=16", "heads=1", "rank=4", "steps=3", "batch=4", "tested=[1.0]",
        "clean=4", "mentions=4", "noises=4", "chunk=8",
    ],
    "text_statistics": [
        "model={kind: trained, layers: 2, width: 16, heads: 2, steps: 4}", "documents=10",
        "excerpts=2", "length=32", "groups=4",
    ],
    "lm_stdlib": [
        "steps=8", "width=16", "layers=2", "heads=2", "context=32", "held_out=0.01", "seeds=2",
        "measurements=2", "measured_rows=4",
    ],
    "nap_digits": [
        "seeds=2", "widths=[8]", "channels=1", "hidden=8", "steps=100", "deltas=['0.9', '1.0']",
        "proved=['0.9']", "digits=1", "trials=2", "boxes=20",
    ],
    "prove_acasxu": [
        f"folder={ROOT / 'tests/verify/data'}", "budget=10",
        "instances=['gap.onnx:gap_unsat.vnnlib unsat', 'gap.onnx:gap_sat.vnnlib sat']",
    ],
}  # fmt: skip


SWEEPS = {
    "hash_phase": [
        "seeds=2", "measure_steps=[0, 5, 20]", "sweep.grid.width=[4, 8]",
        "sweep.grid.samples=[20, 40]", "sweep.grid.noise=[0.0, 0.5]",
    ],
}  # fmt: skip


def test_every_config_is_here():
    searches = {"search_quickstart"}  # tests/runs/search
    assert {p.stem for p in ROOT.glob("configs/*.yaml")} == set(SMALL) | searches
    assert {p.stem for p in ROOT.glob("configs/sweeps/*.yaml")} == set(SWEEPS)


@pytest.mark.slow
@pytest.mark.timeout(_MINUTES)
@pytest.mark.parametrize("name", SWEEPS)
def test_sweep_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = ROOT / f"configs/sweeps/{name}.yaml"
    assert cli.main(["sweep", str(config), *SWEEPS[name], "--engine", "inline"]) == 0
    (folder,) = (tmp_path / "runs").glob("*/*")
    result = yaml.safe_load((folder / "result.json").read_text())
    assert all(row["baseline"] is not None and row["n"] == 2 for row in result["summary"])
    assert len(list(folder.glob("cells/*.json"))) == 16
    assert list(folder.glob("figures/*.png"))
    assert (folder / "report.html").stat().st_size > 100_000
    assert cli.main(["export", str(folder), "cells.csv"]) == 0
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == 17


@pytest.mark.slow
@pytest.mark.timeout(_MINUTES)
@pytest.mark.parametrize("name", SMALL)
def test_config_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = ROOT / f"configs/{name}.yaml"
    assert cli.main(["run", str(config), *SMALL[name]]) == 0
    (folder,) = (tmp_path / "runs").glob("[!.]*/*")  # hidden: what runs keep for one another
    result = yaml.safe_load((folder / "result.json").read_text())
    assert result["status"] == "done"
    assert result["question"].endswith("?")
    assert all(row["baseline"] is not None and row["n"] >= 1 for row in result["summary"])
    assert list(folder.glob("figures/*.png"))
    assert (folder / "report.html").stat().st_size > 10_000
    assert cli.main(["sites", str(config), *SMALL[name]]) == 0
    assert "float32" in capsys.readouterr().out


#: What each experiment that takes a decoder needs beside it, for a published one.
PUBLISHED = {
    "membership_audit": ["members=members.txt", "candidates=candidates.txt"],
    "introspection_text": [
        "names=[dust, rain, mud, ice, tea, salt]", "held_out=2", "baseline=[water, wood]",
        "rank=4", "steps=3", "batch=4", "tested=[1.0]", "clean=4", "mentions=4", "noises=4",
        "chunk=8", "answer=40",
    ],
    "text_statistics": ["documents=10", "excerpts=2", "length=32", "groups=4"],
    "codebook_text": [
        "modules=80", "held_out=0.3", "documents=8", "excerpt=192", "context=64", "more_steps=10",
        "codes=32", "k=4", "head_codes=16", "head_k=2", "revive_every=5", "prompts=4", "prompt=16",
        "new=16", "random_draws=1", "draws=1", "coefficients=[1.0]",
        "steered=['in a docstring', 'attribute of self']",
    ],
}  # fmt: skip


def published(folder: Path, seed: int) -> None:
    """A tiny decoder of Llama's shape, untrained, with a byte-pair tokenizer."""
    model = models.decoder(
        vocab=640, context=256, layers=2, width=32, heads=4, kv_heads=2, mlp_width=48, norm="rms",
        positions="rotary", bias=False, gated=True, activation="silu", tied=False,
    )  # fmt: skip
    params = jax.jit(model.init)(jax.random.key(seed))
    models.save(folder, model, params, like="tokens", family="llama")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working directory with a published model and texts."""
    pytest.importorskip("tokenizers")
    monkeypatch.chdir(tmp_path)
    texts = data.stdlib().texts
    data.train_bpe(texts[:40], 600, path="tokens")
    published(tmp_path / "model", 0)
    lines = dict.fromkeys(x for t in texts[40:80] for x in t.splitlines() if 40 < len(x) < 70)
    lines = [*lines][:: len(lines) // 180]
    (tmp_path / "members.txt").write_text("\n".join(lines[:80]))
    (tmp_path / "candidates.txt").write_text("\n".join(lines[80:160]))
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(_MINUTES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_by_config(name, home, capsys):
    config = str(ROOT / f"configs/{name}.yaml")
    given = ["model={kind: pretrained, path: model}", *PUBLISHED[name]]
    assert cli.main(["sites", config, *given]) == 0
    assert "blocks/resid_post" in capsys.readouterr().out
    assert cli.main(["run", config, *given]) == 0
    (folder,) = (home / "runs").glob("*/*")
    result = json.loads((folder / "result.json").read_text())
    assert result["summary"]
    assert all(row["baseline"] is not None and row["n"] >= 1 for row in result["summary"])
    assert list(folder.glob("figures/*.png"))
    before = reader.load(config, given).id
    assert before == folder.name
    published(home / "model", 1)
    assert reader.load(config, given).id != before
