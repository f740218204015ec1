"""Held-out specificity of selective units: CSI and d'."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .census import Census
from .resampling import held_out_means, intervals

# First edge, last edge and number of bins of each measure's histogram.
BINS: dict[str, tuple[float, float, int]] = {"csi": (-1, 1, 40), "d_prime": (-4, 8, 48)}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Specificity:
    """A measure of units selected on one fold, measured on the others.

    Values are None if there are no units, or one fold.

    Attributes
    ----------
    layer : str
        Name of the layer.
    contrast : str
        The contrast.
    measure : str
        ``csi`` or ``d_prime``.
    units : int
        Number of units with a finite value, once for every fold that selects them.
    mean : float or None
        Their mean.
    low, high : float or None
        Its middle 95 % over draws of whole feature maps.
    quantiles : tuple of float, or None
        Quantiles at 5, 25, 50, 75 and 95 %.
    edges : tuple of float
        The outer edges of the histogram.
    histogram : tuple of int, or None
        Numbers of values in equal bins between the edges; values beyond fall into the outer bins.
    """

    layer: str
    contrast: str
    measure: str
    units: int
    mean: float | None
    low: float | None
    high: float | None
    quantiles: tuple[float, ...] | None
    edges: tuple[float, float]
    histogram: tuple[int, ...] | None


def specificity(
    censuses: Iterable[Census], resamples: int = 1000, seed: int = 0
) -> list[Specificity]:
    """Held-out CSI and d', a row per layer, contrast and measure."""
    return [row for census in censuses for row in _of_layer(census, resamples, seed)]


def _of_layer(census: Census, resamples: int, seed: int) -> list[Specificity]:
    measured = {name: getattr(census, name) for name in BINS}
    several = len(census.channel_units) > 1
    known, drawn = held_out_means(census, [*measured.values()], resamples if several else 0, seed)
    ends = {
        name: dict(zip(known.tolist(), intervals(draws), strict=True))
        for name, draws in zip(measured, drawn, strict=True)
    }
    rows = []
    for index, contrast in enumerate(census.contrasts):
        for name, held_out in measured.items():
            values, (low, high) = held_out.values[index], ends[name].get(index, (None, None))
            rows.append(
                Specificity(
                    layer=census.layer.name,
                    contrast=contrast,
                    measure=name,
                    units=len(values),
                    mean=float(held_out.sums[index] / len(values)) if len(values) else None,
                    low=low,
                    high=high,
                    quantiles=_quantiles(values) if len(values) else None,
                    edges=BINS[name][:2],
                    histogram=_histogram(values, name) if len(values) else None,
                )
            )
    return rows


def _quantiles(values: np.ndarray) -> tuple[float, ...]:
    return tuple(np.quantile(values.astype(np.float64), QUANTILES).tolist())


def _histogram(values: np.ndarray, measure: str) -> tuple[int, ...]:
    first, last, bins = BINS[measure]
    inside = values.astype(np.float64).clip(first, last)
    return tuple(np.histogram(inside, bins, (first, last))[0].tolist())
