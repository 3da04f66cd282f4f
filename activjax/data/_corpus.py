"""A corpus: named documents, what was left out of them, and their split by document."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

from activjax.data._tokenizer import utf8

_Text: TypeAlias = str | bytes | None


class LeftOut(NamedTuple):
    """A document that is not in the corpus.

    Attributes:
      name: its name.
      reason: why, in a few words.
    """

    name: str
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Documents, as names and texts in one order. Iterating gives the texts.

    `Corpus.of` makes one of anything; `stdlib`, `text_files`, `jsonl`, `parquet` and `hub` read
    one, and `corpus` does as a config says.

    Attributes:
      label: what to call it in messages.
      names: the documents' names, each once; the same on every machine.
      texts: the documents' texts, none empty, all of which UTF-8 can write.
      files: the files it was read from; an experiment's `data_files(config)` returns them.
      left_out: documents that are not in it, and why.

    Raises:
      ValueError: no documents, a name twice, or as many names as texts there are not.
    """

    label: str
    names: tuple[str, ...]
    texts: tuple[str, ...] = dataclasses.field(repr=False)
    files: tuple[Path, ...] = dataclasses.field(default=(), repr=False)
    left_out: tuple[LeftOut, ...] = dataclasses.field(default=(), repr=False)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.texts):
            raise ValueError(f"{self.label}: {len(self.names)} names, {len(self.texts)} texts")
        if not self.names:
            why = f": {self._why()}" if self.left_out else ""
            raise ValueError(f"{self.label}: the corpus has no documents{why}")
        twice = [name for name, n in Counter(self.names).items() if n > 1]
        if twice:
            raise ValueError(f"{self.label}: {len(twice)} names occur twice, such as {twice[0]!r}")

    @classmethod
    def of(
        cls,
        documents: Mapping[str, _Text] | Iterable[tuple[str, _Text]],
        *,
        label: str = "corpus",
        files: Sequence[Path] = (),
    ) -> Self:
        """A corpus of documents, less those that are empty or not UTF-8, which it lists.

        Args:
          documents: names and texts; bytes are read as UTF-8, None is an empty text.
          label: what to call it in messages.
          files: what it was read from.

        Raises:
          ValueError: no document is left, or a name occurs twice.
        """
        pairs: Any = documents.items() if isinstance(documents, Mapping) else documents
        names, texts, left_out = [], [], []
        for name, content in pairs:
            if not content:
                left_out.append(LeftOut(name, "empty"))
                continue
            try:
                if isinstance(content, bytes):
                    content = content.decode()
                else:
                    utf8(content)
            except ValueError:
                left_out.append(LeftOut(name, "not UTF-8"))
                continue
            names.append(name)
            texts.append(content)
        return cls(label, tuple(names), tuple(texts), tuple(files), tuple(left_out))

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __getitem__(self, document: int) -> str:
        return self.texts[document]

    def __str__(self) -> str:
        why = f", {self._why()}" if self.left_out else ""
        return f"{self.label}: {len(self)} documents, {self.bytes / 1e6:.2f} MB{why}"

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the names and texts, in their order: 16 hex digits."""
        digest = hashlib.sha256()
        for name, text in zip(self.names, self.texts):
            for part in (_name_bytes(name), text.encode()):
                digest.update(len(part).to_bytes(8))
                digest.update(part)
        return digest.hexdigest()[:16]

    def split(self, held_out: float, seed: int = 0) -> tuple[Self, Self]:
        """Split by document: a part to train on, and a held-out part.

        A document's side depends on the seed and its own name alone, so that one more document
        moves no other, and a larger fraction holds out the same documents and more. The fraction
        is of documents on average; see `bytes` of the parts for what came of it.

        Args:
          held_out: each document's chance of being held out, in (0, 1).
          seed: of the split.

        Raises:
          ValueError: the fraction is not in (0, 1), or leaves one part without documents.
        """
        if not 0 < held_out < 1:
            raise ValueError(f"held_out: expected a fraction in (0, 1), got {held_out}")
        held = [_chance(name, seed) < held_out for name in self.names]
        if len({*held}) < 2:
            part = "training" if held[0] else "held-out"
            raise ValueError(
                f"{self.label}: held_out {held_out} with seed {seed} leaves no {part} document of "
                f"{len(self)}; choose another fraction or seed, or cut the documents finer"
            )
        return self._those([not h for h in held]), self._those(held)

    def _those(self, kept: Sequence[bool]) -> Self:
        names = tuple(name for name, keep in zip(self.names, kept) if keep)
        texts = tuple(text for text, keep in zip(self.texts, kept) if keep)
        return dataclasses.replace(self, names=names, texts=texts)

    def _why(self) -> str:
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left_out:
            reasons.setdefault(reason, []).append(name)
        shown = [
            f"{len(names)} {reason} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for reason, names in reasons.items()
        ]
        return f"{len(self.left_out)} left out: {'; '.join(shown)}"

    @functools.cached_property  # last: its name hides the type
    def bytes(self) -> int:
        """How many bytes of UTF-8 the texts are."""
        return sum(len(text.encode()) for text in self.texts)


def _name_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")  # a file's name may be no UTF-8


def _chance(name: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}/".encode() + _name_bytes(name)).digest()
    return int.from_bytes(digest[:8]) / 2**64
