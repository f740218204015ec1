"""Decoding by Pillow, corrected where Pillow's pixels differ from what the file describes.

Tested against plain readers for every combination of depth, transparency and photometric
interpretation that Pillow opens (``tests/test_pixels.py``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

# TIFF tags, and the footer of a TGA file with an extension area.
_BITS, _PHOTOMETRIC, _PLANES, _COLOURS, _EXTRA, _SIGN = 258, 262, 284, 320, 338, 339
_TGA_FOOTER = b"TRUEVISION-XFILE.\0"


def decoded(image: ImageFile.ImageFile, content: bytes) -> Image.Image:
    """Pixels of an opened image, transparent only where the file says so.

    An alpha channel of zeros is padding in BMP and TGA, and in TIFF unless declared as alpha: many
    programs write such files and show their colours.
    """
    return _CORRECTIONS.get(image.format or "", _loaded)(image, content)


def _loaded(image: ImageFile.ImageFile, content: bytes) -> Image.Image:
    del content
    image.load()
    return image


def _tile(image: ImageFile.ImageFile) -> tuple[str, tuple[Any, ...], int]:
    """Codec, arguments and offset of the first pixels; the first argument is the raw mode."""
    if not image.tile:
        raise ValueError("it has no pixels")
    codec, _, offset, arguments = image.tile[0]
    return codec, arguments if isinstance(arguments, tuple) else (arguments,), offset


def _read_as(image: ImageFile.ImageFile, raw: str, *, after: bool = False) -> None:
    """Set the raw mode of all tiles, or with ``after`` append to it."""
    tiles = []
    for tile in image.tile:
        own, *rest = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        tiles.append(tile._replace(args=(own + raw if after else raw, *rest)))
    image.tile = tiles


def _png(image: ImageFile.ImageFile, content: bytes) -> Image.Image:
    """PNG: compare the transparent value at the depth of the file."""
    key = image.info.get("transparency")
    if key is None or image.mode not in ("1", "L", "RGB", "I;16"):
        return _loaded(image, content)
    raw = _tile(image)[1][0]
    if raw == "RGB;16B":
        clear = _sixteen_bit(content) == np.array(key, np.uint16)
        image.load()
        image.putalpha(Image.fromarray(np.where(clear.all(axis=2), 0, 255).astype(np.uint8)))
        return image
    image.load()
    if image.mode == "I;16":
        wide = np.asarray(image)
        alpha = np.where(wide == key, 0, 255).astype(np.uint8)
        return Image.merge("LA", [Image.fromarray(narrowed(wide)), Image.fromarray(alpha)])
    if image.mode == "RGB":
        image.info["transparency"] = tuple(value & 255 for value in key)
    else:
        top = {"1": 1, "L;2": 3, "L;4": 15}.get(raw, 255)
        image.info["transparency"] = (key & top) * (255 // top)
    return image


def _sixteen_bit(content: bytes) -> NDArray[Any]:
    """Values of a 16-bit colour PNG; Pillow keeps only the upper bytes."""
    halves = []
    for raw in ("RGB;16B", "RGB;16L"):  # read as little-endian, it gives the lower bytes
        with Image.open(BytesIO(content), formats=("PNG",)) as image:
            _read_as(image, raw)
            halves.append(np.asarray(image).astype(np.uint16))
    return halves[0] << 8 | halves[1]


def narrowed(wide: NDArray[np.generic]) -> NDArray[np.uint8]:
    """16 bits to 8, rounded. Pillow's own conversion clips values above 255."""
    return ((wide.astype(np.int64) + 128) // 257).astype(np.uint8)


def _tiff(image: ImageFile.ImageFile, content: bytes) -> Image.Image:
    """TIFF: 0 is white, 12 bits, planes of 16 bits, colours of 8 bits, undeclared alpha."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits, declared = tags.get(_BITS, (1,))[0], _EXTRA in tags
    codec, (raw, *_), _ = _tile(image)
    if image.mode == "L" and 2 in np.atleast_1d(tags.get(_SIGN, 1)):
        raise ValueError("it holds signed values of 8 bits")
    if codec == "libtiff" and raw.endswith("BS"):
        raise ValueError("it holds signed values, compressed, in big-endian order")
    if tags.get(_PLANES) == 2 and codec == "libtiff" and image.mode == "RGBA" and not declared:
        raise ValueError("it does not say what its fourth plane is")
    if tags.get(_PLANES) == 2 and codec == "raw" and bits == 16:
        _read_as(image, ";16B" if content.startswith(b"M") else ";16L", after=True)
    image.load()
    if image.mode.startswith("I;16") and (bits == 12 or tags.get(_PHOTOMETRIC) == 0):
        wide: NDArray[Any] = np.asarray(image).astype(np.uint16)
        wide = wide << 4 | wide >> 8 if bits == 12 else wide
        return Image.fromarray(~wide if tags.get(_PHOTOMETRIC) == 0 else wide)
    if image.mode in ("P", "PA") and max(tags[_COLOURS]) < 256:
        image.putpalette(np.reshape(tags[_COLOURS], (3, -1)).T.astype(np.uint8).tobytes())
    if image.mode == "La":
        return image.convert("LA")
    return image if declared else _without_padding(image)


def _bmp(image: ImageFile.ImageFile, content: bytes) -> Image.Image:
    """BMP: few colours at many bits, alpha of 16-bit pixels, alpha that is padding."""
    start = 14 if image.format == "BMP" else 0
    size = struct.unpack_from("<I", content, start)[0]
    bits = struct.unpack_from("<H", content, start + (10 if size == 12 else 14))[0]
    codec, (_, *layout), offset = _tile(image)
    if image.mode in ("1", "L") and bits == 4 and codec == "raw":
        coded = Image.frombytes("P", image.size, content[offset:], "raw", "P;4", *layout)
        top = 255 if image.mode == "1" else 1
        return coded.point([min(value * top, 255) for value in range(256)], "L")
    if image.mode == "1" and bits > 1:
        _read_as(image, "1;8")
    image.load()
    if bits == 16 and size >= 56 and image.info["compression"] == 3:
        stride, direction = layout
        pixels = np.frombuffer(content, "<u2", image.height * stride // 2, offset)
        pixels = pixels.reshape(image.height, -1)[::direction, : image.width]
        clear = pixels & struct.unpack_from("<H", content, start + 52)[0] == 0
        image.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
    return _without_padding(image)


def _tga(image: ImageFile.ImageFile, content: bytes) -> Image.Image:
    """TGA: alpha counts only if the header or extension area declares it."""
    image.load()
    if not image.has_transparency_data:
        return image
    attributes, kind = content[17] & 15, -1
    if content.endswith(_TGA_FOOTER):
        start = struct.unpack_from("<I", content, len(content) - 26)[0]
        kind = content[start + 494] if 0 < start < len(content) - 494 else -1
    mode = "LA" if image.mode == "LA" else "RGBA"
    picture = image.convert(mode)
    if kind in (0, 1, 2) or (kind not in (3, 4) and not attributes):
        return picture.convert(mode[:-1])
    picture = _without_padding(picture)
    if kind == 4 and picture.mode == mode:  # premultiplied alpha
        return Image.frombytes(mode[:-1] + "a", picture.size, picture.tobytes()).convert(mode)
    return picture


def _without_padding(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() == (0, 0):
        return image.convert(image.mode[:-1])
    return image


_CORRECTIONS: dict[str, Callable[[ImageFile.ImageFile, bytes], Image.Image]] = {
    "BMP": _bmp,
    "DIB": _bmp,
    "PNG": _png,
    "TGA": _tga,
    "TIFF": _tiff,
}
