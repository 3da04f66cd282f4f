"""The commands that run something."""

from __future__ import annotations

from activjax.cli import _options as options, _texts as texts
from activjax.cli._options import Add


def enter(add: Add) -> None:
    """Their grammar."""
    run = add(
        "run", "run an experiment, or continue it", texts.RUN, f"{texts.EXAMPLES}\n{texts.EXITS}"
    )
    run.add_argument("config", metavar="CONFIG", help="a YAML file that names an experiment")
    run.add_argument(
        "overrides", metavar="key=value", nargs="*", help="values that replace the file's"
    )
    run.add_argument("--force", action="store_true", help="throw away what is there, run again")
    run.add_argument("--quiet", action="store_true", help="print the result's path only")
    options.track(run)
    options.out(run)

    sweep = add("sweep", "run every cell of a sweep that has no record yet", texts.SWEEP,
                texts.EXITS)  # fmt: skip
    sweep.add_argument("config", metavar="CONFIG", help="a YAML file with a `sweep:` section")
    sweep.add_argument("overrides", metavar="key=value", nargs="*")
    sweep.add_argument(
        "--dry-run",
        action="store_true",
        help="compile and time a little: cells, groups, widths, memory, time",
    )
    sweep.add_argument(
        "--exact",
        action="store_true",
        help="every cell in a program of its own, bit-equal to `activjax run`",
    )
    options.engine(sweep)
    options.track(sweep)
    options.out(sweep)

    search = add("search", "look for the best config, by Optuna", texts.SEARCH, texts.EXITS)
    search.add_argument("config", metavar="CONFIG", help="a YAML file with a `search:` section")
    search.add_argument("overrides", metavar="key=value", nargs="*")
    search.add_argument(
        "--exact",
        action="store_true",
        help="every cell in a program of its own, bit-equal to `activjax run`",
    )
    options.engine(search)
    options.track(search)
    options.out(search)

    resume = add("resume", "run exactly the missing cells of a sweep", "", texts.EXITS)
    resume.add_argument("sweep", metavar="SWEEP", help=texts.WHICH)
    resume.add_argument("--retry-failed", action="store_true", help="failed cells too, one by one")
    options.engine(resume)
    options.track(resume)
    options.out(resume)
