"""The small files beside a tokenizer: what they call its special tokens, and its chat templates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from activjax.data._chat import Chats

_MOST_BYTES = 200_000_000  # of a file; the largest published ones have a fifth of it

#: Files that belong to a tokenizer, as globs in its folder; the last says when answers end.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "generation_config.json",
)

#: What files name a token for; chat templates know it by the same name.
_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_LISTS = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True)
class Beside:
    """What the files beside a tokenizer say.

    Attributes:
      config: of `tokenizer_config.json`.
      names: what each of the usual special tokens is for, such as "eos_token", and its text.
      special: the text of every token called special.
      chats: its chat templates.
    """

    config: Mapping[str, Any]
    names: Mapping[str, str]
    special: tuple[str, ...]
    chats: Chats


def tokenizer_files(folder: str | Path) -> list[Path]:
    """The files of a tokenizer that a folder has."""
    folder = Path(folder).expanduser()
    found = (path for pattern in TOKENIZER_FILES for path in sorted(folder.glob(pattern)))
    return [path for path in found if path.is_file()]


def copy_tokenizer(source: str | Path, folder: str | Path) -> None:
    """Copy a tokenizer's files, in the place of those of another."""
    source, folder = Path(source).expanduser(), Path(folder).expanduser()
    if source.resolve() == folder.resolve():
        return
    for path in tokenizer_files(folder):
        path.unlink()
    for path in tokenizer_files(source):
        to = folder / path.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)


def read(path: Path) -> str:
    """A text file of no more than 200 MB.

    Raises:
      ValueError: it is larger, or not UTF-8.
    """
    checked(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8") from None


def checked(path: Path) -> None:
    """Refuse a file that is too large to be a tokenizer's.

    Raises:
      ValueError: it is.
    """
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise ValueError(
            f"{path}: {size / 1e6:.0f} MB, expected a tokenizer's file of at most "
            f"{_MOST_BYTES / 1e6:.0f} MB"
        )


def read_dict(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; `{}` where there is no file.

    Raises:
      ValueError: as `read`, or it holds something else.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(read(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"{path}: not JSON: lists within lists without end") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def beside(folder: Path) -> Beside:
    """Read the files in a tokenizer's folder.

    Raises:
      ValueError: one is not what it should be.
    """
    config_file, map_file = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    names, special = {}, {}
    config = read_dict(config_file)
    for path, about in ((config_file, config), (map_file, read_dict(map_file))):
        for kind in _NAMES:
            if text := _content(path, f"{kind}_token", about.get(f"{kind}_token")):
                names.setdefault(f"{kind}_token", text)
        for key in _LISTS:
            more = about.get(key) or []
            more = [*more.values()] if isinstance(more, dict) else more
            if not isinstance(more, list):
                raise ValueError(f"{path}: {key}: expected a list, got {type(more).__name__}")
            special.update({_content(path, key, token): None for token in more})
    for token in added_tokens(config_file, config).values():
        if token.get("special") is True:
            special[token["content"]] = None
    every = dict.fromkeys(text for text in [*names.values(), *special] if text)
    return Beside(
        config, names, tuple(every), Chats(str(folder), _templates(folder, config), names)
    )


def added_tokens(path: Path, config: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Tokens that a `tokenizer_config.json` adds to a vocabulary, by id.

    Raises:
      ValueError: they are not a mapping from ids to descriptions.
    """
    added = config.get("added_tokens_decoder") or {}
    if not isinstance(added, dict):
        raise ValueError(f"{path}: added_tokens_decoder: expected an object, got {added!r:.60}")
    for i, token in added.items():
        if not i.isdecimal() or not isinstance(token, dict) or not token.get("content"):
            raise ValueError(
                f"{path}: added_tokens_decoder: expected ids with a token's content, got "
                f"{i!r}: {token!r:.60}"
            )
        _content(path, "added_tokens_decoder", token)
    return {int(i): token for i, token in added.items()}


def _content(path: Path, key: str, token: Any) -> str | None:
    """The text of a token: files have it as a string, as an object, or as null."""
    text = token.get("content") if isinstance(token, dict) else token
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{path}: {key}: expected a token's text, got {text!r:.60}")
    return text or None


def _templates(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The chat templates by name; files of their own come before what the configuration has."""
    paths = {
        path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))
    }
    if (own := folder / "chat_template.jinja").is_file():
        paths["default"] = own
    if paths:
        return {name: read(path) for name, path in paths.items()}
    found = config.get("chat_template")
    if isinstance(found, list) and all(isinstance(t, dict) for t in found):
        return {str(t.get("name", "default")): t.get("template") for t in found}
    return {} if found is None else {"default": found}
