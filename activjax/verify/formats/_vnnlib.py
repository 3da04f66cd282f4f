"""VNN-LIB 1.0 and 2.0: which inputs and outputs of a network are unsafe.

Source: the standard at vnnlib.org, version 1.0 of November 2022 and 2.0 of December 2025.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from activjax.verify._problem import Case
from activjax.verify.formats._cases import cases_of
from activjax.verify.formats._declared import Variables
from activjax.verify.formats._linear import Atom, comparison
from activjax.verify.formats._normal import normal
from activjax.verify.formats._sexpr import FormatError, Group, Node, Source, Word, read_source

_SILENT = {"set-logic", "set-info", "set-option", "check-sat", "get-model", "exit"}


@dataclass(frozen=True)
class Statement:
    """What a VNN-LIB file says.

    Attributes:
      inputs, outputs: how many it declares.
      cases: boxes and what is unsafe in them.
      shapes: of input and output, where the file (2.0) says them.
      types: of input and output elements; "real" where the file leaves them open.
      strict: comparisons with `<` or `>`, which are read as `<=` and `>=`. The unsafe set is
        larger by its border: what is proved holds, and a witness may lie on the border.
    """

    inputs: int
    outputs: int
    cases: tuple[Case, ...]
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    types: tuple[str, str] = ("real", "real")
    strict: int = 0


def read_property(path: Path) -> Statement:
    """Reads a VNN-LIB file of version 1.0 or 2.0 with one network, one input and one output.

    Numbers are read exactly. Formulas become alternatives, at most 100,000.

    Raises:
      FormatError: with line and column, where the file is not what the standard says or asks for
        what is not supported: conditions on several inputs, or on inputs and outputs together.
    """
    source = read_source(path)
    variables, asserts = Variables(), []
    for group in source.groups:
        if group.head == "assert":
            asserts.append(asserted(source, group))
        elif group.head in ("declare-const", "declare-fun"):
            declare_scalars(source, group, variables)
        elif group.head == "declare-network":
            _network(source, group, variables)
        elif group.head == "vnnlib-version":
            _version(source, group)
        elif group.head not in _SILENT:
            raise source.fail(group, f"({group.head or '...'} is not known; expected assert, "
                              "declare-const or declare-network")  # fmt: skip
    if variables.scalars and variables.tensors:
        raise source.fail(0, "declare-const (1.0) and declare-network (2.0) in one file")
    return statement(source, variables, asserts)


def statement(source: Source, variables: Variables, asserts: list[Node]) -> Statement:
    """The meaning of assertions.

    Raises:
      FormatError: see `read_property`.
    """
    inputs, outputs = (variables.count(source, kind) for kind in "XY")
    for count, what, name in ((inputs, "input", "X_0"), (outputs, "output", "Y_0")):
        if not count:
            raise FormatError(f"{source.label}: declares no {what} ({name}); is it VNN-LIB?")
    strict = set[int]()

    def atoms(source: Source, node: Group) -> list[Atom]:
        found = comparison(source, node, variables)
        strict.update(atom.at for atom in found if atom.strict)
        return found

    formula = normal(source, asserts, atoms)
    cases = cases_of(source, formula, inputs, outputs)
    shapes, types = None, ("real", "real")
    if variables.tensors:
        (x, (_, first)), (y, (_, second)) = variables.tensors.items()
        shapes, types = (first, second), (variables.types[x], variables.types[y])
    return Statement(inputs, outputs, cases, shapes, types, len(strict))


def asserted(source: Source, group: Group) -> Node:
    """The formula of an assert.

    Raises:
      FormatError: none, or several.
    """
    if len(group.items) != 2:
        raise source.fail(group, f"an assert holds 1 formula, here are {len(group.items) - 1}")
    return group.items[1]


def declare_scalars(source: Source, group: Group, variables: Variables, kinds: str = "XY") -> None:
    """`(declare-const X_0 X_1 Real)`.

    Raises:
      FormatError: another form.
    """
    items = [item for item in group.items if item != () and not _is_empty(item)]
    words = [item for item in items if isinstance(item, Word)]
    if len(words) != len(items) or len(words) < 3:
        raise source.fail(group, f"expected ({group.head} X_0 Real)")
    if words[-1].text != "Real":
        raise source.fail(words[-1], f"{words[-1].text!r}: expected the type Real")
    for word in words[1:-1]:
        variables.add_scalar(source, word, kinds)


def _is_empty(item: Node) -> bool:
    """Whether it is the `()` of declare-fun."""
    return isinstance(item, Group) and not item.items


def _version(source: Source, group: Group) -> None:
    text = " ".join(item.text for item in group.items[1:] if isinstance(item, Word))
    if text.strip("<>") not in ("1.0", "2.0"):
        raise source.fail(group, f"version {text or 'nothing'} is not supported; expected <1.0> "
                          "or <2.0>")  # fmt: skip


def _network(source: Source, group: Group, variables: Variables) -> None:
    if variables.tensors:
        raise source.fail(group, "a second network; properties of one network are supported")
    add = partial(variables.add_tensor, source)
    for item in group.items[2:]:
        head = item.head if isinstance(item, Group) else ""
        if not isinstance(item, Group) or head not in ("declare-input", "declare-output"):
            what = "a hidden value" if head == "declare-hidden" else repr(head or "this")
            raise source.fail(item, f"{what} is not supported in a network; expected one "
                              "declare-input and one declare-output")  # fmt: skip
        kind = "X" if head == "declare-input" else "Y"
        if any(known == kind for known, _ in variables.tensors.values()):
            raise source.fail(item, f"a second {head}; networks with one input and one output "
                              "are supported")  # fmt: skip
        if kind == "Y" and not variables.tensors:
            raise source.fail(item, "declare-input comes before declare-output")
        add(item, kind)
    if len(variables.tensors) != 2:
        raise source.fail(group, "expected (declare-network NAME (declare-input ...) "
                          "(declare-output ...))")  # fmt: skip
