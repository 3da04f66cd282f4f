"""Views of parameters: what reshaping, slicing and the like make of a leaf of the parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from activjax.program import _compat
from activjax.program._identities import IDENTITIES

Axes = tuple[int | None, ...]

#: A view that has been through more operations than this, as in a loop that transposes its carry
#: again and again, is followed no further.
MOST_STEPS = 32


@dataclass(frozen=True)
class Step:
    """One operation on a leaf on its way to a use.

    Attributes:
      name: the primitive, or "scan" (one slice of each iteration), "stack" (of all iterations
        again), "shard" and "unshard" (of shard_map).
      detail: what it was given, such as the permutation of a transposition or the new shape.
    """

    name: str
    detail: Any = None

    def __str__(self) -> str:
        return self.name if self.detail is None else f"{self.name} {self.detail}"


@dataclass(frozen=True)
class View:
    """A leaf of the parameters, whole or in part, in another layout.

    Attributes:
      leaf: the number of the leaf.
      axes: for each axis of the view the axis of the leaf, None where that cannot be told.
      steps: what was done to the leaf, in order.
      sliced: depths of the loops that hand out one slice an iteration.
      indexed: depths of the loops in which it is looked up at an index that changes.
    """

    leaf: int
    axes: Axes
    steps: tuple[Step, ...] = ()
    sliced: frozenset[int] = frozenset()
    indexed: frozenset[int] = frozenset()

    def then(self, name: str, detail: Any, axes: Axes) -> View:
        """This view after one more operation."""
        return replace(self, axes=axes, steps=(*self.steps, Step(name, detail)))

    def enter(self, depth: int) -> View:
        """One slice of it, inside the loop of that depth that scans over it."""
        inside = self.then("scan", None, self.axes[1:])
        return replace(inside, sliced=self.sliced | {depth})

    def shard(self, depth: int, split: bool) -> View:
        """One shard of it, or all of it, inside the shard_map of that depth."""
        if not split:
            return self
        return replace(self.then("shard", None, self.axes), sliced=self.sliced | {depth})

    def stack(self, depth: int) -> View:
        """All its slices, or copies, stacked by the loop of that depth."""
        front = 0 if depth in self.sliced else None
        return self.then("stack", None, (front, *self.axes)).leave(depth)

    def leave(self, depth: int) -> View:
        """What is left of it after the loop of that depth."""
        return replace(self, sliced=self.sliced - {depth}, indexed=self.indexed - {depth})


def _same(eqn: _compat.Equation, axes: Axes) -> tuple[Any, Axes]:
    return None, axes


def _convert(eqn: _compat.Equation, axes: Axes) -> tuple[Any, Axes]:
    return str(eqn.params["new_dtype"]), axes


def _transpose(eqn: _compat.Equation, axes: Axes) -> tuple[Any, Axes]:
    order = tuple(eqn.params["permutation"])
    return order, tuple(axes[i] for i in order)


def _broadcast(eqn: _compat.Equation, axes: Axes) -> tuple[Any, Axes]:
    shape = tuple(eqn.params["shape"])
    out: list[int | None] = [None] * len(shape)
    for axis, position in zip(axes, eqn.params["broadcast_dimensions"], strict=True):
        out[position] = axis
    return shape, tuple(out)


def _squeeze(eqn: _compat.Equation, axes: Axes) -> tuple[Any, Axes]:
    gone = tuple(eqn.params["dimensions"])
    return gone, tuple(a for i, a in enumerate(axes) if i not in gone)


def _reshape(eqn: _compat.Equation, axes: Axes) -> tuple[Any, Axes]:
    old, new = _compat.shape(eqn.invars[0]), tuple(eqn.params["new_sizes"])
    out: list[int | None] = [None] * len(new)
    # Axes of size 1 come and go; equal axes from the front and from the back stay what they are.
    was = [i for i, n in enumerate(old) if n != 1]
    now = [i for i, n in enumerate(new) if n != 1]
    for pairs in (zip(was, now), zip(reversed(was), reversed(now))):
        for i, j in pairs:
            if old[i] != new[j]:
                break
            out[j] = axes[i]
    return new, tuple(out)


def _rev(eqn: _compat.Equation, axes: Axes) -> tuple[Any, Axes]:
    return tuple(eqn.params["dimensions"]), axes


def _slice(eqn: _compat.Equation, axes: Axes) -> tuple[Any, Axes]:
    p = eqn.params
    strides = p["strides"] or (1,) * len(axes)
    bounds = zip(p["start_indices"], p["limit_indices"], strides, strict=True)
    return tuple(f"{a}:{b}:{c}" if c != 1 else f"{a}:{b}" for a, b, c in bounds), axes


def _split(eqn: _compat.Equation, axes: Axes) -> tuple[Any, Axes]:
    return ("axis", eqn.params["axis"], "sizes", *eqn.params["sizes"]), axes


def _unstack(eqn: _compat.Equation, axes: Axes) -> tuple[Any, Axes]:
    axis = eqn.params["axis"]
    return ("axis", axis), tuple(a for i, a in enumerate(axes) if i != axis)


def _dynamic_slice(eqn: _compat.Equation, axes: Axes) -> tuple[Any, Axes]:
    sizes, (operand, *starts) = eqn.params["slice_sizes"], eqn.invars
    known = [int(start.val) for start in starts if isinstance(start, _compat.Literal)]
    if len(known) < len(starts):
        return tuple(sizes), axes
    # XLA moves a start so that the slice stays inside.
    ends = (n - size for n, size in zip(_compat.shape(operand), sizes, strict=True))
    at = [min(max(start, 0), end) for start, end in zip(known, ends, strict=True)]
    return tuple(f"{a}:{a + size}" for a, size in zip(at, sizes, strict=True)), axes


def _gather(eqn: _compat.Equation, axes: Axes) -> tuple[Any, Axes]:
    p = eqn.params
    numbers = p["dimension_numbers"]
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    kept = iter([axis for i, axis in enumerate(axes) if i not in gone])
    out = range(len(_compat.shape(eqn.outvars[0])))
    offsets = set(numbers.offset_dims)
    return tuple(p["slice_sizes"]), tuple(next(kept) if i in offsets else None for i in out)


def _all_gather(eqn: _compat.Equation, axes: Axes) -> tuple[Any, Axes]:
    at = eqn.params["all_gather_dimension"]
    return None, axes if eqn.params["tiled"] else (*axes[:at], None, *axes[at:])


#: What each makes of the axes of its first operand, and the detail of its step.
VIEWS: dict[str, Callable[[_compat.Equation, Axes], tuple[Any, Axes]]] = {
    "convert_element_type": _convert,
    "reduce_precision": _same,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "reshape": _reshape,
    "rev": _rev,
    "slice": _slice,
    "split": _split,
    "unstack": _unstack,
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
    "all_gather": _all_gather,
}


def view(eqn: _compat.Equation, old: View, output: int) -> View | None:
    """One output of an equation whose operand 0 is a view; None if that is a use of it."""
    name = eqn.primitive.name
    if len(old.steps) >= MOST_STEPS:
        return None
    if name in IDENTITIES:
        return old
    if name not in VIEWS:
        return None
    detail, axes = VIEWS[name](eqn, old.axes)
    if name in ("split", "unstack"):
        detail = (f"#{output}", *detail)
    return old.then(name, detail, axes)
