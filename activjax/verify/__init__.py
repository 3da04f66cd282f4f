"""Proofs about networks: bounds, branch and bound, proof trees, activation patterns as properties.

`bound` is a transform of functions; `Problem` reads ONNX and VNN-LIB or takes a model; `prove`
searches on the device; `check` proves a tree again, exactly, sharing no code with the search.
"""

from activjax.verify._codes import codes as codes
from activjax.verify._nap import (
    Nap as Nap,
    NapCurve as NapCurve,
    Pattern as Pattern,
    mine_nap as mine_nap,
    nap_curve as nap_curve,
)
from activjax.verify._problem import Case as Case, Problem as Problem
from activjax.verify._property import (
    Clause as Clause,
    Property as Property,
    above as above,
    largest as largest,
    smallest as smallest,
)
from activjax.verify._radius import Radius as Radius, radius as radius
from activjax.verify._tree import (
    Leaf as Leaf,
    Literal as Literal,
    Multipliers as Multipliers,
    Tree as Tree,
)
from activjax.verify.bounds import Bounds as Bounds, bound as bound
from activjax.verify.checking import Checked as Checked, check as check
from activjax.verify.formats import FormatError as FormatError
from activjax.verify.search import (
    Budget as Budget,
    Statistics as Statistics,
    Verdict as Verdict,
    Witness as Witness,
    prove as prove,
)
