"""What a source lists, before categories are chosen, and what two sources of stimuli share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Texts
from .packed.pictures import Pictures
from .shards import Members


@dataclass(frozen=True)
class Listing:
    """Names in the order in which a source lists them, and the rows that each category has.

    ``digests [row, byte]`` are the SHA-256 that a manifest gives, ``members`` where the stimuli lie
    in tar shards, ``pictures`` where in a packed set; None where there are none. ``notes`` say what
    was passed over.
    """

    names: Texts
    rows: Mapping[str, NDArray[np.int64]]
    notes: tuple[str, ...] = ()
    digests: NDArray[np.uint8] | None = None
    members: Members | None = None
    pictures: Pictures | None = None


def rows_by_category(
    categories: Iterable[str], numbers: NDArray[Any]
) -> dict[str, NDArray[np.int64]]:
    """The rows of every category, of which ``numbers [row]`` has each row's."""
    names = list(categories)
    order = np.argsort(numbers, kind="stable").astype(np.int64)
    cuts = np.cumsum(np.bincount(numbers, minlength=len(names)))[:-1]
    return dict(zip(names, np.split(order, cuts), strict=True)) if names else {}


def are_alike(marks: NDArray[np.int64]) -> bool:
    """Whether two of these numbers are equal."""
    ordered = np.sort(marks)
    return bool((ordered[1:] == ordered[:-1]).any())
