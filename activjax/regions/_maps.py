"""Which patterns have the same affine output map, decided in modular arithmetic.

Weights are float64 numbers, so the map of a pattern has dyadic rational coefficients, and whether
two maps are equal is a question without tolerance. Each map is evaluated at a random point modulo a
random prime (Schwartz 1980, Zippel 1979). All numbers are integers below 2^53 there, so matrix
products in float64 are exact.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float64, Int

from activjax.program.networks import Affine, Matrix, Network

_LOW, _HIGH = 1 << 20, 1 << 21  # primes are between
_INNER = 4096  # terms of a product: residues are at most 2^20 + 1 in size, 4096 (2^20 + 1)^2 < 2^53
_SURE = 60  # binary logarithm of the odds against any wrong answer in a call
_AT_ONCE = 1 << 22  # numbers in the values of all layers at work
_MOST = 64  # primes


def labels(
    network: Network,
    states: Int[np.ndarray, "n units"],
    origin: Float64[np.ndarray, " size"] | None = None,
    directions: Float64[np.ndarray, "k size"] | None = None,
) -> Int[np.ndarray, " n"]:
    """Numbers of the distinct affine output maps that hold at patterns.

    Different numbers are a proof that the maps differ. Equal numbers are equality but for odds: two
    different maps differ by a nonzero integer of at most B bits times a power of 2 in some
    coefficient, B being found from the exponents of the weights. At most B / 20 of the 73,586
    primes between 2^20 and 2^21 divide it; modulo any other prime p the two maps agree at a random
    point, in a random combination of the outputs, with probability at most 2 / p. So many primes
    are used that the chance of any wrong equality among the n patterns is below 2^-60. Primes and
    points are drawn once, with a fixed seed: the same call gives the same answer, and a network
    that was built against them could deceive it.

    Args:
      network: its weights are taken for exact numbers.
      states: patterns.
      origin, directions: compare the maps as functions of `s` at `origin + s @ directions`, these
        too taken for exact; both or neither. By default they are functions of the input.

    Returns:
      Of each pattern the number of its map: 0, 1, ... in the order of first appearance.

    Raises:
      ValueError: shapes that do not fit, NaN or infinite numbers, or weights whose exponents are so
        far apart that no number of primes is enough.
    """
    states = np.asarray(states)
    if states.ndim != 2 or states.shape[1] != network.units:
        raise ValueError(
            f"labels: states has shape {states.shape}, expected [n, {network.units}], a state for "
            "each unit"
        )
    if (origin is None) != (directions is None):
        raise ValueError("labels: origin and directions are given together or not")
    if origin is None:
        origin, directions = np.zeros(network.size), np.eye(network.size)
    origin, directions = np.asarray(origin, np.float64), np.asarray(directions, np.float64)
    if origin.shape != (network.size,) or directions.shape[1:] != (network.size,):
        raise ValueError(
            f"labels: origin has shape {origin.shape} and directions {directions.shape}, expected "
            f"[{network.size}] and [k, {network.size}]"
        )
    n = len(states)
    group = np.zeros(n, np.int64)
    for i in range(_primes_needed(n, _bits(network, origin, directions))):
        again = (np.bincount(group, minlength=1)[group]) > 1  # alone already: it differs from all
        if not again.any():
            break
        rest = states if again.all() else states[again]
        residue = np.zeros(n, np.int64)
        residue[again] = _residues(network, rest, origin, directions, i)
        group = np.unique(group * _HIGH + residue, return_inverse=True)[1].reshape(-1)
    first = np.unique(group, return_index=True)[1]
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[group]


def _primes_needed(n: int, bits: int) -> int:
    odds = bits / math.log2(_LOW) / len(_primes()) + 2 / _LOW
    pairs = max(n * (n - 1) / 2, 1)
    needed = math.ceil((_SURE + math.log2(pairs)) / -math.log2(odds)) if odds < 1 else _MOST + 1
    if needed > _MOST:
        raise ValueError(
            f"labels: the coefficients of two maps may differ by integers of {bits} bits, as the "
            "exponents of the weights are far apart; this cannot be told by primes of 21 bits"
        )
    return needed


@cache
def _primes() -> np.ndarray:
    """All primes between 2^20 and 2^21, in an order drawn once."""
    sieve = np.ones(_HIGH, bool)
    for i in range(2, math.isqrt(_HIGH) + 1):
        if sieve[i]:
            sieve[i * i :: i] = False
    return np.random.default_rng(20250727).permutation(_LOW + np.flatnonzero(sieve[_LOW:]))


def _residues(
    network: Network, states: np.ndarray, origin: np.ndarray, directions: np.ndarray, prime: int
) -> np.ndarray:
    """A random combination of the outputs at a random point, modulo the prime of a number."""
    p = int(_primes()[prime])
    rng = np.random.default_rng(prime)
    point = rng.integers(p, size=(1, len(directions))).astype(np.float64)
    combined = rng.integers(p, size=(network.out.size, 1)).astype(np.float64)
    x = _reduce(_product(_reduce(point, p), modulo(directions, p), p) + modulo(origin, p), p)
    # The input is one point for all patterns: what the layers read of it joins their biases.
    layers = [_at_input(layer.affine, x, p) for layer in network.layers]
    out = _at_input(network.out, x, p)
    out = Affine(
        {s: _product(m, combined, p) for s, m in out.matrices.items()},
        _product(out.bias[None], combined, p)[0],
    )
    widths = [layer.affine.size + layer.size for layer in network.layers]
    rows = max(_AT_ONCE // max(sum(widths), 1), 1)
    found = np.empty(len(states), np.int64)
    slices, last = network.slices, network.last_use
    for start in range(0, len(states), rows):
        part = states[start : start + rows]
        values: dict[int, np.ndarray] = {}
        for i, (layer, affine) in enumerate(zip(network.layers, layers, strict=True)):
            values[i + 1] = layer.chosen(_apply(affine, values, len(part), p), part[:, slices[i]])
            values = {s: v for s, v in values.items() if last.get(s, -1) > i}
        found[start : start + rows] = np.mod(_apply(out, values, len(part), p)[:, 0], p)
    return found


def _at_input(affine: Affine, x: np.ndarray, p: int) -> Affine:
    """An affine map modulo p, the input being the row `x`."""
    matrices = {s: modulo(m, p) for s, m in affine.matrices.items()}
    bias = modulo(affine.bias, p)
    if 0 in matrices:
        bias = _reduce(bias + _product(x, matrices.pop(0), p)[0], p)
    return Affine(matrices, bias)


def _apply(affine: Affine, values: dict[int, np.ndarray], n: int, p: int) -> np.ndarray:
    z = np.broadcast_to(affine.bias, (n, affine.size))
    for source, matrix in affine.matrices.items():
        z = _reduce(z + _product(values[source], matrix, p), p)
    return z


def _product(rows: Any, matrix: Any, p: int) -> np.ndarray:
    """`rows @ matrix` modulo p, exactly."""
    inner = matrix.shape[0]
    if inner <= _INNER:
        return _reduce(np.asarray(rows @ matrix), p)
    total = np.zeros((rows.shape[0], matrix.shape[1]))
    for start in range(0, inner, _INNER):
        part = slice(start, start + _INNER)
        total += _reduce(np.asarray(rows[:, part] @ matrix[part]), p)
    return _reduce(total, p)


def _reduce(z: np.ndarray, p: int) -> np.ndarray:
    """Modulo p, to residues of at most p / 2 + 1 in size, of integers below 2^53.

    The quotient is below 2^33 and off by less than 2^-18, so the residue is by less than p 2^-18.
    """
    return z - p * np.rint(z * (1.0 / p))


def modulo(matrix: Matrix | np.ndarray, p: int) -> Any:
    """Residues modulo an odd prime of float64 numbers, in a matrix of the same kind."""
    if scipy.sparse.issparse(matrix):
        out = scipy.sparse.csr_array(matrix, copy=True)
        out.data = modulo(out.data, p)
        return out
    mantissa, exponent = np.frexp(np.asarray(matrix, np.float64))
    integer = np.ldexp(mantissa, 53).astype(np.int64) % p
    powers, which = np.unique(exponent, return_inverse=True)
    power = np.array([pow(2, int(e) - 53, p) for e in powers], np.int64)[which]
    return _reduce((integer * power.reshape(integer.shape)).astype(np.float64), p)


def _bits(network: Network, origin: np.ndarray, directions: np.ndarray) -> int:
    """Bits of the integers, up to one power of 2, by which coefficients of two maps may differ."""
    # Of each source: its coefficients are multiples of 2^low and below 2^high.
    source = [_both(_range("origin", origin), _range("directions", directions))]
    for i, layer in enumerate(network.layers):
        source.append(_after(f"layer {i}", layer.affine, source))
    low, high = _after("the output", network.out, source)
    return high + 1 - low


def _after(name: str, affine: Affine, source: list[tuple[int, int]]) -> tuple[int, int]:
    low, high = _range(name, affine.bias)
    terms = 1
    for s, matrix in affine.matrices.items():
        a, b = _range(name, matrix.data if scipy.sparse.issparse(matrix) else np.asarray(matrix))
        low, high = _both((low, high), (a + source[s][0], b + source[s][1]))
        terms += _length(matrix)
    return low, high + math.ceil(math.log2(terms))


def _length(matrix: Any) -> int:
    return matrix.shape[0]


def _both(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return min(a[0], b[0]), max(a[1], b[1])


def _range(name: str, numbers: Any) -> tuple[int, int]:
    numbers = np.asarray(numbers)
    if not np.isfinite(numbers).all():
        raise ValueError(f"labels: {name} has NaN or infinite numbers")
    exponent = np.frexp(numbers[numbers != 0])[1]
    return (int(exponent.min()) - 53, int(exponent.max())) if exponent.size else (0, 0)
