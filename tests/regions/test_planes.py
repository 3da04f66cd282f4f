"""Subdivisions of planes: counts, Euler, patterns, definitions, degenerate arrangements."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import models
from activjax.regions._on_plane import on_network, on_plane, plane_through
from tests.regions import networks

BOX = np.array([[-1.0, 1.0], [-1.0, 1.0]])


def on(net, box=BOX, origin=None, basis=None, definition="proper"):
    origin = np.zeros(net.size) if origin is None else origin
    basis = np.eye(2, net.size) if basis is None else basis
    return on_network(net, origin, basis, np.asarray(box, float), definition)


def sound(found):
    """What holds of every subdivision."""
    assert found.euler == 1
    area = np.prod(found.box[:, 1] - found.box[:, 0])
    np.testing.assert_allclose(found.area.sum(), area, rtol=1e-12)
    assert (found.area > 0).all()
    assert len(np.unique(found.states, axis=0)) == found.cells
    np.testing.assert_array_equal(found.plane.pattern(found.centroids), found.states)
    np.testing.assert_array_equal(found.locate(found.centroids), np.arange(found.cells))
    at = np.einsum("nk,nko->no", np.insert(found.centroids, 0, 1, axis=1), found.maps)
    values = found.network(found.inputs(found.centroids))
    np.testing.assert_allclose(at, values, rtol=0, atol=1e-10 * np.abs(values).max())
    turns = [_turns(found.polygon(c)) for c in range(found.cells)]
    assert all((t > -1e-9).all() for t in turns)


def _turns(p):
    a, b = p - np.roll(p, 1, 0), np.roll(p, -1, 0) - p
    return (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / np.ptp(p) ** 2


@pytest.mark.parametrize("n", [1, 2, 5, 12, 30])
def test_one_hidden_layer_in_general_position(n):
    found = on(networks.random([2, n, 1], seed=n), 1e4 * BOX)
    assert len(found) == sum(math.comb(n, i) for i in range(3))
    assert found.certificate == "generic-certified"
    sound(found)


@pytest.mark.parametrize(
    "net",
    [
        networks.random([2, 12, 12, 12, 2], bias=0.3),
        networks.random([2, 20, 20, 1], seed=1, bias=0.3, skip=True),
        networks.pooled(),
        networks.pooled(seed=1, units=16, pool=8),
        networks.random([5, 16, 16, 3], seed=2, bias=0.5),
    ],
    ids=["deep", "skip", "pooled", "pools of 8", "5 inputs"],
)
def test_a_grid_finds_no_pattern_that_is_missing(net):
    found = on(net, 3 * BOX)
    assert found.certificate == "generic-certified"
    sound(found)
    axis = np.linspace(-3, 3, 1000)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    # One number a pattern: a collision could only hide what is missing, with odds of 2^-40.
    key = np.random.default_rng(0).integers(1, 2**62, found.states.shape[1])
    seen = np.unique(np.concatenate([found.plane.pattern(g) @ key for g in np.split(grid, 10)]))
    assert np.isin(seen, found.states @ key).all()
    assert len(seen) > found.cells // 2


def test_the_six_definitions():
    found = on(networks.fixture())
    counts = {d: (c.low, c.high) for d, c in found.counts().items()}
    assert counts == {
        "activation": (7, 7), "proper": (5, 5), "convex": (4, 4), "open_connected": (3, 3),
        "connected": (3, 3), "affine": (3, 3),
    }  # fmt: skip
    assert [len(found.by(d)) for d in counts] == [5, 5, 4, 3, 3, 3]


def test_six_definitions_are_ordered_on_networks_with_dead_ends():
    for seed in range(4):
        net = networks.random([2, 8, 4, 1], seed=seed, bias=0.5)
        net.layers[1].affine.bias[:] -= 3.0  # mostly inactive: hinges before it have no effect
        counts = on(net, 3 * BOX).counts()
        for a, b in itertools.pairwise(counts.values()):
            assert a.low >= b.low
            assert a.high >= b.high
            assert a.low <= a.high
        assert counts["proper"].low > counts["convex"].high
        assert counts["convex"].low > counts["affine"].low > 1


def test_closed_regions_meet_at_a_point():
    # 0 on the quadrants x > 0 > y and x < 0 < y, which meet at the origin only
    def f(x):
        up, down = jnp.minimum(x[0], x[1]), jnp.minimum(-x[0], -x[1])
        return jax.nn.relu(up) + jax.nn.relu(down)

    found = on_plane(f, np.zeros(2), np.eye(2), BOX)
    counts = {d: int(c) for d, c in found.counts().items() if d in ("open_connected", "connected")}
    assert counts == {"open_connected": 6, "connected": 5}
    assert int(found.count("affine")) == 5


def test_equal_pieces_that_touch_and_that_lie_apart():
    # The function above has the pieces 0 (twice), x, y, -x, -y, and for y > 1 only 0 and x. A bump
    # in y from 2 to 3 makes of these two 0, y - 2, 3 - y, 0 and x, x + y - 2, x + 3 - y, x.
    def f(x):
        low, high = jnp.minimum(x[0], x[1]), jnp.minimum(-x[0], -x[1])
        knots = jax.nn.relu(x[1] - jnp.array([2.0, 2.5, 3.0]))
        return jax.nn.relu(low) + jax.nn.relu(high) + knots @ jnp.array([1.0, -2.0, 1.0])

    found = on_plane(f, np.zeros(2), np.eye(2), [[-1, 1], [-1, 4]])
    counts = {d: int(found.count(d)) for d in ("open_connected", "connected", "affine")}
    assert counts == {"open_connected": 12, "connected": 11, "affine": 9}


def test_zero_biases_make_a_fan():
    found = on(networks.random([2, 9, 8, 1], bias=0.0))
    assert (found.begins[1:] - found.begins[:-1] >= 3).all()
    # every cell has the origin as a vertex
    zero = np.flatnonzero((found.vertices == 0).all(1))
    assert len(zero) == 1
    ends = np.split(found.ring, found.begins[1:-1])
    assert all(zero[0] in ring for ring in ends)
    sound(found)


def test_dead_layers_and_output_biases_cut_nothing():
    dead = networks.random([2, 8, 1])
    dead.layers[0].affine.bias[:] = -100.0
    assert len(on(dead)) == 1
    assert len(on_plane(lambda x: x.sum() + 3.0, np.zeros(2), np.eye(2), BOX)) == 1


def test_units_on_one_line_are_one_line():
    weights = np.array([[1.0, -2.0, 0.5, 0.0], [1.0, -2.0, 0.5, 0.0]])
    net = networks.dense([weights, np.ones((4, 1))], [np.array([0.1, -0.2, 0.05, 1.0]), [0.0]])
    found = on(net)
    assert found.cells == 2
    assert found.touched > 0
    assert found.certificate == "exact-integer"


def test_many_lines_through_one_point():
    angle = np.pi * np.arange(12) / 12
    normals = np.stack([np.cos(angle), np.sin(angle)])
    net = networks.dense([normals, np.ones((12, 1))], [-(normals.T @ [0.3, 0.2]), [0.0]])
    found = on(net)
    assert found.cells == 24
    sound(found)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_counts_do_not_depend_on_units(scale):
    net = networks.random([2, 16, 16, 1], seed=3, bias=0.3)
    first = net.layers[0].affine
    want = len(on(net))
    inner = networks.dense(
        [first.matrices[0] * scale, net.layers[1].affine.matrices[1] / scale,
         net.out.matrices[2]],
        [first.bias * scale, net.layers[1].affine.bias, net.out.bias],
    )  # fmt: skip
    assert len(on(inner)) == want
    assert len(on(net.restrict(np.zeros(2), np.eye(2) / scale), scale * BOX)) == want
    turn = np.array([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]])
    turned = on(net, BOX, basis=turn)  # another rectangle of the same plane
    back = net.restrict(np.zeros(2), turn.T)
    assert len(on(back, BOX, basis=turn)) == want
    assert len(turned) != 1
    shifted = net.restrict(np.full(2, -scale), np.eye(2))
    assert len(on(shifted, BOX + scale)) == want


def test_a_cnn_on_the_plane_of_three_images():
    model = models.cnn([8, 8, 1], [3, 4], 10)
    params = model.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (3, 8, 8, 1))
    plane = plane_through(*images)

    def f(x):
        return model.apply(params, x[None])[0]

    found = on_plane(f, *plane)
    sound(found)
    assert found.certificate == "generic-certified"
    at = (images.reshape(3, -1) - plane.origin.ravel()) @ plane.basis.reshape(2, -1).T
    cells = found.locate(at)
    want = jax.vmap(f)(images)
    got = np.einsum("nk,nko->no", np.insert(np.asarray(at), 0, 1, axis=1), found.maps[cells])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)  # float32 of the model


def test_points_on_hinges_have_inactive_units():
    found = on_plane(lambda x: jax.nn.relu(x).sum(), np.zeros(2), np.eye(2), BOX)
    cells = found.locate(np.array([[0.0, 0.0], [0.0, 0.5], [0.5, 0.5], [2.0, 0.0]]))
    assert found.states[cells[:3]].tolist() == [[0, 0], [0, 1], [1, 1]]
    assert cells[3] == -1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"basis": np.ones((2, 2))}, "linearly dependent"),
        ({"basis": np.eye(3)}, r"basis has shape \(3, 3\)"),
        ({"origin": np.array([0.0, np.nan])}, "NaN or infinite"),
        ({"box": [[1, -1], [0, 1]]}, "expected low < high"),
        ({"box": [[0, 1]]}, r"expected \[2, 2\]"),
        ({"definition": "conex"}, "did you mean 'convex'"),
        ({"f": lambda x: jax.nn.gelu(x)}, "not piecewise linear: integer_pow"),
        ({"f": lambda x: x.at[0].set(jnp.inf) @ jnp.ones(2)}, "NaN or infinite"),
    ],
)
def test_bad_input_is_named(change, words):
    args = {"f": jnp.abs, "origin": np.zeros(2), "basis": np.eye(2), "box": BOX, **change}
    with pytest.raises(ValueError, match=words):
        on_plane(args["f"], args["origin"], args["basis"], args["box"],
                 definition=args.get("definition", "proper"))  # fmt: skip


def test_plane_through_three_points():
    points = np.random.default_rng(0).normal(size=(3, 4, 2))
    plane = plane_through(*points)
    flat = plane.basis.reshape(2, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(2), atol=1e-12)
    at = (points - plane.origin).reshape(3, -1) @ flat.T
    np.testing.assert_allclose(plane.origin.ravel() + at @ flat, points.reshape(3, -1), atol=1e-12)
    assert (at >= plane.box[:, 0]).all()
    assert (at <= plane.box[:, 1]).all()
    with pytest.raises(ValueError, match="linearly dependent"):
        plane_through(points[0], points[0], points[1])
