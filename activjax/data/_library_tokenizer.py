"""Tokenizers of the `tokenizers` library, made to give a text's own tokens."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int, Int32

from activjax.data._chat import Chats
from activjax.data._needs import needed
from activjax.data._tokenizer import Tokenizer, utf8

_MOST_IDS = 1 << 24  # a file's ids size a table; published vocabularies have a quarter million


@contextlib.contextmanager
def reported(what: str) -> Iterator[None]:
    """The library's own errors, which are plain exceptions or panics, as ValueErrors."""
    try:
        yield
    except ValueError:  # ours
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{what}: {error}") from None


@dataclass(frozen=True, eq=False)
class _LibraryTokenizer(Tokenizer):
    inner: Any = field(repr=False, kw_only=True)

    def _ids(self, text: str | bytes, parse_special: bool) -> Int32[np.ndarray, " n"]:
        inner = self._parsing if parse_special else self.inner
        batch = inner.encode_batch_fast([as_str(text)], add_special_tokens=False)
        return np.array(batch[0].ids, np.int32)

    def decode(self, ids: Int[np.ndarray, " n"] | Sequence[int]) -> str:
        row = self._checked(ids)
        return self.inner.decode(row[row != self.end].tolist(), skip_special_tokens=True)

    def _spans(self, text: str, parse_special: bool) -> Int32[np.ndarray, "n 2"]:
        inner = self._parsing if parse_special else self.inner
        spans = inner.encode(as_str(text), add_special_tokens=False).offsets
        return np.array(spans, np.int32).reshape(-1, 2)

    @functools.cached_property
    def _parsing(self) -> Any:
        # another object, for what is set on one holds for every thread
        library = needed("tokenizers", "text", "parse_special")
        with reported("parse_special"):
            inner = library.Tokenizer.from_str(self.inner.to_str())
        added = {token.content for token in inner.get_added_tokens_decoder().values()}
        named = [text for text in self.special if text not in added]
        inner.add_special_tokens([library.AddedToken(t, normalized=False) for t in named])
        return inner

    def __getstate__(self) -> dict[str, Any]:
        known = {k: v for k, v in self.__dict__.items() if k != "_parsing"}
        return {**known, "inner": self.inner.to_str()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        inner = needed("tokenizers", "text", "this tokenizer").Tokenizer.from_str(state["inner"])
        inner.encode_special_tokens = True  # which is not part of what is written
        super().__setstate__({**state, "inner": inner})


def wrap(
    inner: Any, end: int, *, named: Iterable[str] = (), chats: Chats | None = None
) -> Tokenizer:
    """A tokenizer of a library object, which is changed.

    Args:
      inner: the object.
      end: the id that ends a document.
      named: tokens that files beside it call special.
      chats: its chat templates.

    Raises:
      ValueError: ids too large to be a vocabulary's, or a post-processor that does not merely put
        tokens around a text.
    """
    vocabulary = inner.get_vocab(with_added_tokens=True)
    if not vocabulary or max(vocabulary.values()) >= _MOST_IDS:
        what = f"an id of {max(vocabulary.values())}" if vocabulary else "no tokens"
        raise ValueError(f"it has {what}, expected ids from 0 to less than {_MOST_IDS}")
    inner.no_truncation()
    inner.no_padding()
    with reported("it cannot encode a text"):
        begin, finish = _around(inner, vocabulary)
    inner.post_processor = None  # adds specials, and cuts spaces off the offsets
    inner.encode_special_tokens = True  # a text that spells out <|end|> does not end there
    about = json.loads(inner.to_str())
    lengths = _byte_lengths(about, vocabulary)
    lengths[end] = 0
    ids = {k: v for k, v in about.items() if k not in ("version", "truncation", "padding")}
    text = json.dumps([ids, end], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    own = [t["content"] for t in about.get("added_tokens", ()) if t["special"]]
    special = {name: vocabulary[name] for name in [*own, *named] if name in vocabulary}
    return _LibraryTokenizer(
        len(lengths), end, lengths, digest[:16], special, begin, finish, chats or Chats(),
        inner=inner,
    )  # fmt: skip


def as_str(text: str | bytes) -> str:
    """A text as a str that UTF-8 can write.

    Raises:
      ValueError: it is none.
    """
    if isinstance(text, str):
        utf8(text)
        return text
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"text: byte {error.start} ({text[error.start]:#04x}) is not UTF-8, which this "
            "tokenizer needs; byte_tokenizer takes any bytes"
        ) from None


def _around(inner: Any, vocabulary: dict[str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the post-processor puts before and after a text."""
    if inner.post_processor is None:
        return (), ()
    for probe in ("a", "the", *itertools.islice(vocabulary, 100)):
        plain = inner.encode(probe, add_special_tokens=False)
        if ids := list(plain.ids):
            break
    else:
        raise ValueError("no text gives a token, not even those of its own vocabulary")
    whole = inner.post_process(plain, None, True)
    own = [i for i, added in enumerate(whole.special_tokens_mask) if not added]
    first, last = (own[0], own[-1] + 1) if own else (0, 0)
    if whole.ids[first:last] != ids:
        raise ValueError(
            f"its post-processor makes {list(whole.ids)} of a text's {ids}; expected tokens before "
            "and after a text only"
        )
    around = tuple(whole.ids[:first]), tuple(whole.ids[last:])
    if strange := {*around[0], *around[1]} - {*vocabulary.values()}:
        raise ValueError(f"its post-processor adds the id {min(strange)}, which is no token's")
    return around


def _byte_lengths(about: dict[str, Any], vocabulary: dict[str, int]) -> Int32[np.ndarray, " v"]:
    """How many bytes each id stands for, from how its kind of vocabulary is written."""
    model = about["model"]
    parts = [about.get("pre_tokenizer"), about.get("decoder")]
    byte_level = '"ByteLevel"' in json.dumps(parts)  # then every character is a byte
    added = {token["id"]: token for token in about.get("added_tokens", ())}
    prefix, suffix = model.get("continuing_subword_prefix"), model.get("end_of_word_suffix")
    lengths = np.zeros(max(vocabulary.values()) + 1, np.int32)  # ids left out stand for nothing
    for token, i in vocabulary.items():
        if i in added:
            lengths[i] = 0 if added[i]["special"] else len(token.encode())
        elif token == model.get("unk_token"):
            lengths[i] = 0
        elif model.get("byte_fallback") and re.fullmatch("<0x[0-9A-F]{2}>", token):
            lengths[i] = 1
        else:
            token = token.removeprefix(prefix or "").removesuffix(suffix or "")
            lengths[i] = len(token) if byte_level else len(token.replace("▁", " ").encode())
    return lengths
