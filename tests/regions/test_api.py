"""Functions as users have them: segments, planes and boxes agree, and verdicts name operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import models, regions
from tests.regions import networks

BOX = [[-1.0, 1.0], [-1.0, 1.0]]


def mlp(sizes, seed=0, **options):
    model = models.mlp(sizes, **options)
    params = model.init(jax.random.key(seed))
    keys = iter(jax.random.split(jax.random.key(7), 2 * len(sizes)))
    params = jax.tree.map(
        lambda p: p + 0.2 * jax.random.normal(next(keys), p.shape) if p.ndim == 1 else p, params
    )
    return lambda x: model.apply(params, x[None])[0]


def test_a_chord_of_a_plane_agrees_with_it():
    f = mlp([5, 16, 16, 3])
    basis = np.random.default_rng(0).normal(size=(2, 5))
    origin = np.random.default_rng(1).normal(size=5)
    cells = regions.on_plane(f, origin, basis, BOX)
    rng = np.random.default_rng(2)
    ends = rng.uniform(-1, 1, (2, 30, 2))
    lines = regions.on_segments(f, *(origin + e @ basis for e in ends))
    where = ends[0][lines.segment] + lines.middle[:, None] * (ends[1] - ends[0])[lines.segment]
    on = cells.locate(where)
    assert (on >= 0).all()
    np.testing.assert_array_equal(cells.states[on], lines.states)
    # The chord of a convex cell is one piece, so no cell comes twice.
    assert len(np.unique(np.stack([lines.segment, on]), axis=1).T) == len(on)


def test_breakpoints_of_a_cnn_on_two_digits_by_bisection():
    from activjax import data

    model = models.cnn([8, 8, 1], [2, 3], 10)
    params = model.init(jax.random.key(0))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(1), p.shape), params)
    a, b = data.digits().train_x[:2].astype(np.float64).reshape(2, 8, 8, 1)
    found = regions.on_segment(lambda x: model.apply(params, x[None])[0], a, b)
    network = found.network

    def pattern(t):
        return network.pattern(((1 - t) * a + t * b).reshape(1, -1))[0]

    breaks = []

    def bisect(low, high, left, right):
        if (left == right).all():
            return
        if high - low < 1e-9:
            breaks.append((low + high) / 2)
            return
        middle = (low + high) / 2
        here = pattern(middle)
        bisect(low, middle, left, here)
        bisect(middle, high, here, right)

    grid = np.linspace(0, 1, 400)
    rows = [pattern(t) for t in grid]
    for k in range(len(grid) - 1):
        bisect(grid[k], grid[k + 1], rows[k], rows[k + 1])
    # A unit that goes on and off again between two points of the grid is not seen by it.
    exact = found.breakpoints(0)
    assert len(breaks) > 30
    nearest = np.abs(np.array(breaks)[:, None] - exact).min(1)
    assert nearest.max() < 2e-9
    assert len(exact) >= len(np.unique(np.round(breaks, 8)))


def test_segments_of_the_program_equal_the_program():
    f = mlp([4, 12, 12, 2], activation="leaky_relu")
    x0, x1 = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    found = regions.on_segments(f, x0, x1)
    t = found.middle
    points = x0[found.segment] + t[:, None] * (x1 - x0)[found.segment]
    want = jax.vmap(f)(jnp.asarray(points, jnp.float32))
    got = found.intercept + found.slope * t[:, None]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)  # float32 of the program


def test_one_segment_is_a_batch_of_one():
    f = mlp([4, 12, 12, 2])
    x0, x1 = np.random.default_rng(0).normal(size=(2, 3, 4))
    many = regions.on_segments(f, x0, x1)
    for i in range(3):
        one = regions.on_segment(f, x0[i], x1[i])
        # Sums are taken in another order.
        np.testing.assert_allclose(one.breakpoints(0), many.breakpoints(i), rtol=0, atol=1e-13)


def test_planes_and_boxes_agree():
    f = mlp([2, 10, 8, 1])
    plane = regions.on_plane(f, np.zeros(2), np.eye(2), BOX)
    box = regions.enumerate(f, BOX, budget=10_000)
    assert box.complete
    assert {s.tobytes() for s in plane.states} == {s.tobytes() for s in box.states}
    for definition, number in box.counts().items():
        other = plane.count(definition)
        assert max(number.low, other.low) <= min(number.high, other.high)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_counts_of_a_box(d):
    counts = regions.count(lambda x: jnp.abs(x).sum(), [[-1.0, 1.0]] * d)
    assert {name: int(c) for name, c in counts.items()} == dict.fromkeys(regions.DEFINITIONS, 2**d)
    one = regions.count(lambda x: jnp.abs(x).sum(), [[-1.0, 1.0]] * d, definition="affine")
    assert int(one) == 2**d


def test_counts_of_the_fixture_as_a_program():
    def f(x):
        h = jax.nn.relu(jnp.stack([x[0], x[1], -x[1]]))
        return jax.nn.relu(h[0] - h[1] + h[2]) - h[0]

    counts = regions.count(f, BOX)
    assert [int(c) for c in counts.values()] == [7, 5, 4, 3, 3, 3]
    point = np.random.default_rng(0).uniform(-1, 1, (20, 2)).astype(np.float32)
    want = np.maximum(-point[:, 1], np.minimum(0, -point[:, 0]))
    np.testing.assert_allclose(jax.vmap(f)(point), want, atol=1e-6)


def test_verdicts():
    x = jnp.ones(3)
    verdict = regions.is_piecewise_linear(lambda x: jax.nn.silu(x), x)
    assert not verdict.piecewise_linear
    assert verdict.first_nonlinear.name == "logistic"
    assert verdict.first_nonlinear.functions == ("silu",)
    assert regions.is_piecewise_linear(jnp.abs, x).piecewise_linear


def test_wrong_input_is_named():
    f = mlp([3, 4, 1])
    with pytest.raises(ValueError, match="on_segment: x0 has shape"):
        regions.on_segment(f, np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="on_segments: x0 has shape"):
        regions.on_segments(f, np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="NaN"):
        regions.on_segment(f, np.zeros(3), np.array([0, 1, np.nan]))
    with pytest.raises(ValueError, match="box has shape"):
        regions.enumerate(f, [0.0, 1.0, 2.0], budget=10)
    with pytest.raises(ValueError, match="low < high"):
        regions.enumerate(f, [[0.0, 0.0]] * 3, budget=10)
    with pytest.raises(ValueError, match="did you mean 'affine'"):
        regions.count(f, [[0.0, 1.0]] * 3, definition="afine")


def test_movement():
    box = [[-1.0, 1.0], [-1.0, 1.0]]

    def ramp(at):
        return regions.on_plane(lambda x: jax.nn.relu(x - at).sum(), np.zeros(2), np.eye(2), box)

    moved = regions.moved(ramp(jnp.array([0.0, 0.5])), ramp(jnp.array([0.25, 0.5])))
    np.testing.assert_allclose(moved.swept, [0.125, 0.0], atol=1e-12)
    assert moved.flips == pytest.approx(0.125)
    assert moved.new == pytest.approx(0.125)
    lines = [
        regions.on_segment(lambda x, a=a: jax.nn.relu(x - a).sum(), -np.ones(2), np.ones(2))
        for a in (0.0, 0.5)
    ]
    np.testing.assert_allclose(regions.moved(*lines).swept, [0.25, 0.25], atol=1e-12)
    with pytest.raises(TypeError, match="Segments and Polygons"):
        regions.moved(lines[0], ramp(jnp.zeros(2)))
    other = regions.on_plane(jnp.abs, np.zeros(2), np.eye(2), [[-2, 1], [-1, 1]])
    with pytest.raises(ValueError, match="different box"):
        regions.moved(ramp(jnp.zeros(2)), other)


def test_pictures(tmp_path):
    import matplotlib.pyplot as plt

    from tests.regions.test_planes import on

    frames = [on(networks.random([2, 6, 5, 1], seed=s)) for s in range(3)]
    for colouring in ("pattern", "function", "region", "active", "output", "layer", frames[0].area):
        ax = regions.plot(frames[0], colour_by=colouring)
        assert ax.get_xlabel()
        plt.close(ax.figure)
    plt.close(regions.strip(frames, columns=2))
    assert regions.film(frames, tmp_path / "a.gif").stat().st_size > 1000
    with pytest.raises(ValueError, match="colour_by 'red' is not one of"):
        regions.plot(frames[0], colour_by="red")
    with pytest.raises(ValueError, match="titles for 3 frames"):
        regions.strip(frames, ["a"])
    with pytest.raises(ValueError, match="ends in .gif"):
        regions.film(frames, tmp_path / "a.mp4")
    plt.close("all")
