"""Handwritten digits: 1,797 real 8x8 images that come with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32


@dataclass(frozen=True, eq=False)
class Split:
    """Examples for training and for testing, as rows.

    Attributes:
      train_x: training inputs.
      train_y: training labels.
      test_x: held-out inputs.
      test_y: held-out labels.
      classes: number of classes.
    """

    train_x: Float32[np.ndarray, "n d"]
    train_y: Int32[np.ndarray, " n"]
    test_x: Float32[np.ndarray, "m d"]
    test_y: Int32[np.ndarray, " m"]
    classes: int


def stratified(
    y: Int32[np.ndarray, " n"], test_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of a training and a test set with the same share of each class, sorted.

    Raises:
      ValueError: the fraction is not between 0 and 1, or leaves a class without examples.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction: expected a number in (0, 1), got {test_fraction}")
    rng = np.random.default_rng(seed)
    test = []
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        n = round(test_fraction * len(rows))
        if not 0 < n < len(rows):
            raise ValueError(
                f"test_fraction {test_fraction} leaves class {label} ({len(rows)} examples) "
                "without training or test examples"
            )
        test.append(rng.permutation(rows)[:n])
    held = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(y)), held), held


def digits(*, test_fraction: float = 0.25, seed: int = 0) -> Split:
    """The digits, split by class; the same split for the same arguments, on every machine.

    Args:
      test_fraction: share of each class that is held out.
      seed: of the split.

    Returns:
      Inputs `[n, 64]` in [0, 1] (row-major pixels) and labels 0 to 9. Alpaydin and Kaynak 1998.
    """
    from sklearn.datasets import load_digits

    data, target = load_digits(return_X_y=True)
    x, y = (data / 16.0).astype(np.float32), target.astype(np.int32)
    train, test = stratified(y, test_fraction, seed)
    return Split(x[train], y[train], x[test], y[test], 10)
