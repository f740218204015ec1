"""Every numba setting of fusiform, in one place."""

from __future__ import annotations

import errno
import os
import tempfile
import warnings
from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Any, TypeVar, cast

import numba
from numba import config

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Contraction (fused multiply-add) is the only freedom given to the compiler: anything more could
# reorder sums or forget NaN, and speed bought with digits is not speed.
ARITHMETIC: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}

_THREAD_SAFE = ("omp", "tbb")
_turn = RLock()
if hasattr(os, "register_at_fork"):  # or a child forked during another thread's turn never gets one
    os.register_at_fork(
        before=_turn.acquire, after_in_parent=_turn.release, after_in_child=_turn.release
    )


def inner(function: _Function) -> _Function:
    """Compile a small loop or scalar function that is called from compiled code only."""
    return _compiled(function)


def parallel(function: _Function) -> _Function:
    """Compile a kernel whose ``prange`` loops run on all threads; any thread may call it.

    Where numba has neither OpenMP nor TBB, it falls back on its ``workqueue`` layer, which ends
    the process when two threads are in parallel code at once. There, callers take turns.
    """
    kernel = _compiled(function, parallel=True, nogil=True)

    @wraps(kernel, updated=())
    def call(*arguments: Any) -> Any:
        if threading_layer() in _THREAD_SAFE:
            return kernel(*arguments)
        with _turn:
            try:
                return kernel(*arguments)
            except ValueError as error:
                asked: str = config.THREADING_LAYER  # type: ignore[attr-defined]
                if threading_layer() is not None or asked == "default":
                    raise
                said = str(error).partition("\n")[0]
                warnings.warn(f"NUMBA_THREADING_LAYER={asked} is ignored: {said}", stacklevel=2)
                config.THREADING_LAYER = "default"  # type: ignore[attr-defined]
                return kernel(*arguments)

    return cast("_Function", call)


def threading_layer() -> str | None:
    """Numba's threading layer: omp, tbb or workqueue; None before the first parallel kernel."""
    try:
        return str(numba.threading_layer())  # type: ignore[attr-defined]
    except ValueError:
        return None


def _compiled(function: _Function, **options: Any) -> _Function:
    options |= ARITHMETIC
    before: str = config.CACHE_DIR  # type: ignore[attr-defined]
    try:
        # numba decides where a function's code is kept when the function is decorated.
        config.CACHE_DIR = cache_folder()  # type: ignore[attr-defined]
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except (OSError, RuntimeError):  # no folder for it: every process compiles for itself
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]


def cache_folder() -> str:
    """The folder of compiled kernels: ``NUMBA_CACHE_DIR``, or one in the user's cache folder.

    Beside the source, where numba would put them, compiled kernels would outlive an uninstall, and
    the folder left over in site-packages would hide a later editable install.

    Raises
    ------
    OSError : it cannot be written, or the user has no home
    """
    folder: str = config.CACHE_DIR  # type: ignore[attr-defined]
    if not folder:
        user_cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
        if user_cache.startswith("~"):
            raise FileNotFoundError(errno.ENOENT, "the user has no home folder", user_cache)
        folder = f"{user_cache}/fusiform"
    try:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        error.filename = folder
        raise
    return folder


def use_threads(count: int) -> None:
    """Run parallel kernels on ``count`` threads, or as many as numba was started with."""
    most: int = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(max(1, min(count, most)))
