"""Everything that depends on the version of JAX: which primitive is which, and how to read it.

Equations are read here and nowhere else; they are always rebuilt through public functions
(`jax.lax.scan`, `jax.checkpoint`, ...), which do not change with the version.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import jax.extend.core as jec
from jax.extend import source_info_util

Equation = jec.JaxprEqn
Jaxpr = jec.Jaxpr
ClosedJaxpr = jec.ClosedJaxpr
Literal = jec.Literal

# Names rather than objects: they are what a printed jaxpr shows, and they outlive module moves.
_KINDS = {
    "jit": "jit",
    "pjit": "jit",
    "closed_call": "call",
    "eval_jaxpr": "call",
    "scan": "scan",
    "while": "while",
    "cond": "cond",
    "shard_map": "shard_map",
    "remat2": "remat",
    "remat": "remat",
    "checkpoint": "remat",
    "custom_jvp_call": "custom_jvp",
    "custom_vjp_call": "custom_vjp",
    "custom_vjp_call_jaxpr": "custom_vjp",
    # With jax_remat3 and jax_custom_vjp3 these two are objects behind one primitive.
    "RematTraced": "remat",
    "CustomVJPTraced": "custom_vjp",
}

_expanded: weakref.WeakKeyDictionary[Any, ClosedJaxpr] = weakref.WeakKeyDictionary()


def _object(eqn: Equation) -> Any:
    """The object behind a `call_hi_primitive` equation, or None."""
    return eqn.params.get("_prim") if eqn.primitive.name == "call_hi_primitive" else None


def _expand(hi: Any) -> ClosedJaxpr:
    if hi not in _expanded:
        # Traced already, but for one that jax.vmap has mapped: tracing may need a mesh around.
        known = getattr(hi, "jaxpr", None) or getattr(getattr(hi, "traced", None), "jaxpr", None)
        _expanded[hi] = closed(known) if known else jax.make_jaxpr(hi.expand)(*hi.in_avals)
    return _expanded[hi]


def kind(eqn: Equation) -> str | None:
    """The kind of control flow that an equation is, or None."""
    hi = _object(eqn)
    while type(hi).__name__ == "VmapOf":  # jax 0.10 wraps what it maps
        hi = hi.prim
    return _KINDS.get(eqn.primitive.name if hi is None else type(hi).__name__)


def closed(jaxpr: Jaxpr | ClosedJaxpr) -> ClosedJaxpr:
    """An open jaxpr without constants, closed."""
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def checkpoint_name(eqn: Equation) -> str | None:
    """The name that `jax.ad_checkpoint.checkpoint_name` gave a value, or None."""
    if eqn.primitive.name == "name":
        return eqn.params["name"]
    hi = _object(eqn)
    return hi.name if type(hi).__name__ == "CheckpointName" else None


def subprograms(eqn: Equation) -> Iterator[ClosedJaxpr]:
    """Every jaxpr among an equation's parameters, whatever the primitive."""
    if (hi := _object(eqn)) is not None:
        yield _expand(hi)
        return
    for value in eqn.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, (Jaxpr, ClosedJaxpr)):
                yield closed(item)


def body(eqn: Equation) -> ClosedJaxpr:
    """The single body of a jit, call, scan, remat or custom-rule equation."""
    if (hi := _object(eqn)) is not None:
        return _expand(hi)
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in eqn.params:
            return closed(eqn.params[name])
    raise KeyError(f"{eqn.primitive.name} has no body among {sorted(eqn.params)}")


def branches(eqn: Equation) -> tuple[ClosedJaxpr, ...]:
    """The branches of a cond equation, in order of its index operand."""
    return tuple(closed(b) for b in eqn.params["branches"])


@dataclass(frozen=True)
class WhileParts:
    """The two programs of a while equation and how many constants each takes first."""

    cond: ClosedJaxpr
    cond_consts: int
    body: ClosedJaxpr
    body_consts: int


def while_parts(eqn: Equation) -> WhileParts:
    """The parts of a while equation."""
    p = eqn.params
    return WhileParts(p["cond_jaxpr"], p["cond_nconsts"], p["body_jaxpr"], p["body_nconsts"])


@dataclass(frozen=True)
class ScanParts:
    """How a scan equation splits its operands and how it runs."""

    n_consts: int
    n_carry: int
    length: int
    reverse: bool
    unroll: int


def scan_parts(eqn: Equation) -> ScanParts:
    """The parts of a scan equation."""
    p = eqn.params
    if "num_consts" in p:
        consts, carry = p["num_consts"], p["num_carry"]
    else:  # since 0.11 the operands are grouped: constants, carry, what is scanned over
        consts, carry, _ = (len(list(group)) for group in p["ft_in"].unpack())
    return ScanParts(consts, carry, p["length"], p["reverse"], p["unroll"])


@dataclass(frozen=True)
class ShardParts:
    """How a shard_map equation was called."""

    mesh: Any
    axes: tuple[str, ...]
    in_specs: tuple[Any, ...]
    out_specs: tuple[Any, ...]
    check_vma: bool

    @property
    def shards(self) -> int:
        """The number of shards over the manual axes."""
        return math.prod(self.mesh.shape[a] for a in self.axes)


def shard_parts(eqn: Equation) -> ShardParts:
    """The parts of a shard_map equation."""
    p = eqn.params
    manual = p["newly_manual_axes"]
    axes = tuple(a for a in p["mesh"].axis_names if a in manual)
    return ShardParts(p["mesh"], axes, tuple(p["in_specs"]), tuple(p["out_specs"]), p["check_vma"])


def varying(x: Any) -> frozenset[str]:
    """The manual mesh axes over which a value inside shard_map (or its type) varies."""
    aval: Any = x if isinstance(x, jax.core.AbstractValue) else jax.typeof(x)
    mat = getattr(aval, "mat", None)
    return frozenset(aval.vma if mat is None else mat.varying)


def manual_axes() -> frozenset[str]:
    """The mesh axes that are manual here: those of the shard_maps around."""
    return frozenset(jax.sharding.get_abstract_mesh().manual_axes)


def vary(x: Any, axes: frozenset[str] | None = None) -> Any:
    """A value, marked as varying over some manual mesh axes; over all by default."""
    missing = tuple(sorted((manual_axes() if axes is None else axes) - varying(x)))
    return jax.lax.pcast(x, missing, to="varying") if missing else x


def is_recomputation(eqn: Equation) -> bool:
    """Whether an equation evaluates a forward pass again, for the backward one."""
    return eqn.params.get("differentiated") is True or "rematted_computation" in name_stack(eqn)


def remat_options(eqn: Equation) -> dict[str, Any]:
    """The keyword arguments that `jax.checkpoint` was called with."""
    if (hi := _object(eqn)) is not None:
        return {"policy": hi.policy}
    return {"prevent_cse": eqn.params["prevent_cse"], "policy": eqn.params["policy"]}


def mutates(eqn: Equation) -> bool:
    """Whether an equation reads or writes a mutable reference, itself or inside."""
    inward = {"RefEffect", "InternalMutableArrayEffect"}
    return any(inward & {base.__name__ for base in type(e).__mro__} for e in eqn.effects)


def speaks(eqn: Equation) -> bool:
    """Whether all effects of an equation go outward (prints, callbacks), none to a ref inside."""
    return bool(eqn.effects) and not mutates(eqn)


def is_object(eqn: Equation) -> bool:
    """Whether an equation is an object that expands to a program (`call_hi_primitive`)."""
    return _object(eqn) is not None


def source(eqn: Equation) -> list[str]:
    """The lines that made an equation, "file:line:column (function)", the innermost first."""
    return source_info_util.summarize(eqn.source_info, num_frames=64).splitlines()[::-1]


def platforms(eqn: Equation) -> tuple[tuple[str, ...] | None, ...] | None:
    """The platforms of each branch of a `lax.platform_dependent`; None for any other cond."""
    return eqn.params.get("branches_platforms")


def explicit_shardings(shardings: Any) -> list[jax.sharding.Sharding | None]:
    """A jit equation's shardings, None where it leaves them open."""
    return [s if isinstance(s, jax.sharding.Sharding) else None for s in shardings]


def name_stack(eqn: Equation) -> str:
    """The `jax.named_scope` path of an equation, relative to the jaxpr that holds it."""
    return str(eqn.source_info.name_stack)


def shape(var: Any) -> tuple[int, ...]:
    """The shape of a variable."""
    return var.aval.shape


def dtype(var: Any) -> Any:
    """The dtype of a variable."""
    return var.aval.dtype


def rebind(eqn: Equation, invals: list[Any]) -> list[Any]:
    """Run one equation again, as it is, under the current trace."""
    out = eqn.primitive.bind(*invals, **eqn.primitive.get_bind_params(eqn.params))
    return list(out) if eqn.primitive.multiple_results else [out]
