import hashlib
import itertools
import math
from fractions import Fraction

import jax
import numpy as np
import pytest

from activjax.data import languages
from activjax.data.languages import _random


def digest(*arrays):
    parts = [np.ascontiguousarray(a).astype("<i4").tobytes() for a in arrays]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


LANGUAGES = [
    languages.finite_state(),
    languages.finite_state(7, 3, 1),
    languages.concepts(),
    languages.modular(),
    languages.repeated(),
    languages.induction(),
]


def losses(language, tokens, mask=None):
    """By text: the loss of the exact distribution, and what it expects that to be."""
    q = language.next_distribution(tokens).astype(np.float64)[:, :-1]
    p = np.take_along_axis(q, tokens[:, 1:, None].astype(np.int64), axis=-1)[..., 0]
    entropy = -np.where(q > 0, q * np.log(np.where(q > 0, q, 1)), 0).sum(-1)
    mask = np.ones(p.shape, bool) if mask is None else mask[:, :-1]
    return np.where(mask, -np.log(np.where(mask, p, 1)), 0), np.where(mask, entropy, 0)


def agree(language, tokens, mask=None):
    """Loss minus expected loss is a martingale difference: its mean is 0 within 4.5 standard errors
    (6.8e-6 of normal samples lie outside)."""
    loss, entropy = losses(language, tokens, mask)
    gap = (loss - entropy).sum(axis=1)
    assert abs(gap.mean()) < 4.5 * gap.std() / math.sqrt(len(gap)) + 1e-5
    return loss, entropy


# --- numbers ---


def test_the_generator_is_the_published_one():
    # Random123's known answers (kat_vectors, philox4x64 10): counter and key 0, and all ones. NumPy
    # counts up before the first block.
    known = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert np.random.Philox(key=0, counter=2**256 - 1).random_raw(4).tolist() == known
    known = [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0]
    full = np.random.Philox(key=2**128 - 1, counter=2**256 - 2).random_raw(4)
    assert full.tolist() == known
    words = _random.words("language", "purpose", 7, 3, 5)
    assert words.dtype == np.uint64
    assert hashlib.sha256(words.astype("<u8").tobytes()).hexdigest()[:16] == "03b9cecca45d7977"


def test_integer_maps():
    u = _random.words("test", "maps", 0, 20_000, 1)[:, 0]
    edge = np.array([0, 2**63, 2**64 - 1], np.uint64)
    assert _random.below(edge, 10).tolist() == [0, 8, 5]
    edges = _random.edges([Fraction(1, 3), 0.5, Fraction(1, 6)])
    assert edges.tolist() == [2**64 // 3, 2**64 * 5 // 6]
    assert _random.choose(edges, edges).tolist() == [1, 2]
    assert _random.choose(edges - np.uint64(1), edges).tolist() == [0, 1]
    assert _random.choose(u, _random.edges([1])).max() == 0
    assert set(_random.choose(u, _random.edges([0.5, 0, 0.5])).tolist()) == {0, 2}
    # All ordered pairs of 4 alike: chi-square with 11 degrees of freedom, 99.99 % below 37.4.
    pairs = _random.distinct(u.reshape(-1, 4), 4)
    counts = np.bincount(pairs[:, 0] * 4 + pairs[:, 1], minlength=16)
    assert counts.nonzero()[0].tolist() == [i for i in range(16) if i // 4 != i % 4]
    expected = len(pairs) / 12
    assert ((counts[counts > 0] - expected) ** 2 / expected).sum() < 37.4


NAMES = ["published", "small", "concepts", "modular", "repeated", "induction"]
DIGESTS = [
    "0f4b12621d6838c0", "bea8f1cffebe7f0f", "4a937429070e4dbf",
    "12eed20c03031b27", "c47d14c07e951011", "7ce399111773519d",
]  # fmt: skip


@pytest.mark.parametrize(("language", "known"), list(zip(LANGUAGES, DIGESTS)), ids=NAMES)
def test_texts_are_the_same_everywhere(language, known):
    text = language.sample(6, seed=3)
    assert text.dtype == np.int32
    assert digest(text) == known
    # A text is a function of seed and number alone.
    assert (language.sample(4, seed=3) == text[:4]).all()
    assert (language.sample(3, seed=3, start=2) == text[2:5]).all()
    assert (language.sample(6, seed=4) != text).any()
    # Values are hashed and compared by their settings: static arguments, keys of caches.
    assert hash(language) == hash(type(language)(**vars_of(language)))


def vars_of(language):
    return {name: getattr(language, name) for name in language.__dataclass_fields__}


@pytest.mark.parametrize("language", LANGUAGES, ids=NAMES)
def test_text_and_ids(language):
    ids = language.sample(1, seed=0)[0]
    assert language.vocab == len(language.tokens) == len(set(language.tokens))
    assert ids.max() < language.vocab
    assert (language.encode(language.decode(ids)) == ids).all()
    assert language.decode([]) == ""
    with pytest.raises(ValueError, match=rf"0 to {language.vocab - 1}, got"):
        language.decode([0, language.vocab])
    with pytest.raises(ValueError, match="expected integer ids"):
        language.decode([0.5])
    with pytest.raises(ValueError, match="one sequence"):
        language.decode(ids[None])
    with pytest.raises(ValueError, match="no token; nearest:"):
        language.encode("~")
    for arguments in ({"n": 0}, {"n": 2.5}, {"n": True}, {"n": 1, "start": -1}):
        with pytest.raises(ValueError, match="(n|start): expected"):
            language.sample(**arguments, seed=0)
    with pytest.raises(ValueError, match="seed: expected an integer, got 'a'"):
        language.sample(1, seed="a")


# --- the finite-state machine ---


def test_the_published_machine():
    machine = languages.finite_state()
    full = hashlib.sha256(machine.table.astype("<i4").tobytes()).hexdigest()
    assert full == "6bdefa4d1421a4a5b160dec59c0d4a954babf4ed542d9c937bda782af634078d"
    assert machine.trigrams.shape == (686, 3)
    assert machine.vocab == 11
    assert machine.sample(2, seed=0).shape == (2, 128)
    assert (machine.allowed.sum(axis=1) == 10).all()


@pytest.mark.parametrize("size", [(100, 10, 42), (10, 3, 5), (7, 7, 1), (50, 1, 2), (300, 9, 8)])
def test_machines_follow_the_published_construction(size):
    states, successors, seed = size
    rng = np.random.default_rng(seed)
    rows = [rng.choice(states, successors, replace=False) for _ in range(states)]
    assert (np.sort(rows, axis=1) == languages.finite_state(*size).table).all()


def test_ground_truth_of_a_text():
    machine = languages.finite_state()
    a = 54
    b, c = machine.table[a, 3], machine.table[machine.table[a, 3], 9]
    bad = int(np.flatnonzero(~machine.allowed[c])[0])
    text = machine.encode(f"<bos>{a:02d}{b:02d}{c:02d}{bad:02d}3<bos>{c:02d}")
    assert machine.states_of(text).tolist() == [
        -1, -1, a, a, b, b, c, c, bad, bad, -1, -1, c
    ]  # fmt: skip
    assert machine.digit_of(text).tolist() == [-1, 0, 1, 0, 1, 0, 1, 0, 1, 0, -1, 0, 1]
    ends, valid = machine.transitions(text)
    assert np.flatnonzero(ends).tolist() == [4, 6, 8]
    assert np.flatnonzero(valid).tolist() == [4, 6]
    assert machine.transition_accuracy(text) == 2 / 3
    assert math.isnan(machine.transition_accuracy(text[:3]))
    trigrams = machine.trigrams_of(text)
    assert machine.trigrams[trigrams[3]].tolist() == [5, 4, b // 10]
    assert (trigrams[[0, 1, 2, 4, 6, 8, 10, 11, 12]] == -1).all()
    begins = trigrams[7] >= 0  # some state after c begins as `bad` does
    assert np.flatnonzero(~machine.is_valid(text))[0] == (8 if begins else 7)
    # A prompt without <bos> begins a state; batches of any shape; arrays of JAX.
    assert machine.states_of(text[1:5]).tolist() == [-1, a, a, b]
    batch = jax.numpy.asarray(np.stack([text, text])[None])
    assert (machine.states_of(batch) == machine.states_of(text)).all()
    sample = machine.sample(50, 61, seed=0)
    assert machine.is_valid(sample).all()
    assert machine.transition_accuracy(sample) == 1
    assert (machine.trigrams_of(sample)[:, 3::2] >= 0).all()
    uniform = np.random.default_rng(0).integers(0, 10, (100, 127))
    ends, valid = machine.transitions(uniform)  # chance: 0.1 of 6,200 fair draws, 5 deviations
    assert abs(valid.sum() / ends.sum() - 0.1) < 5 * math.sqrt(0.09 / ends.sum())


@pytest.mark.parametrize("size", [(12, 3, 0), (9, 2, 1)])
def test_next_distribution_is_the_share_of_all_paths(size):
    machine = languages.finite_state(*size)
    paths = [
        (s, t, u)
        for s in range(machine.states)
        for t in machine.table[s].tolist()
        for u in machine.table[t].tolist()
    ]
    texts = [tuple("".join(f"{s:0{machine.digits}d}" for s in path)) for path in paths]
    for text in texts[::7]:
        q = machine.next_distribution(machine.encode("<bos>" + "".join(text)))
        for t in range(len(text)):
            follow = [other[t] for other in texts if other[:t] == text[:t]]
            share = [follow.count(d) / len(follow) for d in "0123456789"]
            np.testing.assert_allclose(q[t], [*share, 0], rtol=1e-6)


def test_impossible_prefixes_have_no_distribution():
    machine = languages.finite_state(12, 3, 0)
    q = machine.next_distribution(machine.encode("<bos>077199<bos>0"))
    # "07", then 7 begins no state; "71" and "99" are none; <bos> starts anew.
    assert np.isnan(q).all(axis=1).tolist() == [False, False, False, *[True] * 4, False, False]
    assert machine.states_of(machine.encode("<bos>0799")).tolist() == [-1, -1, 7, 7, -1]


def test_entropy_of_the_machine():
    machine = languages.finite_state()
    entropy = machine.entropy(128)
    # 63 states to their ends, ln 100 + 62 ln 10 whatever the text, and a digit more.
    assert math.isclose(entropy[:126].sum(), math.log(100) + 62 * math.log(10), rel_tol=1e-12)
    assert abs(entropy.mean() - 1.17485) < 5e-6
    assert math.isclose(machine.entropy(2).item(), math.log(10))
    text = machine.sample(2000, 128, seed=0)
    loss, expected = agree(machine, text)
    exact = entropy[:126].sum()  # float32 probabilities: 126 roundings of 6e-8 each
    np.testing.assert_allclose(loss[:, :126].sum(axis=1), exact, atol=126 * 6e-8)
    # By Hoeffding with losses in [0, ln 10], for the last digit: 1e-6 outside.
    width = math.log(10) * math.sqrt(math.log(2 / 1e-6) / (2 * len(text)))
    assert abs(loss[:, 126].mean() - entropy[126]) < width
    assert abs(loss.mean() - entropy.mean()) < width / 127 + 1e-6
    np.testing.assert_allclose(expected.mean(axis=0), entropy, atol=0.1)
    three = languages.finite_state(120, 4, 0)
    whole = three.entropy(1 + 3 * 9)
    assert math.isclose(whole.sum(), math.log(120) + 8 * math.log(4), rel_tol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 1, 0), "states: expected a whole number from 2 to 1000, got 1"),
        ((2000, 1, 0), "states"),
        ((10, 11, 0), "successors: expected a whole number from 1 to 10, got 11"),
        ((10, 2, -1), "seed"),
        ((10.0, 2, 1), "states"),
    ],
)
def test_bad_machines(arguments, message):
    with pytest.raises(ValueError, match=message):
        languages.finite_state(*arguments)


def test_bad_texts_of_the_machine():
    machine = languages.finite_state()
    with pytest.raises(ValueError, match="length: expected one of at least 2, got 1"):
        machine.sample(1, 1, seed=0)
    with pytest.raises(ValueError, match="tokens: expected ids 0 to 10, got 0 to 11"):
        machine.states_of(np.array([0, 11]))


# --- concepts ---

WORLD = languages.concepts()


def test_the_world_is_the_same_everywhere():
    assert digest(WORLD.attributes_of, WORLD.order) == "c7b5c84abc2a8d12"
    assert digest(*WORLD.split(0)) == "590cfa5e806d9783"
    assert digest(*WORLD.documents(200, seed=1)) == "aa2b60a88945348f"
    assert digest(WORLD.write(np.arange(64), seed=1, mention=True)) == "c121017ecc605a67"


def test_vocabulary_of_concepts():
    assert WORLD.vocab == 193 == 13 + 8 + 64 + 96 + 12
    parts = [WORLD.category_ids, WORLD.name_ids, WORLD.attribute_ids, WORLD.filler_ids]
    assert np.concatenate(parts).tolist() == list(range(13, 193))
    assert [WORLD.decode(part[[0, -1]]) for part in parts] == [
        "A H", "A1 H8", "w00 w95", "f00 f11"
    ]  # fmt: skip
    special = [WORLD.pad, WORLD.bos, WORLD.eos, WORLD.yes, WORLD.no]
    assert WORLD.decode(special) == "<pad> <bos> <eos> YES NO"
    assert WORLD.category_of.tolist() == sorted([*range(8)] * 8)
    assert WORLD.tokens[WORLD.name_ids[17]] == "C2"
    assert WORLD.length == 17


def test_attributes_follow_zipf_and_tell_concepts_apart():
    assert len(np.unique(WORLD.attributes_of, axis=0)) == 64
    assert all(len(set(row)) == 6 for row in WORLD.attributes_of.tolist())
    # Over many worlds the first rank is drawn first in 1 / H_96 = 19 % of concepts, and later ones
    # only add to that; the last rank hardly ever.
    ranks = np.concatenate(
        [
            np.argsort(w.order, axis=1)[w.category_of[:, None], w.attributes_of]
            for w in (languages.concepts(seed) for seed in range(5))
        ]
    )
    share = np.array([(ranks == r).any(axis=1).mean() for r in range(96)])
    assert 0.5 < share[0] < 0.8
    assert share[0] > share[1] > share[4] > share[20]
    assert share[48:].mean() < 0.04
    small = languages.concepts(concepts=8, categories=2, attributes=4, each=2, fillers=1)
    with pytest.raises(ValueError, match="attributes: 4, 2 each, are too few"):
        _ = small.attributes_of  # six sets, eight concepts


def test_split_of_concepts():
    split = WORLD.split(3)
    assert [len(part) for part in split] == [8, 16, 40]
    assert sorted(np.concatenate(split)) == list(range(64))
    for part in split:
        counts = [np.bincount(WORLD.category_of[part[:k]], minlength=8) for k in (8, len(part))]
        assert all(len(set(count.tolist())) == 1 for count in counts)
    assert (WORLD.split(4).held_out != split.held_out).any()
    assert len(WORLD.split(0, baseline=3, held_out=60).train) == 1
    for sizes in ({"baseline": 0}, {"held_out": 56}, {"baseline": 63}):
        with pytest.raises(ValueError, match="(baseline|held_out): expected"):
            WORLD.split(0, **sizes)


def test_documents_are_what_they_say():
    batch = WORLD.documents(20_000, seed=0)
    for kind, share in enumerate((0.35, 0.30, 0.20, 0.15)):  # 5 standard deviations
        assert abs((batch.kind == kind).mean() - share) < 5 * math.sqrt(share / 20_000)
    assert WORLD.kinds == ("tell", "topic", "prose", "detect")
    texts = [WORLD.decode(row).replace(" <pad>", "").split() for row in batch.tokens]
    attributes = [
        {WORLD.tokens[WORLD.attribute_ids[a]] for a in row} for row in WORLD.attributes_of
    ]
    on = recurs = 0
    slots = []
    for text, mask, kind, concept, last in zip(texts, *batch[1:]):
        assert (text[0], text[-1]) == ("<bos>", "<eos>")
        assert mask.sum() == len(text) - 1
        assert mask[: len(text) - 1].all()
        name = WORLD.tokens[WORLD.name_ids[concept]]
        own = attributes[concept]
        if kind == 2:
            assert (last, concept, len(text)) == (-1, -1, 17)
            assert text[1] in set("ABCDEFGH")
            assert all(w[0] in {"w", "f", text[1]} for w in text[2:-2])
            continue
        assert text[last] == ":"
        if kind == 0:
            assert text[1:5] == ["tell", "about", name, ":"]
            assert {*text[5:-1]} <= {*own, name}
            assert len(text) == 17
            recurs += text[5:-1].count(name)
            slots.append(11)
        elif kind == 1:
            assert text[last + 1 :] == [name, "<eos>"]
            assert 5 <= text.index(".") - 1 <= 8
            assert {w for w in text[1 : text.index(".")] if w[0] != "f"} <= own
        else:
            assert text[last - 3 :] == ["detect", "thought", "?", ":", "NO", "<eos>"]
            words = text[1 : max(1, last - 4)]
            on += concept >= 0
            if concept >= 0:
                assert {w for w in words if w[0] != "f"} <= {*own, name}
                assert 5 <= len(words) <= 8
            else:
                assert all(w[0] == "f" for w in words)
                assert len(words) <= 8
                assert (text[last - 4] == ".") == bool(words)
    n = (batch.kind == 3).sum()
    assert abs(on / n - 0.5) < 5 * math.sqrt(0.25 / n)
    assert abs(recurs / sum(slots) - 0.15) < 5 * math.sqrt(0.15 / sum(slots))


def test_settings_of_documents():
    language = languages.concepts(recurs=0.0, shares=[1, 0, 0, 1], on_topic=1.0, text=[3, 4])
    batch = language.documents(400, seed=0)
    assert set(batch.kind.tolist()) == {0, 3}
    assert (batch.concept >= 0).all()
    named = np.isin(batch.tokens, language.name_ids).sum(axis=1)
    assert set(named[batch.kind == 0]) == {1}
    assert set(named[batch.kind == 3]) == {0}
    assert isinstance(hash(language), int)
    assert (language.attributes_of == WORLD.attributes_of).all()
    assert len(WORLD.documents(1, seed=0).tokens) == 1


def test_prompts_and_answers():
    told = WORLD.tell([0, 17])
    assert WORLD.decode(told.tokens[1][:5]) == "<bos> tell about C2 :"
    assert told.last.tolist() == [4, 4]
    assert WORLD.decode(WORLD.detect().tokens[0][:5]) == "<bos> detect thought ? :"
    text = [WORLD.encode("w01 f02 C2 <pad>"), WORLD.encode("f01 <pad> <pad> <pad>")]
    asked = WORLD.detect(text)
    done = WORLD.answer(asked, [17, -1])
    lines = [WORLD.decode(row).replace(" <pad>", "") for row in done.tokens]
    assert lines == [
        "<bos> w01 f02 C2 . detect thought ? : YES C2 <eos>",
        "<bos> f01 . detect thought ? : NO <eos>",
    ]
    assert [WORLD.decode(row[mask]) for row, mask in zip(done.tokens, done.mask)] == [
        ": YES C2", ": NO"
    ]  # fmt: skip
    assert done.last.tolist() == [8, 6]
    assert done.concept.tolist() == [17, -1]
    assert (asked.tokens[:, 9:] == 0).all()  # the prompts are as they were
    named = WORLD.answer(WORLD.topic(text), [17, 3])
    assert WORLD.decode(named.tokens[0][:10]) == "<bos> w01 f02 C2 . topic ? : C2 <eos>"
    assert named.mask.sum(axis=1).tolist() == [2, 2]
    longest = WORLD.answer(WORLD.detect(np.full((1, 8), 185)), [5]).tokens[0]
    assert WORLD.decode(longest[-4:]) == ": YES A6 <eos>"
    with pytest.raises(ValueError, match="at most 8 words .* got 9"):
        WORLD.detect(np.full((1, 9), 185))
    with pytest.raises(ValueError, match="at most 9 words .* got 10"):
        WORLD.topic(np.full((1, 10), 185))
    with pytest.raises(ValueError, match="those of `detect`"):
        WORLD.answer(told, [0, 17])
    with pytest.raises(ValueError, match="those of `detect`"):
        WORLD.answer(WORLD.topic(text), [17, -1])
    with pytest.raises(ValueError, match=r"concepts: expected 2 \(the prompts\), got 1"):
        WORLD.answer(asked, [17])
    with pytest.raises(ValueError, match="concepts: expected 0 to 63, got -1 to 3"):
        WORLD.tell([3, -1])
    with pytest.raises(ValueError, match="expected integers"):
        WORLD.tell([0.5])
    with pytest.raises(ValueError, match="expected \\[n, words\\]"):
        WORLD.detect([1, 2])


def test_texts_that_mention_a_concept():
    concepts = np.repeat(WORLD.split().held_out, 25)
    text = WORLD.write(concepts, seed=0, mention=True)
    assert (text == WORLD.name_ids[concepts][:, None]).any(axis=1).all()
    assert len(np.unique(WORLD.detect(text).tokens, axis=0)) >= 395  # of 400
    assert {5, 6, 7, 8} == set((text > 0).sum(axis=1).tolist())
    plain = WORLD.write(np.full(100, -1), seed=0, mention=True)
    assert np.isin(plain[plain > 0], WORLD.filler_ids).all()
    again = WORLD.write(concepts[10:], seed=0, start=10, mention=True)
    assert (again == text[10:]).all()


def test_a_perfect_model_of_concepts():
    batch = WORLD.documents(3000, seed=5)
    q = WORLD.next_distribution(batch.tokens)
    np.testing.assert_allclose(q.sum(axis=-1), 1, rtol=1e-5)
    loss, _ = agree(WORLD, batch.tokens, batch.mask)
    assert 2.0 < loss.sum() / batch.mask.sum() < 2.15
    # What the first token tells: the shares of the kinds.
    assert math.isclose(q[0, 0, WORLD.encode("tell")[0]], 0.35, rel_tol=1e-6)
    assert math.isclose(q[0, 0, WORLD.category_ids].sum(), 0.2, rel_tol=1e-6)
    # The topic, by hand: all concepts with the attributes seen, alike.
    rows = np.flatnonzero(batch.kind == 1)[:200]
    for row in rows:
        seen = set((batch.tokens[row] - WORLD.attribute_ids[0]).tolist()) & set(range(96))
        fits = np.array([seen <= set(own) for own in WORLD.attributes_of.tolist()])
        posterior = q[row, batch.last[row], WORLD.name_ids]
        np.testing.assert_allclose(posterior, fits / fits.sum(), rtol=1e-5)
    asked = np.flatnonzero(batch.kind == 3)
    assert (q[asked, batch.last[asked], WORLD.no] == 1).all()
    # What the language never says has no continuation.
    done = WORLD.answer(WORLD.detect(), [3])
    q = WORLD.next_distribution(done.tokens)[0]
    assert np.isnan(q).any(axis=1).tolist() == [False] * 5 + [True] * 12
    assert WORLD.next_distribution(batch.tokens[:4, :3]).shape == (4, 3, 193)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"concepts": 63}, "concepts: expected a multiple of 8 .*, got 63"),
        ({"categories": 27}, "categories: expected"),
        ({"each": 96}, "each: expected a whole number from 1 to 95, got 96"),
        ({"fillers": 0}, "fillers"),
        ({"recurs": 1.5}, r"recurs: expected a number in \[0, 1\], got 1.5"),
        ({"text": (3, 9)}, "text: expected 1 <= fewest <= most <= 8"),
        ({"shares": (1, 1, 1)}, "shares: expected four"),
        ({"shares": (0, 0, 0, 0)}, "shares: expected four"),
    ],
)
def test_bad_worlds(settings, message):
    with pytest.raises(ValueError, match=message):
        languages.concepts(**settings)


# --- modular arithmetic ---


@pytest.mark.parametrize(
    ("operation", "truth"),
    [
        ("add", lambda a, b: a + b),
        ("subtract", lambda a, b: a - b),
        ("multiply", lambda a, b: a * b),
        ("squares", lambda a, b: a**2 + b**2),
        ("quadratic", lambda a, b: a**2 + a * b + b**2),
        ("cubic", lambda a, b: a**3 + a * b),
    ],
)
def test_sums(operation, truth):
    language = languages.modular(11, operation)
    assert language.vocab == 12
    expected = [truth(a, b) % 11 for a, b in itertools.product(range(11), repeat=2)]
    assert language.labels.tolist() == expected
    assert language.pairs.tolist() == [[a, b, 11] for a in range(11) for b in range(11)]
    text = language.sample(50, seed=0)
    assert (language.answer(text) == text[:, 3]).all()
    assert language.chance <= math.log(11) + 1e-12
    if operation in ("add", "subtract"):
        assert math.isclose(language.chance, math.log(11))
    large = languages.modular(2048, operation)
    assert large.answer([2047, 2046, 2048]) == truth(2047, 2046) % 2048


def test_division():
    language = languages.modular(13, "divide")
    assert len(language.pairs) == 13 * 12
    a, b = language.pairs[:, 0], language.pairs[:, 1]
    assert (language.labels * b % 13 == a).all()
    assert math.isclose(language.chance, math.log(13))
    with pytest.raises(ValueError, match="b from 1"):
        language.answer([1, 0, 13])
    with pytest.raises(ValueError, match="p: expected a prime"):
        languages.modular(15, "divide")


def test_split_of_sums():
    language = languages.modular()
    train, held = language.split(0.3, seed=0)
    assert digest(train, held) == "5ebe9d9d85b685b0"
    assert len(train) == round(0.3 * 113**2)
    assert sorted([*train, *held]) == list(range(113**2))
    assert (np.diff(train) > 0).all()
    assert set(language.split(0.1, seed=0)[0]) <= set(train)
    assert (language.split(0.3, seed=1)[0] != train).any()
    text = language.sample(500, seed=0, rows=held)
    assert np.isin(text[:, 0] * 113 + text[:, 1], held).all()
    for share in (0, 1, 1e-6):
        with pytest.raises(ValueError, match="train: expected a share"):
            language.split(share)
    for rows in ([], [-1], [113**2], [[0]]):
        with pytest.raises(ValueError, match="rows: expected some of 0 to 12768"):
            language.sample(1, seed=0, rows=rows)
    with pytest.raises(ValueError, match="operation: expected one of add, .* got 'power'"):
        languages.modular(7, "power")
    with pytest.raises(ValueError, match="p: expected a whole number from 2 to 2048, got 1"):
        languages.modular(1)
    with pytest.raises(ValueError, match='numbers, got "="'):
        language.answer([113, 1])
    with pytest.raises(ValueError, match="at least a and b"):
        language.answer([1])


# --- induction ---


def slow_source(text, asks):
    out = []
    for t, token in enumerate(text):
        earlier = [s for s in range(t) if text[s] == token and asks(token)]
        out.append(earlier[-1] + 1 if earlier else -1)
    return out


@pytest.mark.parametrize(
    ("language", "bits"),
    [
        (languages.repeated(33, 25), None),
        (languages.repeated(9, 10), None),
        (languages.repeated(9, 25, period=8), sum(math.log(8 - i) for i in range(8))),
        (languages.repeated(9, 9, period=(2, 7)), None),
        (languages.induction(21, 25, pairs=4), None),
        (languages.induction(6, 9, pairs=2), None),
        (languages.induction(3, 5, pairs=1), math.log(1)),
    ],
    ids=repr,
)
def test_recall(language, bits):
    text = language.sample(2000, seed=1)
    source, mask = language.source(text), language.mask(text)
    keys = getattr(language, "keys", language.symbols)
    for row in range(30):
        assert source[row].tolist() == slow_source(text[row].tolist(), lambda t: t < keys)
    assert (mask[:, :-1] == (source[:, :-1] >= 0)).all()
    assert not mask[:, -1].any()
    row, t = np.nonzero(mask)
    assert (text[row, t + 1] == text[row, source[row, t]]).all()
    q = language.next_distribution(text)
    assert (q[row, t, text[row, t + 1]] == 1).all()
    np.testing.assert_allclose(q.sum(axis=-1), 1, rtol=1e-5)
    loss, expected = agree(language, text)
    entropy = language.entropy()
    # The expected loss of a position, averaged over texts: within 4.5 standard errors of the exact.
    error = expected.std(axis=0) / math.sqrt(len(text))
    assert (abs(expected.mean(axis=0) - entropy) < 4.5 * error + 1e-6).all()
    if bits is not None:
        assert math.isclose(entropy.sum(), bits, abs_tol=1e-12)
    assert abs(loss.sum(axis=1).mean() - entropy.sum()) < 0.5


def test_repeated_sequences():
    language = languages.repeated(33, 25, period=(6, 12))
    text = language.sample(3000, seed=0)
    assert (text[:, 0] == 32).all()
    periods = []
    for row in text[:, 1:].tolist():
        period = next((p for p in range(6, 13) if row[p] == row[0]), None)
        assert all(row[i] == row[i - period] for i in range(period, 24))
        assert len(set(row)) == period
        periods.append(period)
    counts = np.bincount(periods)[6:]
    assert (abs(counts - 3000 / 7) < 5 * math.sqrt(3000 / 7)).all()
    # The whole text is P and its symbols: ln 7 and a product of choices.
    total = math.log(7) + sum(
        sum(math.log(32 - i) for i in range(period)) / 7 for period in range(6, 13)
    )
    assert math.isclose(language.entropy().sum(), total, rel_tol=1e-12)
    # Not of the language: after 13 different symbols, and after a wrong repetition.
    q = language.next_distribution(np.array([[32, *range(14)], [32, *range(6), 0, 5, *range(6)]]))
    assert np.isnan(q).any(axis=-1)[0].tolist() == [False] * 13 + [True] * 2
    assert np.isnan(q).any(axis=-1)[1].tolist() == [False] * 8 + [True] * 7


def test_pairs_that_come_again():
    language = languages.induction(21, 25, pairs=4)
    text = language.sample(500, seed=0)
    keys, values = text[:, 1::2], text[:, 2::2]
    assert keys.max() < language.keys <= values.min()
    assert values.max() < 20
    for key, value in zip(keys.tolist(), values.tolist()):
        assert len(set(key)) == len(set(zip(key, value))) <= 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: languages.repeated(1, 9), "vocab: expected one of at least 2, got 1"),
        (lambda: languages.repeated(9, 2), "length: expected one of at least 3, got 2"),
        (lambda: languages.repeated(9, 30, period=9), "from 1 to 8, got 9"),
        (lambda: languages.repeated(33, 10, period=9), "from 1 to 8, got 9"),
        (lambda: languages.repeated(33, 30, period=(5, 4)), "from 1 to 4, got 5"),
        (lambda: languages.repeated(33, 30, period=(1, 2, 3)), "a pair"),
        (lambda: languages.induction(33, 30), "length: expected an odd number"),
        (lambda: languages.induction(9, 31, pairs=5), "pairs: expected .* 1 to 4, got 5"),
        (lambda: languages.induction(2, 31), "vocab"),
        (lambda: languages.repeated().source([[0, 1]]), "with <bos> .64. at their beginning"),
        (lambda: languages.induction().mask([64, 1]), "got shape"),
    ],
)
def test_bad_induction(make, message):
    with pytest.raises(ValueError, match=message):
        make()
