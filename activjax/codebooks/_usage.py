"""Which codes are used, and new life for those that are not."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from activjax.codebooks._books import Specs, specs_of
from activjax.codebooks._init import Codebooks, draw
from activjax.codebooks._normalise import normalise
from activjax.codebooks._rows import as_inputs, by_loop, over_loops
from activjax.codebooks._spec import Spec
from activjax.codebooks._trace import Trace


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Usage:
    """How often codes were chosen since the last `revive`.

    Attributes:
      counts: of each code.
      tokens: tokens counted.
      revived: codes revived so far.
    """

    counts: Int32[Array, "*loops groups codes"]
    tokens: Int32[Array, "*loops"]
    revived: Int32[Array, "*loops groups"]

    @property
    def dead(self) -> Int32[Array, "*loops groups"]:
        """How many codes were never chosen."""
        return jnp.sum(self.counts == 0, axis=-1, dtype=jnp.int32)

    @property
    def perplexity(self) -> Float[Array, "*loops groups"]:
        """`exp` of the entropy of the choices: how many codes, used alike, would be so uneven."""
        total = jnp.maximum(jnp.sum(self.counts, axis=-1, keepdims=True), 1)
        p = self.counts.astype(jnp.float32) / total.astype(jnp.float32)
        return jnp.exp(-jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0), axis=-1))


def usage(codebooks: Mapping[str, Any]) -> dict[str, Usage]:
    """Counts of zero for every codebook."""
    return {site: _none(book["codes"].shape[:-1]) for site, book in codebooks.items()}


def _none(shape: tuple[int, ...]) -> Usage:
    return Usage(
        jnp.zeros(shape, jnp.int32),
        jnp.zeros(shape[:-2], jnp.int32),
        jnp.zeros(shape[:-1], jnp.int32),
    )


def track(usage: Mapping[str, Usage], traces: Mapping[str, Trace]) -> dict[str, Usage]:
    """The counts with those of a batch. Sites of the traces that have no counts are an error."""
    out = dict(usage)
    for site, trace in traces.items():
        if site not in out:
            raise ValueError(f"track: no usage of {site!r}; there is of {', '.join(out)}")
        old = out[site]
        loops, what = old.tokens.shape, f"track: the trace of {site!r}"
        counts = by_loop(trace.counts, trace.loops, loops, 2, what)
        tokens = by_loop(trace.tokens, trace.loops, loops, 0, what)
        out[site] = Usage(
            _added(old.counts, counts.sum(len(loops), dtype=jnp.int32)),
            _added(old.tokens, tokens.sum(-1, dtype=jnp.int32)),
            old.revived,
        )
    return out


def _added(old: Array, new: Array) -> Array:
    """Sums that stay at the largest int32 instead of becoming negative."""
    return jnp.minimum(old, jnp.iinfo(jnp.int32).max - new) + new


def revive(
    codebooks: Codebooks,
    opt_state: Any,
    usage: Mapping[str, Usage],
    acts: Mapping[str, Any],
    key: Array,
    *,
    spec: Specs,
    noise: float = 0.01,
) -> tuple[Codebooks, Any, dict[str, Usage]]:
    """Put random activations in the place of codes that nothing chose since the last time.

    The rows of revived codes in an optimiser's state (Adam's moments, momenta, `ema_init`'s
    averages) are set to zero: moments of a dead code would carry the new one away.

    Args:
      codebooks: as `init` returns them.
      opt_state: any pytree; its leaves whose path ends in the site and `codes` are reset where they
        have a row for each code, so within `optax.partition`, `masked`, `chain` and the like, too.
        They must be sums and moments, which begin at zero. None where there is none.
      usage: counts, as `track` adds them up.
      acts: activations to draw from, as `init`; or traces. Padding is not drawn, nor
        what is not finite.
      key: typed random key.
      spec: as given to `init`.
      noise: standard deviation added, as a share of the activations' root mean square, so that two
        codes from one activation differ.

    Returns:
      New codebooks, optimiser state, and counts of zero. Where no code is dead, or no activation is
      there to draw, the codes are the same to the bit.

    Raises:
      TypeError, ValueError: something does not fit; `acts` lacks a site.
    """
    own = specs_of(spec, codebooks)
    fresh: Codebooks = {}
    dead: dict[str, Array] = {}
    counts: dict[str, Usage] = {}
    for site, book in codebooks.items():
        if site not in acts or site not in usage:
            where = "acts" if site not in acts else "usage"
            raise ValueError(f"revive: {where} has no entry for the codebook {site!r}")
        given = as_inputs(acts[site], own[site], f"revive: {site!r}")
        loops, what = book["codes"].shape[:-3], f"revive: acts of {site!r}"
        rows = by_loop(given.rows, given.on.ndim - 1, loops, 2, what)
        on = by_loop(given.on, given.on.ndim - 1, loops, 0, what)
        on = on & jnp.isfinite(rows).all(axis=(-2, -1))
        unused = usage[site].counts == 0
        dead[site] = unused & on.any(axis=-1)[..., None, None]
        one = partial(_revived, own[site], noise)
        mine = jax.random.fold_in(key, zlib.crc32(site.encode()))
        keys = jax.random.split(mine, loops) if loops else mine
        codes = over_loops(one, len(loops))(keys, dict(book), rows, on, dead[site])
        fresh[site] = {**book, "codes": codes}
        none = _none(book["codes"].shape[:-1])
        revived = usage[site].revived + jnp.sum(dead[site], axis=-1, dtype=jnp.int32)
        counts[site] = Usage(none.counts, none.tokens, revived)
    return fresh, reset_rows(opt_state, dead), counts


def _revived(
    spec: Spec, noise: float, key: Array, book: Any, rows: Array, on: Array, dead: Array
) -> Array:
    """The codes of one iteration with activations in the place of dead ones."""
    of_rows, of_noise = jax.random.split(key)
    rows = jnp.where(on[:, None, None], rows, jnp.zeros((), rows.dtype))  # others may be NaN
    turn = jnp.maximum(jnp.cumsum(dead, axis=-1, dtype=jnp.int32) - 1, 0)  # each dead code its own
    at = draw(of_rows, on, spec.codes)[turn]
    a = rows[at.T, jnp.arange(spec.groups, dtype=at.dtype)]
    a = jnp.swapaxes(normalise(a, book.get("scale"), spec), 0, 1)
    size = jnp.sqrt(jnp.mean(jnp.square(a), axis=(1, 2), keepdims=True))
    a = a + jnp.asarray(noise, a.dtype) * size * jax.random.normal(of_noise, a.shape, a.dtype)
    if spec.reduce == "sum":
        a = a / spec.k
    codes = book["codes"]
    return jnp.where(dead[..., None], a.astype(codes.dtype), codes)


def reset_rows(state: Any, dead: Mapping[str, Array]) -> Any:
    """A state with the rows of dead codes at zero: leaves whose path ends in a site and `codes`.

    Paths and not structures are compared: `optax.partition` and `masked` leave out the scales.

    Raises:
      ValueError: there are arrays, but none for any codebook.
    """
    found = 0

    def reset(path: Any, leaf: Any) -> Any:
        nonlocal found
        site, name = ([getattr(key, "key", None) for key in path[-2:]] + [None, None])[:2]
        if name != "codes" or site is None or site not in dead:
            return leaf
        found += 1
        return _zeroed(leaf, dead[site])

    state = jax.tree_util.tree_map_with_path(reset, state)
    if not found and any(jnp.ndim(leaf) for leaf in jax.tree.leaves(state)):
        raise ValueError(
            "revive: opt_state has no entries for the codebooks "
            f"{', '.join(map(repr, dead))}: give the state of the optimiser that moves the codes, "
            "made by its init(codebooks); None where there is none"
        )
    return state


def _zeroed(leaf: Any, dead: Array) -> Any:
    if jnp.shape(leaf)[: dead.ndim] != dead.shape:
        return leaf  # a number for the whole codebook
    mask = dead.reshape(*dead.shape, *[1] * (jnp.ndim(leaf) - dead.ndim))
    return jnp.where(mask, jnp.zeros((), leaf.dtype), leaf)
