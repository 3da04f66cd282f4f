"""What every function here asks of a data matrix, and the wording when it does not get it."""

from __future__ import annotations

import numpy as np


def matrix(x: np.ndarray, what: str, nothing: str) -> None:
    """Raises ValueError unless `x` is `[n, d]` with n, d >= 1; `nothing` says what then lacks."""
    if x.ndim != 2:
        hint = "; for a single example use x[None]" if x.ndim == 1 else ""
        raise ValueError(f"{what} has shape {x.shape}, expected [n, d], examples in rows{hint}")
    if 0 in x.shape:
        raise ValueError(f"{what} has shape {x.shape}: there is {nothing}, expected n, d >= 1")


def finite(x: np.ndarray, what: str) -> None:
    """Raises ValueError where floats are NaN or infinite."""
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        raise ValueError(
            f"{what} has {len(bad)} NaN or infinite entries, the first at {bad[0].tolist()}; "
            "drop or mend those examples"
        )
