import math
import zlib
from fractions import Fraction

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from activjax import models
from activjax.membership import _distribution_scores as d, _scores as s
from activjax.membership._all_scores import scores

EPS = 2.0**-24
LOSSES = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, 0.5, 9.0, 9.0]], np.float32)
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)


def close(got, wanted, rtol=16 * EPS):
    np.testing.assert_allclose(np.asarray(got), wanted, rtol=rtol, atol=1e-6)


def test_loss_is_minus_the_mean_over_counted_tokens():
    close(s.loss_score(LOSSES), [-2.5, -4.75])
    close(s.loss_score(LOSSES, MASK), [-2.0, -0.5])
    close(s.loss_score(np.array([3.0, 1.0], np.float32)), [-3, -1])
    assert s.loss_score(LOSSES).dtype == jnp.float32


def test_padding_may_hold_anything_and_a_row_without_tokens_is_nan():
    losses = np.where(MASK, LOSSES, np.nan).astype(np.float32)
    close(s.loss_score(losses, MASK), [-2.0, -0.5])
    close(d.min_k(-losses, MASK, k=0.5), [-3.0, -0.5])
    empty = np.zeros((2, 4), bool)
    for score in (s.loss_score(LOSSES, empty), d.min_k(-LOSSES, empty)):
        assert np.isnan(score).all()


def test_zlib_divides_the_total_by_the_bytes_of_the_stream():
    texts = ["abab" * 30, b"\x00\x01\x02"]
    sizes = [len(zlib.compress(b"abab" * 30, 6)), len(zlib.compress(b"\x00\x01\x02", 6))]
    assert s.zlib_bytes(texts).tolist() == sizes
    close(s.zlib_score(LOSSES, texts), [-10 / sizes[0], -19 / sizes[1]])
    close(s.zlib_score(LOSSES, texts, MASK), [-6 / sizes[0], -1 / sizes[1]])
    close(s.zlib_score(LOSSES, texts, MASK, per_token=True), [-2 / sizes[0], -0.5 / sizes[1]])
    close(s.zlib_score(LOSSES, np.array(["abab" * 30, "\0\1\2"])), [-10 / sizes[0], -19 / sizes[1]])
    close(s.zlib_score(LOSSES, np.array(sizes)), [-10 / sizes[0], -19 / sizes[1]])
    assert s.zlib_bytes(["é"]).tolist() == [len(zlib.compress("é".encode(), 6))]


def test_min_k_averages_the_lowest_share_and_at_least_one():
    log_p = np.array([[-5.0, -1, -3, -2, -4]], np.float32)
    for k, wanted in [(0.2, -5), (0.4, -4.5), (0.59, -4.5), (0.6, -4), (1.0, -3), (0.01, -5)]:
        close(d.min_k(log_p, k=k), [wanted])
    short = np.array([[True, True, False, False, False]])
    close(d.min_k(log_p, short, k=0.2), [-5])  # int(2 * 0.2) tokens would be none
    # 29 of 100 is 29 %, though 0.29 * 100 < 29 in floating point
    close(d.min_k(-np.arange(100, dtype=np.float32)[None], k=0.29), [-np.mean(range(71, 100))])


def test_min_k_counts_as_fractions_do():
    for k in (0.01, 0.07, 0.2, 0.29, 0.3, 0.7, 0.999, 1.0):
        whole = [max(1, math.floor(Fraction(str(k)) * c)) for c in range(401)]
        assert d._how_many(400, k).tolist() == whole


def test_a_nan_is_not_sorted_away():
    log_p = np.array([[-1.0, np.nan, -2.0], [-1.0, -1.0, -2.0]], np.float32)
    got = np.asarray(jax.jit(lambda x: d.min_k(x, k=0.4))(log_p))
    assert np.isnan(got[0])
    assert got[1] == -2


def by_hand(logits, target):
    """log p, its mean and its standard deviation under p, in float64."""
    log_p = log_softmax(np.float64(logits))
    p = np.exp(log_p)
    kept = p > 0
    mean = np.sum(p[kept] * log_p[kept])
    return log_p[target], mean, math.sqrt(np.sum(p[kept] * (log_p[kept] - mean) ** 2))


def test_token_statistics_by_hand():
    # p = (1/2, 1/4, 1/4): log p = -ln 2 or -2 ln 2, mean -1.5 ln 2, deviation ln 2 / 2.
    logits = np.log(np.array([[[0.5, 0.25, 0.25]]], np.float32))
    t = d.token_statistics(logits, np.array([[1]]))
    ln2 = math.log(2)
    close(t.log_p, [[-2 * ln2]])
    close(t.mean, [[-1.5 * ln2]])
    close(t.std, [[0.5 * ln2]])
    close(d.min_k_plus_plus(*t, k=1.0), [-1.0])


def test_min_k_plus_plus_against_float64():
    rng = np.random.default_rng(0)
    logits = (3 * rng.normal(size=(3, 5, 7))).astype(np.float32)
    y = rng.integers(0, 7, (3, 5))
    each = np.array([[by_hand(a, b) for a, b in zip(*row)] for row in zip(logits, y)])
    z = np.sort((each[..., 0] - each[..., 1]) / each[..., 2], axis=1)
    # logits of size 10 are rounded at 10 eps, deviations are of size 1
    close(d.min_k_plus_plus(*d.token_statistics(logits, y), k=0.4), z[:, :2].mean(1), rtol=2e-5)


def test_token_statistics_where_p_has_zeros():
    inf = np.inf
    logits = np.array([[[0.0, 0.0, -inf], [0.0, 0.0, -inf], [5.0, -inf, -inf]]], np.float32)
    t = d.token_statistics(logits, np.array([[0, 2, 0]]))
    close(t.log_p, [[-math.log(2), -inf, 0]])
    close(t.mean, [[-math.log(2), -math.log(2), 0]])
    np.testing.assert_allclose(t.std, [[0, 0, 0]], atol=EPS)
    # no deviation: an event as likely as all others scores 0, an impossible one -inf
    assert d.min_k_plus_plus(*t, k=1.0).tolist() == [-inf]
    possible = np.array([[True, False, True]])
    assert abs(float(d.min_k_plus_plus(*t, possible, k=1.0)[0])) <= 0.25


@pytest.mark.parametrize("vocab", [2, 3, 7, 1000, 50_257])
def test_equal_probabilities_score_0_and_not_rounding_by_rounding(vocab):
    logits = np.full((1, 1, vocab + 1), 3.3, np.float32)
    logits[..., -1] = -50  # possible, with a probability that does not count
    for target, low, high in [(0, -0.25, 0.25), (vocab, -np.inf, -1e3)]:
        score = d.min_k_plus_plus(*d.token_statistics(logits, np.array([[target]])))
        assert low <= float(score[0]) <= high


def test_a_saturated_distribution_keeps_its_deviation():
    # p of the others is 1e-11: 1 - p is 0 in float32, E[x^2] - E[x]^2 would be rounding
    logits = np.array([[[30.0, 5.0, 4.0]]], np.float32)
    t = d.token_statistics(logits, np.array([[0]]))
    _, _, std = by_hand(logits[0, 0], 0)
    close(t.std, [[std]], rtol=1e-5)


def test_a_target_that_is_no_token_is_nan():
    t = d.token_statistics(np.zeros((1, 2, 3), np.float32), np.array([[3, -100]]))
    assert np.isnan(t.log_p).all()


def test_gradient_norm_has_members_low():
    assert s.grad_norm_score(np.array([2.0, 0.5], np.float32)).tolist() == [-2, -0.5]


def test_reference_is_the_log_likelihood_ratio():
    other = LOSSES + np.array([[1.0], [-2.0]], np.float32)
    close(s.reference_score(LOSSES, other), [1, -2])
    close(s.reference_score(LOSSES, 2 * LOSSES, MASK), [2, 0.5])


def test_recall_is_the_papers_ratio():
    # LL(x | P) / LL(x) = (-12 / 3) / (-6 / 3) and (-1 / 2) / (-1 / 2)
    conditional = np.array([[4.0, 4, 4, 0], [0.5, 0.5, 7, 7]], np.float32)
    close(s.recall_score(conditional, LOSSES, MASK), [2, 1])
    zero = np.zeros((1, 2), np.float32)
    assert s.recall_score(zero, zero).tolist() == [1]
    assert s.recall_score(zero + 1, zero).tolist() == [np.inf]


def test_recall_losses_are_those_of_the_same_tokens_after_the_prefix():
    table = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)

    def apply(params, tokens):
        # Logits depend on the sum of all tokens so far; as in attention, every row is mixed in
        # with weight 0, and there is none for an id outside the vocabulary.
        every = jnp.take(params, tokens, axis=0, mode="fill").sum((1, 2), keepdims=True)
        return params[jnp.cumsum(tokens, axis=1) % 6] + 0 * every

    prefix, tokens = np.array([1, 4]), np.array([[2, 3, 5, 1], [0, 1, -100, -100]])
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)
    got = np.asarray(s.recall_losses(apply, table, prefix, tokens, mask))
    log_p = log_softmax(np.float64(table), axis=1)
    # row 0: 1 + 4 + 2 = 7 predicts 3, 7 + 3 = 10 predicts 5, 10 + 5 = 15 predicts 1;
    # row 1: 1 + 4 + 0 = 5 predicts 1
    close(got[0], [-log_p[1, 3], -log_p[4, 5], -log_p[3, 1]])
    close(got[1], [-log_p[5, 1], 0, 0])
    without = np.asarray(s.recall_losses(apply, table, prefix[:0], tokens, mask))
    close(without[0], [-log_p[2, 3], -log_p[5, 5], -log_p[4, 1]])


@pytest.mark.slow
def test_recall_losses_of_a_decoder_keep_their_place():
    model = models.decoder(vocab=9, context=8, layers=1, width=8, heads=2)
    params = model.init(jax.random.key(0))
    prefix, tokens = jnp.array([1, 2, 3]), jnp.array([[4, 5, 6, 7]])
    got = s.recall_losses(model.apply, params, prefix, tokens)
    whole = jnp.concatenate([prefix[None], tokens], axis=1)
    log_p = log_softmax(np.float64(model.apply(params, whole)), axis=-1)[0]
    close(got[0], [-log_p[3, 5], -log_p[4, 6], -log_p[5, 7]], rtol=1e-5)


def test_margin_entropy_and_confidence_by_hand():
    p = np.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]])
    logits = (np.log(p) + 3).astype(np.float32)
    y = np.array([0, 0])
    close(d.margin_score(logits, y), [math.log(3.5), math.log(0.5)], rtol=1e-5)
    entropy = -(p * np.log(p)).sum(1)
    close(d.entropy_score(logits), -entropy, rtol=1e-5)
    close(d.confidence(logits, y), [math.log(0.7 / 0.3), math.log(0.25 / 0.75)], rtol=1e-5)
    text, tokens = np.stack([logits, logits[::-1]], 1), np.array([[0, 0], [0, 1]])
    mask = np.array([[1, 1], [0, 1]], bool)
    wanted = [(math.log(3.5) + math.log(0.5)) / 2, math.log(0.2 / 0.7)]
    close(d.margin_score(text, tokens, mask), wanted, rtol=1e-5)
    close(d.entropy_score(text, mask), [-entropy.mean(), -entropy[0]], rtol=1e-5)


def test_confidence_does_not_saturate():
    # 1 - p is 0 in float32 at a lead of 40, and 1 / (1 + e^-40) is 1
    logits = np.array([[40.0, 0.0], [-200.0, 200.0]], np.float32)
    close(d.confidence(logits, np.array([0, 0])), [40, -400])


@pytest.mark.parametrize(
    "score",
    [
        s.loss_score,
        d.min_k,
        lambda x: s.zlib_score(x, ["ab", "c"]),
        lambda x: s.reference_score(x, x),
        lambda x: s.recall_score(x, x),
        lambda x: d.min_k_plus_plus(-x, -x, x),
    ],
)
def test_jit_and_vmap_over_models_agree_with_a_loop(score):
    stack = np.stack([LOSSES, 2 * LOSSES + 1, LOSSES[::-1]])
    looped = np.stack([score(x) for x in stack])
    close(jax.jit(jax.vmap(score))(stack), looped)


def text_inputs(n=3, seq=6, vocab=5, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.arange(seq) < np.array([6, 4, 1])[:n, None]
    return {
        "logits": rng.normal(size=(n, seq, vocab)).astype(np.float32),
        "y": np.where(mask, rng.integers(0, vocab, (n, seq)), -100),
        "mask": mask,
        "texts": ["a b c", "hello hello", "x"][:n],
        "grad_norm": np.arange(1.0, n + 1, dtype=np.float32),
        "reference": rng.normal(size=(n, seq, vocab)).astype(np.float32),
        "conditional": rng.random((n, seq)).astype(np.float32),
    }


def test_all_scores_of_texts_are_the_single_ones():
    given = text_inputs()
    found = scores(**given, k=0.5)
    names = ["loss", "zlib", "min_k", "min_k_plus_plus", "grad_norm", "reference", "recall"]
    assert list(found) == [*names, "margin", "entropy"]
    mask, y = given["mask"], given["y"]
    tokens = d.token_statistics(given["logits"], y)
    close(found["loss"], s.loss_score(-tokens.log_p, mask))
    close(found["zlib"], s.zlib_score(-tokens.log_p, given["texts"], mask))
    close(found["min_k"], d.min_k(tokens.log_p, mask, k=0.5))
    close(found["min_k_plus_plus"], d.min_k_plus_plus(*tokens, mask, k=0.5))
    close(found["grad_norm"], [-1, -2, -3])
    other = -d.token_statistics(given["reference"], y).log_p
    close(found["reference"], s.reference_score(-tokens.log_p, other, mask))
    close(found["recall"], s.recall_score(given["conditional"], -tokens.log_p, mask))
    again = scores(**{**given, "reference": np.asarray(other)}, k=0.5)  # losses, not logits
    chex.assert_trees_all_close(again, found, rtol=1e-6)
    assert all(v.shape == (3,) and v.dtype == jnp.float32 for v in found.values())


def test_all_scores_of_a_classifier():
    logits, y = np.array([[2.0, 0, 1], [0, 3, 1]], np.float32), np.array([0, 2])
    found = scores(logits, y)
    assert list(found) == ["loss", "confidence", "margin", "entropy"]
    close(found["loss"], log_softmax(np.float64(logits), axis=1)[[0, 1], y])
    close(found["margin"], [1, -2])
    more = scores(logits, y, grad_norm=np.ones(2), reference=logits[:, ::-1])
    assert list(more) == ["loss", "grad_norm", "reference", "confidence", "margin", "entropy"]


def test_all_scores_inside_jit_and_independent_of_padding():
    given = text_inputs()
    rest = {k: given[k] for k in ("texts", "grad_norm", "conditional")}
    jitted = jax.jit(lambda a, b, m: scores(a, b, mask=m, reference=2 * a, **rest))
    found = jitted(given["logits"], given["y"], given["mask"])
    given["logits"] = np.where(given["mask"][..., None], given["logits"], np.nan)
    chex.assert_trees_all_close(
        found, scores(**{**given, "reference": 2 * given["logits"]}), rtol=1e-5, atol=1e-6
    )


def test_every_score_is_higher_for_what_the_model_fits():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 5, (40, 8))
    base = rng.normal(size=(40, 8, 5))
    fitted = base + np.where(np.arange(40)[:, None, None] < 20, 3.0, 0.0) * np.eye(5)[y]
    losses = -np.take_along_axis(log_softmax(base, axis=-1), y[..., None], -1)[..., 0]
    found = scores(
        fitted.astype(np.float32),
        y,
        texts=["text"] * 40,
        grad_norm=np.where(np.arange(40) < 20, 0.1, 1.0),
        reference=losses.astype(np.float32),
        conditional=losses.astype(np.float32),  # a prefix that makes the model forget
    )
    for name, score in found.items():
        assert np.mean(score[:20]) > np.mean(score[20:]), name


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"logits": np.zeros((3, 6), np.float32)}, r"y has shape \[3, 6\], expected \[3\]"),
        ({"y": np.zeros((3, 6))}, "expected integers"),
        ({"y": np.full((3, 6), 5)}, r"y is no class at \[0, 0\] .11 in all.; tokens that do not"),
        ({"mask": np.ones((3, 5), bool)}, r"mask has shape \[3, 5\], expected \[3, 6\]"),
        ({"mask": np.full((3, 6), 2)}, "booleans or 0 and 1"),
        (
            {"mask": np.arange(3)[:, None] * np.ones((1, 6)) > 0},
            r"no token counts at \[0\]: leave the row out",
        ),
        ({"texts": ["a"]}, "texts: 1, expected 3"),
        ({"texts": "abc"}, "one text, expected a sequence"),
        ({"grad_norm": np.array([1, np.nan, 1])}, r"grad_norm is NaN at \[1\]"),
        ({"grad_norm": np.array([1, -1.0, 1])}, r"grad_norm is negative at \[1\]"),
        ({"reference": np.zeros((3, 6, 4, 5))}, "reference has shape"),
        ({"conditional": np.zeros((3, 5), np.float32)}, "conditional has shape"),
        ({"conditional": np.full((3, 6), np.nan)}, r"conditional is NaN at \[0, 0\]"),
        ({"k": 0.0}, "k is 0.0"),
        ({"k": 1.5}, "k is 1.5"),
    ],
)
def test_refusals(change, match):
    with pytest.raises(ValueError, match=match):
        scores(**{**text_inputs(), **change})


def test_refusals_of_values():
    given = text_inputs()
    given["logits"][1, 2, 0] = np.nan
    with pytest.raises(ValueError, match=r"logits are NaN at \[1, 2\]"):
        scores(**given)
    with pytest.raises(ValueError, match="conditional: a classifier"):
        scores(np.zeros((2, 3), np.float32), np.zeros(2, int), conditional=np.zeros(2))
    with pytest.raises(ValueError, match="mask: a classifier"):
        scores(np.zeros((2, 3), np.float32), np.zeros(2, int), mask=np.ones(2, bool))
    with pytest.raises(ValueError, match="no examples"):
        scores(np.zeros((0, 3), np.float32), np.zeros(0, int))
    with pytest.raises(ValueError, match="mask has shape"):
        s.loss_score(LOSSES, MASK[:, :2])
    with pytest.raises(ValueError, match="mask.* takes losses of tokens"):
        s.loss_score(LOSSES[:, 0], MASK[:, 0])
    with pytest.raises(ValueError, match=r"prefix.*\[length\]"):
        s.recall_losses(lambda p, t: t, None, np.zeros((1, 2), int), np.zeros((1, 2), int))
