"""Decisions of a proof as text: `(>= N_3 0)`, `(<= X_0 0.25)`."""

from __future__ import annotations

import re
from fractions import Fraction

from activjax.verify._tree import Literal
from activjax.verify.formats._declared import Variables
from activjax.verify.formats._linear import linear
from activjax.verify.formats._normal import normal
from activjax.verify.formats._numbers import decimal_text
from activjax.verify.formats._sexpr import Group, Node, Source, Word

_SIGNS = ("<", "<=", ">=", ">")
# nearly all are of this form, which is read at once
_SIMPLE = re.compile(r"\( *([<>])=? +([NX]_\d+) +(-?\d{1,99}(?:\.\d{1,999})?) *\)")


def literal_text(literal: Literal) -> str:
    """A literal's text.

    Raises:
      ValueError: a rectifier that is cut elsewhere than at 0.
    """
    if literal.kind == "input":
        sign = ">=" if literal.positive else "<="
        return f"({sign} X_{literal.index} {decimal_text(literal.at)})"
    if literal.at:
        raise ValueError(f"rectifier {literal.index} is cut at {literal.at}; expected 0")
    return f"({'>=' if literal.positive else '<'} N_{literal.index + 1} 0)"


class Literals:
    """Reads literals; a proof repeats them, so each text is read once."""

    def __init__(self, source: Source, variables: Variables) -> None:
        self._source, self._variables = source, variables
        self._known: dict[str, Literal] = {}

    def leaf(self, node: Node) -> tuple[Literal, ...]:
        """One conjunction.

        Raises:
          FormatError: another formula.
        """
        found = self.alternatives(node)
        if len(found) != 1:
            raise self._source.fail(node, "expected one conjunction, (and ...) without `or`")
        return found[0]

    def alternatives(self, node: Node) -> list[tuple[Literal, ...]]:
        """The conjunctions that a formula is, multiplied out.

        Raises:
          FormatError: what is no literal, or too many alternatives.
        """
        if isinstance(node, Group) and node.head == "and":
            quick = [self._quick(part.text) for part in node.items[1:]]
            if None not in quick:
                return [tuple(quick)]  # type: ignore[arg-type]
        found = normal(self._source, [node], lambda source, group: [self._literal(group)])
        return [tuple(found.always) + rest for rest in found.alternatives()]

    def _quick(self, text: str) -> Literal | None:
        """A literal in its usual form; None for anything else, right or wrong."""
        known = self._known.get(text)
        if known is not None:
            return known
        found = _SIMPLE.fullmatch(text)
        variable = self._variables.scalars.get(found[2]) if found else None
        if not found or not variable or variable[0] not in "NX":
            return None
        at = Fraction(found[3])
        if variable[0] == "N" and at:
            return None
        self._known[text] = _decision(variable, found[1], at)
        return self._known[text]

    def _literal(self, node: Group) -> Literal:
        quick = self._quick(node.text)
        if quick is not None:
            return quick
        source = self._source
        if node.head not in _SIGNS or len(node.items) != 3:
            raise source.fail(node, f"({node.head or '...'} ...) is no literal; expected "
                              "(< N_1 0), (>= N_1 0), or `and`, `or` of such")  # fmt: skip
        _, name, value = node.items
        if not isinstance(name, Word) or name.text[:1] not in "NX":
            raise source.fail(name, "expected a rectifier N_i, or an input X_i")
        variable = self._variables.find(source, name)
        weights, at = linear(source, value, self._variables)
        if weights:
            raise source.fail(value, "expected a number")
        if variable[0] == "N" and at:
            raise source.fail(
                value, f"{name.text} is cut at {at}; expected 0: rectifiers bend there"
            )
        return _decision(variable, node.head, at)


def _decision(variable: tuple[str, int], sign: str, at: Fraction) -> Literal:
    kind, index = variable
    if kind == "N":
        return Literal("relu", index - 1, sign[0] == ">")
    return Literal("input", index, sign[0] == ">", at)
