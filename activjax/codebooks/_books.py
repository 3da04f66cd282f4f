"""Which spec belongs to which site, and checks of codebooks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from activjax.codebooks._spec import Spec
from activjax.transforms import SiteError
from activjax.transforms._names import matches, missing

Specs = Mapping[str, Spec]


def check_specs(spec: Any) -> None:
    """Raises TypeError unless `spec` is a mapping of globs to `Spec`."""
    good = isinstance(spec, Mapping) and all(
        isinstance(k, str) and isinstance(v, Spec) for k, v in spec.items()
    )
    if not good or not spec:
        raise TypeError(
            f"expected {{site: codebooks.Spec(...)}} with at least one entry, got {spec!r}"
        )


def _names(pattern: str, site: str) -> bool:
    """Whether a glob names a site, by its full name or without the number of a repeated one."""
    return matches(pattern, site, re.sub(r"#\d+$", "", site))


def _short(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ + ("" if shape is None else f" of shape {list(shape)}")


def spec_of(spec: Specs, site: str) -> Spec:
    """The spec of a site: the entry of this name, or the one glob that matches it.

    Raises:
      SiteError: there is none, or two globs match.
    """
    if site in spec:
        return spec[site]
    found = [pattern for pattern in spec if _names(pattern, site)]
    if len(found) != 1:
        why = f"{found[0]!r} and {found[1]!r} both match" if found else "no entry matches"
        raise SiteError(f"codebooks: {why} {site!r}; the spec has {', '.join(map(repr, spec))}")
    return spec[found[0]]


def specs_of(spec: Specs, codebooks: Mapping[str, Any]) -> dict[str, Spec]:
    """The spec of every codebook, checked against its codes.

    Raises:
      TypeError, ValueError, SiteError: what does not fit, and where.
    """
    check_specs(spec)
    if not isinstance(codebooks, Mapping) or not codebooks:
        raise TypeError(
            f"expected codebooks as init returns them, {{site: {{'codes': ...}}}}, got "
            f"{_short(codebooks)}; are params and codebooks in their places?"
        )
    found = {}
    for site, book in codebooks.items():
        if not isinstance(book, Mapping) or "codes" not in book:
            raise TypeError(
                f"{site!r}: expected a codebook as init returns it, {{'codes': ...}}, got "
                f"{_short(book)}; are params and codebooks in their places?"
            )
        own = found[site] = spec_of(spec, site)
        keys = {"codes"} if own.norm is None else {"codes", "scale"}
        if set(book) != keys:
            raise ValueError(
                f"codebook {site!r}: expected the entries {sorted(keys)} (norm={own.norm!r}), got "
                f"{sorted(book)}"
            )
        shape = book["codes"].shape
        if len(shape) < 3 or tuple(shape[-3:-1]) != (own.groups, own.codes):
            raise ValueError(
                f"codebook {site!r}: codes have shape {list(shape)}, expected [*loops, "
                f"{own.groups}, {own.codes}, d] (groups, codes, features)"
            )
    return found


def expand(spec: Specs, names: Iterable[str]) -> dict[str, Spec]:
    """The spec by the names of the sites that its globs match.

    Raises:
      SiteError: a glob matches nothing, or two match one site.
    """
    check_specs(spec)
    names = list(names)
    for pattern in spec:
        if not any(_names(pattern, name) for name in names):
            raise missing(pattern, names)
    wanted = [n for n in names if any(_names(p, n) for p in spec)]
    return {name: spec_of(spec, name) for name in wanted}
