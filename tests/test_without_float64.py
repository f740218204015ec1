"""Devices without float64, such as Apple's: the CPU adds up what the network gives there.

No such device is needed: the path is forced on the CPU.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fusiform.engine.bench import report
from fusiform.engine.doctor import checks
from fusiform.engine.errors import UserError
from fusiform.engine.networks import placement
from fusiform.engine.scanning import forward, setup

from . import flat
from .test_scan import SMALL, TinyNet, assert_same_bits, tiny_scan

CPU = torch.device("cpu")


@pytest.fixture
def net() -> TinyNet:
    torch.manual_seed(0)
    return TinyNet()


def force(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Treat the CPU as a device without float64; returns the threads that take activations."""
    threads: list[str] = []
    for module in (placement, forward, setup, report):
        monkeypatch.setattr(module, "has_float64", lambda _: False)
    handing = forward._handing

    def watched(taker: Any, device: torch.device) -> Any:
        take = taker.take

        def noted(layer: str, activation: torch.Tensor) -> None:
            threads.append(threading.current_thread().name)
            take(layer, activation)

        taker.take = noted
        return handing(taker, device)

    monkeypatch.setattr(forward, "_handing", watched)
    return threads


@pytest.mark.smoke
@pytest.mark.parametrize(
    "options", [{"null": 10}, {"units": "channel"}, {"folds": 3, "commit_every": 0}]
)
def test_a_scan_gives_the_bits_of_one_on_the_cpu(
    options: dict[str, Any],
    net: TinyNet,
    stimuli: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = tiny_scan(net, stimuli, tmp_path / "usual.zarr", **options)
    threads = force(monkeypatch)
    other = tiny_scan(net, stimuli, tmp_path / "other.zarr", **options)
    assert_same_bits(other, usual)
    assert other.provenance["fingerprint"] == usual.provenance["fingerprint"]
    assert len(threads) == 4 * 5  # layers, batches
    assert set(threads) == {"moments_0"}
    if "null" in options:
        for layer in usual.layers:
            pairs = zip(other.shuffled_moments(layer), usual.shuffled_moments(layer), strict=True)
            for one, same in pairs:
                assert all(map(np.array_equal, one, same))


@pytest.mark.parametrize("project", [None, 8])
def test_a_recording_gives_the_bits_of_one_on_the_cpu(
    project: int | None,
    net: TinyNet,
    stimuli: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"project": project, "preprocessing": SMALL, "batch_size": 4}
    usual = flat.record(net, stimuli, tmp_path / "usual.zarr", layers=["first"], **options)
    threads = force(monkeypatch)
    other = flat.record(net, stimuli, tmp_path / "other.zarr", layers=["first"], **options)
    one, same = (np.asarray(each.responses("first")) for each in (other, usual))
    assert one.tobytes() == same.tobytes()
    assert set(threads) == {"moments_0"}


class Slow:
    """A taker that waits for permission."""

    layers = ("a",)

    def __init__(self) -> None:
        self.may, self.sums = threading.Semaphore(0), list[float]()

    def take(self, layer: str, activation: torch.Tensor) -> None:
        assert self.may.acquire(timeout=10)
        if activation.isnan().any():
            raise UserError("not a number")
        self.sums.append(float(activation.sum()))


def test_the_network_continues_while_the_cpu_adds_up_a_bounded_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forward, "has_float64", lambda _: False)
    taker, third = Slow(), threading.Event()
    with forward._handing(taker, CPU) as (take, all_taken):
        activation = torch.ones(2, 3)
        for _ in range(forward.ON_HOST):
            take("a", activation)
        activation.zero_()  # a later operation in place

        def one_more() -> None:
            take("a", activation)
            third.set()

        thread = threading.Thread(target=one_more)
        thread.start()
        assert not third.wait(0.2)
        taker.may.release()
        assert third.wait(10)
        thread.join()
        taker.may.release(2)
        all_taken()
        assert taker.sums == [6.0] * forward.ON_HOST + [0.0]


def test_an_error_in_the_thread_ends_the_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "has_float64", lambda _: False)
    taker = Slow()
    taker.may.release(9)
    with forward._handing(taker, CPU) as (take, all_taken):
        take("a", torch.full((1, 1), torch.nan))
        with pytest.raises(UserError, match="not a number"):
            all_taken()


def test_copies_on_the_host_count_towards_the_memory_budget(
    net: TinyNet, stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 4 * 6 * 15 * 15
    backbone = flat.load_backbone(net, preprocessing=SMALL)
    design = setup.Design(layers=["first", "head"])
    monkeypatch.setattr(setup, "growth", lambda _: nullcontext([0]))
    assert setup._tried(backbone, CPU, design, backbone.preprocessing.crop).grown == 0
    force(monkeypatch)
    grown = setup._tried(backbone, CPU, design, backbone.preprocessing.crop).grown
    assert grown == forward.ON_HOST * setup.TRIAL_STIMULI * largest


def test_float64_is_tried_on_the_device() -> None:
    assert placement.has_float64(CPU)
    assert not placement.has_float64(torch.device("meta"))
    assert placement.moments_device(CPU) == CPU
    assert placement.moments_device(torch.device("meta")) == CPU


def test_doctor_and_bench_say_that_the_cpu_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    *_, last = checks.check_devices("cpu")
    assert last.found == "cpu, no float64: the CPU adds up moments"
    with pytest.raises(UserError, match="kernels that add up in float64; cpu has none"):
        flat.bench("resnet18", device="cpu", parts="kernels")
