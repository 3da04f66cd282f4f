"""Parts of a batch on several threads."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


def each(run: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """`run` of each part, on as many threads as there are processors, BLAS on one in each.

    The threads of OpenBLAS wait for one another at every product of matrices of this size, on a
    busy machine several times as long as they work. NumPy lets other threads run meanwhile.
    """
    workers = min(_processors(), len(parts))
    with _blas().limit(limits=1, user_api="blas"):
        if workers <= 1:
            return [run(part) for part in parts]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(run, parts))


@functools.cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # not everywhere
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
