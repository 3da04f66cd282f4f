"""Activation patterns as properties: mined in integers, followed, proved."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import patterns, verify
from tests.verify.proofs import mlp, random_mlp


def coded(bits):
    return patterns.codes({"relu/0": np.where(np.asarray(bits), 1.0, -1.0).astype(np.float32)})


def test_delta_is_a_decimal_and_borders_count():
    bits = np.zeros((10, 4), bool)
    bits[:1, 1] = True  # one of ten
    bits[:9, 2] = True  # nine of ten
    bits[:5, 3] = True
    labels = np.zeros(10, np.int64)
    for delta in ("0.9", 0.9, Fraction(9, 10)):
        nap = verify.mine_nap(coded(bits), labels, delta)
        assert nap[0].signs.tolist() == [-1, -1, 1, 0]
    assert verify.mine_nap(coded(bits), labels, "0.91")[0].signs.tolist() == [-1, 0, 0, 0]
    assert nap.with_delta(1)[0].signs.tolist() == [-1, 0, 0, 0]
    # 1 - 0.9 is above 0.1 in float64, and 29/30 is not 0.9666666666666667
    many = np.zeros((30, 1), bool)
    many[:29] = True
    wide = np.zeros(30, np.int64)
    assert verify.mine_nap(coded(many), wide, Fraction(29, 30))[0].signs.tolist() == [1]
    assert verify.mine_nap(coded(many), wide, "0.9666666666666667")[0].signs.tolist() == [0]


def test_follows_is_what_the_signs_say():
    r = np.random.default_rng(0)
    bits = r.random((200, 77)) < np.where(np.arange(77) % 3 == 0, 0.98, 0.5)
    labels = r.integers(0, 3, 200)
    nap = verify.mine_nap(coded(bits), labels, "0.95")
    follows = nap.follows(coded(bits))
    assert follows.shape == (200, 3)
    for i, label in enumerate(nap.labels):
        signs = nap[label].signs
        expected = [all((b > 0) == (s > 0) for b, s in zip(row, signs) if s) for row in bits]
        assert follows[:, i].tolist() == expected
        assert 0 < nap[label].size < 77


def test_curves_count_examples():
    r = np.random.default_rng(1)
    labels = r.integers(0, 2, 300)
    bits = r.random((300, 12)) < np.where(labels[:, None] == 0, 0.95, 0.1)
    nap = verify.mine_nap(coded(bits[:200]), labels[:200], "0.9")
    curve = verify.nap_curve(nap, coded(bits[200:]), labels[200:], ["0.6", "0.9", 1])
    for d, delta in enumerate(["0.6", "0.9", 1]):
        at = nap.with_delta(delta)
        hits = at.follows(coded(bits[200:]))
        own = hits[np.arange(100), labels[200:]].mean()
        other = hits[np.arange(100), 1 - labels[200:]].mean()
        assert curve.coverage[d] == pytest.approx(own)
        assert curve.ambiguity[d] == pytest.approx(other)
        assert curve.fixed[d].tolist() == [at[0].size, at[1].size]
    assert (np.diff(curve.coverage) >= 0).all()


def test_conflicts_and_both():
    bits = np.array([[1, 0, 1]] * 4 + [[0, 0, 1]] * 4, bool)
    nap = verify.mine_nap(coded(bits), np.repeat([3, 5], 4), 1)
    assert nap[3].conflicts(nap[5]).tolist() == [0]
    with pytest.raises(ValueError, match="conflict at 1 units"):
        nap[3].both(nap[5])
    assert nap[3].both(nap[3]).signs.tolist() == [1, -1, 1]


def test_codes_are_in_the_order_of_proofs():
    params = random_mlp([3, 5, 4, 2], 0)
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)

    def tagged(params, x):
        for i, (w, b) in enumerate(params):
            x = x @ w + b
            x = jax.nn.relu(aj.tag(x, f"{i}/pre")) if i < 2 else x
        return x

    codes = verify.codes(tagged, params, x)
    _, acts = aj.capture(tagged, "*/pre")(params, x)
    np.testing.assert_array_equal(codes.words, patterns.codes(acts).words)
    assert codes.units == (("relu/0", 5), ("relu/1", 4))


def test_a_pattern_makes_a_property_provable():
    params = random_mlp([2, 6, 2], 3)
    r = np.random.default_rng(0)
    x = r.uniform(-1, 1, (500, 2)).astype(np.float32)
    y = np.asarray(jnp.argmax(mlp(params, jnp.asarray(x)), -1))
    codes = verify.codes(mlp, params, x)
    nap = verify.mine_nap(codes, y, 1)
    label = int(np.argmin(np.bincount(y)))
    box = -np.ones(2), np.ones(2)
    problem = verify.Problem.from_model(mlp, params, box, verify.largest(label))
    assert verify.prove(problem).status == "violated"
    verdict = verify.prove(problem, pattern=nap[label])
    follows = nap[label].follows(codes)
    if verdict.status == "verified":
        assert (y[follows] == label).all()
        assert verify.check(verdict.tree, problem).ok
    else:
        assert verdict.status == "violated"
        operands = [float(v) for v in _operands(params, verdict.witness.exact)]
        signs = nap[label].signs
        assert all((z > 0) == (s > 0) for z, s in zip(operands, signs, strict=True) if s)


def _operands(params, x):
    """Of the hidden layer, in fractions."""
    (w, b), _ = params
    return [
        sum(Fraction(float(a)) * v for a, v in zip(column, x, strict=True)) + Fraction(float(c))
        for column, c in zip(w.T, b, strict=True)
    ]


def test_a_full_pattern_is_decided_inside_its_region():
    # With every sign given the network is linear, and an optimum lies on the borders of the
    # region, where a strict sign fails: a witness must come from inside.
    params = random_mlp([2, 6, 2], 3)
    x = np.array([[0.3, -0.2]], np.float32)
    (w, b), _ = params
    signs = np.where(x[0] @ w + b > 0, 1, -1).astype(np.int8)
    label = int(np.argmax(np.asarray(mlp(params, jnp.asarray(x)))[0]))
    box = -np.ones(2), np.ones(2)
    budget = verify.Budget(restarts=0)
    wrong = verify.Problem.from_model(mlp, params, box, verify.largest(1 - label))
    verdict = verify.prove(wrong, pattern=signs, budget=budget)
    assert verdict.status == "violated", verdict.reason
    operands = [float(v) for v in _operands(params, verdict.witness.exact)]
    assert [z > 0 for z in operands] == [s > 0 for s in signs]


def test_radius_brackets_the_border():
    # output 0 minus output 1 is x: the property holds for x > 0
    def f(params, x):
        return jax.nn.relu(x @ params) - jax.nn.relu(-x @ params)

    params = np.array([[1.0, -1.0]], np.float32)
    found = verify.radius(f, params, np.array([0.5]), verify.largest(0), largest=2.0, trials=9)
    assert found.verified < 0.5 <= found.refuted
    assert found.refuted - found.verified <= 2.0 / 2**6
    whole = verify.radius(f, params, np.array([0.5]), verify.largest(0), largest=0.25)
    assert whole.verified == 0.25
    assert len(whole.verdicts) == 1
    with pytest.raises(ValueError, match="expected above 0"):
        verify.radius(f, params, np.array([0.5]), verify.largest(0), largest=0)


def test_bad_input():
    codes = coded(np.eye(3, dtype=bool))
    with pytest.raises(ValueError, match="one for each code"):
        verify.mine_nap(codes, [0, 1], 1)
    with pytest.raises(ValueError, match=r"expected more than 0\.5"):
        verify.mine_nap(codes, [0, 0, 1], 0.5)
    with pytest.raises(ValueError, match="no decimal"):
        verify.mine_nap(codes, [0, 0, 1], "much")
    nap = verify.mine_nap(codes, [0, 0, 1], 1)
    with pytest.raises(KeyError, match="no class 2"):
        nap[2]
    with pytest.raises(ValueError, match="was mined from"):
        nap[0].follows(coded(np.eye(4, dtype=bool)))
    with pytest.raises(ValueError, match="no rectifier"):
        verify.codes(lambda p, x: x, {}, np.ones((2, 3)))
