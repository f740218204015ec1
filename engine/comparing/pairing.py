"""Pairs of layers to compare between two networks, and reasons not to compare them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from ..errors import UserError, shortened
from ..layer import Layer, describe_units
from ..registry import SHOWN
from ..store.store_reader import StoreReader
from ..texts import composed

Pairing = Literal["name", "depth"]


class Mismatch(NamedTuple):
    """A difference that makes two stores incomparable, unless its ``name`` is allowed."""

    name: str
    description: str
    remedy: str


MISMATCHES = ("stimuli", "preprocessing", "units")
# The preprocessing of pixels that is compared, with defaults for stores that do not record it.
_GEOMETRY = {"resize": "as it is", "crop": "none", "interpolation": "none", "squash": False,
             "decoder": "pillow"}  # fmt: skip


def mismatches(first: StoreReader, other: StoreReader) -> Iterator[Mismatch]:
    """Differences in stimuli, preprocessing or units. Networks may normalise pixels differently."""
    if description := _compare_stimuli(first, other):
        yield Mismatch("stimuli", description, "scan both with the same set, groups and folds")
    geometries = _geometry(first), _geometry(other)
    if geometries[0] != geometries[1]:
        yield Mismatch("preprocessing", " and ".join(geometries),
                       "scan both with the same `resize`, `crop`, `interpolation`")  # fmt: skip
    made = [(one.units, one.provenance.get("units_sha256")) for one in (first, other)]
    if made[0] != made[1]:
        description = f"{describe_units(first.units)} and {describe_units(other.units)}"
        description += " of another file" if first.units == other.units else ""
        yield Mismatch("units", description, "scan both with the same `units`")


def allowed_mismatches(
    first: StoreReader, other: StoreReader, allow: Sequence[str]
) -> Iterator[str]:
    """Warnings about allowed mismatches between two stores.

    Raises
    ------
    UserError : there is a mismatch that is not allowed
    """
    for mismatch in mismatches(first, other):
        text = f"{first.path} and {other.path} differ in their {mismatch.name}"
        text = f"{text}: {mismatch.description}"
        if mismatch.name not in allow:
            raise UserError(
                f"networks are compared on the same images; {text}: {mismatch.remedy}, or allow it "
                f"(`allow` {mismatch.name}), which the result will state"
            )
        yield text


def common_categories(stores: Sequence[StoreReader]) -> list[str] | None:
    """Categories of the first store that all have; None if all have the same, in one order.

    Raises
    ------
    UserError : there are none
    """
    names = [list(map(composed, store.categories)) for store in stores]
    if all(own == names[0] for own in names):
        return None
    common = [name for name, form in zip(stores[0].categories, names[0], strict=True)
              if all(form in own for own in names)]  # fmt: skip
    if not common:
        raise UserError(
            "networks are compared on the same categories; "
            f"{', '.join(str(store.path) for store in stores)} have none in common: name the "
            "contrasts"
        )
    return common


def pair_layers(
    first: Sequence[Layer], other: Sequence[Layer], pairing: Pairing
) -> list[tuple[Layer, Layer]]:
    """Corresponding layers, in the order of the first network.

    By ``name``: layers of the same name and in the same order (the longest common subsequence: a
    first and a last layer may share a name). By ``depth``: each layer of the first network with the
    layer of the other at the nearest relative depth, the earlier of two.
    """
    if pairing == "depth":
        return [(layer, other[_nearest(i, len(first), len(other))])
                for i, layer in enumerate(first)]  # fmt: skip
    if [one.name for one in first] == [one.name for one in other]:
        return list(zip(first, other, strict=True))
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


def _nearest(index: int, layers: int, others: int) -> int:
    depth = index / (layers - 1) if layers > 1 else 1.0
    return min(range(others), key=lambda i: abs(i / (others - 1 or 1) - depth))


def _compare_stimuli(first: StoreReader, other: StoreReader) -> str | None:
    """How the shown stimuli differ in content, category or fold; None if they do not."""
    if list(map(composed, first.categories)) != list(map(composed, other.categories)):
        return f"categories {shortened(first.categories)} and {shortened(other.categories)}"
    own, its = _shown(first), _shown(other)
    if own == its:
        return None
    if {sha for sha, *_ in own} != {sha for sha, *_ in its}:
        common = len({sha for sha, *_ in own} & {sha for sha, *_ in its})
        return f"{len(own):,} and {len(its):,}, {common:,} in both"
    return "the same, in different categories or folds"


def _shown(store: StoreReader) -> list[tuple[str, int, int]]:
    columns = (store.stimulus_column(f"stimulus_{name}") for name in ("sha256", "category", "fold"))
    rows = zip(store.stimulus_column("stimulus_status"), *columns, strict=True)
    return sorted((str(sha), int(k), int(f)) for status, sha, k, f in rows if status == SHOWN)


def _geometry(store: StoreReader) -> str:
    """How pictures were decoded, resized and cropped."""
    recorded = store.provenance.get("preprocessing")
    own = recorded if isinstance(recorded, dict) else {}
    return ", ".join(f"{name} {own.get(name, default)}" for name, default in _GEOMETRY.items())
