"""Steering as data: which codes to put in place, to ban, where to switch the bottleneck off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Int, Int32

from activjax.codebooks._books import specs_of
from activjax.codebooks._spec import Spec

_NONE = -1  # in ids: the bottleneck's own choice; in ban: no code


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Override:
    """What replaces a bottleneck's own choice at one site.

    All axes before `groups` but the loops are those of the tokens (batch, seq), each of its own
    size or 1, or there are none: then it holds for all tokens. Where the function says at which
    positions its tokens stand (a decoder does), the last of them counts positions: it may be of any
    length, entry p is for the token at position p, also under a cache, and tokens beyond it are
    left alone.

    Attributes:
      ids: the code to put in place at each rank, -1 for the bottleneck's own choice. None: none.
      ban: codes that are not chosen, -1 for none. None: none.
      off: where the activation passes as it is. None: nowhere.
    """

    ids: Int32[Array, "*loops *tokens groups k"] | None = None
    ban: Int32[Array, "*loops *tokens groups n"] | None = None
    off: Bool[Array, "*loops *tokens groups"] | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Overrides:
    """Overrides of all sites, made by `overrides`; every method returns a new one.

    Each method takes a site and, as keywords, where in it: `layer` (the innermost loop's index, or
    a tuple of all loops'), `group`, `example` and `position`; all of them where not given. Codes,
    and indices that are single numbers or arrays, may be traced. Whatever is set, shapes stay the
    same: a function that takes overrides is compiled once. Indices that are arrays go together, as
    in NumPy: `example=[0, 1], position=[4, 7]` are two places; codes are for all of them, or have
    an axis in front with those of each. A traced index out of range makes the site's output NaN.

    Attributes:
      sites: by site, as `run(override=)` takes them.
    """

    sites: dict[str, Override]
    _size: dict[str, tuple[int, int]] = field(metadata={"static": True}, repr=False)

    def set(self, site: str, codes: Any, **where: Any) -> Overrides:
        """Put codes in place of all `k` choices, nearest first; `codes` is `[..., k]`."""
        k = self._of(site)[1]
        codes = self._codes(site, codes)
        if codes.ndim == 0 or codes.shape[-1] != k:
            raise ValueError(f"set: {site!r} chooses {k} codes, got codes of shape {codes.shape}")
        return self._put(site, "ids", codes, where)

    def replace_last(self, site: str, code: Any, **where: Any) -> Overrides:
        """Put one code in place of the least similar choice."""
        ids = self._codes(site, code)
        return self._put(site, "ids", ids, where, rank=-1)

    def fill(self, site: str, code: Any, **where: Any) -> Overrides:
        """Put `k` copies of one code in place of all choices."""
        return self._put(site, "ids", self._codes(site, code)[..., None], where)

    def ban(self, site: str, codes: Any, **where: Any) -> Overrides:
        """Let other codes be chosen; at most as many as `overrides(bans=)` has room for.

        It replaces what was banned there before.
        """
        room = self._of(site)[0]
        codes = jnp.atleast_1d(self._codes(site, codes))
        if codes.shape[-1] > room:
            raise ValueError(
                f"ban: {codes.shape[-1]} codes at {site!r}, room for {room}: make them by "
                f"overrides(..., bans={codes.shape[-1]})"
            )
        rest = [(0, 0)] * (codes.ndim - 1) + [(0, room - codes.shape[-1])]
        return self._put(site, "ban", jnp.pad(codes, rest, constant_values=_NONE), where)

    def off(self, site: str, off: Any = True, **where: Any) -> Overrides:
        """Let the activation pass as it is."""
        return self._put(site, "off", jnp.asarray(off, bool), where)

    def _of(self, site: str) -> tuple[int, int]:
        if site not in self._size:
            raise ValueError(
                f"overrides: no codebook at {site!r}; there are: {', '.join(sorted(self._size))}"
            )
        one = self.sites[site]
        assert one.ban is not None
        assert one.ids is not None
        return one.ban.shape[-1], one.ids.shape[-1]

    def _codes(self, site: str, codes: Any) -> Array:
        self._of(site)
        size = self._size[site][0]
        if not isinstance(codes, Tracer):
            codes = np.asarray(codes)
            if codes.dtype.kind not in "iu":
                raise TypeError(f"overrides: codes are whole numbers, got {codes.dtype}")
            if codes.size and not (codes.min() >= _NONE and codes.max() < size):
                raise ValueError(
                    f"overrides: codes of {site!r} are 0 to {size - 1} (-1: its own choice), got "
                    f"{codes.min()} to {codes.max()}"
                )
        return jnp.asarray(codes).astype(jnp.int32)

    def _put(
        self, site: str, name: str, value: Array, where: Mapping[str, Any], rank: int | None = None
    ) -> Overrides:
        self._of(site)
        one, loops = self.sites[site], self._size[site][1]
        array = getattr(one, name)
        index = _index(site, array, loops, name == "off", dict(where))
        tail = 0 if name == "off" or rank is not None else 1
        cut = tuple(i if isinstance(i, slice) else slice(None) for i in index)
        part = _set(site, array[cut], index, value, tail, rank)
        changed = {**vars(one), name: array.at[cut].set(part)}
        outside = [(i < -n) | (i >= n) for i, n in zip(index, array.shape) if isinstance(i, Tracer)]
        if outside:  # NaN, as with every index that turns out to be nowhere
            lost = jnp.stack([flag.any() for flag in outside]).any()
            nowhere = jnp.asarray(self._size[site][0], jnp.int32)
            changed["ids"] = jnp.where(lost, nowhere, changed["ids"])
        changed = Override(**changed)
        return Overrides({**self.sites, site: changed}, self._size)


def _set(
    site: str, array: Array, index: tuple[Any, ...], value: Array, tail: int, rank: int | None
) -> Array:
    """Values in the places of an index; where it has arrays, value i for the i-th of these.

    Slices are cut already: here they are whole axes.
    """
    some = [n for n, i in enumerate(index) if not isinstance(i, slice)]
    at = tuple(index[n] for n in some)
    own = jnp.broadcast_shapes(*(jnp.shape(i) for i in at))
    given = value.shape[: value.ndim - tail]
    if own and given:
        if given not in (own, *((1,) * n for n in range(1, len(own) + 1))):
            raise ValueError(
                f"overrides: values of shape {list(given)} for {list(own)} places at {site!r}: "
                "give one for all, or one for each"
            )
        free = len(index) - len(some)
        value = value.reshape(*given, *[1] * free, *value.shape[value.ndim - tail :])
    moved = jnp.moveaxis(array, some, range(len(some)))
    last = () if rank is None else (*[slice(None)] * (len(index) - len(some)), rank)
    moved = _write(moved, at, last, value)
    return jnp.moveaxis(moved, range(len(some)), some)


def _write(array: Array, at: tuple[Any, ...], last: tuple[Any, ...], value: Array) -> Array:
    if last and at:  # an integer behind slices would move the indexed axes
        column = array[..., -1].at[at].set(value)
        return array.at[..., -1].set(column)
    return array.at[(*at, *last)].set(value)


def _index(
    site: str, array: Array, loops: int, flags: bool, where: dict[str, Any]
) -> tuple[Any, ...]:
    """The index along loops, tokens and groups that keywords name."""
    tokens = array.ndim - loops - (1 if flags else 2)
    names = {"layer": loops > 0, "group": True, "example": tokens > 0, "position": tokens > 1}
    for name in where:
        if not names.get(name, False):
            usable = [n for n, there in names.items() if there]
            raise ValueError(
                f"overrides: {name}= cannot be given for {site!r}; there is {', '.join(usable)} "
                "(examples and positions need overrides(tokens=(examples, positions)))"
            )
    whole = slice(None)
    index: list[Any] = [whole] * (array.ndim - (0 if flags else 1))
    layer = where.get("layer", ())
    layer = layer if isinstance(layer, tuple) else (*[whole] * (loops - 1), layer)
    if len(layer) not in (0, loops):
        raise ValueError(f"overrides: {site!r} is in {loops} loops, got layer={layer}")
    index[: len(layer)] = layer
    for name, at in (("example", loops), ("position", loops + tokens - 1), ("group", -1)):
        if name in where:
            index[at] = where[name]
    for at, (i, size) in enumerate(zip(index, array.shape)):
        if isinstance(i, slice):
            continue
        index[at] = i = i if isinstance(i, Tracer) else np.asarray(i)
        if not jnp.issubdtype(i.dtype, jnp.integer):
            raise TypeError(f"overrides: indices at {site!r} are whole numbers, got {i.dtype}")
        if isinstance(i, np.ndarray) and i.size and not (-size <= i.min() and i.max() < size):
            wrong = i.min() if i.min() < -size else i.max()
            raise ValueError(
                f"overrides: index {wrong} along an axis of {size} at {site!r} (axes: loops, "
                f"tokens, groups; this is axis {at})"
            )
    return tuple(index)


def overrides(
    spec: Mapping[str, Spec],
    codebooks: Mapping[str, Any],
    *,
    tokens: tuple[int, ...] = (),
    bans: int = 1,
) -> Overrides:
    """Overrides that change nothing, to be set by their methods.

    Args:
      spec: as given to `init`.
      codebooks: what `init` returned.
      tokens: sizes of the axes of tokens, (batch, seq): each its size or 1. Without, an override is
        for all tokens. See `Override` for positions.
      bans: room for so many banned codes in each place.

    Raises:
      ValueError: a size below 1.
    """
    if any(n < 1 for n in (*tokens, bans)):
        raise ValueError(f"overrides: sizes are at least 1, got tokens={tokens}, bans={bans}")

    sites, size = {}, {}
    for site, own in specs_of(spec, codebooks).items():
        loops = codebooks[site]["codes"].shape[:-3]
        shape = (*loops, *tokens, own.groups)
        sites[site] = Override(
            jnp.full((*shape, own.k), _NONE, jnp.int32),
            jnp.full((*shape, bans), _NONE, jnp.int32),
            jnp.zeros(shape, bool),
        )
        size[site] = (own.codes, len(loops))
    return Overrides(sites, _Static(size))


class _Static(dict):
    """A dict that jit can compare: part of the structure of `Overrides`."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


def at_tokens(
    array: Array | None,
    lead: tuple[int, ...],
    positions: Int[Array, "*lead"] | None,
    own: int,
    empty: Any,
    what: str,
) -> Array | None:
    """An override's array for every token, `[*lead, ...]` of `own` further axes, or of size 1.

    Raises:
      ValueError: its axes of tokens do not fit.
    """
    if array is None:
        return None
    tokens = array.shape[: array.ndim - own]
    if not tokens:
        return array.reshape(*(1 for _ in lead), *array.shape)
    fits = len(tokens) == len(lead) and all(
        n in (1, m) for n, m in zip(tokens[:-1], lead[:-1], strict=True)
    )
    if not fits or (positions is None and tokens[-1] not in (1, lead[-1])):
        raise ValueError(
            f"override: {what} has axes {list(tokens)} for tokens, but the tokens are "
            f"{list(lead)}: each axis is of that size or 1, or there are none"
        )
    if positions is None or tokens[-1] == 1:
        return array
    inside = (positions >= 0) & (positions < tokens[-1])
    at = jnp.clip(positions, 0, tokens[-1] - 1).astype(jnp.int32)
    tail = [1] * own
    array = jnp.broadcast_to(array, (*lead[:-1], *array.shape[len(lead) - 1 :]))
    array = jnp.take_along_axis(array, at.reshape(*lead, *tail), axis=len(lead) - 1)
    return jnp.where(inside.reshape(*lead, *tail), array, jnp.asarray(empty, array.dtype))
