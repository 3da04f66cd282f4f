"""Codes as running means of the activations that choose them: no gradient, no optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from activjax.codebooks._books import Specs, specs_of
from activjax.codebooks._init import Codebooks
from activjax.codebooks._normalise import normalise
from activjax.codebooks._rows import by_loop, over_loops
from activjax.codebooks._spec import Spec
from activjax.codebooks._trace import Trace


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ema:
    """Running sums of every code, each in the structure of the codebooks.

    Attributes:
      sums: of the activations that chose the code, `[*loops, groups, codes, d]`.
      sizes: of how many chose it, `[*loops, groups, codes]`.
    """

    sums: dict[str, dict[str, Float[Array, "*loops groups codes d"]]]
    sizes: dict[str, dict[str, Float[Array, "*loops groups codes"]]]


def ema_init(codebooks: Mapping[str, Any]) -> Ema:
    """Sums of zero: a code keeps its value until something chooses it."""
    sums = {s: jax.tree.map(jnp.zeros_like, dict(b)) for s, b in codebooks.items()}
    sizes = {
        s: {
            n: jnp.zeros(leaf.shape[:-1] if n == "codes" else leaf.shape, leaf.dtype)
            for n, leaf in book.items()
        }
        for s, book in codebooks.items()
    }
    return Ema(sums, sizes)


def ema(
    codebooks: Codebooks,
    state: Ema,
    traces: Mapping[str, Trace],
    *,
    spec: Specs,
    decay: float | Float[Array, ""] = 0.99,
) -> tuple[Codebooks, Ema]:
    """Move codes to the running means of the activations that chose them.

    `n <- decay n + (1 - decay) count`, `m <- decay m + (1 - decay) sum`, `code <- m / n` (van den
    Oord et al. 2017, appendix A.1, without its smoothing: a code with `n = 0` keeps its value).
    Activations are normalised; with `reduce="sum"` and k > 1 each is divided by k. `revive`, given
    this state as its optimiser's, sets the sums of revived codes to zero.

    Args:
      codebooks: as `init` returns them.
      state: as `ema_init` or this function returns it.
      traces: as `run` returns them; tokens that are masked, off or not finite do not
        count.
      spec: as given to `init`.
      decay: in [0, 1); may be traced.

    Raises:
      ValueError: a trace without a codebook; `decay` out of range, where it is known.
    """
    if isinstance(decay, (int, float)) and not 0 <= decay < 1:
        raise ValueError(f"ema: decay must lie in [0, 1), got {decay}")
    own = specs_of(spec, codebooks)
    sums, sizes = ({s: dict(b) for s, b in tree.items()} for tree in (state.sums, state.sizes))
    fresh = {s: dict(b) for s, b in codebooks.items()}
    for site, trace in traces.items():
        if site not in own:
            raise ValueError(f"ema: no codebook for the trace {site!r}")
        codes = codebooks[site]["codes"]
        loops = codes.shape[:-3]
        what = f"ema: the trace of {site!r}"
        rows = by_loop(trace.inputs.rows, trace.loops, loops, 2, what)
        ids = by_loop(trace.ids, trace.loops, loops, 2, what)
        gather = over_loops(partial(_gather, own[site]), len(loops))
        total, count = gather(dict(codebooks[site]), rows, ids)
        keep = jnp.asarray(decay, codes.dtype)
        add = jnp.asarray(1, codes.dtype) - keep
        m = keep * sums[site]["codes"] + add * total.astype(codes.dtype)
        n = keep * sizes[site]["codes"] + add * count.astype(codes.dtype)
        mean = m / jnp.where(n > 0, n, 1)[..., None]
        fresh[site]["codes"] = jnp.where((count > 0)[..., None], mean, codes)
        sums[site]["codes"], sizes[site]["codes"] = m, n
    return fresh, Ema(sums, sizes)


def _gather(spec: Spec, book: Any, rows: Array, ids: Array) -> tuple[Array, Array]:
    """Sum and number of the activations by the code that they chose, of one iteration."""
    a = normalise(rows, book.get("scale"), spec)
    share = spec.k if spec.reduce == "sum" else 1
    counted = (ids >= 0) & jnp.isfinite(a).all(-1, keepdims=True)
    a = jnp.where(counted.any(-1)[..., None], a / share, jnp.zeros((), a.dtype))
    at = jnp.where(counted, ids, spec.codes)  # beyond the last: dropped
    group = jnp.arange(spec.groups, dtype=jnp.int32)
    shape = (spec.groups, spec.codes)

    def rank(carry: tuple[Array, Array], one: Array) -> tuple[tuple[Array, Array], None]:
        total, count = carry
        total = total.at[group, one].add(a, mode="drop")
        return (total, count.at[group, one].add(1, mode="drop")), None

    start = jnp.zeros((*shape, a.shape[-1]), a.dtype), jnp.zeros(shape, jnp.int32)
    return jax.lax.scan(rank, start, jnp.moveaxis(at, -1, 0))[0]
