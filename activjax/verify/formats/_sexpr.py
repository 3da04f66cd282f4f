"""S-expressions that know where they stand, so that errors can name line and column."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class FormatError(ValueError):
    """A file that is not what its format asks for; the message names the place."""


class Word(NamedTuple):
    """A word, or the text of a comment, and where in the file it begins."""

    text: str
    at: int


class Group:
    """What stands in a pair of brackets.

    Attributes:
      at: where it begins.
      text: its source where it holds only words, else empty. A proof repeats a few such texts
        very often: readers keep what they mean.
    """

    __slots__ = ("_items", "at", "text")

    def __init__(self, at: int, items: tuple[Node, ...] | None, text: str = "") -> None:
        self.at, self.text = at, text
        self._items = items

    @property
    def items(self) -> tuple[Node, ...]:
        """Words and groups."""
        if self._items is None:
            found = _WORD.finditer(self.text, 1, len(self.text) - 1)
            self._items = tuple(Word(word.group(), self.at + word.start()) for word in found)
        return self._items

    @property
    def head(self) -> str:
        """The first word; empty where there is none."""
        first = self.items[0] if self.items else None
        return first.text if isinstance(first, Word) else ""


Node = Word | Group

# indices are a part of the word before them, X[0, 1]; a shape stands alone, [1, 5]
_INSIDE = r'"[^"\n]*"|[^\s();"\[\]]+(?:\[[^\[\]();"]*\])?|\[[^\[\]();"]*\]'
_WORD = re.compile(_INSIDE)
_TOKEN = re.compile(
    rf"""\s*(?:
      (?P<flat>\([^()";]*\))
    | (?P<open>\()
    | (?P<close>\))
    | (?P<comment>;[^\n]*)
    | (?P<word>{_INSIDE})
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_INDICES = re.compile(r"\[[^\[\]]*\]")
_DEEPEST = 200


class Source:
    """A text in groups.

    Attributes:
      label: the file's name.
      groups: in order.
      comments: with their semicolons, in order.
    """

    def __init__(self, text: str, label: str) -> None:
        self.text, self.label = text, label
        self.groups: list[Group] = []
        self.comments: list[Word] = []
        self._breaks: list[int] | None = None
        self._read()

    def fail(self, at: Node | int, problem: str) -> FormatError:
        """The error for a node or a place."""
        if self._breaks is None:
            self._breaks = [found.start() for found in re.finditer("\n", self.text)]
        place = at if isinstance(at, int) else at.at
        line = bisect.bisect_left(self._breaks, place)
        column = place - (self._breaks[line - 1] if line else -1)
        return FormatError(f"{self.label}:{line + 1}:{column}: {problem}")

    def comments_in(self, start: int, stop: int) -> Iterator[Word]:
        """Comments that begin between two places."""
        place = bisect.bisect_left(self.comments, start, key=lambda word: word.at)
        while place < len(self.comments) and self.comments[place].at < stop:
            yield self.comments[place]
            place += 1

    def _read(self) -> None:
        text, done, known = self.text, self.groups, set[str]()
        stack: list[tuple[list[Node], int]] = []
        end = 0
        while True:
            found = _TOKEN.match(text, end)
            if found is None:
                place = re.compile(r"\s*").match(text, end)
                end = place.end() if place else end
                raise self.fail(end, f"{text[end]!r} does not belong here; is a quote or a square "
                                "bracket not closed?")  # fmt: skip
            kind, end = found.lastgroup, found.end()
            start = found.start(found.lastindex or 0)
            if kind == "flat":
                source = text[start:end]
                if source not in known:
                    if not {"[", "]"}.isdisjoint(_INDICES.sub("", source)):
                        raise self.fail(start, f"{source!r}: square brackets that do not match")
                    known.add(source)
                group = Group(start, None, source)
                stack[-1][0].append(group) if stack else done.append(group)
            elif kind == "open":
                if len(stack) >= _DEEPEST:
                    raise self.fail(start, f"brackets are nested more than {_DEEPEST} deep")
                stack.append(([], start))
            elif kind == "close":
                if not stack:
                    raise self.fail(start, "this bracket closes nothing; remove it")
                items, opened = stack.pop()
                group = Group(opened, tuple(items))
                stack[-1][0].append(group) if stack else done.append(group)
            elif kind == "comment":
                self.comments.append(Word(found.group("comment").rstrip(), start))
            elif kind == "word":
                if not stack:
                    raise self.fail(start, f"{found.group('word')!r} stands outside of brackets; "
                                    "expected ( or a comment that begins with ;")  # fmt: skip
                stack[-1][0].append(Word(found.group("word"), start))
            else:
                break
        if stack:
            raise self.fail(stack[-1][1], "this bracket is never closed: is the file cut off?")


def read_source(path: Path) -> Source:
    """A file's groups.

    Raises:
      FormatError: not a text in UTF-8, brackets that do not match, words outside of brackets.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        raise FormatError(f"{path.name}: is compressed by gzip; unpack it first")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{path.name}: byte {error.start} is not text in UTF-8; is it the right file?"
        ) from None
    return Source(text, path.name)
