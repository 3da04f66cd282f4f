import collections
import math
import shutil
import subprocess

import numpy as np
import pytest

from activjax import data


def sample(n, seed=0):
    """Text with structure: a Markov chain over 12 bytes, each followed mostly by few others."""
    rng = np.random.default_rng(seed)
    table = np.random.default_rng(1).dirichlet(np.full(12, 0.3), 12)
    out = [0]
    for u in rng.random(n - 1):
        out.append(min(int(np.searchsorted(np.cumsum(table[out[-1]]), u)), 11))
    return bytes(97 + x for x in out)


def reference(train, order):
    """Interpolated modified Kneser-Ney as Chen and Goodman write it, with dictionaries."""
    counts = [None] * (order + 1)
    counts[order] = collections.Counter(train[i : i + order] for i in range(len(train) - order + 1))
    for k in range(order - 1, 0, -1):
        counts[k] = collections.Counter(gram[1:] for gram in counts[k + 1])

    def discounts(k):
        n = [sum(c == j for c in counts[k].values()) for j in range(5)]
        if not all(n[1:]):
            return 0, 0.5, 1.0, 1.5
        y = n[1] / (n[1] + 2 * n[2])
        return 0, *((j - (j + 1) * y * n[j + 1] / n[j]) for j in (1, 2, 3))

    lost = [None] + [discounts(k) for k in range(1, order + 1)]

    def p(context, byte, k):
        if k == 0:
            return 1 / 256
        context = context[len(context) - (k - 1) :] if k > 1 else b""
        after = {g[-1]: c for g, c in counts[k].items() if g[:-1] == context}
        lower = p(context[1:], byte, k - 1)
        if not after:
            return lower
        d = lost[k]
        own = after.get(byte, 0)
        taken = sum(d[min(c, 3)] for c in after.values())
        return (own - d[min(own, 3)] + taken * lower) / sum(after.values())

    return p


@pytest.mark.parametrize(("n", "order"), [(3000, 3), (3000, 1), (40, 4), (4, 4), (1, 1)])
def test_an_ngram_model_is_its_formula(n, order):
    train, held = sample(n), sample(30, seed=2) + b"\x00\xff"
    p = reference(train, order)
    expected = [
        -math.log2(p(held[max(0, i + 1 - order) : i], held[i], min(i + 1, order)))
        for i in range(len(held))
    ]
    model = data.ngram(train, order)
    # A dozen float64 operations an order, on probabilities: 1e-12 leaves room for thousands.
    np.testing.assert_allclose(model.bits(held), expected, rtol=1e-12)
    assert data.ngram_bits_per_byte(train, held, order) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("order", range(1, 9))
def test_probabilities_sum_to_one(order):
    train = sample(2000)
    model = data.ngram(train, order)
    rng = np.random.default_rng(order)
    contexts = [train[i : i + 9] for i in rng.integers(0, 1900, 10)]
    contexts += [rng.bytes(k) for k in range(10)] + [b"", b"\xff" * 9, train[-7:]]
    for context in contexts:
        p = model.probabilities(context)
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert p.min() > 0
        byte = int(rng.integers(256))
        bits = model.bits(context + bytes([byte]))
        assert bits[-1] == pytest.approx(-np.log2(p[byte]), rel=1e-12)


def test_ngrams_by_hand():
    # Counts 2, 1, 1 of 4, discounts 1, 0.5, 0.5, and what they free spread over 256 bytes.
    expected = np.full(256, 2 / 4 / 256)
    expected[[97, 98, 99]] += [1 / 4, 0.5 / 4, 0.5 / 4]
    np.testing.assert_allclose(data.ngram(b"aabc", 1).probabilities(b""), expected, rtol=1e-12)


def test_longer_contexts_help_where_text_has_structure():
    train, held = sample(4000), sample(2000, seed=2)
    bits = [data.ngram_bits_per_byte(train, held, order) for order in (1, 2)]
    assert bits[1] < bits[0] - 0.2
    pieces = [train[:700].decode(), train[700:]]
    assert data.ngram_bits_per_byte(pieces, [held[:9], held[9:]], 2) == bits[1]


def test_ngrams_that_cannot_be():
    for order in (0, 9):
        with pytest.raises(ValueError, match="expected 1 to 8 bytes"):
            data.ngram(b"abc" * 9, order)
    with pytest.raises(ValueError, match="2 bytes hold no gram of 3"):
        data.ngram(b"ab", 3)
    with pytest.raises(ValueError, match="no held-out bytes"):
        data.ngram_bits_per_byte(b"ab", [], 1)


@pytest.mark.skipif(shutil.which("xz") is None, reason="there is no xz to compare with")
def test_xz_is_the_program(tmp_path):
    parts = [sample(5000), "äöü" * 50, sample(3000, seed=3)]
    raw = parts[0] + parts[1].encode() + parts[2]
    out = subprocess.run(["xz", "-9", "-T1", "-c"], input=raw, capture_output=True, check=True)
    assert data.xz_bits_per_byte(parts) == data.xz_bits_per_byte(raw)
    assert data.xz_bits_per_byte(raw) == 8 * len(out.stdout) / len(raw)
    with pytest.raises(ValueError, match="no bytes"):
        data.xz_bits_per_byte([])


def test_bits_per_byte():
    tokenizer = data.train_bpe(["abcabc abcd"] * 5, 262)
    ids = [*tokenizer.encode("abcd é"), tokenizer.end]
    nats = np.full(len(ids), math.log(2), np.float32)
    # One bit a token, the boundary included, over the 7 bytes of the text.
    assert data.bits_per_byte(nats, ids, tokenizer) == pytest.approx(len(ids) / 7)
    weights = np.ones(len(ids), bool)
    weights[-1] = False
    nats[-1] = np.nan
    bits = data.bits_per_byte(nats, ids, tokenizer, weights)
    assert bits == pytest.approx((len(ids) - 1) / 7)
    assert math.isnan(data.bits_per_byte(nats, ids, tokenizer))
    uniform = np.full((2, 3), math.log(256))
    assert data.bits_per_byte(uniform, np.zeros((2, 3), int), data.byte_tokenizer()) == 8
    with pytest.raises(ValueError, match="expected one shape"):
        data.bits_per_byte(nats[:2], ids, tokenizer)
    with pytest.raises(ValueError, match="stand for no bytes"):
        data.bits_per_byte(nats[:1], [tokenizer.end], tokenizer)
