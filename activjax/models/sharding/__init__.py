"""Models over a mesh of devices: which axis of which parameter is split over which mesh axis.

Everything is `jit` with `NamedSharding`s: programs stay as they are, the compiler makes each device
compute its share and adds what they have to tell one another.
"""

from activjax.models.sharding._mesh import mesh as mesh
from activjax.models.sharding._placement import Placement as Placement, sharding as sharding
from activjax.models.sharding._rules import SHARDING_RULES as SHARDING_RULES
