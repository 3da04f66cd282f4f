"""What attacks with shadow models ask of their arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def counts(chosen: np.ndarray, side: str, what: str) -> np.ndarray:
    """How many models are chosen for each example; none is refused."""
    count = chosen.sum(0)
    none = np.flatnonzero(count == 0)
    if len(none):
        raise ValueError(
            f"{what} {none[0]} has no {side} model ({len(none)} such in all): train more shadow "
            "models, or leave it out"
        )
    return count


def checked(
    target: Any, shadow: Any, inside: Any, one: str, many: str, models: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`[n]`, `[m, n]` in float64 without NaN, and `[m, n]` booleans; the names are for messages."""
    x, values = np.asarray(target, np.float64), np.asarray(shadow, np.float64)
    if x.ndim != 1 or len(x) == 0:
        raise ValueError(f"{one} has shape {list(x.shape)}, expected [n], n >= 1")
    wanted = f"[{'models' if models is None else models}, {len(x)}]"
    fits = values.ndim == 2 and values.shape[1] == len(x) and len(values) > 0
    if not fits or models not in (None, len(values)):
        raise ValueError(f"{many} has shape {list(values.shape)}, expected {wanted}")
    flags = np.asarray(inside)
    if flags.shape != values.shape:
        raise ValueError(
            f"{many.split(':')[0]}: inside has shape {list(flags.shape)}, expected "
            f"{list(values.shape)}, models first"
        )
    wrong = (flags != 0) & (flags != 1)
    refuse(wrong, flags, f"{many.split(':')[0]}: inside", ", expected booleans")
    for array, name in ((x, one), (values, many)):
        at = np.argwhere(np.isnan(array))
        if len(at):
            raise ValueError(f"{name} is NaN at {at[0].tolist()} ({len(at)} in all)")
    return x, values, flags.astype(bool)


def finite(values: np.ndarray, name: str) -> None:
    """Refuses infinities."""
    at = np.argwhere(np.isinf(values))
    if len(at):
        raise ValueError(f"{name} is infinite at {at[0].tolist()} ({len(at)} in all)")


def refuse(bad: np.ndarray, values: np.ndarray, name: str, why: str) -> None:
    """Refuses values where `bad`, naming the first."""
    at = np.argwhere(bad)
    if len(at):
        raise ValueError(f"{name} is {values[tuple(at[0])]} at {at[0].tolist()}{why}")
