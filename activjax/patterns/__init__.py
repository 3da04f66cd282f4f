"""Sign codes of activations: pack, compare, count.

A code says which units are active (pre-activation above zero) on an example, one bit a unit.
"""

from activjax.patterns._codes import Codes as Codes, codes as codes, unpack as unpack
from activjax.patterns._compare import Flips as Flips, flips as flips, hamming as hamming
from activjax.patterns._count import (
    Partition as Partition,
    count_distinct as count_distinct,
    neuron_partition as neuron_partition,
    partition as partition,
    redundancy_ratio as redundancy_ratio,
)
from activjax.patterns._stream import Distinct as Distinct, DistinctCounter as DistinctCounter
