"""Image files: finding them, and reading any kind of them as an upright 8-bit picture."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UserError

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("bmp", "dib", "gif", "jfif", "jpe", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm"),
        *("tga", "tif", "tiff", "webp"),
    )
)
# What shows through transparent pixels: the mid-grey on which localizer stimuli are shown.
BACKGROUND = (128, 128, 128, 255)


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key under which ``face-2`` comes before ``face-10``, the same on every machine."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    chunks = [(0, int(p), "") if p[0] in "0123456789" else (1, 0, p.casefold()) for p in parts]
    return chunks, name


def image_files(directory: Path) -> list[Path]:
    """The image files that lie directly in ``directory``, in natural order, told by their suffix.

    Hidden files (a leading dot) are passed over.
    """
    names = [p for p in directory.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()]
    visible = [p for p in names if not p.name.startswith(".")]
    return sorted(visible, key=lambda p: natural_key(p.name))


def open_image(source: Path, content: bytes | None = None) -> Image.Image:
    """Read an image file as an upright 8-bit picture, mode ``L`` or ``RGB``.

    The EXIF orientation is applied; 16-bit grey is scaled (not clipped) to 8 bits; palettes and
    CMYK become RGB; transparent pixels are laid over mid-grey (128); of an animation the first
    frame is taken.

    Parameters
    ----------
    source : the file, read unless ``content`` is given, and named in errors
    content : the file's bytes, where the caller has them already

    Raises
    ------
    UserError : the file cannot be read, is not an image, or is damaged
    """
    try:
        with Image.open(source if content is None else BytesIO(content)) as image:
            image.load()
            return _eight_bit(ImageOps.exif_transpose(image), source)
    except UnidentifiedImageError:
        raise UserError(f"stimuli must be images; {source} is not one: remove it") from None
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        raise UserError(f"cannot read the image {source} ({error}): replace or remove it") from None


def check_header(source: Path, content: bytes) -> None:
    """Refuse, without decoding it, a file whose ``content`` does not begin as an image does.

    Raises
    ------
    UserError : naming ``source``
    """
    try:
        Image.open(BytesIO(content)).close()
    except Image.DecompressionBombError as error:
        raise UserError(f"cannot read the image {source} ({error}): replace or remove it") from None
    except Exception:  # Pillow's readers raise many kinds for damaged files
        raise UserError(f"stimuli must be images; {source} is not one: remove it") from None


def _eight_bit(image: Image.Image, source: Path) -> Image.Image:
    if image.mode in ("L", "RGB") and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):
        return _from_wide_integers(image, source)
    if image.mode == "F":
        raise UserError(
            f"stimuli need 8 or 16 bits per pixel; {source} holds floats of unknown scale: "
            "save it as 8-bit"
        )
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, BACKGROUND), layer).convert(
            "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
        )
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_wide_integers(image: Image.Image, source: Path) -> Image.Image:
    """16-bit grey to 8-bit: Pillow's own conversion would clip every value above 255."""
    wide = np.asarray(image).astype(np.int64)
    if wide.size and (wide.min() < 0 or wide.max() > 65535):
        raise UserError(
            f"grey images need values from 0 to 65535; {source} has {wide.min()} to {wide.max()}: "
            "save it as 8- or 16-bit"
        )
    return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
