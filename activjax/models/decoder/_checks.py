"""Checks of single fields of a configuration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def number(what: str, value: Any) -> float:
    """A positive, finite number as a Python float, which takes on the dtype of what it meets."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{what}: expected a positive number, got {value!r}")
    return float(value)
