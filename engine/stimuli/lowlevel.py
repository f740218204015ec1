"""Low-level image statistics: luma, contrast, amplitude spectrum.

If categories differ in these, a contrast between the categories may reflect them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, stats

# Larger sides are averaged over blocks first: transforming the largest decodable picture would take
# gigabytes.
_LONGEST = 2048
# Amplitudes below this share of the largest ring are rounding errors.
_ROUNDING = 1e-10
# The smallest differences between categories that matter: five grey levels, a slope that changes
# the amplitude at 100 cycles by half, a side by 5 %, one coloured image in 20.
THRESHOLDS = {"luma": 0.02, "contrast": 0.02, "slope": 0.1, "side": 0.05, "colour": 0.05}


def luma(image: Image.Image) -> Image.Image:
    """Grey values 0 to 255 (mode ``L``): (299 R + 587 G + 114 B) / 1000, as in ITU-R BT.601."""
    return image.convert("L")


def mean_and_contrast(grey: Image.Image) -> tuple[float, float]:
    """Mean and standard deviation over the pixels of ``grey / 255``, between 0 and 1.

    The second is RMS contrast (Peli, 1990, J. Opt. Soc. Am. A 7, 2032). Grey values are the file's,
    gamma-encoded; they are not luminances.
    """
    counts = np.array(grey.histogram(), np.float64)
    levels = np.arange(256) / 255
    mean = float(counts @ levels / counts.sum())
    return mean, float(np.sqrt(counts @ (levels - mean) ** 2 / counts.sum()))


def spectral_slope(grey: Image.Image) -> float:
    """Slope of the amplitude spectrum in log-log coordinates.

    A(k) is the mean of abs(F), with F the discrete Fourier transform of the picture minus its mean,
    over the frequencies whose distance from 0, in cycles per shorter side, rounds to k = 1, 2, ...
    up to half the shorter side in pixels. The slope is that of the least-squares line of log10 A(k)
    on log10 k: about -1 for photographs, 0 for white noise (Field, 1987, J. Opt. Soc. Am. A 4,
    2379; Torralba & Oliva, 2003, Network 14, 391, fit power, whose slope is twice that). No window
    is applied, so a phase-scrambled picture keeps the slope of its original. Pictures of more than
    2048 pixels on a side are first averaged over the smallest sufficient blocks of n x n pixels.

    Returns
    -------
    the slope; NaN if fewer than two rings have any amplitude (a uniform or tiny picture)
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

    Ring 0 is the mean; the last ring holds all frequencies beyond half the shorter side. ``rfft2``
    computes half of the plane, so most values count twice.
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
    """Difference between categories in one measure, by one-way analysis of variance.

    All values are NaN if they are undefined.

    Attributes
    ----------
    measure : str
        A measure of :class:`CategoryRow <fusiform.engine.stimuli.check.CategoryRow>`.
    gap : float
        Largest category mean minus the smallest; of ``side``, as a share of the smallest.
    eta_squared : float
        Share of variance between categories.
    p : float
        p of the F test.
    large : bool
        Whether the gap reaches a threshold, and the categories explain it: eta squared of 0.14 or
        more, large by Cohen (1988), and p at most 0.05.
    """

    measure: str
    gap: float
    eta_squared: float
    p: float

    @property
    def large(self) -> bool:
        """Whether the gap reaches :data:`THRESHOLDS`, and the categories explain it.

        That is eta squared of 0.14 or more, large by Cohen (1988), and p at most 0.05.
        """
        reached = self.gap >= THRESHOLDS[self.measure] * (1 - 1e-9)  # 0.54 - 0.52 is less than 0.02
        return reached and self.eta_squared >= 0.14 and self.p <= 0.05


def difference(measure: str, groups: Sequence[NDArray[np.float64]]) -> Difference:
    """Compare ``groups [category][stimulus]``, ignoring NaN."""
    groups = [group[np.isfinite(group)] for group in groups]
    groups = [group for group in groups if len(group)]
    values = np.concatenate(groups) if groups else np.empty(0)
    means = [float(group.mean()) for group in groups]
    if len(groups) < 2:
        return Difference(measure, float("nan"), float("nan"), float("nan"))
    gap = (max(means) - min(means)) / (min(means) if measure == "side" else 1)
    if len(values) <= len(groups):
        return Difference(measure, gap, float("nan"), float("nan"))
    if np.ptp(values) == 0:
        return Difference(measure, 0.0, 0.0, 1.0)
    if all(np.ptp(group) == 0 for group in groups):
        return Difference(measure, gap, 1.0, 0.0)
    between = sum(len(group) * (group.mean() - values.mean()) ** 2 for group in groups)
    eta = float(between / ((values - values.mean()) ** 2).sum())
    return Difference(measure, gap, eta, float(stats.f_oneway(*groups).pvalue))
