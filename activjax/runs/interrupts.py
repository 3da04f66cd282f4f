"""Ctrl-C and SIGTERM: once to stop where nothing is lost, twice to stop at once.

Python runs signal handlers between bytecodes only, and a compiled chunk can take minutes, so a
thread reads the signals from the wake-up pipe and can end the process on the second one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Catches signals while it is entered (in the main thread; elsewhere it does nothing).

    Outside `deferred()` the first signal raises `KeyboardInterrupt`; inside it sets `signal`,
    which the block looks at when it can stop.

    Args:
        say: shows one line.
        hard: the second signal ends the process with `os._exit`; False raises instead (notebooks).
        patient: a second signal changes nothing: schedulers send several.
    """

    def __init__(self, say: Callable[[str], object], hard: bool, patient: bool = False):
        self.say, self.hard, self.patient = say, hard, patient
        self.signal: int | None = None
        self._deferred = False
        self._old: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """The shell's code for the signal received."""
        return 128 + (self.signal or signal.SIGINT)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """In this block a signal waits for a safe point."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._old_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._old = {s: signal.signal(s, self._handle) for s in _SIGNALS}
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._old:
            for number, handler in self._old.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._old_wakeup)
            os.close(self._write)  # ends the thread
            self._thread.join()
            os.close(self._read)
            self._old = {}

    def _handle(self, number: int, _: Any) -> None:
        again, self.signal = self.signal is not None, number
        if (again and not self.patient) or not self._deferred:
            raise KeyboardInterrupt

    def _watch(self) -> None:
        count = 0
        while byte := os.read(self._read, 1):
            if byte[0] not in _SIGNALS:
                continue
            count += 1
            if count == 1 and self._deferred:
                more = "" if self.patient else " (once more: stop at once)"
                self.say(f"stopping at the next safe point{more}")
            if count == 2 and self.hard and not self.patient:
                self.say("stopped at once; the same command continues from the last checkpoint")
                os._exit(128 + byte[0])
