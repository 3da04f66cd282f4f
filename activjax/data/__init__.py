"""Embedded real data, and iterators whose position can be saved."""

from activjax.data._batches import Batches as Batches, BatchState as BatchState
from activjax.data._digits import Split as Split, digits as digits, stratified as stratified
