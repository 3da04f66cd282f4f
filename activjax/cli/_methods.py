"""The commands of single methods, which `activjax.runs` does not know."""

from __future__ import annotations

import argparse
from pathlib import Path

from activjax.cli import _options as options, _texts as texts
from activjax.cli._options import Add


def enter(add: Add) -> None:
    """Their grammar."""
    codes = add("codes", "write the page of a run's codes: one HTML file", texts.CODES)
    codes.add_argument("run", metavar="RUN", help=f"{texts.WHICH}, or the folder of an index")
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
    options.out(codes, "--root")  # --out names the page's file

    verify = add("verify", "prove a property of a network, or find what breaks it", texts.VERIFY)
    options.problem(verify)
    verify.add_argument("--proof", metavar="FILE", type=Path, help="where a proof is written")
    verify.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="for the search (default: 60)"
    )

    check = add("check", "prove again what a proof says", texts.CHECK)
    check.add_argument("proof", metavar="PROOF.aptp", type=Path)
    options.problem(check)
    check.add_argument(
        "--arithmetic",
        choices=("exact", "lp"),
        default="exact",
        help="exact (default), or of linear programs in floating point",
    )
    check.add_argument(
        "--seconds", type=float, metavar="S", help="for the check (default: no limit)"
    )


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


ACTIONS = {"codes": _codes, "verify": _verify, "check": _verify}
