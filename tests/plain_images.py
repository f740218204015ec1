"""PNG, TIFF, BMP and TGA files written value by value, and plain readers of them.

A file shows colour ``[y, x, rgb]`` from 0 to 255 and opacity ``[y, x]`` from 0 to 1.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .fuzz.seeds import chunk

Values = NDArray[Any]
Tags = dict[int, list[int]]
_TIFF_TYPES = {3: "H", 4: "I"}


class Shown(NamedTuple):
    """Colour and opacity of a file, as a plain reader decodes it."""

    colour: Values
    opacity: Values

    def over_grey(self) -> Values:
        """The picture composited on mid-grey."""
        opacity = self.opacity[..., np.newaxis]
        return self.colour * opacity + 128 * (1 - opacity)


# Bits


def packed(values: Values, bits: int, order: str = ">") -> list[bytes]:
    """Rows of ``values [y, x, band]`` with ``bits`` per value, padded to whole bytes."""
    rows = values.reshape(len(values), -1)
    if bits % 8 == 0:
        return [row.astype(f"{order}u{bits // 8}").tobytes() for row in rows]
    places = np.arange(bits - 1, -1, -1)
    return [np.packbits((row[:, None] >> places & 1).astype(bool)).tobytes() for row in rows]


def unpacked(data: bytes, bits: int, shape: tuple[int, int, int], order: str = ">") -> Values:
    """Values ``[y, x, band]`` of packed rows."""
    height, width, bands = shape
    if bits % 8 == 0:
        values = np.frombuffer(data, f"{order}u{bits // 8}")
    else:
        stride = -(-width * bands * bits // 8)
        rows = np.frombuffer(data, np.uint8).reshape(height, stride)
        single = np.unpackbits(rows, axis=1)[:, : width * bands * bits]
        values = single.reshape(-1, bits) @ (1 << np.arange(bits - 1, -1, -1))
    return values.reshape(shape).astype(np.int64)


def _coloured(values: Values, bits: int) -> Values:
    colour = values / (2**bits - 1) * 255
    return np.repeat(colour, 3, axis=2) if values.shape[2] == 1 else colour


# PNG


def png(
    kind: int, bits: int, values: Values, clear: bytes | None = None, palette: Values | None = None
) -> bytes:
    """A PNG; ``kind`` is the colour type, ``clear`` the content of tRNS."""
    size = struct.pack(">II", values.shape[1], len(values))
    rows = b"".join(b"\0" + row for row in packed(values, bits))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", size + bytes([bits, kind, 0, 0, 0])),
            chunk(b"PLTE", palette.astype(np.uint8).tobytes()) if palette is not None else b"",
            chunk(b"tRNS", clear) if clear is not None else b"",
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""),
        )
    )


def _of_png(content: bytes) -> Shown:
    chunks, at = dict[bytes, bytes](), 8
    while at < len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        chunks[name] = content[at + 8 : at + 8 + length]
        at += 12 + length
    width, height, bits, kind = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    values = unpacked(rows[:, 1:].tobytes(), bits, (height, width, bands))
    opaque, clear = np.ones((height, width)), chunks.get(b"tRNS")
    if kind == 3:
        palette = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
        alphas = np.full(2**bits, 255)
        alphas[: len(clear or b"")] = list(clear or b"")
        return Shown(palette[values[..., 0]].astype(float), alphas[values[..., 0]] / 255)
    if kind in (4, 6):
        return Shown(_coloured(values[..., :-1], bits), values[..., -1] / (2**bits - 1))
    if clear is not None:
        key = np.frombuffer(clear, ">u2").astype(int) % 2**bits
        opaque = (values != key).any(axis=2).astype(float)
    return Shown(_coloured(values, bits), opaque)


# TIFF


def tiff(
    order: str, bits: int, photometric: int, values: Values, *, deflate: bool = False,
    planes: bool = False, **more: Any,
) -> bytes:  # fmt: skip
    """A TIFF of one strip, or one per band if ``planes``; ``more`` are tags, ``t338=[2]``."""
    height, width, bands = values.shape
    parts = np.split(values, bands, axis=2) if planes else [values]
    strips = [b"".join(packed(part, bits, order)) for part in parts]
    strips = [zlib.compress(strip) for strip in strips] if deflate else strips
    tags: Tags = {
        256: [width], 257: [height], 258: [bits] * bands, 259: [8 if deflate else 1],
        262: [photometric], 273: [0] * len(strips), 277: [bands], 278: [height],
        279: [len(strip) for strip in strips], 284: [1 + planes],
        **{int(name[1:]): tag for name, tag in more.items()},
    }  # fmt: skip
    types = {tag: 4 if tag in (273, 279) else 3 for tag in tags}
    sizes = {tag: len(tags[tag]) * struct.calcsize(_TIFF_TYPES[types[tag]]) for tag in tags}
    beyond = 8 + 2 + 12 * len(tags) + 4
    pixels = beyond + sum(size for size in sizes.values() if size > 4)
    tags[273] = (pixels + np.cumsum([0, *map(len, strips[:-1])])).tolist()
    entries, outside = b"", b""
    for tag in sorted(tags):
        coded = struct.pack(f"{order}{len(tags[tag])}{_TIFF_TYPES[types[tag]]}", *tags[tag])
        if len(coded) > 4:
            place = struct.pack(order + "I", beyond + len(outside))
            outside += coded
        else:
            place = coded.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, types[tag], len(tags[tag])) + place
    head = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(tags))
    return head + entries + bytes(4) + outside + b"".join(strips)


def _of_tiff(content: bytes) -> Shown:
    order, tags = "<" if content[:2] == b"II" else ">", dict[int, tuple[int, ...]]()
    (start,) = struct.unpack_from(order + "I", content, 4)
    (number,) = struct.unpack_from(order + "H", content, start)
    for at in range(start + 2, start + 2 + 12 * number, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", content, at)
        coded = f"{order}{count}{_TIFF_TYPES[kind]}"
        far = struct.calcsize(coded) > 4
        place = struct.unpack_from(order + "I", content, at + 8)[0] if far else at + 8
        tags[tag] = struct.unpack_from(coded, content, place)
    (width,), (height,), bits = tags[256], tags[257], tags[258][0]
    strips = [content[at : at + n] for at, n in zip(tags[273], tags[279], strict=True)]
    strips = [zlib.decompress(strip) for strip in strips] if tags[259] == (8,) else strips
    bands = tags[277][0] // len(strips)
    parts = [unpacked(strip, bits, (height, width, bands), order) for strip in strips]
    values, (photometric,) = np.dstack(parts), tags[262]
    if photometric == 3:
        scale = 257 if max(tags[320]) > 255 else 1
        palette = np.reshape(tags[320], (3, -1)).T // scale
        return Shown(palette[values[..., 0]].astype(float), np.ones((height, width)))
    own = {0: 1, 1: 1, 2: 3, 5: 4}[photometric]
    share, extra = values / (2**bits - 1), tags.get(338, (2,))[0]
    opacity = share[..., own] if values.shape[2] > own and extra else np.ones((height, width))
    if 338 not in tags and not opacity.any():
        opacity = np.ones((height, width))
    share = share[..., :own]
    if extra == 1 and 338 in tags:  # already premultiplied
        share = np.divide(share, opacity[..., None], where=opacity[..., None] > 0, out=share * 0)
    if photometric == 5:
        share = (1 - share[..., :3]) * (1 - share[..., 3:])
    share = 1 - share if photometric == 0 else share
    return Shown(255 * (np.repeat(share, 3, axis=2) if own == 1 else share), opacity)


# BMP


def bmp(
    header: int, bits: int, values: Values, masks: tuple[int, ...] = (),
    palette: Values | None = None, *, down: bool = False,
) -> bytes:  # fmt: skip
    """A BMP; ``values [y, x]`` are whole pixels, ``masks`` those of red, green, blue, alpha."""
    height, width = values.shape
    data = b""
    for row in values[:: 1 if down else -1]:
        if bits < 24:
            line = packed(row[np.newaxis, :, np.newaxis], bits, "<")[0]
        else:
            line = b"".join(int(pixel).to_bytes(bits // 8, "little") for pixel in row)
        data += line + bytes(-len(line) % 4)
    colours = b"".join(bytes([*reversed(one), 0]) for one in ([] if palette is None else palette))
    info = struct.pack(
        "<IiiHHIIiiII", header, width, -height if down else height, 1, bits, 3 if masks else 0,
        len(data), 2835, 2835, len(colours) // 4, 0,
    )  # fmt: skip
    fields = b"".join(struct.pack("<I", mask) for mask in masks)
    info += fields[:12] if header == 40 else fields[: header - 40].ljust(header - 40, b"\0")
    start = 14 + len(info) + len(colours)
    return b"BM" + struct.pack("<III", start + len(data), 0, start) + info + colours + data


def _of_bmp(content: bytes) -> Shown:
    start, header = struct.unpack_from("<10xII", content)
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
    (number,) = struct.unpack_from("<I", content, 46)
    down, height = height < 0, abs(height)
    stride = -(-width * bits // 32) * 4
    lines = np.frombuffer(content, np.uint8, height * stride, start).reshape(height, stride)
    lines = lines if down else lines[::-1]
    opaque = np.ones((height, width))
    if bits <= 8:
        cut = lines[:, : -(-width * bits // 8)].tobytes()
        palette = np.frombuffer(content, np.uint8, 4 * number, 14 + header).reshape(-1, 4)
        index = unpacked(cut, bits, (height, width, 1))[..., 0]
        return Shown(palette[index][..., 2::-1].astype(float), opaque)
    whole = lines[:, : width * bits // 8].reshape(height, width, bits // 8).astype(np.int64)
    pixels = (whole << 8 * np.arange(bits // 8)).sum(axis=2)
    masks = [0x7C00, 0x3E0, 0x1F] if bits == 16 else [0xFF0000, 0xFF00, 0xFF]
    if compression == 3:
        masks = list(struct.unpack_from("<4I" if header >= 56 else "<3I", content, 54))
    bands = [(pixels & mask) / mask if mask else opaque for mask in masks]
    alpha = bands[3] if len(bands) > 3 and bands[3].any() else opaque
    return Shown(255 * np.dstack(bands[:3]), alpha)


# TGA


def tga(
    kind: int, depth: int, values: Values, attributes: int, attributes_type: int | None = None,
    palette: Values | None = None,
) -> bytes:  # fmt: skip
    """A TGA; ``attributes`` are the header's bits, ``attributes_type`` the extension's field."""
    height, width = values.shape[:2]
    colours = b"" if palette is None else palette.astype(np.uint8).tobytes()
    number, entry = (0, 0) if palette is None else (len(palette), 8 * palette.shape[1])
    head = struct.pack(
        "<BBBHHBHHHHBB", 0, number > 0, kind, 0, number, entry, 0, 0, width, height, depth,
        0x20 | attributes,
    )  # fmt: skip
    content = head + colours + b"".join(packed(values, 16 if values.max() > 255 else 8, "<"))
    if attributes_type is None:
        return content
    extension = struct.pack("<H", 495) + bytes(492) + bytes([attributes_type])
    return content + extension + struct.pack("<II18s", len(content), 0, b"TRUEVISION-XFILE.\0")


def _of_tga(content: bytes) -> Shown:
    number, entry = struct.unpack_from("<5xHB", content)
    width, height, depth, flags = struct.unpack_from("<HHBB", content, 12)
    declared, kind, at = flags & 15 > 0, None, 18 + number * entry // 8
    if content.endswith(b"TRUEVISION-XFILE.\0"):
        (place,) = struct.unpack_from("<I", content, len(content) - 26)
        kind = content[place + 494] if place else None
        declared = kind in (3, 4) if place else declared
    data = np.frombuffer(content, np.uint8, width * height * depth // 8, at)
    bands = data.reshape(height, width, depth // 8) / 255
    if number:
        colours = np.frombuffer(content, np.uint8, number * entry // 8, 18).reshape(number, -1)
        bands = colours[data.reshape(height, width)] / 255
    if content[2] == 2 and depth == 16:  # its single bit is set where transparent
        pixels = data.view("<u2").reshape(height, width, 1) >> np.array([0, 5, 10, 15])
        bands = (pixels & [31, 31, 31, 1]) / [31, 31, 31, 1]
        bands[..., 3] = 1 - bands[..., 3]
    own = 1 if content[2] == 3 else 3
    opacity = np.ones((height, width))
    if declared and bands.shape[2] > own and bands[..., own].any():
        opacity = bands[..., own]
    colour = np.repeat(bands[..., :1], 3, axis=2) if own == 1 else bands[..., 2::-1]
    if kind == 4:  # already premultiplied
        opaque = opacity[..., np.newaxis]
        colour = np.divide(colour, opaque, where=opaque > 0, out=np.zeros_like(colour))
    down = 1 if flags & 0x20 else -1
    return Shown(255 * colour.clip(0, 1)[::down], opacity[::down])


def shown(content: bytes) -> Values:
    """Picture ``[y, x, rgb]`` of a file, composited on mid-grey."""
    readers = {b"\x89P": _of_png, b"II": _of_tiff, b"MM": _of_tiff, b"BM": _of_bmp}
    return readers.get(content[:2], _of_tga)(content).over_grey()
