"""Controls: what a classifier that never sees the model finds, and what shuffled labels teach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float64

from activjax.fit import logistic
from activjax.membership._attack import fit_attack
from activjax.membership._fit_inputs import features, members
from activjax.membership._scaling import fit_scaler
from activjax.stats import Estimate, auroc, mean_interval


def blind_features(x: Any) -> Float64[np.ndarray, "n d"]:
    """What is to be seen of examples without any model.

    Args:
      x: a list of texts, str (as UTF-8) or bytes; or an array `[n, ...]` of numbers (pixels).
        Token ids are not numbers of this kind: give their text.

    Returns:
      Of texts `[n, 257]`: the relative frequency of each byte, then the length in bytes. Of arrays
      `[n, d]`: their elements.

    Raises:
      ValueError: no examples, one text instead of a list, something else than these.
    """
    if isinstance(x, (str, bytes)):
        raise ValueError("blind_features: x is one text, expected a list of them")
    if hasattr(x, "shape"):
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            raise ValueError(
                f"blind_features: x has dtype {array.dtype}; for texts give a list of str or bytes"
            )
        if array.ndim < 2 or 0 in array.shape:
            raise ValueError(
                f"blind_features: x has shape {list(array.shape)}, expected [n, ...], not empty"
            )
        return array.reshape(len(array), -1).astype(np.float64)
    rows = []
    for i, text in enumerate(x):
        if not isinstance(text, (str, bytes)):
            raise ValueError(f"blind_features: example {i} is {type(text).__name__}, expected text")
        code = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)
        rows.append([*np.bincount(code, minlength=256) / max(len(code), 1), len(code)])
    if not rows:
        raise ValueError("blind_features: no examples")
    return np.array(rows, np.float64)


@dataclass(frozen=True)
class Blind:
    """What a classifier that never sees the model tells of membership.

    Attributes:
      auc: its area under the ROC curve on the test examples, 0.5 if the split is random.
    """

    auc: Estimate

    @property
    def flagged(self) -> bool:
        """Whether the whole interval is above 0.5: members and others differ as data."""
        return self.auc.low > 0.5

    def __str__(self) -> str:
        if self.flagged:
            said = (
                "FLAGGED: members and non-members differ as data. A score measures that "
                "difference, and not only membership"
            )
        else:
            said = "no sign that members and non-members differ as data"
        return f"blind control: {self.auc}\n  {said}"


def blind(
    x_fit: Any,
    member_fit: Any,
    x_test: Any,
    member_test: Any,
    *,
    l2: float = 10.0,
    groups: Any = None,
    level: float = 0.95,
) -> Blind:
    """The blind control: membership predicted from the data alone.

    Das, Zhang and Tramer, "Blind baselines beat membership inference attacks for foundation
    models" (2024): where such a classifier beats chance, members and candidates come from
    different sources, and so does an attack's success. An audit needs a random split.

    Args:
      x_fit, x_test: texts or arrays, as for `blind_features`.
      member_fit, member_test: booleans.
      l2: as in `fit_attack`.
      groups: `[n_test]`, for the interval, as in `stats.auroc`.
      level: of the interval.

    Returns:
      Blind.

    Raises:
      ValueError: as `blind_features`, `fit_attack` and `stats.auroc`.
    """
    attack = fit_attack(blind_features(x_fit), member_fit, l2=l2)
    score = attack.score(blind_features(x_test))
    return Blind(auroc(score, member_test, groups=groups, level=level))


@dataclass(frozen=True, eq=False)
class Permuted:
    """Attacks fitted on shuffled membership.

    Attributes:
      aucs: `[draws]`, on the true labels of the test examples.
      mean: of them, about 0.5.
      low, high: Student's interval of that mean over permutations, for these test examples.
      level: of the interval.
    """

    aucs: Float64[np.ndarray, " draws"]
    mean: float
    low: float
    high: float
    level: float

    @property
    def flagged(self) -> bool:
        """Whether the interval is without 0.5: at 95 %, one time in twenty by chance."""
        return not self.low <= 0.5 <= self.high

    def __str__(self) -> str:
        said = "FLAGGED: 0.5 is outside" if self.flagged else "0.5 is inside"
        return (
            f"permutation control: AUROC {self.mean:.4g} [{self.low:.4g}, {self.high:.4g}] "
            f"({100 * self.level:g} %; {len(self.aucs)} permutations from {self.aucs.min():.3g} to "
            f"{self.aucs.max():.3g}; {said})"
        )


def permuted(
    F_fit: Float[np.ndarray, "n d"],
    member_fit: Any,
    F_test: Float[np.ndarray, "m d"],
    member_test: Any,
    *,
    draws: int = 20,
    seed: int = 0,
    l2: float = 10.0,
    level: float = 0.95,
) -> Permuted:
    """The permutation control: the attack refitted on shuffled membership, many times.

    One such attack is a random direction among the features, and its area far from 0.5 either way
    where they are strong; only the mean tells whether anything but the labels reaches the test.

    Args:
      F_fit, member_fit: what the attack is fitted on; it is scaled as by `fit_attack`.
      F_test, member_test: what it is tested on, with true labels.
      draws: permutations, at least 20.
      seed: of the permutations.
      l2: as in `fit_attack`.
      level: of the interval.

    Returns:
      Permuted.

    Raises:
      ValueError: `draws` below 20, or as `fit_attack`.
      ArithmeticError: a fit did not converge.
    """
    if draws < 20:
        raise ValueError(f"permuted: draws is {draws}, expected at least 20: they vary widely")
    X = features(F_fit, "permuted")
    y = members(member_fit, len(X), "permuted")
    names = [f"feature {i}" for i in range(X.shape[1])]
    test = features(F_test, "permuted", names)
    scaler = fit_scaler(X, "quantile_normal")
    rng = np.random.default_rng(seed)
    shuffled = np.stack([rng.permutation(y) for _ in range(draws)]).astype(np.int32)
    Z = jnp.asarray(scaler(X), jnp.float32)
    found = jax.vmap(lambda labels: logistic(Z, labels, l2=l2, n_classes=2))(jnp.asarray(shuffled))
    if not np.asarray(found.converged).all():
        raise ArithmeticError("permuted: a regression did not converge: use more l2")
    coef = np.asarray(found.coef, np.float64)
    scores = scaler(test) @ (coef[:, 1] - coef[:, 0]).T
    aucs = np.array([auroc(score, member_test).value for score in scores.T])
    mean, half = mean_interval(aucs, level=level)
    return Permuted(aucs, float(mean), float(mean - half), float(mean + half), level)
