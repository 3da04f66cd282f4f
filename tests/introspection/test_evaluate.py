"""Evaluation: every control is there, rates count what they say, answers are the model's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import introspection, models
from activjax.introspection import Condition, Prompts, Readings, Report, Rows, _respond
from tests.introspection.world import MODEL, TALK, bank, params, trials

CONDITIONS = [
    "clean", "mention", "wrong prompt, nothing put in", "injected, held out",
    "injected, trained", "mismatch", "noise", "wrong prompt",
]  # fmt: skip


@pytest.fixture(scope="module")
def report():
    return introspection.evaluate(
        MODEL, params(), bank(), trials(), strengths=(1.0, -2.0, 1e6), chunk=64
    )


def test_controls_cannot_be_left_out(report):
    assert [c.name for c in report][:8] == CONDITIONS
    assert [c.name for c in report] == [*CONDITIONS[:3], *CONDITIONS[3:] * 3]
    with pytest.raises(TypeError, match="controls"):
        introspection.evaluate(MODEL, params(), bank(), trials(), controls=())
    for c in report:
        assert c.rows.distinct == len(c.rows)


def test_negative_and_huge_strengths_have_rates_and_no_nan(report):
    for strength in (-2.0, 1e6):
        for name in CONDITIONS[3:]:
            rate = report.get(name, strength).rate("coherent")
            assert 0 <= rate.low <= rate.value <= rate.high <= 1


def test_the_table_shows_distinct_inputs_and_intervals(report):
    columns, rows = report.table()
    assert columns[4] == "distinct inputs"
    assert all(len(row) == len(columns) for row in rows)
    text = str(report)
    assert all(name in text for name in CONDITIONS)
    assert "by chance: 1.6%" in text
    talk = report.dialogues()
    assert talk.count(">") >= len(rows) - talk.count(">\n")
    assert "nothing" in talk


def test_answers_are_those_of_one_trial_at_a_time(report):
    for name in ("injected, held out", "noise", "clean", "wrong prompt"):
        condition = report.get(name, None if name == "clean" else 1.0)
        rows, i = condition.rows, len(condition.rows) // 2
        vector = introspection.put(
            bank(), *(jnp.asarray(x[i : i + 1]) for x in (rows.concept, rows.noise, rows.strength,
                                                        rows.layer)),
            seed=0, units="resid_norm",
        )  # fmt: skip
        tokens = rows.prompts.tokens[i : i + 1, : rows.prompts.last[i] + 1]
        apply = introspection.inject_vectors(
            MODEL.apply, "blocks/resid_post", vector, layer=1, at="last_prompt"
        )
        edited = dataclasses.replace(MODEL, apply=apply)
        alone = jax.jit(lambda p, t, m=edited: models.generate(
            m, p, t, steps=TALK.steps, stop=TALK.stop, pad=TALK.pad
        ))(params(), tokens)  # fmt: skip
        np.testing.assert_array_equal(alone.tokens[0], condition.answers[i])


def test_a_forced_claim_is_followed_by_what_the_model_says_next(report):
    found = report.get("injected, held out", 1.0)
    rows, i = found.rows, 3
    vector = introspection.vectors_of(bank(), int(rows.concept[i]), 1.0, layer=1)
    prompt = rows.prompts.tokens[i, : rows.prompts.last[i] + 1]
    tokens = np.concatenate([prompt, TALK.claim()])[None]
    apply = introspection.inject_vectors(
        MODEL.apply, "blocks/resid_post", vector, layer=1, at=np.array([len(prompt) - 1])
    )
    edited = dataclasses.replace(MODEL, apply=apply)
    new = jax.jit(lambda p, t: models.generate(
        edited, p, t, steps=TALK.steps, stop=TALK.stop, pad=TALK.pad
    ).tokens)(params(), tokens)  # fmt: skip
    assert TALK.read(np.asarray(new)).named[0] == found.forced[i]


def test_sweeping_strengths_and_layers_compiles_nothing_new():
    def run(layer, strength, seed=0):
        introspection.evaluate(
            MODEL, params(), bank(), trials(), layer=layer, strengths=(strength,), chunk=64
        )

    run(0, 1.0)
    before = _respond._respond._cache_size()
    run(2, 0.3)
    run(1, -4.0)
    assert _respond._respond._cache_size() == before


def rows_of(concept, mentions=None, kind="injected"):
    n = len(concept)
    none = np.full(n, -1, np.int32)
    prompts = Prompts(np.arange(n, dtype=np.int32)[:, None], np.zeros(n, np.int32))
    return Rows(
        prompts, np.full(n, introspection.KINDS.index(kind), np.int32),
        np.asarray(concept, np.int32), none, np.ones(n, np.float32), np.zeros(n, np.int32),
        none if mentions is None else np.asarray(mentions, np.int32),
    )  # fmt: skip


def test_a_report_counts_only_if_affirmed_named_and_claimed_before():
    # concept 3 is put in six times
    readings = Readings(
        claims=np.array([1, 1, 0, 1, 1, 0], bool),
        denies=np.array([0, 1, 1, 0, 0, 0], bool),
        named=np.array([3, 3, 3, 3, 4, -1]),
        ordered=np.array([1, 1, 0, 0, 1, 0], bool),
    )
    c = Condition(
        "injected", 1.0, 0, rows_of([3] * 6), np.zeros((6, 3), np.int32), readings,
        forced=np.array([3, 3, 3, 3, 4, -1]),
    )  # fmt: skip
    assert c.rate("detected")[:1] == (0.5,)
    assert (c.rate("identified").hits, c.rate("identified").n) == (1, 6)
    assert (c.rate("identified if detected").hits, c.rate("identified if detected").n) == (1, 3)
    assert c.rate("forced").hits == 4
    assert c.rate("coherent").hits == 4
    assert c.rate("identified").clusters == 1  # one concept: one unit, however often it is asked
    confusion = Report(TALK, (c,)).confusion("injected")
    assert confusion.shape == (64, 65)
    assert confusion.sum() == 6
    assert (confusion[3, 3], confusion[3, 4], confusion[3, 64]) == (1, 1, 4)


def test_intervals_are_clustered_by_concept():
    """One concept always found, one never, asked 50 times each: two units and not a hundred."""
    hits = np.repeat([True, False], 50)
    found = introspection.rate(hits, np.repeat([0, 1], 50), 100)
    assert (found.low, found.high) == (0.0, 1.0)
    assert found.clusters == 2
    alone = introspection.rate(hits, np.arange(100), 100)
    assert 0.35 < alone.low < 0.45 < 0.55 < alone.high < 0.65


def test_no_hits_have_the_binomial_interval_of_the_clusters():
    found = introspection.rate(np.zeros(300, bool), np.arange(300), 300)
    # Clopper and Pearson at 0: 1 - (alpha / 2)^(1/n)
    np.testing.assert_allclose(found.high, 1 - 0.025 ** (1 / 300))
    assert found.low == 0
    assert introspection.rate([], [], 0).n == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strengths": ()}, "strengths"),
        ({"strengths": (np.nan,)}, "strengths"),
        ({"layer": 5}, "layer: 5 is not in the bank"),
        ({"source": 5}, "source: 5"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        introspection.evaluate(MODEL, params(), bank(), trials(), **options)


def test_a_condition_that_is_not_there(report):
    with pytest.raises(KeyError, match="there are: 'clean'"):
        report.get("cleen")
    with pytest.raises(ValueError, match="measure"):
        report.get("clean").rate("found")
