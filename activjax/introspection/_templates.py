"""The texts of which a conversation about thoughts is made."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from activjax.introspection import _conversation_texts as texts
from activjax.introspection._reading_names import Names, checked_names, plain
from activjax.introspection._reading_phrases import CLAIMS, DENIALS
from activjax.transforms._names import nearest

_SLOT = {"elicit": "{c}", "report": "{c}", "mention": "{c}", "frame": "{text}"}
_LISTS = ("paraphrases", "plain", "mention", "other", "instructions", "claims", "denials", "cut")
_MAY_BE_EMPTY = ("denials", "cut")


@dataclass(frozen=True)
class Templates:
    """The texts of a conversation; `{c}` stands for a concept's name.

    The defaults follow Fonseca Rivera 2025 (arXiv 2511.21399) in form: how concepts are elicited,
    what a report and a denial say, five paraphrases of the question. Controls need many different
    prompts (a question alone, answered greedily, is one trial however often it is asked): sentences
    before it that name no concept, and sentences that do.

    Attributes:
      elicit: the prompt whose last token's activation is the concept's.
      frame: how a text becomes a prompt, around `{text}`.
      before_answer: what stands between prompt and answer.
      paraphrases: the question whether there is an injected thought.
      plain: sentences before the question that name no concept.
      mention: sentences before a question that speak of `{c}`.
      other: questions about such a sentence, which have nothing to do with thoughts.
      instructions: what else the model is asked, to be kept while it learns.
      report: what says that a thought about `{c}` is detected.
      claim: the report's beginning, up to the name.
      denial: what says that there is none.
      claims, denials: regular expressions that recognise both in answers (`Reader`).
      cut: an answer ends before one of these.

    Raises:
      ValueError: a text without its place for a name, or with one where none belongs; an empty
        text or list, or one text twice; a claim that does not begin the report.
    """

    elicit: str = "Human: Tell me about {c}. Assistant:"
    frame: str = "Human: {text} Assistant:"
    before_answer: str = " "
    paraphrases: tuple[str, ...] = texts.PARAPHRASES
    plain: tuple[str, ...] = texts.PLAIN
    mention: tuple[str, ...] = texts.MENTION
    other: tuple[str, ...] = texts.OTHER
    instructions: tuple[str, ...] = texts.INSTRUCTIONS
    report: str = "I detect an injected thought about {c}."
    claim: str = "I detect an injected thought about"
    denial: str = "I do not detect any injected thoughts."
    claims: tuple[str, ...] = CLAIMS
    denials: tuple[str, ...] = DENIALS
    cut: tuple[str, ...] = ("Human:", "User:")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            given = getattr(self, field.name)
            if field.name in _LISTS:
                given = _several(field.name, given)
                object.__setattr__(self, field.name, given)
            elif not isinstance(given, str) or not (given.strip() or field.name == "before_answer"):
                raise ValueError(f"templates.{field.name}: expected a text, got {given!r}")
            if field.name not in ("claims", "denials", "cut"):
                for text in [given] if isinstance(given, str) else given:
                    _check_slot(field.name, text)
        head = self.report.partition("{c}")[0]
        if not head.startswith(self.claim):
            raise ValueError(
                f"templates.claim: {self.claim!r} is not the beginning of the report {head!r}"
            )

    def check(self, names: Iterable[str]) -> None:
        """Refuse texts that name a concept where a prompt or an answer should name none.

        Raises:
          ValueError: names the text and the concept.
        """
        names = checked_names(names)
        for where, text, i in self._naming(names):
            hint = " (`Templates.without` leaves such texts out)" if where in _LISTS else ""
            raise ValueError(
                f"templates.{where}: {text!r} names the concept {names[i]!r}; change one of them"
                f"{hint}"
            )

    def without(self, names: Iterable[str]) -> Templates:
        """The same, less the sentences that name one of these concepts.

        Raises:
          ValueError: none are left.
        """
        names = checked_names(names)
        out = {(where, text) for where, text, _ in self._naming(names)}
        lists = ("paraphrases", "plain", "mention", "other")
        left = {k: tuple(t for t in getattr(self, k) if (k, t) not in out) for k in lists}
        return dataclasses.replace(self, **left)

    def _naming(self, names: Sequence[str]) -> list[tuple[str, str, int]]:
        finder, found = Names(names), []
        for where in ("frame", "paraphrases", "plain", "mention", "other", "report", "denial"):
            given = getattr(self, where)
            for text in [given] if isinstance(given, str) else given:
                i = finder.anywhere(plain(text.replace(_SLOT.get(where, "{c}"), ",")))
                if i >= 0:
                    found.append((where, text, i))
        return found


def parse_templates(data: Mapping[str, Any]) -> Templates:
    """Templates from plain data, as a YAML file holds them: what is not given is the default.

    Args:
      data: such as `{"report": "There is {c}.", "claim": "There is", "cut": ["Q:"]}`.

    Raises:
      ValueError: an unknown key, with the nearest known one; or as `Templates`.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"templates: expected a mapping of texts, got {data!r}")
    known = [field.name for field in dataclasses.fields(Templates)]
    for key in data:
        if key not in known:
            near = nearest(str(key), known)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"templates: unknown key {key!r}; {hint}keys: {', '.join(known)}")
    return Templates(**data)


def _several(name: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError(f"templates.{name}: expected a list of texts, got {given!r}")
    if not given and name not in _MAY_BE_EMPTY:
        raise ValueError(f"templates.{name}: expected at least one text, got none")
    seen = set()
    for text in given:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"templates.{name}: expected texts, got {text!r}")
        if text in seen:
            raise ValueError(f"templates.{name}: {text!r} is there twice")
        seen.add(text)
    return tuple(given)


def _check_slot(name: str, text: str) -> None:
    """Whether a text has the place for a name or a text that it should have, and no other."""
    wanted, slots = _SLOT.get(name), re.findall(r"\{\w*\}", text)
    if wanted is not None and wanted not in slots:
        raise ValueError(f"templates.{name}: {text!r} has no {wanted}")
    for slot in slots:
        if slot != wanted:
            expected = f"only {wanted}" if wanted else "none"
            raise ValueError(f"templates.{name}: {text!r} has {slot}, expected {expected}")
    if name in ("report", "frame") and len(slots) > 1:
        raise ValueError(
            f"templates.{name}: {text!r} has {wanted} {len(slots)} times, expected one"
        )
