"""The tokenizer of a folder; without its library it says so once it is used."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NoReturn

from activjax import data


class MissingTokenizer:
    """Stands for a tokenizer that is there but cannot be read: the model is of use without it."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ImportError(
            f"{self._folder}: its tokenizer needs the library tokenizers: pip install "
            "'activjax[text]'"
        )

    def __repr__(self) -> str:
        return f"MissingTokenizer({str(self._folder)!r})"


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer, a `MissingTokenizer` without the library, or None where there is none."""
    files = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
    if not any((folder / name).is_file() for name in files):
        return None
    if importlib.util.find_spec("tokenizers") is None:
        return MissingTokenizer(folder)
    return data.load_tokenizer(folder)
