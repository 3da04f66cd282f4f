"""A conversation in plain text, with any tokenizer: how a real model is asked, and understood."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from activjax.data import Tokenizer
from activjax.data.languages._random import whole, words
from activjax.introspection._conversation_texts import BASELINE, CONCEPTS
from activjax.introspection._reading import Reader
from activjax.introspection._reading_names import Names, checked_names, plain
from activjax.introspection._talk import Prompts, Readings, Talk
from activjax.introspection._templates import Templates

_FOLLOWING = 3  # plain sentences that may follow each of them


class Conversation(Talk):
    """See `conversation`.

    Attributes:
      tokenizer: of the model.
      templates: what is said.
      reader: what answers are read with.
    """

    def __init__(
        self, tokenizer: Tokenizer, names: Iterable[str], templates: Templates, steps: int,
        begin: int | Sequence[int] | None,
    ):  # fmt: skip
        self.tokenizer, self.templates, self.steps = tokenizer, templates, steps
        self.names = checked_names(names)
        templates.check(self.names)
        begin = tokenizer.begin if begin is None else begin
        self._begin = tuple(begin) if isinstance(begin, Sequence) else (begin,)
        for i in self._begin:
            if not 0 <= i < tokenizer.vocab:
                raise ValueError(f"begin: expected an id from 0 to {tokenizer.vocab - 1}, got {i}")
        self.stop = (tokenizer.end,)
        self.reader = Reader(self.names, claims=templates.claims, denials=templates.denials)
        said = [templates.report.replace("{c}", name) for name in self.names]
        self._claim = self._after("", templates.claim)
        rest = [text.removeprefix(templates.claim) for text in said]
        answers = [[*self._claim, *self._after(templates.claim, text)] for text in rest]
        answers.append(self._after("", templates.denial))
        said.append(templates.denial)
        longest = max(range(len(said)), key=lambda i: len(answers[i]))
        if len(answers[longest]) >= steps:
            raise ValueError(
                f"steps: {said[longest]!r} takes {len(answers[longest]) + 1} tokens with the one "
                f"that ends it, got steps={steps}"
            )
        taken = {*self.stop, *(i for ids in answers for i in ids)}
        # apart from what ends an answer, so that padding is never taken for an ending
        self.pad = next((i for i in range(tokenizer.vocab) if i not in taken), tokenizer.end)
        self._answers = np.full((len(said), steps), self.pad, np.int32)
        for row, ids in zip(self._answers, answers):
            row[: len(ids) + 1] = [*ids, tokenizer.end]
        self._check_understood(said)

    @property
    def room(self) -> int:
        """Tokens of the longest prompt with its answer: what a model's context must hold."""
        asked = self._width + len(self._claim)  # for forced identification
        return max(asked, _widest(self._elicits), _widest(self._instructs)) + self.steps

    def elicit(self, concepts: Any) -> Prompts:
        """`Templates.elicit` with each concept's name."""
        return self._prompts(
            [self._elicits[c] for c in self._concepts(concepts, 0)], _widest(self._elicits)
        )

    def baseline_prompts(self, others: Iterable[str] = BASELINE) -> Prompts:
        """The same of words that are no concepts, which concept vectors are measured from.

        By default 32 nouns, as many as in Fonseca Rivera 2025.

        Raises:
          ValueError: no words, or one that names a concept.
        """
        others, names = checked_names(others), Names(self.names)
        for word in others:
            if (i := names.anywhere(plain(word))) >= 0:
                raise ValueError(
                    f"others: {word!r} names the concept {self.names[i]!r}; take another word"
                )
        rows = [self._prompt(self.templates.elicit.replace("{c}", word)) for word in others]
        return self._prompts(rows, _widest(rows))

    def ask(self, mentions: Any, *, seed: int, start: int = 0) -> Prompts:
        """A sentence that mentions the concept, or one or two that name none, then a question.

        All wordings are used once, in random order, before one comes again.
        """
        mentions = self._concepts(mentions, -1)
        plain = self._dealt("plain", "paraphrases", seed, start, len(mentions))
        named = self._dealt("mention", "paraphrases", seed, start, len(mentions))
        texts = [
            self._mentioning(c, with_name) if c >= 0 else without
            for c, without, with_name in zip(mentions.tolist(), plain, named)
        ]
        return self._prompts([self._framed(text) for text in texts], self._width)

    def ask_else(self, mentions: Any, *, seed: int, start: int = 0) -> Prompts:
        """A sentence that mentions the concept, then a question about the sentence."""
        mentions = self._concepts(mentions, 0)
        dealt = self._dealt("mention", "other", seed, start, len(mentions))
        texts = [self._mentioning(c, text) for c, text in zip(mentions.tolist(), dealt)]
        return self._prompts([self._framed(text) for text in texts], self._width)

    def answer_else(self, mentions: Any) -> None:
        """None: nobody knows."""

    def report(self, concepts: Any) -> Int32[np.ndarray, "n steps"]:
        """`Templates.report` with each concept's name; `Templates.denial` for -1."""
        return self._answers[self._concepts(concepts, -1)]

    def claim(self) -> Int32[np.ndarray, " k"]:
        """`Templates.claim`."""
        return np.array(self._claim, np.int32)

    def replay(self, n: int, *, seed: int, start: int = 0) -> Prompts:
        """Instructions, which the model that training starts from has to answer."""
        dealt = _dealt("instructions", seed, start, n, len(self._instructs))
        return self._prompts([self._instructs[i] for i in dealt.tolist()], _widest(self._instructs))

    def read(self, answers: Any) -> Readings:
        """What answers say (`Reader`); what follows the stop token, or `Templates.cut`, is not
        read."""
        answers = np.asarray(answers)
        if answers.ndim != 2:
            raise ValueError(f"answers: expected [n, steps], got shape {list(answers.shape)}")
        return self.reader.read([self.answer_text(row) for row in answers])

    def answer_text(self, tokens: Any) -> str:
        """The part of an answer, `[steps]`, that is read."""
        ids = np.asarray(tokens)
        text = self._decoded(ids[np.cumsum(np.isin(ids, self.stop)) == 0])
        for cut in self.templates.cut:
            text = text.partition(cut)[0]
        return text.strip()

    def show(self, tokens: Any) -> str:
        """The text of a row, without the padding at its end."""
        ids = np.asarray(tokens)
        real = np.flatnonzero(ids != self.pad)
        return self._decoded(ids[: real[-1] + 1 if len(real) else 0])

    # --- tokens ---

    def _decoded(self, ids: np.ndarray) -> str:
        # a model's vocabulary may be padded beyond the tokenizer's: these ids have no text
        return self.tokenizer.decode(ids[ids < self.tokenizer.vocab])

    def _after(self, before: str, text: str) -> list[int]:
        """The ids of a part of an answer: what the tokenizer makes of it after what comes before.

        Some tokenizers put a space before any text; what they give for a text alone is not what
        they give for it in its place.
        """
        t = self.templates
        before = t.frame.partition("{text}")[2] + t.before_answer + before if before else ""
        if not before:
            before, text = t.frame.partition("{text}")[2], t.before_answer + text
        head, whole = self._ids(before), self._ids(before + text)
        if whole[: len(head)] == head:
            return whole[len(head) :]
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        # the special tokens of a frame that a chat template made are meant as such
        return self.tokenizer.encode(text, parse_special=True).tolist()

    def _prompt(self, text: str) -> Int32[np.ndarray, " k"]:
        return np.array([*self._begin, *self._ids(text)], np.int32)

    def _framed(self, text: str) -> Int32[np.ndarray, " k"]:
        return self._prompt(self.templates.frame.replace("{text}", text))

    def _prompts(self, rows: Sequence[np.ndarray], width: int) -> Prompts:
        """Rows, padded to the width of the longest that there can be: more rows do not change
        the first ones."""
        tokens = np.full((len(rows), width), self.pad, np.int32)
        for out, row in zip(tokens, rows):
            out[: len(row)] = row
        return Prompts(tokens, np.array([len(row) - 1 for row in rows], np.int32))

    @functools.cached_property
    def _elicits(self) -> list[np.ndarray]:
        return [self._prompt(self.templates.elicit.replace("{c}", name)) for name in self.names]

    @functools.cached_property
    def _instructs(self) -> list[np.ndarray]:
        return [self._framed(text) for text in self.templates.instructions]

    @functools.cached_property
    def _width(self) -> int:
        """Of the longest prompt that `ask` and `ask_else` can give."""
        t = self.templates
        plain, paraphrases = self._wordings("plain", "paraphrases"), t.paraphrases
        texts = [
            self._mentioning(c, f"{head} {question}")
            for c in range(len(self.names))
            for head in t.mention
            for question in (*paraphrases, *t.other)
        ]
        return _widest(map(self._framed, (*plain, *texts)))

    def _mentioning(self, concept: int, text: str) -> str:
        return text.replace("{c}", self.names[concept])

    def _wordings(self, first: str, second: str) -> list[str]:
        """Every sentence of one kind before every one of the other.

        Plain ones also in pairs: a share of all wordings is for tests, and rates of false reports
        need many different ones.
        """
        heads, questions = getattr(self.templates, first), getattr(self.templates, second)
        if first == "plain":
            more = range(1, min(_FOLLOWING + 1, len(heads)))
            pairs = [
                f"{a} {heads[(i + k) % len(heads)]}" for i, a in enumerate(heads) for k in more
            ]
            heads = [*heads, *pairs]
        return [f"{head} {question}" for head in heads for question in questions]

    def _dealt(self, first: str, second: str, seed: int, start: int, n: int) -> list[str]:
        wordings = self._wordings(first, second)
        which = _dealt(f"{first} {second}", seed, start, n, len(wordings))
        return [wordings[i] for i in which.tolist()]

    # --- checks ---

    def _concepts(self, concepts: Any, low: int) -> Int64[np.ndarray, " n"]:
        array = np.asarray(concepts)
        if array.size == 0:
            array = array.astype(np.int64)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(
                f"concepts: expected integers, [n]; got {array.dtype} of shape {list(array.shape)}"
            )
        if array.size and not (low <= array.min() and array.max() < len(self.names)):
            raise ValueError(
                f"concepts: expected {low} to {len(self.names) - 1}, "
                f"got {array.min()} to {array.max()}"
            )
        return array.astype(np.int64)

    def _check_understood(self, said: Sequence[str]) -> None:
        """Whether the reader understands what the model is to learn to say."""
        got = self.read(self._answers)
        right = got.identifies(np.arange(len(said)))
        right[-1] = got.denies[-1] and not got.claims[-1] and got.named[-1] < 0
        for i in np.flatnonzero(~right)[:1]:
            text = self.answer_text(self._answers[i])
            meant = "the denial" if i == len(self.names) else f"a report of {self.names[i]!r}"
            raise ValueError(
                f"templates: {said[i]!r}, which comes back from its tokens as {text!r}, is not "
                f"read as {meant}; change the text, the name, or `claims` and `denials`"
            )


def conversation(
    tokenizer: Tokenizer,
    names: Iterable[str] = CONCEPTS,
    *,
    templates: Templates | None = None,
    steps: int = 24,
    begin: int | Sequence[int] | None = None,
) -> Conversation:
    """Ask any decoder about its thoughts in plain text.

    Prompts of one kind have one width, so that one compiled program serves all of them. Wordings
    are dealt by integer arithmetic on a seed: the same on every platform.

    Args:
      tokenizer: of the model.
      names: the concepts; by default 60 everyday nouns that need no article, 40 to train with
        and 20 to hold out.
      templates: the texts; None for those of Fonseca Rivera 2025 and our own. Special tokens that
        they spell out are read as such.
      steps: new tokens that an answer may take.
      begin: id or ids put before every prompt, which some published models need ("bos"); None for
        what the tokenizer's files say, `()` for nothing.

    Raises:
      ValueError: names that are none, empty, or the same twice; a text that names a concept where
        it should not; an answer that takes more than `steps` tokens, or that `Reader` does not
        understand once it has been tokens; an id outside the vocabulary.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps: expected a whole number of at least 1, got {steps!r}")
    return Conversation(tokenizer, names, templates or Templates(), steps, begin)


def _widest(rows: Iterable[np.ndarray]) -> int:
    return max(map(len, rows))


def _dealt(what: str, seed: int, start: int, n: int, count: int) -> Int64[np.ndarray, " n"]:
    """Which of `count` wordings each row has: all of them in random order, then again."""
    n, start = whole("n", n, 0), whole("start", start, 0)
    if not n:
        return np.zeros(0, np.int64)
    rows = np.arange(start, start + n)
    first = start // count
    rounds = int(rows[-1]) // count - first + 1
    u = words("introspection/conversation", what, seed, rounds, count, first)
    order = np.argsort(u, axis=1, kind="stable")
    return order[rows // count - first, rows % count].astype(np.int64)
