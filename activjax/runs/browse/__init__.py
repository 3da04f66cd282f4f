"""A local page over a folder of runs: sweeps, cells, plots, comparisons, live curves.

    from activjax.runs import browse

    with browse.Server("runs") as server:      # as `activjax serve runs`
        print(server.address)                  # http://127.0.0.1:PORT/
        server.wait()

It answers this machine only, reads only, and never imports jax.
"""

from __future__ import annotations

from activjax.runs.browse.server import Server

__all__ = ["Server"]
