"""Merge stores of one network: more stimuli or categories, or more layers.

No activation is needed: moments combine exactly (Chan, Golub & LeVeque 1979). The moments of one
layer, category and fold are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.moments import Moments
from ..kernels.moments import merge as merge_moments
from .contrasts.select import materialise
from .disk import note_limitations
from .errors import UserError
from .layer import Layer
from .querying.store import Store
from .registry import SHOWN, STIMULUS_COLUMNS
from .stimulus_groups import Groups
from .store.identity import IDENTITY, difference, not_compared
from .store.location import name_of
from .store.reader import require_complete
from .store.store_reader import StoreReader
from .store.writing.array_writer import background_writer
from .store.writing.creating import StoreBlueprint
from .store.writing.publishing import drafting, final_location, refuse_existing
from .store.writing.store_draft import StoreDraft
from .texts import composed
from .values import listed

# Provenance that may differ when stimuli or layers are merged. Layers are merged only once the
# categories have been found equal.
_STIMULI, _LAYERS = ("categories",), ("categories", "layers", "coordinates")
_KEPT = ("weights", "stimuli", "device", *IDENTITY)
Note = Callable[[str], None]


def merge(
    paths: StoreReader | Path | str | Sequence[StoreReader | Path | str],
    output: Path | str,
    *,
    overwrite: bool = False,
    note: Note = lambda _: None,
    progress: Callable[[Layer], None] = lambda _: None,
) -> Store:
    """Merge several stores into one, and recompute its contrasts.

    Stores of different stimuli must share network, layers, preprocessing and folds: moments of
    common categories are merged, other categories are appended in the order of ``paths``. Stores of
    the same stimuli must have different layers, which are put together. Shuffled labels are kept in
    the second case only; saved contrasts are dropped. Moments are combined as in Chan, Golub &
    LeVeque (1979).

    Parameters
    ----------
    paths : sequence of Store, str or path
        Two or more stores or their paths.
    output : str or path
        The store to create.
    overwrite : bool, default False
        Replace an earlier store at ``output``.
    note : callable, optional
        Called with a message about anything that is not merged.
    progress : callable, optional
        Called with each layer whose contrasts are computed.

    Returns
    -------
    Store
        The merged store.

    Raises
    ------
    UserError
        There are fewer than two stores; they differ in anything else; a stimulus is in more than
        one store; ``output`` exists or cannot be written to.

    Examples
    --------
    >>> merged = fusiform.merge(["r18.zarr", "r18-other.zarr"], "both.zarr")
    >>> merged.counts.sum()
    np.int64(48)
    """
    stores = listed(paths)
    if len(stores) < 2:
        raise UserError(f"merging takes at least two stores; got {len(stores)}")
    refuse_existing(output, overwrite)
    parts = [StoreReader.of(store) for store in stores]
    location = final_location(output)
    if isinstance(location, str) and location in [part.path for part in parts]:
        raise UserError(
            f"a store behind a URL is written in place; {location} is also merged: "
            "choose another output"
        )
    for part in parts:
        require_complete(part)
    by_layers = _tables_are_equal(parts)
    _refuse_differences(parts, _LAYERS if by_layers else _STIMULI)
    (_refuse_same_layers if by_layers else _refuse_same_stimuli)(parts)
    if any(part.saved for part in parts):
        note("saved contrasts are not merged: save them again")
    keeps_null = by_layers and len({str(part.provenance.get("null")) for part in parts}) == 1
    if any(part.shuffles for part in parts) and not keeps_null:
        note("shuffled labels are not merged: each store shuffled its own stimuli")
    if not_verified := not_compared({name_of(part.path): part.provenance for part in parts}):
        note(not_verified)
    provenance = _provenance(parts, by_layers, keeps_null, verified=not not_verified)
    contents = _by_layers(parts) if by_layers else _by_stimuli(parts)
    blueprint = StoreBlueprint(**contents, provenance=provenance, coordinates=_coordinates(parts))
    with note_limitations(note, location), drafting(location, overwrite, blueprint) as draft:
        draft.add_notes(text for part in parts for text in part.provenance.get("notes", ()))
        draft.add_notes(filter(None, [not_verified]))
        with background_writer() as later:
            for layer, category, fold, moments in _moments(draft, parts):
                later(draft.write_moments, layer, category, fold, moments)
        if keeps_null and draft.reader.shuffles:
            _copy_null(draft, parts)
        materialise(draft, progress)
    return Store.open(location)


def _provenance(
    parts: Sequence[StoreReader], by_layers: bool, keeps_null: bool, verified: bool
) -> dict[str, Any]:
    """Provenance of the merged store; ``verified`` if all parts record their network in full."""
    first = parts[0].provenance
    provenance = {name: first[name] for name in _KEPT if name in first}
    if verified:
        answers = [part.provenance.get("answers", {}) for part in reversed(parts)]
        provenance["modules"] = first.get("modules", [])
        provenance["answers"] = {name: one for own in answers for name, one in own.items()}
    else:
        provenance.pop("configuration_sha256", None)
    if not keeps_null:
        provenance.pop("null", None)
    hashes = [part.provenance.get("coordinates", {}) for part in parts]
    placed = {layer: own for hashed in hashes for layer, own in hashed.items()}
    if placed:
        provenance["coordinates"] = placed
    if not by_layers:
        sources = dict.fromkeys(part.provenance.get("stimuli", "") for part in parts)
        provenance["stimuli"] = ", ".join(sources)
    if groups := _groups(parts):
        provenance["groups"] = groups.as_record()
    provenance["merged"] = [part.provenance["fingerprint"] for part in parts]
    return provenance


def _groups(parts: Sequence[StoreReader]) -> Groups | None:
    """The groups of all stores together; None if one was scanned without."""
    own = [part.groups for part in parts]
    known = [groups for groups in own if groups is not None]
    if len(known) < len(own):
        return None
    found: dict[str, list[str]] = {}
    for category, folders in (pair for groups in known for pair in groups.items()):
        found[category] = list(dict.fromkeys((*found.get(category, ()), *folders)))
    return Groups(found, ", ".join(dict.fromkeys(filter(None, (one.name for one in known)))))


def _coordinates(parts: Sequence[StoreReader]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Coordinates of the units of all layers."""
    return {
        layer: {name: part.coordinate(part.layer(layer), name) for name in names}
        for part in parts
        for layer, names in part.coordinates.items()
    }


def _tables_are_equal(parts: Sequence[StoreReader]) -> bool:
    """Whether all stores have the same stimuli, categories and folds."""
    first, *others = parts
    return all(
        _names(part) == _names(first)
        and all(
            np.array_equal(part.stimulus_column(column), first.stimulus_column(column))
            for column in STIMULUS_COLUMNS
            if column != "stimulus_path"
        )
        for part in others
    )


def _names(part: StoreReader) -> list[str]:
    """Categories in NFC, as they are compared."""
    return [composed(name) for name in part.categories]


def _refuse_differences(parts: Sequence[StoreReader], but: Sequence[str]) -> None:
    # An older version may have written the first store without a configuration hash: the first one
    # that has it is compared with all others as well.
    hashed = (part for part in parts if "configuration_sha256" in part.provenance)
    for first, part in product(dict.fromkeys((parts[0], next(hashed, parts[0]))), parts):
        found = difference(first.provenance, part.provenance, (*but, "null"))
        if found:
            raise UserError(
                "stores are merged if network and presentation are the same; "
                f"{first.path} and {part.path} differ in their {found}"
            )


def _refuse_same_layers(parts: Sequence[StoreReader]) -> None:
    seen: dict[str, StoreReader] = {}
    for part in parts:
        for layer in part.layers:
            if layer.name in seen:
                raise UserError(
                    "stores of the same stimuli are merged if their layers differ; "
                    f"{seen[layer.name].path} and {part.path} both have {layer.name}"
                )
            seen[layer.name] = part


def _refuse_same_stimuli(parts: Sequence[StoreReader]) -> None:
    seen: dict[str, StoreReader] = {}
    for part in parts:
        hashes = part.stimulus_column("stimulus_sha256")[
            part.stimulus_column("stimulus_status") == SHOWN
        ]
        for index in np.flatnonzero([digest in seen for digest in hashes])[:1]:
            same = part.stimulus_column("stimulus_sha256") == hashes[index]
            name = part.stimulus_column("stimulus_path")[same][0]
            raise UserError(
                "a stimulus is counted once; "
                f"{seen[hashes[index]].path} and {part.path} both have {name}: "
                "scan only the new ones"
            )
        seen |= dict.fromkeys(hashes, part)


def _by_layers(parts: Sequence[StoreReader]) -> dict[str, Any]:
    first = parts[0]
    return {
        "layers": [layer for part in parts for layer in part.layers],
        "categories": first.categories,
        "counts": first.counts,
        "stimuli": {column: list(first.stimulus_column(column)) for column in STIMULUS_COLUMNS},
    }


def _by_stimuli(parts: Sequence[StoreReader]) -> dict[str, Any]:
    # The first store that has a category gives it its name.
    known: dict[str, str] = {}
    for part in parts:
        for form, name in zip(_names(part), part.categories, strict=True):
            known.setdefault(form, name)
    forms, categories = list(known), tuple(known.values())
    counts = np.zeros((len(categories), parts[0].folds), np.int64)
    stimuli: dict[str, list[Any]] = {column: [] for column in STIMULUS_COLUMNS}
    for part in parts:
        place = np.array([forms.index(name) for name in _names(part)])
        counts[place] += part.counts
        for column, values in stimuli.items():
            own = part.stimulus_column(column)
            values.extend(place[own].tolist() if column == "stimulus_category" else own.tolist())
    return {
        "layers": parts[0].layers,
        "categories": categories,
        "counts": counts,
        "stimuli": stimuli,
    }


def _moments(
    draft: StoreDraft, parts: Sequence[StoreReader]
) -> Iterator[tuple[Layer, int, int, Moments]]:
    """The moments of every layer, category and fold, merged over the stores that have them."""
    names = list(map(composed, draft.categories))
    places = [{name: k for k, name in enumerate(_names(part))} for part in parts]
    having = [set(part.layers) for part in parts]
    for layer in draft.layers:
        sources = [(part, at) for part, at, own in zip(parts, places, having, strict=True)
                   if layer in own]  # fmt: skip
        for file in draft.moments.places(layer):
            categories, folds = draft.moments.region_of(layer, file)
            found: dict[tuple[int, int], list[Moments]] = {}
            for part, at in sources:
                for place, start, length in _runs([at.get(name) for name in names[categories]]):
                    first, own = categories.start + place, slice(start, start + length)
                    for group, moments in part.moments_between(layer, own, folds):
                        key = first + group[0] - own.start, group[1]
                        found.setdefault(key, []).append(moments)
            for (category, fold), several in sorted(found.items()):
                yield layer, category, fold, reduce(merge_moments, several)


def _runs(indices: Sequence[int | None]) -> Iterator[tuple[int, int, int]]:
    """Runs of consecutive indices: where each begins, its first index, and its length."""
    start = 0
    for place in range(1, len(indices) + 1):
        first, before = indices[start], indices[place - 1]
        if place < len(indices) and before is not None and indices[place] == before + 1:
            continue
        if first is not None:
            yield start, first, place - start
        start = place


def _copy_null(draft: StoreDraft, parts: Sequence[StoreReader]) -> None:
    for part in parts:
        for layer in part.layers:
            draft.write_shuffled_moments(layer, *part.null_of(layer))
