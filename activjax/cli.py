"""The `activjax` command: a thin layer over `activjax.runs`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

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
  activjax serve                                  a page to browse them all
  activjax codes 3f2a                             a page to browse the codes of its bottlenecks
  activjax verify net.onnx prop.vnnlib            prove a property of a network, or break it
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


_LS = """\
List runs and sweeps (state, name, id, age, answer), or the cells of one sweep:

  activjax ls                        everything below ./runs
  activjax ls hash_phase width=32    cells of a sweep
  activjax ls hash_phase --failed    what went wrong
"""
_CODES = """\
Write the page of a run whose experiment indexed the codes of its bottlenecks: one HTML file that
opens offline. It shows how each code is used, where, with what, and what it does to the output;
tokens by codebooks; a search by regular expression; steered texts; labels to write and save.
"""
_VERIFY = """\
Look for an input in the boxes of a VNN-LIB property (1.0 or 2.0) whose outputs are unsafe, or prove
that there is none. The first line is VNN-COMP's word, the rest goes to stderr:

  unsat    the property holds: no input is unsafe
  sat      an input is unsafe; its values and outputs follow: ((X_0 0.5) ... (Y_0 -1.0))
  unknown  the time ended

The exit code is 0 for all three: VNN-COMP's scripts read the word, and take any other code as an
error of the tool.
"""
_CHECK = """\
Prove again what a proof says (APTP text, of `activjax verify --proof` or of others), exactly and
without any of the search: `proved` with exit code 0, or `not proved` with exit code 1.
"""
_SEARCH = """\
Run the trials of the config's `search:` section: each is a point of the space with every seed, and
its cells are those of a sweep. Killed at any moment, the same command goes on as it would have;
with more trials (search.trials=80) it goes on from those that there are.
"""
_TRACK = """\
Send trackers what a run or a sweep has and they have not been sent yet. All of it stays on this
machine, in the folder's `tracked/`, unless MLFLOW_TRACKING_URI or WANDB_MODE says otherwise.
"""
_SERVE = """\
Serve a page over all runs and sweeps below a folder, to this machine only: progress, tables to sort
and filter, plots along axes, parallel coordinates, comparisons, curves of what is running. It only
looks: nothing in the folder is written. Ctrl-C ends it.

  activjax serve                     everything below ./runs
  activjax serve /data/runs --open   of another folder, in the default browser
"""
_WHICH = "its folder, the beginning of its id, or its name"


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
    _add_track(run)
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
    _add_track(sweep)
    _add_out(sweep)

    search = add("search", "look for the best config, by Optuna", _SEARCH, f"exit codes:\n{codes}")
    search.add_argument("config", metavar="CONFIG", help="a YAML file with a `search:` section")
    search.add_argument("overrides", metavar="key=value", nargs="*")
    search.add_argument(
        "--exact",
        action="store_true",
        help="every cell in a program of its own, bit-equal to `activjax run`",
    )
    _add_engine(search)
    _add_track(search)
    _add_out(search)

    resume = add("resume", "run exactly the missing cells of a sweep", "", f"exit codes:\n{codes}")
    resume.add_argument("sweep", metavar="SWEEP", help=_WHICH)
    resume.add_argument("--retry-failed", action="store_true", help="failed cells too, one by one")
    _add_engine(resume)
    _add_track(resume)
    _add_out(resume)

    keys = add("keys", "what may stand in a config file: keys, types, defaults, ranges, help")
    keys.add_argument("config", metavar="CONFIG")

    ls = add("ls", "list runs and sweeps, or the cells of a sweep", _LS)
    ls.add_argument("what", metavar="DIR|SWEEP", nargs="?", help="root of the runs, or a sweep")
    ls.add_argument("filters", metavar="key=value", nargs="*", help="cells with these values")
    ls.add_argument("--failed", action="store_true", help="cells that failed")
    ls.add_argument("--missing", action="store_true", help="cells without a record")
    ls.add_argument("--limit", type=int, default=50, help="most cells (default: 50; 0: all)")
    _add_out(ls)

    show = add("show", "one run, sweep or cell: answer, summary, config, provenance")
    show.add_argument("run", metavar="RUN", help=f"{_WHICH}, or SWEEP/CELL")
    _add_out(show)

    compare = add("compare", "what differs between two runs, sweeps or cells: config and numbers")
    compare.add_argument("a", metavar="A", help=f"{_WHICH}, or SWEEP/CELL")
    compare.add_argument("b", metavar="B")
    compare.add_argument("--limit", type=int, default=40, help="most numbers (0: all)")
    _add_out(compare)

    export = add("export", "the cells of a sweep as a table: one line a cell")
    export.add_argument("sweep", metavar="SWEEP", help=_WHICH)
    export.add_argument("file", metavar="FILE", help="ends in .csv or .parquet")
    export.add_argument("--volatile", action="store_true", help="with times, workers, batches")
    _add_out(export)

    sites = add("sites", "the named activations of an experiment's function, without running it")
    sites.add_argument("config", metavar="CONFIG", help="its experiment defines sites(config)")
    sites.add_argument("overrides", metavar="key=value", nargs="*")

    serve = add("serve", "a local page to browse runs and sweeps", _SERVE)
    serve.add_argument("runs", metavar="RUNS", nargs="?", type=Path, help="root of all runs")
    serve.add_argument(
        "--port", type=int, metavar="N", help="default: 6170, or any that is free; 0: any"
    )
    serve.add_argument("--open", action="store_true", help="open it in the default browser")
    _add_out(serve)

    report = add("report", "write the report of a run or a sweep again")
    report.add_argument("run", metavar="RUN", help=_WHICH)
    _add_out(report)

    track = add("track", "send a run or a sweep to trackers, after the fact", _TRACK)
    track.add_argument("run", metavar="RUN|SWEEP", help=_WHICH)
    _add_track(track)
    _add_out(track)

    codes = add("codes", "write the page of a run's codes: one HTML file", _CODES)
    codes.add_argument("run", metavar="RUN", help=f"{_WHICH}, or the folder of an index")
    codes.add_argument("--out", metavar="FILE", type=Path, help="default: codes.html in the run")
    codes.add_argument("--case", metavar="NAME", help="which case's codes, where there are several")
    codes.add_argument(
        "--contexts",
        type=int,
        metavar="N",
        help="codes of each codebook with contexts, the most used (default: 20,000 of all)",
    )
    codes.add_argument(
        "--tokens", type=int, metavar="N", help="tokens of the examples that the page holds"
    )
    codes.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        help="root of all runs (default: the variable ACTIVJAX_RUNS, else ./runs)",
    )

    verify = add("verify", "prove a property of a network, or find what breaks it", _VERIFY)
    _add_problem(verify)
    verify.add_argument("--proof", metavar="FILE", type=Path, help="where a proof is written")
    verify.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="for the search (default: 60)"
    )

    check = add("check", "prove again what a proof says", _CHECK)
    check.add_argument("proof", metavar="PROOF.aptp", type=Path)
    _add_problem(check)
    check.add_argument(
        "--arithmetic",
        choices=("exact", "lp"),
        default="exact",
        help="exact (default), or of linear programs in floating point",
    )
    check.add_argument(
        "--seconds", type=float, metavar="S", help="for the check (default: no limit)"
    )
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
        if args.command == "codes":  # a method's, which `runs` does not know
            return _codes(args)
        if args.command in ("verify", "check"):
            return _verify(args)
        from activjax.runs.commands import COMMANDS

        return COMMANDS[args.command](args)
    except RunError as error:
        print(f"activjax: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `activjax ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("activjax: stopped", file=sys.stderr)
        return 130


def _codes(args: argparse.Namespace) -> int:
    from activjax.codebooks._viewer import run_index, write_page
    from activjax.runs import store
    from activjax.runs.errors import StorageError

    path = Path(args.run)
    try:
        if (path / "config.yaml").is_file() or not (path / "meta.json").is_file():
            run = store.find(args.run, store.root(args.root))
            index, file = run_index(run.path, args.case), run.path / "codes.html"
            title = f"{run.name} {run.id}"
        else:
            index, title = path.resolve(), path.resolve().name
            file = index.with_name(f"{title}.html")
        file = args.out or file
        with store.storing(file):
            print(write_page(index, file, title=title, contexts=args.contexts, tokens=args.tokens))
    except ValueError as error:
        raise StorageError(str(error)) from error
    return 0


def _verify(args: argparse.Namespace) -> int:
    from activjax.runs.errors import ConfigError, StorageError
    from activjax.verify import _commands

    try:
        if args.command == "verify":
            return _commands.verify(args.onnx, args.vnnlib, proof=args.proof, seconds=args.seconds)
        return _commands.check_proof(
            args.proof, args.onnx, args.vnnlib, arithmetic=args.arithmetic, seconds=args.seconds
        )
    except FileNotFoundError as error:
        raise ConfigError(f"{error.filename or error}: no such file") from error
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise StorageError(str(error)) from error


def _add_problem(command: argparse.ArgumentParser) -> None:
    command.add_argument("onnx", metavar="NET.onnx", type=Path)
    command.add_argument("vnnlib", metavar="PROP.vnnlib", type=Path)


def _add_out(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="root of all runs (default: the variable ACTIVJAX_RUNS, else ./runs)",
    )


def _add_track(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--track",
        metavar="NAME[,NAME]",
        help="also tell tensorboard, mlflow or wandb (default: the variable ACTIVJAX_TRACK)",
    )


def _add_engine(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--engine",
        choices=("local", "inline", "slurm", "ray", "hosts"),
        help="worker processes (default), this process, a cluster, or one program over many hosts",
    )
    command.add_argument(
        "--address",
        metavar="ADDRESS",
        help="of a running Ray cluster (HOST:PORT); of process 0 (hosts); slurm: `local` to try it",
    )
    command.add_argument("--processes", type=int, metavar="N", help="hosts: how many there are")
    command.add_argument("--process", type=int, metavar="I", help="hosts: which this is, from 0")
    command.add_argument(
        "--resources",
        metavar="K=V,...",
        help="of one task on a cluster: cpus=4,gpus=1,memory_gb=16,minutes=120,partition=short",
    )
    command.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="tasks at a time (default: one a core; one where there is an accelerator; what fits)",
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


if __name__ == "__main__":
    sys.exit(main())
