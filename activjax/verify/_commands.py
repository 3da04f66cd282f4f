"""The commands `activjax verify` and `activjax check`."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Literal as Choice

from activjax.verify._problem import Problem
from activjax.verify._tree import Tree
from activjax.verify.checking import check
from activjax.verify.formats import decimal_text, literal_text, read_property
from activjax.verify.search import Budget, Witness, prove

#: What the file's formula is, as VNN-COMP calls it.
WORDS = {"verified": "unsat", "violated": "sat", "empty_region": "unknown", "unknown": "unknown"}


def verify(onnx: Path, vnnlib: Path, *, proof: Path | None = None, seconds: float = 60.0) -> int:
    """Prints `unsat`, `sat` and a witness, or `unknown`; details go to stderr.

    Args:
      onnx: the network.
      vnnlib: the property.
      proof: where a proof is written, if there is one.
      seconds: for the search.

    Returns:
      The exit code, 0: a verdict is a word on the first line, as VNN-COMP's scripts read it.
    """
    problem = Problem.from_vnnlib(onnx, vnnlib)
    if proof is not None and not proof.parent.is_dir():
        raise ValueError(f"{proof.parent} is no folder; a proof cannot be written there")
    verdict = prove(problem, budget=Budget(seconds=seconds))
    print(WORDS[verdict.status])
    if verdict.witness is not None:
        print(witness_text(problem, verdict.witness))
        if strict := read_property(vnnlib).strict:
            _say(f"{vnnlib.name} has {strict} comparisons with < or >, read as <= and >=: the "
                 "input may lie on the border of what is unsafe")  # fmt: skip
    found = verdict.statistics
    said = f"{verdict.status}: {problem.name}, {found.seconds:.1f} s, {found.boxes} boxes"
    _say(f"{said}; {verdict.reason}" if verdict.reason else said)
    if proof is not None and verdict.tree is not None:
        verdict.tree.save(proof)
        _say(f"proof: {proof}, {verdict.tree.size} leaves; `activjax check` proves it again")
    elif proof is not None:
        _say("no proof was written: there is none")
    return 0


def check_proof(
    proof: Path,
    onnx: Path,
    vnnlib: Path,
    *,
    arithmetic: Choice["exact", "lp"] = "exact",
    seconds: float | None = None,
) -> int:
    """Prints `proved`, or `not proved` and why.

    Returns:
      The exit code: 0 if the proof proves the property, else 1; also where it proves it only of
      inputs with some pattern.
    """
    problem = Problem.from_vnnlib(onnx, vnnlib)
    tree = Tree.load(proof)
    found = check(tree, problem, arithmetic, seconds=seconds)
    if not found.ok:
        print("not proved")
        _say(f"not proved: {found.reason}")
        return 1
    if tree.assumed:
        pattern = ", ".join(literal_text(literal) for literal in tree.assumed[:5])
        more = f" and {len(tree.assumed) - 5} more" if len(tree.assumed) > 5 else ""
        print("not proved")
        _say(f"not proved: the proof is of inputs with {pattern}{more} only")
        return 1
    print("proved")
    kind = "exactly" if found.exact else "in floating point"
    _say(f"proved {kind}: {problem.name}, {found.leaves} leaves, {found.seconds:.1f} s")
    return 0


def witness_text(problem: Problem, witness: Witness) -> str:
    """`((X_0 0.5) (Y_0 -1.0))`, one pair a line; the inputs as written lie in the box."""
    case = problem.cases[witness.case]
    pairs = []
    sides = zip(witness.x.reshape(-1).tolist(), witness.exact, case.lower, case.upper, strict=True)
    for i, (value, exact, low, high) in enumerate(sides):
        # the shortest text of a float may lie outside of a narrow box
        near = low <= Fraction(repr(value)) <= high and Fraction(value) == exact
        pairs.append(f"(X_{i} {repr(value) if near else decimal_text(exact)})")
    pairs += [f"(Y_{i} {value!r})" for i, value in enumerate(witness.y.tolist())]
    return "({})".format("\n".join(pairs))


def _say(text: str) -> None:
    print(text, file=sys.stderr)
