"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Protocol


class Add(Protocol):
    """Enters a command in the grammar."""

    def __call__(
        self, name: str, help: str, description: str = "", epilog: str = ""
    ) -> argparse.ArgumentParser:
        """Returns its own part of the grammar."""
        ...


def problem(command: argparse.ArgumentParser) -> None:
    """A network and a property of it."""
    command.add_argument("onnx", metavar="NET.onnx", type=Path)
    command.add_argument("vnnlib", metavar="PROP.vnnlib", type=Path)


def out(command: argparse.ArgumentParser, name: str = "--out") -> None:
    """Where all runs are."""
    command.add_argument(
        name,
        metavar="DIR",
        type=Path,
        help="root of all runs (default: the variable ACTIVJAX_RUNS, else ./runs)",
    )


def track(command: argparse.ArgumentParser) -> None:
    """Who else is told."""
    command.add_argument(
        "--track",
        metavar="NAME[,NAME]",
        help="also tell tensorboard, mlflow or wandb (default: the variable ACTIVJAX_TRACK)",
    )


def engine(command: argparse.ArgumentParser) -> None:
    """Where cells run, and what they may take."""
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
