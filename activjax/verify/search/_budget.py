"""How much a search may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Budget:
    """What a search may take; when it ends the frontier is kept.

    Attributes:
      seconds: wall clock, looked at between calls of the device (about one a second).
      boxes: boxes bounded, in all cases together.
      restarts: points from which the attack before the search starts; 0 for no attack.
      splits: "input" cuts boxes and decides rectifiers where few are left, "relu" decides
        rectifiers only, "auto" is "input" up to 16 inputs.
      steps: of the optimisation of slopes and multipliers of every box; by default 0 where boxes
        are cut and 20 else.
    """

    seconds: float = 60.0
    boxes: int = 50_000_000
    restarts: int = 128
    splits: Literal["auto", "input", "relu"] = "auto"
    steps: int | None = None

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.boxes < 1 or self.restarts < 0:
            raise ValueError(
                f"verify.Budget: seconds={self.seconds}, boxes={self.boxes}, "
                f"restarts={self.restarts}; expected positive numbers (restarts may be 0)"
            )
        if self.splits not in ("auto", "input", "relu"):
            raise ValueError(
                f"verify.Budget: splits={self.splits!r}; expected 'auto', 'input' or 'relu'"
            )
