"""The parts of the experiments of proofs, where a mistake would not be seen in their numbers."""

import importlib
import types
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import data, runs, verify
from activjax.runs import contract

ROOT = Path(__file__).parent.parent.parent
EXPERIMENTS = ROOT / "experiments"
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def nap():
    contract.load("nap_digits.py", EXPERIMENTS)  # finds the modules beside it
    return importlib.import_module("nap_digits_proofs")


@pytest.fixture(scope="module")
def prove():
    return contract.load("prove_acasxu.py", EXPERIMENTS).module


def signs_of(label, signs):
    return verify.Pattern(label, np.array(signs, np.int8), (("relu/0", len(signs)),))


class Fixed:
    """Patterns given by hand."""

    def __init__(self, patterns):
        self.patterns = patterns
        self.labels = tuple(patterns)

    def __getitem__(self, label):
        return self.patterns[label]

    def follows(self, codes):
        return np.stack([p.follows(codes) for p in self.patterns.values()], -1)


def two_units(params, x, **_):
    """Units `x0 - 1/2` and `x0 - 2`; the logits are `(1, 2 relu(x0 - 1/2), 0, ...)`."""
    z = jnp.matmul(x[:, :1], params["w"]) - params["b"]
    a = jax.nn.relu(z)
    zero = jnp.zeros_like(a[:, :1])
    return jnp.concatenate([zero + 0.25, 2 * a[:, :1], jnp.repeat(zero, 8, axis=1)], axis=1)


def setting(nap, patterns, x):
    x = np.asarray(x, np.float32)
    labels = np.where(x[:, 0] > 0.625, 1, 0)
    split = data.Split(x, labels, x, labels, 10)
    config = types.SimpleNamespace(proved=("1.0",), digits=2, ball=0.1, largest=0.5, trials=5,
                                   boxes=100)  # fmt: skip
    params = {"w": jnp.ones((1, 2), jnp.float32), "b": jnp.array([0.5, 2.0], jnp.float32)}
    right = np.ones(len(x), bool)
    return nap.Setting(config, two_units, params, Fixed(patterns), split, right, 0)


def points(*first):
    x = np.full((len(first), 64), 0.5, np.float32)
    x[:, 0] = first
    return x


def test_pairs_are_told_apart_by_signs_by_proof_and_by_a_common_input(nap):
    patterns = {
        0: signs_of(0, [-1, 0]),  # x0 at most 1/2
        1: signs_of(1, [1, 0]),  # above: conflicts with 0
        2: signs_of(2, [0, 1]),  # x0 above 2: none in the box, in conflict with no other
        3: signs_of(3, [0, -1]),  # everything
    }
    found = setting(nap, patterns, points(0.2)).pairs(Fixed(patterns))
    kinds = {(a, b): nap.PAIRS[found[a, b]] for a in range(4) for b in range(a)}
    assert kinds == {
        (1, 0): "conflict",
        (2, 0): "proved disjoint", (2, 1): "proved disjoint", (3, 2): "conflict",
        (3, 0): "common input", (3, 1): "common input",
    }  # fmt: skip
    assert (found[4:] == -1).all()
    assert (np.diag(found) == -1).all()
    np.testing.assert_array_equal(found, found.T)


def test_regions_without_any_input_are_not_verified(nap):
    patterns = {0: signs_of(0, [-1, 0]), 1: signs_of(1, [1, 0]), 2: signs_of(2, [0, 1])}
    here = setting(nap, patterns, points(0.2, 0.55))
    fixed = Fixed(patterns)
    whole = [nap.STATUSES[k] if k >= 0 else "" for k in here.whole(fixed)]
    # Class 1 is largest above 5/8 only, and no input of the box has the pattern of class 2.
    assert whole[:3] == ["verified", "violated", "empty_region"]
    assert not any(whole[3:])
    # Around 0.2 all is class 0; around 0.55 as well up to 5/8, within its pattern always.
    assert nap.STATUSES[here.ball(None, 0)] == "verified"
    assert nap.STATUSES[here.ball(None, 1)] == "violated"
    assert nap.STATUSES[here.ball(fixed, 1)] == "verified"
    elsewhere = setting(nap, {0: signs_of(0, [1, 0])}, points(0.2))
    assert nap.STATUSES[elsewhere.ball(elsewhere.nap, 0)] == "empty_region"


def test_radii_with_and_without_a_pattern(nap):
    patterns = {0: signs_of(0, [-1, 0]), 1: signs_of(1, [1, 0])}
    here = setting(nap, patterns, points(0.2, 0.45))
    with_, without = here.radii([Fixed(patterns)], np.array([0, 1]))
    # Class 0 holds below 5/8: 0.425 and 0.175 away, of which bisection in 5 steps of a half finds
    # the multiples of 1/32 below. Within the pattern it holds everywhere.
    np.testing.assert_allclose(without, [13 / 32, 5 / 32])
    np.testing.assert_allclose(with_, [[0.5, 0.5]])


def test_shares_leave_out_what_is_absent(nap):
    kinds = np.array([[0, 0, 1, -1], [-1, -1, -1, -1]])
    np.testing.assert_allclose(nap._shares(kinds, 2), [[2 / 3, 1 / 3], [np.nan, np.nan]])
    values = np.array([[1.0, np.nan, 3.0], [np.nan] * 3])
    np.testing.assert_allclose(nap._mean(values), [2.0, np.nan])


def test_an_instance_is_read(prove):
    short = prove.Instance.read("1_1:3 unsat")
    assert short.network == "ACASXU_run2a_1_1_batch_2000.onnx"
    assert (short.statement, short.expected) == ("prop_3.vnnlib", "unsat")
    named = prove.Instance.read("a.onnx:b_1.vnnlib")
    assert (named.name, named.network, named.statement, named.expected) == (
        "a.onnx:b_1.vnnlib", "a.onnx", "b_1.vnnlib", "",
    )  # fmt: skip
    for text in ("1_1", "a.onnx:", "1_1:3 maybe", "a:b.vnnlib"):
        with pytest.raises(ValueError, match=r"expected '1_1:3' or 'net.onnx:prop.vnnlib'"):
            prove.Instance.read(text)


def test_absent_files_are_named_with_their_source(prove, tmp_path):
    with pytest.raises(runs.ConfigError, match=r"no folder .*benchmarks/acasxu.*vnncomp2021"):
        prove.data_files(prove.Config(folder=str(tmp_path / "none")))
    (tmp_path / "prop_1.vnnlib").write_text("")
    with pytest.raises(runs.ConfigError, match=r"has no ACASXU_run2a_1_1_batch_2000\.onnx;"):
        prove.data_files(prove.Config(folder=str(tmp_path)))


def test_root_bounds(prove):
    gap = verify.Problem.from_vnnlib(DATA / "gap.onnx", DATA / "gap_unsat.vnnlib")
    # The relaxation of relu(a) + relu(b) - relu(a + b) on [-1, 1]^2 goes down to -2 (the upper line
    # of the last hinge against the lower ones of the first two), the property asks for -1e-9.
    assert not prove.at_root(gap)
    (case,) = gap.cases
    for bound, refuted in ((-2.001, True), (-0.5, False)):
        clause = verify.Clause(case.clauses[0].weights, (Fraction(bound),))
        moved = verify.Problem(
            gap.apply, gap.params, gap.input_shape, gap.outputs,
            (verify.Case(case.lower, case.upper, (clause,)),), gap.digest,
        )  # fmt: skip
        assert prove.at_root(moved) is refuted
