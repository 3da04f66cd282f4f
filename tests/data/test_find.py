import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import activjax as aj
from activjax import data
from tests.data.test_published_tokenizers import folder, sentence_pieces, word_pieces

BYTES = data.byte_tokenizer()
BPE = data.train_bpe(["The Eiffel Tower is in Paris, naïve 🙂🙃.\n"] * 9, 290)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    path = folder(tmp_path_factory.mktemp("pieces"), word_pieces())
    return data.load_tokenizer(path)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    path = folder(tmp_path_factory.mktemp("sentences"), sentence_pieces())
    return data.load_tokenizer(path)


@pytest.mark.parametrize("tokenizer", [BYTES, BPE], ids=["bytes", "bpe"])
@given(
    before=st.text("aé🙂 T", max_size=6),
    phrase=st.text("aé🙂 x", min_size=1, max_size=4),
    after=st.text("aé🙂 T", max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_the_tokens_cover_the_phrase_and_each_is_needed(tokenizer, before, phrase, after):
    text = before + phrase + after
    ids, spans = tokenizer.encode(text), tokenizer.offsets(text)
    starts = [i for i in range(len(text)) if text.startswith(phrase, i)]
    at = data.find(tokenizer, text, phrase, occurrence=starts.index(len(before)))
    assert at.dtype == np.int32
    assert (np.diff(at) == 1).all()
    own = set(range(len(before), len(before) + len(phrase)))
    covered = [set(range(*spans[i])) for i in at]
    assert own <= set().union(*covered)
    assert all(own & characters for characters in covered)
    assert not own & set().union(*(set(range(*s)) for i, s in enumerate(spans) if i not in at))
    assert phrase in tokenizer.decode(ids[at[0] : at[-1] + 1])


def test_characters_of_several_tokens_and_tokens_of_several_characters():
    assert data.find(BYTES, "aé🙂b", "🙂").tolist() == [3, 4, 5, 6]
    assert data.find(BYTES, "aé🙂b", "é🙂").tolist() == [1, 2, 3, 4, 5, 6]
    text = "The Eiffel Tower is in Paris"
    spans = BPE.offsets(text)
    (tower,) = data.find(BPE, text, "owe")  # the middle of one token
    assert text[slice(*spans[tower])] == " Tower"
    both = data.find(BPE, text, "fel T")
    assert [text[slice(*spans[i])] for i in both] == [" Eiffel", " Tower"]


def test_several_occurrences():
    text = "aaa b aaa"
    with pytest.raises(ValueError, match="'aa' occurs 4 times, at characters 0, 1, 6, 7:.*0 to 3"):
        data.find(BYTES, text, "aa")
    for occurrence, want in ((0, [0, 1]), (1, [1, 2]), (2, [6, 7]), (-1, [7, 8]), (-4, [0, 1])):
        assert data.find(BYTES, text, "aa", occurrence=occurrence).tolist() == want
    for occurrence in (4, -5):
        with pytest.raises(ValueError, match=f"occurs 4 times, expected 0 to 3, got {occurrence}"):
            data.find(BYTES, text, "aa", occurrence=occurrence)
    with pytest.raises(ValueError, match="occurs 20 times, at characters 0, 1, .*7, ...: say"):
        data.find(BYTES, "x" * 20, "x")
    assert data.find(BYTES, "a.c abc", "a.c").tolist() == [0, 1, 2]  # no pattern, but text


def test_what_is_not_there(pieces):
    with pytest.raises(ValueError, match="'Towr' does not occur in the text; nearest: Tower"):
        data.find(BPE, "The Eiffel Tower", "Towr")
    with pytest.raises(ValueError, match="expected some text, got none"):
        data.find(BPE, "x", "")
    with pytest.raises(ValueError, match="no token stands for ' '"):
        data.find(pieces, "un cafe", " ")


def test_vocabularies_that_change_the_text(pieces, sentences):
    text = "Unhappy, un CAFÉ"  # in lower case and without accents for the model
    assert data.find(pieces, text, "happy").tolist() == [1]
    assert data.find(pieces, text, "CAFÉ").tolist() == [4]
    assert data.find(pieces, text, "y, u").tolist() == [1, 2, 3]
    text = "a aé🙂 x"  # a space is put before it; a token for each byte of what is unknown
    assert data.find(sentences, text, "🙂").tolist() == [3, 4, 5, 6]
    assert data.find(sentences, text, "aé").tolist() == [1, 2]
    assert data.find(sentences, "</s>a", "a", parse_special=True).tolist() == [1]


def test_added_tokens_are_counted_but_never_found(tmp_path):
    inner = word_pieces()
    from tokenizers import processors

    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = data.load_tokenizer(folder(tmp_path, inner))
    for phrase, want in (("un", [0]), ("unhappy", [0, 1]), ("happy", [1])):
        at = data.find(tokenizer, "unhappy", phrase)
        assert at.tolist() == want
        added = data.find(tokenizer, "unhappy", phrase, add_special=True)
        assert (added - 1).tolist() == want


def test_the_result_is_a_place_to_read():
    text = "The Eiffel Tower is in Paris"
    tokens = jnp.asarray(BPE.encode(text))[None]
    table = jax.random.normal(jax.random.key(0), (BPE.vocab, 3))

    def embed(table, tokens):
        return aj.tag(table[tokens], "embed", axes="batch seq d")

    at = data.find(BPE, text, "Paris")
    got = aj.capture(embed, aj.select("embed", at=at), out=False)(table, tokens)["embed"]
    np.testing.assert_array_equal(got, table[tokens[:, at]])
