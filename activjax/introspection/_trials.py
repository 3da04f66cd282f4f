"""Trials: what is put into the model, what it is asked, and what it should answer."""

from __future__ import annotations

import dataclasses
import difflib
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from activjax.data.languages._random import below, choose, edges, words
from activjax.introspection._rows import (
    KINDS,
    Examples,
    Rows,
    answered,
    joined,
    of_kind,
    padded,
    replayed,
)
from activjax.introspection._talk import Prompts, Replay, Talk

#: Shares of the kinds in training: half reports, half denials, and a quarter of what was before.
MIX: Mapping[str, float] = {
    "injected": 0.28,
    "mismatch": 0.095,
    "clean": 0.225,
    "mention": 0.075,
    "noise": 0.075,
    "replay": 0.25,
}


@dataclasses.dataclass(frozen=True)
class Trials:
    """A recipe for training and test trials, all functions of `seed`.

    Kinds, and the answer that is right:

    - injected: a concept put in, a question that names none: the report of it.
    - mismatch: a concept put in, a question that speaks of another: the report of the one put in.
    - clean: nothing put in: the denial.
    - mention: nothing put in, a question that speaks of a concept: the denial.
    - noise: a random direction put in at the same length: the denial.
    - wrong prompt: a concept put in while something else is asked: the answer to that.
    - replay: what the model did before.

    No question of a test is asked in training: each belongs to one side by a hash of its tokens
    (documents of "replay" are not sorted). Tests always hold every control; `mix` is about training
    only.

    Attributes:
      talk: how the model is asked.
      train: numbers of the concepts to train on, integers `[n]`.
      held_out: numbers of those never trained on, integers `[n]`.
      mix: share of each kind in training; those left out have none.
      strengths: drawn from in training, all alike.
      layers: drawn from in training, all alike.
      prompts: different questions that each test concept is put into, if there are as many.
      clean, mentions, noises: different test inputs of these controls.
      seed: of everything drawn.

    Raises:
      ValueError: no concept to train or test on, a concept in both splits or out of range, a kind
        that does not exist, a share below 0 or all of them 0, no strength or layer, the strength 0.
    """

    talk: Talk
    train: Any
    held_out: Any
    mix: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(MIX))
    strengths: Sequence[float] = (0.5, 0.75, 1.0, 1.5)
    layers: Sequence[int] = (0,)
    prompts: int = 5
    clean: int = 100
    mentions: int = 300
    noises: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        number = len(self.talk.names)
        for name in ("train", "held_out"):
            given = [int(c) for c in getattr(self, name)]
            if not given:
                raise ValueError(f"{name}: expected at least one concept, got none")
            for c in given:
                if not 0 <= c < number:
                    raise ValueError(f"{name}: expected concepts 0 to {number - 1}, got {c}")
            if len(set(given)) != len(given):
                raise ValueError(f"{name}: a concept is there twice")
            object.__setattr__(self, name, tuple(given))
        if both := sorted(set(self.train) & set(self.held_out)):
            shown = ", ".join(repr(self.talk.names[c]) for c in both[:3])
            raise ValueError(
                f"held_out: {shown} {'is' if len(both) == 1 else 'are'} trained on as well; what "
                "is held out must not be in train"
            )
        _check_mix(self.mix)
        for name in ("strengths", "layers"):
            given = tuple(getattr(self, name))
            if not given or not all(math.isfinite(x) for x in given):
                raise ValueError(f"{name}: expected at least one number, got {given}")
            object.__setattr__(self, name, given)
        if 0 in self.strengths:
            raise ValueError("strengths: at 0 nothing is put in, which cannot be reported")
        for name in ("prompts", "clean", "mentions", "noises"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if len(self.train) + len(self.held_out) < 2:
            raise ValueError("train, held_out: expected two concepts, one to mention")

    # --- training ---

    def training(
        self,
        n: int,
        *,
        mix: Mapping[str, float] | None = None,
        answer: Callable[[Prompts], Replay] | None = None,
    ) -> Examples:
        """`n` examples of the mix, in random order.

        Args:
          n: how many.
          mix: another one than the recipe's.
          answer: gives answers to the prompts of "replay", for a conversation that knows none.

        Raises:
          ValueError: no such kind, no share above 0, or a mix that the conversation cannot have.
        """
        mix = self.mix if mix is None else mix
        _check_mix(mix)
        kinds = [k for k in KINDS if mix.get(k, 0) > 0]
        u = words("introspection", "training", self.seed, n, 6)
        number = choose(u[:, 0], edges([mix[k] for k in kinds]))
        kind = np.array([KINDS.index(k) for k in kinds], np.int32)[number]
        of = {k: kind == i for i, k in enumerate(KINDS)}
        train, every = np.array(self.train), np.array([*self.train, *self.held_out])
        concept = train[below(u[:, 1], len(train))]
        # another one to speak of; held-out ones only where there is no other
        others = train if len(train) > 1 else every
        other = others[below(u[:, 2], len(others))]
        step = 1 + below(u[:, 2] >> np.uint64(32), len(others) - 1)
        place = np.argmax(others[:, None] == concept, axis=0)
        other = np.where(other == concept, others[(place + step) % len(others)], other)
        put = of["injected"] | of["mismatch"] | of["wrong prompt"]
        speaks = of["mention"] | of["mismatch"] | of["wrong prompt"]
        mentions = np.where(speaks, other, -1).astype(np.int32)
        strength = np.array(self.strengths, np.float32)[below(u[:, 3], len(self.strengths))]

        elsewhere = of["wrong prompt"]
        asked = ~elsewhere & ~of["replay"]
        prompts = joined(
            n,
            [
                (asked, self._asked(self.talk.ask, mentions[asked], test=False)),
                (elsewhere, self._asked(self.talk.ask_else, mentions[elsewhere], test=False)),
            ],
            self.talk.pad,
        )
        answers = np.full((n, self.talk.steps), self.talk.pad, np.int32)
        refused = answers.copy()
        answers[asked] = self.talk.report(np.where(put, concept, -1)[asked])
        # what not to say: a denial or another concept of what is there, else a concept that is not
        wrong = np.where(put & (below(u[:, 5], 2) == 0), -1, other)
        refused[asked] = self.talk.report(wrong[asked])
        if elsewhere.any():
            answers[elsewhere] = self._answer_else(mentions[elsewhere])
            refused[elsewhere] = self.talk.report(concept[elsewhere])
        rows = Rows(
            prompts,
            kind,
            np.where(put, concept, -1).astype(np.int32),
            np.where(of["noise"], np.arange(n), -1).astype(np.int32),
            np.where(put | of["noise"], strength, 0).astype(np.float32),
            np.array(self.layers, np.int32)[below(u[:, 4], len(self.layers))],
            mentions,
        )
        examples = answered(rows, answers, refused, self.talk)
        if not of["replay"].any():
            return examples
        return replayed(examples, of["replay"], self._replay(of["replay"].sum(), answer), self.talk)

    def _answer_else(self, mentions: np.ndarray) -> np.ndarray:
        right = self.talk.answer_else(mentions)
        if right is None:
            raise ValueError(
                "mix: 'wrong prompt' cannot be trained: nobody knows the right answers of this "
                "conversation; leave it out (it is tested all the same)"
            )
        return right

    def _replay(self, n: int, answer: Callable[[Prompts], Replay] | None) -> Replay:
        found = self.talk.replay(int(n), seed=2 * self.seed)
        if isinstance(found, Replay):
            return found
        if answer is None:
            raise ValueError(
                "mix: the prompts of 'replay' have no answers: give answer=, or let `train` have "
                "them from the model that it starts from"
            )
        return answer(found)

    # --- tests ---

    def testing(
        self,
        name: str,
        *,
        strength: float = 1.0,
        layer: int | None = None,
        concepts: Sequence[int] | None = None,
    ) -> Rows:
        """The test trials of one kind.

        Args:
          name: one of `KINDS` but "replay".
          strength: of what is put in.
          layer: where; None for the first that is trained on.
          concepts: those put in; None for the held-out ones.

        Raises:
          ValueError: no such kind, or concepts that there are not.
        """
        if name not in KINDS or name == "replay":
            near = difflib.get_close_matches(name, KINDS, 1, 0.0)[0]
            raise ValueError(f"testing: no test of {name!r}; did you mean {near!r}?")
        chosen = np.array(self.held_out if concepts is None else concepts)
        number = len(self.talk.names)
        if chosen.ndim != 1 or not chosen.size or not np.isin(chosen, np.arange(number)).all():
            raise ValueError(f"concepts: expected some of 0 to {number - 1}, got {concepts}")
        layer = int(self.layers[0] if layer is None else layer)
        every = np.array([*self.train, *self.held_out])
        if name == "injected":
            prompts, _ = self._different(self.prompts, None)
            count = len(prompts.last)  # a conversation may have fewer: none is asked twice
            prompts = _chosen(prompts, np.tile(np.arange(count), len(chosen)))
            concept = np.repeat(chosen, count)
            return of_kind(prompts, name, concept, None, strength, layer, None)
        if name in ("mismatch", "wrong prompt"):
            concept = np.repeat(chosen, self.prompts)
            u = words("introspection", f"testing/{name}", self.seed, len(concept), 1)[:, 0]
            shift = 1 + below(u, len(every) - 1)
            place = np.argmax(every[:, None] == concept, axis=0)
            other = every[(place + shift) % len(every)]
            ask = self.talk.ask if name == "mismatch" else self.talk.ask_else
            prompts = self._asked(ask, other, test=True)
            return of_kind(prompts, name, concept, None, strength, layer, other)
        if name == "mention":
            prompts, mentions = self._different(self.mentions, every)
            return of_kind(prompts, name, None, None, 0.0, layer, mentions)
        prompts, _ = self._different(self.clean if name == "clean" else self.noises, None)
        if name == "clean":
            return of_kind(prompts, name, None, None, 0.0, layer, None)
        prompts = _chosen(prompts, np.arange(self.noises) % len(prompts.last))
        # other numbers than in training, which counts from 0
        return of_kind(prompts, name, None, 2**30 + np.arange(self.noises), strength, layer, None)

    def _asked(self, ask: Callable[..., Prompts], mentions: np.ndarray, *, test: bool) -> Prompts:
        """Questions, each of the side that it is asked for; the wording is drawn until it is."""
        n = len(mentions)
        if not n:
            return Prompts(np.zeros((0, 1), np.int32), np.zeros(0, np.int32))
        found: list[Any] = [None] * n
        width = 1
        open_ = np.arange(n)
        for attempt in range(64):
            got = ask(mentions[open_], seed=2 * self.seed + test, start=attempt * n)
            # the conversation's width is kept: conditions of one width share a program
            width = max(width, got.tokens.shape[1])
            side = _is_test(got) == test
            for i in np.flatnonzero(side):
                found[open_[i]] = got.tokens[i, : got.last[i] + 1]
            open_ = open_[~side]
            if not len(open_):
                break
        else:
            raise ValueError(
                "trials: 64 wordings of a question were all of the same side (training or test): "
                "the conversation has too few; give it more paraphrases or preambles"
            )
        return padded(found, self.talk.pad, width)

    def _different(self, n: int, every: np.ndarray | None) -> tuple[Prompts, np.ndarray]:
        """Up to `n` different test questions, and what they mention: each concept of `every` as
        often as the others, or nothing."""
        turns = np.arange(4 * n)
        mentions = np.full(4 * n, -1) if every is None else every[turns % len(every)]
        found: dict[bytes, tuple[np.ndarray, int]] = {}
        width = 1
        for attempt in range(8):
            got = self.talk.ask(mentions, seed=2 * self.seed + 1, start=attempt * 4 * n)
            width = max(width, got.tokens.shape[1])
            for i in np.flatnonzero(_is_test(got)):
                row = got.tokens[i, : got.last[i] + 1]
                found.setdefault(row.tobytes(), (row, int(mentions[i])))
            if len(found) >= n:
                break
        if not found:
            raise ValueError("trials: no question of the conversation is left for tests: too few")
        some = list(found.values())[:n]
        prompts = padded([row for row, _ in some], self.talk.pad, width)
        return prompts, np.array([m for _, m in some])


def _check_mix(mix: Mapping[str, float]) -> None:
    for kind, share in mix.items():
        if kind not in KINDS:
            near = difflib.get_close_matches(kind, KINDS, 1, 0.0)[0]
            raise ValueError(f"mix: no kind {kind!r}; did you mean {near!r}? ({KINDS})")
        if not (math.isfinite(share) and share >= 0):
            raise ValueError(f"mix: share of {kind!r}: expected at least 0, got {share}")
    if not sum(mix.values()) > 0:
        raise ValueError("mix: expected a share above 0 for at least one kind")


def _chosen(prompts: Prompts, rows: np.ndarray) -> Prompts:
    return Prompts(prompts.tokens[rows], prompts.last[rows])


def _is_test(prompts: Prompts) -> Bool[np.ndarray, " n"]:
    """A quarter of all questions is for tests, by a hash of their tokens."""
    rows = zip(np.asarray(prompts.tokens, np.int32), prompts.last)
    return np.array([zlib.crc32(r[: last + 1].tobytes()) % 4 == 0 for r, last in rows], bool)
