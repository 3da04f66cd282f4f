"""What `nap_digits` proves about one network: pairs of classes, the whole box, balls, radii."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from activjax import data, runs, verify

#: What becomes of a pair of classes, of a ball with a pattern.
PAIRS = ("conflict", "proved disjoint", "common input", "unknown")
STATUSES = ("verified", "violated", "empty_region", "unknown")
#: Every input is unsafe: "verified" means that there is none with the pattern.
NONE = verify.Property("no input", lambda _: (verify.Clause((), ()),))
#: Far more than a search of so few boxes takes: the number of boxes alone decides.
SECONDS = 1e9
BOX = np.zeros(64, np.float32), np.ones(64, np.float32)


@dataclass(frozen=True)
class Setting:
    """One trained network with its patterns.

    Attributes:
      config: of the experiment.
      apply, params: the network.
      nap: its patterns, at any delta.
      split: the digits.
      right: which held-out digits it classifies rightly.
      seed: of the choice of digits.
    """

    config: Any
    apply: Callable[..., Any]
    params: Any
    nap: verify.Nap
    split: data.Split
    right: np.ndarray
    seed: int

    @property
    def budget(self) -> verify.Budget:
        """Of every proof."""
        return verify.Budget(seconds=SECONDS, boxes=self.config.boxes)

    def measure(self) -> dict[str, Any]:
        """All of it."""
        naps = [self.nap.with_delta(delta) for delta in self.config.proved]
        at, follows = self.chosen(naps)
        with_, without = self.radii(naps, at[1])
        return {
            "pairs": [self.pairs(nap) for nap in naps],
            "whole": [self.whole(nap) for nap in naps],
            "balls": [[self.ball(None, i) for i in at[0]]]
            + [[self.ball(nap, i) for i in at[0]] for nap in naps],
            "followers": follows,
            "radius.with": with_,
            "radius.without": without,
        }

    def chosen(self, naps: list[verify.Nap]) -> tuple[tuple[Any, Any], np.ndarray]:
        """Rows of held-out digits that are classified rightly: any, and such as follow all of the
        patterns of their class; and how many of the held-out digits do.
        """
        order = np.random.default_rng([self.seed, 7]).permutation(len(self.right))
        codes = verify.codes(self.apply, self.params, jnp.asarray(self.split.test_x))
        own = np.zeros(len(order), bool)
        labels = np.asarray(self.nap.labels)
        column = np.searchsorted(labels, self.split.test_y).clip(max=len(labels) - 1)
        rows = np.arange(len(order))
        known = labels[column] == self.split.test_y
        own = known & self.right
        any_ = order[own[order]][: self.config.digits]
        for nap in naps:
            own &= nap.follows(codes)[rows, column]
        return (any_, order[own[order]][: self.config.digits]), own.mean()

    def prove(self, box: Any, property: verify.Property, pattern: Any, name: str) -> verify.Verdict:
        """The verdict within the budget."""
        problem = verify.Problem.from_model(self.apply, self.params, box, property, name=name)
        return verify.prove(problem, budget=self.budget, pattern=pattern)

    def pairs(self, nap: verify.Nap) -> np.ndarray:
        """`[10, 10]`, the index in `PAIRS` for every pair of classes, -1 where there is none."""
        out = np.full((10, 10), -1)
        for a, b in itertools.combinations(nap.labels, 2):
            kind = "conflict"
            if not nap[a].conflicts(nap[b]).size:
                both = nap[a].both(nap[b])
                status = self.prove(BOX, NONE, both, f"{a} and {b}").status
                kind = {"violated": "common input", "unknown": "unknown"}.get(
                    status, "proved disjoint"
                )
            out[a, b] = out[b, a] = PAIRS.index(kind)
        return out

    def whole(self, nap: verify.Nap) -> np.ndarray:
        """`[10]`, the index in `STATUSES` of each class: is all of its pattern classified as it?"""
        out = np.full(10, -1)
        for label in nap.labels:
            verdict = self.prove(BOX, verify.largest(label), nap[label], f"all of {label}")
            out[label] = STATUSES.index(verdict.status)
        return out

    def ball(self, nap: verify.Nap | None, row: int) -> int:
        """The index in `STATUSES` of a ball around a digit."""
        center, label = self.split.test_x[row], int(self.split.test_y[row])
        radius = np.float32(self.config.ball)
        box = np.clip(center - radius, 0, 1), np.clip(center + radius, 0, 1)
        pattern = None if nap is None else nap[label]
        verdict = self.prove(box, verify.largest(label), pattern, f"digit {row}")
        return STATUSES.index(verdict.status)

    def radii(self, naps: list[verify.Nap], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Verified radii `[patterns, digits]` and, without a pattern, `[digits]`; NaN where there
        are not enough digits.
        """
        with_ = np.full((len(naps), self.config.digits), np.nan)
        without = np.full(self.config.digits, np.nan)
        for j, row in enumerate(rows.tolist()):
            label = int(self.split.test_y[row])
            for i, nap in enumerate([None, *naps]):
                found = verify.radius(
                    self.apply, self.params, self.split.test_x[row], verify.largest(label),
                    pattern=None if nap is None else nap[label], largest=self.config.largest,
                    domain=(0.0, 1.0), trials=self.config.trials, budget=self.budget,
                )  # fmt: skip
                if nap is None:
                    without[j] = found.verified
                else:
                    with_[i - 1, j] = found.verified
        return with_, without


def rows_of(config: Any, name: str, found: dict[str, np.ndarray]) -> list[runs.Row]:
    """The summary of the proofs of one kind of network."""
    rows = []
    for i, delta in enumerate(config.proved):
        where = {"network": name, "delta": delta}
        share = _shares(found["pairs"][:, i], len(PAIRS))
        rows += [
            runs.Row.over("pairs of classes that exclude one another", share[:, :2].sum(1),
                          baseline=0.0, baseline_name="no patterns", **where),
            runs.Row.over("pairs of classes with a common input", share[:, 2],
                          baseline=1.0, baseline_name="no patterns", **where),
            runs.Row.over("pairs of classes left open", share[:, 3],
                          baseline=0.0, baseline_name="all decided", **where),
            runs.Row.over("classes verified in the whole box",
                          _shares(found["whole"][:, i], len(STATUSES))[:, 0], baseline=0.0,
                          baseline_name="no pattern: the box has digits of all classes", **where),
        ]  # fmt: skip
        with_, without = (_shares(found["balls"][:, k], len(STATUSES)) for k in (i + 1, 0))
        radius = _mean(found["radius.with"][:, i])
        plain = _mean(found["radius.without"])
        more = found["radius.with"][:, i] > found["radius.without"]
        gain = _mean(np.where(np.isnan(found["radius.without"]), np.nan, more))
        rows += [
            runs.Row.over("balls verified", with_[:, 0], baseline=without[:, 0],
                          baseline_name="no pattern", **where),
            runs.Row.over("empty balls", with_[:, 2], baseline=0.0,
                          baseline_name="no pattern", **where),
            runs.Row.over("verified radius", radius, baseline=plain,
                          baseline_name="no pattern", **where),
            runs.Row.over("gain of radius", radius - plain, baseline=0.0,
                          baseline_name="no gain", **where),
            runs.Row.over("digits with a larger radius", gain, baseline=0.0,
                          baseline_name="none", **where),
        ]  # fmt: skip
    return rows


def tables(config: Any, measured: dict[str, dict[str, np.ndarray]], out: Any) -> None:
    """Counts over all networks."""
    pairs, regions = [], []
    for name, found in measured.items():
        for i, delta in enumerate(config.proved):
            count = np.bincount(_upper(found["pairs"][:, i]).ravel() + 1, minlength=5)[1:]
            pairs.append([name, delta, *count.tolist()])
        for what, delta, values in _regions(config, found):
            count = np.bincount(values.ravel() + 1, minlength=5)[1:]
            regions.append([name, what, delta, *count.tolist()])
    out.table("pairs", pairs, ["network", "delta", *PAIRS], "Pairs of classes, of all networks.")
    out.table("regions", regions, ["network", "region", "delta", *STATUSES],
              "Verdicts on regions, of all networks.")  # fmt: skip


def _regions(config: Any, found: dict[str, np.ndarray]) -> Iterator[tuple[str, str, np.ndarray]]:
    for i, delta in enumerate(config.proved):
        yield "whole box", delta, found["whole"][:, i]
    for i, delta in enumerate(["no pattern", *config.proved]):
        yield f"ball of radius {config.ball}", delta, found["balls"][:, i]


def _mean(values: np.ndarray) -> np.ndarray:
    """`[networks]`, over digits; NaN where a network has none."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(1)
    return np.where(known.any(1), total / known.sum(1).clip(min=1), np.nan)


def _upper(pairs: np.ndarray) -> np.ndarray:
    return pairs[:, *np.triu_indices(10, 1)]


def _shares(kinds: np.ndarray, n: int) -> np.ndarray:
    """`[networks, n]` from `[networks, ...]` indices; those of -1 do not count."""
    flat = (_upper(kinds) if kinds.ndim == 3 else kinds).reshape(len(kinds), -1)
    counts = np.stack([np.bincount(row[row >= 0], minlength=n) for row in flat])
    total = counts.sum(1, keepdims=True)
    return np.where(total > 0, counts / total.clip(min=1), np.nan)
