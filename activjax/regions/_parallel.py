"""Parts of a batch on several threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from activjax.fit import one_blas_thread

Part = TypeVar("Part")
Result = TypeVar("Result")


def each(run: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """`run` of each part, on as many threads as there are processors, BLAS on one in each.

    NumPy lets other threads run while it works.
    """
    workers = min(_processors(), len(parts))
    with one_blas_thread():
        if workers <= 1:
            return [run(part) for part in parts]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(run, parts))


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # not everywhere
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
