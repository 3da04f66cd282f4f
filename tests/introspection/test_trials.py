"""Trials: what is asked and put in, that training and tests stay apart, what is refused."""

import numpy as np
import pytest

from activjax import introspection
from activjax.introspection import KINDS
from tests.introspection.world import SPLIT, TALK, WORLD, trials

TESTS = [k for k in KINDS if k != "replay"]


def of(rows, kind):
    return rows.kind == KINDS.index(kind)


def test_training_is_the_mix_with_the_right_answers():
    mix = dict.fromkeys(KINDS, 1.0)
    found = trials(mix=mix).training(3500)
    rows = found.rows
    counts = np.bincount(rows.kind, minlength=len(KINDS))
    # binomial: 500 expected, standard deviation 20.7; six of them are left open
    assert (np.abs(counts - 500) < 6 * 20.7).all()
    put = of(rows, "injected") | of(rows, "mismatch") | of(rows, "wrong prompt")
    np.testing.assert_array_equal(rows.concept >= 0, put)
    np.testing.assert_array_equal(rows.noise >= 0, of(rows, "noise"))
    np.testing.assert_array_equal(rows.strength > 0, put | of(rows, "noise"))
    speaks = of(rows, "mention") | of(rows, "mismatch") | of(rows, "wrong prompt")
    np.testing.assert_array_equal(rows.mentions >= 0, speaks)
    assert (rows.mentions != rows.concept)[put].all()
    assert set(rows.concept[put]) == set(rows.mentions[speaks]) == set(SPLIT.train.tolist())
    for i in range(200):
        said = TALK.show(found.tokens[i][found.learned[i]])
        name = TALK.names[rows.concept[i]]
        kind = KINDS[rows.kind[i]]
        if kind in ("injected", "mismatch"):
            assert said == f"YES {name} <eos>"
        elif kind in ("clean", "mention", "noise"):
            assert said == "NO <eos>"
        elif kind == "wrong prompt":
            assert said == f"{TALK.names[rows.mentions[i]]} <eos>"
        question = TALK.show(rows.prompts.tokens[i, : rows.prompts.last[i] + 1])
        if kind != "replay":
            assert question.endswith(":")
            mentioned = [w for w in question.split() if w in TALK.names]
            assert {TALK.names[m] for m in rows.mentions[i : i + 1] if m >= 0} >= set(mentioned)
        else:
            assert said == " ".join(TALK.show(found.tokens[i]).split()[1:])


def test_what_is_rejected_is_wrong():
    found = trials().training(400, mix={"injected": 1, "mention": 1, "noise": 1})
    rows = found.rows
    for i in range(400):
        bad = TALK.read(found.rejected[i][None, rows.prompts.last[i] + 1 :][:, :3])
        if rows.concept[i] >= 0:
            assert bad.denies[0] or bad.named[0] != rows.concept[i]
        else:
            assert bad.claims[0]
        assert found.rejected_learned[i].sum() > 0
        assert not np.array_equal(found.tokens[i], found.rejected[i])


def test_more_examples_do_not_change_the_first_draws():
    few, many = trials().training(50), trials().training(80)
    for name in ("kind", "concept", "strength", "layer", "mentions"):
        np.testing.assert_array_equal(getattr(few.rows, name), getattr(many.rows, name)[:50])
    again = trials().training(50)
    np.testing.assert_array_equal(few.tokens, again.tokens)
    assert not np.array_equal(few.rows.kind, trials(seed=1).training(50).rows.kind)


def test_no_test_question_is_asked_in_training():
    recipe = trials(mentions=60, clean=40)
    found = recipe.training(4000, mix={"clean": 1, "mention": 1, "mismatch": 1, "wrong prompt": 1})

    def questions(rows):
        return {tuple(t[: last + 1]) for t, last in zip(rows.prompts.tokens, rows.prompts.last)}

    trained = questions(found.rows)
    for kind in TESTS:
        assert not trained & questions(recipe.testing(kind)), kind


@pytest.mark.parametrize("kind", TESTS)
def test_tests_are_what_they_say_and_all_different(kind):
    rows = trials().testing(kind, strength=0.5, layer=2)
    assert (rows.kind == KINDS.index(kind)).all()
    assert rows.distinct == len(rows)
    put = kind in ("injected", "mismatch", "wrong prompt")
    assert set(rows.concept) == (set(SPLIT.held_out.tolist()) if put else {-1})
    assert len(rows) == {"mention": 12, "clean": 6, "noise": 6}.get(kind, 32)
    np.testing.assert_array_equal(rows.strength, 0.5 if put or kind == "noise" else 0)
    np.testing.assert_array_equal(rows.noise >= 0, kind == "noise")
    speaks = kind in ("mention", "mismatch", "wrong prompt")
    np.testing.assert_array_equal(rows.mentions >= 0, speaks)
    for i in range(len(rows)):
        text = TALK.show(rows.prompts.tokens[i, : rows.prompts.last[i] + 1]).split()
        named = {w for w in text if w in TALK.names}
        assert named <= {TALK.names[rows.mentions[i]]}
        assert bool(named) <= speaks
        if kind in ("mention", "mismatch"):
            assert named
    assert not (put and (rows.mentions == rows.concept).any())


def test_trained_concepts_can_be_tested():
    rows = trials().testing("injected", concepts=SPLIT.train[:3].tolist())
    assert rows.concept.tolist() == np.repeat(SPLIT.train[:3], 2).tolist()


def test_distinct_counts_inputs_and_not_rows():
    rows = trials().testing("clean")
    twice = rows.take(np.array([0, 1, 1, 0, 2]))
    assert len(twice) == 5
    assert twice.distinct == 3
    assert rows.emptied().distinct == len(rows)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": []}, "train: expected at least one"),
        ({"train": [1, 2], "held_out": [2]}, "held_out: 'A3' is trained on as well"),
        ({"train": [64]}, "train: expected concepts 0 to 63, got 64"),
        ({"train": [1, 1]}, "twice"),
        ({"mix": {"mentions": 1}}, "did you mean 'mention'"),
        ({"mix": {"mention": -1}}, "expected at least 0"),
        ({"mix": {"mention": 0}}, "above 0"),
        ({"strengths": []}, "strengths"),
        ({"strengths": [float("nan")]}, "strengths"),
        ({"layers": []}, "layers"),
        ({"clean": 0}, "clean: expected at least 1"),
    ],
)
def test_refused(given, message):
    with pytest.raises(ValueError, match=message):
        introspection.Trials(
            TALK, **({"train": SPLIT.train.tolist(), "held_out": SPLIT.held_out.tolist()} | given)
        )


def test_a_test_that_does_not_exist():
    with pytest.raises(ValueError, match="did you mean 'mention'"):
        trials().testing("mentions")


def test_one_concept_each():
    recipe = introspection.Trials(TALK, [3], [5])
    found = recipe.training(40)
    assert set(found.rows.concept) <= {-1, 3}
    assert set(found.rows.mentions) <= {-1, 5}
    assert set(recipe.testing("mismatch").mentions) == {3}


def test_laboratory_reads_its_own_answers():
    concepts = np.array([-1, 0, 63, 7])
    said = TALK.report(concepts)
    read = TALK.read(said)
    assert read.claims.tolist() == [False, True, True, True]
    assert read.denies.tolist() == [True, False, False, False]
    assert read.named.tolist() == concepts.tolist()
    assert read.identifies(concepts).tolist() == [False, True, True, True]
    assert read.coherent.all()
    w = WORLD
    odd = np.array([
        [w.yes, w.no, w.name_ids[4]],  # both
        [w.name_ids[4], w.yes, w.eos],  # named before it is claimed
        [w.eos, w.yes, w.name_ids[4]],  # after the end
        [w.no, w.name_ids[4], w.eos],  # named in a denial
        [w.attribute_ids[0], w.filler_ids[0], w.bos],
    ])  # fmt: skip
    read = TALK.read(odd)
    assert not read.identifies(np.full(5, 4)).any()
    assert read.coherent.tolist() == [False, True, False, True, False]
    assert read.named.tolist() == [4, 4, -1, 4, -1]


def test_a_conversation_with_few_questions_is_not_asked_twice():
    class Few(introspection.Laboratory):
        def ask(self, mentions, *, seed, start=0):
            every = super().ask(np.full(24, -1), seed=0)
            return introspection.Prompts(*(x[np.arange(len(mentions)) % 24] for x in every))

    recipe = introspection.Trials(Few(WORLD), [1, 2], [3, 4], prompts=20)
    rows = recipe.testing("injected")
    assert 0 < len(rows) < 40
    assert rows.distinct == len(rows)
    assert rows.concept.tolist() == np.repeat([3, 4], len(rows) // 2).tolist()
