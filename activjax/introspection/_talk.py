"""How one speaks with a model about its thoughts: questions as tokens, answers read back."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32


class Prompts(NamedTuple):
    """Prompts, padded on the right.

    Attributes:
      tokens: ids; padding may be any id.
      last: where each prompt's last token is.
    """

    tokens: Int32[np.ndarray, "n seq"]
    last: Int32[np.ndarray, " n"]

    @property
    def mask(self) -> Bool[np.ndarray, "n seq"]:
        """True for tokens, False for padding."""
        return np.arange(self.tokens.shape[1]) <= np.asarray(self.last)[:, None]


class Replay(NamedTuple):
    """What the model did before, to be kept while it learns to report.

    Attributes:
      tokens: documents, padded on the right.
      count: tokens of each document.
      learned: positions whose token is to be predicted (position 0 never is).
    """

    tokens: Int32[np.ndarray, "n seq"]
    count: Int32[np.ndarray, " n"]
    learned: Bool[np.ndarray, "n seq"]


class Readings(NamedTuple):
    """What answers say.

    Attributes:
      claims: an injected thought is claimed, and the claim is not negated.
      denies: a thought is denied.
      named: the first concept that the answer names; -1 for none.
      ordered: the claim stands before that name ("internality" in Fonseca Rivera 2025: a name that
        comes first may have been inferred from the model's own output).
    """

    claims: Bool[np.ndarray, " n"]
    denies: Bool[np.ndarray, " n"]
    named: Int32[np.ndarray, " n"]
    ordered: Bool[np.ndarray, " n"]

    @property
    def coherent(self) -> Bool[np.ndarray, " n"]:
        """Answers that claim or deny, and not both."""
        return self.claims != self.denies

    def identifies(self, concepts: Any) -> Bool[np.ndarray, " n"]:
        """A report that counts: claimed, not denied, the concept named, the claim before it."""
        right = (self.named == np.asarray(concepts)) & (self.named >= 0)
        return self.claims & ~self.denies & self.ordered & right


class Talk(abc.ABC):
    """One way to ask a model about its thoughts, and to read its answers.

    `laboratory` makes one of the concept language, `conversation` one of a tokenizer and text
    templates. Concepts are numbered by their place in `names`. Rows that depend on a seed are
    functions of `(seed, start + row)` alone: more rows never change the first ones.

    Attributes:
      names: the concepts, one text each, all different.
      steps: new tokens that an answer may take.
      pad: id that pads answers.
      stop: ids that end an answer.
    """

    names: tuple[str, ...]
    steps: int
    pad: int
    stop: tuple[int, ...]

    @abc.abstractmethod
    def elicit(self, concepts: Any) -> Prompts:
        """Prompts at whose last token the model is about to speak of each concept, `[n]`."""

    @abc.abstractmethod
    def ask(self, mentions: Any, *, seed: int, start: int = 0) -> Prompts:
        """The question whether there is an injected thought, `[n]`.

        Args:
          mentions: `[n]`, the concept that the prompt speaks of; -1 for a prompt that names none.
          seed: of the wording.
          start: number of the first row.
        """

    @abc.abstractmethod
    def ask_else(self, mentions: Any, *, seed: int, start: int = 0) -> Prompts:
        """Another question, about a prompt that speaks of a concept (never -1): `[n]`."""

    @abc.abstractmethod
    def answer_else(self, mentions: Any) -> Int32[np.ndarray, "n steps"] | None:
        """The right answers to `ask_else`, padded with `pad`; None where nobody knows them."""

    @abc.abstractmethod
    def report(self, concepts: Any) -> Int32[np.ndarray, "n steps"]:
        """The answers to learn: that a thought about the concept is detected; for -1 the denial.

        Padded with `pad`, each ending in a stop token.
        """

    @abc.abstractmethod
    def claim(self) -> Int32[np.ndarray, " k"]:
        """The beginning of a report up to the concept's name, for forced identification."""

    @abc.abstractmethod
    def replay(self, n: int, *, seed: int, start: int = 0) -> Replay | Prompts:
        """Documents of what the model did before; or prompts, whose answers it still has to give
        (`train` then lets the model that it starts from answer)."""

    @abc.abstractmethod
    def read(self, answers: Any) -> Readings:
        """What answers say, `[n, steps]` ids (what follows a stop token is ignored)."""

    @abc.abstractmethod
    def show(self, tokens: Any) -> str:
        """The text of one row of ids."""
