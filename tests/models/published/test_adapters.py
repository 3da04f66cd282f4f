"""Adapters of PEFT: scales of single modules, and what is refused rather than scaled wrongly."""

import json

import jax
import numpy as np
import pytest

from activjax import models, training
from activjax.models.published._safetensors import TensorFile, write
from tests.models.published.common import CHECKPOINTS

FOLDER = CHECKPOINTS / "llama" / "adapters"
Q, DOWN = "blocks/attn/q/kernel", "blocks/mlp/out/kernel"


def changed(folder, **options):
    """The committed adapters with other options."""
    about = json.loads((FOLDER / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**about, **options}))
    weights = (FOLDER / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def added(folder, path):
    """What the adapters add to a kernel, of all layers, in units of `B A` as the file has them."""
    model = models.load(CHECKPOINTS / "llama").model
    (found, alpha), (plain, usual) = (models.load_adapters(f, model) for f in (folder, FOLDER))
    for name in path.split("/"):
        found, plain = found[name], plain[name]
    rank = plain["a"].shape[-1]
    ours = alpha / found["a"].shape[-1] * np.asarray(found["a"] @ found["b"])
    theirs = usual / rank * np.asarray(plain["a"] @ plain["b"])
    return np.abs(ours).sum((1, 2)) / np.abs(theirs).sum((1, 2))


def test_scales_of_single_layers(tmp_path):
    # PEFT: the first pattern that the end of a module's whole name matches; its scale is alpha / r
    patterns = {"layers.0.self_attn.q_proj": 20, "^model.layers.1.mlp.down_proj": 9, "q_proj": 4}
    folder = changed(tmp_path, alpha_pattern=patterns)
    # the committed file has 2 for q_proj, 5 for the others
    np.testing.assert_allclose(added(folder, Q), [10, 2, 2], rtol=1e-5)  # float32 products
    np.testing.assert_allclose(added(folder, DOWN), [1, 9 / 5, 1], rtol=1e-5)


def test_a_pattern_that_is_no_name_is_refused(tmp_path):
    model = models.load(CHECKPOINTS / "llama").model
    for pattern in (".*q_proj", r"layers\.[01]\.self_attn\.q_proj", "(a+)+"):
        with pytest.raises(models.WeightsError, match="alpha_pattern.*only names of modules"):
            models.load_adapters(changed(tmp_path, alpha_pattern={pattern: 3}), model)
    assert models.load_adapters(changed(tmp_path, alpha_pattern={r"mlp\.up_proj$": 3}), model)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        # PEFT takes something off the base model when it loads these
        ({"init_lora_weights": "pissa"}, 'init_lora_weights = "pissa" is not implemented'),
        ({"init_lora_weights": "olora"}, 'init_lora_weights = "olora" is not implemented'),
        ({"lora_alpha": 0}, "lora_alpha = 0: these adapters add nothing"),
        ({"alpha_pattern": {"q_proj": "2"}}, "q_proj: expected a number"),
    ],
)
def test_options(tmp_path, options, match):
    model = models.load(CHECKPOINTS / "llama").model
    with pytest.raises(models.WeightsError, match=match):
        models.load_adapters(changed(tmp_path, **options), model)


def test_layers_of_several_ranks(tmp_path):
    model = models.decoder(
        vocab=11, context=8, layers=2, width=8, heads=2, norm="rms", positions="rotary",
        bias=False, activation="silu", gated=True, tied=False,
    )  # fmt: skip
    params = jax.eval_shape(model.init, jax.random.key(0))
    adapters = training.lora.init(jax.random.key(1), params, {Q: 3})
    q = adapters["blocks"]["attn"]["q"]["kernel"]
    q["b"] = np.random.default_rng(2).normal(size=q["b"].shape).astype(np.float32)
    q["a"] = np.asarray(q["a"])
    models.save_adapters(tmp_path, model, adapters, alpha=6)
    path = tmp_path / "adapter_model.safetensors"
    file = TensorFile(path)
    arrays = {name: file.array(name).copy() for name in file.tensors}
    first = "base_model.model.model.layers.0.self_attn.q_proj"
    arrays[f"{first}.lora_A.weight"] = arrays[f"{first}.lora_A.weight"][:1]
    arrays[f"{first}.lora_B.weight"] = arrays[f"{first}.lora_B.weight"][:, :1]
    write(path, arrays, arrays.values())
    found, alpha = models.load_adapters(tmp_path, model)
    found = found["blocks"]["attn"]["q"]["kernel"]
    ours = alpha / found["a"].shape[-1] * np.asarray(found["a"]) @ np.asarray(found["b"])
    # alpha / r of each layer, r that of its own matrices
    want = [6 / 1 * q["a"][0, :, :1] @ q["b"][0, :1], 6 / 3 * q["a"][1] @ q["b"][1]]
    np.testing.assert_allclose(ours, want, rtol=1e-5, atol=1e-6)  # float32 products of 3 terms
    arrays[f"{first}.lora_A.weight"] = arrays[f"{first}.lora_A.weight"].astype(np.int8)
    write(path, arrays, arrays.values())
    with pytest.raises(models.WeightsError, match="layers.0.self_attn.q_proj has dtype int8"):
        models.load_adapters(tmp_path, model)
