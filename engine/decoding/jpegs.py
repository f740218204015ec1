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

# Pixels of a picture, as it is or resized, and of those that a GPU decodes in one call. Larger
# pictures are left to Pillow.
_MOST_PIXELS = 2**24
# Bytes that a GPU needs for each of them: decoded; and of one picture, as it is and resized, as
# floats, and resized and rounded.
_PER_PIXEL = 3 + 12 + 12 + 3


class Jpeg(NamedTuple):
    """A file that torchvision is asked to decode, of so many ``pixels``."""

    path: Path
    content: bytes
    pixels: int


class Jpegs:
    """Decodes JPEG files where a network runs.

    On a GPU several are decoded in one call, on a stream of their own. torchvision writes to memory
    that it takes from the current stream while that may still be at work in it; this stream has
    nothing but decoded pictures, and is waited for.

    Raises
    ------
    UserError : neither torchcodec nor torchvision can decode JPEG files there
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
                "JPEG files are decoded by torchcodec or torchvision, for the CPU with libjpeg, "
                f"for a GPU with nvJPEG; on {self._device} neither can ({reason}): "
                "pip install 'fusiform[jpeg]', or leave out --decoder torchvision"
            ) from error
        self._stream: torch.cuda.Stream | None = None
        if self.on_gpu:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @property
    def device_bytes(self) -> int:
        """Bytes that decoding takes on a GPU, beside what nvJPEG has for itself."""
        return _PER_PIXEL * _MOST_PIXELS if self.on_gpu else 0

    def read(self, path: Path, content: bytes) -> Jpeg | None:
        """The file as one for torchvision; None where it is left to Pillow.

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
        """Pictures ``[crop, crop, 3]`` of uint8, where they were decoded; None if that is refused.

        Which files are decoded in one call depends on their order and sizes alone.
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
                picture.record_stream(current)  # or its memory would be used again too early
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
        # On the CPU whoever takes it copies it, by numpy: torch would call up threads of its own
        # in every decode thread, beside those of the network.
        return cut.contiguous() if self.on_gpu else cut


def jpegs_of(preprocessing: Preprocessing, device: torch.device) -> Jpegs | None:
    """What decodes JPEG files beside Pillow, if anything is to.

    Raises
    ------
    UserError : see :class:`Jpegs`
    """
    return Jpegs(preprocessing, device) if preprocessing.decoder == "torchvision" else None


def _decode(contents: Sequence[bytes], device: torch.device) -> list[torch.Tensor]:
    files = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]
    return decode_jpegs(files, device)


def decode_jpegs(files: list[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """Pictures ``[3, y, x]``, by torchcodec or by the same decoders in torchvision.

    torchvision has deprecated its own in favour of torchcodec's.
    """
    try:
        from torchcodec.decoders import decode_jpeg
    except (ImportError, OSError, RuntimeError):  # not installed, or made for another torch
        from torchvision.io import ImageReadMode
        from torchvision.io import decode_jpeg as by_torchvision

        return list(by_torchvision(files, ImageReadMode.RGB, device))
    return list(decode_jpeg(files, mode="RGB", device=device))


def _chunks(files: Sequence[Jpeg]) -> Iterator[list[Jpeg]]:
    """Files in order, so many at a time as have few enough pixels together."""
    chunk: list[Jpeg] = []
    for file in files:
        if chunk and sum(one.pixels for one in chunk) + file.pixels > _MOST_PIXELS:
            yield chunk
            chunk = []
        chunk.append(file)
    if chunk:
        yield chunk
