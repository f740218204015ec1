"""The contrasts and layers that a page shows of many."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import blocks
from ..analyses.analyse import ANALYSES, Analysis
from ..analyses.consistency import SIMILARITIES
from ..analyses.costs import cost_of
from ..analyses.peaks import first_layer, peaks_of
from ..contrasts.language.contrast import parse_contrasts
from ..contrasts.language.criterion import Criterion
from ..contrasts.select import select_slabs
from ..excerpt import at_steps, leading, step_over
from ..layer import Layer
from ..plotting.panel import MOST_LINES
from ..store.store_reader import StoreReader
from ..texts import in_bytes

# Beyond this, lines are indistinguishable, and the page grows with the square of the contrasts: it
# shows the leading ones.
MOST_CONTRASTS, LEADING = MOST_LINES, 12
# Layers with maps, distributions, thresholds and matrices. Curves have every layer.
MOST_LAYERS = 128
# Dissimilarities of categories, over all layers; and layers times categories, whose square is the
# work of Kendall's tau between all pairs of layers.
MOST_DISTANCES, MOST_SORTED = 2**26, 2**14


def leading_contrasts(
    stores: Sequence[StoreReader],
    criterion: Criterion,
    layers: str | Sequence[str],
    contrasts: Sequence[str] | None,
) -> list[list[str] | None]:
    """Contrasts of each store that the page shows: as given, or the leading ones if they are many.

    They lead by the largest share of selective units in any layer of any store.
    """
    asked = [store.categories if contrasts is None else contrasts for store in stores]
    if len({name for names in asked for name in names}) <= MOST_CONTRASTS:
        return [None if contrasts is None else list(contrasts)] * len(stores)
    peaks = [
        _peaks(store, criterion, layers, names) for store, names in zip(stores, asked, strict=True)
    ]
    highest = {name: max(own.get(name, 0.0) for own in peaks) for one in peaks for name in one}
    shown = set(leading(highest, LEADING))
    return [[name for name in own if name in shown] or leading(own, 1) for own in peaks]


def _peaks(
    store: StoreReader,
    criterion: Criterion,
    layers: str | Sequence[str],
    contrasts: Sequence[str],
) -> dict[str, float]:
    """The largest share of selective units in any layer, by contrast."""
    parsed = parse_contrasts(contrasts, store.categories)
    largest = np.zeros(len(parsed))
    for layer, slabs in select_slabs(store, criterion, parsed, store.layers_named(layers)):
        selective = sum(one.selective.sum(axis=1) for one in slabs)
        np.maximum(largest, selective / layer.units, out=largest)
    return dict(zip(contrasts, largest.tolist(), strict=True))


def affordable(
    store: StoreReader, layers: Sequence[Layer], contrasts: int, note: Callable[[str], None]
) -> tuple[list[str], list[str]]:
    """The analyses and similarities of layers that a page has, on any machine the same.

    Pairs of very many categories are left out, and so is what takes minutes for pairs of layers,
    or does not fit a memory budget.
    """
    number, categories = len(layers), len(store.categories)
    left_out = {
        "confusion": categories > MOST_CONTRASTS,  # drawn only if all categories are
        "consistency": number * categories**2 > MOST_DISTANCES,
        "kendall": number * categories > MOST_SORTED,
    }
    analyses, similarities = (
        [name for name in names if not left_out.get(name)] for names in (ANALYSES, SIMILARITIES)
    )
    room = blocks.room(whole=True)
    for name in list(analyses):
        cost = cost_of(name, store, layers, contrasts, similarities)
        if cost and cost.bytes > room:
            analyses.remove(name)
            note(f"{name} is left out: {cost}; got {in_bytes(room)} of memory{blocks.whose()}")
    return analyses, similarities


def layers_in_detail(analyses: Sequence[Analysis]) -> list[list[str]]:
    """Layers of each store that are shown one by one: at even steps, and those of all peaks."""
    kept = {row.layer for one in analyses for row in peaks_of(one).values()}
    kept.add(first_layer(analyses[0]))
    return [
        [name for name in one.layers if name in kept.union(own)]
        for one in analyses
        for own in [at_steps(one.layers, step_over(len(one.layers), MOST_LAYERS))]
    ]


def left_out(
    analyses: Sequence[Analysis], details: Sequence[Sequence[str]], asked: int
) -> list[str]:
    """Parts that the page leaves out of large stores, in sentences; ``asked`` counts contrasts."""
    texts = []
    shown = len({name for one in analyses for name in one.contrasts})
    if shown < asked:
        texts.append(
            f"The page shows {shown} of {asked:,} contrasts: those with the largest share of "
            "selective units in any layer."
        )
    if any(len(own) < len(one.layers) for one, own in zip(analyses, details, strict=True)):
        layers, own = max(len(one.layers) for one in analyses), max(map(len, details))
        texts.append(
            f"Curves have all {layers:,} layers. Distributions, maps, overlap, consistency and "
            f"thresholds have {own} of them, at even steps and where a contrast peaks."
        )
    categories = max(len(one.categories) for one in analyses)
    if any(one.consistency is None for one in analyses):
        texts.append(
            f"Consistency between layers is left out: it compares all pairs of {categories:,} "
            "categories in every layer."
        )
    elif any(one.consistency and one.consistency.kendall is None for one in analyses):
        texts.append("Consistency between layers is without Kendall's tau, which would take long.")
    return texts
