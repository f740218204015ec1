"""Scenes that fill the picture, indoors and outdoors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .built import draw_corridor, draw_room, draw_street
from .canvas import Picture
from .nature import draw_beach, draw_forest, draw_hills

KINDS: dict[str, Callable[[np.random.Generator, int], Picture]] = {
    "room": draw_room,
    "corridor": draw_corridor,
    "street": draw_street,
    "hills": draw_hills,
    "beach": draw_beach,
    "forest": draw_forest,
}


def draw_scene(rng: np.random.Generator, size: int) -> Picture:
    """A random scene, greys [size, size]."""
    return KINDS[str(rng.choice(list(KINDS)))](rng, size)
