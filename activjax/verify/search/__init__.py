"""Branch and bound: attack, bound, split, decide."""

from activjax.verify.search._budget import Budget as Budget
from activjax.verify.search._prove import prove as prove
from activjax.verify.search._verdict import Statistics as Statistics, Verdict as Verdict
from activjax.verify.search._witness import Witness as Witness
