"""The checker: what it accepts and, above all, what it does not."""

import ast
import dataclasses
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
import pytest

import activjax.verify.checking
from activjax.program import UnsupportedError
from activjax.verify import Leaf, Literal, Multipliers, Problem, Tree, above
from activjax.verify.checking import check
from tests.verify.proofs import (
    GAP,
    change,
    clauses,
    full_tree,
    gap,
    least_over,
    mlp,
    proof,
    random_mlp,
    two_layers,
)  # fmt: skip

NEARLY = Fraction(-1, 10**9)


def test_shares_no_code_with_the_search():
    folder = Path(activjax.verify.checking.__file__).parent
    mine = {"_problem", "_property", "_tree", "checking"}
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                parts = name.split(".")
                if parts[0] != "activjax":
                    assert parts[0] not in ("flax", "optax"), (file, name)
                    continue
                assert parts[1] in ("program", "fit", "verify"), (file, name)
                assert parts[1] != "verify" or parts[2] in mine, (file, name)


# --- the gap: relu(a) + relu(b) - relu(a + b) is at least 0 and touches it ------------------------


@pytest.mark.parametrize("arithmetic", ["exact", "lp"])
def test_gap_is_refuted_below_its_minimum_and_not_at_it(arithmetic):
    for units in ((0, 1, 2), (2,)):
        paths = list(full_tree(units))
        good = check(proof(gap(NEARLY), 3, paths), gap(NEARLY), arithmetic)
        assert good.ok, good.reason
        assert good.exact == (arithmetic == "exact")
        assert good.leaves == len(paths) == sum(good.how.values())
        # Some leaf proves no more than the distance to the minimum; lp keeps 40 bits of that.
        assert 0 < good.smallest_margin <= 1.0000001e-9
        bad = check(proof(gap(0), 3, paths), gap(0), arithmetic)
        assert not bad.ok
        assert "leaf" in bad.reason


def test_multipliers_that_were_found_are_enough_the_next_time():
    problem = gap(NEARLY)
    first = check(proof(problem, 3, full_tree((0, 1, 2))), problem)
    again = check(first.tree, problem)
    assert again.ok
    assert set(again.how) <= {"stored", "empty"}
    assert again.tree.leaves == first.tree.leaves


def test_one_leaf_is_split_further_where_needed():
    problem = gap(NEARLY)
    found = check(proof(problem, 3), problem)
    assert found.ok
    assert found.how == {"split": 1}
    assert found.tree.size > 1
    assert check(found.tree, problem).ok
    assert check(found.tree, problem).how == {"stored": found.tree.size}


def test_an_input_that_is_unsafe_is_shown():
    found = check(proof(gap(Fraction(1, 100)), 3), gap(Fraction(1, 100)))
    assert not found.ok
    assert "the property is violated" in found.reason


# --- mutations ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proved():
    """A problem, its true minimum, and a proof with multipliers."""
    params = random_mlp((3, 4, 4, 2), 1)
    low, high = -np.ones(3), np.ones(3)
    least = least_over(params, low, high, np.array([1.0, -1.0]))
    problem = Problem.from_model(mlp, params, (low, high), above([1, -1], Fraction(least - 0.02)))
    found = check(proof(problem, 8, full_tree((4, 5, 6))), problem)
    assert found.ok, found.reason
    return problem, params, least, found.tree


def refused(tree, problem, reason):
    found = check(tree, problem)
    assert not found.ok
    assert not found
    assert reason in found.reason, found.reason


def test_every_dropped_leaf(proved):
    problem, _, _, tree = proved
    (leaves,) = tree.leaves
    for k in range(len(leaves)):
        rest = (leaves[:k] + leaves[k + 1 :],)
        refused(dataclasses.replace(tree, leaves=rest), problem, "no leaf covers")


def test_every_flipped_literal_and_renumbered_unit(proved):
    problem, _, _, tree = proved
    for k, leaf in enumerate(tree.leaves[0]):
        for j, x in enumerate(leaf.literals):
            others = [dataclasses.replace(x, positive=not x.positive)]
            path = {y.index for y in leaf.literals}  # one of these would only make the leaf wider
            free = [u for u in range(8) if u not in path][:2]
            others += [dataclasses.replace(x, index=u) for u in free]
            for other in others:
                literals = (*leaf.literals[:j], other, *leaf.literals[j + 1 :])
                refused(change(tree, k, literals=literals), problem, "")
    unknown = (Literal("relu", 99, True),)
    refused(change(tree, 2, literals=unknown), problem, "leaf 3: N_100 >= 0, but the network has 8")


def test_every_wrong_multiplier(proved):
    problem, _, _, tree = proved
    seen = set()
    for k, leaf in enumerate(tree.leaves[0]):
        for held in leaf.multipliers or ():
            minus = Multipliers(tuple(-r for r in held.rows), held.slopes, held.signs)
            cases = [(minus, "negative" if any(held.rows) else "")]
            for u, v in held.signs.items():
                cases.append((Multipliers(held.rows, held.slopes, {**held.signs, u: -v}), "negat"))
            free = next(u for u in range(8) if u not in {x.index for x in leaf.literals})
            decided = leaf.literals[0].index
            wrong = [({free: Fraction(-1, 8)}, {}, "not in [0, 1]"),
                     ({free: Fraction(9, 8)}, {}, "not in [0, 1]"),
                     ({decided: Fraction(1)}, {}, "a literal decides"),
                     ({77: Fraction(1)}, {}, "N_78"),
                     ({free: Fraction(1, 3)}, {}, "power of two"),
                     ({}, {free: Fraction(1)}, "no literal decides"),
                     ({}, {77: Fraction(1)}, "N_78")]  # fmt: skip
            cases += [(Multipliers(held.rows, {**held.slopes, **s}, {**held.signs, **g}), why)
                      for s, g, why in wrong]  # fmt: skip
            cases.append((Multipliers((*held.rows, Fraction(1)), held.slopes, held.signs), "rows"))
            refused(change(tree, k, multipliers=(held, held)), problem, "2 clauses, expected 1")
            for other, why in cases:
                refused(change(tree, k, multipliers=(other,)), problem, why)
                seen.add(why)
    assert {"negative", "no literal decides"} <= seen


def test_useless_multipliers_are_not_replaced(proved):
    problem, _, _, tree = proved
    k = next(k for k, leaf in enumerate(tree.leaves[0]) if leaf.multipliers)
    nothing = Multipliers((Fraction(0),), {}, {})
    refused(change(tree, k, multipliers=(nothing,)), problem, f"leaf {k + 1}: its multipliers do")
    assert check(change(tree, k, multipliers=None), problem).ok


def test_a_property_beyond_the_true_minimum(proved):
    _, params, least, tree = proved
    box = -np.ones(3), np.ones(3)
    more = Problem.from_model(mlp, params, box, above([1, -1], Fraction(least + 0.02)))
    refused(tree, more, "another property")
    doctored = dataclasses.replace(tree, cases=more.cases)
    refused(doctored, more, "leaf")
    bare = tuple(Leaf(leaf.literals) for leaf in tree.leaves[0])
    refused(dataclasses.replace(doctored, leaves=(bare,)), more, "the property is violated")


def test_a_wider_box_is_another_property_and_a_smaller_one_is_not(proved):
    _, params, least, tree = proved
    for low, high in ((0.5, 0.5), (1.5, 1.5), (1.5, 0.5), (0.5, 1.5)):
        ok = max(low, high) <= 1
        box = -low * np.ones(3), high * np.ones(3)
        other = Problem.from_model(mlp, params, box, above([1, -1], Fraction(least - 0.02)))
        found = check(tree, other)
        assert found.ok == ok
        assert ok or "another property" in found.reason
        # Multipliers are judged in the box that they are of.
        assert not ok or found.tree.cases == tree.cases


def test_another_network_with_and_without_its_digest(proved):
    problem, params, least, tree = proved
    shifted = [*params[:-1], (params[-1][0], params[-1][1] - np.float32([0.5, 0]))]
    box = -np.ones(3), np.ones(3)
    other = Problem.from_model(mlp, shifted, box, above([1, -1], Fraction(least - 0.02)))
    refused(tree, other, "another network")
    refused(dataclasses.replace(tree, digest=None), other, "leaf")
    refused(dataclasses.replace(tree, digest=other.digest), other, "leaf")
    bare = tuple(Leaf(leaf.literals) for leaf in tree.leaves[0])
    refused(dataclasses.replace(tree, digest=None, leaves=(bare,)), other, "violated")
    for what in ("inputs", "outputs", "units"):
        refused(dataclasses.replace(tree, **{what: 11}), problem, "it has 11")


# --- truth by brute force -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_random_networks_agree_with_all_patterns(seed):
    rng = np.random.default_rng(seed)
    sizes = ((2, 6, 2), (3, 3, 4, 2), (2, 3, 2, 2, 2))[seed % 3]
    params, units = random_mlp(sizes, seed), sum(sizes[1:-1])
    low = rng.normal(size=sizes[0])
    high = low + rng.uniform(0, 2, size=sizes[0])
    row = rng.normal(size=2)
    least = least_over(params, low, high, row)
    # HiGHS keeps constraints to 1e-7; numbers here are near 1.
    for shift, ok in ((-1e-5, True), (1e-5, False)):
        unsafe = clauses([(row, least + shift)])
        problem = Problem.from_model(mlp, params, (low, high), unsafe)
        some = rng.choice(units, 2, replace=False).tolist()
        for paths in ([()], list(full_tree(some))):
            found = check(proof(problem, units, paths), problem)
            assert found.ok == ok, found.reason
            if ok:
                assert check(found.tree, problem).ok


def test_several_rows_clauses_and_boxes():
    params = random_mlp((2, 5, 2), 3)
    box = -np.ones(2), np.ones(2)
    least = [least_over(params, *box, r) for r in np.eye(2)]
    both = [(np.eye(2)[0], least[0] - 0.01), (np.eye(2)[1], least[1] + 5)]
    alone = [(np.eye(2)[1], least[1] - 0.01)]
    problem = Problem.from_model(mlp, params, box, clauses(both, alone))
    (case,) = problem.cases
    half = dataclasses.replace(case, upper=(Fraction(0), Fraction(1)))
    problem = dataclasses.replace(problem, cases=(case, half))
    found = check(proof(problem, 5), problem)
    assert found.ok, found.reason
    assert found.leaves == 2
    again = check(found.tree, problem)
    assert again.ok
    assert again.tree.leaves == found.tree.leaves
    # The order of cases and clauses in a proof is its own.
    turned = dataclasses.replace(
        found.tree,
        cases=tuple(dataclasses.replace(c, clauses=c.clauses[::-1])
                    for c in found.tree.cases[::-1]),
        leaves=tuple(
            tuple(Leaf(x.literals, x.multipliers and x.multipliers[::-1]) for x in part)
            for part in found.tree.leaves[::-1]
        ),
    )  # fmt: skip
    assert check(turned, problem).ok


def test_rows_that_only_together_refute():
    # y = (x, -x): x <= -0.1 and -x <= -0.1 at once.
    w = np.array([[1, -1]], np.float32)
    rows = [(np.eye(2)[0], Fraction(-1, 10)), (np.eye(2)[1], Fraction(-1, 10))]
    box = -np.ones(1), np.ones(1)
    problem = Problem.from_model(lambda p, x: x @ p, w, box, clauses(rows))
    found = check(proof(problem, 0), problem)
    assert found.ok
    assert 0 < found.smallest_margin <= 0.1 + 1e-9


def test_leaves_of_others_in_any_order():
    problem = gap(NEARLY)
    paths = [p[::-1] for p in full_tree((2, 0, 1))][::-1]
    assert check(proof(problem, 3, paths), problem).ok
    partial = [(Literal("relu", 2, True),), (Literal("relu", 0, True),),
               (Literal("relu", 2, False), Literal("relu", 0, False))]  # fmt: skip
    assert check(proof(problem, 3, partial), problem).ok


def test_cuts_of_inputs():
    problem = gap(NEARLY)
    at = Fraction(1, 4)
    paths = [(Literal("input", 0, False, at),), (Literal("input", 0, True, at),)]
    found = check(proof(problem, 3, paths), problem)
    assert found.ok
    assert check(found.tree, problem).ok
    apart = [(Literal("input", 0, False, at),), (Literal("input", 0, True, 2 * at),)]
    refused(proof(problem, 3, apart), problem, "no leaf covers X_0")
    beyond = [(Literal("input", 2, False, at),), (Literal("input", 2, True, at),)]
    refused(proof(problem, 3, beyond), problem, "X_2")


def test_cuts_make_the_box_of_a_leaf_smaller():
    # |x| >= 0 needs more than the usual slopes on [-1, 1], and no more on its halves.
    box = -np.ones(1), np.ones(1)
    bound = Fraction(-1, 100)
    problem = Problem.from_model(lambda p, x: abs(p * x), np.float32(1), box, above([1], bound))
    whole = check(proof(problem, 1), problem)
    assert whole.ok
    assert "default" not in whole.how
    halves = [(Literal("input", 0, False),), (Literal("input", 0, True),)]
    assert check(proof(problem, 1, halves), problem).how == {"default": 2}


def test_leaves_that_repeat_or_contradict_themselves():
    problem, false = gap(NEARLY), gap(Fraction(1, 100))
    twice = [(x, x) for (x,) in full_tree((2,))]
    assert check(proof(problem, 3, twice), problem).ok
    refused(proof(false, 3, twice), false, "violated")
    refused(proof(false, 3, [()], [Literal("relu", 2, True)] * 2), false, "violated")
    torn = (Literal("relu", 2, True), Literal("relu", 2, False))
    found = check(proof(problem, 3, [torn, *full_tree((2,))]), problem)
    assert found.ok
    assert found.how["empty"] == 1
    refused(proof(problem, 3, [torn]), problem, "no leaf covers")


def test_weights_that_prove_exactly_nothing_are_not_enough():
    # The least |x| is 0: every weight proves 0 at best, and 0 does not refute |x| <= 0.
    box = np.zeros(1), np.ones(1)
    problem = Problem.from_model(lambda p, x: abs(p * x), np.float32(1), box, above([1], 0))
    for paths in ([()], list(full_tree((0,)))):
        refused(proof(problem, 1, paths), problem, "leaf 1")
    linear = Problem.from_model(lambda p, x: x - p, np.float32(1), (box[1], 2 * box[1]),
                                above([1], 0))  # fmt: skip
    refused(proof(linear, 0), linear, "holds at the input [1]")


def test_what_is_assumed():
    # Where a and b are positive the gap is 0: unsafe `gap >= 1/10` cannot be.
    minus = (GAP[0], -GAP[1])
    box = -np.ones(2), np.ones(2)
    problem = Problem.from_model(two_layers, minus, box, above([1], Fraction(-1, 10)))
    assumed = [Literal("relu", 0, True), Literal("relu", 1, True)]
    assert check(proof(problem, 3, assumed=assumed), problem).ok
    refused(proof(problem, 3), problem, "violated")
    refused(proof(problem, 3, assumed=assumed[:1]), problem, "violated")
    positive = [(Literal("relu", 0, True),)]
    assert check(proof(problem, 3, positive, assumed), problem).ok
    refused(proof(problem, 3, [(Literal("relu", 0, False),)], assumed), problem, "no leaf covers")


def test_an_empty_pattern_is_refuted_for_any_property():
    # a > 0, b > 0 and a + b + 1 < 0 cannot be, though no bound of a unit crosses.
    w = (GAP[0], np.array([0, 0, 1], np.float32), np.zeros((3, 1), np.float32))
    box = -np.ones(2), np.ones(2)
    problem = Problem.from_model(
        lambda p, x: jax.nn.relu(x @ p[0] + p[1]) @ p[2], w, box, above([1], 1)
    )
    assumed = [Literal("relu", 0, True), Literal("relu", 1, True), Literal("relu", 2, False)]
    found = check(proof(problem, 3, assumed=assumed), problem)
    assert found.ok, found.reason
    assert found.how == {"lp": 1}
    (held,) = found.tree.leaves[0][0].multipliers
    assert not any(held.rows)
    assert check(found.tree, problem).how == {"stored": 1}
    refused(proof(problem, 3), problem, "violated")


# --- networks -------------------------------------------------------------------------------------


def test_a_convolution_with_average_pooling():
    rng = np.random.default_rng(0)
    kernel, w = (rng.normal(size=s).astype(np.float32) for s in ((3, 3, 1, 2), (8, 2)))
    params = {"k": kernel, "b": np.float32([0.1, -0.2]), "w": w}

    def apply(p, x):
        h = jax.lax.conv_general_dilated(
            x, p["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        h = jax.nn.relu(h + p["b"])
        h = jax.lax.reduce_window(h, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 3, 3, 1), "VALID") / 9
        return h.reshape(len(x), -1) @ p["w"]

    x = rng.normal(size=(6, 6, 1)).astype(np.float32)
    y = np.asarray(jax.jit(apply)(params, x[None]))[0]
    sign = 1 if y[0] > y[1] else -1
    for radius, ok in ((0.01, True), (4.0, False)):
        box = x - radius, x + radius
        problem = Problem.from_model(apply, params, box, above([sign, -sign], 0))
        found = check(proof(problem, 72), problem)
        assert found.ok == ok, found.reason
        if ok:
            assert check(found.tree, problem).ok
            refused(proof(problem, 71), problem, "it has 71 rectifiers")


def test_max_pooling_is_refused_by_name():
    box = -np.ones(4), np.ones(4)
    problem = Problem.from_model(
        lambda p, x: (x * p).max(1, keepdims=True), np.ones(4, np.float32), box, above([1], 9)
    )
    with pytest.raises(UnsupportedError, match="max pooling is not supported by verify"):
        check(proof(problem, 0), problem)


# --- misuse ---------------------------------------------------------------------------------------


def test_misuse():
    problem = gap(NEARLY)
    tree = proof(problem, 3)
    for args, message in (
        ((problem, problem), "expected a verify.Tree"),
        ((tree, tree), "expected a verify.Problem"),
        ((tree, problem, "float"), '"exact" or "lp"'),
    ):
        with pytest.raises(ValueError, match=message):
            check(*args)
    with pytest.raises(ValueError, match="positive"):
        check(tree, problem, seconds=0)


def test_time_is_kept():
    found = check(proof(gap(NEARLY), 3), gap(NEARLY), seconds=1e-9)
    assert not found.ok
    assert "not decided within" in found.reason


@pytest.mark.parametrize("name", ["sample.aptp", "sample_simplified.aptp"])
def test_published_proofs(acasxu, name):
    from activjax.verify.formats import read_onnx

    tree, network = Tree.load(acasxu / name), read_onnx(acasxu / "sample.onnx")
    problem = Problem(
        network.graph, network.params, network.graph.example, 2, tree.cases, network.digest
    )
    found = check(tree, problem)
    assert found.ok, found.reason
    assert found.leaves == 4
    assert check(found.tree, problem).ok
    for k in range(4):
        rest = (tree.leaves[0][:k] + tree.leaves[0][k + 1 :],)
        refused(dataclasses.replace(tree, leaves=rest), problem, "no leaf covers")


@pytest.mark.parametrize(
    ("network", "prop"),
    [("ACASXU_run2a_4_7_batch_2000.onnx", "prop_3.vnnlib"),
     ("ACASXU_run2a_3_9_batch_2000.onnx", "prop_4.vnnlib"),
     ("ACASXU_run2a_3_8_batch_2000.onnx", "prop_3.vnnlib"),
     ("ACASXU_run2a_4_8_batch_2000.onnx", "prop_4.vnnlib"),
     ("mnist-net_256x2.onnx", "prop_0_0.03.vnnlib")],
)  # fmt: skip
def test_published_instances_from_one_leaf(acasxu, network, prop):
    problem = Problem.from_vnnlib(acasxu / network, acasxu / prop)
    units = 512 if network.startswith("mnist") else 300
    found = check(proof(problem, units), problem, seconds=60)
    assert found.ok, found.reason
    again = check(found.tree, problem)
    assert again.ok
    assert set(again.how) <= {"stored", "empty"}


def test_the_gap_from_files(data):
    safe = Problem.from_vnnlib(data / "gap.onnx", data / "gap_unsat.vnnlib")
    unsafe = Problem.from_vnnlib(data / "gap.onnx", data / "gap_sat.vnnlib")
    tree = Tree.load(data / "gap.aptp")
    found = check(tree, safe)
    assert found.ok, found.reason
    refused(tree, unsafe, "another property")
    refused(dataclasses.replace(tree, cases=unsafe.cases), unsafe, "leaf")
    refused(proof(unsafe, 3), unsafe, "violated")


def test_what_was_found_survives_a_file(tmp_path, proved):
    problem, _, _, tree = proved
    tree.save(tmp_path / "proof.aptp")
    found = check(Tree.load(tmp_path / "proof.aptp"), problem)
    assert found.ok, found.reason
    assert set(found.how) <= {"stored", "empty"}
