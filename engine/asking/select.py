"""Which units a criterion selects: over a store, slab by slab; the network is not asked again.

A criterion is tested on samples of the stimuli: on all of them, and on each fold's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, nearest
from ..spec import MEASURES, SAVED, Layer, as_record
from ..store.behind import write_behind
from ..store.draft import Draft
from ..store.reading import Store, require_complete
from ..store.saving import saving
from .examine import Decided, Examination, Kept, Look, Selection, samples_of
from .language.contrast import Contrast, every_category, parse_contrast
from .language.criterion import DEFAULT, Criterion
from .measures import Sample

# What a scan materialises beside q and the masks.
_SCANNED = (Kept("t", "rest", "t"), Kept("t_each", "each", "t"), Kept("csi", "each", "csi"))
# The variables that masks are read back from.
_MASKS = ("selective", "selective_fold")
_CONDITIONS = ("dead", "nonfinite")


def select(
    store: Store,
    criterion: Criterion = DEFAULT,
    contrasts: Sequence[Contrast] | None = None,
    layers: Sequence[Layer] | None = None,
) -> Iterator[tuple[Layer, Selection]]:
    """Apply a criterion to contrasts (by default every category against all others) in ``layers``.

    Masks are read where the scan materialised them, else computed from the moments. A family that
    is the whole model is that of all layers of the store, whichever are asked for.

    Raises
    ------
    UserError : the scan that fills the store has not finished; the store has no shuffled labels to
        compare with
    """
    require_complete(store)
    wanted = store.layers if layers is None else layers
    rows = _rows_scanned(store, criterion, contrasts)
    if rows is not None:
        for layer in wanted:
            masks = {name: store.read(layer, name) for name in (*_MASKS, *_CONDITIONS)}
            yield layer, Selection(**masks | {name: masks[name][rows] for name in _MASKS})
        return
    chosen = every_category(store.categories) if contrasts is None else contrasts
    for layer, outcome in _decided(store, wanted, criterion, chosen):
        yield layer, outcome.selection


def materialise(
    store: Draft,
    progress: Callable[[Layer], None] = lambda _: None,
    first: int = 0,
    stop: int | None = None,
) -> None:
    """Write t, q, CSI and the masks of the default criterion beside the moments, layer by layer.

    From layer number ``first`` on, up to ``stop``; ``progress`` is called when a layer is written,
    by the thread that writes. Where others write other layers, the criterion is there already.
    """
    if "criterion" not in store.provenance:
        annotate_criterion(store)
    every = every_category(store.categories)
    examination = Examination(DEFAULT, every, _SCANNED, keep_q="q_each")

    def write(layer: Layer, columns: dict[str, NDArray[Any]]) -> None:
        store.write_contrasts(layer, columns)
        progress(layer)

    with write_behind() as later:
        for layer in store.layers[first:stop]:
            selection, kept = examination.decide([_look(store, layer, examination)])[0]
            later(write, layer, kept | vars(selection))


def annotate_criterion(store: Draft) -> None:
    """Say by which criterion the masks are."""
    store.annotate(criterion=as_record(DEFAULT))


def save_contrast(
    store: Store,
    name: str,
    criterion: Criterion = DEFAULT,
    contrast: str | None = None,
    measures: Sequence[str] = SAVED,
    progress: Callable[[Layer], None] = lambda _: None,
) -> None:
    """Write measures and masks of a contrast beside the moments, as ``LAYER/NAME/MEASURE``.

    Of all stimuli: ``measures``, and ``selective``; of each fold's alone: ``selective_fold``.
    Without a ``contrast``, those of every category against all others, in a dimension ``category``.
    What was saved under the name before is replaced.

    Raises
    ------
    UserError : the name or a measure is none, or the store cannot be written to; see :func:`select`
    """
    require_complete(store)
    for measure in measures:
        if measure not in MEASURES:
            raise UserError(f"there is no measure {measure!r}: {nearest(measure, MEASURES)}")
    categories = store.categories
    if "p_null" in measures and criterion.pairwise:
        raise UserError("p_null is saved of one test, and a pairwise criterion has several: save t")
    chosen = [parse_contrast(contrast, categories)] if contrast else every_category(categories)
    kept = [Kept(measure, criterion.test, measure) for measure in measures if measure != "q"]
    keep_q = "q" if "q" in measures else None

    def write(layer: Layer, outcome: Decided) -> None:
        selection = outcome.selection
        columns = outcome.kept | {
            "selective": selection.selective,
            "selective_fold": selection.selective_fold,
        }
        own = {name: values[0] for name, values in columns.items()} if contrast else columns
        saved.write(layer, own)
        progress(layer)

    record = {
        "contrasts": [one.text for one in chosen],
        "criterion": as_record(criterion),
        "each_category": contrast is None,
        "measures": list(measures),
    }
    with saving(store, name, record) as saved, write_behind() as later:
        for decided in _decided(store, store.layers, criterion, chosen, kept, keep_q):
            later(write, *decided)


def chance(
    store: Store,
    criterion: Criterion = DEFAULT,
    contrasts: Sequence[Contrast] | None = None,
    layers: Sequence[Layer] | None = None,
) -> Iterator[tuple[Layer, NDArray[np.float64]]]:
    """The share of units that a criterion selects under shuffled labels, ``[contrast, shuffle]``.

    Of the units that the scan drew from every layer; they, or those of all layers, are the family
    that p is corrected over.

    Raises
    ------
    UserError : the scan had no shuffled labels
    """
    require_complete(store)
    _require_shuffles(store)
    chosen = every_category(store.categories) if contrasts is None else contrasts
    wanted = store.layers if layers is None else layers
    together = criterion.family == "model"
    looks = {}
    for layer in store.layers if together else wanted:
        all_stimuli = samples_of(store.shuffled_moments(layer))[:1]
        looks[layer] = examine(store, layer, criterion, chosen).look([all_stimuli])
        if not together:
            yield layer, _shares(store, Examination(criterion, chosen), [looks.pop(layer)])[0]
    if together:
        shares = _shares(store, Examination(criterion, chosen), list(looks.values()))
        yield from (pair for pair in zip(looks, shares, strict=True) if pair[0] in wanted)


def examine(
    store: Store,
    layer: Layer,
    criterion: Criterion,
    contrasts: Sequence[Contrast],
    kept: Sequence[Kept] = (),
    keep_q: str | None = None,
) -> Examination:
    """A criterion on contrasts, with a layer's t's under shuffled labels if they are asked for.

    Raises
    ------
    UserError : they are, and the scan had no shuffled labels
    """
    asked = [condition.measure for condition in criterion.rule().conditions()]
    if "p_null" not in [*asked, *(one.measure for one in kept)]:
        return Examination(criterion, contrasts, kept, keep_q)
    _require_shuffles(store)
    examination, null_t = Examination(criterion, contrasts), []
    with np.errstate(all="ignore"):
        for index, moments in enumerate(samples_of(store.shuffled_moments(layer))):
            measured = examination.measured(Sample(moments), index)
            null_t.append([np.sort(one.extremity[~np.isnan(one.extremity)]) for one in measured])
    return Examination(criterion, contrasts, kept, keep_q, null_t)


def _require_shuffles(store: Store) -> None:
    if not store.shuffles:
        raise UserError(
            f"chance is what shuffled labels give; {store.path} has none: scan with --null 100"
        )


def _rows_scanned(
    store: Store, criterion: Criterion, contrasts: Sequence[Contrast] | None
) -> list[int] | None:
    """The categories whose masks are asked for, where the scan has already written all of them."""
    if as_record(criterion) != store.provenance.get("criterion"):
        return None
    every = every_category(store.categories)
    rows = [contrast.row_in(every) for contrast in (every if contrasts is None else contrasts)]
    return None if None in rows else [row for row in rows if row is not None]


def _decided(
    store: Store,
    layers: Sequence[Layer],
    criterion: Criterion,
    contrasts: Sequence[Contrast],
    kept: Sequence[Kept] = (),
    keep_q: str | None = None,
) -> Iterator[tuple[Layer, Decided]]:
    """The outcome for ``layers``: one by one, or all layers of the store seen before any."""
    if criterion.family == "layer":
        for layer in layers:
            examination = examine(store, layer, criterion, contrasts, kept, keep_q)
            yield layer, examination.decide([_look(store, layer, examination)])[0]
        return
    looks = [
        _look(store, layer, examine(store, layer, criterion, contrasts, kept, keep_q))
        for layer in store.layers
    ]
    decided = Examination(criterion, contrasts, kept, keep_q).decide(looks)
    yield from (pair for pair in zip(store.layers, decided, strict=True) if pair[0] in layers)


def _look(store: Store, layer: Layer, examination: Examination) -> Look:
    return examination.look(store.moments(layer, slab) for slab, _ in store.slabs(layer))


def _shares(
    store: Store, examination: Examination, looks: Sequence[Look]
) -> list[NDArray[np.float64]]:
    """Of every look at shuffled units, the share selected ``[contrast, shuffle]``."""
    shares: list[list[NDArray[np.float64]]] = [[] for _ in looks]
    for shuffle in range(store.shuffles):
        sizes = [look.units // store.shuffles for look in looks]
        parts = [
            look.part(shuffle * size, (shuffle + 1) * size)
            for look, size in zip(looks, sizes, strict=True)
        ]
        for found, outcome in zip(shares, examination.decide(parts), strict=True):
            found.append(outcome.selection.selective.mean(axis=1))
    return [np.stack(found, axis=1) for found in shares]
