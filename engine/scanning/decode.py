"""From image files to the network's input: decoding runs ahead of the network in worker threads.

Pillow releases the interpreter while it decodes and resizes, so threads are enough: they share
memory with the loop, start at once, and need nothing pickled. What travels to the device is 8-bit,
a quarter of the normalised floats.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..errors import UserError
from ..spec import Preprocessing
from ..stimuli.catalogue import Catalogue
from ..stimuli.images import UnfitStimulus, open_image
from .plan import Batch, Plan

# Batches decoded beyond the one in the network.
_AHEAD = 2
# Pixels that an image may have when it is resized: a strip of one pixel's width would be stretched.
_MOST_PIXELS = 2**28
# Seconds after which an image is not waited for any more, and how often that is looked at.
_PATIENCE = 300.0
_LOOK_EVERY = 0.5
# What stands in for an image that is skipped: it is shown, and folded in nowhere.
_GREY = 128
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Decoded(NamedTuple):
    """A batch with its images ``[stimulus, crop, crop, 3]``, of which some ``failed``: row, why."""

    batch: Batch
    pixels: NDArray[np.uint8]
    failed: dict[int, str]

    def but_for(self, skipped: Mapping[int, str]) -> Decoded:
        """The same, in which these stimuli have failed as well."""
        rows = {r: skipped[s] for r, s in enumerate(self.batch.stimuli) if s in skipped}
        return self._replace(failed={**self.failed, **rows})


def prepare(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Resize and crop a picture to ``[crop, crop, 3]``, by torchvision's rules to the pixel.

    Raises
    ------
    UserError : the picture is so long and narrow that resized it would not fit in memory
    """
    width, height = image.size
    side, crop = preprocessing.resize, preprocessing.crop
    size = (side, side)
    if not preprocessing.squash:
        shorter = min(width, height)
        size = (int(side * width / shorter), int(side * height / shorter))
        size = (side, size[1]) if width <= height else (size[0], side)
    if size[0] * size[1] > _MOST_PIXELS:
        raise UserError(
            f"{width} x {height} pixels would become {size[0]} x {size[1]}, at most "
            f"{_MOST_PIXELS:,} are made: cut it"
        )
    if image.mode != "RGB":  # or it would be copied
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
    Where ``pixels`` are pinned, a GPU fetches them while the program goes on.
    """
    sent = torch.from_numpy(pixels).to(device, non_blocking=device.type == "cuda")
    images = sent.to(torch.float32).div_(255)
    images.sub_(torch.tensor(preprocessing.mean, device=device))
    images.div_(torch.tensor(preprocessing.std, device=device))
    return images.permute(0, 3, 1, 2).to(dtype)


def decode_ahead(
    catalogue: Catalogue,
    plan: Plan,
    preprocessing: Preprocessing,
    workers: int,
    *,
    first: int = 0,
    skip: bool = False,
    look: Callable[[], None] = lambda: None,
    pinned: bool = False,
) -> Iterator[Decoded]:
    """Every batch of ``plan`` from number ``first`` on with its decoded images, in order.

    Parameters
    ----------
    workers : threads
    skip : go on without images that cannot be decoded, which are said to have failed
    look : called now and then while an image is waited for; what it raises ends the waiting
    pinned : decode into memory that a GPU can fetch from by itself

    Raises
    ------
    UserError : naming the first image, in the order of showing, that cannot be decoded or is not
        what it was when the catalogue was read; one that takes minutes
    """
    crop = preprocessing.crop

    def decode(pixels: NDArray[np.uint8], row: int, stimulus: int) -> None:
        path = catalogue.path(stimulus)
        if catalogue.pictures:
            pixels[row] = catalogue.pictures.read(stimulus, path)
            return
        content = catalogue.read(stimulus)
        catalogue.require_unchanged(stimulus, content)
        image = open_image(path, content)
        try:
            pixels[row] = prepare(image, preprocessing)
        except UserError as error:
            raise UnfitStimulus(path, f"cannot be resized ({error})") from None

    def finish(batch: Batch, pixels: NDArray[np.uint8], jobs: list[Future[None]]) -> Decoded:
        failed = {}
        for row, job in enumerate(jobs):
            try:
                _wait(job, look)
            except UnfitStimulus as unfit:
                if not skip:
                    path = catalogue.path(batch.stimuli[row])
                    remedy = "restore it, or leave it out by --on-error skip"
                    raise UnfitStimulus(path, unfit.reason, remedy) from None
                failed[row], pixels[row] = unfit.reason, _GREY
            except TimeoutError:
                raise UserError(
                    f"an image is decoded in seconds; {catalogue.path(batch.stimuli[row])} has "
                    f"taken {_PATIENCE:.0f}: its file system may hang, or it is no ordinary image"
                ) from None
        return Decoded(batch, pixels, failed)

    remaining = plan.batches(first)
    waiting: deque[tuple[Batch, NDArray[np.uint8], list[Future[None]]]] = deque()
    with _daemons(workers) as submit:

        def begin() -> None:
            batch = next(remaining, None)
            if batch is not None:
                shape = (len(batch.stimuli), crop, crop, 3)
                pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned).numpy()
                jobs = [submit(decode, pixels, row, s) for row, s in enumerate(batch.stimuli)]
                waiting.append((batch, pixels, jobs))

        for _ in range(1 + _AHEAD):
            begin()
        while waiting:
            decoded = finish(*waiting.popleft())
            begin()
            yield decoded


def _wait(job: Future[None], look: Callable[[], None]) -> None:
    """Until ``job`` is done; raises what it has raised, or TimeoutError."""
    for _ in range(int(_PATIENCE / _LOOK_EVERY)):
        try:
            return job.result(timeout=_LOOK_EVERY)
        except TimeoutError:
            look()
    raise TimeoutError


@contextmanager
def _daemons(workers: int) -> Iterator[Callable[..., Future[None]]]:
    """Give what has a thread call a function.

    Unlike a pool's, the threads do not keep the program from ending when one of them hangs.
    """
    jobs: SimpleQueue[tuple[Future[None], Callable[..., None], tuple[Any, ...]] | None]
    jobs = SimpleQueue()

    def work() -> None:
        while job := jobs.get():
            future, function, arguments = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:
                    future.set_exception(error)

    def submit(function: Callable[..., None], *arguments: Any) -> Future[None]:
        future: Future[None] = Future()
        jobs.put((future, function, arguments))
        return future

    for number in range(workers):
        Thread(target=work, name=f"decode_{number}", daemon=True).start()
    try:
        yield submit
    finally:
        with suppress(Empty):
            while True:  # what nobody waits for any more
                jobs.get_nowait()
        for _ in range(workers):
            jobs.put(None)


def default_workers() -> int:
    """Threads that decode where none are asked for: as many as cores, at most 8."""
    return min(8, os.cpu_count() or 1)
