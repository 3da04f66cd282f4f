"""The tiny experiments, and the command line in a process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import activjax

TINY = Path(__file__).parent / "tiny"


@pytest.fixture
def tiny(tmp_path):
    """A copy of the tiny experiments in a folder outside the repository."""
    return Path(shutil.copytree(TINY, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def activjax_command(tmp_path_factory):
    """Starts `activjax ...`; its sources are a copy that nobody edits meanwhile."""
    home = tmp_path_factory.mktemp("package")
    shutil.copytree(Path(activjax.__file__).parent, home / "activjax")
    environment = {**os.environ, "PYTHONPATH": str(home), "COLUMNS": "200"}
    environment.pop("ACTIVJAX_RUNS", None)

    def start(*arguments, cwd, more=None, **options):
        return subprocess.Popen(
            [sys.executable, "-m", "activjax.cli", *map(str, arguments)],
            cwd=cwd,
            env={**environment, **(more or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return start


@pytest.fixture(scope="session")
def activjax_run(activjax_command):
    """Runs `activjax ...` to its end: (exit code, stdout, stderr)."""

    def run(*arguments, cwd, **options):
        process = activjax_command(*arguments, cwd=cwd, **options)
        stdout, stderr = process.communicate(timeout=120)
        return process.returncode, stdout, stderr

    return run
