"""Reading the command line, and what comes of errors."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from activjax.cli import _looking, _methods, _running, _texts as texts
from activjax.runs.errors import RunError


def parser() -> argparse.ArgumentParser:
    """The command line's grammar and help."""
    top = argparse.ArgumentParser(
        prog="activjax",
        description="From a YAML file to a report: run experiments, look at their results.",
        epilog=f"{texts.EXAMPLES}\n{texts.EXITS}",
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

    for kind in (_running, _looking, _methods):
        kind.enter(add)
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
        if args.command in _methods.ACTIONS:
            return _methods.ACTIONS[args.command](args)
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
