"""Which arrays of a call an analysis is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from activjax.program._trace import is_array


@dataclass(frozen=True)
class Chosen:
    """An array leaf of a chosen argument.

    Attributes:
      index: its number among the traced arrays of the call.
      path: its path in the argument (`jax.tree_util.keystr`); after the argument's number where
        several arguments are chosen.
      shape: its shape.
      dtype: its dtype.
    """

    index: int
    path: str
    shape: tuple[int, ...]
    dtype: Any


def check_argnums(what: str, argnums: Any) -> tuple[int, ...]:
    """`argnums` as a tuple of distinct integers.

    Raises:
      TypeError: it is neither an integer nor a sequence of some.
      ValueError: it is empty or names an argument twice.
    """
    out = tuple(argnums) if isinstance(argnums, Sequence) else (argnums,)
    if any(isinstance(n, bool) or not isinstance(n, int) for n in out):
        raise TypeError(f"{what}: argnums must be an integer or several, got {argnums!r}")
    if not out or len(set(out)) < len(out):
        raise ValueError(f"{what}: argnums must name at least one argument and each once: {out}")
    return out


def chosen(
    what: str, args: tuple[Any, ...], argnums: tuple[int, ...], several: bool
) -> list[Chosen]:
    """The array leaves of the arguments `argnums` of a call.

    Raises:
      ValueError: there are not so many arguments.
      TypeError: an argument holds no array.
    """
    wanted = [n + len(args) if n < 0 else n for n in argnums]
    if bad := [n for n, w in zip(argnums, wanted) if not 0 <= w < len(args)]:
        raise ValueError(
            f"{what}: argnums {bad[0]} names no positional argument; the call has {len(args)}"
        )
    found: dict[int, list[Chosen]] = {n: [] for n in wanted}
    count = 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(args)[0]:
        if not is_array(leaf):
            continue
        number = path[0].idx
        if number in found:
            inside = jax.tree_util.keystr(path if several else path[1:])
            found[number].append(Chosen(count, inside, leaf.shape, leaf.dtype))
        count += 1
    for n, w in zip(argnums, wanted):
        if not found[w]:
            raise TypeError(
                f"{what}: argument {n} holds no array (numbers are static); pass arrays or "
                "jax.ShapeDtypeStructs"
            )
    return [leaf for w in wanted for leaf in found[w]]
