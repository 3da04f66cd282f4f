"""Multipliers as comments of a proof: `;! rows 0x1p0 slopes 4:0x1p-1 signs 7:0x3p-2`.

Units are numbered as in `N_4`. `0x3p-2` is three quarters: an integer and a power of two.
"""

from __future__ import annotations

from fractions import Fraction

from activjax.verify._tree import Multipliers
from activjax.verify.formats._numbers import dyadic, dyadic_text
from activjax.verify.formats._sexpr import Source, Word

MARK = ";!"
_NONE = f"{MARK} none"  # of a case without clauses


def multiplier_texts(multipliers: tuple[Multipliers, ...]) -> list[str]:
    """A line for each clause.

    Raises:
      ValueError: a number that is not dyadic.
    """
    out = []
    for item in multipliers:
        line = " ".join([MARK, "rows", *map(dyadic_text, item.rows)])
        for name, weights in (("slopes", item.slopes), ("signs", item.signs)):
            if weights:
                pairs = (f"{unit + 1}:{dyadic_text(v)}" for unit, v in sorted(weights.items()))
                line += f" {name} {' '.join(pairs)}"
        out.append(line)
    return out or [_NONE]


def read_multipliers(
    source: Source, lines: list[Word], units: int, known: dict[str, Fraction]
) -> tuple[Multipliers, ...] | None:
    """What the lines after a leaf say; None where there are none.

    Args:
      source: the file.
      lines: its comments there.
      units: the number of rectifiers.
      known: numbers that were read before, by text; new ones are added.

    Raises:
      FormatError: another form, or a unit that there is not.
    """
    if not lines:
        return None
    if len(lines) == 1 and lines[0].text == _NONE:
        return ()
    return tuple(_one(source, line, units, known) for line in lines)


def _one(source: Source, line: Word, units: int, known: dict[str, Fraction]) -> Multipliers:
    rows: list[Fraction] = []
    weights: dict[str, dict[int, Fraction]] = {"slopes": {}, "signs": {}}
    part = ""
    for token in line.text[len(MARK) :].split():
        if token in ("rows", "slopes", "signs"):
            part = token
            continue
        unit, colon, text = token.rpartition(":")
        value = known.get(text)
        if value is None:
            value = known[text] = _number(source, line, text)
        if part == "rows" and not colon:
            rows.append(value)
        elif part in weights and unit.isascii() and unit.isdigit() and len(unit) < 10:
            if not 1 <= int(unit) <= units:
                raise source.fail(line, f"multipliers of N_{unit}; there are N_1 to N_{units}")
            weights[part][int(unit) - 1] = value
        else:
            raise source.fail(line, f"{token!r} is no multiplier; expected such as ';! rows 0x1p0 "
                              "slopes 4:0x1p-1 signs 7:0x3p-2'")  # fmt: skip
    return Multipliers(tuple(rows), weights["slopes"], weights["signs"])


def _number(source: Source, line: Word, text: str) -> Fraction:
    try:
        value = dyadic(text)
    except ValueError as error:
        raise source.fail(line, f"{text[:20]!r}...: {error}") from None
    if value is None:
        raise source.fail(line, f"{text!r} is no number; expected such as 0x3p-2")
    return value
