"""Exact numbers and their texts."""

from __future__ import annotations

import re
from fractions import Fraction

_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d+))?")
_DYADIC = re.compile(r"(-?)0x([0-9a-f]+)p(-?\d+)")
# Python reads and writes integers of up to 4300 digits as text, so exponents end before that
_LONGEST, _LARGEST = 4000, 4000


def decimal(text: str) -> Fraction | None:
    """The number that `1`, `-0.5` or `1e-3` is, exactly; None where it is none.

    Raises:
      ValueError: one that is out of range.
    """
    found = _DECIMAL.fullmatch(text)
    if found is None:
        return None
    if len(text) > _LONGEST or (found[1] and abs(int(found[1][:8])) > _LARGEST):
        raise ValueError(f"expected a number between 1e-{_LARGEST} and 1e{_LARGEST}")
    return Fraction(text)


def decimal_text(value: Fraction) -> str:
    """`0.5`; `(/ 1 3)` where no decimal ends.

    Raises:
      ValueError: a number whose text would be too long to be read again.
    """
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if max(places, value.numerator.bit_length() // 4, rest.bit_length() // 4) > _LONGEST - 2:
        raise ValueError(f"a number of more than {_LONGEST} digits has no text")
    if rest > 1:
        return f"(/ {value.numerator} {value.denominator})"
    digits = str(abs(value.numerator) * 2 ** (places - twos) * 5 ** (places - fives))
    if places:
        digits = digits.rjust(places + 1, "0")
        digits = f"{digits[:-places]}.{digits[-places:]}"
    else:
        digits += ".0"
    return f"-{digits}" if value < 0 else digits


def dyadic(text: str) -> Fraction | None:
    """The number that `0x5p-3`, five eighths, is; None where it is none.

    Raises:
      ValueError: one that is out of range.
    """
    found = _DYADIC.fullmatch(text)
    if found is None:
        return None
    power = int(found[3][:8])
    if abs(power) > 1 << 20:
        raise ValueError(f"expected a power of two up to {1 << 20}")
    value = int(found[2], 16) * Fraction(2) ** power
    return -value if found[1] else value


def dyadic_text(value: Fraction) -> str:
    """A dyadic number's text.

    Raises:
      ValueError: a denominator that is not a power of two.
    """
    power = value.denominator.bit_length() - 1
    if value.denominator != 1 << power:
        raise ValueError(f"{value} is not dyadic: its denominator is no power of two")
    return f"{'-' if value < 0 else ''}{abs(value.numerator):#x}p{-power}"
