"""What the processes tell one another beside their arrays, so that all of them do the same.

Every message is one `all_gather` of the same size, whatever it is about. So a process that failed,
and one that reached its next step, meet in the same operation and hear of one another; a program
whose processes take different paths would wait for ever otherwise.
"""

from __future__ import annotations

import base64
import json
import pickle
import socket
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


class Failed(RuntimeError):
    """What all processes were to do has failed on some; says on which and why, on all alike."""


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
    told, value, problem = "", None, None
    if jax.process_index() == 0:
        try:
            value = f()
            told = _packed((True, value))
        except Exception as error:
            problem = error
            told = _packed((False, _sendable(error)))
    said = exchange(told)[0]
    if problem is not None:
        raise problem
    if jax.process_index() == 0:
        return value  # type: ignore[return-value]
    good, value = pickle.loads(base64.b64decode(said))
    if not good:
        raise value
    return value


def every(f: Callable[[], T], why: Callable[[Exception], str] = str) -> list[T]:
    """What `f` returns on each process, in their order; where it raised on one, all raise.

    `f` must not wait for other processes.

    Args:
        f: returns values that JSON can hold.
        why: what to tell of an error.

    Raises:
        Failed: `f` raised on some; says on which, and why. With one process: what `f` raised.
        Elsewhere: another process has failed before it came here.
    """
    if jax.process_count() == 1:
        return [f()]
    value, problem = None, None
    try:
        value = f()
        json.dumps(value)
    except Exception as error:
        value, problem = None, error
    said = exchange([value, None if problem is None else f"{here()}: {why(problem)}"])
    if failed := [told for _, told in said if told is not None]:
        raise Failed("; ".join(failed)) from problem
    return [found for found, _ in said]


def here() -> str:
    """This process, for people: its number and its machine; "" where there is one only."""
    several = jax.process_count() > 1
    return f"process {jax.process_index()} on {socket.gethostname()}" if several else ""


def wait() -> None:
    """Until every process is here. Raises `Elsewhere`."""
    exchange()


def _packed(value: Any) -> str:
    return base64.b64encode(pickle.dumps(value)).decode()


def _sendable(error: Exception) -> Exception:
    """An error as it is where pickle gives it back, else its text: all must hear of it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


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
