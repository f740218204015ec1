"""Geometry of a head: its contour, and the projection of face coordinates onto it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .canvas import Frame, Points, smooth


@dataclass(frozen=True)
class Head:
    """One person's head and its pose."""

    frame: Frame
    yaw: float
    pitch: float
    width: float
    jaw: float
    chin: float
    skin: float
    hair: float
    style: str
    age: float

    def __call__(self, points: ArrayLike, lift: float = 0.0) -> Points:
        """Project flat face coordinates [point, 2] onto the head, ``lift`` above the skin."""
        flat = np.asarray(points, dtype=np.float64)
        x, y = flat[:, 0], flat[:, 1]
        round_ = 1 - (x / (1.05 * self.width)) ** 2 - (y / 1.25) ** 2
        z = 0.75 * np.sqrt(np.clip(round_, 0, None)) + lift
        turned_x = x * math.cos(self.yaw) + z * math.sin(self.yaw)
        turned_y = y * math.cos(self.pitch) + z * math.sin(self.pitch)
        return self.frame(np.column_stack([turned_x, turned_y]))

    def outline(self, margin: float = 0.0) -> Points:
        """Contour of the head in its own coordinates, grown by ``margin``: 14 knots, smoothed."""
        w = self.width
        right = [(0.52 * w, -0.9), (0.9 * w, -0.5), (w, -0.05), (0.94 * w, 0.35)]
        right += [(self.jaw * w, 0.7), (self.chin * w, 0.95)]
        left = [(-x, y) for x, y in reversed(right)]
        knots = np.array([(0.0, -1.0), *right, (0.0, 1.0), *left])
        # Turning moves the chin with the face, and the back of the skull the other way.
        knots[:, 0] += math.sin(self.yaw) * (0.12 + 0.32 * knots[:, 1])
        knots[:, 1] += math.sin(self.pitch) * 0.5
        return smooth(knots * (1 + margin), closed=True)
