"""Breakpoints along segments on the default device: one compiled program for a network's structure.

As `_segments_host`, with a fixed capacity of rows for each segment. Rows beyond those in use repeat
the last one, so that nothing is found between them.

In float32 roots that are the same within rounding are one, and a value that stays within rounding
of 0 is 0. On segments between Gaussian points in 64 dimensions through He-normal networks, against
float64 (benchmarks/region_segments.py): 0.04% of the pieces are missing at 3 x 32 units, 0.13% at
3 x 128 and 0.22% at 6 x 64, most of them shorter than 1e-4 but up to 0.009 of a segment; none is
found that is not there. Breakpoints are off by 6e-8 (median), 2e-6 (one of 1,000), at most 6e-5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax import lax
from jaxtyping import Array

from activjax.program.networks import Network, dense
from activjax.regions._rounding import DEVIATIONS
from activjax.regions._segments_host import Sweep

_FACTOR = DEVIATIONS**2
_DENSE = 2 << 30  # bytes that sparse matrices may take as dense ones
_LEAST = 16


@dataclass(frozen=True)
class Structure:
    """What of a network the compiled program depends on.

    Attributes:
      size: of the input.
      layers: of each, its sources, its number of values, the shape of its groups.
      last_use: pairs (source, the last layer that reads it).
    """

    size: int
    layers: tuple[tuple[tuple[int, ...], int, tuple[int, int] | None], ...]
    last_use: tuple[tuple[int, int], ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Breakpoints:
    """What the program finds for S segments and capacity K.

    Attributes:
      t: `[S, K]`, places of the ends and breakpoints in order, then 1.
      rows: `[S]`, how many of them there are: one more than there are pieces.
      overflow: `[S]`, whether there was no room for all, so that the others mean nothing.
      states: `[S, K - 1, units]`, uint8 or int32, in the middles between two adjacent ones.
    """

    t: Array
    rows: Array
    overflow: Array
    states: Array


def parameters(network: Network, dtype: Any) -> tuple[Structure, list[Any]]:
    """A network as a structure and arrays.

    Raises:
      ValueError: its sparse matrices would take more than 2 GiB as dense ones.
    """
    every: list[Any] = [m for layer in network.layers for m in layer.affine.matrices.values()]
    sizes = [m.shape[0] * m.shape[1] for m in every if scipy.sparse.issparse(m)]
    need = np.dtype(dtype).itemsize * sum(sizes)
    if need > _DENSE:
        raise ValueError(
            f"segments: on the device the sparse matrices of this network become dense and take "
            f'{need:,} bytes, the most is {_DENSE:,}; use engine="host"'
        )
    layers, arrays = [], []
    for layer in network.layers:
        matrices = {s: dense(m) for s, m in sorted(layer.affine.matrices.items())}
        groups = None if layer.groups is None else layer.groups.shape
        layers.append((tuple(matrices), layer.affine.size, groups))
        arrays.append((
            {s: m.astype(dtype) for s, m in matrices.items()},
            layer.affine.bias.astype(dtype),
            None if layer.groups is None else layer.groups.astype(np.int32),
        ))  # fmt: skip
    last = tuple(sorted(network.last_use.items()))
    return Structure(network.size, tuple(layers), last), arrays


@partial(jax.jit, static_argnames=("structure", "capacity"))
def breakpoints(
    structure: Structure, capacity: int, arrays: list[Any], x0: Array, x1: Array
) -> Breakpoints:
    """The ends and breakpoints of segments, in the precision of what it gets.

    Args:
      structure, arrays: of `parameters`.
      capacity: of rows.
      x0, x1: `[S, size]`.
    """
    return jax.vmap(partial(_one, structure, capacity, arrays))(x0, x1)


def _one(structure: Structure, capacity: int, arrays: list[Any], x0: Array, x1: Array) -> Any:
    K, dtype = capacity, x0.dtype
    unit = np.asarray(jnp.finfo(dtype).eps / 2, dtype)
    row = jnp.arange(K)
    t = (row > 0).astype(dtype)
    n, overflow = jnp.asarray(2, jnp.int32), jnp.asarray(False)
    x = jnp.where(row[:, None] > 0, x1, x0)
    sources: dict[int, tuple[Array, Array]] = {0: (x, jnp.square(unit * x))}
    last = dict(structure.last_use)
    for i, ((names, size, shape), (matrices, bias, groups)) in enumerate(
        zip(structure.layers, arrays, strict=True)
    ):
        z = jnp.broadcast_to(bias, (K, size))
        variance = jnp.broadcast_to((unit * bias) ** 2, (K, size))
        for s in names:
            values, spread = sources[s]
            z = z + jnp.matmul(values, matrices[s], precision="highest")
            variance = variance + jnp.matmul(spread, matrices[s] ** 2, precision="highest")
        variance = variance + (unit * z) ** 2
        sources = {s: both for s, both in sources.items() if last.get(s, -1) > i}
        if shape is None:
            z = jnp.where(z * z <= _FACTOR * variance, 0, z)
            z, found = _crossings(t, z, variance)
        else:
            z, variance = z[:, groups], variance[:, groups]
            z = _ties(z, variance)
            found = _changes(t, z, variance)
        flat = z.reshape(K, -1), variance.reshape(K, -1)
        place, root = _insert(t, n, *found)
        overflow = overflow | root.overflow
        z, variance = place(flat, unit)
        t = t[place.low] + place.at * (t[place.after] - t[place.low])
        n = jnp.minimum(place.n, K)
        sources = {s: place(both, unit) for s, both in sources.items()}
        if shape is None:
            z = z.at[root.where, root.column].set(0, mode="drop")
            alone = jnp.where(root.alone, root.where, K)
            variance = variance.at[alone, root.column].set(0, mode="drop")
            out, variance = jnp.maximum(z, 0), jnp.where(z < 0, 0, variance)
        else:
            z, variance = z.reshape(K, *shape), variance.reshape(K, *shape)
            group = root.column % shape[0]
            top = z[root.where, group].max(-1)
            one, other = (x[root.row, root.column] for x in found[3:])
            z = z.at[root.where, group, one].set(top, mode="drop")
            z = z.at[root.where, group, other].set(top, mode="drop")
            winner = z.argmax(-1)[..., None]
            out, variance = (jnp.take_along_axis(x, winner, -1)[..., 0] for x in (z, variance))
        if last.get(i + 1, -1) > i:
            sources[i + 1] = out, variance + (unit * out) ** 2
    middle = (t[1:] + t[:-1]) / 2
    states = _states(structure, arrays, x0 + middle[:, None] * (x1 - x0))
    return Breakpoints(t, n, overflow, states)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Place:
    """Where the rows come from: between `low` and `after` at `at`; its error has a `variance`."""

    low: Array
    after: Array
    at: Array
    variance: Array
    n: Array

    def __call__(self, both: tuple[Array, Array], unit: Any) -> tuple[Array, Array]:
        values, variance = both
        at = self.at[:, None]
        low, high = values[self.low], values[self.after]
        rows = (1 - at) * low + at * high
        spread = (1 - at) * variance[self.low] + at * variance[self.after]
        spread = spread + self.variance[:, None] * (high - low) ** 2
        return rows, spread + jnp.where(at > 0, 4 * (unit * rows) ** 2, 0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Roots:
    """Up to K roots: the row before, the column, the new row (K where there is none)."""

    row: Array
    column: Array
    where: Array
    alone: Array
    overflow: Array


def _insert(
    t: Array, n: Array, cross: Array, at: Array, tolerance: Array, *_: Array
) -> tuple[_Place, _Roots]:
    """As `_Rows._insert` of the host, from `[K - 1, columns]`: whether, where, how exactly."""
    K = len(t)
    index = jnp.arange(K, dtype=jnp.int32)
    counts = cross.sum(1, dtype=jnp.int32)
    ends = jnp.cumsum(counts)
    total = ends[-1]
    # Slot m is for the m-th root in the order of rows and columns.
    row = jnp.minimum(jnp.searchsorted(ends, index, side="right", method="compare_all"), K - 2)
    row = row.astype(jnp.int32)
    within = index - (ends - counts)[row]
    through = jnp.cumsum(cross, axis=1, dtype=jnp.int32)
    column = (through[row] <= within[:, None]).sum(1, dtype=jnp.int32)
    column = jnp.minimum(column, cross.shape[1] - 1)
    valid = index < total
    key = jnp.where(valid, row, K)
    key, a, column = lax.sort((key, at[row, column], column), num_keys=2)
    row = jnp.minimum(key, K - 2)
    tol = tolerance[row, column]
    place = t[row] + a * (t[row + 1] - t[row])
    apart = (a[1:] - a[:-1] > jnp.maximum(tol[1:], tol[:-1])) & (place[1:] > place[:-1])
    new = jnp.append(True, apart | (key[1:] != key[:-1])) & valid
    through = jnp.cumsum(new, dtype=jnp.int32)
    which = jnp.where(valid, through - 1, K)
    where = jnp.where(valid, row + 1 + which, K)
    leader = lax.cummax(jnp.where(new, index, 0))
    width = (tol + (a - a[leader])) ** 2 / _FACTOR
    # Old rows move by the number of new ones before them.
    before = jnp.append(jnp.zeros(1, jnp.int32), ends)
    before = jnp.append(jnp.zeros(1, jnp.int32), through)[jnp.minimum(before, K)]
    old = jnp.where(index < n, index + before, K)
    first = jnp.where(new, where, K)
    low = jnp.full(K, n - 1).at[old].set(index, mode="drop").at[first].set(row, mode="drop")
    where_at = jnp.zeros(K, t.dtype).at[first].set(a, mode="drop")
    variance = jnp.zeros(K, t.dtype).at[where].max(width, mode="drop")
    alone = jnp.zeros(K, jnp.int32).at[which].add(1, mode="drop")[jnp.minimum(which, K - 1)] == 1
    size = n + through[-1]
    found = _Place(low, jnp.minimum(low + 1, K - 1), where_at, variance, size)
    return found, _Roots(row, column, where, alone, (total > K) | (size > K))


def _crossings(t: Array, z: Array, variance: Array) -> tuple[Array, tuple[Array, ...]]:
    """Where values `[K, n]` change their signs; and they, 0 where a root is at a row itself."""
    low, high = z[:-1], z[1:]
    cross = ((low > 0) & (high < 0)) | ((low < 0) & (high > 0))
    at = jnp.where(cross, low / jnp.where(cross, low - high, 1), 0)
    start, stop = t[:-1, None], t[1:, None]
    place = start + at * (stop - start)
    inside = (place > start) & (place < stop)
    snapped = cross & ~inside
    none = jnp.zeros((1, z.shape[1]), bool)
    snapped = jnp.concatenate([snapped & (at <= 0.5), none]) | jnp.concatenate(
        [none, snapped & (at > 0.5)]
    )
    rounding = (1 - at) * variance[:-1] + at * variance[1:]
    tolerance = jnp.sqrt(_FACTOR * rounding) / jnp.where(cross, jnp.abs(high - low), 1)
    return jnp.where(snapped, 0, z), (cross & inside, at, tolerance)


def _ties(z: Array, variance: Array) -> Array:
    winner = z.argmax(-1)[..., None]
    top = jnp.take_along_axis(z, winner, -1)
    rounding = _FACTOR * (variance + jnp.take_along_axis(variance, winner, -1))
    return jnp.where((top - z) ** 2 <= rounding, top, z)


def _changes(t: Array, z: Array, variance: Array) -> tuple[Array, ...]:
    """Where the largest of groups `[K, units, k]` changes, and from which to which."""
    a, b, low, high = z[:-1], z[1:], variance[:-1], variance[1:]
    one = _first(a, b)

    def pick(x: Array, which: Array) -> Array:
        return jnp.take_along_axis(x, which[..., None], -1)[..., 0]

    def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Any]:
        one, live = carry
        behind, ahead = pick(a, one)[..., None] - a, b - pick(b, one)[..., None]
        over = ahead > 0
        at = jnp.where(over, behind / jnp.where(over, behind + ahead, 1), jnp.inf)
        first = at.min(-1)
        other = jnp.where(at == first[..., None], b, -jnp.inf).argmax(-1)
        live = live & over.any(-1)
        first = jnp.where(live, first, 0)
        noise = (1 - first) * (pick(low, one) + pick(low, other))
        noise = noise + first * (pick(high, one) + pick(high, other))
        slope = jnp.where(live, pick(behind, other) + pick(ahead, other), 1)
        out = live, first, jnp.sqrt(_FACTOR * noise) / slope, one, other
        return (jnp.where(live, other, one), live), out

    rounds = max(z.shape[-1] - 1, 1)
    _, found = lax.scan(step, (one, one != _first(b, a)), None, length=rounds)
    cross, at, tolerance, one, other = (jnp.moveaxis(x, 0, 1).reshape(len(a), -1) for x in found)
    start, stop = t[:-1, None], t[1:, None]
    place = start + at * (stop - start)
    return cross & (place > start) & (place < stop), at, tolerance, one, other


def _first(here: Array, there: Array) -> Array:
    return jnp.where(here == here.max(-1, keepdims=True), there, -jnp.inf).argmax(-1)


def _states(structure: Structure, arrays: list[Any], x: Array) -> Array:
    """The patterns at rows."""
    most = max([2, *(shape[1] for _, _, shape in structure.layers if shape)])
    dtype = jnp.uint8 if most <= 256 else jnp.int32
    values, states = {0: x}, [jnp.zeros((len(x), 0), dtype)]
    for i, ((names, size, shape), (matrices, bias, groups)) in enumerate(
        zip(structure.layers, arrays, strict=True)
    ):
        z = jnp.broadcast_to(bias, (len(x), size))
        for s in names:
            z = z + jnp.matmul(values[s], matrices[s], precision="highest")
        if shape is None:
            states.append((z > 0).astype(dtype))
            values[i + 1] = jnp.maximum(z, 0)
        else:
            states.append(z[:, groups].argmax(-1).astype(dtype))
            values[i + 1] = z[:, groups].max(-1)
    return jnp.concatenate(states, axis=1)


def sweep(
    network: Network,
    x0: np.ndarray,
    x1: np.ndarray,
    *,
    dtype: Any = np.float64,
    capacity: int | None = None,
    chunk: int = 64,
) -> Sweep:
    """As `_segments_host.sweep`, without points.

    Segments for which the capacity was too small are run again with twice as much, and nothing is
    cut off. A program is compiled for each structure of a network, capacity and chunk, not for its
    weights.

    Args:
      network: the function.
      x0, x1: `[S, size]`.
      dtype: float64 or float32, to compute in.
      capacity: of rows, one more than pieces, to begin with; a guess if left out.
      chunk: how many segments at once; the last ones are padded.
    """
    with jax.enable_x64(np.dtype(dtype) == np.float64):
        structure, arrays = parameters(network, dtype)
        arrays = jax.device_put(arrays)
        # About half of the units has its hinge on a long segment.
        rows = capacity or max(_LEAST, 1 << int(np.ceil(np.log2(2 + network.units / 2))))
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        pending = np.arange(len(x0))
        while len(pending):
            again = []
            for i in range(0, len(pending), chunk):
                own = pending[i : i + chunk]
                padded = np.resize(own, chunk)
                run = breakpoints(
                    structure, rows, arrays, x0[padded].astype(dtype), x1[padded].astype(dtype)
                )
                run = jax.tree.map(np.asarray, run)
                for j, segment in enumerate(own.tolist()):
                    n = int(run.rows[j])
                    if run.overflow[j]:
                        again.append(segment)
                    else:
                        found[segment] = run.t[j, :n], run.states[j, : n - 1]
            pending, rows = np.array(again, np.int64), 2 * rows
    return _ragged(network, [found[i] for i in range(len(x0))])


def _ragged(network: Network, found: list[tuple[np.ndarray, np.ndarray]]) -> Sweep:
    per = [len(states) for _, states in found]
    nothing, empty = np.zeros((0, network.units), network.state_dtype), np.zeros(0)
    return Sweep(
        np.repeat(np.arange(len(found)), per),
        np.concatenate([empty, *(t[:-1] for t, _ in found)]),
        np.concatenate([empty, *(t[1:] for t, _ in found)]),
        np.concatenate([nothing, *(x.astype(nothing.dtype) for _, x in found)]),
        None,
    )
