"""A step along the gradient of one example, and the function after it, with ghost gradients.

Nothing of a ghost leaf's size is made for an example. The first pass adds zeros, *taps*, to what
every use of the leaf puts out: the loss's derivatives by them are the outputs' rows, and the other
operands are the inputs' rows, of a sum of products that is the leaf's gradient. In the second pass
the same uses add that sum's product with their new inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from activjax import program
from activjax.membership import _factors
from activjax.membership._factors import Dense, Product
from activjax.membership._layers import Layers, Part
from activjax.program import _compat
from activjax.training._dtypes import wide

Matrices = dict[int, tuple[Product, ...]]


class Passes(NamedTuple):
    """What the two passes give.

    Attributes:
      value: the scalar whose gradient was climbed, before.
      before, after: outputs of the program.
      square: the squared norm of the gradient.
      step: what the gradient was multiplied by.
      still: whether every part of the gradient is 0.
    """

    value: Array
    before: list[Array]
    after: list[Array]
    square: Array
    step: Array
    still: Array


def climb(
    closed: Any,
    layers: Layers,
    moving: dict[str, Array],
    rest: Sequence[Array],
    objective: Callable[[list[Array]], Array],
    length: Callable[[Array], Array],
) -> Passes:
    """One step up a scalar's gradient, for one example.

    Args:
      closed: the program; its inputs are the moving leaves in order, and then `rest`.
      layers: what to do with each leaf.
      moving: the leaves by name.
      rest: the other inputs.
      objective: the scalar, of the program's outputs.
      length: the step, of the gradient's squared norm.
    """
    plan = layers.plan()
    taps = {p.number: jnp.zeros((*p.lengths, *p.out.shape), p.out.dtype) for p in layers.parts}
    free = {name: moving[name] for name in layers.materialised}
    slots: dict[int, int] = {}

    def first(taps: Any, free: Any) -> Any:
        frame = _Tapped(taps, {}, slots)
        outs = program.interpret(closed, [*{**moving, **free}.values(), *rest], plan, frame)
        return objective(outs), (outs, frame.record)

    value, pull, (before, record) = jax.vjp(first, taps, free, has_aux=True)
    slopes, grads = pull(jnp.ones_like(value))
    # XLA on a CPU (jaxlib 0.10.2) takes garbage for the sum of a Gram matrix of broadcast rows, as
    # a mean over positions gives: it must not see that they are broadcast.
    record, slopes = jax.lax.optimization_barrier((record, slopes))
    matrices = {
        number: tuple(_product(p, record[slots[p.number]], slopes[p.number]) for p in parts)
        for number, parts in _by_matrix(layers.parts).items()
    }
    depths = {p.matrix: sum(not s for s in p.shared) for p in layers.parts}
    squares = [_square(m, depths[number]) for number, m in matrices.items()]
    squares += [jnp.sum(jnp.square(g.astype(wide(g.dtype)))) for g in grads.values()]
    square = sum(squares[1:], squares[0]) if squares else jnp.zeros(())
    step = length(square)
    frame = _Moved({n: _factors.scaled(m, step) for n, m in matrices.items()}, 0)
    moved = {name: stepped(leaf, grads[name], step) for name, leaf in free.items()}
    after = program.interpret(closed, [*{**moving, **moved}.values(), *rest], plan, frame)
    return Passes(value, before, after, square, step, all_zero((slopes, grads)))


def all_zero(tree: Any) -> Array:
    """Whether no number in a tree differs from 0; NaN does."""
    return jnp.stack([jnp.all(a == 0) for a in jax.tree.leaves(tree)]).all()


def stepped(leaf: Array, gradient: Array, step: Array) -> Array:
    """A leaf after the step, in its own dtype; the sum is taken in float32 at least."""
    dtype = wide(leaf.dtype)
    moved = leaf.astype(dtype) + step.astype(dtype) * gradient.astype(dtype)
    return moved.astype(leaf.dtype)


def _by_matrix(parts: Sequence[Part]) -> dict[int, list[Part]]:
    out: dict[int, list[Part]] = {}
    for part in parts:
        out.setdefault(part.matrix, []).append(part)
    return out


def _product(part: Part, other: Array, slope: Array) -> Product:
    """A use's share of the gradient; axes of loops that hand out slices stay in front."""

    def sides(other: Array, slope: Array) -> Any:
        return part.use.side(other), Dense(part.use.out_rows(slope))

    for _ in part.lengths:
        sides = jax.vmap(sides)
    left, right = sides(other, slope)
    product = Product(left, right, part.use.precision)
    product = jax.tree.map(lambda a: _rows_together(a, part), product)
    return product.transposed if part.swapped else product


def _rows_together(side: Array, part: Part) -> Array:
    """Rows of loops that share the matrix become rows of one factor."""
    kept = [i for i, s in enumerate(part.shared) if not s]
    joined = [i for i, s in enumerate(part.shared) if s]
    n = len(part.shared)
    if not joined:
        return side
    if jnp.issubdtype(side.dtype, jnp.floating):  # [loops, groups, rows, columns]
        moved = side.transpose((*kept, n, *joined, n + 1, n + 2))
        head = moved.shape[: len(kept) + 1]
        return moved.reshape(*head, math.prod(moved.shape[len(head) : -1]), moved.shape[-1])
    moved = side.transpose((*kept, *joined, n))
    return moved.reshape(*moved.shape[: len(kept)], -1)


def _square(matrix: tuple[Product, ...], depth: int) -> Array:
    """The squared norm, one matrix of a stack at a time."""
    if not depth:
        return _factors.square_norm(matrix)
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[depth:]), matrix)
    zero = jnp.zeros((), jax.eval_shape(lambda: _factors.square_norm(_first(flat))).dtype)
    return jax.lax.scan(lambda sum_, m: (sum_ + _factors.square_norm(m), None), zero, flat)[0]


def _first(matrix: tuple[Product, ...]) -> tuple[Product, ...]:
    return jax.tree.map(lambda a: a[0], matrix)


class _Tapped(program.Frame):
    """The first pass: taps are added, and other operands kept.

    Attributes:
      taps: for each part, zeros; loops that have been entered are cut off.
      record: operands by slot.
      slots: for each part its slot; parts that share an operand share one.
    """

    def __init__(self, taps: dict[int, Array], record: dict[int, Array], slots: dict[int, int]):
        self.taps, self.record, self.slots = taps, record, slots

    def leaf(self, eqn: Any, invals: list[Any], data: Part) -> list[Any]:
        (out,) = _compat.rebind(eqn, invals)
        other = invals[data.use.other]
        same = (slot for slot, value in self.record.items() if value is other)
        slot = self.slots[data.number] = next(same, data.number)
        self.record[slot] = other
        return [out + self.taps[data.number]]

    def child(self, *, reading: bool = False) -> _Tapped:
        del reading
        return _Tapped(self.taps, {}, self.slots)

    def side(self) -> dict[int, Array]:
        return self.record

    def absorb(self, side: dict[int, Array]) -> None:
        self.record |= side

    def loop(self, plan: program.Plan, info: program.LoopInfo) -> program.Loop:
        del info
        return _TappedLoop(self, {p.number: self.taps[p.number] for p in plan.data()})


class _TappedLoop(program.Loop):
    def __init__(self, parent: _Tapped, taps: dict[int, Array]):
        self.parent, self.xs = parent, taps

    def enter(self, index: Array, x: Any) -> program.Frame:
        del index
        return _Tapped(x, {}, self.parent.slots)  # type: ignore[attr-defined]


class _Moved(program.Frame):
    """The second pass: every use adds the product of its inputs with the step.

    Attributes:
      matrices: the step of each matrix, by number; slices of those in loops that hand them out.
      depth: how many loops have been entered.
    """

    def __init__(self, matrices: Matrices, depth: int):
        self.matrices, self.depth = matrices, depth

    def leaf(self, eqn: Any, invals: list[Any], data: Part) -> list[Any]:
        matrix = self.matrices[data.matrix]
        if data.swapped:
            matrix = tuple(p.transposed for p in matrix)
        rows = _factors.times(data.use.side(invals[data.use.other]), matrix)
        (out,) = _wide_rebind(eqn, invals)
        moved = out.astype(rows.dtype) + data.use.out(rows, out.shape)
        return [moved.astype(data.out.dtype)]

    def loop(self, plan: program.Plan, info: program.LoopInfo) -> program.Loop:
        del info
        sliced = {p.matrix for p in plan.data() if not p.shared[self.depth]}
        return _MovedLoop(self, {n: m for n, m in self.matrices.items() if n in sliced})


class _MovedLoop(program.Loop):
    def __init__(self, parent: _Moved, sliced: Matrices):
        self.parent, self.xs = parent, sliced

    def enter(self, index: Array, x: Any) -> program.Frame:
        del index
        parent: Any = self.parent
        return _Moved({**parent.matrices, **x}, parent.depth + 1)


def _wide_rebind(eqn: Any, invals: list[Any]) -> list[Any]:
    """An equation run again; a product of half precision is summed and left in float32."""
    dtype = eqn.outvars[0].aval.dtype
    if "preferred_element_type" in eqn.params and jnp.finfo(dtype).bits < 32:
        params = eqn.primitive.get_bind_params(eqn.params)
        return [eqn.primitive.bind(*invals, **{**params, "preferred_element_type": jnp.float32})]
    return _compat.rebind(eqn, invals)
