"""What becomes of each array of a placement, as rows to read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh

from activjax.models.sharding._rules import Cut

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Entry:
    """One array.

    Attributes:
      path: its keys, joined by "/".
      shape: its shape.
      dtype: its dtype.
      axes: a logical axis for each of its axes, or None.
      pieces: for each axis, of how many pieces it is that stay whole; 0: each index is one.
      cut: how it is split.
      note: what could not be as the rules say.
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    axes: tuple[str | None, ...]
    pieces: tuple[int, ...]
    cut: Cut
    note: str

    @property
    def named(self) -> str:
        """Axes with their sizes, such as "embed=768 heads=12x64"."""

        def one(name: str | None, size: int, pieces: int) -> str:
            text = f"{pieces}x{size // pieces}" if 0 < pieces < size else str(size)
            return f"{name}={text}" if name else text

        return " ".join(map(one, self.axes, self.shape, self.pieces))

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def local_bytes(self, mesh: Mesh) -> int:
        """Bytes on each device."""
        return self.nbytes // math.prod(mesh.shape[n] for names in self.cut.over for n in names)


def table(entries: Sequence[Entry], mesh: Mesh) -> Any:
    """The rows as a `rich` table."""
    from rich.table import Table

    total = sum(entry.nbytes for entry in entries)
    local = sum(entry.local_bytes(mesh) for entry in entries)
    devices = " x ".join(f"{name}={size}" for name, size in mesh.shape.items())
    sums = f"{len(entries)} arrays, {_bytes(total)}; {_bytes(local)} on each device of {devices}"
    out = Table(caption=sums)
    for heading in ("path", "axes", "split over", "a device", "note"):
        justify = "right" if heading == "a device" else "left"
        out.add_column(heading, overflow="fold", justify=justify)
    for e in entries:
        over = [
            f"{a or i}: {'+'.join(names)}"
            for i, (a, names) in enumerate(zip(e.axes, e.cut.over, strict=True))
            if names
        ]
        row = (e.named or "scalar", ", ".join(over) or "-", _bytes(e.local_bytes(mesh)))
        out.add_row(e.path, *row, e.note)
    return out


def text(table: Any) -> str:
    """A `rich` table as text of at most 120 columns."""
    from rich.console import Console

    console = Console(width=120, no_color=True)
    with console.capture() as out:
        console.print(table)
    return out.get().rstrip()


def _bytes(n: int) -> str:
    power = min(int(math.log2(max(n, 1)) / 10), len(_UNITS) - 1)
    return f"{n} B" if not power else f"{n / 1024**power:.1f} {_UNITS[power]}"
