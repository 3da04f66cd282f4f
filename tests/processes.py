"""The processes of one `jax.distributed` job on this machine, and what they said."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import activjax


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def held_port():
    """A port that nobody else is given while the socket is open; gRPC may still listen there.

    Between the end of `free_port` and a process that listens lie seconds of imports, in which the
    many connections of other jobs take ports from the same range.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    return held


class Job:
    """`count` processes with `devices` devices each, all started with the same command."""

    def __init__(self, count, command, cwd, devices=2, home=None, more=lambda i: {}):
        self._port = held_port()
        port = self._port.getsockname()[1]
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
        self._port.close()

    def send(self, i, number=signal.SIGTERM):
        self.processes[i].send_signal(number)

    def ended(self, seconds=300):
        """Exit codes and what was said, Gloo's own lines left out.

        All within `seconds`; else they are killed, and the error has what they have said.
        """
        until, late, said = time.monotonic() + seconds, [], []
        for i, process in enumerate(self.processes):
            try:
                text, _ = process.communicate(timeout=max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                late.append(i)
                process.kill()
                text, _ = process.communicate()
            said.append("\n".join(x for x in text.splitlines() if "[Gloo]" not in x))
        assert not late, f"processes {late} had not ended after {seconds} s: {said}"
        return [p.returncode for p in self.processes], said


def sweeping(*arguments):
    """The command of `activjax sweep ...` for each process."""

    def command(i, count, address):
        where = ("--address", address, "--processes", count, "--process", i)
        return ("-m", "activjax.cli", "sweep", *arguments, "--engine", "hosts", *where)

    return command
