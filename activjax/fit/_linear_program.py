"""Linear programs with their certificates, by HiGHS."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from activjax.fit._exact import cancelled

Status = Literal["optimal", "infeasible", "unbounded", "failed"]

_TOLERANCE = 1e-7  # of HiGHS, for constraints


@dataclass(frozen=True)
class Certificate:
    """Multipliers that show that constraints cannot hold together (Farkas' lemma).

    For every `x` within its bounds `ub @ (A_ub x - b_ub) + eq @ (A_eq x - b_eq)` is at least
    `violation > 0`, while feasibility would make it at most 0.

    Attributes:
        ub: multipliers of `A_ub x <= b_ub`, not negative.
        eq: multipliers of `A_eq x = b_eq`.
        violation: see above.
        exact: whether `violation > 0` was found in exact arithmetic on the numbers as given.
        multipliers: those of that proof, `ub` and then `eq`: within rounding of them, and such that
            the coefficients of unbounded variables cancel exactly. Empty where none were found.
    """

    ub: np.ndarray
    eq: np.ndarray
    violation: float
    exact: bool
    multipliers: tuple[Fraction, ...] = ()


@dataclass(frozen=True)
class LinearProgram:
    """What a linear program came to, in float64.

    Attributes:
        status: "optimal"; "infeasible", with a certificate; "unbounded", with a feasible `x` and a
            `ray`; "failed", where HiGHS gave up or rounding leaves it open.
        x: `[n]`, optimal or feasible; None where there is none.
        value: `c @ x`; -infinity where it is unbounded, infinity where infeasible, else NaN.
        dual_ub, dual_eq: multipliers `y >= 0` and `z`: the reduced costs `c + A_ub^T y + A_eq^T z`
            are >= 0 at a lower bound, <= 0 at an upper one, 0 between. None unless optimal.
        dual_value: the lower bound on `value` that these multipliers prove.
        certificate: why it is infeasible; else None.
        ray: `[n]`, a direction of `x` that never ends and lowers the value; else None.
        message: what HiGHS said.
    """

    status: Status
    x: np.ndarray | None
    value: float
    dual_ub: np.ndarray | None = None
    dual_eq: np.ndarray | None = None
    dual_value: float = float("nan")
    certificate: Certificate | None = None
    ray: np.ndarray | None = None
    message: str = ""


@dataclass(frozen=True)
class _Problem:
    c: np.ndarray
    A_ub: np.ndarray
    b_ub: np.ndarray
    A_eq: np.ndarray
    b_eq: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def linear_program(
    c: Any,
    A_ub: Any = None,
    b_ub: Any = None,
    A_eq: Any = None,
    b_eq: Any = None,
    *,
    lower: Any = -np.inf,
    upper: Any = np.inf,
) -> LinearProgram:
    """Minimise `c @ x` subject to `A_ub x <= b_ub`, `A_eq x = b_eq`, `lower <= x <= upper`.

    Solved on the host by HiGHS, through SciPy. HiGHS gives no certificate of infeasibility there:
    it is found as the dual solution of the elastic problem (minimise the total amount by which
    constraints are broken) and checked in rational arithmetic.

    Optimal values hold up to HiGHS's tolerances (1e-7 in constraints and reduced costs): scale the
    problem so that its numbers are near 1.

    Args:
        c: `[n]`.
        A_ub, b_ub: `[m, n]` and `[m]`; None for none.
        A_eq, b_eq: `[k, n]` and `[k]`; None for none.
        lower, upper: numbers or `[n]`; by default variables are free (SciPy's are not negative).

    Returns:
        LinearProgram.

    Raises:
        ValueError: shapes that do not fit, NaN, infinities other than in bounds, or a lower bound
            above its upper one.
    """
    p = _problem(c, A_ub, b_ub, A_eq, b_eq, lower, upper)
    found = _solve(p)
    if found.status == 0:
        return _optimal(p, found)
    if found.status == 1:
        return LinearProgram("failed", None, float("nan"), message=found.message)
    broken, x, y, z = _elastic(p)
    if broken is None:
        return LinearProgram("failed", None, float("nan"), message=found.message)
    certificate = _certificate(p, y, z)
    # HiGHS's presolve takes some unbounded problems for infeasible: its word is not enough.
    clear = broken > _TOLERANCE and found.status == 2
    if certificate.violation > 0 and (certificate.exact or clear):
        return LinearProgram("infeasible", None, float("inf"), certificate=certificate,
                             message=found.message)  # fmt: skip
    ray = _ray(p) if broken <= _TOLERANCE else None
    if ray is not None:
        return LinearProgram("unbounded", x, float("-inf"), ray=ray, message=found.message)
    again = _solve(p, presolve=False)
    if again.status == 0:
        return _optimal(p, again)
    return LinearProgram("failed", None, float("nan"), message=found.message)


def _optimal(p: _Problem, found: Any) -> LinearProgram:
    y, z = np.maximum(-found.ineqlin.marginals, 0), -found.eqlin.marginals
    bound = _at_least(p, y, z)
    value = float(p.c @ found.x)
    return LinearProgram("optimal", found.x, value, y, z, bound, message=found.message)


def _problem(
    c: Any, A_ub: Any, b_ub: Any, A_eq: Any, b_eq: Any, lower: Any, upper: Any
) -> _Problem:
    c = np.asarray(c, np.float64)
    if c.ndim != 1 or c.size == 0:
        raise ValueError(f"linear_program: c has shape {c.shape}, expected [n], n >= 1")
    n = c.size

    def rows(A: Any, b: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
        if (A is None) != (b is None):
            raise ValueError(f"linear_program: A_{name} and b_{name} are given together or not")
        A = np.zeros((0, n)) if A is None else np.asarray(A, np.float64)
        b = np.zeros(0) if b is None else np.asarray(b, np.float64)
        if A.ndim != 2 or A.shape[1] != n or b.shape != A.shape[:1]:
            raise ValueError(
                f"linear_program: A_{name} has shape {A.shape} and b_{name} {b.shape}, expected "
                f"[m, {n}] and [m]"
            )
        return A, b

    ub, eq = rows(A_ub, b_ub, "ub"), rows(A_eq, b_eq, "eq")
    bounds = []
    for name, value in (("lower", lower), ("upper", upper)):
        value = np.asarray(value, np.float64)
        if value.shape not in ((), (n,)):
            raise ValueError(f"linear_program: {name} has shape {value.shape}, expected [{n}]")
        bounds.append(np.broadcast_to(value, n).copy())
    names = ("c", "A_ub", "b_ub", "A_eq", "b_eq")
    for name, value in zip(names, (c, *ub, *eq), strict=True):
        if not np.isfinite(value).all():
            raise ValueError(f"linear_program: {name} has NaN or infinite entries")
    if np.isnan(bounds).any():
        raise ValueError("linear_program: a bound is NaN; use -inf or inf for none")
    wrong = np.flatnonzero((bounds[0] > bounds[1]) | (bounds[0] == np.inf) | (bounds[1] == -np.inf))
    if wrong.size:
        i = wrong[0]
        raise ValueError(
            f"linear_program: variable {i} has the bounds {bounds[0][i]} and {bounds[1][i]}, "
            "expected lower <= upper"
        )
    return _Problem(c, *ub, *eq, *bounds)


def _solve(p: _Problem, presolve: bool = True) -> Any:
    from scipy.optimize import linprog

    bounds = np.stack([p.lower, p.upper], 1)
    constraints = (p.A_ub, p.b_ub, p.A_eq, p.b_eq)
    return linprog(p.c, *constraints, bounds, method="highs", options={"presolve": presolve})


def _elastic(p: _Problem) -> tuple[float | None, Any, np.ndarray, np.ndarray]:
    """The least total violation of the constraints, where, and the multipliers that prove it."""
    m, k = len(p.b_ub), len(p.b_eq)
    slack = np.ones(m + 2 * k)
    relaxed = _Problem(
        np.concatenate([np.zeros_like(p.c), slack]),
        np.hstack([p.A_ub, -np.eye(m), np.zeros((m, 2 * k))]),
        p.b_ub,
        np.hstack([p.A_eq, np.zeros((k, m)), -np.eye(k), np.eye(k)]),
        p.b_eq,
        np.concatenate([p.lower, 0 * slack]),
        np.concatenate([p.upper, np.full(m + 2 * k, np.inf)]),
    )
    found = _solve(relaxed)
    if found.status != 0:
        return None, None, np.zeros(m), np.zeros(k)
    y, z = np.maximum(-found.ineqlin.marginals, 0), -found.eqlin.marginals
    return float(found.fun), found.x[: len(p.c)], y, z


def _certificate(p: _Problem, y: np.ndarray, z: np.ndarray) -> Certificate:
    slope = p.A_ub.T @ y + p.A_eq.T @ z
    size = np.abs(p.A_ub).T @ y + np.abs(p.A_eq).T @ np.abs(z)
    rounding = 1e-9 * (1 + size)
    # Coefficients that need a bound which is not there should cancel.
    free = ~np.isfinite(np.where(slope > 0, p.lower, p.upper))
    open_ = ~(np.isfinite(p.lower) & np.isfinite(p.upper)) & (np.abs(slope) <= rounding)
    rows, weights = np.vstack([p.A_ub, p.A_eq]), np.concatenate([y, z])
    multipliers = cancelled(rows[:, free | open_], weights, np.arange(len(weights)) < len(y))
    exact = _exactly_at_least(p, multipliers)
    if exact is not None:
        return Certificate(y, z, float(exact), exact > 0, tuple(multipliers))
    if (free & (np.abs(slope) > rounding)).any():
        return Certificate(y, z, float("-inf"), False)
    kept = np.where(free, 0.0, slope)
    at = np.where(kept > 0, p.lower, np.where(kept < 0, p.upper, 0.0))
    return Certificate(y, z, float(kept @ at - p.b_ub @ y - p.b_eq @ z), False)


def _exactly_at_least(p: _Problem, weights: list[Fraction]) -> Fraction | None:
    """The least value of the weighted constraints within the bounds; None where there is none."""
    rows = np.vstack([p.A_ub, p.A_eq])
    used = [i for i, w in enumerate(weights) if w]
    sides = np.concatenate([p.b_ub, p.b_eq])
    total = -sum((weights[i] * Fraction(sides[i]) for i in used), Fraction(0))
    for j in range(len(p.c)):
        slope = sum((weights[i] * Fraction(rows[i, j]) for i in used if rows[i, j]), Fraction(0))
        if slope:
            bound = p.lower[j] if slope > 0 else p.upper[j]
            if not np.isfinite(bound):
                return None
            total += slope * Fraction(bound)
    return total


def _at_least(p: _Problem, y: np.ndarray, z: np.ndarray) -> float:
    """The bound on the optimum that multipliers prove by weak duality, in float64.

    Reduced costs of free variables within rounding of 0 are taken for 0.
    """
    reduced = p.c + p.A_ub.T @ y + p.A_eq.T @ z
    at = np.where(reduced > 0, p.lower, p.upper)
    size = np.abs(p.c) + np.abs(p.A_ub).T @ y + np.abs(p.A_eq).T @ np.abs(z)
    open_ = ~np.isfinite(at)
    if (open_ & (np.abs(reduced) > 1e-7 * (1 + size))).any():
        return float("-inf")
    return float(np.sum(np.where(open_, 0.0, reduced * np.where(open_, 0.0, at)))
                 - p.b_ub @ y - p.b_eq @ z)  # fmt: skip


def _ray(p: _Problem) -> np.ndarray | None:
    """A direction that keeps to the constraints, as the solver sees them, and lowers the value."""
    cone = _Problem(
        p.c,
        p.A_ub,
        0 * p.b_ub,
        p.A_eq,
        0 * p.b_eq,
        np.where(np.isfinite(p.lower), 0.0, -1.0),
        np.where(np.isfinite(p.upper), 0.0, 1.0),
    )
    found = _solve(cone)
    if found.status != 0 or not p.c @ found.x < 0:
        return None
    return found.x
