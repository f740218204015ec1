"""Image file to picture: decode, resize, crop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UserError
from ..preprocessing import Preprocessing
from ..stimuli.images import BACKGROUND, UnfitStimulus, open_image

# Most pixels after resizing, which would stretch a strip one pixel wide.
_MOST_PIXELS = 2**28
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def picture_of(path: Path, content: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Picture ``[crop, crop, 3]`` of an image file with this ``content``; errors name ``path``.

    Raises
    ------
    UnfitStimulus : see :func:`.images.open_image`; or the image cannot be resized
    """
    image = open_image(path, content)
    try:
        return prepare(image, preprocessing)
    except UserError as error:
        raise UnfitStimulus(path, f"cannot be resized ({error})") from None


def prepare(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Resize and crop a picture to ``[crop, crop, 3]``, with the same pixels as torchvision.

    Raises
    ------
    UserError : the picture is so long and narrow that the resized one would not fit in memory
    """
    width, height = image.size
    crop, size = preprocessing.crop, preprocessing.resized(width, height)
    if size[0] * size[1] > _MOST_PIXELS:
        raise UserError(
            f"{width} x {height} pixels would become {size[0]} x {size[1]}, more than "
            f"{_MOST_PIXELS:,}: crop the image"
        )
    if image.mode != "RGB":  # converting RGB to RGB would copy it
        image = image.convert("RGB")
    if size != image.size:
        image = image.resize(size, _FILTERS[preprocessing.interpolation])
    left, top = preprocessing.corner(*size)
    return np.array(image.crop((left, top, left + crop, top + crop)))


def invisible_rows(pictures: NDArray[np.uint8]) -> list[int]:
    """Rows of the pictures ``[row, y, x, 3]`` in which nothing is visible."""
    suspects = np.flatnonzero(pictures[:, 0, 0, 0] == BACKGROUND[0])
    return [row for row in suspects.tolist() if is_invisible(pictures[row])]


def is_invisible(picture: NDArray[np.uint8]) -> bool:
    """Whether a picture is mid-grey throughout, the colour behind transparent pixels."""
    grey = BACKGROUND[0]
    return bool(picture.flat[0] == grey and (picture == grey).all())
