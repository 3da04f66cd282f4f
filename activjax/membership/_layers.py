"""Which parameters get ghost gradients, and which are materialised for each example.

A leaf is a ghost where every use of it is a matrix product, a convolution or a lookup that can be
reached, and its thin factors are smaller than itself: `T (in + out) < in out` over the `T` rows
of all its uses. Every other leaf is materialised: JAX differentiates by it and moves it, an array
of its own for each example. That is exact for any use, and for vectors it is what a ghost would
keep anyway; of a leaf that is large and not covered it is expensive, and said.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from activjax import program
from activjax.membership._uses import DenseUse, LookupUse, MatrixUse, matrix_use
from activjax.program import _compat

#: Steps from a leaf to its use that lose nothing and repeat nothing.
_PLAIN = {"scan", "convert_element_type", "transpose", "squeeze", "reshape", "rev"}
_PARTS = {"slice", "split", "unstack", "dynamic_slice"}
_AROUND = {"jit", "call", "scan", "remat"}


@dataclass(frozen=True)
class Part:
    """One use of a ghost leaf.

    Attributes:
      number: of the part among all.
      matrix: of the matrix among all.
      use: how the operation uses it.
      swapped: whether its rows are the columns of the matrix's first use.
      path: where the operation stands.
      loops: where each loop around stands, outermost first.
      shared: of each loop, whether all its iterations use the same matrix.
      lengths: of each loop.
      out: shape and dtype of what the operation puts out, in one iteration.
    """

    number: int
    matrix: int
    use: MatrixUse
    swapped: bool
    path: tuple[int, ...]
    loops: tuple[tuple[int, ...], ...]
    shared: tuple[bool, ...]
    lengths: tuple[int, ...]
    out: Any

    @property
    def rows(self) -> int:
        """Rows of the factors, over the loops that share the matrix."""
        return self.use.rows * math.prod(n for n, s in zip(self.lengths, self.shared) if s)

    @property
    def copies(self) -> int:
        """How many matrices there are: one an iteration of the loops that do not share."""
        return math.prod(n for n, s in zip(self.lengths, self.shared) if not s)


@dataclass(frozen=True)
class Layers:
    """What is done with every leaf of the moving parameters.

    Attributes:
      parts: uses of ghost leaves, by number.
      materialised: names of all other leaves, in order.
      reasons: of those among them that are large and not covered, why.
      covered: uses that are matrix products and the like, ghosts or not.
    """

    parts: tuple[Part, ...]
    materialised: tuple[str, ...]
    reasons: dict[str, str]
    covered: tuple[Part, ...]

    def plan(self) -> program.Plan:
        """The plan that leads `interpret` to every part."""
        plan = program.Plan()
        for part in self.parts:
            plan.add(program.Place(path=part.path), part)
        return plan


def find_layers(traced: program.Program, names: Sequence[str], *, keep: bool = False) -> Layers:
    """Decide for every leaf of a program's first argument.

    Args:
      traced: the program.
      names: of the leaves, in order.
      keep: ghosts also where that is larger than the leaf.
    """
    plain = program.uses_in(traced)
    lookups = program.uses_in(traced, lookups=True)
    parts: list[Part] = []
    materialised: list[str] = []
    uncovered: dict[str, tuple[int, str]] = {}
    every: list[Part] = []
    matrices = 0
    for name, leaf in zip(names, plain.leaves, strict=True):
        if not plain.of(leaf):
            materialised.append(name)  # its gradient is 0
            continue
        found = [_matrices(traced, uses.of(leaf)) for uses in (plain, lookups)]
        covered = [f for f in found if not isinstance(f, str)]
        every += itertools.chain.from_iterable(covered[0]) if covered else ()
        ghost = next((f for f in covered if keep or all(map(_smaller, f))), None)
        if ghost is not None:
            for matrix in ghost:
                for part in matrix:
                    parts.append(replace(part, number=len(parts), matrix=matrices))
                matrices += 1
            continue
        materialised.append(name)
        if not covered and not _small(plain.of(leaf)):
            size = math.prod(plain.of(leaf)[0].shape)
            uncovered[name] = size, str(found[0])
    # What is smaller than the activations that are kept anyway needs no warning.
    kept = factors(every)
    reasons = {name: why for name, (size, why) in uncovered.items() if size > kept}
    return Layers(tuple(parts), tuple(materialised), reasons, tuple(every))


def _width(part: Part) -> int:
    """Numbers in a row of inputs."""
    return 1 if isinstance(part.use, LookupUse) else part.use.inputs * part.use.groups


def _smaller(matrix: list[Part]) -> bool:
    """The layer rule: whether all factors together are smaller than the matrix."""
    use = matrix[0].use
    return factors(matrix) < matrix[0].copies * use.groups * use.inputs * use.outputs


def factors(parts: Sequence[Part]) -> int:
    """Numbers in all factors of some uses."""
    return sum(p.copies * p.rows * (_width(p) + p.use.outputs * p.use.groups) for p in parts)


def _small(uses: Sequence[program.Use]) -> bool:
    """Whether a leaf has no more entries than the arrays that meet it: biases, gains, adapters."""
    leaf = math.prod(uses[0].shape)
    for use in uses:
        loops = math.prod(x.length or 1 for x in use.loops if x.leaf == "sliced")
        others = (o for i, o in enumerate(use.operands) if i != use.operand)
        met = max((math.prod(o.shape) for o in others), default=0)
        if not use.data or leaf > loops * met:
            return False
    return True


def _matrices(traced: program.Program, uses: Sequence[program.Use]) -> list[list[Part]] | str:
    """The uses of a leaf as matrices that do not overlap, or why they are none."""
    parts = []
    for use in uses:
        part = _part(traced, use)
        if isinstance(part, str):
            return part
        parts.append(part)
    return _together(list(uses), parts)


def _part(traced: program.Program, use: program.Use) -> Part | str:
    what = f"`{use.name}`"
    if use.kind == "output":
        return "it is an output"
    around = list(program.around(traced.closed, use.place.path))
    eqn = around[-1]
    matrix = matrix_use(eqn, use.operand)
    if matrix is None:
        return f"{what} is not a matrix product, a convolution or a lookup of rows"
    if not use.data and not isinstance(matrix, LookupUse):
        return f"{what} meets no data, only parameters"
    if use.sometimes:
        return f"{what} uses it only sometimes"
    if use.place.copy or use.place.blocked:
        return use.place.blocked or f"{what} stands in a backward pass"
    for outer in around[:-1]:
        if _compat.kind(outer) not in _AROUND:
            return f"{what} stands inside `{outer.primitive.name}`"
    if any(loop.leaf == "indexed" for loop in use.loops):
        return f"{what} looks its part up at an index that changes in a loop"
    odd = [s.name for s in use.views if s.name not in _PLAIN | _PARTS | {"broadcast_in_dim"}]
    converted = [str(s.detail) for s in use.views if s.name == "convert_element_type"]
    odd += [d for d in converted if not jnp.issubdtype(jnp.dtype(d), jnp.floating)]
    if odd:
        return f"it reaches {what} through `{odd[0]}`"
    shape = _compat.shape(eqn.invars[use.operand])
    shared = tuple(loop.leaf != "sliced" for loop in use.loops)
    lengths = tuple(loop.length or 1 for loop in use.loops)
    whole = math.prod(use.shape) // math.prod(n for n, s in zip(lengths, shared) if not s)
    partial = any(s.name in _PARTS for s in use.views)
    spread = any(s.name == "broadcast_in_dim" for s in use.views)
    # Of a part that is broadcast the size does not tell whether its entries are repeated.
    if (partial and spread) or (math.prod(shape) != whole and not partial):
        return f"it reaches {what} repeated or through a broadcast"
    if sum(s.name == "scan" for s in use.views) != sum(not s for s in shared):
        return f"it reaches {what} through a loop that has ended"
    if not jnp.issubdtype(_compat.dtype(eqn.outvars[0]), jnp.floating):
        return f"{what} puts out {_compat.dtype(eqn.outvars[0])}"
    path = use.place.path
    scans = (i for i, outer in enumerate(around[:-1]) if _compat.kind(outer) == "scan")
    loops = tuple(path[: i + 1] for i in scans)
    return Part(0, 0, matrix, False, path, loops, shared, lengths, eqn.outvars[0].aval)


def _together(uses: list[program.Use], parts: list[Part]) -> list[list[Part]] | str:
    """Parts that use the same entries, in the same layout; or why that cannot be told."""
    groups: list[tuple[program.Use, list[Part]]] = []
    for use, part in zip(uses, parts, strict=True):
        for first, group in groups:
            same = use.views == first.views and not any(map(_unknown, use.views))
            if same or (_whole(use) and _whole(first)):
                aligned = _aligned(first, group[0], use, part)
                if isinstance(aligned, str):
                    return aligned
                group.append(aligned)
                break
        else:
            groups.append((use, [part]))
    for (a, _), (b, _) in itertools.combinations(groups, 2):
        if not _apart(a, b):
            return "its uses may overlap, in different layouts"
    return [group for _, group in groups]


def _whole(use: program.Use) -> bool:
    """Whether its axes tell where each entry is: it is no part, and not reversed."""
    return not any(s.name in _PARTS or s.name == "rev" for s in use.views)


def _unknown(step: program.Step) -> bool:
    """Whether a step, described alike, may have taken another part: starts are computed."""
    return step.name == "dynamic_slice" and not all(isinstance(d, str) for d in step.detail)


def _aligned(first: program.Use, model: Part, use: program.Use, part: Part) -> Part | str:
    """The part with its rows and columns in the order of the matrix's first use."""
    if _sliced_loops(model) != _sliced_loops(part):
        return "different loops hand out its slices"
    same_view = (use.views, use.operand, use.axes) == (first.views, first.operand, first.axes)
    layouts = [(type(m), m.axes, m.groups) for m in (model.use, part.use)]
    if same_view and layouts[0] == layouts[1]:
        return part
    mine, theirs = _leaf_axes(use, part.use), _leaf_axes(first, model.use)
    if mine is None or theirs is None or mine[2] != theirs[2] or mine[2]:
        return "the axes of its uses cannot be told apart"
    if isinstance(part.use, LookupUse | DenseUse) and isinstance(model.use, LookupUse | DenseUse):
        for swapped, (rows, columns) in enumerate((theirs[:2], theirs[1::-1])):
            if set(rows) != set(mine[0]) or set(columns) != set(mine[1]):
                continue
            orders = [mine[0].index(a) for a in rows], [mine[1].index(a) for a in columns]
            if isinstance(part.use, DenseUse):
                part.use.reorder(*orders)
            elif orders[1] != sorted(orders[1]):
                break
            return replace(part, swapped=bool(swapped))
    return "its uses sum over different axes"


def _sliced_loops(part: Part) -> tuple[Any, ...]:
    """Which loops hand out slices."""
    return tuple(loop for loop, shared in zip(part.loops, part.shared) if not shared)


def _leaf_axes(use: program.Use, matrix: MatrixUse) -> tuple[Any, Any, Any] | None:
    """Rows, columns and blocks of a use as axes of the leaf; None where one is not known."""
    sides = (matrix.axes.rows, matrix.axes.columns, matrix.axes.blocks)
    named = tuple(tuple(use.axes[i] for i in side if i is not None) for side in sides)
    flat = [a for side in named for a in side]
    return None if None in flat or len(set(flat)) < len(flat) else named  # type: ignore


def _apart(a: program.Use, b: program.Use) -> bool:
    """Whether two uses see no entry in common: they part at slices that do not meet."""
    for one, two in zip(a.views, b.views):
        if _unknown(one) or _unknown(two):
            return False
        if one == two:
            continue
        if one.name in ("split", "unstack"):  # of one cut, another output
            return one.name == two.name and one.detail[1:] == two.detail[1:]
        if {one.name, two.name} <= {"slice", "dynamic_slice"}:
            pairs = zip(one.detail, two.detail, strict=True)
            return any(_disjoint(x, y) for x, y in pairs)
        return False
    return False


def _disjoint(a: str, b: str) -> bool:
    """Whether two slices `start:stop` or `start:stop:step` have no index in common."""
    (start, stop, *_), (other, end, *_) = (tuple(map(int, s.split(":"))) for s in (a, b))
    return stop <= other or end <= start
