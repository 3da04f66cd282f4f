"""`act_vjp`, `act_grads`: derivatives with respect to activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from activjax import program
from activjax.program import _compat
from activjax.transforms._actions import Read, Write
from activjax.transforms._call import through
from activjax.transforms._holes import blank, wide_enough
from activjax.transforms._names import SiteError, missing
from activjax.transforms._ordered import InOrder, freeze
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
    return through(f, "act_vjp", as_selectors(select), _act_vjp)


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
            full = _tangents(tangents, zeros)
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
        out = {}
        for name, read in self.values.items():
            with wide_enough([read.inner.dtype]):
                zero = blank(read.shape(), read.inner.dtype)
            # Inside a shard_map a shift differs from shard to shard where the value does.
            out[name] = _compat.vary(zero, read.target.site.varying)
        return out


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


def _tangents(tangents: Any, zeros: dict[str, jax.Array]) -> dict[str, jax.Array]:
    if not isinstance(tangents, Mapping):
        raise TypeError(f"pushforward: expected {{site: tangent}}, got {type(tangents).__name__}")
    if unknown := set(tangents) - set(zeros):
        raise missing(min(unknown), zeros)
    full = dict(zeros)
    for name, tangent in tangents.items():
        shape, dtype = zeros[name].shape, zeros[name].dtype
        if jnp.shape(tangent) != shape:
            raise SiteError(
                f"site {name!r}: a tangent has the activation's shape {shape}, got "
                f"{jnp.shape(tangent)}"
            )
        if jnp.iscomplexobj(tangent) and not jnp.issubdtype(dtype, jnp.complexfloating):
            raise SiteError(f"site {name!r} is real; its tangent is complex")
        full[name] = jnp.asarray(tangent, dtype)
    return full


def _act_vjp(f: Any, selectors: Any, args: Any, kwargs: Any) -> Any:
    perturbed = _Perturbed(f, selectors, args, kwargs, backwards=True)
    out, vjp, acts = jax.vjp(perturbed, perturbed.zeros(), has_aux=True)
    settle = freeze({name: r.target.settlings() for name, r in perturbed.values.items()})
    ordered = freeze({name: acts[name] for name in perturbed.reads})
    return out, ordered, jax.tree_util.Partial(_pull, settle, vjp)


def _pull(settle: InOrder, vjp: Callable[..., Any], cotangent: Any) -> dict[str, Any]:
    (grads,) = vjp(cotangent)
    out = {}
    for name, steps in zip(settle.names, settle.values, strict=True):
        x = grads[name]
        for step in steps:
            x = step(x)
        out[name] = x  # in execution order; JAX sorts the keys of dicts
    return out


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
    if not jnp.issubdtype(out.dtype, jnp.inexact):
        raise TypeError(f"act_grads: the function returns {out.dtype}, which has no derivative")
    return out, acts, freeze(pullback(jnp.ones_like(out)))
