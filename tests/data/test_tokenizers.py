import json
import pickle
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from activjax import data

TEXTS = [f"def f{i}(x):\n    return x + {i}  # naïve, 🙂\n" for i in range(200)]
FEW = settings(max_examples=40, deadline=None)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)

BYTES = data.byte_tokenizer()
BPE = data.train_bpe(TEXTS, 300)


def library():
    import tokenizers

    return tokenizers


def rewrite(path, change):
    about = json.loads(path.read_text(encoding="utf-8"))
    change(about)
    path.write_text(json.dumps(about), encoding="utf-8")


@pytest.mark.parametrize("tokenizer", [BYTES, BPE], ids=["bytes", "bpe"])
@given(text=TEXT)
@FEW
def test_any_text_comes_back_and_every_byte_is_counted(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert tokenizer.decode(ids) == text
    assert tokenizer.byte_lengths[ids].sum() == len(text.encode())
    assert tokenizer.encode(text.encode()).tolist() == ids.tolist()
    spans = tokenizer.offsets(text)
    assert spans.shape == (len(ids), 2)
    assert (np.diff(spans, axis=0) >= 0).all()
    assert {c for a, b in spans for c in range(a, b)} == set(range(len(text)))


@given(st.binary(max_size=20))
@FEW
def test_bytes_that_are_not_utf8(raw):
    assert bytes(BYTES.encode(raw).tolist()) == raw
    assert BYTES.decode(BYTES.encode(raw)) == raw.decode(errors="replace")


def test_offsets_of_bytes_are_characters():
    assert BYTES.offsets("aé🙂").tolist() == [[0, 1], *[[1, 2]] * 2, *[[2, 3]] * 4]
    assert BYTES.offsets("").shape == BPE.offsets("").shape == (0, 2)


@pytest.mark.parametrize("tokenizer", [BYTES, BPE], ids=["bytes", "bpe"])
def test_what_has_no_utf8_is_refused(tokenizer):
    text = "ab\ud83d\ude42"  # an emoji as UTF-16 halves
    for function in (tokenizer.encode, tokenizer.offsets):
        with pytest.raises(ValueError, match=r"character 2 is a lone surrogate \(U\+D83D\)"):
            function(text)
    mended = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # as the error says
    assert tokenizer.decode(tokenizer.encode(mended)) == "ab🙂"
    with pytest.raises(ValueError, match="byte 1 .0xff. is not UTF-8"):
        BPE.encode(b"a\xff")


@pytest.mark.parametrize("tokenizer", [BYTES, BPE], ids=["bytes", "bpe"])
def test_decoding_drops_the_end_and_checks_ids(tokenizer):
    ids = tokenizer.encode("ab🙂").tolist()
    assert tokenizer.decode([tokenizer.end, *ids, tokenizer.end]) == "ab🙂"
    assert tokenizer.decode(jnp.asarray(ids)) == "ab🙂"
    assert tokenizer.decode(ids[:3]) == "ab\ufffd"
    assert tokenizer.decode([]) == ""
    for bad in (-1, tokenizer.vocab):
        with pytest.raises(ValueError, match=f"got {bad} at position 1"):
            tokenizer.decode([0, bad])
    for shape in ([[0]], [0.5]):
        with pytest.raises(ValueError, match="expected integers"):
            tokenizer.decode(shape)


def test_what_a_tokenizer_says_of_itself():
    assert (BYTES.vocab, BYTES.end, BPE.vocab, BPE.end) == (257, 256, 300, 0)
    for tokenizer in (BYTES, BPE):
        assert tokenizer.byte_lengths.shape == (tokenizer.vocab,)
        assert tokenizer.byte_lengths.dtype == np.int32
        assert tokenizer.byte_lengths[tokenizer.end] == 0
        with pytest.raises(ValueError, match="read-only"):
            tokenizer.byte_lengths[0] = 1
        again = pickle.loads(pickle.dumps(tokenizer))
        assert again == tokenizer
        assert hash(again) == hash(tokenizer)
        assert again.encode("x 1").tolist() == tokenizer.encode("x 1").tolist()
    assert BYTES != BPE


def test_training_is_deterministic_and_saved(tmp_path):
    again = data.train_bpe(iter(TEXTS), 300, path=tmp_path / "new")
    assert again == BPE
    assert data.train_bpe(TEXTS, 299) != BPE
    assert data.train_bpe(TEXTS[:150], 266) != data.train_bpe(["other text, " * 9] * 99, 266)
    loaded = data.load_tokenizer(tmp_path / "new")
    assert loaded == BPE
    assert data.load_tokenizer(tmp_path / "new" / "tokenizer.json", end=0) == BPE
    ids = BPE.encode(TEXTS[7])
    assert len(ids) < len(TEXTS[7]) / 2
    assert loaded.encode(TEXTS[7]).tolist() == ids.tolist()
    data.train_bpe(TEXTS, 300, path=tmp_path / "mine.json")
    assert data.load_tokenizer(tmp_path / "mine.json") == BPE


def test_training_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="at least 257"):
        data.train_bpe(TEXTS, 256)
    with pytest.raises(ValueError, match=r"the 2 texts have repeated pairs for \d+ only"):
        data.train_bpe(["abab", "cc"], 400)
    with pytest.raises(ValueError, match="lone surrogate"):
        data.train_bpe(["a\ud800"], 300)
    assert data.train_bpe(["x"], 257).vocab == 257


def test_special_tokens_spelled_out_are_text():
    text = "a<|end|>b"
    assert BPE.end not in BPE.encode(text)
    assert BPE.decode(BPE.encode(text)) == text


def test_what_a_file_adds_to_texts_is_left_aside(tmp_path):
    path = tmp_path / "tokenizer.json"
    data.train_bpe(TEXTS, 300, path=path)
    inner = library().Tokenizer.from_file(str(path))
    inner.enable_truncation(3)
    inner.enable_padding(length=9)
    inner.post_processor = library().processors.TemplateProcessing(
        single="<|end|> $A", special_tokens=[("<|end|>", 0)]
    )
    inner.save(str(path))
    loaded = data.load_tokenizer(path)
    assert loaded == BPE
    assert loaded.encode(TEXTS[0]).tolist() == BPE.encode(TEXTS[0]).tolist()


def test_where_the_end_is_found(tmp_path):
    path = tmp_path / "tokenizer.json"
    data.train_bpe(TEXTS, 300, path=path)
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}

    def add(about):
        for i, name in enumerate(("</s>", "<|endoftext|>", "<|mine|>"), 300):
            about["added_tokens"].append({"id": i, "content": name, "special": True, **special})
        about["added_tokens"].append({"id": 303, "content": "<b>", "special": False, **special})

    rewrite(path, add)
    assert data.load_tokenizer(path).end == 301
    assert data.load_tokenizer(path, end="<|mine|>").end == 302
    loaded = data.load_tokenizer(path, end=300)
    assert loaded.end == 300
    assert loaded != data.load_tokenizer(path)
    assert loaded.vocab == loaded.byte_lengths.size == 304
    assert loaded.byte_lengths[300:].tolist() == [0, 0, 0, 3]
    assert loaded.byte_lengths[loaded.encode("a <b> c")].sum() == 7
    config = tmp_path / "tokenizer_config.json"
    for eos in ("<|mine|>", {"content": "<|mine|>"}):
        config.write_text(json.dumps({"eos_token": eos}))
        assert data.load_tokenizer(path).end == 302
    config.write_text(json.dumps({"eos_token": None}))
    assert data.load_tokenizer(path).end == 301
    with pytest.raises(ValueError, match=r"no token '<\|min\|>'; nearest: <\|mine\|>"):
        data.load_tokenizer(path, end="<|min|>")
    with pytest.raises(ValueError, match="no id 305"):
        data.load_tokenizer(path, end=305)


def test_files_that_are_no_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="not a tokenizer.json"):
        data.load_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="nearest: tokenizer.json"):
        data.load_tokenizer(tmp_path / "tokeniser.json")
    with pytest.raises(FileNotFoundError, match="no such tokenizer file"):
        data.load_tokenizer(tmp_path / "nowhere" / "x.json")
    words = library().Tokenizer(library().models.WordLevel({"a": 0, "?": 3}, unk_token="?"))
    words.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="name it with end="):
        data.load_tokenizer(tmp_path)
    assert data.load_tokenizer(tmp_path, end="?").byte_lengths.tolist() == [1, 0, 0, 0]


def test_bytes_of_other_kinds_of_vocabulary(tmp_path):
    lib = library()
    pieces = {"[UNK]": 0, "[SEP]": 1, "un": 2, "##happy": 3, "é": 4}
    words = lib.Tokenizer(lib.models.WordPiece(pieces, unk_token="[UNK]"))
    words.pre_tokenizer = lib.pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "words.json"))
    loaded = data.load_tokenizer(tmp_path / "words.json")
    assert loaded.byte_lengths.tolist() == [0, 0, 2, 5, 2]
    assert loaded.encode("unhappy").tolist() == [2, 3]

    fallback = {f"<0x{i:02X}>": i for i in range(256)}
    vocabulary = {**fallback, "</s>": 256, "▁": 257, "a": 258, "▁a": 259, "é": 260}
    pieces = lib.models.BPE(vocabulary, [("▁", "a")], byte_fallback=True)
    sentence = lib.Tokenizer(pieces)
    sentence.normalizer = lib.normalizers.Replace(" ", "▁")
    sentence.decoder = lib.decoders.Sequence(
        [lib.decoders.Replace("▁", " "), lib.decoders.ByteFallback(), lib.decoders.Fuse()]
    )
    sentence.save(str(tmp_path / "sentence.json"))
    loaded = data.load_tokenizer(tmp_path / "sentence.json")
    text = "a aé🙂 x"
    ids = loaded.encode(text)
    assert loaded.decode(ids) == text
    assert loaded.byte_lengths[ids].tolist() == [1, 2, 2, 1, 1, 1, 1, 1, 1]


def test_without_the_library(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for function in (lambda: data.train_bpe(TEXTS, 300), lambda: data.load_tokenizer(tmp_path)):
        with pytest.raises(ImportError, match=r"pip install 'activjax\[text\]'"):
            function()
