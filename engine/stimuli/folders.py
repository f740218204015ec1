"""Stimulus sets that are a folder with a folder per category."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .columns import Texts
from .images import image_names, natural_key
from .listing import Listing


def list_folders(source: Path, named: Collection[str]) -> Listing:
    """Every category folder's images; the folders that groups have ``named`` may lie deeper."""
    folders = [p.name for p in source.iterdir() if p.is_dir() and not p.name.startswith(".")]
    folders.sort(key=natural_key)
    chosen = set(named) or set(folders)
    folders += sorted(name for name in chosen if "/" in name and (source / name).is_dir())
    rows: dict[str, NDArray[np.int64]] = {}
    notes: list[str] = []

    def names() -> Iterator[str]:
        listed = 0
        for folder in folders:
            images, others = image_names(source / folder)
            yield from (f"{folder}/{image}" for image in images)
            rows[folder] = np.arange(listed, listed := listed + len(images))
            if others and folder in chosen:
                what = f"passed over {others} that are no image files by name"
                notes.append(f"{folder}: {what}")  # of this set, wherever it lies

    return Listing(Texts.of(names()), rows, tuple(notes))
