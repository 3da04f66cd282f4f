"""How often every code of a codebook goes with every class of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int, Int64

from activjax.codebooks._index._codebook import Codebook

_CHUNK = 1 << 22


def tally(
    book: Codebook,
    classes: Int[np.ndarray, " n"],
    how_many: int,
    *,
    rows: Any = None,
    rank: int | None = None,
) -> Int64[np.ndarray, "classes codes"]:
    """For every class and code the tokens of the class for which the code was chosen.

    Args:
      book: the codebook.
      classes: class of each token, 0 to `how_many` - 1.
      how_many: classes there are.
      rows: the tokens that `classes` is about, ascending; None: all.
      rank: count what was chosen at this rank only; None: at any.
    """
    k = book.k if rank is None else 1
    step = max(1, _CHUNK // k)
    width = book.codes + 1
    total = np.zeros(how_many * width, np.int64)
    for start in range(0, len(classes), step):
        part = slice(start, start + step)
        ids = np.asarray(book.ids[part if rows is None else rows[part]])
        ids = ids if rank is None else ids[:, rank : rank + 1]
        key = ids + classes[part, None].astype(np.int64) * width
        if book.repeats and k > 1:  # a token counts once for a code that it has twice
            key.sort(axis=1)
            first = np.ones(key.shape, bool)
            first[:, 1:] = key[:, 1:] != key[:, :-1]
            key = key[first]
        total += np.bincount(key.reshape(-1), minlength=len(total))
    return total.reshape(how_many, width)[:, :-1]
