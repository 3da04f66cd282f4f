"""Cells in boxes: known numbers, exact decisions, and samples that never find another pattern."""

import itertools
from fractions import Fraction
from math import comb

import numpy as np
import pytest
import scipy.sparse

from activjax.program.networks import Affine, Layer, Network
from activjax.regions import _boxes
from activjax.regions._box_forms import Programs
from activjax.regions._box_polytope import faces
from activjax.regions._boxes import enumerate as find
from activjax.regions._count import DEFINITIONS
from tests.regions import networks


def cube(d, half=1.0):
    return np.array([[-half, half]] * d)


def patterns(states):
    return {row.tobytes() for row in states}


def check(network, regions):
    """What holds for all results; the cells of these networks are not thin."""
    assert len(patterns(regions.states)) == len(regions)
    assert (network.pattern(regions.points) == regions.states).all()
    assert (regions.locate(regions.points) == np.arange(len(regions))).all()
    assert (regions.radius > 0).all()
    directions = np.random.default_rng(0).normal(size=(20, network.size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    reach = regions.points[:, None] + 0.999 * regions.radius[:, None, None] * directions
    inside = network.pattern(reach.reshape(-1, network.size))
    assert (inside == np.repeat(regions.states, 20, axis=0)).all()
    assert ((reach >= regions.box[:, 0]) & (reach <= regions.box[:, 1])).all()


def chain(counts):
    """Each definition has no more regions than the one before."""
    highs = [counts[name].high for name in DEFINITIONS]
    lows = [counts[name].low for name in DEFINITIONS]
    assert highs == sorted(highs, reverse=True)
    assert lows == sorted(lows, reverse=True)


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_general_position(d):
    n = 8
    network = networks.random((d, n, 1), d, bias=1.0)
    w, b = network.layers[0].affine.matrices[0], network.layers[0].affine.bias
    corners = [
        np.linalg.solve(w[:, list(s)].T, -b[list(s)]) for s in itertools.combinations(range(n), d)
    ]
    regions = find(network, cube(d, 2 * np.abs(corners).max()), budget=1000)
    cells = sum(comb(n, i) for i in range(d + 1))
    assert (len(regions), regions.complete, regions.doubtful) == (cells, True, 0)
    assert regions.certificate == "generic-certified"
    facets = n * sum(comb(n - 1, i) for i in range(d))
    pairs = regions.adjacency()
    assert pairs.shape == (facets, 2)
    flips = (regions.states[pairs[:, 0]] != regions.states[pairs[:, 1]]).sum(1)
    assert (flips == 1).all()
    assert {str(c).split()[0] for c in regions.counts().values()} == {str(cells)}
    check(network, regions)


@pytest.mark.parametrize("d", [2, 3, 4])
def test_central_fan(d):
    n = 7
    network = networks.random((d, n, 1), d, bias=0.0)
    regions = find(network, cube(d), budget=1000)
    assert len(regions) == 2 * sum(comb(n - 1, i) for i in range(d))
    assert regions.complete
    assert regions.certificate == "exact-integer"
    check(network, regions)


def test_deep_fan_has_no_cell_away_from_the_origin():
    network = networks.random((3, 6, 5, 1), 2, bias=0.0)
    small, large = (find(network, cube(3, half), budget=2000) for half in (2.0**-20, 1.0))
    assert patterns(small.states) == patterns(large.states)
    assert small.complete


def test_fixture():
    regions = find(networks.fixture(), cube(2), budget=100)
    counts = regions.counts()
    found = {name: (c.low, c.high) for name, c in counts.items()}
    assert found.pop("convex") == (3, 5)  # it is 4
    assert found == {
        "activation": (7, 7), "proper": (5, 5), "open_connected": (3, 3), "connected": (3, 3),
        "affine": (3, 3),
    }  # fmt: skip
    assert regions.certificate == "exact-integer"
    check(networks.fixture(), regions)


@pytest.mark.parametrize("depth", range(1, 7))
def test_tent(depth):
    network = networks.tent(depth)
    regions = find(network, [[0, 1]], budget=100)
    assert len(regions) == 2**depth
    assert len(regions.adjacency()) == 2**depth - 1
    assert {int(regions.count(name)) for name in DEFINITIONS[1:]} == {2**depth}
    check(network, regions)


def test_dead_layer_and_no_layers():
    dead = networks.dense([np.ones((2, 3)), np.ones((3, 4)), np.ones((4, 1))],
                          [np.ones(3), np.full(4, -100.0), np.zeros(1)])  # fmt: skip
    regions = find(dead, cube(2, 0.1), budget=10)
    assert len(regions) == 1
    assert regions.complete
    none = Network(3, (), Affine({0: np.ones((3, 2))}, np.zeros(2)))
    regions = find(none, cube(3), budget=1)
    assert {str(c).split()[0] for c in regions.counts().values()} == {"1"}
    assert regions.states.shape == (1, 0)
    assert regions.complete
    assert regions.locate(np.zeros(3)) == 0
    assert np.allclose(regions.maps, np.concatenate([np.zeros((1, 2)), np.ones((3, 2))]))


def test_scaled_rotated_shifted():
    network = networks.random((3, 6, 5, 1), 4, bias=1.0)
    expected = len(find(network, cube(3, 1e4), budget=2000))
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for origin, directions, half in [
        (np.zeros(3), 1e-6 * np.eye(3), 1e10),
        (np.zeros(3), 1e6 * np.eye(3), 1e-2),
        (np.zeros(3), turn, 1e4),
        (rng.normal(size=3), np.eye(3), 1e4),
        (rng.normal(size=3), turn, 1e4),
    ]:
        moved = find(network.restrict(origin, directions), cube(3, half), budget=2000)
        assert len(moved) == expected
        assert moved.complete
    stretched = find(network.restrict(np.zeros(3), np.diag([1e6, 1, 1e-6])),
                     cube(3, 1e4) / [[1e6], [1], [1e-6]], budget=2000)  # fmt: skip
    assert len(stretched) == expected


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("make", [lambda d: networks.random((d, 8, 8, 2), 3, skip=True),
                                  lambda d: networks.pooled(1, d)])  # fmt: skip
def test_a_grid_finds_no_other_pattern(make, d):
    network = make(d)
    regions = find(network, cube(d), budget=2000)
    axis = np.linspace(-1, 1, 10001 if d == 1 else 301)
    grid = np.stack(np.meshgrid(*[axis] * d), -1).reshape(-1, d)
    assert regions.complete
    place = regions.locate(grid)
    assert (place >= 0).all()
    # A cell of diameter 2 or less that is missed by the grid holds no ball of half its diagonal.
    missed = np.setdiff1d(np.arange(len(regions)), place)
    assert (regions.radius[missed] < np.sqrt(d) * (axis[1] - axis[0])).all()
    check(network, regions)


def test_six_dimensions_against_samples():
    network = networks.random((6, 6, 4, 1), 0)
    regions = find(network, cube(6), budget=2000)
    assert regions.complete
    assert regions.certificate == "generic-certified"
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert (regions.locate(rng.uniform(-1, 1, (100_000, 6))) >= 0).all()
    check(network, regions)


def test_integer_points_find_every_pattern():
    # Corners are integers, so that the grid, which is exact, meets every face.
    rng = np.random.default_rng(1)
    weights = rng.choice([-1.0, 0.0, 1.0], (2, 7))
    network = networks.dense([weights, np.ones((7, 1))], [12.0 * rng.integers(-2, 3, 7), [0.0]])
    regions = find(network, cube(2, 60.0), budget=500)
    axis = np.arange(-60.0, 61)
    grid = network.pattern(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    assert int(regions.count("activation")) == len(patterns(grid))
    assert patterns(regions.states) <= patterns(grid)
    check(network, regions)


@pytest.mark.parametrize("seed", range(4))
def test_degenerate_networks_against_exact_samples(seed):
    rng = np.random.default_rng(seed)
    shapes = [(3, 6), (6, 4), (4, 2)]
    network = networks.dense(
        [rng.integers(-1, 2, s).astype(float) for s in shapes],
        [rng.integers(-1, 2, n).astype(float) for _, n in shapes],
    )
    regions = find(network, cube(3, 4.0), budget=2000)
    assert regions.complete
    assert regions.doubtful == 0
    # Dyadic points: evaluated exactly. They meet all cells but small ones.
    points = rng.integers(-(2**30), 2**30 + 1, (200_000, 3)) / 2.0**28
    place = regions.locate(points)
    assert (place >= 0).all()
    assert (regions.radius[np.setdiff1d(np.arange(len(regions)), place)] < 0.1).all()
    faces = rng.integers(-8, 9, (50_000, 3)) / 2.0
    seen = patterns(network.pattern(faces)) | patterns(regions.states)
    assert len(seen) <= int(regions.count("activation"))
    chain(regions.counts())
    check(network, regions)


def test_maxima_with_ties_and_overlap():
    rng = np.random.default_rng(3)
    first = Layer(Affine({0: rng.integers(-1, 2, (2, 6)).astype(float)},
                         rng.integers(-1, 2, 6).astype(float)))  # fmt: skip
    groups = np.array([[0, 1, 2, 0], [2, 3, 4, 5], [1, 5, 3, 4]])
    best = Layer(Affine({1: np.eye(6)}, np.zeros(6)), groups)
    network = Network(2, (first, best), Affine({2: np.ones((3, 1))}, np.zeros(1)))
    regions = find(network, cube(2, 4.0), budget=500)
    points = rng.integers(-(2**30), 2**30 + 1, (200_000, 2)) / 2.0**28
    assert patterns(network.pattern(points)) == patterns(regions.states)
    check(network, regions)


def test_maxima():
    network = networks.pooled(size=3)
    regions = find(network, cube(3), budget=3000)
    assert regions.complete
    x = np.random.default_rng(0).uniform(-1, 1, (200_000, 3))
    assert (regions.locate(x) >= 0).all()
    check(network, regions)


def test_convex_sum_of_maxima():
    # Ten affine functions of general slopes, all on the upper hull: tangents of a paraboloid.
    at = np.random.default_rng(0).uniform(-1, 1, (10, 2))
    affine = Affine({0: 2 * at.T}, -(at**2).sum(1))
    network = Network(2, (Layer(affine, np.arange(10)[None]),),
                      Affine({1: np.ones((1, 1))}, np.zeros(1)))  # fmt: skip
    regions = find(network, cube(2), budget=100)
    assert len(regions) == 10  # a Voronoi diagram, each cell with its site
    assert (regions.locate(at) == np.argsort(regions.states[:, 0])).all()
    assert int(regions.count("affine")) == int(regions.count("open_connected")) == 10
    check(network, regions)


def test_duplicate_units_and_sparse_weights():
    network = networks.random((2, 5, 4, 1), 1)
    twice = networks.dense(
        [np.repeat(network.layers[0].affine.matrices[0], 2, 1),
         np.repeat(network.layers[1].affine.matrices[1], 2, 0) / 2, network.out.matrices[2]],
        [np.repeat(network.layers[0].affine.bias, 2), network.layers[1].affine.bias,
         network.out.bias],
    )  # fmt: skip

    def sparse(affine):
        return Affine({s: scipy.sparse.csr_array(m) for s, m in affine.matrices.items()},
                      affine.bias)  # fmt: skip

    rows = Network(2, tuple(Layer(sparse(x.affine)) for x in network.layers), sparse(network.out))
    one, two, three = (find(f, cube(2), budget=500) for f in (network, twice, rows))
    assert len(one) == len(two) == len(three)
    assert one.certificate == three.certificate == "generic-certified"
    assert two.certificate == "exact-integer"
    assert (one.states == three.states).all()
    assert {k: str(v) for k, v in one.counts().items()} == {
        k: str(v) for k, v in two.counts().items()
    }


def test_cells_thinner_than_float64():
    third = 1 / 3  # is below one third by 1.85e-17: no float64 number is between them
    network = networks.dense([[[1.0, 3.0]], [[1.0], [1.0]]], [[-third, -1.0], [0.0]])
    assert Fraction(third) < Fraction(1, 3) < Fraction(np.nextafter(third, 1))
    regions = find(network, [[0, 1]], budget=10)
    assert sorted(regions.states.tolist()) == [[0, 0], [1, 0], [1, 1]]
    assert regions.complete
    assert regions.certificate == "exact-integer"
    assert regions.radius[regions.states.tolist().index([1, 0])] == 0
    # The other way about, and with the two on one place, there is none such.
    network = networks.dense([[[1.0, 4.0]], [[1.0], [1.0]]], [[-0.25, -1.0], [0.0]])
    assert len(find(network, [[0, 1]], budget=10)) == 2


def touching(shift):
    """`relu(|y| - |x| + shift)`: 0 on two wedges."""
    first = Layer(Affine({0: np.array([[1.0, -1, 0, 0], [0, 0, 1, -1]])}, np.zeros(4)))
    second = Layer(Affine({1: np.array([[-1.0], [-1], [1], [1]])}, np.array([shift])))
    return Network(2, (first, second), Affine({2: np.ones((1, 1))}, np.zeros(1)))


def test_closed_regions_that_touch_in_a_point():
    expected = {0.0: (5, 6, 5), 0.25: (5, 6, 6)}
    for shift, numbers in expected.items():
        regions = find(touching(shift), cube(2), budget=100)
        found = tuple(int(regions.count(k)) for k in ("affine", "open_connected", "connected"))
        assert found == numbers
        chain(regions.counts())


def bridged(outputs=1):
    """`max(min(y, h), -h)`, `h = relu(1 - |x|)`: 0 for |x| >= 1, and on y = 0 between."""
    layers = (
        Layer(Affine({0: np.array([[1.0, -1], [0, 0]])}, np.zeros(2))),
        Layer(Affine({1: np.array([[-1.0], [-1]])}, np.ones(1))),
        Layer(Affine({0: np.array([[0.0], [1]]), 2: np.array([[-1.0]])}, np.zeros(1))),
        Layer(Affine({0: np.array([[0.0], [1]]), 3: np.array([[-1.0]]), 2: np.ones((1, 1))},
                     np.zeros(1))),
    )  # fmt: skip
    scale = np.arange(1.0, outputs + 1)[None]
    return Network(2, layers, Affine({4: scale, 2: -scale}, np.zeros(outputs)))


def test_closed_regions_joined_within_another():
    regions = find(bridged(), cube(2, 2.0), budget=100)
    assert int(regions.count("affine")) == 6
    assert int(regions.count("open_connected")) == 7
    assert int(regions.count("connected")) == 6
    several = find(bridged(2), cube(2, 2.0), budget=100).count("connected")
    assert several.low <= 6 <= several.high <= 7


def test_one_hidden_layer_whose_hinges_cancel():
    # |x| - |x| and a hinge in y: the line x = 0 is no boundary of the function.
    w = np.array([[1.0, -1, 1, -1, 0], [0, 0, 0, 0, 1]])
    network = networks.dense([w, [[1.0], [1], [-1], [-1], [1]]], [np.zeros(5), np.zeros(1)])
    regions = find(network, cube(2), budget=100)
    found = {k: (c.low, c.high) for k, c in regions.counts().items()}
    assert found["proper"] == (4, 4)
    assert all(found[k] == (2, 2) for k in ("convex", "open_connected", "connected", "affine"))


@pytest.mark.parametrize("make", [networks.pooled, lambda: networks.random((2, 8, 8, 1))])
def test_budget(make):
    network = make()
    whole = find(network, cube(2), budget=1000)
    part = find(network, cube(2), budget=20)
    assert len(part) == 20
    assert not part.complete
    assert patterns(part.states) <= patterns(whole.states)
    assert part.count("proper").low == 20
    assert all(c.high is None for c in part.counts().values())
    exactly = find(network, cube(2), budget=len(whole))
    assert exactly.complete
    check(network, part)


def test_error_bounds_hold():
    network = networks.random((3, 6, 6, 6, 1), 5)
    regions = find(network, cube(3, 10.0), budget=100)
    search = regions._geometry.search
    programs = Programs(network)
    worst = 0.0
    for states in regions.states[:10]:
        sources = {0: programs.input()}
        for i, where in enumerate(network.slices):
            forms = programs.before(i, sources)
            sources[i + 1] = programs.after(i, forms, states[where])
            integers, shift = forms.exact
            off = [abs(Fraction(v) - Fraction(int(e), 1 << shift))
                   for v, e in zip(forms.value.ravel(), integers.ravel(), strict=True)]  # fmt: skip
            bound = forms.error.ravel()
            assert all(o <= b for o, b in zip(off, bound, strict=True))
            worst = max(worst, *(float(o) / b for o, b in zip(off, bound, strict=True) if b))
    assert worst > 0.001  # the bounds are not idle
    for v in range(search.vertices.n):
        below, *above = search.vertices.exact(v)
        for x, e, a in zip(search.vertices.point[v], search.vertices.error[v], above, strict=True):
            assert abs(Fraction(x) - Fraction(a, below)) <= Fraction(e)


def integers(sizes, seed):
    rng = np.random.default_rng(seed)
    shapes = list(itertools.pairwise(sizes))
    return networks.dense([rng.integers(-1, 2, s).astype(float) for s in shapes],
                          [rng.integers(-1, 2, n).astype(float) for _, n in shapes])  # fmt: skip


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda d: networks.random((d, 8, 8, 1), 1),
        lambda d: networks.random((d, 6, 6, 1), 1, bias=0.0),
        lambda d: networks.pooled(3, d, units=8),
        lambda d: integers((d, 6, 5, 4, 1), 1),
        lambda d: integers((d, 6, 5, 4, 1), 2),
    ],
)
def test_euler(make, d):
    # The cells and their faces are a polyhedral complex, whose union is a ball.
    regions = find(make(d), cube(d, 3.0), budget=3000)
    assert regions.complete
    geometry = regions._geometry
    vertices, edges, facets = set(), set(), set()
    for ids, on in zip(geometry.ids, geometry.on, strict=True):
        vertices |= set(ids.tolist())
        every = [frozenset(ids[row > 0].tolist()) for row in faces(on)]
        edges |= {face for face in every if len(face) == 2}
        facets |= {frozenset(ids[column].tolist()) for column in on.T}
    if d == 2:
        assert edges == facets
        assert len(vertices) - len(edges) + len(regions) == 1
    else:
        assert len(vertices) - len(edges) + len(facets) - len(regions) == 1


def test_maps():
    network = networks.pooled(2)
    regions = find(network, cube(2), budget=500)
    values = regions.maps[:, 0] + (regions.points[:, :, None] * regions.maps[:, 1:]).sum(1)
    size = np.abs(regions.maps).sum((1, 2)).max()
    assert np.abs(values - network(regions.points)).max() <= 1000 * np.finfo(float).eps * size


@pytest.fixture
def by_programs(monkeypatch):
    monkeypatch.setattr(_boxes, "VERTICES_UP_TO", 0)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_linear_programs_find_the_same_cells(d, monkeypatch):
    network = networks.random((d, 5, 5, 1), d)
    exact = find(network, cube(d), budget=1000)
    monkeypatch.setattr(_boxes, "VERTICES_UP_TO", 0)
    found = find(network, cube(d), budget=1000)
    assert found.complete
    assert found.certificate == "generic-certified"
    assert found.programs > 0
    assert patterns(found.states) == patterns(exact.states)
    assert found.count("affine") == exact.count("affine")
    assert found.count("open_connected").low <= int(exact.count("open_connected"))
    check(network, found)
    with pytest.raises(ValueError, match="adjacency: is found from vertices"):
        found.adjacency()


def test_linear_programs_with_maxima(monkeypatch):
    network = networks.pooled(1, units=8)
    exact = find(network, cube(2), budget=1000)
    monkeypatch.setattr(_boxes, "VERTICES_UP_TO", 0)
    found = find(network, cube(2), budget=1000)
    # Where rectifiers are all 0 their maxima touch: that is in doubt for a linear program.
    assert found.doubtful > 0
    assert found.certificate == "uncertified"
    assert not found.complete
    assert patterns(found.states) <= patterns(exact.states)
    check(network, found)


def test_linear_programs_that_are_in_doubt(by_programs):
    found = find(networks.fixture(), cube(2), budget=100)
    assert found.doubtful > 0
    assert found.certificate == "uncertified"
    assert not found.complete
    assert found.count("proper").low == 5
    assert found.count("proper").high is None


def test_many_dimensions():
    network = networks.random((12, 4, 3, 1), 0)
    found = find(network, cube(12), budget=500)
    assert found.complete
    assert found.certificate == "generic-certified"
    x = np.random.default_rng(0).uniform(-1, 1, (50_000, 12))
    assert (found.locate(x) >= 0).all()
    check(network, found)
    wide = find(networks.random((100, 5, 1), 0), cube(100), budget=10)
    assert len(wide) == 10
    assert not wide.complete


def test_locate():
    network = networks.fixture()
    regions = find(network, cube(2), budget=100)
    assert regions.locate([2.0, 0.0]) == -1
    assert regions.locate(np.array([[0.0, 0.5]])).shape == (1,)
    assert regions.locate([0.5, 0.0]) == -1  # y = 0: a pattern of no cell
    with pytest.raises(ValueError, match=r"x has shape \(3,\), expected \[2\] or \[k, 2\]"):
        regions.locate(np.zeros(3))


def test_errors():
    network = networks.fixture()
    with pytest.raises(ValueError, match=r"box has shape \(3, 2\), expected \[2, 2\]"):
        find(network, cube(3), budget=10)
    with pytest.raises(ValueError, match="NaN or infinite"):
        find(network, [[0, 1], [0, np.inf]], budget=10)
    with pytest.raises(ValueError, match=r"side 1 of the box goes .*, expected low < high"):
        find(network, [[0, 1], [1, 1]], budget=10)
    for budget in (0, 1.5, True):
        with pytest.raises(ValueError, match="expected an integer of at least 1"):
            find(network, cube(2), budget=budget)
    with pytest.raises(ValueError, match="did you mean 'proper'"):
        find(network, cube(2), budget=10).count("propper")
    huge = networks.dense([[[1e200]], [[1e200]], [[1.0]]], [[1.0], [0.0], [0.0]])
    with pytest.raises(OverflowError, match="beyond float64"):
        find(huge, [[0, 1]], budget=10)
