"""Small sound image files of every kind, for the fuzzer to damage."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

RNG = np.random.default_rng(0)
RGB = Image.fromarray(
    np.clip(np.add.outer(np.arange(20), np.arange(24))[..., np.newaxis] * (3, 4, 5), 0, 255).astype(
        np.uint8
    )
)
NOISE = Image.fromarray(RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8))
RGBA = Image.merge("RGBA", (*RGB.split(), NOISE.getchannel(0)))
WIDE = RNG.integers(0, 65536, (20, 24), dtype=np.uint16)


def seeds() -> dict[str, bytes]:
    """Name -> content; the name starts with the kind of file."""
    grey, palette, bits = RGB.convert("L"), RGB.quantize(16), RGB.convert("1")
    frames = {"save_all": True, "append_images": [NOISE, RGB]}
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "words " * 200, zip=True)
    text.add_itxt("XML:com.adobe.xmp", "<x tiff:Orientation='6'/>")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "described"
    return {
        "png grey": saved(grey, "PNG"),
        "png colour": saved(RGB, "PNG"),
        "png noise": saved(NOISE, "PNG"),
        "png alpha": saved(RGBA, "PNG"),
        "png grey alpha": saved(RGBA.convert("LA"), "PNG"),
        "png palette": saved(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "png bits": saved(bits, "PNG"),
        "png 16-bit": saved(Image.fromarray(WIDE), "PNG"),
        "png interlaced": interlaced(np.asarray(grey)),
        "png text": saved(RGB, "PNG", pnginfo=text, exif=exif, icc_profile=bytes(200)),
        "png animated": saved(RGB, "PNG", **frames),
        "jpeg baseline": saved(RGB, "JPEG"),
        "jpeg grey": saved(grey, "JPEG"),
        "jpeg progressive": saved(NOISE, "JPEG", progressive=True),
        "jpeg cmyk": saved(RGB.convert("CMYK"), "JPEG"),
        "jpeg exif": saved(RGB, "JPEG", exif=exif, icc_profile=bytes(200), comment=b"words"),
        "jpeg restart": saved(NOISE, "JPEG", restart_marker_blocks=1, subsampling=2),
        "jpeg camera": saved(RGB, "MPO", save_all=True, append_images=[NOISE]),
        "gif": saved(palette, "GIF"),
        "gif transparent": saved(palette, "GIF", transparency=3),
        "gif animated": saved(RGB, "GIF", **frames),
        "bmp": saved(RGB, "BMP"),
        "bmp palette": saved(palette, "BMP"),
        "bmp bits": saved(bits, "BMP"),
        "bmp runs": bmp_runs(),
        "dib": saved(RGB, "DIB"),
        "tiff strips": saved(RGB, "TIFF"),
        "tiff 16-bit": saved(Image.fromarray(WIDE), "TIFF"),
        "tiff tiles": tiled(np.asarray(grey)),
        "tiff lzw": saved(RGB, "TIFF", compression="tiff_lzw"),
        "tiff deflate": saved(NOISE, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": saved(RGB, "TIFF", compression="jpeg"),
        "tiff packbits": saved(palette, "TIFF", compression="packbits"),
        "tiff fax": saved(bits, "TIFF", compression="group4"),
        "tiff alpha": saved(RGBA, "TIFF"),
        "tiff cmyk": saved(RGB.convert("CMYK"), "TIFF"),
        "tiff lab": saved(RGB.convert("LAB"), "TIFF"),
        "tiff exif": saved(RGB, "TIFF", exif=exif),
        "tiff pages": saved(RGB, "TIFF", **frames),
        "webp": saved(RGB, "WEBP"),
        "webp lossless": saved(NOISE, "WEBP", lossless=True),
        "webp alpha": saved(RGBA, "WEBP", exif=exif),
        "webp animated": saved(RGB, "WEBP", **frames),
        "pnm colour": saved(RGB, "PPM"),
        "pnm grey": saved(grey, "PPM"),
        "pnm bits": saved(bits, "PPM"),
        "pnm 16-bit": saved(Image.fromarray(WIDE), "PPM"),
        "pnm plain": b"P3\n# words\n24 20\n255\n" + b" ".join(b"%d" % v for v in RGB.tobytes()),
        "tga": saved(RGB, "TGA"),
        "tga runs": saved(palette, "TGA", compression="tga_rle"),
    }


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file, with its checksum."""
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def interlaced(grey: NDArray[np.uint8]) -> bytes:
    """An Adam7 PNG, which Pillow reads but does not write."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
              (1, 0, 2, 1)]  # fmt: skip
    rows = [b"\0" + row.tobytes() for y, x, dy, dx in passes for row in grey[y::dy, x::dx]]
    height, width = grey.shape
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1))
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )


def tiled(grey: NDArray[np.uint8]) -> bytes:
    """A TIFF of 16 x 16 tiles, which Pillow reads but does not write."""
    height, width = grey.shape
    down, across = -(-height // 16), -(-width // 16)
    padded = np.pad(grey, ((0, 16 * down - height), (0, 16 * across - width)))
    tiles = padded.reshape(down, 16, across, 16).swapaxes(1, 2).tobytes()
    n = down * across
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 322: 16, 323: 16}
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    entries += [
        struct.pack("<HHII", 324, 4, n, start),
        struct.pack("<HHII", 325, 4, n, start + 4 * n),
    ]
    places = [start + 8 * n + 256 * i for i in range(n)]
    return (
        b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)
        + struct.pack(f"<{2 * n}I", *places, *[256] * n) + tiles
    )  # fmt: skip


def bmp_runs() -> bytes:
    """An 8-bit run-length-encoded BMP, which Pillow reads but does not write."""
    rows = b"".join(bytes([12, row, 12, 255 - row, 0, 0]) for row in range(20)) + b"\0\1"
    palette = b"".join(bytes([i, i, 255 - i, 0]) for i in range(256))
    start = 14 + 40 + len(palette)
    head = struct.pack("<IiiHHIIiiII", 40, 24, 20, 1, 8, 1, len(rows), 2835, 2835, 256, 0)
    return b"BM" + struct.pack("<III", start + len(rows), 0, start) + head + palette + rows
