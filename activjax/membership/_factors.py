"""A matrix as a sum of products of thin factors, and what is asked of one that is never formed.

The gradient of a dense layer's weights for one example is `sum_t a_t delta_t^T`, of the layer's
inputs and the derivatives by its outputs; that of an embedding has rows of the identity in place
of inputs. Its norm and products with it need the factors only: the "ghost" norms of Goodfellow
("Efficient per-example gradient computations", 2015) and Li et al. ("Large language models can be
strong differentially private learners", 2022), and products in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from activjax.training._dtypes import wide


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dense:
    """Rows of numbers; groups are the blocks of a block-diagonal matrix, one in a plain layer."""

    rows: Float[Array, "groups rows columns"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OneHot:
    """Rows of the identity matrix, by their numbers; one out of range is a row of zeros."""

    index: Int[Array, " rows"]
    columns: int = field(metadata={"static": True})


Side = Dense | OneHot


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Product:
    """`left^T right`, a matrix `[groups, left's columns, right's columns]`.

    Attributes:
      left, right: as many rows each; at most one is `OneHot`.
      precision: of the products of matrices.
    """

    left: Side
    right: Side
    precision: Any = field(metadata={"static": True}, default=None)

    @property
    def transposed(self) -> Product:
        """`right^T left`."""
        return replace(self, left=self.right, right=self.left)


def times(x: Side, matrix: tuple[Product, ...]) -> Array:
    """`x` times a sum of products, `[groups, x's rows, columns]`, in float32 at least."""
    parts = [_combine(_gram(x, p.left, p.precision), p.right, p.precision) for p in matrix]
    return sum(parts[1:], parts[0])


def square_norm(matrix: tuple[Product, ...]) -> Array:
    """The squared Frobenius norm of a sum of products, from the rows' inner products."""
    total = []
    for i, p in enumerate(matrix):
        for q in matrix[: i + 1]:
            left, right = _gram(p.left, q.left, p.precision), _gram(p.right, q.right, p.precision)
            dtype = max(left.dtype, right.dtype, key=lambda d: d.itemsize)
            pair = jnp.sum(left.astype(dtype) * right.astype(dtype))
            total.append(pair if p is q else 2 * pair)
    return sum(total[1:], total[0])


def scaled(matrix: tuple[Product, ...], by: Array) -> tuple[Product, ...]:
    """A sum of products times a number."""

    def one(p: Product) -> Product:
        if isinstance(p.right, Dense):
            return replace(p, right=_scaled(p.right, by))
        return replace(p, left=_scaled(p.left, by))

    return tuple(one(p) for p in matrix)


def _scaled(side: Side, by: Array) -> Side:
    assert isinstance(side, Dense)  # of a product at most one side is one-hot
    dtype = wide(side.rows.dtype)
    return Dense(side.rows.astype(dtype) * by.astype(dtype))


def _gram(a: Side, b: Side, precision: Any) -> Array:
    """Inner products of rows, `[groups, a's rows, b's rows]`."""
    if isinstance(a, Dense) and isinstance(b, Dense):
        return _matmul(a.rows, jnp.swapaxes(b.rows, -1, -2), precision)
    if isinstance(b, OneHot) and isinstance(a, Dense):
        return jnp.take(a.rows, b.index, axis=-1, mode="fill", fill_value=0).astype(
            wide(a.rows.dtype)
        )
    if isinstance(a, OneHot) and isinstance(b, Dense):
        return jnp.swapaxes(_gram(b, a, precision), -1, -2)
    assert isinstance(a, OneHot)
    assert isinstance(b, OneHot)
    inside = (a.index >= 0) & (a.index < a.columns)
    return ((a.index[:, None] == b.index) & inside[:, None]).astype(jnp.float32)[None]


def _combine(weights: Array, side: Side, precision: Any) -> Array:
    """Weighted sums of rows, `[groups, sums, columns]`."""
    if isinstance(side, Dense):
        dtype = max(weights.dtype, side.rows.dtype, key=lambda d: d.itemsize)
        return _matmul(weights.astype(dtype), side.rows.astype(dtype), precision)
    zeros = jnp.zeros((*weights.shape[:-1], side.columns), weights.dtype)
    return zeros.at[..., side.index].add(weights, mode="drop")


def _matmul(a: Array, b: Array, precision: Any) -> Array:
    return jnp.matmul(a, b, precision=precision, preferred_element_type=wide(a.dtype))
