"""Selection of a store's units by a criterion, slab by slab, without the network.

A criterion is tested on samples of the stimuli: all of them, and those of each fold.
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
from ..registry import MEASURES, SAVED
from ..store.reader import map_ahead, require_complete
from ..store.store_reader import StoreReader
from ..store.writing.array_writer import SlabWriter, background_writer
from ..store.writing.saved_contrasts import saving
from ..store.writing.store_draft import StoreDraft, write_slab
from ..values import as_record, listed
from .evaluate import Evaluation
from .language.contrast import Contrast, every_category, parse_contrast
from .language.criterion import DEFAULT, Criterion, require_criterion
from .selectivity import SCANNED
from .slab import Decision, Selection, SlabValues, StoredMeasure

# Calls of the writing thread that may wait, each with the values of a slab.
_WAITING = 4
# Means that contrasts are timed on.
_TIMED = 2**20
_MASKS = ("selective", "selective_fold")
_CONDITIONS = ("dead", "nonfinite")
Columns = dict[str, NDArray[Any]]


def select(
    store: StoreReader,
    criterion: Criterion = DEFAULT,
    contrasts: Sequence[Contrast] | None = None,
    layers: Sequence[Layer] | None = None,
) -> Iterator[tuple[Layer, Selection]]:
    """Apply a criterion to contrasts (by default every category against all others) in ``layers``.

    Masks are read if the scan stored them, else computed from the moments. The family ``model``,
    and a top of the model, comprise all layers of the store, whichever are selected.

    Raises
    ------
    UserError : the scan has not finished, or the criterion needs shuffled labels that the store
        lacks
    """
    for layer, slabs in select_slabs(store, criterion, contrasts, layers):
        parts = [vars(one) for one in slabs]
        masks = {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}
        yield layer, Selection(**masks)


def select_slabs(
    store: StoreReader,
    criterion: Criterion = DEFAULT,
    contrasts: Sequence[Contrast] | None = None,
    layers: Sequence[Layer] | None = None,
) -> Iterator[tuple[Layer, Iterator[Selection]]]:
    """As :func:`select`, with the masks of one slab in memory at a time.

    The slabs of a layer must be consumed before the next layer.
    """
    require_complete(store)
    require_criterion(criterion)
    layers = store.layers if layers is None else layers
    rows = _rows_scanned(store, criterion, contrasts)
    if rows is not None:
        for layer in layers:
            yield layer, _scanned(store, layer, rows)
        return
    contrasts = every_category(store.categories) if contrasts is None else contrasts
    for layer, decisions in _decisions(store, layers, criterion, contrasts):
        yield layer, (one.selection for one in decisions)


def materialise(
    store: StoreDraft,
    progress: Callable[[Layer], None] = lambda _: None,
    first: int = 0,
    stop: int | None = None,
) -> None:
    """Write t, q, CSI and the masks of the default criterion beside the moments, layer by layer.

    Writes the layers from number ``first`` up to ``stop``; the writing thread calls ``progress``
    after each. Other programs may write other layers of the same draft.
    """
    if "criterion" not in store.provenance:
        annotate_criterion(store)
    every = every_category(store.categories)
    writers: dict[Layer, SlabWriter] = {}

    def finish(layer: Layer) -> None:
        writers.pop(layer).finish()
        progress(layer)

    with background_writer(_WAITING) as later:

        def write_measures(layer: Layer, number: int, columns: Columns) -> None:
            if number == 0:
                writers[layer] = store.slab_writer(layer)
            later(write_slab, writers[layer], number, columns)

        layers = store.layers[first:stop]
        for layer, decisions in _decisions(
            store.reader, layers, DEFAULT, every, SCANNED, True, write_measures
        ):
            for number, one in enumerate(decisions):
                columns: Columns = dict(vars(one.selection))
                if one.q is not None:
                    columns["q_each"] = one.q
                later(write_slab, writers[layer], number, columns)
            later(finish, layer)


def seconds_per_unit(categories: int, folds: int) -> float:
    """Seconds per unit that the contrasts of a scan take to compute, timed on random moments."""
    every = every_category([str(category) for category in range(categories)])
    evaluation = Evaluation(DEFAULT, every, SCANNED, stores_q=True)
    units = max(256, _TIMED // (categories * folds))
    rng = np.random.default_rng(0)
    shape = (folds, categories, units)
    count = np.full((folds, categories, 1), 20)
    moments = Moments(count, rng.normal(size=shape), rng.chisquare(19, shape))
    seconds = []
    for _ in range(2):  # the first compiles
        started = time.perf_counter()
        slab = evaluation.evaluate(moments)
        evaluation.settle([[slab]], units)
        evaluation.decide(slab)
        seconds.append(time.perf_counter() - started)
    return seconds[-1] / units


def annotate_criterion(store: StoreDraft) -> None:
    """Record the criterion of the masks in the store."""
    store.annotate(criterion=as_record(DEFAULT))


def save_contrast(
    store: StoreReader | Path | str,
    name: str,
    criterion: Criterion = DEFAULT,
    contrast: str | None = None,
    measures: str | Sequence[str] = SAVED,
    progress: Callable[[Layer], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Write measures and masks of a contrast beside the moments, as ``LAYER/NAME/MEASURE``.

    The ``measures`` and ``selective`` are on all stimuli, ``selective_fold`` on those of each fold.
    An earlier contrast of that name is replaced once all is written; after an error it is
    unchanged.

    Parameters
    ----------
    store : Store, str or path
        A store or its path; a store that is given knows the contrast at once.
    name : str
        Name of the contrast in the store.
    criterion : Criterion, optional
        The criterion of the masks.
    contrast : str, optional
        A contrast such as ``faces > bodies``. By default every category against all others is
        saved, along a dimension ``category``.
    measures : str or sequence of str, default ("t", "log10_p", "q", "csi", "d_prime")
        The measures to write.
    progress : callable, optional
        Called with each layer that has been written.
    note : callable, optional
        Called with a message if another program is saving.

    Raises
    ------
    UserError
        The name is invalid, a measure is unknown, or the store cannot be written to; as
        :meth:`Store.select` does.

    Examples
    --------
    >>> store = fusiform.open_store("r18-seed1.zarr")
    >>> fusiform.save_contrast(store, "animate", contrast="faces + bodies > scenes")
    >>> list(store.saved)
    ['animate']
    >>> store.tree()["layer4.1/animate"]["t"].dims
    ('channel', 'y', 'x')
    """
    store, measures = StoreReader.of(store), listed(measures)
    require_complete(store)
    require_criterion(criterion)
    _require_savable(criterion, measures)
    every = every_category(store.categories)
    contrasts = [parse_contrast(contrast, store.categories)] if contrast else every
    stored = [StoredMeasure(name, criterion.test, name) for name in measures if name != "q"]
    # Raises if contrasts do not fit, before anything changes.
    if Evaluation(criterion, contrasts, stored).needs_shuffles:
        require_shuffles(store)
    record = {
        "contrasts": [one.text for one in contrasts],
        "criterion": as_record(criterion),
        "each_category": contrast is None,
        "measures": measures,
    }
    writers: dict[Layer, SlabWriter] = {}

    def finish(layer: Layer) -> None:
        writers.pop(layer).finish()
        progress(layer)

    with saving(store, name, record, note) as saved, background_writer() as later:

        def write(layer: Layer, number: int, columns: Columns) -> None:
            own = {name: values[0] for name, values in columns.items()} if contrast else columns
            later(saved.write, writers[layer], number, own)

        def write_measures(layer: Layer, number: int, columns: Columns) -> None:
            if number == 0:
                writers[layer] = saved.slab_writer(layer)
            write(layer, number, columns)

        for layer, decisions in _decisions(
            store, store.layers, criterion, contrasts, stored, "q" in measures, write_measures
        ):
            for number, one in enumerate(decisions):
                columns: Columns = {name: getattr(one.selection, name) for name in _MASKS}
                if one.q is not None:
                    columns["q"] = one.q
                write(layer, number, columns)
            later(finish, layer)


def _require_savable(criterion: Criterion, measures: Sequence[str]) -> None:
    for measure in measures:
        if measure not in MEASURES:
            raise UserError(f"there is no measure {measure!r}: {nearest(measure, MEASURES)}")
    if "p_null" in measures and criterion.pairwise:
        raise UserError(
            "p_null is saved for a single test; a pairwise criterion has several: save t"
        )


def evaluation_of(store: StoreReader, layer: Layer, evaluation: Evaluation) -> Evaluation:
    """The evaluation of a layer, with its moments under shuffled labels if they are needed.

    Raises
    ------
    UserError : they are needed, and the scan had no shuffled labels
    """
    if not evaluation.needs_shuffles:
        return evaluation
    require_shuffles(store)
    return evaluation.with_shuffles(store.shuffled_moments(layer))


def require_shuffles(store: StoreReader) -> None:
    """Raise a ``UserError`` unless the scan had shuffled labels."""
    if not store.shuffles:
        raise UserError(
            f"chance levels need shuffled labels; {store.path} has none: scan with `null=100`"
        )


def _rows_scanned(
    store: StoreReader, criterion: Criterion, contrasts: Sequence[Contrast] | None
) -> list[int] | None:
    """Categories of the contrasts if the scan stored the masks of all of them, else None."""
    if as_record(criterion) != store.provenance.get("criterion"):
        return None
    if contrasts is None:
        return list(range(len(store.categories)))
    rows = [contrast.category for contrast in contrasts if contrast.category is not None]
    return rows if len(rows) == len(contrasts) else None


def _scanned(store: StoreReader, layer: Layer, rows: Sequence[int]) -> Iterator[Selection]:
    """The masks that the scan stored for some categories, slab by slab."""
    for slab, _ in store.slabs(layer):
        masks = {name: store.read_slab(layer, name, slab) for name in (*_MASKS, *_CONDITIONS)}
        if list(rows) != list(range(len(store.categories))):
            masks |= {name: masks[name][rows] for name in _MASKS}
        yield Selection(**masks)


def _decisions(
    store: StoreReader,
    layers: Sequence[Layer],
    criterion: Criterion,
    contrasts: Sequence[Contrast],
    stored: Sequence[StoredMeasure] = (),
    stores_q: bool = False,
    write_measures: Callable[[Layer, int, Columns], None] = lambda *_: None,
) -> Iterator[tuple[Layer, Iterator[Decision]]]:
    """Decisions on ``layers``, slab by slab; all layers are evaluated first where it needs them.

    ``write_measures`` receives the stored measures of each slab as soon as they are computed.
    """
    decider = Evaluation(criterion, contrasts, stored, stores_q)
    by_layer = not decider.needs_model
    # A thread reads a slab ahead, of the next layer too. No name holds a slab while the next one is
    # waited for: two are in memory.
    parts = ((one, slab) for one in (layers if by_layer else store.layers)
             for slab, _ in store.slabs(one))  # fmt: skip
    ahead = map_ahead(lambda part: (part, store.stacked_moments(*part)), parts, threads=1)

    def evaluated(layer: Layer) -> Iterator[SlabValues]:
        evaluation = evaluation_of(store, layer, decider)
        for number, (slab, _) in enumerate(store.slabs(layer)):
            # The caller may have left out layers.
            own = next(moments for part, moments in ahead if part == (layer, slab))
            values = evaluation.evaluate(own)
            del own
            write_measures(layer, number, values.stored)
            values.stored = {}
            yield values

    def decided(layer: Layer) -> Iterator[Decision]:
        slabs: Iterable[SlabValues] = evaluated(layer)
        if decider.needs_family:
            (slabs,) = decider.settle([slabs], layer.units)
        yield from map(decider.decide, slabs)

    if by_layer:
        yield from ((layer, decided(layer)) for layer in layers)
        return
    units = sum(layer.units for layer in store.layers)
    settled = decider.settle(map(evaluated, store.layers), units)
    family = dict(zip(store.layers, settled, strict=True))
    yield from ((layer, map(decider.decide, family[layer])) for layer in layers)
