"""Contrasts and criteria over a store, slab by slab: which units are selective, and for what.

A criterion is tested on samples of the stimuli: on all of them, and on each fold's alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ...kernels import contrast, pvalues
from ...kernels.moments import Moments, merge, rows_of_groups
from ..errors import UserError
from ..spec import VARIABLES, Criterion, Layer, as_record
from ..store import Store, write_behind

DEFAULT = Criterion()

Columns = dict[str, NDArray[Any]]  # by name, units along the last axis

# The variables that a scan materialises with the default criterion, and masks are read back from.
_MASKS = ("selective", "selective_fold", "dead", "nonfinite")


@dataclass(frozen=True)
class Selection:
    """Which units of a layer meet a criterion, units flat in the layer's order.

    ``selective [category, unit]`` on all stimuli; ``selective_fold [category, fold, unit]`` on each
    fold's stimuli alone; ``dead [unit]`` is constant over all stimuli; ``nonfinite [unit]`` gave
    NaN or infinity for some stimulus and is never selective.
    """

    selective: NDArray[np.bool_]
    selective_fold: NDArray[np.bool_]
    dead: NDArray[np.bool_]
    nonfinite: NDArray[np.bool_]


def select(store: Store, layer: Layer, criterion: Criterion = DEFAULT) -> Selection:
    """Apply a criterion to a layer: read where the scan materialised it, else from the moments.

    Raises
    ------
    UserError : the scan that fills the store has not finished
    """
    require_complete(store)
    if as_record(criterion) == store.provenance.get("criterion"):
        return Selection(**{name: store.read(layer, name) for name in _MASKS})
    test = _against_each if criterion.contrast == "each" else _against_rest

    def work(folds: list[Moments]) -> Columns:
        samples = _samples(folds)
        return {**_stacked([test(one, criterion) for one in samples]), **_states(samples[0])}

    columns = _over_slabs(store, layer, work)
    if criterion.t is not None:
        return _selection(store, columns, columns["t"] > criterion.t)
    q = _false_discovery_rates(columns["p"], columns.get("preferred"))
    return _selection(store, columns, q <= criterion.q)


def materialise(store: Store, progress: Callable[[Layer], None] = lambda _: None) -> None:
    """Write t, q, CSI and the masks of the default criterion beside the moments, layer by layer."""

    def write(layer: Layer, columns: Columns) -> None:
        for name, values in columns.items():
            store.write(layer, name, values)
        progress(layer)

    with write_behind() as later:
        for layer in store.layers:
            columns = _over_slabs(store, layer, _everything)
            q = _false_discovery_rates(columns.pop("p"), columns["preferred"])
            chosen = _selection(store, columns, q <= DEFAULT.q)
            preferred, others = columns.pop("preferred")[0], np.where(np.isnan(q[0]), np.nan, 1)
            columns["q_each"] = _spread(preferred, q[0], others, len(store.categories))
            later(write, layer, columns | vars(chosen))


def require_complete(store: Store) -> None:
    """Refuse a store whose scan stopped before its end."""
    if store.provenance.get("status") != "complete":
        raise UserError(
            f"the scan that fills {store.path} has not finished: scan again with --overwrite"
        )


def _samples(folds: list[Moments]) -> list[Moments]:
    """What a criterion is tested on: all stimuli, then each of several folds."""
    return [reduce(merge, folds), *folds] if len(folds) > 1 else folds


def _everything(folds: list[Moments]) -> Columns:
    """Of all stimuli t and CSI, the conjunction's p of all and of each fold, the units' states."""
    samples = _samples(folds)
    whole = samples[0]
    t, t_each, csi = (np.empty_like(whole.mean) for _ in range(3))
    count = whole.count.ravel()
    contrast.against_rest(count, whole.mean, whole.m2, t, np.empty_like(t))
    contrast.against_each(count, whole.mean, whole.m2, t_each)
    contrast.selectivity_index(whole.mean, csi)
    states = _states(whole)
    csi[:, states["dead"]] = 0  # by definition, where rounding would leave 1e-17
    stored = {"t": t, "t_each": t_each, "csi": csi}
    tested = [_against_each(whole, DEFAULT, exact=True)]
    tested += [_against_each(fold, DEFAULT) for fold in samples[1:]]
    return {
        **{name: values.astype(VARIABLES[name].dtype) for name, values in stored.items()},
        **_stacked(tested),
        **states,
    }


def _states(moments: Moments) -> Columns:
    # Over all categories: a unit that is constant within each, but not across them, is alive.
    total = reduce(merge, (Moments(*group) for group in zip(*moments, strict=True)))
    return {"dead": total.m2 == 0, "nonfinite": ~np.isfinite(total.m2)}


def _against_each(sample: Moments, criterion: Criterion, exact: bool = False) -> Columns:
    """The ``preferred`` category ``[unit]``, which alone can be selected, and its t or p.

    p is computed where t is above 0 if it has to be ``exact``, else where the criterion may be met.
    """
    count, units = sample.count.ravel(), sample.mean.shape[1]
    preferred, t = np.empty(units, np.int64), np.empty(units)
    contrast.preferred_against_each(count, sample.mean, sample.m2, preferred, t)
    if criterion.t is not None:  # p costs ten times what t does
        return {"preferred": preferred, "t": t}
    least = 0.0 if exact else _least_t(criterion)
    p = pvalues.conjunction(count, sample.mean, sample.m2, preferred, t, least)
    return {"preferred": preferred, "p": p}


def _against_rest(sample: Moments, criterion: Criterion) -> Columns:
    """The t or p ``[category, unit]`` of every category, p where the criterion could be met."""
    t, df = np.empty((2, *sample.mean.shape))
    contrast.against_rest(sample.count.ravel(), sample.mean, sample.m2, t, df)
    if criterion.t is not None:
        return {"t": t}
    p = np.where(np.isnan(t), np.nan, 1.0)
    asked = t > _least_t(criterion)
    p[asked] = pvalues.upper_tail(t[asked], df[asked])
    return {"p": p}


def _least_t(criterion: Criterion) -> float:
    """A t at or below which a false discovery rate of ``criterion.q`` is out of reach.

    Whoever has p > q cannot have it, and no t distribution has more than that beyond the normal
    quantile.
    """
    return max(0.0, -float(ndtri(criterion.q)))


def _selection(store: Store, columns: Columns, passes: NDArray[np.bool_]) -> Selection:
    """The masks of what ``passes [sample, ..., unit]``: every category, or the preferred one."""
    passes = passes & ~columns["nonfinite"]  # on all stimuli, not just on those of a fold
    if "preferred" in columns:
        parts = zip(columns["preferred"], passes, strict=True)
        passes = np.stack([_spread(*part, False, len(store.categories)) for part in parts])
    folds = passes[-store.folds :].swapaxes(0, 1)
    return Selection(passes[0], folds, columns["dead"], columns["nonfinite"])


def _spread(
    preferred: NDArray[np.int64], values: NDArray[Any], otherwise: Any, categories: int
) -> NDArray[Any]:
    """As ``[category, unit]``: ``values [unit]`` of the preferred category, else ``otherwise``."""
    spread = np.empty((categories, len(values)), values.dtype)
    spread[:] = otherwise
    spread[preferred, np.arange(len(values))] = values
    return spread


def _false_discovery_rates(p: NDArray[Any], preferred: NDArray[Any] | None) -> NDArray[Any]:
    """Values of q, of the shape of ``p [sample, ..., unit]``.

    The family is a layer's units, category by category. Where p is that of the ``preferred``
    category of each unit, it is 1 for the others.
    """
    q = np.empty_like(p)
    if preferred is None:
        for family in np.ndindex(p.shape[:-1]):
            q[family] = pvalues.benjamini_hochberg(p[family])
        return q
    for sample, category in enumerate(preferred):
        known = ~np.isnan(p[sample])
        q[sample] = np.where(known, 1, np.nan)
        below = np.flatnonzero(p[sample] < 1)
        for _, rows in rows_of_groups(category[below]):
            members = below[rows]
            q[sample, members] = pvalues.benjamini_hochberg(p[sample, members], known.sum())
    return q


def _stacked(tested: list[Columns]) -> Columns:
    return {name: np.stack([columns[name] for columns in tested]) for name in tested[0]}


def _over_slabs(store: Store, layer: Layer, work: Callable[[list[Moments]], Columns]) -> Columns:
    """Apply ``work`` to the folds of a layer slab by slab, and join what it gives along units."""
    with np.errstate(invalid="ignore", over="ignore"):  # units that are not finite stay so
        done = [work(store.moments(layer, slab)) for slab, _ in store.slabs(layer)]
    return {name: np.concatenate([part[name] for part in done], axis=-1) for name in done[0]}
