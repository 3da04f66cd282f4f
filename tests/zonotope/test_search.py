"""Local search: real descents over real vertices, against exhaustive search on small problems."""

import itertools

import jax
import numpy as np
import pytest

from activjax import fit
from activjax.zonotope._facets import bounding
from activjax.zonotope._search import REASONS, local_search
from activjax.zonotope._solve import solve


def problem(n, d, seed=0, loss="squared"):
    rng = np.random.default_rng([seed, n, d])
    X = rng.normal(size=(n, d))
    return X, rng.normal(size=n) if loss == "squared" else rng.choice([-1.0, 1.0], n)


def all_vertices(X, count):
    gates = np.random.default_rng(0).normal(size=(200_000, X.shape[1]))
    found = np.unique(X @ gates.T > 0, axis=1).T
    assert len(found) == count
    return found


def is_vertex(X, active):
    """By a linear program: the widest margin of weights with this pattern."""
    rows = X.any(axis=1)
    X, active = X[rows], active[rows]
    sides = (2.0 * active[:, None] - 1) * X
    margin = fit.linear_program(
        np.append(np.zeros(X.shape[1]), -1.0), np.hstack([-sides, np.ones((len(X), 1))]),
        np.zeros(len(X)), lower=-1.0, upper=1.0,
    )  # fmt: skip
    return -margin.value > 1e-8


def assert_sound(search, X, y):
    """What holds of any search."""
    restarts, m, _ = search.active.shape
    assert search.fit.converged.all()
    for r in range(restarts):
        steps = search.steps[r]
        trace = search.objectives[r]
        assert np.isfinite(trace[: steps + 1]).all()
        assert np.isnan(trace[steps + 1 :]).all()
        assert (np.diff(trace[: steps + 1]) < 0).all()
        assert (search.flips[r, steps:] == -1).all()
        np.testing.assert_allclose(trace[steps], search.fit.objective[r], rtol=1e-6, atol=1e-9)
        path = search.path(r)
        assert path.shape == (steps + 1, m, len(X))
        np.testing.assert_array_equal(path[0], search.starts[r])
        np.testing.assert_array_equal(path[-1], search.active[r])
        assert (np.any(path[1:] != path[:-1], axis=2).sum(axis=1) == 1).all()
        assert len(np.unique(path.reshape(len(path), -1), axis=0)) == len(path)
        assert search.programs[r] > steps
    assert search.best == np.argmin(search.fit.objective)
    assert set(search.reasons) <= set(REASONS)


def with_lines(seed=0):
    X, y = problem(30, 5, seed)
    X[6], X[7], X[8] = -2.0 * X[0], X[1], 0.0
    return X, y


@pytest.fixture(scope="module")
def medium():
    X, y = with_lines()
    return X, y, local_search(X, y, 3, jax.random.key(0), restarts=4)


def test_every_step_is_a_descent_over_vertices(medium):
    X, y, search = medium
    assert_sound(search, X, y)
    assert (search.steps > 2).all()
    assert set(search.reasons) == {"no neighbour is better"}
    assert not search.undecided.any()
    units = search.path(search.best).reshape(-1, len(X))
    assert all(is_vertex(X, active) for active in np.unique(units, axis=0))
    # Each entry of the trace is the optimum at the patterns of the path.
    fits = solve(X, y, search.path(0)[:4], search.fit.output_signs[0])
    np.testing.assert_allclose(fits.objective, search.objectives[0, :4], rtol=1e-6)


def test_facets_are_the_flips_that_are_vertices():
    X, _ = problem(25, 4)
    active = X @ [1.0, -0.5, 0.3, 2.0] > 0
    with jax.enable_x64(True):
        rows = X / np.sqrt(np.sum(X**2, axis=1, keepdims=True))
        found = np.asarray(jax.jit(bounding)(rows, 2.0 * active - 1))
    flips = active ^ np.eye(25, dtype=bool)
    np.testing.assert_array_equal(found, [is_vertex(X, flip) for flip in flips])
    assert 4 <= found.sum() < 25


def test_steps_cross_tight_constraints(medium):
    X, y, search = medium
    path, steps = search.path(0), search.steps[0]
    at = solve(X, y, path[:steps][:4], search.fit.output_signs[0])
    for tight, (unit, line) in zip(at.tight, search.flips[0], strict=False):
        assert tight[unit, search.classes == line].all()


def test_the_key_decides(medium):
    X, y, search = medium
    again = local_search(X, y, 3, jax.random.key(0), restarts=4)
    np.testing.assert_array_equal(again.flips, search.flips)
    np.testing.assert_array_equal(again.fit.weights, search.fit.weights)
    other = local_search(X, y, 3, jax.random.key(1), restarts=4)
    assert (other.starts != search.starts).any()


def test_one_compilation_for_one_shape(medium, compilations):
    assert medium
    with compilations() as seen:
        local_search(*with_lines(seed=7), 3, jax.random.key(5), restarts=4, max_steps=9)
    assert not seen


@pytest.mark.slow
def test_a_small_problem_against_exhaustive_search():
    X, y = problem(7, 3, seed=2)
    vertices = all_vertices(X, 44)
    tuples = vertices[np.array(list(itertools.product(range(44), repeat=2)))]
    room = 2e-6 * np.sum(y**2)
    for signs in ([1.0, -1.0], [1.0, 1.0]):
        optima = solve(X, y, tuples, signs)
        assert optima.converged.all()
        found = {}
        for kind in ("full", "tight"):
            search = local_search(
                X, y, 2, jax.random.key(0), restarts=24, output_signs=signs, neighbourhood=kind
            )
            assert_sound(search, X, y)
            found[kind] = search
        full, tight = found["full"], found["tight"]
        assert full.fit.objective.min() == pytest.approx(optima.objective.min(), abs=room)
        assert tight.fit.objective.min() >= optima.objective.min() - room
        np.testing.assert_array_equal(tight.starts, full.starts)
        assert full.programs.sum() > tight.programs.sum()
        assert np.mean(full.fit.objective) <= np.mean(tight.fit.objective) + room
        # Where the full one stopped, no flip of one example at one unit gives a better vertex.
        for active, objective in zip(full.active, full.fit.objective, strict=True):
            flipped = (active != tuples).sum(axis=(1, 2)) == 1
            assert flipped.any()
            assert (optima.objective[flipped] >= objective - room).all()


def test_logistic_loss_with_weight_decay_and_odd_width():
    X, y = problem(20, 3, loss="logistic")
    search = local_search(X, y, 3, jax.random.key(0), restarts=6, loss="logistic", weight_decay=0.1)
    assert_sound(search, X, y)
    np.testing.assert_array_equal(search.fit.output_signs[:, :2], [[1, -1]] * 6)
    assert set(search.fit.output_signs[:, 2]) == {-1.0, 1.0}
    assert (search.fit.objective > search.fit.loss).all()


def test_parallel_examples_flip_together_and_zero_rows_never(medium):
    _, _, search = medium
    assert search.classes[6] == search.classes[0]
    assert search.classes[8] == -1
    for r in range(4):
        path = search.path(r)
        assert (path[..., 6] != path[..., 0]).all()
        assert (path[..., 7] == path[..., 1]).all()
        assert not path[..., 8].any()


def test_it_stops_when_told_and_when_nothing_is_left(medium):
    X, y, search = medium
    short = local_search(X, y, 3, jax.random.key(0), restarts=4, max_steps=1)
    assert (short.steps == 1).all()
    assert set(short.reasons) == {"max_steps"}
    assert short.flips.shape == (4, 1, 2)
    # Labels that the patterns at one restart's start can fit.
    signs = search.fit.output_signs
    y = solve(X, y, search.starts[2], signs[2]).predict(X)
    done = local_search(X, y, 3, jax.random.key(0), restarts=4)
    assert_sound(done, X, y)
    assert done.steps[2] == 0
    assert done.reasons[2] == "the loss is zero"


WRONG = [
    (dict(width=0), "width is 0, expected at least 1"),
    (dict(restarts=0), "restarts is 0, expected at least 1"),
    (dict(max_steps=0), "max_steps is 0, expected at least 1"),
    (dict(neighbourhood="near"), "neighbourhood is 'near', expected 'tight' or 'full'"),
    (dict(X=np.zeros((10, 3))), "all rows of X are 0, there is nothing to search"),
    (dict(y=np.zeros(9)), r"y has shape \(9,\), expected \[10\], one for each"),
    (dict(loss="logistic"), "expected labels -1 and 1"),
    (dict(output_signs=np.ones(3)), r"output_signs has shape \(3,\), expected \[2\]"),
    (dict(output_signs=np.ones((3, 2))), r"shape \(3, 2\), expected \[2\] or \[1, 2\]"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_input_is_refused(change, message):
    X, y = problem(10, 3)
    given = {"X": X, "y": y, "width": 2, "key": jax.random.key(0), **change}
    with pytest.raises(ValueError, match=message):
        local_search(**given)


@pytest.mark.parametrize("value", [2.5, 2.0, True, "2"])
def test_numbers_that_are_no_integers_are_refused(value):
    X, y = problem(10, 3)
    with pytest.raises(TypeError, match="width is .*, expected an integer"):
        local_search(X, y, value, jax.random.key(0))
