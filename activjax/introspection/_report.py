"""What a model says under every condition, and what follows from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int32

from activjax.introspection._rates import Rate, rate
from activjax.introspection._rows import KINDS, Rows
from activjax.introspection._talk import Readings, Talk

#: What is counted in each condition; see `Condition.hits` and `rate`.
MEASURES = (
    "detected", "identified", "identified if detected", "forced", "named", "coherent",
    "names the mentioned", "names the injected", "right answer",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Condition:
    """The trials of one kind, with the answers.

    Attributes:
      name: such as "injected, held out".
      strength: of what was put in; 0 for nothing.
      layer: where.
      rows: the trials.
      answers: the tokens that the model gave.
      readings: what they say.
      forced: the concept named after the claim was written for the model; -1 for none.
      right: whether the answer is the one that the question has, where one is known.
    """

    name: str
    strength: float
    layer: int
    rows: Rows
    answers: Int32[np.ndarray, "n steps"]
    readings: Readings
    forced: Int[np.ndarray, " n"] | None = None
    right: Bool[np.ndarray, " n"] | None = None

    @property
    def kind(self) -> str:
        """Which of `KINDS`."""
        return KINDS[self.rows.kind[0]]

    @property
    def clusters(self) -> np.ndarray:
        """What is independent: concepts put in, or else mentioned; else the different inputs."""
        for concepts in (self.rows.concept[self.rows.put], self.rows.mentions):
            if len(concepts) == len(self.rows) and (concepts >= 0).all():
                return concepts
        return self.rows.inputs

    def hits(self, measure: str) -> Bool[np.ndarray, " n"]:
        """Which trials count for a measure.

        Args:
          measure: "detected": a thought is claimed and not denied. "identified": so, the concept
            put in is the first named, after the claim. "forced": the concept put in is named once
            the claim is written for the model. "named": any concept is named. "coherent": a claim
            or a denial, not both. "names the mentioned": the concept that the question speaks of
            is named first. "names the injected": the one put in, claimed or not. "right answer":
            the answer that the question has.

        Raises:
          ValueError: no such measure, or one that this condition has not.
        """
        r, concept, mentions = self.readings, self.rows.concept, self.rows.mentions
        found = {
            "detected": r.claims & ~r.denies,
            "identified": r.identifies(concept),
            "forced": None if self.forced is None else (self.forced == concept) & (concept >= 0),
            "named": r.named >= 0,
            "coherent": r.coherent,
            "names the mentioned": (r.named == mentions) & (mentions >= 0),
            "names the injected": (r.named == concept) & (concept >= 0),
            "right answer": self.right,
        }
        if (hits := found.get(measure)) is None:
            raise ValueError(
                f"measure: {measure!r} is not one of {', '.join(MEASURES)}, or not known for the "
                f"condition {self.name!r}"
            )
        return hits

    def rate(self, measure: str) -> Rate:
        """A share of the trials, with an interval over clusters.

        Args:
          measure: as `hits`; or "identified if detected": of the detected.

        Raises:
          ValueError: as `hits`.
        """
        some = np.ones(len(self.rows), bool)
        if measure == "identified if detected":
            some, measure = self.hits("detected"), "identified"
        hits = self.hits(measure)
        return rate(hits[some], self.clusters[some], self.rows.take(some).distinct)


@dataclasses.dataclass(frozen=True)
class Report:
    """What `evaluate` found: the injected trials with every control beside them.

    Attributes:
      talk: how the model was asked.
      conditions: in order; of equal names, one for each strength.
    """

    talk: Talk
    conditions: tuple[Condition, ...]

    def __iter__(self) -> Iterator[Condition]:
        return iter(self.conditions)

    def get(self, name: str, strength: float | None = None) -> Condition:
        """A condition by its name and, where there are several, strength.

        Raises:
          KeyError: there is none, or several and no strength is given.
        """
        named = [c for c in self.conditions if c.name == name]
        found = [c for c in named if strength is None or c.strength == strength]
        if len(found) == 1:
            return found[0]
        have = ", ".join(f"{c.name!r} at {c.strength:g}" for c in named or self.conditions)
        what = f"{len(found)} conditions" if found else "no condition"
        raise KeyError(f"{what} {name!r} at strength {strength}; there are: {have}")

    @property
    def chance(self) -> float:
        """Share of reports that would name the right concept by chance."""
        return 1 / len(self.talk.names)

    def confusion(
        self, name: str = "injected, held out", strength: float | None = None
    ) -> Int[np.ndarray, "concepts named"]:
        """How often each concept put in was reported as each; last column: no report.

        A report here is a claim that is not denied, with a name after it.
        """
        found, size = self.get(name, strength), len(self.talk.names)
        r = found.readings
        reported = r.claims & ~r.denies & r.ordered & (r.named >= 0)
        named = np.where(reported, r.named, size)
        out = np.zeros((size, size + 1), np.int64)
        put = found.rows.concept >= 0
        np.add.at(out, (found.rows.concept[put], named[put]), 1)
        return out

    def dialogues(self, each: int = 1) -> str:
        """Some questions with their answers, of every condition, as text."""
        out = []
        for c in self.conditions:
            for i in np.linspace(0, len(c.rows) - 1, min(each, len(c.rows))).astype(int):
                prompt = c.rows.prompts.tokens[i, : c.rows.prompts.last[i] + 1]
                concept = c.rows.concept[i]
                what = "nothing"
                if concept >= 0:
                    what = f"{self.talk.names[concept]!r} at {c.strength:g}"
                elif c.rows.noise[i] >= 0:
                    what = f"a random vector at {c.strength:g}"
                out.append(
                    f"[{c.name}; put in: {what}]\n{self.talk.show(prompt)}\n"
                    f"    > {self.talk.show(c.answers[i])}"
                )
        return "\n\n".join(out)

    def table(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Column names and a row for each condition: all rates with intervals and distinct inputs.

        A measure that a condition cannot have is None.
        """
        columns = (
            "condition", "strength", "layer", "trials", "distinct inputs", "detected",
            "identified", "identified if detected", "forced", "coherent",
        )  # fmt: skip
        rows = []
        for c in self.conditions:
            put = bool((c.rows.concept >= 0).any())
            of_put = {"identified", "identified if detected", "forced"} if put else set()
            of_put -= {"forced"} if c.forced is None else set()
            had = {"detected", "coherent"} | of_put
            shown = [str(c.rate(m)) if m in had else None for m in columns[5:]]
            rows.append((c.name, c.strength, c.layer, len(c.rows), c.rows.distinct, *shown))
        return columns, rows

    def __str__(self) -> str:
        columns, rows = self.table()
        cells = [columns, *[tuple("" if x is None else str(x) for x in row) for row in rows]]
        width = [max(len(row[i]) for row in cells) for i in range(len(columns))]
        lines = ["  ".join(x.ljust(w) for x, w in zip(row, width)).rstrip() for row in cells]
        chance = f"naming a concept by chance: {self.chance:.1%}; intervals: 95 %, by concept"
        return "\n".join([*lines, chance])
