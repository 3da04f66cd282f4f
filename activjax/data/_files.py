"""Files, globs and folders, and the names their documents have."""

from __future__ import annotations

import difflib
import errno
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

Paths: TypeAlias = str | Path | Sequence[str | Path]


def found(paths: Paths) -> dict[str, Path]:
    """Document names and their files: those of a folder, a glob, or a list of these.

    A name is relative to what was asked for (the folder; the part of a glob before its first
    wildcard; a single file has its own name), so that it is the same on every machine and adding
    a file renames no other. Hidden files and `__pycache__` are passed over in folders.

    Raises:
      FileNotFoundError: nothing there, with the nearest names.
      ValueError: an empty list, or two different files with one name.
    """
    asked = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not asked:
        raise ValueError("paths: the list is empty; name files, folders or globs")
    files: dict[str, Path] = {}
    for one in asked:
        for name, path in sorted(_expanded(Path(one).expanduser()).items()):
            if name in files and files[name].resolve() != path.resolve():
                raise ValueError(
                    f"paths: {files[name]} and {path} would both be the document {name!r}; name "
                    "the folder that holds both, or a glob over it"
                )
            files.setdefault(name, path)
    return files


def _expanded(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {path.name: path}
    if path.is_dir():
        base, there = path, sorted(path.rglob("*"))
        what = "the folder has no files"
    elif glob.has_magic(str(path)):
        plain = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
        base = Path(*path.parts[:plain])
        there = [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]
        what = "no file matches"
    else:
        raise _missing(path)
    files = {p.relative_to(base).as_posix(): p for p in there if p.is_file()}
    seen = {n: p for n, p in files.items() if not any(map(_hidden, n.split("/")))}
    if not seen:
        raise FileNotFoundError(errno.ENOENT, what, str(path))
    return seen


def _hidden(part: str) -> bool:
    return part.startswith(".") or part == "__pycache__"


def _missing(path: Path) -> FileNotFoundError:
    parent = path.parent
    if not parent.is_dir():
        what = f"no such file or folder (nor the folder {parent})"
    else:
        near = difflib.get_close_matches(path.name, [p.name for p in parent.iterdir()], n=3)
        what = "no such file or folder" + (f"; nearest: {', '.join(near)}" if near else "")
    return FileNotFoundError(errno.ENOENT, what, str(path))
