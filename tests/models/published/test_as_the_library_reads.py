"""Options that are left out, or that the family's own library reads in a way of its own.

Found by `random_configurations.py`, which compares with the library itself.
"""

import json

import jax
import numpy as np
import pytest

from activjax import models, training
from activjax.models.published import _safetensors
from activjax.models.published._shards import Checkpoint
from tests.models.published.common import CHECKPOINTS


def config_of(tmp_path, name, *left_out, **changed):
    """The config of a checkpoint's options, some left out, some changed."""
    about = {**json.loads((CHECKPOINTS / name / "config.json").read_text()), **changed}
    kept = {key: value for key, value in about.items() if key not in left_out}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    return models.load(tmp_path, abstract=True).model.config


def refused(tmp_path, match, name, *left_out, **changed):
    with pytest.raises(models.WeightsError, match=match):
        config_of(tmp_path, name, *left_out, **changed)


@pytest.mark.parametrize("name", ["mistral", "qwen2", "gemma2", "gemma3"])
def test_a_window_that_is_left_out_is_4096(tmp_path, name):
    assert config_of(tmp_path, name, "sliding_window").window == 4096


def test_a_window_that_is_null_is_none(tmp_path):
    assert config_of(tmp_path, "mistral", sliding_window=None).window is None


def test_soft_caps_that_are_left_out(tmp_path):
    caps = ("attn_logit_softcapping", "final_logit_softcapping")
    for name, wanted in (("gemma2", (50.0, 30.0)), ("gemma3", (None, None))):
        c = config_of(tmp_path, name, *caps)
        assert (c.score_cap, c.logit_cap) == wanted
    c = config_of(tmp_path, "gemma2", **dict.fromkeys(caps))
    assert (c.score_cap, c.logit_cap) == (None, None)


def test_a_cap_that_its_library_does_not_use_is_refused(tmp_path):
    refused(tmp_path, "attn_logit_softcapping = 50.0", "gemma3", attn_logit_softcapping=50.0)


def test_partial_rotation_where_its_library_has_none_is_refused(tmp_path):
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    refused(tmp_path, "partial_rotary_factor = 0.5", "llama", rope_parameters=rope)
    rope["partial_rotary_factor"] = 1.0
    assert config_of(tmp_path, "llama", rope_parameters=rope).rotary_fraction == 1
    half = models.decoder(
        vocab=20, context=16, layers=1, width=16, heads=2, norm="rms", positions="rotary",
        rotary_fraction=0.5, bias=False, activation="silu", gated=True,
    )  # fmt: skip
    params = jax.eval_shape(half.init, jax.random.key(0))
    with pytest.raises(models.WeightsError, match=r"llama: .*partial_rotary_factor"):
        models.save(tmp_path / "half", half, params)


def test_both_names_of_partial_rotation(tmp_path):
    old = {"rotary_pct": 0.7, "rotary_emb_base": 500, "rope_theta": 500.0}
    c = config_of(tmp_path, "gpt_neox", "rope_parameters", **old, partial_rotary_factor=0.7)
    assert (c.rotary_fraction, c.rotary_base, c.rotated) == (0.7, 500.0, 4)
    for name in ("rope_theta", "partial_rotary_factor"):
        both = {**old, name: 0.5}
        refused(tmp_path, f"{name} = 0.5, but", "gpt_neox", "rope_parameters", **both)


def test_an_odd_number_of_rotating_dimensions_is_refused(tmp_path):
    # of 6 dimensions of a head
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.6}
    refused(tmp_path, "3 of 6 dimensions", "gpt_neox", rope_parameters=rope)


@pytest.mark.parametrize("name", ["gemma2", "gemma3"])
def test_gemma_without_windows_is_saved_with_a_number(tmp_path, name):
    # its library makes the mask of a window that no layer has
    config_of(tmp_path, name, layer_types=["full_attention"] * 3)
    model, params, _ = models.load(tmp_path, abstract=True)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
    models.save(tmp_path / "again", model, params)
    about = json.loads((tmp_path / "again" / "config.json").read_text())
    assert about["sliding_window"] == model.config.context
    again = models.load(tmp_path / "again", abstract=True).model.config
    assert again.window is None


def test_an_untied_head_of_bert_has_a_bias_of_its_own(tmp_path):
    found = Checkpoint(CHECKPOINTS / "bert")
    held = {key: found.array(key) for key in found}
    wide = held["bert.embeddings.word_embeddings.weight"]
    held["cls.predictions.decoder.weight"] = 2 * wide
    bias = held["cls.predictions.decoder.bias"] = held["cls.predictions.bias"] + 1
    _safetensors.write(tmp_path / "model.safetensors", held, held.values())
    config_of(tmp_path, "bert", tie_word_embeddings=False)
    model, params, _ = models.load(tmp_path)
    np.testing.assert_array_equal(params["mlm"]["bias"], bias)
    np.testing.assert_array_equal(params["mlm"]["head"]["kernel"], 2 * wide.T)
    models.save(tmp_path / "again", model, params)
    saved = Checkpoint(tmp_path / "again")
    np.testing.assert_array_equal(saved.array("cls.predictions.decoder.bias"), bias)
    again = models.load(tmp_path / "again")
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, params))


def test_adapters_of_a_network_without_a_head(tmp_path):
    model = models.encoder(vocab=20, context=8, layers=2, width=8, heads=2, pooler=True)
    params = jax.eval_shape(model.init, jax.random.key(0))
    adapters = training.lora.init(jax.random.key(1), params, {"blocks/attn/q/kernel": 2})
    models.save_adapters(tmp_path, model, adapters, alpha=3)
    file = _safetensors.TensorFile(tmp_path / "adapter_model.safetensors")
    # the names that the modules of a BertModel have
    names = sorted(name.split(".lora")[0] for name in file.tensors)
    first = "base_model.model.encoder.layer.0.attention.self.query"
    assert names[:2] == [first, first]
    found, alpha = models.load_adapters(tmp_path, model)
    assert alpha == 3
    assert jax.tree.all(jax.tree.map(np.array_equal, found, adapters))
