"""Rows of tokens from text, made as they are needed, from a position that can be saved."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np
from jaxtyping import Int32

from activjax.data._corpus import Corpus
from activjax.data._tokenizer import Tokenizer


class TextStream:
    """Endless batches of rows packed as by `pack(policy="stream")`, without padding.

    Documents are tokenized when their turn comes, in an order shuffled anew each epoch, each
    followed by `tokenizer.end`. Row i + 1 goes on where row i stops, also from batch to batch.
    Iterating gives `(tokens, segments)`, int32 `[batch, length]`: segments number the documents
    within a row from 1.

    Args:
      documents: a `Corpus`; or, for text that does not fit in memory, a function that gives the
        documents anew at each call, always in the same order (then shuffled within blocks).
      tokenizer: of the texts.
      length: tokens a row.
      batch: rows a batch.
      seed: of the documents' order.
      fingerprint: names what the function gives; needed with one, as a corpus has its own.
      shuffle: with a function, how many documents a block has. They are held in memory.
      part: `(index, count)`, such as `hosts.part()`: every `count`-th document of the order, from
        `index` on, so that `count` processes share each epoch and no document is read twice.

    Raises:
      ValueError: a length, batch or block below 1; a part that cannot be, or that has no document;
        a function without a fingerprint; later, a function that gives no text.
    """

    def __init__(
        self,
        documents: Corpus | Callable[[], Iterable[str]],
        tokenizer: Tokenizer,
        length: int,
        batch: int,
        seed: int = 0,
        *,
        fingerprint: str | None = None,
        shuffle: int = 1024,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        for name, value in (("length", length), ("batch", batch), ("shuffle", shuffle)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        if isinstance(documents, Corpus):
            fingerprint, shuffle = documents.fingerprint, len(documents)
        elif fingerprint is None:
            raise ValueError("fingerprint: name what the function gives, such as 'my-shards-v1'")
        self._part = part
        if not 0 <= part[0] < part[1] or shuffle <= part[0]:
            raise ValueError(
                f"part: expected (index, count) with 0 <= index < count and at least one document "
                f"each, got {part} of {shuffle}"
            )
        self._documents, self._tokenizer = documents, tokenizer
        self._identity = {
            "corpus": fingerprint,
            "tokenizer": tokenizer.fingerprint,
            "length": length,
            "batch": batch,
            "seed": seed,
            "shuffle": shuffle,
            **({"part": list(part)} if part[1] > 1 else {}),
        }
        self._shape = (batch, length)
        self._seed, self._block = seed, shuffle
        self._go_to(0, 0, 0)

    def __iter__(self) -> Self:
        return self

    def __next__(
        self,
    ) -> tuple[Int32[np.ndarray, "batch length"], Int32[np.ndarray, "batch length"]]:
        """The next batch. After an error the stream stands where it stood before."""
        before = self._epoch, self._document, self._offset
        try:
            return self._batch()
        except BaseException:
            self._go_to(*before)
            raise

    def state(self) -> dict[str, Any]:
        """Where the stream stands: values that JSON can hold."""
        return {
            **self._identity,
            "epoch": self._epoch,
            "document": self._document,
            "offset": self._offset,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where `state()` was taken: the same batches follow, bit by bit.

        With a corpus this tokenizes one document again. A function's documents of the current
        epoch are read up to the position, and not tokenized.

        Raises:
          ValueError: the state is of another corpus, tokenizer, length, batch, seed or block.
        """
        for name in (*self._identity, "part"):
            here = self._identity.get(name)
            if state.get(name) != here:
                raise ValueError(
                    f"restore: the state is of another {name}: it has {state.get(name)!r}, this "
                    f"stream {here!r}; make the stream as it was, or start anew without the state"
                )
        self._go_to(state["epoch"], state["document"], state["offset"])

    def _go_to(self, epoch: int, document: int, offset: int) -> None:
        self._epoch, self._document, self._offset = epoch, document, offset
        self._texts: Iterator[str] | None = None
        self._ids: np.ndarray | None = None

    def _batch(self) -> tuple[np.ndarray, np.ndarray]:
        size = self._shape[0] * self._shape[1]
        tokens, source = np.empty(size, np.int32), np.empty(size, np.int32)
        filled = number = 0
        while filled < size:
            if self._ids is None:
                self._ids = self._next_ids()
            left = self._ids[self._offset :]
            if not len(left):
                raise ValueError(
                    f"document {self._document} has {len(self._ids)} tokens, and the position is "
                    f"at {self._offset}: the text is not what it was"
                )
            taken = left[: size - filled]
            tokens[filled : filled + len(taken)] = taken
            source[filled : filled + len(taken)] = number
            filled += len(taken)
            self._offset += len(taken)
            if self._offset == len(self._ids):
                self._document, self._offset, self._ids = self._document + 1, 0, None
                number += 1
        rows = source.reshape(self._shape)
        return tokens.reshape(self._shape), rows - rows[:, :1] + 1

    def _next_ids(self) -> Int32[np.ndarray, " n"]:
        """The document at the position, with its end; or the first one of the next epoch."""
        if self._texts is None:
            self._texts = self._from(self._epoch, self._document)
        text = next(self._texts, None)
        if text is None:
            self._go_to(self._epoch + 1, 0, 0)
            self._texts = self._from(self._epoch, 0)
            text = next(self._texts, None)
            if text is None:
                raise ValueError("the function gave no documents; it must start anew at each call")
        ids = self._tokenizer.encode(text)
        return np.append(ids, np.int32(self._tokenizer.end))

    def _from(self, epoch: int, document: int) -> Iterator[str]:
        """This part's documents of an epoch from one on, in their shuffled order."""
        index, count = self._part
        block, skipped = divmod(document, len(range(index, self._block, count)))
        if isinstance(self._documents, Corpus):
            order = self._order(epoch, 0)[index::count]
            yield from (self._documents[i] for i in order[document:])
            return
        texts = itertools.islice(self._documents(), block * self._block, None)
        while chunk := list(itertools.islice(texts, self._block)):
            order = self._order(epoch, block)[: self._block]
            yield from (chunk[i] for i in order[order < len(chunk)][index::count][skipped:])
            block, skipped = block + 1, 0

    def _order(self, epoch: int, block: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch, block]).permutation(self._block)
