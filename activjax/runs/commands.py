"""What each command of `activjax` does, given its parsed arguments; returns the exit code."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from activjax.runs import store
from activjax.runs.errors import CellsFailed, StorageError
from activjax.runs.store import RunFolder
from activjax.runs.sweep import folder as folders
from activjax.runs.sweep.folder import SweepFolder

# Everything else is imported by the command that needs it: looking must not wait for jax.


def _run(args: argparse.Namespace) -> int:
    from activjax.runs.launch import run

    folder = run(
        args.config,
        args.overrides,
        out=args.out,
        force=args.force,
        progress=not args.quiet,
        hard_exit=True,
        track=args.track,
    )
    if args.quiet:
        print(folder.report if folder.report.exists() else folder.path)
    else:
        from activjax.runs.show import print_done

        print_done(folder, _console())
    return 0


def _sweep(args: argparse.Namespace) -> int:
    from activjax.runs.sweep import launch
    from activjax.runs.sweep.engines import Options
    from activjax.runs.sweep.forecast import forecast

    options = Options(**_engine_options(args))
    if args.dry_run:
        from activjax.runs.sweep.show_forecast import print_forecast

        found = forecast(
            args.config, args.overrides, out=args.out, exact=args.exact, options=options,
            progress=not args.quiet,
        )  # fmt: skip
        print_forecast(found, _console())
        return 0
    with _shown(args.quiet):
        folder = launch.sweep(
            args.config, args.overrides, out=args.out, exact=args.exact, options=options,
            progress=not args.quiet, hard_exit=True, track=args.track,
        )  # fmt: skip
        return _sweep_done(folder, args.quiet)


def _search(args: argparse.Namespace) -> int:
    from activjax.runs import search
    from activjax.runs.sweep.engines import Options

    folder = search.run(
        args.config, args.overrides, out=args.out, exact=args.exact,
        options=Options(**_engine_options(args)), progress=not args.quiet, hard_exit=True,
        track=args.track,
    )  # fmt: skip
    return _sweep_done(folder, args.quiet)


def _resume(args: argparse.Namespace) -> int:
    from activjax.runs.sweep import launch

    folder = folders.find(args.sweep, store.root(args.out))
    if folder.about.get("search"):
        from activjax.runs import search
        from activjax.runs.errors import ConfigError

        if args.retry_failed:
            raise ConfigError(
                f"{folder.path}: a search has gone on from its failures: --retry-failed would "
                "change what came after them"
            )
        folder = search.resume(
            folder.path, given=_engine_options(args), progress=not args.quiet, hard_exit=True,
            track=args.track,
        )  # fmt: skip
        return _sweep_done(folder, args.quiet)
    with _shown(args.quiet):
        folder = launch.resume(
            folder.path, retry_failed=args.retry_failed, given=_engine_options(args),
            progress=not args.quiet, hard_exit=True, track=args.track,
        )  # fmt: skip
        return _sweep_done(folder, args.quiet)


@contextlib.contextmanager
def _shown(quiet: bool) -> Iterator[None]:
    """Also a sweep of which some cells failed has an end to see; after it the processes part."""
    try:
        yield
    except CellsFailed as error:
        _sweep_done(error.folder, quiet)
        raise
    finally:
        _leave_hosts()


def _leave_hosts() -> None:
    """Take leave of the other processes, before what this one still holds can end it."""
    if "jax" in sys.modules:
        import jax

        if jax.distributed.is_initialized():
            with contextlib.suppress(Exception):
                jax.distributed.shutdown()


def _sweep_done(folder: SweepFolder, quiet: bool) -> int:
    import jax

    # of several processes the first one tells; a backend is not started to ask
    if jax.distributed.is_initialized() and jax.process_index():
        return 0
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
    from activjax.runs.show import runs_table
    from activjax.runs.sweep.show import print_cells, print_sweeps

    root = store.root(args.out)
    path = Path(args.what or "")
    if args.what and not _is_sweep(path) and (path.exists() or path.is_absolute()):
        root, args.what = path, None
    if args.what is not None:
        folder = folders.find(args.what, root)
        limit = args.limit or None
        print_cells(folder, _console(), args.filters, failed=args.failed, missing=args.missing,
                    limit=limit)  # fmt: skip
        return 0
    if root.exists() and not root.is_dir():
        raise StorageError(f"{root}: expected the folder that holds all runs, got a file")
    runs, sweeps = store.all_runs(root), folders.all_sweeps(root)
    if runs:
        _console().print(runs_table(runs))
    if sweeps:
        print("sweeps" if not runs else "\nsweeps")
        print_sweeps(sweeps, _console())
    if not runs and not sweeps:
        print(f"no runs in {root}{'' if root.is_dir() else ' (no such folder)'}")
    return 0


def _show(args: argparse.Namespace) -> int:
    from activjax.runs.show import print_run
    from activjax.runs.sweep.show import print_cell, print_sweep

    found, cell = _found(args.run, store.root(args.out))
    if isinstance(found, RunFolder):
        print_run(found, _console())
    elif cell:
        print_cell(found, cell, _console())
    else:
        print_sweep(found, _console())
    return 0


def _compare(args: argparse.Namespace) -> int:
    from activjax.runs.sweep.compare import compare
    from activjax.runs.sweep.show import find_cell
    from activjax.runs.sweep.show_comparison import print_comparison

    sides: list[Any] = []
    for word in (args.a, args.b):
        found, cell = _found(word, store.root(args.out))
        if cell:
            assert isinstance(found, SweepFolder)
            sides.append(found.record_path(find_cell(found, cell).id))
        else:
            sides.append(found)
    print_comparison(compare(*sides), _console(), limit=args.limit or None)
    return 0


def _export(args: argparse.Namespace) -> int:
    from activjax.runs.sweep.table import export

    folder = folders.find(args.sweep, store.root(args.out))
    print(export(folder, args.file, volatile=args.volatile))
    return 0


def _serve(args: argparse.Namespace) -> int:
    from activjax.runs.browse import Server

    with Server(args.runs or store.root(args.out), args.port) as server:
        print(server.address, flush=True)
        if args.open:
            import webbrowser

            webbrowser.open(server.address)
        with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
            server.wait()
    return 0


def _report(args: argparse.Namespace) -> int:
    from activjax.runs.launch import write_report
    from activjax.runs.sweep import page

    found, _ = _found(args.run, store.root(args.out))
    if isinstance(found, SweepFolder):
        print(page.write(found))
        return 0
    if found.state() != store.DONE:
        raise StorageError(f"{found.path}: this run is {found.state()}, not done")
    print(write_report(found))
    return 0


def _track(args: argparse.Namespace) -> int:
    from activjax.runs import trackers
    from activjax.runs.errors import ConfigError

    names = trackers.chosen(args.track)
    if not names:
        known = ", ".join(trackers.NAMES)
        raise ConfigError(f"track: say which with --track or {trackers.ENVIRONMENT}: {known}")
    found, _ = _found(args.run, store.root(args.out))

    def warn(text: str) -> None:
        print(text, file=sys.stderr)

    if not trackers.export(found, names, warn):
        raise StorageError(f"{found.path}: not everything was sent; what was is not sent again")
    for name in names:
        print(found.path / "tracked" / name)
    return 0


def _found(word: str, root: Path) -> tuple[RunFolder | SweepFolder, str]:
    """The run or sweep that a word means, or a sweep and the beginning of a cell's id."""
    path = Path(word)
    if path.suffix == ".json" and path.parent.name == "cells" and _is_sweep(path.parents[1]):
        return SweepFolder(path.parents[1].resolve()), path.stem
    if _is_sweep(path):
        return SweepFolder(path.resolve()), ""
    if (path / "config.yaml").is_file():
        return RunFolder(path.resolve()), ""
    sweep, slash, cell = word.rstrip("/").rpartition("/")
    if slash:
        with contextlib.suppress(StorageError):
            return folders.find(sweep, root), cell
    every = [*store.all_runs(root), *folders.all_sweeps(root)]
    return store.pick(word, every, root, "runs"), ""


def _is_sweep(path: str | Path) -> bool:
    return (Path(path) / "sweep.json").is_file()


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


def _engine_options(args: argparse.Namespace) -> dict[str, Any]:
    from activjax.runs.sweep.engines import parse_resources

    names = ("engine", "workers", "width", "cell_seconds", "memory_mb", "address", "processes",
             "process")  # fmt: skip
    found = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.resources is not None:
        found["resources"] = parse_resources(args.resources)
    return found


def _console():
    from rich.console import Console

    console = Console()
    # in a pipe or a log there is no width to fit
    return console if console.is_terminal else Console(width=160)


COMMANDS = {
    "run": _run,
    "sweep": _sweep,
    "resume": _resume,
    "keys": _keys,
    "ls": _ls,
    "show": _show,
    "sites": _sites,
    "compare": _compare,
    "export": _export,
    "report": _report,
    "serve": _serve,
    "track": _track,
    "search": _search,
}
