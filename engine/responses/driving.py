"""Units that discriminate a contrast best, and the images that drive them most and least."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..contrasts.language.contrast import parse_contrast
from ..errors import UserError
from ..limits import refuse_numbers
from .discrimination import Discrimination, discriminate
from .recording import Recording, least, most


@dataclass(frozen=True)
class Image:
    """A unit's response to a stimulus; ``row`` is the stimulus's row in the recording."""

    row: int
    path: str
    category: str
    response: float


@dataclass(frozen=True)
class Driven:
    """A unit, with the images that drive it ``most`` and ``least``, the most extreme first.

    ``unit`` is its index in the flattened layer, ``place`` its index along each dimension. Of its n
    strongest images, where n is the number of target stimuli, the share ``preferred`` is of the
    target. ``lowest`` stimuli share the smallest response: after a rectifier these are often most
    stimuli, and ``least`` holds the first of them.
    """

    layer: str
    contrast: str
    unit: int
    place: dict[str, int]
    auc: float
    auc_fold: tuple[float, ...]
    preferred: float
    lowest: int
    most: tuple[Image, ...]
    least: tuple[Image, ...]


def driven(
    recording: Recording,
    contrasts: str | Sequence[str] | None = None,
    layers: str | Sequence[str] = "*",
    units: int = 3,
    images: int = 5,
) -> list[Driven]:
    """The units with the largest AUC of every layer and contrast, with their images.

    For a contrast that units were chosen by, only those units are considered; otherwise all.

    Parameters
    ----------
    contrasts : see :func:`.discrimination.discriminate`; by default those that units were chosen
        by, or every category
    units : number of units per layer and contrast
    images : number of most and of least driving images per unit

    Raises
    ------
    UserError : see :func:`.discrimination.discriminate`; fewer than one unit or image
    """
    refuse_numbers(top=units, images=images)
    if units < 1 or images < 1:
        raise UserError(f"units and images are at least 1; got {units} and {images}")
    if contrasts is None:
        contrasts = contrasts_of(recording)
    found = []
    for one in discriminate(recording, contrasts, layers):
        pool = np.arange(len(one.units)) if one.chosen is None else np.flatnonzero(one.chosen)
        pool = pool[~np.isnan(one.auc[pool])]
        best = pool[np.argsort(-one.auc[pool], kind="stable")[:units]]
        found += [driven_unit(recording, one, int(column), images) for column in best]
    return found


def strongest(
    recording: Recording,
    contrasts: str | Sequence[str],
    layers: str | Sequence[str],
    units: int,
    images: int,
) -> list[Driven]:
    """The units with the largest AUC on the first fold, with their AUC and images on the others.

    One unit per channel is taken, ``units`` of every layer and contrast; see :func:`driven` for the
    other parameters.
    """
    return [
        unit
        for one in discriminate(recording, contrasts, layers)
        for unit in _strongest(recording, one, measured_folds(recording), units, images)
    ]


def measured_folds(recording: Recording) -> list[int]:
    """The folds that measure the units; none if there is one, which chooses and measures them."""
    return list(range(1, recording.folds))


def _strongest(
    recording: Recording, one: Discrimination, measured: Sequence[int], units: int, images: int
) -> Iterator[Driven]:
    chooses = one.auc_fold[0] if measured else one.auc
    auc = one.auc_fold[list(measured)].mean(axis=0) if measured else one.auc
    pool = np.ones(len(one.units), bool) if one.chosen is None else one.chosen
    columns = np.flatnonzero(pool & ~np.isnan(chooses) & ~np.isnan(auc))
    columns = columns[np.argsort(-chooses[columns], kind="stable")]
    layer = recording.layer(one.layer)
    along = dict(zip(layer.dims, np.unravel_index(one.units[columns], layer.shape), strict=True))
    channels = along.get("channel", np.arange(len(columns)))
    firsts = np.sort(np.unique(channels, return_index=True)[1])[:units]
    for column in columns[firsts].tolist():
        unit = driven_unit(recording, one, column, images, measured or None)
        yield replace(unit, auc=float(auc[column]))


def contrasts_of(recording: Recording) -> list[str] | None:
    """The contrasts that units of a recording were chosen by, or None.

    Contrasts of categories that the recording lacks are left out.
    """
    chosen_by = recording.provenance.get("chosen_by")
    known = chosen_by if isinstance(chosen_by, dict) else {}
    if "select" not in known and "top" not in known:
        return None
    found = []
    for one in recording.choices:
        with suppress(UserError):
            if not parse_contrast(one, recording.categories).weighted:
                found.append(one)
    return found or None


def driven_unit(
    recording: Recording,
    one: Discrimination,
    column: int,
    images: int,
    folds: Sequence[int] | None = None,
) -> Driven:
    """The unit in a ``column``, with the images of some folds, by default all, that drive it."""
    layer, unit = recording.layer(one.layer), int(one.units[column])
    response = recording.unit(layer.name, unit)
    weakest = least(recording, layer.name, unit, len(response), folds)
    target = set(_target(recording, one.contrast).tolist()) & set(weakest.tolist())
    strongest = most(recording, layer.name, unit, len(target), folds)
    paths = recording.stimulus_column("stimulus_path")
    labels = recording.labels

    def shown(rows: Sequence[int]) -> tuple[Image, ...]:
        return tuple(
            Image(row, str(paths[row]), recording.categories[labels[row]], float(response[row]))
            for row in rows
        )

    along = np.unravel_index(unit, layer.shape)
    return Driven(
        layer.name,
        one.contrast,
        unit,
        {dim: int(place) for dim, place in zip(layer.dims, along, strict=True)},
        float(one.auc[column]),
        tuple(float(value) for value in one.auc_fold[:, column]),
        float(np.mean([row in target for row in strongest.tolist()])),
        int(np.count_nonzero(response[weakest] == response[weakest[0]])),
        shown(strongest[:images].tolist()),
        shown(weakest[:images].tolist()),
    )


def _target(recording: Recording, contrast: str) -> NDArray[np.int64]:
    return recording.rows_of(parse_contrast(contrast, recording.categories).target)
