"""`select`: where in a function's activations: site, loop iteration, position along an axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np

from activjax.transforms._indices import Index
from activjax.transforms._places import PerExample, Word


@dataclass(frozen=True, eq=False)
class Selector:
    """Where to read or edit. Made by `select`; a pytree whose leaves are the indices."""

    site: str
    layers: Index = None
    loops: Mapping[str, Index] = field(default_factory=dict)
    at: Mapping[str, Index] = field(default_factory=dict)
    reduce: Callable[[jax.Array], jax.Array] | None = None
    max_steps: int | None = None


jax.tree_util.register_dataclass(
    Selector, ["layers", "loops", "at"], ["site", "reduce", "max_steps"]
)


def select(
    site: str,
    *,
    layers: Index = None,
    loops: Mapping[str, Index] | None = None,
    at: Mapping[str, Index] | Index = None,
    reduce: Callable[[jax.Array], jax.Array] | None = None,
    max_steps: int | None = None,
) -> Selector:
    """Say where in a function's activations to read or edit.

    An index is an int (its axis disappears), a list, slice or 1-D array (its axis stays), or a JAX
    array of either kind, which may be traced. Negative indices count from the end. Python and NumPy
    indices are checked; a JAX array is not looked at, and one out of range gives NaN (integers: 0),
    or an error under `checkify`. Repeated indices are refused where they are known.

    Args:
      site: a glob over site names: `*` within a segment, `**` across.
      layers: iterations of the innermost loop around the site.
      loops: iterations of any surrounding loop, by name; unnamed loops are "loop0" (innermost),
        "loop1", ...
      at: positions along named axes of the value, such as `{"seq": -1}`; a bare index means "seq".
        "last" is -1, the end of what is given. In a function that names the `positions` of its
        tokens, as a decoder does, other indices are those: `5` is the token at position 5, wherever
        padding and a cache have put it. A word is a site that holds a position for each example,
        "last_prompt" in a decoder; `per_example(indices)` gives them directly. Where nothing stands
        at a position, a read is NaN and an edit does nothing.
      reduce: a function of one example's value, applied where the value is made (inside the loop).
      max_steps: iterations of a `while_loop` to keep, in a buffer filled up with NaN (integers: 0);
        without it the last value is read.

    Returns:
      A selector for `capture`, `intervene` and `act_vjp`.
    """
    if not isinstance(site, str):
        raise TypeError(f"select: expected a glob over site names, got {site!r}")
    if at is not None and not isinstance(at, Mapping):
        at = {"seq": at}
    if loops is not None and not isinstance(loops, Mapping):
        raise TypeError(f"select({site!r}): loops: expected {{name: index}}, got {loops!r}")
    named = {name: _plain(index) for name, index in (loops or {}).items()}
    places = {name: _position(site, name, index) for name, index in (at or {}).items()}
    return Selector(site, _plain(layers), named, places, reduce, max_steps)


def _position(site: str, axis: str, index: Index) -> Index:
    if isinstance(index, str):
        return -1 if index == "last" else Word(index)
    return index if isinstance(index, PerExample) else _plain(index)


def _plain(index: Index) -> Index:
    # NumPy integers are known now: as Python ones they are checked, and static under jit.
    if isinstance(index, (np.ndarray, np.integer)):
        return index.tolist()
    return list(index) if isinstance(index, range) else index


def as_selectors(select: str | Selector | Sequence[str | Selector]) -> tuple[Selector, ...]:
    """One selector or glob, or a sequence of them, as selectors."""
    if isinstance(select, str):
        return (Selector(select),)
    if isinstance(select, Selector):
        return (select,)
    if isinstance(select, Sequence):
        return tuple(s for item in select for s in as_selectors(item))
    raise TypeError(
        f"select: expected a glob, an aj.select(...) or a list of them, got {type(select).__name__}"
    )
