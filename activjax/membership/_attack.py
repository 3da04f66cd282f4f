"""A light attack on top of features: normal scores and a logistic regression, fitted apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float64, Int

from activjax.fit import logistic
from activjax.membership._fit_inputs import features, group_ids, members
from activjax.membership._scaling import Scaler, Scaling, fit_scaler


class Weight(NamedTuple):
    """What an attack makes of one feature."""

    name: str
    coefficient: float


@dataclass(frozen=True, eq=False)
class Attack:
    """A fitted attack.

    Attributes:
      names: of the features.
      coef: `[d]`, log-odds for a unit of the scaled feature.
      intercept: log-odds where all scaled features are 0.
      constant: features that were constant in the fit set and count for nothing.
      n_members, n_non_members: sizes of the fit set.
      scaler: the scaling, fitted with it.
      groups: the groups of the fit set, or None.
    """

    names: tuple[str, ...]
    coef: Float64[np.ndarray, " d"]
    intercept: float
    constant: tuple[str, ...]
    n_members: int
    n_non_members: int
    scaler: Scaler
    groups: frozenset[Any] | None

    def scaled(self, F: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
        """The features as the regression sees them. Errors as `score`."""
        return self.scaler(features(F, "Attack", self.names))

    def score(
        self, F: Float[np.ndarray, "n d"], *, groups: Any = None
    ) -> Float64[np.ndarray, " n"]:
        """Log-odds of membership, higher is member.

        Args:
          F: `[n, d]`, the features of the fit.
          groups: `[n]`, as those given to the fit (from one call of `duplicates`).

        Raises:
          ValueError: another number of features, a NaN or an infinity (by name and row), an
            example of a group that was fitted on.
        """
        Z = self.scaled(F)
        if groups is not None:
            if self.groups is None:
                raise ValueError("Attack: fitted without groups: give fit_attack groups=, too")
            for row, group in enumerate(group_ids(groups, len(Z), "Attack").tolist()):
                if group in self.groups:
                    raise ValueError(
                        f"Attack: example {row} is of group {group}, which the attack was fitted "
                        "on: split by `halves(..., groups)`"
                    )
        return Z @ self.coef + self.intercept

    def table(self) -> tuple[Weight, ...]:
        """The features, those with the largest coefficients first."""
        order = np.argsort(-np.abs(self.coef), kind="stable")
        return tuple(Weight(self.names[i], float(self.coef[i])) for i in order)

    def __str__(self) -> str:
        width = max(map(len, self.names))
        fitted = f"attack fitted on {self.n_members} members, {self.n_non_members} non-members"
        lines = [f"  {w.name:{width}s} {w.coefficient:+.4f}" for w in self.table()]
        return "\n".join([fitted, *lines])


def fit_attack(
    F: Float[np.ndarray, "n d"],
    member: Any,
    *,
    names: Sequence[str] | None = None,
    scaling: Scaling = "quantile_normal",
    l2: float = 10.0,
    groups: Any = None,
) -> Attack:
    """Fit an attack: features scaled to one scale each, then an L2 logistic regression.

    Give it examples that are not evaluated on (`halves`), or those of shadow models.

    Args:
      F: `[n, d]`.
      member: `[n]`, booleans or 0 and 1.
      names: of the features.
      scaling: "quantile_normal" (normal scores: `Phi^-1((rank - 1/2) / n)` in the fit set, ties
        share a mean rank, linear between its values and constant beyond them), for features with
        heavy tails, whose mean and deviation say little; "standard" (mean 0, deviation 1); "none".
      l2: penalty, `1 / C` of scikit-learn.
      groups: `[n]`, ids that `Attack.score` then refuses to score.

    Returns:
      Attack.

    Raises:
      ValueError: wrong shapes, a NaN or an infinity (by name and row), fewer than 2 members or 2
        non-members, names that do not fit.
      ArithmeticError: the regression did not converge, as for features of very different scales
        without scaling.
    """
    if scaling not in get_args(Scaling):
        raise ValueError(f"fit_attack: scaling is {scaling!r}, expected one of {get_args(Scaling)}")
    X = features(F, "fit_attack", names)
    named = tuple(names) if names is not None else tuple(f"feature {i}" for i in range(X.shape[1]))
    y = members(member, len(X), "fit_attack")
    ids = None if groups is None else frozenset(group_ids(groups, len(X), "fit_attack").tolist())
    scaler = fit_scaler(X, scaling)
    with np.errstate(over="ignore"):
        Z = scaler(X).astype(np.float32)
    found = logistic(Z, jnp.asarray(y, jnp.int32), l2=l2, n_classes=2)
    if not bool(found.converged):
        raise ArithmeticError(
            "fit_attack: the regression did not converge: use scaling='quantile_normal', or more l2"
        )
    coef = np.asarray(found.coef, np.float64)
    intercept = np.asarray(found.intercept, np.float64)
    constant = tuple(named[i] for i in scaler.constant)
    slope = coef[1] - coef[0]
    slope[list(scaler.constant)] = 0.0
    n = int(y.sum())
    return Attack(
        named, slope, float(intercept[1] - intercept[0]), constant, n, len(y) - n, scaler, ids
    )


def halves(
    seed: int, member: Any, groups: Any = None
) -> tuple[Int[np.ndarray, " fit"], Int[np.ndarray, " test"]]:
    """Rows to fit an attack on and rows to evaluate it on, half of the members on each side.

    Groups stay on one side: those alike in their numbers of members and non-members are dealt out
    in turn, in random order, the odd one to the side that has less.

    Args:
      seed: of the split.
      member: `[n]`, booleans or 0 and 1.
      groups: `[n]` ids, as `duplicates` gives; every example for itself if left out.

    Returns:
      Two disjoint sorted arrays of row numbers, together all.

    Raises:
      ValueError: fewer than 2 of a class, or groups that leave a side without one.
    """
    y = members(member, np.size(member), "halves")
    ids = np.arange(len(y)) if groups is None else group_ids(groups, len(y), "halves")
    ids = np.unique(ids, return_inverse=True)[1]
    counts = np.stack([np.bincount(ids, ~y), np.bincount(ids, y)], 1).astype(int)
    order = np.random.default_rng(seed).permutation(len(counts))
    kinds = np.unique(counts, axis=0, return_inverse=True)[1].ravel()
    sides = np.zeros(len(counts), int)
    totals = [0, 0]
    sizes = counts.sum(1)
    for kind in np.argsort([-sizes[kinds == k][0] for k in range(kinds.max() + 1)], kind="stable"):
        alike = order[kinds[order] == kind]
        behind = int(totals[1] < totals[0])
        sides[alike] = (np.arange(len(alike)) + behind) % 2
        for side in (0, 1):
            totals[side] += int(sizes[alike[sides[alike] == side]].sum())
    side_of = sides[ids]
    fit, test = np.flatnonzero(side_of == 0), np.flatnonzero(side_of == 1)
    for rows in (fit, test):
        if len(set(y[rows].tolist())) < 2:
            raise ValueError(
                "halves: groups are so large that one side has no members or no non-members: the "
                "examples cannot be split"
            )
    return fit, test


def stacked(
    scores: Mapping[str, Any],
) -> tuple[Float64[np.ndarray, "n k"], tuple[str, ...]]:
    """Scores as features, so that `fit_attack` on them has the labels that another attack has.

    Args:
      scores: name to `[n]`.

    Returns:
      `[n, k]` and the names, for `fit_attack(F[rows], member[rows], names=names)`.

    Raises:
      ValueError: no scores, or shapes that differ.
    """
    if not scores:
        raise ValueError("stacked: no scores")
    columns = {name: np.asarray(score, np.float64) for name, score in scores.items()}
    n = next(iter(columns.values())).shape[:1]
    for name, column in columns.items():
        if column.ndim != 1 or column.shape != n:
            wanted = list(n) if n else "[n]"
            raise ValueError(f"stacked: {name!r} has shape {list(column.shape)}, expected {wanted}")
    return np.stack(list(columns.values()), 1), tuple(columns)
