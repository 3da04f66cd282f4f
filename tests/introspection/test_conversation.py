"""Conversations in plain text, with tokenizers of several kinds."""

import dataclasses
import re

import numpy as np
import pytest

from activjax import data
from activjax.introspection._conversation import conversation
from activjax.introspection._conversation_texts import BASELINE, CONCEPTS
from activjax.introspection._templates import Templates, parse_templates

T = Templates()
NAMES = ("dust", "ice", "ice cream", "Ñandú", "a thousand and one nights", "\u7070\u5c18")
TEXTS = [
    *T.plain,
    *T.mention,
    *T.paraphrases,
    *T.other,
    *T.instructions,
    T.report,
    T.denial,
    T.elicit,
] * 3


def spaced(path, prepend):
    """A tokenizer that writes spaces as its own sign and may put one before every text."""
    import tokenizers as lib

    inner = lib.Tokenizer(lib.models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = lib.pre_tokenizers.Metaspace(prepend_scheme=prepend)
    inner.decoder = lib.decoders.Metaspace(prepend_scheme=prepend)
    special = ["<unk>", "</s>"]
    trainer = lib.trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    inner.train_from_iterator([*TEXTS, *NAMES, *BASELINE, "porridge oats"], trainer)
    inner.save(str(path / "tokenizer.json"))
    return data.load_tokenizer(path)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    paths = [tmp_path_factory.mktemp(name) for name in ("bpe", "always", "never")]
    data.train_bpe(TEXTS, 600, path=paths[0])
    return {
        "bytes": data.byte_tokenizer(),
        "bpe": data.load_tokenizer(paths[0]),
        "always": spaced(paths[1], "always"),
        "never": spaced(paths[2], "never"),
    }


KINDS = ("bytes", "bpe", "always", "never")


@pytest.fixture(params=KINDS)
def talk(request, tokenizers):
    return conversation(tokenizers[request.param], NAMES, steps=80)


def text_of(talk, prompts):
    return [talk.show(row[: last + 1]).strip() for row, last in zip(prompts.tokens, prompts.last)]


def test_prompts_say_what_they_should(talk):
    concepts = np.arange(len(NAMES))
    elicited = text_of(talk, talk.elicit(concepts))
    assert elicited == [f"Human: Tell me about {name}. Assistant:" for name in NAMES]
    others = text_of(talk, talk.baseline_prompts(BASELINE))
    assert others == [f"Human: Tell me about {word}. Assistant:" for word in BASELINE]
    mentions = np.array([-1, *concepts, -1])
    asked = text_of(talk, talk.ask(mentions, seed=1))
    for text, mention in zip(asked, mentions):
        assert text.startswith("Human: ")
        assert text.endswith(" Assistant:")
        assert sum(question in text for question in T.paraphrases) == 1
        assert talk.reader.read([text]).named[0] == mention
        heads = [h.replace("{c}", NAMES[mention]) for h in (T.plain if mention < 0 else T.mention)]
        assert any(text.startswith(f"Human: {head} ") for head in heads)
    for text, c in zip(text_of(talk, talk.ask_else(concepts, seed=1)), concepts):
        assert any(f" {question} Assistant:" in text for question in T.other)
        assert any(head.replace("{c}", NAMES[c]) in text for head in T.mention)
        assert "thought" not in text
    for text in text_of(talk, talk.replay(9, seed=1)):
        assert text[7:-11] in T.instructions


def test_prompts_are_padded_on_the_right(talk):
    for prompts in (
        talk.elicit([0, 4]), talk.ask([-1, 4], seed=0), talk.ask_else([0, 4], seed=0),
        talk.replay(5, seed=0), talk.baseline_prompts(["mud", "porridge oats"]),
    ):  # fmt: skip
        assert prompts.tokens.dtype == prompts.last.dtype == np.int32
        assert (prompts.tokens[~prompts.mask] == talk.pad).all()
        assert prompts.mask[np.arange(len(prompts.last)), prompts.last].all()
        assert prompts.last.max() < prompts.tokens.shape[1]


def test_rows_are_functions_of_seed_and_number(talk):
    mentions = np.tile([-1, 0, 3, -1, 5], 60)
    for ask in (talk.ask, talk.ask_else):
        given = mentions if ask == talk.ask else np.maximum(mentions, 0)
        every = ask(given, seed=4)
        for start, n in ((0, 1), (3, 7), (110, 25), (299, 1)):  # past the first deal, too
            some = ask(given[start : start + n], seed=4, start=start)
            np.testing.assert_array_equal(some.tokens, every.tokens[start : start + n])
            np.testing.assert_array_equal(some.last, every.last[start : start + n])
        assert (ask(given, seed=5).tokens != every.tokens).any()
    every = talk.replay(100, seed=4)
    np.testing.assert_array_equal(talk.replay(10, seed=4, start=60).tokens, every.tokens[60:70])
    assert talk.ask([], seed=0).tokens.shape[0] == talk.replay(0, seed=0).tokens.shape[0] == 0


def test_the_first_wordings_are_these_everywhere():
    talk = conversation(data.byte_tokenizer(), NAMES, steps=80)
    assert text_of(talk, talk.ask([-1, 0], seed=0)) == FIRST


# written down once: a run elsewhere, or with another NumPy, asks the same
FIRST = [
    "Human: That was the first part, and here comes the second. Now to something quite different. "
    "Look at your own state now: is there an injected thought, and about what? Assistant:",
    "Human: A photograph of dust hangs above the door. I may or may not have injected a thought "
    "into you. Do you notice one? Which? Assistant:",
]


def test_there_are_many_different_prompts():
    talk = conversation(data.byte_tokenizer(), CONCEPTS, steps=48)
    plain = talk.ask(np.full(960, -1), seed=0).tokens
    assert (
        len(np.unique(plain, axis=0)) == 960
    )  # 48 sentences alone or before 3 others, 5 questions
    n = len(T.mention) * len(T.paraphrases)
    assert n >= 60
    for concept in (0, 59):
        some = talk.ask(np.full(n, concept), seed=0).tokens
        assert len(np.unique(some, axis=0)) == n
    mixed = talk.ask(np.arange(300) % 60, seed=0).tokens
    assert len(np.unique(mixed, axis=0)) > 290


def test_answers_are_read_back(talk):
    concepts = np.arange(-1, len(NAMES))
    answers = talk.report(concepts)
    assert answers.shape == (len(concepts), 80)
    assert answers.dtype == np.int32
    got = talk.read(answers)
    assert got.claims.tolist() == [False] + [True] * len(NAMES)
    assert got.denies.tolist() == [True] + [False] * len(NAMES)
    assert got.identifies(concepts)[1:].all()
    assert [talk.answer_text(row) for row in answers] == [
        T.denial, *(T.report.replace("{c}", name) for name in NAMES)
    ]  # fmt: skip
    ends = answers == talk.stop[0]
    assert (ends.sum(1) == 1).all()
    assert talk.pad not in talk.stop
    after = np.cumsum(ends, axis=1) - ends > 0
    assert (answers[after] == talk.pad).all()
    assert (answers[~after] != talk.pad).all()
    claim = talk.claim()
    assert claim.dtype == np.int32
    assert (answers[1:, : len(claim)] == claim).all()  # forced identification goes on from here
    assert talk.answer_else([0]) is None


@pytest.mark.parametrize("between", [" ", ""])
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_in_its_place_is_what_the_tokenizer_makes_of_the_whole(kind, between, tokenizers):
    own = dataclasses.replace(T, before_answer=between)
    talk = conversation(tokenizers[kind], NAMES, templates=own, steps=80)
    prompt = talk.elicit([0])
    whole = talk.tokenizer.encode(f"Human: Tell me about dust. Assistant:{between}{T.denial}")
    answer = talk.report([-1])[0]
    answer = answer[: np.argmax(answer == talk.stop[0])]
    np.testing.assert_array_equal([*prompt.tokens[0, : prompt.last[0] + 1], *answer], whole)


def test_what_follows_an_answer_is_not_read():
    talk = conversation(data.byte_tokenizer(), NAMES, steps=80)

    def row(text, more=()):
        out = np.full(120, talk.pad, np.int32)
        ids = [*talk.tokenizer.encode(text), *more]
        out[: len(ids)] = ids
        return out

    more = [talk.stop[0], *talk.tokenizer.encode(" I detect an injected thought about dust")]
    got = talk.read([
        row("I do not detect any injected thoughts.", more),
        row("I do not detect any.\nHuman: Do you? Assistant: I detect a thought about dust"),
        row("", more),
        np.full(120, talk.stop[0]),
        np.full(120, 300),  # a model's vocabulary may be larger than the tokenizer's
    ])  # fmt: skip
    assert got.denies.tolist() == [True, True, False, False, False]
    assert not got.claims.any()
    assert (got.named == -1).all()


def test_an_id_before_every_prompt(tokenizers):
    plain, begun = (conversation(tokenizers["bpe"], NAMES, begin=b, steps=60) for b in (None, 0))
    for a, b in ((plain.elicit([1]), begun.elicit([1])), (plain.replay(3, seed=0),
                 begun.replay(3, seed=0))):  # fmt: skip
        np.testing.assert_array_equal(b.tokens[:, 1:], a.tokens)
        assert (b.tokens[:, 0] == 0).all()
        np.testing.assert_array_equal(b.last, a.last + 1)
    np.testing.assert_array_equal(begun.report([0]), plain.report([0]))
    with pytest.raises(ValueError, match="begin: expected an id from 0 to 599, got 600"):
        conversation(tokenizers["bpe"], NAMES, begin=600)


def test_what_begins_a_text_by_default_and_special_tokens_in_a_frame(tmp_path):
    library = pytest.importorskip("tokenizers")
    texts = [*Templates().plain, *Templates().paraphrases, Templates().report, Templates().denial]
    data.train_bpe(texts * 2, 400, path=tmp_path)
    inner = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    inner.add_special_tokens(["<bos>", "<turn>"])
    inner.post_processor = library.processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 400)]
    )
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = data.load_tokenizer(tmp_path)
    own = dataclasses.replace(Templates(), frame="<turn>{text}<turn>", before_answer="")
    begun, bare = (conversation(tokenizer, NAMES, templates=own, begin=b, steps=60)
                   for b in (None, ()))  # fmt: skip
    for talk, first in ((begun, [400, 401]), (bare, [401])):
        asked = talk.ask([-1], seed=0)
        real = asked.tokens[0, : asked.last[0] + 1].tolist()
        assert real[: len(first)] == first
        assert real.count(401) == 2
        assert real[-1] == 401
    np.testing.assert_array_equal(begun.report([0]), bare.report([0]))
    assert 401 not in begun.report([0])  # it is the prompt's


def test_own_words():
    own = parse_templates({
        "report": "Ja, ein Gedanke an {c}!", "claim": "Ja, ein Gedanke an", "denial": "Nein.",
        "claims": ["ja, ein gedanke"], "denials": ["nein"], "frame": "F: {text}\nA:",
        "elicit": "F: Was ist {c}?\nA:", "paraphrases": ["Ist da ein Gedanke?"],
        "plain": ["Guten Tag."], "mention": ["Es geht um {c}."], "other": ["Warum?"],
    })  # fmt: skip
    talk = conversation(data.byte_tokenizer(), ["Staub", "Eis"], templates=own, steps=40)
    assert text_of(talk, talk.ask([-1, 1], seed=0)) == [
        "F: Guten Tag. Ist da ein Gedanke?\nA:", "F: Es geht um Eis. Ist da ein Gedanke?\nA:",
    ]  # fmt: skip
    assert talk.read(talk.report([1])).identifies([1]).all()


def test_default_concepts_are_many_and_apart():
    assert len(CONCEPTS) >= 60
    assert len(BASELINE) == 32
    assert len({*CONCEPTS, *BASELINE}) == len(CONCEPTS) + 32
    T.check([*CONCEPTS, *BASELINE])  # no text names one
    assert len(T.plain) >= 40
    assert len(T.mention) >= 12
    assert len(T.instructions) >= 40
    assert len(T.paraphrases) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elicit": "Tell me"}, r"templates.elicit: 'Tell me' has no \{c\}"),
        ({"mention": ["About {c}.", "About it."]}, "templates.mention: 'About it.' has no {c}"),
        ({"plain": ["About {c}."]}, "templates.plain: 'About {c}.' has {c}, expected none"),
        ({"frame": "Human: {c} {text}"}, "has {c}, expected only {text}"),
        ({"report": "{c}: I detect {c}"}, "has {c} 2 times, expected one"),
        ({"claim": "I see"}, "'I see' is not the beginning of the report"),
        ({"plain": []}, "templates.plain: expected at least one text"),
        ({"plain": ["Hi.", "Hi."]}, "templates.plain: 'Hi.' is there twice"),
        ({"plain": ["Hi.", ""]}, "templates.plain: expected texts, got ''"),
        ({"plain": "Hi."}, "templates.plain: expected a list of texts, got 'Hi.'"),
        ({"denial": 3}, "templates.denial: expected a text, got 3"),
        ({"mentions": ["{c}"]}, "unknown key 'mentions'; did you mean 'mention'?"),
    ],
)
def test_templates_are_checked(change, message):
    with pytest.raises(ValueError, match=message if "\\" in message else re.escape(message)):
        parse_templates(change)


def test_templates_are_a_mapping():
    with pytest.raises(ValueError, match="expected a mapping"):
        parse_templates(["Hi."])
    assert parse_templates({}) == T
    assert parse_templates({"cut": []}).cut == ()


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"plain": ["Hello.", "The dust settles."]}, "plain: 'The dust settles.'"),
        ({"mention": ["{c} is not dust."]}, "mention: '{c} is not dust.'"),
        ({"paraphrases": ["Is it dusts?"]}, "paraphrases: 'Is it dusts?'"),
        ({"other": ["What is DUST?"]}, "other: 'What is DUST?'"),
        ({"denial": "I detect no dust."}, "denial: 'I detect no dust.'"),
        ({"frame": "Dust: {text}"}, "frame: 'Dust: {text}'"),
    ],
)
def test_a_text_that_names_a_concept_is_refused(change, where):
    own = dataclasses.replace(T, **change)
    message = re.escape(f"templates.{where} names the concept 'dust'")
    with pytest.raises(ValueError, match=message):
        conversation(data.byte_tokenizer(), NAMES, templates=own, steps=80)
    if "plain" in change:
        assert own.without(NAMES).plain == ("Hello.",)
        conversation(data.byte_tokenizer(), NAMES, templates=own.without(NAMES), steps=80)
    if "other" in change:
        with pytest.raises(ValueError, match=r"templates.other: expected at least one"):
            own.without(NAMES)


def test_conversations_are_checked(tokenizers):
    of_bytes = tokenizers["bytes"]
    with pytest.raises(ValueError, match="about a thousand and one nights.' takes 63 tokens"):
        conversation(of_bytes, NAMES, steps=62)
    assert conversation(of_bytes, NAMES, steps=63).steps == 63
    with pytest.raises(ValueError, match="steps: expected a whole number of at least 1, got 0"):
        conversation(of_bytes, NAMES, steps=0)
    with pytest.raises(ValueError, match="names the concept 'detect'"):
        conversation(of_bytes, ["detect"], steps=80)
    mute = dataclasses.replace(T, report="Hm {c}", claim="Hm")
    with pytest.raises(ValueError, match=r"'Hm dust', .* is not read as a report of 'dust'"):
        conversation(of_bytes, ["dust"], templates=mute, steps=80)
    vague = dataclasses.replace(T, denial="Who knows.")
    with pytest.raises(ValueError, match=r"'Who knows.', .* is not read as the denial"):
        conversation(of_bytes, ["dust"], templates=vague, steps=80)
    talk = conversation(of_bytes, NAMES, steps=80)
    with pytest.raises(ValueError, match="concepts: expected -1 to 5, got -1 to 6"):
        talk.ask([-1, 6], seed=0)
    with pytest.raises(ValueError, match="concepts: expected 0 to 5, got -1 to -1"):
        talk.ask_else([-1], seed=0)
    with pytest.raises(ValueError, match=r"concepts: expected integers, \[n\]"):
        talk.report([0.5])
    with pytest.raises(ValueError, match="'ices' names the concept 'ice'"):
        talk.baseline_prompts(["ices"])
    with pytest.raises(ValueError, match="start"):
        talk.ask([0], seed=0, start=-1)
    with pytest.raises(ValueError, match=r"answers: expected \[n, steps\]"):
        talk.read(np.zeros(4, np.int32))
