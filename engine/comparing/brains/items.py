"""Matching the items of a table of regions with categories of a store, or stimuli of a recording.

Categories are matched by name; stimuli by path, by file name, or by file name without ending.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError, nearest, shortened
from ...texts import composed
from .regions import Regions


def in_order(regions: Regions, known: Sequence[str]) -> NDArray[np.int64]:
    """Indices of a table's categories among the ``known`` ones.

    Raises
    ------
    UserError : a category is unknown
    """
    # Exact names first; otherwise names are compared in NFC.
    index = {composed(name): i for i, name in enumerate(known)}
    index |= {name: i for i, name in enumerate(known)}
    items = [item if item in index else composed(item) for item in regions.items]
    for item in items:
        if item not in index:
            raise UserError(
                f"regions and network are compared on the same categories; {regions.source} has "
                f"{item!r}, the store does not: {nearest(item, known)}"
            )
    return np.array([index[item] for item in items])


# How a stimulus may be named: by its path, its file name, or that without its ending.
_NAMES: tuple[Callable[[str], str], ...] = (
    lambda path: path,
    lambda path: PurePosixPath(path).name,
    lambda path: PurePosixPath(path).stem,
)


def rows_of_stimuli(regions: Regions, paths: Sequence[str], of: str) -> NDArray[np.int64]:
    """Indices of a table's stimuli among the ``paths`` of the recording ``of``.

    Raises
    ------
    UserError : a stimulus is unknown, its name is that of several, or it is named twice
    """
    indices: list[dict[str, list[int]]] = [{} for _ in _NAMES]
    for row, path in enumerate(map(composed, paths)):
        for index, name in zip(indices, _NAMES, strict=True):
            index.setdefault(name(path), []).append(row)
    found: dict[int, str] = {}
    for item in regions.items:
        rows = next((own for index in indices if (own := index.get(composed(item)))), [])
        if not rows:
            raise UserError(
                f"regions and network are compared on the same stimuli; {regions.source} has "
                f"{item!r}, {of} does not: {nearest(item, paths)}"
            )
        if len(rows) > 1:
            raise UserError(
                f"a stimulus is named by its path, or by a file name that no other has; {item!r} "
                f"of {regions.source} is {shortened([paths[row] for row in rows])}: give paths"
            )
        if rows[0] in found:
            raise UserError(
                f"a table of regions names a stimulus in one way; {regions.source} has "
                f"{found[rows[0]]!r} and {item!r}, both {paths[rows[0]]}: choose one"
            )
        found[rows[0]] = item
    return np.array([*found])
