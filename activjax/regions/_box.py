"""Boxes: what is asked of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64


def check_box(name: str, box: Any, d: int) -> Float64[np.ndarray, "d 2"]:
    """Lower and upper bounds.

    Raises:
      ValueError: a wrong shape, numbers that are not finite, or a lower bound not below the upper.
    """
    array = np.array(box, np.float64)
    if array.shape != (d, 2):
        raise ValueError(f"{name}: box has shape {array.shape}, expected [{d}, 2]")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: box has NaN or infinite bounds")
    wrong = np.flatnonzero(array[:, 0] >= array[:, 1])
    if wrong.size:
        i = wrong[0]
        low, high = array[i]
        raise ValueError(
            f"{name}: side {i} of the box goes from {low} to {high}, expected low < high"
        )
    return array
