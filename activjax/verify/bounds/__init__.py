"""Bounds of functions over boxes: intervals, CROWN, optimised slopes."""

from activjax.verify.bounds._bound import Bounds as Bounds, bound as bound
