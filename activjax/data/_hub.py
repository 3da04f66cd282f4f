"""Corpora from the Hugging Face hub: its Parquet and JSON lines files, read by ourselves."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from activjax.data._corpus import Corpus
from activjax.data._needs import needed
from activjax.data._sources import JSONL, jsonl_rows, parquet_rows


def hub(
    name: str,
    *,
    split: str = "train",
    column: str = "text",
    revision: str | None = None,
    files: str | Sequence[str] | None = None,
) -> Corpus:
    """A dataset of the hub, a document a row, named `file:row` from row 1.

    What is cached is not downloaded again; without a network the cache alone is used.

    Args:
      name: the dataset, such as `roneneldan/TinyStories`.
      split: takes the files whose path has this word in it, such as `data/train-00000-of-00002`.
      column: which column, or field of JSON, is the text.
      revision: branch, tag or commit; name a commit to get the same data for ever. None: `main`.
      files: paths or globs in the dataset's repository, instead of `split`.

    Raises:
      ImportError: a library is missing (`pip install 'activjax[hub,parquet]'`).
      RuntimeError: the hub cannot be reached, or has no such dataset or revision.
      ValueError: no file fits, shards are missing from the cache, files of several
        configurations fit, or as `parquet` and `jsonl` raise.
    """
    library = needed("huggingface_hub", "hub", "hub")
    asked = {"repo_type": "dataset", "revision": revision}
    present, offline = _listing(library, name, asked)
    globs = [files] if isinstance(files, str) else files
    chosen = _chosen(name, present, split, globs)
    try:
        folder = library.snapshot_download(
            name, **asked, allow_patterns=chosen, local_files_only=offline
        )
    except Exception as error:  # the library's own, its network library's, and the system's
        raise _unreachable(name, error) from error
    paths = {file: Path(folder, file) for file in chosen}
    read = parquet_rows if chosen[0].endswith(".parquet") else jsonl_rows
    return Corpus.of(read(paths, column), label=f"hub:{name}", files=[*paths.values()])


def _listing(library: Any, name: str, asked: dict[str, Any]) -> tuple[list[str], bool]:
    """The files of a dataset, and whether these are only what the cache has."""
    try:
        return library.list_repo_files(name, **asked), False
    except Exception as error:
        try:
            folder = Path(library.snapshot_download(name, **asked, local_files_only=True))
        except Exception:
            raise _unreachable(name, error) from error
    return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()], True


def _unreachable(name: str, error: Exception) -> RuntimeError:
    first = str(error).strip().partition("\n")[0]
    return RuntimeError(
        f"hub: cannot get the dataset {name!r} ({type(error).__name__}: {first}), and it is not in "
        "the cache. Check the name, the revision and the network; or download its files elsewhere "
        "and read them with data.parquet or data.jsonl"
    )


def _chosen(name: str, present: list[str], split: str, globs: Sequence[str] | None) -> list[str]:
    """The files to read: of one kind, of one configuration, every shard there."""
    usable = sorted(f for f in present if f.endswith((".parquet", *JSONL)))
    if globs is not None:
        chosen = [f for f in usable if any(fnmatch.fnmatch(f, g) for g in globs)]
        what = f"files={' '.join(globs)}"
    else:
        word = re.compile(rf"(?<![A-Za-z]){re.escape(split)}(?![A-Za-z])")
        chosen = [f for f in usable if word.search(f)]
        what = f"split {split!r}"
    shown = ", ".join(usable[:8]) + (", ..." if len(usable) > 8 else "")
    if not chosen:
        raise ValueError(
            f"hub: {name} has no Parquet or JSON lines file for {what}; it has {shown or 'none'}"
            + ("" if usable else "; most datasets have them at revision='refs/convert/parquet'")
        )
    groups = sorted({f.rpartition("/")[0] for f in chosen})
    kinds = {f.endswith(".parquet") for f in chosen}
    if (globs is None and len(groups) > 1) or len(kinds) > 1:
        raise ValueError(
            f"hub: {name}: {what} fits files of several configurations or kinds, which should not "
            f"be mixed: {', '.join(chosen[:8])}; choose with files=, such as "
            f"files='{groups[0] + '/' if groups[0] else ''}*{Path(chosen[0]).suffix}'"
        )
    shards = [re.search(r"(.*)-(\d+)-of-(\d+)", f) for f in chosen]
    totals = {m[1]: int(m[3]) for m in shards if m}
    for stem, total in totals.items():
        there = sum(m is not None and m[1] == stem for m in shards)
        if globs is None and there != total:
            raise ValueError(
                f"hub: {name}: {there} of {total} files {stem}-* are there; with a network the "
                "rest is downloaded, or name those that you want with files="
            )
    return chosen
