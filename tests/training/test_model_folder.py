"""A decoder as a folder: the same bits back, and clear words where there is none."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from activjax import data, models, training

MODEL = models.decoder(vocab=257, context=8, layers=1, width=8, heads=2, param_dtype="bfloat16")
PARAMS = jax.jit(MODEL.init)(jax.random.key(0))


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


def test_shapes_alone(tmp_path):
    training.save_model(tmp_path / "model", MODEL, PARAMS)
    found = training.load_model(tmp_path / "model", abstract=True)
    assert isinstance(found, models.Loaded)
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), found.params, PARAMS)
    assert all(jax.tree.leaves(same))
    assert not any(isinstance(x, jax.Array) for x in jax.tree.leaves(found.params))


def test_every_file_of_a_tokenizer_comes_along(tmp_path):
    """One of GPT-2's kind: two files, a template, and an end that only its model's config names."""
    library = pytest.importorskip("tokenizers")
    own = tmp_path / "own"
    own.mkdir()
    bytes_ = sorted(library.pre_tokenizers.ByteLevel.alphabet())
    ids = {piece: i for i, piece in enumerate([*bytes_, "<stop>", "<turn>", "th", "the"])}
    (own / "vocab.json").write_text(json.dumps(ids))
    (own / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    added = {str(ids[t]): {"content": t, "special": True} for t in ("<stop>", "<turn>")}
    config = {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": added}
    (own / "tokenizer_config.json").write_text(json.dumps(config))
    (own / "config.json").write_text(json.dumps({"eos_token_id": ids["<stop>"]}))
    (own / "chat_template.jinja").write_text(
        "{% for m in messages %}<turn>{{m.content}}{% endfor %}"
    )
    more = own / "additional_chat_templates"
    more.mkdir()
    (more / "short.jinja").write_text("{{messages[0].content}}")
    wanted = data.load_tokenizer(own)
    assert wanted.end == ids["<stop>"]

    model = models.decoder(vocab=260, context=8, layers=1, width=8, heads=2)
    params = jax.jit(model.init)(jax.random.key(0))
    data.train_bpe(["one two one two one two"] * 3, 259, path=tmp_path / "model")  # in its way
    training.save_model(tmp_path / "model", model, params, tokenizer=own)
    found = training.load_model(tmp_path / "model").tokenizer
    assert found == wanted
    assert found.special == wanted.special
    said = [{"role": "user", "content": "the"}]
    for asked in ({}, {"template": "short"}):
        np.testing.assert_array_equal(
            found.chat_tokens(said, **asked), wanted.chat_tokens(said, **asked)
        )
    assert found.chat_tokens(said).tolist() == [ids["<turn>"], ids["the"]]


def test_special_ids_beyond_the_model_are_let_pass_and_others_are_not(tmp_path):
    library = pytest.importorskip("tokenizers")
    data.train_bpe(["one two one two one two"] * 3, 259, path=tmp_path)
    inner = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    inner.add_special_tokens(["<image>"])
    inner.save(str(tmp_path / "tokenizer.json"))
    for vocab, fits in ((259, True), (258, False)):
        model = models.decoder(vocab=vocab, context=8, layers=1, width=8, heads=2)
        params = jax.jit(model.init)(jax.random.key(0))
        if fits:
            training.save_model(tmp_path / "model", model, params, tokenizer=tmp_path)
            assert training.load_model(tmp_path / "model").tokenizer.vocab == 260
        else:
            with pytest.raises(ValueError, match="260 ids, the model 258"):
                training.save_model(tmp_path / "other", model, params, tokenizer=tmp_path)


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
