"""`load_tokenizer`: a tokenizer from the files that a published model comes with."""

from __future__ import annotations

import difflib
import errno
from pathlib import Path
from typing import Any

from activjax.data import _tokenizer_files as _files
from activjax.data._library_tokenizer import reported, wrap
from activjax.data._needs import needed
from activjax.data._tokenizer import Tokenizer
from activjax.data._vocabulary_files import add_missing, build

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


def load_tokenizer(path: str | Path, end: str | int | None = None) -> Tokenizer:
    """A tokenizer from the `tokenizer.json` that published models come with.

    Special tokens that a text spells out are encoded as ordinary text, and what the file says of
    truncation, padding and added specials is left aside, unless `encode` is asked for the latter.
    The files beside it are read for tokens that it lacks, special tokens and chat templates:
    `tokenizer_config.json`, `added_tokens.json`, `special_tokens_map.json`, `chat_template.jinja`.

    Args:
      path: a `tokenizer.json`, or the folder that holds one. A folder without one may have the
        `vocab.json` and `merges.txt` of GPT-2, or the `vocab.txt` of BERT.
      end: the token that ends a document, or its id. None: the `eos_token` of the files beside it,
        else the first `eos_token_id` of the model's `generation_config.json` or `config.json` that
        is in the vocabulary, else the first of the usual names that it has.

    Raises:
      ImportError: the library is missing (`pip install 'activjax[text]'`).
      FileNotFoundError: no such file.
      ValueError: not a tokenizer, damaged, or of more than 200 MB; one of another library; no such
        token as `end`; or none found, which asks for `end`.
    """
    library = needed("tokenizers", "text", "load_tokenizer")
    path = Path(path).expanduser()
    folder, inner, files = path.parent, None, None
    if path.is_dir():
        folder, path = path, path / "tokenizer.json"
        if not path.is_file():
            files = _files.beside(folder)
            inner = build(library, folder, files)
            path = folder if inner is not None else path
    if inner is None and not path.is_file():
        there = [p.name for p in folder.glob("*")] if folder.is_dir() else []
        near = difflib.get_close_matches(path.name, there, n=3)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise FileNotFoundError(errno.ENOENT, f"no such tokenizer file{hint}", str(path))
    files = _files.beside(folder) if files is None else files
    if inner is None:
        inner = _read(library, path)
        add_missing(library, inner, folder, files)
    vocabulary = inner.get_vocab(with_added_tokens=True)
    found = _end_id(path, folder, files, vocabulary, end)
    try:
        return wrap(inner, found, named=files.special, chats=files.chats)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(library: Any, path: Path) -> Any:
    _files.checked(path)
    with reported(f"{path}: not a tokenizer.json that tokenizers reads"):
        return library.Tokenizer.from_file(str(path))


def _end_id(
    path: Path,
    folder: Path,
    files: _files.Beside,
    vocabulary: dict[str, int],
    end: str | int | None,
) -> int:
    """The id of the document boundary."""
    if isinstance(end, int):
        if end not in vocabulary.values():
            raise ValueError(f"end: {path} has no id {end}; it has {len(vocabulary)} tokens")
        return end
    named = files.names.get("eos_token") if end is None else end
    if named is not None:
        if named in vocabulary:
            return vocabulary[named]
        near = difflib.get_close_matches(named, vocabulary, n=3, cutoff=0.5)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        if end is not None:
            raise ValueError(f"end: {path} has no token {end!r}{hint}")
        raise ValueError(
            f"{path}: the eos_token {named!r} of the files beside it is not in the vocabulary"
            f"{hint}; name the token that ends a document with end="
        )
    ids = {*vocabulary.values()}
    for name in ("generation_config.json", "config.json"):
        about = _files.read_dict(folder / name).get("eos_token_id")
        for i in about if isinstance(about, list) else [about]:
            if type(i) is int and i in ids:
                return i
    for name in _ENDS:
        if name in vocabulary:
            return vocabulary[name]
    raise ValueError(
        f"{path}: none of the usual names of the token that ends a document is in the vocabulary "
        f"({' '.join(_ENDS)}); name it with end="
    )
