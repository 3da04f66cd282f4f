"""`Use` and `Uses`: which operations consume the leaves of a function's parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from activjax.program._argnums import Chosen
from activjax.program._describe import Operation, render
from activjax.program._views import Axes, Step


@dataclass(frozen=True)
class UseLoop:
    """A loop around a use.

    Attributes:
      name: the loop's name, or None.
      length: the number of its iterations; None in a `while`.
      leaf: "sliced" where each iteration uses a slice of its own (a `scan` over the leaf, a shard),
        "indexed" where it looks one up at an index that changes, "shared" where all iterations use
        the same values.
    """

    name: str | None
    length: int | None
    leaf: str


@dataclass(frozen=True)
class Use(Operation):
    """One operation that consumes a leaf of the parameters.

    Attributes:
      leaf: the leaf's path in the parameters (`jax.tree_util.keystr`).
      shape: the leaf's shape.
      dtype: the leaf's dtype.
      kind: "dense" (`dot_general`), "convolution", "gather" (a table that is looked up),
        "elementwise", "output" (returned as it is) or "other".
      operand: the number of the operand that is the leaf.
      views: what was done to the leaf on its way, in order.
      axes: for each axis of the operand the axis of the leaf, None where that cannot be told.
      contracting: axes of the operand that a dense use sums over.
      batch: axes of the operand that a dense use shares with the other operand.
      inputs: axes of the leaf, in order, that stand for input features.
      outputs: axes of the leaf, in order, that stand for output features (or, of a gathered table,
        for what a row holds).
      data: whether another operand depends on arguments that are no parameters.
      others: paths of the leaves on which other operands depend.
      loops: the loops around, outermost first.
      sometimes: whether the operand is this leaf only in some iterations, branches or elements.
    """

    leaf: str
    shape: tuple[int, ...]
    dtype: Any
    kind: str
    operand: int
    views: tuple[Step, ...]
    axes: Axes
    contracting: tuple[int, ...]
    batch: tuple[int, ...]
    inputs: Axes
    outputs: Axes
    data: bool
    others: tuple[str, ...]
    loops: tuple[UseLoop, ...]
    sometimes: bool

    @property
    def transposed(self) -> bool:
        """Whether the operand has axes of the leaf in another order."""
        known = [a for a in self.axes if a is not None]
        return known != sorted(known)


class Uses(Sequence[Use]):
    """The uses of parameters, in execution order.

    Attributes:
      leaves: the paths of all leaves, in the order of the parameters.
    """

    def __init__(self, uses: Sequence[Use], leaves: Sequence[Chosen]):
        self._uses, self._leaves = tuple(uses), tuple(leaves)
        self.leaves = tuple(leaf.path for leaf in leaves)

    @overload
    def __getitem__(self, index: int) -> Use: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Use, ...]: ...
    def __getitem__(self, index: int | slice) -> Use | tuple[Use, ...]:
        """A use, or some."""
        return self._uses[index]

    def __len__(self) -> int:
        """The number of uses."""
        return len(self._uses)

    def of(self, leaf: str) -> tuple[Use, ...]:
        """The uses of a leaf, by its path.

        Raises:
          KeyError: there is no such leaf.
        """
        if leaf not in self.leaves:
            raise KeyError(f"no leaf {leaf!r} in the parameters; there are: {self.leaves}")
        return tuple(u for u in self._uses if u.leaf == leaf)

    @property
    def unused(self) -> tuple[str, ...]:
        """The paths of leaves that reach no output."""
        used = {u.leaf for u in self._uses}
        return tuple(path for path in self.leaves if path not in used)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The cells of the table, one tuple a use and one for each leaf without."""
        for u in self._uses:
            loops = (
                f"{x.name or 'loop'}={'?' if x.length is None else x.length}" + f" {x.leaf}"
                for x in u.loops
            )
            yield (
                u.leaf,
                _array(u.shape, u.dtype),
                u.kind,
                f"{u.name}, operand {u.operand}",
                "; ".join(map(str, u.views)) or "-",
                " ".join(loops) or "-",
                "data" if u.data else ", ".join(u.others) or "-",
            )
        for leaf in self._leaves:
            if leaf.path in self.unused:
                yield leaf.path, _array(leaf.shape, leaf.dtype), "unused", "-", "-", "-", "-"

    def __str__(self) -> str:
        headings = ("leaf", "array", "use", "operation", "seen through", "loops", "with")
        caption = f"{len(self)} uses of {len(self.leaves)} leaves, {len(self.unused)} unused"
        return render(headings, self.rows(), caption)

    __repr__ = __str__


def _array(shape: tuple[int, ...], dtype: Any) -> str:
    return f"{dtype.name}[{','.join(map(str, shape))}]"
