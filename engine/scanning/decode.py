"""From image files to the network's input: decoding runs ahead of the network in worker threads.

Pillow releases the interpreter while it decodes and resizes, so threads are enough: they share
memory with the loop, start at once, and need nothing pickled. What travels to the device is 8-bit,
a quarter of the normalised floats.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..spec import Preprocessing
from ..stimuli.catalogue import Catalogue
from ..stimuli.images import open_image
from .plan import Batch, Plan

# Batches decoded beyond the one in the network.
_AHEAD = 2
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def prepare(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Resize and crop a picture to ``[crop, crop, 3]``, by torchvision's rules to the pixel."""
    width, height = image.size
    side, crop = preprocessing.resize, preprocessing.crop
    size = (side, side)
    if not preprocessing.squash:
        shorter = min(width, height)
        size = (int(side * width / shorter), int(side * height / shorter))
        size = (side, size[1]) if width <= height else (size[0], side)
    image = image.convert("RGB")
    if size != image.size:
        image = image.resize(size, _FILTERS[preprocessing.interpolation])
    left, top = round((size[0] - crop) / 2.0), round((size[1] - crop) / 2.0)
    return np.array(image.crop((left, top, left + crop, top + crop)))


def normalise(
    pixels: NDArray[np.uint8],
    preprocessing: Preprocessing,
    device: torch.device,
    dtype: torch.dtype,
) -> torch.Tensor:
    """The network's input ``[stimulus, 3, y, x]`` (channels last in memory) on ``device``.

    ``pixels`` is ``[stimulus, y, x, 3]``. Arithmetic is float32, whatever the network's ``dtype``.
    """
    images = torch.from_numpy(pixels).to(device).to(torch.float32).div_(255)
    images.sub_(torch.tensor(preprocessing.mean, device=device))
    images.div_(torch.tensor(preprocessing.std, device=device))
    return images.permute(0, 3, 1, 2).to(dtype)


def decode_ahead(
    catalogue: Catalogue, plan: Plan, preprocessing: Preprocessing, workers: int
) -> Iterator[tuple[Batch, NDArray[np.uint8]]]:
    """Every batch of ``plan`` with its decoded images ``[stimulus, crop, crop, 3]``, in order.

    Raises
    ------
    UserError : naming the first image, in the order of showing, that cannot be decoded
    """
    crop = preprocessing.crop

    def decode(pixels: NDArray[np.uint8], row: int, stimulus: int) -> None:
        pixels[row] = prepare(open_image(catalogue.path(stimulus)), preprocessing)

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        waiting: deque[tuple[Batch, NDArray[np.uint8], list[Future[None]]]] = deque()
        remaining = plan.batches()

        def submit() -> None:
            batch = next(remaining, None)
            if batch is not None:
                pixels = np.empty((len(batch.stimuli), crop, crop, 3), dtype=np.uint8)
                jobs = [pool.submit(decode, pixels, row, s) for row, s in enumerate(batch.stimuli)]
                waiting.append((batch, pixels, jobs))

        try:
            for _ in range(1 + _AHEAD):
                submit()
            while waiting:
                batch, pixels, jobs = waiting.popleft()
                for job in jobs:
                    job.result()
                submit()
                yield batch, pixels
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def default_workers() -> int:
    """Threads that decode where none are asked for: as many as cores, at most 8."""
    return min(8, os.cpu_count() or 1)
