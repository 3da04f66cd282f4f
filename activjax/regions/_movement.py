"""How far boundaries moved between two networks: the share of a domain they swept over."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from activjax.program.networks import Affine, Form, Layer, Network, joined
from activjax.regions._on_plane import on_network
from activjax.regions._polygons import Polygons
from activjax.regions._segments import segments
from activjax.regions._segments_result import Segments


@dataclass(frozen=True, eq=False)
class Movement:
    """What the boundaries of units swept over.

    Attributes:
      swept: `[units]`, the share of the domain (its area or length) on which a unit has another
        state than before. Their sum is the mean number of units that a random point sees flip.
      new: the share of the domain on which some unit has another state.
    """

    swept: Float64[np.ndarray, " units"]
    new: float

    @property
    def flips(self) -> float:
        """The mean number of flips at a point that is uniform on the domain."""
        return float(self.swept.sum())


def moved(before: Polygons | Segments, after: Polygons | Segments) -> Movement:
    """How far the boundaries moved between two networks of equal shape, exactly.

    Both cut the domain together; on each common piece the states are compared, so nothing is
    sampled.

    Args:
      before, after: both from `on_plane`, on the same plane and box; or both from `on_segment` or
        `on_segments`, on the same segments, which then count equally.

    Raises:
      TypeError: one is on a plane and the other on segments.
      ValueError: different domains, or units.
      ArithmeticError: as `on_plane`.
    """
    if isinstance(before, Polygons) and isinstance(after, Polygons):
        domain = ("origin", "basis", "box")
    elif isinstance(before, Segments) and isinstance(after, Segments):
        domain = ("x0", "x1")
    else:
        names = f"{type(before).__name__} and {type(after).__name__}"
        raise TypeError(f"moved: got {names}, expected two Polygons or two Segments")
    for name in domain:
        if not np.array_equal(getattr(before, name), getattr(after, name)):
            raise ValueError(f"moved: the two have different {name}; use the same domain")
    sizes = [[(x.size, x.states) for x in p.network.layers] for p in (before, after)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"moved: the networks have different units: {sizes[0]} and {sizes[1]}")
    both = together(before.network, after.network)
    if isinstance(before, Polygons):
        found = on_network(both, before.origin, before.basis, before.box, "proper")
        states, size = found.states, found.area
    else:
        cut = segments(both, before.x0, before.x1)
        states, size = cut.states, cut.stop - cut.start
    units = before.network.units
    other = states[:, :units] != states[:, units:]
    share = size / size.sum()
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
