"""Coverage of a box by leaves, against trying everything."""

import itertools
import time
from fractions import Fraction

import numpy as np
import pytest

from activjax.verify._tree import Literal
from activjax.verify.checking._coverage import is_tree, uncovered, words

LOW, HIGH = (Fraction(-1), Fraction(0)), (Fraction(1), Fraction(4))


def relu(unit, positive):
    return Literal("relu", unit, positive)


def cut(index, positive, at):
    return Literal("input", index, positive, Fraction(at))


def tree(rng, depth, path=(), low=LOW, high=HIGH):
    """Leaves of a random binary tree, in order."""
    if not depth or rng.random() < 0.15:
        return [path]
    if rng.random() < 0.6:
        free = [u for u in range(8) if not any(x.kind == "relu" and x.index == u for x in path)]
        unit = int(rng.choice(free))
        sides = [(relu(unit, s), low, high) for s in (bool(rng.integers(2)),)]
        sides.append((relu(unit, not sides[0][0].positive), low, high))
    else:
        i = int(rng.integers(2))
        at = (low[i] + high[i]) / 2
        below = tuple(at if k == i else v for k, v in enumerate(high))
        above = tuple(at if k == i else v for k, v in enumerate(low))
        sides = [(cut(i, False, at), low, below), (cut(i, True, at), above, high)]
    return [leaf for x, lo, hi in sides for leaf in tree(rng, depth - 1, (*path, x), lo, hi)]


def truth(leaves, units=8, assumed=()):
    """Whether every pattern with every cell between cuts is in some leaf."""
    at = [[x.at for p in leaves for x in p if (x.kind, x.index) == ("input", i)] for i in range(2)]
    cuts = [sorted({min(max(v, LOW[i]), HIGH[i]) for v in (*at[i], LOW[i], HIGH[i])})
            for i in range(2)]  # fmt: skip
    middles = [[(a + b) / 2 for a, b in itertools.pairwise(c)] for c in cuts]
    used = sorted({x.index for p in leaves for x in p if x.kind == "relu"})
    fixed = {x.index: x.positive for x in assumed}

    def holds(x, signs, point):
        if x.kind == "relu":
            return signs[x.index] == x.positive
        return point[x.index] >= x.at if x.positive else point[x.index] <= x.at

    for bits in itertools.product((False, True), repeat=len(used)):
        signs = dict(zip(used, bits, strict=True))
        if any(signs.get(u, s) != s for u, s in fixed.items()):
            continue
        for point in itertools.product(*middles):
            if not any(all(holds(x, signs, point) for x in p) for p in leaves):
                return False
    return True


@pytest.mark.parametrize("seed", range(30))
def test_trees_cover_and_lose_it_with_any_leaf(seed):
    rng = np.random.default_rng(seed)
    leaves = tree(rng, 5)
    assert is_tree(leaves)
    assert truth(leaves)
    for k in range(len(leaves)):
        rest = leaves[:k] + leaves[k + 1 :]
        assert not is_tree(rest)
        assert uncovered(rest, LOW, HIGH)
    order = rng.permutation(len(leaves))
    mixed = [tuple(leaves[k][i] for i in rng.permutation(len(leaves[k]))) for k in order]
    assert uncovered(mixed, LOW, HIGH) == ""


@pytest.mark.parametrize("seed", range(60))
def test_any_list_agrees_with_trying_everything(seed):
    rng = np.random.default_rng(100 + seed)
    leaves = []
    for _ in range(int(rng.integers(2, 14))):
        path = {}
        for _ in range(int(rng.integers(1, 4))):
            if rng.random() < 0.6:
                unit = int(rng.integers(4))
                path[unit] = relu(unit, bool(rng.integers(2)))
            else:
                positive, i = bool(rng.integers(2)), int(rng.integers(2))
                path["cut", i, positive] = cut(i, positive, int(rng.integers(-1, 4)))
        leaves.append(tuple(path.values()))
    assumed = (relu(0, True),) if seed % 3 == 0 else ()
    assert (uncovered(leaves, LOW, HIGH, assumed) == "") == truth(leaves, assumed=assumed)


def test_mutations_of_a_tree():
    leaves = tree(np.random.default_rng(5), 4)
    for k, path in enumerate(leaves):
        for j, x in enumerate(path):
            flipped = Literal(x.kind, x.index, not x.positive, x.at)
            shifted = Literal(x.kind, x.index + 20, x.positive, x.at) if x.kind == "relu" else (
                Literal("input", x.index, x.positive, x.at + (1 if x.positive else -1))
            )  # fmt: skip
            for other in (flipped, shifted):
                changed = [*leaves]
                changed[k] = (*path[:j], other, *path[j + 1 :])
                assert uncovered(changed, LOW, HIGH)


def test_reasons_name_what_is_left_out():
    leaves = [(relu(0, True),), (relu(0, False), relu(2, True))]
    assert uncovered(leaves, LOW, HIGH) == "no leaf covers N_1 < 0 and N_3 < 0"
    cuts = [(cut(1, False, 1),), (cut(1, True, 2),)]
    assert uncovered(cuts, LOW, HIGH) == "no leaf covers X_1 >= 1.0 and X_1 <= 2.0"
    assert uncovered([], LOW, HIGH) == "there are no leaves"
    assert words(cut(0, True, Fraction(1, 4))) == "X_0 >= 0.25"


def test_one_leaf_and_what_is_assumed():
    assert uncovered([()], LOW, HIGH) == ""
    half = [(relu(3, True),)]
    assert uncovered(half, LOW, HIGH)
    assert uncovered(half, LOW, HIGH, (relu(3, True),)) == ""
    assert uncovered(half, LOW, HIGH, (relu(3, False),))


def test_cuts_beyond_the_box_and_flat_boxes():
    assert uncovered([(cut(0, False, 1),)], LOW, HIGH) == ""
    assert uncovered([(cut(0, False, Fraction(1, 2)),)], LOW, HIGH)
    flat = (Fraction(1), Fraction(0))
    assert uncovered([(cut(0, False, 1),)], flat, (Fraction(1), Fraction(4))) == ""
    assert uncovered([(cut(0, True, 2),)], flat, (Fraction(1), Fraction(4)))


def test_overlapping_cuts_cover():
    leaves = [(cut(1, False, 3),), (cut(1, True, 1), relu(0, True)), (cut(1, True, 2),)]
    assert uncovered(leaves, LOW, HIGH) == ""


def test_gives_up_with_no_and_never_with_yes():
    leaves = tree(np.random.default_rng(2), 6)[::-1]
    leaves = [leaf[::-1] for leaf in leaves]
    assert uncovered(leaves, LOW, HIGH) == ""
    assert uncovered(leaves, LOW, HIGH, most=10).startswith("not decided")


def test_time_is_linear_for_trees():
    # 4 times the leaves, 1.2 times the depth: 5 times the time; the limit leaves room for noise.
    times = []
    for depth in (11, 13):
        leaves = [tuple(relu(i, b) for i, b in enumerate(bits))
                  for bits in itertools.product((False, True), repeat=depth)]  # fmt: skip
        start = time.process_time()
        assert is_tree(leaves)
        times.append(time.process_time() - start)
    assert times[1] < 20 * times[0]
