"""`Tape`: a function as linear operations between rectifiers, in the order of evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

Kind = Literal["input", "linear", "relu"]


@dataclass(eq=False)
class Node:
    """An array that depends on the input.

    Attributes:
      kind: the input; an affine function of the operands; or `max(operand, 0)`.
      shape: of one example.
      operands: the nodes that it is made from.
      linear: for "linear", the function without its constant.
      absolute: the same with every coefficient replaced by its absolute value.
      constant: for "linear", what is added; None for zero.
      terms: the most terms of a sum in `linear` or in its transpose, plus the other roundings.
      name: the operation in the user's program.
    """

    kind: Kind
    shape: tuple[int, ...]
    operands: tuple[Node, ...] = ()
    linear: Callable[..., Any] | None = None
    absolute: Callable[..., Any] | None = None
    constant: Any = None
    terms: int = 0
    name: str = ""

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape))

    def transpose(self, cotangent: Any) -> list[Any]:
        """Cotangents `[k, *shape]` of each operand, from one of the node's own."""
        assert self.linear is not None
        like = [jax.ShapeDtypeStruct(x.shape, cotangent.dtype) for x in self.operands]
        back = jax.linear_transpose(self.linear, *like)
        return list(jax.vmap(back)(cotangent))


@dataclass(eq=False)
class Tape:
    """What `record` found.

    Attributes:
      input: the node of the input.
      nodes: all, in the order of evaluation.
      outputs: for each output array a node, or an array that does not depend on the input.
    """

    input: Node
    nodes: list[Node]
    outputs: list[Any] = field(default_factory=list)

    @cached_property
    def relus(self) -> list[Node]:
        """The rectifiers in order."""
        return [n for n in self.nodes if n.kind == "relu"]

    @cached_property
    def units(self) -> int:
        """The number of rectifying units of all of them."""
        return sum(n.size for n in self.relus)

    @cached_property
    def slices(self) -> dict[Node, slice]:
        """The units of each rectifier among all."""
        ends = np.cumsum([0, *(n.size for n in self.relus)]).tolist()
        return {n: slice(a, b) for n, a, b in zip(self.relus, ends, ends[1:])}

    @cached_property
    def number(self) -> dict[Node, int]:
        """The place of each node in the order."""
        return {n: i for i, n in enumerate(self.nodes)}

    @cached_property
    def segment_terms(self) -> dict[Node, int]:
        """By node, the terms of the linear operations between it and the rectifiers below it.

        Each operation counts once more for every node that reads its result, so do the input and
        the rectifiers at the lower end: so often are cotangents added there.
        """
        readers: dict[Node, int] = {}
        for node in self.nodes:
            for operand in node.operands:
                readers[operand] = readers.get(operand, 0) + 1
        total = {}
        for node in self.nodes:
            seen, stack = set(), [node]
            while stack:
                at = stack.pop()
                if at in seen:
                    continue
                seen.add(at)
                if at.kind == "linear":
                    stack.extend(at.operands)
            total[node] = sum(readers.get(n, 0) + _own_terms(n) for n in seen)
        return total

    @cached_property
    def additions(self) -> int:
        """How many numbers a backward pass adds to the constant of a linear bound."""
        return len(self.relus) + sum(n.constant is not None for n in self.nodes) + 2

    def output(self, dtype: Any) -> Node:
        """All outputs, flattened and laid end to end, as one node."""
        parts = [o if isinstance(o, Node) else None for o in self.outputs]
        operands = tuple(n for n in parts if n is not None)
        sizes = [int(np.prod(np.shape(o) if n is None else n.shape)) for n, o in
                 zip(parts, self.outputs, strict=True)]  # fmt: skip

        def linear(*xs: Any) -> Any:
            rest = iter(xs)
            flat = [
                jnp.zeros(size, dtype) if n is None else next(rest).reshape(-1)
                for n, size in zip(parts, sizes, strict=True)
            ]
            return jnp.concatenate(flat) if len(flat) > 1 else flat[0]

        constant = None
        if any(n is None for n in parts):
            constant = jnp.concatenate([
                jnp.zeros(size, dtype) if isinstance(o, Node) else jnp.asarray(o, dtype).ravel()
                for o, size in zip(self.outputs, sizes, strict=True)
            ])  # fmt: skip
        node = Node("linear", (sum(sizes),), operands, linear, linear, constant, 1, "outputs")
        self.nodes.append(node)
        self.forget()
        return node

    def forget(self) -> None:
        """Drops what was derived from the nodes, after one was added."""
        for name in ("number", "segment_terms", "additions"):
            self.__dict__.pop(name, None)


def _own_terms(node: Node) -> int:
    if node.kind != "linear":
        return 0
    return node.terms + (0 if node.constant is None else node.size)


def below(nodes: Sequence[Node]) -> set[Node]:
    """The nodes and all that they are made from."""
    found: set[Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(node.operands)
    return found
