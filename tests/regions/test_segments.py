"""Pieces of networks along segments: known counts, brute force, symmetries, and the proof."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.sparse

from activjax.program.networks import Affine, Layer, Network
from activjax.regions import _segments_jax as on_device
from activjax.regions._count import DEFINITIONS
from activjax.regions._segments import segments
from activjax.regions._segments_proof import prove
from tests.regions import networks

UNIT = np.array([[0.0]]), np.array([[1.0]])


def ends(size, n=20, seed=0, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=(2, n, size))


def points(found, t):
    """Points `[n, size]` at a place of each piece."""
    i = found.segment
    return found.x0[i] + t[:, None] * (found.x1 - found.x0)[i]


NETWORKS = {
    "shallow": networks.random([6, 30, 2]),
    "deep": networks.random([5, 12, 12, 12, 3], seed=1),
    "skip": networks.random([4, 10, 10, 2], seed=2, skip=True),
    "no biases": networks.random([4, 12, 12, 1], seed=3, bias=0.0),
    "pooled": networks.pooled(size=4),
    "pooled wide": networks.pooled(seed=1, size=3, units=40, pool=10),
}


@pytest.mark.parametrize("depth", range(1, 17))
def test_tent(depth):
    found = segments(networks.tent(depth), *UNIT)
    np.testing.assert_array_equal(found.start, np.arange(2**depth) / 2**depth)
    for definition in DEFINITIONS[1:]:
        np.testing.assert_array_equal(found.count(definition), 2**depth)
    # The last layer's units are both 0 at the zeros of the tent before it, and there alone.
    np.testing.assert_array_equal(found.count("activation"), 2**depth + 1 + 2**depth // 4)


def test_one_piece():
    dead = networks.dense([np.ones((2, 5)), np.ones((5, 1))], [np.full(5, -100.0), np.ones(1)])
    linear = Network(2, (), Affine({0: np.ones((2, 1))}, np.ones(1)))
    constant = Network(2, (), Affine({}, np.ones(1)))
    for network in (dead, linear, constant):
        found = segments(network, *ends(2))
        assert found.certificate == "generic-certified"
        for definition in DEFINITIONS:
            np.testing.assert_array_equal(found.count(definition), np.ones(20))
        np.testing.assert_array_equal(found.stop - found.start, 1)
        assert found.breakpoints(3).shape == (0,)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_function(name):
    network = NETWORKS[name]
    found = segments(network, *ends(network.size))
    assert found.certificate == "generic-certified"
    for share in (0.0, 0.25, 0.5, 1.0):
        t = found.start + share * (found.stop - found.start)
        x = points(found, t)
        value = found.intercept + found.slope * t[:, None]
        # All numbers are of order 1 to 100, in sums of at most 40 terms and five layers.
        np.testing.assert_allclose(value, network(x), atol=1e-11)
        if 0 < share < 1:
            np.testing.assert_array_equal(found.states, network.pattern(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_missed(name):
    """Bisection of the changes that a grid sees never finds another pattern."""
    network = NETWORKS[name]
    found = segments(network, *ends(network.size, 8))
    for i in range(len(found)):
        own = slice(found.pieces[i], found.pieces[i + 1])
        known = {row.tobytes() for row in found.states[own]}
        low = np.linspace(0, 1, 4001)[:-1]
        high = np.linspace(0, 1, 4001)[1:]

        def pattern(t, i=i):
            x = found.x0[i] + t[:, None] * (found.x1 - found.x0)[i]
            return network.pattern(x)

        for _ in range(30):
            differ = (pattern(low) != pattern(high)).any(1)
            low, high = low[differ], high[differ]
            middle = (low + high) / 2
            assert {row.tobytes() for row in pattern(middle)} <= known
            low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        # Each breakpoint is where a bisection ends.
        gaps = np.abs(np.sort(low)[:, None] - found.breakpoints(i)).min(0)
        assert gaps.max() < 4e-10


def moved(network, by):
    """The function of `x` that is `network` at `x - by`."""
    return network.restrict(-by * np.ones(network.size), np.eye(network.size))


def scaled(network, factor):
    """The function with its input and all its values times a factor."""

    def on(affine):
        return Affine(affine.matrices, affine.bias * factor)

    layers = tuple(dataclasses.replace(x, affine=on(x.affine)) for x in network.layers)
    return Network(network.size, layers, on(network.out))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_elsewhere(name):
    network = NETWORKS[name]
    x0, x1 = ends(network.size)
    found = segments(network, x0, x1)
    backward = segments(network, x1, x0)
    for i in range(len(found)):
        own = slice(found.pieces[i], found.pieces[i + 1])
        # Values of order 10 in float64, the smallest slopes of a hinge are of order 1e-3.
        np.testing.assert_allclose(backward.stop[own][::-1], 1 - found.start[own], atol=1e-11)
        np.testing.assert_array_equal(backward.states[own][::-1], found.states[own])
    same = [segments(scaled(network, s), s * x0, s * x1) for s in (1e6, 1e-6)]
    same += [segments(moved(network, s), x0 + s, x1 + s) for s in (1e3, -1e6)]
    for other in same:
        assert other.certificate == "generic-certified"
        np.testing.assert_array_equal(other.states, found.states)
        # Shifted ends are rounded to 1e-10.
        np.testing.assert_allclose(other.start, found.start, atol=1e-6)


def test_along_a_hinge():
    found = segments(networks.fixture(), [[1, 0], [0, 1], [0, -1]], [[-1, 0], [0, -1], [1, 1]])
    # y is 0, on both sides of x = 0; then x is 0; then a line that begins on x = 0.
    patterns = ["1001", "0000", "0100", "0011", "1011", "1101"]
    np.testing.assert_array_equal(found.states, [[int(c) for c in p] for p in patterns])
    # Both ends and the breakpoint of the last have their own patterns, as the origin has.
    np.testing.assert_array_equal(found.count("activation"), [2, 3, 5])
    np.testing.assert_array_equal(found.count("convex"), [1, 2, 1])
    np.testing.assert_array_equal(found.breakpoints(2), [0.5])
    assert found.certificate == "uncertified"


def test_through_the_origin_of_a_fan():
    network = networks.random([3, 20, 20, 2], bias=0.0)
    x = ends(3)[0]
    found = segments(network, x, -2 * x)
    np.testing.assert_array_equal(found.counts, 2)
    np.testing.assert_allclose(found.start[1::2], 1 / 3, rtol=1e-15)
    np.testing.assert_array_equal(found.states[::2], network.pattern(x))
    np.testing.assert_array_equal(found.states[1::2], network.pattern(-x))
    assert found.doubtful == 40  # all hinges meet at one place


def test_coincident_hinges_are_one_breakpoint():
    """Units that are the same but for rounding, and units at multiples of each other."""
    rng = np.random.default_rng(0)
    base, bias = rng.normal(size=(3, 6)), rng.normal(size=6)
    factors = np.array([1.0, 1 / 3, -0.7])
    weight = np.concatenate([base * f for f in factors], axis=1)
    network = networks.dense(
        [weight, rng.normal(size=(18, 2))],
        [np.concatenate([bias * f for f in factors]), np.ones(2)],
    )
    alone = networks.dense([base, np.ones((6, 1))], [bias, np.ones(1)])
    x0, x1 = ends(3)
    found, expected = segments(network, x0, x1), segments(alone, x0, x1)
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_allclose(found.start, expected.start, atol=1e-14)
    assert (found.stop > found.start).all()


def maps(found, i):
    """The affine functions of a segment's pieces, by the definition of the network."""
    own = slice(found.pieces[i], found.pieces[i + 1])
    line = found.network.restrict(found.x0[i], (found.x1 - found.x0)[i][None])
    return line.forms(found.states[own]).reshape(own.stop - own.start, -1)


def test_definitions():
    network = networks.random([3, 5, 4, 3, 1], seed=2)  # the last layer is often inactive
    found = segments(network, *ends(3, 200, scale=3.0))
    merged, distinct = [], []
    for i in range(len(found)):
        forms = np.round(maps(found, i), 9) + 0.0
        merged.append(1 + (forms[1:] != forms[:-1]).any(1).sum())
        distinct.append(len(np.unique(forms, axis=0)))
    for definition in ("convex", "open_connected", "connected"):
        np.testing.assert_array_equal(found.count(definition), merged)
    np.testing.assert_array_equal(found.count("affine"), distinct)
    assert sum(distinct) < sum(merged) < found.count("proper").sum()
    for definition in DEFINITIONS[1:]:
        again = dataclasses.replace(found, definition=definition)
        for i in range(len(found)):
            region = again.region[found.pieces[i] : found.pieces[i + 1]]
            first = np.sort(np.unique(region, return_index=True)[1])
            np.testing.assert_array_equal(region[first], np.arange(again.counts[i]))


def test_multiple_of_a_breakpoint_only():
    """By "activation", a group's tie with an earlier member at one point is a pattern."""
    matrix = np.array([[0.0, 1.0, -1.0]])
    groups = np.array([[0, 1, 2]])
    network = Network(
        1,
        (Layer(Affine({0: matrix}, np.zeros(3)), groups),),
        Affine({1: np.ones((1, 1))}, np.zeros(1)),
    )
    found = segments(network, [[-1.0], [0.0]], [[1.0], [1.0]])
    np.testing.assert_array_equal(found.states[:, 0], [2, 1, 1])
    np.testing.assert_array_equal(found.count("activation"), [3, 2])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_proof_sees_what_is_wrong(name):
    network = NETWORKS[name]
    found = segments(network, *ends(network.size))

    def shown(*parts):
        return prove(network, found.x0, found.x1, *parts).complete

    parts = found.segment, found.start, found.stop, found.states
    assert shown(*parts).all()
    for p in np.random.default_rng(0).choice(len(found.segment), 5, replace=False):
        kept = np.arange(len(found.segment)) != p
        complete = np.ones(len(kept), bool)
        complete[kept] = shown(*(x[kept] for x in parts))
        sides = [q for q in (p - 1, p + 1) if found.segment[q % len(kept)] == found.segment[p]]
        assert not complete[sides].any()  # the pieces beside a missing one
        assert complete.sum() == len(kept) - len(sides)
        states = found.states.copy()
        unit = p % network.units
        states[p, unit] = (states[p, unit] + 1) % 2
        assert not shown(*parts[:3], states)[p]


def test_bad_ends():
    network = networks.random([2, 4, 1])
    good = np.zeros((3, 2))
    for bad in (np.nan, np.inf):
        ends = np.ones((3, 2))
        ends[1, 0] = bad
        with pytest.raises(ValueError, match="x1 of segment 1 has NaN or infinite"):
            segments(network, good, ends)
    for shape in ((3, 3), (2,), (3, 1, 2)):
        with pytest.raises(ValueError, match=r"x0 has shape .* expected \[segments, 2\]"):
            segments(network, np.ones(shape), good)
    with pytest.raises(ValueError, match=r"x0 has shape \(3, 2\) and x1 \(2, 2\)"):
        segments(network, good, np.ones((2, 2)))
    with pytest.raises(ValueError, match="both ends of segment 0 are the same point"):
        segments(network, good, np.eye(3, 2) - np.eye(3, 2)[0])
    with pytest.raises(TypeError, match="complex128, expected real numbers"):
        segments(network, good * 1j, good)
    with pytest.raises(ValueError, match="'afine' is not one of .* did you mean 'affine'"):
        segments(network, good, good + 1, definition="afine")


def test_no_segments():
    found = segments(networks.pooled(), np.zeros((0, 2)), np.zeros((0, 2)))
    assert len(found) == 0
    assert found.certificate == "generic-certified"
    for definition in DEFINITIONS:
        assert found.count(definition).shape == (0,)
        assert dataclasses.replace(found, definition=definition).region.shape == (0,)


FAMILIES = {
    "skip": lambda seed: networks.random([4, 10, 10, 2], seed, skip=True),
    "no biases": lambda seed: networks.random([4, 10, 10, 2], seed, bias=0.0, skip=True),
    "pooled": lambda seed: networks.pooled(seed, size=3),
}


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=pytest.mark.slow if f == "pooled" else ()) for f in FAMILIES],
)
def test_both_engines_find_the_same(family):
    for seed in range(10):
        network = FAMILIES[family](seed)
        x0, x1 = ends(network.size, seed=seed)
        x1[0] = -2 * x0[0]  # without biases all hinges meet there
        x1[1, 1:], x0[1, 1:] = 0.0, 0.0
        host, device = segments(network, x0, x1), segments(network, x0, x1, engine="jax")
        np.testing.assert_array_equal(device.states, host.states)
        np.testing.assert_allclose(device.start, host.start, atol=1e-12)
        np.testing.assert_array_equal(device.doubt, host.doubt)
        for definition in DEFINITIONS:
            np.testing.assert_array_equal(device.count(definition), host.count(definition))


@pytest.mark.slow
def test_float32_says_what_it_misses():
    network = networks.random([16, 64, 64, 64, 2], bias=0.01)
    x0, x1 = ends(16, 64)
    host, device = segments(network, x0, x1), segments(network, x0, x1, engine="jax32")
    found = {(i, s.tobytes()) for i, s in zip(device.segment, device.states, strict=True)}
    exact = {(i, s.tobytes()) for i, s in zip(host.segment, host.states, strict=True)}
    missed = {i for i, _ in exact - found}
    assert missed
    assert missed <= set(device.segment[device.doubt])
    assert len(exact - found) < 0.01 * len(exact)
    assert device.certificate == "uncertified"


def test_capacity_grows_and_nothing_is_cut_off():
    network = NETWORKS["deep"]
    x0, x1 = ends(5)
    expected = segments(network, x0, x1)
    assert expected.counts.min() < 16 <= expected.counts.max() < 32
    structure, arrays = on_device.parameters(network, np.float32)
    run = on_device.breakpoints(structure, 16, arrays, *(x.astype(np.float32) for x in (x0, x1)))
    np.testing.assert_array_equal(run.overflow, expected.counts + 1 > 16)
    found = on_device.sweep(network, x0, x1, capacity=16, chunk=20)
    np.testing.assert_array_equal(found.states, expected.states)


def test_one_program_for_networks_of_one_shape(compilations):
    sizes = [4, 10, 10, 2]
    x0, x1 = ends(4, 70, scale=0.5)
    on_device.sweep(networks.random(sizes, seed=4), x0, x1, capacity=32)
    with compilations() as seen:
        for seed in (5, 6):
            for n in (70, 1):
                on_device.sweep(networks.random(sizes, seed), x0[:n], x1[:n], capacity=32)
    assert not seen


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_it_lowers_for_accelerators(platform):
    structure, arrays = on_device.parameters(networks.pooled(), np.float32)
    x = np.zeros((4, 2), np.float32)

    def run(arrays, x0, x1):
        found = on_device.breakpoints(structure, 16, arrays, x0, x1)
        return found.t, found.rows, found.overflow, found.states

    jax.export.export(jax.jit(run), platforms=[platform])(arrays, x, x)


def test_sparse_matrices():
    network = NETWORKS["deep"]

    def sparse(affine):
        return affine.map(lambda m: scipy.sparse.csr_array(m) if m.ndim == 2 else m)

    layers = tuple(dataclasses.replace(x, affine=sparse(x.affine)) for x in network.layers)
    same = Network(network.size, layers, sparse(network.out))
    x0, x1 = ends(5)
    expected = segments(network, x0, x1)
    for engine in ("host", "jax"):
        found = segments(same, x0, x1, engine=engine)
        assert found.certificate == "generic-certified"
        np.testing.assert_array_equal(found.states, expected.states)
    wide = Affine({0: scipy.sparse.csr_array((40_000, 20_000))}, np.zeros(20_000))
    large = Network(40_000, (Layer(wide),), Affine({}, np.ones(1)))
    x = np.zeros((1, 40_000))
    with pytest.raises(ValueError, match=r'take 6,400,000,000 bytes, .* use engine="host"'):
        segments(large, x, x + 1, engine="jax")
    with pytest.raises(ValueError, match="'cuda' is not one of host, jax, jax32"):
        segments(large, x, x + 1, engine="cuda")
