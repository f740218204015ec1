"""Networks cast to another precision, and the transfer of images to a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import fusiform
from fusiform.cli import app
from fusiform.engine.decoding import ahead as decode
from fusiform.engine.errors import UserError
from fusiform.engine.networks.placement import cast, multiplied, refuse_precision
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning.interrupt import Interrupted
from fusiform.engine.scanning.progress import Listener

from . import flat
from .fuzz.small import contents
from .test_resume import Net, scanned, stopping_after

SMALL = Preprocessing(resize=16, crop=16)
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32"])
def test_a_cast_scan_equals_that_of_a_network_cast_by_hand(
    stimuli: Path, tmp_path: Path, precision: str
) -> None:
    own = torch.bfloat16 if precision == "float32" else torch.float32
    net = Net(own)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    result = scanned(stimuli, tmp_path / "cast.zarr", net, precision=precision)
    by_hand = scanned(stimuli, tmp_path / "hand.zarr", Net(own).to(getattr(torch, precision)))
    for layer in result.layers:
        assert layer.dtype == precision
        for name in ("mean", "m2", "t", "selective"):
            np.testing.assert_array_equal(result.read(layer, name), by_hand.read(layer, name))
    # The user's network is unchanged, and its weights' hash is the store's.
    for name, tensor in net.state_dict().items():
        assert tensor.dtype == own
        assert torch.equal(tensor, before[name])
    as_it_is = scanned(stimuli, tmp_path / "own.zarr", Net(own))
    assert result.provenance["precision"] == precision
    assert result.provenance["weights_sha256"] == as_it_is.provenance["weights_sha256"]
    prints = {store.provenance["fingerprint"] for store in (result, by_hand, as_it_is)}
    assert len(prints) == 3
    assert fusiform.check(result.path).problems == ()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_networks_own_precision_leaves_no_note(
    stimuli: Path, tmp_path: Path, precision: str
) -> None:
    net = Net(getattr(torch, precision))
    plain = scanned(stimuli, tmp_path / "plain.zarr", net)
    named = scanned(stimuli, tmp_path / "named.zarr", net, precision=precision)
    assert "precision" not in named.provenance
    assert named.provenance["fingerprint"] == plain.provenance["fingerprint"]


def test_networks_by_name_are_cast_and_reduced(stimuli: Path, tmp_path: Path) -> None:
    said: list[str] = []
    result = flat.scan(
        "resnet18", stimuli, tmp_path / "o.zarr", weights="none", precision="bfloat16",
        units="channel", layers=["layer1.0", "avgpool"], preprocessing={"resize": 32, "crop": 32},
        progress=Listener(note=said.append),
    )  # fmt: skip
    assert [layer.dtype for layer in result.layers] == ["float32", "float32"]
    assert [layer.shape for layer in result.layers] == [(64,), (512,)]
    assert any(
        line.startswith("torchvision:resnet18 (untrained, seed 0) in bfloat16: 2 layers, 576 units")
        for line in said
    )


def test_a_cast_scan_resumes_only_in_the_same_precision(stimuli: Path, tmp_path: Path) -> None:
    whole = contents(scanned(stimuli, tmp_path / "whole.zarr", precision="bfloat16").path)
    output = tmp_path / "o.zarr"
    with pytest.raises(Interrupted):
        scanned(stimuli, output, precision="bfloat16", progress=stopping_after(2))
    with pytest.raises(UserError, match="precision of the network: bfloat16 and its own"):
        scanned(stimuli, output)
    with pytest.raises(UserError, match="precision of the network: bfloat16 and float16"):
        scanned(stimuli, output, precision="float16")
    assert contents(scanned(stimuli, output, precision="bfloat16").path) == whole


def test_overflow_of_a_cast_network_is_named_also_in_means(stimuli: Path, tmp_path: Path) -> None:
    net, said = Net(), list[str]()
    net.body.weight.data *= 1e5  # so that no unit of the head is finite
    result = scanned(
        stimuli, tmp_path / "o.zarr", net, precision="float16", units="channel",
        progress=Listener(note=said.append),
    )  # fmt: skip
    assert result.layer("body").dtype == "float32"
    assert any("units of body gave NaN" in line and "65,504" in line for line in said)
    shown = CliRunner().invoke(app, ["summary", str(result.path)]).output
    assert "warning: " in shown
    assert "float16 holds nothing above 65,504" in shown
    assert shown.startswith(f"{result.path}: Net (as given); in float16, units: means over")


def test_impossible_casts_raise(stimuli: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="computes in float32, tf32, bfloat16, float16; got 'fp8'"):
        scanned(stimuli, tmp_path / "o.zarr", precision="fp8")
    with pytest.raises(UserError, match=r"tf32 needs an NVIDIA GPU; got device cpu"):
        scanned(stimuli, tmp_path / "o.zarr", precision="tf32")
    with pytest.raises(UserError, match="Sequential has none: leave out"):
        cast(nn.Sequential(nn.AvgPool2d(2)), "float16", own=True)
    net = Net()
    net.lock = Lock()
    with pytest.raises(UserError, match=r"Net cannot be copied \(cannot pickle .*: cast it"):
        cast(net, "bfloat16", own=False)
    assert cast(net, "bfloat16", own=True) == (net, "bfloat16")


def test_tf32_switches_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_precision("tf32", GPU)
    net = Net()
    assert cast(net, "tf32", own=False) == (net, "tf32")
    assert cast(net, "float32", own=False) == (net, None)
    copied, precision = cast(net.bfloat16(), "tf32", own=False)
    assert (precision, next(copied.parameters()).dtype) == ("tf32", torch.float32)

    switches = [torch.backends.cuda.matmul, torch.backends.cudnn]

    def state() -> list[bool]:
        return [switch.allow_tf32 for switch in switches]

    was = state()
    for precision, on in (("tf32", True), (None, False), ("bfloat16", False)):
        with multiplied(precision, GPU):
            assert state() == [on, on]
        assert state() == was
        with pytest.raises(ZeroDivisionError), multiplied(precision, GPU):
            _ = 1 / 0
        assert state() == was
    with multiplied(None, CPU):
        assert state() == was

    class Mixed:
        @property
        def allow_tf32(self) -> bool:
            raise RuntimeError("PyTorch is checking whether, ...")

    monkeypatch.setattr(torch.backends.cuda, "matmul", Mixed())
    with pytest.raises(UserError, match="this program used both"), multiplied("tf32", GPU):
        pass


@pytest.mark.parametrize(("kind", "waits"), [("cuda", False), ("cpu", True)])
def test_images_are_copied_to_a_gpu_asynchronously(
    monkeypatch: pytest.MonkeyPatch, kind: str, waits: bool
) -> None:
    sent: list[dict[str, Any]] = []
    from_numpy = torch.from_numpy

    class Host:
        def __init__(self, pixels: np.ndarray) -> None:
            self.images = from_numpy(pixels)

        def to(self, device: Any, **options: Any) -> torch.Tensor:
            sent.append({"to": device.type, **options})
            return self.images

    monkeypatch.setattr(decode.torch, "from_numpy", Host)
    monkeypatch.setattr(decode, "_on_device", lambda values, device: torch.tensor(values))
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    device: Any = SimpleNamespace(type=kind)
    decode.normalise(pixels, SMALL, device, torch.float32)
    assert sent == [{"to": kind, "non_blocking": not waits}]


def test_the_precision_option_of_the_command_line(
    stimuli: Path, tmp_path: Path, write_module: Callable[[str], str]
) -> None:
    module = write_module("from fusiform.tests.test_resume import Net\n")
    store = str(tmp_path / "o.zarr")

    def run(*arguments: str) -> str:
        found = CliRunner().invoke(app, arguments)
        assert not found.exception, found.output
        return found.output

    run(
        *("scan", f"{module}:Net", str(stimuli), "-o", store, "--precision", "bfloat16"),
        *("--layers", "leaf", "--resize", "16", "--crop", "16", "--quiet"),
    )
    assert run("summary", store).splitlines()[0].endswith("; in bfloat16")
    assert "precision:" in run("info", store)
