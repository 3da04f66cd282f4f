"""One step of gradient ascent on each example's own loss, and the network before and after it."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from activjax import program
from activjax.membership import _ghost
from activjax.membership._cost import Work, choose
from activjax.membership._examples import Examples, mapped
from activjax.membership._layers import Layers, find_layers
from activjax.membership._loss import Loss, cross_entropy
from activjax.membership._spec import DriftSpec, Sites
from activjax.training import _paths
from activjax.training._dtypes import wide
from activjax.transforms import capture, sites
from activjax.transforms._plan import Described, describe


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ascent:
    """A network before and after one step up an example's own loss; `n` examples in front.

    Attributes:
      before, after: outputs and activations, `(out, acts)` as of `capture` for a batch of one with
        its batch axis taken out: axes of loops, then the value's own.
      loss, loss_after: the loss on the example.
      grad_norm: the norm of the gradient of what moves; None if it was not asked for.
      step: what the gradient was multiplied by.
      still: whether nothing moved: no step, or no gradient. `after` is `before` then.
    """

    before: Any
    after: Any
    loss: Float[Array, " n"]
    loss_after: Float[Array, " n"]
    grad_norm: Float[Array, " n"] | None
    step: Float[Array, " n"]
    still: Bool[Array, " n"]


class Climber:
    """`ascend` for one example of given shapes: planned once, run for each.

    Attributes:
      sites: what is compared.
      layers: what is done with each parameter, by ghosts.
      method: as in the spec, "auto" resolved.
      chunk: examples at a time.
    """

    def __init__(
        self,
        apply: Callable[..., Any],
        params: Any,
        spec: DriftSpec,
        loss: Loss,
        examples: Examples,
        chunk: int | None,
    ) -> None:
        self.spec, self.loss = spec, loss
        self._leaves = _paths.leaves(params)
        if not self._leaves:
            raise ValueError("drift: the parameters hold no arrays")
        self._treedef = jax.tree.structure(params)
        self.moving = _moving(self._leaves, spec.moves)
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), examples)
        shapes = _shapes(params)
        self.sites = described(apply, spec.sites, params, examples.x)
        self.f = self._function(apply)
        self.traced = program.trace(self.f, *self._split(_paths.leaves(shapes)), one.x)
        self.layers = find_layers(self.traced, list(self.moving), keep=not spec.layer_rule)
        size = sum(math.prod(jnp.shape(self._leaves[name])) for name in self.moving)
        unit = spec.grad_norm or spec.norm == "unit"
        work = Work.of(self.layers.covered, self.layers.parts, size, unit)
        self.method, self.chunk = choose(work, spec.method, examples.n, chunk)
        if self.method == "ghost":
            _warn(self.layers, spec.strict)

    def _function(self, apply: Callable[..., Any]) -> Callable[..., Any]:
        selected = list(self.sites)
        read = capture(apply, selected) if selected else lambda p, x: (apply(p, x), {})

        def f(moving: dict[str, Array], frozen: dict[str, Array], x: Any) -> Any:
            leaves = [{**moving, **frozen}[name] for name in self._leaves]
            params = jax.tree.unflatten(self._treedef, leaves)
            out, acts = read(params, jax.tree.map(lambda a: a[None], x))
            own = {k: jnp.squeeze(v, len(self.sites[k].loops)) for k, v in acts.items()}
            return jax.tree.map(lambda a: jnp.squeeze(a, 0), out), own

        return f

    def _split(self, leaves: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        moving = {name: leaves[name] for name in self.moving}
        return moving, {name: leaf for name, leaf in leaves.items() if name not in moving}

    def __call__(self, params: Any, eta: Any, example: Examples) -> Ascent:
        """Climb for one example."""
        spec = DriftSpec(eta, norm=self.spec.norm)
        moving, frozen = self._split(_paths.leaves(params))

        def value(out: Any) -> Array:
            found = self.loss(out, example.y, example.mask)
            if jnp.shape(found):
                raise ValueError(
                    f"drift: the loss of one example has shape {jnp.shape(found)}, expected a "
                    "number: loss(out, y, mask) is given one example, without a batch axis"
                )
            return found

        run = self._ghost if self.method == "ghost" else self._exact
        passes = run(moving, frozen, example.x, value, spec.length)
        before, after, loss, square, step, still = passes
        still |= step == 0  # two compilations of one pass may differ in the last digit
        after = jax.tree.map(lambda a, b: jnp.where(still, b, a), after, before)
        norm = jnp.sqrt(jnp.maximum(square, 0)) if self.spec.grad_norm else None
        return Ascent(before, after, loss, value(after[0]), norm, step, still)

    def _exact(self, moving: Any, frozen: Any, x: Any, value: Any, length: Any) -> Any:
        def objective(moving: Any) -> Any:
            before = self.f(moving, frozen, x)
            return value(before[0]), before

        (loss, before), grads = jax.value_and_grad(objective, has_aux=True)(moving)
        square = sum(jnp.sum(jnp.square(g.astype(wide(g.dtype)))) for g in grads.values())
        step = length(square)
        moved = {k: _ghost.stepped(leaf, grads[k], step) for k, leaf in moving.items()}
        still = _ghost.all_zero(grads)
        return before, self.f(moved, frozen, x), loss, square, step, still

    def _ghost(self, moving: Any, frozen: Any, x: Any, value: Any, length: Any) -> Any:
        rest = [*jax.tree.leaves(frozen), *jax.tree.leaves(x)]
        found = _ghost.climb(
            self.traced.closed,
            self.layers,
            moving,
            rest,
            lambda outs: value(self.traced.unflatten(outs)[0]),
            length,
        )
        before, after = self.traced.unflatten(found.before), self.traced.unflatten(found.after)
        return before, after, found.value, found.square, found.step, found.still


def ascend(
    apply: Callable[..., Any],
    params: Any,
    x: Any,
    y: Any,
    spec: DriftSpec | None = None,
    *,
    loss: Loss = cross_entropy,
    mask: Any = None,
    chunk: int | None = None,
) -> Ascent:
    """Step up each example's own loss, and compare the network before and after.

    The parameters themselves do not change. `jit` and `vmap` work on it, over stacked parameters
    or `spec.eta` too.

    Args:
      apply: `apply(params, inputs)` of a batch; examples must not mix, as in batch statistics.
      params: the parameters.
      x: inputs `[n, ...]`, or a pytree of them.
      y: what the loss compares with, `[n, ...]`.
      spec: the step; by default `DriftSpec()`.
      loss: `loss(out, y, mask)` of one example, without a batch axis: a number.
      mask: `[n, ...]`, given to the loss.
      chunk: examples at a time; None for as many as fit into about half a gigabyte.

    Returns:
      Ascent. Everything of every example is kept: for many examples use `drift`.

    Raises:
      ValueError: no examples, arrays of different lengths, parameters or sites that do not exist,
        a loss that is no number; with `strict`, a large parameter that ghosts do not cover.
    """
    examples = Examples.of(x, y, mask)
    spec = DriftSpec() if spec is None else spec
    return climbed(apply, params, examples, spec, loss, chunk, _everything)


def _everything(climber: Climber, found: Ascent, example: Examples) -> Ascent:
    del climber, example
    return found


# Compiled here, and once for each function and shape: unjitted, every operation would be a program.
@functools.partial(jax.jit, static_argnames=("apply", "loss", "chunk", "measure"))
def climbed(
    apply: Callable[..., Any],
    params: Any,
    examples: Examples,
    spec: DriftSpec,
    loss: Loss,
    chunk: int | None,
    measure: Callable[[Climber, Ascent, Examples], Any],
) -> Any:
    """`measure(climber, ascent, example)` of every example."""
    climber = Climber(apply, params, spec, loss, examples, chunk)

    def one(example: Examples) -> Any:
        return measure(climber, climber(params, spec.eta, example), example)

    how = "loop" if climber.method == "loop" else "vmap"
    return mapped(one, examples, how, climber.chunk)


def _moving(leaves: dict[str, Any], moves: str | tuple[str, ...] | None) -> dict[str, None]:
    """Names of the floating-point leaves that take part, in the order of a dictionary's keys."""
    floating = [k for k, v in leaves.items() if jnp.issubdtype(jnp.result_type(v), jnp.floating)]
    if moves is None:
        chosen = set(floating)
    else:
        globs = (moves,) if isinstance(moves, str) else moves
        chosen = {n for g in globs for n in _paths.matching(g, floating, "drift: moves")}
    if not chosen:
        raise ValueError("drift: no parameter moves; `moves` is empty, or none is floating-point")
    # The order in which a dictionary of them is flattened: "l/10" comes before "l/2".
    return dict.fromkeys(sorted(chosen))


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), tree)


def described(
    apply: Callable[..., Any], select: Sites | None, params: Any, x: Any
) -> dict[str, Described]:
    """The sites to compare for a batch `x`, in execution order.

    Raises:
      SiteError: a pattern names none.
      ValueError: a site has no floating-point value for each example.
    """
    params = _shapes(params)
    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), _shapes(x))
    if select is None:
        names = sites(apply)(params, batch).names
        residual = [n for n in names if n.endswith("resid_post")]
        post = [n for n in names if n.endswith("/post")]
        select = [*(["embed"] if "embed" in names else []), *residual] if residual else post
        if not residual and not post:
            select = list(names)
        if not select:
            return {}
    found = describe(apply, select, (params, batch))
    kept = {}
    for name, site in found.items():
        if site.dynamic or site.conditional or not jnp.issubdtype(site.dtype, jnp.floating):
            raise ValueError(
                f"drift: site {name!r} has no value for every example that could be compared (it "
                f"is {site.dtype}, or stands in a branch or a `while`); choose others by sites="
            )
        if not site.shape or site.shape[0] != 1:
            raise ValueError(
                f"drift: site {name!r} has shape {site.shape} for a batch of one, expected the "
                "batch on its first axis; choose others by sites="
            )
        kept[name] = site
    return kept


def _warn(layers: Layers, strict: bool) -> None:
    if not layers.reasons:
        return
    shown = "; ".join(f"{name}: {why}" for name, why in layers.reasons.items())
    if strict:
        raise ValueError(
            f"drift: strict, and ghost gradients do not cover {shown}. Use strict=False, which "
            "makes these parameters anew for each example, or freeze them by moves="
        )
    warnings.warn(
        "drift: exact, but these parameters are made anew for each example, since ghost gradients "
        f"do not cover them: {shown}",
        stacklevel=5,
    )
