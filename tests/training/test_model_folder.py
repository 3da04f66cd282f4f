"""A decoder as a folder: the same bits back, and clear words where there is none."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from activjax import data, models, training

MODEL = models.decoder(vocab=257, context=8, layers=1, width=8, heads=2, param_dtype="bfloat16")
PARAMS = MODEL.init(jax.random.key(0))


def test_the_same_model_comes_back(tmp_path):
    folder = training.save_model(tmp_path / "model", MODEL, PARAMS)
    found = training.load_model(folder)
    assert found.model.config == MODEL.config
    assert found.tokenizer == data.byte_tokenizer()
    jax.tree.map(np.testing.assert_array_equal, found.params, PARAMS)
    tokens = found.tokenizer.encode("as it was")[None, :8]
    np.testing.assert_array_equal(
        found.model.apply(found.params, tokens), MODEL.apply(PARAMS, tokens)
    )


def test_a_tokenizer_comes_along(tmp_path):
    pytest.importorskip("tokenizers")
    own = data.train_bpe(["one two one two one two"] * 3, 259, path=tmp_path / "here")
    model = models.decoder(vocab=259, context=8, layers=1, width=8, heads=2)
    params = model.init(jax.random.key(0))
    training.save_model(tmp_path / "model", model, params, tokenizer=tmp_path / "here")
    assert training.load_model(tmp_path / "model").tokenizer == own
    with pytest.raises(ValueError, match="259 ids, the model 257"):
        training.save_model(tmp_path / "other", MODEL, PARAMS, tokenizer=tmp_path / "here")


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model\.json there"):
        training.load_model(tmp_path / "nowhere")
    folder = training.save_model(tmp_path / "run" / "model", MODEL, PARAMS)
    with pytest.raises(FileNotFoundError, match="there is one in"):
        training.load_model(tmp_path / "run")
    other = {**PARAMS, "embed": {"table": np.zeros((3, 8), np.float32)}}
    with pytest.raises(ValueError, match=r"\['embed'\]\['table'\] should be"):
        training.save_model(folder, MODEL, other)
    about = json.loads((folder / "model.json").read_text())
    for change, said in (({"format": 2}, "in format 2"), ({"config": {"vocab": 257}}, "context")):
        (folder / "model.json").write_text(json.dumps({**about, **change}))
        with pytest.raises(ValueError, match=said):
            training.load_model(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(ValueError, match="not the description of a model"):
        training.load_model(folder)


def test_a_damaged_checkpoint_is_found(tmp_path):
    folder = training.save_model(tmp_path / "model", MODEL, PARAMS)
    files = [path for path in (folder / "params").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1] + b"!")
    with pytest.raises(training.checkpoint.CheckpointError):
        training.load_model(folder)
