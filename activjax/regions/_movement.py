"""How far boundaries moved between two networks: the share of a domain they swept over."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from activjax.regions._forms import Form, joined
from activjax.regions._network import Affine, Layer, Network
from activjax.regions._on_plane import on_network
from activjax.regions._polygons import Polygons


@dataclass(frozen=True, eq=False)
class Movement:
    """What the boundaries of units swept over.

    Attributes:
      swept: `[units]`, the share of the domain's area on which a unit has another state than
        before. Their sum is the mean number of units that a random point sees flip.
      new: the share of the area on which some unit has another state.
    """

    swept: Float64[np.ndarray, " units"]
    new: float

    @property
    def flips(self) -> float:
        """The mean number of flips at a point that is uniform on the domain."""
        return float(self.swept.sum())


def moved(before: Polygons, after: Polygons) -> Movement:
    """How far the boundaries moved between two networks of equal shape, exactly.

    Both cut the plane together; on each common cell the states are compared, so nothing is sampled.

    Args:
      before, after: from `on_plane`, on the same plane and box.

    Raises:
      ValueError: different planes, boxes, or units.
      ArithmeticError: as `on_plane`.
    """
    for name in ("origin", "basis", "box"):
        if not np.array_equal(getattr(before, name), getattr(after, name)):
            raise ValueError(f"moved: the two have different {name}; use the same plane and box")
    sizes = [[(x.size, x.states) for x in p.network.layers] for p in (before, after)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"moved: the networks have different units: {sizes[0]} and {sizes[1]}")
    both = together(before.network, after.network)
    found = on_network(both, before.origin, before.basis, before.box, "proper")
    units = before.network.units
    other = found.states[:, :units] != found.states[:, units:]
    share = found.area / found.area.sum()
    return Movement(share @ other, float(share @ other.any(1)))


def together(first: Network, second: Network) -> Network:
    """Both functions of one input, the units and the outputs of the first before the second's.

    Raises:
      ValueError: inputs of different lengths.
    """
    if first.size != second.size:
        raise ValueError(f"the inputs have {first.size} and {second.size} elements")
    shift = len(first.layers)

    def later(affine: Affine) -> Affine:
        return Affine({s and s + shift: m for s, m in affine.matrices.items()}, affine.bias)

    layers: list[Layer] = [
        *first.layers,
        *(dataclasses.replace(x, affine=later(x.affine)) for x in second.layers),
    ]
    outs = [Form((out.size,), out) for out in (first.out, later(second.out))]
    return Network(first.size, tuple(layers), joined(outs))
