"""Rules: which mesh axes split which logical axes, and what comes of them for one array."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, NoneType

from jax.sharding import Mesh, PartitionSpec

from activjax.transforms._names import nearest

Rules = Mapping[str, str | Sequence[str] | None]

_TENSOR = {
    "batch": "data",
    "vocab": "model",
    "heads": "model",
    "kv_heads": "model",
    "mlp": "model",
}

#: "tensor": each device of the mesh axis "model" has some heads, hidden units and rows of the
#: vocabulary. "fsdp": these are split further over "data", and gathered layer by layer.
SHARDING_RULES: Mapping[str, Rules] = MappingProxyType(
    {
        "tensor": MappingProxyType(_TENSOR),
        "fsdp": MappingProxyType({**_TENSOR, "embed": "data"}),
    }
)

#: Logical axes that rules may name whether a model has them or not.
KNOWN = ("batch", "layers", "vocab", "position", "embed", "norm", "heads", "kv_heads", "mlp")


@dataclass(frozen=True)
class Cut:
    """How an array is split.

    Attributes:
      over: for each of its axes the mesh axes that split it.
      notes: what the rules ask for and cannot have.
    """

    over: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]

    @property
    def spec(self) -> PartitionSpec:
        """The same as JAX takes it."""
        axes = [names[0] if len(names) == 1 else names or None for names in self.over]
        while axes and axes[-1] is None:
            axes.pop()
        return PartitionSpec(*axes)


def as_rules(rules: str | Rules, mesh: Mesh, used: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Rules, checked: logical axis -> mesh axes, the first of the rules first.

    Args:
      rules: as `sharding` takes them.
      mesh: the mesh.
      used: the logical axes that parameters have.

    Raises:
      ValueError: an unknown set of rules, logical axis or mesh axis, with the nearest name.
    """
    if isinstance(rules, str):
        if rules not in SHARDING_RULES:
            raise ValueError(f"rules {rules!r}: {_of(rules, SHARDING_RULES)} (or give a mapping)")
        rules = SHARDING_RULES[rules]
    if not isinstance(rules, Mapping):
        raise ValueError(
            f"rules: expected a mapping or one of {_list(SHARDING_RULES)}, got {rules!r}"
        )
    used = sorted(used)
    for name in used:
        if name not in KNOWN and name not in rules:
            near = _of(name, dict.fromkeys([*rules, *KNOWN]))
            raise ValueError(f"axes: no rule for {name!r}: {near} (a rule can be None)")
    known = dict.fromkeys([*KNOWN, *used])
    out = {}
    for name, target in rules.items():
        if name not in known:
            raise ValueError(f"rules: no parameter has a logical axis {name!r}: {_of(name, known)}")
        if not isinstance(target, (str, Sequence, NoneType)):
            raise ValueError(f"rules {name!r}: expected mesh axes, got {target!r}")
        targets = (target,) if isinstance(target, str) else tuple(target or ())
        for axis in targets:
            if axis not in mesh.shape:
                raise ValueError(
                    f"rules: {name!r} goes to the mesh axis {axis!r}, and the mesh has "
                    f"{dict(mesh.shape)}: {_of(axis, mesh.shape)}"
                )
        out[name] = targets
    return out


def _of(name: str, names: Iterable[str]) -> str:
    names = list(names)
    near = nearest(name, names)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {_list(names)}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def cut(
    shape: tuple[int, ...],
    axes: Sequence[str | None],
    rules: Mapping[str, tuple[str, ...]],
    pieces: Mapping[str, int],
    mesh: Mesh,
) -> Cut:
    """How rules split an array; what they cannot split is left whole and noted.

    A mesh axis splits one axis of an array only: that of the earlier rule, then the earlier axis.

    Args:
      shape: of the array.
      axes: a logical axis for each of its axes, None for one that stays whole.
      rules: from `as_rules`.
      pieces: logical axis -> how many pieces it has that must stay whole; else each index is one.
      mesh: the mesh.
    """
    over: list[tuple[str, ...]] = [()] * len(shape)
    taken: dict[str, str] = {}
    notes = []
    for name, targets in rules.items():
        for i, axis in enumerate(axes):
            if axis != name:
                continue
            count = pieces.get(name, shape[i])
            for target in targets:
                parts = math.prod(mesh.shape[t] for t in (*over[i], target))
                if mesh.shape[target] == 1:
                    continue
                if target in taken:
                    notes.append(f"{name} not over {target}: it splits {taken[target]} already")
                elif count % parts:
                    notes.append(f"{name} not over {target}: {count} is no multiple of {parts}")
                else:
                    over[i] = (*over[i], target)
                    taken[target] = name
    return Cut(tuple(over), tuple(notes))
