"""The answer of an experiment: `Result` and its summary `Row`s, the same for every experiment."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

SCALARS = (str, int, float, bool)


@dataclasses.dataclass(frozen=True)
class Row:
    """One number with its interval, its number of trials and the baseline it is to be read against.

    Attributes:
        name: what was measured ("test accuracy").
        value: the number. NaN and infinities are kept and flagged, never hidden.
        low, high: ends of the interval (95 % unless the name says otherwise); None without one.
        n: distinct trials behind the value (seeds, not repeated evaluations of one seed).
        unit: "" for a plain ratio or count.
        baseline: the trivial alternative's value; None only where none exists.
        baseline_name: what the baseline is, or why there is none.
        where: the setting, such as {"width": 32, "layer": 0}.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    unit: str
    baseline: float | None
    baseline_name: str
    where: Mapping[str, str | int | float | bool] = dataclasses.field(default_factory=dict)

    @classmethod
    def over(
        cls,
        name: str,
        values: Any,
        *,
        baseline: Any = None,
        baseline_name: str = "",
        unit: str = "",
        **where: Any,
    ) -> Row:
        """The mean over independent trials with its 95 % Student-t interval.

        Args:
            name, unit, baseline_name: as in `Row`.
            values: `[n]`, one number per trial (seed); a single one has no interval.
            baseline: a number, or one per trial (their mean is kept).
            where: the setting, as keyword arguments.

        Raises:
            ValueError: no values.
        """
        import numpy as np

        from activjax.stats import mean_interval  # jax comes with it

        x = np.asarray(values, np.float64).ravel()
        if x.size == 0:
            raise ValueError(f"row {name!r}: no values to average")
        with np.errstate(all="ignore"):  # what is not finite stays so, and is flagged in the file
            mean, half = (float(v) for v in mean_interval(x))
            low, high = (None, None) if x.size == 1 else (mean - half, mean + half)
            base = None if baseline is None else float(np.mean(np.asarray(baseline, np.float64)))
        return cls(name, mean, low, high, int(x.size), unit, base, baseline_name, where)


@dataclasses.dataclass(frozen=True)
class Result:
    """What an experiment found.

    Attributes:
        question: the question, one sentence.
        answer: one paragraph with numbers.
        summary: the numbers of the answer, each with interval and baseline.
    """

    question: str
    answer: str
    summary: tuple[Row, ...]


def to_json(result: Result, warnings: Sequence[str] = ()) -> dict[str, Any]:
    """`result.json` as plain JSON values; equal results give equal bytes.

    A number that is not finite becomes null, with `"flag": {"value": "nan"}` in its row: strict
    JSON has no NaN, and refusing the result would throw a finished run away.

    Raises:
        TypeError: a field of the result has the wrong type; the message names it.
    """
    if not isinstance(result, Result):
        raise TypeError(f"expected a runs.Result, got {type(result).__name__}")
    for text in ("question", "answer"):
        if not isinstance(getattr(result, text), str):
            raise TypeError(f"Result.{text} must be text, got {getattr(result, text)!r}")
    rows = [_row(row, i) for i, row in enumerate(result.summary)]
    return {
        "status": "done",
        "question": result.question,
        "answer": result.answer,
        "summary": rows,
        "warnings": list(warnings),
    }


def from_json(data: Mapping[str, Any]) -> Result:
    """The inverse of `to_json`."""
    rows = []
    for row in data["summary"]:
        row = dict(row)
        for key, text in row.pop("flag", {}).items():
            row[key] = float(text)
        rows.append(Row(**row))
    return Result(data["question"], data["answer"], tuple(rows))


def dumps(data: Any) -> str:
    """Strict JSON with two-space indents and a final newline."""
    return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def strict(value: Any) -> Any:
    """The same plain values with text in place of numbers that strict JSON has no word for."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


def _row(row: Row, index: int) -> dict[str, Any]:
    where = f"summary[{index}]"
    if not isinstance(row, Row):
        raise TypeError(f"{where} must be a runs.Row, got {type(row).__name__}")
    where += f" ({row.name!r})"
    out: dict[str, Any] = {"name": _text(row.name, f"{where}.name")}
    flags: dict[str, str] = {}
    for key in ("value", "low", "high", "n", "unit", "baseline", "baseline_name"):
        item = getattr(row, key)
        if key in ("unit", "baseline_name"):
            out[key] = _text(item, f"{where}.{key}")
        elif key == "n":
            out[key] = int(_number(item, f"{where}.n"))
        elif item is None and key != "value":
            out[key] = None
        else:
            number = _number(item, f"{where}.{key}")
            out[key] = number if math.isfinite(number) else None
            if not math.isfinite(number):
                flags[key] = str(number)
    out["where"] = {str(k): _plain(v, f"{where}.where[{k!r}]") for k, v in row.where.items()}
    if flags:
        out["flag"] = flags
    return out


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{where} must be text, got {value!r}")
    return value


def _number(value: Any, where: str) -> float | int:
    item = getattr(value, "item", None)  # numpy and jax scalars
    if item is not None and getattr(value, "size", 2) == 1:
        value = item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{where} must be one number, got {value!r}")
    return value


def _plain(value: Any, where: str) -> str | int | float | bool:
    value = value.item() if getattr(value, "size", 2) == 1 and hasattr(value, "item") else value
    if not isinstance(value, SCALARS) or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError(f"{where} must be text, a finite number or a bool, got {value!r}")
    return value
