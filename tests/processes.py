"""The processes of one `jax.distributed` job on this machine, and what they said."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import activjax


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Job:
    """`count` processes with `devices` devices each, all started with the same command."""

    def __init__(self, count, command, cwd, devices=2, home=None, more=lambda i: {}):
        port = free_port()
        home = home or Path(activjax.__file__).parents[1]
        environment = {
            **os.environ, "PYTHONPATH": str(home), "JAX_PLATFORMS": "cpu", "COLUMNS": "200",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        }  # fmt: skip
        self.processes = [
            subprocess.Popen(
                [sys.executable, *map(str, command(i, count, f"127.0.0.1:{port}"))],
                cwd=cwd, env={**environment, **more(i)}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for i in range(count)
        ]  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            with contextlib.suppress(OSError):
                process.kill()
            process.wait()
            process.stdout.close()

    def send(self, i, number=signal.SIGTERM):
        self.processes[i].send_signal(number)

    def ended(self, seconds=150):
        """Exit codes and what was said, Gloo's own lines left out."""
        said = [p.communicate(timeout=seconds)[0] for p in self.processes]
        plain = ["\n".join(x for x in s.splitlines() if "[Gloo]" not in x) for s in said]
        return [p.returncode for p in self.processes], plain


def sweeping(*arguments):
    """The command of `activjax sweep ...` for each process."""

    def command(i, count, address):
        where = ("--address", address, "--processes", count, "--process", i)
        return ("-m", "activjax.cli", "sweep", *arguments, "--engine", "hosts", *where)

    return command
