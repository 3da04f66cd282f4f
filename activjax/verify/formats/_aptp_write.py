"""Proofs as text: activation pattern trees (APTP)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from activjax import _files
from activjax.verify._problem import Case
from activjax.verify._property import Clause
from activjax.verify._tree import Leaf, Tree
from activjax.verify.formats._literals import literal_text
from activjax.verify.formats._multipliers import multiplier_texts
from activjax.verify.formats._numbers import decimal_text

HEADER, END = "; activjax-proof 1", "; end of proof"


def write_tree(tree: Tree, path: Path) -> None:
    """Writes a proof; the file has its name once it is whole.

    A proof of one box and one clause whose literals are all of rectifiers is plain APTP; what goes
    beyond stands in comments and in atoms of inputs (see `read_tree`).

    Raises:
      ValueError: no case, leaves that are not those of the cases, a number that cannot be written.
    """
    if not tree.cases or len(tree.cases) != len(tree.leaves):
        raise ValueError(f"a proof of {len(tree.cases)} cases with {len(tree.leaves)} lists of "
                         "leaves; expected at least one case, and leaves for each")  # fmt: skip
    with _files.whole(path) as file:
        file.writelines(f"{line}\n" for line in _lines(tree))


def _lines(tree: Tree) -> Iterator[str]:
    yield HEADER
    if tree.digest is not None:
        if tree.digest != tree.digest.strip() or not tree.digest.isprintable() or not tree.digest:
            raise ValueError(f"the digest {tree.digest!r} is not one line of text")
        yield f"; network {tree.digest}"
    yield f"; cases {len(tree.cases)}"
    yield _declared("declare-const", "X", range(tree.inputs), "Real")
    yield _declared("declare-const", "Y", range(tree.outputs), "Real")
    if tree.units:
        yield _declared("declare-pwl", "N", range(1, tree.units + 1), "ReLU")
    if len(tree.cases) == 1:
        yield from _one_case(tree.cases[0])
    else:
        yield "(assert (or"
        for case in tree.cases:
            clauses = " ".join(_clause(clause) for clause in case.clauses)
            yield f"    (and {' '.join(_box(case))} (or {clauses}))"
        yield "))"
    if tree.assumed:
        yield f"; assumed {len(tree.assumed)}"
        yield f"(assert {_conjunction(map(literal_text, tree.assumed))})"
    for number, leaves in enumerate(tree.leaves, 1):
        yield f"; leaves {len(leaves)} of case {number}"
        yield from _leaves(leaves)
    yield END


def _one_case(case: Case) -> Iterator[str]:
    yield "; input constraints"
    yield from (f"(assert {text})" for text in _box(case))
    yield "; output constraints"
    if len(case.clauses) == 1:
        yield from (f"(assert {text})" for text in _rows(case.clauses[0]))
        return
    yield "(assert (or"
    yield from (f"    {_clause(clause)}" for clause in case.clauses)
    yield "))"


def _leaves(leaves: Sequence[Leaf]) -> Iterator[str]:
    bare = not any(leaf.literals for leaf in leaves) and len(leaves) < 2
    if not bare:
        yield "(assert (or"
    for leaf in leaves:
        if not bare:
            yield f"    {_conjunction(map(literal_text, leaf.literals))}"
        if leaf.multipliers is not None:
            yield from multiplier_texts(leaf.multipliers)
    if not bare:
        yield "))"


def _declared(head: str, kind: str, indices: Iterable[int], type: str) -> str:
    return f"({head} {' '.join(f'{kind}_{i}' for i in indices)} {type})"


def _conjunction(texts: Iterable[str]) -> str:
    return f"({' '.join(['and', *texts])})"


def _box(case: Case) -> Iterator[str]:
    for index, (low, high) in enumerate(zip(case.lower, case.upper, strict=True)):
        yield f"(>= X_{index} {decimal_text(low)})"
        yield f"(<= X_{index} {decimal_text(high)})"


def _clause(clause: Clause) -> str:
    return _conjunction(_rows(clause))


def _rows(clause: Clause) -> Iterator[str]:
    for row, bound in zip(clause.weights, clause.bounds, strict=True):
        yield _row({i: w for i, w in enumerate(row) if w}, bound)


def _row(weights: dict[int, Fraction], bound: Fraction) -> str:
    """`weights @ y <= bound`, as short as its form allows."""
    names = {weight: f"Y_{index}" for index, weight in weights.items()}
    if not weights:
        return f"(<= (* 0 Y_0) {decimal_text(bound)})"
    if len(weights) == 1 and 1 in names:
        return f"(<= {names[Fraction(1)]} {decimal_text(bound)})"
    if len(weights) == 1 and -1 in names:
        return f"(>= {names[Fraction(-1)]} {decimal_text(-bound)})"
    if len(weights) == 2 and names.keys() == {1, -1} and not bound:
        return f"(<= {names[Fraction(1)]} {names[Fraction(-1)]})"
    terms = [f"(* {decimal_text(weight)} Y_{index})" for index, weight in weights.items()]
    left = f"(+ {' '.join(terms)})" if len(terms) > 1 else terms[0]
    return f"(<= {left} {decimal_text(bound)})"
