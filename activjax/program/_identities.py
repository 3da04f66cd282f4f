"""Primitives that hand their operands on unchanged, whatever the analysis."""

from __future__ import annotations

#: Those of JAX, and what `register_identity` has added. Values keep their shape and meaning;
#: some are moved between devices, saved or marked.
IDENTITIES: set[str] = {
    "copy",
    "copy_p",
    "name",
    "stop_gradient",
    "optimization_barrier",
    "sharding_constraint",
    "layout_constraint",
    "device_put",
    "reshard",
    "relayout",
    "with_memory_space_constraint",
    "pvary",
}


def register_identity(primitive: str) -> None:
    """Say that a primitive, by its name in a jaxpr, hands its operands on unchanged.

    For layers and users that have marker primitives of their own.

    Raises:
      TypeError: it is no name.
    """
    if not isinstance(primitive, str):
        raise TypeError(
            f"register_identity: expected the name of a primitive, got {primitive!r}; pass `p.name`"
        )
    IDENTITIES.add(primitive)


def is_identity(primitive: str) -> bool:
    """Whether a primitive, by its name, hands its operands on unchanged."""
    return primitive in IDENTITIES
