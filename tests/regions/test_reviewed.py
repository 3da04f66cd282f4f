"""Answers that were once wrong, each with the smallest case that showed it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import regions
from activjax.program.networks import Affine, Layer, Network, extract
from activjax.regions import _boxes
from activjax.regions._on_plane import on_network
from activjax.regions._segments import segments
from tests.regions import networks

BOX = np.array([[-1.0, 1.0], [-1.0, 1.0]])
A = jnp.linspace(-1.0, 1.0, 6)
UNIT = 2.0**-53


def on(network, box=BOX):
    return on_network(network, np.zeros(2), np.eye(2), np.asarray(box, float), "proper")


def layer(matrix, bias, groups=None, source=0):
    groups = None if groups is None else np.array(groups)
    return Layer(Affine({source: np.array(matrix, float)}, np.array(bias, float)), groups)


def read(*layers):
    """A network of layers, its output the sum of the last one's."""
    n = len(layers)
    return Network(2, layers, Affine({n: np.ones((layers[-1].size, 1))}, np.zeros(1)))


# --- planes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [15, 20, 30])
def test_a_corner_that_is_cut_off_within_rounding(steps):
    # x + y > 2 - steps * 2 ** -52 is a triangle; what is taken for 0 is not proven to be 0.
    found = on(read(layer([[1], [1]], [-(2 - 2 * steps * UNIT)])))
    assert len(found) == 2 or found.certificate == "uncertified"


def test_points_within_rounding_of_a_hinge_have_their_own_patterns():
    # The unit is active everywhere, the corner is within 10 roundings of its hinge.
    found = on(read(layer([[-1], [-1]], [2 + 20 * UNIT])))
    assert found.certificate == "exact-integer"
    assert int(found.count("activation")) == int(found.count("proper")) == 1


def test_patterns_of_groups_and_rectifiers_after_them():
    # An edge of the third layer goes from one rival of the winner to another.
    bias = [0.24334557, 0.30165222, -0.16384328, -0.30950966]
    first = layer([[-0.75, 1, 0.5, -2], [1, 2, -0.25, -1.5]], bias, [[3, 3, 3], [3, 1, 0]])
    second = layer([[0.25, 3.25, 2.25], [-0.75, -1, -0.75]], [0.25, -0.75, 0.5], source=1)
    found = on(read(first, second), 2 * BOX)
    assert found.certificate == "generic-certified"
    assert int(found.count("activation")) == 13


def test_signs_are_kept_at_the_very_ends_of_edges():
    # The last unit's hinge runs so close beside another that its place on an edge rounds to 1.
    first = layer([[-0.3, -0.1, 0], [0.1, -0.3, 0.2]],
                  [0.24991240794472805, -0.41073442539352784, -0.13001766948833057])  # fmt: skip
    weights = [[0.1, -0.2, -0.3], [-0.3, -0.2, -0.2], [0, -0.1, 0.1]]
    found = on(read(first, layer(weights, [0, 0.3, 1e-17], source=1)), 3 * BOX)
    assert len(found) == int(found.count("activation")) == 14


def test_neighbours_that_share_less_than_rounding():
    first = layer([[-1, -2, 0], [-2, 2, 1]], [-4, -2, -2], [[1]])
    second = layer([[-2, 2, 0]], [1e-13, -1e-13, -1.999999999], source=1)
    matrices = {2: [[-2, -1], [-1, 0], [-1, 1]], 0: [[1, 0], [0, -1]], 1: [[2, -2]]}
    third = Layer(Affine({s: np.array(m, float) for s, m in matrices.items()}, np.array([0, 1.0])))
    out = Affine({3: np.array([[-2.0], [-2]]), 1: np.array([[-1.0]])}, np.zeros(1))
    found = on(Network(2, (first, second, third), out))
    exact = _boxes.enumerate(found.plane, found.box, budget=100)
    assert len(exact) == len(found) == 6
    assert len(exact.adjacency()) == 7
    assert len(found.adjacency) == 7 or found.certificate == "uncertified"


def test_groups_of_one():
    found = on(read(layer([[1, 0], [0, 1]], [0, 0], [[0], [1]])))
    assert {int(c) for c in found.counts().values()} == {1}


def test_straight_lines_with_vertices_close_together():
    # Hinges cross at distances of 1e-9; those of units without effect can be left out.
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, np.pi, 6)
    normals = np.stack([np.cos(angle), np.sin(angle)])
    bias = 1e-9 * rng.normal(size=6)
    out = Affine({1: np.array([[1.0], [1], [0], [0], [0], [0]])}, np.zeros(1))
    found = on(Network(2, (Layer(Affine({0: normals}, bias)),), out))
    count = found.count("convex")
    assert (count.low, count.high) == (4, 4)


# --- boxes ----------------------------------------------------------------------------------------


def test_ties_along_a_facet_of_a_group():
    # Where x = 0 three elements are equal: 0 takes what 2 had, up to a facet that it did not cut.
    net = read(layer([[-2, -1, 1, 1, -1], [0, 1, 0, -1, 0]], np.zeros(5), [[4, 3, 2, 0]]))
    found = _boxes.enumerate(net, BOX, budget=100)
    assert len(found) == 3
    assert len(found.adjacency()) == 3
    for count in on(net).counts().values():
        other = found.count(count.definition)
        assert max(count.low, other.low) <= min(count.high, other.high)


# --- programs -------------------------------------------------------------------------------------


def same(f, shape=(6,)):
    made = extract("test", f, jnp.ones(shape))
    points = np.random.default_rng(0).normal(size=(9, *shape)).astype(np.float32)
    want = [np.concatenate([np.ravel(v) for v in jax.tree.leaves(f(jnp.asarray(p)))])
            for p in points]  # fmt: skip
    got = made.network(points.reshape(9, -1).astype(np.float64))
    # float32 against float64
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * max(1, np.abs(want).max()))
    return made.network


MASK = jnp.array([True, False, True, True, False, True])
PROGRAMS = {
    "a scalar times an array": lambda x: x[0] * A,
    "a scalar over an array": lambda x: x[1] / (2 + A),
    "filled": lambda x: x.at[jnp.array([0, 7, 3])].get(mode="fill", fill_value=3.0),
    "added to": lambda x: x.at[jnp.array([1, 1])].add(jax.nn.relu(x[:2])),
    "subtracted from": lambda x: x.at[jnp.array([1, 3])].subtract(2.0),
    "prelu of a matrix": lambda x: jnp.where(
        x.reshape(2, 3) >= 0, x.reshape(2, 3), A.reshape(2, 3) * x.reshape(2, 3)
    ),
    "scalar condition": lambda x: jax.lax.select(x[0] > 0, x[0] * A, jnp.zeros(6)),
    "masked maximum": lambda x: jnp.where(MASK, jnp.abs(x), -jnp.inf).max(),
    "masked minimum": lambda x: jnp.min(
        x.reshape(2, 3), 1, where=MASK.reshape(2, 3), initial=jnp.inf
    ),
    "no bound": lambda x: jnp.clip(x, -jnp.inf, 0.25),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    same(PROGRAMS[name])


@pytest.mark.parametrize("scale", [1e-7, 1e-9])
def test_small_jumps_are_jumps(scale):
    for f in (lambda x: scale * jnp.sign(x), lambda x: (scale * jnp.sign(x)) @ jnp.eye(6)):
        with pytest.raises(ValueError, match="jumps"):
            extract("test", f, jnp.ones(6))


def test_what_has_no_answer_is_named():
    with pytest.raises(TypeError, match="returns no array"):
        extract("test", lambda x: (), jnp.ones(6))
    with pytest.raises(ValueError, match="without elements"):
        extract("test", lambda x: x, jnp.ones((0,)))
    with pytest.raises(TypeError, match="convert it to floats"):
        regions.on_segment(jnp.abs, [0], [1])
    with pytest.raises(ValueError, match="expected more than -0.5"):
        regions.plane_through([0, 0], [1, 0], [0, 1], margin=-1.0)


def test_lists_are_inputs():
    assert regions.on_segment(jnp.abs, [-1.0], [1.0]).counts == [2]
    assert len(regions.on_plane(jnp.abs, [0.0, 0.0], [[1, 0], [0, 1]], BOX)) == 4


def test_boxes_have_the_precision_of_jax():
    with jax.enable_x64(True):
        found = regions.enumerate(lambda x: jax.nn.relu(x - 0.1), [[0.0, 1.0]], budget=9)
        assert found.network.layers[0].affine.bias == [-0.1]


def test_segments_are_numbered_from_either_end():
    x0, x1 = np.random.default_rng(0).normal(size=(2, 3, 6))
    found = segments(networks.random([6, 30, 2]), x0, x1)
    np.testing.assert_array_equal(found.breakpoints(-1), found.breakpoints(2))
    with pytest.raises(IndexError):
        found.breakpoints(3)


def test_pictures_without_hinges():
    import matplotlib.pyplot as plt

    found = regions.on_plane(jnp.sum, np.zeros(2), np.eye(2), BOX)
    for colouring in ("pattern", "active", "layer"):
        plt.close(regions.plot(found, colour_by=colouring).figure)
    with pytest.raises(ValueError, match="no output 1"):
        regions.plot(found, colour_by="output", output=1)
    with pytest.raises(ValueError, match="columns is 0"):
        regions.strip([found], columns=0)
    plt.close("all")
