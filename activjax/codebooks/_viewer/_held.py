"""What of an index a page holds: whole examples, and the codes that are shown in detail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from activjax.codebooks._index import Codebook, Index


@dataclass(frozen=True)
class Held:
    """The examples of the page.

    Attributes:
      examples: their numbers in the index.
      rows: `[tokens]`, their tokens' numbers in the index.
      lengths: tokens of each.
    """

    examples: np.ndarray
    rows: np.ndarray
    lengths: np.ndarray


def held(index: Index, tokens: int) -> Held:
    """Examples from all over the index, of about so many tokens together; at least one."""
    lengths = np.diff(index.starts)
    stride = max(1, -(-len(index.tokens) // max(tokens, 1)))
    some = np.arange(0, index.examples, stride)
    some = some[: max(1, int(np.searchsorted(np.cumsum(lengths[some]), tokens, side="right")))]
    spans = [np.arange(*index.starts[e : e + 2].tolist()) for e in some.tolist()]
    return Held(some, np.concatenate(spans), lengths[some])


def shown(book: Codebook, many: int, always: list[int]) -> list[int]:
    """The codes with details: the most used, and those that must be."""
    used = np.argsort(-book.counts, kind="stable")[:many]
    used = used[book.counts[used] > 0].tolist()
    return used + [code for code in always if code not in set(used)]
