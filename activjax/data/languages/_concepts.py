"""The concept language: a small world in which to teach a model to report its activations."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32

from activjax.data.languages._concept_truth import next_distribution
from activjax.data.languages._concept_world import KINDS, SPECIAL, World
from activjax.data.languages._random import below, choose, edges, words


class Prompts(NamedTuple):
    """Prompts, padded on the right.

    Attributes:
      tokens: ids, the language's `length` of them.
      last: where each prompt's last token is (":", the place of injections).
      kind: index into `kinds`.
    """

    tokens: Int32[np.ndarray, "n length"]
    last: Int32[np.ndarray, " n"]
    kind: Int32[np.ndarray, " n"]


class Documents(NamedTuple):
    """Prompts with their answers, padded on the right.

    Attributes:
      tokens: ids, the language's `length` of them.
      mask: positions whose prediction (of the next token) counts in the loss.
      kind: index into `kinds`.
      concept: what the document is about, or what its answer should name; -1 for none.
      last: where each prompt's last token is; -1 for prose.
    """

    tokens: Int32[np.ndarray, "n length"]
    mask: Bool[np.ndarray, "n length"]
    kind: Int32[np.ndarray, " n"]
    concept: Int32[np.ndarray, " n"]
    last: Int32[np.ndarray, " n"]


class Concepts(World):
    """Concepts with attributes; texts about them; questions about texts and about thoughts.

    A laboratory for "Training Introspective Behavior" (Fonseca Rivera 2025, arXiv 2511.21399) that
    trains in minutes. A concept has a name of one token, a category, and some attributes, drawn
    without repeats by Zipf's law (weight 1/rank) in an order of all attributes that its category
    shares; no two concepts have the same ones. Words of a *text about c* are each a filler (with
    probability `filler`), else the name (`recurs`), else one of c's attributes, all alike. The
    kinds of document, `length` tokens each:

    - tell (35 %): `<bos> tell about c :`, words without fillers to the end, `<eos>`;
    - topic (30 %): `<bos>`, a text about c without its name, `. topic ? : c <eos>`;
    - prose (20 %): `<bos>`, a category, words (half fillers, a tenth its names, the rest its
      attributes by Zipf's law), `. <eos>`;
    - detect (15 %): `<bos>`, a text, `. detect thought ? : NO <eos>`; a share `on_topic` of the
      texts is about a concept, the others are 0 to 8 fillers (none: no full stop either).

    Every prompt ends in ":". Vocabulary, 193 as it stands: 13 special tokens and words of questions
    (ids 0 to 12), 8 categories `A` to `H` (to 20), 64 names `A1` to `H8` (to 84; concept i is name
    i, of category i // 8), 96 attributes `w00` to `w95` (to 180), 12 fillers `f00` to `f11`.

    Attributes:
      seed: of the world: who has which attributes.
      concepts: number of concepts.
      categories: of equal size.
      attributes: number of attributes.
      each: attributes of a concept.
      fillers: number of filler words.
      recurs: probability that a word of an answer or a text about c is c's name.
      filler: share of fillers in a text about a concept.
      text: fewest and most words of a text about a concept (most: 8).
      shares: of the kinds in `documents`, in the order of `kinds`.
      on_topic: share of detection questions in `documents` after a text about a concept.

    Raises:
      ValueError: an attribute out of range.
    """

    def write(
        self, concepts: Any, *, seed: int, start: int = 0, mention: bool = False
    ) -> Int32[np.ndarray, "n 8"]:
        """Texts about concepts, padded on the right; for a concept of -1, fillers alone.

        Args:
          concepts: `[n]`, which concept each text is about.
          seed: of the texts; row i uses the random words of example `start + i`.
          start: the number of the first.
          mention: put the name into one place of every text about a concept.

        Raises:
          ValueError: a concept that is not -1 to `concepts - 1`.
        """
        concepts = self._concepts(concepts, -1)
        u = words("concepts", "write", seed, len(concepts), 10, start)
        return self._text(concepts, u[:, 0], u[:, 2:], u[:, 1] if mention else None)

    def _text(
        self,
        concepts: np.ndarray,
        count: np.ndarray,
        u: np.ndarray,
        mention: np.ndarray | None = None,
        name: bool = True,
    ) -> np.ndarray:
        ids, shares = self.text_words(name)
        text = np.where(
            concepts[:, None] >= 0,
            ids[concepts[:, None], choose(u[:, :8], edges(shares))],
            self.filler_ids[below(u[:, :8], self.fillers)],
        )
        low, high = self.text
        n = low + below(count, high - low + 1)
        if mention is not None:
            place = (mention % n.astype(np.uint64)).astype(np.int64)
            here = (np.arange(8) == place[:, None]) & (concepts[:, None] >= 0)
            text = np.where(here, self.name_ids[concepts][:, None], text)
        return np.where(np.arange(8) < n[:, None], text, self.pad).astype(np.int32)

    # --- prompts and answers ---

    def tell(self, concepts: Any) -> Prompts:
        """`<bos> tell about c :` for each concept, `[n]`.

        Raises:
          ValueError: a concept that is not 0 to `concepts - 1`.
        """
        name = self.name_ids[self._concepts(concepts, 0)]
        return self._prompt("tell", name[:, None], before="tell about", after=":")

    def topic(self, text: Any) -> Prompts:
        """`<bos>`, the text, `. topic ? :` for each text, `[n, words]`, padded with `<pad>`.

        Raises:
          ValueError: ids outside the vocabulary, or no room for the answer.
        """
        return self._prompt("topic", self._rows(text), after="topic ? :")

    def detect(self, text: Any = None) -> Prompts:
        """`<bos>`, the text, `. detect thought ? :` for each text, `[n, words]`, padded with
        `<pad>`; without a text the one bare question.

        Raises:
          ValueError: ids outside the vocabulary, or no room for the answer.
        """
        text = np.zeros((1, 0), np.int32) if text is None else self._rows(text)
        return self._prompt("detect", text, after="detect thought ? :")

    def answer(self, prompts: Prompts, concepts: Any) -> Documents:
        """Prompts with the answers that they should get, the loss on the answers alone.

        Args:
          prompts: of `detect` or `topic`.
          concepts: `[n]`; after "detect" the concept to report (`YES c <eos>`) or -1 (`NO <eos>`),
            after "topic" the concept to name (`c <eos>`).

        Raises:
          ValueError: prompts of another kind or as many concepts as prompts.
        """
        concepts = self._concepts(concepts, -1)
        n = len(prompts.tokens)
        if len(concepts) != n:
            raise ValueError(f"concepts: expected {n} (the prompts), got {len(concepts)}")
        asked = prompts.kind == KINDS.index("detect")
        if not (asked | ((prompts.kind == KINDS.index("topic")) & (concepts >= 0))).all():
            raise ValueError(
                "prompts: expected those of `detect`, or of `topic` with concepts of at least 0"
            )
        name, eos, pad = self.name_ids[concepts], self.eos, self.pad
        some = concepts >= 0
        first = np.where(asked, np.where(some, self.yes, self.no), name)
        second = np.where(asked & some, name, eos)
        third = np.where(asked & some, eos, pad)
        tokens = prompts.tokens.copy()
        rows = np.arange(n)
        for step, part in enumerate((first, second, third), start=1):
            tokens[rows, prompts.last + step] = part
        place = np.arange(self.length)
        mask = place >= prompts.last[:, None]
        mask[:, :-1] &= tokens[:, 1:] != pad
        mask[:, -1] = False
        return Documents(tokens, mask, prompts.kind, concepts.astype(np.int32), prompts.last)

    def _prompt(self, kind: str, text: np.ndarray, *, before: str = "", after: str) -> Prompts:
        n = len(text)
        some = (text != self.pad).any(axis=1, keepdims=True)
        full_stop = SPECIAL.index(".") if kind != "tell" else self.pad
        parts = [
            np.full((n, 1), self.bos),
            np.broadcast_to(self.encode(before), (n, len(before.split()))),
            text,
            np.where(some, full_stop, self.pad),
            np.broadcast_to(self.encode(after), (n, len(after.split()))),
        ]
        row = np.concatenate(parts, axis=1)
        keep = row != self.pad
        place = np.cumsum(keep, axis=1) - 1
        last = place[:, -1]
        if last.max(initial=0) + 3 >= self.length:
            most = self.length - 5 - len(after.split())
            raise ValueError(
                f"text: expected at most {most} words (a document has {self.length} tokens, the "
                f"answer 3), got {most + last.max() + 4 - self.length}"
            )
        tokens = np.full((n, self.length), self.pad, np.int32)
        rows = np.broadcast_to(np.arange(n)[:, None], row.shape)
        tokens[rows[keep], place[keep]] = row[keep]
        return Prompts(tokens, last.astype(np.int32), np.full(n, KINDS.index(kind), np.int32))

    # --- pre-training ---

    def documents(self, n: int, *, seed: int, start: int = 0) -> Documents:
        """Documents `start .. start + n - 1` of a seed, the kinds mixed; the loss is on all tokens.

        For detection questions `concept` is what the text before is about.

        Raises:
          ValueError: n below 1 or start below 0.
        """
        u = words("concepts", "documents", seed, n, 19, start)
        kind = choose(u[:, 0], edges(self.shares))
        concept = below(u[:, 1], self.concepts)
        tokens = np.full((n, self.length), self.pad, np.int32)
        last = np.full(n, -1, np.int32)
        tell, topic, prose, detect = (np.flatnonzero(kind == k) for k in range(4))

        ids, shares = self.answer_words
        prompts = self.tell(concept[tell])
        tokens[tell], last[tell] = prompts.tokens, prompts.last
        chosen = choose(u[tell, 4 : self.length - 2], edges(shares))
        tokens[tell, 5:-1] = ids[concept[tell][:, None], chosen]
        tokens[tell, -1] = self.eos

        text = self._text(concept[topic], u[topic, 2], u[topic, 4:], name=False)
        done = self.answer(self.topic(text), concept[topic])
        tokens[topic], last[topic] = done.tokens, done.last

        ids, shares = self.prose_words
        category = self.category_of[concept[prose]]
        tokens[prose, 0], tokens[prose, 1] = self.bos, self.category_ids[category]
        tokens[prose, 2:-2] = ids[category[:, None], choose(u[prose, 4:17], edges(shares))]
        tokens[prose, -2], tokens[prose, -1] = SPECIAL.index("."), self.eos

        on = choose(u[detect, 3], edges([self.on_topic, 1 - Fraction(self.on_topic)])) == 0
        concept[detect[~on]] = -1
        concept[prose] = -1
        text = self._text(concept[detect], u[detect, 2], u[detect, 4:])
        off = self.filler_ids[below(u[detect, 4:12], self.fillers)]
        few = np.arange(8) < below(u[detect, 2], 9)[:, None]
        text = np.where(on[:, None], text, np.where(few, off, self.pad))
        done = self.answer(self.detect(text), np.full(len(detect), -1))
        tokens[detect], last[detect] = done.tokens, done.last

        mask = np.zeros((n, self.length), bool)
        mask[:, :-1] = tokens[:, 1:] != self.pad
        return Documents(tokens, mask, kind.astype(np.int32), concept.astype(np.int32), last)

    def sample(self, n: int, *, seed: int, start: int = 0) -> Int32[np.ndarray, "n length"]:
        """The tokens of `documents`."""
        return self.documents(n, seed=seed, start=start).tokens

    def next_distribution(
        self, tokens: Int[np.ndarray, "n length"]
    ) -> Float32[np.ndarray, "n length vocab"]:
        """The exact distribution of the token after each position in `documents`, given the tokens
        so far: what a perfect model predicts. By Bayes' rule over kind, concept and length.

        NaN from a token on that `documents` cannot have there. After the answer, `<pad>`.
        """
        return next_distribution(self, self._rows(tokens))

    def _rows(self, text: Any) -> np.ndarray:
        array = self._checked(text, "text")
        if array.ndim != 2:
            raise ValueError(f"text: expected [n, words], got shape {array.shape}")
        return array


def concepts(seed: int = 0, **settings: Any) -> Concepts:
    """The concept language; `settings` are the other attributes of `Concepts`."""
    return Concepts(seed, **settings)
