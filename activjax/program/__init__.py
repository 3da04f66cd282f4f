"""The traced program: trace a function, walk its equations, run it again under a set of rules.

Everything that reads, edits or analyses what happens inside a function goes through here, so that
differences between JAX versions live in one file (`_compat`) and control flow is rebuilt in one
place (`_control`). A rule set that runs the program subclasses `Frame`; see `activjax.transforms`
for the first one. One that only asks about it subclasses `Rules`: `flow` follows what is known of
each value through control flow. `piecewise_linear` and `parameter_uses` are two of these.
`evaluate` runs the program forward over values of a `Domain`, loops unrolled.
"""

from activjax.program import curves as curves
from activjax.program._compat import Equation as Equation, Literal as Literal
from activjax.program._control import run_if as run_if
from activjax.program._dependence import Dependence as Dependence
from activjax.program._describe import (
    Operand as Operand,
    Operation as Operation,
    around as around,
    scope_path as scope_path,
)
from activjax.program._errors import UnsupportedError as UnsupportedError
from activjax.program._evaluate import Domain as Domain, evaluate as evaluate
from activjax.program._flow import Rules as Rules, flow as flow
from activjax.program._identities import (
    is_identity as is_identity,
    register_identity as register_identity,
)
from activjax.program._interpret import (
    Carried as Carried,
    Frame as Frame,
    Loop as Loop,
    Plan as Plan,
    interpret as interpret,
)
from activjax.program._linear_states import Breakpoint as Breakpoint, Nonlinear as Nonlinear
from activjax.program._parameter_uses import (
    parameter_uses as parameter_uses,
    uses_in as uses_in,
)
from activjax.program._piecewise_linear import (
    PiecewiseLinear as PiecewiseLinear,
    piecewise_linear as piecewise_linear,
)
from activjax.program._trace import (
    Arguments as Arguments,
    Program as Program,
    split_arguments as split_arguments,
    trace as trace,
)
from activjax.program._uses import Use as Use, UseLoop as UseLoop, Uses as Uses
from activjax.program._views import Step as Step, View as View
from activjax.program._walk import (
    SHARDS as SHARDS,
    LoopInfo as LoopInfo,
    Place as Place,
    walk as walk,
)
