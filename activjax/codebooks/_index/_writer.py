"""Writing an index: what every batch chose is appended, and sorted by code at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from activjax.codebooks._index import _folder, _sort
from activjax.codebooks._index._layout import Layout
from activjax.codebooks._index._open import Index, open_index
from activjax.codebooks._index._vocabulary import Vocabulary

Ids = Int[np.ndarray, "*loops batch seq groups k"]
Cosines = Float[np.ndarray, "*loops batch seq groups k"]


class IndexWriter:
    """Writes the table of codes, batch by batch, in memory that does not grow with the tokens.

    A context manager: leaving it without an error sorts what was added by code and finishes the
    index. One that was killed, or left by an error, is unfinished and is written again. Equal
    input gives equal bytes.

    Args:
      path: a folder of its own, which is made.
      layout: the codebooks of every site.
      vocabulary: what every token id stands for, bytes or str. None: the ids are all there is, and
        nothing can be searched by regex.
      meta: kept with the index, must be JSON.
      similarity: how similarities are kept; "float16" rounds cosines by up to 0.00025.
      overwrite: replace a finished index.

    Raises:
      FileExistsError: entering it, a finished index, another writer or something else is at `path`.
      ValueError: no sites, or `meta` that is not JSON.
    """

    def __init__(
        self,
        path: str | Path,
        layout: Mapping[str, Layout],
        *,
        vocabulary: Iterable[bytes | str] | None = None,
        meta: Mapping[str, Any] | None = None,
        similarity: Literal["float16", "float32"] = "float16",
        overwrite: bool = False,
    ):
        if not layout:
            raise ValueError("IndexWriter: layout names no site")
        if similarity not in ("float16", "float32"):
            raise ValueError(f"IndexWriter: similarity is {similarity!r}, expected float16 or 32")
        self.path, self.layout = Path(path), dict(layout)
        self._dtype = np.dtype(similarity)
        self._vocabulary = None if vocabulary is None else Vocabulary.of(vocabulary)
        try:
            self._meta = json.loads(json.dumps(dict(meta or {}), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"IndexWriter: meta must be JSON: {error}") from None
        self._lengths: list[np.ndarray] = []
        self._files: dict[str, BinaryIO] = {}
        self._open = False
        self._overwrite = overwrite

    def __enter__(self) -> IndexWriter:
        self._mark = _folder.prepare(self.path, overwrite=self._overwrite)
        spill = self.path / _folder.SPILL
        spill.mkdir()
        names = ["tokens"]
        names += [f"{i}.{kind}" for i in range(len(self.layout)) for kind in ("ids", "sims")]
        self._files = {name: (spill / name).open("wb") for name in names}
        self._open = True
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._open = False
        for file in self._files.values():
            file.close()
        with self._mark:
            if kind is None:
                self._finish()

    def add(
        self,
        tokens: Int[np.ndarray, "batch seq"],
        traces: Mapping[str, tuple[Ids, Cosines]],
        mask: Bool[np.ndarray, "batch seq"] | None = None,
    ) -> None:
        """Append a batch; every row that has tokens becomes the next example.

        Args:
          tokens: token ids.
          traces: for every site the chosen codes, nearest first (-1: none), and their similarities,
            each `[*loops, batch, seq, groups, k]`.
          mask: False for padding, which leaves no trace: positions count tokens only, and a row
            without any is no example. None: all are tokens.

        Raises:
          ValueError: shapes, sites or values that do not fit; nothing was added then.
        """
        if not self._open:
            raise ValueError("IndexWriter.add: use it inside `with IndexWriter(...) as writer:`")
        rows = _integers(tokens, "tokens")
        if rows.ndim != 2:
            raise ValueError(f"IndexWriter.add: tokens have shape {rows.shape}, expected [b, s]")
        keep = np.ones(rows.shape, bool) if mask is None else np.asarray(mask)
        if keep.shape != rows.shape or keep.dtype != bool:
            raise ValueError(
                f"IndexWriter.add: mask is {keep.dtype} {list(keep.shape)}, expected bool "
                f"{list(rows.shape)}"
            )
        kept = rows[keep]
        limit = len(self._vocabulary) if self._vocabulary is not None else 1 << 31
        if kept.size and not (kept.min() >= 0 and kept.max() < limit):
            raise ValueError(
                f"IndexWriter.add: token ids from {kept.min()} to {kept.max()}, expected 0 to "
                f"{limit - 1}" + (", as the vocabulary has" if self._vocabulary is not None else "")
            )
        if set(traces) != set(self.layout):
            raise ValueError(
                f"IndexWriter.add: traces of {sorted(traces)}, expected those of "
                f"{sorted(self.layout)}"
            )
        parts: dict[str, np.ndarray] = {"tokens": kept.astype(np.int32)}
        for i, (site, own) in enumerate(self.layout.items()):
            ids, cosines = traces[site]
            parts[f"{i}.ids"] = _ids(site, own, ids, keep)
            parts[f"{i}.sims"] = _rows(site, own, np.asarray(cosines), keep).astype(self._dtype)
        for name, part in parts.items():
            np.ascontiguousarray(part).tofile(self._files[name])
        lengths = keep.sum(1)
        self._lengths.append(lengths[lengths > 0])

    def _finish(self) -> None:
        lengths = np.concatenate([np.zeros(0, np.int64), *self._lengths])
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        tokens = int(starts[-1])
        if tokens == 0:
            raise ValueError("IndexWriter: no token was added, an index of nothing is not written")
        spill = self.path / _folder.SPILL
        flat = _folder.create(self.path / "tokens.npy", (tokens,), np.int32)
        _sort.transpose(spill / "tokens", flat[None, :, None])
        np.save(self.path / "examples.npy", starts)
        if self._vocabulary is not None:
            np.save(self.path / "vocabulary.npy", self._vocabulary.data)
            np.save(self.path / "vocabulary_offsets.npy", self._vocabulary.offsets)
        sites = []
        for i, (site, own) in enumerate(self.layout.items()):
            repeats = self._site(self.path / f"site{i:03d}", spill, i, own, tokens)
            sites.append(
                {"name": site, "loops": own.loops, "groups": own.groups, "codes": own.codes,
                 "k": own.k, "repeats": repeats}
            )  # fmt: skip
        about = {"tokens": tokens, "examples": len(starts) - 1, "similarity": self._dtype.name}
        _folder.finish(self.path, {**about, "sites": sites, "meta": self._meta})

    def _site(self, folder: Path, spill: Path, number: int, own: Layout, tokens: int) -> bool:
        """Write the files of a site; returns whether any token has one code twice."""
        folder.mkdir()
        books, places = own.codebooks, tokens * own.k
        shape = (books, tokens, own.k)
        ids = _folder.create(folder / "ids.npy", shape, own.id_dtype)
        _sort.transpose(spill / f"{number}.ids", ids)
        cosines = _folder.create(folder / "similarities.npy", shape, self._dtype)
        _sort.transpose(spill / f"{number}.sims", cosines)
        for kind in ("ids", "sims"):  # as early as can be: the disk holds everything twice
            (spill / f"{number}.{kind}").unlink()
        offsets = _folder.create(folder / "offsets.npy", (books, own.codes + 1), np.int64)
        order = _folder.create(folder / "order.npy", (books, places), order_dtype(tokens, own.k))
        repeats = False
        for book in range(books):
            flat = ids[book].reshape(-1)
            counts = _sort.count(flat, own.codes + 1)
            offsets[book, 0] = 0
            np.cumsum(counts[:-1], out=offsets[book, 1:])
            _sort.sort(flat, counts, order[book])
            repeats = repeats or _sort.has_repeats(ids[book], own.codes)
            for array in (ids, offsets, order):
                _sort.release(array)
        return repeats


def order_dtype(tokens: int, k: int) -> type:
    """The smallest dtype that holds a place."""
    return np.uint32 if tokens * k <= 1 << 32 else np.int64


def write_index(
    path: str | Path,
    layout: Mapping[str, Layout],
    batches: Iterable[tuple[Any, ...]],
    **options: Any,
) -> Index:
    """Write an index of all batches, and open it.

    Args:
      path: as for `IndexWriter`, as are `layout` and the options.
      layout: the codebooks of every site.
      batches: (tokens, traces) or (tokens, traces, mask), as `IndexWriter.add` takes them.
      **options: `vocabulary`, `meta`, `similarity`, `overwrite`.

    Raises:
      FileExistsError, ValueError: as `IndexWriter` does.
    """
    with IndexWriter(path, layout, **options) as writer:
        for batch in batches:
            writer.add(*batch)
    return open_index(path)


def _integers(values: Any, what: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ValueError(f"IndexWriter.add: {what} are {array.dtype}, expected integers")
    return array


def _rows(site: str, own: Layout, array: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """`[kept tokens, codebooks, k]` of `[*loops, batch, seq, groups, k]`."""
    shape = (*own.loops, *keep.shape, own.groups, own.k)
    if array.shape != shape:
        raise ValueError(
            f"IndexWriter.add: {site} has an array of shape {list(array.shape)}, expected "
            f"{list(shape)} (loops, batch, seq, groups, k)"
        )
    loops = len(own.loops)
    rows = np.moveaxis(array, (loops, loops + 1), (0, 1))[keep]
    return rows.reshape(len(rows), own.codebooks, own.k)


def _ids(site: str, own: Layout, ids: Any, keep: np.ndarray) -> np.ndarray:
    rows = _rows(site, own, _integers(ids, f"ids of {site}"), keep)
    if rows.size and not (rows.min() >= -1 and rows.max() < own.codes):
        raise ValueError(
            f"IndexWriter.add: {site} has codes from {rows.min()} to {rows.max()}, expected 0 to "
            f"{own.codes - 1} (-1: none)"
        )
    return np.where(rows < 0, own.codes, rows).astype(own.id_dtype)
