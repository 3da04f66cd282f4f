"""What a site's codebooks are called, and where each lies among the site's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Layout:
    """The codebooks of one site: one for every loop index and group.

    Attributes:
      loops: length of every loop around the site, outermost first; `(24,)` for a decoder that
        scans 24 layers, `()` for none.
      groups: codebooks side by side, heads for example.
      codes: codes of a codebook.
      k: codes chosen for a token.
    """

    loops: tuple[int, ...]
    groups: int
    codes: int
    k: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "loops", tuple(int(n) for n in self.loops))
        sizes = {"loops": min(self.loops, default=1), "groups": self.groups, "codes": self.codes}
        for name, value in (*sizes.items(), ("k", self.k)):
            if value < 1:
                raise ValueError(f"Layout: {name} is {value}, expected at least 1")
        if self.k > self.codes:
            raise ValueError(f"Layout: k is {self.k}, expected at most codes ({self.codes})")

    @property
    def codebooks(self) -> int:
        """How many codebooks the site has."""
        return math.prod(self.loops) * self.groups

    @property
    def id_dtype(self) -> np.dtype[Any]:
        """The smallest dtype that holds a code, and `codes`, which stands for none."""
        return np.dtype(np.uint16 if self.codes < 1 << 16 else np.int32)

    def addresses(self) -> Iterator[tuple[tuple[int, ...], int]]:
        """(loop, group) of every codebook, in the order of their numbers."""
        for *loop, group in itertools.product(*map(range, (*self.loops, self.groups))):
            yield tuple(loop), group

    def number(self, site: str, loop: tuple[int, ...], group: int) -> int:
        """The codebook's number among the site's.

        Raises:
          ValueError: a loop index or group that the site does not have.
        """
        sizes, at = (*self.loops, self.groups), (*loop, group)
        if len(loop) != len(self.loops):
            raise ValueError(
                f"{site}: loop is {tuple(loop)}, expected {len(self.loops)} indices, one for each "
                f"of its loops {self.loops}"
            )
        for what, i, n in zip(["loop"] * len(loop) + ["group"], at, sizes):
            if not 0 <= i < n:
                raise ValueError(f"{site}: {what} index {i}, expected 0 to {n - 1}")
        return int(np.ravel_multi_index(at, sizes))


class Code(NamedTuple):
    """One code of one codebook.

    Attributes:
      site: the site's name.
      loop: loop indices, outermost first; `()` outside loops.
      group: the head, or 0.
      code: its row in the codebook.
    """

    site: str
    loop: tuple[int, ...]
    group: int
    code: int

    def __str__(self) -> str:
        return f"{self.site}{''.join(f'[{i}]' for i in self.loop)} group {self.group} #{self.code}"
