"""What a run's numbers depend on besides its config: source files and data files, as hashes."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import activjax

_PACKAGE = Path(activjax.__file__).parent


def package_files() -> list[Path]:
    """The `*.py` files of the installed activjax, sorted."""
    return sorted(_PACKAGE.rglob("*.py"))


def local_files(experiment: Path) -> list[Path]:
    """An experiment's file and the modules beside it that it imports, directly or not.

    Found by reading the import statements, so a module imported by a computed name is missed.
    """
    folder, found, queue = experiment.parent, [], [experiment]
    while queue:
        path = queue.pop()
        if path in found:
            continue
        found.append(path)
        for name in _imported(path):
            base = folder.joinpath(*name.split("."))
            for candidate in (base.with_suffix(".py"), base / "__init__.py"):
                if candidate.is_file():
                    queue.append(candidate)
    return [experiment, *sorted(path for path in found if path != experiment)]


def source_hash(experiment: Path) -> str:
    """Hash of the sources of activjax and of the experiment, by relative path and content."""
    digest = hashlib.sha256(_package_hash().encode())
    if not experiment.is_relative_to(_PACKAGE):
        for path in local_files(experiment):
            name = path.relative_to(experiment.parent).as_posix()
            digest.update(f"{name} {_content(path)}\n".encode())
    return digest.hexdigest()


@functools.cache  # once: a process keeps the code that it has imported
def _package_hash() -> str:
    digest = hashlib.sha256()
    for path in package_files():
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()} {_content(path)}\n".encode())
    return digest.hexdigest()


def data_hash(paths: Iterable[str | Path]) -> str:
    """Hash of data files by name and content, in the order given."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        digest.update(f"{path.name} {_content(path)}\n".encode())
    return digest.hexdigest()


def run_id(config: dict[str, Any], source: str, data: str | None) -> str:
    """The 12 hex digits that name a run: equal for equal config, seeds, sources and data."""
    text = json.dumps([config, source, data], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _content(path: Path) -> str:
    found = path.stat()
    return _content_of(path, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=4096)  # the cells of a sweep share their files
def _content_of(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _imported(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
