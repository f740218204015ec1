"""Summary of a store: selective units by layer and contrast, and their held-out selectivity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments, merge
from ..layer import Layer
from ..results import Result, long_form
from ..store.chunking import Slab
from ..store.store_reader import StoreReader
from ..table import Table, of_rows
from .chance import Shares, chance, reached
from .language.contrast import Contrast, parse_contrasts
from .language.criterion import DEFAULT, Criterion
from .measures import Measured
from .sample import Sample
from .select import select_slabs
from .slab import Selection

_MEASURED = ("csi", "d_prime", "response")
_NAMED = ("layer", "contrast")
COLUMNS: dict[str, type] = {
    "store": str, "criterion": str, "layer": str, "contrast": str, "fold": int, "quantity": str,
    "value": float,
}  # fmt: skip


@dataclass(frozen=True)
class HeldOut:
    """The units selected on one fold, measured on the others.

    Means are over units without infinite values. Values are None if no unit is selected or has a
    finite value.

    Attributes
    ----------
    fold : int
        The fold that selects.
    selected : int
        Number of units that it selects.
    replicated : float or None
        Share of them selected again on another fold, averaged over those folds.
    csi : float or None
        Their mean CSI on all other stimuli.
    d_prime : float or None
        Their mean d' on all other stimuli.
    response : float or None
        Their mean response to the target on all other stimuli.
    """

    fold: int
    selected: int
    replicated: float | None
    csi: float | None
    d_prime: float | None
    response: float | None


@dataclass(frozen=True)
class Row:
    """Summary of one layer and contrast.

    Held-out values are averaged over the selecting folds, and None if there are none.

    Attributes
    ----------
    layer : str
        Name of the layer.
    contrast : str
        The contrast.
    units : int
        Number of units of the layer.
    dead : int
        Number of units that are constant over all stimuli.
    nonfinite : int
        Number of units with NaN or infinite responses.
    selective : int
        Number of units that are selective on all stimuli.
    held_out : tuple of HeldOut
        Values by selecting fold; empty for one fold.
    chance : float or None
        Mean share selected under shuffled labels; None without shuffled labels.
    chance_95 : float or None
        Share that 5 % of the shuffles reach; None without shuffled labels.
    share : float
        Share of selective units.
    replicated : float or None
        Held-out share replicated.
    csi : float or None
        Held-out CSI.
    d_prime : float or None
        Held-out d'.
    response : float or None
        Held-out response to the target.
    """

    layer: str
    contrast: str
    units: int
    dead: int
    nonfinite: int
    selective: int
    held_out: tuple[HeldOut, ...]
    chance: float | None
    chance_95: float | None

    @property
    def share(self) -> float:
        """Share of selective units."""
        return self.selective / self.units

    @property
    def replicated(self) -> float | None:
        """Share replicated, averaged over the selecting folds."""
        return self._average("replicated")

    @property
    def csi(self) -> float | None:
        """Held-out CSI, averaged over the selecting folds."""
        return self._average("csi")

    @property
    def d_prime(self) -> float | None:
        """Held-out d', averaged over the selecting folds."""
        return self._average("d_prime")

    @property
    def response(self) -> float | None:
        """Held-out response to the target, averaged over the selecting folds."""
        return self._average("response")

    def _average(self, name: str) -> float | None:
        values = [getattr(fold, name) for fold in self.held_out]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None


class Summary(Result, list[Row]):
    """Result of :func:`fusiform.summary`: a list with a row per layer and contrast.

    Attributes
    ----------
    store : str
        Path of the store.
    criterion : str
        The criterion in words.
    """

    more = "frame(), a row per value; Store.frame(), a row per layer and contrast"

    _drawn_by = "fusiform.plot.by_depth(fusiform.analyse(store))"

    def __init__(self, rows: Iterable[Row], store: str, criterion: str) -> None:
        super().__init__(rows)
        self.store, self.criterion = store, criterion

    def tables(self) -> Iterator[Table]:
        """The values of every row, then those of each of its folds; see :data:`COLUMNS`."""
        yield Table({}).arranged(COLUMNS)
        if self:
            averages = {
                name: np.array([getattr(row, name) for row in self], np.float64)
                for name in ("share", "replicated", *_MEASURED)
            }
            yield self._long(Table({**of_rows(self).stored, **averages}))
        if folds := [(row, one) for row in self for one in row.held_out]:
            named = {name: [getattr(row, name) for row, _ in folds] for name in _NAMED}
            held_out = of_rows([one for _, one in folds])
            fold = held_out["fold"].astype(np.int32)
            yield self._long(Table({**named, **held_out.stored, "fold": fold}))

    def _shares(self) -> Mapping[tuple[str, str], float]:
        return {(row.layer, row.contrast): row.share or 0.0 for row in self}

    def _long(self, rows: Table) -> Table:
        own = long_form(rows).without("low", "high").labelled("criterion", self.criterion)
        return own.labelled("store", self.store).arranged(COLUMNS)


def summary(
    store: StoreReader | Path | str,
    criterion: Criterion = DEFAULT,
    layers: str | Sequence[str] = "*",
    contrasts: str | Sequence[str] | None = None,
) -> Summary:
    """Summarise a store under a criterion: a list with a row per layer and contrast.

    ``docs/reference/definitions.md`` has the formulas.

    Parameters
    ----------
    store : Store, str or path
        A store or its path.
    criterion : Criterion, optional
        The criterion that selects units.
    layers : str or sequence of str, default "*"
        Names or globs of layers.
    contrasts : str or sequence of str, optional
        Contrasts such as ``faces`` (against all others), ``faces > bodies + scenes``, or a weighted
        sum ``2 * faces - bodies - scenes``; by default every category.

    Returns
    -------
    Summary
        A list of :class:`~fusiform.engine.contrasts.summary.Row`; its ``frame()`` has a row per
        value.

    Raises
    ------
    UserError
        The scan has not finished, a layer is unknown, or a contrast cannot be parsed or does not
        fit the criterion.

    See Also
    --------
    Store.frame : The same as a table with a row per layer and contrast.
    analyse : Shares with intervals, spread, localisation, overlap, consistency.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> rows = fusiform.summary("r18.zarr", top, "layer4.1", "faces")
    >>> rows[0].layer, rows[0].contrast, rows[0].selective, rows[0].units
    ('layer4.1', 'faces', 20, 2048)
    >>> list(rows.frame().columns)
    ['store', 'criterion', 'layer', 'contrast', 'fold', 'quantity', 'value']
    """
    store = StoreReader.of(store)
    parsed = parse_contrasts(contrasts, store.categories)
    named = store.layers_named(layers)
    by_chance: dict[str, tuple[Shares, Shares]] = {}
    if store.shuffles:
        by_chance = {
            layer.name: (shares.mean(axis=1), reached(shares))
            for layer, shares in chance(store, criterion, parsed, named)
        }
    rows = []
    for layer, slabs in select_slabs(store, criterion, parsed, named):
        counted = _Counter(store, layer, criterion, parsed)
        for (slab, _), chosen in zip(store.slabs(layer), slabs, strict=True):
            counted.add(slab, chosen)
        for index, contrast in enumerate(parsed):
            average, largest = by_chance.get(layer.name, (None, None))
            rows.append(
                Row(
                    layer.name,
                    contrast.text,
                    layer.units,
                    counted.dead,
                    counted.nonfinite,
                    int(counted.selective[index]),
                    counted.held_out(index),
                    None if average is None else float(average[index]),
                    None if largest is None else float(largest[index]),
                )
            )
    return Summary(rows, str(store.path), str(criterion))


class _Counter:
    """Counts and measures a layer's selected units, slab by slab."""

    def __init__(
        self, store: StoreReader, layer: Layer, criterion: Criterion, contrasts: Sequence[Contrast]
    ) -> None:
        self._store, self._layer = store, layer
        self._criterion, self._contrasts = criterion, contrasts
        self.dead, self.nonfinite = 0, 0
        self.selective = np.zeros(len(contrasts), np.int64)
        shape = (len(contrasts), store.folds, len(_MEASURED))
        self._sums, self._finite = np.zeros(shape), np.zeros(shape)
        # Units selected on both of two folds [contrast, fold, fold].
        self._both = np.zeros((len(contrasts), store.folds, store.folds), np.int64)

    def add(self, slab: Slab, chosen: Selection) -> None:
        """Count the units of a slab."""
        self.dead += int(chosen.dead.sum())
        self.nonfinite += int(chosen.nonfinite.sum())
        self.selective += chosen.selective.sum(axis=1)
        if self._store.folds == 1 or not chosen.selective_fold.any():
            return
        moments = self._store.moments(self._layer, slab)
        for index in np.flatnonzero(chosen.selective_fold.any(axis=(1, 2))):
            selected = chosen.selective_fold[index]
            for fold, own in enumerate(selected):
                if own.any():
                    self._both[index, fold] += (selected & own).sum(axis=1)
                    self._measure(int(index), fold, own, moments)

    def held_out(self, index: int) -> tuple[HeldOut, ...]:
        """An entry per fold for a contrast; none for one fold."""
        if self._store.folds == 1:
            return ()
        return tuple(
            HeldOut(
                fold,
                int(self._both[index, fold, fold]),
                _replication(self._both[index], fold),
                *(
                    float(total / count) if count else None
                    for total, count in zip(
                        self._sums[index, fold], self._finite[index, fold], strict=True
                    )
                ),
            )
            for fold in range(self._store.folds)
        )

    def _measure(
        self, index: int, fold: int, own: NDArray[np.bool_], moments: Sequence[Moments]
    ) -> None:
        """Measure the units selected on a fold on all other folds together."""
        with np.errstate(all="ignore"):
            sample = held_out_sample(moments, fold, own)
            measured = Measured(sample, self._contrasts[index], self._criterion)
            for column, name in enumerate(_MEASURED):
                values = measured.measure(name)
                known = np.isfinite(values)
                self._sums[index, fold, column] += values[known].sum()
                self._finite[index, fold, column] += np.count_nonzero(known)


def held_out_sample(moments: Sequence[Moments], fold: int, own: NDArray[np.bool_]) -> Sample:
    """The units ``own`` on the stimuli of all folds but one, from the moments of each fold."""
    parts = [
        Moments(part.count, part.mean[:, own], part.m2[:, own])
        for other, part in enumerate(moments)
        if other != fold
    ]
    return Sample(reduce(merge, parts))


def _replication(both: NDArray[np.int64], fold: int) -> float | None:
    """Share of the units selected on ``fold`` that another fold selects, averaged over folds.

    ``both [fold, fold]`` counts the units that two folds select.
    """
    own = both[fold, fold]
    if not own:
        return None
    return float(np.mean([both[fold, other] / own for other in range(len(both)) if other != fold]))
