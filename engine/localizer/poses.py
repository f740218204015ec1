"""Poses of bodies, as the directions of their limbs.

A figure has its own coordinates: x to its sides, y downwards, z ahead of it, in body heights (neck
to sole is about 1). It is turned about its upright axis, and tipped over in lying poses.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Joint = NDArray[np.float64]  # [3]: x, y, z
Swing = tuple[float, float]  # degrees forward, degrees out to the side; (0, 0) hangs down
Limb = tuple[Swing, Swing]  # upper part, lower part


# Lengths in body heights without the head, about those of an adult.
TORSO, UPPER_ARM, FOREARM, THIGH, SHIN, FOOT = 0.36, 0.2, 0.18, 0.29, 0.28, 0.12


class Pose(NamedTuple):
    """Two arms, two legs, the lean of the trunk, and the range of views.

    ``view`` is the range of turns away from the viewer in degrees: 0 from the front, 90 from the
    side, 180 from behind. ``roll`` tips the whole figure over.
    """

    arms: tuple[Limb, Limb]
    legs: tuple[Limb, Limb]
    view: tuple[float, float]
    lean: float = 0.0
    roll: float = 0.0


_HANGING: Limb = ((3, 14), (12, 8))
_STRAIGHT: Limb = ((0, 6), (-2, 4))

POSES: dict[str, Pose] = {
    "standing": Pose((_HANGING, _HANGING), (_STRAIGHT, _STRAIGHT), (0, 40)),
    "from behind": Pose((_HANGING, ((0, 25), (20, 5))), (_STRAIGHT, ((8, 8), (-4, 6))), (140, 180)),
    "akimbo": Pose(
        (((-15, 48), (10, -42)), ((-15, 48), (10, -42))), (_STRAIGHT, ((5, 16), (0, 10))), (0, 30)
    ),
    "one hip": Pose((((-12, 46), (10, -44)), _HANGING), (((4, 12), (0, 8)), _STRAIGHT), (0, 35)),
    "walking": Pose(
        (((30, 8), (60, 4)), ((-32, 8), (-8, 4))),
        (((-26, 3), (-44, 3)), ((28, 3), (8, 3))),
        (45, 90),
        4,
    ),
    "running": Pose(
        (((55, 8), (140, 0)), ((-60, 10), (15, 5))),
        (((-28, 3), (-95, 3)), ((65, 3), (-15, 3))),
        (55, 90),
        14,
    ),
    "sitting": Pose(
        (((30, 8), (75, 0)), ((25, 8), (70, 0))),
        (((86, 8), (0, 4)), ((84, 8), (-8, 4))),
        (40, 85),
        -4,
    ),
    "cross-legged": Pose(
        (((25, 20), (50, 0)), ((25, 20), (50, 0))),
        (((70, 50), (60, -65)), ((70, 50), (60, -65))),
        (0, 30),
    ),
    "reaching up": Pose(
        (((10, 150), (5, 165)), ((5, 155), (0, 170))), (_STRAIGHT, ((0, 12), (0, 8))), (0, 40)
    ),
    "one arm up": Pose((((20, 140), (5, 172)), _HANGING), (_STRAIGHT, _STRAIGHT), (0, 45)),
    "pointing": Pose(
        (((88, 8), (90, 4)), _HANGING), (((12, 4), (6, 3)), ((-10, 4), (-14, 3))), (50, 90)
    ),
    "star": Pose(
        (((0, 95), (0, 105)), ((0, 95), (0, 105))),
        (((0, 28), (0, 26)), ((0, 28), (0, 26))),
        (0, 25),
    ),
    "kneeling": Pose(
        (((20, 10), (45, 0)), ((10, 10), (40, 0))),
        (((80, 6), (-5, 4)), ((-10, 4), (-92, 4))),
        (50, 85),
    ),
    "kicking": Pose(
        (((35, 40), (50, 40)), ((-30, 45), (-10, 40))),
        (((75, 4), (60, 3)), ((-6, 4), (-12, 3))),
        (50, 90),
        -10,
    ),
    "lunging": Pose(
        (((60, 15), (80, 10)), ((-30, 20), (-10, 15))),
        (((62, 6), (-4, 5)), ((-38, 5), (-52, 4))),
        (50, 85),
        10,
    ),
    "bending": Pose(
        (((60, 8), (50, 4)), ((50, 10), (40, 5))),
        (((6, 5), (-8, 4)), ((2, 5), (-10, 4))),
        (55, 90),
        48,
    ),
    "dancing": Pose(
        (((10, 110), (5, 150)), ((0, 70), (10, 30))),
        (((25, 30), (-40, -15)), _STRAIGHT),
        (0, 40),
        0,
        6,
    ),
    "lying": Pose(
        (((20, 30), (40, 15)), ((150, 15), (165, 10))),
        (((10, 8), (0, 5)), ((35, 8), (-25, 5))),
        (20, 80),
        0,
        82,
    ),
}


def _direction(forward: float, sideways: float) -> Joint:
    """Direction of a hanging limb swung forward and out to the side (degrees)."""
    f, s = math.radians(forward), math.radians(sideways)
    return np.array([math.sin(s), math.cos(s) * math.cos(f), math.cos(s) * math.sin(f)])


def posed(pose: Pose, shoulders: float, hips: float, rng: np.random.Generator) -> dict[str, Joint]:
    """Joints of a figure in ``pose``, with random variation, from one of the pose's views.

    ``shoulders`` and ``hips`` are half widths. The pelvis is at the origin; larger z is nearer the
    viewer.
    """

    def limb(angles: tuple[float, float], side: float) -> Joint:
        forward, sideways = rng.normal(angles, 6)
        return _direction(forward, sideways) * (side, 1, 1)

    lean = rng.normal(pose.lean, 3)
    spine = -_direction(-lean, rng.normal(0, 3))
    joints = {"pelvis": np.zeros(3), "neck": TORSO * spine}
    swap = rng.random() < 0.5
    for name, side in (("left", 1.0), ("right", -1.0)):
        which = int((name == "left") == swap)
        (upper, lower), (thigh, shin) = pose.arms[which], pose.legs[which]
        shoulder = 0.9 * TORSO * spine + (side * shoulders, 0, 0)
        hip = np.array([side * hips, 0.0, 0.0])
        elbow = shoulder + UPPER_ARM * limb(upper, side)
        knee = hip + THIGH * limb(thigh, side)
        wrist, ankle = elbow + FOREARM * limb(lower, side), knee + SHIN * limb(shin, side)
        joints |= {
            f"{name} shoulder": shoulder,
            f"{name} elbow": elbow,
            f"{name} wrist": wrist,
            f"{name} fingers": wrist + 0.085 * limb(lower, side),
            f"{name} hip": hip,
            f"{name} knee": knee,
            f"{name} ankle": ankle,
            f"{name} toes": ankle
            + FOOT * _direction(rng.normal(80, 5), rng.normal(8, 4)) * (side, 1, 1),
        }
    low, high = pose.view
    angle = math.radians(rng.uniform(low, high)) * rng.choice([-1, 1])
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    tilt = math.radians(rng.normal(0, 4) + pose.roll * rng.choice([-1, 1]))
    roll = np.array(
        [[math.cos(tilt), math.sin(tilt), 0], [-math.sin(tilt), math.cos(tilt), 0], [0, 0, 1]]
    )
    return {name: joint @ turn @ roll for name, joint in joints.items()}
