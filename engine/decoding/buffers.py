"""Memory that batches are decoded into, and their way from there to the network's device.

A network on the CPU reads a batch where it was decoded: each has memory of its own. For a GPU a few
pinned buffers are used in turn, because pinning is slow. A batch is copied out of its buffer on a
stream of its own as soon as it is decoded, while the network computes.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UserError

Pixels: TypeAlias = "NDArray[np.uint8] | torch.Tensor"
# Rows of a batch and their pictures.
Rows: TypeAlias = Iterable[tuple[int, torch.Tensor]]


class Arrived(NamedTuple):
    """Pixels where the network reads them, once the device has reached the event ``copied``."""

    pixels: Pixels
    copied: torch.cuda.Event | None = None

    def received(self) -> Pixels:
        """The pixels, for the stream that the network uses; does not wait."""
        if self.copied is not None and isinstance(self.pixels, torch.Tensor):
            current = torch.cuda.current_stream(self.pixels.device)
            current.wait_event(self.copied)
            self.pixels.record_stream(current)  # else its memory would be reused too early
        return self.pixels


class Buffers:
    """Memory of its own for every batch."""

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self.shape = shape

    def take(self, stimuli: int) -> NDArray[np.uint8]:
        """Memory for the pictures of a batch."""
        return np.empty((stimuli, *self.shape[1:]), np.uint8)

    def hand_over(self, pixels: NDArray[np.uint8], others: Rows = ()) -> Arrived:
        """A decoded batch, for the network; a GPU decodes the rows ``others``."""
        del others
        return Arrived(pixels)

    def close(self) -> None:
        """Release what was reserved."""


class Ring(Buffers):
    """A ``number`` of buffers used in turn; one is reused when its batch has left it.

    Parameters
    ----------
    shape : of the largest batch
    shared : decoding processes write to the buffers too
    """

    def __init__(self, shape: tuple[int, int, int, int], number: int, *, shared: bool) -> None:
        super().__init__(shape)
        self.file: int | None = None
        self._every = self._allocated((number, *shape), shared=shared)
        self._free: deque[tuple[int, torch.cuda.Event | None]] = deque()
        self._free.extend((slot, None) for slot in range(number))

    def _allocated(self, shape: tuple[int, ...], *, shared: bool) -> NDArray[np.uint8]:
        if not shared:
            return np.empty(shape, np.uint8)
        self.file, memory = _shared_memory(int(np.prod(shape)))
        return np.frombuffer(memory, np.uint8).reshape(shape)

    def take(self, stimuli: int) -> NDArray[np.uint8]:
        """The buffer that was left first, once its batch has left it."""
        slot, copied = self._free.popleft()
        if copied is not None:
            copied.synchronize()
        return self._every[slot, :stimuli]

    def first_row(self, pixels: NDArray[np.uint8]) -> int:
        """Row of the file of all buffers that holds the first picture of a batch."""
        picture = int(np.prod(self.shape[1:]))
        return (pixels.ctypes.data - self._every.ctypes.data) // picture

    def hand_over(self, pixels: NDArray[np.uint8], others: Rows = ()) -> Arrived:
        """Take a decoded batch out of its buffer, which is free then."""
        arrived = self._left(pixels, others)
        self._free.append((self.first_row(pixels) // self.shape[0], arrived.copied))
        return arrived

    def _left(self, pixels: NDArray[np.uint8], others: Rows) -> Arrived:
        """The batch outside its buffer, or on its way."""
        del others
        return Arrived(pixels.copy())

    def close(self) -> None:
        """Release the file; the memory goes with its last user."""
        if self.file is not None:
            os.close(self.file)


class Pinned(Ring):
    """A ring in pinned memory, which a GPU copies from by itself.

    Memory that the system does not pin is used all the same: copies are right, but slower.
    """

    def __init__(
        self, shape: tuple[int, int, int, int], number: int, device: torch.device, *, shared: bool
    ) -> None:
        self.device, self._lock = device, Lock()
        self._registered = self._closed = False
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        super().__init__(shape, number, shared=shared)

    def _allocated(self, shape: tuple[int, ...], *, shared: bool) -> NDArray[np.uint8]:
        if not shared:
            with suppress(RuntimeError):
                return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
            return super()._allocated(shape, shared=False)
        memory = super()._allocated(shape, shared=True)
        refused = _runtime().cudaHostRegister(memory.ctypes.data, memory.nbytes, 0)
        self._registered = not int(refused)
        if not self._registered:
            with suppress(RuntimeError):  # raises the driver's error
                torch.zeros(1, device=self.device)
        return memory

    def _left(self, pixels: NDArray[np.uint8], others: Rows) -> Arrived:
        with self._lock, torch.cuda.stream(self.stream):
            if self._closed:  # by an error: nobody will see it
                return Arrived(pixels)
            there = _copied(pixels, self.device)
            for row, picture in others:
                there[row].copy_(picture, non_blocking=True)
            return Arrived(there, self.stream.record_event())

    def close(self) -> None:
        """Wait for copies, and unpin the memory."""
        with self._lock:
            self._closed = True
            with suppress(RuntimeError):  # of a GPU that has failed: the network raises it too
                self.stream.synchronize()
            if self._registered:
                _runtime().cudaHostUnregister(self._every.ctypes.data)
        super().close()


def _copied(pixels: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """A copy on a device, which is under way."""
    return torch.from_numpy(pixels).to(device, non_blocking=True)


def _runtime() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


def _shared_memory(size: int) -> tuple[int, mmap.mmap]:
    """Memory, and the descriptor of its file, which processes started later can map.

    Raises
    ------
    UserError : the system gives none
    """
    descriptor = None
    try:
        descriptor = os.memfd_create("fusiform pixels")
        os.ftruncate(descriptor, size)
        return descriptor, mmap.mmap(descriptor, size)
    except (AttributeError, OSError) as error:
        if descriptor is not None:
            os.close(descriptor)
        raise UserError(
            "for a GPU every decode worker is a process that shares memory with the scan; the "
            f"system gives none ({error}): use fewer `decode_workers`"
        ) from error
