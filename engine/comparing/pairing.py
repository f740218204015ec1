"""Which layers of two networks are compared, and whether the two can be compared at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from ..layer import UNITS, Layer
from ..store.reading import Store
from ..texts import composed
from ..variables import SHOWN

Pairing = Literal["name", "depth"]


class Misfit(NamedTuple):
    """What two stores differ in that their comparison takes to be the same, by a ``name``."""

    name: str
    said: str
    remedy: str


def misfits(first: Store, other: Store) -> Iterator[Misfit]:
    """What stands in the way of a comparison. How a network scales its input is its own matter."""
    if said := _of_stimuli(first, other):
        yield Misfit("stimuli", said, "scan both with the same set, groups and folds")
    own, its = _seen(first), _seen(other)
    if own != its:
        yield Misfit("preprocessing", f"{own} and {its}",
                     "scan both with the same --resize, --crop, --interpolation")  # fmt: skip
    if first.units != other.units:
        said = f"{UNITS[first.units]} and {UNITS[other.units]}"
        yield Misfit("units", said, "scan both with the same --units")


# What a preprocessing does to pictures, and what one that says nothing of it does.
_GEOMETRY = {"resize": "as it is", "crop": "none", "interpolation": "none", "squash": False,
             "decoder": "pillow"}  # fmt: skip
MISFITS = ("stimuli", "preprocessing", "units")


def pair_layers(
    first: Sequence[Layer], other: Sequence[Layer], pairing: Pairing
) -> list[tuple[Layer, Layer]]:
    """Layers that stand for each other, in the order of the first network.

    By ``name``: those of the same name, as far as they are in the same order in both (the longest
    common subsequence: a stem and a last layer may be called the same). By ``depth``: every layer
    of the first with that of the other whose place, from 0 to 1, is nearest; of two, the earlier.
    """
    if pairing == "depth":
        return [(layer, other[_nearest(i, len(first), len(other))])
                for i, layer in enumerate(first)]  # fmt: skip
    longest = [[0] * (len(other) + 1) for _ in range(len(first) + 1)]
    for i in range(len(first) - 1, -1, -1):
        for j in range(len(other) - 1, -1, -1):
            same = first[i].name == other[j].name
            longest[i][j] = (
                longest[i + 1][j + 1] + 1 if same else max(longest[i + 1][j], longest[i][j + 1])
            )
    pairs, i, j = [], 0, 0
    while i < len(first) and j < len(other):
        if first[i].name == other[j].name:
            pairs.append((first[i], other[j]))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _nearest(place: int, layers: int, others: int) -> int:
    depth = place / (layers - 1) if layers > 1 else 1.0
    return min(range(others), key=lambda i: abs(i / (others - 1 or 1) - depth))


def _of_stimuli(first: Store, other: Store) -> str | None:
    """How the stimuli that were shown differ: by content, category and fold."""
    if list(map(composed, first.categories)) != list(map(composed, other.categories)):
        return f"categories {', '.join(first.categories)} and {', '.join(other.categories)}"
    own, its = _shown(first), _shown(other)
    if own == its:
        return None
    if {sha for sha, *_ in own} != {sha for sha, *_ in its}:
        common = len({sha for sha, *_ in own} & {sha for sha, *_ in its})
        return f"{len(own):,} and {len(its):,}, of which {common:,} are in both"
    return "the same, in other categories or folds"


def _shown(store: Store) -> list[tuple[str, int, int]]:
    columns = (store.stimulus_column(f"stimulus_{name}") for name in ("sha256", "category", "fold"))
    rows = zip(store.stimulus_column("stimulus_status"), *columns, strict=True)
    return sorted((str(sha), int(k), int(f)) for status, sha, k, f in rows if status == SHOWN)


def _seen(store: Store) -> str:
    """What was done to a picture before its values were scaled."""
    said = store.provenance.get("preprocessing")
    own = said if isinstance(said, dict) else {}
    return ", ".join(f"{name} {own.get(name, default)}" for name, default in _GEOMETRY.items())
