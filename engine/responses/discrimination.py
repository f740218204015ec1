"""How well single units tell stimuli apart: exact area under the ROC curve, and the rank-sum test.

What moments cannot give: it takes every response.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...kernels.ranks import average_ranks, rank_sum
from ..contrasts.language.contrast import Contrast, parse_contrasts
from ..errors import UserError
from .recording import Recording

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Discrimination:
    """One layer and contrast, unit by unit.

    ``units [unit]`` are places in the flat layer; ``auc``, ``u`` and ``p`` ``[unit]`` of all
    stimuli, ``auc_fold`` and ``p_fold [fold, unit]`` of each fold's alone (NaN where a side has
    none there). ``n_target`` and ``n_baseline`` stimuli were compared. ``chosen [unit]`` says which
    units the contrast itself has chosen, None where none were chosen by it.
    """

    layer: str
    contrast: str
    n_target: int
    n_baseline: int
    units: NDArray[np.int64]
    auc: Floats
    u: Floats
    p: Floats
    auc_fold: Floats
    p_fold: Floats
    chosen: NDArray[np.bool_] | None


def discriminate(
    recording: Recording,
    contrasts: str | Sequence[str] | None = None,
    layers: str | Sequence[str] = "*",
    sides: int = 1,
) -> Iterator[Discrimination]:
    """AUC and rank-sum of every recorded unit, target against baseline stimuli, by the exact ranks.

    Parameters
    ----------
    contrasts : see :mod:`..contrasts.language.contrast`, without weighted sums; by default
        every category against all others
    layers : names or globs
    sides : of p: 1, the target's responses are larger; 2, they differ

    Raises
    ------
    UserError : a contrast cannot be read or weighs categories; a layer was projected; p has other
        sides
    """
    if sides not in (1, 2):
        raise UserError(f"p has 1 or 2 sides; got {sides}")
    asked = parse_contrasts(contrasts, recording.categories)
    for contrast in asked:
        if contrast.weighted:
            raise UserError(
                f"a rank compares stimuli of two sides; {contrast.text!r} weighs categories: "
                "write A > B"
            )
    for layer in recording.layers_named(layers):
        yield from _of_layer(recording, layer.name, asked, sides)


class _Sample(NamedTuple):
    """The ``rows`` of a contrast's stimuli, of all folds or one; ``target [row]`` are its target's.

    It is the ``number``-th contrast, and the ``place``-th of its samples: all stimuli come first.
    """

    number: int
    place: int
    rows: NDArray[np.int64]
    target: NDArray[np.bool_]


def _samples(recording: Recording, contrasts: Sequence[Contrast]) -> Iterator[_Sample]:
    """All samples that have stimuli of both sides."""
    for number, contrast in enumerate(contrasts):
        for place, fold in enumerate((None, *range(recording.folds))):
            rows = recording.rows_of((*contrast.target, *contrast.baseline), fold)
            target = np.isin(recording.labels[rows], contrast.target)
            if target.any() and not target.all():
                yield _Sample(number, place, rows, target)


def _of_layer(
    recording: Recording, layer: str, contrasts: Sequence[Contrast], sides: int
) -> Iterator[Discrimination]:
    recording.require_units(layer)
    units, samples = recording.units(layer), list(_samples(recording, contrasts))
    found = np.full((3, len(contrasts), 1 + recording.folds, len(units)), np.nan)
    for columns in recording.blocks(layer):
        values = recording.part(layer, columns)
        ranked: dict[bytes, tuple[Floats, Floats]] = {}  # contrasts of the same stimuli share it
        for number, place, rows, target in samples:
            key = rows.tobytes()
            if key not in ranked:
                ranked[key] = average_ranks(values[rows])
            found[:, number, place, columns] = rank_sum(*ranked[key], target, sides)
    chosen = recording.chosen(layer)
    for number, contrast in enumerate(contrasts):
        named = contrast.text in recording.choices
        u, auc, p = found[:, number]
        yield Discrimination(
            layer=layer,
            contrast=contrast.text,
            n_target=len(recording.rows_of(contrast.target)),
            n_baseline=len(recording.rows_of(contrast.baseline)),
            units=units,
            auc=auc[0],
            u=u[0],
            p=p[0],
            auc_fold=auc[1:],
            p_fold=p[1:],
            chosen=chosen[recording.choices.index(contrast.text)] if named else None,
        )
