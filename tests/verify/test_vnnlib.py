"""VNN-LIB properties: what they mean, and what is wrong with those that are wrong."""

import random
from fractions import Fraction as F

import numpy as np
import pytest

from activjax.verify._problem import Case
from activjax.verify._property import Clause
from activjax.verify.formats import FormatError, read_problem, read_property

HEAD = """(declare-const X_0 X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
"""
BOX = "(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1)))\n"
UNIT = ((F(0), F(0)), (F(1), F(1)))
TWO = """(vnnlib-version <2.0>)
(declare-network f (declare-input X float32 [2, 2]) (declare-output Y real [1]))
"""


@pytest.fixture
def read(tmp_path):
    """Reads a property from a text."""

    def reader(text):
        path = tmp_path / "p.vnnlib"
        path.write_text(text)
        return read_property(path)

    return reader


def clauses(read, formula):
    (case,) = read(f"{HEAD}{BOX}(assert {formula})").cases
    assert (case.lower, case.upper) == UNIT
    return case.clauses


def row(weights, bound):
    return Clause((tuple(map(F, weights)),), (F(bound),))


@pytest.mark.parametrize(
    ("atom", "weights", "bound"),
    [
        ("(<= Y_0 Y_1)", (1, -1), 0),
        ("(>= Y_0 Y_1)", (-1, 1), 0),
        ("(<= Y_0 1e-3)", (1, 0), "1/1000"),
        ("(>= Y_0 -.5)", (-1, 0), "1/2"),
        ("(>= 2. Y_1)", (0, 1), 2),
        ("(< Y_1 (/ 1 3))", (0, 1), "1/3"),
        ("(<= (+ Y_0 (* 2 Y_1) 1) (- Y_1 (* Y_0 0.5) 3))", ("3/2", 1), -4),
        ("(<= (- Y_0) (* 2 3))", (-1, 0), 6),
        ("(<= (/ Y_0 4) (- 1 2 3))", ("1/4", 0), -4),
        ("(<= (* 0 Y_0) 1)", (0, 0), 1),
    ],
)
def test_comparisons_become_rows_exactly(read, atom, weights, bound):
    assert clauses(read, atom) == (row(weights, bound),)


def test_an_equality_is_two_rows(read):
    (clause,) = clauses(read, "(= Y_0 2)")
    assert clause == Clause(((F(1), F(0)), (F(-1), F(0))), (F(2), F(-2)))


def test_strict_comparisons_are_counted(read):
    assert read(HEAD + BOX + "(assert (or (< Y_0 1) (> Y_1 2) (<= Y_0 3)))").strict == 2


def test_no_condition_on_outputs_makes_the_whole_box_unsafe(read):
    assert read(HEAD + BOX).cases == (Case(*UNIT, (Clause((), ()),)),)


def test_a_property_that_is_never_true_has_no_clauses(read):
    assert read(HEAD + BOX + "(assert (<= 1 0))").cases == (Case(*UNIT, ()),)


def test_alternatives_of_one_box_are_clauses_of_one_case(read):
    text = "(assert (or (and (<= X_0 2) (<= Y_0 0)) (and (<= X_0 0.5) (<= Y_0 1)) (<= Y_0 3)))"
    first, second = read(HEAD + BOX + text).cases
    assert (first.lower, first.upper) == UNIT
    assert first.clauses == (row((1, 0), 0), row((1, 0), 3))
    assert second.upper == (F(1, 2), F(1))
    assert second.clauses == (row((1, 0), 1),)


def test_boxes_and_clauses_are_multiplied_and_empty_products_dropped(read):
    text = """(assert (or (and (>= X_0 0) (<= X_0 1)) (and (>= X_0 4) (<= X_0 5))))
(assert (or (<= Y_0 0) (and (<= Y_1 0) (<= X_0 3))))
(assert (>= X_1 0)) (assert (<= X_1 1))"""
    first, second = read(HEAD + text).cases
    assert first.clauses == (row((1, 0), 0), row((0, 1), 0))
    assert (second.lower[0], second.upper[0], second.clauses) == (4, 5, (row((1, 0), 0),))


def test_degenerate_boxes_are_boxes(read):
    (case,) = read(HEAD + BOX + "(assert (= X_0 0.25))").cases
    assert case.lower[0] == case.upper[0] == F(1, 4)


def test_a_random_formula_means_what_it_says(read):
    """Against a plain evaluation of the formula at points."""
    rng = random.Random(3)

    def formula(depth):
        if not depth or rng.random() < 0.3:
            sign = rng.choice(["<=", ">="])
            if rng.random() < 0.4:
                return sign, f"X_{rng.randrange(2)}", rng.randrange(-3, 4)
            return sign, f"Y_{rng.randrange(2)}", rng.choice(["Y_0", "Y_1", rng.randrange(-3, 4)])
        parts = [formula(depth - 1) for _ in range(rng.randrange(1, 4))]
        return (rng.choice(["and", "or"]), *parts)

    def text(f):
        return f"({f[0]} {' '.join(text(p) if isinstance(p, tuple) else str(p) for p in f[1:])})"

    def holds(f, point):
        if f[0] in ("and", "or"):
            return (all if f[0] == "and" else any)(holds(p, point) for p in f[1:])
        left, right = (point.get(v, v) for v in f[1:])
        return left <= right if f[0] == "<=" else left >= right

    box = "(assert (and (>= X_0 -4) (<= X_0 4) (>= X_1 -4) (<= X_1 4)))"
    seen, tried = set(), 0
    for _ in range(150):
        wanted = formula(3)
        try:
            cases = read(f"{HEAD}{box}(assert {text(wanted)})").cases
        except FormatError:  # an empty box: tested below
            continue
        tried += 1
        for _ in range(40):
            x0, x1, y0, y1 = (F(rng.randrange(-9, 10), 2) for _ in range(4))
            point = {"X_0": x0, "X_1": x1, "Y_0": y0, "Y_1": y1}
            got = any(
                all(low <= v <= high for low, v, high in zip(c.lower, (x0, x1), c.upper))
                and any(clause.holds((y0, y1)) for clause in c.clauses)
                for c in cases
            )
            want = max(abs(x0), abs(x1)) <= 4 and holds(wanted, point)
            assert got == want, text(wanted)
            seen.add(want)
    assert seen == {True, False}
    assert tried > 75


def test_version_2_flattens_in_c_order(read):
    bounds = "".join(
        f"(assert (and (>= X[{i},{j}] {2 * i + j}) (<= X[{i}, {j}] 9)))"
        for i in range(2) for j in range(2)
    )  # fmt: skip
    stated = read(TWO + bounds + "(assert (== Y [0] 1.5))")
    (case,) = stated.cases
    assert case.lower == (0, 1, 2, 3)
    assert case.clauses[0].bounds == (F(3, 2), F(-3, 2))
    assert stated.shapes == ((2, 2), (1,))
    assert stated.types == ("float32", "real")


def test_both_versions_say_the_same(data):
    one, two = (read_property(data / f"gap_{name}.vnnlib") for name in ("unsat", "2"))
    assert one.cases == two.cases
    assert one.cases[0].clauses == (row((1,), F(-1, 10**9)),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(assert (<= Y_0 1)", r"p.vnnlib:5:1: this bracket is never closed: is the file cut off"),
        ("(assert (<= Y_0 1)))", r":5:20: this bracket closes nothing"),
        ("assert", r":5:1: 'assert' stands outside of brackets"),
        ('(assert (<= Y_0 "1))', r":5:17: '\"' does not belong here"),
        ("(assert (<= Y_[0 1))", r":5:9: .*square brackets"),
        ("(assert (<= Y_2 0))", r":5:13: 'Y_2' is neither a number nor declared; nearest: Y_"),
        ("(assert (<= Y_0 1..5))", r":5:17: '1..5' is neither"),
        ("(assert (<= Y_0 nan))", r":5:17: 'nan' is not finite"),
        ("(assert (<= Y_0 -inf))", r":5:17: '-inf' is not finite"),
        ("(assert (<= Y_0 1e99999999999))", r":5:17: .*between"),
        ("(assert (<= Y_0 " + "1" * 5000 + "))", r":5:17: .*between"),
        ("(assert (<= Y_0))", r":5:9: '<=' compares 2 expressions, here are 1"),
        ("(assert (<= Y_0 Y_1) (<= Y_1 Y_0))", r":5:1: an assert holds 1 formula, here are 2"),
        ("(assert Y_0)", r":5:9: 'Y_0' is not a formula"),
        ("(assert (=> (<= Y_0 0) (<= Y_1 0)))", r":5:9: '=>' is not supported"),
        ("(assert (!= Y_0 0))", r":5:9: '!=' is not supported"),
        ("(assert (<= Y_0 (sin Y_1)))", r":5:17: expected a number.*sin"),
        ("(assert (<= (* Y_0 Y_1) 0))", r":5:13: not linear"),
        ("(assert (<= (/ 1 Y_1) 0))", r":5:13: not linear"),
        ("(assert (<= (/ Y_1 0) 0))", r":5:13: division by 0"),
        ("(assert (<= X_0 Y_0))", r":5:9: inputs and outputs in one comparison"),
        ("(assert (<= X_0 X_1))", r":5:9: a comparison of several inputs \(input 0, input 1\)"),
        ("(assert (<= X_0 -1))", r":5:9: the box is empty"),
        ("(assert (or (<= X_0 -1) (<= Y_0 0)))", r":5:13: the box is empty"),
        ("(declare-const Y_0 Real)", r":5:16: 'Y_0' is declared twice"),
        ("(declare-const Y_3 Real)", r":5:16: Y_3 is declared but Y_2 is not"),
        ("(declare-const Z Real)", r":5:16: 'Z' cannot be declared here"),
        ("(declare-const Y_2 Int)", r":5:20: 'Int': expected the type Real"),
        ("(declare-const Y_2)", r":5:1: expected \(declare-const X_0 Real\)"),
        ("(frobnicate)", r":5:1: \(frobnicate is not known"),
        ("(vnnlib-version <3.0>)", r":5:1: version <3.0> is not supported"),
        (TWO, r":1:1: declare-const \(1.0\) and declare-network \(2.0\) in one file"),
        ("(assert " + "(and " * 300 + "(<= Y_0 1)" + ")" * 301, "nested more than 200 deep"),
        ("(assert (or (<= Y_0 0) (<= Y_0 1)))" * 17, r"has 131072 alternatives .* at most 100000"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_line_and_column(read, text, message):
    with pytest.raises(FormatError, match=message):
        read(HEAD + BOX + text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "declares no input"),
        ("(declare-const X_0 Real)", "declares no output"),
        (HEAD, r"p.vnnlib:3:25: input 0 has no lower bound"),
        (HEAD + "(assert (>= X_0 1))", r"input 0 has no upper bound"),
        (TWO + "(assert (<= X[0,2] 1))", r":3:13: 'X\[0,2\]' is out of range: X"),
        (TWO + "(assert (<= X[0] 1))", r":3:13: 'X\[0\]': expected 2 indices"),
        (TWO + "(assert (<= Y 1))", r":3:13: 'Y': expected 1 indices"),
        (TWO + TWO.splitlines()[1], r":3:1: a second network"),
        (TWO.replace("[1]))", "[1]) (declare-output Z real [1]))"), "a second declare-output"),
        (TWO.replace("2, 2", "1, 2]) (declare-input Z real [1"), "a second declare-input"),
        ("(declare-network f (equal-to g))", "'equal-to' is not supported in a network"),
        ('(declare-network f (declare-input X real [1]) (declare-hidden H real [1] "h"))',
         "a hidden value is not supported"),
        ("(declare-network f (declare-input X int8 [1]))", "'int8' is not supported"),
        ("(declare-network f (declare-input X real [n]))", r"'\[n\]' is not a shape"),
        ("(declare-network f (declare-input X real [1]))", r"expected \(declare-network NAME"),
        ("(declare-network f (declare-output Y real [1]))", "declare-input comes before"),
    ],
)  # fmt: skip
def test_declarations_that_are_wrong_are_named(read, text, message):
    with pytest.raises(FormatError, match=message):
        read(text)


def test_a_file_that_is_no_text_is_named(tmp_path):
    for data, message in ((b"\x1f\x8b\x08", "gzip"), (b"(\xff)", "byte 1 is not text")):
        (tmp_path / "p.vnnlib").write_bytes(data)
        with pytest.raises(FormatError, match=message):
            read_property(tmp_path / "p.vnnlib")


def test_a_problem_joins_network_and_property(data, tmp_path):
    problem = read_problem(data / "gap.onnx", data / "gap_sat.vnnlib")
    assert problem.name == "gap.onnx · gap_sat.vnnlib"
    assert (problem.input_shape, problem.outputs) == ((2,), 1)
    assert problem.digest.startswith("sha256:")
    assert problem.cases == (Case((F(-1), F(-1)), (F(1), F(1)), (row((1,), 0),)),)
    got = problem.apply(problem.params, np.asarray([0.5, -0.25], np.float32))
    assert got.reshape(-1) == 0.25  # relu(.5) + relu(-.25) - relu(.25)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + BOX, "declares 2 outputs, the network gap.onnx has 1, of shape"),
        (HEAD.replace("X_1 ", "") + "(assert (= X_0 0))", "declares 1 input, the network gap.onnx"),
        (TWO.replace("[2, 2]", "[3]") + "".join(f"(assert (= X[{i}] 0))" for i in range(3)),
         r"an input of shape \[3\], the network gap.onnx has 2"),
        (TWO.replace("[2, 2]", "[2]").replace("float32", "float64")
         + "".join(f"(assert (= X[{i}] 0))" for i in range(2)), "an input of float64"),
    ],
)  # fmt: skip
def test_a_property_of_another_network_is_refused(data, tmp_path, text, message):
    path = tmp_path / "p.vnnlib"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        read_problem(data / "gap.onnx", path)


def test_published_properties_have_known_cases(acasxu):
    wanted = {
        "1": [[1]], "2": [[4]], "3": [[4]], "4": [[4]], "5": [[1] * 4], "6": [[1] * 4] * 2,
        "7": [[3, 3]], "8": [[2, 2, 2]], "9": [[1] * 4], "10": [[1] * 4], "0_0.03": [[1] * 9],
    }  # fmt: skip
    for name, rows in wanted.items():
        cases = read_property(acasxu / f"prop_{name}.vnnlib").cases
        assert [[len(clause.bounds) for clause in case.clauses] for case in cases] == rows, name
    (case,) = read_property(acasxu / "prop_4.vnnlib").cases
    assert case.lower[2] == case.upper[2] == 0
    assert case.lower[0] == F("-0.303531156")
