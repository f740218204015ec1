"""Discrimination by single units: exact area under the ROC curve, and the rank-sum test.

Unlike moments, ranks need every response.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
    """A contrast on all folds or one: rows of its stimuli, which contrasts may share.

    ``contrast`` is its index, ``fold`` that of the fold plus 1; 0 stands for all folds. ``key``
    is that of the rows.
    """

    contrast: int
    fold: int
    key: tuple[Any, int]
    target: tuple[int, ...]


_Rows = dict[tuple[Any, int], NDArray[np.int64]]


def _samples(recording: Recording, contrasts: Sequence[Contrast]) -> tuple[list[_Sample], _Rows]:
    """All samples with both target and baseline stimuli, and the rows of each key."""
    found, rows = [], _Rows()
    for number, contrast in enumerate(contrasts):
        everything = contrast.named is None
        for index, fold in enumerate((None, *range(recording.folds))):
            whose = None if everything else frozenset((*contrast.target, *contrast.baseline))
            key = whose, index
            if key not in rows:
                categories = range(len(recording.categories)) if whose is None else sorted(whose)
                rows[key] = recording.rows_of(categories, fold)
            target = _of_target(recording, rows[key], contrast.target)
            if target.any() and not target.all():
                found.append(_Sample(number, index, key, contrast.target))
    return found, rows


def _of_target(
    recording: Recording, rows: NDArray[np.int64], target: Sequence[int]
) -> NDArray[np.bool_]:
    return np.isin(recording.labels[rows], target)


def _of_layer(
    recording: Recording, layer: str, contrasts: Sequence[Contrast], sides: int
) -> Iterator[Discrimination]:
    recording.require_units(layer)
    units, (samples, rows) = recording.units(layer), _samples(recording, contrasts)
    found = np.full((3, len(contrasts), 1 + recording.folds, len(units)), np.nan)
    order = {key: place for place, key in enumerate(rows)}
    samples.sort(key=lambda sample: order[sample.key])
    for columns in recording.blocks(layer):
        values = recording.part(layer, columns)
        # Samples of the same stimuli share their ranks, which are in memory once.
        for key, own in itertools.groupby(samples, lambda sample: sample.key):
            ranks, ties = average_ranks(values[rows[key]])
            for one in own:
                target = _of_target(recording, rows[key], one.target)
                measured = rank_sum(ranks, ties, target, sides)
                found[:, one.contrast, one.fold, columns] = measured
    shown = np.bincount(recording.labels[recording.shown], minlength=len(recording.categories))
    chosen = recording.chosen(layer)
    for number, contrast in enumerate(contrasts):
        named = contrast.text in recording.choices
        u, auc, p = found[:, number]
        yield Discrimination(
            layer=layer,
            contrast=contrast.text,
            n_target=int(shown[list(contrast.target)].sum()),
            n_baseline=int(shown[list(contrast.baseline)].sum()),
            units=units,
            auc=auc[0],
            u=u[0],
            p=p[0],
            auc_fold=auc[1:],
            p_fold=p[1:],
            chosen=chosen[recording.choices.index(contrast.text)] if named else None,
        )
