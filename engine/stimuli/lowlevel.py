"""What pictures have in common before anyone knows what they show: grey level, contrast, spectrum.

Where categories differ in these, a contrast between them may be about these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, stats

# Above this many pixels on a side the spectrum is that of block averages: a transform of the
# largest picture that is decoded would take gigabytes.
_LONGEST = 2048
# Parts of the largest ring below which amplitudes are rounding.
_ROUNDING = 1e-10


def luma(image: Image.Image) -> Image.Image:
    """Grey values 0 to 255 (mode ``L``): (299 R + 587 G + 114 B) / 1000, as ITU-R BT.601 has it."""
    return image.convert("L")


def mean_and_contrast(grey: Image.Image) -> tuple[float, float]:
    """Mean and standard deviation over the pixels of ``grey / 255``, between 0 and 1.

    The second is RMS contrast (Peli, 1990, J. Opt. Soc. Am. A 7, 2032). Grey values are those of
    the file, gamma and all, and no luminances in candela.
    """
    counts = np.array(grey.histogram(), np.float64)
    levels = np.arange(256) / 255
    mean = float(counts @ levels / counts.sum())
    return mean, float(np.sqrt(counts @ (levels - mean) ** 2 / counts.sum()))


def spectral_slope(grey: Image.Image) -> float:
    """Slope of the amplitude spectrum in double logarithmic coordinates.

    A(k) is the mean of abs(F), F the discrete Fourier transform of the picture less its mean, over
    the frequencies whose distance from 0, in cycles per shorter side, rounds to k = 1, 2, ... up to
    half the shorter side in pixels. The slope is that of the least-squares line of log10 A(k) on
    log10 k: -1 or so for photographs, 0 for white noise (Field, 1987, J. Opt. Soc. Am. A 4, 2379;
    Torralba & Oliva, 2003, Network 14, 391, who fit power, whose slope is twice that). There is no
    window, so that a phase-scrambled picture keeps the slope of its original. Pictures of
    more than 2048 pixels on a side are first averaged over blocks of n x n, n as small as will do.

    Returns
    -------
    NaN where fewer than two rings have any amplitude: a uniform picture, or one of a few pixels
    """
    if max(grey.size) > _LONGEST:
        grey = grey.reduce(-(-max(grey.size) // _LONGEST))
    pixels = np.asarray(grey, np.float64)
    if pixels.min() == pixels.max():
        return float("nan")
    ring, weight, total = _rings(*pixels.shape)
    amplitude = np.abs(fft.rfft2(pixels - pixels.mean())).ravel()
    means = np.bincount(ring, amplitude * weight, len(total))[1 : len(total) - 1] / total[1:-1]
    rings = np.arange(1, len(means) + 1)
    present = means > _ROUNDING * max(means, default=0)
    if present.sum() < 2:
        return float("nan")
    return float(stats.linregress(np.log10(rings[present]), np.log10(means[present])).slope)


@lru_cache(maxsize=8)
def _rings(
    height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Ring and weight of every value of ``rfft2``, and the number of frequencies in each ring.

    Ring 0 is the mean, the last holds what lies beyond half the shorter side. The half of the plane
    that is not computed mirrors the other, so most values stand for two.
    """
    shorter = min(height, width)
    down, across = np.fft.fftfreq(height) * shorter, np.fft.rfftfreq(width) * shorter
    distance = np.hypot(down[:, np.newaxis], across).ravel()
    ring = np.minimum(np.rint(distance).astype(np.int64), shorter // 2 + 1)
    weight = np.full((height, width // 2 + 1), 2.0)
    weight[:, 0] = 1
    if width % 2 == 0:
        weight[:, -1] = 1
    flat = weight.ravel()
    total = np.bincount(ring, flat, shorter // 2 + 2).astype(np.float64)
    return ring, flat, total


@dataclass(frozen=True)
class Difference:
    """How far categories differ in one measure: one-way analysis of variance.

    ``eta_squared`` is the share of the variance that lies between categories, ``p`` that of the F
    test; both are NaN where nothing can be said.
    """

    measure: str
    eta_squared: float
    p: float

    @property
    def large(self) -> bool:
        """Eta squared of 0.14 or more, large by Cohen (1988), and p at most 0.05."""
        return self.eta_squared >= 0.14 and self.p <= 0.05


def difference(measure: str, groups: Sequence[NDArray[np.float64]]) -> Difference:
    """Compare ``groups [category][stimulus]``; NaNs are left out."""
    groups = [group[np.isfinite(group)] for group in groups]
    groups = [group for group in groups if len(group)]
    values = np.concatenate(groups) if groups else np.empty(0)
    if len(groups) < 2 or len(values) <= len(groups):
        return Difference(measure, float("nan"), float("nan"))
    if np.ptp(values) == 0:
        return Difference(measure, 0.0, 1.0)
    if all(np.ptp(group) == 0 for group in groups):
        return Difference(measure, 1.0, 0.0)
    between = sum(len(group) * (group.mean() - values.mean()) ** 2 for group in groups)
    eta = float(between / ((values - values.mean()) ** 2).sum())
    return Difference(measure, eta, float(stats.f_oneway(*groups).pvalue))
