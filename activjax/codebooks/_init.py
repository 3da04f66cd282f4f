"""First codes: drawn from the activations themselves, their clusters, or a normal distribution."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array

from activjax import fit
from activjax.codebooks._books import Specs, expand
from activjax.codebooks._normalise import data_scale, normalise
from activjax.codebooks._rows import as_inputs, over_loops
from activjax.codebooks._spec import Spec

Codebooks = dict[str, dict[str, Array]]


def init(
    spec: Specs,
    acts: Mapping[str, Any],
    key: Array,
    method: Literal["sample", "kmeans", "normal"] = "sample",
) -> Codebooks:
    """Codebooks for the activations of a function.

    Args:
      spec: `{site or glob: Spec}`.
      acts: by site, `inputs(f, spec)(params, ...)`; or arrays of sites that are in no loop.
      key: typed random key.
      method: "sample" takes normalised activations, each once while there are enough, and then
        again; "kmeans" their cluster centres (more than 20,000 activations: of so many); "normal"
        draws from a normal distribution with the root mean square of the activations. With
        `reduce="sum"` all are divided by k, so that outputs begin at the activations' scale.

    Returns:
      `{site: {"codes": [*loops, groups, codes, d], "scale": [*loops, groups]}}`, float32 at least;
      `scale`, the data's root mean square, only where the spec normalises. It is no parameter: its
      gradient is zero, and no optimiser should decay it (`optimiser` does not).

    Raises:
      TypeError, ValueError, SiteError: what does not fit; no activation that is no padding, or one
        that is not finite, where they are known.
    """
    if method not in ("sample", "kmeans", "normal"):
        raise ValueError(f"init: method {method!r}; expected 'sample', 'kmeans' or 'normal'")
    if not isinstance(acts, Mapping) or not acts:
        raise TypeError(
            "init: expected activations by site, codebooks.inputs(f, spec)(params, ...)"
        )
    found = {}
    for site, own in expand(spec, acts).items():
        given = as_inputs(acts[site], own, f"init: site {site!r}")
        _check(given.rows, given.on, site)
        mine = jax.random.fold_in(key, zlib.crc32(site.encode()))
        found[site] = _all(own, method, mine, given.rows, given.on)
    return found


@partial(jax.jit, static_argnums=1)
def _all(spec: Spec, method: str, key: Array, rows: Array, on: Array) -> dict[str, Array]:
    loops = rows.shape[:-3]
    keys = jax.random.split(key, loops) if loops else key
    return over_loops(partial(_one, spec, method), len(loops))(keys, rows, on)


def _check(rows: Array, on: Array, site: str) -> None:
    if isinstance(rows, Tracer) or isinstance(on, Tracer):
        return
    if not bool(on.any(axis=-1).all()):
        raise ValueError(f"init: site {site!r} has no activations that are no padding")
    if not bool(jnp.isfinite(jnp.where(on[..., None, None], rows, 0)).all()):
        raise ValueError(f"init: activations of site {site!r} are not all finite")


def _one(spec: Spec, method: str, key: Array, rows: Array, on: Array) -> dict[str, Array]:
    """The codebook of one site in one iteration of its loops."""
    scale = None if spec.norm is None else data_scale(rows, on, spec)
    a = normalise(rows, scale, spec)
    if method == "normal":
        drawn = jax.random.normal(key, (spec.groups, spec.codes, a.shape[-1]), a.dtype)
        codes = drawn * data_scale(a, on, spec)[:, None, None]
    elif method == "sample":
        codes = jnp.swapaxes(a[draw(key, on, spec.codes)], 0, 1)
    else:
        codes = _centres(key, a, on, spec)
    if spec.reduce == "sum":
        codes = codes / spec.k
    return {"codes": codes} if scale is None else {"codes": codes, "scale": scale}


def draw(key: Array, on: Array, n: int) -> Array:
    """`n` indices of rows that are on, in random order: each once, then each again."""
    noise = jax.random.uniform(key, on.shape)
    order = jnp.argsort(jnp.where(on, noise, 2.0))  # those that are off last
    count = jnp.maximum(jnp.sum(on, dtype=jnp.int32), 1)
    return order[jnp.arange(n, dtype=jnp.int32) % count]


_MOST = 20_000  # activations that are clustered


def _centres(key: Array, a: Array, on: Array, spec: Spec) -> Array:
    n = min(a.shape[0], _MOST)
    chosen, rest = jax.random.split(key)
    some = jnp.swapaxes(a[draw(chosen, on, max(n, spec.codes))], 0, 1)

    def cluster(args: tuple[Array, Array]) -> Array:
        key, rows = args
        return fit.kmeans(key, rows, spec.codes, n_init=1, max_iter=25).centers

    return jax.lax.map(cluster, (jax.random.split(rest, spec.groups), some))
