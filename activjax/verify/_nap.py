"""Neural activation patterns (NAPs): what nearly all examples of a class have in common.

Geng et al., Towards Reliable Neural Specifications (ICML 2023), definition 4 and section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, Int8

from activjax.patterns import Codes, unpack

Units = tuple[tuple[str, int], ...]


@dataclass(frozen=True, eq=False)
class Pattern:
    """The signs that one class asks for.

    Attributes:
      label: of the class.
      signs: `[units]` int8: 1 active, -1 inactive, 0 free.
      units: the table of the codes it was mined from.
    """

    label: int
    signs: Int8[np.ndarray, " units"]
    units: Units

    @property
    def size(self) -> int:
        """How many units it fixes."""
        return int(np.count_nonzero(self.signs))

    def follows(self, codes: Codes) -> Bool[np.ndarray, " n"]:
        """Which examples have the pattern.

        Raises:
          ValueError: the codes are of other units.
        """
        _same_units(self.units, codes)
        on, off = (_words(self.signs == s) for s in (1, -1))
        words = np.asarray(codes.words)
        return ((words & on) == on).all(-1) & ((words & off) == 0).all(-1)

    def conflicts(self, other: Pattern) -> Int[np.ndarray, " k"]:
        """Units that must be active in one and inactive in the other: no input has both then."""
        return np.flatnonzero(self.signs * other.signs == -1)

    def both(self, other: Pattern) -> Pattern:
        """The pattern of inputs that have both.

        Raises:
          ValueError: they conflict.
        """
        if (at := self.conflicts(other)).size:
            raise ValueError(
                f"the patterns of {self.label} and {other.label} conflict at {at.size} units, "
                f"such as {at[0]}: no input has both"
            )
        signs = np.where(self.signs != 0, self.signs, other.signs)
        return Pattern(self.label, signs, self.units)

    def __repr__(self) -> str:
        return f"Pattern(label {self.label}, {self.size} of {len(self.signs)} units)"


@dataclass(frozen=True, eq=False)
class Nap:
    """The patterns of all classes.

    Attributes:
      delta: the share of a class that must agree, an exact decimal.
      labels: of the classes.
      active: `[classes, units]`, how many examples of the class have the unit active.
      examples: `[classes]`, how many examples it has.
      units: the table of the codes.
    """

    delta: Fraction
    labels: tuple[int, ...]
    active: Int[np.ndarray, "classes units"]
    examples: Int[np.ndarray, " classes"]
    units: Units

    def __getitem__(self, label: int) -> Pattern:
        """The pattern of a class.

        Raises:
          KeyError: there was no example of it.
        """
        if label not in self.labels:
            raise KeyError(f"no class {label!r}; there are {list(self.labels)}")
        i = self.labels.index(label)
        # `active / n >= delta` and `active / n <= 1 - delta` in integers.
        top, bottom = self.delta.numerator, self.delta.denominator
        counts, n = self.active[i].astype(object) * bottom, int(self.examples[i])
        on, off = counts >= top * n, counts <= (bottom - top) * n
        return Pattern(label, (on.astype(np.int8) - off.astype(np.int8)), self.units)

    def follows(self, codes: Codes) -> Bool[np.ndarray, "n classes"]:
        """Which examples have which patterns."""
        return np.stack([self[label].follows(codes) for label in self.labels], -1)

    def with_delta(self, delta: str | float | Fraction) -> Nap:
        """The same counts at another delta."""
        return Nap(_delta(delta), self.labels, self.active, self.examples, self.units)


def mine_nap(codes: Codes, labels: Any, delta: str | float | Fraction) -> Nap:
    """The pattern of each class: a unit is active where at least `delta` of its examples have it
    active, inactive where at most `1 - delta` do.

    Counts are integers and delta is read as the decimal that it is written as: at 0.9 one active
    example of ten makes an inactive unit.

    Args:
      codes: of `n` examples, from `verify.codes`, so that units are in the order of rectifiers.
      labels: `[n]` integers.
      delta: above 0.5, at most 1.

    Raises:
      ValueError: no examples, labels that do not fit, or a delta out of range.
    """
    classes = np.asarray(labels)
    if classes.shape != (codes.n,) or not np.issubdtype(classes.dtype, np.integer):
        raise ValueError(
            f"mine_nap: labels have shape {classes.shape} and dtype {classes.dtype}, expected "
            f"[{codes.n}] integers: one for each code"
        )
    if not codes.n:
        raise ValueError("mine_nap: there are no examples")
    found = np.unique(classes)
    active = np.stack([_count(codes, classes == label) for label in found.tolist()])
    examples = np.array([(classes == label).sum() for label in found.tolist()])
    return Nap(_delta(delta), tuple(found.tolist()), active, examples, codes.units)


@dataclass(frozen=True)
class NapCurve:
    """How often patterns are followed, at each delta.

    Attributes:
      deltas: as fractions.
      followed: `[deltas, classes, classes]`: how many examples of class i have the pattern of j.
      examples: `[classes]`, how many examples each class has.
      fixed: `[deltas, classes]`, how many units the pattern fixes.
    """

    deltas: tuple[Fraction, ...]
    followed: Int[np.ndarray, "deltas classes classes"]
    examples: Int[np.ndarray, " classes"]
    fixed: Int[np.ndarray, "deltas classes"]

    @property
    def coverage(self) -> np.ndarray:
        """`[deltas]`: the share of examples that have their own class's pattern (recall)."""
        return np.einsum("dcc->d", self.followed) / self.examples.sum()

    @property
    def ambiguity(self) -> np.ndarray:
        """`[deltas]`: the share of examples that have the pattern of some other class, over
        pairs of an example and another class."""
        others = self.followed.sum((1, 2)) - np.einsum("dcc->d", self.followed)
        return others / (self.examples.sum() * max(1, len(self.examples) - 1))


def nap_curve(nap: Nap, codes: Codes, labels: Any, deltas: Sequence[Any]) -> NapCurve:
    """Coverage and ambiguity of patterns on examples, against delta.

    Args:
      nap: from `mine_nap`; its own delta does not matter.
      codes: of examples that it was not mined from.
      labels: `[n]`.
      deltas: decimals.
    """
    classes = np.asarray(labels)
    if classes.shape != (codes.n,):
        raise ValueError(f"nap_curve: labels have shape {classes.shape}, expected [{codes.n}]")
    followed, fixed = [], []
    for delta in deltas:
        here = nap.with_delta(delta)
        hits = here.follows(codes)
        followed.append([hits[classes == label].sum(0) for label in nap.labels])
        fixed.append([here[label].size for label in nap.labels])
    examples = np.array([(classes == label).sum() for label in nap.labels])
    return NapCurve(tuple(map(_delta, deltas)), np.array(followed), examples, np.array(fixed))


def _delta(delta: str | float | Fraction) -> Fraction:
    try:
        exact = delta if isinstance(delta, Fraction) else Fraction(Decimal(str(delta)))
    except (ArithmeticError, ValueError):
        raise ValueError(f"delta {delta!r} is no decimal number") from None
    if not Fraction(1, 2) < exact <= 1:
        raise ValueError(f"delta {delta} is out of range; expected more than 0.5, at most 1")
    return exact


def _count(codes: Codes, rows: np.ndarray) -> np.ndarray:
    kept = Codes(codes.words[np.flatnonzero(rows)], codes.units)
    return np.asarray(jnp.sum(unpack(kept), 0, dtype=jnp.int32))


def _words(bits: np.ndarray) -> np.ndarray:
    padded = np.pad(bits, (0, -len(bits) % 32)).reshape(-1, 32).astype(np.uint64)
    return (padded << np.arange(32, dtype=np.uint64)).sum(1).astype(np.uint32)


def _same_units(units: Units, codes: Codes) -> None:
    mine, theirs = [n for _, n in units], [n for _, n in codes.units]
    if mine != theirs:
        raise ValueError(
            f"the codes have sites of {theirs} units, the pattern was mined from {mine}"
        )
