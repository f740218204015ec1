"""Draw the whole stimulus set and write it to disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ..beside import fill_folder
from ..errors import UserError
from ..limits import refuse_numbers, refuse_seed
from ..stimuli.scramble import phase_scramble_8bit
from .bodies import draw_body
from .canvas import Picture, developed
from .faces import draw_face
from .scenes import draw_scene
from .words import draw_words

# The order seeds the pictures: append new categories at the end.
CATEGORIES = ("faces", "bodies", "scenes", "words", "scrambled_scenes", "scrambled_words")

_ARTISTS: dict[str, Callable[[np.random.Generator, int], Picture]] = {
    "faces": draw_face,
    "bodies": draw_body,
    "scenes": draw_scene,
    "words": draw_words,
}


def make_stimuli(
    directory: Path | str, *, per_category: int = 48, size: int = 256, seed: int = 0
) -> list[Path]:
    """Draw faces, bodies, scenes, words and two scrambled controls as 8-bit grey PNG files.

    Picture i of a category depends only on ``seed``, ``size``, the category and i, not on the
    number of pictures. Picture i of ``scrambled_scenes`` (``scrambled_words``) is picture i of
    ``scenes`` (``words``) with random phases: a control with the same mean and amplitude spectrum.
    Brightness and contrast vary from picture to picture, in the same way in all categories. Faces,
    bodies and words have the same kinds of background.

    Parameters
    ----------
    directory : str or path
        A new or empty folder for ``<category>/<category>-<i>.png``, with i from 1.
    per_category : int, default 48
        Pictures per category, at least 1.
    size : int, default 256
        Side of each picture in pixels, at least 32.
    seed : int, default 0
        0 or more.

    Returns
    -------
    list of pathlib.Path
        The written files, category by category.

    Raises
    ------
    UserError
        An argument is out of range, or ``directory`` is not empty or not writable; nothing is left
        behind.

    See Also
    --------
    scramble_stimuli : Scrambled controls of your own images.

    Examples
    --------
    >>> files = fusiform.make_stimuli("drawn", per_category=2, size=32)
    >>> len(files), files[0].as_posix()
    (12, 'drawn/faces/faces-1.png')
    """
    directory = Path(directory)
    refuse_numbers(per_category=per_category, size=size)
    refuse_seed(seed)
    if per_category < 1:
        raise UserError(f"a category needs at least 1 picture; got {per_category}: draw more")
    if size < 32:
        raise UserError(f"pictures need a side of at least 32 pixels; got {size}: choose more")
    occupied = UserError(
        "making stimuli never overwrites, so it needs a new or empty folder; "
        f"{directory} is neither: name another"
    )
    with fill_folder(directory, occupied) as new:
        names = _drawn(new, per_category, size, seed)
    return [directory / name for name in names]


def _drawn(folder: Path, per_category: int, size: int, seed: int) -> list[str]:
    """Draw all pictures into a folder; returns their names."""
    names: list[str] = []
    for index, category in enumerate(CATEGORIES):
        (folder / category).mkdir()
        for i in range(1, per_category + 1):
            rng = np.random.default_rng([seed, index, i])
            if category in _ARTISTS:
                picture = developed(_ARTISTS[category](rng, size), rng)
            else:
                # The original is already drawn, and PNG is lossless.
                original = category.removeprefix("scrambled_")
                with Image.open(folder / original / f"{original}-{i}.png") as file:
                    picture, _ = phase_scramble_8bit(np.asarray(file), rng)
            names.append(f"{category}/{category}-{i}.png")
            Image.fromarray(picture).save(folder / names[-1], compress_level=3)
    return names
