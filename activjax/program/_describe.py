"""How operations are described to people: scope, line, operands, and tables of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from activjax.program import _compat
from activjax.program._walk import Place, bodies

# Segments of a name stack: markers first, then anything between slashes.
_SEGMENT = re.compile(r"aj\.(module|scope|loop)\{([^{}]*)\}|([^/]+)")


def scope_path(stack: str) -> str:
    """The path in a name stack: that of the innermost module, or all named scopes around.

    Inside a module that `tag_modules` marked only `aj.scope`s append: some libraries put a scope
    around each layer and some do not.
    """
    while (plain := re.sub(r"(?<![\w.])\w+\(([^()]*)\)", r"\1", stack)) != stack:
        stack = plain  # jvp(vmap(net)) -> net
    path: list[str] = []
    in_module = False
    for kind, inside, name in _SEGMENT.findall(stack):
        if kind == "module":
            path, in_module = [inside] if inside else [], True
        elif kind == "scope":
            path.append(inside)
        elif name and name != "rematted_computation" and not in_module:
            path.append(name)
    return "/".join(path)


def source_line(closed: _compat.ClosedJaxpr, path: Sequence[int]) -> str | None:
    """The user's line behind the equation at a path, "file.py:12:4 (function)", or None.

    The innermost line outside installed packages; of an operation inside a cached function of a
    library, such as `jax.nn.relu`, the line of the call.
    """
    lines = [line for eqn in reversed(list(around(closed, path))) for line in _compat.source(eqn)]
    lines = [x for x in lines if x != "unknown" and "activjax/program/" not in x]
    return next((x for x in lines if "-packages/" not in x), next(iter(lines), None))


def functions(closed: _compat.ClosedJaxpr, path: Sequence[int]) -> tuple[str, ...]:
    """The names of the jitted functions around the equation at a path, outermost first."""
    names = (eqn.params.get("name") for eqn in around(closed, path))
    return tuple(n for n in names if isinstance(n, str) and not n.startswith("<"))


def around(closed: _compat.ClosedJaxpr, path: Sequence[int]) -> Iterator[_compat.Equation]:
    """The equations on the way to a path, outermost first, and that at its end."""
    i, *rest = path
    eqn = closed.jaxpr.eqns[i]
    yield eqn
    for body, place in bodies(eqn, Place((i,))) if rest else ():
        n = len(place.path)
        if place.path == tuple(path[:n]):
            yield from around(body, path[n:])


@dataclass(frozen=True)
class Operand:
    """An array that an operation takes.

    Attributes:
      shape: its shape.
      dtype: its dtype.
      dependence: how it depends on the input of the analysis, in words.
    """

    shape: tuple[int, ...]
    dtype: Any
    dependence: str

    def __str__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}] {self.dependence}"


@dataclass(frozen=True)
class Operation:
    """An operation of a traced program that an analysis names.

    Attributes:
      primitive: its name in a jaxpr, such as "max" or "exp".
      place: where it stands in the program.
      scope: the path of named scopes and modules around it.
      source: the user's line, "file.py:12:4 (function)", or None.
      functions: names of the jitted functions around it, outermost first, such as "silu".
      operands: what it takes.
    """

    primitive: str
    place: Place
    scope: str
    source: str | None
    functions: tuple[str, ...]
    operands: tuple[Operand, ...]

    @property
    def name(self) -> str:
        """`<scope>/<primitive>`."""
        return f"{self.scope}/{self.primitive}" if self.scope else self.primitive

    @property
    def line(self) -> str:
        """The source without its folders, or "-"."""
        return self.source.rsplit("/", 1)[-1] if self.source else "-"


def operation(eqn: _compat.Equation, place: Place, dependences: Iterable[str]) -> dict[str, Any]:
    """The fields of the `Operation` that an equation is, but for its line."""
    operands = (
        Operand(_compat.shape(v), _compat.dtype(v), d)
        for v, d in zip(eqn.invars, dependences, strict=True)
        if hasattr(v.aval, "dtype")
    )
    return {
        "primitive": eqn.primitive.name,
        "place": place,
        "scope": scope_path(place.stack),
        "source": None,
        "functions": (),
        "operands": tuple(operands),
    }


def iterations(place: Place) -> int | None:
    """How often an equation runs; None where a `while` decides."""
    lengths = [loop.length for loop in place.loops]
    return None if None in lengths else math.prod(n for n in lengths if n is not None)


def render(headings: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A `rich` table as text of at most 120 columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(caption=caption)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # as text: brackets of shapes are no markup
    console = Console(width=120, no_color=True)
    with console.capture() as text:
        console.print(table if table.row_count else caption)
    return text.get().rstrip()
