"""`find`: labels from expressions and masks, counts against loops, and that luck does not count."""

import re

import numpy as np
import pytest

from activjax.codebooks._index import Code, Layout, find, labels, write_index
from activjax.stats import wilson
from tests.codebooks.pages import batch, one_site, write


def index_of(tmp_path, examples, vocabulary):
    """An index of the given token ids, with one code."""
    layout = {"s": Layout((), 1, 1, 1)}
    rows = [
        (np.array([ids]), {"s": (np.zeros((1, len(ids), 1, 1), int), np.ones((1, len(ids), 1, 1)))})
        for ids in examples
    ]
    return write_index(tmp_path / "c", layout, rows, vocabulary=vocabulary)


PIECES = [
    "ab", "c", b"\xe2", b"\x82\xac", "x", "", "\U0001f600y", b"\xff", "é", "\n",
]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "ids", "wanted"),
    [
        ("b", [0, 1, 0], [1, 0, 1]),  # a part of a token is all of it
        ("bc", [0, 1, 0], [1, 1, 0]),
        ("a(b)c", [0, 1, 0], [1, 0, 0]),  # group 1 alone
        ("(a)|(c)", [0, 1, 0], [1, 0, 1]),  # a group that took no part marks nothing
        ("(?:a)(?P<x>b)", [0, 0], [1, 1]),
        ("x*", [0, 4, 4], [0, 1, 1]),  # empty matches mark nothing
        ("€", [4, 2, 3, 4], [0, 1, 1, 0]),  # a character split over two tokens is both
        ("x", [2, 3, 4, 2, 3, 4], [0, 0, 1, 0, 0, 1]),
        ("y", [6, 4, 6], [1, 0, 1]),
        ("x", [6, 4, 6], [0, 1, 0]),  # four bytes before it
        ("é", [8, 4, 8], [1, 0, 1]),
        (".x", [8, 4, 8, 7, 4], [1, 1, 0, 1, 1]),  # a byte that is no UTF-8 is one character
        ("x", [7, 4, 2, 4, 3, 4], [0, 1, 0, 1, 0, 1]),  # halves of a character apart
        ("x", [7, 8, 4, 6, 4], [0, 0, 1, 0, 1]),  # characters of one, two and four bytes, and none
        ("é", [2, 8, 7], [0, 1, 0]),
        ("bx", [0, 5, 4, 5], [1, 0, 1, 0]),  # a token of no bytes overlaps nothing
        ("c$", [1, 9, 1], [0, 0, 1]),
        (re.compile("C", re.IGNORECASE), [1, 0], [1, 0]),
        (b"\x82", [2, 3], [0, 1]),
        (re.compile(rb"\xe2(\x82)"), [2, 3], [0, 1]),
        ("^c", [1, 1], [1, 0]),
    ],
)
def test_tokens_of_an_expression(tmp_path, query, ids, wanted):
    index = index_of(tmp_path, [ids, ids[:1]], PIECES)
    found = labels(index, query)
    assert found[: len(ids)].astype(int).tolist() == wanted


def test_expressions_do_not_cross_examples(tmp_path):
    index = index_of(tmp_path, [[0, 1], [0], [1]], PIECES)
    assert labels(index, "bc").tolist() == [True, True, False, False]


def test_masks(tmp_path):
    index = index_of(tmp_path, [[0, 1], [0], [1]], PIECES)
    flat = np.array([True, False, False, True])
    assert labels(index, flat).tolist() == flat.tolist()
    assert labels(index, [flat[:2], flat[2:3], flat[3:]]).tolist() == flat.tolist()
    for bad, words in (
        (flat[:3], "one for each token"),
        (flat.astype(int), "one for each token"),
        ([flat[:2], flat[:2]], "first that differs is example 1"),
        ("(", "not a regular expression"),
        (5, "one for each token"),
    ):
        with pytest.raises(ValueError, match=words):
            find(index, bad)
    index = write_index(
        tmp_path / "d", index.sites, [(np.zeros((2, 1), int), {"s": (np.zeros((2, 1, 1, 1), int),
                                                                     np.ones((2, 1, 1, 1)))})]
    )  # fmt: skip
    with pytest.raises(ValueError, match="no vocabulary"):
        find(index, "a")


def halves(index):
    """Whether each token is in the half that is reported on, written as it is documented."""
    side = []
    for example in range(index.examples):
        x = (example + 1) * 0x9E3779B97F4A7C15 % 2**64
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> shift)) * factor % 2**64
        side += [x >> 63 == 1] * int(index.starts[example + 1] - index.starts[example])
    return np.array(side)


@pytest.mark.parametrize("rank", [None, 0, 2])
@pytest.mark.parametrize("kind", ["plain", "off", "repeats"])
def test_counts_are_those_of_a_loop(tmp_path, rank, kind):
    rng = np.random.default_rng(0)
    layout = {"a": Layout((2,), 2, 9, 3), "b": Layout((), 1, 30, 4)}
    batches = [batch(rng, 30, 8, layout, off=kind == "off") for _ in range(2)]
    if kind == "repeats":
        for _, traces, _ in batches:
            for ids, _ in traces.values():
                ids[..., 1] = ids[..., 0]
    index = write(tmp_path / "c", batches, layout)
    marks = rng.random(len(index.tokens)) < 0.3
    found = find(index, marks, rank=rank, top=2, draws=2)
    second = halves(index)
    example = index.example_of
    assert found.chosen_on == (
        len(set(example[~second])), (~second).sum(), (marks & ~second).sum()
    )  # fmt: skip
    assert found.reported_on.tokens == second.sum() > 0
    seen = 0
    for book in index.codebooks():
        ids = book.chosen(slice(None))
        ids = ids if rank is None else ids[:, [rank]]
        has = np.stack([(ids == code).any(1) for code in range(len(book))], 1)
        own = ~second[:, None]
        both, with_code = (has & marks[:, None] & own).sum(0), (has & own).sum(0)
        f1 = 2 * both / (with_code + (marks & ~second).sum())
        best = np.argsort(-f1, kind="stable")[:2]
        hits = found.of(book.site, book.loop, book.group)
        assert [hit.code.code for hit in hits] == best.tolist()
        for hit in hits:
            code = hit.code.code
            for side, s in ((~second, hit.chosen), (second, hit.reported)):
                w, t = has[:, code] & side, marks & side
                assert (s.both, s.with_code, s.labelled, s.tokens) == (
                    (w & t).sum(), w.sum(), t.sum(), side.sum()
                )  # fmt: skip
                assert s.examples == len(set(example[w & t]))
                p, r = (w & t).sum() / max(w.sum(), 1), (w & t).sum() / t.sum()
                if w.sum():
                    assert s.precision == pytest.approx(p)
                    assert s.lift == pytest.approx(p / (t.sum() / side.sum()))
                assert s.recall == pytest.approx(r)
                for interval, hits, n, rate in (
                    (s.precision_interval, s.both, s.with_code, 1),
                    (s.recall_interval, s.both, s.labelled, 1),
                    (s.lift_interval, s.both, s.with_code, s.labelled / s.tokens),
                ):
                    np.testing.assert_allclose(interval, wilson(hits, n) / rate, rtol=1e-12)
                # F1 = 2J / (1 + J) of the share J of tokens with both among those with either
                j = wilson(s.both, s.with_code + s.labelled - s.both)
                np.testing.assert_allclose(s.f1_interval, 2 * j / (1 + j), rtol=1e-12)
                assert s.f1_interval[0] <= s.f1 <= s.f1_interval[1]
                assert s.f1 == pytest.approx(2 * p * r / (p + r) if p + r else 0)
            seen += 1
    assert seen == len(found.hits) == 10
    assert [hit.chosen.f1 for hit in found.hits] == sorted(
        (hit.chosen.f1 for hit in found.hits), reverse=True
    )
    assert found.best is found.hits[0]


def digit_index(path, seed=0, texts=40, code=None):
    rng = np.random.default_rng(seed)
    rows = [bytes(rng.choice(list(b"abc 0123"), 30).tolist()) for _ in range(texts)]
    code = code or (lambda text: [3 if chr(b).isdigit() else b % 3 for b in text])
    return one_site(path, rows, code, 50)


def test_a_planted_code_is_found(tmp_path):
    index = digit_index(tmp_path / "c")
    found = find(index, r"\d")
    best = found.best
    assert best.code == Code("mlp", (), 0, 3)
    s = best.reported
    assert (s.precision, s.recall, s.f1) == (1, 1, 1)
    assert s.lift == pytest.approx(1 / found.base_rate)
    assert s.both == s.with_code == s.labelled == found.reported_on.labelled
    low, high = s.precision_interval
    assert high == 1
    assert 0.9 < low < 1
    # half of the tokens are digits: dealt at random, the label goes with any code at base rate
    assert len(found.shuffled) == 5
    assert all(hit.reported.precision < 0.62 for hit in found.shuffled)
    text = str(found)
    for part in ("1.000 [", "no sampled-code control given", "labels shuffled", r"'\\d'",
                 f"{found.chosen_on.examples} examples", "mlp group 0 #3"):  # fmt: skip
        assert part in text, (part, text)


def test_the_control_is_searched_the_same_way(tmp_path):
    index = digit_index(tmp_path / "c")
    control = digit_index(tmp_path / "d", code=lambda text: [b % 7 for b in text])
    found = find(index, r"\d", control=control)
    alone = find(control, r"\d")
    assert found.control == alone.hits
    assert found.control[0].reported.f1 < found.best.reported.f1
    assert "control: mlp" in str(found)
    assert "no sampled-code control" not in str(found)
    with pytest.raises(ValueError, match="other tokens"):
        find(index, r"\d", control=digit_index(tmp_path / "e", seed=1))


def test_what_luck_chose_is_not_reported(tmp_path):
    """4000 codes that mean nothing: the best of them look good where they were chosen only."""
    rng = np.random.default_rng(1)
    layout = {"s": Layout((), 1, 4000, 1)}
    ids = rng.integers(0, 4000, (100, 200, 1, 1))
    index = write(tmp_path / "c", [(rng.integers(0, 20, (100, 200)), {"s": (ids, ids * 0.0)})],
                  layout)  # fmt: skip
    marks = rng.random(20000) < 0.001
    found = find(index, marks, top=20)
    chosen = np.mean([hit.chosen.precision for hit in found.hits])
    reported = np.nanmean([hit.reported.precision for hit in found.hits])
    assert chosen > 0.2
    assert reported < 0.02
    assert len(found.hits) <= found.chosen_on.labelled
    for hit in found.hits:
        assert hit.chosen.both > 0


def test_sites_rank_and_what_is_refused(tmp_path):
    rng = np.random.default_rng(2)
    index = write(tmp_path / "c", [batch(rng, 20, 8)])
    assert {hit.code.site for hit in find(index, "[a-e]", sites=["embed"]).hits} == {"embed"}
    none, every = np.zeros(len(index.tokens), bool), np.ones(len(index.tokens), bool)
    one = none.copy()
    one[0] = True
    for query, options, words in (
        (none, {}, "no token is"),
        (every, {}, "all of the tokens are"),
        (one, {}, "give more examples"),
        ("[a-e]", {"sites": ["embd"]}, "there are: blocks/mlp/out, embed"),
        ("[a-e]", {"rank": 1}, "expected 0 to 0 for embed"),
        ("[a-e]", {"rank": -1}, "rank is -1"),
        ("a", {"top": 0}, "top=0"),
        ("a", {"draws": 0}, "draws=0"),
        ("[a-e]", {"level": 1.0}, "level is 1.0"),
    ):
        with pytest.raises(ValueError, match=words):
            find(index, query, **options)


def test_equal_calls_give_equal_results(tmp_path):
    rng = np.random.default_rng(3)
    index = write(tmp_path / "c", [batch(rng, 20, 8)])
    assert find(index, "a|b") == find(index, "a|b") != find(index, "a|b", seed=1)
