"""Image files: find them, and read them as upright 8-bit pictures.

A file's content decides its kind, not its name. Only ``KINDS`` are read: Pillow also reads formats
that start other programs (EPS).
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, _imaging

from ..errors import UserError, is_resource_limit
from ..texts import composed
from .corrections import decoded, narrowed

# Pillow's name of a format -> its file suffixes.
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
# Colour behind transparent pixels: the mid-grey background of localizer stimuli.
BACKGROUND = (128, 128, 128, 255)
# Reason why a picture shows nothing.
INVISIBLE = "transparent or mid-grey throughout"
LARGEST = 2**30
LOST = "is a broken link"
FETCH = "fetch its target (git annex get), mount it, or remove the link"
# Pixels per strip in which pictures are converted, so that a large one is in memory only once.
_STRIP = 2**22
# Most pixels times scans of a JPEG, some seconds of decoding. A tiny file can have thousands of
# scans, each over every pixel; cameras and programs write about ten.
_MOST_VISITS = 2**32
# Most pixels of encodings that Pillow decodes in Python (run-length BMP, plain PNM): ten million
# take a second, in which no other thread decodes.
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

# Pillow's log and libtiff print to stderr, without the file's name, what Pillow raises anyway.
logging.getLogger("PIL").addHandler(logging.NullHandler())
with suppress(OSError, AttributeError):
    _set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    _set_handler.restype = ctypes.c_void_p
    _set_handler(ctypes.c_void_p(None))


class UnfitStimulus(UserError):
    """A stimulus file that cannot be shown; ``reason`` does not name the file."""

    def __init__(
        self, source: Path | str, reason: str, remedy: str = "replace or remove it"
    ) -> None:
        super().__init__(
            f"stimuli are BMP, GIF, JPEG, PNG, PNM, TGA, TIFF or WEBP images; {source} {reason}: "
            f"{remedy}"
        )
        self.reason = reason


class Header(NamedTuple):
    """Header of an image file: a key of ``KINDS``, whether it has alpha, and its size.

    ``size`` is width and height as stored.
    """

    kind: str
    alpha: bool
    size: tuple[int, int]


def natural_key(name: str) -> tuple[bytes, str]:
    """Sort key that puts ``face-2`` before ``face-10``, the same on every machine.

    Numbers sort before text, and by their number of digits first. The Unicode form of a name does
    not matter.
    """
    key = bytearray()
    for part in re.findall(r"[0-9]+|[^0-9]+", composed(name)):
        if part[0] in "0123456789":
            digits = part.lstrip("0").encode()
            key += b"\x01" + len(digits).to_bytes(4, "big") + digits
        else:
            key += b"\x02" + part.casefold().encode("utf-8", "surrogatepass") + b"\x00"
    return bytes(key), name


def suffix_of(name: str) -> str:
    """Suffix of a file's name, in lower case."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def read_stimulus(path: Path) -> bytes:
    """Content of a regular file of at most 1 GiB.

    Raises
    ------
    UnfitStimulus : the file is missing, unreadable, empty, too large or not regular (reading a pipe
        or device could block)
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
        if is_resource_limit(error):  # not the file's fault, so it must not be skipped
            raise
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            raise UnfitStimulus(path, LOST, FETCH) from None
        raise UnfitStimulus(path, f"cannot be read ({error.strerror or error})") from None
    if not content:
        raise UnfitStimulus(path, "is empty")
    return content


def read_part(file: Path, start: int, size: int, path: Path) -> bytes:
    """Content of a stimulus that is part of a ``file``; errors name it by ``path``.

    Raises
    ------
    UnfitStimulus : empty, larger than 1 GiB, or in a file that is unreadable or truncated
    """
    if size > LARGEST:
        raise UnfitStimulus(path, f"has {size:,} bytes; at most {LARGEST:,} are read")
    if not size:
        raise UnfitStimulus(path, "is empty")
    try:
        with file.open("rb", buffering=0) as whole:
            if not stat.S_ISREG(os.fstat(whole.fileno()).st_mode):
                raise UnfitStimulus(path, "is in a file that is not a regular one any more")
            whole.seek(start)
            content = whole.read(size)
    except OSError as error:
        if is_resource_limit(error):  # not the file's fault, so it must not be skipped
            raise
        raise UnfitStimulus(path, f"cannot be read ({error.strerror or error})") from None
    if len(content or b"") < size:
        raise UnfitStimulus(path, "is in a file that is cut short")
    return bytes(content)


def as_pnm(pixels: bytes, height: int, width: int, channels: int) -> bytes:
    """Raw pixels ``[y, x, channel]`` as a PNM file: grey for one channel, RGB for three.

    The header is that of Netpbm and Pillow, so the file has the hash of one that they write.
    """
    return b"P%d\n%d %d\n255\n" % (6 if channels == 3 else 5, width, height) + pixels


def open_image(source: Path, content: bytes | None = None) -> Image.Image:
    """Read an image file as an upright 8-bit picture, mode ``L`` or ``RGB``.

    Applies the EXIF orientation, scales 16-bit grey to 8 bits, converts palettes and CMYK to RGB,
    puts transparent pixels on mid-grey (128), and takes the first picture of a multi-picture JPEG
    (MPO).

    Parameters
    ----------
    source : the file; named in errors
    content : the file's bytes, if already read

    Raises
    ------
    UnfitStimulus : the file is unreadable, damaged or not an image, has several frames (an
        animation, a TIFF of several pages), or is larger than Pillow's limit against decompression
        bombs (178,956,970 pixels)
    """
    if content is None:
        content = read_stimulus(source)
    try:
        with _opened(source, content) as image:
            return upright(decoded(image, content), orientation_of(image), source)
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        raise UnfitStimulus(source, f"cannot be decoded ({_one_line(error)})") from None


def upright(image: Image.Image, orientation: Any, source: Path) -> Image.Image:
    """A decoded picture as an upright 8-bit one, by its orientation; see :func:`open_image`.

    Raises
    ------
    UnfitStimulus : its values have no known scale
    """
    method = _UPRIGHT.get(orientation)
    return _eight_bit(image.transpose(method) if method is not None else image, source)


def read_header(source: Path | str, content: bytes) -> Header:
    """Header of a file with this ``content``, without decoding the pixels.

    Raises
    ------
    UnfitStimulus : as :func:`open_image`, as far as the header tells
    """
    with _opened(source, content) as image:
        kind = "JPEG" if image.format == "MPO" else image.format or ""
        return Header(kind, image.has_transparency_data, image.size)


def plain_jpeg_size(source: Path | str, content: bytes) -> tuple[int, int] | None:
    """Width and height of a plain JPEG, which all decoders show alike; None for any other file.

    A plain JPEG is complete, upright, alone in its file, and 8-bit grey or YCbCr.

    Raises
    ------
    UnfitStimulus : as :func:`open_image`, as far as the header tells
    """
    with _opened(source, content) as image:
        plain = image.format == "JPEG" and image.mode in ("L", "RGB")
        converted = image.info.get("adobe_transform") != 0
        if plain and converted and content.endswith(_END_OF_JPEG):
            return image.size if orientation_of(image) not in _UPRIGHT else None
    return None


def orientation_of(image: Image.Image) -> Any:
    """Orientation in EXIF or XMP; upright if that is damaged."""
    with suppress(Exception):  # Pillow raises many kinds of errors
        return image.getexif().get(_ORIENTATION, 1)
    return 1


def _opened(source: Path | str, content: bytes) -> ImageFile.ImageFile:
    """Open an image without decoding it."""
    # Pillow's warnings concern images that are fine or rejected below. The filter may be gone since
    # the last call, as warnings.catch_warnings restores an older list.
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
        why = f"has {pixels:,} pixels; at most {limit:,} are decoded"
        raise UnfitStimulus(source, why) from None
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        raise UnfitStimulus(source, f"cannot be read as an image ({_one_line(error)})") from None
    _refuse_slow(source, content, image)
    if several:
        raise UnfitStimulus(source, "has more than one frame, and a stimulus is one picture")
    return image


def _why_unknown(content: bytes) -> str:
    if content.startswith((b"II*\0", b"MM\0*")):
        return "is a TIFF of an unsupported layout: save it as 8-bit RGB or grey"
    if content[4:8] == b"ftyp":
        return "is HEIC, AVIF or a video, whatever its name: save it as JPEG or PNG"
    return "is not an image" if content else "is empty"


def _refuse_slow(source: Path | str, content: bytes, image: ImageFile.ImageFile) -> None:
    """Raise for tiny files that would take minutes to decode."""
    pixels = image.width * image.height
    scans = content.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 0
    if scans * pixels > _MOST_VISITS:
        raise UnfitStimulus(source, f"has {scans:,} scans, too many for a picture of its size")
    slow = any(tile[0] in Image.DECODERS for tile in image.tile[:1])
    if slow and pixels > _MOST_SLOW_PIXELS:
        most = f"at most {_MOST_SLOW_PIXELS:,} are decoded in its encoding"
        raise UnfitStimulus(source, f"has {pixels:,} pixels; {most}")


def _one_line(error: Exception) -> str:
    """Pillow's message on one line, without control characters that the file may contain."""
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
        raise UnfitStimulus(source, "holds floats of unknown scale, not 8 or 16 bits")
    if image.has_transparency_data:
        return _over_grey(image)
    return image.convert("L" if image.mode == "1" else "RGB")


def _over_grey(image: Image.Image) -> Image.Image:
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    flat = Image.new(mode, image.size)
    for top, bottom in strips(image.size):
        layer = image.crop((0, top, image.width, bottom)).convert("RGBA")
        ground = Image.new("RGBA", layer.size, BACKGROUND)
        flat.paste(Image.alpha_composite(ground, layer).convert(mode), (0, top))
    return flat


def _from_wide_integers(image: Image.Image, source: Path) -> Image.Image:
    """16-bit grey to 8-bit."""
    wide = np.asarray(image)
    low, high = int(wide.min()), int(wide.max())
    if low < 0 or high > 65535:
        raise UnfitStimulus(source, f"has grey values from {low} to {high}, not 0 to 65535")
    grey = np.empty(wide.shape, np.uint8)
    for top, bottom in strips(image.size):
        grey[top:bottom] = narrowed(wide[top:bottom])
    return Image.fromarray(grey)


def strips(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """First and last row (exclusive) of every strip of a picture (width, height)."""
    width, height = size
    rows = max(1, _STRIP // width)
    return ((top, min(top + rows, height)) for top in range(0, height, rows))
