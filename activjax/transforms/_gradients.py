"""`act_vjp`, `act_grads`: derivatives with respect to activations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from activjax import program
from activjax.program import _compat
from activjax.transforms._actions import Read, Write
from activjax.transforms._call import through
from activjax.transforms._holes import blank
from activjax.transforms._names import SiteError, missing
from activjax.transforms._ordered import freeze
from activjax.transforms._plan import plan_reads, run
from activjax.transforms._selectors import Selector, as_selectors
from activjax.transforms._sites import check_editable, discover
from activjax.transforms.edits import Add, Each

Selection = str | Selector | Sequence[str | Selector]


def act_vjp(f: Callable[..., Any], select: Selection = "**") -> Callable[..., Any]:
    """Read activations, and pull cotangents of the output back to them.

    Args:
      f: any function that JAX can trace, with tagged values.
      select: as for `capture`, without `reduce`; the sites must be floating-point.

    Returns:
      A function of `f`'s arguments that returns `(out, acts, pullback)`. `pullback(cotangent)`,
      of a value like `out`, is a dict of arrays shaped like `acts`: the derivative with respect to
      each value, everything computed from it included. All sites come from one backward pass.

    Raises:
      SiteError: as for `capture`; or a site has no derivative.
    """
    selectors = as_selectors(select)

    def transformed(*args: Any, **kwargs: Any) -> Any:
        return _act_vjp(f, selectors, args, kwargs)

    return transformed


def act_jvp(f: Callable[..., Any], select: Selection = "**") -> Callable[..., Any]:
    """Read activations, and push tangents at them forward to the output.

    Args:
      f: any function that JAX can trace, with tagged values.
      select: as for `act_vjp`.

    Returns:
      A function of `f`'s arguments that returns `(out, acts, pushforward)`. The derivative of the
      output along `tangents`, a dict of arrays shaped like `acts` (a site left out does not
      move), is `pushforward(tangents)`.

    Raises:
      SiteError: as for `act_vjp`; `pushforward` raises it for a site that was not selected.
    """
    selectors = as_selectors(select)

    def transformed(*args: Any, **kwargs: Any) -> Any:
        perturbed = _Perturbed(f, selectors, args, kwargs, backwards=False)
        zeros = perturbed.zeros()
        out, acts = perturbed(zeros)

        def pushforward(tangents: dict[str, jax.Array]) -> Any:
            if unknown := set(tangents) - set(zeros):
                raise missing(min(unknown), zeros)
            full = {n: jnp.asarray(tangents.get(n, z), z.dtype) for n, z in zeros.items()}
            for name, zero in zeros.items():
                if full[name].shape != zero.shape:
                    raise SiteError(
                        f"site {name!r}: a tangent has the activation's shape {zero.shape}, got "
                        f"{full[name].shape}"
                    )
            return jax.jvp(lambda shifts: perturbed(shifts)[0], (zeros,), (full,))[1]

        return out, acts, pushforward

    return transformed


def act_grads(f: Callable[..., Any], select: Selection = "**") -> Callable[..., Any]:
    """Read activations and the gradient of a scalar function with respect to them.

    Args:
      f: a function that returns a scalar.
      select: as for `act_vjp`.

    Returns:
      A function of `f`'s arguments that returns `(out, acts, grads)`.

    Raises:
      TypeError: `f` does not return a scalar.
      SiteError: as for `act_vjp`.
    """
    return through(f, "act_grads", as_selectors(select), _act_grads)


class _Perturbed:
    """A function of shifts added at chosen sites, around a traced program."""

    def __init__(self, f: Any, selectors: Any, args: Any, kwargs: Any, *, backwards: bool):
        self.traced = program.trace(f, *args, **kwargs)
        self.table = discover(self.traced)
        self.reads = plan_reads(self.table, selectors)
        self.values = {name: read for name, read in self.reads.items() if not read.is_mask}
        for read in self.values.values():
            _check_differentiable(read, backwards)

    def __call__(self, shifts: dict[str, jax.Array]) -> Any:
        return run(self.traced, self.table, self.reads, _shifts(self.values, shifts))

    def zeros(self) -> dict[str, jax.Array]:
        # Inside a shard_map a shift differs from shard to shard where the value does.
        return {
            n: _compat.vary(blank(r.shape(), r.inner.dtype), r.target.site.varying)
            for n, r in self.values.items()
        }


def _check_differentiable(read: Read, backwards: bool) -> None:
    check_editable(read.target.site)
    if read.target.reduce is not None:
        raise SiteError(f"site {read.name!r}: a reduced value has no derivative; reduce the result")
    if read.target.site.place.in_rule:
        raise SiteError(
            f"site {read.name!r} is inside a function with a derivative rule of its own: shifting "
            "it would drop the rule and change the gradients of other sites; select sites outside"
        )
    if any(length is None for _, length in read.target.site.loops):
        why = ", which JAX cannot differentiate backwards" if backwards else " of unknown length"
        raise SiteError(
            f"site {read.name!r} is in a while loop{why}: use a scan, or select other sites"
        )
    if not jnp.issubdtype(read.inner.dtype, jnp.inexact):
        raise SiteError(
            f"site {read.name!r} has dtype {read.inner.dtype}, which has no derivative: select "
            "floating-point sites only"
        )


def _act_vjp(f: Any, selectors: Any, args: Any, kwargs: Any) -> Any:
    perturbed = _Perturbed(f, selectors, args, kwargs, backwards=True)
    out, vjp, acts = jax.vjp(perturbed, perturbed.zeros(), has_aux=True)
    pull = functools.partial(_pull, tuple(perturbed.values))
    return out, {n: acts[n] for n in perturbed.reads}, jax.tree_util.Partial(pull, vjp)


def _pull(names: tuple[str, ...], vjp: Callable[..., Any], cotangent: Any) -> dict[str, Any]:
    (grads,) = vjp(cotangent)
    return {n: grads[n] for n in names}  # in execution order; JAX sorts the keys of dicts


def _shifts(reads: dict[str, Read], shifts: dict[str, jax.Array]) -> dict[str, list[Write]]:
    # A zero added at each site: its gradient is the site's.
    out = {}
    for number, (name, read) in enumerate(reads.items()):
        value = Each(shifts[name]) if read.target.site.loops else shifts[name]
        out[name] = [] if read.target.idle else [Write(number, read.target, Add(value))]
    return out


def _act_grads(f: Any, selectors: Any, args: Any, kwargs: Any) -> Any:
    out, acts, pullback = _act_vjp(f, selectors, args, kwargs)
    shape = getattr(out, "shape", None)
    if shape != ():
        raise TypeError(f"act_grads needs a function that returns a scalar, got shape {shape}")
    return out, freeze(acts), freeze(pullback(jnp.ones_like(out)))
