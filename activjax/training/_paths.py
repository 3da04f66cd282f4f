"""Parameters by their '/'-paths, and globs over these (the grammar of site names)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax

from activjax.transforms._names import glob, nearest


def name(path: Any) -> str:
    """A key path of JAX as a '/'-path: `blocks/attn/q/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths, in order."""
    return {name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def matching(pattern: str, names: Iterable[str], what: str) -> list[str]:
    """The paths that a glob names.

    Raises:
      TypeError: the glob is no string.
      ValueError: none; the message gives the nearest, or the glob that was meant.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"{what}: expected globs over parameter paths, got {pattern!r}")
    names = list(names)
    found = [n for n in names if glob(pattern).fullmatch(n)]
    if found:
        return found
    for meant in (f"{pattern}/**", f"**/{pattern}", f"**/{pattern}/**"):
        if any(glob(meant).fullmatch(n) for n in names):
            raise ValueError(f"{what}: no parameter is named {pattern!r}; did you mean {meant!r}?")
    near = nearest(pattern, names)
    tail = pattern.rsplit("/", 1)[-1]
    near += [n for n in names if n.rsplit("/", 1)[-1] == tail and n not in near]
    shown = near[:5] or names[:8]
    word = "nearest" if near else "there are"
    raise ValueError(
        f"{what}: no parameter matches {pattern!r}; {word}: {', '.join(shown) or 'none at all'}"
    )
