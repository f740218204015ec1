"""Image files to network input, decoded ahead of the network by worker threads.

Pillow releases the GIL while it decodes and resizes, so threads are enough for a network on the
CPU: they share memory with the loop and start at once. A GPU needs more images than a few threads
decode; with many workers, each has a process (:mod:`.processes`). Pixels travel to the
device as 8-bit, a quarter of the normalised floats. JPEG files that a GPU decodes travel encoded.

A worker takes a few images at a time. The one that ends a batch also sends it to the device, so
that the loop finds it there.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..daemons import daemons
from ..errors import UserError
from ..moments.plan import Batch, Plan
from ..networks.inputs import Inputs
from ..preprocessing import Preprocessing
from ..stimuli.catalogue import Catalogue
from ..stimuli.images import UnfitStimulus
from .buffers import Arrived, Buffers, Pinned, Ring
from .jpegs import Jpeg, jpegs_of
from .pictures import invisible_rows, picture_of
from .processes import Decoders, decoders

# Batches decoded ahead of the one in the network.
_AHEAD = 3
# Images that a worker takes at a time, at most: a job costs more than reading a packed picture.
_MOST_AT_ONCE = 8
# Threads that decode for a GPU: up to here they are at least as fast as processes, beyond it they
# block each other (benchmarks/results/decoding.md).
_MOST_THREADS = 4
# Seconds to wait for an image, and between calls of `look` meanwhile.
_PATIENCE = 300.0
_LOOK_EVERY = 0.5
# Pixel value of a skipped image: the network sees it, but it is not accumulated.
_GREY = 128
_CPU = torch.device("cpu")


class Decoded(NamedTuple):
    """A batch with its images ``[stimulus, crop, crop, 3]``; ``failed`` maps a row to the reason.

    For a GPU, ``pixels`` are there already. Stimuli that are no pictures come as they are.
    """

    batch: Batch
    pixels: NDArray[np.uint8] | torch.Tensor | Inputs
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
    images.sub_(_on_device(preprocessing.mean, device))
    images.div_(_on_device(preprocessing.std, device))
    return images.permute(0, 3, 1, 2).to(dtype)


@lru_cache(maxsize=16)
def _on_device(channels: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """A value of every channel; a GPU would be waited for if it were copied there every time."""
    return torch.tensor(channels, device=device)


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

    def buffers(self, stimuli: int, *, processes: bool) -> Buffers:
        """Memory for batches of at most so many ``stimuli``."""
        crop = self.preprocessing.crop
        shape = (stimuli, crop, crop, 3)
        if self.device.type == "cuda":
            return Pinned(shape, _AHEAD + 1, self.device, shared=processes)
        if processes:
            return Ring(shape, _AHEAD + 1, shared=True)
        return Buffers(shape)


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
    waiting: deque[_Pending] = deque()
    processes = source.processes
    if processes is None:
        processes = needs_processes(source.catalogue, source.device, source.workers)
    with daemons(source.workers, "decode") as submit, ExitStack() as stack:
        most = min(plan.batch_size, len(plan.order))
        buffers = source.buffers(most, processes=processes)
        stack.callback(buffers.close)
        apart = None
        if isinstance(buffers, Ring) and buffers.file is not None:
            apart = stack.enter_context(
                decoders(source.preprocessing, source.workers, buffers.file)
            )
        decoder = _Decoder(source, buffers, apart)

        def begin() -> None:
            batch = next(remaining, None)
            if batch is not None:
                pending = _Pending(batch, buffers.take(len(batch.stimuli)), source.workers)
                for run in pending.runs:
                    run.job = submit(decoder.fill, pending, run)
                waiting.append(pending)

        for _ in range(_AHEAD):
            begin()
        while waiting:
            decoded = decoder.finished(pending := waiting.popleft(), look)
            for row in pending.invisible:
                invisible(int(pending.batch.stimuli[row]))
            begin()
            yield decoded


class _Run:
    """Consecutive rows of a batch that one worker decodes; ``row`` is the one under way."""

    def __init__(self, rows: range) -> None:
        self.rows, self.row = rows, rows.start
        self.job: Future[None]


class _Pending:
    """A batch under way.

    ``failed`` maps rows to reasons, ``files`` maps rows to the JPEG files that the GPU decodes into
    them, and in the rows ``invisible`` nothing is visible. ``arrived`` are its pixels in the end.
    """

    def __init__(self, batch: Batch, pixels: NDArray[np.uint8], workers: int) -> None:
        self.batch, self.pixels = batch, pixels
        number = len(batch.stimuli)
        each = max(1, min(_MOST_AT_ONCE, number // workers))
        starts = range(0, number, each)
        self.runs = [_Run(range(start, min(start + each, number))) for start in starts]
        self.failed: dict[int, str] = {}
        self.files: dict[int, Jpeg] = {}
        self.invisible: list[int] = []
        self.arrived: Arrived | None = None
        self._left, self._lock = len(self.runs), Lock()

    def fail(self, row: int, reason: str) -> None:
        self.failed[row], self.pixels[row] = reason, _GREY

    def is_last(self) -> bool:
        """Whether all other runs have ended; called at the end of each."""
        with self._lock:
            self._left -= 1
            return not self._left


class _Decoder:
    """Decodes batches in threads, and waits for them in the main thread."""

    def __init__(self, source: ImageSource, buffers: Buffers, apart: Decoders | None) -> None:
        self._source, self._buffers, self._apart = source, buffers, apart
        self._jpegs = jpegs_of(source.preprocessing, source.device)

    def fill(self, pending: _Pending, run: _Run) -> None:
        """Decode a run; the last one of a batch also hands the batch over."""
        catalogue, rows = self._source.catalogue, run.rows
        own = slice(rows.start, rows.stop)
        if catalogue.pictures:
            unfit = catalogue.pictures.fill(pending.pixels[own], pending.batch.stimuli[own])
            for place, reason in unfit:
                pending.fail(rows[place], reason)
        elif self._apart and not self._jpegs:
            for row, reason in zip(rows, self._by_process(pending, own), strict=True):
                run.row = row
                if reason:
                    pending.fail(row, reason)
        else:
            for row in rows:
                run.row = row
                try:
                    self._read(pending, row)
                except UnfitStimulus as unfit_file:
                    pending.fail(row, unfit_file.reason)
        if pending.is_last() and (self._source.skip or not pending.failed):
            shown = pending.failed.keys() | pending.files.keys()
            pending.invisible = [r for r in invisible_rows(pending.pixels) if r not in shown]
            pending.arrived = self._buffers.hand_over(pending.pixels, self._by_gpu(pending))

    def _read(self, pending: _Pending, row: int) -> None:
        """Fill a row, or find the JPEG file that the GPU will decode into it."""
        catalogue, jpegs = self._source.catalogue, self._jpegs
        stimulus = pending.batch.stimuli[row]
        path, content = catalogue.path(stimulus), catalogue.read(stimulus)
        catalogue.require_unchanged(stimulus, content)
        if jpegs and (jpeg := jpegs.read(path, content)):
            if jpegs.on_gpu:
                pending.files[row] = jpeg
                return
            (picture,) = jpegs.prepare([jpeg])
            if picture is not None:
                pending.pixels[row] = picture.numpy()
                return
        if self._apart is None:
            pending.pixels[row] = picture_of(path, content, self._source.preprocessing)
            return
        for reason in self._by_process(pending, slice(row, row + 1)):
            if reason:
                raise UnfitStimulus(path, reason)

    def _by_process(self, pending: _Pending, own: slice) -> Iterator[str]:
        assert self._apart
        assert isinstance(self._buffers, Ring)
        part = self._source.catalogue.files(pending.batch.stimuli[own])
        return self._apart.fill(self._buffers.first_row(pending.pixels[own]), part)

    def _by_gpu(self, pending: _Pending) -> Iterator[tuple[int, torch.Tensor]]:
        """Rows that are not in the buffer, and their pictures; decoded as they are asked for.

        The buffers ask for one batch at a time. Pillow decodes here what the GPU rejects: nothing
        waits for a file.
        """
        if not pending.files:
            return
        assert self._jpegs
        prepared = self._jpegs.prepare(pending.files.values())
        for (row, file), picture in zip(pending.files.items(), prepared, strict=True):
            if picture is None:
                try:
                    pixels = picture_of(file.path, file.content, self._source.preprocessing)
                    pending.pixels[row] = pixels
                except UnfitStimulus as unfit:
                    pending.fail(row, unfit.reason)
                picture = torch.from_numpy(pending.pixels[row])
            yield row, picture

    def finished(self, pending: _Pending, look: Callable[[], None]) -> Decoded:
        """Wait for a batch."""
        for run in pending.runs:
            try:
                _wait(run, look)
            except TimeoutError:
                path = self._source.catalogue.path(pending.batch.stimuli[run.row])
                raise UserError(
                    f"an image decodes within seconds; {path} has taken {_PATIENCE:.0f}: its file "
                    "system may hang, or the file is not an ordinary image"
                ) from None
            self._refuse(pending, run.rows)
        self._refuse(pending, range(len(pending.pixels)))
        assert pending.arrived
        failed = dict(sorted(pending.failed.items()))
        return Decoded(pending.batch, pending.arrived.received(), failed)

    def _refuse(self, pending: _Pending, rows: range) -> None:
        for row in () if self._source.skip else sorted(pending.failed.keys() & set(rows)):
            path = self._source.catalogue.path(pending.batch.stimuli[row])
            remedy = 'restore it, or leave it out with `on_error="skip"`'
            raise UnfitStimulus(path, pending.failed[row], remedy) from None


def _wait(run: _Run, look: Callable[[], None]) -> None:
    """Wait for a run, calling ``look`` now and then; raises its error, or TimeoutError."""
    waited, row = 0.0, run.row
    while waited < _PATIENCE:
        try:
            return run.job.result(timeout=_LOOK_EVERY)
        except TimeoutError:
            look()
        waited, row = (waited + _LOOK_EVERY, row) if row == run.row else (0.0, run.row)
    raise TimeoutError


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
