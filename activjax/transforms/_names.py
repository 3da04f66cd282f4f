"""Site names: globs over '/'-paths, and errors that name the nearest ones."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable


class SiteError(ValueError):
    """A site cannot be read or edited as asked. The message names the site and what to do."""


@functools.cache
def glob(pattern: str) -> re.Pattern[str]:
    """A glob over whole '/'-paths, compiled: `*` and `?` stay in a segment, `**` crosses them."""
    out, i = "", 0
    while i < len(pattern):
        if pattern.startswith("**/", i):
            out, i = out + "(?:.*/)?", i + 3
        elif pattern.startswith("**", i):
            out, i = out + ".*", i + 2
        elif pattern[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif pattern[i] == "?":
            out, i = out + "[^/]", i + 1
        else:
            out, i = out + re.escape(pattern[i]), i + 1
    return re.compile(out)


def matches(pattern: str, name: str, base: str) -> bool:
    """Whether a glob names a site: its full name `base#k`, or its base name."""
    regex = glob(pattern)
    return bool(regex.fullmatch(name) or regex.fullmatch(base))


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Up to three names that look like one."""
    return difflib.get_close_matches(name, list(names), n=3, cutoff=0.4)


def missing(pattern: str, names: Iterable[str]) -> SiteError:
    """The error for a pattern that names no site."""
    names = list(dict.fromkeys(names))
    if not names:
        return SiteError(
            f"no site matches {pattern!r}: the function has no sites at all; name values with "
            '`x = aj.tag(x, "name")` and use the result'
        )
    near = nearest(pattern, names)
    tail = pattern.rsplit("/", 1)[-1]
    near += [n for n in names if n.rsplit("/", 1)[-1] == tail and n not in near]
    shown = near[:5] or names[:8]
    word = "nearest" if near else "there are"
    more = "" if near or len(names) <= 8 else f" and {len(names) - 8} more"
    return SiteError(
        f"no site matches {pattern!r}; {word}: {', '.join(shown)}{more} (aj.sites lists all)"
    )
