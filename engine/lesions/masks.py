"""Which units are silenced for which stimuli: for those of the folds that did not select them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..contrasts.controls import Candidates, Masks, candidates, lesions_of
from ..contrasts.lesion_request import LesionRequest
from ..scanning.progress import Listener
from ..stimuli.catalogue import Catalogue
from ..store.store_reader import StoreReader
from .result import Silenced

# Fold of stimuli that the scan did not show, and of those that it showed in several folds.
_NEW, _SEVERAL = -1, -2


@dataclass(frozen=True)
class Lesions:
    """The lesions to measure on a catalogue.

    ``masks`` hold, for every one of the scan's ``folds`` that selects units (None: all stimuli),
    the draws of each lesion by name; ``silenced`` describes their units. ``fold_of [stimulus]`` is
    the fold of every stimulus that is shown. ``selected_on``: see
    :class:`.result.LesionEffects`.
    """

    folds: Sequence[int | None]
    masks: Sequence[Mapping[str, Sequence[Masks]]]
    silenced: tuple[Silenced, ...]
    fold_of: NDArray[np.int64]
    selected_on: str

    @property
    def draws(self) -> dict[str, int]:
        """Number of draws of every lesion."""
        return {name: len(draws) for name, draws in self.masks[0].items()}

    @property
    def layers(self) -> list[str]:
        """Layers in which units are silenced."""
        return list(dict.fromkeys(one.layer for one in self.silenced))

    def rows(self, fold: int | None, stimuli: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of a batch for which the units that ``fold`` selects are silenced."""
        own = self.fold_of[stimuli]
        return np.flatnonzero((own != _SEVERAL) & (own != fold if fold is not None else True))

    def share(self, stimuli: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share ``[row, 1]`` that the units of one fold have in the mean of each stimulus."""
        selecting = [fold for fold in self.folds if fold is not None]
        others = len(self.folds) - np.isin(self.fold_of[stimuli], selecting)
        return np.asarray(1 / others[:, np.newaxis], np.float64)


def each_draw(lesions: Mapping[str, Sequence[Masks]]) -> Iterator[tuple[str, int, Masks]]:
    """Every lesion's name, the number of the draw, and its masks."""
    for name, draws in lesions.items():
        for draw, masks in enumerate(draws):
            yield name, draw, masks


def lesions_for(
    source: StoreReader, catalogue: Catalogue, request: LesionRequest, listener: Listener
) -> Lesions:
    """Select units on each fold of the scan, or on all of its stimuli.

    On all of them if it had one fold, or if none of them is in the catalogue.

    Raises
    ------
    UserError : see :func:`..contrasts.controls.candidates`
    """
    fold_of = _folds_of(source, catalogue)
    known = bool((fold_of != _NEW).any())
    folds: list[int | None] = [None]
    selected_on = "the same stimuli" if known else "other stimuli"
    if known and source.folds > 1:
        folds, selected_on = [*range(source.folds)], "other folds"
    own = candidates(source, request, folds)
    masks = [lesions_of(one, request) for one in own]
    lesions = Lesions(folds, masks, _silenced(own, masks), fold_of, selected_on)
    number = sum(int(one.selective.sum()) for part in own for one in part) / len(own)
    layers = dict.fromkeys(one.layer.name for part in own for one in part)
    listener.note(
        f"silencing {number:,.0f} units of {', '.join(layers)}, selective for {request.contrast}, "
        f"and as many of each control: a stimulus is shown 1 + {sum(lesions.draws.values())} times"
        f"{' for every fold that it is not in' if len(folds) > 2 else ''}"
    )
    if selected_on == "the same stimuli":
        listener.note("one fold: the stimuli that selected the units also measure the lesion")
    if several := int((fold_of == _SEVERAL).sum()):
        listener.note(f"{several:,} stimuli that the scan had in several folds are left out")
    return lesions


def _folds_of(source: StoreReader, catalogue: Catalogue) -> NDArray[np.int64]:
    """Fold of the scan in which every stimulus was, by its content."""
    columns = (source.stimulus_column(f"stimulus_{name}").tolist() for name in ("sha256", "fold"))
    known: dict[str, int] = {}
    for sha, fold in zip(*columns, strict=True):
        if sha and fold != _NEW:
            known[sha] = fold if known.get(sha, fold) == fold else _SEVERAL
    contents = catalogue.contents
    return np.array([known.get(contents.sha256(k), _NEW) for k in range(len(catalogue))], np.int64)


def _silenced(
    own: Sequence[Sequence[Candidates]], masks: Sequence[Mapping[str, Sequence[Masks]]]
) -> tuple[Silenced, ...]:
    """Numbers of units and their mean responses, by lesion and layer."""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for part, lesions in zip(own, masks, strict=True):
        for name, draws in lesions.items():
            for one, drawn in product(part, draws):
                mask = drawn[one.layer.name].ravel()
                values = float(mask.sum()), float(one.living.sum()), float(one.mean[mask].mean())
                found.setdefault((name, one.layer.name), []).append(values)
    return tuple(Silenced(*key, *np.mean(values, axis=0).tolist()) for key, values in found.items())
