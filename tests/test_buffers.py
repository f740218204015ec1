"""Buffers used in turn: a device that reads late still gets every batch as it was decoded."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fusiform.engine.decoding import buffers
from fusiform.engine.decoding.buffers import Ring
from fusiform.engine.errors import UserError
from fusiform.engine.moments.plan import Plan, make_plan
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.stimuli.catalogue import Catalogue, read_catalogue

from . import flat
from .flat import decode_ahead

GPU = torch.device("cuda")
SMALL = Preprocessing(resize=16, crop=16)


class LateGpu:
    """A fake GPU that copies out of a buffer when it has to, and not before."""

    def __init__(self) -> None:
        self.queued: list[Callable[[], object]] = []
        self.waits = True
        self.pinned: list[tuple[int, int]] = []
        self.pinning: list[bool] = []

    def copied(self, pixels: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
        assert device == GPU
        there = torch.zeros(pixels.shape, dtype=torch.uint8)
        self.queued.append(lambda: there.copy_(torch.from_numpy(pixels)))
        return there

    def record_event(self) -> LateGpu:
        return self

    def wait_event(self, event: LateGpu) -> None:
        assert event is self  # the network's stream waits, and not the program

    def synchronize(self) -> None:
        while self.waits and self.queued:
            self.queued.pop(0)()

    def cudart(self) -> LateGpu:
        return self

    def cudaHostRegister(self, place: int, size: int, flags: int) -> int:  # noqa: N802
        del flags
        self.pinned.append((place, size))
        return 0

    def cudaHostUnregister(self, place: int) -> int:  # noqa: N802
        assert not self.queued
        ((pinned, _),) = self.pinned
        assert place == pinned
        self.pinned.clear()
        return 0


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> LateGpu:
    gpu, empty = LateGpu(), torch.empty

    def not_pinned(*shape: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        gpu.pinning.append(pin_memory)
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", not_pinned)
    monkeypatch.setattr(buffers, "_copied", gpu.copied)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "cudart", gpu.cudart)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    return gpu


@pytest.fixture
def packed(stimuli: Path, tmp_path: Path) -> tuple[Catalogue, Plan]:
    flat.pack_stimuli(stimuli, tmp_path / "p.zarr", preprocessing={"resize": 16, "crop": 16})
    catalogue = read_catalogue(tmp_path / "p.zarr")
    return catalogue, make_plan(catalogue.labels, catalogue.categories, batch_size=2)


@pytest.mark.parametrize("processes", [False, True])
def test_a_buffer_is_not_reused_before_its_batch_has_left_it(
    stimuli: Path, packed: tuple[Catalogue, Plan], gpu: LateGpu, processes: bool
) -> None:
    catalogue, plan = packed
    if processes:
        catalogue = read_catalogue(stimuli)
    expected = [part.pixels for part in decode_ahead(catalogue, plan, SMALL, 2)]
    assert len(expected) > 6

    def shown() -> list[NDArray[np.uint8]]:
        parts = list(decode_ahead(catalogue, plan, SMALL, 2, device=GPU, processes=processes))
        while gpu.queued:
            gpu.queued.pop(0)()
        return [np.asarray(part.pixels) for part in parts]

    assert not any(gpu.pinning)
    np.testing.assert_array_equal(np.concatenate(shown()), np.concatenate(expected))
    assert gpu.pinning == [True] * (not processes)  # all buffers at once, or those of the processes
    assert not gpu.pinned
    if not processes:
        gpu.waits = False  # so the above would notice a buffer that is reused too early
        assert not np.array_equal(np.concatenate(shown()), np.concatenate(expected))


def test_a_ring_holds_as_many_batches_as_are_decoded_ahead(
    packed: tuple[Catalogue, Plan], gpu: LateGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[int] = []
    take = Ring.take

    def noted(ring: Ring, stimuli: int) -> NDArray[np.uint8]:
        pixels = take(ring, stimuli)
        places.append(pixels.ctypes.data)
        return pixels

    monkeypatch.setattr(Ring, "take", noted)
    number = sum(1 for _ in decode_ahead(*packed, SMALL, 2, device=GPU))
    assert len(places) == number > 6
    assert len(set(places)) == 4
    gpu.synchronize()


def test_memory_that_the_driver_does_not_pin_is_used_all_the_same(
    stimuli: Path, gpu: LateGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def refused(*_: Any) -> int:
        return 1

    def raises(*_: Any, **options: Any) -> None:
        asked.append(options["device"])
        raise RuntimeError("CUDA error: what cudaHostRegister left behind")

    monkeypatch.setattr(LateGpu, "cudaHostRegister", refused)
    monkeypatch.setattr(buffers.torch, "zeros", raises)
    ring = buffers.Pinned((2, 16, 16, 3), 2, GPU, shared=True)
    ring.close()
    assert asked == [GPU]


def test_memory_that_the_host_cannot_pin_is_used_all_the_same(
    gpu: LateGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    del gpu

    def refused(*_: Any, **options: Any) -> None:
        assert options["pin_memory"]
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch, "empty", refused)
    ring = buffers.Pinned((2, 16, 16, 3), 2, GPU, shared=False)
    assert ring.take(2).shape == (2, 16, 16, 3)
    ring.close()


def test_a_gpu_that_has_failed_still_gets_its_memory_back(
    gpu: LateGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: LateGpu) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    ring = buffers.Pinned((2, 16, 16, 3), 2, GPU, shared=True)
    assert ring.file is not None
    assert gpu.pinned
    monkeypatch.setattr(LateGpu, "synchronize", fails)
    ring.close()
    assert not gpu.pinned
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ring.file)


def test_rows_of_a_ring_are_numbered_through() -> None:
    ring = Ring((3, 4, 4, 3), 2, shared=True)
    first, second = ring.take(3), ring.take(2)
    assert [ring.first_row(first), ring.first_row(second[1:])] == [0, 4]
    first[:] = 7
    arrived = ring.hand_over(first)
    assert ring.take(3).ctypes.data == first.ctypes.data
    first[:] = 8
    assert (np.asarray(arrived.received()) == 7).all()  # a network on the CPU gets a copy
    ring.close()


def test_a_system_without_shared_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str) -> int:
        raise OSError(38, "Function not implemented", name)

    monkeypatch.setattr(buffers.os, "memfd_create", refused)
    with pytest.raises(UserError, match=r"not implemented.*use fewer `decode_workers`"):
        Ring((3, 4, 4, 3), 2, shared=True)


@pytest.mark.parametrize("call", ["os.ftruncate", "mmap.mmap"])
def test_shared_memory_that_the_system_does_not_give_is_closed(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    asked: list[int] = []

    def refused(descriptor: int, _: int) -> None:
        asked.append(descriptor)
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(f"{buffers.__name__}.{call}", refused)
    with pytest.raises(UserError, match=r"Cannot allocate memory.*use fewer `decode_workers`"):
        Ring((3, 4, 4, 3), 2, shared=True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(*asked)
