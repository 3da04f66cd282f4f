"""`find`: the tokens that a phrase of a text became."""

from __future__ import annotations

import difflib
import re

import numpy as np
from jaxtyping import Int32

from activjax.data._tokenizer import Tokenizer


def find(
    tokenizer: Tokenizer,
    text: str,
    phrase: str,
    *,
    occurrence: int | None = None,
    parse_special: bool = False,
    add_special: bool = False,
) -> Int32[np.ndarray, " n"]:
    """The positions of the tokens that cover a phrase of a text, for `aj.select(..., at=)`.

        at = data.find(tokenizer, text, "Eiffel Tower")
        aj.capture(model.apply, aj.select("blocks/resid_post", at=at))(params, tokens[None])

    where `tokens` are `tokenizer.encode(text)` with the same keywords. A token counts if it covers
    a character of the phrase, or a byte of one: the first may begin before the phrase (with the
    space before it, say), the last may end after it.

    Args:
      tokenizer: what encodes the text.
      text: the whole text.
      phrase: a part of it, in the same spelling.
      occurrence: which one if there are several, from 0, or from the end with -1; overlapping ones
        count. None: there must be one only.
      parse_special: as in `Tokenizer.encode`.
      add_special: as in `Tokenizer.encode`.

    Returns:
      Indices into `tokenizer.encode(text)`, rising, int32 `[n]`, n >= 1.

    Raises:
      ValueError: no such phrase, or several and no `occurrence`; no such occurrence; or no token
        stands for it, such as for a space that the tokenizer drops.
    """
    if not phrase:
        raise ValueError("phrase: expected some text, got none")
    starts = [found.start() for found in re.finditer(f"(?={re.escape(phrase)})", text)]
    if not starts:
        near = difflib.get_close_matches(phrase, re.findall(r"\w+", text[:10_000]), n=3)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"phrase: {phrase!r} does not occur in the text{hint}")
    if occurrence is None and len(starts) > 1:
        where = ", ".join(map(str, starts[:8])) + (", ..." if len(starts) > 8 else "")
        raise ValueError(
            f"phrase: {phrase!r} occurs {len(starts)} times, at characters {where}: say which with "
            f"occurrence=0 to {len(starts) - 1}"
        )
    which = occurrence or 0
    if not -len(starts) <= which < len(starts):
        raise ValueError(
            f"occurrence: {phrase!r} occurs {len(starts)} times, expected 0 to {len(starts) - 1}, "
            f"got {which}"
        )
    first, last = starts[which], starts[which] + len(phrase)
    spans = tokenizer.offsets(text, add_special=add_special, parse_special=parse_special)
    begin, stop = spans[:, 0], spans[:, 1]
    covering = np.flatnonzero((begin < last) & (stop > first))
    if not len(covering):
        raise ValueError(f"phrase: no token stands for {phrase!r}: this tokenizer drops it")
    return covering.astype(np.int32)
