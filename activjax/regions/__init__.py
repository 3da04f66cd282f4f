"""Linear regions of piecewise linear functions: along segments, on planes, in boxes, exactly.

A function may be any JAX function of one array that is continuous and piecewise linear; its hinges
are found in the traced program. Six definitions of a region are known (`DEFINITIONS`, `MEANINGS`).
"""

from activjax.regions._boxes import Regions as Regions
from activjax.regions._count import (
    DEFINITIONS as DEFINITIONS,
    MEANINGS as MEANINGS,
    Count as Count,
)
from activjax.regions._in_box import (
    count as count,
    enumerate as enumerate,
    is_piecewise_linear as is_piecewise_linear,
)
from activjax.regions._movement import Movement as Movement, moved as moved
from activjax.regions._on_plane import (
    Plane as Plane,
    on_plane as on_plane,
    plane_through as plane_through,
)
from activjax.regions._on_segment import on_segment as on_segment, on_segments as on_segments
from activjax.regions._plot import film as film, plot as plot, strip as strip
from activjax.regions._polygons import Polygons as Polygons
from activjax.regions._segments_result import Segments as Segments
