import hashlib
import json
import pickle

import numpy as np
import pytest

from activjax import data

TEXTS = [f"def f{i}(x):\n    return x + {i}  # naïve, 🙂\n" for i in range(200)]
BYTES = data.byte_tokenizer()
BPE = data.train_bpe(TEXTS, 300)


def library():
    import tokenizers

    return tokenizers


FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def folder(path, inner=None, **files):
    """A published model's folder: `tokenizer.json`, and other files, `__` for the dot."""
    path.mkdir(exist_ok=True)
    if inner is not None:
        inner.save(str(path / "tokenizer.json"))
    for name, about in files.items():
        text = about if isinstance(about, str) else json.dumps(about)
        (path / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return path


def byte_level(path, *special):
    """A library tokenizer of GPT-2's kind, with special tokens from id 300 on."""
    data.train_bpe(TEXTS, 300, path=path / "tokenizer.json")
    inner = library().Tokenizer.from_file(str(path / "tokenizer.json"))
    inner.add_special_tokens(list(special))
    return inner


def word_pieces():
    lib = library()
    names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##happy", "cafe", ",")
    inner = lib.Tokenizer(lib.models.WordPiece({n: i for i, n in enumerate(names)}))
    inner.normalizer = lib.normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = lib.pre_tokenizers.BertPreTokenizer()
    return inner


def sentence_pieces():
    """A library tokenizer of Llama's kind: a space before every text, bytes for what is unknown."""
    lib = library()
    tokens = {f"<0x{i:02X}>": i for i in range(256)}
    tokens |= {t: i for i, t in enumerate(("<s>", "</s>", "▁", "a", "▁a", "é"), 256)}
    inner = lib.Tokenizer(lib.models.BPE(tokens, [("▁", "a")], byte_fallback=True))
    steps = [lib.normalizers.Prepend("▁"), lib.normalizers.Replace(" ", "▁")]
    inner.normalizer = lib.normalizers.Sequence(steps)
    inner.add_special_tokens(["<s>", "</s>"])
    return inner


def test_tokens_put_around_a_text(tmp_path):
    lib = library()
    processors = lib.processors
    inner = byte_level(tmp_path, "<s>", "</s>")
    pairs = [("<s>", 300), ("</s>", 301)]
    template = processors.TemplateProcessing
    byte = processors.ByteLevel(trim_offsets=True)
    for processor, begin, finish in (
        (None, (), ()),
        (byte, (), ()),
        (template(single="$A", special_tokens=[]), (), ()),
        (template(single="<s> $A", special_tokens=pairs), (300,), ()),
        (template(single="$A </s>", special_tokens=pairs), (), (301,)),
        (template(single="<s> <s> $A </s>", special_tokens=pairs), (300, 300), (301,)),
        (processors.RobertaProcessing(("</s>", 301), ("<s>", 300)), (300,), (301,)),
        (processors.BertProcessing(("</s>", 301), ("<s>", 300)), (300,), (301,)),
        (processors.Sequence([byte, template(single="<s> $A", special_tokens=pairs)]), (300,), ()),
    ):
        if processor is not None:
            inner.post_processor = processor
        loaded = data.load_tokenizer(folder(tmp_path / "x", inner))
        assert (loaded.begin, loaded.finish) == (begin, finish)
        for text in ("", "ab é🙂", "<s>"):
            plain, spans = loaded.encode(text), loaded.offsets(text)
            whole = loaded.encode(text, add_special=True)
            assert whole.dtype == np.int32
            assert whole.tolist() == [*begin, *plain, *finish]
            want = [*[[0, 0]] * len(begin), *spans.tolist(), *[[len(text)] * 2] * len(finish)]
            assert loaded.offsets(text, add_special=True).tolist() == want
    assert BYTES.encode("a", add_special=True, parse_special=True).tolist() == [97]
    assert (BYTES.special, BYTES.begin, BYTES.finish) == ({}, (), ())


def test_a_processor_that_does_more_is_refused(tmp_path):
    inner = byte_level(tmp_path, "<s>")
    template = library().processors.TemplateProcessing
    inner.post_processor = template(single="$A <s> $A", special_tokens=[("<s>", 300)])
    with pytest.raises(ValueError, match="tokens before and after a text only"):
        data.load_tokenizer(folder(tmp_path / "x", inner))
    inner.post_processor = template(single="<s> $A", special_tokens=[("<s>", 999)])
    with pytest.raises(ValueError, match="adds the id 999, which is no token's"):
        data.load_tokenizer(folder(tmp_path / "x", inner))


def test_special_tokens_are_parsed_when_asked(tmp_path):
    inner = byte_level(tmp_path, "<s>", "<|eot|>")
    loaded = data.load_tokenizer(folder(tmp_path / "x", inner))
    assert loaded.special == {"<|end|>": 0, "<s>": 300, "<|eot|>": 301}
    text = "<s>a<|eot|>é<|eot"
    plain, parsed = loaded.encode(text), loaded.encode(text, parse_special=True)
    assert not {0, 300, 301} & {*plain.tolist()}
    cut = [[300], loaded.encode("a"), [301], loaded.encode("é<|eot")]
    assert parsed.tolist() == np.concatenate(cut).tolist()
    assert loaded.offsets(text, parse_special=True)[:3].tolist() == [[0, 3], [3, 4], [4, 11]]
    # what was asked once holds for that call alone, here and in a copy
    for tokenizer in (loaded, pickle.loads(pickle.dumps(loaded))):
        assert tokenizer.encode(text).tolist() == plain.tolist()
        assert tokenizer.encode(text, parse_special=True).tolist() == parsed.tolist()
    assert loaded.decode(parsed) == "aé<|eot"


def test_tokens_that_only_the_files_beside_call_special(tmp_path):
    files = {
        "tokenizer_config__json": {
            "cls_token": "[CLS]", "mask_token": {"content": "[MASK]"}, "unk_token": None,
            "additional_special_tokens": [{"content": "un"}, "absent"],
        },
        "special_tokens_map__json": {"sep_token": "[SEP]", "cls_token": "[PAD]"},
    }  # fmt: skip
    loaded = data.load_tokenizer(folder(tmp_path, word_pieces(), **files))
    assert loaded.special == {"[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "un": 5}
    assert loaded.encode("un [MASK]unhappy", parse_special=True).tolist() == [5, 4, 5, 1]
    assert 4 not in loaded.encode("un [MASK]")
    assert loaded.chats.values == {
        "cls_token": "[CLS]", "mask_token": "[MASK]", "sep_token": "[SEP]"
    }  # fmt: skip


def test_tokens_that_only_the_files_beside_have(tmp_path):
    # as of a vocabulary that grew in fine-tuning; their library adds them, too
    inner = byte_level(tmp_path, "<|e|>")
    more = {"301": {"content": "<pad>", "special": True}, "302": {"content": "return x"}}
    files = {
        "tokenizer_config__json": {"added_tokens_decoder": more, "eos_token": "<|e|>"},
        "added_tokens__json": {"<pad>": 301, "naïve": 303},
    }
    loaded = data.load_tokenizer(folder(tmp_path / "more", inner, **files))
    assert (loaded.vocab, loaded.special["<pad>"]) == (304, 301)
    assert loaded.encode("<pad>return xnaïve", parse_special=True).tolist() == [301, 302, 303]
    assert loaded.encode("<pad>return x").tolist()[-1] == 302
    assert 301 not in loaded.encode("<pad>return x")
    files["added_tokens__json"]["<gap>"] = 305
    with pytest.raises(ValueError, match="'<gap>' is to have the id 305, but comes out as 304"):
        data.load_tokenizer(folder(tmp_path / "gap", inner, **files))


def test_ends_that_the_models_own_files_name(tmp_path):
    inner = byte_level(tmp_path, "</s>", "<a>", "<b>", "<c>")
    where = folder(tmp_path / "x", inner, config__json={"eos_token_id": 302})
    assert data.load_tokenizer(where).end == 302
    folder(where, generation_config__json={"eos_token_id": [999, 301, 300]})
    assert data.load_tokenizer(where).end == 301
    folder(where, special_tokens_map__json={"eos_token": {"content": "<c>"}})
    assert data.load_tokenizer(where).end == 303
    folder(where, tokenizer_config__json={"eos_token": "</s>"})
    assert data.load_tokenizer(where).end == 300
    folder(where, tokenizer_config__json={"eos_token": "<bb>"})
    with pytest.raises(ValueError, match="eos_token '<bb>'.*not in the vocabulary.*<b>.*end="):
        data.load_tokenizer(where)
    assert data.load_tokenizer(where, end="<b>").end == 302


def old_gpt2(path, **config):
    inner = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokens = {t: i for i, t in enumerate(sorted(inner["vocab"], key=inner["vocab"].get))}
    del tokens["<|end|>"]
    tokens = {t: i for i, t in enumerate([*tokens, "<|endoftext|>"])}
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in inner["merges"]), ""])
    files = {"tokenizer_config__json": config} if config else {}
    return folder(path / "old", vocab__json=tokens, merges__txt=merges, **files)


def test_the_files_of_gpt2(tmp_path):
    data.train_bpe(TEXTS, 300, path=tmp_path)
    loaded = data.load_tokenizer(old_gpt2(tmp_path))
    assert (loaded.vocab, loaded.end, loaded.special) == (300, 299, {"<|endoftext|>": 299})
    # the same merges; ids are one lower, for the special token stands last
    assert (loaded.encode(TEXTS[3]) + 1).tolist() == BPE.encode(TEXTS[3]).tolist()
    assert loaded.decode(loaded.encode("é🙂")) == "é🙂"
    assert loaded.byte_lengths[loaded.encode(TEXTS[3])].sum() == len(TEXTS[3].encode())
    assert loaded.begin == ()

    added = {"300": {"content": "<x>", "special": True, **FLAGS}, "301": {"content": "<y>"}}
    more = dict(add_bos_token=True, bos_token="<x>", eos_token="<x>", add_prefix_space=True)
    loaded = data.load_tokenizer(
        old_gpt2(tmp_path, tokenizer_class="GPT2TokenizerFast", added_tokens_decoder=added, **more)
    )
    assert (loaded.vocab, loaded.end, loaded.begin) == (302, 300, (300,))
    assert loaded.encode("<y>").tolist()[-1] == 301
    assert loaded.encode("x").tolist() == loaded.encode(" x").tolist()
    (tmp_path / "old" / "added_tokens.json").write_text('{"<z>": 305}')
    with pytest.raises(ValueError, match="'<z>' is to have the id 305, but comes out as 302"):
        data.load_tokenizer(tmp_path / "old")


def test_the_file_of_bert(tmp_path):
    inner = word_pieces()
    names = sorted(inner.get_vocab(), key=inner.get_vocab().get)
    where = folder(tmp_path / "x", vocab__txt="\n".join(names) + "\n")
    loaded = data.load_tokenizer(where)
    assert (loaded.vocab, loaded.end, loaded.begin, loaded.finish) == (9, 3, (2,), (3,))
    assert loaded.encode("Unhappy, CAFÉ", add_special=True).tolist() == [2, 5, 6, 8, 7, 3]
    assert loaded.offsets("Unhappy, CAFÉ").tolist() == [[0, 2], [2, 7], [7, 8], [9, 13]]
    assert loaded.encode("[MASK]", parse_special=True).tolist() == [4]
    folder(where, tokenizer_config__json={"do_lower_case": False, "strip_accents": False})
    assert data.load_tokenizer(where).encode("un Un cafe").tolist() == [5, 1, 7]
    folder(where, tokenizer_config__json={"strip_accents": "yes"})
    with pytest.raises(ValueError, match="strip_accents"):
        data.load_tokenizer(where)
    folder(where, tokenizer_config__json={}, vocab__txt="a\nb\n")
    with pytest.raises(ValueError, match="no '.UNK.', which a BERT vocabulary has"):
        data.load_tokenizer(where)


def test_vocabularies_of_other_kinds_are_refused(tmp_path):
    data.train_bpe(TEXTS, 300, path=tmp_path)
    for about in ({"tokenizer_class": "Qwen2Tokenizer"}, {"tokenizer_class": "RobertaTokenizer"}):
        with pytest.raises(ValueError, match=f"of a {about['tokenizer_class']}.*save_pretrained"):
            data.load_tokenizer(old_gpt2(tmp_path, **about))
    where = folder(old_gpt2(tmp_path, x=1), config__json={"model_type": "qwen2"})
    with pytest.raises(ValueError, match="of a qwen2"):
        data.load_tokenizer(where)
    (where / "config.json").unlink()
    for name in ("tokenizer__model", "spiece__model", "qwen__tiktoken", "tekken__json"):
        where = folder(tmp_path / name, **{name: "x"})
        with pytest.raises(ValueError, match=f"{name[:5]}.*of another library.*save_pretrained"):
            data.load_tokenizer(where)
    with pytest.raises(FileNotFoundError, match="no such tokenizer file"):
        data.load_tokenizer(folder(tmp_path / "nothing", vocab__json={}))
    for file, text, said in (
        ("merges__txt", "a b c\n", "expected pairs, got 'a b c'"),
        ("merges__txt", "q qq\n", "vocab.json and merges.txt: "),
        ("vocab__json", {"a": -1}, "vocab.json and merges.txt: "),
        ("vocab__json", {"a": "b"}, "vocab.json and merges.txt: "),
        ("vocab__json", [1], "expected a JSON object, got list"),
        ("added_tokens__json", {"a": 1.5}, "'a': expected an id, got 1.5"),
    ):
        with pytest.raises(ValueError, match=said):
            data.load_tokenizer(folder(old_gpt2(tmp_path, a=1), **{file: text}))


def test_files_that_somebody_made_to_do_harm(tmp_path):
    inner = byte_level(tmp_path, "</s>")
    where = folder(tmp_path / "x", inner)
    about = json.loads((where / "tokenizer.json").read_text(encoding="utf-8"))
    for text in ("", "[" * 100_000, "[]", "null", '{"model": 3}', '{"version": "1.0"', "\x00"):
        with pytest.raises(ValueError, match="not a tokenizer.json"):
            data.load_tokenizer(folder(tmp_path / "y", tokenizer__json=text))
    words = {"type": "WordLevel", "vocab": {"a": 4_000_000_000}, "unk_token": "a"}
    sparse = {**about, "added_tokens": [], "model": words}
    with pytest.raises(ValueError, match="an id of 4000000000, expected ids from 0 to less than"):
        data.load_tokenizer(folder(tmp_path / "y", tokenizer__json=sparse), end="a")
    pieces = {"type": "WordPiece", "vocab": {"b": 0}, "unk_token": "u"}
    pieces |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 9}
    adding = {"type": "BertProcessing", "sep": ["b", 0], "cls": ["b", 0]}
    lacking = {**about, "added_tokens": [], "model": pieces, "post_processor": adding}
    with pytest.raises(ValueError, match="tokenizer.json: it cannot encode a text: .*Missing"):
        data.load_tokenizer(folder(tmp_path / "y", tokenizer__json=lacking), end="b")
    empty = {**about, "added_tokens": [], "model": {**words, "vocab": {}}}
    with pytest.raises(ValueError, match="name it with end="):
        data.load_tokenizer(folder(tmp_path / "y", tokenizer__json=empty))
    with open(tmp_path / "y" / "tokenizer.json", "wb") as file:
        file.truncate(200_000_001)  # sparse: takes no room
    with pytest.raises(ValueError, match="200 MB, expected a tokenizer's file of at most 200 MB"):
        data.load_tokenizer(tmp_path / "y")
    for text, said in (
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON: lists within lists"),
        ("[]", "expected a JSON object, got list"),
        ('{"eos_token": 3}', "eos_token: expected a token's text, got 3"),
        ('{"eos_token": {"content": []}}', "eos_token: expected a token's text"),
        ('{"additional_special_tokens": "x"}', "expected a list, got str"),
        ('{"added_tokens_decoder": []}', None),
        ('{"added_tokens_decoder": {"x": {}}}', "expected ids with a token's content, got 'x'"),
        ('{"added_tokens_decoder": [1]}', "expected an object"),
    ):
        folder(where, tokenizer_config__json=text)
        if said is None:
            data.load_tokenizer(where)
            continue
        with pytest.raises(ValueError, match=f"tokenizer_config.json: .*{said}"):
            data.load_tokenizer(where)
    (where / "tokenizer_config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match="byte 7 is not UTF-8"):
        data.load_tokenizer(where)


def test_fingerprints_stay(tmp_path):
    # runs are named by them: a change makes every run with a tokenizer another run
    assert BYTES.fingerprint == "bytes-257"
    inner = byte_level(tmp_path, "</s>")
    about = json.loads(inner.to_str())
    ids = {k: v for k, v in about.items() if k not in ("version", "truncation", "padding")}
    text = json.dumps([{**ids, "post_processor": None}, 300], sort_keys=True)
    where = folder(tmp_path, inner, tokenizer_config__json={"eos_token": "</s>", "cls_token": "a"})
    want = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert data.load_tokenizer(where).fingerprint == want
