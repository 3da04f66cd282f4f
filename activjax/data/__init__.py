"""Embedded real data, and iterators whose position can be saved."""

from activjax.data._batches import Batches as Batches
from activjax.data._batches import BatchState as BatchState
from activjax.data._digits import Split as Split
from activjax.data._digits import digits as digits
from activjax.data._digits import stratified as stratified
