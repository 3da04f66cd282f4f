"""From selectors and edits to a plan over a traced program, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from activjax import program
from activjax.transforms._actions import Actions, Read, Write, feeds
from activjax.transforms._edit import Edit, as_edit, asks, fitted
from activjax.transforms._frame import ActivationFrame
from activjax.transforms._holes import wide_enough
from activjax.transforms._mapped import read_one
from activjax.transforms._names import SiteError
from activjax.transforms._selectors import Selector, as_selectors
from activjax.transforms._sites import Site, SiteTable, check_editable, discover
from activjax.transforms._targets import resolve

Edits = Sequence[tuple[Selector, Edit]]


def normalise_edits(
    edits: Mapping[str, Any] | Sequence[tuple[str | Selector, Any]],
) -> tuple[tuple[tuple[Selector, Edit], ...], bool]:
    """Edits as pairs in order, and whether they came as a mapping (which has no order).

    Raises:
      TypeError: not a mapping or a list of pairs, or a value that is no edit.
    """
    if isinstance(edits, Mapping):
        pairs, mapping = list(edits.items()), True
    elif isinstance(edits, Sequence) and not isinstance(edits, str):
        pairs, mapping = list(edits), False
    else:
        raise TypeError(
            f"edits: expected {{glob: edit}} or [(selector, edit), ...], got {type(edits).__name__}"
        )
    out = []
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"edits: expected pairs (selector, edit), got {pair!r}")
        (selector,) = as_selectors(pair[0])
        if selector.reduce is not None:
            raise SiteError(
                f"select({selector.site!r}, reduce=...) cannot be edited: a reduced value has no "
                "place to go back to"
            )
        # Numbers become arrays, so that sweeping them does not compile again.
        out.append((selector, jax.tree_util.tree_map(_number, as_edit(pair[1]))))
    return tuple(out), mapping


def _number(leaf: Any) -> Any:
    return jnp.asarray(leaf) if isinstance(leaf, (int, float, complex)) else leaf


def plan_reads(table: SiteTable, selectors: Sequence[Selector]) -> dict[str, Read]:
    """What to read, by site, in execution order.

    Raises:
      SiteError: no such site, a blocked one, or one that two selectors choose.
    """
    found: dict[str, Read] = {}
    for selector in selectors:
        for site in table.match(selector.site):
            if site.name in found:
                raise SiteError(
                    f"site {site.name!r} is chosen by two selectors; capture it once and index "
                    "the result, or capture twice"
                )
            target = resolve(selector, site, table, reading=True)
            one = jax.ShapeDtypeStruct(site.shape, site.dtype)
            if target.partial or target.reduce is not None:
                with wide_enough([site.dtype]):
                    one = jax.eval_shape(read_one(target), one, target.abstract_seen())
            inner = jax.ShapeDtypeStruct((*site.mapped, *one.shape), one.dtype)
            found[site.name] = Read(site.name, target, inner)
    reads: dict[str, Read] = {}
    for site in table:
        if site.name in found:
            reads[site.name] = found[site.name]
            if site.conditional:
                mask = Read.mask(found[site.name])
                reads[mask.name] = mask
    return reads


@dataclass(frozen=True)
class Described:
    """What `capture` will hand out for a site.

    Attributes:
      name: the site.
      base: its name as tagged, the same for `base#0`, `base#1`, ...
      loops: the leading axes that loops leave.
      shape: the axes after those: mapped ones, then the value's own.
      dtype: of the value.
      conditional: whether `name#valid` tells if it was reached.
      dynamic: whether a loop around it has no fixed length.
    """

    name: str
    base: str
    loops: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: Any
    conditional: bool
    dynamic: bool


def describe(f: Callable[..., Any], select: Any, args: tuple[Any, ...]) -> dict[str, Described]:
    """What `capture(f, select)(*args)` will hand out, by site, in execution order.

    Raises:
      SiteError: as `capture`.
    """
    table = discover(program.trace(f, *args))
    reads = plan_reads(table, as_selectors(select))
    return {
        read.name: Described(
            read.name,
            read.target.site.base,
            read.target.loop_axes(),
            read.inner.shape,
            read.inner.dtype,
            f"{read.name}#valid" in reads,
            any(length is None for _, length in read.target.site.loops),
        )
        for read in reads.values()
        if not read.is_mask
    }


def plan_writes(table: SiteTable, edits: Edits, mapping: bool) -> dict[str, list[Write]]:
    """What to edit, by site.

    Raises:
      SiteError: no such site, a blocked one, two entries of a mapping for one, or a per-iteration
        value whose leading axes are not those of the loops.
    """
    out: dict[str, list[Write]] = {}
    patterns: dict[str, str] = {}
    number = 0
    for selector, edit in edits:
        for site in table.match(selector.site):
            if mapping and site.name in out:
                raise SiteError(
                    f"site {site.name!r} is hit by two entries of a mapping, "
                    f"{patterns[site.name]!r} and {selector.site!r}: pass a list to fix the order"
                )
            check_editable(site)
            target = resolve(selector, site, table, reading=False)
            patterns[site.name] = selector.site
            for value in feeds(edit):
                _check_each(value, target.loop_axes(), site)
            if not target.idle:
                fit = fitted(edit, site.dtype, site.name)
                out.setdefault(site.name, []).append(Write(number, target, fit))
            number += 1
    return out


def _check_each(value: Any, axes: tuple[int, ...], site: Site) -> None:
    if not site.loops:
        raise SiteError(f"site {site.name!r} is in no loop; `each` has nothing to run over")
    if any(length is None for _, length in site.loops):
        raise SiteError(
            f"site {site.name!r} is in a while loop of unknown length: `each` cannot fit it"
        )
    got = jnp.shape(value)
    if got[: len(axes)] != axes:
        loops = ", ".join(f"{name}={n}" for name, n in site.loops)
        raise SiteError(
            f"site {site.name!r} (loops {loops}): `each` needs leading axes {axes}, got shape {got}"
        )


def run(
    traced: program.Program,
    table: SiteTable,
    reads: dict[str, Read],
    writes: dict[str, list[Write]],
    key: jax.Array | None = None,
    *,
    outputs: bool = True,
) -> tuple[Any, dict[str, jax.Array]]:
    """Run a traced program with reads and edits. Returns its output and what was read.

    Without `outputs`, only what leads to a read is run, and the output returned is None.
    """
    plan = program.Plan()
    read_at: dict[str, list[Read]] = {}
    for read in reads.values():
        read_at.setdefault(read.target.site.name, []).append(read)
    targets = [a.target for a in (*reads.values(), *(w for ws in writes.values() for w in ws))]
    asking = [site for site in table if any(asks(w.edit) for w in writes.get(site.name, ()))]
    needed = {site.name for target in targets for site in target.needs}
    for site in table:
        actions = Actions(site, tuple(writes.get(site.name, ())), tuple(read_at.get(site.name, ())))
        asked = site.name in needed or any(site.before(edited) for edited in asking)
        if actions.writes or actions.reads or asked:
            plan.add(site.place, actions)
    values = {
        w.number: [jnp.asarray(v) for v in found]
        for ws in writes.values()
        for w in ws
        if (found := feeds(w.edit))
    }
    for target in targets:
        target.refuse_outside()
    frame = ActivationFrame(values, key)
    arrays = traced.arguments.arrays
    flat = program.interpret(traced.closed, arrays, plan, frame, outputs=outputs)
    out = traced.unflatten(flat) if outputs else None
    return out, {name: frame.taps[name] for name in reads}
