"""The concept language as a conversation: a laboratory in which everything is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int32

from activjax.data.languages import Concepts
from activjax.introspection._talk import Prompts, Readings, Replay, Talk

#: Tokens of the longest question: `<bos>`, 8 words, `. detect thought ? :`.
LONGEST = 14


class Laboratory(Talk):
    """See `laboratory`."""

    def __init__(self, world: Concepts):
        self.world = world
        size = world.concepts // world.categories
        self.names = tuple(
            f"{world.tokens[c]}{i + 1}" for c in world.category_ids for i in range(size)
        )
        self.steps, self.pad, self.stop = 3, world.pad, (world.eos,)

    def elicit(self, concepts: Any) -> Prompts:
        """`<bos> tell about c :`."""
        return _prompts(self.world.tell(concepts), 5)

    def ask(self, mentions: Any, *, seed: int, start: int = 0) -> Prompts:
        """`<bos>`, a text, `. detect thought ? :`, as in the language.

        A text about a concept names it once or more; one of no concept is 5 to 8 fillers.
        """
        text = self.world.write(mentions, seed=seed, start=start, mention=True)
        return _prompts(self.world.detect(text), LONGEST)

    def ask_else(self, mentions: Any, *, seed: int, start: int = 0) -> Prompts:
        """`<bos>`, a text about a concept, `. topic ? :`."""
        text = self.world.write(mentions, seed=seed, start=start)
        return _prompts(self.world.topic(text), LONGEST)

    def answer_else(self, mentions: Any) -> Int32[np.ndarray, "n steps"]:
        """`c <eos>`."""
        name = self.world.name_ids[np.asarray(mentions)]
        return self._padded(name, np.full_like(name, self.world.eos))

    def report(self, concepts: Any) -> Int32[np.ndarray, "n steps"]:
        """`YES c <eos>`; `NO <eos>` for -1."""
        concepts, w = np.asarray(concepts), self.world
        some = concepts >= 0
        name = w.name_ids[np.maximum(concepts, 0)]
        first, second = np.where(some, w.yes, w.no), np.where(some, name, w.eos)
        return self._padded(first, second, np.where(some, w.eos, w.pad))

    def claim(self) -> Int32[np.ndarray, " k"]:
        """`YES`."""
        return np.array([self.world.yes], np.int32)

    def replay(self, n: int, *, seed: int, start: int = 0) -> Replay:
        """Documents of pre-training."""
        found = self.world.documents(n, seed=seed, start=start)
        real = found.tokens != self.world.pad
        learned = real.copy()
        learned[:, 0] = False
        return Replay(found.tokens, real.sum(1).astype(np.int32), learned)

    def read(self, answers: Any) -> Readings:
        """YES claims, NO denies, a name names; what follows `<eos>` does not count."""
        ids, w = np.asarray(answers), self.world
        before = np.cumsum(ids == w.eos, axis=1) == 0
        yes, no = ((ids == word) & before for word in (w.yes, w.no))
        name = np.where(before, ids - w.name_ids[0], -1)
        is_name = (name >= 0) & (name < w.concepts)
        first = np.argmax(is_name, axis=1)
        some = is_name.any(axis=1)
        named = np.where(some, np.take_along_axis(name, first[:, None], 1)[:, 0], -1)
        claimed_at = np.where(yes.any(1), np.argmax(yes, axis=1), ids.shape[1])
        ordered = some & (claimed_at < first)
        return Readings(yes.any(1), no.any(1), named.astype(np.int32), ordered)

    def show(self, tokens: Any) -> str:
        """The words, padding left out."""
        ids = np.asarray(tokens)
        return self.world.decode(ids[ids != self.pad])

    def _padded(self, *columns: np.ndarray) -> np.ndarray:
        out = np.full((len(columns[0]), self.steps), self.pad, np.int32)
        for i, column in enumerate(columns):
            out[:, i] = column
        return out


def laboratory(world: Concepts) -> Laboratory:
    """The concept language (`data.languages.concepts`) as a conversation for `Trials`.

    Reports are `YES c <eos>`, denials `NO <eos>`. Concept i is name i of the language.
    """
    return Laboratory(world)


def _prompts(found: Any, width: int) -> Prompts:
    return Prompts(found.tokens[:, :width], found.last)
