"""Hair and beards of several styles, in the coordinates of a head."""

from __future__ import annotations

import math

import numpy as np

from .canvas import Canvas, Points, ellipse, moved, smooth
from .head import Head


def hair_behind(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    """Hair behind the head, drawn before it."""
    sway = -0.1 * math.sin(head.yaw)
    if head.style == "long":
        wide, end = head.width * rng.uniform(1.2, 1.45), rng.uniform(0.75, 1.25)
        side = [(0.7 * wide, -0.85), (wide, -0.3), (1.02 * wide, 0.4), (0.95 * wide, end)]
        other = [(-x, y) for x, y in reversed(side)]
        ends = [(0.4 * wide, end + 0.05), (-0.4 * wide, end + 0.05)]
        shape = moved(smooth([(0.0, -1.12), *side, *ends, *other], closed=True), sway, 0)
        canvas.polygon(head.frame(shape), 0.8 * head.hair)
        _strands(canvas, head, rng, -wide, wide, -0.6, end)
    elif head.style == "bun":
        canvas.polygon(head.frame(ellipse(2 * sway, -1.12, 0.3, 0.27)), 0.9 * head.hair)
        canvas.shade(head.frame(ellipse(2 * sway, -0.98, 0.3, 0.08)), 0.7, 0.01)
    elif head.style == "receding":
        grown = head.outline(0.06)
        canvas.polygon(head.frame(grown[(grown[:, 1] > -0.55) & (grown[:, 1] < 0.25)]), head.hair)
    elif head.style == "curly":
        _curls(canvas, head, rng, 70, rng.uniform(1.05, 1.25), front=False)


def hair_in_front(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    """Hair over the forehead and the sides, drawn after the face."""
    if head.style in ("bald", "receding"):
        canvas.shade(head(ellipse(-0.2, -0.72, 0.2, 0.1)), 1.2, 0.05 * head.frame.scale)
    if head.style == "receding":
        _tufts(canvas, head)
    elif head.style == "curly":
        _curls(canvas, head, rng, 60, 1.02, front=True)
    elif head.style != "bald":
        _cap(canvas, head, rng)


def _cap(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    """Hair over the skull, between its grown contour and the hairline."""
    low = 0.3 if head.style == "long" else rng.uniform(-0.12, 0.12)
    roots, tips = _contour(head, rng.uniform(0.05, 0.13), low), _hairline(head, rng, low)
    canvas.polygon(np.concatenate([roots, tips[::-1]]), head.hair)
    # Strands run from the contour to the hairline and stay inside the hair.
    spots = np.linspace(0, 1, len(roots))
    for _ in range(90):
        along = rng.uniform(0.02, 0.98)
        near, far = np.sort(rng.uniform(0.03, 0.97, 2))
        reach = np.linspace(near, far, 5)[:, None]
        bend = np.clip(along + rng.normal(0, 0.02) * reach**2, 0, 1)[:, 0]
        ends = [
            np.column_stack([np.interp(bend, spots, e[:, k]) for k in (0, 1)])
            for e in (roots, tips)
        ]
        canvas.stroke(
            ends[0] + reach * (ends[1] - ends[0]),
            0.018 * head.frame.scale,
            head.hair * rng.uniform(0.72, 1.25) + rng.uniform(0, 10),
        )
    shine = roots[8:-8] + 0.35 * (tips[8:-8] - roots[8:-8])
    band = np.concatenate([shine, (shine + 0.12 * (tips[8:-8] - roots[8:-8]))[::-1]])
    canvas.shade(band, rng.uniform(1.1, 1.45), 0.06 * head.frame.scale)


def _contour(head: Head, margin: float, low: float) -> Points:
    """40 points along the grown skull, from the left over the crown to the right."""
    grown = head.outline(margin)
    edge = math.sin(head.pitch) * 0.5 + low
    above = grown[grown[:, 1] < edge]
    angle = np.arctan2(above[:, 0], edge + 0.2 - above[:, 1])
    return _resampled(head.frame(above[np.argsort(angle)]), 40)


def _hairline(head: Head, rng: np.random.Generator, low: float) -> Points:
    """40 points along the hairline, from left to right."""
    w, top = head.width, rng.uniform(-0.66, -0.5)
    line = {
        "parted": [(-0.86 * w, -0.2), (-0.3 * w, -0.46), (0.34 * w, -0.74), (0.62 * w, -0.42)],
        "fringe": [(-0.9 * w, -0.15), (-0.6 * w, -0.3), (0.0, -0.33), (0.6 * w, -0.3)],
    }.get(head.style, [(-0.86 * w, -0.2), (-0.6 * w, top), (0.0, top - 0.07), (0.6 * w, top)])
    knots = [(-0.95 * w, low), *line, (0.88 * w, -0.2), (0.95 * w, low)]
    return _resampled(head(smooth(knots)), 40)


def _resampled(line: Points, count: int) -> Points:
    """``count`` equally spaced points along ``line``."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    steps = np.linspace(0, at[-1], count)
    return np.column_stack([np.interp(steps, at, line[:, k]) for k in (0, 1)])


def _tufts(canvas: Canvas, head: Head) -> None:
    """Hair at the temples only."""
    for side in (-1.0, 1.0):
        patch = [(0.99, -0.5), (0.86, -0.46), (0.9, -0.2), (0.91, 0.08), (0.98, 0.02), (1.02, -0.2)]
        knots = np.array(patch) * (side * head.width, 1)
        canvas.polygon(head(smooth(knots, closed=True)), head.hair)


def _strands(
    canvas: Canvas,
    head: Head,
    rng: np.random.Generator,
    left: float,
    right: float,
    top: float,
    end: float,
) -> None:
    """Hanging lines between two sides."""
    for x in rng.uniform(0.9 * left, 0.9 * right, 36):
        wave = rng.normal(0, 0.03, 3)
        knots = [(0.8 * x + wave[0], top), (x + wave[1], 0.2), (x + wave[2], 0.95 * end)]
        canvas.stroke(
            head.frame(smooth(knots)), 0.014 * head.frame.scale, head.hair * rng.uniform(0.6, 1.1)
        )


def _curls(
    canvas: Canvas,
    head: Head,
    rng: np.random.Generator,
    count: int,
    reach: float,
    front: bool,
) -> None:
    """Overlapping small discs, along the hairline or all around the skull."""
    contour = head.outline()
    sides = contour[contour[:, 1] < (-0.55 if front else 0.25)]
    for _ in range(count):
        at = sides[rng.integers(len(sides))] * rng.uniform(0.88 if front else 0.9, reach)
        radius = rng.uniform(0.07, 0.13)
        shade = head.hair * rng.uniform(0.7, 1.2) + 4
        canvas.polygon(head.frame(ellipse(at[0], at[1], radius, radius, points=14)), shade)


def beard(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    """Stubble, a moustache, or a full beard: drawn before the mouth."""
    kind, w = rng.choice(["stubble", "full", "moustache"]), head.width
    jaw = [(-0.95 * w, 0.15), (-0.8 * w, 0.45), (-0.34, 0.5), (0, 0.43), (0.34, 0.5)]
    jaw += [(0.8 * w, 0.45), (0.95 * w, 0.15), (0.88 * w, 0.66), (0.45 * w, 1.0), (0, 1.08)]
    jaw += [(-0.45 * w, 1.0), (-0.88 * w, 0.66)]
    outline = smooth(jaw, closed=True)
    if kind == "moustache":
        lip = [(-0.3, 0.54), (0, 0.44), (0.3, 0.54), (0.27, 0.58), (0, 0.54), (-0.27, 0.58)]
        canvas.polygon(head(smooth(lip, closed=True), lift=0.04), head.hair)
    elif kind == "stubble":
        canvas.shade(head(outline), 0.68, 0.1 * head.frame.scale)
    else:
        canvas.polygon(head(outline), head.hair)
        for at in outline[rng.integers(len(outline), size=120)]:
            start = at * rng.uniform(0.85, 1.0)
            strand = np.array([start, (1.05 * start[0], start[1] + rng.uniform(0.06, 0.13))])
            shade = head.hair * rng.uniform(0.75, 1.2) + 5
            canvas.stroke(head(strand), 0.02 * head.frame.scale, shade)
