"""BLAS on one thread."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any


def one_blas_thread() -> AbstractContextManager[Any]:
    """A context in which BLAS runs on one thread, in the whole process.

    On a busy machine the threads of OpenBLAS, which NumPy and XLA's Cholesky factorisation on CPU
    use, wait for one another: many small matrices then take up to a hundred times as long.
    """
    return _controller().limit(limits=1, user_api="blas")


@functools.cache
def _controller() -> Any:
    import scipy.linalg  # noqa: F401  XLA's LAPACK, to be found with NumPy's
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
