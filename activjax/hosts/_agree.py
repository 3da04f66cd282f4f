"""What the processes tell one another beside their arrays, so that all of them do the same.

Every message is one `all_gather` of the same size, whatever it is about. So a process that failed,
and one that reached its next step, meet in the same operation and hear of one another; a program
whose processes take different paths would wait for ever otherwise.
"""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")

_HEAD = 4088
_ERROR = "error"


class Elsewhere(RuntimeError):
    """Another process has failed; says which and why."""


def exchange(message: Any = None, *, error: str | None = None) -> list[Any]:
    """Give every process this one's message and return all of them, in order of the processes.

    Args:
        message: values that JSON can hold; each process its own.
        error: this process has failed: the others raise, this one returns.

    Raises:
        Elsewhere: another process has given an error.
    """
    if jax.process_count() == 1:
        return [message]
    text = json.dumps({"says": message} if error is None else {_ERROR: error}).encode()
    found = [json.loads(part) for part in _all(text)]
    failed = [(i, said[_ERROR]) for i, said in enumerate(found) if _ERROR in said]
    if failed and error is None:
        raise Elsewhere("; ".join(f"process {i}: {told}" for i, told in failed))
    return [said.get("says") for said in found]


def first(f: Callable[[], T]) -> T:
    """What `f` returns or raises on process 0, on every process; the others do not call it.

    Raises:
        Elsewhere: another process has failed meanwhile.
    """
    if jax.process_count() == 1:
        return f()
    outcome: tuple[bool, Any] = (True, None)
    if jax.process_index() == 0:
        try:
            outcome = (True, f())
        except Exception as error:
            outcome = (False, error)
    told = base64.b64encode(pickle.dumps(outcome)).decode() if jax.process_index() == 0 else ""
    good, value = pickle.loads(base64.b64decode(exchange(told)[0]))
    if not good:
        raise value
    return value


def wait() -> None:
    """Until every process is here. Raises `Elsewhere`."""
    exchange()


def _all(text: bytes) -> list[bytes]:
    """The texts of all processes; those of usual length in one gather."""
    head = len(text).to_bytes(8, "little") + text[:_HEAD]
    heads = [bytes(row) for row in _gather(head, 8 + _HEAD)]
    sizes = [int.from_bytes(h[:8], "little") for h in heads]
    rest = max(sizes) - _HEAD
    if rest <= 0:
        return [h[8 : 8 + size] for h, size in zip(heads, sizes)]
    width = 1 << (rest - 1).bit_length()  # few sizes, so few compilations
    tails = [bytes(row) for row in _gather(text[_HEAD:], width)]
    return [(h[8:] + t)[:size] for h, t, size in zip(heads, tails, sizes)]


def _gather(data: bytes, size: int) -> np.ndarray:
    row = np.zeros(size, np.uint8)
    row[: len(data)] = np.frombuffer(data, np.uint8)
    return np.asarray(multihost_utils.process_allgather(row))
