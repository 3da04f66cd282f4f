"""Which decoder an experiment is about: folders of both formats, by config."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from activjax import data, models, runs, training
from activjax.runs import config as reader, decoders

EXPERIMENT = """
import dataclasses
from activjax import runs
from activjax.runs import decoders

@dataclasses.dataclass(frozen=True)
class Config:
    model: str | decoders.Pretrained | decoders.Saved = "demo"

def data_files(config):
    return [] if config.model == "demo" else decoders.of(config.model).files()

def main(config, out):
    return runs.Result("?", "!", ())
"""
MODEL = models.decoder(
    vocab=300, context=16, layers=2, width=16, heads=2, norm="rms", positions="rotary", bias=False,
    gated=True, activation="silu", tied=False,
)  # fmt: skip
PARAMS = jax.jit(MODEL.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A published and a saved folder of one model, and one of an encoder."""
    pytest.importorskip("tokenizers")
    home = tmp_path_factory.mktemp("models")
    data.train_bpe(["one two three four five six seven eight"] * 3, 280, path=home / "tokens")
    models.save(home / "published", MODEL, PARAMS, like=home / "tokens")
    training.save_model(home / "saved", MODEL, PARAMS, tokenizer=home / "tokens")
    encoder = models.encoder(vocab=300, context=16, layers=1, width=16, heads=2)
    models.save(
        home / "bert", encoder, jax.jit(encoder.init)(jax.random.key(0)), like=home / "tokens"
    )
    (home / "other.txt").write_text("no model")
    return home


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """The folders in the working directory, links that a test may replace, and an experiment."""
    monkeypatch.chdir(tmp_path)
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "experiment.py").write_text(EXPERIMENT)
    return tmp_path


def read(*overrides: str):
    """The run that a config with these overrides describes."""
    return reader.load({"experiment": "experiment.py", "name": "x"}, overrides)


@pytest.mark.parametrize(
    ("override", "kind"),
    [
        ("model={kind: pretrained, path: published}", decoders.Pretrained),
        ("model={path: published}", decoders.Pretrained),
        ("model.path=published", decoders.Pretrained),
        ("model={kind: saved, path: saved}", decoders.Saved),
        ("model=published", decoders.Pretrained),
        ("model=saved", decoders.Saved),
    ],
)
def test_every_spelling_gives_the_model(folder, override, kind):
    chosen = decoders.of(read(override).config.model)
    assert type(chosen) is kind
    found, shapes = chosen.load(), chosen.abstract()
    assert found.model.config.layers == shapes.model.config.layers == 2
    assert found.tokenizer == shapes.tokenizer
    assert found.tokenizer.decode(found.tokenizer.encode("one two")) == "one two"
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), found.params,
                        shapes.params)  # fmt: skip
    assert all(jax.tree.leaves(same))
    assert not any(isinstance(x, jax.Array) for x in jax.tree.leaves(shapes.params))
    # both formats hold the same bits
    jax.tree.map(np.testing.assert_array_equal, found.params, PARAMS)


def test_the_id_follows_the_contents(folder):
    before = {k: read(f"model={k}").id for k in ("published", "saved")}
    again = {k: read(f"model={k}").id for k in before}
    assert before == again
    other = jax.tree.map(lambda a: a + 1, PARAMS)
    for name in before:
        (folder / name).unlink()
    models.save("published", MODEL, other, like="tokens")
    training.save_model("saved", MODEL, other, tokenizer="tokens")
    assert all(read(f"model={k}").id != v for k, v in before.items())
    changed = read("model=published").id
    Path("published/README.md").write_text("what is not the model's changes nothing")
    assert read("model=published").id == changed
    Path("published/generation_config.json").write_text('{"eos_token_id": 1}')
    assert read("model=published").id != changed


def test_dtypes_are_the_configs_then_the_experiments_then_the_files(folder):
    half = dataclasses.replace(MODEL.config, param_dtype="bfloat16")
    params = jax.tree.map(lambda a: a.astype("bfloat16"), PARAMS)
    models.save("half", models.decoder(half), params, like="tokens")
    assert decoders.Pretrained("half").load().model.config.param_dtype == "bfloat16"
    loaded = decoders.Pretrained("half").load(param_dtype="float32")
    assert loaded.params["embed"]["table"].dtype == "float32"
    given = decoders.Pretrained("half", dtype="float32", param_dtype="bfloat16")
    loaded = given.load(param_dtype="float32")
    assert loaded.params["embed"]["table"].dtype == "bfloat16"
    assert loaded.model.config.dtype == "float32"
    training.save_model("own", models.decoder(half), params, tokenizer="tokens")
    loaded = decoders.Saved("own").load(param_dtype="float32")
    assert loaded.params["embed"]["table"].dtype == "float32"
    assert loaded.model.config.param_dtype == "float32"
    assert decoders.Saved("own").load().params["embed"]["table"].dtype == "bfloat16"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nowhere", r"nowhere: no model.json there .* no config.json .*no such folder"),
        (".", r"no config.json .*; there is one in saved.*kind: pretrained"),
        (decoders.Pretrained("./nowhere"), "nowhere: no such folder"),
        (decoders.Pretrained("saved"), "no config.json there, but model.json: write kind: saved"),
        (decoders.Saved("published"), "no model.json there, but config.json: write kind: pret"),
        (decoders.Saved("nowhere"), "nowhere: no model.json there .no such folder"),
        (decoders.Pretrained("other.txt"), "other.txt: a file"),
    ],
)
def test_what_is_no_model_is_said(folder, model, said):
    with pytest.raises(runs.ConfigError, match=said):
        decoders.of(model).files()
    with pytest.raises(runs.ConfigError, match="^model: "):
        decoders.of(model).load()


def test_what_cannot_be_used_is_said(folder):
    with pytest.raises(runs.ConfigError, match="model: bert: an encoder, expected a decoder"):
        decoders.of("bert").load()
    with pytest.raises(runs.ConfigError, match="an encoder, expected a decoder"):
        decoders.of("bert").abstract()
    models.save("bare", MODEL, PARAMS)
    with pytest.raises(runs.ConfigError, match=r"bare: no tokenizer there \(tokenizer.json"):
        decoders.of("bare").load()
    assert decoders.of("bare").abstract().tokenizer is None
    small = models.decoder(dataclasses.replace(MODEL.config, vocab=270))
    models.save("small", small, jax.jit(small.init)(jax.random.key(0)), like="tokens")
    with pytest.raises(runs.ConfigError, match="small: the tokenizer has 280 ids, the model 270"):
        decoders.of("small").load()
    Path("both").mkdir()
    for name in ("config.json", "model.json"):
        Path("both", name).write_text("{}")
    with pytest.raises(runs.ConfigError, match="has both model.json and config.json"):
        decoders.of("both")
    about = json.loads(Path("published/config.json").read_text())
    Path("strange").mkdir()
    Path("strange/config.json").write_text(json.dumps({**about, "model_type": "llamo"}))
    with pytest.raises(runs.ConfigError, match="model: strange.*nearest: LlamaForCausalLM"):
        decoders.of("strange").abstract()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model={kind: pretrain, path: published}", "'pretrained', 'saved'"),
        ("model={kind: saved, path: saved, dtype: float32}", "dtype: unknown key"),
        ("model={kind: pretrained, pth: published}", "did you mean 'path'"),
        ("model={kind: pretrained}", "missing key 'path'"),
        ("model={kind: pretrained, path: p, dtype: float64}", "one of 'float32', 'bfloat16'"),
        ("model=3", "expected"),
        ("model={path: saved}", "kind: saved"),
        ("model=nowhere", "no such folder"),
    ],
)
def test_a_wrong_config_is_refused_in_words(folder, override, said):
    with pytest.raises(runs.ConfigError) as error:
        read(override)
    assert said in str(error.value), str(error.value)


def test_the_shape_of_a_model_needs_its_options_only(tmp_path):
    """A decoder of 70 billion parameters: seconds, and no memory."""
    options = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5,
        "vocab_size": 128_256, "hidden_size": 8192, "intermediate_size": 28_672,
        "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
        "max_position_embeddings": 131_072, "rope_theta": 500_000.0,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(options))
    found = decoders.Pretrained(str(tmp_path)).abstract()
    assert sum(x.size for x in jax.tree.leaves(found.params)) == 70_553_706_496
    assert found.tokenizer is None
