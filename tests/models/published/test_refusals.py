"""What is missing, unused, damaged, hostile or unknown is refused by name, before any array."""

import json
import shutil

import numpy as np
import pytest

from activjax import models
from activjax.models.published import _read, _safetensors
from activjax.models.published._shards import Checkpoint
from tests.models.published.common import CHECKPOINTS


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of a checkpoint to damage; nothing may be read of what is refused."""

    def never(*args, **kwargs):
        raise AssertionError("an array was read")

    monkeypatch.setattr(_read, "_empty", never)

    def of(name):
        folder = tmp_path / name
        shutil.copytree(CHECKPOINTS / name, folder)
        return folder

    return of


def options(folder, **changed):
    path = folder / "config.json"
    about = {**json.loads(path.read_text()), **changed}
    path.write_text(json.dumps({k: v for k, v in about.items() if v != "LEFT OUT"}))
    return folder


def arrays(folder, change):
    """Write the weights again, changed."""
    found = Checkpoint(folder)
    held = {key: found.array(key).copy() for key in found}
    change(held)
    _safetensors.write(folder / "model.safetensors", held, held.values())
    return folder


def refused(folder, match, error=models.WeightsError, **kwargs):
    with pytest.raises(error, match=match) as caught:
        models.load(folder, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_missing_key(copy, name):
    key = {"gpt2": "transformer.h.1.ln_2.bias", "llama": "model.layers.1.mlp.up_proj.weight"}[name]
    refused(arrays(copy(name), lambda held: held.pop(key)), f"{key} is missing from the file")


def test_a_misspelt_key_names_the_nearest(copy):
    def change(held):
        held["model.layers.1.mlp.upp_proj.weight"] = held.pop("model.layers.1.mlp.up_proj.weight")

    refused(arrays(copy("llama"), change), "up_proj.weight is missing.*nearest.*upp_proj")


def test_an_unused_key(copy):
    def change(held):
        held["model.layers.0.self_attn.q_proj.bias"] = np.zeros(24, np.float32)

    refused(arrays(copy("llama"), change), "q_proj.bias is used by no part of a llama")


def test_buffers_of_old_files_are_no_parameters(tmp_path):
    folder = tmp_path / "gpt2"
    shutil.copytree(CHECKPOINTS / "gpt2", folder)

    def change(held):
        held["transformer.h.0.attn.bias"] = np.ones((1, 1, 8, 8), np.uint8)
        held["transformer.h.0.attn.masked_bias"] = np.float32([-1e4])
        held["lm_head.weight"] = held["transformer.wte.weight"].copy()

    _, params, _ = models.load(arrays(folder, change))
    assert "head" not in params


def test_a_file_without_the_prefix(tmp_path):
    folder = tmp_path / "gpt2"
    shutil.copytree(CHECKPOINTS / "gpt2", folder)

    def change(held):
        for key in list(held):
            held[key.removeprefix("transformer.")] = held.pop(key)
        held["h.0.attn.bias"] = np.ones((1, 1, 8, 8), np.uint8)

    options(arrays(folder, change), architectures=["GPT2Model"])
    plain = models.load(CHECKPOINTS / "gpt2")
    again = models.load(folder)
    np.testing.assert_array_equal(
        again.params["blocks"]["attn"]["k"]["kernel"],
        plain.params["blocks"]["attn"]["k"]["kernel"],
    )


def test_a_head_that_is_not_the_embedding(copy):
    def change(held):
        held["lm_head.weight"] = held["model.embed_tokens.weight"] + 1

    folder = arrays(copy("qwen2"), change)
    refused(folder, "ties lm_head.weight to model.embed_tokens.weight, but they differ")


def test_a_wrong_shape(copy):
    def change(held):
        held["model.norm.weight"] = held["model.norm.weight"][:-1]

    refused(arrays(copy("llama"), change), r"model.norm.weight has shape \[23\], expected \[24\]")
    folder = options(copy("mistral"), num_key_value_heads=2)
    refused(folder, r"k_proj.weight has shape \[8, 24\], expected \[16, 24\] by config.json")


def test_more_layers_than_arrays(copy):
    folder = options(copy("llama"), num_hidden_layers=9_000)
    refused(folder, "says 9000 layers, and the files hold 30 arrays")
    options(folder, num_hidden_layers=2_000_000_000)
    refused(folder, "num_hidden_layers: expected a positive integer up to 10000")
    refused(folder, "num_hidden_layers: expected a positive integer up to 10000", abstract=True)


@pytest.mark.parametrize("cut", [0, 4, 8, 200, -1])
def test_a_file_that_is_cut_off(copy, cut):
    path = copy("llama") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    refused(path.parent, "cut off|not JSON")


def header(folder, change, tail=b""):
    """Write the header again, changed."""
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    about = json.loads(raw[8 : 8 + length])
    text = change(about)
    if not isinstance(text, bytes):
        text = json.dumps(about).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :] + tail)
    return folder


FIRST = "lm_head.weight"
MANY = ",".join(f'"{i}":0' for i in range(100_000)).encode()


def entry(**changed):
    return lambda about: about[FIRST].update(changed)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (entry(data_offsets=[0, 10**15]), "takes 5856 bytes"),
        (entry(data_offsets=[-8, 5848]), "no array is"),
        (entry(data_offsets=[8, 5864]), "overlap or leave a gap"),
        (entry(data_offsets=[5856, 0]), "begins at byte 5856 and ends at 0"),
        (entry(shape=[10**9, 10**9]), "takes 4000000000000000000 bytes"),
        (entry(shape=[61.0, 24]), "no array is"),
        (entry(shape=[True, 24]), "no array is"),
        (entry(dtype="F8_E4M3"), "dtype F8_E4M3"),
        (entry(dtype="I32"), "dtype I32, expected one of"),
        (entry(dtype=7), "no array is"),
        (lambda about: about.update({FIRST: "weights"}), "expected dtype, shape"),
        (lambda about: b"[]", "header is a list"),
        (lambda about: b"[" * 100_000, "not JSON"),
        (lambda about: b'{"a": 1, "a": 2}', "'a' is there twice"),
        # what takes hours where each name is counted, or the sizes are multiplied
        (lambda about: b"{" + b'"x":0,' * 200_000 + b'"y":0}', "'x' is there twice"),
        (lambda about: b"{" + MANY + b',"99999":0}', "'99999' is there twice"),
        (entry(shape=[10**4000]), "no array is"),
        (entry(shape=[9] * 1_000_000), "no array is"),
    ],
)
def test_hostile_headers(copy, change, match):
    refused(header(copy("llama"), change), match)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "I32"])
def test_weights_of_a_dtype_that_is_none_whatever_is_asked_for(copy, dtype):
    folder = header(copy("llama"), entry(dtype=dtype, shape=[61, 24]))
    refused(folder, f"has dtype {dtype}, expected one of", param_dtype="float32")


def test_bytes_of_no_array(copy):
    refused(header(copy("llama"), lambda about: None, b"payload"), "bytes that belong to no array")


def test_a_header_that_claims_the_memory(copy):
    path = copy("llama") / "model.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])
    refused(path.parent, "its header is said to take")


def test_pickles_are_not_read(copy):
    folder = copy("llama")
    (folder / "reference.safetensors").unlink()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin cannot be loaded.*safe_serialization", FileNotFoundError)


def index(folder, listed):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(listed))
    return folder


@pytest.mark.parametrize(
    ("listed", "match", "error"),
    [
        ({"weight_map": {"a": "../gpt2/model.safetensors"}}, "not the name of a file", None),
        ({"weight_map": {"a": "model-1.safetensors"}}, "the shard model-1.safeten", OSError),
        ({"weight_map": ["a"]}, "not an index of shards", None),
        ({"weight_map": {"a": ["a.safetensors"]}}, "not an index of shards", None),
        ({}, "not an index of shards", None),
    ],
)
def test_indices(copy, listed, match, error):
    refused(index(copy("llama"), listed), match, error or models.WeightsError)


def test_one_name_in_two_shards(copy):
    folder = copy("llama")
    shutil.copyfile(folder / "model.safetensors", folder / "b.safetensors")
    listed = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    refused(index(folder, listed), "is in .* and in ")


@pytest.mark.parametrize(
    ("name", "changed", "match"),
    [
        ("llama", {"model_type": "lama"}, "'LlamaForCausalLM'.*'lama'.*not implemented; nearest"),
        (
            "llama",
            {"model_type": "olmo", "architectures": ["OlmoForCausalLM"]},
            "'OlmoForCausalLM'.*nearest: ",
        ),
        ("llama", {"architectures": ["LlamaForTokenClassification"]}, "nearest: LlamaForCausalLM"),
        ("llama", {"architectures": "LlamaForCausalLM"}, "expected a list of names"),
        ("llama", {"hidden_act": "xielu"}, "hidden_act = 'xielu' is not implemented"),
        ("llama", {"mlp_bias": True}, "mlp_bias = true is not implemented"),
        ("llama", {"rope_parameters": {"rope_type": "yarn"}}, "rope_type = 'yarn' is not impl"),
        ("llama", {"rope_parameters": {"rope_type": "linear"}}, "option factor is missing"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2}}, "both rope_parameters and"),
        ("llama", {"attention_chunk": 8192}, "attention_chunk = 8192 is not known.*ignore="),
        ("llama", {"hidden_size": "LEFT OUT"}, "the option hidden_size is missing"),
        ("llama", {"hidden_size": "24"}, "hidden_size: expected a positive integer"),
        (
            "llama",
            {"num_attention_heads": 5},
            "config.json: decoder kv_heads: expected a divisor of heads=5",
        ),
        ("llama", {"quantization_config": {"bits": 4}}, "quantised weights"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "is not implemented, only false"),
        ("gpt2", {"add_cross_attention": True}, "is not implemented, only false"),
        ("gpt_neox", {"attention_bias": False}, "is not implemented, only true"),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types: expected 3 names"),
        ("qwen2", {"layer_types": ["linear_attention"] * 3}, "'linear_attention' is not impl"),
        ("gemma2", {"use_bidirectional_attention": True}, "is not implemented, only false"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar: expected a positive"),
        # options that are false, or null, are not always nothing
        ("gpt2", {"is_causal": False}, "is_causal = false is not implemented"),
        ("llama", {"is_causal": None}, "is_causal = null is not implemented"),
        ("llama", {"rms_norm_eps": 10**400}, "rms_norm_eps: expected a number"),
        ("gemma3", {"num_hidden_layers": 2**31 - 1}, "num_hidden_layers: expected a positive int"),
        ("qwen3", {"use_sliding_window": True, "max_window_layers": "1"}, "expected a number"),
    ],
)
def test_options(copy, name, changed, match):
    refused(options(copy(name), **changed), match)


def test_config_files(copy):
    folder = copy("llama")
    (folder / "config.json").write_text("{")
    refused(folder, "not JSON")
    (folder / "config.json").write_text("[]")
    refused(folder, "expected a JSON object")
    (folder / "config.json").unlink()
    refused(folder, "no config.json there", FileNotFoundError)


def test_folders(tmp_path):
    refused(tmp_path / "nowhere" / "llama", "no such folder", FileNotFoundError)
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "name the folder", FileNotFoundError)
    refused("no such name!", "no such folder", FileNotFoundError)


def test_fields_of_the_checkpoint_are_not_the_users(copy):
    refused(copy("llama"), "'layers' is the checkpoint's.*remat", TypeError, layers=2)
    refused(copy("gpt2"), "param_dtype", ValueError, param_dtype="int8")


def test_an_option_may_be_ignored(tmp_path):
    folder = tmp_path / "llama"
    shutil.copytree(CHECKPOINTS / "llama", folder)
    options(folder, attention_chunk=8192)
    assert models.load(folder, ignore=["attention_chunk"]).params
