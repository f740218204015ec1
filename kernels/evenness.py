"""How evenly a number of units is spread over places: numpy formulas on counts ``[..., place]``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contrast import Floats


def normalised_entropy(counts: NDArray[Any]) -> Floats:
    """``-sum s log s / log P`` of the shares s in P places: 1 if all are equal, 0 if one has all.

    Shannon (1948), Bell Syst. Tech. J. 27, over its largest value (Pielou 1966, J. Theor. Biol.
    13). NaN where there is nothing, or but one place.
    """
    counts = np.asarray(counts, np.float64)
    total, places = counts.sum(axis=-1, keepdims=True), counts.shape[-1]
    share = counts / np.where(total > 0, total, np.nan)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    summed = 0 - np.where(share > 0, share * logs, share * 0).sum(axis=-1)
    return np.asarray(summed / np.log(places) if places > 1 else np.full_like(summed, np.nan))


def gini(counts: NDArray[Any]) -> Floats:
    """``sum (2 i - P - 1) c_(i) / (P sum c)``, c sorted, i from 1: 0 if all are equal.

    Gini (1912); half the mean difference of two places over the mean. One of P places that has all
    gives 1 - 1/P. NaN where there is nothing.
    """
    ordered = np.sort(np.asarray(counts, np.float64), axis=-1)
    places = ordered.shape[-1]
    ranks = 2 * np.arange(1, places + 1) - places - 1
    total = np.where(ordered[..., -1] > 0, ordered.sum(axis=-1), np.nan)
    return np.asarray((ranks * ordered).sum(axis=-1) / (places * total))
