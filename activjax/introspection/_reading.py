"""What an answer in plain text says about an injected thought."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from activjax.introspection._reading_names import Names, checked_names, plain
from activjax.introspection._reading_phrases import (
    AFTER,
    ASKING,
    BREAK,
    CLAIMS,
    CONDITION,
    DENIALS,
    IDIOMS,
    INTENT,
    NEGATION,
)
from activjax.introspection._talk import Readings


class _Said(NamedTuple):
    claimed: int  # where the first claim ends, -1 for none
    denied: bool
    named: int
    at: int  # where that name begins


class Reader:
    """Reads answers: is a thought claimed or denied, which concept is named, in which order.

    A report must be affirmative, not negated, and its detection must come before the concept
    (Fonseca Rivera 2025, arXiv 2511.21399, "internality"); that an answer names the concept is not
    enough. English, in words, on the text alone: case, typographic quotes and marks of emphasis do
    not matter.

    - A phrase of `claims` claims, unless its clause negates it ("I do not detect", "I detect no",
      "without detecting"): then it denies. A negation reaches to the end of its clause, not
      beyond: "I am not sure, but I detect" claims. In a question, a condition ("if", "whether") or
      an intention ("asked to detect") it says nothing. Verbs like "notice" need a thought as their
      object, "detect" does not; an answer that begins with "yes" claims, with "no" denies.
    - A phrase of `denials` denies. An answer that does both is incoherent.
    - `named` is the first concept that stands there as a whole word or its plural (s, es); where
      names overlap, the longest: "ice cream", not "ice". "Not about dust" does not name dust.
      Scripts without spaces have no whole words: there, parts of longer words count.
    - `ordered`: the first claim ends before that name begins.

    Attributes:
      names: the concepts.

    Raises:
      ValueError: no names; a name that is empty or no text, or two that differ in case only; a
        phrase that is no regular expression.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        claims: Sequence[str] = CLAIMS,
        denials: Sequence[str] = DENIALS,
    ) -> None:
        self.names = checked_names(names)
        self._names = Names(self.names)
        self._claims = _compiled("claims", claims)
        self._denials = _compiled("denials", denials)

    def read(self, texts: Iterable[str]) -> Readings:
        """What each text says.

        Raises:
          ValueError: one text instead of several, or something that is no text.
        """
        if isinstance(texts, (str, bytes)):
            raise ValueError("texts: expected several, got one; put it into a list")
        texts = list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"texts: expected text, got {text!r}")
        known = {text: self._said(text) for text in set(texts)}
        said = [known[text] for text in texts]
        named = np.array([one.named for one in said], np.int32)
        claimed = np.array([one.claimed for one in said], np.int64)
        at = np.array([one.at for one in said], np.int64)
        return Readings(
            claims=claimed >= 0,
            denies=np.array([one.denied for one in said], bool),
            named=named,
            ordered=(claimed >= 0) & (named >= 0) & (claimed <= at),
        )

    def _said(self, text: str) -> _Said:
        text = plain(text)
        named, at = self._names.first(text)
        # of equal length, so that places are those of the text
        sense = IDIOMS.sub(lambda found: "x" * len(found[0]), text)
        denials = [d.span() for p in self._denials for d in p.finditer(sense)]
        denials = [span for span in denials if not _asks(sense, *span)]
        meant = [found.span() for found in INTENT.finditer(sense)]
        claimed, denied = -1, bool(denials)
        for pattern in self._claims:
            for start, end in (found.span() for found in pattern.finditer(sense)):
                if _asks(sense, start, end):
                    continue
                clause = sense[_begin(sense, start) : end]
                if NEGATION.search(clause) or AFTER.match(sense, end):
                    denied = True
                elif not any(_overlaps((start, end), spans) for spans in (denials, meant)):
                    claimed = end if claimed < 0 else min(claimed, end)
        return _Said(claimed, denied, named, at)


def _overlaps(span: tuple[int, int], others: Iterable[tuple[int, int]]) -> bool:
    return any(span[0] < end and start < span[1] for start, end in others)


def _begin(text: str, start: int) -> int:
    """Where the clause begins that holds a place."""
    ends = (found.end() for found in BREAK.finditer(text))
    return max((end for end in ends if end <= start), default=0)


def _asks(text: str, start: int, end: int) -> bool:
    """Whether a phrase stands in a question or a condition."""
    begin = _begin(text, start)
    stop = re.compile(r"[.!?\n]").search(text, end)
    question = stop is not None and stop[0] == "?" and ASKING.match(text, begin) is not None
    return question or CONDITION.search(text[begin:end]) is not None


def _compiled(what: str, phrases: Sequence[str]) -> list[re.Pattern[str]]:
    if isinstance(phrases, str):
        raise ValueError(f"{what}: expected a list of regular expressions, got one text")
    out = []
    for phrase in phrases:
        try:
            out.append(re.compile(phrase, re.IGNORECASE))
        except (re.error, TypeError) as error:
            raise ValueError(f"{what}: {phrase!r} is no regular expression: {error}") from None
    return out
