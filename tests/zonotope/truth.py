"""Slow and plain: what the engines are compared with."""

import itertools
from fractions import Fraction

import numpy as np
from scipy.optimize import linprog


def sign_of(x, w):
    """The sign of an inner product, in rational arithmetic."""
    total = sum(Fraction(a) * Fraction(b) for a, b in zip(x.tolist(), w.tolist(), strict=True))
    return (total > 0) - (total < 0)


def is_cell(X, pattern):
    """Whether a pattern of nonzero rows has a cell, by a linear program."""
    n, d = X.shape
    signed = X * np.where(pattern, 1, -1)[:, None]
    found = linprog(
        [0] * d + [-1],
        np.column_stack([-signed, np.ones(n)]),
        np.zeros(n),
        bounds=[(-1, 1)] * d + [(None, 1)],
    )
    return found.status == 0 and -found.fun > 1e-7


def by_linear_programs(X):
    """All patterns, as bytes of booleans, by trying every one."""
    zero = (X == 0).all(axis=1)
    out = set()
    for bits in itertools.product((False, True), repeat=int((~zero).sum())):
        pattern = np.zeros(len(X), bool)
        pattern[~zero] = bits
        if zero.all() or is_cell(X[~zero], pattern[~zero]):
            out.add(pattern.tobytes())
    return out
