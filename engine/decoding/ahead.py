"""Image files to network input, decoded ahead of the network by worker threads.

Pillow releases the GIL while it decodes and resizes, so threads are enough for a network on the
CPU: they share memory with the loop and start at once. A GPU needs more images than a few threads
decode; with many workers, each has a process (:mod:`.processes`). Pixels travel to the
device as 8-bit, a quarter of the normalised floats. JPEG files that a GPU decodes travel encoded.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UserError
from ..moments.plan import Batch, Plan
from ..preprocessing import Preprocessing
from ..stimuli.catalogue import Catalogue
from ..stimuli.images import UnfitStimulus
from .jpegs import Jpeg, jpegs_of
from .pictures import is_invisible, picture_of
from .processes import Decoders, decoders

# Batches decoded ahead of the one in the network.
_AHEAD = 2
# Threads that decode for a GPU: up to here they are at least as fast as processes, beyond it they
# block each other (benchmarks/results/decoding.md).
_MOST_THREADS = 4
# Seconds to wait for an image, and between calls of `look` meanwhile.
_PATIENCE = 300.0
_LOOK_EVERY = 0.5
# Pixel value of a skipped image: the network sees it, but it is not accumulated.
_GREY = 128
_CPU = torch.device("cpu")
_Job: TypeAlias = Future[Jpeg | None]


class Decoded(NamedTuple):
    """A batch with its images ``[stimulus, crop, crop, 3]``; ``failed`` maps a row to the reason.

    If a device decoded JPEG files, ``pixels`` are on that device.
    """

    batch: Batch
    pixels: NDArray[np.uint8] | torch.Tensor
    failed: dict[int, str]

    def but_for(self, skipped: Mapping[int, str]) -> Decoded:
        """Mark the ``skipped`` stimuli of the batch as failed too."""
        rows = {r: skipped[s] for r, s in enumerate(self.batch.stimuli) if s in skipped}
        return self._replace(failed={**self.failed, **rows})


def normalise(
    pixels: NDArray[np.uint8] | torch.Tensor,
    preprocessing: Preprocessing,
    device: torch.device,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Network input ``[stimulus, 3, y, x]`` (channels last in memory) on ``device``.

    ``pixels`` is ``[stimulus, y, x, 3]``. Arithmetic is float32 for any ``dtype`` of the network.
    Pinned ``pixels`` are copied to a GPU asynchronously.
    """
    if isinstance(pixels, np.ndarray):
        pixels = torch.from_numpy(pixels).to(device, non_blocking=device.type == "cuda")
    images = pixels.to(torch.float32).div_(255)
    images.sub_(torch.tensor(preprocessing.mean, device=device))
    images.div_(torch.tensor(preprocessing.std, device=device))
    return images.permute(0, 3, 1, 2).to(dtype)


@dataclass(frozen=True)
class ImageSource:
    """Images of a stimulus set and how they are decoded.

    Parameters
    ----------
    workers : decoding threads
    skip : continue without images that cannot be decoded and mark them as failed
    device : of the network. For a GPU, images are decoded into pinned memory, or JPEG files on the
        GPU itself if ``preprocessing`` names torchvision
    processes : decode in a process per thread; by default see :func:`needs_processes`
    """

    catalogue: Catalogue
    preprocessing: Preprocessing
    workers: int
    skip: bool = False
    device: torch.device = _CPU
    processes: bool | None = None


def decode_ahead(
    source: ImageSource,
    plan: Plan,
    *,
    first: int = 0,
    look: Callable[[], None] = lambda: None,
    invisible: Callable[[int], None] = lambda _: None,
) -> Iterator[Decoded]:
    """Batches of ``plan`` from number ``first`` on with their decoded images, in order.

    Parameters
    ----------
    look : called now and then while waiting for an image; what it raises ends the waiting
    invisible : called with every stimulus in which nothing is visible, before its batch

    Raises
    ------
    UserError : the first image, in the order of showing, that cannot be decoded or has changed
        since the catalogue was read; an image that takes minutes; a decoder that is not installed
        or has died
    """
    remaining = plan.batches(first)
    waiting: deque[tuple[Batch, NDArray[np.uint8], list[_Job]]] = deque()
    crop, pinned = source.preprocessing.crop, source.device.type == "cuda"
    processes = source.processes
    if processes is None:
        processes = needs_processes(source.catalogue, source.device, source.workers)
    with _daemons(source.workers) as submit, ExitStack() as stack:
        apart = None
        if processes:
            apart = stack.enter_context(decoders(source.preprocessing, source.workers))
        decoder = _Decoder(source, apart, look, invisible)

        def begin() -> None:
            batch = next(remaining, None)
            if batch is not None:
                shape = (len(batch.stimuli), crop, crop, 3)
                pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned).numpy()
                jobs = [submit(decoder.fill, pixels, r, s) for r, s in enumerate(batch.stimuli)]
                waiting.append((batch, pixels, jobs))

        for _ in range(1 + _AHEAD):
            begin()
        while waiting:
            decoded = decoder.finish(*waiting.popleft())
            begin()
            yield decoded


class _Decoder:
    """Decodes single images in threads, and joins them to batches in the main thread."""

    def __init__(
        self,
        source: ImageSource,
        apart: Decoders | None,
        look: Callable[[], None],
        invisible: Callable[[int], None],
    ) -> None:
        self._source, self._apart, self._look, self._invisible = source, apart, look, invisible
        self._jpegs = jpegs_of(source.preprocessing, source.device)

    def fill(self, pixels: NDArray[np.uint8], row: int, stimulus: int) -> Jpeg | None:
        """Fill a row of a batch, or return the JPEG file that the GPU will decode into it."""
        catalogue, jpegs = self._source.catalogue, self._jpegs
        path = catalogue.path(stimulus)
        if catalogue.pictures:
            pixels[row] = catalogue.pictures.read(stimulus, path)
            return None
        content = catalogue.read(stimulus)
        catalogue.require_unchanged(stimulus, content)
        if jpegs and (jpeg := jpegs.read(path, content)):
            if jpegs.on_gpu:
                return jpeg
            if (picture := jpegs.prepare([jpeg])[0]) is not None:
                pixels[row] = picture.numpy()
                return None
        self._by_pillow(pixels, row, path, content)
        return None

    def _by_pillow(self, pixels: NDArray[np.uint8], row: int, path: Path, content: bytes) -> None:
        if self._apart is None:
            pixels[row] = picture_of(path, content, self._source.preprocessing)
        else:
            self._apart.fill(pixels[row], path, content)

    def finish(self, batch: Batch, pixels: NDArray[np.uint8], jobs: list[_Job]) -> Decoded:
        """Wait for the images of a batch."""
        failed: dict[int, str] = {}

        def attempt(row: int, work: Callable[[], Jpeg | None]) -> Jpeg | None:
            path = self._source.catalogue.path(batch.stimuli[row])
            try:
                return work()
            except UnfitStimulus as unfit:
                if not self._source.skip:
                    remedy = 'restore it, or leave it out with `on_error="skip"`'
                    raise UnfitStimulus(path, unfit.reason, remedy) from None
                failed[row], pixels[row] = unfit.reason, _GREY
            except TimeoutError:
                raise UserError(
                    f"an image decodes within seconds; {path} has taken {_PATIENCE:.0f}: its file "
                    "system may hang, or the file is not an ordinary image"
                ) from None
            return None

        files = {}
        for row, job in enumerate(jobs):
            if (jpeg := attempt(row, partial(_wait, job, self._look))) is not None:
                files[row] = jpeg
            elif row not in failed and is_invisible(pixels[row]):
                self._invisible(int(batch.stimuli[row]))
        if not self._jpegs or not files:
            return Decoded(batch, pixels, failed)
        prepared = dict(zip(files, self._jpegs.prepare(list(files.values())), strict=True))
        for row in (row for row, picture in prepared.items() if picture is None):
            attempt(row, partial(self._by_pillow, pixels, row, *files[row][:2]))
        return Decoded(batch, _joined(pixels, prepared), failed)


def _joined(
    pixels: NDArray[np.uint8], prepared: Mapping[int, torch.Tensor | None]
) -> NDArray[np.uint8] | torch.Tensor:
    """Batch on the device of its ``prepared`` pictures; only the missing rows are copied there."""
    there = {row: picture for row, picture in prepared.items() if picture is not None}
    if not there:
        return pixels
    device = next(iter(there.values())).device
    rows = enumerate(torch.from_numpy(pixels))
    return torch.stack([there[r] if r in there else row.to(device) for r, row in rows])


def _wait(job: _Job, look: Callable[[], None]) -> Jpeg | None:
    """Wait for ``job``, calling ``look`` now and then; raises the job's error or TimeoutError."""
    for _ in range(int(_PATIENCE / _LOOK_EVERY)):
        try:
            return job.result(timeout=_LOOK_EVERY)
        except TimeoutError:
            look()
    raise TimeoutError


@contextmanager
def _daemons(workers: int) -> Iterator[Callable[..., _Job]]:
    """Daemon threads and a function that submits calls to them.

    Unlike those of a pool, they do not keep the program from exiting when one hangs.
    """
    jobs: SimpleQueue[tuple[_Job, Callable[..., Jpeg | None], tuple[Any, ...]] | None]
    jobs = SimpleQueue()

    def work() -> None:
        while job := jobs.get():
            future, function, arguments = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:
                    future.set_exception(error)

    def submit(function: Callable[..., Jpeg | None], *arguments: Any) -> _Job:
        future: _Job = Future()
        jobs.put((future, function, arguments))
        return future

    for number in range(workers):
        Thread(target=work, name=f"decode_{number}", daemon=True).start()
    try:
        yield submit
    finally:
        with suppress(Empty):
            while True:  # drop jobs that nobody waits for
                jobs.get_nowait()
        for _ in range(workers):
            jobs.put(None)


def needs_processes(catalogue: Catalogue | None, device: torch.device, workers: int) -> bool:
    """Whether ``workers`` decode in processes: for a GPU, if there are more than a few.

    A network on the CPU takes fewer images than threads decode, and uses the cores itself. Packed
    sets are already decoded. Without a ``catalogue``, images are files.
    """
    packed = catalogue is not None and catalogue.pictures is not None
    return device.type == "cuda" and workers > _MOST_THREADS and not packed


def default_workers() -> int:
    """Default number of decode threads: one per core, at most 8."""
    return min(8, os.cpu_count() or 1)
