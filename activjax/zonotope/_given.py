"""What the convex programs ask of their inputs, and the wording when they do not get it."""

from __future__ import annotations

from typing import Any

import numpy as np

from activjax.patterns import Codes
from activjax.zonotope import _require
from activjax.zonotope._program import LOSSES
from activjax.zonotope._words import unpack


def examples(X: Any, what: str) -> np.ndarray:
    """`X` as a finite float64 `[n, d]` with n, d >= 1."""
    X = _real(X, what)
    _require.matrix(X, what, "nothing to fit")
    return X


def targets(y: Any, n: int, loss: str, what: str, batched: bool = True) -> np.ndarray:
    """`y` as a finite float64 `[n]`, or `[b, n]` where `batched`; labels -1 and 1 if logistic."""
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}, expected one of {list(LOSSES)}")
    y = _real(y, what)
    many = f" or [b, {n}]" if batched else ""
    if y.ndim not in ((1, 2) if batched else (1,)) or y.shape[-1] != n:
        raise ValueError(f"{what} has shape {y.shape}, expected [{n}]{many}, one for each example")
    if loss == "logistic" and not np.isin(y, (-1.0, 1.0)).all():
        found = np.unique(y)
        hint = "; use 2 * y - 1" if np.isin(found, (0.0, 1.0)).all() else ""
        raise ValueError(f"{what} has values {_few(found)}, expected labels -1 and 1{hint}")
    return y


def signs(v: Any, m: int, what: str) -> np.ndarray:
    """`v` as float64 `[m]` or `[b, m]` of -1 and 1."""
    v = _real(v, what)
    if v.ndim not in (1, 2) or v.shape[-1] != m:
        raise ValueError(f"{what} has shape {v.shape}, expected [{m}] or [b, {m}], one a pattern")
    if not np.isin(v, (-1.0, 1.0)).all():
        raise ValueError(f"{what} has values {_few(np.unique(v))}, expected -1 and 1")
    return v


def bits(patterns: Any, n: int, what: str) -> np.ndarray:
    """Patterns as booleans `[m, n]` or `[b, m, n]`, m >= 1."""
    if isinstance(patterns, Codes):
        if patterns.n_units != n:
            raise ValueError(
                f"{what} are codes of {patterns.n_units} units, expected {n}: their units are the "
                "examples, a row for each unit of the network"
            )
        active = unpack(np.asarray(patterns.words), n)
    else:
        active = np.asarray(patterns)
    if active.dtype != bool:
        raise ValueError(f"{what} has dtype {active.dtype}, expected bool or patterns.Codes")
    if active.ndim not in (2, 3) or active.shape[-1] != n or 0 in active.shape:
        raise ValueError(
            f"{what} has shape {active.shape}, expected [m, {n}] or [b, m, {n}]: a row for each "
            "unit, at least one, a column for each example"
        )
    return active


def at_least_zero(value: Any, what: str) -> float:
    """A finite number >= 0."""
    value = np.asarray(value, np.float64)
    if value.ndim or not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{what} is {value}, expected a finite number, at least 0")
    return float(value)


def one_batch(**sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The common leading axis of what is given, `()` or `(b,)`; some may lack it."""
    found = {name: size[0] for name, size in sizes.items() if size}
    if len(set(found.values())) > 1:
        raise ValueError(f"leading axes disagree: {found}; give one number of problems b or none")
    return (next(iter(found.values())),) if found else ()


def _real(x: Any, what: str) -> np.ndarray:
    x = np.asarray(x)
    if x.dtype.kind not in "biufV" or x.dtype.names is not None:
        raise ValueError(f"{what} has dtype {x.dtype}, expected real numbers")
    x = x.astype(np.float64)
    _require.finite(x, what)
    return x


def _few(values: np.ndarray) -> str:
    shown = ", ".join(f"{v:g}" for v in values[:4])
    return shown + (", ..." if len(values) > 4 else "")
