"""Continuous piecewise linear functions as affine maps between layers of hinges, in NumPy.

`extract` reads one out of any traced function, in float64; `extract_exactly` does so without a
single rounding, as a proof needs it.
"""

from activjax.program.networks._exact import (
    ExactNetwork as ExactNetwork,
    Step as Step,
    extract_exactly as extract_exactly,
)
from activjax.program.networks._extract import Extracted as Extracted, extract as extract
from activjax.program.networks._forms import Form as Form, joined as joined
from activjax.program.networks._network import (
    Affine as Affine,
    Layer as Layer,
    Matrix as Matrix,
    Network as Network,
    dense as dense,
)
