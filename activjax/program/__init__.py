"""The traced program: trace a function, walk its equations, run it again under a set of rules.

Everything that reads, edits or analyses what happens inside a function goes through here, so that
differences between JAX versions live in one file (`_compat`) and control flow is rebuilt in one
place (`_control`). A rule set subclasses `Frame`; see `activjax.transforms` for the first one.
"""

from activjax.program._control import run_if as run_if
from activjax.program._errors import UnsupportedError as UnsupportedError
from activjax.program._interpret import (
    Carried as Carried,
    Frame as Frame,
    Loop as Loop,
    Plan as Plan,
    interpret as interpret,
)
from activjax.program._trace import (
    Arguments as Arguments,
    Program as Program,
    split_arguments as split_arguments,
    trace as trace,
)
from activjax.program._walk import (
    SHARDS as SHARDS,
    LoopInfo as LoopInfo,
    Place as Place,
    walk as walk,
)
