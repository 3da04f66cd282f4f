"""`activjax verify` and `activjax check`: words, witnesses, exit codes."""

from dataclasses import replace
from fractions import Fraction as F

import numpy as np
import pytest

from activjax import cli
from activjax.verify import _commands
from activjax.verify._problem import Problem
from activjax.verify._tree import Literal
from activjax.verify.formats import read_tree, write_tree
from activjax.verify.search import Witness


@pytest.fixture
def call(capsys, data, monkeypatch):
    """Runs a command among the committed files: exit code, lines, and what it said."""
    monkeypatch.chdir(data)

    def run(*arguments):
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as end:  # argparse
            code = end.code
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def test_a_property_that_breaks_has_a_witness(call):
    code, lines, said = call("verify", "gap.onnx", "gap_sat.vnnlib")
    assert (code, lines[0]) == (0, "sat")
    values = dict(pair.strip("()").split() for pair in lines[1:])
    a, b, gap = (float(values[name]) for name in ("X_0", "X_1", "Y_0"))
    assert len(values) == 3
    assert max(abs(a), abs(b)) <= 1
    assert gap == max(a, 0) + max(b, 0) - max(a + b, 0) == 0
    assert said.startswith("violated: gap.onnx · gap_sat.vnnlib")


def test_a_property_that_holds_has_a_proof_that_checks(call, tmp_path):
    proof = tmp_path / "gap.aptp"
    code, lines, said = call("verify", "gap.onnx", "gap_unsat.vnnlib", "--proof", proof)
    assert (code, lines) == (0, ["unsat"])
    assert f"proof: {proof}, {read_tree(proof).size} leaves" in said
    code, lines, said = call("check", proof, "gap.onnx", "gap_2.vnnlib")
    assert (code, lines) == (0, ["proved"])
    assert said.startswith("proved exactly: gap.onnx · gap_2.vnnlib")
    code, lines, said = call("check", proof, "gap.onnx", "gap_sat.vnnlib")
    assert (code, lines) == (1, ["not proved"])
    assert "not proved: " in said


def test_a_proof_by_hand_checks(call):
    assert call("check", "gap.aptp", "gap.onnx", "gap_unsat.vnnlib")[:2] == (0, ["proved"])


def test_a_proof_of_a_pattern_is_no_proof_of_the_property(call, data, tmp_path):
    assumed = (Literal("relu", 2, False),)
    proof = tmp_path / "some.aptp"
    tree = read_tree(data / "gap.aptp")
    leaves = (tuple(leaf for leaf in tree.leaves[0] if leaf.literals == assumed),)
    write_tree(replace(tree, leaves=leaves, assumed=assumed), proof)
    code, lines, said = call("check", proof, "gap.onnx", "gap_unsat.vnnlib")
    assert (code, lines) == (1, ["not proved"])
    assert "not proved: the proof is of inputs with (< N_3 0) only" in said


def test_what_cannot_be_read_is_one_message_and_a_code(call, tmp_path):
    (tmp_path / "cut.aptp").write_text("(assert")
    cases = [
        (("verify", "gap.onnx", "no.vnnlib"), "no.vnnlib: no such file"),
        (("verify", "gap.aptp", "gap_sat.vnnlib"), "gap.aptp: byte 1: no field begins with"),
        (("verify", "gap.onnx", "gap.aptp"), "gap.aptp:4:1: (declare-pwl is not known"),
        (("verify", "mlp.onnx", "gap_sat.vnnlib"), "declares 2 inputs, the network mlp.onnx has 3"),
        (("verify", "gap.onnx", "gap_sat.vnnlib", "--seconds", "0"), "seconds=0.0"),
        (("verify", "gap.onnx", "gap_sat.vnnlib", "--proof", tmp_path / "no/x"), "is no folder"),
        (("check", tmp_path / "cut.aptp", "gap.onnx", "gap_sat.vnnlib"), "cut.aptp:1:1: this"),
    ]
    for arguments, words in cases:
        code, lines, said = call(*arguments)
        assert (code, lines) == (2, []), arguments
        assert words in said
        assert "Traceback" not in said


def test_strict_comparisons_are_said_with_a_witness(call, data, tmp_path):
    path = tmp_path / "strict.vnnlib"
    path.write_text((data / "gap_sat.vnnlib").read_text().replace("(<= Y_0 0.0)", "(< Y_0 0.0)"))
    code, lines, said = call("verify", "gap.onnx", path)
    assert (code, lines[0]) == (0, "sat")
    assert "strict.vnnlib has 1 comparisons with < or >" in said


def test_witnesses_lie_in_narrow_boxes_as_they_are_written(data):
    problem = Problem.from_vnnlib(data / "gap.onnx", data / "gap_sat.vnnlib")
    low = F(0.1)  # 0.1, the shortest text of this float, is less than it
    narrow = type(problem.cases[0])((low, F(1, 10)), (low, F(1, 10)), problem.cases[0].clauses)
    object.__setattr__(problem, "cases", (narrow,))
    exact = (low, F(1, 10))
    witness = Witness(np.array([0.1, 0.1]), np.array([0.0]), exact, (F(0),), 0)
    text = _commands.witness_text(problem, witness)
    assert text.splitlines() == [
        "((X_0 0.1000000000000000055511151231257827021181583404541015625)",
        "(X_1 0.1)",
        "(Y_0 0.0))",
    ]
