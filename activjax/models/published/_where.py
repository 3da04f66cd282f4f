"""Where a published model is: a local folder, or a repository of the hub."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from activjax import data

#: What is downloaded of a repository.
WANTED = (
    "config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    *data.TOKENIZER_FILES,
)
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def folder_of(name: str | Path, revision: str | None) -> Path:
    """The folder of a model, downloaded if it is a name of the hub.

    Raises:
      FileNotFoundError: no such folder, and no name either.
      ValueError: a revision of a folder.
      ImportError: a name of the hub, without the library.
      RuntimeError: the hub cannot be reached, or has no such model or revision.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if revision is not None:
            raise ValueError(f"revision: {path} is a folder; only names of the hub have revisions")
        return path
    if path.exists():
        raise FileNotFoundError(f"{path}: a file; name the folder that holds config.json")
    text = str(name)
    if not _NAME.fullmatch(text) or text.startswith("."):
        parent = "" if path.parent.is_dir() else f" (nor the folder {path.parent})"
        raise FileNotFoundError(f"{path}: no such folder{parent}")
    try:
        library = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ImportError(
            f"{text!r} is no folder here; to download it by name: pip install 'activjax[hub]'"
        ) from error
    return _downloaded(library, text, revision)


def _downloaded(library: object, name: str, revision: str | None) -> Path:
    get = library.snapshot_download  # type: ignore[attr-defined]
    asked = {"revision": revision, "allow_patterns": list(WANTED)}
    try:
        return Path(get(name, **asked))
    except Exception as error:  # the library's own, its network library's, and the system's
        try:
            return Path(get(name, **asked, local_files_only=True))
        except Exception:
            first = str(error).strip().partition("\n")[0]
            raise RuntimeError(
                f"{name!r} is no folder here, and cannot be had from the hub "
                f"({type(error).__name__}: {first}). Check the name, the revision and the network; "
                "or download it elsewhere and give the folder"
            ) from error
