"""Reading an index: everything stays on disk until it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, Int64

from activjax.codebooks._index import _folder
from activjax.codebooks._index._codebook import Codebook, Postings
from activjax.codebooks._index._layout import Code, Layout
from activjax.codebooks._index._vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Index:
    """A finished index of codes, its arrays mapped into memory.

    Attributes:
      path: its folder.
      sites: the codebooks of every site.
      tokens: the ids of all tokens, one example after another.
      starts: where each example begins in `tokens`, and the end.
      vocabulary: the bytes of every token id, if they were given.
      meta: what the writer was given to keep.
    """

    path: Path
    sites: dict[str, Layout]
    tokens: Int32[np.ndarray, " tokens"] = field(repr=False)
    starts: Int64[np.ndarray, " examples_plus_1"] = field(repr=False)
    vocabulary: Vocabulary | None = field(repr=False)
    meta: dict[str, Any]
    _arrays: dict[str, dict[str, np.ndarray]] = field(repr=False)
    _repeats: dict[str, bool] = field(repr=False)

    @property
    def examples(self) -> int:
        """How many examples there are."""
        return len(self.starts) - 1

    @cached_property
    def example_of(self) -> Int32[np.ndarray, " tokens"]:
        """The example of every token."""
        return np.repeat(np.arange(self.examples, dtype=np.int32), np.diff(self.starts))

    def codebook(self, site: str, loop: int | tuple[int, ...] = (), group: int = 0) -> Codebook:
        """One codebook: what chose each of its codes.

        Args:
          site: the site's name.
          loop: one index for each of the site's loops, outermost first.
          group: the head, or 0.

        Raises:
          ValueError: there is no such codebook; says what there is. Or it is damaged.
        """
        if site not in self.sites:
            raise ValueError(f"no site {site!r} in {self.path}; there are: {', '.join(self.sites)}")
        at = (loop,) if isinstance(loop, (int, np.integer)) else tuple(loop)
        number = self.sites[site].number(site, at, group)
        # of a mapped array a plain view: the same memory, quicker to index
        arrays = {name: np.asarray(array[number]) for name, array in self._arrays[site].items()}
        ends = arrays["offsets"]
        if ends[0] != 0 or ends[-1] > len(arrays["order"]) or (np.diff(ends) < 0).any():
            raise ValueError(f"{self.path}: damaged, the offsets of {site}; write the index again")
        return Codebook(self, site, at, group, self.sites[site].codes, self._repeats[site],
                        **arrays)  # fmt: skip

    def codebooks(self, site: str | None = None) -> Iterator[Codebook]:
        """All codebooks, of one site if it is given."""
        for name, layout in self.sites.items():
            if site in (None, name):
                for loop, group in layout.addresses():
                    yield self.codebook(name, loop, group)

    def postings(self, code: Code) -> Postings:
        """Where a code was chosen. Raises as `codebook` does, IndexError for the code."""
        return self.codebook(code.site, code.loop, code.group)[code.code]

    def piece(self, token: int) -> bytes:
        """What a token id stands for; without a vocabulary its number."""
        return b"<%d>" % token if self.vocabulary is None else self.vocabulary[token]

    def text(self, example: int) -> str:
        """The text of an example; bytes that are not UTF-8 become U+FFFD.

        Raises:
          IndexError: no such example.
        """
        if not 0 <= example < self.examples:
            raise IndexError(f"example {example}, expected 0 to {self.examples - 1}")
        ids: Int[np.ndarray, " n"] = self.tokens[self.starts[example] : self.starts[example + 1]]
        return b"".join([self.piece(i) for i in ids.tolist()]).decode(errors="replace")


def open_index(path: str | Path) -> Index:
    """Open an index that `IndexWriter` wrote.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: the index is unfinished or damaged, or the folder holds something else.
    """
    path = Path(path)
    meta = _folder.checked_meta(path)
    try:
        n, examples, cosines = meta["tokens"], meta["examples"], np.dtype(meta["similarity"])
        names = [s["name"] for s in meta["sites"]]
        layouts = [
            Layout(tuple(s["loops"]), s["groups"], s["codes"], s["k"]) for s in meta["sites"]
        ]
        repeats = {s["name"]: bool(s["repeats"]) for s in meta["sites"]}
        pieces = "vocabulary.npy" in meta["files"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged, {_folder.META} lacks {error}") from error
    arrays = {}
    for i, (site, own) in enumerate(zip(names, layouts)):
        places = np.uint32 if n * own.k <= 1 << 32 else np.int64
        shapes = {
            "ids": ((own.codebooks, n, own.k), own.id_dtype),
            "similarities": ((own.codebooks, n, own.k), cosines),
            "offsets": ((own.codebooks, own.codes + 1), np.int64),
            "order": ((own.codebooks, n * own.k), places),
        }
        arrays[site] = {
            kind: _folder.load(path, f"site{i:03d}/{kind}.npy", *what)
            for kind, what in shapes.items()
        }
    tokens = np.asarray(_folder.load(path, "tokens.npy", (n,), np.int32))
    starts = np.array(_folder.load(path, "examples.npy", (examples + 1,), np.int64))
    if starts[0] != 0 or starts[-1] != n or (np.diff(starts) < 1).any():
        raise ValueError(f"{path}: damaged, examples.npy does not divide {n} tokens")
    vocabulary = _vocabulary(path) if pieces else None
    return Index(path, dict(zip(names, layouts)), tokens, starts, vocabulary, meta["meta"], arrays,
                 repeats)  # fmt: skip


def _vocabulary(path: Path) -> Vocabulary:
    try:
        data = np.load(path / "vocabulary.npy", allow_pickle=False)
        offsets = np.load(path / "vocabulary_offsets.npy", allow_pickle=False)
        if offsets[0] == 0 and offsets[-1] == len(data) and (np.diff(offsets) >= 0).all():
            return Vocabulary(data, offsets)
    except (OSError, ValueError, IndexError) as error:
        raise ValueError(f"{path}: damaged, the vocabulary: {error}") from error
    raise ValueError(f"{path}: damaged, vocabulary_offsets.npy does not divide vocabulary.npy")
