"""Adjacent vertices, against the list of all cells."""

import jax
import numpy as np
import pytest

from activjax import patterns, zonotope
from activjax.zonotope._rows import rows_of

from . import arrangements as known
from .truth import sign_of


def bits(codes):
    return np.asarray(patterns.unpack(codes))


def cases():
    rng = np.random.default_rng(0)
    yield "gaussian", rng.normal(size=(12, 3))
    yield "wide", rng.normal(size=(4, 6))
    yield "plane", rng.normal(size=(9, 2))
    yield "line", np.array([[2.0], [-1.0], [0.0]])
    yield "parallel", np.vstack([rng.normal(size=(5, 3)), np.eye(3), -2 * np.eye(3), 0 * np.eye(3)])
    yield "braid", known.braid(4)
    yield "threshold", known.threshold(3)
    yield "huge", rng.normal(size=(8, 3)) * [1e-20, 1.0, 1e20]
    near = rng.normal(size=(9, 3))
    near[5] = near[3] + 0.75 * near[4] + 1e-13
    yield "near", near


CASES = dict(cases())


@pytest.mark.parametrize("name", CASES)
def test_neighbours_are_the_cells_one_class_away(name):
    X = CASES[name]
    all_ = bits(zonotope.cells(X).codes)
    lines = rows_of(X).of
    classes = [lines == i for i in range(lines.max() + 1)]
    known_ = {row.tobytes() for row in all_}
    for pattern in all_[:: max(len(all_) // 12, 1)]:
        found = bits(zonotope.neighbours(X, pattern))
        expected = [pattern ^ c for c in classes if (pattern ^ c).tobytes() in known_]
        np.testing.assert_array_equal(found, expected)


def test_the_graph_of_neighbours_reaches_every_vertex():
    X = known.type_b(3)
    start = bits(zonotope.cells(X).codes)[:1]
    seen, queue = {start[0].tobytes()}, list(start)
    while queue:
        for row in bits(zonotope.neighbours(X, queue.pop())):
            if row.tobytes() not in seen:
                seen.add(row.tobytes())
                queue.append(row)
    assert len(seen) == 48


def test_bad_patterns():
    X = np.vstack([known.type_b(2), np.zeros((1, 2)), -known.type_b(2)[:1]])
    good = bits(zonotope.cells(X).codes)[0]
    one = jax.tree.map(lambda words: words[:1], zonotope.cells(X).codes)
    assert len(bits(zonotope.neighbours(X, one))) == 2
    for change, says in [
        (lambda p: p[:-1], r"shape \(5,\), expected \[6\]"),
        (lambda p: p * 2.0, "other than 0 and 1"),
        (lambda p: p | (np.arange(6) == 4), "row 4 of X is zero, yet active"),
        (lambda p: p ^ (np.arange(6) == 5), "row 5 of X is parallel to an earlier row"),
    ]:
        with pytest.raises(ValueError, match=says):
            zonotope.neighbours(X, change(good))
    with pytest.raises(ValueError, match="expected one row"):
        zonotope.neighbours(X, zonotope.cells(X).codes)
    with pytest.raises(ValueError, match="no weight vector has it"):
        zonotope.neighbours(np.array([[1, 0], [0, 1], [1, 1]]), [True, True, False])


def test_samples_are_cells():
    X = np.random.default_rng(1).normal(size=(12, 3))
    all_ = {row.tobytes() for row in bits(zonotope.cells(X).codes)}
    found = zonotope.sample(X, jax.random.key(0), 3000)
    rows = bits(found.codes)
    assert {row.tobytes() for row in rows} <= all_
    assert len({row.tobytes() for row in rows}) == len(rows) == len(found) == len(found.counts)
    for gate, row in zip(found.gates, rows, strict=True):
        np.testing.assert_array_equal([sign_of(x, gate) > 0 for x in X], row)
    assert found.counts.sum() == found.draws == 3000
    assert 0.9 < found.coverage <= 1
    again = zonotope.sample(X, jax.random.key(0), 3000)
    np.testing.assert_array_equal(again.codes.words, found.codes.words)


def test_the_estimates_of_a_sample():
    """Coverage: the measure of the cells not seen; total: below the truth, within its spread."""
    X = np.random.default_rng(2).normal(size=(10, 2))
    cells = zonotope.cells(X)
    fine = zonotope.sample(X, jax.random.key(9), 200_000)
    share = {row.tobytes(): c / fine.draws for row, c in zip(bits(fine.codes), fine.counts)}
    errors = []
    for seed in range(40):
        few = zonotope.sample(X, jax.random.key(seed), 30)
        seen = sum(share.get(row.tobytes(), 0.0) for row in bits(few.codes))
        errors.append(few.coverage - seen)
    # 40 estimates, each with a standard error below 1 / sqrt(30): four of their mean's
    assert abs(np.mean(errors)) < 4 / np.sqrt(30 * 40)
    assert fine.total <= len(cells) + 1


def test_gates_on_a_hyperplane_do_not_count():
    X = np.zeros((2, 2))
    found = zonotope.sample(X, jax.random.key(0), 5)
    assert len(found) == 1
    assert found.draws == 5
    with pytest.raises(ValueError, match="n is 0"):
        zonotope.sample(X, jax.random.key(0), 0)
    with pytest.raises(TypeError, match="typed key"):
        zonotope.sample(X, np.zeros(2, np.uint32), 1)
