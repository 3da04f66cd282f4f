"""What a tokenizer is, and the one that needs nothing: a token is a byte."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int, Int32

from activjax.data._chat import Chats


def utf8(text: str) -> bytes:
    """A text's UTF-8.

    Raises:
      ValueError: the text has a lone surrogate (half of a UTF-16 pair), which UTF-8 cannot write.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text: character {error.start} is a lone surrogate (U+{ord(text[error.start]):04X}), "
            "which UTF-8 cannot write; replace it with "
            "`text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')`"
        ) from None


@dataclass(frozen=True, eq=False)
class Tokenizer(abc.ABC):
    """Text to token ids and back. Two are equal if they give the same ids.

    Attributes:
      vocab: how many ids there are, the boundary id included: ids are 0 to vocab - 1. A model's
        table may have more rows.
      end: the id that ends a document. `encode` never gives it, whatever the text says, unless
        asked to by `add_special` or `parse_special`.
      byte_lengths: how many bytes of UTF-8 each id stands for, 0 for the special ones. Over
        `encode(text)` they sum to `len(text.encode())` wherever the tokenizer loses nothing.
      fingerprint: hash of what determines the ids.
      special: the ids of special tokens, by their text. The tokenizer of bytes has none: its `end`
        is no text.
      begin: the ids that the tokenizer's files put before a text.
      finish: the ids that they put after it.
      chats: the chat templates of its files, see `chat`.
    """

    vocab: int
    end: int
    byte_lengths: Int32[np.ndarray, " vocab"] = field(repr=False)
    fingerprint: str
    special: Mapping[str, int] = field(default_factory=dict, repr=False)
    begin: tuple[int, ...] = ()
    finish: tuple[int, ...] = ()
    chats: Chats = field(default_factory=Chats, repr=False)

    def __post_init__(self) -> None:
        self.byte_lengths.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self.byte_lengths.flags.writeable = False  # which pickling forgets

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def encode(
        self, text: str | bytes, *, add_special: bool = False, parse_special: bool = False
    ) -> Int32[np.ndarray, " n"]:
        """The ids of a text, int32 `[n]`.

        Args:
          text: the text.
          add_special: put `begin` before and `finish` after.
          parse_special: read special tokens that the text spells out as these tokens, not as text;
            for text that you trust, such as what `chat` makes.

        Raises:
          ValueError: a lone surrogate in a str; bytes that are not UTF-8, where that matters.
        """
        ids = self._ids(text, parse_special)
        if not add_special:
            return ids
        return np.concatenate([self.begin, ids, self.finish]).astype(np.int32)

    @abc.abstractmethod
    def decode(self, ids: Int[np.ndarray, " n"] | Sequence[int]) -> str:
        """The text of some ids. Special ids are dropped, invalid UTF-8 is replaced by U+FFFD.

        Raises:
          ValueError: not a row of integers from 0 to vocab - 1.
        """

    def offsets(
        self, text: str, *, add_special: bool = False, parse_special: bool = False
    ) -> Int32[np.ndarray, "n 2"]:
        """The characters each id of `encode(text)` covers: first, and one past the last.

        Ids that share a character (its bytes) have that character's span each. The ids that
        `add_special` puts around the text cover nothing: their spans are empty.

        Raises:
          ValueError: a lone surrogate.
        """
        spans = self._spans(text, parse_special)
        if not add_special:
            return spans
        ends = ((0, len(self.begin)), (len(text), len(self.finish)))
        first, last = (np.full((count, 2), at, np.int32) for at, count in ends)
        return np.concatenate([first, spans, last])

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        **values: Any,
    ) -> str:
        """A conversation as text, by the chat template of the tokenizer's own files.

        The template runs in a sandbox: it reaches nothing but what is given here. It may still run
        long; and some put today's date into the text, unless given one (`date_string=`).

        Args:
          messages: such as `[{"role": "user", "content": "Hello"}]`; plain data only.
          add_generation_prompt: end with the beginning of the model's answer.
          tools: JSON schemas of tools, for templates that know tools.
          template: which template, where the files have several; None: "tool_use" if there are
            tools and such a template, else "default".
          **values: anything else that the template reads, such as `enable_thinking=False`.

        Raises:
          ImportError: jinja2 is missing (`pip install 'activjax[text]'`).
          ValueError: the files have no template, or none of that name; messages, tools or values
            that are not plain data; or the template failed: names its line.
        """
        values = {"add_generation_prompt": add_generation_prompt, **values}
        return self.chats.render(messages, tools, template, values)

    def chat_tokens(
        self, messages: Sequence[Mapping[str, Any]], **asked: Any
    ) -> Int32[np.ndarray, " n"]:
        """The ids of `chat(messages, **asked)`, its special tokens read as such.

        `begin` is not put before it: the template writes what a conversation begins with. Special
        tokens that a message spells out are read as such, too.
        """
        return self.encode(self.chat(messages, **asked), parse_special=True)

    @abc.abstractmethod
    def _ids(self, text: str | bytes, parse_special: bool) -> Int32[np.ndarray, " n"]: ...

    @abc.abstractmethod
    def _spans(self, text: str, parse_special: bool) -> Int32[np.ndarray, "n 2"]: ...

    def _checked(self, ids: Int[np.ndarray, " n"] | Sequence[int]) -> Int[np.ndarray, " n"]:
        row = np.asarray(ids)
        if row.size == 0:
            row = row.astype(np.int32)
        if row.ndim != 1 or not np.issubdtype(row.dtype, np.integer):
            raise ValueError(f"ids: expected integers [n], got {row.dtype} {list(row.shape)}")
        wrong = np.flatnonzero((row < 0) | (row >= self.vocab))
        if len(wrong):
            raise ValueError(
                f"ids: expected 0 to {self.vocab - 1}, got {row[wrong[0]]} at position {wrong[0]}"
            )
        return row


@dataclass(frozen=True, eq=False)
class _ByteTokenizer(Tokenizer):
    def _ids(self, text: str | bytes, parse_special: bool) -> Int32[np.ndarray, " n"]:
        raw = utf8(text) if isinstance(text, str) else text
        return np.frombuffer(raw, np.uint8).astype(np.int32)

    def decode(self, ids: Int[np.ndarray, " n"] | Sequence[int]) -> str:
        row = self._checked(ids)
        return row[row != self.end].astype(np.uint8).tobytes().decode(errors="replace")

    def _spans(self, text: str, parse_special: bool) -> Int32[np.ndarray, "n 2"]:
        first = (self.encode(text) & 0xC0) != 0x80  # every other byte continues a character
        character = np.cumsum(first, dtype=np.int32) - 1
        return np.stack([character, character + 1], axis=1).astype(np.int32)


def byte_tokenizer() -> Tokenizer:
    """The tokenizer whose ids are the bytes of UTF-8: 0 to 255, and 256 for `end`.

    It needs no library and no training, and takes any bytes, also such that are not UTF-8.
    """
    lengths = np.ones(257, np.int32)
    lengths[256] = 0
    return _ByteTokenizer(257, 256, lengths, "bytes-257")
