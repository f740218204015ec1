"""JPEG files decoded by torchcodec or torchvision, on the CPU or an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from ..errors import UserError
from ..networks.out_of_memory import is_of_the_machine
from ..preprocessing import Preprocessing
from ..stimuli.images import plain_jpeg_size

# Most pixels of a picture, before or after resizing, and of all pictures in one call of a GPU.
# Larger pictures are left to Pillow.
_MOST_PIXELS = 2**24
# GPU bytes per pixel: decoded; as floats before and after resizing; rounded.
_PER_PIXEL = 3 + 12 + 12 + 3


class Jpeg(NamedTuple):
    """A JPEG file to decode, and its number of pixels."""

    path: Path
    content: bytes
    pixels: int


class Jpegs:
    """JPEG decoder on the network's device.

    A GPU decodes several files per call, on a separate stream. torchvision writes to memory of the
    current stream while earlier work may still use it; the separate stream holds only decoded
    pictures and is synchronised before every call.

    Raises
    ------
    UserError : neither torchcodec nor torchvision can decode JPEG files on the device
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        self._preprocessing = preprocessing
        self.on_gpu = device.type == "cuda"
        self._device = device if self.on_gpu else torch.device("cpu")
        smallest = BytesIO()
        Image.new("RGB", (16, 16)).save(smallest, "JPEG")
        try:
            _decode([smallest.getvalue()], self._device)
        except (RuntimeError, ImportError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
            raise UserError(
                "torchcodec or torchvision decode JPEG files, with libjpeg on the CPU and nvJPEG "
                f"on a GPU; on {self._device} neither can ({reason}): "
                "pip install 'fusiform[jpeg]', or leave out `decoder=\"torchvision\"`"
            ) from error
        self._stream: torch.cuda.Stream | None = None
        if self.on_gpu:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @property
    def device_bytes(self) -> int:
        """GPU memory for decoding, beside nvJPEG's own."""
        return _PER_PIXEL * _MOST_PIXELS if self.on_gpu else 0

    def read(self, path: Path, content: bytes) -> Jpeg | None:
        """The file as a :class:`Jpeg`; None leaves it to Pillow.

        Raises
        ------
        UnfitStimulus : see :func:`..stimuli.images.plain_jpeg_size`
        """
        size = plain_jpeg_size(path, content)
        if size is None:
            return None
        across, down = self._preprocessing.resized(*size)
        pixels = size[0] * size[1]
        return Jpeg(path, content, pixels) if max(pixels, across * down) <= _MOST_PIXELS else None

    def prepare(self, files: Sequence[Jpeg]) -> list[torch.Tensor | None]:
        """Decoded pictures ``[crop, crop, 3]`` as uint8; None for files the decoder rejects.

        Which files share a call depends on their order and sizes alone.
        """
        if self._stream is None:
            return [self._prepared([file])[0] for file in files]
        pictures: list[torch.Tensor | None] = []
        with torch.cuda.stream(self._stream):
            for chunk in _chunks(files):
                self._stream.synchronize()
                pictures += self._prepared(chunk)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        for picture in pictures:
            if picture is not None:
                picture.record_stream(current)  # else its memory would be reused too early
        return pictures

    def _prepared(self, chunk: Sequence[Jpeg]) -> list[torch.Tensor | None]:
        try:
            decoded = _decode([file.content for file in chunk], self._device)
        except RuntimeError as error:
            if is_of_the_machine(error):
                raise
            if len(chunk) == 1:
                return [None]
            return [self._prepared([file])[0] for file in chunk]
        return [self._cut(picture) for picture in decoded]

    def _cut(self, picture: torch.Tensor) -> torch.Tensor:
        """Resize and crop ``[3, y, x]`` to ``[crop, crop, 3]``."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2.functional import center_crop, resize

        height, width = picture.shape[1:]
        across, down = self._preprocessing.resized(width, height)
        filtering = InterpolationMode(self._preprocessing.interpolation)
        resized: torch.Tensor = resize(picture, [down, across], filtering, antialias=True)
        square: torch.Tensor = center_crop(resized, [self._preprocessing.crop] * 2)
        cut = square.permute(1, 2, 0)
        # On the CPU the caller copies it with numpy: torch would start more threads in every decode
        # thread.
        return cut.contiguous() if self.on_gpu else cut


def jpegs_of(preprocessing: Preprocessing, device: torch.device) -> Jpegs | None:
    """JPEG decoder for ``preprocessing``; None if Pillow decodes everything.

    Raises
    ------
    UserError : see :class:`Jpegs`
    """
    return Jpegs(preprocessing, device) if preprocessing.decoder == "torchvision" else None


def _decode(contents: Sequence[bytes], device: torch.device) -> list[torch.Tensor]:
    files = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]
    return decode_jpegs(files, device)


def decode_jpegs(files: list[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """Pictures ``[3, y, x]``, by torchcodec, or else by torchvision's deprecated decoders."""
    try:
        from torchcodec.decoders import decode_jpeg
    except (ImportError, OSError, RuntimeError):  # not installed, or built for another torch
        from torchvision.io import ImageReadMode
        from torchvision.io import decode_jpeg as by_torchvision

        return list(by_torchvision(files, ImageReadMode.RGB, device))
    return list(decode_jpeg(files, mode="RGB", device=device))


def _chunks(files: Sequence[Jpeg]) -> Iterator[list[Jpeg]]:
    """Split files, in order, into chunks of at most ``_MOST_PIXELS``."""
    chunk: list[Jpeg] = []
    for file in files:
        if chunk and sum(one.pixels for one in chunk) + file.pixels > _MOST_PIXELS:
            yield chunk
            chunk = []
        chunk.append(file)
    if chunk:
        yield chunk
