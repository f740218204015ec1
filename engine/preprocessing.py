"""Preprocessing: from an upright 8-bit picture to the input of a network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from .errors import UserError
from .limits import refuse_numbers

INTERPOLATIONS: tuple[str, ...] = ("nearest", "bilinear", "bicubic", "lanczos")
# JPEG decoder -> its interpolations. Other formats are always decoded by Pillow.
DECODERS: dict[str, tuple[str, ...]] = {
    "pillow": INTERPOLATIONS,
    "torchvision": ("bilinear", "bicubic"),
}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop and normalise an upright 8-bit picture.

    The picture is resized (antialiased), its central square is cut out (shorter sides are padded
    with black), and values are scaled to [0, 1] and normalised.

    Parameters
    ----------
    resize : int, default 256
        Shorter side of the resized picture, in pixels.
    crop : int, default 224
        Side of the central square that is shown, in pixels.
    interpolation : str, default "bilinear"
        ``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``.
    mean : tuple of float
        Mean of each channel, of values in [0, 1].
    std : tuple of float
        Standard deviation of each channel.
    squash : bool, default False
        Resize both sides, whatever the proportions.
    decoder : str, default "pillow"
        ``pillow``, or ``torchvision`` for JPEG files. Their pixels differ by rounding.

    Raises
    ------
    UserError
        A value is unknown or out of range.

    Examples
    --------
    >>> own = fusiform.Preprocessing(resize=320, crop=288)
    >>> own.resized(width=640, height=480)  # in pixels
    (426, 320)
    """

    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    squash: bool = False
    decoder: str = "pillow"

    def __post_init__(self) -> None:
        refuse_numbers(resize=self.resize, crop=self.crop)
        if self.resize < 1 or self.crop < 1:
            raise UserError(
                f"resize and crop are numbers of pixels, at least 1; "
                f"got resize {self.resize}, crop {self.crop}"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise UserError(
                f"interpolation is one of {', '.join(INTERPOLATIONS)}; got {self.interpolation!r}"
            )
        if self.decoder not in DECODERS:
            raise UserError(f"a decoder is {' or '.join(DECODERS)}; got {self.decoder!r}")
        if self.interpolation not in (known := DECODERS[self.decoder]):
            raise UserError(
                f"{self.decoder} resizes by {' or '.join(known)}; got {self.interpolation}: choose "
                "another `interpolation`, or leave out `decoder`"
            )
        if not _are_normal(self.mean, -1e6) or not _are_normal(self.std, 1e-6):
            raise UserError(
                f"mean and std are three numbers each (R, G, B), std above 0; "
                f"got mean {self.mean}, std {self.std}: values are in [0, 1] before, so that more "
                "than 1e6, or a std below 1e-6, is a slip"
            )

    def __str__(self) -> str:
        def listed(values: tuple[float, ...]) -> str:
            return " ".join(f"{value:.4g}" for value in values)

        by = "" if self.decoder == "pillow" else f", JPEGs by {self.decoder}"
        return f"{self.geometry}, mean {listed(self.mean)}, std {listed(self.std)}{by}"

    @property
    def geometry(self) -> str:
        """Resize and crop, in words."""
        how = "squash to" if self.squash else "resize"
        padded = ", padded with black" if self.pads else ""
        return f"{how} {self.resize} ({self.interpolation}), crop {self.crop}{padded}"

    @property
    def pads(self) -> bool:
        """Whether the crop is larger than the resized picture."""
        return self.crop > self.resize

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after resizing, by torchvision's rules."""
        if self.squash:
            return self.resize, self.resize
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def corner(self, width: int, height: int) -> tuple[int, int]:
        """Left and top of the crop in a resized picture; negative where it is padded."""

        def start(side: int) -> int:
            spare = side - self.crop
            return -(-spare // 2) if spare < 0 else round(spare / 2.0)

        return start(width), start(height)


def _are_normal(values: Any, least: float) -> bool:
    """Whether ``values`` are three finite numbers between ``least`` and 1e6."""
    listed = list(values) if isinstance(values, Iterable) else []
    return len(listed) == 3 and all(
        isinstance(one, Real) and least <= float(one) <= 1e6 for one in listed
    )
