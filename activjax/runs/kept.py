"""Results that cost much and that many runs share, such as a pre-trained network, kept on disk."""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from activjax.runs.sources import run_id, source_hash

FOLDER = ".kept"


def kept(
    root: Path, name: str, settings: Mapping[str, Any], like: Any, make: Callable[[], Any]
) -> Any:
    """What `make` returns, made once for its settings and code; afterwards read from disk.

    A kept result is found again only with equal settings and unchanged sources, of activjax and of
    the experiment that `make` is written in. One that is damaged is made anew.

    Args:
        root: the folder of all runs; what is kept lies in `.kept` below it, and may be deleted.
        name: says what it is, in file names.
        settings: everything that `make` depends on, as JSON values.
        like: the tree that `make` returns, or its abstract shapes.
        make: returns a pytree of arrays; a function written in a file.

    Raises:
        ValueError: `make` is no such function, so that nobody can tell when its code changes.
    """
    from activjax.training import checkpoint

    path = root / FOLDER / f"{name}-{run_id(dict(settings), _source(make), None)}"
    if path.is_dir():
        try:
            return checkpoint.load_tree(path, like)[0]
        except checkpoint.CheckpointError:
            shutil.rmtree(path, ignore_errors=True)
    tree = make()
    part = path.with_name(f".{path.name}-{os.getpid()}")  # another process may make the same
    checkpoint.save_tree(part, tree)
    try:
        part.rename(path)
    except OSError:  # it was faster
        shutil.rmtree(part, ignore_errors=True)
    # as it is read again, so that a later run has the same bits and types
    return checkpoint.load_tree(path, like)[0]


def _source(make: Callable[[], Any]) -> str:
    """The hash of activjax and of the file that holds a function, whatever it is wrapped in."""
    inner = inspect.unwrap(make)
    code = inspect.getsourcefile(inner) if inspect.isroutine(inner) else None
    if code is None:
        raise ValueError(
            f"kept: expected a function written in a file, got {make!r}: its source is part of "
            "what is kept; define one with `def`, or a lambda"
        )
    return source_hash(Path(code).resolve())
