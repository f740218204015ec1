"""What a store says of itself, from its metadata alone: no array is read."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..spec import Layer
from ..store.reading import Store
from .chunks import criterion_of

# A folder with more files, or one that takes longer to look through, is not looked at to its end.
_MOST_FILES, _MOST_SECONDS = 1_000_000, 5.0


@dataclass(frozen=True)
class StoreInfo:
    """What a store says of itself, whether its scan has come to its end or not.

    ``attributes`` are those of its root, as they are: none is longer or deeper than a scan's, but a
    stranger may have written any text into them. ``files`` and ``bytes`` are what its folder holds,
    at least so much where ``all_counted`` is off; None behind a URL.
    """

    path: str
    complete: bool
    layers: tuple[Layer, ...]
    categories: tuple[str, ...]
    folds: int
    stimuli: int
    shuffles: int
    saved: tuple[str, ...]
    attributes: Mapping[str, Any]
    files: int | None
    bytes: int | None
    all_counted: bool

    @property
    def units(self) -> int:
        """Units of all layers."""
        return sum(layer.units for layer in self.layers)

    @property
    def criterion(self) -> str | None:
        """The criterion of the masks, in words; None where none are written."""
        record = self.attributes.get("criterion")
        try:
            return None if record is None else str(criterion_of(record))
        except UserError as error:
            return f"none that can be read: {error}"


def describe_store(path: Path | str) -> StoreInfo:
    """What a store says of itself; nothing but the metadata of its root is read.

    Whether it is true is for :func:`check_store <fusiform.engine.store.check.check_store>` to say.

    Raises
    ------
    UserError : there is no store, or it is one that no scan of this version makes
    """
    store = Store.open(path)
    files, size, all_counted = None, None, True
    if isinstance(store.path, Path):
        files, size, all_counted = _size_of(store.path)
    return StoreInfo(
        str(store.path),
        store.provenance.get("status") == "complete",
        store.layers,
        store.categories,
        store.folds,
        store.schema.stimuli,
        store.shuffles,
        tuple(store.saved),
        store.provenance,
        files,
        size,
        all_counted,
    )


def _size_of(folder: Path) -> tuple[int, int, bool]:
    """Files in a folder, their bytes, and whether all were counted; links are not followed."""
    files = size = 0
    end = time.monotonic() + _MOST_SECONDS
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if files + len(waiting) >= _MOST_FILES or time.monotonic() > end:
                        return files, size, False
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        files += 1
                        size += entry.stat(follow_symlinks=False).st_size
        except OSError:  # not ours to read, or gone in the meantime
            continue
    return files, size, True
