"""The parts of experiments that depend on a published model's tokenizer."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from activjax import data, models
from activjax.runs import contract, decoders

library = pytest.importorskip("tokenizers")
EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"
FILE = (
    '''"""Module {n}: doc é\u4e2d."""
import os.path as path  # why {n}


class A{n}:
    def get_{n}(self, other):
        """Twice
        told {n}."""
        text = 'a"b{n}' + "c"
        return self.value_{n} + text  # é sum
'''
    * 3
)


@pytest.fixture
def codebook():
    """The experiment on codebooks; its modules are found beside it."""
    return contract.load("codebook_text.py", EXPERIMENTS).module


def part(name):
    return importlib.import_module(f"codebook_text_{name}")


def files():
    pairs = [(f"{n}.py", FILE.replace("{n}", str(n))) for n in range(8)]
    return data.Corpus.of(pairs, label="x", files=())


def byte_level(path, vocab=330):
    data.train_bpe(files().texts, vocab, path=path)
    return data.load_tokenizer(path)


def with_a_space_before(path):
    """As Llama 2 has it: "▁" for spaces, one before every text, bytes for what is not known."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    letters = sorted(set("".join(files().texts)) - set("é\u4e2d\n") - {" "})
    merges = [("▁", "▁"), ("▁▁", "▁▁"), ("s", "e"), ("se", "l"), ("sel", "f"), ("▁", "self")]
    vocab = {p: i for i, p in enumerate([*pieces, "▁", *letters, *(a + b for a, b in merges)])}
    inner = library.Tokenizer(
        library.models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    inner.normalizer = library.normalizers.Sequence(
        [library.normalizers.Prepend("▁"), library.normalizers.Replace(" ", "▁")]
    )
    decode = library.decoders
    inner.decoder = decode.Sequence(
        [decode.Replace("▁", " "), decode.ByteFallback(), decode.Fuse(), decode.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens(["<unk>", "<s>", "</s>"])
    inner.save(str(path / "tokenizer.json"))
    return data.load_tokenizer(path)


MAKERS = {"byte-level": byte_level, "a space before": with_a_space_before}


@pytest.mark.parametrize("kind", MAKERS)
def test_tokens_have_the_concepts_of_their_bytes(codebook, kind, tmp_path):
    text = part("data")
    tokenizer = MAKERS[kind](tmp_path)
    held = text.excerpts(files(), 6, 64, 32, tokenizer)
    sources = dict(zip(files().names, files().texts))
    found = 0
    for d, name in enumerate(held.names):
        whole, marks = sources[name].encode(), text.marked(sources[name])
        pieces = [held.pieces[i] for i in held.tokens[d].tolist()]
        assert [len(p) for p in pieces] == tokenizer.byte_lengths[held.tokens[d]].tolist()
        # excerpts repeat in these files: marks are the same wherever one stands
        at = whole.index(b"".join(pieces))
        assert at == 0 or whole[at - 1 : at] == b"\n"
        ends = at + np.cumsum([len(p) for p in pieces])
        for concept, mask in held.masks.items():
            wanted = [marks[concept][e - len(p) : e].any() for e, p in zip(ends, pieces)]
            np.testing.assert_array_equal(mask[d], wanted)
            found += sum(wanted)
        np.testing.assert_array_equal(held.ends_line[d], [p.endswith(b"\n") for p in pieces])
    assert found > 20
    assert held.sizes.tolist() == [
        float(sum(len(held.pieces[i]) for i in row[1:].tolist())) for row in held.tokens
    ]


def test_bytes_are_what_they_were(codebook):
    """One of bytes: every token is its byte, and the vocabulary is exact."""
    text = part("data")
    held = text.excerpts(files(), 6, 64, 32)
    assert all(held.pieces[i] == bytes([i]) for i in np.unique(held.tokens).tolist())
    assert held.vocabulary(257) == [*(bytes([i]) for i in range(256)), b""]
    assert (held.sizes == 63).all()


def test_regular_expressions_find_tokens_of_any_vocabulary(codebook, tmp_path):
    text, concepts = part("data"), part("concepts")
    held = text.excerpts(files(), 6, 64, 32, byte_level(tmp_path))
    vocabulary = held.vocabulary(400)  # a model's table may have more rows
    assert len(vocabulary) == 400
    layout = concepts.Layout((), 1, 2, 1)
    with concepts.IndexWriter(tmp_path / "index", {"s": layout}, vocabulary=vocabulary) as writer:
        shape = (*held.tokens.shape, 1, 1)
        writer.add(held.tokens, {"s": (np.zeros(shape, int), np.zeros(shape))})
    marked = concepts.labels(concepts.open_index(tmp_path / "index"), held.query("name after def"))
    names = [held.pieces[i] for i in held.tokens.reshape(-1)[marked].tolist()]
    assert names
    assert all(re.fullmatch(rb" ?[a-z_0-9]+", name) for name in names), names


def test_a_tokenizer_that_loses_text_is_refused(codebook, tmp_path):
    byte_level(tmp_path)
    inner = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    inner.normalizer = library.normalizers.Lowercase()
    inner.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="does not give a text back as it was"):
        part("data").excerpts(files(), 6, 64, 32, data.load_tokenizer(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "tied"), [("layer", False), ("rms", True), ("rms_1p", False)])
def test_effects_are_what_codes_add_to_logits(codebook, norm, tied):
    """The final norm's own scale is one number a row: the order of the changes is its."""
    networks = part("models")
    model = models.decoder(vocab=40, context=8, layers=2, width=8, heads=2, kv_heads=1, norm=norm,
                           tied=tied, head_width=6)  # fmt: skip
    params = jax.jit(model.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    params["final"]["scale"] = rng.normal(size=8).astype(np.float32)
    books = {
        networks.MLP: {"codes": rng.normal(size=(2, 1, 3, 8)), "scale": np.full((2, 1), 2.0)},
        networks.HEADS: {"codes": rng.normal(size=(2, 2, 3, 6)), "scale": np.full((2, 2), 0.5)},
    }
    effects = codebook.effects_of(model.config, params, books)
    kernel = np.asarray(params["blocks"]["attn"]["out"]["kernel"])
    unembed = jax.jit(model.unembed)

    def logits(x):
        found = np.asarray(unembed(params, np.asarray(x, np.float32)[:, None]))[:, 0]
        return found - found.mean(-1, keepdims=True)

    x = np.resize([1.0, -1.0], 8)  # a stream of variance 1 and mean 0, to which a little is added
    for site, (ids, values) in effects.items():
        codes = books[site]["codes"] * books[site]["scale"][..., None, None]
        if site == networks.HEADS:
            codes = codes @ kernel.reshape(2, 2, 6, 8)
        codes = 1e-2 * codes.reshape(-1, 8)
        changes = logits(x + codes) - logits(x - codes)
        shrunk = logits(x[None])[0]  # the norm also shrinks all of x
        assert (np.diff(values, axis=-1) <= 0).all()
        for change, some, found in zip(changes, ids.reshape(-1, 10), values.reshape(-1, 10)):
            parts = np.stack([found, shrunk[some]], 1)
            fit = np.linalg.lstsq(parts, change[some], rcond=None)[0]
            np.testing.assert_allclose(parts @ fit, change[some], atol=2e-3 * np.abs(change).max())
            assert fit[0] == pytest.approx(2e-2, rel=0.02)


CHAT = (
    "<bos>{% for m in messages %}<turn>{{ m.role }}\n{{ m.content }}<stop>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>model\n{% endif %}"
)


def chatty(path, **templates):
    byte_level(path)
    inner = library.Tokenizer.from_file(str(path / "tokenizer.json"))
    inner.add_special_tokens(["<bos>", "<turn>", "<stop>"])
    inner.post_processor = library.processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", inner.token_to_id("<bos>"))]
    )
    inner.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", **templates}))
    return data.load_tokenizer(path)


@pytest.mark.parametrize("template", [True, False])
def test_a_model_is_spoken_to_as_its_tokenizer_says(template, tmp_path):
    experiment = contract.load("introspection_text.py", EXPERIMENTS).module
    tokenizer = chatty(tmp_path, **({"chat_template": CHAT} if template else {}))
    bos, turn, stop = (tokenizer.special[t] for t in ("<bos>", "<turn>", "<stop>"))
    usual = {"names": ("dust", "ice"), "held_out": 1, "answer": 80}

    def prompts(**given):
        talk = experiment.conversation(experiment.Config(**usual, **given), tokenizer)
        row = talk.ask([-1], seed=0)
        return talk, row.tokens[0, : row.last[0] + 1].tolist(), talk.elicit([0])

    talk, asked, elicited = prompts()
    assert asked[0] == bos
    assert asked.count(bos) == 1  # the template writes it, so nothing else does
    if template:
        assert asked.count(turn) == 2
        assert tokenizer.decode(asked).startswith("user\n")
        assert tokenizer.decode(asked).endswith("model\n")
        assert talk.stop == (tokenizer.end, stop)  # a turn's end is not the document's
        said = tokenizer.decode(elicited.tokens[0, : elicited.last[0] + 1])
        assert said == "user\nTell me about dust.\nmodel\n"
        plain, asked, _ = prompts(chat=False)
    else:
        plain = talk
        with pytest.raises(ValueError, match="has no chat template"):
            prompts(chat=True)
    assert tokenizer.decode(asked).startswith("Human: ")
    assert asked[0] == bos
    assert plain.stop == (tokenizer.end,)
    # own words come before the template
    own = experiment.introspection.Templates(frame="Q: {text} A:")
    assert tokenizer.decode(prompts(templates=own)[1]).startswith("Q: ")
    with pytest.raises(ValueError, match="chat: the template makes the whole prompt"):
        prompts(chat=True, templates=own)
    # answers are learned as text, ended as documents are
    answer = talk.report([0])[0]
    assert tokenizer.decode(answer[answer != talk.pad]).endswith("about dust.")


def test_what_begins_a_text_is_not_scored(tmp_path):
    experiment = contract.load("membership_audit.py", EXPERIMENTS).module
    tokenizer = chatty(tmp_path)
    text = "def f(self): return 1"
    ids = tokenizer.encode(text)
    tokens, inside = experiment.laid_out([text], tokenizer, len(ids) + 3)
    assert tokens[0, 0] == tokenizer.special["<bos>"]
    np.testing.assert_array_equal(tokens[0, 1 : len(ids) + 1], ids)
    assert inside[0].tolist() == [0, *[1] * len(ids), 0, 0]
    assert tokenizer.decode(tokens[0][inside[0] > 0]) == text
    short, inside = experiment.laid_out([text], tokenizer, 5)
    np.testing.assert_array_equal(short[0, 1:], ids[:4])
    assert inside.sum() == 4


@pytest.mark.parametrize("name", ["membership_audit", "introspection_text", "codebook_text",
                                  "text_statistics"])  # fmt: skip
def test_an_encoder_is_refused_by_name(name, tmp_path, monkeypatch, capsys):
    from activjax import cli

    monkeypatch.chdir(tmp_path)
    encoder = models.encoder(vocab=600, context=16, layers=1, width=16, heads=2)
    byte_level(tmp_path / "tokens")
    models.save("bert", encoder, jax.jit(encoder.init)(jax.random.key(0)), like="tokens")
    Path("a.txt").write_text("a\n")
    Path("b.txt").write_text("b\n")
    lists = ["members=a.txt", "candidates=b.txt"] if name == "membership_audit" else []
    config = str(EXPERIMENTS.parent / f"configs/{name}.yaml")
    for command in ("sites", "run"):
        given = ["model={kind: pretrained, path: bert}", *lists]
        assert cli.main([command, config, *given]) != 0
        said = " ".join(capsys.readouterr().err.split())
        assert "model: bert: an encoder, expected a decoder" in said
        assert "Traceback" not in said
    assert isinstance(decoders.of("bert"), decoders.Pretrained)
