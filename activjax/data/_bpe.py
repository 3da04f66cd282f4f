"""Tokenizers of the `tokenizers` library: loaded from a file, or trained."""

from __future__ import annotations

import difflib
import errno
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int32

from activjax.data._needs import needed
from activjax.data._tokenizer import Tokenizer, utf8

#: What ends a document in published vocabularies, in the order of preference.
_ENDS = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end▁of▁sentence|>",
    "<\uff5cend▁of▁sentence\uff5c>",  # with full-width bars
    "</s>",
    "<eos>",
    "<|eos|>",
    "[EOS]",
    "<|end|>",
    "[SEP]",
)
_END = "<|end|>"


@dataclass(frozen=True, eq=False)
class _LibraryTokenizer(Tokenizer):
    inner: Any = field(repr=False)

    def encode(self, text: str | bytes) -> Int32[np.ndarray, " n"]:
        batch = self.inner.encode_batch_fast([_as_str(text)], add_special_tokens=False)
        return np.array(batch[0].ids, np.int32)

    def decode(self, ids: Int[np.ndarray, " n"] | Sequence[int]) -> str:
        row = self._checked(ids)
        return self.inner.decode(row[row != self.end].tolist(), skip_special_tokens=True)

    def offsets(self, text: str) -> Int32[np.ndarray, "n 2"]:
        spans = self.inner.encode(_as_str(text), add_special_tokens=False).offsets
        return np.array(spans, np.int32).reshape(-1, 2)


def load_tokenizer(path: str | Path, end: str | int | None = None) -> Tokenizer:
    """A tokenizer from the `tokenizer.json` that published models come with.

    Special tokens that a text spells out are encoded as ordinary text, and what the file says of
    truncation, padding and added specials is left aside: `encode` gives a text's own tokens.

    Args:
      path: a `tokenizer.json`, or the folder that holds one.
      end: the token that ends a document, or its id. None: the `eos_token` of the
        `tokenizer_config.json` beside it, else the first of the usual names that it has.

    Raises:
      ImportError: the library is missing (`pip install 'activjax[text]'`).
      FileNotFoundError: no such file.
      ValueError: not a tokenizer; no such token as `end`; or none found, which asks for `end`.
    """
    library = needed("tokenizers", "text", "load_tokenizer")
    path = Path(path).expanduser()
    if path.is_dir():
        path = path / "tokenizer.json"
    if not path.is_file():
        there = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, there, n=3)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise FileNotFoundError(errno.ENOENT, f"no such tokenizer file{hint}", str(path))
    try:
        inner = library.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"{path}: not a tokenizer.json that tokenizers reads: {error}") from None
    vocabulary = inner.get_vocab(with_added_tokens=True)
    return _wrap(inner, _end_id(path, vocabulary, end))


def train_bpe(texts: Iterable[str], vocab: int, *, path: str | Path | None = None) -> Tokenizer:
    """Train byte-level byte-pair encoding; the same texts give the same tokenizer.

    It loses nothing: no normaliser, no added space, all 256 bytes in its alphabet. Words are
    split as by GPT-2, and a pair must occur twice to be merged. Its one special token is
    `<|end|>`, id 0. Sennrich, Haddow and Birch 2016; on bytes Radford et al. 2019.

    Args:
      texts: such as a `Corpus`, of which only the training part should be given.
      vocab: how many ids to make, 257 (no merge at all) or more.
      path: where to save it: a `.json` file, or a folder for its `tokenizer.json`.

    Raises:
      ImportError: the library is missing (`pip install 'activjax[text]'`).
      ValueError: `vocab` is below 257, or more than the texts have repeated pairs for; or a
        text has a lone surrogate.
    """
    library = needed("tokenizers", "text", "train_bpe")
    if vocab < 257:
        raise ValueError(f"vocab: expected at least 257 (256 bytes and {_END}), got {vocab}")
    byte_level = library.pre_tokenizers.ByteLevel
    inner = library.Tokenizer(library.models.BPE())
    inner.pre_tokenizer = byte_level(add_prefix_space=False, use_regex=True)
    inner.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab,
        min_frequency=2,
        special_tokens=[_END],
        initial_alphabet=sorted(byte_level.alphabet()),
        show_progress=False,
    )
    # In full before training: an error inside the library's threads would lose its message.
    whole = [_as_str(text) for text in texts]
    inner.train_from_iterator(whole, trainer)
    if (made := inner.get_vocab_size()) < vocab:
        raise ValueError(
            f"vocab: {vocab} ids were asked for, but the {len(whole)} texts have repeated pairs "
            f"for {made} only; ask for {made} or less, or give more text"
        )
    if path is not None:
        path = Path(path).expanduser()
        path = path if path.suffix == ".json" else path / "tokenizer.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(inner.to_str(pretty=True), encoding="utf-8")
    return _wrap(inner, inner.token_to_id(_END))


def _wrap(inner: Any, end: int) -> Tokenizer:
    inner.no_truncation()
    inner.no_padding()
    inner.post_processor = None  # adds specials, and cuts spaces off the offsets
    inner.encode_special_tokens = True  # a text that spells out <|end|> does not end there
    about = json.loads(inner.to_str())
    lengths = _byte_lengths(about, inner.get_vocab(with_added_tokens=True))
    lengths[end] = 0
    ids = {k: v for k, v in about.items() if k not in ("version", "truncation", "padding")}
    text = json.dumps([ids, end], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return _LibraryTokenizer(len(lengths), end, lengths, digest[:16], inner)


def _as_str(text: str | bytes) -> str:
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


def _end_id(path: Path, vocabulary: dict[str, int], end: str | int | None) -> int:
    """The id of the document boundary."""
    if isinstance(end, int):
        if end not in vocabulary.values():
            raise ValueError(f"end: {path} has no id {end}; it has {len(vocabulary)} tokens")
        return end
    if end is not None:
        if end not in vocabulary:
            near = difflib.get_close_matches(end, vocabulary, n=3, cutoff=0.5)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise ValueError(f"end: {path} has no token {end!r}{hint}")
        return vocabulary[end]
    config = path.with_name("tokenizer_config.json")
    named = []
    if config.is_file():
        eos = json.loads(config.read_text(encoding="utf-8")).get("eos_token")
        named = [eos["content"] if isinstance(eos, dict) else eos]
    for name in [*named, *_ENDS]:
        if name in vocabulary:
            return vocabulary[name]
    raise ValueError(
        f"{path}: none of the usual names of the token that ends a document is in the vocabulary "
        f"({' '.join(_ENDS)}); name it with end="
    )


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
