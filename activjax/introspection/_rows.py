"""Trials as arrays: what is asked, what is put in, what is to be answered."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32

from activjax.introspection._talk import Prompts, Replay, Talk

#: What a trial may be; see `Trials`.
KINDS = ("injected", "clean", "mention", "mismatch", "noise", "wrong prompt", "replay")


@dataclasses.dataclass(frozen=True)
class Rows:
    """Trials as arrays, one a row.

    Attributes:
      prompts: the questions.
      kind: index into `KINDS`.
      concept: the concept put in; -1 for none.
      noise: number of the random vector put in; -1 for none.
      strength: how much of it.
      layer: where.
      mentions: the concept that the prompt speaks of; -1 for none.
    """

    prompts: Prompts
    kind: Int32[np.ndarray, " n"]
    concept: Int32[np.ndarray, " n"]
    noise: Int32[np.ndarray, " n"]
    strength: Float32[np.ndarray, " n"]
    layer: Int32[np.ndarray, " n"]
    mentions: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, which: Any) -> Rows:
        """Some of the rows."""
        rest = {f.name: getattr(self, f.name)[which] for f in dataclasses.fields(self)[1:]}
        return Rows(Prompts(*(x[which] for x in self.prompts)), **rest)

    def emptied(self) -> Rows:
        """The same questions with nothing put in."""
        none = np.full(len(self), -1, np.int32)
        still = np.zeros(len(self), np.float32)
        return dataclasses.replace(self, concept=none, noise=none, strength=still)

    @property
    def put(self) -> Bool[np.ndarray, " n"]:
        """Whether something is put in: at strength 0 nothing is."""
        return ((self.concept >= 0) | (self.noise >= 0)) & (self.strength != 0)

    @property
    def distinct(self) -> int:
        """Number of different inputs: prompts with what is put into them."""
        return int(self.inputs.max(initial=-1)) + 1

    @property
    def inputs(self) -> Int32[np.ndarray, " n"]:
        """The number of each row's input: the same for equal prompts with the same put in."""
        tokens = np.where(self.prompts.mask, self.prompts.tokens, -1)
        strength = self.strength.view(np.int32)
        what = np.column_stack([self.concept, self.noise, self.layer, strength])
        keys = np.column_stack([tokens, self.prompts.last, np.where(self.put[:, None], what, -1)])
        return np.unique(keys, axis=0, return_inverse=True)[1].ravel().astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Examples:
    """Training examples: prompts with the answers to learn, padded on the right.

    Attributes:
      rows: the trials; for "replay" without anything put in.
      tokens: prompt and answer.
      learned: positions whose token is to be predicted: the answer's.
      rejected: the prompt with an answer not to give (`objective="dpo"`).
      rejected_learned: its positions.
    """

    rows: Rows
    tokens: Int32[np.ndarray, "n seq"]
    learned: Bool[np.ndarray, "n seq"]
    rejected: Int32[np.ndarray, "n seq"]
    rejected_learned: Bool[np.ndarray, "n seq"]


def padded(rows: Sequence[np.ndarray], pad: int, width: int) -> Prompts:
    """Rows of different lengths as prompts of one width."""
    last = np.array([len(r) - 1 for r in rows], np.int32)
    tokens = np.full((len(rows), width), pad, np.int32)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    return Prompts(tokens, last)


def wide(array: np.ndarray, width: int, fill: Any) -> np.ndarray:
    """A copy, filled up on the right to a width."""
    more = max(0, width - array.shape[1])
    return np.pad(array, [(0, 0), (0, more)], constant_values=fill)


def joined(n: int, parts: Sequence[tuple[np.ndarray, Prompts]], pad: int) -> Prompts:
    """Prompts of several sets of rows as those of all `n`."""
    width = max((p.tokens.shape[1] for where, p in parts if where.any()), default=1)
    tokens, last = np.full((n, width), pad, np.int32), np.zeros(n, np.int32)
    for where, prompts in parts:
        if where.any():
            tokens[where], last[where] = wide(prompts.tokens, width, pad), prompts.last
    return Prompts(tokens, last)


def answered(rows: Rows, answers: np.ndarray, refused: np.ndarray, talk: Talk) -> Examples:
    """Trials with the answers to learn, and those not to give."""
    return Examples(
        rows,
        *with_answers(rows.prompts, answers, talk),
        *with_answers(rows.prompts, refused, talk),
    )


def replayed(examples: Examples, where: np.ndarray, replay: Replay, talk: Talk) -> Examples:
    """The examples with documents in place of some."""
    rows = examples.rows
    width = max(examples.tokens.shape[1], replay.tokens.shape[1])
    tokens, learned = wide(examples.tokens, width, talk.pad), wide(examples.learned, width, False)
    tokens[where], learned[where] = (
        wide(replay.tokens, width, talk.pad),
        wide(replay.learned, width, False),
    )
    last = rows.prompts.last.copy()
    last[where] = replay.count - 1
    rows = dataclasses.replace(rows, prompts=Prompts(rows.prompts.tokens, last))
    rejected = wide(examples.rejected, width, talk.pad)
    rejected_learned = wide(examples.rejected_learned, width, False)
    return Examples(rows, tokens, learned, rejected, rejected_learned)


def with_answers(prompts: Prompts, answers: np.ndarray, talk: Talk) -> tuple[Any, Any]:
    """Prompts and answers in one row, and where the answers are (up to their stop token)."""
    n, width = prompts.tokens.shape
    tokens = wide(prompts.tokens, width + answers.shape[1], talk.pad)
    learned = np.zeros(tokens.shape, bool)
    stops = np.isin(answers, talk.stop)
    ended = np.cumsum(stops, axis=1) - stops > 0
    for k in range(answers.shape[1]):
        place = prompts.last + 1 + k
        tokens[np.arange(n), place] = answers[:, k]
        learned[np.arange(n), place] = ~ended[:, k]
    return tokens, learned


def of_kind(
    prompts: Prompts,
    kind: str,
    concept: Any,
    noise: Any,
    strength: float,
    layer: int,
    mentions: Any,
) -> Rows:
    n = len(prompts.last)
    none = np.full(n, -1, np.int32)
    whole = [none if x is None else np.asarray(x, np.int32) for x in (concept, noise, mentions)]
    return Rows(
        prompts,
        np.full(n, KINDS.index(kind), np.int32),
        whole[0],
        whole[1],
        np.full(n, strength, np.float32),
        np.full(n, layer, np.int32),
        whole[2],
    )
