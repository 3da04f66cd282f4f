"""What an attack asks of features, membership and groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64


def features(F: Any, what: str, names: Sequence[str] | None = None) -> Float64[np.ndarray, "n d"]:
    """Finite features as float64 `[n, d]`, as many as there are names."""
    X = np.asarray(F)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"{what}: F has shape {list(X.shape)}, expected [n, d] with n, d >= 1")
    if X.dtype == object or np.iscomplexobj(X):
        raise ValueError(f"{what}: F has dtype {X.dtype}, expected real numbers")
    X = X.astype(np.float64)
    if names is not None:
        twice = [name for name in names if list(names).count(name) > 1]
        if twice:
            raise ValueError(f"{what}: the names have {twice[0]!r} twice")
        if len(names) != X.shape[1]:
            raise ValueError(
                f"{what}: F has shape {list(X.shape)}, expected [n, {len(names)}]: there are "
                f"{len(names)} names, expected {X.shape[1]}"
            )
    bad = np.argwhere(~np.isfinite(X))
    if len(bad):
        row, column = bad[0].tolist()
        name = f"feature {column}" if names is None else names[column]
        raise ValueError(
            f"{what}: {name!r} is {X[row, column]} in row {row} ({len(bad)} such values in all): "
            "leave such rows out, or find out why"
        )
    return X


def members(member: Any, n: int, what: str) -> Bool[np.ndarray, " n"]:
    """Membership as booleans, at least two examples of each class."""
    y = np.asarray(member)
    if y.shape != (n,):
        raise ValueError(f"{what}: member has shape {list(y.shape)}, expected [{n}]")
    odd = np.flatnonzero((y != 0) & (y != 1))
    if len(odd):
        raise ValueError(
            f"{what}: member is {y[odd[0]]} at index {odd[0]}, expected booleans or 0 and 1"
        )
    y = y.astype(bool)
    if min(y.sum(), (~y).sum()) < 2:
        raise ValueError(
            f"{what}: {y.sum()} members and {(~y).sum()} non-members, expected at least 2 of each"
        )
    return y


def group_ids(groups: Any, n: int, what: str) -> np.ndarray:
    """Groups as an array `[n]` of whole numbers, strings or bytes."""
    ids = np.asarray(groups)
    if ids.dtype.kind not in "biuSU":
        raise ValueError(f"{what}: groups have dtype {ids.dtype}, expected integers or strings")
    if ids.shape != (n,):
        raise ValueError(f"{what}: groups have shape {list(ids.shape)}, expected [{n}]")
    return ids
