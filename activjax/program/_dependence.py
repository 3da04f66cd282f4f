"""How a value depends on the chosen input, as far as linearity goes."""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Dependence(enum.Enum):
    """How a value depends on the chosen input, everything else being fixed.

    From below: CONSTANT, then LINEAR (affine) and STEPS (piecewise constant), then PIECEWISE
    (piecewise linear), then NONLINEAR (anything else, or not known).
    """

    CONSTANT = "constant"
    LINEAR = "linear"
    STEPS = "piecewise constant"
    PIECEWISE = "piecewise linear"
    NONLINEAR = "not piecewise linear"


CONSTANT, LINEAR, STEPS, PIECEWISE, NONLINEAR = Dependence


def join(kinds: Iterable[Dependence]) -> Dependence:
    """The least dependence that covers several: also that of their sum."""
    present = set(kinds) - {CONSTANT}
    if len(present) > 1:
        return NONLINEAR if NONLINEAR in present else PIECEWISE
    return next(iter(present), CONSTANT)


def selected(by: Iterable[Dependence], cases: Iterable[Dependence]) -> Dependence:
    """The dependence of a choice among `cases` (or elements of them), made by values `by`."""
    decides, chosen = join(by), join(cases)
    if decides is CONSTANT or chosen is NONLINEAR:
        return chosen
    if decides is NONLINEAR:
        return NONLINEAR
    return STEPS if chosen in (CONSTANT, STEPS) else PIECEWISE


def product(a: Dependence, b: Dependence) -> Dependence:
    """The dependence of a product, or of anything linear in each of two values."""
    if CONSTANT in (a, b) or (a is STEPS and b is STEPS) or NONLINEAR in (a, b):
        return join((a, b))
    # A mask times a piecewise linear value is one; two values that both vary give a square.
    return PIECEWISE if STEPS in (a, b) else NONLINEAR
