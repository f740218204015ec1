"""Decoded pixels for every depth, transparency and photometric interpretation.

Files are written value by value and read by plain readers (:mod:`.plain_images`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fusiform.engine.stimuli.images import UnfitStimulus, open_image, read_header

from .fuzz.seeds import chunk, saved
from .plain_images import Values, bmp, png, shown, tga, tiff

RNG = np.random.default_rng(20)
HEIGHT, WIDTH = 6, 9


def drawn(bits: int, bands: int = 1) -> Values:
    values = RNG.integers(0, 2**bits, (HEIGHT, WIDTH, bands))
    values[1, 1] = values[0, 0]  # so that the first value occurs more than once
    return values


def picture(content: bytes) -> Values:
    return np.asarray(open_image(Path("drawn"), content).convert("RGB")).astype(float)


def pngs() -> Iterator[tuple[str, bytes]]:
    for bits in (1, 2, 4, 8, 16):
        grey = drawn(bits)
        yield f"png grey {bits}", png(0, bits, grey)
        yield f"png grey {bits} key", png(0, bits, grey, struct.pack(">H", grey[0, 0, 0]))
        unused = 2**15 if bits < 16 else 0  # bits above the depth are ignored
        key = struct.pack(">H", grey[0, 0, 0] | unused)
        yield f"png grey {bits} key with unused bits", png(0, bits, grey, key)
    for bits in (8, 16):
        colour = drawn(bits, 3)
        colour[2, 2] = colour[0, 0] ^ 1  # close to the transparent colour
        yield f"png colour {bits}", png(2, bits, colour)
        yield f"png colour {bits} key", png(2, bits, colour, struct.pack(">3H", *colour[0, 0]))
        for kind, bands in ((4, 2), (6, 4)):
            values = drawn(bits, bands)
            yield f"png kind {kind} {bits}", png(kind, bits, values)
            values[..., -1] = 0
            yield f"png kind {kind} {bits} invisible", png(kind, bits, values)
    for bits, alphas in product((1, 2, 4, 8), (None, b"\0", b"\0\x80", b"all")):
        palette = RNG.integers(0, 256, (2**bits, 3))
        alphas = RNG.bytes(2**bits) if alphas == b"all" else alphas
        yield f"png palette {bits} {alphas!r:.9}", png(3, bits, drawn(bits), alphas, palette)


def tiffs() -> Iterator[tuple[str, bytes]]:
    for order, deflate in product("<>", (False, True)):
        kind: dict[str, Any] = {"deflate": deflate}
        name = f"tiff {order}{' deflate' if deflate else ''}"
        for bits, photometric in product((1, 2, 4, 8, 12, 16), (0, 1)):
            content = tiff(order, bits, photometric, drawn(bits), **kind)
            yield f"{name} grey {bits} photometric {photometric}", content
        for extra in (0, 1, 2):
            values = drawn(8, 2)
            values[..., 0] = np.minimum(values[..., 0], values[..., 1])
            yield f"{name} grey 8 extra {extra}", tiff(order, 8, 1, values, t338=[extra], **kind)
        for bits, planes in product((8, 16), (False, True)):
            colour, more = drawn(bits, 3), {"planes": planes, **kind}
            planar = f"{name} colour {bits}{' planes' if planes else ''}"
            yield planar, tiff(order, bits, 2, colour, **more)
            for extra in (0, 1, 2):
                alpha = drawn(bits)
                values = np.dstack([np.minimum(colour, alpha), alpha])
                yield f"{planar} extra {extra}", tiff(order, bits, 2, values, t338=[extra], **more)
            yield f"{planar} of four", tiff(order, bits, 2, drawn(bits, 4), **more)
            padded = np.dstack([colour, np.zeros_like(colour[..., :1])])
            yield f"{planar} padded", tiff(order, bits, 2, padded, **more)
            yield f"{planar} inks", tiff(order, bits, 5, drawn(bits, 4), **more)
        for bits, scale in product((1, 2, 4, 8), (1, 257)):
            palette = (RNG.integers(1, 256, (2**bits, 3)) * scale).T.ravel().tolist()
            content = tiff(order, bits, 3, drawn(bits), t320=palette, **kind)
            yield f"{name} palette {bits} of {palette[0].bit_length()} bits", content


def whole(values: Values, *places: int) -> Values:
    """Bands combined into one number per pixel."""
    return (values << np.array(places)).sum(axis=2)


def bmps() -> Iterator[tuple[str, bytes]]:
    for header, down in product((40, 52, 56, 108, 124), (False, True)):
        kind: dict[str, Any] = {"down": down}
        name = f"bmp {header}{' down' if down else ''}"
        for bits in (1, 4, 8):
            ramp = np.arange(2**bits)[:, np.newaxis].repeat(3, axis=1)
            for colours, palette in (
                ("drawn", RNG.integers(0, 256, (2**bits, 3))),
                ("grey", ramp * 255 // (2**bits - 1)),
                ("dark", ramp),
                ("black and white", np.array([[0] * 3, [255] * 3])),
                ("white and black", np.array([[255] * 3, [0] * 3])),
            ):
                values = drawn(1 if len(palette) == 2 else bits)[..., 0]
                content = bmp(header, bits, values, palette=palette, **kind)
                yield f"{name} {bits} {colours}", content
        yield f"{name} 24", bmp(header, 24, whole(drawn(8, 3), 16, 8, 0), **kind)
        five, six = drawn(5, 3), np.dstack([drawn(5), drawn(6), drawn(5)])
        yield f"{name} 16", bmp(header, 16, whole(five, 10, 5, 0), **kind)
        yield f"{name} 565", bmp(header, 16, whole(six, 11, 5, 0), (0xF800, 0x7E0, 0x1F), **kind)
        for alpha in (0, 1, None):
            bit = drawn(1) if alpha is None else np.full_like(five[..., :1], alpha)
            pixels = whole(np.dstack([five, bit]), 10, 5, 0, 15)
            masks = (0x7C00, 0x3E0, 0x1F, 0x8000)
            yield f"{name} 1555 alpha {alpha}", bmp(header, 16, pixels, masks, **kind)
        for alpha in (0, 255, None):
            last = drawn(8) if alpha is None else np.full((HEIGHT, WIDTH, 1), alpha)
            values = np.dstack([drawn(8, 3), last])
            pixels, masks = whole(values, 16, 8, 0, 24), (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
            yield f"{name} 32 {alpha}", bmp(header, 32, pixels, **kind)
            yield f"{name} 32 no alpha {alpha}", bmp(header, 32, pixels, (*masks[:3], 0), **kind)
            yield f"{name} bgra {alpha}", bmp(header, 32, pixels, masks, **kind)
            if header >= 56:
                turned = masks[2], masks[1], masks[0], masks[3]
                yield f"{name} rgba {alpha}", bmp(header, 32, pixels, turned, **kind)


def tgas() -> Iterator[tuple[str, bytes]]:
    for attributes, kind, alpha in product((0, 8), (None, 0, 1, 2, 3, 4), (0, 255, None)):
        name = f"tga attributes {attributes} type {kind} alpha {alpha}"
        last = drawn(8) if alpha is None else np.full((HEIGHT, WIDTH, 1), alpha)
        colour = drawn(8, 3) if alpha == 0 or kind != 4 else np.minimum(drawn(8, 3), last)
        yield f"{name} colour", tga(2, 32, np.dstack([colour, last]), attributes, kind)
        yield f"{name} grey", tga(3, 16, np.dstack([colour[..., :1], last]), attributes, kind)
        if kind != 4:
            palette = np.hstack([RNG.integers(0, 256, (20, 3)), last.ravel()[:20, np.newaxis]])
            index = RNG.integers(0, 20, (HEIGHT, WIDTH, 1))
            yield f"{name} palette", tga(1, 8, index, attributes, kind, palette)
    for attributes, kind, bit in product((0, 1), (None, 0, 3), (0, 1, None)):
        five, last = drawn(5, 3), drawn(1) if bit is None else np.full((HEIGHT, WIDTH, 1), bit)
        pixels = whole(np.dstack([five, last]), 10, 5, 0, 15)[..., np.newaxis]
        yield f"tga 16 {attributes} {kind} bit {bit}", tga(2, 16, pixels, attributes, kind)
    yield "tga 24", tga(2, 24, drawn(8, 3), 0)
    yield "tga 8", tga(3, 8, drawn(8), 0)


FILES = dict(one for made in (pngs, tiffs, bmps, tgas) for one in made())
# Kinds with unsupported members: some Pillow releases lack such layouts.
REFUSED = ("grey 12", "grey 16 photometric 0", "planes", "extra", "palette")


@pytest.mark.parametrize("name", FILES)
def test_decoded_pixels_equal_the_files_definition(name: str) -> None:
    try:
        found = picture(FILES[name])
    except UnfitStimulus:
        assert any(kind in name for kind in REFUSED), name
        return
    multiplied = "extra 1" in name or "type 4" in name
    rounding = 3 if multiplied else 2 if " 16" in name else 1  # Pillow truncates 16 bits to 8
    np.testing.assert_allclose(found, shown(FILES[name]), atol=rounding + 0.01)


def test_nearly_every_image_layout_is_read() -> None:
    refused = []
    for name, content in FILES.items():
        try:
            picture(content)
        except UnfitStimulus:
            refused.append(name)
    assert len(refused) < 0.12 * len(FILES), refused  # 0.04 with Pillow 13, 0.11 with 11
    must = ("tiff < grey 16 photometric 0", "tiff < grey 12 photometric 1", "png grey 16 key")
    assert not set(refused) & {*must, "tiff > colour 16 planes", "bmp 40 4 dark"}


def test_unsupported_tiff_layouts_are_named() -> None:
    with pytest.raises(UnfitStimulus, match="a TIFF of an unsupported layout: save it as"):
        read_header("x.tif", tiff(">", 16, 0, drawn(16)))


def test_signed_pixel_values_raise() -> None:
    with pytest.raises(UnfitStimulus, match="signed values of 8 bits"):
        picture(tiff("<", 8, 1, drawn(8), t339=[2]))
    with pytest.raises(UnfitStimulus, match=r"signed values, compressed|has grey values from -"):
        picture(tiff(">", 16, 1, drawn(16), t339=[2], deflate=True))


# EXIF

UPRIGHT = Image.fromarray(RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1))
NO_EXIF = {
    "garbage": b"garbage!" * 4,
    "empty": b"",
    "cut short": b"II*\0\x08\0\0\0\x05\0\x12\x01",
    "an offset beyond the end": b"II*\0\xff\xff\xff\x7f",
    "a directory in itself": b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 0),
    "bytes for an orientation": b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x112, 1, 1, 6, 0),
    "many orientations": b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x112, 3, 2**31, 6, 0),
}


def with_exif(kind: str, exif: bytes) -> bytes:
    if kind == "JPEG":
        content = saved(UPRIGHT, kind, quality=98, subsampling=0)
        block = struct.pack(">2sH", b"\xff\xe1", len(exif) + 8) + b"Exif\0\0" + exif
        return content[:2] + block + content[2:]
    if kind.startswith("PNG"):
        content = saved(UPRIGHT, "PNG")
        block = chunk(b"eXIf", exif)
        if kind == "PNG text":
            block = chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 9\n" + exif.hex().encode())
        elif kind == "PNG no text":
            block = chunk(b"tEXt", b"Raw profile type exif\0\n\n\n" + exif)
        return content[:33] + block + content[33:]
    if kind == "TIFF":  # a directory after the pixels
        content = saved(UPRIGHT, kind, tiffinfo={0x8769: 7})
        place = content.index(struct.pack("<H", 0x8769))
        entry = struct.pack("<HHII", 0x8769, 4, 1, len(content))
        return content[:place] + entry + content[place + 12 :] + exif[8:]
    body = saved(UPRIGHT, kind, lossless=True)[12:]
    width, height = (struct.pack("<I", side - 1)[:3] for side in UPRIGHT.size)
    head = b"VP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + width + height
    block = b"EXIF" + struct.pack("<I", len(exif)) + exif + bytes(len(exif) % 2)
    riff = b"WEBP" + head + body + block
    return b"RIFF" + struct.pack("<I", len(riff)) + riff


@pytest.mark.parametrize("exif", NO_EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PNG text", "PNG no text", "WEBP", "TIFF"])
def test_damaged_exif_does_not_prevent_decoding(kind: str, exif: str) -> None:
    content = with_exif(kind, NO_EXIF[exif])
    read_header("x", content)
    found = picture(content)
    assert found.shape == (*UPRIGHT.size[::-1], 3)
    assert np.median(abs(found - np.asarray(UPRIGHT))) < 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PNG text", "WEBP"])
def test_valid_exif_in_the_same_place_is_applied(kind: str) -> None:
    turning = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x112, 3, 1, 6, 0)
    found = picture(with_exif(kind, turning))
    assert np.median(abs(found - np.rot90(np.asarray(UPRIGHT), -1))) < 3


def test_a_rotated_png_keeps_its_transparent_value() -> None:
    exif = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x112, 3, 1, 6, 0)
    for bits in (2, 16):
        values = drawn(bits)
        content = png(0, bits, values, struct.pack(">H", values[0, 0, 0]))
        turned = content[:33] + chunk(b"eXIf", exif) + content[33:]
        np.testing.assert_allclose(picture(turned), np.rot90(shown(content), -1), atol=1)


def test_the_plain_readers_agree_with_pillow_on_ordinary_files() -> None:
    colour = Image.fromarray(drawn(8, 3).astype(np.uint8))
    for kind in ("BMP", "TIFF", "TGA"):
        np.testing.assert_array_equal(np.rint(shown(saved(colour, kind))), np.asarray(colour))
