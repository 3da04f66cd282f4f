"""One axis of a sweep: its key, and its values from a list, a range or random draws.

What is wrong is added to the `problems` given, and no values are returned then.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import groupby, pairwise
from typing import Any

from activjax.runs._words import did_you_mean, show
from activjax.runs.schema import Location, Problem

LIMIT = 1_000_000  # points of one sweep: more is a slip of the finger
MISSING = object()
_SETTINGS = ("experiment", "name", "seeds", "checkpoint_seconds", "sweep", "search")
_FORMS = ("log", "linear", "step", "factor")
_RANGE = ("from", "to", *_FORMS)
_DISTRIBUTIONS = ("uniform", "log_uniform", "integers", "choice", "normal")
_LARGEST = 1e300  # leaves room for rounding: no `exp` overflows


def key_problem(key: str, known: Sequence[str]) -> str:
    """Why a dotted key cannot be in a config whose own keys are `known`; empty if it can."""
    head, *rest = key.split(".")
    if head == "seeds":
        return "seeds are given beside `sweep`, not in it"
    if head in _SETTINGS:
        return f"'{head}' belongs to the whole sweep and cannot be swept"
    if head not in known:
        known = [name for name in known if name not in _SETTINGS]
        return f"unknown key{did_you_mean(head, known)} (keys: {', '.join(known)})"
    return "" if all(rest) else f"expected names between the dots of a key, got {key!r}"


def axis(data: Any, path: Location, problems: list[Problem]) -> list[Any]:
    """The values of an explicit list or of a range `{from, to, log | linear | step | factor}`."""
    if isinstance(data, (list, tuple)):
        return plain(data, path, problems)
    if isinstance(data, dict) and not data.keys().isdisjoint(_RANGE):
        return _range(data, path, problems)
    hint = ""
    if isinstance(data, dict) and data:
        hint = f"; a nested key is written `{path[-1]}.{next(iter(data))}`"
        if not data.keys().isdisjoint(_DISTRIBUTIONS):
            hint = "; a distribution goes into the section `random`"
    wanted = "expected a list of values or a range such as {from: 1, to: 64, factor: 2}"
    problems.append(Problem(path, f"{wanted}, got {show(data)}{hint}"))
    return []


def plain(data: Any, path: Location, problems: list[Problem]) -> list[Any]:
    """The items of a list that is not empty and holds no NaN, at any depth."""
    if not isinstance(data, (list, tuple)) or not data:
        problems.append(Problem(path, f"expected a list of values (one or more), got {show(data)}"))
        return []
    for i, item in enumerate(data):
        refuse_nan(item, (*path, i), problems)
    return list(data)


def refuse_nan(value: Any, path: Location, problems: list[Problem]) -> None:
    """Add a problem for every NaN in `value`: it equals nothing, so its point has no identity."""
    if isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            refuse_nan(item, (*path, key), problems)
    elif isinstance(value, float) and math.isnan(value):
        problems.append(Problem(path, "expected a value that equals itself, got nan"))


def integer(value: Any, least: int, most: int | None, path: Location, problems: list) -> int:
    """`value` if it is an integer from `least` to `most`, otherwise `least`."""
    right_type = isinstance(value, int) and not isinstance(value, bool)
    if right_type and least <= value and (most is None or value <= most):
        return value
    wanted = f">= {least}" if most is None else f"from {least} to {most}"
    problems.append(Problem(path, f"expected an integer {wanted}, got {show(value)}"))
    return least


def draws(data: Any, count: int, seed: int, key: str, path: Location, problems: list) -> list[Any]:
    """`count` draws from a distribution such as `{uniform: [0, 1]}`, as plain Python values.

    Draw i depends on `seed`, `key` and i only.
    """
    import numpy as np

    quantile = _quantile(data, path, problems)
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
    return [quantile(u) for u in generator.random(count).tolist()] if quantile else []


def frozen(value: Any) -> Hashable:
    """A stand-in whose equality is that of values in a config: 1 is 1.0 and True is not."""
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, dict):
        return frozenset((key, frozen(item)) for key, item in value.items())
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def clash(key: str, taken: Iterable[str]) -> str | None:
    """The key in `taken` that is `key`, a part of it, or what it is a part of."""
    near = (o for o in taken if f"{o}.".startswith(f"{key}.") or f"{key}.".startswith(f"{o}."))
    return next(near, None)


def look_up(key: str, point: Mapping[str, Any], base: Mapping[str, Any]) -> Any:
    """The value of a dotted key where `point` is laid over `base`, or `MISSING`."""
    if key in point:
        return point[key]
    parts = key.split(".")
    for n in range(len(parts) - 1, 0, -1):
        if (head := ".".join(parts[:n])) in point:
            return _descend(point[head], parts[n:])
    return _descend(base, parts)


def found(keys: Iterable[str], points: Sequence[Mapping[str, Any]], base: Mapping) -> str:
    """What the points have for `keys`, in words: what conditions could have asked for."""
    words = []
    for key in keys:
        every = (look_up(key, point, base) for point in points)
        seen = [*dict.fromkeys(str(value) for value in every if value is not MISSING)]
        words.append(f"{key} is {' or '.join(seen[:4] + ['...'] * (len(seen) > 4))}")
    return ", ".join(words)


def _descend(value: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        if isinstance(value, Mapping):
            value = value.get(part, MISSING)
        elif isinstance(value, (list, tuple)) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def _number(value: Any, path: Location, problems: list[Problem], whole: bool = False) -> None:
    """Add a problem unless `value` is a finite number (an integer if `whole`)."""
    wanted = "an integer" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        problems.append(Problem(path, f"expected {wanted}, got {show(value)}"))
    elif not -_LARGEST <= value <= _LARGEST:  # compares integers of any size exactly
        problems.append(Problem(path, f"expected a finite number (to 1e300), got {show(value)}"))


def _range(data: dict[str, Any], path: Location, problems: list[Problem]) -> list[Any]:
    before = len(problems)

    def add(message: str, *key: str) -> None:
        problems.append(Problem((*path, *key), message))

    unknown = [key for key in data if key not in _RANGE]
    forms = [form for form in _FORMS if form in data]
    for key in unknown:
        add(f"unknown key{did_you_mean(str(key), _RANGE)} (keys: {', '.join(_RANGE)})", key)
    for key in ("from", "to"):
        if key in data:
            _number(data[key], (*path, key), problems)
        elif not unknown:
            add(f"missing key '{key}' (a range has `from`, `to` and one of {', '.join(_FORMS)})")
    if len(forms) > 1 or not (forms or unknown):
        add(f"expected one of {', '.join(_FORMS)}, got {' and '.join(forms) or 'none of them'}")
    for key in forms:
        if key in ("log", "linear"):
            integer(data[key], 2, LIMIT, (*path, key), problems)
        else:
            _number(data[key], (*path, key), problems)
    if len(problems) > before:
        return []

    form, start, stop = forms[0], data["from"], data["to"]
    by, ends = data[form], f"from {start} to {stop}"
    whole = all(isinstance(x, int) for x in (start, stop, *([by] if form == "step" else [])))
    if start == stop:
        add(f"expected `from` and `to` to differ, both are {start}")
    elif form == "log" and min(start, stop) <= 0:
        add(f"expected positive ends for `log`, got {ends}")
    elif form == "factor" and not 0 < start < stop:
        add(f"expected 0 < from < to for `factor`, got {ends}")
    if form == "factor" and by <= 1:
        add(f"expected a factor > 1, got {by}", form)
    elif form == "step" and by * (stop - start) <= 0 and start != stop:
        add(f"expected a step {'> 0' if stop > start else '< 0'} ({ends}), got {by}", form)
    if len(problems) > before:
        return []

    count = _count(form, start, stop, by)
    if count < 2:
        add(f"expected a {form} that gives several values {ends}, got {by}", form)
    elif count > LIMIT:
        add(f"{count} values {ends}, at most {LIMIT} are allowed", form)
    elif whole and form in ("log", "linear") and count > abs(stop - start) + 1:
        add(f"{count} integers do not fit {ends}; for fractions write {float(stop)}", form)
    if len(problems) > before:
        return []
    return [value for value, _ in groupby(_in_range(form, start, stop, by, count, whole))]


def _exact(value: float) -> Fraction:
    """The decimal number that was written, not the binary one nearest to it."""
    return Fraction(repr(value))


def _count(form: str, start: float, stop: float, by: float) -> int:
    if form == "step":
        return (_exact(stop) - _exact(start)) // _exact(by) + 1
    if form == "factor":  # may be one too many, which `_in_range` drops
        return int((math.log(stop) - math.log(start)) / math.log(by) + 1e-9) + 1
    return int(by)


def _in_range(form: str, start: float, stop: float, by: float, count: int, whole: bool) -> list:
    if form in ("step", "linear"):
        first, last = _exact(start), _exact(stop)
        step = _exact(by) if form == "step" else (last - first) / (count - 1)
        exact = (first + i * step for i in range(count))
        if whole:
            return [round(x) for x in exact]
        values = [float(x) for x in exact]
        return _short(values, {start, stop, *(x for x in values if len(repr(x)) <= 15)})
    if form == "log":
        log, width = math.log(start), math.log(stop) - math.log(start)
        inside = [math.exp(log + width * i / (count - 1)) for i in range(1, count - 1)]
        if whole:
            return [start, *(round(x) for x in inside), stop]
        return _short([float(start), *inside, float(stop)], {start, stop})
    if whole:
        values = [round(start * by**i) for i in range(count)]
    else:
        log, by_log = math.log(start), math.log(by)
        values = [float(start), *(math.exp(log + by_log * i) for i in range(1, count))]
        if math.isclose(values[-1], stop):
            values[-1] = float(stop)
        values = _short(values, {start, stop})
    return values if values[-1] <= stop else values[:-1]


def _digits(value: float) -> float:
    """Rounded to 12 significant digits: `exp` and `log` differ after them between machines."""
    return float(f"{value:.12g}")


def _short(values: list[float], keep: set[float]) -> list[float]:
    """All but those to keep are rounded, where the neighbours leave room for it."""
    gaps = [abs(b - a) for a, b in pairwise(values)]
    rooms = map(min, [gaps[0], *gaps], [*gaps, gaps[-1]])
    return [
        x if x in keep or abs(_digits(x) - x) > room / 1000 else _digits(x)
        for x, room in zip(values, rooms)
    ]


def _quantile(data: Any, path: Location, problems: list) -> Callable[[float], Any] | None:
    """The function from [0, 1) to the values of a distribution; None if it is not one."""
    name = next(iter(data)) if isinstance(data, dict) and len(data) == 1 else None
    if name not in _DISTRIBUTIONS:
        near = did_you_mean(name, _DISTRIBUTIONS) if isinstance(name, str) else ""
        wanted = f"one of {', '.join(_DISTRIBUTIONS)}, such as {{uniform: [0, 1]}}"
        problems.append(Problem(path, f"expected {wanted}, got {show(data)}{near}"))
        return None
    given, path, before = data[name], (*path, name), len(problems)
    if name == "choice":
        options = plain(given, path, problems)
        return (lambda u: options[int(u * len(options))]) if len(problems) == before else None
    words = "mean, standard deviation" if name == "normal" else "low, high"
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        problems.append(Problem(path, f"expected [{words}], got {show(given)}"))
        return None
    for i, value in enumerate(given):
        _number(value, (*path, i), problems, whole=name == "integers")
    if len(problems) > before:
        return None
    low, high = given
    if name == "normal" and high <= 0:
        problems.append(Problem(path, f"expected a standard deviation > 0, got {high}"))
    elif name != "normal" and low >= high:
        problems.append(Problem(path, f"expected low < high, got {low} and {high}"))
    elif name == "log_uniform" and low <= 0:
        problems.append(Problem(path, f"expected low > 0, got {low}"))
    if len(problems) > before:
        return None
    if name == "integers":
        return lambda u: min(low + int(u * (high - low + 1)), high)
    if name == "normal":
        normal = statistics.NormalDist(low, high)
        return lambda u: _digits(normal.inv_cdf(max(u, 2**-54)))
    if name == "log_uniform":
        log, width = math.log(low), math.log(high) - math.log(low)
        return lambda u: min(max(_digits(math.exp(log + u * width)), float(low)), float(high))
    return lambda u: min(max(_digits(low * (1 - u) + high * u), float(low)), float(high))
