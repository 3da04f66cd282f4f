"""The folder of a checkpoint: how it takes its name and loses it, so that one is always whole.

Only the one writer moves folders; whoever reads at the same time looks again.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from activjax._files import settle

PART = ".checkpoint-part"  # ends the name of a folder that is being written
MANIFEST = "manifest.json"  # written last: what has one is whole
OLD = ".checkpoint-old"  # ends the name of what is being replaced


def names(folder: Path) -> list[str]:
    """The checkpoints in a folder that are whole, also one that has not taken its name yet."""
    found = {p.parent.name.removesuffix(PART) for p in folder.glob(f"*/{MANIFEST}")}
    return sorted(name for name in found if not name.endswith(OLD))


def place(path: Path) -> Path:
    """Where a checkpoint is: its own folder, or the one that a killed writer did not rename."""
    part = path.with_name(path.name + PART)
    return part if not (path / MANIFEST).exists() and (part / MANIFEST).exists() else path


def settle_all(left: list[Path]) -> None:
    """Of what killed writers have left: a whole one takes its name where none has it."""
    for old in left:
        if old.name.endswith(PART):
            path = old.with_name(old.name.removesuffix(PART))
            if place(path) == old:
                take_name(path)
    for old in left:
        shutil.rmtree(old, ignore_errors=True)


def take_name(path: Path) -> None:
    """What was written for `path` replaces what is there; a kill leaves one of the two whole."""
    part, aside = path.with_name(path.name + PART), path.with_name(path.name + OLD)
    shutil.rmtree(aside, ignore_errors=True)
    if path.exists():
        path.rename(aside)
    part.rename(path)
    settle(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


def remove(path: Path) -> None:
    """It is no more."""
    (path / MANIFEST).unlink(missing_ok=True)  # first: a kill halfway leaves no damaged one
    shutil.rmtree(path, ignore_errors=True)


def files(path: Path) -> list[Path]:
    """All files of a checkpoint but the manifest."""
    return sorted(p for p in path.rglob("*") if p.is_file() and MANIFEST not in p.name)


def digest(path: Path) -> str:
    """One of all files, as manifests had it before every file had its own."""
    found = hashlib.blake2b(digest_size=16)
    for file in files(path):
        found.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size}\n".encode())
        found.update(file.read_bytes())
    return found.hexdigest()
