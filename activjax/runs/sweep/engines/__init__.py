"""Where the tasks of a sweep run: in this process, in processes, on SLURM, on Ray, over hosts."""

from activjax.runs.sweep.engines._choose import engine as engine, limits as limits
from activjax.runs.sweep.engines._options import (
    Options as Options,
    parse_resources as parse_resources,
)
