"""Linear expressions and comparisons of inputs and outputs."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from activjax.verify.formats._declared import Variables
from activjax.verify.formats._numbers import decimal
from activjax.verify.formats._sexpr import Group, Node, Source, Word

#: A variable: "X", "Y" or "N", and its index.
Variable = tuple[str, int]
_COMPARISONS = ("<=", ">=", "<", ">", "=", "==")


class Linear(NamedTuple):
    """`sum(weight * variable) + constant`; a weight may be 0."""

    weights: dict[Variable, Fraction]
    constant: Fraction

    def scaled(self, by: Fraction) -> Linear:
        """Times a number."""
        return Linear({k: by * v for k, v in self.weights.items()}, by * self.constant)

    def plus(self, other: Linear) -> Linear:
        """The sum."""
        weights = dict(self.weights)
        for key, value in other.weights.items():
            weights[key] = weights.get(key, Fraction(0)) + value
        return Linear(weights, self.constant + other.constant)


class Atom(NamedTuple):
    """`left <= 0`.

    Attributes:
      left: linear.
      at: the comparison in the file.
      strict: whether the file says `< 0`.
    """

    left: Linear
    at: int
    strict: bool


def comparison(source: Source, node: Group, variables: Variables) -> list[Atom]:
    """What a comparison says: one atom, two for an equality.

    Raises:
      FormatError: another formula, or an expression that is not linear.
    """
    op = node.head
    if op not in _COMPARISONS:
        raise source.fail(node, f"{op or 'a bracket'!r} is not a comparison; expected one of "
                          f"{', '.join(_COMPARISONS)}, or `and`, `or`")  # fmt: skip
    sides = operands(node)
    if len(sides) != 2:
        raise source.fail(node, f"{op!r} compares 2 expressions, here are {len(sides)}")
    left, right = (linear(source, side, variables) for side in sides)
    less = left.plus(right.scaled(Fraction(-1)))
    more = less.scaled(Fraction(-1))
    if op in ("=", "=="):
        return [Atom(less, node.at, False), Atom(more, node.at, False)]
    return [Atom(less if op[0] == "<" else more, node.at, op in "<>")]


def linear(source: Source, node: Node, variables: Variables) -> Linear:
    """An expression.

    Raises:
      FormatError: a variable that is not declared, a product of variables, no number.
    """
    if isinstance(node, Word):
        value = number(source, node)
        if value is not None:
            return Linear({}, value)
        return Linear({variables.find(source, node): Fraction(1)}, Fraction(0))
    op, parts = node.head, [linear(source, part, variables) for part in operands(node)]
    if op not in ("+", "-", "*", "/") or not parts:
        raise source.fail(node, f"expected a number, a variable or (+ ...), (- ...), (* ...) of "
                          f"them, not ({op or '...'})")  # fmt: skip
    out = parts[0]
    if op == "-" and len(parts) == 1:
        return out.scaled(Fraction(-1))
    for part in parts[1:]:
        if op in "+-":
            out = out.plus(part if op == "+" else part.scaled(Fraction(-1)))
            continue
        if part.weights and (out.weights or op == "/"):
            raise source.fail(node, "not linear: variables are multiplied or divided by each "
                              "other; only linear properties are supported")  # fmt: skip
        if op == "*":
            out = part.scaled(out.constant) if part.weights else out.scaled(part.constant)
        elif part.constant == 0:
            raise source.fail(node, "division by 0")
        else:
            out = out.scaled(1 / part.constant)
    return out


def number(source: Source, word: Word) -> Fraction | None:
    """The number that a word is, or None.

    Raises:
      FormatError: NaN, infinity, or a number out of range.
    """
    if word.text.lstrip("+-").lower() in ("nan", "inf", "infinity"):
        raise source.fail(word, f"{word.text!r} is not finite; expected a finite number")
    try:
        return decimal(word.text)
    except ValueError as error:
        raise source.fail(word, f"{word.text[:20]!r}...: {error}") from None


def operands(node: Group) -> list[Node]:
    """What follows the first word; `X [0]` is one word, `X[0]`."""
    out: list[Node] = []
    for item in node.items[1:]:
        last = out[-1] if out else None
        if isinstance(item, Word) and item.text[0] == "[" and isinstance(last, Word):
            out[-1] = Word(last.text + item.text, last.at)
        else:
            out.append(item)
    return out
