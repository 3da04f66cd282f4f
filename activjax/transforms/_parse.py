"""Selectors and edits from plain data, as a YAML file holds them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from activjax.transforms import edits as kinds
from activjax.transforms._edit import Edit
from activjax.transforms._names import nearest
from activjax.transforms._selectors import Selector, select

_WHERE = ("site", "layers", "loops", "at", "max_steps")
_MAKERS: dict[str, Callable[..., Edit]] = {
    name: getattr(kinds, name) for name in kinds.__all__ if name.islower() and name != "each"
}
_NESTED = ("chain", "renorm")


def parse_selector(data: str | Mapping[str, Any]) -> Selector:
    """A selector from plain data: a glob, or a mapping of `select`'s arguments.

    Args:
      data: such as `"blocks/*"` or `{"site": "blocks/resid_post", "layers": [3, 5], "at": {"seq":
        -1}}`; everything but `reduce`, which is a function.

    Raises:
      ValueError: a key or a value that `select` does not take; the message names it.
    """
    if isinstance(data, str):
        return select(data)
    if not isinstance(data, Mapping):
        raise ValueError(f"select: expected a glob or a mapping with `site`, got {data!r}")
    _check_keys("select", data, _WHERE)
    if not isinstance(data.get("site"), str):
        raise ValueError(f"select: `site` must be a glob over site names, got {data.get('site')!r}")
    for key in ("layers", "loops", "at"):
        for index in _indices(data.get(key)):
            if isinstance(index, bool) or not isinstance(index, (int, str)):
                raise ValueError(f"select: {key}: expected whole numbers, got {index!r}")
    return select(**{str(key): value for key, value in data.items()})


def _indices(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return [i for v in value.values() for i in _indices(v)]
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def parse_edit(data: str | Mapping[str, Any]) -> Edit:
    """An edit from plain data: its name with its values.

    Args:
      data: such as `{"scale": 0.5}`, `{"clamp": [-1, 1]}`, `{"clamp": {"high": 1}}`, `{"top_k":
        {"k": 8, "by": "magnitude"}}`, `{"renorm": {"add": [0.1, 0.2]}}` or `{"chain": [{"scale":
        2}, {"clamp": {"low": 0}}]}`; `{"each": [...]}` in the place of a value gives each
        iteration its own.

    Raises:
      ValueError: no edit of this name, or values that it does not take.
    """
    if not isinstance(data, Mapping) or len(data) != 1:
        raise ValueError(f"edit: expected one `name: values` such as `scale: 0.5`, got {data!r}")
    ((name, values),) = data.items()
    if name not in _MAKERS:
        near = nearest(str(name), _MAKERS)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"edit {name!r}: {hint}there are: {', '.join(_MAKERS)}")
    make = _MAKERS[name]
    if name in _NESTED:
        inner = values if isinstance(values, (list, tuple)) else [values]
        if not inner or (name == "renorm" and len(inner) != 1):
            raise ValueError(f"edit {name!r}: expected {'edits' if name == 'chain' else 'an edit'}")
        return make(*map(parse_edit, inner))
    several = len(inspect.signature(make).parameters) > 1
    if isinstance(values, Mapping) and set(values) != {"each"}:
        _check_keys(f"edit {name!r}", values, tuple(inspect.signature(make).parameters))
        args, named = [], dict(values)
    else:
        args, named = (list(values) if several and isinstance(values, list) else [values]), {}
    try:
        return make(*map(_value, args), **{k: _value(v) for k, v in named.items()})
    except TypeError as e:
        raise ValueError(f"edit {name!r}: {e}") from e


def _value(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {"each"}:
        return kinds.each(value["each"])
    return value


def parse_edits(data: Sequence[Mapping[str, Any]]) -> list[tuple[Selector, Edit]]:
    """A list for `intervene` from plain data: mappings of a selector's keys and `edit`.

    Args:
      data: such as `[{"site": "blocks/mlp/out", "layers": [2], "edit": {"scale": 0}}]`.

    Raises:
      ValueError: as `parse_selector` and `parse_edit`, with the position in the list.
    """
    if isinstance(data, (str, Mapping)) or not isinstance(data, Sequence):
        raise ValueError(f"edits: expected a list of mappings with `site` and `edit`, got {data!r}")
    out = []
    for i, item in enumerate(data):
        try:
            if not isinstance(item, Mapping) or "edit" not in item:
                raise ValueError(f"expected a mapping with `site` and `edit`, got {item!r}")
            where = {key: value for key, value in item.items() if key != "edit"}
            out.append((parse_selector(where), parse_edit(item["edit"])))
        except ValueError as e:
            raise ValueError(f"edits[{i}]: {e}") from e
    return out


def _check_keys(what: str, data: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in data:
        if key not in known:
            near = nearest(str(key), known)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{what}: unknown key {key!r}; {hint}keys: {', '.join(known)}")
