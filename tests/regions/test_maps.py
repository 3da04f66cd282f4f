"""Equality of affine maps: exact, whatever the rounding errors of float64 would make of them."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse

from activjax.program.networks import Affine, Layer, Network
from activjax.regions import _maps
from activjax.regions._maps import labels
from tests.regions import networks


def patterns(network, n=400, seed=0):
    x = np.random.default_rng(seed).uniform(-1, 1, (n, network.size))
    return np.unique(network.pattern(x), axis=0)


def exact_map(network, state):
    """Coefficients in rational arithmetic, as a tuple."""
    k = network.size
    rows = [[Fraction(int(i == j + 1)) for j in range(k)] for i in range(k + 1)]
    values = {0: rows}

    def through(affine):
        out = []
        for i in range(k + 1):
            bias = affine.bias if i == 0 else np.zeros(affine.size)
            z = [Fraction(b) for b in bias]
            for s, m in affine.matrices.items():
                dense = m.toarray() if scipy.sparse.issparse(m) else m
                for a, row in zip(values[s][i], dense, strict=True):
                    if a:
                        z = [u + a * Fraction(v) for u, v in zip(z, row, strict=True)]
            out.append(z)
        return out

    for i, (layer, where) in enumerate(zip(network.layers, network.slices, strict=True)):
        z, s = through(layer.affine), state[where]
        if layer.groups is None:
            values[i + 1] = [[v if on else Fraction(0) for v, on in zip(r, s, strict=True)]
                             for r in z]  # fmt: skip
        else:
            values[i + 1] = [[r[g[c]] for g, c in zip(layer.groups, s, strict=True)] for r in z]
    return tuple(v for r in through(network.out) for v in r)


def same_partition(a, b):
    pairs = set(zip(a, b, strict=True))
    return len(pairs) == len(set(a)) == len(set(b))


def sparse(network):
    def to(affine):
        return Affine({s: scipy.sparse.csr_array(m) for s, m in affine.matrices.items()},
                      affine.bias)  # fmt: skip

    layers = tuple(Layer(to(x.affine), x.groups) for x in network.layers)
    return Network(network.size, layers, to(network.out))


def test_identity_from_two_hinges_is_one_map():
    network = networks.dense([[[1.0, -1.0]], [[1.0], [-1.0]]], [[0.0, 0.0], [0.5]])
    assert labels(network, np.array([[1, 0], [0, 1], [0, 0], [1, 1]])).tolist() == [0, 0, 1, 2]


def test_one_ulp_apart():
    w = 0.1
    network = networks.dense([[[w, -w]], [[1.0], [-1.0]]], [[0.0, 0.0], [0.0]])
    assert labels(network, np.array([[1, 0], [0, 1]])).tolist() == [0, 0]
    network = networks.dense([[[w, -np.nextafter(w, 1)]], [[1.0], [-1.0]]], [[0.0, 0.0], [0.0]])
    assert labels(network, np.array([[1, 0], [0, 1]])).tolist() == [0, 1]


def test_bias_alone_differs():
    network = networks.dense([[[1.0, 1.0]], [[1.0], [1.0]]], [[0.25, 0.25 + 2.0**-55], [0.0]])
    assert labels(network, np.array([[1, 0], [0, 1]])).tolist() == [0, 0]  # rounds to one number
    network = networks.dense([[[1.0, 1.0]], [[1.0], [1.0]]], [[0.25, 0.25 + 2.0**-54], [0.0]])
    assert labels(network, np.array([[1, 0], [0, 1]])).tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["random", "deep", "pooled"])
def test_random_networks_against_floats(kind, seed):
    network = {
        "random": lambda: networks.random((2, 8, 2), seed, skip=True),
        "deep": lambda: networks.random((3, 6, 4, 3, 1), seed),
        "pooled": lambda: networks.pooled(seed),
    }[kind]()
    states = patterns(network)
    found = labels(network, states)
    assert len(set(found)) > 5
    forms = network.forms(states).reshape(len(states), -1)
    # Distinct maps of random weights are far apart, equal ones agree to rounding.
    near = np.abs(forms[:, None] - forms[None]).max(-1) <= 1e-10 * np.abs(forms).max()
    assert ((found[:, None] == found[None]) == near).all()


def test_against_rational_arithmetic():
    rng = np.random.default_rng(5)
    weights = [rng.integers(-2, 3, s) / 4 for s in [(2, 5), (5, 4), (4, 1)]]
    network = networks.dense(weights, [rng.integers(-2, 3, n) / 4 for n in (5, 4, 1)])
    states = rng.integers(0, 2, (300, 9))
    expected = [exact_map(network, s) for s in states]
    assert 10 < len(set(expected)) < 250  # many coincide
    assert same_partition(labels(network, states).tolist(), expected)


def test_extreme_exponents_against_rational_arithmetic():
    rng = np.random.default_rng(6)
    scales = 2.0 ** np.array([-1000, -1060, 0, 900, 3])
    first = rng.integers(-1, 2, (2, 5)) * scales
    network = networks.dense(
        [first, rng.integers(-1, 2, (5, 3)) * 2.0 ** np.array([-1074, 900, 0]), np.ones((3, 1))],
        [scales * rng.integers(-1, 2, 5), np.zeros(3), np.zeros(1)],
    )
    states = rng.integers(0, 2, (200, 8))
    expected = [exact_map(network, s) for s in states]
    assert same_partition(labels(network, states).tolist(), expected)
    assert 2 < len(set(expected)) < 200


def test_cancelled_in_floats_but_different():
    # In float64 the small terms vanish beside the large ones.
    network = networks.dense(
        [[[2.0**60, 1.0, 2.0**60, 3.0]], [[1.0], [1.0], [1.0], [1.0]]], [[0.0] * 4, [0.0]]
    )
    states = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]])
    assert (np.ptp(network.forms(states)[[0, 2]], axis=0) == 0).all()
    assert labels(network, states).tolist() == [0, 1, 0]


def test_sparse_is_dense():
    for network in (networks.random((3, 6, 5, 2), 1), networks.pooled(2)):
        states = patterns(network)
        assert (labels(sparse(network), states) == labels(network, states)).all()


def test_duplicate_units_exchange():
    network = networks.dense([[[1.0, 1.0, -3.0]], [[2.0], [2.0], [1.0]]], [[0.1, 0.1, 0.0], [0.0]])
    states = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]])
    assert labels(network, states).tolist() == [0, 0, 1, 2, 2]


def test_permutation_of_patterns():
    network = networks.fixture()
    rng = np.random.default_rng(0)
    states = rng.integers(0, 2, (60, 4))
    order = rng.permutation(60)
    found, moved = labels(network, states), labels(network, states[order])
    assert same_partition(found[order].tolist(), moved.tolist())
    first = [int(x) for i, x in enumerate(found) if x not in found[:i]]
    assert first == list(range(len(first)))


def test_fixture_has_three_maps():
    states = patterns(networks.fixture())
    assert len(states) == 5
    assert len(set(labels(networks.fixture(), states).tolist())) == 3


def test_on_a_line_maps_coincide_that_differ_in_the_plane():
    network = networks.dense([[[1.0, 0.0], [0.0, 1.0]], [[1.0], [1.0]]], [[0.0, 0.0], [0.0]])
    states = np.array([[1, 0], [0, 1]])
    assert labels(network, states).tolist() == [0, 1]
    diagonal = np.array([[1.0, 1.0]])
    assert labels(network, states, np.zeros(2), diagonal).tolist() == [0, 0]
    assert labels(network, states, np.array([0.0, 0.5]), diagonal).tolist() == [0, 1]


def test_long_sums_are_exact(monkeypatch):
    network = networks.random((2, 40, 30, 2), 3)
    states = patterns(network, 200)
    whole = [_maps._residues(network, states, np.zeros(2), np.eye(2), i) for i in range(2)]
    monkeypatch.setattr(_maps, "_INNER", 7)
    monkeypatch.setattr(_maps, "_AT_ONCE", 500)
    for i in range(2):
        assert (_maps._residues(network, states, np.zeros(2), np.eye(2), i) == whole[i]).all()


def test_products_at_the_limit_are_exact():
    p = int(_maps._primes().max())
    r = np.full((1, _maps._INNER), float(p // 2 + 1))
    expected = (p // 2 + 1) ** 2 * _maps._INNER % p
    assert int(_maps._product(r, r.T, p)[0, 0]) % p == expected


def test_residues_of_numbers():
    p = int(_maps._primes()[0])
    numbers = np.array([0.0, 1, -1, 0.1, -2.5e300, 5e-324, 2.0**-1022, 3.7e-310])
    exact = [Fraction(v) for v in numbers]
    expected = [v.numerator * pow(v.denominator, -1, p) % p for v in exact]
    assert (np.mod(_maps.modulo(numbers, p), p) == expected).all()


def test_primes():
    p = _maps._primes()
    assert len(p) == len(set(p.tolist())) == 73586
    assert 1 << 20 < p.min() < p.max() < 1 << 21


def test_edges():
    network = networks.random((2, 3, 1))
    assert labels(network, np.zeros((0, 3), int)).shape == (0,)
    none = Network(2, (), Affine({0: np.ones((2, 1))}, np.zeros(1)))
    assert labels(none, np.zeros((2, 0), int)).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"states has shape \(2, 2\), expected \[n, 3\]"):
        labels(network, np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="together"):
        labels(network, np.zeros((2, 3), int), np.zeros(2))
    with pytest.raises(ValueError, match=r"expected \[2\] and \[k, 2\]"):
        labels(network, np.zeros((2, 3), int), np.zeros(3), np.eye(3))
    bad = networks.dense([[[np.nan]], [[1.0]]], [[0.0], [0.0]])
    with pytest.raises(ValueError, match="layer 0 has NaN"):
        labels(bad, np.zeros((1, 1), int))
