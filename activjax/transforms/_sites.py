"""`sites`: the list of everything that can be read or edited in a function."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from activjax import program
from activjax.program import _compat
from activjax.transforms._names import SiteError, matches, missing
from activjax.transforms._tag import tag_p

_HEADINGS = ("site", "dtype", "shape", "mapped", "loops", "bytes", "note")


@dataclass(frozen=True)
class Site:
    """A named value in a traced program.

    Attributes:
      name: unique name; repeated ones are `base#0`, `base#1`, ... in execution order.
      base: the name as tagged, with its scopes.
      shape: shape of one example: without loop axes and without mapped axes.
      dtype: the dtype.
      axes: names of the axes of `shape`, or None.
      mapped: sizes of the axes added by `jax.vmap` inside the function, outermost first.
      loops: surrounding loops, outermost first, as (name, length); None: a `while`'s length.
      conditional: whether it stands in a branch that may not run.
      blocked: why it can be neither read nor edited, or None.
      place: where it stands in the program.
      batch_dims: positions of the mapped axes in the value.
      batch_names: `axis_name`s of the mapped axes, None for those without.
      recomputed: whether a gradient inside the function evaluates it again (`jax.checkpoint`).
      varying: mesh axes, of a shard_map around the whole function, over which the value varies.
      kind: "tag", or "checkpoint_name".
    """

    name: str
    base: str
    shape: tuple[int, ...]
    dtype: Any
    axes: tuple[str, ...] | None
    mapped: tuple[int, ...]
    loops: tuple[tuple[str, int | None], ...]
    conditional: bool
    blocked: str | None
    place: program.Place
    batch_dims: tuple[int, ...]
    batch_names: tuple[Any, ...]
    recomputed: bool
    varying: frozenset[str]
    kind: str

    @property
    def captured_shape(self) -> tuple[int, ...]:
        """Shape of what `capture` returns: loops, then mapped axes, then the value's own.

        Of a `while` it returns the last value, so that loop has no axis.
        """
        return (*(n for _, n in self.loops if n is not None), *self.mapped, *self.shape)

    def before(self, other: Site) -> bool:
        """Whether it stands before another, in the same body or in one around it."""
        body, at = self.place.path[:-1], other.place.path
        return at[: len(body)] == body and self.place.path[-1] < at[len(body)]

    @property
    def nbytes(self) -> int:
        """Bytes of what `capture` returns."""
        return math.prod(self.captured_shape) * self.dtype.itemsize


class SiteTable(Sequence[Site]):
    """The sites of a function, in execution order."""

    def __init__(self, sites: Sequence[Site]):
        self._sites = tuple(sites)

    @overload
    def __getitem__(self, index: int) -> Site: ...
    @overload
    def __getitem__(self, index: slice) -> SiteTable: ...
    def __getitem__(self, index: int | slice) -> Site | SiteTable:
        """A site, or a table of some."""
        if isinstance(index, slice):
            return SiteTable(self._sites[index])
        return self._sites[index]

    def __len__(self) -> int:
        """The number of sites."""
        return len(self._sites)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in execution order."""
        return tuple(s.name for s in self._sites)

    def match(self, pattern: str) -> tuple[Site, ...]:
        """The sites that a glob names.

        Raises:
          SiteError: it names none, or one that is blocked.
        """
        found = tuple(s for s in self._sites if matches(pattern, s.name, s.base))
        if not found:
            raise missing(pattern, self.names)
        for site in found:
            if site.blocked:
                raise SiteError(f"site {site.name!r} cannot be reached: it is {site.blocked}")
        return found

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The cells of `table`, one tuple a site."""
        for s in self._sites:
            own = list(s.axes or ("",) * len(s.shape))
            dims = [f"{a}={n}" if a else str(n) for a, n in zip(own, s.shape, strict=True)]
            yield (
                s.name,
                str(np.dtype(s.dtype)) if isinstance(s.dtype, np.dtype) else str(s.dtype),
                " ".join(dims) or "scalar",
                " ".join(str(n) for n in s.mapped) or "-",
                " ".join(f"{name}={'?' if n is None else n}" for name, n in s.loops) or "-",
                _bytes(s.nbytes),
                s.blocked or ", ".join(_notes(s)),
            )

    def table(self) -> Any:
        """A `rich` table: name, dtype, shape of one example, mapped axes, loops, bytes, note."""
        from rich.table import Table

        out = Table(caption=self.caption)
        for heading in _HEADINGS:
            out.add_column(
                heading,
                justify="right" if heading == "bytes" else "left",
                overflow="fold",
                no_wrap=heading == "bytes",
            )
        for row in self.rows():
            out.add_row(*row)
        return out

    def _repr_html_(self) -> str:
        """The table as HTML, for notebooks."""
        heads = "".join(f"<th>{name}</th>" for name in _HEADINGS)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows()
        )
        return (
            f"<table><caption>{self.caption}</caption><thead><tr>{heads}</tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )

    @property
    def caption(self) -> str:
        """How many sites there are and the bytes of all together."""
        total = sum(s.nbytes for s in self._sites if not s.blocked)
        return f"{len(self)} sites, {_bytes(total)} if all are captured"

    def __repr__(self) -> str:
        from rich.console import Console

        console = Console(width=120, no_color=True)
        with console.capture() as text:
            console.print(self.table())
        return text.get().rstrip()


def _notes(s: Site) -> Iterator[str]:
    if s.conditional:
        yield "in a branch"
    if s.recomputed:
        yield "computed again by jax.checkpoint: read only"


def _bytes(n: int) -> str:
    size = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def is_site(eqn: Any) -> bool:
    return eqn.primitive is tag_p or _compat.checkpoint_name(eqn) is not None


def _base(eqn: Any, place: program.Place) -> str:
    name = _compat.checkpoint_name(eqn) or eqn.params["name"]
    return name[1:] if name.startswith("/") else "/".join((*place.scopes, name))


def _loop_names(loops: tuple[program.LoopInfo, ...]) -> tuple[tuple[str, int | None], ...]:
    # Unnamed loops are counted from the innermost outwards; shards are not counted.
    out, depth = [], 0
    for info in reversed(loops):
        out.append((info.name or f"loop{depth}", info.length))
        depth += info.name != program.SHARDS
    return tuple(reversed(out))


def discover(traced: program.Program) -> SiteTable:
    """The sites of a traced program."""
    found, copies = [], set()
    for eqn, place in program.walk(traced.closed, is_site):
        if place.copy:
            copies.add(_base(eqn, place))
        else:
            found.append((eqn, place))
    bases = [_base(eqn, place) for eqn, place in found]
    counts, seen = Counter(bases), Counter()
    sites = []
    for (eqn, place), base in zip(found, bases, strict=True):
        aval: Any = eqn.outvars[0].aval
        dims = eqn.params.get("batch_dims", ())
        name = f"{base}#{seen[base]}" if counts[base] > 1 else base
        seen[base] += 1
        sites.append(
            Site(
                name=name,
                base=base,
                shape=tuple(n for i, n in enumerate(aval.shape) if i not in dims),
                dtype=aval.dtype,
                axes=eqn.params.get("axes"),
                mapped=tuple(aval.shape[d] for d in dims),
                loops=_loop_names(place.loops),
                conditional=place.conditional,
                blocked=place.blocked,
                place=place,
                batch_dims=dims,
                batch_names=eqn.params.get("batch_names", ()),
                recomputed=base in copies,
                varying=_compat.varying(aval) & _compat.manual_axes(),
                kind="tag" if eqn.primitive is tag_p else "checkpoint_name",
            )
        )
    return SiteTable(sites)


def check_editable(site: Site) -> None:
    """Raise where an edit would miss an evaluation of the site.

    Raises:
      SiteError: a rematerialised backward pass inside the function computes the value again.
    """
    if site.recomputed:
        raise SiteError(
            f"site {site.name!r} is computed a second time by jax.checkpoint, for a gradient taken "
            "inside this function, where the edit would be missing: edit first and differentiate "
            "the result, as in jax.grad(aj.intervene(f, edits))"
        )


def sites(f: Callable[..., Any]) -> Callable[..., SiteTable]:
    """List the sites of `f`, in execution order, without running it.

    Values named by `tag` and by `jax.ad_checkpoint.checkpoint_name`; of the latter, axes that
    `jax.vmap` adds cannot be told from their own.

    Args:
      f: any function that JAX can trace.

    Returns:
      A function of `f`'s arguments (arrays or `jax.ShapeDtypeStruct`s) that returns the table.

    Example:
      >>> print(aj.sites(f)(x))  # doctest: +SKIP
    """

    def listed(*args: Any, **kwargs: Any) -> SiteTable:
        return discover(program.trace(f, *args, **kwargs))

    return listed
