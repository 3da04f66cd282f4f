"""The world of the concept language: its vocabulary, who has which attributes, how words fall."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from activjax.data.languages._language import Language
from activjax.data.languages._random import whole, words

SPECIAL = (
    "<pad>", "<bos>", "<eos>", "tell", "about", "topic", "detect", "thought", "?", ":", ".",
    "YES", "NO",
)  # fmt: skip
KINDS = ("tell", "topic", "prose", "detect")
PROSE = (Fraction(1, 2), Fraction(1, 10), Fraction(2, 5))  # fillers, names, attributes


class ConceptSplit(NamedTuple):
    """Concepts by their use. In each part categories take turns: any first few are balanced.

    Attributes:
      baseline: their mean is what concept vectors are measured from.
      held_out: never trained on.
      train: the rest.
    """

    baseline: Int32[np.ndarray, " baseline"]
    held_out: Int32[np.ndarray, " held_out"]
    train: Int32[np.ndarray, " train"]


@dataclass(frozen=True)
class World(Language):
    """What is settled before any document is written; documented at `Concepts`."""

    seed: int = 0
    concepts: int = 64
    categories: int = 8
    attributes: int = 96
    each: int = 6
    fillers: int = 12
    recurs: float = 0.15
    filler: float = 0.2
    text: tuple[int, int] = (5, 8)
    shares: tuple[float, float, float, float] = (0.35, 0.30, 0.20, 0.15)
    on_topic: float = 0.5

    def __post_init__(self) -> None:
        whole("categories", self.categories, 1, 26)
        whole("concepts", self.concepts, self.categories)
        if self.concepts % self.categories:
            raise ValueError(
                f"concepts: expected a multiple of {self.categories} (categories), "
                f"got {self.concepts}"
            )
        whole("attributes", self.attributes, 2)
        whole("each", self.each, 1, self.attributes - 1)
        whole("fillers", self.fillers, 1)
        for name in ("recurs", "filler", "on_topic"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a number in [0, 1], got {getattr(self, name)}")
        for name in ("text", "shares"):  # lists, as YAML gives them, are taken too
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.text) != 2 or not 1 <= self.text[0] <= self.text[1] <= 8:
            raise ValueError(f"text: expected 1 <= fewest <= most <= 8 words, got {self.text}")
        if len(self.shares) != 4 or min(self.shares) < 0 or sum(self.shares) <= 0:
            raise ValueError(f"shares: expected four of at least 0, not all 0; got {self.shares}")

    # --- vocabulary ---

    @property
    def length(self) -> int:
        """Tokens a document, 17."""
        return 17

    @property
    def kinds(self) -> tuple[str, ...]:
        """What kinds of document there are."""
        return KINDS

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Special tokens, categories, names, attributes, fillers."""
        categories = [chr(ord("A") + i) for i in range(self.categories)]
        size = self.concepts // self.categories
        names = [f"{c}{i + 1}" for c in categories for i in range(size)]
        numbered = [("w", self.attributes), ("f", self.fillers)]
        rest = [f"{letter}{i:02d}" for letter, n in numbered for i in range(n)]
        return (*SPECIAL, *categories, *names, *rest)

    @property
    def pad(self) -> int:
        """The id of `<pad>`, 0."""
        return 0

    @property
    def bos(self) -> int:
        """The id of `<bos>`."""
        return SPECIAL.index("<bos>")

    @property
    def eos(self) -> int:
        """The id of `<eos>`."""
        return SPECIAL.index("<eos>")

    @property
    def yes(self) -> int:
        """The id of `YES`."""
        return SPECIAL.index("YES")

    @property
    def no(self) -> int:
        """The id of `NO`."""
        return SPECIAL.index("NO")

    @cached_property
    def category_ids(self) -> Int32[np.ndarray, " categories"]:
        """Ids of the categories."""
        return np.arange(self.categories, dtype=np.int32) + len(SPECIAL)

    @cached_property
    def name_ids(self) -> Int32[np.ndarray, " concepts"]:
        """Ids of the concepts' names."""
        return np.arange(self.concepts, dtype=np.int32) + self.category_ids[-1] + np.int32(1)

    @cached_property
    def attribute_ids(self) -> Int32[np.ndarray, " attributes"]:
        """Ids of the attributes."""
        return np.arange(self.attributes, dtype=np.int32) + self.name_ids[-1] + np.int32(1)

    @cached_property
    def filler_ids(self) -> Int32[np.ndarray, " fillers"]:
        """Ids of the fillers."""
        return np.arange(self.fillers, dtype=np.int32) + self.attribute_ids[-1] + np.int32(1)

    # --- the world ---

    @cached_property
    def category_of(self) -> Int32[np.ndarray, " concepts"]:
        """The category of each concept, from 0."""
        return np.arange(self.concepts, dtype=np.int32) // (self.concepts // self.categories)

    @cached_property
    def order(self) -> Int32[np.ndarray, "categories attributes"]:
        """The attributes (from 0) of each category, the commonest first."""
        u = words("concepts", "order", self.seed, self.categories, self.attributes)
        return np.argsort(u, axis=1, kind="stable").astype(np.int32)

    @cached_property
    def attributes_of(self) -> Int32[np.ndarray, "concepts each"]:
        """The attributes (from 0) of each concept, ascending.

        Raises:
          ValueError: no different sets were found for all concepts: too few attributes.
        """
        weights = [2**32 // rank for rank in range(1, self.attributes + 1)]
        found: list[tuple[int, ...]] = []
        for concept, category in enumerate(self.category_of):
            for attempt in range(100):
                left, ranks = list(range(self.attributes)), []
                u = words(f"concepts/{concept}", "attributes", self.seed, 1, self.each, attempt)
                for word in u[0].tolist():
                    point = word % sum(weights[r] for r in left)
                    for rank in left:
                        point -= weights[rank]
                        if point < 0:
                            break
                    left.remove(rank)
                    ranks.append(rank)
                these = tuple(sorted(self.order[category, ranks].tolist()))
                if these not in found:
                    found.append(these)
                    break
            else:
                raise ValueError(
                    f"attributes: {self.attributes}, {self.each} each, are too few to tell "
                    f"{self.concepts} concepts apart; use more"
                )
        return np.array(found, np.int32)

    def split(self, seed: int = 0, *, baseline: int = 8, held_out: int = 16) -> ConceptSplit:
        """Which concepts are for the baseline, held out, and for training (the others).

        Raises:
          ValueError: the first two leave no concept for training.
        """
        whole("baseline", baseline, 1, self.concepts - 2)
        whole("held_out", held_out, 1, self.concepts - 1 - baseline)
        size = self.concepts // self.categories
        within = np.argsort(
            words("concepts", "split", seed, self.categories, size), axis=1, kind="stable"
        )
        turns = np.argsort(
            words("concepts", "turns", seed, size, self.categories), axis=1, kind="stable"
        )
        members = within + size * np.arange(self.categories)[:, None]
        order = np.take_along_axis(members.T, turns, axis=1).ravel().astype(np.int32)
        return ConceptSplit(*np.split(order, [baseline, baseline + held_out]))

    # --- words, with their probabilities ---

    @cached_property
    def answer_words(self) -> tuple[np.ndarray, list[Fraction]]:
        """The words of an answer to "tell" by concept, `[concepts, 1 + each]` ids, and their
        probabilities."""
        ids = np.concatenate(
            [self.name_ids[:, None], self.attribute_ids[self.attributes_of]], axis=1
        )
        name = Fraction(self.recurs)
        return ids, [name, *[(1 - name) / self.each] * self.each]

    def text_words(self, name: bool = True) -> tuple[np.ndarray, list[Fraction]]:
        """The same for a text about a concept, `[concepts, fillers + 1 + each]`; without the name
        if `name` is false."""
        own, _ = self.answer_words
        fillers = np.broadcast_to(self.filler_ids, (self.concepts, self.fillers))
        filler, named = Fraction(self.filler), Fraction(self.recurs) if name else Fraction(0)
        rest = [named, *[(1 - named) / self.each] * self.each]
        shares = [*[filler / self.fillers] * self.fillers, *[(1 - filler) * p for p in rest]]
        return np.concatenate([fillers, own], axis=1), shares

    @cached_property
    def prose_words(self) -> tuple[np.ndarray, list[Fraction]]:
        """The same for prose by category, `[categories, fillers + names + attributes]`."""
        size = self.concepts // self.categories
        fillers = np.broadcast_to(self.filler_ids, (self.categories, self.fillers))
        names = self.name_ids.reshape(self.categories, size)
        ids = np.concatenate([fillers, names, self.attribute_ids[self.order]], axis=1)
        zipf = [Fraction(1, rank) for rank in range(1, self.attributes + 1)]
        shares = [PROSE[0] / self.fillers] * self.fillers + [PROSE[1] / size] * size
        return ids, shares + [PROSE[2] * z / sum(zipf) for z in zipf]

    def _concepts(self, concepts: Any, low: int) -> np.ndarray:
        array = np.asarray(concepts)
        if array.size == 0:
            array = array.astype(np.int64)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(
                f"concepts: expected integers, [n]; got {array.dtype} of shape {array.shape}"
            )
        if array.size and not (low <= array.min() and array.max() < self.concepts):
            raise ValueError(
                f"concepts: expected {low} to {self.concepts - 1}, "
                f"got {array.min()} to {array.max()}"
            )
        return array.astype(np.int64)
