"""Built scenes in perspective: rooms, corridors and streets.

The camera looks along z from the origin; x runs to the right, y downwards from eye height, both
in metres. Nearer things are drawn later.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from .canvas import Canvas, Picture, Points, noise
from .nature import sky, tree

# Walls begin this close to the camera, always well outside the picture.
NEAR = 0.7
EYE = 1.55  # metres above the floor


@dataclass(frozen=True)
class Camera:
    """A canvas, its vanishing point, and the focal length."""

    canvas: Canvas
    ahead: tuple[float, float]
    focal: float

    def seen(self, points: ArrayLike) -> Points:
        """Project points in space [point, 3] to the picture [point, 2]."""
        space = np.asarray(points, dtype=np.float64)
        return self.focal * space[:, :2] / np.maximum(space[:, 2:], NEAR / 2) + self.ahead

    def quad(self, points: ArrayLike, grey: float) -> None:
        """Fill a polygon given by its corners in space."""
        self.canvas.polygon(self.seen(points), grey)

    def line(self, points: ArrayLike, width: float, grey: float) -> None:
        """Draw a line through points in space."""
        self.canvas.stroke(self.seen(points), width, grey)

    def across(
        self, z: float, left: float, top: float, right: float, bottom: float, grey: float
    ) -> None:
        """An upright rectangle facing the camera."""
        self.quad([(left, top, z), (right, top, z), (right, bottom, z), (left, bottom, z)], grey)

    def along(
        self, x: float, near: float, top: float, far: float, bottom: float, grey: float
    ) -> None:
        """An upright rectangle on a side wall."""
        self.quad([(x, top, near), (x, top, far), (x, bottom, far), (x, bottom, near)], grey)

    def level(
        self, y: float, left: float, near: float, right: float, far: float, grey: float
    ) -> None:
        """A horizontal rectangle."""
        self.quad([(left, y, near), (right, y, near), (right, y, far), (left, y, far)], grey)

    def box(
        self, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], grey: float
    ) -> None:
        """The visible sides of a block between two corners, lit from above."""
        if y[0] > 0:
            self.level(y[0], x[0], z[0], x[1], z[1], 1.2 * grey)
        if x[0] > 0 or x[1] < 0:
            self.along(x[0] if x[0] > 0 else x[1], z[0], y[0], z[1], y[1], 0.7 * grey)
        self.across(z[0], x[0], y[0], x[1], y[1], grey)


@dataclass(frozen=True)
class Hall:
    """An interior: half its width, ceiling (negative) and floor, depth, and greys."""

    half: float
    ceiling: float
    depth: float
    walls: float
    floor: float
    top: float

    def dimmed(self, grey: float, z: float) -> float:
        """``grey`` darkened with the distance."""
        return grey * (1.08 - 0.45 * z / self.depth)


def draw_corridor(rng: np.random.Generator, size: int) -> Picture:
    """A long passage with doors, lamps and a far end."""
    canvas = Canvas(size)
    ahead = 0.5 + rng.uniform(-0.17, 0.17), 0.48 + rng.uniform(-0.1, 0.1)
    camera = Camera(canvas, ahead, rng.uniform(0.65, 0.95))
    greys = rng.permutation([rng.uniform(55, 105), rng.uniform(125, 165), rng.uniform(185, 235)])
    hall = Hall(rng.uniform(1.0, 1.7), EYE - rng.uniform(2.4, 3.1), rng.uniform(9, 24), *greys)
    _shell(camera, hall, rng)
    door, spacing = rng.uniform(35, 215), rng.uniform(2.4, 4.0)
    lamp = bool(rng.random() < 0.7)
    for z in np.arange(rng.uniform(1.4, 2.4), hall.depth - 1.2, spacing)[::-1]:
        for side in (-1.0, 1.0):
            if rng.random() < 0.85:
                _side_door(camera, hall, side * hall.half, float(z), door)
        if lamp:
            camera.level(hall.ceiling, -0.35, z, 0.35, z + 0.9, 252)
    wide, end = 0.5 * hall.half, hall.depth
    if rng.random() < 0.5:
        camera.across(end, -wide, EYE - 2.0, wide, EYE, hall.dimmed(door, end))
    else:
        camera.across(end, -wide, hall.ceiling + 0.5, wide, EYE - 0.8, 250)
        camera.line([(0, hall.ceiling + 0.5, end), (0, EYE - 0.8, end)], 0.006, 90)
    return _lit(canvas, rng, size)


def draw_room(rng: np.random.Generator, size: int) -> Picture:
    """A furnished room with a window, a picture or a door at the back."""
    canvas = Canvas(size)
    ahead = 0.5 + rng.uniform(-0.2, 0.2), 0.45 + rng.uniform(-0.1, 0.08)
    camera = Camera(canvas, ahead, rng.uniform(0.6, 0.85))
    greys = rng.uniform(130, 215), rng.uniform(65, 160), rng.uniform(180, 235)
    hall = Hall(rng.uniform(1.7, 2.7), EYE - rng.uniform(2.4, 3.0), rng.uniform(3.4, 6.0), *greys)
    _shell(camera, hall, rng)
    _back_wall(camera, hall, rng)
    for side in (-1.0, 1.0):
        near, wide = rng.uniform(0.35, 0.55) * hall.depth, rng.uniform(0.9, 1.4)
        x = side * hall.half
        if rng.random() < 0.5:
            _side_door(camera, hall, x, near, rng.uniform(50, 210))
        else:
            camera.along(x, near, -0.75, near + wide, 0.55, 60)
            camera.along(x, near + 0.06, -0.69, near + wide - 0.06, 0.49, 248)
            camera.along(x, near + wide / 2 - 0.03, -0.7, near + wide / 2 + 0.03, 0.5, 70)
    if rng.random() < 0.6:
        rug = hall.half * rng.uniform(0.35, 0.6)
        grey = rng.uniform(60, 220)
        camera.level(EYE, -rug, 1.6, rug, 0.8 * hall.depth, grey)
        camera.level(EYE, -0.85 * rug, 1.75, 0.85 * rug, 0.76 * hall.depth, 0.8 * grey)
    _furniture(camera, hall, rng)
    return _lit(canvas, rng, size)


def draw_street(rng: np.random.Generator, size: int) -> Picture:
    """A road between two rows of houses or towers, with trees and lamp posts."""
    canvas, horizon = Canvas(size), rng.uniform(0.45, 0.62)
    camera = Camera(canvas, (0.5 + rng.uniform(-0.18, 0.18), horizon), rng.uniform(0.55, 0.85))
    road, half = rng.uniform(75, 130), rng.uniform(2.6, 4.5)
    for z in np.geomspace(90, NEAR, 26):
        camera.level(EYE, -60, NEAR / 2, 60, z, road + 60 + 18 * z / 90)
    camera.level(EYE, -half, NEAR / 2, half, 90, road)
    for x in (-half, half):
        camera.line([(x, EYE, NEAR), (x, EYE, 90)], 0.008, road + 95)
    for z in np.arange(1.2, 60, 3.2):
        camera.level(EYE, -0.09, z, 0.09, z + 1.5, 225)
    towers, pavement = bool(rng.random() < 0.35), rng.uniform(1.4, 3.0)
    gap = 0.3 if towers else rng.uniform(0.8, 3.0)
    for z in np.arange(rng.uniform(3, 5), 62, rng.uniform(6.5, 8.5))[::-1]:
        for side in (-1.0, 1.0):
            if rng.random() < 0.92:
                _house(camera, rng, side, half + pavement, float(z), 7.0 - gap, towers)
            x, y = camera.seen([(side * (half + 0.7), EYE, z - 1.0)])[0]
            tall = camera.focal / max(z - 1.0, 1.0)
            if rng.random() < 0.4:
                tree(canvas, rng, x, y, 4.2 * tall, rng.uniform(60, 110))
            elif rng.random() < 0.4:
                post = np.array(
                    [(x, y), (x, y - 4.5 * tall), (x - side * 0.9 * tall, y - 4.6 * tall)]
                )
                canvas.stroke(post, 0.1 * tall, 45)
    canvas.light(np.exp(0.035 * noise(rng, size, 1.0)))
    return canvas.over(sky(rng, size, horizon))


def _shell(camera: Camera, hall: Hall, rng: np.random.Generator) -> None:
    """Floor, ceiling and walls in slices that darken with distance; boards or tiles."""
    w, depth = hall.half, hall.depth
    edges = np.geomspace(NEAR, depth, 16)
    for near, far in pairwise(edges):
        camera.level(EYE, -w, near, w, far, hall.dimmed(hall.floor, near))
        camera.level(hall.ceiling, -w, near, w, far, hall.dimmed(hall.top, near))
        camera.along(-w, near, hall.ceiling, far, EYE, hall.dimmed(hall.walls, near))
        camera.along(w, near, hall.ceiling, far, EYE, hall.dimmed(0.85 * hall.walls, near))
        for x in (-w, w):
            camera.along(x, near, EYE - 0.14, far, EYE, hall.dimmed(0.6 * hall.walls, near))
    camera.across(depth, -w, hall.ceiling, w, EYE, hall.dimmed(hall.walls, 0.8 * depth))
    camera.across(depth, -w, EYE - 0.14, w, EYE, hall.dimmed(0.6 * hall.walls, depth))
    joint = 0.78 * hall.floor
    for x in np.arange(-w, w, rng.uniform(0.25, 0.7)):
        camera.line([(x, EYE, NEAR), (x, EYE, depth)], 0.003, joint)
    if rng.random() < 0.5:
        for z in np.arange(NEAR, depth, 0.6):
            camera.line([(-w, EYE, z), (w, EYE, z)], 0.003, joint)


def _side_door(camera: Camera, hall: Hall, x: float, z: float, grey: float) -> None:
    shade = hall.dimmed(grey, z)
    camera.along(x, z - 0.08, EYE - 2.1, z + 1.0, EYE, 0.55 * shade)
    camera.along(x, z, EYE - 2.03, z + 0.92, EYE, shade)
    for top, bottom in ((-0.35, 0.35), (0.55, 1.35)):
        camera.along(x, z + 0.15, top, z + 0.77, bottom, 0.85 * shade)
    camera.along(x, z + 0.05, 0.42, z + 0.12, 0.5, 230 if shade < 130 else 30)


def _back_wall(camera: Camera, hall: Hall, rng: np.random.Generator) -> None:
    z, kind = hall.depth, rng.integers(3)
    middle = rng.uniform(-0.3, 0.3) * hall.half
    if kind == 0:
        camera.across(z, middle - 0.55, EYE - 2.1, middle + 0.55, EYE, 60)
        camera.across(z, middle - 0.47, EYE - 2.03, middle + 0.47, EYE, rng.uniform(90, 215))
        camera.across(z, middle + 0.32, 0.42, middle + 0.4, 0.5, 30)
        return
    half, top = rng.uniform(0.5, 0.6 * hall.half), rng.uniform(-0.9, -0.6)
    camera.across(z, middle - half - 0.06, top - 0.06, middle + half + 0.06, 0.5, 50)
    if kind == 1:
        camera.across(z, middle - half, top, middle + half, 0.44, 250)
        camera.across(z, middle - half, 0.1, middle + half, 0.44, 190)
        for x in np.linspace(-half, half, int(rng.integers(3, 5))):
            camera.across(z, middle + x - 0.025, top, middle + x + 0.025, 0.44, 70)
        camera.across(z, middle - half, -0.2, middle + half, -0.15, 70)
        return
    for k, grey in enumerate(rng.uniform(60, 230, 5)):
        left = middle - half + 2 * half * k / 5
        camera.across(z, left, top + 0.12 * k, middle + half, 0.44, grey)


def _furniture(camera: Camera, hall: Hall, rng: np.random.Generator) -> None:
    """A cupboard, a bed or sofa along a wall, and a table, far ones first."""
    w, end = hall.half, hall.depth
    sides = rng.permutation([-1.0, 1.0])
    grey, deep = rng.uniform(50, 190), rng.uniform(0.5, 0.7)
    x = sorted((sides[0] * w, sides[0] * (w - 0.9)))
    camera.box((x[0], x[1]), (rng.uniform(-0.6, 0.7), EYE), (end - deep, end), grey)
    long, grey = rng.uniform(1.2, 2.0), rng.uniform(60, 215)
    near = max(1.3, end - deep - long - 0.4)
    x = sorted((sides[1] * w, sides[1] * (w - 1.0)))
    camera.box((x[0], x[1]), (1.05, EYE), (near, near + long), grey)
    back = sorted((sides[1] * w, sides[1] * (w - 0.25)))
    camera.box((back[0], back[1]), (0.6, 1.06), (near, near + long), 0.8 * grey)
    if rng.random() < 0.6:
        middle, z, grey = rng.uniform(-0.4, 0.4), 0.55 * end, rng.uniform(40, 200)
        for dx in (-0.55, 0.49):
            for dz in (0.7, 0.0):
                leg = middle + dx
                camera.box((leg, leg + 0.06), (0.85, EYE), (z + dz, z + dz + 0.06), 0.7 * grey)
        camera.box((middle - 0.6, middle + 0.6), (0.8, 0.87), (z, z + 0.8), grey)


def _house(
    camera: Camera,
    rng: np.random.Generator,
    side: float,
    x: float,
    z: float,
    long: float,
    tower: bool,
) -> None:
    """One building of a row: the front towards the road, and the gable towards the camera."""
    haze = z / 90
    grey = rng.uniform(75, 215) * (1 - haze) + 185 * haze
    storeys = int(rng.integers(4, 10)) if tower else int(rng.integers(1, 4))
    inner, outer = side * x, side * (x + rng.uniform(5, 8))
    eaves, far = EYE - 0.3 - 2.8 * storeys, z + long
    camera.across(z, min(inner, outer), eaves, max(inner, outer), EYE, grey)
    camera.along(inner, z, eaves, far, EYE, 0.78 * grey)
    if not tower:
        ridge, top = (inner + outer) / 2, eaves - rng.uniform(1.6, 3.0)
        roof = rng.uniform(45, 120) * (1 - haze) + 170 * haze
        slope = [
            (inner - side * 0.3, eaves + 0.15, z - 0.2),
            (inner - side * 0.3, eaves + 0.15, far),
        ]
        camera.quad([(inner, eaves, z), (outer, eaves, z), (ridge, top, z)], grey)
        camera.quad([*slope, (ridge, top, far), (ridge, top, z - 0.2)], roof)
    pane = (0.32 if grey > 110 else 1.7) * grey
    for storey in range(storeys):
        low = EYE - 0.9 - 2.8 * storey
        for start in np.arange(z + 0.7, far - 0.9, 1.9):
            if storey == 0 and not tower and start < z + 1.5:
                camera.along(inner, start, EYE - 2.1, start + 0.95, EYE, 0.5 * grey)
                continue
            camera.along(inner, start, low - 1.4, start + 0.95, low, pane)
        for start in np.arange(1.0, abs(outer - inner) - 1.2, 2.2):
            left = inner + side * start
            camera.across(z, min(left, left + side), low - 1.4, max(left, left + side), low, pane)


def _lit(canvas: Canvas, rng: np.random.Generator, size: int) -> Picture:
    canvas.light(np.exp(0.05 * noise(rng, size, 1.3)))
    return canvas.over(np.full((size, size), 128.0))
