"""Networks are identified by what they compute: changed ones are refused, the same one never."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import fusiform
from fusiform.engine.errors import UserError
from fusiform.engine.networks.backbones import load_backbone
from fusiform.engine.networks.behaviour import configuration, network_of
from fusiform.engine.networks.layers import named_modules
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.registry import STIMULUS_COLUMNS
from fusiform.engine.scanning.interrupt import Interrupted
from fusiform.engine.scanning.progress import Listener, Progress
from fusiform.engine.store.identity import IDENTITY, difference, fingerprint
from fusiform.engine.store.writing.store_draft import StoreDraft

from . import flat

SMALL, CPU = Preprocessing(resize=24, crop=24), torch.device("cpu")


class Net(nn.Module):
    """Holds every kind of constant that weights do not include."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 5, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.acts = nn.Sequential(nn.LeakyReLU(0.1), nn.LeakyReLU(0.3), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(24, 4)
        self.slope, self.calls, self.shape = 0.2, 0, ()
        self.register_buffer("scale", torch.full((6, 1, 1), 0.5), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls, self.shape = self.calls + 1, tuple(x.shape)
        x = self.acts[:2](functional.leaky_relu(self.norm(self.conv(x)), self.slope) - 0.1)
        return self.head(self.acts[2](self.pool(self.scale * x)).flatten(1))


def _forward(self: Net, x: torch.Tensor) -> torch.Tensor:
    return Net.forward(self, -x)


def _slope(net: Net) -> None:
    net.acts[0] = nn.LeakyReLU(0.9)


def _stride(net: Net) -> None:
    net.conv.stride = (3, 3)


def _eps(net: Net) -> None:
    net.norm.eps = 1e-4


def _padding_mode(net: Net) -> None:
    net.conv = nn.Conv2d(3, 6, 5, stride=2, padding=1, padding_mode="reflect")
    net.conv.load_state_dict(Net().conv.state_dict())


def _activation(net: Net) -> None:
    net.acts[2] = nn.GELU()


def _order(net: Net) -> None:
    net.acts = nn.Sequential(net.acts[1], net.acts[0], net.acts[2])


def _constant(net: Net) -> None:
    net.slope = 0.25


def _patched(net: Net) -> None:
    net.forward = MethodType(_forward, net)  # type: ignore[method-assign]


def _hook(net: Net) -> None:
    net.norm.register_forward_hook(lambda _, __, output: 1.01 * output)


def _buffer(net: Net) -> None:
    net.scale[3] = 0.4


Change = Callable[[Net], None]
CHANGES: dict[Change, str] = {
    _slope: r"modules: acts.0: LeakyReLU\(negative_slope=0.1\) and acts.0: LeakyReLU\(neg.*=0.9\)",
    _stride: r"(modules: conv: Conv2d.*stride=\(2, 2\).* and .*stride=\(3, 3\)|layers: some have)",
    _eps: r"modules: norm: BatchNorm2d\(6, eps=1e-05.* and .*eps=0.0001",
    _padding_mode: r"modules: conv: .* and conv: .*padding_mode=reflect",
    _activation: r"modules: acts.2: ReLU\(\) and acts.2: GELU",
    _order: r"modules: acts.0: LeakyReLU\(negative_slope=0.1\) and acts.0: LeakyReLU\(neg.*=0.3\)",
    _constant: "answers: those of acts.1 to the same images are 0.0",
    _patched: "answers: those of conv to the same images are",
    _hook: "answers: those of norm to the same images are 0.01",
    _buffer: "answers: those of pool to the same images are",
}
LAYERS = ("conv", "norm", "acts.1", "pool")


def other(change: Change) -> Net:
    net = Net()
    change(net)
    return net


def scanned(net: nn.Module, stimuli: Path, output: Path, **options: Any) -> fusiform.Store:
    given = {"layers": LAYERS, "batch_size": 4, "preprocessing": SMALL, **options}
    return flat.scan(net, stimuli, output, **given)


def stopping(event: Progress) -> None:
    if event.stage in ("scan", "recording"):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Callable[..., Path]) -> Path:
    """A finished store, and drafts of stopped scans and recordings of the same network."""
    folder = tmp_path_factory.mktemp("network")
    draw_stimuli(folder / "stimuli", ("blobs", "noise"), 4)
    # Other stimuli, of another category.
    draw_stimuli(folder / "others", ("noise", "stripes"), 8)
    (folder / "others/noise").rename(folder / "others/hiss")
    for path in (folder / "others").rglob("*.png"):
        path.write_bytes(path.read_bytes() + b"\0")
    scanned(Net(), folder / "stimuli", folder / "whole.zarr")
    listener = Listener(progress=stopping)
    with pytest.raises(Interrupted):
        scanned(Net(), folder / "stimuli", folder / "o.zarr", progress=listener)
    with pytest.raises(Interrupted):
        recorded(Net(), folder, folder / "r.zarr", progress=listener)
    return folder


def recorded(net: nn.Module, folder: Path, output: Path, **options: Any) -> fusiform.Recording:
    return flat.record(
        net, folder / "stimuli", output, layers=LAYERS, preprocessing=SMALL, batch_size=2, **options
    )


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_network_cannot_resume_record_or_merge(
    folder: Path, tmp_path: Path, change: Change
) -> None:
    said = CHANGES[change]
    for name in ("o.zarr.partial", "r.zarr.partial"):
        shutil.copytree(folder / name, tmp_path / name)
    with pytest.raises(UserError, match=f"differ in their {said}.*`restart=True`"):
        scanned(other(change), folder / "stimuli", tmp_path / "o.zarr")
    with pytest.raises(UserError, match=f"differ in their {said}.*`restart=True`"):
        recorded(other(change), folder, tmp_path / "r.zarr")
    with pytest.raises(UserError, match=r"differ in their .*: show the one|(acts.1|conv) had"):
        flat.record(
            other(change), folder / "stimuli", tmp_path / "f.zarr", store=folder / "whole.zarr"
        )
    scanned(other(change), folder / "others", tmp_path / "others.zarr")
    with pytest.raises(UserError, match=f"differ in their {said}"):
        fusiform.merge([folder / "whole.zarr", tmp_path / "others.zarr"], tmp_path / "m.zarr")


def test_the_same_network_can_resume_record_and_merge(folder: Path, tmp_path: Path) -> None:
    for name in ("o.zarr.partial", "r.zarr.partial"):
        shutil.copytree(folder / name, tmp_path / name)
    net = Net().eval()
    # Program state around a network does not change what it computes.
    for module in net.acts:
        module.inplace = True
    net.pool.register_forward_hook(lambda *_: None)
    for k in range(3):
        net(torch.rand(1 + k, 3, 30, 30))
    net.verbose = True  # type: ignore[assignment]
    done = scanned(net, folder / "stimuli", tmp_path / "o.zarr")
    assert done.provenance["answers"].keys() == {*LAYERS, "output"}
    recorded(net, folder, tmp_path / "r.zarr")
    source = folder / "whole.zarr"
    flat.record(net, folder / "stimuli", tmp_path / "f.zarr", store=source, layers="pool")
    scanned(copy.deepcopy(net), folder / "others", tmp_path / "others.zarr")
    merged = fusiform.merge([source, tmp_path / "others.zarr"], tmp_path / "m.zarr")
    assert merged.provenance["configuration_sha256"] == done.provenance["configuration_sha256"]
    assert merged.provenance["modules"][1].startswith("conv: Conv2d(3, 6, kernel_size=(5, 5)")
    assert fusiform.check(merged.path).problems == ()
    assert "notes" not in merged.provenance


def test_layers_merge_only_if_the_whole_networks_output_agrees(
    folder: Path, tmp_path: Path
) -> None:
    stimuli = folder / "stimuli"
    one = scanned(Net(), stimuli, tmp_path / "1.zarr", layers="conv")
    head = scanned(Net(), stimuli, tmp_path / "2.zarr", layers="head")
    changed = scanned(other(_constant), stimuli, tmp_path / "3.zarr", layers="pool")
    with pytest.raises(UserError, match="differ in their answers: those of output"):
        fusiform.merge([one, changed], tmp_path / "m.zarr")
    merged = fusiform.merge([one, head], tmp_path / "m.zarr")
    assert merged.provenance["answers"].keys() == {"conv", "head", "output"}
    with pytest.raises(UserError, match="differ in their answers"):
        fusiform.merge([merged, changed], tmp_path / "n.zarr")


def _made_earlier(path: Path) -> None:
    root = json.loads((path / "zarr.json").read_text())
    for name in ("configuration_sha256", "modules", "answers"):
        del root["attributes"][name]
    draft = StoreDraft.join(path)
    table = {column: draft.reader.stimulus_column(column) for column in STIMULUS_COLUMNS}
    root["attributes"]["fingerprint"] = fingerprint(root["attributes"], table)
    (path / "zarr.json").write_text(json.dumps(root))


def test_stores_of_earlier_versions_are_compared_by_less_with_a_note(
    folder: Path, tmp_path: Path
) -> None:
    for name in ("o.zarr.partial", "whole.zarr"):
        _made_earlier(shutil.copytree(folder / name, tmp_path / name))
    said = "and kept neither how modules were set up nor what they answer"
    notes: list[str] = []
    done = scanned(Net(), folder / "stimuli", tmp_path / "o.zarr", progress=Listener(notes.append))
    assert [note for note in notes if said in note] == done.provenance["notes"]
    assert fusiform.check(done.path).problems == ()
    scanned(Net(), folder / "others", tmp_path / "others.zarr")
    scanned(other(_slope), folder / "others", tmp_path / "slope.zarr")
    parts = [tmp_path / name for name in ("whole.zarr", "others.zarr")]
    merged = fusiform.merge(parts, tmp_path / "m.zarr", note=notes.append)
    assert f"made whole.zarr {said}" in notes[-1]
    assert merged.provenance["notes"] == notes[-1:]
    assert not merged.provenance.keys() & {"configuration_sha256", "answers"}
    with pytest.raises(UserError, match=r"others.zarr and .*slope.zarr differ in their modules"):
        fusiform.merge([*parts, tmp_path / "slope.zarr"], tmp_path / "n.zarr")
    recording = flat.record(
        Net(), folder / "stimuli", tmp_path / "f.zarr", store=parts[0], progress=Listener()
    )
    assert said in recording.provenance["notes"][0]


def described(model: str | nn.Module, precision: str | None = None) -> Any:
    weights = "none" if isinstance(model, str) else "default"
    backbone = load_backbone(fusiform.Network(model, weights, precision=precision))
    layers = [name for name, _ in named_modules(backbone.model)]
    return network_of(backbone, CPU, layers)[1]


NOT_OF_A_NETWORK = IDENTITY.keys() - {"modules_sha256", "configuration_sha256"}


def test_a_library_network_is_recognised_with_other_thread_counts() -> None:
    threads, one = torch.get_num_threads(), described("mobilenet_v3_small")
    torch.set_num_threads(1)
    try:
        again = described("mobilenet_v3_small")
    finally:
        torch.set_num_threads(threads)
    assert len(one["answers"]) > 50
    assert difference(one, again) is None


def test_a_network_is_recognised_with_other_instruction_sets_and_processes() -> None:
    code = (
        "import json; from fusiform.tests.test_network import described;"
        "print(json.dumps([described('timm:test_vit', p) for p in (None, 'bfloat16')]))"
    )
    limited = {"ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **limited, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout
    for precision, its in zip((None, "bfloat16"), json.loads(told), strict=True):
        own = json.loads(json.dumps(described("timm:test_vit", precision)))
        # Random weights differ in their last bits.
        assert difference(own, its, but=("weights_sha256",)) is None


class Signs(nn.Module):
    """Rounding decides the sign of some values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.frac(1e5 * x)


def test_outputs_decided_by_rounding_or_chance_are_not_compared() -> None:
    assert "1" not in described(nn.Sequential(nn.Conv2d(3, 8, 3), Signs()))["answers"]

    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.randn_like(x)

    said = described(nn.Sequential(nn.Conv2d(3, 8, 3), Noisy()))
    assert "answers" not in said


def test_module_descriptions_hold_no_addresses_and_are_bounded() -> None:
    class Told(nn.Module):
        def extra_repr(self) -> str:
            return f"inplace=True, by={object()}, size=3"

    class Untold(nn.Module):
        def extra_repr(self) -> str:
            raise ValueError("nothing")

    net = nn.Sequential(Told(), Untold(), nn.Dropout(0.5, inplace=True), nn.ReLU(True))
    said = ["output: Sequential()", "0: Told(by=<object object>, size=3)", "1: Untold()",
            "2: Dropout(p=0.5)", "3: ReLU()"]  # fmt: skip
    assert configuration(net)["modules"] == said
    many = nn.Sequential(*(nn.ReLU() for _ in range(2000)))
    found = configuration(many)
    assert len(found["modules"]) == 1000
    many[1999] = nn.ELU(2.0)
    assert configuration(many)["configuration_sha256"] != found["configuration_sha256"]
    assert difference(found, configuration(many), NOT_OF_A_NETWORK) is not None
