"""What a search for codes gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from activjax.codebooks._index._layout import Code
from activjax.codebooks._index._score import Score


class Half(NamedTuple):
    """One half of the examples.

    Attributes:
      examples, tokens, labelled: how many of each it has.
    """

    examples: int
    tokens: int
    labelled: int


class Hit(NamedTuple):
    """A code that was chosen for a label.

    Attributes:
      code: the code.
      chosen: its score on the half on which it was chosen, which flatters.
      reported: its score on the other half.
    """

    code: Code
    chosen: Score
    reported: Score


@dataclass(frozen=True)
class Found:
    """The result of `find`; printing it gives a table.

    Attributes:
      query: the expression, or "mask".
      chosen_on, reported_on: the halves of the examples.
      hits: the best codes of every codebook, the best by F1 on `chosen_on` first; empty if no code
        goes with the label there.
      shuffled: the best code for each dealing of the labels; fewer than `draws` where none was.
      control: as `hits`, of the control; None: no control was given.
      draws: how often the labels were dealt.
      rank: the only rank that counted, or None.
      level: of the intervals.
    """

    query: str | bytes
    chosen_on: Half
    reported_on: Half
    hits: tuple[Hit, ...]
    shuffled: tuple[Hit, ...]
    control: tuple[Hit, ...] | None
    draws: int
    rank: int | None
    level: float

    @property
    def best(self) -> Hit | None:
        """The code that was chosen of all."""
        return self.hits[0] if self.hits else None

    @property
    def base_rate(self) -> float:
        """Share of the tokens that are labelled, where it is reported."""
        return self.reported_on.labelled / self.reported_on.tokens

    def of(self, site: str, loop: tuple[int, ...] = (), group: int = 0) -> tuple[Hit, ...]:
        """The hits of one codebook."""
        return tuple(hit for hit in self.hits if hit.code[:3] == (site, loop, group))

    def __str__(self) -> str:
        return self.table()

    def table(self, limit: int = 10) -> str:
        """The first hits and the controls, one line each, measured on `reported_on`."""
        lines = [_cells(str(hit.code), hit.reported) for hit in self.hits[:limit]]
        lines += [["no code goes with a labelled token"]] * (not lines)
        if self.control:
            lines.append(_cells(f"control: {self.control[0].code}", self.control[0].reported))
        if self.shuffled:
            most = max(self.shuffled, key=lambda hit: hit.reported.f1)
            lines.append(_cells("labels shuffled, best draw", most.reported))
        head = ["code", "precision", "recall", "F1", "lift", "code & label", "with code",
                "examples"]  # fmt: skip
        rows = [head, *lines]
        widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(head))]
        table = ["  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in rows]
        a, b = self.chosen_on, self.reported_on
        notes = [
            f"find {self.query!r}{'' if self.rank is None else f', rank {self.rank} only'}",
            f"chosen on {a.examples} examples ({a.labelled} of {a.tokens} tokens labelled), "
            f"reported on {b.examples} others ({b.labelled} of {b.tokens}, base rate "
            f"{self.base_rate:.3g}), intervals {100 * self.level:g} %",
        ]
        end = []
        if self.control is None:
            end.append("no sampled-code control given")
        elif not self.control:
            end.append("control: no code goes with a labelled token")
        f1 = [hit.reported.f1 for hit in self.shuffled]
        if f1:
            end.append(f"labels shuffled {self.draws} times: mean F1 {np.mean(f1):.3f}")
        else:
            end.append(f"labels shuffled {self.draws} times: no code goes with any")
        if len(self.hits) > limit:
            end.append(f"{len(self.hits) - limit} more in .hits")
        return "\n".join([*notes, "", *table, "", *end])


def _cells(name: str, s: Score) -> list[str]:
    def part(value: float, interval: tuple[float, float], digits: int = 3) -> str:
        return f"{value:.{digits}f} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"

    return [
        name,
        part(s.precision, s.precision_interval),
        part(s.recall, s.recall_interval),
        part(s.f1, s.f1_interval),
        part(s.lift, s.lift_interval, 1),
        str(s.both),
        str(s.with_code),
        str(s.examples),
    ]
