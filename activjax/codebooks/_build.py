"""An index of what a network's codes are chosen for, made batch by batch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from activjax.codebooks._books import Specs, specs_of
from activjax.codebooks._index import Index, IndexWriter, Layout, open_index
from activjax.codebooks._run import run


def index(
    f: Callable[..., Any],
    spec: Specs,
    params: Any,
    codebooks: Mapping[str, Any],
    batches: Iterable[Any],
    path: str | Path,
    **options: Any,
) -> Index:
    """Run a function over texts and write which tokens chose which codes, as a folder.

    Memory does not grow with the number of batches; a folder whose writing was killed is written
    again.

    Args:
      f: `f(params, tokens)`, such as a decoder's `apply`; where it takes `mask=`, it is given that
        of a batch, so that tokens do not attend to padding.
      spec, codebooks: as `run` takes them.
      params: of the function.
      batches: tokens `[batch, seq]`, or `(tokens, mask)` with False for padding; of one shape, if
        the function should be compiled once.
      path: folder of its own, see `IndexWriter`.
      **options: as `IndexWriter` takes them: `vocabulary` (what every token id stands for; needed
        to search by regex), `similarity`, `meta`, `overwrite`.

    Returns:
      The index, opened.

    Raises:
      FileExistsError: a finished index is at `path`.
      ValueError: no batches; codebooks of no site of `f` at the call's tokens.
    """
    own = specs_of(spec, codebooks)
    layout = {
        site: Layout(book["codes"].shape[:-3], own[site].groups, own[site].codes, own[site].k)
        for site, book in codebooks.items()
    }
    masked = "mask" in inspect.signature(f).parameters
    whole = run(f, spec)

    def with_mask(params: Any, tokens: Any, mask: Any) -> Any:
        return f(params, tokens, mask=mask)

    @partial(jax.jit, static_argnums=4)
    def read(params: Any, codebooks: Any, tokens: Any, mask: Any, hide: bool) -> dict[str, Any]:
        if hide:
            _, traces = run(with_mask, spec)(params, codebooks, tokens, mask, mask=mask)
        else:
            _, traces = whole(params, codebooks, tokens, mask=mask)
        return {site: (trace.ids, trace.similarities) for site, trace in traces.items()}

    with IndexWriter(path, layout, **options) as writer:
        for batch in batches:
            tokens, mask = batch if isinstance(batch, tuple) else (batch, None)
            shape = np.shape(tokens)
            everywhere = jnp.full(shape, True) if mask is None else jnp.asarray(mask)
            hide = masked and mask is not None
            found: Any = read(params, codebooks, jnp.asarray(tokens), everywhere, hide)
            for site, (ids, _) in found.items():
                if math.prod(ids.shape[-4:-2]) != math.prod(shape):
                    raise ValueError(
                        f"index: site {site!r} has tokens {list(ids.shape[-4:-2])}, the batch "
                        f"{list(shape)}: only sites with a value for each token can be indexed"
                    )
            pairs: Any = {site: tuple(map(np.asarray, pair)) for site, pair in found.items()}
            writer.add(
                np.asarray(tokens),
                pairs,
                None if mask is None else np.asarray(mask),
            )
    return open_index(path)
