"""Bodies: a jointed figure in a pose, seen from any side, without a face.

The figure is posed in space (see :mod:`.poses`) and then drawn flat, the far parts first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .canvas import (
    Canvas,
    Frame,
    Picture,
    Points,
    background,
    capsule,
    ellipse,
    hull,
    moved,
    noise,
    smooth,
)
from .poses import POSES, Joint, posed


@dataclass(frozen=True)
class Figure:
    """One person's build and clothes."""

    stout: float
    shoulders: float
    hips: float
    skin: float
    shirt: float
    trousers: float
    shoes: float
    sleeve: float  # share of the arm that is covered, 0 to 1
    leg: float  # share of the leg that is covered, 0.3 to 1
    skirt: bool
    stripes: tuple[float, ...]  # where bands cross the shirt, 0 at the pelvis, 1 at the neck
    head: str  # none, plain, behind


def draw_body(rng: np.random.Generator, size: int) -> Picture:
    """A headless or faceless body on a varied background, greys [size, size]."""
    figure = _someone(rng)
    joints = posed(POSES[str(rng.choice(list(POSES)))], figure.shoulders, figure.hips, rng)
    frame = _fitted(joints, figure, rng)
    flat = {name: frame(joint[None, :2])[0] for name, joint in joints.items()}
    canvas = Canvas(size)
    pencil = _Pencil(canvas, frame.scale, rng.uniform(-1, 1))
    parts = _parts(joints)
    parts.sort(key=lambda part: part[0])
    for _, part, side in parts:
        if part == "arm":
            _arm(pencil, figure, flat, side)
        elif part == "leg":
            _leg(pencil, figure, flat, side)
        elif part == "skirt" and figure.skirt:
            _skirt(pencil, figure, flat)
        else:
            _torso(pencil, figure, joints, frame)
    _head(pencil, figure, flat)
    canvas.light(np.exp(0.015 * noise(rng, size, 0.8)))
    return canvas.over(background(rng, size, avoid=(figure.shirt, figure.trousers, figure.skin)))


class Segment(NamedTuple):
    """A segment of a limb: two ends in the picture, their radii in body heights, a grey."""

    start: Points
    end: Points
    start_radius: float
    end_radius: float
    grey: float


@dataclass(frozen=True)
class _Pencil:
    """Draws round limbs: a dark rim, and layers that get lighter towards the lamp."""

    canvas: Canvas
    scale: float
    lamp: float

    def limb(self, *segments: Segment) -> None:
        """Connected segments: all rims first, then layer by layer."""
        rim = 0.0035 * self.scale
        for a, b, ra, rb, grey in segments:
            outline = capsule(a, b, ra * self.scale + rim, rb * self.scale + rim)
            self.canvas.polygon(outline, 0.55 * grey)
        for share in np.linspace(0, 0.85, 8):
            for a, b, ra, rb, grey in segments:
                across = np.array([b[1] - a[1], a[0] - b[0]])
                across *= math.copysign(0.5 * share, across[0] * self.lamp) * self.scale
                across /= max(float(np.hypot(*(b - a))), 1e-9)
                keep = (1 - share) * self.scale
                outline = capsule(a + ra * across, b + rb * across, ra * keep, rb * keep)
                self.canvas.polygon(outline, grey * (0.72 + 0.42 * share))


def _someone(rng: np.random.Generator) -> Figure:
    skin, shirt = rng.uniform(85, 210), rng.uniform(35, 225)
    trousers = rng.uniform(30, 200)
    if abs(trousers - shirt) < 35:
        trousers = (shirt + 90) % 200 + 20
    return Figure(
        stout=rng.uniform(0.85, 1.3),
        shoulders=rng.uniform(0.105, 0.135),
        hips=rng.uniform(0.07, 0.095),
        skin=skin,
        shirt=shirt,
        trousers=trousers,
        shoes=rng.uniform(25, 220),
        sleeve=float(rng.choice([0.0, 0.28, 0.5, 1.0], p=[0.2, 0.35, 0.1, 0.35])),
        leg=float(rng.choice([0.35, 0.55, 1.0], p=[0.25, 0.15, 0.6])),
        skirt=bool(rng.random() < 0.2),
        stripes=((), (), (0.2, 0.34, 0.48, 0.62, 0.76))[rng.integers(3)],
        head=str(rng.choice(["none", "plain", "behind"], p=[0.5, 0.3, 0.2])),
    )


def _fitted(joints: dict[str, Joint], figure: Figure, rng: np.random.Generator) -> Frame:
    """Frame that fits the whole figure into the picture, at a random size and position."""
    spots = np.array([joint[:2] for joint in joints.values()])
    above_neck = 1.2 if figure.head == "none" else 1.7
    spots = np.concatenate([spots, above_neck * joints["neck"][None, :2]])
    margin = 0.07
    low, high = spots.min(axis=0) - margin, spots.max(axis=0) + margin
    extent = high - low
    scale = rng.uniform(0.72, 0.98) / float(extent.max())
    slack = (1 - extent * scale) / 2
    middle = 0.5 + slack * rng.uniform(-0.9, 0.9, 2)
    x, y = middle - scale * (low + high) / 2
    return Frame((float(x), float(y)), scale)


def _parts(joints: dict[str, Joint]) -> list[tuple[float, str, str]]:
    """(depth, part, side) of torso, arms and legs; larger depths are nearer the viewer."""
    parts = [(0.0, "torso", "")]
    for side in ("left", "right"):
        shoulder, elbow, wrist = (joints[f"{side} {j}"][2] for j in ("shoulder", "elbow", "wrist"))
        parts.append((float(shoulder + elbow + wrist) / 3 + 0.02, "arm", side))
        # The trunk hides the top of both thighs, unless the knee is well forward.
        knee = joints[f"{side} knee"][2]
        hip = joints[f"{side} hip"][2]
        parts.append((float(0.25 * hip + knee) - 0.12, "leg", side))
    parts.append((max(depth for depth, part, _ in parts if part == "leg"), "skirt", ""))
    return parts


def _arm(pencil: _Pencil, figure: Figure, flat: dict[str, Points], side: str) -> None:
    shoulder, elbow, wrist, fingers = (
        flat[f"{side} {joint}"] for joint in ("shoulder", "elbow", "wrist", "fingers")
    )
    k = 0.5 + 0.5 * figure.stout
    _hand(pencil, figure, wrist, fingers)
    bulge = elbow + 0.3 * (wrist - elbow)
    pencil.limb(
        Segment(shoulder, elbow, 0.042 * k, 0.032 * k, figure.skin),
        Segment(elbow, bulge, 0.031 * k, 0.035 * k, figure.skin),
        Segment(bulge, wrist, 0.035 * k, 0.02 * k, figure.skin),
    )
    cuff = shoulder + min(1.0, 2 * figure.sleeve) * (elbow - shoulder)
    cloth = [Segment(shoulder, cuff, 0.046 * k, 0.041 * k, figure.shirt)]
    if figure.sleeve > 0.5:
        end = elbow + 0.92 * (wrist - elbow)
        cloth.append(Segment(elbow, end, 0.041 * k, 0.029 * k, figure.shirt))
    if figure.sleeve > 0:
        pencil.limb(*cloth)


def _hand(pencil: _Pencil, figure: Figure, wrist: Points, fingers: Points) -> None:
    along = fingers - wrist
    across = np.array([-along[1], along[0]])
    palm, tips = wrist + 0.4 * along, wrist + 0.95 * along
    thumb = wrist + 0.62 * along + 0.34 * across
    pencil.limb(
        Segment(wrist, palm, 0.019, 0.027, figure.skin),
        Segment(palm, tips, 0.027, 0.014, figure.skin),
        Segment(wrist + 0.15 * along, thumb, 0.012, 0.008, figure.skin),
    )
    for spread in (-0.14, 0.0, 0.14):
        gap = np.array([palm + 0.15 * along + spread * across, tips + 1.1 * spread * across])
        pencil.canvas.stroke(gap, 0.004 * pencil.scale, 0.6 * figure.skin)


def _leg(pencil: _Pencil, figure: Figure, flat: dict[str, Points], side: str) -> None:
    hip, knee, ankle, toes = (flat[f"{side} {joint}"] for joint in ("hip", "knee", "ankle", "toes"))
    k = 0.4 + 0.6 * figure.stout
    shin, calf = ankle - knee, knee + 0.3 * (ankle - knee)
    pencil.limb(
        Segment(hip, knee, 0.077 * k, 0.046 * k, figure.skin),
        Segment(knee, calf, 0.044 * k, 0.048 * k, figure.skin),
        Segment(calf, ankle, 0.048 * k, 0.025 * k, figure.skin),
    )
    heel = ankle + 0.22 * (ankle - toes) + (0, 0.01 * pencil.scale)
    pencil.limb(
        Segment(ankle, heel, 0.028, 0.028, figure.shoes),
        Segment(heel, toes, 0.028, 0.02, figure.shoes),
    )
    if figure.skirt:
        return
    cloth = [
        Segment(
            hip,
            hip + min(1.0, 1.8 * figure.leg) * (knee - hip),
            0.083 * k,
            0.058 * k,
            figure.trousers,
        )
    ]
    if figure.leg > 0.6:
        cloth.append(Segment(knee, knee + 0.95 * shin, 0.056 * k, 0.042 * k, figure.trousers))
    pencil.limb(*cloth)


def _skirt(pencil: _Pencil, figure: Figure, flat: dict[str, Points]) -> None:
    """A pleated skirt: the hull of both thighs and the waist."""
    scale, spine = pencil.scale, flat["neck"] - flat["pelvis"]
    hems, thighs = [], []
    for side in ("left", "right"):
        hip, knee = flat[f"{side} hip"], flat[f"{side} knee"]
        hems.append(hip + min(1.0, 1.7 * figure.leg) * (knee - hip))
        thighs.append(capsule(hip, hems[-1], 0.07 * scale, 0.06 * scale))
    x, y = waist = flat["pelvis"] + 0.2 * spine
    cloth = hull(np.concatenate([*thighs, ellipse(x, y, 0.07 * scale, 0.05 * scale)]))
    centre = cloth.mean(axis=0)
    pencil.canvas.polygon(centre + 1.03 * (cloth - centre), 0.5 * figure.trousers)
    pencil.canvas.polygon(cloth, figure.trousers)
    for share in np.linspace(-0.1, 1.1, 7):
        hem = hems[0] + share * (hems[1] - hems[0])
        grey = figure.trousers * (0.78 if 0 < share < 1 else 0.7)
        line = waist + np.array([[0.45], [0.92]]) * (hem - waist)
        pencil.canvas.stroke(line, 0.012 * scale, grey)
    away = moved(cloth, math.copysign(0.09 * scale, -pencil.lamp), 0)
    pencil.canvas.shade(away, 0.85, 0.03 * scale)


def _torso(pencil: _Pencil, figure: Figure, joints: dict[str, Joint], frame: Frame) -> None:
    """Neck, shirt and hips as one outline along the spine, as wide as in this view."""
    pelvis, neck = (frame(joints[name][None, :2])[0] for name in ("pelvis", "neck"))
    across3 = joints["left shoulder"] - joints["right shoulder"]
    seen = abs(float(across3[0])) / float(np.hypot(across3[0], across3[2]))
    deep = math.sqrt(1 - seen**2)
    spine = neck - pelvis
    side = np.array([-spine[1], spine[0]]) / float(np.hypot(*spine)) * frame.scale

    def width(across: float, depth: float) -> float:
        return math.hypot(across * seen, depth * figure.stout * deep)

    _hips(pencil, figure, pelvis, side, width(figure.hips + 0.045, 0.085))
    pencil.limb(Segment(neck - 0.05 * spine, neck + 0.15 * spine, 0.04, 0.034, figure.skin))
    levels = [-0.08, 0.2, 0.42, 0.7, 0.9, 0.99, 1.04]
    across = [figure.hips + 0.04, figure.hips + 0.032, 0.088 * figure.stout]
    across += [figure.shoulders + 0.005, figure.shoulders + 0.02, 0.75 * figure.shoulders, 0.035]
    depths = [0.085, 0.08, 0.075, 0.085, 0.07, 0.055, 0.035]
    half = np.array([width(a, d) for a, d in zip(across, depths, strict=True)])
    middle = pelvis + np.array(levels)[:, None] * spine
    lit = math.copysign(0.4, pencil.lamp * side[0]) * side
    for share in (-0.03, *np.linspace(0, 0.85, 10)):
        offset, reach = share * half[:, None] * lit, (1 - share) * half[:, None] * side
        outline = np.concatenate([middle + offset + reach, (middle + offset - reach)[::-1]])
        grey = 0.55 if share < 0 else 0.74 + 0.4 * share
        pencil.canvas.polygon(smooth(outline, closed=True), grey * figure.shirt)
    for level in figure.stripes:
        at = np.interp(level, levels, half)
        spot = pelvis + level * spine
        band = np.array([spot - 0.97 * at * side, spot + 0.02 * spine, spot + 0.97 * at * side])
        pencil.canvas.stroke(smooth(band), 0.02 * frame.scale, figure.trousers)


def _hips(pencil: _Pencil, figure: Figure, pelvis: Points, side: Points, half: float) -> None:
    """The seat of the trousers."""
    a, b = pelvis - 0.35 * half * side, pelvis + 0.35 * half * side
    pencil.limb(Segment(a, b, 0.66 * half, 0.66 * half, figure.trousers))


def _head(pencil: _Pencil, figure: Figure, flat: dict[str, Points]) -> None:
    """No head, a blank one, or the back of one; never a face."""
    if figure.head == "none":
        return
    spine = flat["neck"] - flat["pelvis"]
    x, y = flat["neck"] + 0.38 * spine
    turn = math.atan2(spine[0], -spine[1])
    grey = figure.skin if figure.head == "plain" else 0.45 * figure.skin
    for share in np.linspace(0, 0.8, 6):
        rx, ry = (1 - share) * 0.072 * pencil.scale, (1 - share) * 0.095 * pencil.scale
        shift = math.copysign(0.025 * share, pencil.lamp) * pencil.scale
        outline = ellipse(x + shift, y - abs(shift), rx, ry, turn=turn)
        pencil.canvas.polygon(outline, grey * (0.74 + 0.42 * share))
