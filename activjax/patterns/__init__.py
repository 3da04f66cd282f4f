"""Sign codes of activations: pack, compare, count.

A code says which units are active (pre-activation above zero) on an example, one bit a unit.
"""

from activjax.patterns._codes import Codes as Codes
from activjax.patterns._codes import codes as codes
from activjax.patterns._codes import unpack as unpack
from activjax.patterns._compare import Flips as Flips
from activjax.patterns._compare import flips as flips
from activjax.patterns._compare import hamming as hamming
from activjax.patterns._count import Partition as Partition
from activjax.patterns._count import count_distinct as count_distinct
from activjax.patterns._count import neuron_partition as neuron_partition
from activjax.patterns._count import partition as partition
from activjax.patterns._count import redundancy_ratio as redundancy_ratio
from activjax.patterns._stream import Distinct as Distinct
from activjax.patterns._stream import DistinctCounter as DistinctCounter
