"""`Problem`: a network, boxes of inputs, and which outputs are unsafe."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from activjax.verify._property import Clause, Property

FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Case:
    """A box of inputs and what is unsafe for them: any one of its clauses.

    Attributes:
      lower, upper: `d` fractions each, the flattened input in C order; a side may be a single
        number.
      clauses: the outputs are unsafe where one of them holds.
    """

    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]
    clauses: tuple[Clause, ...]


@dataclass(frozen=True, eq=False)
class Problem:
    """Is there an input in one of the boxes whose output is unsafe?

    The network is taken to be what its program says in real arithmetic, with its constants as they
    are stored.

    Attributes:
      apply: `apply(params, x)`, one example of `input_shape` to an array of any shape, whose
        elements in C order are the outputs.
      params: arrays; a search over many networks of one shape is compiled once.
      input_shape: of one example.
      outputs: the number of outputs.
      cases: boxes with their clauses; safe if no case has an unsafe input.
      digest: of the network: `sha256:` of the ONNX file, or of the parameters.
      name: for messages.
      dtype: of the example that `apply` takes.
    """

    apply: Callable[[Any, Any], Any]
    params: Any
    input_shape: tuple[int, ...]
    outputs: int
    cases: tuple[Case, ...]
    digest: str
    name: str = "problem"
    dtype: Any = FLOAT32

    def __post_init__(self) -> None:
        d = self.inputs
        if not d:
            raise ValueError(f"{self.name}: the input has shape {self.input_shape}, no elements")
        if not self.cases:
            raise ValueError(f"{self.name}: no box of inputs; expected at least one")
        for case in self.cases:
            if len(case.lower) != d or len(case.upper) != d:
                raise ValueError(
                    f"{self.name}: a box has {len(case.lower)} lower and {len(case.upper)} upper "
                    f"bounds, expected {d}: the input has shape {self.input_shape}"
                )
            for i, (low, high) in enumerate(zip(case.lower, case.upper, strict=True)):
                if low > high:
                    raise ValueError(
                        f"{self.name}: the box is empty: input {i} goes from {float(low)} to "
                        f"{float(high)}; expected lower <= upper"
                    )
            for clause in case.clauses:
                for row in clause.weights:
                    if len(row) != self.outputs:
                        raise ValueError(
                            f"{self.name}: a property names {len(row)} outputs, the network has "
                            f"{self.outputs}"
                        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.params):
            number = jnp.issubdtype(np.asarray(leaf).dtype, jnp.inexact)  # bfloat16 is one as well
            if number and not np.isfinite(leaf).all():
                raise ValueError(
                    f"{self.name}: the network's {jax.tree_util.keystr(path) or 'parameter'} has "
                    "NaN or infinite numbers; nothing can be proved about it"
                )

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return int(np.prod(self.input_shape))

    @classmethod
    def from_vnnlib(cls, onnx: str | Path, vnnlib: str | Path) -> Problem:
        """The problem of an ONNX network and a VNN-LIB property (1.0 or 2.0).

        Raises:
          FormatError: a file that is not what its format asks for, with line and column, or node.
        """
        from activjax.verify.formats import read_problem

        return read_problem(Path(onnx), Path(vnnlib))

    @classmethod
    def from_model(
        cls,
        apply: Callable[[Any, Any], Any],
        params: Any,
        box: tuple[Any, Any],
        property: Property,
        *,
        name: str = "problem",
    ) -> Problem:
        """The problem of a model that maps a batch `[n, ...]` to outputs `[n, ...]`.

        The network is what the model makes of a batch of one example: one whose examples act on one
        another (batch normalisation by the batch itself) is another function in larger batches.

        Args:
          apply: `apply(params, inputs)`, of a `Model` or any function of JAX.
          params: its parameters.
          box: `(lower, upper)`, arrays of the shape of one example.
          property: what should hold: `verify.largest(3)`, `verify.smallest(0)`, ...
          name: for messages.

        Raises:
          ValueError: an empty box, bounds or parameters that are not finite, a box or outputs of a
            shape that does not fit, or a property of outputs that the model does not have.
        """
        lower, upper = (np.asarray(side) for side in box)
        if lower.shape != upper.shape:
            raise ValueError(f"{name}: the box has shapes {lower.shape} and {upper.shape}")
        for side in (lower, upper):
            if not np.isfinite(side).all():
                raise ValueError(f"{name}: the box has NaN or infinite bounds")
        dtype = FLOAT32

        one = Single(apply)
        outputs = _outputs(name, apply, params, lower.shape, dtype)
        low, high = (tuple(map(Fraction, side.ravel().tolist())) for side in (lower, upper))
        case = Case(low, high, property.clauses(outputs))
        return cls(one, params, lower.shape, outputs, (case,), digest(params), name)

    def __repr__(self) -> str:
        boxes = f"{len(self.cases)} box" + ("es" if len(self.cases) > 1 else "")
        return f"Problem({self.name!r}, {self.inputs} inputs, {self.outputs} outputs, {boxes})"


@dataclass(frozen=True, eq=False)
class Single:
    """One example of a function of a batch; equal for equal functions, so programs are shared."""

    apply: Callable[[Any, Any], Any]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Single) and (
            self.apply is other.apply or self._key() == other._key()
        )

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> Any:
        try:
            hash(self.apply)
        except TypeError:  # a partial with arrays, say: equal to itself alone
            return id(self.apply)
        return self.apply

    def __call__(self, params: Any, x: Any) -> Any:
        return self.apply(params, x[None])[0]


def _outputs(
    name: str, apply: Callable[[Any, Any], Any], params: Any, shape: tuple[int, ...], dtype: Any
) -> int:
    """How many outputs one example has."""
    batch = jax.ShapeDtypeStruct((1, *shape), dtype)
    try:
        out = jax.eval_shape(apply, params, batch)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: the model fails on a batch of one example, {list(batch.shape)} of {dtype}; "
            f"the box should have the shape of one example, it has {list(shape)}. It says: {error}"
        ) from error
    found = getattr(out, "shape", None)
    if found is None or found[:1] != (1,):
        what = f"a {type(out).__name__}" if found is None else f"shape {list(found)}"
        raise ValueError(
            f"{name}: the model returns {what} for a batch of one example; expected one array "
            "[1, ...] of outputs"
        )
    return int(np.prod(found[1:]))


def digest(params: Any) -> str:
    """`sha256:` of the names, shapes and bytes of parameters."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.ascontiguousarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape};".encode())
        total.update(array.tobytes())
    return f"sha256:{total.hexdigest()}"
