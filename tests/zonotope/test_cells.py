"""Cells of an arrangement: known counts, whatever is done to the rows; words; witnesses."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import patterns, zonotope

from . import arrangements as known
from .truth import by_linear_programs, sign_of

GENERIC = {f"gaussian-{n}-{d}": (n, d) for n, d in [(14, 3), (60, 4), (30, 5), (40, 2), (3, 6)]}


def words(cells):
    """The set of patterns, as bytes of booleans."""
    bits = np.asarray(patterns.unpack(cells.codes))
    out = {row.tobytes() for row in bits}
    assert len(out) == len(bits), "a pattern came twice"
    return out


def permuted(found, order):
    return {np.frombuffer(w, bool)[order].tobytes() for w in found}


def gaussian(n, d, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


@pytest.mark.parametrize("name", known.KNOWN)
def test_known_counts(name):
    X, count = known.KNOWN[name]
    found = zonotope.cells(X)
    assert len(words(found)) == len(found) == count == zonotope.count(X)
    assert found.certificate in ("generic-certified", "exact-integer")


@pytest.mark.parametrize(
    ("n", "d"), [(60, 4), (30, 5), (40, 2), (65, 3), (5, 5), (3, 6), (1, 1), (1, 4), (33, 2)]
)
def test_generic_counts(n, d):
    X = gaussian(n, d)
    found = zonotope.cells(X)
    assert found.certificate == "generic-certified"
    expected = 2**n if d >= n else known.generic_count(n, d)
    assert len(words(found)) == expected == zonotope.count(X)


@pytest.mark.parametrize("name", [*known.KNOWN, *GENERIC])
def test_the_same_arrangement_in_other_clothes(name):
    generic = name in GENERIC
    X = gaussian(*GENERIC[name]) if generic else known.KNOWN[name][0].astype(np.float64)
    rng = np.random.default_rng(1)
    n, d = X.shape
    base = words(zonotope.cells(X))

    scale = 10.0 ** rng.choice([-8, 0, 8], n)
    if generic:
        scale = np.ldexp(1.0, rng.integers(-27, 28, n))  # else the rows are others after rounding
    assert words(zonotope.cells(X * scale[:, None])) == base

    sign = rng.choice([-1.0, 1.0], n)
    flipped = words(zonotope.cells(X * sign[:, None]))
    turned = {(np.frombuffer(w, bool) ^ (sign < 0)).tobytes() for w in base}
    assert flipped == turned

    order = rng.permutation(n)
    assert words(zonotope.cells(X[order])) == permuted(base, order)

    more = np.vstack([X, X[:2], 0 * X[:1], -2 * X[1:2]])
    expected = set()
    for w in base:
        bits = np.frombuffer(w, bool)
        expected.add(np.concatenate([bits, bits[:2], [False], ~bits[1:2]]).tobytes())
    assert words(zonotope.cells(more)) == expected

    change = known.unimodular(d, seed=2).astype(np.float64)
    if generic:
        X = np.round(X * 2**20)  # so that the product is exact
        base = words(zonotope.cells(X))
    assert words(zonotope.cells(X @ change)) == base
    dropped = np.column_stack([X, X[:, :1], X[:, 0] - X[:, -1]])  # rank stays d
    assert words(zonotope.cells(dropped)) == base


def test_nearly_coincident_planes_are_settled_exactly():
    """A triple that meets in a line up to 1e-13, among rows in general position."""
    X = gaussian(12, 3)
    X[5] = X[3] + 0.75 * X[4]
    X[5] += 1e-13 * np.array([1.0, -2.0, 0.5])
    found = zonotope.cells(X)
    assert found.certificate in ("generic-certified", "exact-integer")
    assert len(words(found)) == known.generic_count(12, 3) == zonotope.count(X)
    assert words(zonotope.cells(X, method="exact")) == words(found)
    Y = np.round(gaussian(12, 3) * 2**20)
    Y[5] = Y[3] + 3 * Y[4]
    exactly = zonotope.cells(Y)
    assert exactly.certificate == "exact-integer"
    assert len(exactly) == known.generic_count(12, 3) - 2 == zonotope.count(Y)
    with pytest.raises(ValueError, match="general position"):
        zonotope.cells(Y, method="generic")


@pytest.mark.parametrize("seed", range(25))
def test_random_degenerate_matrices_against_linear_programs(seed):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 9)), int(rng.integers(1, 5))
    X = rng.integers(-1, 2, (n, d))
    assert words(zonotope.cells(X)) == by_linear_programs(X)


@pytest.mark.parametrize("name", ["gaussian", "duplicates", "braid-5", "threshold-3", "huge"])
def test_witnesses_have_their_patterns_exactly(name):
    X = {
        "gaussian": lambda: gaussian(12, 4),
        "duplicates": lambda: np.vstack([gaussian(9, 3), -gaussian(9, 3)[:2], np.zeros((1, 3))]),
        "braid-5": lambda: known.braid(5),
        "threshold-3": lambda: known.threshold(3),
        "huge": lambda: gaussian(8, 3) * 10.0 ** np.arange(-4, 4)[:, None] * [1e-20, 1.0, 1e20],
    }[name]()
    found = zonotope.cells(X)
    bits = np.asarray(patterns.unpack(found.codes))
    assert found.witnesses.shape == (len(found), X.shape[1])
    nonzero = (X != 0).any(axis=1)
    for w, pattern in zip(found.witnesses, bits, strict=True):
        signs = np.array([sign_of(x, w) for x in X])
        np.testing.assert_array_equal(signs > 0, pattern)
        assert (signs[nonzero] != 0).all()
    last = found.witness([len(found) - 1])
    np.testing.assert_array_equal([sign_of(x, last[0]) > 0 for x in X], bits[-1])


def test_a_cell_too_thin_for_floats_has_a_witness_in_integers():
    X = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [2**90, 2**90 + 1, 1]], object)
    found = zonotope.cells(X)
    assert len(found) == 14 == zonotope.count(X)
    bits = np.asarray(patterns.unpack(found.codes))
    for w, pattern in zip(found.witnesses, bits, strict=True):
        np.testing.assert_array_equal([sign_of(x, w) > 0 for x in X], pattern)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, jnp.bfloat16, bool])
def test_every_dtype_means_its_numbers(dtype):
    X = np.asarray(gaussian(8, 3) * 3).astype(dtype)
    exact = [[Fraction(float(v)) for v in row] for row in X]
    assert words(zonotope.cells(X)) == words(zonotope.cells(np.array(exact, object)))
    assert words(zonotope.cells(jnp.asarray(X))) == words(zonotope.cells(X))


@pytest.mark.parametrize(("n", "d"), [(14, 2), (20, 3), (33, 3), (13, 4), (12, 6), (9, 9), (1, 2)])
def test_device_and_host_agree_bit_for_bit(n, d):
    X = gaussian(n, d, dtype=np.float32)
    host, device = (zonotope.cells(X, method=m) for m in ("generic", "jax"))
    assert host.certificate == device.certificate == "generic-certified"
    np.testing.assert_array_equal(host.codes.words, device.codes.words)
    X = np.vstack([X, -2 * X[:1], np.zeros((1, d))])
    host, device = (zonotope.cells(X, method=m) for m in ("generic", "jax"))
    np.testing.assert_array_equal(host.codes.words, device.codes.words)


def test_device_and_host_agree_where_float64_cannot_tell():
    X = gaussian(12, 3)
    X[5] = X[3] + 0.75 * X[4] + 1e-13
    host, device = (zonotope.cells(X, method=m) for m in ("generic", "jax"))
    np.testing.assert_array_equal(host.codes.words, device.codes.words)
    with pytest.raises(ValueError, match="general position"):
        zonotope.cells(known.braid(4), method="jax")


def test_one_compilation_serves_every_level_and_data_set():
    from activjax.zonotope._device import words_of_lines

    zonotope.cells(gaussian(17, 4), method="jax")
    before = words_of_lines._cache_size()
    for seed in range(3):
        zonotope.cells(gaussian(17, 4, seed), method="jax")
    assert words_of_lines._cache_size() == before


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_device_program_lowers_for_accelerators(platform):
    from activjax.zonotope._device import words_of_lines

    shapes = [((8, 4), "int32"), ((16, 4), "float64"), ((9, 1), "uint32"), ((1,), "uint32")]
    with jax.enable_x64(True):
        args = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
        exported = jax.export.export(words_of_lines, platforms=[platform])(*args)
    assert exported.platforms == (platform,)


def test_x64_mode_changes_nothing():
    X = gaussian(15, 3)
    host, device = (zonotope.cells(X, method=m) for m in ("generic", "jax"))
    with jax.enable_x64(True):
        for method in ("generic", "jax"):
            found = zonotope.cells(X, method=method)
            np.testing.assert_array_equal(found.codes.words, host.codes.words)
    np.testing.assert_array_equal(device.codes.words, host.codes.words)
    assert device.codes.words.dtype == jnp.uint32


@pytest.mark.parametrize("X", [gaussian(20, 4), known.threshold(3)])
def test_stream_gives_the_same_cells(X):
    found = zonotope.cells(X)
    streamed = list(zonotope.stream(X, budget=20_000))
    assert {certificate for _, certificate in streamed} == {found.certificate}
    parts = [row.tobytes() for codes, _ in streamed for row in np.asarray(patterns.unpack(codes))]
    assert len(parts) == len(found)
    assert set(parts) == words(found)
    if found.certificate == "generic-certified":
        assert len(streamed) > 3


def test_zero_rows_alone():
    found = zonotope.cells(np.zeros((3, 2)))
    assert len(found) == 1 == zonotope.count(np.zeros((3, 2)))
    assert not np.asarray(patterns.unpack(found.codes)).any()
    assert found.witnesses.shape == (1, 2)
    assert zonotope.count(np.zeros((3, 2)), betti=True) == (1, 0, 0)
    np.testing.assert_array_equal(zonotope.vertices(np.zeros((3, 2))).points, [[0, 0]])


def test_vertices_are_the_zonotope_of_the_textbook():
    X = np.array([[1, 0], [0, 1], [1, 1]])
    found = zonotope.vertices(X)
    expected = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (2, 2)]  # six, not eight
    assert sorted(map(tuple, found.points.tolist())) == expected
    assert found.certificate in ("generic-certified", "exact-integer")


def test_vertices_are_extreme():
    from scipy.spatial import ConvexHull

    X = np.round(gaussian(9, 3) * 64)
    found = zonotope.vertices(X)
    hull = ConvexHull(found.points)
    assert len(hull.vertices) == len(found) == known.generic_count(9, 3)
    assert found.points.min(axis=0) == pytest.approx(np.minimum(X, 0).sum(axis=0))


@pytest.mark.parametrize(
    ("X", "error", "says"),
    [
        (np.zeros(3), ValueError, r"shape \(3,\), expected \[n, d\].*x\[None\]"),
        (np.zeros((0, 3)), ValueError, "nothing in it"),
        (np.zeros((3, 0)), ValueError, "nothing in it"),
        (np.array([[1.0, np.nan]]), ValueError, r"1 NaN or infinite entries, the first at \[0, 1"),
        (np.array([[np.inf, 0.0]]), ValueError, "NaN or infinite"),
        (np.array([["a", "b"]]), TypeError, "expected real numbers"),
        (np.array([[1j]]), TypeError, "expected real numbers"),
        (np.array([[0.5, None]], object), TypeError, "int or Fraction"),
    ],
)
@pytest.mark.parametrize("call", [zonotope.cells, zonotope.count, zonotope.vertices])
def test_bad_data(call, X, error, says):
    with pytest.raises(error, match=says):
        call(X)


def test_bad_options():
    X = gaussian(5, 2)
    with pytest.raises(ValueError, match="method is 'exat', expected one of auto"):
        zonotope.cells(X, method="exat")
    with pytest.raises(ValueError, match="budget is -1"):
        zonotope.cells(X, budget=-1)
    with pytest.raises(ValueError, match=r"up to .* cells of 200 examples .* budget is 1,000,000"):
        zonotope.cells(gaussian(200, 5), budget=10**6)
    with pytest.raises(ValueError, match="limit of 25, which is what the budget of 100 bytes"):
        zonotope.cells(known.resonance(4), method="exact", budget=100)
    with pytest.raises(IndexError, match="numbered 0 .. 9"):
        zonotope.cells(X).witness([10])
