"""One cache of compiled programs for all processes of all sweeps below a root.

JAX writes an entry in place, so a kill, or a second process that reads meanwhile, meets half of
it, and a half stays for good: it is there, so it is never written again. Every process therefore
writes into a folder of its own and links what is whole into the shared one, which is atomic.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import shutil
import socket
import tempfile
from pathlib import Path


class CompileCache:
    """The cache of this process.

    Args:
        root: holds the shared caches, one for each kind of machine and version of XLA.
    """

    def __init__(self, root: Path):
        self.shared = root / _machine()
        self.shared.mkdir(parents=True, exist_ok=True)
        self._sweep_up()
        prefix = f".own-{os.getpid()}-{socket.gethostname()}-"
        self.own = Path(tempfile.mkdtemp(prefix=prefix, dir=self.shared))
        self.fetch()

    def use(self) -> None:
        """Let JAX compile through it, unless the user has chosen a cache."""
        import jax

        if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            jax.config.update("jax_compilation_cache_dir", str(self.own))
            # caches of XLA's own put the folder's name into every key, so that none would be shared
            jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

    def fetch(self) -> None:
        """Take in what other processes have compiled."""
        _link(self.shared, self.own)

    def publish(self) -> None:
        """Give away what this process has compiled; call it when it is not compiling."""
        _link(self.own, self.shared)

    def close(self) -> None:
        """Leave the shared cache behind and nothing else."""
        shutil.rmtree(self.own, ignore_errors=True)

    def _sweep_up(self) -> None:
        """Remove the folders of processes of this machine that were killed."""
        for left in self.shared.glob(f".own-*-{socket.gethostname()}-*"):
            pid = left.name.split("-")[1]
            if not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
                shutil.rmtree(left, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    there = {entry.name for entry in os.scandir(target)}
    for entry in os.scandir(source):
        if entry.name not in there and entry.name.endswith("-cache"):
            with contextlib.suppress(OSError):  # another process was quicker, or no links here
                os.link(entry.path, target / entry.name)


def _machine() -> str:
    """Programs compiled for one processor may not run on another."""
    parts = [platform.machine(), importlib.metadata.version("jaxlib")]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        parts += [line for line in lines if line.startswith(("flags", "model name"))][:2]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
