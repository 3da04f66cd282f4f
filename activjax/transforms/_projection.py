"""Orthogonal projection on the span of rows, with derivatives that are finite everywhere."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

_product = functools.partial(jnp.matmul, precision="highest")


def _floor(rows: Array) -> float:
    # Singular values below this, relative to the largest, are rounding errors (as in LAPACK).
    return float(jnp.finfo(rows.dtype).eps) * max(rows.shape)


def _basis(rows: Array) -> Array:
    """[r, d] orthonormal rows of the same span; 0 in the place of those that add nothing to it."""
    # Scaled so that squares neither overflow nor vanish, first by powers of two, since the
    # reciprocal of a very large number would be flushed to zero.
    large = jnp.max(jnp.abs(rows), initial=0) > 1
    rows = rows * jnp.where(large, 2.0**-64, 2.0**64).astype(rows.dtype)
    size = jnp.max(jnp.abs(rows), initial=0)
    rows = rows / jnp.where(size > 0, size, 1).astype(rows.dtype)
    if rows.shape[0] == 1:
        return rows / jnp.where(size > 0, jnp.linalg.norm(rows), 1).astype(rows.dtype)
    _, s, vh = jnp.linalg.svd(rows, full_matrices=False)
    return jnp.where((s > _floor(rows) * s[:1])[:, None], vh, 0)


@jax.custom_jvp
def project(x: Inexact[Array, "... d"], rows: Inexact[Array, "r d"]) -> Inexact[Array, "... d"]:
    """The part of `x` in the span of `rows`, which may be dependent, of any length, or zero.

    The derivative with respect to `rows` is that at constant rank (Golub and Pereyra 1973, SIAM J.
    Numer. Anal. 10(2), eq. 4.12); unlike that of a singular value decomposition it exists where
    singular values are equal, as those of orthonormal rows are. At zero rows it is 0.
    """
    basis = _basis(rows)
    return _product(_product(x, basis.conj().T), basis)


@project.defjvp
def _project_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    x, rows = primals
    dx, drows = tangents
    inverse = jnp.linalg.pinv(rows, rtol=_floor(rows))  # it has a rule of its own, see above
    inside = project(x, rows)
    moved = _product(_product(x, inverse), drows)
    back = _product(_product(x - inside, drows.conj().T), inverse.conj().T)
    # Tangents are projected by matrices, since a second derivative would pass by a rule here.
    along = _product(_product(dx - moved, inverse), rows)
    return inside, along + moved + back
