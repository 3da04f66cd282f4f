"""One program over the processes of many hosts, by `jax.distributed`.

    import activjax as aj

    aj.hosts.start()                                   # SLURM, a TPU pod, Open MPI: nothing to say
    aj.hosts.start("node0:1234", processes=4, process=2)               # or say it
    mesh = aj.hosts.mesh("data")                       # all devices of all processes
    stream = aj.data.TextStream(corpus, tok, 256, 32, part=aj.hosts.part())   # its own documents
    tokens = aj.hosts.together(next(stream)[0], mesh)  # one array, each process's rows in turn

Every process runs the same program and calls the same functions in the same order. With one
process everything here works and does nothing.
"""

from activjax.hosts._agree import (
    Elsewhere as Elsewhere,
    Failed as Failed,
    every as every,
    exchange as exchange,
    first as first,
    here as here,
    wait as wait,
)
from activjax.hosts._arrays import (
    fetch as fetch,
    place as place,
    spread as spread,
    together as together,
)
from activjax.hosts._start import (
    HostsError as HostsError,
    count as count,
    index as index,
    mesh as mesh,
    part as part,
    start as start,
)
