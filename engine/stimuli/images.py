"""Image files: finding them, and reading any kind of them as an upright 8-bit picture.

Files are read as what they hold, whatever their names say, and only as one of ``KINDS``: Pillow
knows others, some of which start programs (EPS).
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, _imaging

from ..errors import UserError, is_of_limits
from ..texts import composed
from .corrections import decoded, narrowed

# What Pillow calls a kind of file -> the suffixes that such files have.
KINDS = {
    "BMP": frozenset({".bmp", ".dib"}),
    "DIB": frozenset({".bmp", ".dib"}),
    "GIF": frozenset({".gif"}),
    "JPEG": frozenset({".jfif", ".jpe", ".jpeg", ".jpg"}),
    "PNG": frozenset({".png"}),
    "PPM": frozenset({".pbm", ".pgm", ".pnm", ".ppm"}),
    "TGA": frozenset({".tga"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "WEBP": frozenset({".webp"}),
}
SUFFIXES = frozenset().union(*KINDS.values())
# What shows through transparent pixels: the mid-grey on which localizer stimuli are shown.
BACKGROUND = (128, 128, 128, 255)
# Why a picture shows nothing.
INVISIBLE = "transparent or mid-grey throughout"
LARGEST = 2**30
LOST = "is a link that leads nowhere"
FETCH = "fetch what it leads to (git annex get), mount it, or remove the link"
# Larger pictures are converted in strips of so many pixels, so that they are in memory once.
_STRIP = 2**22
# A JPEG of a few bytes may have thousands of scans, each of which touches every pixel; cameras and
# programs write at most ten or so. This many pixel visits are some seconds.
_MOST_VISITS = 2**32
# Pillow decodes some kinds (BMP in run-length encoding, plain PNM) in Python: ten million pixels
# take a second in which no other thread decodes.
_MOST_SLOW_PIXELS = 2**24
_END_OF_JPEG = b"\xff\xd9"
_ORIENTATION = 0x0112  # in EXIF
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PILLOW = r"PIL\."
_SILENT = ("ignore", None, Warning, re.compile(_PILLOW), 0)

# Pillow's log and libtiff would say on stderr, without the file's name, what Pillow raises, too.
logging.getLogger("PIL").addHandler(logging.NullHandler())
with suppress(OSError, AttributeError):
    _set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    _set_handler.restype = ctypes.c_void_p
    _set_handler(ctypes.c_void_p(None))


class UnfitStimulus(UserError):
    """A file that cannot be shown; ``reason`` says why without the file's name."""

    def __init__(
        self, source: Path | str, reason: str, remedy: str = "replace or remove it"
    ) -> None:
        super().__init__(
            f"stimuli are BMP, GIF, JPEG, PNG, PNM, TGA, TIFF or WEBP images; {source} {reason}: "
            f"{remedy}"
        )
        self.reason = reason


class Header(NamedTuple):
    """What an image file says of itself: a key of ``KINDS``, whether pixels may be clear, its size.

    ``size`` is width and height as they are stored.
    """

    kind: str
    alpha: bool
    size: tuple[int, int]


def natural_key(name: str) -> tuple[bytes, str]:
    """Sort key under which ``face-2`` comes before ``face-10``, the same on every machine.

    Numbers come before text, and are written with the number of their digits before them. Names in
    another Unicode form have the same place.
    """
    key = bytearray()
    for part in re.findall(r"[0-9]+|[^0-9]+", composed(name)):
        if part[0] in "0123456789":
            digits = part.lstrip("0").encode()
            key += b"\x01" + len(digits).to_bytes(4, "big") + digits
        else:
            key += b"\x02" + part.casefold().encode("utf-8", "surrogatepass") + b"\x00"
    return bytes(key), name


class Entries(NamedTuple):
    """The entries of a folder, without hidden ones (a leading dot).

    ``images`` are told by their suffix, in natural order: whatever is no folder, so that links
    that lead nowhere are among them, which ``lost`` counts. ``links`` are the other ones that lead
    nowhere, and ``others`` counts all else.
    """

    images: list[str]
    folders: list[str]
    links: list[str]
    lost: int
    others: int


def entries_of(directory: Path) -> Entries:
    """Read the entries of a folder. Only links need a look at the disk: they are followed."""
    images: list[str] = []
    folders: list[str] = []
    links: list[str] = []
    lost = others = 0
    with os.scandir(directory) as entries:  # a Path for each would take ten times as long
        for entry in entries:
            if entry.name.startswith("."):
                continue
            is_file = _is(entry.is_file)
            if not is_file and _is(entry.is_dir):
                folders.append(entry.name)
            elif suffix_of(entry.name) in SUFFIXES:
                images.append(entry.name)
                lost += not is_file and entry.is_symlink()
            elif not is_file and entry.is_symlink():
                links.append(entry.name)
            else:
                others += 1
    images.sort(key=natural_key)
    return Entries(images, folders, links, lost, others)


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # a link in a circle, or to what cannot be looked at
        return False


def image_files(directory: Path) -> list[Path]:
    """The image files directly in a folder; see :class:`Entries`."""
    return [directory / name for name in entries_of(directory).images]


def suffix_of(name: str) -> str:
    """The suffix of a file's name, in small letters."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def read_stimulus(path: Path) -> bytes:
    """The content of a regular file of at most 1 GiB.

    Raises
    ------
    UnfitStimulus : there is no such file, it cannot be read, is empty, larger, or not a regular
        one (a pipe or a device would be waited for)
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
            raise UnfitStimulus(path, f"is {kind}")
        if found.st_size > LARGEST:
            raise UnfitStimulus(path, f"has {found.st_size:,} bytes; at most {LARGEST:,} are read")
        content = path.read_bytes()
    except OSError as error:
        if is_of_limits(error):  # no fault of the file's, which must not be skipped for it
            raise
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            raise UnfitStimulus(path, LOST, FETCH) from None
        raise UnfitStimulus(path, f"cannot be read ({error.strerror or error})") from None
    if not content:
        raise UnfitStimulus(path, "is empty")
    return content


def open_image(source: Path, content: bytes | None = None) -> Image.Image:
    """Read an image file as an upright 8-bit picture, mode ``L`` or ``RGB``.

    The EXIF orientation is applied; 16-bit grey is scaled (not clipped) to 8 bits; palettes and
    CMYK become RGB; transparent pixels are laid over mid-grey (128); of the several pictures that
    cameras put into one JPEG (MPO) the first is taken.

    Parameters
    ----------
    source : the file, read unless ``content`` is given, and named in errors
    content : the file's bytes, where the caller has them already

    Raises
    ------
    UnfitStimulus : the file cannot be read, is not an image, is damaged, has more than one frame
        (an animation, a TIFF of several pages), or is larger than Pillow's limit against
        decompression bombs (178,956,970 pixels)
    """
    if content is None:
        content = read_stimulus(source)
    try:
        with _opened(source, content) as image:
            picture = decoded(image, content)
            method = _UPRIGHT.get(_orientation(image))
            return _eight_bit(picture.transpose(method) if method is not None else picture, source)
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        raise UnfitStimulus(source, f"cannot be decoded ({_one_line(error)})") from None


def read_header(source: Path | str, content: bytes) -> Header:
    """What the file says of itself, without decoding it; ``content`` is all of it.

    Raises
    ------
    UnfitStimulus : as :func:`open_image`, for what can be told without decoding
    """
    with _opened(source, content) as image:
        kind = image.format or ""
        kind = "JPEG" if kind == "MPO" else kind
        return Header(kind, image.has_transparency_data, image.size)


def plain_jpeg_size(source: Path | str, content: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG that all decoders show alike; None of all others.

    It is complete, upright, alone in its file, and holds grey or YCbCr of 8 bits.

    Raises
    ------
    UnfitStimulus : as :func:`open_image`, for what can be told without decoding
    """
    with _opened(source, content) as image:
        plain = image.format == "JPEG" and image.mode in ("L", "RGB")
        converted = image.info.get("adobe_transform") != 0
        if plain and converted and content.endswith(_END_OF_JPEG):
            return image.size if _orientation(image) not in _UPRIGHT else None
    return None


def _orientation(image: Image.Image) -> Any:
    """The orientation in EXIF or XMP; where that is damaged the picture is taken as it is."""
    with suppress(Exception):  # Pillow raises many kinds, of some formats only
        return image.getexif().get(_ORIENTATION, 1)
    return 1


def _opened(source: Path | str, content: bytes) -> ImageFile.ImageFile:
    """The image before it is decoded."""
    # What Pillow warns of is either shown all the same or refused below. The filter may be gone
    # since the last call: whoever uses warnings.catch_warnings puts an older list back.
    if _SILENT not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW)
    try:
        image = Image.open(BytesIO(content), formats=tuple(KINDS))
        several = image.format != "MPO" and getattr(image, "is_animated", False)
    except UnidentifiedImageError:
        raise UnfitStimulus(source, _why_unknown(content)) from None
    except Image.DecompressionBombError as error:
        pixels = max(map(int, re.findall(r"\d+", str(error))), default=0)
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UnfitStimulus(
            source, f"has {pixels:,} pixels; at most {limit:,} are decoded"
        ) from None
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        raise UnfitStimulus(source, f"is no image that can be read ({_one_line(error)})") from None
    _refuse_slow(source, content, image)
    if several:
        raise UnfitStimulus(source, "has more than one frame, and a stimulus is one picture")
    return image


def _why_unknown(content: bytes) -> str:
    if content.startswith((b"II*\0", b"MM\0*")):
        return "is a TIFF of a layout that is not read: save it as 8-bit RGB or grey"
    return "is no image" if content else "is empty"


def _refuse_slow(source: Path | str, content: bytes, image: ImageFile.ImageFile) -> None:
    """Refuse what a file of a few bytes can make to be decoded for minutes."""
    pixels = image.width * image.height
    scans = content.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 0
    if scans * pixels > _MOST_VISITS:
        raise UnfitStimulus(source, f"has {scans:,} scans, too many for a picture of its size")
    slow = any(tile[0] in Image.DECODERS for tile in image.tile[:1])
    if slow and pixels > _MOST_SLOW_PIXELS:
        most = f"at most {_MOST_SLOW_PIXELS:,} are decoded of its encoding"
        raise UnfitStimulus(source, f"has {pixels:,} pixels; {most}")


def _one_line(error: Exception) -> str:
    """What went wrong, on one line: the messages are Pillow's, parts of them the file's."""
    if isinstance(error, MemoryError):
        return "out of memory"
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def _eight_bit(image: Image.Image, source: Path) -> Image.Image:
    if image.mode in ("L", "RGB") and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):
        return _from_wide_integers(image, source)
    if image.mode == "F":
        raise UnfitStimulus(source, "holds floats of unknown scale, and not 8 or 16 bits")
    if image.has_transparency_data:
        return _laid_over_grey(image)
    return image.convert("L" if image.mode == "1" else "RGB")


def _laid_over_grey(image: Image.Image) -> Image.Image:
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    laid = Image.new(mode, image.size)
    for top, bottom in strips(image.size):
        layer = image.crop((0, top, image.width, bottom)).convert("RGBA")
        ground = Image.new("RGBA", layer.size, BACKGROUND)
        laid.paste(Image.alpha_composite(ground, layer).convert(mode), (0, top))
    return laid


def _from_wide_integers(image: Image.Image, source: Path) -> Image.Image:
    """16-bit grey to 8-bit, where all values are of 16 bits."""
    wide = np.asarray(image)
    low, high = int(wide.min()), int(wide.max())
    if low < 0 or high > 65535:
        raise UnfitStimulus(source, f"has grey values from {low} to {high}, and not 0 to 65535")
    grey = np.empty(wide.shape, np.uint8)
    for top, bottom in strips(image.size):
        grey[top:bottom] = narrowed(wide[top:bottom])
    return Image.fromarray(grey)


def strips(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """First row and the row after the last of every strip of a picture (width, height)."""
    width, height = size
    rows = max(1, _STRIP // width)
    return ((top, min(top + rows, height)) for top in range(0, height, rows))
