"""`Tree`: the cases into which a proof splits the inputs, down to leaves that are refuted."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal as Choice

from activjax.verify._problem import Case


@dataclass(frozen=True, slots=True)
class Literal:
    """One decision on the way to a leaf.

    Attributes:
      kind: "relu", the sign of a pre-activation, or "input", a side of a cut.
      index: of the unit, through the rectifiers in order, flattened, or of the input; from 0.
      positive: `z >= 0` (or `x >= at`) if true, else `z < 0` (or `x <= at`).
      at: where the input is cut; 0 for a unit.
    """

    kind: Choice["relu", "input"]
    index: int
    positive: bool
    at: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Multipliers:
    """Why a leaf refutes a clause: weights of its constraints, all of them dyadic numbers.

    Attributes:
      rows: of `weights @ y - bounds`, one for each row of the clause, at least 0. All 0 where the
        leaf has no inputs at all.
      slopes: by undecided unit, the slope in [0, 1] of the line below its rectifier.
      signs: by unit decided by a literal, the weight of that sign, at least 0.
    """

    rows: tuple[Fraction, ...]
    slopes: dict[int, Fraction]
    signs: dict[int, Fraction]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part of a box.

    Attributes:
      literals: what holds in it.
      multipliers: one for each clause of the case, or None: the checker finds them.
    """

    literals: tuple[Literal, ...]
    multipliers: tuple[Multipliers, ...] | None = None


@dataclass(frozen=True, eq=False)
class Tree:
    """A proof that no input is unsafe, as activation pattern tree (APTP).

    Attributes:
      inputs, outputs, units: numbers of inputs, outputs and rectifiers of the network.
      cases: the statement: boxes and clauses.
      leaves: of each case.
      assumed: what is assumed of every input (a pattern); the proof holds where it does.
      digest: of the network; None where the file did not say.
    """

    inputs: int
    outputs: int
    units: int
    cases: tuple[Case, ...]
    leaves: tuple[tuple[Leaf, ...], ...]
    assumed: tuple[Literal, ...] = ()
    digest: str | None = None

    @property
    def size(self) -> int:
        """The number of leaves."""
        return sum(map(len, self.leaves))

    @property
    def depth(self) -> int:
        """The most decisions to a leaf."""
        return max((len(x.literals) for part in self.leaves for x in part), default=0)

    def save(self, file: str | Path) -> None:
        """Writes APTP text, atomically."""
        from activjax.verify.formats import write_tree

        write_tree(self, Path(file))

    @classmethod
    def load(cls, file: str | Path) -> Tree:
        """Reads APTP text, ours or of others.

        Raises:
          FormatError: the text is cut off or not APTP; the message has line and column.
        """
        from activjax.verify.formats import read_tree

        return read_tree(Path(file))

    def __repr__(self) -> str:
        return f"Tree({self.size} leaves, depth {self.depth}, {len(self.cases)} cases)"
