"""Names of the axes of parameters, by path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from activjax.models.sharding._rules import KNOWN
from activjax.transforms._names import glob, nearest

Path = tuple[str, ...]
Axes = tuple[str | None, ...]

#: What stands in the place of a kernel that has low-rank adapters, and from the kernel's axes (or
#: shape) its own; None is the rank.
FACTORS: dict[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]] = {
    "kernel": lambda own: own,
    "a": lambda own: (*own[:-1], None),
    "b": lambda own: (*own[:-2], None, own[-1]),
    "scale": lambda own: own[:-2],
}


def named_axes(shapes: Any, axes: Mapping[str, str], more: Mapping[str, str]) -> dict[Path, Axes]:
    """The axes of each parameter that a glob names; `axes` before `more`."""
    found = {}
    params = dict(leaves(shapes))
    for pattern, names in axes.items():
        if not any(glob(pattern).fullmatch("/".join(path)) for path in params):
            paths = ["/".join(path) for path in params]
            near = nearest(pattern, paths) or paths[:8]
            raise ValueError(f"axes: no parameter matches {pattern!r}; nearest: {', '.join(near)}")
        if not isinstance(names, str):
            raise ValueError(f"axes {pattern!r}: expected names such as 'embed mlp', got {names!r}")
    for path, leaf in params.items():
        for pattern, names in (*axes.items(), *more.items()):
            if not glob(pattern).fullmatch("/".join(path)):
                continue
            own = names_of(names)
            if len(own) != len(leaf.shape):
                raise ValueError(
                    f"axes {pattern!r}: {names!r} names {len(own)} axes, and {'/'.join(path)} has "
                    f"shape {list(leaf.shape)}"
                )
            found[path] = own
            break
    return found


def check_pieces(pieces: Mapping[str, int], shapes: Any, axes: Mapping[Path, Axes]) -> None:
    """Refuse pieces that an axis cannot have."""
    used = {name for names in axes.values() for name in names if name}
    for name, count in pieces.items():
        if name not in used and name not in KNOWN:
            near = nearest(name, used) or sorted(used)
            raise ValueError(f"pieces: no axis is called {name!r}; nearest: {', '.join(near)}")
        if type(count) is not int or count < 1:
            raise ValueError(f"pieces {name!r}: expected a positive number, got {count!r}")
    for path, leaf in leaves(shapes):
        for name, size in zip(axes.get(path, ()), leaf.shape):
            if name and size % pieces.get(name, 1):
                raise ValueError(
                    f"pieces {name!r}: {'/'.join(path)} has {size} of it, which are not "
                    f"{pieces[name]} equal pieces"
                )


def names_of(names: str) -> Axes:
    """Names apart by blanks, as a tuple; `_` is None."""
    return tuple(None if name == "_" else name for name in names.split())


def same_shape(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether a shape is the one wanted; None is any size."""
    pairs = zip(shape, wanted)
    return len(shape) == len(wanted) and all(b in (a, None) for a, b in pairs)


def path_of(keys: Any) -> Path:
    """A path of JAX's keys as one of strings."""

    def one(key: Any) -> str:
        return str(next(getattr(key, a) for a in ("key", "name", "idx") if hasattr(key, a)))

    return tuple(one(key) for key in keys)


def leaves(tree: Any) -> Iterator[tuple[Path, Any]]:
    """The leaves with their paths."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return ((path_of(keys), leaf) for keys, leaf in flat)
