"""Comparisons that a page makes of its stores: a training run, two localizers, brain regions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from ..comparing.brains.compare import BrainComparison, compare_regions
from ..comparing.differences import Comparison, compare
from ..comparing.localizers import LocalizerComparison, compare_localizers
from ..comparing.matching import match_categories, match_contrasts, same_layers, same_network
from ..comparing.training import in_order
from ..contrasts.language.criterion import Criterion
from ..errors import UserError
from ..querying.store import Store
from .excerpts import MOST_CONTRASTS

# Of more checkpoints the other figures show the first and the last.
MOST_CHECKPOINTS = 4
# Words before the numbers of checkpoints; others number seeds, layers or versions.
_TRAINING = re.compile(r"epoch|step|iter|ckpt|checkpoint", re.IGNORECASE)


class Asked(NamedTuple):
    """Arguments of :func:`.report.report` that all comparisons of a page have in common."""

    criterion: Criterion
    layers: str | Sequence[str]
    contrasts: Sequence[str] | None
    resamples: int
    seed: int


def training(
    stores: Sequence[Store],
    at: float | Sequence[float] | None,
    contrasts: Sequence[str] | None,
    asked: Asked,
    note: Callable[[str], None],
) -> Comparison | None:
    """The stores as checkpoints ``at`` positions, or at those that their names tell.

    None if their names tell none, or if they are not comparable, which is noted.

    Raises
    ------
    UserError : positions are given, and not valid, or the stores are not comparable
    """
    if at is None and len(stores) == 1:
        return None
    measures = ["share", "csi", "replicated"] if min(s.folds for s in stores) > 1 else ["share"]
    try:
        ordered, axis, _ = in_order(stores, at, reads_names=True)
        if axis is None or (at is None and not _TRAINING.search(axis.name)):
            return None
        note(f"comparing {len(stores)} checkpoints by {axis.name}")
        return compare(
            ordered, asked.criterion, asked.layers, contrasts, measures=measures,
            against="previous", at=axis.at, resamples=asked.resamples, seed=asked.seed,
        )  # fmt: skip
    except UserError as error:
        if at is not None:
            raise
        note(f"no figures of training: {error}")
        return None


def in_detail(
    stores: Sequence[Store], run: Comparison | None, recorded: Sequence[int]
) -> list[int]:
    """Indices of the stores that all figures show: of many checkpoints the last and the first.

    The ``recorded`` ones are shown too.
    """
    if run is None or len(stores) <= MOST_CHECKPOINTS:
        return list(range(len(stores)))
    paths = [str(store.path) for store in stores]
    ends = [paths.index(run.stores[place]) for place in (-1, 0)]
    return list(dict.fromkeys([*ends, *recorded]))


def comparisons(
    stores: Sequence[Store],
    roi: Path | str | None,
    asked: Asked,
    note: Callable[[str], None],
) -> Iterator[LocalizerComparison | BrainComparison]:
    """Two localizers on one network, and the regions of a table if there is one."""
    yield from _localizers(stores, asked, note)
    if roi is None:
        return
    for store in stores:
        note(f"comparing {store.path} with {roi}")
        yield compare_regions(
            store, roi, asked.criterion, asked.layers, asked.contrasts, control_units=True,
            seed=asked.seed,
        )  # fmt: skip


def _localizers(
    stores: Sequence[Store], asked: Asked, note: Callable[[str], None]
) -> Iterator[LocalizerComparison]:
    """Every two stores of one network with different stimuli and categories of the same names."""
    for first, other in combinations(stores, 2):
        try:
            same_network(first, other, ())
            same_layers(first, other, asked.layers)
            matched = match_categories(first, other, None)
            match_contrasts(first, other, matched, asked.contrasts)
        except UserError:  # not two localizers
            continue
        if _images(first) == _images(other):
            continue
        both = f"{first.path} and {other.path}"
        if asked.contrasts is None and len(matched) > MOST_CONTRASTS:
            note(f"no figures of two localizers, {both}: more than {MOST_CONTRASTS} categories")
            continue
        note(f"comparing two localizers: {both}")
        yield compare_localizers(
            [first, other], asked.criterion, asked.layers, asked.contrasts,
            resamples=asked.resamples, seed=asked.seed,
        )  # fmt: skip


def _images(store: Store) -> set[str]:
    return set(store.stimulus_column("stimulus_sha256").tolist())
