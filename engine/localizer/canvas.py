"""Shared drawing tools: a supersampled canvas, outlines, noise, backgrounds.

Lengths are in picture sides: (0, 0) is the upper left corner, (1, 1) the lower right. Greys range
from 0 (black) to 255 (white).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

Points = NDArray[np.float64]  # [point, 2]: x to the right, y downwards
Picture = NDArray[np.float64]  # [size, size], greys

# Shapes are drawn this many times too large and averaged down, which smooths their edges.
SUPERSAMPLE = 3
# Soft shading has no fine detail: it is drawn this many times too small, then enlarged.
SHADE_REDUCTION = 2


class Canvas:
    """Paint with coverage; later calls paint over earlier ones.

    Soft shading is kept separately, as the logarithm of a gain: it applies to all paint, earlier or
    later, but never to the background.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._side = size * SUPERSAMPLE
        self._paint = Image.new("LA", (self._side, self._side), (0, 0))
        self._pen = ImageDraw.Draw(self._paint)
        self._shade_side = -(-size // SHADE_REDUCTION)
        self._shade = np.zeros((self._shade_side, self._shade_side), dtype=np.float32)
        self._gain = np.ones((size, size))

    def polygon(self, points: Points, grey: float) -> None:
        """Fill the outline ``points``."""
        self._pen.polygon((points * self._side).ravel().tolist(), fill=_paint(grey))

    def stroke(self, points: Points, width: float, grey: float) -> None:
        """Draw a line through ``points``, at least half a final pixel wide."""
        pixels = max(SUPERSAMPLE // 2 + 1, round(width * self._side))
        self._pen.line(
            (points * self._side).ravel().tolist(), fill=_paint(grey), width=pixels, joint="curve"
        )

    def stamp(self, mask: Image.Image, grey: float) -> None:
        """Paint through ``mask``, an ``L`` picture of side ``size * SUPERSAMPLE``."""
        self._paint.paste(_paint(grey), (0, 0), mask)

    def shade(self, outline: Points, gain: float, blur: float) -> None:
        """Multiply the paint inside ``outline`` by ``gain``, with an edge ``blur`` wide."""
        side = self._shade_side
        mask = Image.new("L", (side, side), 0)
        ImageDraw.Draw(mask).polygon((outline * side).ravel().tolist(), fill=255)
        soft = mask.filter(ImageFilter.GaussianBlur(blur * side))
        self._shade += np.asarray(soft, dtype=np.float32) * np.float32(math.log(gain) / 255)

    def light(self, gain: Picture) -> None:
        """Multiply all paint by ``gain`` [size, size]."""
        self._gain *= gain

    def over(self, background: Picture) -> Picture:
        """The finished picture: the shaded paint on ``background``."""
        small = np.asarray(self._paint.reduce(SUPERSAMPLE), dtype=np.float64)
        shade = Image.fromarray(self._shade).resize(
            (self.size, self.size), Image.Resampling.BILINEAR
        )
        shaded = small[..., 0] * np.exp(np.asarray(shade, dtype=np.float64)) * self._gain
        return background + small[..., 1] / 255 * (shaded - background)


def _paint(grey: float) -> tuple[int, int]:
    return min(255, max(0, round(grey))), 255


@dataclass(frozen=True)
class Frame:
    """A drawn object's own coordinates, turned, scaled and moved into the picture."""

    centre: tuple[float, float]
    scale: float
    turn: float = 0.0
    flip: bool = False

    def __call__(self, points: ArrayLike) -> Points:
        """Own coordinates [point, 2] to picture coordinates."""
        own = np.asarray(points, dtype=np.float64)
        if self.flip:
            own = own * (-1.0, 1.0)
        return moved(rotated(own * self.scale, self.turn), *self.centre)

    def grid(self, size: int) -> tuple[Picture, Picture]:
        """Own x and y of every pixel centre of a picture of side ``size``."""
        axis = (np.arange(size) + 0.5) / size
        x, y = np.meshgrid(axis - self.centre[0], axis - self.centre[1])
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        own_x = (cos * x + sin * y) / self.scale
        return (-own_x if self.flip else own_x), (cos * y - sin * x) / self.scale


def rotated(points: Points, angle: float) -> Points:
    """Turn ``points`` about the origin by ``angle`` radians, clockwise as seen (y points down)."""
    cos, sin = math.cos(angle), math.sin(angle)
    turned: Points = points @ np.array([[cos, sin], [-sin, cos]])
    return turned


def moved(points: Points, dx: float, dy: float) -> Points:
    """Move ``points`` by ``dx`` to the right and ``dy`` down."""
    away: Points = points + np.array([dx, dy])
    return away


def ellipse(
    x: float, y: float, rx: float, ry: float, *, turn: float = 0.0, points: int = 40
) -> Points:
    """Outline of an ellipse."""
    angle = np.linspace(0, 2 * math.pi, points, endpoint=False)
    about = np.column_stack([rx * np.cos(angle), ry * np.sin(angle)])
    return moved(rotated(about, turn), x, y)


def smooth(knots: ArrayLike, *, closed: bool = False, steps: int = 8) -> Points:
    """Catmull-Rom curve through ``knots`` [knot, 2], ``steps`` points from each to the next."""
    knot = np.asarray(knots, dtype=np.float64)
    before, after = (knot[-1:], knot[:2]) if closed else (knot[:1], knot[-1:])
    ring = np.concatenate([before, knot, after])
    p0, p1, p2, p3 = (ring[i : len(ring) - 3 + i, None, :] for i in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    flat = curve.reshape(-1, 2)
    return flat if closed else np.concatenate([flat, knot[-1:]])


def capsule(a: ArrayLike, b: ArrayLike, radius_a: float, radius_b: float) -> Points:
    """Outline of a limb from ``a`` to ``b``: two round ends joined by straight sides."""
    start, end = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    along = math.atan2(end[1] - start[1], end[0] - start[0])
    angle = np.linspace(-math.pi / 2, math.pi / 2, 10) + along
    arc = np.column_stack([np.cos(angle), np.sin(angle)])
    return np.concatenate([end + radius_b * arc, start - radius_a * arc])


def hull(points: Points) -> Points:
    """Convex hull of ``points`` (Andrew's monotone chain)."""
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))].tolist()
    outline: list[list[float]] = []
    for way in (ordered, ordered[::-1]):
        chain: list[list[float]] = []
        for x, y in way:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append([x, y])
        outline += chain[:-1]
    return np.array(outline)


def noise(rng: np.random.Generator, size: int, exponent: float = 1.0) -> Picture:
    """Noise [size, size] with mean 0, variance 1 and an amplitude spectrum of 1/f**exponent."""
    fall = np.exp(-exponent * _log_frequency(size))
    fall[0, 0] = 0.0  # no mean
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * fall, s=(size, size))
    return np.asarray(field / field.std(), dtype=np.float64)


@lru_cache(maxsize=2)
def _log_frequency(size: int) -> Picture:
    """Logarithm of every spatial frequency of a picture's half spectrum, 0 at the mean."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = 1.0
    return np.asarray(np.log(frequency), dtype=np.float64)


def ramp(rng: np.random.Generator, size: int) -> Picture:
    """A straight gradient from -1 to 1 in a random direction, [size, size]."""
    angle = rng.uniform(0, 2 * math.pi)
    axis = np.linspace(-1, 1, size)
    field = math.cos(angle) * axis[None, :] + math.sin(angle) * axis[:, None]
    return np.asarray(field / np.abs(field).max(), dtype=np.float64)


def background(
    rng: np.random.Generator, size: int, avoid: Sequence[float] = (), gap: float = 48
) -> Picture:
    """Background of an object: plain, a gradient, 1/f noise, or both, at any level.

    All object categories use it, so the background does not reveal the category. The level is at
    least ``gap`` greys from every grey in ``avoid``, so that the object stays visible.
    """
    levels = np.arange(45.0, 211.0)
    free = [level for level in levels if all(abs(level - grey) >= gap for grey in avoid)]
    field = np.full((size, size), rng.choice(free if free else levels))
    kind = rng.choice(["plain", "gradient", "noise", "both"], p=[0.2, 0.25, 0.3, 0.25])
    if kind in ("gradient", "both"):
        field += rng.uniform(8, 38) * ramp(rng, size)
    if kind in ("noise", "both"):
        field += rng.uniform(4, 16) * noise(rng, size, rng.uniform(0.9, 1.6))
    return field


def developed(picture: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Convert a drawn picture to 8 bits, with random brightness and contrast.

    Mean and standard deviation have the same distributions in every category, so neither reveals
    the category. They leave 2.8 standard deviations on the nearer side, for the Gaussian histogram
    that phase scrambling gives any picture. Contrast is lower if more than a hundredth of the
    pixels would exceed the range at either end.
    """
    mean = rng.uniform(96, 160)
    spread = rng.uniform(0.6, 1.0) * min(mean, 255 - mean) / 2.8
    centred = picture - picture.mean()
    darkest, brightest = np.quantile(centred, (0.01, 0.99))
    gains = (spread / max(centred.std(), 1e-9), mean / -darkest, (255 - mean) / brightest, 2.2)
    exposed = np.rint(mean + min(gains) * centred)
    return np.asarray(np.clip(exposed, 0, 255), dtype=np.uint8)
