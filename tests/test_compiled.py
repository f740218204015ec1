"""Scans of compiled networks record every layer with the moments of the plain network."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import fusiform
from fusiform.cli import app
from fusiform.engine.errors import UserError
from fusiform.engine.networks import compiled as compiling
from fusiform.engine.networks.compiled import compiled, innermost
from fusiform.engine.networks.placement import place
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning.interrupt import Interrupted
from fusiform.engine.scanning.progress import Listener

from . import flat
from .fuzz.small import contents
from .test_resume import stopping_after

CXX = os.environ.get("CXX", "g++")
needs_compiler = pytest.mark.skipif(
    shutil.which(CXX) is None or sys.platform != "linux",
    reason=f"torch.compile needs a C++ compiler; there is no {CXX}, or this is not Linux",
)
SMALL = Preprocessing(resize=16, crop=16)
LAYERS = ("stem", "body.0", "body.1", "body.2", "body", "head")
INNERMOST = ("stem", "body.0", "body.1", "body.2", "head")


class Block(nn.Module):
    """Two convolutions with normalisation; compiled code rounds differently."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, wider, 3, padding=1)
        self.norm = nn.BatchNorm2d(wider)
        self.two = nn.Conv2d(wider, wider, 3, padding=1)
        self.short = nn.Conv2d(channels, wider, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inside = torch.nn.functional.gelu(self.norm(self.one(images)))
        return torch.tanh(self.two(inside)) * 2 + self.short(images)


class Net(nn.Module):
    """Three blocks of one class, two of the same shape, nested in a recorded layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, stride=2), nn.ReLU())
        self.body = nn.Sequential(Block(8, 8), Block(8, 8), Block(8, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(images)).mean((2, 3)))


@pytest.fixture(scope="module", autouse=True)
def _code_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use an empty compile cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("code")))
        yield


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Callable[..., Path]) -> Path:
    return draw_stimuli(tmp_path_factory.mktemp("set") / "stimuli", each=5)


def scanned(stimuli: Path, output: Path, net: nn.Module | None = None, **options: Any) -> Any:
    given = {"layers": LAYERS, "batch_size": 4, "commit_every": 0, "compile": True, **options}
    return flat.scan(net or Net(), stimuli, output, preprocessing=SMALL, **given)


@pytest.fixture(scope="module")
def whole(stimuli: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A compiled scan of all layers in one pass."""
    return scanned(stimuli, tmp_path_factory.mktemp("whole") / "o.zarr")


def graphs() -> int:
    """Number of graphs compiled in this process so far."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


@needs_compiler
def test_compiled_moments_equal_uncompiled_moments(
    stimuli: Path, tmp_path: Path, whole: Any
) -> None:
    said: list[str] = []
    again = scanned(stimuli, tmp_path / "o.zarr", progress=Listener(note=said.append))
    as_it_is = scanned(stimuli, tmp_path / "own.zarr", compile=False)
    assert any(line.startswith("Net (as given), compiled: 6 layers") for line in said), said
    assert tuple(layer.name for layer in whole.layers) == LAYERS
    for layer in whole.layers:
        mean, expected = whole.read(layer, "mean"), as_it_is.read(layer, "mean")
        rounding = 1e-6 * float(
            np.abs(expected).max()
        )  # relative float32 precision of means and deviations
        np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=rounding)
        deviations = (np.sqrt(store.read(layer, "m2")) for store in (whole, as_it_is))
        np.testing.assert_allclose(*deviations, rtol=1e-5, atol=rounding)
    assert any(
        not np.array_equal(whole.read(layer, "m2"), as_it_is.read(layer, "m2"))
        for layer in whole.layers
    )  # equal bits would mean that nothing was compiled
    assert contents(again.path) == contents(whole.path)
    assert whole.provenance["compiled"] is True
    assert "compiled" not in as_it_is.provenance
    assert whole.provenance["fingerprint"] != as_it_is.provenance["fingerprint"]
    assert fusiform.check(whole.path).problems == ()
    with pytest.raises(UserError, match="compiled network: True and False"):
        fusiform.merge([whole.path, as_it_is.path], tmp_path / "merged.zarr")


@needs_compiler
def test_compiled_scans_in_several_passes_give_the_same_bits(
    stimuli: Path, tmp_path: Path, whole: Any, in_passes: None
) -> None:
    assert contents(scanned(stimuli, tmp_path / "o.zarr").path) == contents(whole.path)


@needs_compiler
def test_a_compiled_scan_resumes_only_compiled(stimuli: Path, tmp_path: Path, whole: Any) -> None:
    output = tmp_path / "o.zarr"
    with pytest.raises(Interrupted):
        scanned(stimuli, output, progress=stopping_after(2))
    with pytest.raises(UserError, match="compiled network: True and False"):
        scanned(stimuli, output, compile=False)
    assert contents(scanned(stimuli, output).path) == contents(whole.path)


@pytest.mark.smoke
@needs_compiler
def test_hooks_stay_outside_compiled_code_and_nothing_is_compiled_twice(whole: Any) -> None:
    net, seen = place(Net().eval(), torch.device("cpu")), list[str]()
    images = torch.randn(4, 3, 16, 16).to(memory_format=torch.channels_last)
    for name in LAYERS:
        net.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.append(name))
    forward = net.head.forward
    net.head.forward = forward  # a user may have set it
    shown = []
    with torch.inference_mode():
        for _ in range(3):
            with compiled(net, LAYERS):
                shown.append(net(images))
            shown.append(net(images))
            if len(shown) == 2:
                before = graphs()
    assert graphs() == before
    assert seen == [*INNERMOST[:4], "body", "head"] * 6
    assert torch.equal(shown[0], shown[2])
    torch.testing.assert_close(shown[0], shown[1])
    changed = [name for name, module in net.named_modules() if "forward" in vars(module)]
    assert changed == ["head"]
    assert vars(net.head)["forward"] is forward


def test_the_innermost_layers_are_compiled() -> None:
    net = Net()

    def names(*layers: str) -> list[str]:
        own = {module: name for name, module in net.named_modules()}
        return [own[module] for module in innermost(net, layers)]

    assert names(*LAYERS) == list(INNERMOST)
    assert names("output") == [""]
    assert names("body", "output", "body.1.two") == ["body.1.two"]
    net.again = net.body[0]  # one module under two names
    assert names("body", "body.0") == ["body.0"]
    with compiled(net, []):
        assert not any("forward" in vars(module) for module in net.modules())


@needs_compiler
def test_lesions_take_effect_inside_compiled_layers() -> None:
    net, images = Net().eval(), torch.randn(4, 3, 16, 16)
    halves = np.arange(8)[:, np.newaxis, np.newaxis] < 4
    shown = []

    def show() -> None:
        with torch.inference_mode():
            with compiled(net, ["body.0"]):
                shown.append(net(images))
            torch.testing.assert_close(shown[-1], net(images))

    show()
    for silent in (halves, ~halves):
        with fusiform.lesion(net, {"body.0.one": np.broadcast_to(silent, (8, 7, 7))}):
            show()
    for one, other in itertools.combinations(shown, 2):
        assert (one - other).abs().max() > 1e-3


@needs_compiler
def test_a_layer_that_would_recompile_every_batch_raises(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(Block):
        calls = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return super().forward(images) * self.calls

    net = Net()
    net.body[0] = Counting(8, 8)
    monkeypatch.setattr(compiling, "_MOST", 2)
    with pytest.raises(
        UserError, match=r"torch.compile must be able to compile every layer here; .*limit"
    ):
        scanned(stimuli, tmp_path / "o.zarr", net, layers="body.0")
    assert not any("forward" in vars(module) for module in net.modules())


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("scripted", ["body.0", "body.1.two"])
def test_compiling_scripted_modules_raises(scripted: str) -> None:
    net = Net().eval()
    net.set_submodule(scripted, torch.jit.script(net.get_submodule(scripted)))
    with pytest.raises(UserError, match=rf"hooks, .*; {scripted} is scripted: scan the original"):
        fusiform.layers(net)


@pytest.mark.smoke
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's inductor for its compiler")
def test_a_missing_compiler_raises_one_line(stimuli: Path, tmp_path: Path) -> None:
    own = {"CXX": str(tmp_path / "nowhere"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "code")}
    command = [
        *(sys.executable, "-m", "fusiform", "scan", "resnet18", str(stimuli), "--weights", "none"),
        *("-o", str(tmp_path / "o.zarr"), "--compile", "--device", "cpu", "--quiet"),
    ]
    found = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own})
    assert found.returncode == 2, found.stderr
    *_, line = found.stderr.splitlines()
    assert "No working C++ compiler found" in line
    assert line.endswith(": leave out --compile")
    assert "Traceback" not in found.stderr
    assert not list(tmp_path.glob("o.zarr*"))


@needs_compiler
def test_the_compile_option_of_the_command_line(
    stimuli: Path, tmp_path: Path, write_module: Callable[[str], str]
) -> None:
    module = write_module("from fusiform.tests.test_compiled import Net\n")
    store = str(tmp_path / "o.zarr")

    def run(*arguments: str) -> str:
        found = CliRunner().invoke(app, arguments)
        assert not found.exception, found.output
        return found.output

    asked = (f"{module}:Net", str(stimuli), "--compile", "--layers", "body.*")
    sizes = ("--resize", "16", "--crop", "16", "--batch-size", "4", "--quiet")
    run("scan", *asked, "-o", store, *sizes)
    assert run("summary", store).splitlines()[0].endswith("; compiled")
    assert "compiled:" in run("info", store)
    assert "images/s" in run("plan", *asked, *sizes)


@pytest.mark.slow
@needs_compiler
def test_bench_says_which_layers_are_compiled() -> None:
    asked = {"parts": ["network"], "batch_size": 2, "repeats": 1, "device": "cpu"}
    before = graphs()
    found = list(flat.bench("resnet18", compile=True, **asked))
    assert {row.setting for row in found} == {"torchvision:resnet18, compiled, batch 2"}
    assert graphs() > before


@pytest.mark.slow
@needs_compiler
@pytest.mark.filterwarnings("ignore:Creating scratch directories")
def test_workers_give_the_same_bits_when_compiled(
    stimuli: Path, tmp_path: Path, write_module: Callable[[str], str]
) -> None:
    module = write_module("from fusiform.tests.test_compiled import Net\n")
    options: dict[str, Any] = {"layers": LAYERS, "batch_size": 2, "preprocessing": SMALL}
    options |= {"compile": True, "overwrite": True}

    def run(**more: Any) -> Any:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            found = flat.scan(f"{module}:Net", stimuli, tmp_path / "o.zarr", **options, **more)
            return contents(found.path)
        finally:
            torch.set_num_threads(threads)

    assert run(workers=2, threads_per_worker=1) == run()
