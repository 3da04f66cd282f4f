"""The commands that look at what there is, and tell others of it."""

from __future__ import annotations

from pathlib import Path

from activjax.cli import _options as options, _texts as texts
from activjax.cli._options import Add


def enter(add: Add) -> None:
    """Their grammar."""
    keys = add("keys", "what may stand in a config file: keys, types, defaults, ranges, help")
    keys.add_argument("config", metavar="CONFIG")

    ls = add("ls", "list runs and sweeps, or the cells of a sweep", texts.LS)
    ls.add_argument("what", metavar="DIR|SWEEP", nargs="?", help="root of the runs, or a sweep")
    ls.add_argument("filters", metavar="key=value", nargs="*", help="cells with these values")
    ls.add_argument("--failed", action="store_true", help="cells that failed")
    ls.add_argument("--missing", action="store_true", help="cells without a record")
    ls.add_argument("--limit", type=int, default=50, help="most cells (default: 50; 0: all)")
    options.out(ls)

    show = add("show", "one run, sweep or cell: answer, summary, config, provenance")
    show.add_argument("run", metavar="RUN", help=f"{texts.WHICH}, or SWEEP/CELL")
    options.out(show)

    compare = add("compare", "what differs between two runs, sweeps or cells: config and numbers")
    compare.add_argument("a", metavar="A", help=f"{texts.WHICH}, or SWEEP/CELL")
    compare.add_argument("b", metavar="B")
    compare.add_argument("--limit", type=int, default=40, help="most numbers (0: all)")
    options.out(compare)

    export = add("export", "the cells of a sweep as a table: one line a cell")
    export.add_argument("sweep", metavar="SWEEP", help=texts.WHICH)
    export.add_argument("file", metavar="FILE", help="ends in .csv or .parquet")
    export.add_argument("--volatile", action="store_true", help="with times, workers, batches")
    options.out(export)

    sites = add("sites", "the named activations of an experiment's function, without running it")
    sites.add_argument("config", metavar="CONFIG", help="its experiment defines sites(config)")
    sites.add_argument("overrides", metavar="key=value", nargs="*")

    serve = add("serve", "a local page to browse runs and sweeps", texts.SERVE)
    serve.add_argument("runs", metavar="RUNS", nargs="?", type=Path, help="root of all runs")
    serve.add_argument(
        "--port", type=int, metavar="N", help="default: 6170, or any that is free; 0: any"
    )
    serve.add_argument("--open", action="store_true", help="open it in the default browser")
    options.out(serve)

    report = add("report", "write the report of a run or a sweep again")
    report.add_argument("run", metavar="RUN", help=texts.WHICH)
    options.out(report)

    track = add("track", "send a run or a sweep to trackers, after the fact", texts.TRACK)
    track.add_argument("run", metavar="RUN|SWEEP", help=texts.WHICH)
    options.track(track)
    options.out(track)
