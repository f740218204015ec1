"""Discrimination by single units: exact area under the ROC curve, and the rank-sum test.

Unlike moments, ranks need every response.
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
    """Discrimination of one contrast by every recorded unit of a layer.

    ``units [unit]`` are indices in the flattened layer. ``auc``, ``u`` and ``p`` ``[unit]`` are on
    all stimuli, ``auc_fold`` and ``p_fold [fold, unit]`` on each fold (NaN if target or baseline
    has no stimuli there). ``n_target`` and ``n_baseline`` count stimuli. ``chosen [unit]`` marks
    units that were chosen by the contrast; None if none were.
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
    """AUC and rank-sum test of every recorded unit, target against baseline stimuli.

    Parameters
    ----------
    contrasts : see :mod:`..contrasts.language.contrast`, except weighted sums; by default every
        category against all others
    layers : names or globs of layers
    sides : p is one-sided (1, the target's responses are larger) or two-sided (2)

    Raises
    ------
    UserError : a contrast cannot be parsed or is a weighted sum; a layer was projected; ``sides``
        is neither 1 nor 2
    """
    if sides not in (1, 2):
        raise UserError(f"p has 1 or 2 sides; got {sides}")
    parsed = parse_contrasts(contrasts, recording.categories)
    for contrast in parsed:
        if contrast.weighted:
            raise UserError(
                f"AUC compares target with baseline stimuli; {contrast.text!r} weighs categories: "
                "write A > B"
            )
    for layer in recording.layers_named(layers):
        yield from _of_layer(recording, layer.name, parsed, sides)


class _Sample(NamedTuple):
    """Rows of a contrast's stimuli in all folds or one, and which of them are the target's.

    ``contrast`` is its index, ``fold`` that of the fold plus 1; 0 stands for all folds.
    """

    contrast: int
    fold: int
    rows: NDArray[np.int64]
    target: NDArray[np.bool_]


def _samples(recording: Recording, contrasts: Sequence[Contrast]) -> Iterator[_Sample]:
    """All samples with both target and baseline stimuli."""
    for number, contrast in enumerate(contrasts):
        for index, fold in enumerate((None, *range(recording.folds))):
            rows = recording.rows_of((*contrast.target, *contrast.baseline), fold)
            target = np.isin(recording.labels[rows], contrast.target)
            if target.any() and not target.all():
                yield _Sample(number, index, rows, target)


def _of_layer(
    recording: Recording, layer: str, contrasts: Sequence[Contrast], sides: int
) -> Iterator[Discrimination]:
    recording.require_units(layer)
    units, samples = recording.units(layer), list(_samples(recording, contrasts))
    found = np.full((3, len(contrasts), 1 + recording.folds, len(units)), np.nan)
    for columns in recording.blocks(layer):
        values = recording.part(layer, columns)
        ranked: dict[bytes, tuple[Floats, Floats]] = {}  # shared by contrasts of the same stimuli
        for number, fold, rows, target in samples:
            key = rows.tobytes()
            if key not in ranked:
                ranked[key] = average_ranks(values[rows])
            found[:, number, fold, columns] = rank_sum(*ranked[key], target, sides)
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
