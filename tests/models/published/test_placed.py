"""Parameters go straight to their devices, in the dtype of the file; abstract ones nowhere."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import models, training
from activjax.models.published import _read, _safetensors, _shards
from activjax.models.published._shards import Checkpoint
from tests.models.published.common import CHECKPOINTS, DECODERS, reference


@pytest.fixture
def read(monkeypatch):
    """Bytes of every array that is made while loading."""
    sizes = []
    make = _read._empty

    def counted(shape, dtype):
        out = make(shape, dtype)
        sizes.append(out.nbytes)
        return out

    monkeypatch.setattr(_read, "_empty", counted)
    return sizes


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama"])
@pytest.mark.parametrize("rules", ["tensor", "fsdp"])
def test_each_device_reads_its_share(name, rules, read):
    plain = models.load(CHECKPOINTS / name)
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(plain.params))
    assert sum(read) == whole
    read.clear()
    mesh = models.mesh(data=2, model=4)
    model, params, _ = models.load(CHECKPOINTS / name, mesh=mesh, rules=rules)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        held = dict(jax.tree_util.tree_leaves_with_path(plain.params))[path]
        np.testing.assert_array_equal(leaf, held)
    place = models.sharding(plain.model, mesh, rules=rules)
    for leaf, wanted in zip(jax.tree.leaves(params), jax.tree.leaves(place.params), strict=True):
        assert leaf.sharding == wanted
    # a share is read once however many devices hold it, one after the other
    shares = [leaf.addressable_shards for leaf in jax.tree.leaves(params)]
    assert max(read) == max(own[0].data.nbytes for own in shares)
    assert max(read) < whole / 4
    ids = reference(name)["ids"]
    want = jax.jit(plain.model.apply)(plain.params, ids)
    there = jax.device_put(ids, place.batch)
    np.testing.assert_allclose(jax.jit(model.apply)(params, there), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", DECODERS)
def test_abstract_needs_the_options_alone(name, tmp_path, read):
    shutil.copyfile(CHECKPOINTS / name / "config.json", tmp_path / "config.json")
    loaded = models.load(CHECKPOINTS / name)
    read.clear()
    model, params, tokenizer = models.load(tmp_path, abstract=True)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), loaded.params)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == shapes
    assert model.config == loaded.model.config
    assert tokenizer is None
    mesh = models.mesh(data=2, model=4)
    spread = models.load(tmp_path, abstract=True, mesh=mesh, param_dtype="bfloat16").params
    for leaf in jax.tree.leaves(spread):
        assert isinstance(leaf, jax.ShapeDtypeStruct)
        assert leaf.dtype == jnp.bfloat16
        assert leaf.sharding.mesh == mesh
    assert read == []
    with pytest.raises(FileNotFoundError, match="no model.safetensors"):
        models.load(tmp_path)


def recast(name, folder, dtype):
    """A checkpoint in another dtype, its norms in float32."""
    shutil.copytree(CHECKPOINTS / name, folder)
    found = Checkpoint(folder)
    keys = {k: np.array(found.array(k)) for k in found}
    held = {k: v if v.ndim == 1 else v.astype(dtype) for k, v in keys.items()}
    _safetensors.write(folder / "model.safetensors", held, held.values())
    return folder


def test_the_dtype_of_the_file_is_kept(tmp_path):
    def save(dtype):
        folder = tmp_path / np.dtype(dtype).name
        plain = models.load(CHECKPOINTS / "llama", param_dtype=np.dtype(dtype).name)
        models.save(folder, plain.model, plain.params)
        return folder, plain.params

    folder, cast = save(jnp.bfloat16)
    model, params, _ = models.load(folder)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
    assert jax.tree.all(jax.tree.map(np.array_equal, params, cast))
    assert (model.config.param_dtype, model.config.dtype) == ("bfloat16", "bfloat16")
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    model, params, _ = models.load(folder, param_dtype="float32")
    exact = jax.tree.map(lambda a, b: np.array_equal(a, b.astype("float32")), params, cast)
    assert jax.tree.all(exact)

    folder, _ = save(np.float16)
    model, params, _ = models.load(folder)
    assert (model.config.param_dtype, model.config.dtype) == ("float16", "float32")
    logits = jax.jit(model.apply)(params, reference("llama")["ids"])
    # weights have 11 bits: an error of 2^-11 each, in sums of 24 to 61 over three layers
    np.testing.assert_allclose(logits, reference("llama")["logits"], atol=0.05)


def test_mixed_dtypes_become_the_widest(tmp_path):
    folder = recast("llama", tmp_path / "mixed", jnp.bfloat16)
    model, params, _ = models.load(folder)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert model.config.dtype == "float32"


def test_fields_are_the_users():
    plain = models.load(CHECKPOINTS / "gemma3")
    other = models.load(CHECKPOINTS / "gemma3", scan=False, remat=True, dtype="bfloat16")
    assert jax.tree.all(jax.tree.map(np.array_equal, plain.params, other.params))
    assert not other.model.config.scan
    assert other.model.config.dtype == "bfloat16"
    model, params, _ = models.load(CHECKPOINTS / "gemma3", scan=False)
    ids = reference("gemma3")["ids"]
    np.testing.assert_allclose(
        jax.jit(model.apply)(params, ids), reference("gemma3")["logits"], rtol=1e-5, atol=1e-4
    )


def test_shards(tmp_path):
    model, params, _ = models.load(CHECKPOINTS / "gpt_neox")
    models.save(tmp_path, model, params, shard_bytes=30_000)
    files = sorted(p.name for p in tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-0000{len(files)}.safetensors"
    again = models.load(tmp_path)
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, params))
    (tmp_path / files[1]).unlink()
    with pytest.raises(FileNotFoundError, match=f"the shard {files[1]} is missing"):
        models.load(tmp_path)
    # another model in the same folder leaves nothing of the first
    models.save(tmp_path, model, params)
    assert [p.name for p in tmp_path.glob("*.safetensors")] == ["model.safetensors"]
    assert models.load(tmp_path).params


def test_what_was_there_stays_until_the_new_model_is_whole(tmp_path, monkeypatch):
    old = models.load(CHECKPOINTS / "llama")
    models.save(tmp_path, old.model, old.params)
    other = models.load(CHECKPOINTS / "gpt2")
    write = _shards.write

    def stops(path, shapes, arrays):
        write(path, shapes, arrays)
        raise KeyboardInterrupt

    monkeypatch.setattr(_shards, "write", stops)
    with pytest.raises(KeyboardInterrupt):
        models.save(tmp_path, other.model, other.params)
    again = models.load(tmp_path)
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, old.params))
    monkeypatch.undo()
    models.save(tmp_path, other.model, other.params)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert models.load(tmp_path).model.config.positions == "learned"


def test_one_writer_at_a_time(tmp_path, monkeypatch):
    model, params, _ = models.load(CHECKPOINTS / "llama")
    adapters = training.lora.init(jax.random.key(1), params, {"blocks/attn/q/kernel": 2})
    write, second = _shards.write, []

    def while_writing(path, shapes, arrays):
        for save in (
            lambda: models.save(tmp_path, model, params),
            lambda: models.save_adapters(tmp_path, model, adapters, alpha=1),
        ):
            with pytest.raises(models.WeightsError, match="another save is writing there"):
                save()
            second.append(save)
        write(path, shapes, arrays)

    monkeypatch.setattr(_shards, "write", while_writing)
    (tmp_path / "model-00001-of-00009.safetensors.part").write_text("of one that was killed")
    models.save(tmp_path, model, params)
    assert len(second) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    second[1]()  # the first is done
    assert models.load(tmp_path).params


def test_one_file_comes_before_an_index(tmp_path):
    # as its library has it
    model, params, _ = models.load(CHECKPOINTS / "llama")
    twice = jax.tree.map(lambda x: 2 * x, params)
    models.save(tmp_path, model, twice, shard_bytes=10_000)
    models.save(tmp_path / "one", model, params)
    (tmp_path / "one" / "model.safetensors").rename(tmp_path / "model.safetensors")
    found = models.load(tmp_path).params
    assert jax.tree.all(jax.tree.map(np.array_equal, found, params))


def test_parameters_of_several_dtypes(tmp_path):
    model, params, _ = models.load(CHECKPOINTS / "gpt2")
    mixed = jax.tree.map(lambda x: x, params)
    queries = mixed["blocks"]["attn"]["q"]
    queries["kernel"] = queries["kernel"].astype("bfloat16")
    models.save(tmp_path, model, mixed)  # queries lie beside keys and values
    again = models.load(tmp_path).params["blocks"]["attn"]
    np.testing.assert_array_equal(again["q"]["kernel"], np.asarray(queries["kernel"], np.float32))
    np.testing.assert_array_equal(again["k"]["kernel"], params["blocks"]["attn"]["k"]["kernel"])
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype("float64"), params)
    with pytest.raises(models.WeightsError, match="dtype float64: cast"):
        models.save(tmp_path, model, wide)
