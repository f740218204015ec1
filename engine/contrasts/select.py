"""Which units a criterion selects: over a store, slab by slab; the network is not asked again.

A criterion is tested on samples of the stimuli: on all of them, and on each fold's alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments
from ..errors import UserError, nearest
from ..layer import Layer
from ..store.behind import write_behind
from ..store.draft import Draft, write_slab
from ..store.reading import Store, require_complete
from ..store.saving import saving
from ..store.slabs import SlabWriter
from ..values import as_record, listed
from ..variables import MEASURES, SAVED
from .evaluate import Decided, Examination, Kept, Look, Selection, samples_of
from .language.contrast import Contrast, every_category, parse_contrast
from .language.criterion import DEFAULT, Criterion, require_criterion
from .measures import Sample

# What a scan materialises beside q and the masks.
_SCANNED = (Kept("t", "rest", "t"), Kept("t_each", "each", "t"), Kept("csi", "each", "csi"))
# The variables that masks are read back from.
# Means that contrasts are timed on.
_MADE_UP = 2**20
_MASKS = ("selective", "selective_fold")
_CONDITIONS = ("dead", "nonfinite")
Columns = dict[str, NDArray[Any]]


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
    for layer, slabs in select_slabs(store, criterion, contrasts, layers):
        parts = [vars(one) for one in slabs]
        yield (
            layer,
            Selection(
                **{
                    name: np.concatenate([part[name] for part in parts], axis=-1)
                    for name in parts[0]
                }
            ),
        )


def select_slabs(
    store: Store,
    criterion: Criterion = DEFAULT,
    contrasts: Sequence[Contrast] | None = None,
    layers: Sequence[Layer] | None = None,
) -> Iterator[tuple[Layer, Iterator[Selection]]]:
    """As :func:`select`, slab by slab of a layer: no more than a slab of masks is held.

    Layers in turn, each to its last slab.
    """
    require_complete(store)
    require_criterion(criterion)
    wanted = store.layers if layers is None else layers
    rows = _rows_scanned(store, criterion, contrasts)
    if rows is not None:
        for layer in wanted:
            yield layer, _scanned(store, layer, rows)
        return
    chosen = every_category(store.categories) if contrasts is None else contrasts
    for layer, decided in _decided(store, wanted, criterion, chosen):
        yield layer, (one.selection for one in decided)


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
    writers: dict[Layer, SlabWriter] = {}

    def finish(layer: Layer) -> None:
        writers.pop(layer).finish()
        progress(layer)

    with write_behind() as later:

        def keep(layer: Layer, number: int, kept: Columns) -> None:
            if number == 0:
                writers[layer] = store.slab_writer(layer)
            later(write_slab, writers[layer], number, kept)

        layers = store.layers[first:stop]
        for layer, slabs in _decided(store, layers, DEFAULT, every, _SCANNED, "q_each", keep):
            for number, one in enumerate(slabs):
                columns: Columns = dict(vars(one.selection))
                if one.q is not None:
                    columns["q_each"] = one.q
                later(write_slab, writers[layer], number, columns)
            later(finish, layer)


def seconds_per_unit(categories: int, folds: int) -> float:
    """How long the contrasts of a scan take to compute, per unit, on made-up moments."""
    every = every_category([str(category) for category in range(categories)])
    examination = Examination(DEFAULT, every, _SCANNED, keep_q="q_each")
    units = max(256, _MADE_UP // (categories * folds))
    rng = np.random.default_rng(0)
    shape = (categories, units)
    made_up = [
        Moments(np.full((categories, 1), 20), rng.normal(size=shape), rng.chisquare(19, shape))
        for _ in range(folds)
    ]
    seconds = []
    for _ in range(2):  # the first compiles
        started = time.perf_counter()
        look = examination.look(made_up)
        examination.settle([[look]])
        examination.decide(look)
        seconds.append(time.perf_counter() - started)
    return seconds[-1] / units


def annotate_criterion(store: Draft) -> None:
    """Say by which criterion the masks are."""
    store.annotate(criterion=as_record(DEFAULT))


def save_contrast(
    store: Store | Path | str,
    name: str,
    criterion: Criterion = DEFAULT,
    contrast: str | None = None,
    measures: str | Sequence[str] = SAVED,
    progress: Callable[[Layer], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Write measures and masks of a contrast beside the moments, as ``LAYER/NAME/MEASURE``.

    Of all stimuli: ``measures``, and ``selective``; of each fold's alone: ``selective_fold``.
    Without a ``contrast``, those of every category against all others, in a dimension ``category``.
    What was saved under the name before is replaced when all is written; until then, and after an
    error, it is there as it was. ``note`` hears of a wait for another program that saves.

    Raises
    ------
    UserError : the name or a measure is none, or the store cannot be written to; see :func:`select`
    """
    store, measures = Store.of(store), listed(measures)
    require_complete(store)
    require_criterion(criterion)
    for measure in measures:
        if measure not in MEASURES:
            raise UserError(f"there is no measure {measure!r}: {nearest(measure, MEASURES)}")
    categories = store.categories
    if _asks_chance(criterion, measures):
        _require_shuffles(store)
    if "p_null" in measures and criterion.pairwise:
        raise UserError("p_null is saved of one test, and a pairwise criterion has several: save t")
    chosen = [parse_contrast(contrast, categories)] if contrast else every_category(categories)
    Examination(criterion, chosen)  # refuses what does not fit, while what was saved is there yet
    kept = [Kept(measure, criterion.test, measure) for measure in measures if measure != "q"]
    keep_q = "q" if "q" in measures else None

    record = {
        "contrasts": [one.text for one in chosen],
        "criterion": as_record(criterion),
        "each_category": contrast is None,
        "measures": measures,
    }
    writers: dict[Layer, SlabWriter] = {}

    def finish(layer: Layer) -> None:
        writers.pop(layer).finish()
        progress(layer)

    with saving(store, name, record, note) as saved, write_behind() as later:

        def write(layer: Layer, number: int, columns: Columns) -> None:
            own = {name: values[0] for name, values in columns.items()} if contrast else columns
            later(saved.write, writers[layer], number, own)

        def keep(layer: Layer, number: int, columns: Columns) -> None:
            if number == 0:
                writers[layer] = saved.slab_writer(layer)
            write(layer, number, columns)

        for layer, slabs in _decided(store, store.layers, criterion, chosen, kept, keep_q, keep):
            for number, one in enumerate(slabs):
                columns: Columns = {name: getattr(one.selection, name) for name in _MASKS}
                if one.q is not None:
                    columns["q"] = one.q
                write(layer, number, columns)
            later(finish, layer)


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
    require_criterion(criterion)
    _require_shuffles(store)
    chosen = every_category(store.categories) if contrasts is None else contrasts
    wanted = store.layers if layers is None else layers
    together = criterion.family == "model"
    looks = {}
    for layer in store.layers if together else wanted:
        looks[layer] = _looks_at_shuffles(store, layer, examine(store, layer, criterion, chosen))
        if not together:
            yield layer, _shares(Examination(criterion, chosen), [looks.pop(layer)])[0]
    if together:
        shares = _shares(Examination(criterion, chosen), list(looks.values()))
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
    if not _asks_chance(criterion, [one.measure for one in kept]):
        return Examination(criterion, contrasts, kept, keep_q)
    _require_shuffles(store)
    examination, null_t = Examination(criterion, contrasts), []
    with np.errstate(all="ignore"):
        for index, moments in enumerate(samples_of(store.shuffled_moments(layer))):
            measured = examination.measured(Sample(moments), index)
            null_t.append([np.sort(one.extremity[~np.isnan(one.extremity)]) for one in measured])
    return Examination(criterion, contrasts, kept, keep_q, null_t)


def _asks_chance(criterion: Criterion, measures: Sequence[str]) -> bool:
    asked = (condition.measure for condition in criterion.rule().conditions())
    return "p_null" in (*asked, *measures)


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


def _scanned(store: Store, layer: Layer, rows: Sequence[int]) -> Iterator[Selection]:
    """The masks that the scan has written of some categories, slab by slab."""
    for slab, _ in store.slabs(layer):
        masks = {name: store.read_slab(layer, name, slab) for name in (*_MASKS, *_CONDITIONS)}
        if list(rows) != list(range(len(store.categories))):
            masks |= {name: masks[name][rows] for name in _MASKS}
        yield Selection(**masks)


def _decided(
    store: Store,
    layers: Sequence[Layer],
    criterion: Criterion,
    contrasts: Sequence[Contrast],
    kept: Sequence[Kept] = (),
    keep_q: str | None = None,
    keep: Callable[[Layer, int, Columns], None] = lambda *_: None,
) -> Iterator[tuple[Layer, Iterator[Decided]]]:
    """The outcome for ``layers``, slab by slab; for a family that is the model, all are seen first.

    ``keep`` is called with what is kept of each slab, as soon as it was looked at.
    """
    settled = Examination(criterion, contrasts, kept, keep_q)

    def looks(layer: Layer) -> Iterator[Look]:
        examination = examine(store, layer, criterion, contrasts, kept, keep_q)
        for number, (slab, _) in enumerate(store.slabs(layer)):
            look = examination.look(store.moments(layer, slab))
            keep(layer, number, look.kept)
            look.kept = {}
            yield look

    def of_layer(layer: Layer) -> Iterator[Decided]:
        seen: Iterable[Look] = looks(layer)
        if settled.waits:
            seen = list(seen)
            settled.settle([seen])
        yield from map(settled.decide, seen)

    if criterion.family == "layer" or not settled.waits:
        yield from ((layer, of_layer(layer)) for layer in layers)
        return
    family = {layer: list(looks(layer)) for layer in store.layers}
    settled.settle(list(family.values()))
    yield from ((layer, map(settled.decide, family[layer])) for layer in layers)


def _looks_at_shuffles(store: Store, layer: Layer, examination: Examination) -> list[Look]:
    """A look at the units drawn from a layer, all stimuli together, for every shuffle."""
    count, mean, m2 = samples_of(store.shuffled_moments(layer))[0]
    units = mean.shape[1] // store.shuffles
    parts = [slice(start, start + units) for start in range(0, mean.shape[1], units)]
    return [examination.look([Moments(count, mean[:, own], m2[:, own])]) for own in parts]


def _shares(examination: Examination, looks: Sequence[Sequence[Look]]) -> list[NDArray[np.float64]]:
    """Of every layer's shuffles, the share selected ``[contrast, shuffle]``; a family is one."""
    shares: list[list[NDArray[np.float64]]] = [[] for _ in looks]
    for shuffle in zip(*looks, strict=True):
        if examination.waits:
            examination.settle([[look] for look in shuffle])
        for found, look in zip(shares, shuffle, strict=True):
            found.append(examination.decide(look).selection.selective.mean(axis=1))
    return [np.stack(found, axis=1) for found in shares]
