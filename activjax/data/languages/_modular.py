"""Modular arithmetic: all the sums there are, some of them held out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int, Int32

from activjax.data.languages._language import Language
from activjax.data.languages._random import below, whole, words

#: What c is, before the remainder; those of Power et al. 2022 that are plain functions of a and b.
OPERATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a * b,  # by the inverse of b
    "squares": lambda a, b: a * a + b * b,
    "quadratic": lambda a, b: a * a + a * b + b * b,
    "cubic": lambda a, b: a**3 + a * b,
}


@dataclass(frozen=True)
class Modular(Language):
    """`a b = c` with c = a op b modulo p (Power et al. 2022, arXiv 2201.02177; read as Nanda et al.
    2023, arXiv 2301.05217, do: the input is `[a, b, =]`, c is asked at its last position).

    The vocabulary is p + 1: number i has id i, "=" has id p. Operations: add, subtract, multiply,
    divide (p prime, b not 0), squares (a^2 + b^2), quadratic (a^2 + ab + b^2), cubic (a^3 + ab).

    Attributes:
      p: the modulus, 2 to 2,048.
      operation: one of those.

    Raises:
      ValueError: an unknown operation, p out of range, or no prime where one is needed.
    """

    p: int = 113
    operation: str = "add"

    def __post_init__(self) -> None:
        whole("p", self.p, 2, 2048)
        if self.operation not in OPERATIONS:
            known = ", ".join(OPERATIONS)
            raise ValueError(f"operation: expected one of {known}; got {self.operation!r}")
        if self.operation == "divide" and any(self.p % d == 0 for d in range(2, self.p)):
            raise ValueError(f"p: expected a prime (to divide by), got {self.p}")

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The numbers and "="."""
        return (*map(str, range(self.p)), "=")

    @property
    def equals(self) -> int:
        """The id of "=", p."""
        return self.p

    @cached_property
    def pairs(self) -> Int32[np.ndarray, "m 3"]:
        """All inputs `[a, b, =]`, a first: p^2 of them (divide: p (p - 1))."""
        a, b = np.divmod(np.arange(self.p**2, dtype=np.int32), np.int32(self.p))
        keep = (b != 0) | (self.operation != "divide")
        return np.stack([a, b, np.full_like(a, self.equals)], axis=1)[keep]

    @cached_property
    def labels(self) -> Int32[np.ndarray, " m"]:
        """The answer c of each of `pairs`."""
        return self.answer(self.pairs)

    @cached_property
    def chance(self) -> float:
        """Least loss, in nats, of an answer that does not look: the entropy of c over all pairs
        (add, subtract: ln p). With a look it is 0."""
        share = np.bincount(self.labels, minlength=self.p) / len(self.labels)
        return -math.fsum(q * math.log(q) for q in share if q)

    def answer(self, tokens: Int[np.ndarray, "*batch positions"]) -> Int32[np.ndarray, "*batch"]:
        """The answer to inputs whose first two tokens are a and b.

        Raises:
          ValueError: fewer than two tokens, one of them no number, or division by 0.
        """
        tokens = self._checked(tokens)
        if tokens.shape[-1] < 2:
            raise ValueError(f"tokens: expected at least a and b, got shape {tokens.shape}")
        a, b = tokens[..., 0], tokens[..., 1]
        if (a == self.equals).any() or (b == self.equals).any():
            raise ValueError('tokens: expected a and b to be numbers, got "="')
        if self.operation == "divide":
            if (b == 0).any():
                raise ValueError("tokens: expected b from 1 (to divide by), got 0")
            b = np.array([0] + [pow(i, -1, self.p) for i in range(1, self.p)])[b]
        return (OPERATIONS[self.operation](a, b) % self.p).astype(np.int32)

    def split(
        self, train: float = 0.3, seed: int = 0
    ) -> tuple[Int32[np.ndarray, " train"], Int32[np.ndarray, " held_out"]]:
        """Rows of `pairs` for training and held out, each ascending.

        With a smaller share, less is trained on, and nothing leaves the training set: one seed's
        sets are nested. (a, b) and (b, a) are split apart like any others.

        Raises:
          ValueError: the share leaves one of the two empty.
        """
        m = len(self.pairs)
        if not 0 < train < 1 or not 0 < (k := round(Fraction(train) * m)) < m:
            raise ValueError(
                f"train: expected a share in (0, 1) that leaves both sets some of {m} pairs, "
                f"got {train}"
            )
        u = words("modular", "split", seed, 1, m)[0]
        order = np.argsort(u, kind="stable").astype(np.int32)
        return np.sort(order[:k]), np.sort(order[k:])

    def sample(
        self, n: int, *, seed: int, start: int = 0, rows: Any = None
    ) -> Int32[np.ndarray, "n 4"]:
        """Sums `[a, b, =, c]`, drawn with replacement from all, or from the given rows of `pairs`.

        Raises:
          ValueError: n below 1, start below 0, no rows, or one outside.
        """
        rows = np.arange(len(self.pairs)) if rows is None else np.asarray(rows)
        if rows.ndim != 1 or not rows.size or rows.min() < 0 or rows.max() >= len(self.pairs):
            raise ValueError(f"rows: expected some of 0 to {len(self.pairs) - 1}, [k]; got {rows}")
        chosen = rows[below(words("modular", "sample", seed, n, 1, start)[:, 0], len(rows))]
        return np.concatenate([self.pairs[chosen], self.labels[chosen, None]], axis=1)


def modular(p: int = 113, operation: str = "add") -> Modular:
    """All sums (or differences, ...) modulo p as `[a, b, =]` with their answers."""
    return Modular(p, operation)
