"""Contrasts and criteria over a store, slab by slab: which units are selective, and for what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ...kernels import contrast
from ...kernels.moments import Moments, merge
from ..errors import UserError
from ..spec import VARIABLES, Criterion, Layer, as_record
from ..store import Store

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
    states = _over_slabs(store, layer, _states)
    finite = ~states["nonfinite"]
    parts = [_meets(store, layer, criterion, fold) & finite for fold in (None, *range(store.folds))]
    return Selection(parts[0], np.stack(parts[1:], axis=1), states["dead"], states["nonfinite"])


def materialise(store: Store, progress: Callable[[Layer], None] = lambda _: None) -> None:
    """Write t, q, CSI and the masks of the default criterion beside the moments, layer by layer."""
    for layer in store.layers:
        columns = _over_slabs(store, layer, _everything)
        columns["q_each"] = _false_discovery_rates(columns.pop("p_each"))
        finite = ~columns["nonfinite"]  # on all stimuli, not just on those of a fold
        columns["selective"] = _passes(DEFAULT, columns["t_each"], columns["q_each"]) & finite
        folds = [_meets(store, layer, DEFAULT, fold) & finite for fold in range(store.folds)]
        columns["selective_fold"] = np.stack(folds, axis=1)
        for name, values in columns.items():
            store.write(layer, name, values)
        progress(layer)


def require_complete(store: Store) -> None:
    """Refuse a store whose scan stopped before its end."""
    if store.provenance.get("status") != "complete":
        raise UserError(
            f"the scan that fills {store.path} has not finished: scan again with --overwrite"
        )


def _everything(moments: Moments) -> Columns:
    """t, CSI and the conjunction's p on all stimuli, and the units' states."""
    t, t_each, csi = (np.empty_like(moments.mean) for _ in range(3))
    count = moments.count.ravel()
    contrast.against_rest(count, moments.mean, moments.m2, t, np.empty_like(t))
    contrast.against_each(count, moments.mean, moments.m2, t_each)
    contrast.selectivity_index(moments.mean, csi)
    p_each = contrast.p_each(count, moments.mean, moments.m2, t_each)
    states = _states(moments)
    csi[:, states["dead"]] = 0  # by definition, where rounding would leave 1e-17
    stored = {"t": t, "t_each": t_each, "csi": csi}
    stored = {name: values.astype(VARIABLES[name].dtype) for name, values in stored.items()}
    return {**stored, "p_each": p_each, **states}


def _states(moments: Moments) -> Columns:
    # Over all categories: a unit that is constant within each, but not across them, is alive.
    total = reduce(merge, (Moments(*group) for group in zip(*moments, strict=True)))
    return {"dead": total.m2 == 0, "nonfinite": ~np.isfinite(total.m2)}


def _meets(store: Store, layer: Layer, criterion: Criterion, fold: int | None) -> NDArray[np.bool_]:
    """Mask ``[category, unit]`` of a criterion on one fold's stimuli, or on all (None)."""

    def test(moments: Moments) -> Columns:
        t, df = np.empty_like(moments.mean), np.empty_like(moments.mean)
        count = moments.count.ravel()
        if criterion.contrast == "rest":
            contrast.against_rest(count, moments.mean, moments.m2, t, df)
        else:
            contrast.against_each(count, moments.mean, moments.m2, t)
        if criterion.t is not None:  # p costs ten times what t does
            return {"t": t}
        if criterion.contrast == "rest":
            return {"t": t, "p": contrast.upper_tail(t, df)}
        # Whoever has p > q cannot have a false discovery rate of q, and no t distribution has more
        # than that beyond the normal quantile: only the others need their p.
        floor = max(0.0, -ndtri(criterion.q))
        return {"t": t, "p": contrast.p_each(count, moments.mean, moments.m2, t, floor)}

    folds = None if fold is None else [fold]
    columns = _over_slabs(store, layer, test, folds)
    q = _false_discovery_rates(columns["p"]) if "p" in columns else np.nan
    return _passes(criterion, columns["t"], q)


def _passes(
    criterion: Criterion, t: NDArray[np.float64], q: NDArray[np.float64] | float
) -> NDArray[np.bool_]:
    """The criterion's rule; ``q`` is not looked at where it is about t alone."""
    return (q <= criterion.q) & (t > 0) if criterion.t is None else t > criterion.t


def _false_discovery_rates(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of q ``[category, unit]``: the family is a layer's units, category by category."""
    return np.stack([contrast.benjamini_hochberg(row) for row in p])


def _over_slabs(
    store: Store,
    layer: Layer,
    work: Callable[[Moments], Columns],
    folds: Sequence[int] | None = None,
) -> Columns:
    """Apply ``work`` to a layer slab by slab, and join what it gives along units."""
    with np.errstate(invalid="ignore", over="ignore"):  # units that are not finite stay so
        done = [work(store.moments(layer, slab, folds)) for slab, _ in store.slabs(layer)]
    return {name: np.concatenate([part[name] for part in done], axis=-1) for name in done[0]}
