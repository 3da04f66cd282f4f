"""The traced program: trace a function, walk its equations, run it again under a set of rules.

Everything that reads, edits or analyses what happens inside a function goes through here, so that
differences between JAX versions live in one file (`_compat`) and control flow is rebuilt in one
place (`_control`). A rule set subclasses `Frame`; see `activjax.transforms` for the first one.
"""

from activjax.program._errors import UnsupportedError as UnsupportedError
from activjax.program._interpret import Frame as Frame
from activjax.program._interpret import Loop as Loop
from activjax.program._interpret import Plan as Plan
from activjax.program._interpret import interpret as interpret
from activjax.program._trace import Arguments as Arguments
from activjax.program._trace import Program as Program
from activjax.program._trace import split_arguments as split_arguments
from activjax.program._trace import trace as trace
from activjax.program._walk import LoopInfo as LoopInfo
from activjax.program._walk import Place as Place
from activjax.program._walk import walk as walk
