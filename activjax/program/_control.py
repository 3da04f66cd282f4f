"""Rebuild an equation that holds others, through the public function that made it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from activjax.program import _compat
from activjax.program._errors import UnsupportedError
from activjax.program._interpret import Frame, Plan, interpret
from activjax.program._walk import carried, loop_info

Rebuild = Callable[[_compat.Equation, list[Any], Plan, Frame, bool], list[Any]]


def rebuild(
    eqn: _compat.Equation, invals: list[Any], plan: Plan, frame: Frame, *, outputs: bool
) -> list[Any]:
    """Run an equation with its body under `plan`; None for its outputs where they are not wanted.

    Raises:
      UnsupportedError: the operation cannot be opened.
    """
    kind = _compat.kind(eqn)
    if kind not in _REBUILD:
        raise UnsupportedError(f"`{eqn.primitive.name}` cannot be opened")
    return _REBUILD[kind](eqn, invals, plan, frame, outputs)


def _jit(
    eqn: _compat.Equation, invals: list[Any], plan: Plan, frame: Frame, outputs: bool
) -> list[Any]:
    # Inlined: XLA inlines inner jits anyway, and a fresh jit would compile on every eager call.
    outs = interpret(_compat.body(eqn), invals, plan, frame, outputs=outputs)
    shardings = _compat.explicit_shardings(eqn.params.get("out_shardings", (None,) * len(outs)))
    return [
        out if s is None or out is None else jax.lax.with_sharding_constraint(out, s)
        for out, s in zip(outs, shardings, strict=True)
    ]


def _call(
    eqn: _compat.Equation, invals: list[Any], plan: Plan, frame: Frame, outputs: bool
) -> list[Any]:
    return interpret(_compat.body(eqn), invals, plan, frame, outputs=outputs)


def _scan(
    eqn: _compat.Equation, invals: list[Any], plan: Plan, frame: Frame, outputs: bool
) -> list[Any]:
    parts, body = _compat.scan_parts(eqn), _compat.body(eqn)
    consts = invals[: parts.n_consts]
    init = invals[parts.n_consts : parts.n_consts + parts.n_carry]
    xs = invals[parts.n_consts + parts.n_carry :]
    loop = frame.loop(plan, loop_info(eqn))
    counts = jnp.arange(parts.length, dtype=jnp.int32)
    over, length = (counts, xs, loop.xs), parts.length
    if not outputs:
        # Nobody uses the results: run no further than the last iteration that is asked for.
        length = loop.reach(parts.length, parts.reverse)
        kept = slice(parts.length - length, None) if parts.reverse else slice(length)
        over = jax.tree_util.tree_map(lambda x: x[kept], over)

    def step(carry: Any, slices: Any) -> Any:
        own, beside = carry
        index, x, fed = slices
        inner = loop.enter(index, fed)
        outs = interpret(body, [*consts, *own, *x], plan, inner)
        beside, ys = loop.leave(index, beside, inner)
        return (outs[: parts.n_carry], beside), (outs[parts.n_carry :], ys)

    (carry, beside), (ys, side) = jax.lax.scan(
        step,
        (init, loop.carry),
        over,
        length=length,
        reverse=parts.reverse,
        unroll=parts.unroll,
    )
    loop.finish(beside, side)
    return [*carry, *ys] if outputs else [None] * len(eqn.outvars)


def _while(
    eqn: _compat.Equation, invals: list[Any], plan: Plan, frame: Frame, outputs: bool
) -> list[Any]:
    parts, inner_plan = _compat.while_parts(eqn), plan.inner[1]
    cond_consts = invals[: parts.cond_consts]
    body_consts = invals[parts.cond_consts : parts.cond_consts + parts.body_consts]
    init = invals[parts.cond_consts + parts.body_consts :]
    loop = frame.loop(inner_plan, loop_info(eqn))

    def running(own: list[Any]) -> jax.Array:
        (predicate,) = interpret(parts.cond, [*cond_consts, *own], Plan(), frame)
        return predicate

    def step(carry: Any) -> Any:
        index, own, beside = carry
        inner = loop.enter(index, None)
        new = interpret(parts.body, [*body_consts, *own], inner_plan, inner)
        after, _ = loop.leave(index, beside, inner)
        alive = running(own)
        if alive.ndim:  # mapped: lanes that have finished keep what they have
            new = [_lanes(alive, n, o) for n, o in zip(new, own, strict=True)]
            after = loop.select(alive, after, beside, functools.partial(carried, parts))
        return index + 1, new, after

    _, own, beside = jax.lax.while_loop(
        lambda carry: jnp.any(running(carry[1])), step, (jnp.int32(0), init, loop.carry)
    )
    loop.finish(beside, None)
    return own


def _lanes(alive: jax.Array, new: Any, old: Any) -> Any:
    # A mapped while has its lanes in front, as its predicate has.
    return jnp.where(alive.reshape(alive.shape + (1,) * (jnp.ndim(new) - alive.ndim)), new, old)


def _cond(
    eqn: _compat.Equation, invals: list[Any], plan: Plan, frame: Frame, outputs: bool
) -> list[Any]:
    def branch(k: int, body: _compat.ClosedJaxpr) -> Callable[..., Any]:
        def run(*operands: Any) -> Any:
            inner, side = frame.branch(plan.inner, k)
            outs = interpret(body, operands, plan.inner.get(k, Plan()), inner)
            return outs, side(inner)

        return run

    index, *operands = invals
    branches = [branch(k, body) for k, body in enumerate(_compat.branches(eqn))]
    if platforms := _compat.platforms(eqn):
        # Only the branch of the platform at hand may be lowered.
        named = {p: b for of, b in zip(platforms, branches, strict=True) for p in of or ()}
        default = next((b for of, b in zip(platforms, branches, strict=True) if of is None), None)
        outs, side = jax.lax.platform_dependent(*operands, default=default, **named)
    else:
        outs, side = jax.lax.switch(index, branches, *operands)
    frame.absorb(side)
    return outs


def run_if(predicate: jax.Array, fn: Callable[[], jax.Array], otherwise: jax.Array) -> jax.Array:
    """`fn()` where a predicate holds, else a value of the same shape; `fn` is not run there."""
    if not _compat.manual_axes():
        return jax.lax.cond(predicate, fn, lambda: otherwise)
    # Both branches must vary over the same axes of the mesh.
    (new,) = jax.make_jaxpr(fn)().out_avals
    axes = _compat.varying(new) | _compat.varying(otherwise)
    return jax.lax.cond(
        predicate, lambda: _compat.vary(fn(), axes), lambda: _compat.vary(otherwise, axes)
    )


def _remat(
    eqn: _compat.Equation, invals: list[Any], plan: Plan, frame: Frame, outputs: bool
) -> list[Any]:
    def run(*args: Any) -> Any:
        inner = frame.child()
        outs = interpret(_compat.body(eqn), args, plan, inner, outputs=outputs)
        return outs, inner.side()

    outs, side = jax.checkpoint(run, **_compat.remat_options(eqn))(*invals)
    frame.absorb(side)
    return outs


def _custom(
    eqn: _compat.Equation, invals: list[Any], plan: Plan, frame: Frame, outputs: bool
) -> list[Any]:
    if frame.edits(plan) or not outputs:
        # The custom rule describes another function now: differentiate the edited body.
        return interpret(_compat.body(eqn), invals, plan, frame, outputs=outputs)

    def both(*args: Any) -> Any:
        inner = frame.child()
        outs = interpret(_compat.body(eqn), args, plan, inner)
        return outs, inner.side()

    def original(*args: Any) -> Any:
        return _compat.rebind(eqn, list(args))

    def beside(*args: Any) -> Any:
        inner = frame.child(reading=True)
        interpret(_compat.body(eqn), args, plan, inner, outputs=False)
        return inner.side()

    outs, side = _with_rule_of(_compat.kind(eqn), both, original, beside)(*invals)
    frame.absorb(side)
    return outs


def _with_rule_of(
    kind: str | None, both: Callable[..., Any], original: Callable[..., Any], beside: Any
) -> Callable[..., Any]:
    """`both`, a pair of results, whose first has the derivative rule of `original`.

    The second is differentiated as `beside`, through the body.
    """
    if kind == "custom_jvp":

        def jvp(primals: Any, tangents: Any) -> Any:
            first = jax.jvp(original, primals, tangents)
            second = jax.jvp(beside, primals, tangents)
            return tuple(zip(first, second, strict=True))

        ruled = jax.custom_jvp(both)
        ruled.defjvp(jvp)
        return ruled

    def forward(*args: Any) -> Any:
        outs, pull = jax.vjp(original, *args)
        side, pull_side = jax.vjp(beside, *args)
        return (outs, side), (pull, pull_side)

    def backward(pulls: Any, cotangents: Any) -> Any:
        parts = [pull(ct) for pull, ct in zip(pulls, cotangents, strict=True)]
        return tuple(_sum(*pair) for pair in zip(*parts, strict=True))

    differentiable = jax.custom_vjp(both)
    differentiable.defvjp(forward, backward)
    return differentiable


def _sum(a: Any, b: Any) -> Any:
    return a if a.dtype == jax.dtypes.float0 else a + b


def _shard_map(
    eqn: _compat.Equation, invals: list[Any], plan: Plan, frame: Frame, outputs: bool
) -> list[Any]:
    parts = _compat.shard_parts(eqn)
    loop = frame.loop(plan, loop_info(eqn))
    if loop.carry:
        raise UnsupportedError("shards cannot be chosen: read all and index the result")
    spread = jax.sharding.PartitionSpec(parts.axes)

    def run(args: Any, fed: Any) -> Any:
        index = jax.lax.axis_index(parts.axes)
        inner = loop.enter(index, jax.tree_util.tree_map(lambda x: x[0], fed))
        outs = interpret(_compat.body(eqn), args, plan, inner)
        _, side = loop.leave(index, loop.carry, inner)
        return tuple(outs), jax.tree_util.tree_map(lambda x: _compat.vary(x)[None], side)

    # Where mesh axes are explicit, operands must come with the sharding that the map expects.
    fed = jax.tree_util.tree_map(lambda x: _with_spec(x, parts.mesh, spread), loop.xs)
    outs, side = jax.shard_map(
        run,
        mesh=parts.mesh,
        in_specs=(tuple(parts.in_specs), spread),
        out_specs=(parts.out_specs, spread),
        check_vma=parts.check_vma,
        axis_names=frozenset(parts.axes),
    )(tuple(invals), fed)
    loop.finish(loop.carry, side)
    return list(outs)


def _with_spec(x: Any, mesh: Any, spec: Any) -> Any:
    explicit = jax.sharding.AxisType.Explicit
    if explicit not in mesh.axis_types:
        return x
    return jax.sharding.reshard(x, jax.sharding.NamedSharding(mesh, spec))


_REBUILD: dict[str, Rebuild] = {
    "jit": _jit,
    "call": _call,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "remat": _remat,
    "custom_jvp": _custom,
    "custom_vjp": _custom,
    "shard_map": _shard_map,
}
