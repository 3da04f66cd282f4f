"""`capture`: a function that also returns its activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from activjax import program
from activjax.transforms._call import through
from activjax.transforms._ordered import freeze
from activjax.transforms._plan import plan_reads, run
from activjax.transforms._selectors import Selector, as_selectors
from activjax.transforms._sites import discover


def capture(
    f: Callable[..., Any],
    select: str | Selector | Sequence[str | Selector] = "**",
    *,
    out: bool = True,
) -> Callable[..., Any]:
    """Read activations of a function.

    Args:
      f: any function that JAX can trace, with tagged values.
      select: a glob over site names, `aj.select(...)`, or a list of them.
      out: whether to return the function's own output too. Without it, what only the output
        needs is not run, and a scanned loop stops after the last iteration that is chosen.

    Returns:
      A function of `f`'s arguments that returns `(out, acts)`, or `acts` alone. `acts` maps site
      names to arrays, in execution order (a `jax.jit` around the result sorts them, as it does with
      every dict); their axes are loops, then axes mapped inside `f`, then
      the value's own. A plain `f` is traced on every eager call; wrap the result in `jax.jit`, or
      capture a jitted `f`, to compile once.

    Raises:
      SiteError: a pattern names no site or one that cannot be reached, or an index is out of range.
    """
    return through(f, ("capture", out), as_selectors(select), _capture_out if out else _capture)


def _capture_out(f: Any, selectors: Any, args: Any, kwargs: Any, outputs: bool = True) -> Any:
    traced = program.trace(f, *args, **kwargs)
    table = discover(traced)
    out, acts = run(traced, table, plan_reads(table, selectors), {}, outputs=outputs)
    return out, freeze(acts)


def _capture(f: Any, selectors: Any, args: Any, kwargs: Any) -> Any:
    return _capture_out(f, selectors, args, kwargs, outputs=False)[1]
