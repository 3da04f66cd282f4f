"""Numbers as people write them: as many digits as the interval supports, the same in a column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

TIMES, MINUS = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}"
MISSING = "\N{EN DASH}"
_MOST_DIGITS = 4  # of the largest number, where there are intervals
_DIGITS = 3  # where there are none
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def decimals(
    values: Iterable[float | None], halves: Iterable[float] = (), *, digits: int = _DIGITS
) -> int | None:
    """Decimals for numbers that are read against one another; None means four digits each.

    Args:
        values: the numbers; gaps and what is not finite count for nothing.
        halves: half-widths of their intervals. The smallest decides: one digit of it is shown,
            two if it begins with 1 or 2, but never more than four digits of the largest number.
        digits: of the largest number, where there are no intervals.
    """
    sizes = [abs(v) for v in values if v is not None and math.isfinite(v)]
    top = max(sizes, default=0.0)
    widths = [h for h in halves if math.isfinite(h) and h > 0]
    if top == 0 or (not widths and top < 1e7 and all(s == int(s) for s in sizes)):
        return 0
    if not 1e-4 <= top < 1e7:
        return None
    first = math.floor(math.log10(top))
    if not widths:
        return max(digits - 1 - first, 0)
    exponent = math.floor(math.log10(min(widths)))
    wanted = -exponent + (min(widths) < 3 * 10.0**exponent)
    return max(min(wanted, _MOST_DIGITS - 1 - first), 0)


def aligned(places: Sequence[int | None]) -> list[int | None]:
    """The same decimals for all lines of a table, where they differ by one at most."""
    known = [p for p in places if p is not None]
    if known and min(known) > 0 and max(known) - min(known) <= 1:
        return [None if p is None else max(known) for p in places]
    return list(places)


def number(value: float | None, places: int | None = None) -> str:
    """A number with that many decimals; without, or where it would show as zero, four digits."""
    if value is None:
        return MISSING
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if places is None or (value != 0 and round(value, places) == 0):
        text = f"{value:.{_MOST_DIGITS}g}"
    else:
        text = f"{round(value, places) + 0.0:.{places}f}"  # + 0.0: no minus before a zero
    mantissa, _, exponent = text.partition("e")
    if exponent:
        mantissa += f" {TIMES} 10" + str(int(exponent)).translate(_SUPERSCRIPT)
    return mantissa.replace("-", MINUS)


def column(values: Sequence[Any]) -> list[str]:
    """A column of a table: numbers with common decimals if none of them loses its digits."""
    floats = [v for v in values if isinstance(v, float) and math.isfinite(v)]
    places = decimals(floats, digits=_MOST_DIGITS)
    whole = all(v == int(v) for v in floats)
    if (
        places is not None
        and not whole
        and any(v and abs(v) < 10.0 ** (1 - places) for v in floats)
    ):
        places = None
    return [_cell(v, places) for v in values]


def is_numeric(values: Iterable[Any]) -> bool:
    """Whether there is a number and nothing but numbers and gaps."""
    kinds = {type(v) for v in values if v is not None and v not in ("nan", "inf", "-inf")}
    return bool(kinds) and kinds <= {int, float}


def duration(seconds: float) -> str:
    """`8.3 s`, `2 min 5 s` or `3 h 7 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _cell(value: Any, places: int | None) -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value).replace("-", MINUS)
    return number(value, places) if isinstance(value, float) else str(value)
