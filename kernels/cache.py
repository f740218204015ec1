"""Compiled kernels on disk, built on numba's private cache. Only speed depends on it.

Numba's own cache crashes on a damaged file or a full disk, and runs whatever it reads. If numba's
private parts change, kernels are compiled in memory instead.
"""

# mypy: disable-error-code="misc,no-untyped-call"

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import Any

from numba.core import caching


class _Files(caching.IndexDataCacheFile):
    """Numba's files of compiled code, each ending in its SHA-256 and saved with its key.

    Numba runs whatever it reads: a truncated file would crash the process, and when two processes
    save at once, one could load the other's code.
    """

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (key, data))

    def load(self, key: Any) -> Any:
        saved = super().load(key)
        return saved[1] if saved and saved[0] == key else None

    def _load_index(self) -> Any:
        return super()._load_index() if _is_whole(self._index_path) else {}

    def _load_data(self, name: str) -> Any:
        if not _is_whole(self._data_path(name)):
            raise OSError(errno.EIO, "damaged", name)  # numba treats this as a missing file
        return super()._load_data(name)

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[BytesIO]:
        content = BytesIO()
        yield content
        with super()._open_for_write(filepath) as file:
            file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())


class _Implementation(caching.CompileResultCacheImpl):
    """Cache only in :func:`.jit.cache_folder`: not in the package, not in a folder named ``~``."""

    _locator_classes = [caching.UserProvidedCacheLocator]  # noqa: RUF012 - as in numba


class KernelCache(caching.FunctionCache):
    """Compiled code on disk. If loading or saving fails, the kernel is compiled in memory."""

    _impl_class = _Implementation

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        # Code of other modules is compiled into a kernel, too.
        stamp = self._impl.locator.get_source_stamp(), _digest_of_kernels()
        self._cache_file = _Files(self.cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Compiled code for a signature, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged or foreign file can raise anything
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save the code for a signature if possible."""
        try:
            super().save_overload(sig, data)
        except Exception:  # e.g. a full disk or a removed folder
            self.disable()


@cache
def _digest_of_kernels() -> str:
    """Digest of the sources of this package."""
    digest, folder = hashlib.sha256(), os.path.dirname(__file__)  # noqa: PTH120
    for name in sorted(os.listdir(folder)):  # noqa: PTH208
        if name.endswith(".py"):
            with open(os.path.join(folder, name), "rb") as file:  # noqa: PTH118, PTH123
                digest.update(file.read())
    return digest.hexdigest()


def _is_whole(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            content = file.read()
    except OSError:
        return False
    return hashlib.sha256(content[:-32]).digest() == content[-32:]
