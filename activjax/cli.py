"""The `activjax` command: a thin layer over `activjax.runs`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from activjax.runs.errors import EXIT_CODES, RunError

_EXAMPLES = """\
examples:
  activjax run configs/quickstart.yaml            run it, or continue it, or show that it is done
  activjax run my.yaml lr=0.01 model.width=64     the same with other values: another run
  activjax run my.yaml seeds=2 steps=50           a quick look
  activjax sweep my.yaml --dry-run                cells, programs, memory and time of its sweep
  activjax sweep my.yaml                          all cells of its `sweep:` section
  activjax keys my.yaml                           what may stand in the file, with ranges and help
  activjax ls                                     all runs below ./runs
  activjax show 3f2a                              the run whose id begins with 3f2a
"""

_RUN = """\
Run the experiment that CONFIG names. Every run gets the folder <out>/<name>/<id>; the id is a
hash of the config and the sources, so the same command finds the same folder: a run that is done
is shown, a run that was interrupted continues from its last checkpoint with the same numbers.

  Ctrl-C        stops at the next safe point and says how to continue
  Ctrl-C twice  stops at once
"""


_SWEEP = """\
Run all cells of a sweep: every point of the config's `sweep:` section with every seed. Cells of
equal static shape share one compiled program; worker processes, each on cores of its own, take one
program after another. Killed at any moment, the same command runs exactly the missing cells.
"""


def parser() -> argparse.ArgumentParser:
    """The command line's grammar and help."""
    codes = "\n".join(f"  {code:3d}  {text}" for code, text in EXIT_CODES.items())
    top = argparse.ArgumentParser(
        prog="activjax",
        description="From a YAML file to a report: run experiments, look at their results.",
        epilog=f"{_EXAMPLES}\nexit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version and end")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    def add(
        name: str, help: str, description: str = "", epilog: str = ""
    ) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=help,
            description=description or help,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    run = add(
        "run", "run an experiment, or continue it", _RUN, f"{_EXAMPLES}\nexit codes:\n{codes}"
    )
    run.add_argument("config", metavar="CONFIG", help="a YAML file that names an experiment")
    run.add_argument(
        "overrides", metavar="key=value", nargs="*", help="values that replace the file's"
    )
    run.add_argument("--force", action="store_true", help="throw away what is there, run again")
    run.add_argument("--quiet", action="store_true", help="print the result's path only")
    _add_out(run)

    sweep = add("sweep", "run every cell of a sweep that has no record yet", _SWEEP,
                f"exit codes:\n{codes}")  # fmt: skip
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
    _add_engine(sweep)
    _add_out(sweep)

    resume = add("resume", "run exactly the missing cells of a sweep", "", f"exit codes:\n{codes}")
    resume.add_argument("sweep", metavar="SWEEP", help="its folder, the beginning of its id, name")
    resume.add_argument("--retry-failed", action="store_true", help="failed cells too, one by one")
    _add_engine(resume)
    _add_out(resume)

    keys = add("keys", "what may stand in a config file: keys, types, defaults, ranges, help")
    keys.add_argument("config", metavar="CONFIG")

    ls = add("ls", "list runs: state, name, id, age, answer")
    ls.add_argument("dir", metavar="DIR", nargs="?", help="root of the runs (default: as --out)")

    show = add("show", "one run: answer, summary, config, provenance")
    show.add_argument("run", metavar="RUN", help="its folder, the beginning of its id, or its name")
    _add_out(show)

    sites = add("sites", "the named activations of an experiment's function, without running it")
    sites.add_argument("config", metavar="CONFIG", help="its experiment defines sites(config)")
    sites.add_argument("overrides", metavar="key=value", nargs="*")

    report = add("report", "write the report of a finished run again")
    report.add_argument("run", metavar="RUN", help="its folder, the beginning of its id, its name")
    _add_out(report)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    grammar = parser()
    args, rest = grammar.parse_known_args(arguments)
    if rest:  # argparse stops collecting overrides at an option: `run a.yaml --force lr=1`
        odd = [word for word in rest if word.startswith("-") or "=" not in word]
        if odd or not hasattr(args, "overrides"):
            named = [word.lstrip("-") for word in odd if "=" in word]
            hint = f" (overrides have no dashes: {' '.join(named)})" if named else ""
            grammar.error(f"unrecognized arguments: {' '.join(odd or rest)}{hint}")
        args.overrides += rest
    if args.version:
        from activjax import __version__

        print(f"activjax {__version__}")
        return 0
    if args.command is None:
        grammar.print_help()
        return 2
    try:
        return _COMMANDS[args.command](args)
    except RunError as error:
        print(f"activjax: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `activjax ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("activjax: stopped", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    from activjax.runs.launch import run

    folder = run(
        args.config,
        args.overrides,
        out=args.out,
        force=args.force,
        progress=not args.quiet,
        hard_exit=True,
    )
    if args.quiet:
        print(folder.report if folder.report.exists() else folder.path)
    else:
        from activjax.runs.show import print_done

        print_done(folder, _console())
    return 0


def _sweep(args: argparse.Namespace) -> int:
    from activjax.runs.sweep import launch

    options = launch.Options(**_engine_options(args))
    if args.dry_run:
        from activjax.runs.sweep.show_forecast import print_forecast

        found = launch.forecast(
            args.config, args.overrides, out=args.out, exact=args.exact, options=options,
            progress=not args.quiet,
        )  # fmt: skip
        print_forecast(found, _console())
        return 0
    folder = launch.sweep(
        args.config, args.overrides, out=args.out, exact=args.exact, options=options,
        progress=not args.quiet, hard_exit=True,
    )  # fmt: skip
    return _sweep_done(folder, args.quiet)


def _resume(args: argparse.Namespace) -> int:
    from activjax.runs import store
    from activjax.runs.sweep import folder as folders, launch

    folder = folders.find(args.sweep, store.root(args.out))
    folder = launch.resume(
        folder.path, retry_failed=args.retry_failed, given=_engine_options(args),
        progress=not args.quiet, hard_exit=True,
    )  # fmt: skip
    return _sweep_done(folder, args.quiet)


def _sweep_done(folder: Any, quiet: bool) -> int:
    if quiet:
        print(folder.path / "report.html")
    else:
        from activjax.runs.sweep.show import print_sweep

        print_sweep(folder, _console())
    return 0


def _keys(args: argparse.Namespace) -> int:
    from activjax.runs.config import experiment_of
    from activjax.runs.show import keys_table

    _console().print(keys_table(experiment_of(args.config).Config))
    return 0


def _ls(args: argparse.Namespace) -> int:
    from activjax.runs import store
    from activjax.runs.show import runs_table

    root = store.root(args.dir)
    if root.exists() and not root.is_dir():
        raise store.StorageError(f"{root}: expected the folder that holds all runs, got a file")
    runs = store.all_runs(root)
    if not runs:
        print(f"no runs in {root}{'' if root.is_dir() else ' (no such folder)'}")
        return 0
    _console().print(runs_table(runs))
    return 0


def _show(args: argparse.Namespace) -> int:
    from activjax.runs import store
    from activjax.runs.show import print_run

    print_run(store.find(args.run, store.root(args.out)), _console())
    return 0


def _report(args: argparse.Namespace) -> int:
    from activjax.runs import store
    from activjax.runs.launch import write_report

    folder = store.find(args.run, store.root(args.out))
    if folder.state() != store.DONE:
        raise store.StorageError(f"{folder.path}: this run is {folder.state()}, not done")
    print(write_report(folder))
    return 0


def _sites(args: argparse.Namespace) -> int:
    from activjax.runs import config, contract

    plan = config.load(args.config, args.overrides)
    sites = plan.experiment.function("sites")
    if sites is None:
        raise config.ConfigError(
            f"{plan.experiment.label}: defines no sites(config) -> (f, args): nothing to list"
        )
    from activjax import transforms

    with contract.running(plan.experiment, "sites"):
        f, inputs = sites(plan.config)
        table = transforms.sites(f)(*inputs).table()
    _console().print(table)
    return 0


_COMMANDS = {
    "run": _run,
    "sweep": _sweep,
    "resume": _resume,
    "keys": _keys,
    "ls": _ls,
    "show": _show,
    "sites": _sites,
    "report": _report,
}


def _add_out(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="root of all runs (default: the variable ACTIVJAX_RUNS, else ./runs)",
    )


def _add_engine(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--engine", choices=("local", "inline"), help="worker processes (default), or this process"
    )
    command.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes (default: one a core; one where there is an accelerator)",
    )
    command.add_argument(
        "--width",
        type=int,
        metavar="N",
        help="most cells of a program (default: 16 on CPU, else what fits)",
    )
    command.add_argument(
        "--cell-seconds", type=float, metavar="S", help="time limit of a cell, compilation included"
    )
    command.add_argument(
        "--memory-mb",
        type=float,
        metavar="MB",
        help="memory limit of a worker; widths are chosen to stay below it",
    )
    command.add_argument("--quiet", action="store_true", help="print the report's path only")


def _engine_options(args: argparse.Namespace) -> dict[str, Any]:
    names = ("engine", "workers", "width", "cell_seconds", "memory_mb")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _console():
    from rich.console import Console

    console = Console()
    # in a pipe or a log there is no width to fit
    return console if console.is_terminal else Console(width=160)


if __name__ == "__main__":
    sys.exit(main())
