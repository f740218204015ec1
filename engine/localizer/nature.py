"""Scenes without buildings: hills, a beach, a forest, and the sky above them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from .canvas import Canvas, Picture, Points, ellipse, moved, noise, smooth


def sky(rng: np.random.Generator, size: int, horizon: float) -> Picture:
    """A sky that brightens towards ``horizon``, with or without clouds, [size, size]."""
    top, bottom = rng.uniform(95, 175), rng.uniform(185, 240)
    down = np.clip(np.linspace(0, 1, size) / max(horizon, 0.1), 0, 1)[:, None]
    field = top + (bottom - top) * down + np.zeros((1, size))
    if rng.random() < 0.75:
        # Clouds are the peaks of 1/f noise, flattened towards the horizon.
        rows = np.clip((down[:, 0] ** 1.6 * size * 1.2).astype(int), 0, size - 1)
        billow = noise(rng, size, rng.uniform(1.5, 1.9))[rows]
        cover = 1 / (1 + np.exp(-3 * (billow - rng.uniform(-0.3, 1.2))))
        field += cover * rng.uniform(0.5, 1.0) * (rng.uniform(225, 255) - field)
    return field


def draw_hills(rng: np.random.Generator, size: int) -> Picture:
    """Layered ridges with trees, sometimes peaks at the back or a road at the front."""
    canvas, horizon = Canvas(size), rng.uniform(0.3, 0.55)
    count = int(rng.integers(3, 6))
    far, near = rng.uniform(140, 190), rng.uniform(50, 110)
    if rng.random() < 0.5:
        _peaks(canvas, rng, horizon, far)
    for k in range(count):
        nearness = k / (count - 1)
        base = horizon + 0.05 + nearness * (0.92 - horizon) * 0.8
        crest = _ridge(rng, base, 0.05 + 0.07 * rng.random(), rng.uniform(0.5, 1.6))
        grey = far + nearness * (near - far) + rng.normal(0, 9)
        canvas.polygon(_grounded(crest), grey)
        _tufts(canvas, rng, crest, grey, 0.006 + 0.02 * nearness)
        for _ in range(int(rng.integers(2, 12))):
            x, y = crest[rng.integers(len(crest))]
            tall = (0.05 + 0.2 * nearness) * rng.uniform(0.6, 1.3)
            tree(canvas, rng, x, y + 0.3 * tall * rng.random(), tall, 0.68 * grey)
    if rng.random() < 0.45:
        _road(canvas, rng, base, rng.uniform(150, 215))
    canvas.light(np.exp(0.05 * noise(rng, size, 1.0)))
    return canvas.over(sky(rng, size, horizon))


def draw_beach(rng: np.random.Generator, size: int) -> Picture:
    """Sea below the horizon, surf along a slanting shore, sand in front."""
    canvas, horizon = Canvas(size), rng.uniform(0.28, 0.5)
    deep, sand = rng.uniform(70, 130), rng.uniform(165, 220)
    shore, slant = rng.uniform(0.62, 0.85), rng.uniform(-0.2, 0.2)
    if rng.random() < 0.6:
        side = float(rng.integers(2))
        crest = _ridge(rng, horizon, 0.09, 1.2)
        crest[:, 1] -= 0.09 * np.clip(1 - 2 * np.abs(crest[:, 0] - side), 0, 1)
        canvas.polygon(_grounded(crest), rng.uniform(85, 130))
    for y in np.linspace(horizon, 1, 30):
        nearness = (y - horizon) / (1 - horizon)
        slab = np.array([(-0.1, y), (1.1, y), (1.1, 1.1), (-0.1, 1.1)])
        canvas.polygon(slab, deep + 55 * nearness)
    for _ in range(130):
        nearness = rng.random() ** 1.5
        x, y = rng.uniform(-0.1, 1), horizon + 0.01 + nearness * (1 - horizon)
        long, swell = 0.03 + 0.25 * nearness, 0.012 * nearness
        line = smooth([(x, y), (x + long / 2, y - swell), (x + long, y)], steps=4)
        grey = deep + 55 * nearness + rng.choice([-22.0, 30.0])
        canvas.stroke(line, 0.002 + 0.008 * nearness, grey)
    edge = [
        (x, shore + slant * (x - 0.5) + rng.normal(0, 0.018)) for x in np.linspace(-0.1, 1.1, 9)
    ]
    for drop, grey in ((-0.035, 235.0), (-0.012, 0.72 * sand), (0.03, 0.86 * sand), (0.08, sand)):
        canvas.polygon(_grounded(moved(smooth(edge), 0, drop)), grey)
    _tufts(canvas, rng, moved(smooth(edge), 0, 0.1), sand, 0.012)
    thing = rng.integers(4)
    if thing == 0:
        _palm(canvas, rng, rng.uniform(0.12, 0.88), rng.uniform(0.85, 0.98), rng.uniform(0.5, 0.75))
    elif thing == 1:
        _parasol(canvas, rng, rng.uniform(0.2, 0.8), 0.93, rng.uniform(0.22, 0.38))
    elif thing == 2:
        _boat(canvas, rng, rng.uniform(0.2, 0.8), horizon + rng.uniform(0.02, 0.07))
    canvas.light(np.exp(0.035 * noise(rng, size, 1.0)))
    return canvas.over(sky(rng, size, horizon))


def draw_forest(rng: np.random.Generator, size: int) -> Picture:
    """Trunks from misty at the back to textured at the front, leaves above, a path between."""
    canvas, horizon = Canvas(size), rng.uniform(0.42, 0.6)
    mist, floor, bark = rng.uniform(165, 225), rng.uniform(80, 140), rng.uniform(35, 75)
    canvas.polygon(np.array([(-0.1, -0.1), (1.1, -0.1), (1.1, 1.1), (-0.1, 1.1)]), mist)
    for y in np.linspace(horizon, 1, 24):
        slab = np.array([(-0.1, y), (1.1, y), (1.1, 1.1), (-0.1, 1.1)])
        canvas.polygon(slab, mist + (floor - mist) * ((y - horizon) / (1 - horizon)) ** 0.6)
    if rng.random() < 0.6:
        _road(canvas, rng, horizon, min(225, floor + 65))
    depths = np.sort(rng.random(int(rng.integers(16, 34))) ** 1.6)
    for nearness in depths:
        grey = mist + (bark - mist) * (0.25 + 0.75 * nearness)
        foot = horizon + 0.02 + nearness * (1.0 - horizon)
        x = rng.uniform(-0.05, 1.05)
        if nearness > 0.4 and abs(x - 0.5) < 0.18:
            x += 0.3 * math.copysign(1, x - 0.5)  # keeps the middle open, for depth
        _trunk(canvas, rng, x, foot, 0.012 + 0.09 * nearness, grey)
    _tufts(canvas, rng, np.array([(0.0, horizon + 0.1), (1.0, horizon + 0.1)]), floor, 0.04)
    for _ in range(int(rng.integers(90, 170))):
        x, y = rng.uniform(-0.05, 1.05), abs(rng.normal(0, 0.13))
        r = rng.uniform(0.015, 0.05)
        leaf = ellipse(x, y, r, 0.7 * r, turn=rng.uniform(0, 3), points=9)
        canvas.polygon(leaf, rng.uniform(0.8, 1.6) * bark + 300 * max(0.0, y - 0.1))
    canvas.light(np.exp(0.06 * noise(rng, size, 1.1)))
    return canvas.over(np.full((size, size), mist))


def tree(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, tall: float, grey: float
) -> None:
    """A tree that stands at (x, y): a conifer, or a round crown of overlapping tufts."""
    trunk = np.array([(-0.05, 0), (0.05, 0), (0.03, -0.5), (-0.03, -0.5)]) * tall + (x, y)
    canvas.polygon(trunk, 0.6 * grey)
    if rng.random() < 0.4:
        for k in range(4):
            top, half = y - tall * (0.52 + 0.16 * k), tall * (0.27 - 0.05 * k)
            skirt = [(x - half, top + 0.34 * tall), (x + half, top + 0.34 * tall), (x, top)]
            canvas.polygon(np.array(skirt), grey * (0.8 + 0.1 * k))
        return
    for k in range(14):
        dx, dy = rng.normal(0, 0.14, 2) * tall
        r = tall * rng.uniform(0.11, 0.18)
        lit = 0.75 + 0.03 * k - 0.8 * dy / tall - 0.3 * dx / tall
        canvas.polygon(ellipse(x + dx, y - 0.68 * tall + dy, r, 0.9 * r, points=11), grey * lit)


def _ridge(rng: np.random.Generator, base: float, rise: float, rough: float) -> Points:
    """A crest across the picture: a few sines of decreasing amplitude."""
    x = np.linspace(-0.1, 1.1, 80)
    y = np.full_like(x, base)
    for octave in range(5):
        amplitude = rise / 2 ** (1.6 * octave / rough) if octave else rise
        y += amplitude * np.sin(2**octave * rng.uniform(3, 6) * x + rng.uniform(0, 7))
    return np.column_stack([x, y])


def _grounded(crest: Points) -> Points:
    return np.concatenate([crest, [(1.1, 1.1), (-0.1, 1.1)]])


def _peaks(canvas: Canvas, rng: np.random.Generator, horizon: float, grey: float) -> None:
    """Snow-capped mountains, lit from one side."""
    down = np.linspace(0, 1, 9)
    for x in rng.uniform(0, 1, int(rng.integers(2, 5))):
        tall, half = rng.uniform(0.15, 0.32), rng.uniform(0.2, 0.38)
        y = horizon + 0.12 - tall * (1 - down)
        jag = rng.normal(0, 0.012, (3, 9)) * (down > 0)
        left, right = x - half * down**1.2 + jag[0], x + half * down**1.1 + jag[1]
        ridge = x + 0.04 * np.sin(7 * down) + jag[2]
        for edge, tone in ((left, 1.0), (right, 0.72)):
            slope = np.concatenate([np.column_stack([edge, y]), np.column_stack([ridge, y])[::-1]])
            canvas.polygon(slope, tone * grey)
            # Snow lies on the upper third of both sides, and comes down in tongues.
            snow = slope[[0, 1, 2, 3, 15, 16, 17]]
            snow[3, 1] += rng.uniform(-0.02, 0.03)
            canvas.polygon(snow, 245 * (0.6 + 0.4 * tone))


def _road(canvas: Canvas, rng: np.random.Generator, top: float, grey: float) -> None:
    """A winding path that widens towards the viewer."""
    down = np.linspace(0, 1, 24)
    middle = 0.5 + rng.normal(0, 0.08) + rng.uniform(-0.2, 0.2) * np.sin(rng.uniform(2, 5) * down)
    half, y = 0.012 + rng.uniform(0.1, 0.2) * down**1.3, top + (1.05 - top) * down**1.2
    left, right = np.column_stack([middle - half, y]), np.column_stack([middle + half, y])
    canvas.polygon(np.concatenate([left, right[::-1]]), grey)
    for edge in (left, right):
        canvas.stroke(edge, 0.006, 0.7 * grey)


def _tufts(
    canvas: Canvas, rng: np.random.Generator, crest: Points, grey: float, long: float
) -> None:
    """Short strokes below ``crest``, longer towards the viewer, as grass or ripples."""
    for _ in range(70):
        x, y = crest[rng.integers(len(crest))]
        x += rng.uniform(-0.5, 0.5) if len(crest) < 3 else 0.0
        y += (1.0 - y) * rng.random()
        lean = rng.normal(0, 0.4) * long
        blade = np.array([(x, y), (x + lean, y - long * rng.uniform(0.4, 1.2))])
        canvas.stroke(blade, 0.003, grey + rng.normal(0, 17))


def _trunk(
    canvas: Canvas, rng: np.random.Generator, x: float, foot: float, wide: float, grey: float
) -> None:
    """A bare trunk up to the top of the picture, darker on one side, with some branches."""
    lean, half = rng.normal(0, 0.03), wide / 2
    for from_, to, tone in ((-1.0, 1.0, 1.0), (0.1, 1.0, 0.84), (0.55, 1.0, 0.7)):
        outline = [(x + from_ * half, foot), (x + lean + 0.6 * from_ * half, -0.1)]
        outline += [(x + lean + 0.6 * to * half, -0.1), (x + 1.1 * to * half, foot)]
        canvas.polygon(np.array(outline), grey * tone)
    for _ in range(int(rng.integers(0, 3))):
        y, side = rng.uniform(0.05, 0.4), rng.choice([-1.0, 1.0])
        twig = [
            (x + 0.6 * lean, y),
            (x + side * 2 * wide, y - wide),
            (x + side * 4 * wide, y - 2.5 * wide),
        ]
        canvas.stroke(smooth(twig), 0.22 * wide, grey)
    for _ in range(int(200 * wide)):
        at = x + rng.uniform(-0.8, 0.8) * half
        y = rng.uniform(0, foot - 0.05)
        canvas.stroke(np.array([(at, y), (at, y + 0.05)]), 0.003, grey * rng.choice([0.6, 1.25]))


def _palm(canvas: Canvas, rng: np.random.Generator, x: float, y: float, tall: float) -> None:
    lean, grey = rng.uniform(-0.18, 0.18), rng.uniform(45, 85)
    spine = smooth([(x, y), (x + 0.3 * lean, y - 0.5 * tall), (x + lean, y - tall)])
    for k, (start, end) in enumerate(pairwise(spine)):
        canvas.stroke(np.array([start, end]), 0.035 - 0.0009 * k, grey * (1.2 if k % 2 else 1.0))
    for angle in np.linspace(-0.5, math.pi + 0.5, 9) + rng.normal(0, 0.1, 9):
        reach = rng.uniform(0.16, 0.24)
        tip = spine[-1] + reach * np.array([math.cos(angle), 0.25 - 0.6 * math.sin(angle)])
        rib = smooth([spine[-1], (spine[-1] + tip) / 2 - (0, 0.05), tip])
        drop = np.linspace(0.01, 0.045, len(rib))[:, None] * (0, 1)
        canvas.polygon(np.concatenate([rib, (rib + drop)[::-1]]), grey * rng.uniform(0.7, 1.3))


def _parasol(canvas: Canvas, rng: np.random.Generator, x: float, y: float, tall: float) -> None:
    canvas.polygon(ellipse(x + 0.1, y, 0.16, 0.025), 100)
    canvas.stroke(np.array([(x, y), (x, y - tall)]), 0.01, 60)
    edges = np.linspace(-1, 1, 7) * 0.6 * tall
    greys = rng.permutation([60.0, 235.0])
    for k, (left, right) in enumerate(pairwise(edges)):
        rim = [(x + left, y - 0.62 * tall), (x + right, y - 0.62 * tall)]
        arch = smooth([rim[1], (x + 0.75 * right, y - 0.85 * tall), (x, y - 1.02 * tall)])
        back = smooth([(x, y - 1.02 * tall), (x + 0.75 * left, y - 0.85 * tall), rim[0]])
        canvas.polygon(np.concatenate([arch, back]), greys[k % 2])


def _boat(canvas: Canvas, rng: np.random.Generator, x: float, y: float) -> None:
    long = rng.uniform(0.06, 0.16)
    deck = np.array([(-1, -0.25), (1, -0.25), (0.7, 0.15), (-0.75, 0.15)]) * long / 2
    canvas.polygon(moved(deck, x, y), rng.uniform(30, 70))
    for sail in (
        [(0.03, -0.3), (0.03, -2.2), (0.8, -0.4)],
        [(-0.06, -0.3), (-0.06, -2.0), (-0.7, -0.4)],
    ):
        canvas.polygon(np.array(sail) * long / 2 + (x, y), rng.uniform(215, 250))
