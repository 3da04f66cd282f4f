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
        make: returns a pytree of arrays.
    """
    from activjax.training import checkpoint

    code = inspect.getsourcefile(make)
    source = source_hash(Path(code).resolve()) if code else ""
    path = root / FOLDER / f"{name}-{run_id(dict(settings), source, None)}"
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
