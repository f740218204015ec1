"""Every numba setting of fusiform, in one place."""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from threading import RLock
from typing import Any, TypeVar, cast

import numba
from numba import config

from .. import kernels as package

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Contraction (fused multiply-add) is the only freedom the compiler gets: more could reorder sums or
# ignore NaN.
ARITHMETIC: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}

_THREAD_SAFE = ("omp", "tbb")
_turn = RLock()
if hasattr(os, "register_at_fork"):  # a child forked while another thread holds it would deadlock
    os.register_at_fork(
        before=_turn.acquire, after_in_parent=_turn.release, after_in_child=_turn.release
    )
    os.register_at_fork(after_in_child=lambda: _remember_fork(threading_layer()))
# In a forked child: the thread that runs kernels, and whether GNU OpenMP would end the process.
_child: ThreadPoolExecutor | None = None
_threads_lost = False


def inner(function: _Function) -> _Function:
    """Compile a small loop or scalar function for use in other compiled code."""
    return _compiled(function, fused=True)


def exact(function: _Function) -> _Function:
    """Compile as :func:`inner`, but round every operation by itself, as NumPy and torch do.

    Which products and sums the compiler fuses otherwise depends on the code around them, and on
    whether it was read from the cache.
    """
    return _compiled(function, fused=False)


def parallel(function: _Function, fused: bool = True) -> _Function:
    """Compile a kernel whose ``prange`` loops run on all threads; any thread may call it.

    Without OpenMP and TBB, numba falls back to its ``workqueue`` layer, which aborts the process
    when two threads run parallel code at once. Calls then take turns.
    """
    kernel = _compiled(function, fused, parallel=True, nogil=True)

    def run(*arguments: Any) -> Any:
        if threading_layer() in _THREAD_SAFE:
            return kernel(*arguments)
        with _turn:
            try:
                return kernel(*arguments)
            except ValueError as error:
                requested: str = config.THREADING_LAYER  # type: ignore[attr-defined]
                if threading_layer() is not None or requested == "default":
                    raise
                reason = str(error).partition("\n")[0]
                warnings.warn(
                    f"NUMBA_THREADING_LAYER={requested} is ignored: {reason}", stacklevel=3
                )
                config.THREADING_LAYER = "default"  # type: ignore[attr-defined]
                return kernel(*arguments)

    @wraps(kernel, updated=())
    def call(*arguments: Any) -> Any:
        if _child is None:
            return run(*arguments)
        refuse_lost_threads()
        return _child.submit(run, *arguments).result()

    return cast("_Function", call)


def threading_layer() -> str | None:
    """Numba's threading layer: omp, tbb or workqueue; None before the first parallel kernel."""
    try:
        return str(numba.threading_layer())  # type: ignore[attr-defined]
    except ValueError:
        return None


def refuse_lost_threads() -> None:
    """Raise in a forked child whose parent ran kernels with GNU OpenMP: a kernel would end it.

    Raises
    ------
    UserError : the process is such a child
    """
    if _threads_lost:
        raise package.Unable(
            "kernels cannot run in a forked process whose parent has run them; it lacks their "
            "threads: start it by spawn, as multiprocessing.get_context('spawn') does"
        )


def _remember_fork(layer: str | None) -> None:
    """Give a forked child a thread of its own for kernels: its main thread could wait forever."""
    global _child, _threads_lost
    pool = sys.modules.get("numba.np.ufunc.omppool")
    gnu = getattr(pool, "openmp_vendor", "GNU") == "GNU"
    _threads_lost = _threads_lost or (layer == "omp" and gnu)
    _child = ThreadPoolExecutor(1, thread_name_prefix="kernels")


def _compiled(function: _Function, fused: bool, **options: Any) -> _Function:
    arithmetic = ARITHMETIC if fused else {**ARITHMETIC, "fastmath": False}
    kernel = numba.njit(**options, **arithmetic)(function)
    before: str = config.CACHE_DIR  # type: ignore[attr-defined]
    try:
        from .cache import KernelCache

        # Numba reads the folder of a function's code when the cache is created.
        config.CACHE_DIR = cache_folder()  # type: ignore[attr-defined]
        kernel._cache = KernelCache(function)
    except Exception:  # no cache folder, or an unknown numba: every process compiles for itself
        pass
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]
    return kernel  # type: ignore[no-any-return]


def cache_folder() -> str:
    """Folder of compiled kernels: ``NUMBA_CACHE_DIR``, or one in the user's cache folder.

    Numba's default, beside the source, would survive an uninstall, and the leftover folder in
    site-packages would shadow a later editable install.

    Raises
    ------
    OSError : the folder is not writable, or the user has no home folder
    """
    chosen: str = config.CACHE_DIR  # type: ignore[attr-defined]
    folder = chosen or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.path.expanduser(folder)  # noqa: PTH111
    if folder.startswith("~"):
        raise FileNotFoundError(errno.ENOENT, "the user has no home folder", folder)
    folder = os.path.abspath(folder) if chosen else f"{folder}/fusiform"  # noqa: PTH100
    try:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        error.filename = folder
        raise
    return folder


def keep_triton_code() -> None:
    """Give Triton another cache folder if the user's home folder is not writable."""
    home = os.path.expanduser(os.environ.get("TRITON_HOME") or "~")  # noqa: PTH111
    if "TRITON_CACHE_DIR" in os.environ or (os.path.isabs(home) and os.access(home, os.W_OK)):  # noqa: PTH117
        return
    try:
        folder = cache_folder()
    except OSError:
        folder = tempfile.mkdtemp(prefix="fusiform-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["TRITON_CACHE_DIR"] = f"{folder}/triton"


def use_threads(count: int) -> None:
    """Run parallel kernels on ``count`` threads, at most those numba was started with."""
    most: int = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(max(1, min(count, most)))
