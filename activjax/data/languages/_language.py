"""What every language has: tokens with names, and text of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int, Int32

Ids = Int[np.ndarray, "..."] | Sequence[int]


class Language:
    """A language whose every token has a name; token i is `tokens[i]`."""

    _space = " "

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The tokens' names, in the order of their ids."""
        raise NotImplementedError

    @property
    def vocab(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    def decode(self, ids: Ids) -> str:
        """The text of one sequence of ids, `[length]`.

        Raises:
          ValueError: not one sequence, not integers, or an id outside the vocabulary.
        """
        array = self._checked(ids, "ids")
        if array.ndim != 1:
            raise ValueError(f"ids: expected one sequence, [length]; got shape {array.shape}")
        return self._space.join(self.tokens[i] for i in array)

    def encode(self, text: str) -> Int32[np.ndarray, " length"]:
        """The ids of a text as `decode` writes it.

        Raises:
          ValueError: a word that is no token; the nearest tokens are named.
        """
        parts = text.split() if self._space else re.findall(r"<[^>]*>|\S", text)
        number = {name: i for i, name in enumerate(self.tokens)}
        for part in parts:
            if part not in number:
                near = difflib.get_close_matches(part, self.tokens, 3, 0.0)
                raise ValueError(f"text: {part!r} is no token; nearest: {', '.join(near)}")
        return np.array([number[part] for part in parts], np.int32)

    def _checked(self, ids: Any, name: str = "tokens") -> Int[np.ndarray, "..."]:
        array = np.asarray(ids)
        if array.size == 0:
            array = array.astype(np.int64)
        if array.dtype.kind not in "iu":
            raise ValueError(f"{name}: expected integer ids, got {array.dtype}")
        if array.ndim == 0:
            raise ValueError(f"{name}: expected at least one axis, got a single number")
        if array.size and not (array.min() >= 0 and array.max() < self.vocab):
            raise ValueError(
                f"{name}: expected ids 0 to {self.vocab - 1}, got {array.min()} to {array.max()}"
            )
        return array.astype(np.int64)


def blank_impossible(out: np.ndarray, tokens: np.ndarray, begins: Any = True) -> None:
    """NaN into the distributions `[n, length, vocab]` from the first token on that they exclude."""
    given = np.take_along_axis(out[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0] > 0
    begun = np.broadcast_to(begins, (len(tokens), 1))
    out[~np.logical_and.accumulate(np.concatenate([begun, given], axis=1), axis=1)] = np.nan
