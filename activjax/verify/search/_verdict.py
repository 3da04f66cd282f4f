"""`Verdict`: what a search came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from activjax.verify._tree import Tree
from activjax.verify.search._witness import Witness

Status = Literal["verified", "violated", "unknown", "empty_region"]


@dataclass(frozen=True)
class Statistics:
    """What a search took.

    Attributes:
      boxes: parts of the input that were bounded.
      leaves: of them, those refuted.
      programs: of these, by a linear program.
      seconds: wall clock, compilation included.
      compiling: of these, the first call of each program.
      attack: of these, spent on the attack before the search.
      open: parts that are still open.
    """

    boxes: int = 0
    leaves: int = 0
    programs: int = 0
    seconds: float = 0.0
    compiling: float = 0.0
    attack: float = 0.0
    open: int = 0


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is known of a problem.

    Attributes:
      status: "verified", no input is unsafe; "violated", the witness is; "empty_region", no input
        has the pattern that was asked for, so nothing was verified; "unknown", the budget ended.
      witness: of "violated"; else None.
      tree: of "verified" the proof, for `verify.check`; of "empty_region" the proof that no input
        has the pattern, whatever the property: it is checked against the same problem with the
        cases of the tree, `dataclasses.replace(problem, cases=tree.cases)`; else None.
      statistics: what it took.
      reason: why it is unknown; else empty.
      frontier: of "unknown": what is left, for `prove(..., resume=verdict)`.
    """

    status: Status
    witness: Witness | None
    tree: Tree | None
    statistics: Statistics
    reason: str = ""
    frontier: Any = field(default=None, repr=False)
