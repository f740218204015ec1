"""Faces: a head turned in depth, with its features, under one lamp.

A head has its own coordinates: x from ear to ear, y from the crown (-1) to the chin (1), z towards
the viewer. Features are drawn flat, projected onto the curved surface, and turned with it.
"""

from __future__ import annotations

import math

import numpy as np

from .canvas import Canvas, Frame, Picture, background, ellipse, moved, noise, smooth
from .hair import beard, hair_behind, hair_in_front
from .head import Head

# Heights on the face, from the crown (-1) to the chin (1).
EYES, NOSE, MOUTH = 0.0, 0.36, 0.6


def draw_face(rng: np.random.Generator, size: int) -> Picture:
    """A face on a varied background, greys [size, size]."""
    head = _someone(rng)
    canvas = Canvas(size)
    hair_behind(canvas, head, rng)
    _neck(canvas, head, rng)
    canvas.polygon(head.frame(head.outline()), head.skin)
    _ears(canvas, head)
    _relief(canvas, head, rng)
    _eyes(canvas, head, rng)
    _nose(canvas, head, rng)
    if rng.random() < 0.28:
        beard(canvas, head, rng)
    _mouth(canvas, head, rng)
    if rng.random() < 0.45 * head.age:
        _wrinkles(canvas, head)
    hair_in_front(canvas, head, rng)
    if rng.random() < 0.2:
        _glasses(canvas, head, rng)
    canvas.light(_lamp(head, rng, size))
    return canvas.over(background(rng, size, avoid=(head.skin,)))


def _someone(rng: np.random.Generator) -> Head:
    scale = rng.uniform(0.25, 0.4)
    slack = 0.46 - scale
    centre = 0.5 + rng.uniform(-slack, slack), 0.5 + rng.uniform(-slack, slack)
    skin = rng.uniform(85, 215)
    shades = np.array([28.0, 45.0, 70.0, 100.0, 140.0, 185.0, 225.0])
    hair = rng.choice(shades[np.abs(shades - skin) > 38])
    styles = ["bald", "cropped", "parted", "fringe", "long", "curly", "bun", "receding"]
    return Head(
        frame=Frame(centre, scale, turn=rng.normal(0, 0.13), flip=bool(rng.random() < 0.5)),
        yaw=rng.uniform(-0.5, 0.5),
        pitch=rng.uniform(-0.16, 0.16),
        width=rng.uniform(0.68, 0.82),
        jaw=rng.uniform(0.66, 0.86),
        chin=rng.uniform(0.26, 0.42),
        skin=skin,
        hair=hair,
        style=str(rng.choice(styles, p=[0.07, 0.16, 0.16, 0.14, 0.2, 0.11, 0.08, 0.08])),
        age=rng.uniform(0, 1),
    )


def _neck(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    half, end = head.width * rng.uniform(0.5, 0.68), rng.uniform(1.1, 1.4)
    shift = 0.2 * math.sin(head.yaw)
    canvas.polygon(
        head.frame(
            smooth(
                [
                    (shift - half, 0.3),
                    (shift - half, 0.95),
                    (shift - 1.12 * half, end),
                    (shift, end + 0.1),
                    (shift + 1.12 * half, end),
                    (shift + half, 0.95),
                    (shift + half, 0.3),
                ],
                closed=True,
            )
        ),
        0.78 * head.skin,
    )
    canvas.shade(head.frame(ellipse(shift, 1.08, half, 0.14)), 0.7, 0.02)


def _ears(canvas: Canvas, head: Head) -> None:
    """The ear on the visible side; both if the head faces straight ahead."""
    for side in (-1.0, 1.0):
        if side * math.sin(head.yaw) > 0.2:
            continue
        # The ears are slightly behind the middle of the head, so they move against the nose.
        x = side * head.width * math.cos(head.yaw) * 1.0 + 0.14 * math.sin(head.yaw)
        lean = side * 0.12
        canvas.polygon(head.frame(ellipse(x, 0.14, 0.1, 0.21, turn=lean)), 0.9 * head.skin)
        canvas.polygon(head.frame(ellipse(x, 0.12, 0.06, 0.14, turn=lean)), 0.7 * head.skin)
        canvas.polygon(
            head.frame(ellipse(x - side * 0.02, 0.15, 0.045, 0.1, turn=lean)), 0.86 * head.skin
        )


def _relief(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    """Soft shadows and highlights of the bones under the skin."""
    blur = 0.1 * head.frame.scale
    for side in (-1.0, 1.0):
        socket = ellipse(side * 0.33 * head.width / 0.75, EYES - 0.03, 0.23, 0.14)
        canvas.shade(head(socket), rng.uniform(0.68, 0.82), blur)
        cheek = ellipse(side * 0.42 * head.width / 0.75, 0.3, 0.17, 0.13)
        canvas.shade(head(cheek), rng.uniform(1.06, 1.18), blur)
        hollow = ellipse(side * 0.6 * head.width / 0.75, 0.58, 0.1, 0.2, turn=side * 0.4)
        canvas.shade(head(hollow), rng.uniform(0.78, 0.95), blur)
    canvas.shade(head(ellipse(0, -0.5, 0.4, 0.16)), rng.uniform(1.04, 1.16), 1.5 * blur)
    canvas.shade(head(ellipse(0, MOUTH + 0.17, 0.15, 0.04)), 0.76, 0.5 * blur)
    canvas.shade(head(ellipse(0, 0.89, 0.12, 0.08)), 1.12, blur)


def _eyes(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    apart, reach = head.width * rng.uniform(0.42, 0.48), head.width * rng.uniform(0.18, 0.22)
    open_ = rng.uniform(0.055, 0.115)
    slant, iris = rng.uniform(-0.03, 0.04), rng.uniform(25, 110)
    gaze_x, gaze_y = rng.uniform(-0.4, 0.4) * reach, rng.uniform(-0.15, 0.2) * open_
    brow_rise, brow_tilt = rng.uniform(0.2, 0.27), rng.normal(0, 0.04)
    brow_thick, brow = rng.uniform(0.022, 0.055), min(head.hair, 0.75 * head.skin)
    across = np.linspace(-1, 1, 15)
    upper, lower = -open_ * (1 - np.abs(across) ** 2.2), 0.7 * open_ * (1 - across**2)
    for side in (-1.0, 1.0):
        x = side * apart + across * reach
        tilt = EYES - side * slant * across
        lid, under = np.column_stack([x, upper + tilt]), np.column_stack([x, lower + tilt])
        canvas.polygon(head(np.concatenate([lid, under[::-1]])), min(235, 1.0 * head.skin + 55))
        for radius, grey in ((0.44 * reach, iris), (0.2 * reach, 12)):
            disc = ellipse(side * apart + gaze_x, EYES + gaze_y, radius, radius, points=30)
            at = (disc[:, 0] - side * apart) / reach
            disc[:, 1] = np.clip(
                disc[:, 1], np.interp(at, across, lid[:, 1]), np.interp(at, across, under[:, 1])
            )
            canvas.polygon(head(disc), grey)
        glint = ellipse(side * apart + gaze_x + 0.12 * reach, EYES - 0.2 * open_, 0.018, 0.018)
        canvas.polygon(head(glint), 240)
        thick = head.frame.scale
        canvas.stroke(head(lid), 0.03 * thick, 0.28 * head.skin)
        canvas.stroke(head(under), 0.012 * thick, 0.55 * head.skin)
        canvas.stroke(head(moved(lid, 0, -0.05)), 0.014 * thick, 0.62 * head.skin)
        _brow(
            canvas, head, side * apart, 1.3 * reach, brow_rise, side * brow_tilt, brow_thick, brow
        )


def _brow(
    canvas: Canvas,
    head: Head,
    x: float,
    reach: float,
    rise: float,
    tilt: float,
    thick: float,
    grey: float,
) -> None:
    """One eyebrow: an arch, thick at the nose and thin at the temple."""
    across = np.linspace(-1, 1, 11)
    outwards = across * math.copysign(1, x)
    middle = EYES - rise + 0.05 * across**2 + tilt * across + 0.02 * outwards
    half = thick * (0.75 - 0.55 * outwards) * np.sqrt(np.clip(1.05 - across**2, 0, 1))
    upper = np.column_stack([x + across * reach, middle - half])
    lower = np.column_stack([x + across * reach, middle + half])
    canvas.polygon(head(np.concatenate([upper, lower[::-1]])), grey)


def _nose(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    wide, long = rng.uniform(0.11, 0.19), NOSE + rng.uniform(-0.05, 0.05)
    dark, blur = 0.55 * head.skin, 0.05 * head.frame.scale
    # The shadow falls away from the lamp, or towards the far side of a turned head.
    side = math.copysign(1, head.yaw)
    flank = [(side * 0.06, -0.1), (side * 0.07, 0.15), (side * wide, long), (side * 0.02, long)]
    canvas.shade(head(smooth(flank, closed=True), lift=0.1), rng.uniform(0.62, 0.8), blur)
    ridge = [(-0.03, -0.05), (0.03, -0.05), (0.05, long - 0.1), (-0.05, long - 0.1)]
    canvas.shade(head(np.array(ridge), lift=0.13), rng.uniform(1.08, 1.22), blur)
    canvas.shade(head(ellipse(0, long + 0.07, wide, 0.04)), 0.72, blur)
    for way in (-1.0, 1.0):
        nostril = ellipse(way * 0.5 * wide, long + 0.03, 0.34 * wide, 0.024, turn=way * 0.25)
        canvas.polygon(head(nostril, lift=0.1), 0.3 * head.skin)
        wing = [(way * wide * 0.8, long - 0.1), (way * wide * 1.1, long - 0.01)]
        wing += [(way * wide * 0.8, long + 0.05)]
        canvas.stroke(head(smooth(wing), lift=0.06), 0.022 * head.frame.scale, dark)
    base = smooth([(-0.4 * wide, long + 0.05), (0, long + 0.075), (0.4 * wide, long + 0.05)])
    canvas.stroke(head(base, lift=0.12), 0.018 * head.frame.scale, dark)
    if abs(head.yaw) > 0.25:
        bridge = smooth([(side * 0.05, -0.1), (side * 0.035, 0.1), (side * 0.09, long - 0.06)])
        canvas.stroke(head(bridge, lift=0.12), 0.016 * head.frame.scale, 0.68 * head.skin)


def _mouth(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    wide, full = rng.uniform(0.2, 0.31), rng.uniform(0.035, 0.075)
    smile, gape = rng.normal(0.02, 0.045), max(0.0, rng.normal(-0.02, 0.06))
    lip = head.skin * rng.uniform(0.55, 0.78)
    across = np.linspace(-1, 1, 17)
    arch = np.sqrt(np.clip(1 - across**2, 0, 1))
    line = MOUTH - smile * (across**2 - 0.4)
    bow = full * arch * (0.75 + 0.35 * np.cos(2 * math.pi * across) * (np.abs(across) < 0.5))
    rows = [line - 0.5 * gape * arch - bow, line - 0.5 * gape * arch]
    rows += [line + 0.7 * gape * arch, line + 0.7 * gape * arch + 1.15 * full * arch]
    top, upper, lower, bottom = (np.column_stack([across * wide, row]) for row in rows)
    canvas.polygon(head(np.concatenate([top, bottom[::-1]]), lift=0.03), lip)
    if gape > 0.02:
        canvas.polygon(head(np.concatenate([upper, lower[::-1]]), lift=0.03), 0.2 * head.skin)
        teeth = np.concatenate([upper[2:-2], (0.45 * upper + 0.55 * lower)[2:-2][::-1]])
        canvas.polygon(head(teeth, lift=0.03), 225)
    else:
        canvas.stroke(head(upper, lift=0.03), 0.024 * head.frame.scale, 0.3 * head.skin)
    canvas.shade(head(ellipse(0, MOUTH + 0.6 * full + 0.7 * gape, 0.4 * wide, 0.02)), 1.15, 0.01)


def _wrinkles(canvas: Canvas, head: Head) -> None:
    soft = 0.8 * head.skin
    for y in (-0.42, -0.52):
        canvas.stroke(head(smooth([(-0.3, y + 0.02), (0, y), (0.3, y + 0.02)])), 0.006, soft)
    for side in (-1.0, 1.0):
        fold = smooth([(side * 0.2, 0.36), (side * 0.31, 0.5), (side * 0.34, 0.62)])
        canvas.stroke(head(fold, lift=0.03), 0.006, soft)


def _glasses(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    grey = rng.choice([20.0, 60.0, 210.0])
    apart, rx, ry = head.width * 0.45, head.width * 0.3, rng.uniform(0.13, 0.19)
    width = rng.uniform(0.02, 0.05) * head.frame.scale
    for side in (-1.0, 1.0):
        rim = ellipse(side * apart, EYES + 0.02, rx, ry)
        canvas.stroke(head(np.concatenate([rim, rim[:2]]), lift=0.12), width, grey)
        temple = np.array([(side * (apart + rx), EYES), (side * head.width, EYES + 0.02)])
        canvas.stroke(head(temple, lift=0.06), width, grey)
    bridge = smooth([(rx - apart, EYES), (0, EYES - 0.04), (apart - rx, EYES)])
    canvas.stroke(head(bridge, lift=0.14), width, grey)


def _lamp(head: Head, rng: np.random.Generator, size: int) -> Picture:
    """Light on a rounded head from one side, with the grain of skin and hair."""
    x, y = head.frame.grid(size)
    normal_x, normal_y = x / 1.15, y / 1.5
    normal_z = np.sqrt(np.clip(1 - normal_x**2 - normal_y**2, 0.05, None))
    side, height = rng.uniform(-0.75, 0.75), rng.uniform(-0.6, -0.1)
    front = math.sqrt(1 - min(0.9, side**2 + height**2))
    lit = np.clip(normal_x * side + normal_y * height + normal_z * front, 0, None)
    ambient = rng.uniform(0.35, 0.6)
    return (ambient + (1.1 - ambient) * lit) * np.exp(0.02 * noise(rng, size, 0.8))
