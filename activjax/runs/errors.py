"""What can go wrong between a config and a report, one class per exit code of the command line."""

from __future__ import annotations

from typing import Any


class RunError(Exception):
    """Base of every error a run reports in one message, without a traceback of activjax."""

    exit_code = 1


class ExperimentError(RunError):
    """The experiment's own code raised; the message holds the part of the traceback that is its."""

    exit_code = 1


class ConfigError(RunError):
    """A config, an override or an experiment file that cannot be used; says where and why."""

    exit_code = 2


class StorageError(RunError):
    """The run folder cannot be written or read (full disk, no permission, damaged file)."""

    exit_code = 3


class LockedError(RunError):
    """Another process is working in the same run folder."""

    exit_code = 4


class CellsFailed(RunError):
    """A sweep has a record of every cell, and some of them are of failures; `folder` has them."""

    exit_code = 5

    def __init__(self, message: str, folder: Any):
        super().__init__(message)
        self.folder = folder


class EngineError(RunError):
    """A sweep's engine cannot be reached or cannot start its workers; says what to start."""

    exit_code = 6


class Stopped(RunError):
    """A signal ended the run at a safe point; the same command continues it."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


EXIT_CODES = {
    0: "done (also: the run was done already)",
    1: "the experiment raised an exception",
    2: "the config or the command line is wrong",
    3: "the run folder cannot be written or read (full disk, damaged checkpoint, ...)",
    4: "another process works on the same run",
    5: "some cells of the sweep failed; all others are done",
    6: "the sweep's engine cannot be reached, or its workers cannot start",
    130: "stopped by Ctrl-C; the same command continues",
    143: "stopped by SIGTERM; the same command continues",
}
