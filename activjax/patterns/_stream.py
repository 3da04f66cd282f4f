"""Counting the distinct codes of data that does not fit in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from activjax.patterns._check import require_codes
from activjax.patterns._codes import Codes
from activjax.patterns._fingerprint import PAIR_COLLISION, HashKeys, fingerprint, hash_keys


class _Run(NamedTuple):
    """Distinct fingerprints in order, as two 64-bit halves; with full words in exact mode."""

    high: np.ndarray
    low: np.ndarray
    words: np.ndarray | None


@dataclass(frozen=True)
class Distinct:
    """What a `DistinctCounter` has seen.

    Attributes:
        n: examples.
        distinct: different codes among them.
        redundancy_ratio: `(n - distinct) / n`; NaN where `n` is 0.
        failure_probability: upper bound on the probability, over the draw of the hash, that
            `distinct` is below the truth (it is never above): `n (n - 1) / 2 * 2^-128`, and 0 in
            exact mode.
    """

    n: int
    distinct: int
    redundancy_ratio: float
    failure_probability: float


@dataclass(frozen=True)
class DistinctCounter:
    """Counts distinct codes in a stream: `init`, `update`, `merge`, `finish`.

    Fingerprints (128 bits) are computed on the device and kept on the host in sorted runs, merged
    so that each is at least twice as long as the next. At rest that is between 16 and 32 bytes
    for a distinct code, and a few times as much while the two longest runs merge; in exact mode
    a representative's full words besides. Counters are immutable: `update` and `merge` return
    new ones and share what did not change. The order of batches and merges does not change the
    result.

    Under `exact=True` codes whose fingerprints agree are compared word for word, so the count is
    exact; otherwise see `Distinct.failure_probability`.

    Example:
        ```python
        counter = DistinctCounter.init(jax.random.key(0))
        for batch in batches:
            counter = counter.update(codes(batch))
        counter.finish().distinct
        ```
    """

    key: Key[Array, ""]
    exact: bool
    n: int
    units: tuple[tuple[str, int], ...] | None
    runs: tuple[_Run, ...]
    hash_keys: HashKeys | None

    @classmethod
    def init(cls, key: Key[Array, ""], *, exact: bool = False) -> DistinctCounter:
        """An empty counter.

        Args:
            key: draws the hash; counters to be merged need the same.
            exact: keep a representative of every code and compare full words on ties.
        """
        return cls(key=key, exact=exact, n=0, units=None, runs=(), hash_keys=None)

    def update(self, codes: Codes) -> DistinctCounter:
        """Counts a batch in.

        Args:
            codes: words `[n, words]`; a batch of a new length compiles the hash anew. Without
                examples it changes nothing.

        Raises:
            ValueError: codes of other units than before, or with leading batch axes.
        """
        require_codes(codes, "DistinctCounter.update")
        if codes.words.ndim != 2:
            raise ValueError(
                f"DistinctCounter.update: words have shape {codes.words.shape}, expected "
                "[n, words]; keep one counter for each entry of the leading axes"
            )
        self._require_units(codes.units, "update")
        if codes.n == 0:
            return self
        keys = self.hash_keys or hash_keys(self.key, codes.words.shape[1])
        lanes = np.ascontiguousarray(fingerprint(keys, codes.words)).view(np.uint64)
        words = np.asarray(codes.words) if self.exact else None
        run = _distinct(_Run(lanes[:, 0], lanes[:, 1], words))
        return replace(
            self,
            n=self.n + codes.n,
            units=codes.units,
            runs=_settle((*self.runs, run)),
            hash_keys=keys,
        )

    def merge(self, other: DistinctCounter) -> DistinctCounter:
        """The counter of both streams together.

        Raises:
            ValueError: the counters have different keys, units or modes.
        """
        if not np.array_equal(jax.random.key_data(self.key), jax.random.key_data(other.key)):
            raise ValueError("DistinctCounter.merge: the keys differ; start both with the same key")
        if self.exact != other.exact:
            raise ValueError("DistinctCounter.merge: one counter is exact and the other is not")
        if other.units is None:
            return self
        self._require_units(other.units, "merge")
        runs = sorted((*self.runs, *other.runs), key=lambda run: -len(run.high))
        return replace(
            self,
            n=self.n + other.n,
            units=other.units,
            runs=_settle(tuple(runs)),
            hash_keys=other.hash_keys,
        )

    def finish(self) -> Distinct:
        """The counts so far; the counter can go on."""
        distinct = len(_distinct(_concatenate(self.runs)).high) if self.runs else 0
        pairs = self.n * (self.n - 1) / 2
        return Distinct(
            n=self.n,
            distinct=distinct,
            redundancy_ratio=(self.n - distinct) / self.n if self.n else float("nan"),
            failure_probability=0.0 if self.exact else min(1.0, pairs * PAIR_COLLISION),
        )

    def _require_units(self, units: tuple[tuple[str, int], ...], what: str) -> None:
        if self.units is not None and self.units != units:
            raise ValueError(
                f"DistinctCounter.{what}: codes of units {units}, but so far they were of "
                f"{self.units}"
            )


def _settle(runs: tuple[_Run, ...]) -> tuple[_Run, ...]:
    """Merges from the end until every run is at least twice as long as the next."""
    settled: list[_Run] = []
    for run in runs:
        settled.append(run)
        while len(settled) > 1 and len(settled[-2].high) < 2 * len(settled[-1].high):
            last = settled.pop()
            settled[-1] = _distinct(_concatenate((settled[-1], last)))
    return tuple(settled)


def _concatenate(runs: tuple[_Run, ...]) -> _Run:
    words = [run.words for run in runs if run.words is not None]
    return _Run(
        np.concatenate([run.high for run in runs]),
        np.concatenate([run.low for run in runs]),
        np.concatenate(words) if words else None,
    )


def _distinct(run: _Run) -> _Run:
    """Sorts a run and drops what repeats; full words, where kept, decide."""
    # Stable sorting merges two sorted runs in linear time. Almost always the high half settles
    # the order; where it does not, all halves (and words) are sorted on.
    run = _take(run, np.argsort(run.high, kind="stable"))
    same_high = run.high[1:] == run.high[:-1]
    same = same_high & (run.low[1:] == run.low[:-1])
    if run.words is not None:
        same[same] = (run.words[1:][same] == run.words[:-1][same]).all(axis=1)
    if (same != same_high).any():
        columns = () if run.words is None else tuple(run.words.T)
        run = _take(run, np.lexsort((*columns, run.low, run.high)))
        same = (run.high[1:] == run.high[:-1]) & (run.low[1:] == run.low[:-1])
        if run.words is not None:
            same &= (run.words[1:] == run.words[:-1]).all(axis=1)
    return _take(run, np.concatenate([[True], ~same]))


def _take(run: _Run, rows: np.ndarray) -> _Run:
    return _Run(run.high[rows], run.low[rows], None if run.words is None else run.words[rows])
