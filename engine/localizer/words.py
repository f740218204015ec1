"""Words: pronounceable pseudo-words, typeset in many ways."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .canvas import SUPERSAMPLE, Canvas, Picture, background, noise, ramp

_ONSETS = (
    "b bl br c ch cl cr d dr f fl fr g gl gr h j k l m n p pl pr qu r s sh sl sp st t tr v w z"
)
_VOWELS = "a e i o u a e i o u ai ea oo ou"
_CODAS = "- - - - l m n r s t nd ld rm st nt lp"
# Random syllables can form these; such strings are drawn again.
_AVOIDED_PARTS = (
    "anus arse boob cock coon crap cum cunt damn dick dik fag fuc fuk hell jap nig "
    "piss poo porn rap sex shit slut spic tit turd twat whor"
)
_AVOIDED = frozenset(_AVOIDED_PARTS.split())

_HEIGHT = 100  # font size before scaling into the picture


def draw_words(rng: np.random.Generator, size: int) -> Picture:
    """One to three pseudo-words on a varied background, greys [size, size]."""
    lines = int(rng.choice([1, 2, 3], p=[0.72, 0.2, 0.08]))
    mask = _placed(_set([pseudo_word(rng) for _ in range(lines)], rng), rng, size * SUPERSAMPLE)
    dark = rng.random() < 0.5
    ink = rng.uniform(10, 75) if dark else rng.uniform(180, 250)
    paper = background(rng, size, avoid=(ink,), gap=80)
    canvas = Canvas(size)
    canvas.stamp(mask, ink)
    canvas.light(1 + rng.uniform(0, 0.2) * ramp(rng, size) + 0.02 * noise(rng, size))
    return canvas.over(paper)


def pseudo_word(rng: np.random.Generator) -> str:
    """A pseudo-word of 4 to 9 letters, in lower case, upper case or title case.

    By chance it may be a real word.
    """
    while True:
        word = ""
        for _ in range(rng.integers(1, 4)):
            word += "".join(str(rng.choice(part.split())) for part in (_ONSETS, _VOWELS, _CODAS))
        word = word.replace("-", "")
        if 4 <= len(word) <= 9 and not any(part in word for part in _AVOIDED):
            break
    case = rng.choice(["lower", "upper", "title"], p=[0.45, 0.3, 0.25])
    return str(getattr(word, str(case))())


def _set(words: list[str], rng: np.random.Generator) -> Image.Image:
    """Mask of the words below each other, set letter by letter and tightly cropped."""
    font = ImageFont.load_default(_HEIGHT)
    spacing = rng.choice([0.0, rng.uniform(-4, 6), rng.uniform(8, 40)])
    stroke = int(rng.choice([0, 0, 1, 2, 3, 4]))
    jump = rng.choice([0.0, rng.uniform(2, 9)], p=[0.75, 0.25])
    leading = rng.uniform(1.05, 1.4) * _HEIGHT
    wide = max(len(word) for word in words) * (1.2 * _HEIGHT + 40)
    page = Image.new("L", (round(wide), round((len(words) + 1) * 1.5 * _HEIGHT)), 0)
    pen = ImageDraw.Draw(page)
    for row, word in enumerate(words):
        x = 20.0 + rng.choice([0.0, rng.uniform(0, 0.5 * _HEIGHT)])
        for letter in word:
            y = 20 + row * leading + rng.normal(0, 1) * jump
            pen.text((x, y), letter, fill=255, font=font, stroke_width=stroke)
            x += font.getlength(letter) + spacing + stroke
    return page.crop(page.getbbox())


def _placed(text: Image.Image, rng: np.random.Generator, side: int) -> Image.Image:
    """Mask slanted, turned, scaled and moved so that all of it is inside the picture."""
    slant = rng.choice([0.0, rng.uniform(-0.15, 0.35)])
    turn = rng.choice([rng.normal(0, 0.06), rng.uniform(-0.6, 0.6)], p=[0.7, 0.3])
    stretch = rng.uniform(0.8, 1.35)
    cos, sin = math.cos(turn), math.sin(turn)
    # Text to picture: slant, then stretch upwards, then turn.
    shape = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, -slant], [0, stretch]])
    half = np.abs(shape) @ np.array(text.size) / 2
    largest = 0.47 * side / half.max()
    scale = rng.uniform(0.55, 1.0) * largest
    slack = 0.47 * side - scale * half
    centre = side / 2 + slack * rng.uniform(-1, 1, 2)
    back = np.linalg.inv(scale * shape)
    origin = np.array(text.size) / 2 - back @ centre
    (a, b), (d, e) = back
    return text.transform(
        (side, side),
        Image.Transform.AFFINE,
        (a, b, origin[0], d, e, origin[1]),
        Image.Resampling.BILINEAR,
    )
