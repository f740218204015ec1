"""Image processors of transformers as preprocessing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import UserError
from ...preprocessing import Preprocessing

_INTERPOLATIONS = {
    Image.Resampling.NEAREST: "nearest",
    Image.Resampling.BILINEAR: "bilinear",
    Image.Resampling.BICUBIC: "bicubic",
    Image.Resampling.LANCZOS: "lanczos",
}
# From this side on, ConvNeXT's processors squash pictures instead of cropping them.
_SQUASHED = 384
# Largest difference between a processor's values and ours, of values in [0, 1]: that of rounding to
# 8 bits, of the interpolations of Pillow and torchvision, and of a crop that lies one pixel off.
_SAME = 0.03


def preprocessing_of(source: str, name: str, *, local: bool = False) -> Preprocessing | UserError:
    """Preprocessing as the image processor of ``source``, a folder or a name on the hub, does it.

    An error that asks the user for it if the processor is missing, or does more than resize, crop
    and normalise. A picture is shown to both: they agree on it. ``local``: do not ask the hub.
    """
    from transformers import AutoImageProcessor

    give = "give `resize`, `crop`, `interpolation`, `mean` and `std`"
    try:
        processor = AutoImageProcessor.from_pretrained(
            source, trust_remote_code=False, local_files_only=local
        )
    except Exception:  # transformers raises all kinds
        return UserError(
            f"images are prepared as a model's image processor says; {name} has none that "
            f"transformers reads: {give}"
        )
    try:
        found = _as_preprocessing(processor)
        if _agree(processor, found):
            return found
    except Exception:  # each processor has its own attributes, and runs its own code
        pass
    return UserError(
        "an image processor must resize, crop and normalise images to squares, and no more; "
        f"{type(processor).__name__} of {name} does not: {give}"
    )


def _as_preprocessing(processor: Any) -> Preprocessing:
    """Preprocessing as the attributes of a processor describe it."""
    size = dict(processor.size)
    side = size.get("shortest_edge") or size["height"]
    squash = "shortest_edge" not in size
    resize = crop = side
    if share := getattr(processor, "crop_pct", None):
        squash = side >= _SQUASHED
        resize = side if squash else int(side / share)
    elif getattr(processor, "do_center_crop", False):
        crop = dict(processor.crop_size)["height"]
    # Ours scales values to [0, 1]; others scale them otherwise, or not at all.
    scale = 255 * (processor.rescale_factor if processor.do_rescale else 1)
    normalises = processor.do_normalize
    return Preprocessing(
        resize,
        crop,
        _INTERPOLATIONS[Image.Resampling(processor.resample)],
        tuple(mean / scale for mean in (processor.image_mean if normalises else (0, 0, 0))),
        tuple(std / scale for std in (processor.image_std if normalises else (1, 1, 1))),
        squash,
    )


def _agree(processor: Any, preprocessing: Preprocessing) -> bool:
    """Whether both give the same values for a picture of smooth colours."""
    y, x = np.mgrid[0:255:120j, 0:255:180j]
    picture = Image.fromarray(np.stack([x, y, 255 - (x + y) / 2], 2).astype(np.uint8))
    theirs = np.asarray(processor(images=picture, return_tensors="np")["pixel_values"])
    ours = _shown(picture, preprocessing)
    std = np.array(preprocessing.std)[:, np.newaxis, np.newaxis]
    return theirs.shape == (1, *ours.shape) and bool((abs(theirs[0] - ours) * std).max() < _SAME)


def _shown(picture: Image.Image, preprocessing: Preprocessing) -> NDArray[np.float64]:
    """Values ``[channel, y, x]`` that a network is shown."""
    size = preprocessing.resized(*picture.size)
    left, top = preprocessing.corner(*size)
    crop = preprocessing.crop
    name = preprocessing.interpolation
    (by,) = (by for by, its_name in _INTERPOLATIONS.items() if its_name == name)
    pixels = picture.resize(size, by).crop((left, top, left + crop, top + crop))
    values = np.asarray(pixels) / 255
    return ((values - preprocessing.mean) / preprocessing.std).transpose(2, 0, 1)
