"""Proofs as text: ours come back as they were, those of others read, wrong ones are refused."""

from fractions import Fraction as F

import pytest
from hypothesis import given, settings, strategies as st

from activjax.verify._problem import Case
from activjax.verify._property import Clause
from activjax.verify._tree import Leaf, Literal, Multipliers, Tree
from activjax.verify.formats import FormatError, read_property, read_tree, write_tree

INPUTS, OUTPUTS, UNITS = 2, 3, 6

dyadics = st.builds(lambda n, k: F(n, 2**k), st.integers(-(2**40), 2**40), st.integers(0, 60))
numbers = dyadics | st.fractions() | st.floats(-(2.0**126), 2.0**126, width=32).map(F)
signs = st.booleans()
decided = st.builds(Literal, st.just("relu"), st.integers(0, UNITS - 1), signs)
cut = st.builds(Literal, st.just("input"), st.integers(0, INPUTS - 1), signs, numbers)
literals = decided | cut
weights = st.dictionaries(st.integers(0, UNITS - 1), dyadics, max_size=3)
multipliers = st.builds(Multipliers, st.lists(dyadics, max_size=3).map(tuple), weights, weights)
leaf = st.builds(
    Leaf,
    st.lists(literals, max_size=4).map(tuple),
    st.none() | st.lists(multipliers, max_size=2).map(tuple),
)
factors = st.sampled_from([F(-1), F(0), F(1), F(1, 3)])
row = st.tuples(st.tuples(*[factors] * OUTPUTS), st.sampled_from([F(0), F(-2), F(1, 7)]))
clause = st.lists(row, max_size=3).map(
    lambda rows: Clause(tuple(r for r, _ in rows), tuple(b for _, b in rows))
)


@st.composite
def case(draw):
    sides = [sorted(draw(st.tuples(numbers, numbers))) for _ in range(INPUTS)]
    lower, upper = zip(*sides)
    return Case(lower, upper, tuple(draw(st.lists(clause, max_size=3))))


@st.composite
def trees(draw):
    cases = draw(st.lists(case(), min_size=1, max_size=3))
    leaves = [tuple(draw(st.lists(leaf, max_size=3))) for _ in cases]
    assumed = tuple(draw(st.lists(literals, max_size=2)))
    digest = draw(st.none() | st.just("sha256:0123"))
    return Tree(INPUTS, OUTPUTS, UNITS, tuple(cases), tuple(leaves), assumed, digest)


def content(tree):
    return (
        tree.inputs, tree.outputs, tree.units, tree.cases, tree.leaves, tree.assumed, tree.digest
    )  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(trees())
def test_what_is_written_is_read(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "proof.aptp"
    tree.save(path)
    assert content(Tree.load(path)) == content(tree)


def simple(leaves, **more):
    """A proof about the box [0, 1]^2 and the outputs y0 <= y1."""
    unsafe = Clause(((F(1), F(-1), F(0)),), (F(0),))
    box = Case((F(0), F(0)), (F(1), F(1)), (unsafe,))
    return Tree(INPUTS, OUTPUTS, UNITS, (box,), (tuple(leaves),), **more)


SIMPLE = simple(
    [
        Leaf((Literal("relu", 5, False),), (Multipliers((F(1),), {0: F(1, 2)}, {5: F(3, 4)}),)),
        Leaf((Literal("relu", 5, True), Literal("relu", 0, False))),
        Leaf((Literal("relu", 5, True), Literal("relu", 0, True))),
    ],
    digest="sha256:12",
)
TEXT = """\
; activjax-proof 1
; network sha256:12
; cases 1
(declare-const X_0 X_1 Real)
(declare-const Y_0 Y_1 Y_2 Real)
(declare-pwl N_1 N_2 N_3 N_4 N_5 N_6 ReLU)
; input constraints
(assert (>= X_0 0.0))
(assert (<= X_0 1.0))
(assert (>= X_1 0.0))
(assert (<= X_1 1.0))
; output constraints
(assert (<= Y_0 Y_1))
; leaves 3 of case 1
(assert (or
    (and (< N_6 0))
;! rows 0x1p0 slopes 1:0x1p-1 signs 6:0x3p-2
    (and (>= N_6 0) (< N_1 0))
    (and (>= N_6 0) (>= N_1 0))
))
; end of proof
"""


def test_a_proof_by_rectifiers_is_plain_aptp(tmp_path):
    path = tmp_path / "proof.aptp"
    write_tree(SIMPLE, path)
    assert path.read_text() == TEXT
    assert [file.name for file in tmp_path.iterdir()] == ["proof.aptp"]
    # a reader that leaves out comments sees the same leaves
    path.write_text("\n".join(line for line in TEXT.splitlines() if line[0] != ";"))
    plain = read_tree(path)
    assert plain.cases == SIMPLE.cases
    assert [x.literals for x in plain.leaves[0]] == [x.literals for x in SIMPLE.leaves[0]]


def test_numbers_are_decimals_where_those_end(tmp_path):
    cut = [F(5, 8), F(-1, 2**20), F(1, 3), F(10**30)]
    tree = simple([Leaf((Literal("input", 0, True, at),)) for at in cut])
    write_tree(tree, tmp_path / "proof.aptp")
    lines = (tmp_path / "proof.aptp").read_text().splitlines()
    wanted = ["0.625", "-0.00000095367431640625", "(/ 1 3)", "1" + "0" * 30 + ".0"]
    assert lines[14:18] == [f"    (and (>= X_0 {text}))" for text in wanted]
    assert read_tree(tmp_path / "proof.aptp").leaves == tree.leaves


def test_a_proof_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "proof.aptp"
    write_tree(SIMPLE, path)
    bad = [
        simple([Leaf((Literal("relu", 0, True, F(1)),))]),
        simple([Leaf((), (Multipliers((F(1, 3),), {}, {}),))]),
        simple([Leaf((Literal("input", 0, True, F(2) ** 20000),))]),
        simple([], digest="two\nlines"),
        Tree(INPUTS, OUTPUTS, UNITS, (), ()),
    ]
    messages = ["is cut at 1", "is not dyadic", "digits", "not one line", "at least one case"]
    for tree, message in zip(bad, messages, strict=True):
        with pytest.raises(ValueError, match=message):
            write_tree(tree, path)
    assert path.read_text() == TEXT
    assert [file.name for file in tmp_path.iterdir()] == ["proof.aptp"]


def test_a_proof_that_is_cut_off_never_reads(tmp_path):
    path = tmp_path / "proof.aptp"
    for size in range(len(TEXT) - 1):  # all but the last line break
        path.write_text(TEXT[:size])
        with pytest.raises(FormatError, match=r"proof\.aptp"):
            read_tree(path)


def changed(old, new):
    assert old in TEXT
    return TEXT.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed("proof 1", "proof 2"), r":1:1: '; activjax-proof 2': this version is not known"),
        (changed("(< N_1 0)", "(< N_999 0)"), r":18:24: 'N_999' is neither a number nor declared; "
         r"nearest: N_.*\(declared: 2 inputs, 3 outputs, 6 rectifiers\)"),
        (changed("(< N_1 0)", "(< N_1 0.5)"), r":18:28: N_1 is cut at 1/2; expected 0"),
        (changed("(< N_1 0)", "(= N_1 0)"), r":18:21: \(= \.\.\.\) is no literal"),
        (changed("(< N_1 0)", "(< Y_1 0)"), r":18:24: expected a rectifier N_i, or an input X_i"),
        (changed("(< N_1 0)", "(< 0 N_1)"), r":18:24: expected a rectifier"),
        (changed("(< N_1 0)", "(< N_1 X_0)"), r":18:28: expected a number"),
        (changed("(< N_1 0)", "(or (< N_1 0) (< N_2 0))"), r":18:5: expected one conjunction"),
        (changed("(< N_1 0)", "N_1"), r":18:21: 'N_1' is not a formula"),
        (changed("(< N_1 0))", "(< N_1 0)"), r":15:1: this bracket is never closed"),
        (changed("    (and (>= N_6 0) (< N_1 0))\n", ""), r":15:1: 3 leaves are announced"),
        (changed("leaves 3 of case 1", "leaves 3 of case 2"), r":14:1: expected the leaves"),
        (changed("cases 1", "cases 2"), r":1:1: 2 cases are announced"),
        (changed("; leaves 3 of case 1\n", ""), r":1:1: 1 cases are announced"),
        (changed("; end of proof\n", ""), r"is it cut off\?"),
        (changed("N_6 ReLU", "N_6 Sigmoid"), r":6:1: expected \(declare-pwl"),
        (changed("N_6 ReLU", "N_7 ReLU"), r":6:34: N_7 is declared but N_6 is not; expected N_1"),
        (changed("N_1 N_2", "N_0 N_2"), r":6:14: N_0 is declared but N_1 is not"),
        (changed("slopes 1", "slopes 7"), r":17:1: multipliers of N_7; there are N_1 to N_6"),
        (changed("slopes 1", "slopes x"), r":17:1: 'x:0x1p-1' is no multiplier"),
        (changed("0x3p-2", "0.75"), r":17:1: '0.75' is no number; expected such as 0x3p-2"),
        (changed("0x3p-2", "0x3p99999999"), r":17:1: .*power of two"),
        (changed("(assert (<= Y_0 Y_1))", "(assert (<= N_1 0))"), r":13:9: a rectifier N_i"),
        (changed("(assert (<= X_1 1.0))\n", ""), "input 1 has no upper bound"),
        (changed("(assert (<= X_1 1.0))", "(check-sat)"), r":11:1: \(check-sat is not known"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_line_and_column(tmp_path, text, message):
    path = tmp_path / "proof.aptp"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        read_tree(path)


OTHERS = "".join(TEXT.splitlines(keepends=True)[3:13])


def of_others(tmp_path, hidden, head=OTHERS):
    path = tmp_path / "others.aptp"
    path.write_text(head + hidden)
    return read_tree(path)


def test_a_proof_without_leaves_is_one_leaf(tmp_path):
    tree = of_others(tmp_path, "")
    assert (tree.leaves, tree.units, tree.digest) == (((Leaf(()),),), 6, None)


def test_one_conjunction_is_one_leaf(tmp_path):
    wanted = (Leaf((Literal("relu", 0, False), Literal("relu", 1, True))),)
    assert of_others(tmp_path, "(assert (and (< N_1 0) (>= N_2 0)))").leaves == (wanted,)
    assert of_others(tmp_path, "(assert (or (< N_1 0)))").leaves[0][0].literals == (
        Literal("relu", 0, False),
    )


def test_nested_formulas_are_multiplied_out(tmp_path):
    text = "(assert (or (and (or (< N_1 0) (> N_2 0)) (or (<= N_3 0) (>= N_4 0))) (>= N_5 0)))"
    found = of_others(tmp_path, text).leaves[0]
    sets = [{(x.index, x.positive) for x in leaf.literals} for leaf in found]
    first, second = [(0, False), (1, True)], [(2, False), (3, True)]
    assert sets == [{a, b} for a in first for b in second] + [{(4, True)}]


def test_nested_formulas_that_are_large_are_refused(tmp_path):
    either = "(or (< N_1 0) (>= N_1 0))"
    with pytest.raises(FormatError, match=r"others.aptp:11:\d+: .*131072 alternatives"):
        of_others(tmp_path, f"(assert (or (and {either * 17}) (< N_1 0)))")


def test_a_second_assert_of_leaves_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"others.aptp:12:1: a second assert of rectifiers"):
        of_others(tmp_path, "(assert (< N_1 0))\n(assert (>= N_1 0))")


def test_several_cases_of_others_share_their_leaves(tmp_path):
    head = OTHERS.replace("(assert (<= X_0 1.0))", "(assert (or (<= X_0 1.0) (<= X_0 2.0)))")
    tree = of_others(tmp_path, "(assert (or (< N_1 0) (>= N_1 0)))", head)
    assert len(tree.cases) == len(tree.leaves) == 2
    assert tree.leaves[0] == tree.leaves[1]
    assert tree.size == 4


def test_the_committed_proof_states_the_committed_property(data):
    tree = read_tree(data / "gap.aptp")
    assert tree.cases == read_property(data / "gap_unsat.vnnlib").cases
    assert (tree.inputs, tree.outputs, tree.units, tree.size, tree.depth) == (2, 1, 3, 4, 3)


def test_published_proofs_read(acasxu):
    first, second = (read_tree(acasxu / f"sample{name}.aptp") for name in ("", "_simplified"))
    assert content(first) == content(second)
    assert (first.inputs, first.outputs, first.units, first.size) == (2, 2, 4, 4)
    assert first.leaves[0][0].literals == (Literal("relu", 3, False),)


@pytest.mark.slow
def test_a_hundred_thousand_leaves_read_in_time(tmp_path):
    import time

    leaves = [
        Leaf(tuple(Literal("relu", (i + k) % UNITS, bool(i >> k & 1)) for k in range(20)))
        for i in range(100_000)
    ]
    write_tree(simple(leaves), tmp_path / "proof.aptp")
    begin = time.process_time()
    tree = read_tree(tmp_path / "proof.aptp")
    assert time.process_time() - begin < 40  # about 8 s on one core of 2020
    assert tree.leaves[0] == tuple(leaves)
