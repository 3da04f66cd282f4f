"""Arrays of affine functions of a network's sources, and what linear operations make of them."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from activjax.program import Equation, UnsupportedError
from activjax.program.networks._network import Affine, Matrix, dense

#: Rows of a matrix are pushed through an operation in parts of at most so many numbers.
CHUNK = 1 << 23
#: Larger matrices with fewer entries than this share are kept sparse.
DENSE, SMALL = 0.1, 1 << 16


@dataclass(frozen=True, eq=False)
class Form:
    """An array whose elements are affine functions.

    Attributes:
      shape: of the array.
      affine: the elements in C order.
    """

    shape: tuple[int, ...]
    affine: Affine

    def __sub__(self, other: Form | float | np.ndarray) -> Form:
        if not isinstance(other, Form):
            flat = np.broadcast_to(np.asarray(other, np.float64), self.shape).ravel()
            return Form(self.shape, Affine(self.affine.matrices, self.affine.bias - flat))
        return self.plus(other, -1.0)

    def plus(self, other: Form, times: float | np.ndarray = 1.0) -> Form:
        """`self + times * other`; `times` is a number or one for each element."""
        scaled = other.scaled(times).affine
        matrices = dict(self.affine.matrices)
        for source, matrix in scaled.matrices.items():
            matrices[source] = compact(matrices[source] + matrix) if source in matrices else matrix
        return Form(self.shape, Affine(matrices, self.affine.bias + scaled.bias))

    def scaled(self, times: float | np.ndarray) -> Form:
        """Each element times a number of its own."""
        factors = np.broadcast_to(np.asarray(times, np.float64), self.shape).ravel()

        def columns(m: Matrix) -> Matrix:
            return (
                m * factors if isinstance(m, np.ndarray) else m @ scipy.sparse.diags_array(factors)
            )

        matrices = {s: columns(m) for s, m in self.affine.matrices.items()}
        return Form(self.shape, Affine(matrices, self.affine.bias * factors))


def source(number: int, shape: tuple[int, ...]) -> Form:
    """The values of a source themselves."""
    n = int(np.prod(shape))
    eye = compact(scipy.sparse.eye_array(n, format="csr"))
    return Form(shape, Affine({number: eye}, np.zeros(n)))


def joined(forms: Sequence[Form]) -> Affine:
    """The elements of several arrays, one after the other."""
    sizes = [f.affine.size for f in forms]
    every = {s: n for f in forms for s, n in f.affine.sources.items()}
    matrices = {}
    for s, rows in every.items():
        parts = [
            f.affine.matrices.get(s, scipy.sparse.csr_array((rows, n)))
            for f, n in zip(forms, sizes, strict=True)
        ]
        matrices[s] = _stacked(scipy.sparse.hstack, parts)
    return Affine(matrices, np.concatenate([f.affine.bias for f in forms]))


def _stacked(stack: Callable[..., Any], parts: list[Any]) -> Matrix:
    if len(parts) == 1:
        return compact(parts[0])
    return compact(stack([scipy.sparse.csr_array(p) for p in parts], format="csr"))


def compact(matrix: Any) -> Matrix:
    """Dense or CSR, whichever suits."""
    size = int(np.prod(matrix.shape))
    if isinstance(matrix, np.ndarray):
        if size <= SMALL or np.count_nonzero(matrix) > DENSE * size:
            return matrix
        return scipy.sparse.csr_array(matrix)
    matrix = scipy.sparse.csr_array(matrix)
    return matrix.toarray() if size <= SMALL or matrix.nnz > DENSE * size else matrix


def linear(eqn: Equation, operands: Sequence[Any], positions: Sequence[int]) -> list[Form]:
    """The outputs of an operation that is jointly linear in the operands at `positions`.

    Args:
      eqn: the operation.
      operands: forms and arrays; all outside `positions` are arrays.
      positions: operands in which it is linear, with the others fixed.
    """
    forms = {i: operands[i] for i in positions if isinstance(operands[i], Form)}
    shapes = {i: np.shape(eqn.invars[i].aval) for i in positions}  # pyright: ignore
    fixed = {i: _constant(v) for i, v in enumerate(operands) if i not in positions}

    def run(parts: dict[int, np.ndarray]) -> list[np.ndarray]:
        values = [parts[i] if i in parts else fixed[i] for i in range(len(operands))]
        rule = _RULES.get(eqn.primitive.name)
        with np.errstate(all="ignore"):  # what is not finite is refused at the end, by name
            return [rule(eqn, values)] if rule else _through_jax(eqn, values, positions)

    ones = {
        i: (forms[i].affine.bias if i in forms else _constant(operands[i])).reshape(1, *shapes[i])
        for i in positions
    }
    biases = [np.asarray(b, np.float64).ravel() for b in run(ones)]
    columns: list[dict[int, Matrix]] = [{} for _ in biases]
    every = {s: n for f in forms.values() for s, n in f.affine.sources.items()}
    widest = max(1, *(int(np.prod(s)) for s in shapes.values()), *map(len, biases))
    filling = None
    if eqn.params.get("fill_value"):  # of a gather: the bias has it
        (filling,) = run({i: np.zeros((1, *shape)) for i, shape in shapes.items()})
    step = max(1, CHUNK // widest)
    for s, rows in every.items():
        found: list[list[Any]] = [[] for _ in biases]
        for start in range(0, rows, step):
            chunk = slice(start, min(start + step, rows))
            parts = {
                i: _rows(forms[i].affine.matrices.get(s) if i in forms else None, chunk, shape)
                for i, shape in shapes.items()
            }
            for k, out in enumerate(run(parts)):
                out = out if filling is None else out - filling
                found[k].append(compact(out.reshape(chunk.stop - chunk.start, -1)))
        for k, blocks in enumerate(found):
            columns[k][s] = _stacked(scipy.sparse.vstack, blocks)
    shapes_out = [tuple(v.aval.shape) for v in eqn.outvars]  # pyright: ignore
    return [
        Form(shape, Affine({s: m for s, m in cols.items() if _any(m)}, bias))
        for shape, cols, bias in zip(shapes_out, columns, biases, strict=True)
    ]


def _any(matrix: Matrix) -> bool:
    return bool(matrix.any()) if isinstance(matrix, np.ndarray) else bool(matrix.nnz)


def _rows(matrix: Matrix | None, chunk: slice, shape: tuple[int, ...]) -> np.ndarray:
    n = chunk.stop - chunk.start
    if matrix is None:
        return np.zeros((n, *shape))
    return dense(matrix[chunk]).reshape(n, *shape)


def _constant(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(np.float64)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise UnsupportedError("complex numbers are not supported; use real ones")
    return array


# --- operations, with one more axis in front of the operands in which they are linear -----------


def _broadcast(eqn: Equation, values: list[np.ndarray]) -> np.ndarray:
    (x, *_), shape, dims = values, eqn.params["shape"], eqn.params["broadcast_dimensions"]
    inner = [1] * len(shape)
    for axis, size in zip(dims, x.shape[1:], strict=True):
        inner[axis] = size
    return np.broadcast_to(x.reshape(len(x), *inner), (len(x), *shape))


def _sum(eqn: Equation, values: list[np.ndarray]) -> np.ndarray:
    return values[0].sum(axis=tuple(a + 1 for a in eqn.params["axes"]))


def _reshape(eqn: Equation, values: list[np.ndarray]) -> np.ndarray:
    return values[0].reshape(len(values[0]), *eqn.outvars[0].aval.shape)  # pyright: ignore


def _transpose(eqn: Equation, values: list[np.ndarray]) -> np.ndarray:
    return values[0].transpose(0, *(a + 1 for a in eqn.params["permutation"]))


def _slice(eqn: Equation, values: list[np.ndarray]) -> np.ndarray:
    p = eqn.params
    steps = p["strides"] or [1] * len(p["start_indices"])
    bounds = zip(p["start_indices"], p["limit_indices"], steps, strict=True)
    return values[0][(slice(None), *(slice(a, b, c) for a, b, c in bounds))]


def _concatenate(eqn: Equation, values: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(values, axis=eqn.params["dimension"] + 1)


def _elementwise(g: Callable[..., Any]) -> Callable[[Equation, list[np.ndarray]], np.ndarray]:
    def rule(eqn: Equation, values: list[np.ndarray]) -> np.ndarray:
        # Scalars are stretched to the rank of the others, behind the axis in front.
        rank = len(eqn.outvars[0].aval.shape)  # pyright: ignore
        stretched = []
        for var, v in zip(eqn.invars, values, strict=True):
            own = len(var.aval.shape)  # pyright: ignore
            front = v.ndim - own
            stretched.append(v.reshape(v.shape[:front] + (1,) * (rank - own) + v.shape[front:]))
        return g(*stretched)

    return rule


def _select(which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    out = cases[0]
    for k, case in enumerate(cases[1:], 1):
        out = np.where(which == k, case, out)
    return out


def _dot(eqn: Equation, values: list[np.ndarray]) -> np.ndarray:
    (left, right), (batch_left, batch_right) = eqn.params["dimension_numbers"]
    ranks = [len(v.aval.shape) for v in eqn.invars]  # pyright: ignore
    names = iter(string.ascii_lowercase)
    letters = [[""] * rank for rank in ranks]
    batch = [next(names) for _ in batch_left]
    for axes, side in ((batch_left, 0), (batch_right, 1)):
        for letter, axis in zip(batch, axes, strict=True):
            letters[side][axis] = letter
    for a, b in zip(left, right, strict=True):
        letters[0][a] = letters[1][b] = next(names)
    out = list(batch)
    for side in letters:
        for axis, letter in enumerate(side):
            if not letter:
                side[axis] = next(names)
                out.append(side[axis])
    extra = ["Z" if v.ndim > rank else "" for v, rank in zip(values, ranks, strict=True)]
    terms = ",".join(e + "".join(side) for e, side in zip(extra, letters, strict=True))
    return np.einsum(f"{terms}->Z{''.join(out)}", *values, optimize=True)


_RULES: dict[str, Callable[[Equation, list[np.ndarray]], np.ndarray]] = {
    "add": _elementwise(np.add),
    "add_any": _elementwise(np.add),
    "sub": _elementwise(np.subtract),
    "neg": _elementwise(np.negative),
    "mul": _elementwise(np.multiply),
    "div": _elementwise(np.divide),
    "dot_general": _dot,
    "broadcast_in_dim": _broadcast,
    "reduce_sum": _sum,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "concatenate": _concatenate,
    "select_n": _elementwise(_select),
}


def _through_jax(
    eqn: Equation, values: list[np.ndarray], positions: Sequence[int]
) -> list[np.ndarray]:
    """Any other operation, by JAX in float64, mapped over the axis in front."""
    params = dict(eqn.primitive.get_bind_params(eqn.params))
    if params.get("preferred_element_type") is not None:
        params["preferred_element_type"] = None
    bind = eqn.primitive.bind
    if params.get("update_jaxpr") is not None:  # in the program's precision: made anew
        del params["update_jaxpr"], params["update_consts"]
        bind = getattr(jax.lax, eqn.primitive.name.replace("-", "_"))

    def once(*operands: jax.Array) -> list[jax.Array]:
        out = bind(*operands, **params)
        return list(out) if eqn.primitive.multiple_results else [out]

    axes = tuple(0 if i in positions else None for i in range(len(values)))
    with jax.enable_x64(True):
        return [np.asarray(x) for x in jax.vmap(once, in_axes=axes)(*map(jnp.asarray, values))]
