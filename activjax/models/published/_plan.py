"""Which array of a checkpoint becomes which parameter: every key used once, nothing left over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from activjax.models.published._family import Family
from activjax.models.published._layout import Entry, Shape
from activjax.models.published._safetensors import WeightsError
from activjax.models.published._shards import Checkpoint
from activjax.transforms._names import glob, nearest

STACKED = "blocks/"


@dataclass(frozen=True)
class Use:
    """An entry that a model has, with the shapes of its parameters in one layer."""

    entry: Entry
    shapes: tuple[Shape, ...]
    layers: int | None

    @property
    def keys(self) -> list[str]:
        """Its keys, one for each layer."""
        if self.layers is None:
            return [self.entry.key]
        return [self.entry.key.format(i) for i in range(self.layers)]


def uses(family: Family, config: Any, shapes: Mapping[str, Shape], prefix: bool) -> list[Use]:
    """The entries of a model with these parameters.

    Args:
      family: whose entries.
      config: of the model.
      shapes: path of a parameter -> its shape.
      prefix: whether keys begin with the family's prefix.

    Raises:
      WeightsError: a parameter that the family has no entry for.
    """
    out, held = [], set()
    for entry in family.entries:
        there = [path for path in entry.paths if path in shapes]
        if not there or entry.tied not in (None, config.tied):
            continue
        if len(there) < len(entry.paths):
            raise WeightsError(f"{entry.key}: the model has only {', '.join(there)} of its parts")
        stacked = entry.paths[0].startswith(STACKED)
        own = tuple(shapes[path][1:] if stacked else shapes[path] for path in entry.paths)
        key = entry.key if prefix else entry.key.removeprefix(family.prefix)
        entry = Entry(key, entry.paths, entry.layout)
        out.append(Use(entry, own, config.layers if stacked else None))
        held.update(entry.paths)
    if left := sorted(set(shapes) - held):
        raise WeightsError(f"{family.name}: nothing is known of the parameters {', '.join(left)}")
    return out


def check(
    checkpoint: Checkpoint, family: Family, config: Any, plan: Sequence[Use], prefix: bool
) -> None:
    """Refuse a checkpoint with missing or unused keys, or arrays of another shape.

    Raises:
      WeightsError: naming them.
    """
    label, used = checkpoint.folder, set()
    missing: list[str] = []
    for use in plan:
        wanted = use.entry.layout.shape(use.shapes, config)
        for key in use.keys:
            if key not in checkpoint:
                missing.append(key)
                continue
            used.add(key)
            if (found := checkpoint.stored(key).shape) != wanted:
                raise WeightsError(
                    f"{label}: {key} has shape {list(found)}, expected {list(wanted)} by "
                    "config.json"
                )
    if missing:
        near = [n for key in missing[:1] for n in nearest(key, set(checkpoint) - used)]
        hint = f"; nearest that nobody uses: {', '.join(near)}" if near else ""
        raise WeightsError(f"{label}: {_list(missing)} missing from the file{hint}")
    left = [key for key in checkpoint if key not in used and not is_leftover(key, family)]
    for twin, key in family.twins.items():
        if twin in left and (own := key if prefix else key.removeprefix(family.prefix)) in used:
            _same(checkpoint, twin, own)
            left.remove(twin)
    held = {path for use in plan for path in use.entry.paths}
    for entry in family.entries:  # nobody uses the other array of such a parameter
        if entry.key in left and entry.tied is not None and held.issuperset(entry.paths):
            left.remove(entry.key)
    if left:
        raise WeightsError(
            f"{label}: {_list(left)} used by no part of a {family.name} with these options: the "
            "model would not be the one that was saved"
        )


def is_leftover(key: str, family: Family) -> bool:
    """Whether a key is of a buffer that holds no parameter."""
    patterns = [*family.leftovers, *(p.removeprefix(family.prefix) for p in family.leftovers)]
    return any(glob(pattern).fullmatch(key) for pattern in patterns)


def _list(keys: list[str]) -> str:
    shown = ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
    return f"{shown} {'is' if len(keys) == 1 else 'are'}"


def _same(checkpoint: Checkpoint, twin: str, key: str) -> None:
    a, b = checkpoint.array(key), checkpoint.array(twin)
    same = a.dtype == b.dtype and a.shape == b.shape
    if not same or not np.array_equal(_bits(a), _bits(b)):
        raise WeightsError(
            f"{checkpoint.folder}: config.json ties {twin} to {key}, but they differ: set "
            "tie_word_embeddings to false in it if they should"
        )


def _bits(array: np.ndarray) -> np.ndarray:
    return array.view(np.dtype(f"u{array.dtype.itemsize}"))
