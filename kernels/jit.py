"""Every numba setting of fusiform, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Contraction (fused multiply-add) is the only freedom given to the compiler: anything more could
# reorder sums or forget NaN, and speed bought with digits is not speed.
ARITHMETIC: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}


def inner(function: _Function) -> _Function:
    """Compile a small loop or scalar function that is called from compiled code only."""
    return numba.njit(cache=True, **ARITHMETIC)(function)  # type: ignore[no-any-return]


def parallel(function: _Function) -> _Function:
    """Compile a kernel whose ``prange`` loops run on all threads; the code is cached on disk."""
    return numba.njit(parallel=True, nogil=True, cache=True, **ARITHMETIC)(function)  # type: ignore[no-any-return]


def use_threads(count: int) -> None:
    """Run parallel kernels on ``count`` threads, or as many as numba was started with."""
    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(max(1, min(count, most)))
