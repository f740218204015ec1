"""JPEG files decoded by torchcodec or torchvision, on the CPU or an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from io import BytesIO
from itertools import takewhile
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
    """A JPEG file to decode, and its number of pixels before or after resizing, if that is more."""

    path: Path
    content: bytes
    pixels: int


class Jpegs:
    """JPEG decoder on the network's device.

    A GPU decodes several files per call, on the current stream, which must not be the network's.
    torchvision writes to memory of the current stream while earlier work may still use it, so the
    stream is synchronised before every call.

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
        pixels = max(size[0] * size[1], across * down)
        return Jpeg(path, content, pixels) if pixels <= _MOST_PIXELS else None

    def prepare(self, files: Iterable[Jpeg]) -> Iterator[torch.Tensor | None]:
        """Decoded pictures ``[crop, crop, 3]`` as uint8; None for files the decoder rejects.

        Which files share a call depends on their order and sizes alone. The pictures of a call are
        held until those of the next are asked for.
        """
        if not self.on_gpu:
            for file in files:
                yield from self._prepared([file])
            return
        for chunk in _chunks(files):
            torch.cuda.current_stream(self._device).synchronize()
            yield from self._prepared(chunk)

    def _prepared(self, chunk: Sequence[Jpeg]) -> list[torch.Tensor | None]:
        try:
            decoded = _decode([file.content for file in chunk], self._device)
        except RuntimeError as error:
            if is_of_the_machine(error):
                raise
            if len(chunk) == 1:
                return [None]
            return [picture for file in chunk for picture in self._prepared([file])]
        return list(self._cut(decoded))

    def _cut(self, pictures: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Resize and crop pictures ``[3, y, x]`` to ``[crop, crop, 3]``, equal sizes at once.

        The list is emptied, so that no picture is held longer than needed.
        """
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2.functional import center_crop, resize

        filtering = InterpolationMode(self._preprocessing.interpolation)
        while pictures:
            height, width = pictures[0].shape[1:]
            sizes = (one.shape[1:] for one in pictures)
            alike = sum(1 for _ in takewhile((height, width).__eq__, sizes))
            batch = torch.stack(pictures[:alike]) if alike > 1 else pictures[0][None]
            del pictures[:alike]
            across, down = self._preprocessing.resized(width, height)
            batch = resize(batch, [down, across], filtering, antialias=True)
            cut = center_crop(batch, [self._preprocessing.crop] * 2).permute(0, 2, 3, 1)
            # On the CPU the caller copies it with numpy: torch would start more threads in every
            # decode thread.
            yield from (cut.contiguous() if self.on_gpu else cut).unbind()


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
    return _library()(files, device)


@cache
def _library() -> Callable[[list[torch.Tensor], torch.device], list[torch.Tensor]]:
    """The decoder; found once: a failing import of torchcodec takes long."""
    try:
        from torchcodec.decoders import decode_jpeg
    except (ImportError, OSError, RuntimeError):  # not installed, or built for another torch
        from torchvision.io import ImageReadMode
        from torchvision.io import decode_jpeg as by_torchvision

        return lambda files, device: list(by_torchvision(files, ImageReadMode.RGB, device))
    return lambda files, device: list(decode_jpeg(files, mode="RGB", device=device))


def _chunks(files: Iterable[Jpeg]) -> Iterator[list[Jpeg]]:
    """Split files, in order, into chunks of at most ``_MOST_PIXELS``."""
    chunk: list[Jpeg] = []
    for file in files:
        if chunk and sum(one.pixels for one in chunk) + file.pixels > _MOST_PIXELS:
            yield chunk
            chunk = []
        chunk.append(file)
    if chunk:
        yield chunk
