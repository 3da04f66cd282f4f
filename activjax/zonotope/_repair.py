"""A better dual point for a program whose iteration left a gap."""

from __future__ import annotations

import numpy as np

from activjax.zonotope import _program
from activjax.zonotope._interior import REACH, Solution
from activjax.zonotope._program import Program

_SHARES = 10.0 ** -np.arange(1, 10)


def repaired(p: Program, found: Solution) -> Solution:
    """The solution with the best of some dual points that meet the dual equations.

    Where the infimum of the logistic loss is not attained, the slopes of examples that weights
    classify ever better fall to 0 without reaching it, and those of the other examples need not
    balance: a bound for long weights is then poor. Here slopes below a share of the largest are
    set to 0, for several shares, multipliers of constraints that are not tight too, and the others
    are changed as little as is needed, relative to their size, to meet the equations.

    Args:
        p: one program, NumPy leaves; 64-bit mode on.
        found: its solution.
    """
    w = found.weights
    slope = np.asarray(_program.slope(p, _program.outputs(p, w)))
    n = len(slope)
    radius = REACH * np.sqrt(np.sum(w**2, axis=1)).max()
    tight = found.multipliers > found.slack
    pulled = w @ p.penalty
    m, r = w.shape
    to_outputs = (p.gates[:, None, :] * p.features.T).reshape(m * r, -1)
    rows = np.repeat(np.arange(m), p.facets.shape[0]).reshape(tight.shape)[tight]
    normals = (p.sides[:, :, None] * p.facets)[tight]
    to_slack = np.zeros((m, r, len(rows)))
    to_slack[rows, :, np.arange(len(rows))] = normals
    both = np.concatenate([to_outputs, -to_slack.reshape(m * r, -1)], axis=1)
    best = found
    for share in _SHARES:
        dual = np.where(np.abs(slope) > share * np.abs(slope).max(), slope, 0.0)
        values = np.concatenate([dual, found.multipliers[tight]])
        missing = both @ values + pulled.reshape(-1)
        change, *_ = np.linalg.lstsq(both * values, -missing, rcond=1e-12)
        values = values * np.maximum(1 + change, 0.0)
        multipliers = np.zeros_like(found.multipliers)
        multipliers[tight] = values[n:]
        bound, dual = _program.dual_bound(p, values[:n], multipliers, w, radius)
        if bound > best.bound:
            best = best._replace(
                bound=np.asarray(bound), dual=np.asarray(dual), multipliers=multipliers
            )
    return best
